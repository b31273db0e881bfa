package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A request that may be sent again is sent up to three times more, 1, 2 and 4
// seconds apart, give or take a fifth, or later where the server asks for it.
const (
	maxRetries = 3
	firstWait  = time.Second
	jitter     = 0.2
)

// secondaryWait is the least to wait after GitHub's secondary limit, which lasts
// for minutes and names no time.
const secondaryWait = time.Minute

// sender is what lies below the layer of retries.
type sender func(req *http.Request, attempt int) (*http.Response, error)

// retry is the outermost layer. Requests for tokens, which a call makes on its way,
// have their own.
func (c *Client) retry(req *http.Request, call Call, send sender) (*http.Response, error) {
	failures := 0
	for attempt := 0; ; attempt++ {
		resp, err := send(req, attempt)
		if err == nil {
			return resp, nil
		}
		asked, ok := retryable(req, call, err, failures)
		if !ok {
			return nil, err
		}
		// The gate of an API keeps the time after a refusal, for all that wait there,
		// and gives up when it gets too long.
		if !isPaced(err) {
			if asked > c.opts.MaxWait {
				return nil, tooLong(err, asked, c.opts.MaxWait)
			}
			wait := max(asked, min(backoff(failures), c.opts.MaxWait))
			failures++
			if err := sleep(req.Context(), wait); err != nil {
				return nil, err
			}
		}
		next, bodyErr := again(req)
		if bodyErr != nil {
			return nil, errors.Join(err, fmt.Errorf("read the content again: %w", bodyErr))
		}
		req = next
	}
}

// tooLong says until when the server asks to wait, which is longer than allowed.
func tooLong(err error, wait, limit time.Duration) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	if told.Message != "" {
		told.Message += "; "
	}
	told.Message += fmt.Sprintf("it asks to wait until %s, longer than the limit of %s", time.Now().Add(wait).Format(time.RFC3339), limit)
	return &told
}

func isPaced(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.paced
}

// retryable tells whether to send the request again, and the least to wait that
// the server asks for.
func retryable(req *http.Request, call Call, err error, failures int) (time.Duration, bool) {
	var e *Error
	if call.NoRetry || failures >= maxRetries || !replayable(req) || req.Context().Err() != nil || !errors.As(err, &e) || e.final || e.token != call.token {
		return 0, false
	}
	limited := e.rateLimited()
	switch {
	case limited:
		// Turned away at the door: nothing was done, whatever the method.
	case call.Once, !idempotent(req.Method):
		return 0, false
	case (e.Status == 0 || e.BrokenOff()) && !isNetwork(e.Err):
		return 0, false
	case e.Status != 0 && !e.BrokenOff() && e.Status != http.StatusRequestTimeout && e.Status < 500, e.Status == http.StatusNotImplemented:
		return 0, false
	}
	if limited && e.Status == http.StatusForbidden {
		return max(secondaryWait, e.RetryAfter), true
	}
	return e.RetryAfter, true
}

// idempotent methods may be sent twice without harm. A POST that opens an upload
// session leaves at worst a session behind, which ends by itself.
func idempotent(method string) bool { return method != http.MethodPatch }

func backoff(attempt int) time.Duration {
	wait := firstWait << attempt
	return wait + time.Duration((2*rand.Float64()-1)*jitter*float64(wait))
}

func sleep(ctx context.Context, d time.Duration) error {
	ctx = Waits(ctx)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended is why a context is done. Where it is because another request of the same group
// failed, that one's error is not this one's: it would be taken for an answer to it.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	var other *Error
	if errors.As(cause, &other) {
		return ctx.Err()
	}
	return cause
}

// isNetwork tells a failure on the way that may pass from one that will not, such
// as a certificate that is not trusted or a host that does not exist, and from
// one of our own making, such as a body that could not be read.
func isNetwork(err error) bool {
	var body *bodyError
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var notTLS tls.RecordHeaderError
	switch {
	case IsPermanent(err):
		return false
	case errors.Is(err, context.Canceled), errors.As(err, &body), errors.As(err, &certificate),
		errors.As(err, &notTLS), errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	}
	return true
}

// IsPermanent tells whether a failure will be the same however often it is tried. An
// Options.Base that is no network says so of its errors by a method Permanent() bool,
// as package cassette does for what it has not recorded.
func IsPermanent(err error) bool {
	var told interface{ Permanent() bool }
	return errors.As(err, &told) && told.Permanent()
}

var ghcrRetryAfter = pattern(`retry-after:\s*((?:[0-9.]+(?:ns|us|µs|μs|ms|s|m|h))+)`)

// retryAfter reads for how long a server asks to wait: a header in seconds or as a
// date, or the text in GHCR's body (docs/quirks.md#registry-read-limit). Where there are
// two, the longer counts. It is zero if there is none.
func retryAfter(header, message string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(strings.TrimSpace(header), 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		wait = time.Duration(min(seconds, math.MaxInt32)) * time.Second
	} else if date, err := http.ParseTime(header); err == nil {
		wait = date.Sub(now)
	}
	if m := ghcrRetryAfter().FindStringSubmatch(message); m != nil {
		if d, err := time.ParseDuration(m[1]); err == nil {
			wait = max(wait, d)
		}
	}
	return max(wait, 0)
}
