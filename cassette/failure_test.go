package cassette_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, err)}
}

// TestFailuresAreReplayed: what Go code tests an error for is true of the replayed
// one, before an answer and in the middle of its body.
func TestFailuresAreReplayed(t *testing.T) {
	timeout := func(err error) bool { var e net.Error; return errors.As(err, &e) && e.Timeout() }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for name, test := range map[string]struct {
		err  error
		want func(error) bool
	}{
		"closed":                {&net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}, is(net.ErrClosed)},
		"EOF":                   {io.EOF, is(io.EOF)},
		"unexpected EOF":        {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), is(io.ErrUnexpectedEOF)},
		"reset":                 {opError("read", syscall.ECONNRESET), is(syscall.ECONNRESET)},
		"refused":               {opError("connect", syscall.ECONNREFUSED), is(syscall.ECONNREFUSED)},
		"broken pipe":           {opError("write", syscall.EPIPE), is(syscall.EPIPE)},
		"host unreachable":      {opError("connect", syscall.EHOSTUNREACH), is(syscall.EHOSTUNREACH)},
		"deadline":              {&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, is(os.ErrDeadlineExceeded)},
		"deadline is a timeout": {&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, timeout},
		"timed out":             {opError("connect", syscall.ETIMEDOUT), timeout},
		"no such host": {&net.DNSError{Err: "no such host", Name: "ghcr.io", IsNotFound: true}, func(err error) bool {
			e, ok := errors.AsType[*net.DNSError](err)
			return ok && e.IsNotFound
		}},
		"certificate": {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, func(err error) bool {
			_, outer := errors.AsType[*tls.CertificateVerificationError](err)
			_, inner := errors.AsType[x509.UnknownAuthorityError](err)
			return outer && inner
		}},
		"expired certificate": {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, func(err error) bool {
			e, ok := errors.AsType[x509.CertificateInvalidError](err)
			return ok && e.Reason == x509.Expired
		}},
		"not TLS": {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, func(err error) bool {
			_, ok := errors.AsType[tls.RecordHeaderError](err)
			return ok
		}},
		"other": {errors.New("something else"), func(err error) bool { return err != nil && !timeout(err) }},
	} {
		t.Run(name, func(t *testing.T) {
			server := &script{answers: []answer{{err: test.err}, {status: 200, body: "some of it", bodyErr: test.err}}}
			if test.err == io.EOF {
				server.answers[1].bodyErr = io.ErrUnexpectedEOF
			}
			var before, within error
			var text string
			do := func(rt http.RoundTripper) {
				_, before = tryAsk(t, rt, "GET", host+"/v2/acme/app/tags/list", "")
				text, within = tryAsk(t, rt, "GET", host+"/v2/acme/app/tags/list", "")
			}
			dir := record(t, cassette.Options{}, server, do)
			wasBefore, wasWithin := before, within
			replay(t, cassette.Options{}, dir, do)
			if !test.want(before) || before.Error() != wasBefore.Error() {
				t.Errorf("before the answer: %v, was %v", before, wasBefore)
			}
			if test.err != io.EOF && !test.want(within) || within == nil || within.Error() != wasWithin.Error() {
				t.Errorf("within the body: %v, was %v", within, wasWithin)
			}
			if text != "200 some of it" {
				t.Errorf("before it broke: %q", text)
			}
		})
	}
}

// TestReplaysWhatTheClientSurvives: broken connections, and how the client goes on
// after them.
func TestReplaysWhatTheClientSurvives(t *testing.T) {
	const size = 300_000
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(7, size))
	layer := img.Manifest.Layers[0].Digest.String()
	src := layout(t, img)
	for name, faults := range map[string][]ghcrtest.Fault{
		"push, reset at the commit":            {{Route: ghcrtest.RouteUploadCommit, Break: true, Reset: true}},
		"push, cut in the body":                {{Route: ghcrtest.RouteUploadCommit, RequestBytes: 100_000}},
		"push, answered before the body":       {{Route: ghcrtest.RouteUploadCommit, Status: 503}},
		"push, stored and lost":                {{Route: ghcrtest.RouteUploadCommit, Served: true, Break: true}},
		"push, stalls until given up":          {{Route: ghcrtest.RouteUploadCommit, Delay: time.Hour}},
		"pull, reset in the body":              {{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: size / 2, Break: true, Reset: true}},
		"pull, closed in the body":             {{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: 1, Break: true}},
		"pull, stalls in the body":             {{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: 1000, Stall: time.Hour}},
		"pull, refused by the storage host":    {{Route: ghcrtest.RouteSigned, Ref: layer, Status: 503, Times: 2}},
		"pull, nothing comes for the manifest": {{Route: ghcrtest.RouteManifest, Break: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := emulator(t, nil)
				do := func(rt http.RoundTripper) {
					if strings.HasPrefix(name, "push") {
						copyImage(t, rt, src, "acme/app:v1", transfer.Options{Jobs: 1})
					} else {
						copyImage(t, rt, "acme/app:v1", "oci:"+t.TempDir(), transfer.Options{Jobs: 1})
					}
				}
				if strings.HasPrefix(name, "pull") {
					if err := server.Add("acme/app", "v1", img); err != nil {
						t.Fatal(err)
					}
				}
				server.Inject(faults...)
				dir := record(t, cassette.Options{}, server.Transport(), do)
				if len(server.Faults()) == 0 {
					t.Error("nothing went wrong")
				}
				for range 3 {
					replay(t, cassette.Options{}, dir, do)
				}
			})
		})
	}
}

// TestGivenUp: a request that the program gave up is not answered in a replay
// either, until the program gives it up again.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := roundTripper(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		do := func(rt http.RoundTripper) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			req, _ := http.NewRequestWithContext(ctx, "GET", host+"/v2/", nil)
			if _, err := rt.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took != time.Hour {
				t.Errorf("took %s", took)
			}
		}
		replay(t, cassette.Options{}, record(t, cassette.Options{}, server, do), do)
	})
	synctest.Test(t, func(t *testing.T) {
		server := roundTripper(func(req *http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader("x"), stalled{req.Context()})
			return &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: 2, Body: io.NopCloser(body), Request: req}, nil
		})
		do := func(rt http.RoundTripper) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			req, _ := http.NewRequestWithContext(ctx, "GET", host+"/v2/", nil)
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if took := time.Since(began); string(got) != "x" || !errors.Is(err, context.DeadlineExceeded) || took != time.Hour {
				t.Errorf("within the body: %q, %v after %s", got, err, took)
			}
		}
		replay(t, cassette.Options{}, record(t, cassette.Options{}, server, do), do)
	})
}

// stalled brings nothing until the request ends.
type stalled struct{ ctx context.Context }

func (s stalled) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// slow takes a minute to the header and four more to the end of the body.
var slow = roundTripper(func(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Minute)
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, ContentLength: 4, Request: req,
		Body: io.NopCloser(&dribble{4, time.Minute}),
	}, nil
})

type dribble struct {
	left  int
	pause time.Duration
}

func (d *dribble) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	d.left--
	time.Sleep(d.pause)
	p[0] = 'x'
	return 1, nil
}

// TestLatency: a replay takes none of the time, all of it, or a part, and recording
// adds none. A wait ends with the request.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		do := func(rt http.RoundTripper) {
			began := time.Now()
			ask(t, rt, "GET", host+"/v2/acme/app/tags/list", "")
			took = time.Since(began)
		}
		dir := record(t, cassette.Options{}, slow, do)
		if took != 5*time.Minute {
			t.Errorf("the recording took %s", took)
		}
		for scale, want := range map[float64]time.Duration{0: 0, 1: 5 * time.Minute, 0.1: 30 * time.Second, 2: 10 * time.Minute} {
			replay(t, cassette.Options{Latency: scale}, dir, do)
			if (took - want).Abs() > time.Millisecond {
				t.Errorf("at %v it took %s, want %s", scale, took, want)
			}
		}
		c, err := cassette.Open(dir, cassette.Options{Latency: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", host+"/v2/acme/app/tags/list", nil)
		began := time.Now()
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Minute {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

// TestWrongDigestIsNotRecorded, unless that is what is to be recorded.
func TestWrongDigestIsNotRecorded(t *testing.T) {
	url := host + "/v2/acme/app/blobs/" + digestOf("right")
	put := host + "/v2/acme/app/manifests/v1"
	for name, do := range map[string]func(http.RoundTripper){
		"content": func(rt http.RoundTripper) { ask(t, rt, "GET", url, "") },
		"header":  func(rt http.RoundTripper) { ask(t, rt, "HEAD", url, "") },
		"stored":  func(rt http.RoundTripper) { ask(t, rt, "PUT", put, "{}") },
	} {
		server := func() *script {
			return &script{answers: []answer{{status: 200, body: "wrong", header: http.Header{"Docker-Content-Digest": {digestOf("wrong")}}}}}
		}
		dir := t.TempDir()
		c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: server()})
		if err != nil {
			t.Fatal(err)
		}
		do(c)
		if err := c.Close(); !errors.Is(err, oci.ErrIntegrity) {
			t.Errorf("%s: sealed with %v", name, err)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%s: %d files were left", name, len(left))
		}
		c, err = cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: server(), AllowWrongDigests: true})
		if err != nil {
			t.Fatal(err)
		}
		do(c)
		if err := c.Close(); err != nil {
			t.Errorf("%s: allowed: %v", name, err)
		}
		if _, err := cassette.Open(dir, cassette.Options{}); !errors.Is(err, oci.ErrIntegrity) {
			t.Errorf("%s: opened with %v", name, err)
		}
		replay(t, cassette.Options{AllowWrongDigests: true}, dir, do)
	}
}
