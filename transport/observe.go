package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Observer is told of exchanges. Its method is called from several goroutines, and
// must not block.
type Observer interface {
	Exchange(Exchange)
}

// ObserverFunc is a function as an [Observer].
type ObserverFunc func(Exchange)

// Exchange implements [Observer].
func (f ObserverFunc) Exchange(e Exchange) { f(e) }

// Exchange is one physical attempt: one request that went out and what came of it.
// It is told when the answer's body has been read or closed.
type Exchange struct {
	Op, Target string
	Method     string
	Host, Path string        // without query, which may hold a signature
	Attempt    int           // 0 for the first
	Waited     time.Duration // for its turn and for limits, before it was sent
	Status     int           // 0 if there was no answer
	RequestID  string
	Latency    time.Duration // until the answer's header
	Duration   time.Duration // until the answer's end
	Sent       int64         // bytes of the request's body
	Received   int64         // bytes of the answer's body
	Err        error         // secrets removed; nil if there was an answer
	// RateLimit is what the answer told of a limit; the zero value if nothing.
	RateLimit RateLimitInfo
	Limited   bool // it was refused for a limit
}

// bodyError is a failure to read the content that was to be sent. It is not the
// network's, so sending again will not help.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read the content to send: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// observe sends the request, bounds how long it may take, and tells of it. Beyond
// it lies the network.
func (c *Client) observe(req *http.Request, call Call, how login, attempt int, waited time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	x := &exchange{
		client: c, cancel: cancel, began: time.Now(),
		told: Exchange{
			Op: call.Op, Target: call.Target, Method: req.Method,
			Host: req.URL.Host, Path: req.URL.Path, Attempt: attempt, Waited: waited,
		},
	}
	out := req.Clone(ctx)
	if out.Body != nil {
		// net/http waits for a read of the body to return, even when all is over.
		defer context.AfterFunc(ctx, func() { req.Body.Close() })()
	}
	x.watchRequest(out, call)
	base := c.base
	if call.Bulk || c.shared && req.URL.Scheme == "http" {
		base = c.bulk
	}
	resp, err := base.RoundTrip(out)
	x.told.Latency = time.Since(x.began)
	x.stopWatching()
	x.told.Sent = x.sent()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && req.Context().Err() == nil {
			err = cause // our own limit, not the caller's
		}
		if failed := x.bodyErr.Load(); failed != nil {
			err = failed
		}
		x.finish(err)
		if req.Context().Err() != nil {
			return nil, ended(req.Context())
		}
		return nil, newError(req, call, err)
	}
	x.told.Status = resp.StatusCode
	x.told.RequestID = resp.Header.Get("X-GitHub-Request-Id")
	if info, ok := readRateLimit(resp.Header, time.Now()); ok {
		info.Host, info.Credential = req.URL.Host, how.label
		x.told.RateLimit = info
	}
	body := x.watchResponse(resp.Body)
	body.failed = func(err error) error {
		if req.Context().Err() != nil {
			return err
		}
		e := newError(req, call, err)
		e.Status, e.RequestID, e.Credential, e.Kind = resp.StatusCode, x.told.RequestID, how.label, how.sort
		return e
	}
	resp.Body = body
	if resp.StatusCode >= 400 {
		body.quiet = true // until it is known what the refusal means
		e := decodeError(req, call, resp)
		e.conceal(req.Header.Get("Authorization"))
		e.scopes, e.limit = readScopes(resp.Header), x.told.RateLimit
		x.told.Limited = e.rateLimited()
		x.finish(nil)
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			e.challenges = parseChallenges(resp.Header.Values("WWW-Authenticate"))
		}
		return nil, e
	}
	return resp, nil
}

// exchange is one attempt under way.
type exchange struct {
	client *Client
	cancel context.CancelCauseFunc
	began  time.Time
	told   Exchange
	timer  *watchdog
	body   *sentBody
	file   interface{ Position() int64 }

	bodyErr  atomic.Pointer[bodyError]
	received atomic.Int64
	once     sync.Once
}

var (
	errHeaderTimeout = &timeoutError{"no answer within the time limit"}
	errStalled       = &timeoutError{"the transfer stood still for too long"}
)

// timeoutError is a time limit of this package. It is a net.Error, as callers of
// net/http expect.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string   { return e.text }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

// watchRequest sets the limits on the way to the answer's header: a total one for
// small requests; for content, that it keeps moving, and then the time in which
// the registry must have stored it.
func (x *exchange) watchRequest(out *http.Request, call Call) {
	opts := x.client.opts
	if out.Body == nil || out.Body == http.NoBody {
		limit := opts.Timeout
		if call.Upload {
			limit = opts.UploadTimeout
		}
		x.timer = startWatchdog(limit, func() { x.cancel(errHeaderTimeout) })
		return
	}
	_, isFile := out.Body.(syscall.Conn)
	position, canAsk := out.Body.(interface{ Position() int64 })
	if isFile && canAsk {
		// Wrapped, a file would no longer be sent by the kernel. It is asked how far
		// it is instead.
		x.file = position
		out.GetBody = nil // the watchdog knows this body only
		x.timer = startPoll(opts, out.ContentLength, position.Position, x.cancel)
		return
	}
	limit := opts.Timeout
	if call.Upload {
		limit = opts.StallTimeout
	}
	x.timer = startWatchdog(limit, func() { x.cancel(errStalled) })
	x.body = &sentBody{ReadCloser: out.Body, x: x, timer: x.timer, upload: call.Upload}
	out.Body = x.body
	out.GetBody = nil // what is sent again goes through all layers again
}

func (x *exchange) stopWatching() { x.timer.stop() }

func (x *exchange) sent() int64 {
	switch {
	case x.body != nil:
		return x.body.n.Load()
	case x.file != nil:
		return x.file.Position()
	}
	return 0
}

// sentBody counts what is taken of a body and keeps the watchdog quiet.
type sentBody struct {
	io.ReadCloser
	x      *exchange
	timer  *watchdog // an answer may come, and have its own, while this is still read
	upload bool
	n      atomic.Int64
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	if b.upload {
		b.timer.reset(b.x.client.opts.StallTimeout)
	}
	if err == io.EOF && b.upload {
		b.timer.reset(b.x.client.opts.UploadTimeout)
	}
	if err != nil && err != io.EOF {
		b.x.bodyErr.CompareAndSwap(nil, &bodyError{err})
	}
	return n, err
}

// watchResponse makes reads of the body fail when nothing arrives for too long. A
// reader may take its time between them.
func (x *exchange) watchResponse(body io.ReadCloser) *receivedBody {
	x.timer = startWatchdog(x.client.opts.StallTimeout, func() { x.cancel(errStalled) })
	x.timer.pause()
	return &receivedBody{ReadCloser: body, x: x}
}

type receivedBody struct {
	io.ReadCloser
	x      *exchange
	quiet  bool              // its end is not the end of the exchange
	failed func(error) error // makes the failure to read it one of the exchange
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.x.timer.reset(b.x.client.opts.StallTimeout)
	n, err := b.ReadCloser.Read(p)
	b.x.timer.pause()
	b.x.received.Add(int64(n))
	if err != nil && err != io.EOF && errors.Is(err, context.Canceled) && b.x.timer.fired.Load() {
		err = errStalled
	}
	if err != nil && !b.quiet {
		told := err
		if err == io.EOF {
			told = nil
		}
		b.x.finish(told)
	}
	if err != nil && err != io.EOF {
		err = b.failed(err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.ReadCloser.Close()
	if !b.quiet {
		b.x.finish(nil)
	}
	return err
}

// finish tells of the exchange, once.
func (x *exchange) finish(err error) {
	x.once.Do(func() {
		x.timer.stop()
		x.cancel(nil)
		x.told.Duration = time.Since(x.began)
		x.told.Received = x.received.Load()
		if err != nil {
			x.told.Err = errors.New(redact(rootCause(err)))
		}
		x.log()
		if x.client.opts.Observer != nil {
			x.client.opts.Observer.Exchange(x.told)
		}
	})
}

func (x *exchange) log() {
	log := x.client.opts.Logger
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	e := x.told
	attrs := []slog.Attr{
		slog.String("method", e.Method), slog.String("host", e.Host), slog.String("path", e.Path),
		slog.Int("status", e.Status), slog.Duration("took", e.Duration.Round(time.Microsecond)),
		slog.Int64("sent", e.Sent), slog.Int64("received", e.Received),
	}
	if e.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt+1))
	}
	if e.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", e.RequestID))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	log.LogAttrs(context.Background(), slog.LevelDebug, e.Op, attrs...)
}
