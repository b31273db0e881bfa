package cassette

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotRecorded says that a replay was asked for something that the cassette does
// not have. Test for it with [errors.Is].
var ErrNotRecorded = errors.New("not in the cassette")

// MissError is a request that was not recorded, with what was recorded that comes
// nearest. It is [ErrNotRecorded].
type MissError struct {
	Request Request
	Nearest []Near
	// Reason says why the request could not be sent to a server in place of an answer;
	// empty where that was not tried.
	Reason string
}

// Near is a recorded interaction, and how a request differs from it.
type Near struct {
	Interaction *Interaction
	Used        bool // another request had its answer
	Differences []Difference
}

// Difference is a field of two requests or answers that is not the same.
type Difference struct {
	Field          string
	Recorded, Live string
}

// String writes the difference on one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: recorded %q, now %q", d.Field, d.Recorded, d.Live)
}

// Error says what was asked for, and how that differs from what there is.
func (e *MissError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cassette: %s %s was not recorded", e.Request.Method, e.Request.URL())
	if e.Reason != "" {
		b.WriteString(", and " + e.Reason)
	}
	if len(e.Nearest) == 0 {
		b.WriteString("; the cassette has nothing like it")
	}
	for _, n := range e.Nearest {
		fmt.Fprintf(&b, "\n  nearest is interaction %d, %s %s", n.Interaction.Seq, n.Interaction.Request.Method, n.Interaction.Request.URL())
		switch {
		case len(n.Differences) > 0:
			for _, d := range n.Differences {
				b.WriteString("\n    " + d.String())
			}
		case n.Used:
			b.WriteString("\n    it is the same, and its answer was given already (Options.Repeat allows that)")
		default:
			b.WriteString("\n    it is the same, but not the turn of this one (Options.Order)")
		}
	}
	return b.String()
}

// Permanent tells clients that send a request again when there was no answer that
// there will be none. Package transport asks for it.
func (*MissError) Permanent() bool { return true }

// Is makes every MissError an [ErrNotRecorded].
func (e *MissError) Is(target error) bool { return target == ErrNotRecorded }

const maxNearest = 3

// miss describes a request that nothing matches.
func (p *player) miss(l *live) *MissError {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &MissError{Request: l.request}
	type scored struct {
		Near
		score int
	}
	var best []scored
	for _, it := range p.index.items {
		diffs, score := l.request.compare(&it.Request)
		if score == 0 {
			continue
		}
		if !it.used {
			score++
		}
		best = append(best, scored{Near{it.Interaction, it.used, diffs}, score})
		slices.SortStableFunc(best, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
		best = best[:min(len(best), maxNearest)]
	}
	for _, b := range best {
		e.Nearest = append(e.Nearest, b.Near)
	}
	return e
}

// compare lists how a request differs from a recorded one, and says how much they
// are alike; not at all if neither place nor purpose is the same.
func (r *Request) compare(recorded *Request) (diffs []Difference, score int) {
	a, b := map[string]string{}, map[string]string{}
	var names []string
	for _, list := range [][][2]string{r.fields(), recorded.fields()} {
		for _, f := range list {
			names = append(names, f[0])
		}
	}
	for _, f := range r.fields() {
		a[f[0]] = f[1]
	}
	for _, f := range recorded.fields() {
		b[f[0]] = f[1]
	}
	weight := map[string]int{"path": 16, "method": 8, "query": 8, "host": 4}
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if a[name] == b[name] {
			score += 2 * max(weight[name], 1)
			continue
		}
		diffs = append(diffs, Difference{Field: name, Recorded: b[name], Live: a[name]})
	}
	if !recorded.Body.Partial && recorded.Body.key() != r.Body.key() {
		diffs = append(diffs, Difference{Field: "body", Recorded: recorded.Body.key(), Live: r.Body.key()})
	} else {
		score += 4
	}
	if a["path"] != b["path"] && (r.Route != recorded.Route || r.Role != recorded.Role) {
		return diffs, 0
	}
	return diffs, score
}

// UnusedError lists what was recorded and not asked for: the program does less
// than it did, or something else.
type UnusedError struct{ Interactions []*Interaction }

// Error lists the first of them.
func (e *UnusedError) Error() string {
	const most = 10
	var b strings.Builder
	fmt.Fprintf(&b, "cassette: %d recorded interactions were not asked for (Options.AllowUnused allows that):", len(e.Interactions))
	for n, i := range e.Interactions {
		if n == most {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Interactions)-most)
			break
		}
		fmt.Fprintf(&b, "\n  %d: %s %s -> %d", i.Seq, i.Request.Method, i.Request.URL(), i.Response.Status)
	}
	return b.String()
}
