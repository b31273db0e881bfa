package transport

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RateLimitInfo is how much of a limit is left, as the headers X-RateLimit-* of
// GitHub's REST API tell with each answer. The registry tells nothing
// (docs/quirks.md#registry-read-limit). The zero value is nothing told.
type RateLimitInfo struct {
	Host       string
	Resource   string // what the limit is on: "core"
	Credential string // where the credential was found, as in [Error]
	Limit      int    // requests in a period, which is an hour
	Remaining  int
	Used       int
	Reset      time.Time // when the period ends, by this machine's clock
}

// skew is how far apart clocks may be before a server's is taken into account.
// The Date header has whole seconds.
const skew = 2 * time.Second

// maxPeriod is how long a period may have to go for its end to be believed. Told in
// milliseconds it is in another age, and to wait for it is to wait for ever.
const maxPeriod = 24 * time.Hour

// coreResource is what requests count on that say nothing else.
const coreResource = "core"

// readRateLimit reads the headers of an answer; ok is false if there are none.
func readRateLimit(h http.Header, now time.Time) (info RateLimitInfo, ok bool) {
	number := func(name string) int {
		n, err := strconv.Atoi(strings.TrimSpace(h.Get("X-RateLimit-" + name)))
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	limit, remaining, used, reset := number("Limit"), number("Remaining"), number("Used"), number("Reset")
	if limit <= 0 || remaining < 0 || reset < 0 {
		return RateLimitInfo{}, false
	}
	if used < 0 {
		used = max(limit-remaining, 0)
	}
	at := time.Unix(int64(reset), 0)
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		if off := now.Sub(date); off.Abs() > skew {
			at = at.Add(off)
		}
	}
	if at.After(now.Add(maxPeriod)) {
		return RateLimitInfo{}, false
	}
	return RateLimitInfo{
		Resource: cmp.Or(h.Get("X-RateLimit-Resource"), coreResource),
		Limit:    limit, Remaining: remaining, Used: used, Reset: at,
	}, true
}

// RateLimits returns what was last told of each limit, by host, resource and
// credential. Periods that have ended are left out.
func (c *Client) RateLimits() []RateLimitInfo {
	now := time.Now()
	var list []RateLimitInfo
	for _, g := range c.gates.all() {
		list = append(list, g.limits(now)...)
	}
	slices.SortFunc(list, func(a, b RateLimitInfo) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Credential, b.Credential))
	})
	return list
}

// Counts is how many requests a client has sent to a host and what limits did to
// them.
type Counts struct {
	Host       string
	Requests   int64         // physical attempts
	Retries    int64         // of these the second or later ones of one call
	Unchanged  int64         // answered 304, which costs nothing of GitHub's primary limit
	Waits      int64         // requests that were held back, for whatever reason
	Waited     time.Duration // in all
	Primary    int64         // refused because the limit of a period was used up
	Secondary  int64         // refused because of any other limit
	LimitedFor time.Duration // for how long refusals asked to wait, in all
}

// Counts returns the counts of each host that was spoken to.
func (c *Client) Counts() []Counts { return c.gates.counted() }

// WaitReason is why a request is held back.
type WaitReason string

// The reasons to hold a request back.
const (
	WaitLimited WaitReason = "a limit was reached"
	WaitSpread  WaitReason = "what is left of the limit is spread over the time to its end"
	WaitPoints  WaitReason = "as many requests were sent as GitHub takes in a minute"
	WaitTurn    WaitReason = "others are on their way"
)

// Wait is a request that is held back. It is told before the wait.
type Wait struct {
	Op, Target string
	Host       string
	Credential string
	Reason     WaitReason
	Until      time.Time // zero where it depends on other requests
}

// WaitObserver is an [Observer] that is told of waits of a second or more too.
type WaitObserver interface {
	Wait(Wait)
}
