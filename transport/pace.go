package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// gateKey is what one limit of a server is on. Reads, writes and tokens of a
// registry have limits of their own; an API counts all together. Each credential
// has its own.
type gateKey struct {
	host       string
	api        bool
	write      bool
	token      bool
	credential string
}

// gates hold everybody back while a server has asked one of them to wait.
type gates struct {
	mu     sync.Mutex
	byKey  map[gateKey]*gate
	counts map[string]*Counts
}

// gate lets requests through one after another, in the order in which they came.
type gate struct {
	label string        // of the credential, to be shown
	turn  chan struct{} // held by the first in the queue, for whose wait all others wait

	mu      sync.Mutex
	queued  int // points of those in the queue
	budget  budget
	changed chan struct{} // closed when an answer may have changed how long to wait
}

// ticket is what a request was let through with.
type ticket struct {
	number   int
	points   int
	resource string
}

func (gs *gates) of(key gateKey, label string) *gate {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g := gs.byKey[key]
	if g == nil {
		if gs.byKey == nil {
			gs.byKey = map[gateKey]*gate{}
		}
		g = &gate{
			label: label, turn: make(chan struct{}, 1), changed: make(chan struct{}),
			budget: budget{api: key.api, allowance: pointsPerMinute},
		}
		gs.byKey[key] = g
	}
	return g
}

func (gs *gates) all() []*gate {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	list := make([]*gate, 0, len(gs.byKey))
	for _, g := range gs.byKey {
		list = append(list, g)
	}
	return list
}

// count changes the counts of a host.
func (gs *gates) count(host string, change func(*Counts)) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	n := gs.counts[host]
	if n == nil {
		if gs.counts == nil {
			gs.counts = map[string]*Counts{}
		}
		n = &Counts{Host: host}
		gs.counts[host] = n
	}
	change(n)
}

func (gs *gates) counted() []Counts {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	list := make([]Counts, 0, len(gs.counts))
	for _, n := range gs.counts {
		list = append(list, *n)
	}
	slices.SortFunc(list, func(a, b Counts) int { return cmp.Compare(a.Host, b.Host) })
	return list
}

// pace waits until the gate lets the request through, and tells the gate what the
// answer says of limits.
func (c *Client) pace(req *http.Request, call Call, how login, attempt int) (*http.Response, error) {
	g := c.gates.of(keyOf(req, call, how), how.label)
	var t ticket
	var waited time.Duration
	switch {
	case how.place != nil:
		t = *how.place
	case !call.Free:
		var err error
		if t, waited, err = c.enter(g, req, call, how); err != nil {
			closeBody(req)
			return nil, err
		}
	}
	c.gates.count(req.URL.Host, func(n *Counts) {
		n.Requests++
		if attempt > 0 {
			n.Retries++
		}
		if waited > 0 {
			n.Waits++
			n.Waited += waited
		}
	})
	resp, err := c.observe(req, call, how, attempt, waited)
	c.account(g, req, t, resp, err)
	return resp, err
}

func keyOf(req *http.Request, call Call, how login) gateKey {
	if call.API {
		return gateKey{host: req.URL.Host, api: true, credential: how.key}
	}
	return gateKey{host: req.URL.Host, write: !isRead(req.Method), token: call.token, credential: how.label}
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func resourceOf(call Call) string { return cmp.Or(call.Resource, coreResource) }

func pointsOf(method string) int {
	if isRead(method) {
		return readPoints
	}
	return writePoints
}

// enter waits in the queue, and then for the budget. Only the first in the queue
// looks at the clock, so that the end of a wait wakes one.
func (c *Client) enter(g *gate, req *http.Request, call Call, how login) (ticket, time.Duration, error) {
	ctx, began := Waits(req.Context()), time.Now()
	t := ticket{points: pointsOf(req.Method), resource: resourceOf(call)}
	held := false
	g.queue(t.points)
	defer g.queue(-t.points)
	select {
	case g.turn <- struct{}{}:
	default:
		held = true
		select {
		case g.turn <- struct{}{}:
		case <-ctx.Done():
			return t, 0, ended(ctx)
		}
	}
	defer func() { <-g.turn }()
	for told := WaitReason(""); ; {
		now := time.Now()
		g.mu.Lock()
		wait, why := g.budget.delay(now, t.resource, t.points, c.opts.MaxWait)
		if wait <= 0 {
			t.number = g.budget.send(now, t.resource, t.points)
			g.mu.Unlock()
			if !held {
				return t, 0, nil
			}
			return t, now.Sub(began), nil
		}
		held = true
		because, changed := g.budget.because, g.changed
		g.mu.Unlock()
		if wait != forever && wait > c.opts.MaxWait {
			return t, 0, closedError(req, call, how, because, why, wait, c.opts.MaxWait)
		}
		if why != told && wait >= time.Second {
			told = why
			c.tellWait(req, call, how, why, wait, now)
		}
		if err := sleepUnless(ctx, wait, changed); err != nil {
			return t, 0, err
		}
	}
}

// queue notes that a request with so many points waits, or no longer does.
func (g *gate) queue(points int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queued += points
}

// sleepUnless is sleep that also ends when something changed.
func sleepUnless(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
		return ended(ctx)
	}
	return nil
}

// closedError says that the wait would be longer than the patience, in the words of
// the refusal that is the reason.
func closedError(req *http.Request, call Call, how login, because *Error, why WaitReason, wait, patience time.Duration) error {
	e := newError(req, call, nil)
	e.Status, e.Message, e.unrefused = http.StatusTooManyRequests, string(why), because == nil
	if because != nil {
		e.Status, e.Code, e.Message, e.RequestID = because.Status, because.Code, because.Message, because.RequestID
	}
	e.RetryAfter, e.Credential, e.Kind, e.final = wait, how.label, how.sort, true
	return tooLong(e, wait, patience)
}

func (c *Client) tellWait(req *http.Request, call Call, how login, why WaitReason, wait time.Duration, now time.Time) {
	told := Wait{Op: call.Op, Target: call.Target, Host: req.URL.Host, Credential: how.label, Reason: why}
	if wait != forever {
		told.Until = now.Add(wait)
	}
	c.opts.Logger.LogAttrs(req.Context(), slog.LevelDebug, "wait",
		slog.String("host", told.Host), slog.String("reason", string(why)), slog.Time("until", told.Until))
	if o, ok := c.opts.Observer.(WaitObserver); ok {
		o.Wait(told)
	}
}

// account tells the gate of an answer, and counts it.
func (c *Client) account(g *gate, req *http.Request, t ticket, resp *http.Response, err error) {
	now := time.Now()
	var info RateLimitInfo
	var e *Error
	if resp != nil {
		info, _ = readRateLimit(resp.Header, now)
	} else if errors.As(err, &e) {
		info = e.limit
	}
	info.Host, info.Credential = req.URL.Host, g.label
	g.mu.Lock()
	before := g.budget.opens(t.resource)
	if t.number == 0 {
		if info.Limit > 0 {
			g.budget.learn(now, info)
		}
	} else {
		g.budget.answered(now, t, resp != nil || e != nil && e.Status != 0, info, e)
	}
	limited := e != nil && e.rateLimited()
	if limited && g.budget.api && t.number > 0 {
		e.paced = true
	}
	until := g.budget.opens(t.resource)
	if g.budget.api {
		close(g.changed)
		g.changed = make(chan struct{})
	}
	g.mu.Unlock()
	c.gates.count(req.URL.Host, func(n *Counts) {
		switch {
		case limited && isPrimary(info):
			n.Primary++
		case limited:
			n.Secondary++
		}
		if limited && until.After(before) {
			n.LimitedFor += until.Sub(later(before, now))
		}
		if resp != nil && resp.StatusCode == http.StatusNotModified {
			n.Unchanged++
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// limits returns what is known of limits whose period goes on.
func (g *gate) limits(now time.Time) []RateLimitInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []RateLimitInfo
	for _, w := range g.budget.windows {
		if now.Before(w.Reset) {
			list = append(list, w.RateLimitInfo)
		}
	}
	return list
}

// defaultSpacing is how far apart requests go after a refusal that does not say how
// many are allowed.
const defaultSpacing = 20 * time.Millisecond

var ghcrAllowed = pattern(`allowed:\s*(\d{1,9})/minute`)

// spacing reads from a registry's refusal how many requests it takes
// (docs/quirks.md#registry-read-limit). It keeps those that waited from all going
// out at once.
func spacing(message string) time.Duration {
	if m := ghcrAllowed().FindStringSubmatch(message); m != nil {
		if n, _ := strconv.Atoi(m[1]); n > 0 {
			return time.Minute / time.Duration(n)
		}
	}
	return defaultSpacing
}
