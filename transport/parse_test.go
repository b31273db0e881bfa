package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestParseChallenges(t *testing.T) {
	for header, want := range map[string]string{
		`Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull,push"`: `[{bearer map[realm:https://ghcr.io/token scope:repository:a/b:pull,push service:ghcr.io]}]`,
		`Basic realm="x", Bearer realm="y"`:   `[{basic map[realm:x]} {bearer map[realm:y]}]`,
		`Negotiate, Basic realm=x`:            `[{negotiate map[]} {basic map[realm:x]}]`,
		`Bearer realm = "a\"b" , service = c`: `[{bearer map[realm:a"b service:c]}]`,
		`Bearer`:                              `[{bearer map[]}]`,
		`Bearer realm="unclosed`:              `[{bearer map[]}]`,
		``:                                    `[]`,
		`"`:                                   `[]`,
	} {
		if got := fmt.Sprint(parseChallenges([]string{header})); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", header, got, want)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://ghcr.io/token",service="ghcr.io", Basic realm=x`)
	f.Fuzz(func(_ *testing.T, s string) { parseChallenges([]string{s}) })
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("17", "retry-after: 880.092µs, allowed: 44000/minute")
	f.Fuzz(func(t *testing.T, header, message string) {
		if d := retryAfter(header, message, time.Unix(0, 0)); d < 0 {
			t.Fatalf("%q %q gave %s", header, message, d)
		}
	})
}

func FuzzReadRateLimit(f *testing.F) {
	f.Add("5000", "4999", "1", "1700000000", "core", "Tue, 14 Nov 2023 22:13:20 GMT")
	f.Add("-1", "x", "", "9999999999999999999", "", "")
	f.Fuzz(func(t *testing.T, limit, remaining, used, reset, resource, date string) {
		h := http.Header{
			"X-Ratelimit-Limit": {limit}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Used": {used},
			"X-Ratelimit-Reset": {reset}, "X-Ratelimit-Resource": {resource}, "Date": {date},
		}
		info, ok := readRateLimit(h, time.Unix(1700000000, 0))
		if ok && (info.Limit <= 0 || info.Remaining < 0 || info.Used < 0 || info.Resource == "") || !ok && info != (RateLimitInfo{}) {
			t.Errorf("%v gave %+v", h, info)
		}
	})
}

func FuzzSpacing(f *testing.F) {
	f.Add("retry-after: 880.092µs, allowed: 44000/minute")
	f.Add("allowed: 0/minute")
	f.Fuzz(func(t *testing.T, message string) {
		if d := spacing(message); d <= 0 || d > time.Minute {
			t.Fatalf("%q gave %s", message, d)
		}
	})
}

func TestReadScopes(t *testing.T) {
	for header, want := range map[string]int{"repo, write:packages": 2, "": 0, "read:packages": 1} {
		if got := readScopes(http.Header{"X-Oauth-Scopes": {header}}); got == nil || len(got) != want {
			t.Errorf("%q: %q", header, got)
		}
	}
	if got := readScopes(http.Header{}); got != nil {
		t.Errorf("nothing told: %q", got)
	}
}

// TestEndedByAnotherRequest: what ended one request of a group, and cancelled the others, is
// not taken for the answer to these.
func TestEndedByAnotherRequest(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&Error{Status: 503})
	var e *Error
	if err := ended(ctx); errors.As(err, &e) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	why := errors.New("the caller's reason")
	cancel(why)
	if err := ended(ctx); err != why {
		t.Errorf("got %v", err)
	}
}
