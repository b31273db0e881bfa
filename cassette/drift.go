package cassette

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// DriftError is what a server answers otherwise than it did.
type DriftError struct{ Drifts []Drift }

// Drift is one answer that is not as it was.
type Drift struct {
	Request     Request
	Recorded    *Interaction // nil if the request was not recorded
	Differences []Difference
}

// Error lists the differences.
func (e *DriftError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cassette: %d answers are not as they were recorded", len(e.Drifts))
	for _, d := range e.Drifts {
		fmt.Fprintf(&b, "\n  %s %s", d.Request.Method, d.Request.URL())
		if d.Recorded == nil {
			b.WriteString("\n    was not recorded")
		}
		for _, diff := range d.Differences {
			b.WriteString("\n    " + diff.String())
		}
	}
	return b.String()
}

// drifting collects differences.
type drifting struct {
	mu     sync.Mutex
	drifts []Drift
}

func (d *drifting) add(found Drift) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drifts = append(d.drifts, found)
}

func (d *drifting) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.drifts) == 0 {
		return nil
	}
	return &DriftError{slices.SortedStableFunc(slices.Values(d.drifts), func(a, b Drift) int {
		return cmp.Compare(a.Request.URL(), b.Request.URL())
	})}
}

// driftTrip sends on what only reads. Tokens are needed for that, so they are
// fetched whatever the method.
func (c *Cassette) driftTrip(req *http.Request) (*http.Response, error) {
	r := routeOf(req.URL)
	_, minted := c.minted(req)
	if !isSafe(req.Method) && r.role != roleToken || minted {
		return c.play.roundTrip(req)
	}
	if r.role == roleToken {
		return c.rec.roundTrip(req, nil)
	}
	l, it, err := c.play.match(req, true)
	if err != nil {
		return nil, err
	}
	if it == nil {
		c.drift.add(Drift{Request: l.request})
		return c.rec.roundTrip(req, nil)
	}
	return c.rec.roundTrip(req, func(now *Interaction) {
		if diffs := compareAnswers(it.Interaction, now); len(diffs) > 0 {
			c.drift.add(Drift{Request: it.Request, Recorded: it.Interaction, Differences: diffs})
		}
	})
}

// volatile are headers that differ each time and mean nothing by it.
var volatile = set("Date", "Etag", "Last-Modified", "X-Github-Request-Id", "X-Poll-Interval", "Retry-After", "Content-Length", "Docker-Upload-Uuid")

// compareAnswers compares with what servers make up taken out.
func compareAnswers(then, now *Interaction) []Difference {
	var diffs []Difference
	differ := func(field, a, b string) {
		if a != b {
			diffs = append(diffs, Difference{field, a, b})
		}
	}
	a, b := &then.Response, &now.Response
	differ("status", fmt.Sprint(a.Status), fmt.Sprint(b.Status))
	differ("error", failureClassOf(a.Error), failureClassOf(b.Error))
	names := map[string]bool{}
	for name := range a.Header {
		names[name] = true
	}
	for name := range b.Header {
		names[name] = true
	}
	for _, name := range sorted(names) {
		if !volatile[name] && !strings.Contains(name, "Ratelimit") {
			differ(name, numberless(strings.Join(a.Header[name], ", ")), numberless(strings.Join(b.Header[name], ", ")))
		}
	}
	if !a.Body.Partial && !b.Body.Partial && (a.Body.Mode == BodyEmpty) == (b.Body.Mode == BodyEmpty) && !a.Body.Redacted && !b.Body.Redacted {
		differ("body", a.Body.key(), b.Body.key())
	} else if (a.Body.Mode == BodyEmpty) != (b.Body.Mode == BodyEmpty) {
		differ("body", a.Body.key(), b.Body.key())
	}
	return diffs
}

func failureClassOf(f *Failure) string {
	if f == nil {
		return ""
	}
	return f.Class
}

func sorted(names map[string]bool) []string {
	var list []string
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
