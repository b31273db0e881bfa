package transport_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// github has GitHub's limits, for each token: points in any minute, and requests in
// an hour. It answers after a moment, so that requests overlap.
type github struct {
	limit      int  // requests an hour; 5000 if zero
	retryAfter int  // seconds told with a secondary refusal; 0 tells none
	status     int  // of a refusal; 403 if zero
	unchanged  bool // answer 304
	scopes     string
	bad        map[string]bool // tokens that are not taken
	skew       time.Duration   // of its clock
	slow       time.Duration   // for which answers are on their way; one at a time then
	resource   string          // what the limit is called; "core" if empty

	mu      sync.Mutex
	began   time.Time
	users   map[string]*usage
	refused int
	banned  int // requests in spite of a refusal
	seen    []string
	at      []time.Duration
}

type usage struct {
	spent   []time.Time // one for each point
	used    int
	hour    time.Duration // in which they were used
	blocked time.Time     // a refusal asked to stay away until then
	told    time.Time     // when that refusal had arrived
}

func newGitHub() *github { return &github{began: time.Now(), users: map[string]*usage{}} }

func (g *github) latency() { time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond) }

// spend tells whether so many points are left, and takes them.
func (g *github) spend(token string, points int) bool {
	u := g.user(token)
	now := time.Now()
	for len(u.spent) > 0 && now.Sub(u.spent[0]) >= time.Minute {
		u.spent = u.spent[1:]
	}
	if len(u.spent)+points > 900 {
		return false
	}
	for range points {
		u.spent = append(u.spent, now)
	}
	return true
}

func (g *github) setBad(bad map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bad = bad
}

func (g *github) user(token string) *usage {
	u := g.users[token]
	if u == nil {
		u = &usage{}
		g.users[token] = u
	}
	return u
}

func (g *github) RoundTrip(r *http.Request) (*http.Response, error) {
	g.latency()
	defer g.latency()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.slow > 0 {
		defer time.Sleep(g.slow)
	}
	now := time.Now()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	u := g.user(token)
	g.seen = append(g.seen, token)
	g.at = append(g.at, now.Sub(g.began))
	limit := g.limit
	if limit == 0 {
		limit = 5000
	}
	resp := &http.Response{StatusCode: 204, Header: http.Header{}, Request: r, Body: http.NoBody, ProtoMajor: 1, ProtoMinor: 1}
	hour := now.Sub(g.began).Truncate(time.Hour)
	reset := g.began.Add(hour + time.Hour)
	if hour > u.hour {
		u.hour, u.used = hour, 0
	}
	if u.told.Before(now) && now.Before(u.blocked) && token != "" {
		g.banned++
	}
	refuse := func(message string, retryAfter int) {
		g.refused++
		resp.StatusCode = 403
		if g.status != 0 {
			resp.StatusCode = g.status
		}
		resp.Body = io.NopCloser(strings.NewReader(`{"message":"` + message + `","documentation_url":"https://docs.github.com/"}`))
		wait := time.Minute
		if retryAfter > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(retryAfter))
			wait = time.Duration(retryAfter) * time.Second
		}
		if now.After(u.blocked) {
			u.told = now.Add(500 * time.Millisecond) // what is on its way by then cannot know
		}
		u.blocked = now.Add(wait - time.Second)
	}
	switch {
	case g.bad[token]:
		resp.StatusCode = 401
		resp.Body = io.NopCloser(strings.NewReader(`{"message":"Bad credentials"}`))
		return resp, nil
	case r.URL.Path == "/rate_limit":
	case u.used >= limit:
		refuse("API rate limit exceeded for user ID 1.", 0)
	case !g.spend(token, map[bool]int{true: 1, false: 5}[r.Method == "GET"]):
		refuse("You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", g.retryAfter)
	case g.unchanged:
		resp.StatusCode = 304
	default:
		u.used++
	}
	resp.Header.Set("Date", now.Add(g.skew).UTC().Format(http.TimeFormat))
	resp.Header.Set("X-RateLimit-Limit", strconv.Itoa(limit))
	resp.Header.Set("X-RateLimit-Remaining", strconv.Itoa(limit-u.used))
	resp.Header.Set("X-RateLimit-Used", strconv.Itoa(u.used))
	resp.Header.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Add(g.skew).Unix(), 10))
	resp.Header.Set("X-RateLimit-Resource", cmp.Or(g.resource, "core"))
	if g.scopes != "-" {
		resp.Header.Set("X-OAuth-Scopes", g.scopes)
	}
	return resp, nil
}

// watcher notes what a client tells.
type watcher struct {
	mu        sync.Mutex
	waits     []transport.Wait
	exchanges []transport.Exchange
}

func (w *watcher) Wait(told transport.Wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waits = append(w.waits, told)
}

func (w *watcher) Exchange(told transport.Exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchanges = append(w.exchanges, told)
}

// limited runs a test in virtual time with a client of GitHub's API.
func limited(t *testing.T, opts transport.Options, test func(t *testing.T, g *github, c *transport.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGitHub()
		opts.Base = g
		if opts.Credentials == nil {
			opts.Credentials = tokens("a")
		}
		c, err := transport.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		test(t, g, c)
	})
}

// tokens is a source of classic tokens of these names.
func tokens(names ...string) transport.Pool {
	var list []transport.Credential
	for _, name := range names {
		list = append(list, transport.Credential{Password: transport.NewSecret("ghp_" + name), Source: name})
	}
	return transport.Pool{"api.github.com": list}
}

func ask(ctx context.Context, c *transport.Client, method string, call transport.Call) error {
	req, err := http.NewRequestWithContext(ctx, method, "https://api.github.com/orgs/acme/packages", nil)
	if err != nil {
		return err
	}
	call.API = true
	if call.Op == "" {
		call.Op, call.Target = "delete version", "acme/app"
	}
	resp, err := c.Do(req, call)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// flood sends n requests, so many at a time.
func flood(t *testing.T, c *transport.Client, method string, n, workers int) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := ask(t.Context(), c, method, transport.Call{}); err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestDeletionsKeepToThePoints: alone with the token, no request is refused, and
// the time is what 900 points a minute make of 2000 deletions at 5 points.
func TestDeletionsKeepToThePoints(t *testing.T) {
	for _, workers := range []int{1, 10, 300} {
		limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
			began := time.Now()
			flood(t, c, "DELETE", 2000, workers)
			took := time.Since(began)
			if g.refused > 0 || took > 13*time.Minute {
				t.Errorf("%d workers: %d refused, took %s", workers, g.refused, took)
			}
		})
	}
}

// TestSharedTokenBreaksNothing: another process spends points of the same token.
// All requests get through. A refusal cannot be helped, since nothing tells of the
// other's use, but it comes at most once for each wait that follows, and nothing is
// sent during one.
func TestSharedTokenBreaksNothing(t *testing.T) {
	for _, test := range []struct{ retryAfter, status, others int }{{0, 403, 300}, {60, 429, 600}, {30, 403, 800}, {0, 429, 800}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			limited(t, transport.Options{MaxWait: time.Hour}, func(t *testing.T, g *github, c *transport.Client) {
				g.retryAfter, g.status = test.retryAfter, test.status
				ctx, cancel := context.WithCancel(t.Context())
				var other sync.WaitGroup
				other.Go(func() {
					tick := time.NewTicker(time.Minute / time.Duration(test.others))
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							g.mu.Lock()
							g.spend("ghp_a", 1)
							g.mu.Unlock()
						case <-ctx.Done():
							return
						}
					}
				})
				flood(t, c, "DELETE", 2000, 8)
				cancel()
				other.Wait()
				counted := int(c.Counts()[0].Secondary)
				if g.banned > 0 {
					t.Errorf("%d requests while they had to wait", g.banned)
				}
				// What is on its way when the limit is met for the first time is refused
				// together, and after that one or two each time that more is tried again.
				took := time.Since(g.began)
				if most := 12 + int(took/(150*time.Second)); g.refused != counted || g.refused > most {
					t.Errorf("%d refused, %d counted, want %d at most", g.refused, counted, most)
				}
			})
		})
	}
}

// TestSecondaryLimitWithoutATime: GitHub asks for a minute, and for more each time.
// One request finds out whether it is over; the others wait for its answer.
func TestSecondaryLimitWithoutATime(t *testing.T) {
	limited(t, transport.Options{MaxWait: 10 * time.Minute}, func(t *testing.T, g *github, c *transport.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute+30*time.Second)
		defer cancel()
		hog := func() { // somebody else takes all there is
			for ctx.Err() == nil {
				g.mu.Lock()
				for g.spend("ghp_a", 1) {
				}
				g.mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		}
		var wg sync.WaitGroup
		wg.Go(hog)
		time.Sleep(time.Second)
		flood(t, c, "DELETE", 5, 5)
		wg.Wait()
		// The first five are one wave. Then one after a minute, after two and after four.
		if g.refused != 5+2 {
			t.Errorf("%d refused at %v", g.refused, g.at)
		}
		for i, want := range []time.Duration{61 * time.Second, 181 * time.Second, 421 * time.Second} {
			if got := g.at[5+i]; got < want || got > want+3*time.Second {
				t.Errorf("try %d after %s, want %s", i, got, want)
			}
		}
	})
}

// TestPrimaryLimitWaitsForTheReset: what others used up is waited for.
func TestPrimaryLimitWaitsForTheReset(t *testing.T) {
	w := &watcher{}
	limited(t, transport.Options{MaxWait: 2 * time.Hour, Observer: w}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit = 60
		g.user("ghp_a").used = 60
		flood(t, c, "GET", 5, 5)
		if took := time.Since(g.began); g.refused != 5 || took < time.Hour || took > time.Hour+5*time.Second {
			t.Errorf("%d refused, took %s", g.refused, took)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.ContainsFunc(w.waits, func(w transport.Wait) bool {
			return w.Reason == transport.WaitLimited && w.Credential == "a" && w.Until.Sub(g.began) > time.Hour
		}) {
			t.Errorf("told of %+v", w.waits)
		}
		n := c.Counts()
		// However many were refused, it is one wait.
		if len(n) != 1 || n[0].Primary != 5 || n[0].Requests != 10 || (n[0].LimitedFor-time.Hour).Abs() > 2*time.Second {
			t.Errorf("counted %+v", n)
		}
	})
}

// TestResetThatComesLate: a period is not over when its end was told to be. One
// request finds out, and then again after growing waits, never at once.
func TestResetThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		reset := began.Add(time.Minute)
		var mu sync.Mutex
		var at []time.Duration
		c, _ := transport.New(transport.Options{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
			resp := &http.Response{StatusCode: 204, Body: http.NoBody, Request: r, Header: http.Header{
				"X-Ratelimit-Limit": {"5000"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {strconv.FormatInt(reset.Unix(), 10)},
			}}
			if time.Since(began) < 70*time.Second {
				resp.StatusCode = 429
				return resp, nil
			}
			resp.Header.Set("X-Ratelimit-Remaining", "4000")
			resp.Header.Set("X-Ratelimit-Reset", strconv.FormatInt(reset.Add(time.Hour).Unix(), 10))
			return resp, nil
		})})
		flood(t, c, "GET", 5, 5)
		early := 0
		for _, d := range at {
			if d < 70*time.Second {
				early++
			}
		}
		if early < 6 || early > 10 { // a wave of five, and one at a time
			t.Errorf("requests at %v", at)
		}
	})
}

// TestNothingIsSentWhenNothingIsLeft: the headers say so before a refusal does.
func TestNothingIsSentWhenNothingIsLeft(t *testing.T) {
	limited(t, transport.Options{MaxWait: 2 * time.Hour}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit = 50
		flood(t, c, "GET", 60, 12)
		if took := time.Since(g.began); g.refused != 0 || took < time.Hour {
			t.Errorf("%d refused, took %s", g.refused, took)
		}
	})
}

// TestSpreadFromFourFifths: from 80 % use on, what is left lasts to the reset.
func TestSpreadFromFourFifths(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit = 100
		g.user("ghp_a").used = 70
		flood(t, c, "GET", 10, 1)
		if took := time.Since(g.began); took > 10*time.Second {
			t.Errorf("held back below 80 %%: %s", took)
		}
		began := time.Now()
		flood(t, c, "GET", 10, 1)
		// 20 are left for an hour.
		if took := time.Since(began); took < 25*time.Minute || took > 35*time.Minute {
			t.Errorf("ten of the last twenty took %s", took)
		}
		info := c.RateLimits()
		if len(info) != 1 || info[0].Limit != 100 || info[0].Remaining != 10 || info[0].Used != 90 || info[0].Resource != "core" || info[0].Credential != "a" {
			t.Errorf("told %+v", info)
		}
	})
}

// TestUnchangedCostsNothing: a 304 is not held back for a limit that it does not
// count on.
func TestUnchangedCostsNothing(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.unchanged = true
		flood(t, c, "GET", 500, 10)
		if info := c.RateLimits(); info[0].Remaining != 5000 || c.Counts()[0].Unchanged != 500 {
			t.Errorf("%+v, %+v", info, c.Counts())
		}
	})
}

// TestClockOfTheServer: the end of a period is by the server's clock, which may be
// another than ours.
func TestClockOfTheServer(t *testing.T) {
	for _, off := range []time.Duration{-40 * time.Minute, 40 * time.Minute} {
		limited(t, transport.Options{MaxWait: 2 * time.Hour}, func(t *testing.T, g *github, c *transport.Client) {
			g.skew = off
			g.limit = 1
			flood(t, c, "GET", 2, 1)
			if took := time.Since(g.began); g.refused > 0 || took < time.Hour || took > time.Hour+10*time.Second {
				t.Errorf("%s: %d refused, took %s", off, g.refused, took)
			}
		})
	}
}

// TestMaxWaitOfALimit: who would have to wait for too long is told until when, and
// in GitHub's words why; and so is everybody else, without a request.
func TestMaxWaitOfALimit(t *testing.T) {
	limited(t, transport.Options{MaxWait: time.Minute}, func(t *testing.T, g *github, c *transport.Client) {
		g.retryAfter = 600
		for range 900 {
			g.user("ghp_a").spent = append(g.user("ghp_a").spent, time.Now())
		}
		for range 3 {
			err := ask(t.Context(), c, "DELETE", transport.Call{})
			text := fmt.Sprint(err)
			if !errors.Is(err, transport.ErrRateLimited) || !strings.Contains(text, "secondary rate limit") || strings.Count(text, "it asks to wait until") != 1 ||
				!strings.HasPrefix(text, "delete version acme/app: ") {
				t.Errorf("got %v", err)
			}
		}
		if len(g.seen) != 1 {
			t.Errorf("%d requests", len(g.seen))
		}
	})
}

// TestWaitIsCancelled: who waits leaves the queue when its context ends, and the
// others go on.
func TestWaitIsCancelled(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.retryAfter = 120
		for range 900 {
			g.user("ghp_a").spent = append(g.user("ghp_a").spent, time.Now())
		}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, 30*time.Second)
					defer cancel()
				}
				began := time.Now()
				err := ask(ctx, c, "DELETE", transport.Call{})
				switch took := time.Since(began); {
				case i%2 == 0 && (!errors.Is(err, context.DeadlineExceeded) || took > 31*time.Second):
					t.Errorf("cancelled: %v after %s", err, took)
				case i%2 == 1 && (err != nil || took < 2*time.Minute):
					t.Errorf("patient: %v after %s", err, took)
				}
			})
		}
		wg.Wait()
	})
}

// TestQueueIsFair: who came first goes first.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		c, _ := transport.New(transport.Options{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			resp := &http.Response{StatusCode: 204, Body: http.NoBody, Request: r, Header: http.Header{}}
			if r.URL.Path == "/first" && len(order) == 0 {
				resp.StatusCode = 429
				resp.Header.Set("Retry-After", "90")
			}
			order = append(order, r.URL.Path)
			return resp, nil
		})})
		var wg sync.WaitGroup
		want := []string{"/first"}
		for i := range 50 {
			path := "/" + strconv.Itoa(i)
			if i == 0 {
				path = "/first"
			}
			want = append(want, path)
			wg.Go(func() {
				req, _ := http.NewRequest("DELETE", "https://api.github.com"+path, nil)
				resp, err := c.Do(req, transport.Call{API: true})
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
			synctest.Wait()
		}
		wg.Wait()
		if !slices.Equal(order, want) {
			t.Errorf("order %v", order)
		}
	})
}

// TestTokensRotate: the token with most left is used, and one that met a limit
// rests while another works.
func TestTokensRotate(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "b", "c")}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit = 1000
		g.user("ghp_a").used, g.user("ghp_b").used = 900, 500
		began := time.Now()
		flood(t, c, "GET", 1000, 10)
		took := time.Since(began)
		used := map[string]int{}
		for _, token := range g.seen {
			used[token]++
		}
		if g.refused > 0 || used["ghp_a"] > 30 || used["ghp_b"] < 150 || used["ghp_c"] < 600 || took > 3*time.Minute {
			t.Errorf("%v in %s, %d refused", used, took, g.refused)
		}
	})
}

// TestTokensShareTheLoad: each token has points of its own.
func TestTokensShareTheLoad(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "b")}, func(t *testing.T, g *github, c *transport.Client) {
		flood(t, c, "DELETE", 720, 10)
		if took := time.Since(g.began); g.refused > 0 || took > 90*time.Second {
			t.Errorf("took %s, %d refused", took, g.refused)
		}
	})
}

// TestRefusedTokenOfAPool: an expired token is left out.
func TestRefusedTokenOfAPool(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "b")}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"ghp_a": true}
		flood(t, c, "GET", 5, 1)
		if !slices.Equal(g.seen, []string{"ghp_a", "ghp_b", "ghp_b", "ghp_b", "ghp_b", "ghp_b"}) {
			t.Errorf("used %v", g.seen)
		}
		g.bad["ghp_b"] = true
		if err := ask(t.Context(), c, "GET", transport.Call{}); !errors.Is(err, transport.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
	})
}

// TestMissingScope: what the token is known to lack is said before anything is
// sent.
func TestMissingScope(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.scopes = "repo, write:packages"
		needs := []string{transport.ScopeRead, transport.ScopeDelete}
		if err := ask(t.Context(), c, "GET", transport.Call{Needs: needs[:1]}); err != nil {
			t.Fatal(err)
		}
		err := ask(t.Context(), c, "DELETE", transport.Call{Needs: needs})
		var e *transport.ScopeError
		if !errors.As(err, &e) || !errors.Is(err, transport.ErrDenied) || !slices.Equal(e.Missing, []string{transport.ScopeDelete}) || len(g.seen) != 1 {
			t.Errorf("got %v after %d requests", err, len(g.seen))
		}
		if want := "delete version acme/app: the token from a lacks delete:packages (it has repo, write:packages)"; fmt.Sprint(err) != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		tokens, err := c.Tokens(t.Context(), "api.github.com")
		if err != nil || len(tokens) != 1 || tokens[0].Kind != transport.ClassicToken || !tokens[0].Known {
			t.Errorf("tokens %+v, %v", tokens, err)
		}
	})
}

// TestScopesOfTokensWithoutScopes: for kinds of token that have none, nothing is
// concluded.
func TestScopesOfTokensWithoutScopes(t *testing.T) {
	pool := transport.Pool{"api.github.com": {{Password: transport.NewSecret("ghs_x"), Source: "GITHUB_TOKEN"}}}
	limited(t, transport.Options{Credentials: pool}, func(t *testing.T, g *github, c *transport.Client) {
		for range 2 {
			if err := ask(t.Context(), c, "DELETE", transport.Call{Needs: []string{transport.ScopeDelete}}); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestTokenWithTheScopeIsChosen: of several tokens one that may do it.
func TestTokenWithTheScopeIsChosen(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "b")}, func(t *testing.T, g *github, c *transport.Client) {
		g.scopes = "read:packages"
		ask(t.Context(), c, "GET", transport.Call{})
		g.scopes = "read:packages, delete:packages"
		if err := ask(t.Context(), c, "DELETE", transport.Call{Needs: []string{transport.ScopeDelete}}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(g.seen, []string{"ghp_a", "ghp_b"}) {
			t.Errorf("used %v", g.seen)
		}
	})
}

// TestOnceIsNotSentAgain: after a failure that leaves it open what became of it,
// but after a refusal for a limit it is.
func TestOnceIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{500, 503, 0} {
			n := 0
			c, _ := transport.New(transport.Options{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				if n++; status == 0 {
					return nil, io.ErrUnexpectedEOF
				}
				return &http.Response{StatusCode: status, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
			})})
			if err := ask(t.Context(), c, "DELETE", transport.Call{Once: true}); err == nil || n != 1 {
				t.Errorf("%d: %d requests, %v", status, n, err)
			}
		}
	})
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.retryAfter = 7
		for range 900 {
			g.user("ghp_a").spent = append(g.user("ghp_a").spent, time.Now().Add(-55*time.Second))
		}
		if err := ask(t.Context(), c, "DELETE", transport.Call{Once: true}); err != nil || len(g.seen) != 2 {
			t.Errorf("%d requests, %v", len(g.seen), err)
		}
	})
}

// TestTokensAreNotTold: no token of a pool is in an error, a log, or what an
// observer is told, even if the API repeats it.
func TestTokensAreNotTold(t *testing.T) {
	for _, prefix := range []string{"ghp_", "gho_", "ghu_", "ghs_", "github_pat_", "0123456789abcdef0123456789abcdef"} {
		synctest.Test(t, func(t *testing.T) {
			secret := prefix + "CanaryCa"
			var log strings.Builder
			w := &watcher{}
			c, err := transport.New(transport.Options{
				Observer: w, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), MaxWait: time.Hour,
				Credentials: transport.Pool{"api.github.com": {{Password: transport.NewSecret(secret), Source: "GH_TOKEN"}, {Password: transport.NewSecret(secret + "2"), Source: "B"}}},
				Base: roundTripper(func(r *http.Request) (*http.Response, error) {
					body := `{"message":"You have exceeded a secondary rate limit with ` + r.Header.Get("Authorization") + `"}`
					return &http.Response{StatusCode: 403, Body: io.NopCloser(strings.NewReader(body)), Request: r, Header: http.Header{"X-Oauth-Scopes": {"repo"}}}, nil
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			err = ask(t.Context(), c, "GET", transport.Call{})
			scope := ask(t.Context(), c, "GET", transport.Call{Needs: []string{transport.ScopeDelete}})
			tokens, _ := c.Tokens(t.Context(), "api.github.com")
			w.mu.Lock()
			defer w.mu.Unlock()
			all := fmt.Sprintf("%v %+v %#v %v %#v %s %+v %+v %+v %+v %+v", err, err, err, scope, scope, log.String(), w.exchanges, w.waits, tokens, c.RateLimits(), c.Counts())
			if strings.Contains(all, "CanaryCa") || !strings.Contains(all, "GH_TOKEN") || len(w.waits) == 0 {
				t.Errorf("%s: it is in %s", prefix, all)
			}
		})
	}
}

// TestFreeCallsDoNotWait: asking for the limits is possible while they are used up.
func TestFreeCallsDoNotWait(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.limit = 1
		flood(t, c, "GET", 1, 1)
		req, _ := http.NewRequest("GET", "https://api.github.com/rate_limit", nil)
		resp, err := c.Do(req, transport.Call{API: true, Free: true})
		if err != nil || time.Since(g.began) > time.Second {
			t.Fatalf("%v after %s", err, time.Since(g.began))
		}
		resp.Body.Close()
	})
}

// TestRegistryRequestsAreSpacedAfterARefusal: those that waited at the gate do not
// go all at once, but as far apart as the registry says it takes them.
func TestRegistryRequestsAreSpacedAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		c, _ := transport.New(transport.Options{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
			resp := &http.Response{StatusCode: 200, Body: http.NoBody, Request: r, Header: http.Header{}}
			if len(at) == 1 {
				resp.StatusCode = 429
				resp.Body = io.NopCloser(strings.NewReader(`{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 10s, allowed: 2000/minute"}]}`))
			}
			return resp, nil
		})})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := send(c, "GET", url, "", transport.Call{}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for i := 2; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap < 30*time.Millisecond {
				t.Errorf("request %d went %s after the one before", i, gap)
			}
		}
	})
}

func TestKindOf(t *testing.T) {
	for token, want := range map[string]transport.TokenKind{
		"":                             transport.Anonymous,
		"ghp_x":                        transport.ClassicToken,
		"github_pat_x":                 transport.FineGrainedToken,
		"ghs_x":                        transport.InstallationToken,
		"gho_x":                        transport.OAuthToken,
		"ghu_x":                        transport.UserToken,
		"hunter2":                      transport.OtherToken,
		strings.Repeat("0f", 20):       transport.ClassicToken,
		strings.Repeat("0f", 20) + "0": transport.OtherToken,
	} {
		if got := transport.KindOf(transport.NewSecret(token)); got != want {
			t.Errorf("%q: got %q, want %q", token, got, want)
		}
	}
}
