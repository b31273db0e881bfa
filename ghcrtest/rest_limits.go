package ghcrtest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// quota is what a caller may still ask of the API. Users have one for all their
// tokens, the workflows of a repository one together.
type quota struct {
	hourly  int // requests in an hour
	used    int
	reset   time.Time // when the hour is over: a whole second, as the header has it
	spent   []spending
	points  int // of spent
	running int
}

// spending are the points of one request of the last minute.
type spending struct {
	at     time.Time
	points int
}

const limitDocs = restDocs + "/using-the-rest-api/rate-limits-for-the-rest-api"

// quotaOf finds the quota of a caller. The server is locked.
func (s *Server) quotaOf(who identity) *quota {
	key, hourly := "", s.quirks.RESTHourlyAnonymous
	switch a := who.account; {
	case a == nil && s.open:
		hourly = s.quirks.RESTHourly
	case a == nil:
	case a.kind() == workflow:
		key, hourly = "repository "+strings.ToLower(a.Repository), s.quirks.RESTHourlyWorkflow
	default:
		key, hourly = "user "+strings.ToLower(a.Login), s.quirks.RESTHourly
	}
	if s.quotas[key] == nil {
		s.quotas[key] = &quota{hourly: hourly}
	}
	return s.quotas[key]
}

// occupy counts the request among those that are being answered, until what it
// returns is called.
func (x *exchange) occupy() (leave func()) {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.quotaOf(x.who)
	q.running++
	x.api.quota, x.api.crowded = q, s.quirks.RESTConcurrent > 0 && q.running > s.quirks.RESTConcurrent
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.running--
	}
}

// charge counts the request against the limits, and answers if one is used up.
func (x *exchange) charge() bool {
	s := x.server
	if !s.quirks.RESTLimits {
		return true
	}
	cost := 5
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		cost = 1
	}
	now := s.now()
	s.mu.Lock()
	q := x.api.quota
	q.tick(now)
	primary := q.used >= q.hourly
	wait := q.wait(cost, s.quirks.RESTPoints, now)
	free := x.route == RouteRateLimit
	if !free && !primary && wait == 0 && !x.api.crowded {
		q.used++
		if s.quirks.RESTPoints > 0 {
			q.points += cost
			q.spent = append(q.spent, spending{now, cost})
		}
	}
	x.limitHeaders()
	s.mu.Unlock()
	switch {
	case free:
		return true
	case primary:
		x.refuseWith(s.quirks.RESTLimitStatus, "API rate limit exceeded. If you reach out to GitHub Support for help, please include the request ID "+x.w.Header().Get("X-GitHub-Request-Id")+".", limitDocs)
	case wait > 0 || x.api.crowded:
		if s.quirks.RESTRetryAfter {
			if wait == 0 {
				wait = time.Minute
			}
			x.w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		}
		x.refuseWith(s.quirks.RESTLimitStatus, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", limitDocs+"#about-secondary-rate-limits")
	default:
		return true
	}
	return false
}

// tick begins a new hour when one is over, and forgets what is a minute old.
func (q *quota) tick(now time.Time) {
	if !now.Before(q.reset) {
		q.used, q.reset = 0, now.Truncate(time.Second).Add(time.Hour)
	}
	n := 0
	for n < len(q.spent) && now.Sub(q.spent[n].at) >= time.Minute {
		q.points -= q.spent[n].points
		n++
	}
	q.spent = q.spent[n:]
}

// wait is how long it takes until so many points may be spent; 0 is not at all.
func (q *quota) wait(cost, limit int, now time.Time) time.Duration {
	if limit == 0 {
		return 0
	}
	over := q.points + cost - limit
	for _, s := range q.spent {
		if over <= 0 {
			break
		}
		if over -= s.points; over <= 0 {
			return s.at.Add(time.Minute).Sub(now)
		}
	}
	return 0
}

// limitHeaders tells what is left. The server is locked.
func (x *exchange) limitHeaders() {
	if !x.server.quirks.RESTWorkflowHeaders && x.who.workflow() != "" {
		return
	}
	h, q := x.w.Header(), x.api.quota
	h.Set("X-RateLimit-Limit", strconv.Itoa(q.hourly))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(q.hourly-q.used, 0)))
	h.Set("X-RateLimit-Used", strconv.Itoa(q.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(q.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
}

// refund takes back the request from the hour's: a 304 costs nothing, with a login.
func (x *exchange) refund() {
	s := x.server
	if !s.quirks.RESTLimits || x.who.account == nil && !s.open || x.route == RouteRateLimit {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.api.quota.used--
	x.limitHeaders()
}

// rateLimit answers what is left. GitHub's newer version leaves out the double.
func (x *exchange) rateLimit() {
	s := x.server
	if !s.quirks.RESTLimits {
		x.refuseAPI(http.StatusNotFound, "Rate limiting is not enabled.")
		return
	}
	s.mu.Lock()
	q := *x.api.quota
	s.mu.Unlock()
	core := map[string]any{"limit": q.hourly, "used": q.used, "remaining": max(q.hourly-q.used, 0), "reset": q.reset.Unix(), "resource": "core"}
	answer := map[string]any{"resources": map[string]any{"core": core}}
	if x.api.version(x.r) == apiVersions[0] {
		answer["rate"] = core
	}
	x.answerJSON(http.StatusOK, answer)
}
