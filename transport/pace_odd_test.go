package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// answered is an answer with these headers, in pairs.
func answered(r *http.Request, status int, message string, headers ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1}
	resp.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"message":%q}`, message)))
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp
}

// TestTokenThatIsGone: a call that must be made with a token that is there no more is
// not made with another, nor without one, nor again and again.
func TestTokenThatIsGone(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"": true}
		time.AfterFunc(time.Minute, func() { g.setBad(nil) }) // or a failure would last for ever
		err := ask(t.Context(), c, "DELETE", transport.Call{Token: "0123"})
		if !errors.Is(err, transport.ErrUnauthorized) || !strings.Contains(fmt.Sprint(err), "acme/app") {
			t.Errorf("got %v", err)
		}
		if len(g.seen) != 0 {
			t.Errorf("sent %d requests, the first with %q", len(g.seen), g.seen[0])
		}
	})
}

// TestSameTokenTwice: a token that is in a pool twice is one token.
func TestSameTokenTwice(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "a")}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"ghp_a": true, "": true}
		time.AfterFunc(time.Minute, func() { g.setBad(nil) })
		if err := ask(t.Context(), c, "GET", transport.Call{}); !errors.Is(err, transport.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
		if len(g.seen) != 1 {
			t.Errorf("sent %q", g.seen)
		}
	})
}

// TestBearersAreToldApart: tokens that are sent as they are differ as passwords do.
func TestBearersAreToldApart(t *testing.T) {
	pool := transport.Pool{"api.github.com": {
		{Bearer: transport.NewSecret("ghp_old")}, {Bearer: transport.NewSecret("ghp_new")},
	}}
	limited(t, transport.Options{Credentials: pool}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"ghp_old": true}
		if err := ask(t.Context(), c, "GET", transport.Call{}); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(g.seen) != "[ghp_old ghp_new]" {
			t.Errorf("sent %q", g.seen)
		}
	})
}

// TestLimitOfAnotherName: a limit that is used up is kept to though the answer calls
// it by another name than the call.
func TestLimitOfAnotherName(t *testing.T) {
	limited(t, transport.Options{MaxWait: 2 * time.Hour}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit, g.resource = 1, "packages"
		flood(t, c, "GET", 2, 1)
		if g.refused > 1 {
			t.Errorf("%d refused", g.refused)
		}
	})
}

// TestSlowAnswerMovesNoPeriod: an answer that was long on its way makes the clocks
// seem apart. The answers after it still count, and so does a refusal.
func TestSlowAnswerMovesNoPeriod(t *testing.T) {
	limited(t, transport.Options{MaxWait: 2 * time.Hour}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit, g.slow = 100, 10*time.Second
		g.user("ghp_a").used = 70
		flood(t, c, "GET", 1, 1)
		g.slow = 0
		flood(t, c, "GET", 40, 1)
		if g.refused > 0 {
			t.Errorf("%d refused", g.refused)
		}
	})
}

// TestResetOutOfReach: an end of a period that cannot be meant, in milliseconds for
// example, is no wait for ever.
func TestResetOutOfReach(t *testing.T) {
	for _, reset := range []int64{time.Now().UnixMilli(), 1<<63 - 1} {
		synctest.Test(t, func(t *testing.T) {
			c, err := transport.New(transport.Options{Credentials: tokens("a"), Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				return answered(r, 403, "API rate limit exceeded", "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0",
					"X-RateLimit-Reset", strconv.FormatInt(reset, 10)), nil
			})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Hour)
			defer cancel()
			if err := ask(ctx, c, "GET", transport.Call{}); !errors.Is(err, transport.ErrRateLimited) {
				t.Errorf("%d: got %v", reset, err)
			}
		})
	}
}

// TestCancelledProbeLearnsNothing: after a refusal one request goes alone. One that
// is cancelled before its answer has not shown that the others may go.
func TestCancelledProbeLearnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		sent, sentByThen := 0, 0
		probing := make(chan struct{})
		c, err := transport.New(transport.Options{Credentials: tokens("a"), Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			sent++
			mine := sent
			mu.Unlock()
			switch mine {
			case 1:
				return answered(r, 403, "API rate limit exceeded", "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0",
					"X-RateLimit-Reset", strconv.FormatInt(time.Now().Unix()+2, 10)), nil
			case 2:
				close(probing)
				<-r.Context().Done()
				return nil, r.Context().Err()
			case 3:
				time.Sleep(time.Second)
				mu.Lock()
				sentByThen = sent
				mu.Unlock()
			}
			return answered(r, 200, ""), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		calls.Go(func() { ask(ctx, c, "GET", transport.Call{}) })
		<-probing
		for range 10 {
			calls.Go(func() {
				if err := ask(t.Context(), c, "GET", transport.Call{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel()
		calls.Wait()
		if sentByThen != 3 {
			t.Errorf("%d requests went along with the second probe", sentByThen-3)
		}
	})
}

// TestRefusalThatRepeatsTheToken: what a server repeats of a login does not come out
// of the errors of those who wait behind it either, and nobody reads them while they
// are written.
func TestRefusalThatRepeatsTheToken(t *testing.T) {
	const canary = "canary-0123456789"
	credentials := transport.Static(map[string]transport.Credential{"api.github.com": {Password: transport.NewSecret(canary)}})
	for range 20 {
		c, err := transport.New(transport.Options{MaxWait: time.Second, Credentials: credentials, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			return answered(r, 429, "too much from "+r.Header.Get("Authorization"), "Retry-After", "60"), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				for range 3 {
					err := ask(t.Context(), c, "GET", transport.Call{})
					if !errors.Is(err, transport.ErrRateLimited) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), canary) {
						t.Errorf("got %v", err)
					}
				}
			})
		}
		calls.Wait()
	}
}

// TestOwnPaceIsNoAnswer: who would have to wait for what the server never said is not
// told that it said so.
func TestOwnPaceIsNoAnswer(t *testing.T) {
	limited(t, transport.Options{MaxWait: time.Second}, func(t *testing.T, g *github, c *transport.Client) {
		flood(t, c, "DELETE", 180, 10)
		err := ask(t.Context(), c, "DELETE", transport.Call{})
		if text := fmt.Sprint(err); !errors.Is(err, transport.ErrRateLimited) || !strings.HasPrefix(text, "delete version acme/app: not sent to api.github.com: ") {
			t.Errorf("got %v", err)
		}
	})
}

// TestRegistryRefusalIsRemembered: what was sent before a registry refused does not
// take away its words from those who come after.
func TestRegistryRefusalIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := transport.New(transport.Options{MaxWait: time.Second, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "slow") {
				time.Sleep(2 * time.Second)
				return answered(r, 200, ""), nil
			}
			return answered(r, 429, "in its own words", "Retry-After", "60"), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		get := func(name string) error {
			return send(c, "GET", "https://ghcr.io/v2/acme/app/"+name, "", transport.Call{})
		}
		var slow sync.WaitGroup
		slow.Go(func() { get("slow") })
		synctest.Wait()
		get("refused")
		slow.Wait()
		if err := get("next"); !errors.Is(err, transport.ErrRateLimited) || !strings.Contains(fmt.Sprint(err), "in its own words") {
			t.Errorf("got %v", err)
		}
	})
}
