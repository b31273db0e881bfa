package transport_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// TestFinishing: once the outer context ends, what is on its way goes on for a while, also
// what is sent to look at it, and what waits does not.
func TestFinishing(t *testing.T) {
	cause := errors.New("broken off")
	for name, test := range map[string]struct {
		method string
		serve  func(req *http.Request) (*http.Response, error)
		until  time.Duration
		failed bool // with the cause alone
	}{
		"a wait for a limit": {"DELETE", func(req *http.Request) (*http.Response, error) {
			return answered(req, http.StatusForbidden, "You have exceeded a secondary rate limit."), nil
		}, 5 * time.Second, true},
		"a wait before it is sent again": {"GET", func(req *http.Request) (*http.Response, error) {
			return answered(req, http.StatusServiceUnavailable, ""), nil
		}, 5 * time.Second, true},
		"what is sent": {"DELETE", func(req *http.Request) (*http.Response, error) {
			return slowly(req, 20*time.Second)
		}, 20 * time.Second, false},
		"what is not answered": {"DELETE", func(req *http.Request) (*http.Response, error) {
			return slowly(req, time.Hour)
		}, 25 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, err := transport.New(transport.Options{Timeout: time.Minute, Base: roundTripper(test.serve)})
				if err != nil {
					t.Fatal(err)
				}
				outer, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { cancel(cause) })
				inner, release := transport.Finishing(outer, 20*time.Second)
				defer release()
				began := time.Now()
				req, _ := http.NewRequestWithContext(inner, test.method, "https://api.example.com/x", nil)
				resp, err := client.Do(req, transport.Call{Op: "do", API: true, Once: test.method == "DELETE"})
				took := time.Since(began)
				var e *transport.Error
				switch {
				case took.Round(time.Second) != test.until:
					t.Errorf("it took %s: %v", took, err)
				case test.failed && (!errors.Is(err, cause) || errors.As(err, &e)):
					t.Errorf("error %v", err)
				case test.until == 25*time.Second && (!errors.Is(err, cause) || inner.Err() == nil):
					t.Errorf("error %v", err)
				case test.until == 20*time.Second && err != nil:
					t.Error(err)
				}
				if resp != nil {
					resp.Body.Close()
				}
				if transport.Waits(inner) != outer || transport.Waits(outer) != outer {
					t.Error("waits are bounded by another context")
				}
				again, done := transport.Finishing(inner, time.Hour)
				defer done()
				if transport.Waits(again) != outer {
					t.Error("within another, waits are bounded by another context")
				}
			})
		})
	}
}

// slowly answers after a time.
func slowly(req *http.Request, d time.Duration) (*http.Response, error) {
	select {
	case <-time.After(d):
		return answered(req, http.StatusNoContent, ""), nil
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
}
