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
	core    allowance
	others  map[string]*allowance // of resources that do not count with the rest
	spent   []spending
	points  int // of spent
	running int
}

// allowance is how often one may ask in a while.
type allowance struct {
	resource string
	limit    int
	every    time.Duration
	used     int
	reset    time.Time // when the while is over: a whole second, as the header has it
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
		s.quotas[key] = &quota{core: allowance{resource: "core", limit: hourly, every: time.Hour}, others: map[string]*allowance{}}
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
	x.api.allowance = q.of(x.api.resource, s.quirks.RESTDependencyLimit)
	x.api.quota, x.api.crowded = q, s.quirks.RESTConcurrent > 0 && q.running > s.quirks.RESTConcurrent
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.running--
	}
}

// of finds the allowance for a resource. With no limit of its own it counts with the rest.
func (q *quota) of(resource string, limit int) *allowance {
	if resource == "" || limit == 0 {
		return &q.core
	}
	if q.others[resource] == nil {
		q.others[resource] = &allowance{resource: resource, limit: limit, every: time.Minute}
	}
	return q.others[resource]
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
	q, a := x.api.quota, x.api.allowance
	q.tick(now)
	a.tick(now)
	primary := a.used >= a.limit
	wait := q.wait(cost, s.quirks.RESTPoints, now)
	free := x.route == RouteRateLimit
	if !free && !primary && wait == 0 && !x.api.crowded {
		a.used++
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

// tick begins anew when the time is over.
func (a *allowance) tick(now time.Time) {
	if !now.Before(a.reset) {
		a.used, a.reset = 0, now.Truncate(time.Second).Add(a.every)
	}
}

// tick forgets what is a minute old.
func (q *quota) tick(now time.Time) {
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
	h, a := x.w.Header(), x.api.allowance
	h.Set("X-RateLimit-Limit", strconv.Itoa(a.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(a.limit-a.used, 0)))
	h.Set("X-RateLimit-Used", strconv.Itoa(a.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(a.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", a.resource)
}

// refund takes back the request from the hour's: a 304 costs nothing, with a login.
func (x *exchange) refund() {
	s := x.server
	if !s.quirks.RESTLimits || x.who.account == nil && !s.open || x.route == RouteRateLimit {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.api.allowance.used--
	x.limitHeaders()
}

// rateLimit answers what is left. GitHub's newer version leaves out the double.
func (x *exchange) rateLimit() {
	s := x.server
	if !s.quirks.RESTLimits {
		x.refuseAPI(http.StatusNotFound, "Rate limiting is not enabled.")
		return
	}
	resources := map[string]any{}
	s.mu.Lock()
	show := func(a *allowance) {
		a.tick(s.now())
		resources[a.resource] = map[string]any{"limit": a.limit, "used": a.used, "remaining": max(a.limit-a.used, 0), "reset": a.reset.Unix(), "resource": a.resource}
	}
	for _, resource := range []string{"", "dependency_snapshots", "dependency_sbom"} {
		show(x.api.quota.of(resource, s.quirks.RESTDependencyLimit))
	}
	s.mu.Unlock()
	answer := map[string]any{"resources": resources}
	if x.api.version(x.r) == apiVersions[0] {
		answer["rate"] = resources["core"]
	}
	x.answerJSON(http.StatusOK, answer)
}
