package transport_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// canary is a token that must never be seen.
const canary = "ghp_CanaryCanaryCanaryCanaryCanary0000"

// server answers requests over pipes, so that time is virtual.
type server struct {
	t        *testing.T
	mu       sync.Mutex
	seen     []*http.Request // without bodies
	bodies   []string
	handler  http.HandlerFunc
	exchange []transport.Exchange
	log      bytes.Buffer
}

// virtual runs a test with a server that answers with handler.
func virtual(t *testing.T, handler http.HandlerFunc, opts transport.Options, test func(s *server, c *transport.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, handler: handler}
		conns := make(chan net.Conn)
		listener := &pipeListener{conns: conns, done: make(chan struct{})}
		var serving sync.WaitGroup
		srv := &http.Server{Handler: s, ErrorLog: nil, ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				serving.Add(1)
			case http.StateClosed:
				serving.Done()
			}
		}}
		go srv.Serve(listener)
		dial := func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			select {
			case conns <- server:
				return client, nil
			case <-listener.done:
				return nil, net.ErrClosed
			}
		}
		base := &http.Transport{DialContext: dial, DialTLSContext: dial, DisableCompression: true}
		opts.Base = base
		opts.Observer = transport.ObserverFunc(func(e transport.Exchange) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.exchange = append(s.exchange, e)
		})
		opts.Logger = slog.New(slog.NewTextHandler(&lockedWriter{s: s}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c, err := transport.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		test(s, c)
		base.CloseIdleConnections()
		srv.Close()
		serving.Wait()
	})
}

type lockedWriter struct{ s *server }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(p)
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.seen = append(s.seen, r)
	s.bodies = append(s.bodies, string(body))
	s.mu.Unlock()
	s.handler(w, r)
}

// count is how many requests were for a path with this prefix.
func (s *server) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.seen {
		if strings.HasPrefix(r.URL.Path, prefix) {
			n++
		}
	}
	return n
}

// scopes lists what tokens were asked for.
func (s *server) scopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, r := range s.seen {
		if r.URL.Path == "/token" {
			list = append(list, strings.Join(r.URL.Query()["scope"], " "))
		}
	}
	return list
}

func login(string) transport.Options {
	return transport.Options{Credentials: transport.Static(map[string]transport.Credential{
		"ghcr.io": {Username: "u", Password: transport.NewSecret(canary), Source: "GH_TOKEN"},
	})}
}

func pull(repo string) []transport.Scope {
	return []transport.Scope{{Repository: repo, Actions: []string{"pull"}}}
}

func push(repo string) []transport.Scope {
	return []transport.Scope{{Repository: repo, Actions: []string{"pull", "push"}}}
}

// send sends a request with a body that can be replayed.
func send(c *transport.Client, method, url, body string, call transport.Call) error {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body == "" {
		req.Body, req.GetBody = nil, nil
	}
	if call.Op == "" {
		call.Op, call.Target = "do", "ghcr.io/acme/app"
	}
	resp, err := c.Do(req, call)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return err
}

const url = "https://ghcr.io/v2/acme/app/manifests/v1"

func status(codes ...int) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, _ *http.Request) {
		i := int(n.Add(1)) - 1
		w.WriteHeader(codes[min(i, len(codes)-1)])
	}
}

func TestRetryWaits(t *testing.T) {
	for _, test := range []struct {
		name     string
		method   string
		handler  http.HandlerFunc
		call     transport.Call
		requests int
		ok       bool
		min, max time.Duration
	}{
		{name: "5xx: three retries, 1, 2 and 4 s", handler: status(500, 502, 503, 200), requests: 4, ok: true, min: 5600 * time.Millisecond, max: 8400 * time.Millisecond},
		{name: "5xx: no more than three", handler: status(503), requests: 4, min: 5 * time.Second, max: 9 * time.Second},
		{name: "404 is an answer", handler: status(404), requests: 1},
		{name: "501 will not change", handler: status(501), requests: 1},
		{name: "PUT with a body that can be replayed", method: "PUT", handler: status(503, 201), requests: 2, ok: true, max: 2 * time.Second},
		{name: "PATCH is not sent twice", method: "PATCH", handler: status(503, 202), requests: 1},
		{name: "NoRetry", handler: status(503, 200), call: transport.Call{NoRetry: true}, requests: 1},
		{name: "408", handler: status(408, 200), requests: 2, ok: true, max: 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, test.handler, transport.Options{}, func(s *server, c *transport.Client) {
				began := time.Now()
				method, body := test.method, "body"
				if method == "" {
					method, body = "GET", ""
				}
				err := send(c, method, url, body, test.call)
				took := time.Since(began)
				if (err == nil) != test.ok || s.count("/v2") != test.requests {
					s.t.Errorf("got %v after %d requests, want %d", err, s.count("/v2"), test.requests)
				}
				if took < test.min || test.max > 0 && took > test.max {
					s.t.Errorf("took %s", took)
				}
				for i, b := range s.bodies {
					if b != body {
						s.t.Errorf("request %d had the body %q", i, b)
					}
				}
			})
		})
	}
}

// TestNotReplayableIsNotRetried: a body that can be read once is sent once.
func TestNotReplayableIsNotRetried(t *testing.T) {
	virtual(t, status(503, 201), transport.Options{}, func(s *server, c *transport.Client) {
		req, _ := http.NewRequest("PUT", url, io.NopCloser(strings.NewReader("x")))
		if _, err := c.Do(req, transport.Call{Op: "put"}); err == nil || s.count("/v2") != 1 {
			s.t.Errorf("got %v after %d requests", err, s.count("/v2"))
		}
	})
}

// permanent is an error of a base that is no network.
type permanent struct{}

func (permanent) Error() string   { return "not in the recording" }
func (permanent) Permanent() bool { return true }

// TestWhatWillNotPassIsNotRetried: a certificate, a host that does not exist, or what
// is no network and says so.
func TestWhatWillNotPassIsNotRetried(t *testing.T) {
	for _, cause := range []error{&tls.CertificateVerificationError{Err: errors.New("unknown authority")}, &net.DNSError{Err: "no such host", IsNotFound: true}, permanent{}} {
		tries := 0
		c, err := transport.New(transport.Options{Base: roundTripper(func(*http.Request) (*http.Response, error) { tries++; return nil, cause })})
		if err != nil {
			t.Fatal(err)
		}
		if err := send(c, "GET", url, "", transport.Call{}); !errors.Is(err, cause) || tries != 1 {
			t.Errorf("%v: got %v after %d tries", cause, err, tries)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRetryAfter(t *testing.T) {
	limit := func(status int, header, body string) http.HandlerFunc {
		var n atomic.Int32
		return func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) > 1 {
				return
			}
			if header != "" {
				w.Header().Set("Retry-After", header)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	message := func(text string) string {
		return `{"errors":[{"code":"TOOMANYREQUESTS","message":` + fmt.Sprintf("%q", text) + `}]}`
	}
	for name, test := range map[string]struct {
		handler  http.HandlerFunc
		min, max time.Duration
	}{
		"seconds":                   {limit(429, "17", ""), 17 * time.Second, 18 * time.Second},
		"date":                      {limit(429, time.Date(2000, 1, 1, 0, 0, 40, 0, time.UTC).Format(http.TimeFormat), ""), 40 * time.Second, 41 * time.Second},
		"GHCR's body, milliseconds": {limit(429, "", message("retry-after: 6.565868ms, allowed: 2000/minute")), 800 * time.Millisecond, 1200 * time.Millisecond},
		"GHCR's body, microseconds": {limit(429, "", message("retry-after: 880.092µs, allowed: 44000/minute")), 800 * time.Millisecond, 1200 * time.Millisecond},
		"GHCR's body, seconds":      {limit(429, "", message("retry-after: 12.5s")), 12500 * time.Millisecond, 13 * time.Second},
		"both: the longer":          {limit(429, "3", message("retry-after: 20s")), 20 * time.Second, 21 * time.Second},
		"503 with a header":         {limit(503, "9", ""), 9 * time.Second, 10 * time.Second},
		"secondary limit in a 403":  {limit(403, "", `{"errors":[{"code":"DENIED","message":"permission_denied: Error from intermediary: You have exceeded a secondary rate limit."}]}`), time.Minute, 61 * time.Second},
		"malformed":                 {limit(429, "soon", ""), 800 * time.Millisecond, 1200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, test.handler, transport.Options{}, func(s *server, c *transport.Client) {
				began := time.Now()
				if err := send(c, "POST", url, "", transport.Call{}); err != nil {
					s.t.Fatal(err)
				}
				if took := time.Since(began); took < test.min || took > test.max {
					s.t.Errorf("took %s, want %s to %s", took, test.min, test.max)
				}
			})
		})
	}
}

// TestMaxWait: who asks for too much patience gets none.
func TestMaxWait(t *testing.T) {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(429)
	}
	virtual(t, handler, transport.Options{MaxWait: time.Minute}, func(s *server, c *transport.Client) {
		began := time.Now()
		err := send(c, "GET", url, "", transport.Call{})
		if !errors.Is(err, transport.ErrRateLimited) || time.Since(began) > time.Second {
			s.t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

// TestGateClosesForEveryone: while one is told to wait, no other request of the
// same kind goes out.
func TestGateClosesForEveryone(t *testing.T) {
	var n atomic.Int32
	handler := func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(429)
		}
	}
	virtual(t, handler, transport.Options{}, func(s *server, c *transport.Client) {
		began := time.Now()
		first := make(chan error)
		go func() { first <- send(c, "GET", url, "", transport.Call{}) }()
		synctest.Wait()
		if err := send(c, "GET", url, "", transport.Call{}); err != nil || time.Since(began) < 30*time.Second {
			s.t.Errorf("another read went out after %s (%v)", time.Since(began), err)
		}
		if err := <-first; err != nil {
			s.t.Error(err)
		}
	})
}

// registry is a handler with a token service. good tells which tokens are taken.
type fakeRegistry struct {
	issued     atomic.Int32
	challenge  string
	token      func(r *http.Request) (status int, body string)
	good       func(bearer string) bool
	denyBare   bool // 403 and no challenge, as GHCR does
	afterwards http.HandlerFunc
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		n := f.issued.Add(1)
		if f.token != nil {
			status, body := f.token(r)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
		fmt.Fprintf(w, `{"token":"t%d"}`, n)
		return
	}
	if bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); !f.good(bearer) {
		if f.denyBare && bearer != "" {
			w.WriteHeader(403)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"invalid token"}]}`)
			return
		}
		challenge := f.challenge
		if challenge == "" {
			challenge = `Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(401)
		return
	}
	if f.afterwards != nil {
		f.afterwards(w, r)
	}
}

func isToken(bearer string) bool { return strings.HasPrefix(bearer, "t") }

func ghcrRules(string) transport.HostRules {
	return transport.HostRules{Realm: "https://ghcr.io/token", Service: "ghcr.io", DirectBearer: true}
}

// TestChallengeFlow: the first request learns where tokens are; later ones with
// other scopes go there at once, and the placeholder scope of the challenge is
// not believed.
func TestChallengeFlow(t *testing.T) {
	f := &fakeRegistry{good: isToken}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		for _, scopes := range [][]transport.Scope{pull("acme/app"), push("acme/app"), pull("acme/app"), pull("acme/other")} {
			if err := send(c, "GET", url, "", transport.Call{Scopes: scopes}); err != nil {
				s.t.Fatal(err)
			}
		}
		want := []string{"repository:acme/app:pull", "repository:acme/app:pull,push", "repository:acme/other:pull"}
		if got := s.scopes(); fmt.Sprint(got) != fmt.Sprint(want) {
			s.t.Errorf("asked for %q, want %q", got, want)
		}
		if n := s.count("/v2"); n != 5 {
			s.t.Errorf("%d requests, want 5: one 401", n)
		}
	})
}

// TestSupersetServes: a token for more is good for less.
func TestSupersetServes(t *testing.T) {
	f := &fakeRegistry{good: isToken}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		both := append(push("acme/app"), pull("acme/base")...)
		for _, scopes := range [][]transport.Scope{both, pull("acme/app"), push("acme/app"), pull("acme/base")} {
			if err := send(c, "GET", url, "", transport.Call{Scopes: scopes}); err != nil {
				s.t.Fatal(err)
			}
		}
		if got := s.scopes(); len(got) != 1 || got[0] != "repository:acme/app:pull,push repository:acme/base:pull" {
			s.t.Errorf("asked for %q", got)
		}
	})
}

// TestDirectBearer: on GHCR a GitHub token goes along at once, in base64, and an
// anonymous read with the well-known QQ==. Where it is refused it is exchanged,
// and not tried again.
func TestDirectBearer(t *testing.T) {
	opts := login("")
	opts.Rules = ghcrRules
	direct := "Z2hwX0NhbmFyeUNhbmFyeUNhbmFyeUNhbmFyeUNhbmFyeTAwMDA="
	f := &fakeRegistry{good: func(b string) bool { return b == direct }}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil || len(s.seen) != 1 {
			s.t.Errorf("got %v after %d requests", err, len(s.seen))
		}
	})
	f = &fakeRegistry{good: func(b string) bool { return b == "QQ==" }}
	virtual(t, f.ServeHTTP, transport.Options{Rules: ghcrRules}, func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil || len(s.seen) != 1 {
			s.t.Errorf("anonymous: got %v after %d requests", err, len(s.seen))
		}
	})
	for _, bare := range []bool{true, false} {
		f = &fakeRegistry{good: isToken, denyBare: bare}
		virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
			for range 3 {
				if err := send(c, "PUT", url, "body", transport.Call{Scopes: push("acme/app")}); err != nil {
					s.t.Fatal(err)
				}
			}
			if s.count("/v2") != 4 || s.count("/token") != 1 {
				s.t.Errorf("bare %v: %d requests and %d tokens, want 4 and 1", bare, s.count("/v2"), s.count("/token"))
			}
		})
	}
}

// TestDirectBearerRefusedByAnUnknownRealm: where the token service is not known, and
// the refusal does not name it, a request without a credential finds out.
func TestDirectBearerRefusedByAnUnknownRealm(t *testing.T) {
	opts := login("")
	opts.Rules = func(string) transport.HostRules { return transport.HostRules{DirectBearer: true} }
	f := &fakeRegistry{good: isToken, denyBare: true}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		for range 2 {
			if err := send(c, "PUT", url, "body", transport.Call{Scopes: push("acme/app")}); err != nil {
				s.t.Fatal(err)
			}
		}
		if s.count("/v2") != 4 || s.count("/token") != 1 {
			s.t.Errorf("%d requests and %d tokens, want 4 and 1", s.count("/v2"), s.count("/token"))
		}
	})
	// The refusal of a HEAD has no body to say what it is.
	f = &fakeRegistry{good: isToken, denyBare: true}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		if err := send(c, "HEAD", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil {
			s.t.Error(err)
		}
	})
}

// TestDeniedWithoutChallenge: a 403 DENIED to an exchanged token is final when the
// token was new.
func TestDeniedWithoutChallenge(t *testing.T) {
	opts := login("")
	opts.Rules = ghcrRules
	f := &fakeRegistry{good: func(string) bool { return false }, denyBare: true}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")})
		var e *transport.Error
		if !errors.Is(err, transport.ErrDenied) || !errors.As(err, &e) || e.Credential != "GH_TOKEN" {
			s.t.Errorf("got %v", err)
		}
		if s.count("/v2") != 2 || s.count("/token") != 1 {
			s.t.Errorf("%d requests and %d tokens", s.count("/v2"), s.count("/token"))
		}
	})
}

// TestTokenIsRenewedOn401, once, with the body sent again; a second 401 is final.
func TestTokenIsRenewedOn401(t *testing.T) {
	current := "t1"
	f := &fakeRegistry{good: func(b string) bool { return b == current }}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		do := func() error { return send(c, "PUT", url, "body", transport.Call{Scopes: push("acme/app")}) }
		if err := do(); err != nil {
			s.t.Fatal(err)
		}
		current = "t2"
		if err := do(); err != nil {
			s.t.Fatalf("after the token had expired: %v", err)
		}
		for _, b := range s.bodies {
			if b != "body" && b != "" {
				s.t.Errorf("a body %q", b)
			}
		}
		current = "none"
		before := s.count("/v2")
		if err := do(); !errors.Is(err, transport.ErrUnauthorized) || s.count("/v2")-before != 2 {
			s.t.Errorf("got %v after %d requests, want two", err, s.count("/v2")-before)
		}
	})
}

// TestTokenLife: a minute where the service does not say; renewed half way.
func TestTokenLife(t *testing.T) {
	for name, test := range map[string]struct {
		body   string
		within time.Duration // still good
		after  time.Duration // no longer
	}{
		"unstated": {`{"token":"t"}`, 29 * time.Second, 31 * time.Second},
		"stated":   {`{"access_token":"t","expires_in":300}`, 149 * time.Second, 151 * time.Second},
	} {
		f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) { return 200, test.body }}
		virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
			began := time.Now()
			for _, at := range []time.Duration{0, test.within, test.after} {
				time.Sleep(at - time.Since(began))
				if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil {
					s.t.Fatal(err)
				}
			}
			if n := s.count("/token"); n != 2 {
				s.t.Errorf("%s: %d tokens, want 2", name, n)
			}
		})
	}
}

// TestSingleFlight: a hundred requests, one token. One whose context ends does not
// fail the others.
func TestSingleFlight(t *testing.T) {
	f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) {
		time.Sleep(5 * time.Second)
		return 200, `{"token":"t"}`
	}}
	opts := login("")
	opts.Rules = func(string) transport.HostRules { return transport.HostRules{Realm: "https://ghcr.io/token"} }
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := make(chan error)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			_, err := c.Do(req, transport.Call{Scopes: pull("acme/app")})
			if !errors.Is(err, context.DeadlineExceeded) {
				s.t.Errorf("got %v, want its own deadline", err)
			}
			done <- nil
		}()
		for range 100 {
			go func() { done <- send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}) }()
		}
		for range 101 {
			if err := <-done; err != nil {
				s.t.Error(err)
			}
		}
		if n := s.count("/token"); n > 2 {
			s.t.Errorf("%d tokens, want one, and one that was given up", n)
		}
	})
}

// TestTokenNoAnonFallback: an expired login must not break public pulls; writes get
// no such second chance.
func TestTokenNoAnonFallback(t *testing.T) {
	f := &fakeRegistry{good: isToken, token: func(r *http.Request) (int, string) {
		if r.Header.Get("Authorization") != "" {
			return 403, `{"errors":[{"code":"DENIED","message":"denied"}]}`
		}
		return 200, `{"token":"t"}`
	}}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil {
			s.t.Error(err)
		}
		if err := send(c, "PUT", url, "x", transport.Call{Scopes: push("acme/app")}); !errors.Is(err, transport.ErrDenied) {
			s.t.Errorf("got %v, want ErrDenied", err)
		}
	})
}

// TestMountScopes: both repositories are asked for; where that is refused, the
// target alone.
func TestMountScopes(t *testing.T) {
	f := &fakeRegistry{good: isToken, token: func(r *http.Request) (int, string) {
		if len(r.URL.Query()["scope"]) > 1 {
			return 403, `{}`
		}
		return 200, `{"token":"t"}`
	}}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		both := append(push("acme/app"), pull("secret/base")...)
		for range 2 {
			if err := send(c, "POST", url, "", transport.Call{Scopes: both}); err != nil {
				s.t.Fatal(err)
			}
		}
		want := []string{"repository:acme/app:pull,push repository:secret/base:pull", "repository:acme/app:pull,push"}
		if got := s.scopes(); fmt.Sprint(got) != fmt.Sprint(want) {
			s.t.Errorf("asked for %q, want %q", got, want)
		}
	})
}

// TestTokenService5xx is retried within the policy.
func TestTokenService5xx(t *testing.T) {
	var n atomic.Int32
	f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) {
		if n.Add(1) <= 2 {
			return 503, ""
		}
		return 200, `{"token":"t"}`
	}}
	virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil {
			s.t.Error(err)
		}
	})
}

// TestRealms to which no credential is sent.
func TestRealms(t *testing.T) {
	for realm, trusted := range map[string]bool{
		"https://ghcr.io/token":           true,
		"https://auth.example.com/token":  true,
		"http://ghcr.io/token":            false,
		"https://127.0.0.1/token":         false,
		"https://10.0.0.1/token":          false,
		"https://[::1]/token":             false,
		"https://localhost/token":         false,
		"file:///token":                   false,
		"https://user:pass@ghcr.io/token": false,
	} {
		f := &fakeRegistry{good: isToken, challenge: `Bearer realm="` + realm + `"`}
		virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
			err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")})
			if (err == nil) != trusted || (s.count("/token") > 0) != trusted {
				s.t.Errorf("%s: got %v after %d token requests", realm, err, s.count("/token"))
			}
		})
	}
	// Where the realm is known, a challenge cannot move it to another host.
	opts := login("")
	opts.Rules = ghcrRules
	f := &fakeRegistry{good: func(string) bool { return false }, challenge: `Bearer realm="https://evil.example.com/token"`}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")})
		for _, r := range s.seen {
			if r.Host != "ghcr.io" {
				s.t.Errorf("a request went to %s", r.Host)
			}
		}
	})
}

func TestBasicChallenge(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "u" || password != canary {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
		}
	}
	virtual(t, handler, login(""), func(s *server, c *transport.Client) {
		for range 2 {
			if err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")}); err != nil {
				s.t.Fatal(err)
			}
		}
		if len(s.seen) != 3 {
			s.t.Errorf("%d requests, want 3", len(s.seen))
		}
	})
}

// TestNoAuth: where the URL is the permission, no credential goes along, and
// credentials of one host do not go to another.
func TestNoAuth(t *testing.T) {
	opts := login("")
	opts.Rules = ghcrRules
	virtual(t, status(200), opts, func(s *server, c *transport.Client) {
		send(c, "GET", "https://ghcr.io/blob?sig=x", "", transport.Call{NoAuth: true})
		send(c, "GET", "https://ghcr.io:444/v2/", "", transport.Call{})
		send(c, "GET", "https://sub.ghcr.io/v2/", "", transport.Call{})
		for _, r := range s.seen {
			if a := r.Header.Get("Authorization"); strings.Contains(a, "Q2FuYXJ5") || a != "" && r.Host == "ghcr.io" {
				s.t.Errorf("%s was sent %q", r.Host, a)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	virtual(t, hang, transport.Options{}, func(s *server, c *transport.Client) {
		began := time.Now()
		err := send(c, "GET", url, "", transport.Call{NoRetry: true})
		var timeout interface{ Timeout() bool }
		if took := time.Since(began); took != 30*time.Second || !errors.As(err, &timeout) || !timeout.Timeout() {
			s.t.Errorf("got %v after %s, want a time-out after 30 s", err, took)
		}
		began = time.Now()
		err = send(c, "PUT", url, "body", transport.Call{Upload: true, NoRetry: true})
		if took := time.Since(began); took != 5*time.Minute || err == nil {
			s.t.Errorf("an upload: got %v after %s, want 5 min", err, took)
		}
	})
	// A body that stands still ends; one that moves does not, however slow.
	virtual(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		for range 50 {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Second)
		}
		<-r.Context().Done()
	}, transport.Options{}, func(s *server, c *transport.Client) {
		began := time.Now()
		err := send(c, "GET", url, "", transport.Call{})
		if took := time.Since(began); err == nil || took < 50*50*time.Second || took > 52*50*time.Second+time.Minute {
			s.t.Errorf("got %v after %s", err, took)
		}
	})
	// The caller's own end is the caller's.
	virtual(t, hang, transport.Options{}, func(s *server, c *transport.Client) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		if _, err := c.Do(req, transport.Call{}); !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("got %v", err)
		}
	})
}

// TestUploadThatStandsStill: the source of an upload gives nothing more.
func TestUploadThatStandsStill(t *testing.T) {
	virtual(t, status(201), transport.Options{}, func(s *server, c *transport.Client) {
		r, w := io.Pipe()
		defer w.Close()
		req, _ := http.NewRequest("PUT", url, r)
		req.ContentLength = 10
		began := time.Now()
		_, err := c.Do(req, transport.Call{Upload: true, NoRetry: true})
		if took := time.Since(began); err == nil || took != time.Minute {
			s.t.Errorf("got %v after %s, want a minute", err, took)
		}
	})
}

// TestAnswerBeforeTheBodyIsRead: a server may refuse while it is being sent to.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	early := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	synctest.Test(t, func(t *testing.T) {
		client, serverEnd := net.Pipe()
		listener := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		listener.conns <- serverEnd
		srv := &http.Server{Handler: early}
		go srv.Serve(listener)
		dial := func(context.Context, string, string) (net.Conn, error) { return client, nil }
		base := &http.Transport{DialTLSContext: dial}
		c, err := transport.New(transport.Options{Base: base})
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest("PUT", url, bytes.NewReader(make([]byte, 1<<20)))
		if _, err := c.Do(req, transport.Call{Upload: true, NoRetry: true}); err == nil {
			t.Error("it was taken")
		}
		base.CloseIdleConnections()
		srv.Close()
		client.Close()
		time.Sleep(time.Second) // the server's connection ends
	})
}

// TestBodyErrorIsNotTheNetworks: what cannot be read is not sent again.
func TestBodyErrorIsNotTheNetworks(t *testing.T) {
	virtual(t, status(201), transport.Options{}, func(s *server, c *transport.Client) {
		req, _ := http.NewRequest("PUT", url, io.NopCloser(io.MultiReader(strings.NewReader("a"), brokenReader{})))
		req.GetBody = func() (io.ReadCloser, error) { s.t.Error("it was opened again"); return nil, io.EOF }
		req.ContentLength = 10
		_, err := c.Do(req, transport.Call{Op: "put blob", Target: "x", Upload: true})
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "read the content") {
			s.t.Errorf("got %v", err)
		}
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, syscall.EIO }

func TestErrors(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		class  error
		text   string
	}{
		"registry": {404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`, transport.ErrNotFound, "ghcr.io answered 404 MANIFEST_UNKNOWN: manifest unknown"},
		"REST":     {403, `{"message":"You need at least read:packages scope","documentation_url":"x","status":"403"}`, transport.ErrDenied, "You need at least read:packages scope"},
		"storage":  {503, `<?xml version="1.0"?><Error><Code>ServerBusy</Code><Message>Egress is over the account limit.</Message></Error>`, nil, "503 ServerBusy: Egress is over"},
		"text":     {500, "upstream gone\nmore", nil, "500: upstream gone"},
		"HTML":     {502, "<html>Bad gateway</html>", nil, "answered 502"},
		"405":      {405, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`, transport.ErrUnsupported, "unsupported"},
		"409":      {409, ``, transport.ErrConflict, "409"},
		"429":      {429, ``, transport.ErrRateLimited, "429"},
		"secret":   {400, `{"message":"bad token ` + canary + ` and ?sig=abcdef"}`, nil, "[redacted]"},
	} {
		handler := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-GitHub-Request-Id", "A:B:C")
			w.WriteHeader(test.status)
			fmt.Fprint(w, test.body)
		}
		virtual(t, handler, transport.Options{}, func(s *server, c *transport.Client) {
			err := send(c, "GET", url+"?sig=secret", "", transport.Call{Op: "get manifest", Target: "ghcr.io/acme/app:v1", NoRetry: true})
			if test.class != nil && !errors.Is(err, test.class) {
				s.t.Errorf("%s: %v is not %v", name, err, test.class)
			}
			text := fmt.Sprint(err)
			if !strings.HasPrefix(text, "get manifest ghcr.io/acme/app:v1: ") || !strings.Contains(text, test.text) || !strings.Contains(text, "A:B:C") {
				s.t.Errorf("%s: got %q", name, text)
			}
			if strings.Contains(text, canary) || strings.Contains(fmt.Sprintf("%+v", err), "secret") {
				s.t.Errorf("%s: a secret in %q", name, text)
			}
		})
	}
}

// TestCanary: the token shows nowhere.
func TestCanary(t *testing.T) {
	opts := login("")
	opts.Rules = ghcrRules
	f := &fakeRegistry{good: func(string) bool { return false }, denyBare: true}
	virtual(t, f.ServeHTTP, opts, func(s *server, c *transport.Client) {
		err := send(c, "GET", url, "", transport.Call{Scopes: push("acme/app")})
		cred := transport.Credential{Username: "u", Password: transport.NewSecret(canary), Source: "GH_TOKEN"}
		asJSON, _ := json.Marshal(cred)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		all := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %s %x %q", err, err, err, s.log.String(), s.exchange, cred, cred, asJSON, cred, cred)
		for _, form := range []string{canary, "Z2hwX0NhbmFyeU", "Canary"} {
			if strings.Contains(all, form) {
				s.t.Errorf("%q is in %s", form, all)
			}
		}
		if len(s.exchange) != 3 || s.log.Len() == 0 {
			s.t.Errorf("%d exchanges were told: %v", len(s.exchange), s.exchange)
		}
		for _, r := range s.seen {
			if strings.Contains(r.URL.String(), "ghp_") {
				s.t.Errorf("it is in the URL %s", r.URL)
			}
		}
	})
}

func TestSecret(t *testing.T) {
	s := transport.NewSecret("x")
	other := s
	other.Zero()
	if !s.IsZero() || s.Reveal() != "" || !(transport.Secret{}).IsZero() {
		t.Error("it is still there")
	}
}

func TestObserverCounts(t *testing.T) {
	handler := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "answer") }
	virtual(t, handler, transport.Options{}, func(s *server, c *transport.Client) {
		if err := send(c, "PUT", url, "12345", transport.Call{Op: "put"}); err != nil {
			s.t.Fatal(err)
		}
		e := s.exchange[0]
		if e.Sent != 5 || e.Received != 6 || e.Status != 200 || e.Method != "PUT" || e.Host != "ghcr.io" || e.Op != "put" {
			s.t.Errorf("got %+v", e)
		}
	})
}

// TestPlainHTTPIsForLoopback, and must be asked for.
func TestPlainHTTP(t *testing.T) {
	for _, test := range []struct {
		url     string
		allowed bool
	}{{"http://ghcr.io/v2/", true}, {"http://127.0.0.1/v2/", false}, {"http://10.0.0.1/v2/", true}, {"http://localhost.evil.com/", true}, {"ftp://ghcr.io/", true}} {
		c, err := transport.New(transport.Options{PlainHTTP: test.allowed})
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest("GET", test.url, nil)
		if _, err := c.Do(req, transport.Call{}); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", test.url, err)
		}
	}
	if _, err := transport.New(transport.Options{Timeout: -1}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
