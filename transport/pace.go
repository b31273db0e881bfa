package transport

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// gateKey is what one limit of a server is on: reads, writes and tokens of a host
// have limits of their own, and each credential has its own.
type gateKey struct {
	host       string
	write      bool
	token      bool
	credential string
}

// gates hold everybody back while a server has asked one of them to wait.
type gates struct {
	mu     sync.Mutex
	opened map[gateKey]time.Time // when each closed gate opens again
}

// pace waits until the gate is open, and closes it when the answer asks for that.
func (c *Client) pace(req *http.Request, call Call, credential string, attempt int) (*http.Response, error) {
	key := gateKey{
		host:       req.URL.Host,
		write:      req.Method != http.MethodGet && req.Method != http.MethodHead,
		token:      call.token,
		credential: credential,
	}
	if left, err := c.gates.wait(req.Context(), key, c.opts.MaxWait); err != nil {
		closeBody(req)
		return nil, err
	} else if left > 0 {
		closeBody(req)
		e := newError(req, call, nil)
		e.Status, e.Message, e.RetryAfter = http.StatusTooManyRequests, "an earlier request was rate limited", left
		return nil, tooLong(e, left, c.opts.MaxWait)
	}
	resp, err := c.observe(req, call, attempt)
	var e *Error
	if errors.As(err, &e) && e.rateLimited() {
		c.gates.close(key, e)
	}
	return resp, err
}

// wait returns when the gate is open, or at once with how long it stays closed if
// that is longer than the patience.
func (g *gates) wait(ctx context.Context, key gateKey, patience time.Duration) (time.Duration, error) {
	for {
		g.mu.Lock()
		until, closed := g.opened[key]
		left := time.Until(until)
		if closed && left <= 0 {
			delete(g.opened, key)
		}
		g.mu.Unlock()
		if !closed || left <= 0 {
			return 0, nil
		}
		if left > patience {
			return left, nil
		}
		if err := sleep(ctx, left); err != nil {
			return 0, err
		}
	}
}

func (g *gates) close(key gateKey, e *Error) {
	wait := e.RetryAfter
	if e.Status == http.StatusForbidden {
		wait = max(wait, secondaryWait)
	}
	if wait <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = map[gateKey]time.Time{}
	}
	if until := time.Now().Add(wait); until.After(g.opened[key]) {
		g.opened[key] = until
	}
}
