package transport_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

func rules(realm string) func(string) transport.HostRules {
	return func(string) transport.HostRules { return transport.HostRules{Realm: realm, Service: "ghcr.io"} }
}

func TestRetryAfterOfMinutes(t *testing.T) {
	for text, want := range map[string]time.Duration{"1m30s": 90 * time.Second, "1h2m3s": 3723 * time.Second, "1m0.5s": 60500 * time.Millisecond} {
		var n atomic.Int32
		h := func(w http.ResponseWriter, _ *http.Request) {
			if n.Add(1) == 1 {
				w.WriteHeader(429)
				fmt.Fprintf(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: %s, allowed: 2000/minute"}]}`, text)
			}
		}
		virtual(t, h, transport.Options{MaxWait: 2 * time.Hour}, func(s *server, c *transport.Client) {
			b := time.Now()
			send(c, "GET", url, "", transport.Call{})
			if took := time.Since(b); took < want {
				s.t.Errorf("%s: waited %s", text, took)
			}
		})
	}
}

func TestTokenService404IsNotNotFound(t *testing.T) {
	f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) { return 404, "no such page" }}
	o := login("")
	o.Rules = rules("https://ghcr.io/token")
	virtual(t, f.ServeHTTP, o, func(s *server, c *transport.Client) {
		err := send(c, "HEAD", url, "", transport.Call{Op: "resolve manifest", Target: "x", Scopes: pull("acme/app")})
		if errors.Is(err, transport.ErrNotFound) {
			s.t.Errorf("a 404 of the token service counts as manifest not found: %v", err)
		}
	})
}

func TestTokenServiceWithoutToken(t *testing.T) {
	for _, body := range []string{`{}`, `<html>`, `{"token":"t","expires_in":"300"}`} {
		f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) { return 200, body }}
		o := login("")
		o.Rules = rules("https://ghcr.io/token")
		virtual(t, f.ServeHTTP, o, func(s *server, c *transport.Client) {
			err := send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")})
			if n := s.count("/token"); n != 1 || strings.Contains(fmt.Sprint(err), "no answer") {
				s.t.Errorf("%s: %d requests: %v", body, n, err)
			}
		})
	}
}

func TestTokenIsRetriedForNoRetry(t *testing.T) {
	var n atomic.Int32
	f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) {
		if n.Add(1) == 1 {
			return 503, ""
		}
		return 200, `{"token":"t"}`
	}}
	o := login("")
	o.Rules = rules("https://ghcr.io/token")
	virtual(t, f.ServeHTTP, o, func(s *server, c *transport.Client) {
		if err := send(c, "PUT", url, "x", transport.Call{NoRetry: true, Upload: true, Scopes: push("acme/app")}); err != nil {
			s.t.Errorf("token 503 fails an upload that was never sent: %v", err)
		}
	})
}

func TestRealmsOfThisMachine(t *testing.T) {
	for realm, trusted := range map[string]bool{
		"https://localhost./token":         false,
		"https://foo.localhost/token":      false,
		"https://[fe80::1%25eth0]/token":   false,
		"https://2130706433/token":         false,
		"https://0x7f.1/token":             false,
		"https://[::ffff:127.0.0.1]/token": false,
	} {
		f := &fakeRegistry{good: isToken, challenge: `Bearer realm="` + realm + `"`}
		virtual(t, f.ServeHTTP, login(""), func(s *server, c *transport.Client) {
			send(c, "GET", url, "", transport.Call{Scopes: pull("acme/app")})
			if (s.count("/token") > 0) != trusted {
				s.t.Errorf("%s: %d token requests", realm, s.count("/token"))
			}
		})
	}
}
func TestRealmOnThePrivateRegistryItself(t *testing.T) {
	f := &fakeRegistry{good: isToken, challenge: `Bearer realm="https://192.168.1.10/token"`}
	virtual(t, f.ServeHTTP, transport.Options{}, func(s *server, c *transport.Client) {
		if err := send(c, "GET", "https://192.168.1.10/v2/a/manifests/v1", "", transport.Call{Scopes: pull("a")}); err != nil {
			s.t.Errorf("%v", err)
		}
	})
}

func TestSlowReaderIsNoStall(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }
	virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
		req, _ := http.NewRequest("GET", url, nil)
		resp, err := c.Do(req, transport.Call{})
		if err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(61 * time.Second) // the reader is busy, e.g. its target is rate limited
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != 1<<20 {
			s.t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestRequestIsNotChanged(t *testing.T) {
	o := login("")
	o.Rules = ghcrRules
	virtual(t, status(200), o, func(s *server, c *transport.Client) {
		req, _ := http.NewRequest("GET", url, nil)
		resp, _ := c.Do(req, transport.Call{})
		resp.Body.Close()
		if req.Header.Get("Authorization") != "" {
			s.t.Error("the caller's request has the credential now")
		}
		next, _ := http.NewRequest("GET", "https://cdn.example/blob", nil)
		next.Header = req.Header
		resp, _ = c.Do(next, transport.Call{NoAuth: true})
		resp.Body.Close()
		if a := s.seen[1].Header.Get("Authorization"); a != "" {
			s.t.Error("and NoAuth carried it to another host")
		}
	})
}

func TestRedactedBodies(t *testing.T) {
	direct := base64.StdEncoding.EncodeToString([]byte(canary))
	for name, body := range map[string]string{
		"echoed bearer": `{"errors":[{"code":"DENIED","message":"invalid token ` + direct + `"}]}`,
		"detail":        `{"errors":[{"code":"DENIED","message":"m","detail":"` + canary + `"}]}`,
		"code":          `{"errors":[{"code":"` + canary + `","message":"m"}]}`,
		"dots":          `{"message":"invalid token ghs_12_eyJhbGciOi.payload-of-it.signature-of-it"}`,
		"json":          `{"message":"got {\"token\":\"opaque-registry-token\"}"}`,
	} {
		h := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400); io.WriteString(w, body) }
		virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
			err := send(c, "GET", url, "", transport.Call{})
			var e *transport.Error
			errors.As(err, &e)
			all := err.Error()
			for _, d := range e.Details {
				all += d.Code + d.Message + string(d.Detail)
			}
			for _, x := range []string{canary, direct, "opaque-registry-token", "payload", "signature"} {
				if strings.Contains(all, x) {
					s.t.Errorf("%s: %s", name, all)
				}
			}
		})
	}
}

func TestControlCharactersAreRemoved(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		io.WriteString(w, `{"message":"\u001b[2Jowned\nsecond line"}`)
	}
	virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{}); strings.ContainsAny(err.Error(), "\x1b\n") {
			s.t.Errorf("%q", err)
		}
	})
}

func TestSecondaryLimitInALongMessage(t *testing.T) {
	msg := `permission_denied: Error from intermediary with HTTP status code 403 \"Forbidden\" - with-body: {\"documentation_url\":\"` + strings.Repeat("x", 500) + `\",\"message\":\"You have exceeded a secondary rate limit. Please wait a few minutes\"}`
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, `{"errors":[{"code":"DENIED","message":"`+msg+`"}]}`)
	}
	virtual(t, h, transport.Options{MaxWait: time.Second}, func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{NoRetry: true}); !errors.Is(err, transport.ErrRateLimited) {
			s.t.Error("not rate limited")
		}
	})
}

func TestTooLongAWaitIsAnError(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(429)
	}
	virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
		for range 2 {
			err := send(c, "GET", url, "", transport.Call{Op: "get manifest", Target: "x"})
			var e *transport.Error
			if !strings.HasPrefix(err.Error(), "get manifest x: ") || !errors.As(err, &e) {
				s.t.Errorf("%v (is *Error: %v)", err, e != nil)
			}
		}
	})
}

func TestTokensHaveTheirOwnGate(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			io.WriteString(w, `{"token":"t"}`)
			return
		}
		if r.Method == "GET" {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(429)
			return
		}
		w.WriteHeader(201)
	}
	o := login("")
	o.Rules = rules("https://ghcr.io/token")
	virtual(t, h, o, func(s *server, c *transport.Client) {
		send(c, "GET", url, "", transport.Call{NoRetry: true, Scopes: pull("a/b")})
		b := time.Now()
		if err := send(c, "PUT", url, "x", transport.Call{Scopes: push("a/c")}); err != nil || time.Since(b) > time.Second {
			s.t.Errorf("a write waited %s for the reads' gate (%v)", time.Since(b), err)
		}
	})
}

func TestNotTLSIsNotRetried(t *testing.T) {
	for name, f := range map[string]func() error{
		"schemeMismatch": func() error { return http.ErrSchemeMismatch },
	} {
		tries := 0
		virtual(t, status(200), transport.Options{}, func(s *server, _ *transport.Client) {
			c, _ := transport.New(transport.Options{Base: roundTripper(func(*http.Request) (*http.Response, error) { tries++; return nil, f() })})
			b := time.Now()
			send(c, "GET", url, "", transport.Call{})
			if tries != 1 {
				s.t.Errorf("%s: %d tries in %s", name, tries, time.Since(b))
			}
		})
	}
}

type fileBody struct {
	*bytes.Reader
	f      *os.File
	closed atomic.Bool
	at     atomic.Int64
}

func (f *fileBody) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p[:min(len(p), 1)])
	f.at.Add(int64(n))
	return n, err
}
func (f *fileBody) Close() error                          { f.closed.Store(true); return nil }
func (f *fileBody) SyscallConn() (syscall.RawConn, error) { return f.f.SyscallConn() }
func (f *fileBody) Position() int64                       { return f.at.Load() }

// net/http replays by GetBody on a connection that had gone stale.
func TestFileBodyIsNotReplayedBelow(t *testing.T) {
	virtual(t, status(200), transport.Options{}, func(s *server, _ *transport.Client) {
		c, _ := transport.New(transport.Options{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			r.Body.Close()
			if r.GetBody == nil {
				return nil, io.EOF
			}
			body, _ := r.GetBody()
			for {
				if _, err := body.Read(make([]byte, 1)); err == io.EOF {
					break
				}
				select {
				case <-r.Context().Done():
					return nil, context.Cause(r.Context())
				case <-time.After(20 * time.Second):
				}
			}
			return &http.Response{StatusCode: 201, Body: http.NoBody, Header: http.Header{}}, nil
		})})
		mk := func() io.ReadCloser { return &fileBody{Reader: bytes.NewReader(make([]byte, 10)), f: os.Stdin} }
		req, _ := http.NewRequest("PUT", url, mk())
		req.ContentLength = 10
		req.GetBody = func() (io.ReadCloser, error) { return mk(), nil }
		_, err := c.Do(req, transport.Call{Upload: true, NoRetry: true})
		if err != nil && !errors.Is(err, io.EOF) {
			s.t.Errorf("an upload that moved was cut: %v", err)
		}
	})
}

func TestRefusedTokenIsShared(t *testing.T) {
	f := &fakeRegistry{good: isToken, token: func(*http.Request) (int, string) { time.Sleep(time.Second); return 403, `{}` }}
	o := login("")
	o.Rules = rules("https://ghcr.io/token")
	virtual(t, f.ServeHTTP, o, func(s *server, c *transport.Client) {
		done := make(chan error)
		b := time.Now()
		for range 16 {
			go func() { done <- send(c, "PUT", url, "x", transport.Call{Scopes: push("acme/app")}) }()
		}
		for range 16 {
			<-done
		}
		if n := s.count("/token"); n > 2 {
			s.t.Errorf("%d token requests one after the other, %s", n, time.Since(b))
		}
	})
}

func TestNarrowTokenDoesNotPretend(t *testing.T) {
	f := &fakeRegistry{token: func(r *http.Request) (int, string) {
		q := r.URL.Query()["scope"]
		if len(q) > 1 {
			return 403, `{}`
		}
		if strings.Contains(q[0], "base") {
			return 200, `{"token":"tbase"}`
		}
		return 200, `{"token":"tapp"}`
	}}
	f.good = func(b string) bool { return b == "tapp" || b == "tbase" }
	h := func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/base/") && r.Header.Get("Authorization") == "Bearer tapp" {
			w.WriteHeader(403) // not GHCR: no DENIED
			return
		}
		f.ServeHTTP(w, r)
	}
	o := login("")
	o.Rules = rules("https://ghcr.io/token")
	virtual(t, h, o, func(s *server, c *transport.Client) {
		both := append(push("acme/app"), pull("pub/base")...)
		if err := send(c, "POST", url, "", transport.Call{Scopes: both}); err != nil {
			s.t.Fatal(err)
		}
		if err := send(c, "GET", "https://ghcr.io/v2/pub/base/manifests/v1", "", transport.Call{Scopes: pull("pub/base")}); err != nil {
			s.t.Errorf("a read of the mount's source uses a token without that scope: %v", err)
		}
	})
}

func TestRotatedCredential(t *testing.T) {
	var current atomic.Value
	current.Store("one")
	var seen []string
	f := &fakeRegistry{}
	f.good = isToken
	f.token = func(r *http.Request) (int, string) {
		_, p, _ := r.BasicAuth()
		seen = append(seen, p)
		return 200, `{"token":"t` + p + `"}`
	}
	o := transport.Options{Rules: rules("https://ghcr.io/token"), Credentials: transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
		return transport.Credential{Username: "u", Password: transport.NewSecret(current.Load().(string))}, nil
	})}
	virtual(t, f.ServeHTTP, o, func(s *server, c *transport.Client) {
		send(c, "GET", url, "", transport.Call{Scopes: pull("a/b")})
		current.Store("two")
		send(c, "GET", url, "", transport.Call{Scopes: pull("a/b")})
		if fmt.Sprint(seen) != "[one two]" {
			s.t.Errorf("tokens were got with %v", seen)
		}
	})
}

func TestRetryAfterForEverAndSmallMaxWait(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "99999999999")
		w.WriteHeader(429)
	}
	virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
		send(c, "GET", url, "", transport.Call{})
		if n := s.count("/v2"); n != 1 {
			s.t.Errorf("asked to wait for ever, sent %d times", n)
		}
	})
	virtual(t, status(503), transport.Options{MaxWait: 500 * time.Millisecond}, func(s *server, c *transport.Client) {
		if err := send(c, "GET", url, "", transport.Call{}); strings.Contains(fmt.Sprint(err), "the server asks") {
			s.t.Errorf("the server asked for nothing: %v", err)
		}
	})
}

func TestBodyStallIsATimeout(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("x"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	virtual(t, h, transport.Options{}, func(s *server, c *transport.Client) {
		err := send(c, "GET", url, "", transport.Call{})
		var to interface{ Timeout() bool }
		if !errors.As(err, &to) || !to.Timeout() {
			s.t.Errorf("%v", err)
		}
	})
}

// TestEchoedLogin: a server that repeats what it was sent.
func TestEchoedLogin(t *testing.T) {
	for _, known := range []bool{true, false} {
		o := login("")
		if known {
			o.Rules = ghcrRules
		}
		h := func(w http.ResponseWriter, r *http.Request) {
			_, a, sent := strings.Cut(r.Header.Get("Authorization"), " ")
			if !sent && !known {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(401)
				return
			}
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"who is %s","detail":"%s"}]}`, a, a)
		}
		virtual(t, h, o, func(s *server, c *transport.Client) {
			err := send(c, "GET", url, "", transport.Call{})
			var e *transport.Error
			if !errors.As(err, &e) || len(e.Details) != 1 || strings.Contains(err.Error()+string(e.Details[0].Detail), "Q2FuYXJ5") || !strings.Contains(err.Error(), "[redacted]") {
				s.t.Errorf("%v", err)
			}
		})
	}
}
