package cassette

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"
)

// Failure is a request or a body that ended in an error, by the class that Go code
// tests for.
type Failure struct {
	Class string `json:"class"`
	Text  string `json:"text"` // without secrets and URLs
}

// A failure of this class is the program's own: it gave up. A replay is silent
// until the program gives up again.
const gaveUp = "gave-up"

// failureClasses go from the most to the least particular: how to tell each, and
// how to make it again.
var failureClasses = []struct {
	name string
	is   func(error) bool
	make func(text string) error
}{
	{"dns-not-found", func(err error) bool { d, ok := errors.AsType[*net.DNSError](err); return ok && d.IsNotFound },
		func(text string) error { return &net.DNSError{Err: text, IsNotFound: true} }},
	{"dns", func(err error) bool { _, ok := errors.AsType[*net.DNSError](err); return ok },
		func(text string) error { return &net.DNSError{Err: text, IsTemporary: true} }},
	{"tls-unknown-authority", is[x509.UnknownAuthorityError], func(string) error {
		return &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	}},
	{"tls-hostname", is[x509.HostnameError], func(text string) error {
		return &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: text}}
	}},
	{"tls-expired", func(err error) bool {
		e, ok := errors.AsType[x509.CertificateInvalidError](err)
		return ok && e.Reason == x509.Expired
	}, func(string) error {
		return &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}
	}},
	{"tls-certificate", is[*tls.CertificateVerificationError], func(text string) error {
		return &tls.CertificateVerificationError{Err: errors.New(text)}
	}},
	{"tls-record", is[tls.RecordHeaderError], func(text string) error { return tls.RecordHeaderError{Msg: text} }},
	class("connection-reset", syscall.ECONNRESET),
	class("connection-refused", syscall.ECONNREFUSED),
	class("connection-aborted", syscall.ECONNABORTED),
	class("broken-pipe", syscall.EPIPE),
	class("host-unreachable", syscall.EHOSTUNREACH),
	class("network-unreachable", syscall.ENETUNREACH),
	class("timed-out", syscall.ETIMEDOUT),
	class("unexpected-eof", io.ErrUnexpectedEOF),
	class("eof", io.EOF),
	class("pipe-closed", io.ErrClosedPipe),
	class("closed", net.ErrClosed),
	{"timeout", func(err error) bool {
		e, ok := errors.AsType[net.Error](err)
		return ok && e.Timeout()
	}, func(string) error { return os.ErrDeadlineExceeded }},
	{"other", func(error) bool { return true }, func(text string) error { return errors.New(text) }},
}

type failureClass = struct {
	name string
	is   func(error) bool
	make func(text string) error
}

// class is a failure that is known by one value. Those of the system come as the
// net package wraps them.
func class(name string, target error) failureClass {
	return failureClass{name, func(err error) bool { return errors.Is(err, target) }, func(string) error {
		if _, ok := target.(syscall.Errno); ok {
			return &net.OpError{Op: "read", Net: "tcp", Err: &os.SyscallError{Syscall: "read", Err: target}}
		}
		return target
	}}
}

func is[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

// newFailure classifies an error.
func newFailure(ctx context.Context, err error, s *secrets) *Failure {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	f := &Failure{Class: gaveUp, Text: clean(s.redact(err.Error()))}
	if ctx.Err() != nil {
		return f
	}
	for _, c := range failureClasses {
		if c.is(err) {
			f.Class = c.name
			break
		}
	}
	return f
}

// clean makes a text fit to be written on one line.
func clean(s string) string {
	const most = 1000
	s = fmt.Sprintf("%.*s", most, s)
	out := []rune(s)
	for i, r := range out {
		if r < 0x20 || r == 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}

// err makes the error again: it reads as it was recorded, and is what Go code
// tests for.
func (f *Failure) err() error {
	for _, c := range failureClasses {
		if c.name == f.Class {
			return &replayedError{text: f.Text, err: c.make(f.Text)}
		}
	}
	return errors.New(f.Text)
}

func (f *Failure) check() error {
	if f == nil {
		return nil
	}
	known := f.Class == gaveUp || slices.ContainsFunc(failureClasses, func(c failureClass) bool { return c.name == f.Class })
	if !known || !printable(f.Text) {
		return fmt.Errorf("its error is of the class %q", f.Class)
	}
	return nil
}

// replayedError is an error of a recording. It is a net.Error, as those of
// connections are.
type replayedError struct {
	text string
	err  error
}

func (e *replayedError) Error() string { return e.text }
func (e *replayedError) Unwrap() error { return e.err }

// Timeout implements net.Error.
func (e *replayedError) Timeout() bool {
	t, ok := errors.AsType[net.Error](e.err)
	return ok && t.Timeout()
}

// Temporary implements net.Error.
func (e *replayedError) Temporary() bool { return e.Timeout() }
