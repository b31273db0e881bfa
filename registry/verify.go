package registry

import (
	"context"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// verifyingReader hands out bytes and, where the end would be, an error if they
// were the wrong ones.
type verifyingReader struct {
	io.ReadCloser
	want oci.Descriptor
	hash hash.Hash
	read int64
	what string
}

func newVerifyingReader(r io.ReadCloser, want oci.Descriptor, what string) *verifyingReader {
	return &verifyingReader{ReadCloser: r, want: want, hash: want.Digest.Algorithm().Hash(), what: what}
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	v.read += int64(n)
	if err != io.EOF {
		return n, err
	}
	if v.read != v.want.Size {
		return n, &oci.IntegrityError{What: v.what, Want: v.want.Digest, WantSize: v.want.Size, GotSize: v.read}
	}
	if got := digest.NewDigest(v.want.Digest.Algorithm(), v.hash); got != v.want.Digest {
		return n, &oci.IntegrityError{What: v.what, Want: v.want.Digest, Got: got}
	}
	return n, io.EOF
}

// contentError is a failure to open what is to be sent. It is not the registry's, and
// whoever has the content has tried all that there is to try.
type contentError struct{ err error }

func (e *contentError) Error() string { return "read the content: " + e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// transient tells whether what failed may succeed when it is done again.
func transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !isExchange(err) {
		return false
	}
	var content *contentError
	var e, inner *transport.Error
	if errors.As(err, &content) {
		return false
	}
	if !errors.As(err, &e) {
		return errors.Is(err, io.ErrUnexpectedEOF)
	}
	if errors.As(e.Err, &inner) {
		return false // what was sent came from another registry, and broke off
	}
	switch {
	case e.NotSent(), transport.IsPermanent(err):
		return false
	case e.Status == 0, e.BrokenOff(), e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500
}

// hopeless tells a read that would fail again: what lies below is no network, and
// knows that it has other content.
func hopeless(err error) bool {
	return errors.Is(err, oci.ErrIntegrity) || transport.IsPermanent(err)
}

func isExchange(err error) bool {
	var e *transport.Error
	return errors.As(err, &e)
}

// pause waits 1, 2, 4 … seconds, give or take a fifth, or until ctx ends.
func pause(ctx context.Context, n int) error {
	wait := time.Second << n
	wait += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(wait))
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
