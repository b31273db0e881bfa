package transport

import (
	"net/http"
	"time"
)

// Limits that GitHub documents for its REST API, for each user. They are on top of
// the number of requests in an hour, which its answers tell
// (docs/quirks.md#rest-points).
const (
	pointsPerMinute = 900
	readPoints      = 1
	writePoints     = 5
	maxAtATime      = 100
)

// spreadFrom is the part of a limit in percent from whose use on the rest is spread
// over the time that is left.
const spreadFrom = 80

// After a refusal the points in use grow again by a step at a time. It is small and
// seldom, since trying out whether others still use the limit costs a refusal, and
// that a minute or more.
const (
	raiseStep  = pointsPerMinute / 10
	raiseEvery = 5 * time.Minute
)

// minAllowance is how many points a minute are kept in use, however many others
// seem to use the same limit.
const minAllowance = 60

// budget is the arithmetic of what one credential may send to one host and when.
// It has no clock of its own.
type budget struct {
	api bool // the limits are those of GitHub's API

	// until is when it goes on after a refusal. Then one request goes alone, to
	// learn whether it is over, and the others when that is answered: careful.
	until    time.Time
	because  *Error
	careful  bool
	refusals int // one after another
	closedAt int // the number of the last request that was sent by then

	sent         int // requests so far
	flying       int // of these the ones not answered yet
	flyingPoints int
	flyingOn     map[string]int // by resource
	spent        []spending     // of the last minute
	allowance    int            // points that may be spent in a minute
	raised       time.Time      // when the allowance last changed

	windows map[string]*window
	spacing time.Duration // between requests to a registry, for a while after its refusal
	spaced  time.Time     // when that ends
	last    time.Time     // when the last request was sent
}

type spending struct {
	at     time.Time // of the answer: the server counted it before
	points int
}

// window is one period of a primary limit.
type window struct{ RateLimitInfo }

// end is when the period is over for sure: its end is told in whole seconds.
func (w *window) end() time.Time {
	if w.Remaining <= 0 {
		return w.Reset.Add(time.Second)
	}
	return w.Reset
}

// forever is a wait for another request's answer.
const forever = time.Duration(1<<63 - 1)

// delay tells how long a request has to wait, and why. Zero is that it may go.
func (b *budget) delay(now time.Time, resource string, points int, patience time.Duration) (time.Duration, WaitReason) {
	if wait := b.until.Sub(now); wait > 0 {
		return wait, WaitLimited
	}
	if !b.api {
		if now.Before(b.spaced) {
			return max(b.last.Add(b.spacing).Sub(now), 0), WaitSpread
		}
		return 0, ""
	}
	if b.careful && b.flying > 0 || b.flying >= b.maxFlying() {
		return forever, WaitTurn
	}
	if wait := b.pointsDelay(now, points); wait > 0 {
		return wait, WaitPoints
	}
	w := b.windows[resource]
	if w == nil || !now.Before(w.end()) {
		return 0, ""
	}
	left := w.Remaining - b.flyingOn[resource]
	switch {
	case w.Remaining <= 0:
		return w.end().Sub(now), WaitLimited
	case left <= 0:
		return forever, WaitTurn // some may turn out to have cost nothing
	case w.Remaining*100 <= w.Limit*(100-spreadFrom):
		step := min(w.Reset.Sub(now)/time.Duration(left), patience)
		return max(b.last.Add(step).Sub(now), 0), WaitSpread
	}
	return 0, ""
}

// opens is when requests may go on that count on a limit, if it is used up.
func (b *budget) opens(resource string) time.Time {
	if w := b.windows[resource]; w != nil && w.Remaining <= 0 {
		return later(b.until, w.end())
	}
	return b.until
}

// maxFlying is how many requests may be on their way. While others use the limit
// too it may be met at any time, and then all that are on their way are refused.
func (b *budget) maxFlying() int {
	if b.allowance == pointsPerMinute {
		return maxAtATime
	}
	return 1 + 2*b.allowance/pointsPerMinute
}

// pointsDelay is the time until the points of the last minute leave room. A request
// counts from when it is sent to a minute after its answer, so that it does not
// matter when in between the server counts it.
func (b *budget) pointsDelay(now time.Time, points int) time.Duration {
	gone := 0
	for gone < len(b.spent) && !b.spent[gone].at.Add(time.Minute).After(now) {
		gone++
	}
	b.spent = b.spent[gone:]
	b.raise(now)
	over := b.inUse() + points - b.allowance
	if over <= 0 {
		return 0
	}
	for _, s := range b.spent {
		if over -= s.points; over <= 0 {
			return s.at.Add(time.Minute).Sub(now)
		}
	}
	return forever
}

func (b *budget) inUse() int {
	sum := b.flyingPoints
	for _, s := range b.spent {
		sum += s.points
	}
	return sum
}

// raise gives back what was taken from the allowance, step by step.
func (b *budget) raise(now time.Time) {
	for b.allowance < pointsPerMinute && now.Sub(b.raised) >= raiseEvery {
		b.raised = b.raised.Add(raiseEvery)
		b.allowance = min(b.allowance+raiseStep, pointsPerMinute)
	}
}

// send notes that a request goes out, and returns its number.
func (b *budget) send(now time.Time, resource string, points int) int {
	b.sent++
	b.last = now
	b.flying++
	b.flyingPoints += points
	if b.flyingOn == nil {
		b.flyingOn = map[string]int{}
	}
	b.flyingOn[resource]++
	return b.sent
}

// answered notes the end of a request: whether there was an answer, what it told of
// limits, and whether it refused for one.
func (b *budget) answered(now time.Time, ticket ticket, answer bool, info RateLimitInfo, e *Error) {
	b.flying--
	b.flyingPoints -= ticket.points
	if b.api {
		b.spent = append(b.spent, spending{now, ticket.points})
	}
	b.flyingOn[ticket.resource]--
	limited := e != nil && e.rateLimited()
	// What was sent before the gate closed is of the same wave as what closed it.
	later := ticket.number > b.closedAt
	if later && !limited && answer {
		b.careful, b.refusals, b.because = false, 0, nil
	}
	if info.Limit > 0 {
		b.learn(now, info)
	}
	if limited {
		kept := *e // who was refused has e, and changes it
		b.refused(now, later, ticket.resource, info, &kept)
	}
}

// learn takes over what an answer told. Answers overtake each other, and within a
// period what is left only grows less. One that was long on its way seems to tell of
// a later end, so the earliest end counts; of the period before is only what has
// ended by now.
func (b *budget) learn(now time.Time, info RateLimitInfo) {
	w := b.windows[info.Resource]
	switch {
	case w == nil:
		if b.windows == nil {
			b.windows = map[string]*window{}
		}
		w = &window{info}
		b.windows[info.Resource] = w
	case !now.Before(w.end()), info.Reset.After(w.Reset.Add(skew)):
		w.RateLimitInfo = info
	case info.Remaining >= w.Remaining, info.Reset.Before(w.Reset.Add(-skew)) && !info.Reset.After(now.Add(skew)):
		return
	default:
		if w.Reset.Before(info.Reset) {
			info.Reset = w.Reset
		}
		w.RateLimitInfo = info
	}
	if w.Remaining == 0 {
		b.close()
	}
}

// close makes what comes after a wait begin with one request alone.
func (b *budget) close() {
	b.careful = true
	b.closedAt = b.sent
}

// refused closes the gate. Only a refusal after the last one makes waits longer.
func (b *budget) refused(now time.Time, again bool, resource string, info RateLimitInfo, e *Error) {
	if !b.api {
		b.refusedByRegistry(now, e)
		return
	}
	wait := e.RetryAfter
	if again {
		wait = max(wait, firstWait<<min(b.refusals, 12))
	}
	primary := isPrimary(info)
	switch {
	case primary && info.Resource != resource:
		// No period of that name holds back the requests that are refused for it.
		wait = max(wait, info.Reset.Add(time.Second).Sub(now))
		if until := now.Add(wait); until.After(b.until) {
			b.until = until
		}
	case primary:
		// Whatever was told of the period, nothing is left of it, and it is not over.
		w := b.windows[resource]
		if w.Remaining > 0 {
			w.RateLimitInfo = info
		}
		if until := now.Add(wait); until.After(w.Reset) {
			w.Reset = until
		}
	case again && e.RetryAfter == 0:
		wait = secondaryWait << min(b.refusals, 12)
		fallthrough
	default:
		if until := now.Add(wait); until.After(b.until) {
			b.until = until
		}
	}
	if again {
		b.refusals++
	}
	if again && !primary {
		// Alone, this many points would have been well. Others use the limit too.
		b.allowance = min(max(b.inUse()*9/10, minAllowance), pointsPerMinute)
		b.raised = now
	}
	b.because = e
	b.close()
}

// isPrimary tells the limit of a period from all others: nothing is left of it.
func isPrimary(info RateLimitInfo) bool { return info.Limit > 0 && info.Remaining == 0 }

func (b *budget) refusedByRegistry(now time.Time, e *Error) {
	wait := e.RetryAfter
	if e.Status == http.StatusForbidden {
		wait = max(wait, secondaryWait)
	}
	if wait <= 0 {
		return
	}
	if until := now.Add(wait); until.After(b.until) {
		b.until, b.because, b.closedAt = until, e, b.sent
	}
	b.spacing = spacing(e.Message)
	b.spaced = b.until.Add(time.Minute)
}
