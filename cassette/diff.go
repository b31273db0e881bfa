package cassette

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Change is one way in which a recording is not as another.
type Change struct {
	A, B *Interaction // nil where the other has no counterpart
	// Differences are of the requests' bodies and of the answers, with what servers make
	// up each time taken out: Recorded is A's, and Live is B's.
	Differences []Difference
}

// Diff compares two cassettes that were opened for [ModeReplay]: which of the requests
// were made in one alone, and which were answered otherwise. The same request may come
// at another time, with another upload session or token, and to another port of this
// machine, and a login may take more steps or fewer. Of answers in JSON it is told which
// fields differ, but for times. The changes are in the order of a's interactions, then
// of b's.
//
// Errors: [oci.ErrIntegrity] for a body that was changed.
func Diff(a, b *Cassette) ([]Change, error) {
	left, right := neutral(a), neutral(b)
	partner := map[*neutralized]*neutralized{}
	// First what is the same to the body, then what differs in that alone.
	for _, key := range []func(*neutralized) string{(*neutralized).whole, (*neutralized).bodiless} {
		free := map[string][]*neutralized{}
		for _, n := range right {
			if partner[n] == nil {
				free[key(n)] = append(free[key(n)], n)
			}
		}
		for _, n := range left {
			if list := free[key(n)]; partner[n] == nil && len(list) > 0 {
				partner[n], partner[list[0]] = list[0], n
				free[key(n)] = list[1:]
			}
		}
	}
	var changes []Change
	for _, n := range bySeq(left) {
		other := partner[n]
		if other == nil {
			if !n.isLoginStepOf(right) {
				changes = append(changes, Change{A: n.original})
			}
			continue
		}
		diffs := compareAnswers(&n.Interaction, &other.Interaction)
		if k := slices.IndexFunc(diffs, func(d Difference) bool { return d.Field == "body" }); k >= 0 {
			fields, ok, err := compareJSON(a, &n.Response.Body, b, &other.Response.Body)
			if err != nil {
				return nil, err
			}
			if ok {
				diffs = slices.Replace(diffs, k, k+1, fields...)
			}
		}
		if x, y := n.Request.Body.key(), other.Request.Body.key(); x != y {
			diffs = append([]Difference{{"request's body", x, y}}, diffs...)
		}
		if len(diffs) > 0 {
			changes = append(changes, Change{n.original, other.original, diffs})
		}
	}
	for _, n := range bySeq(right) {
		if partner[n] == nil && !n.isLoginStepOf(left) {
			changes = append(changes, Change{B: n.original})
		}
	}
	return changes, nil
}

// neutralized is an interaction without the ports of this machine, and without what
// versions of answers are called.
type neutralized struct {
	Interaction
	original *Interaction
}

func (n *neutralized) bodiless() string { return n.Request.key() }
func (n *neutralized) whole() string    { return n.Request.key() + n.Request.Body.key() }

// isLoginStepOf tells whether the others have steps of this kind too.
func (n *neutralized) isLoginStepOf(others []*neutralized) bool {
	r := &n.Request
	return slices.ContainsFunc(others, func(o *neutralized) bool {
		switch {
		case r.Role == roleToken:
			return o.Request.Role == roleToken && o.Request.tokenKey() == r.tokenKey()
		case r.Role == roleRegistry && isRefusal(n.Response.Status):
			return isRefusal(o.Response.Status) && o.Request.refusalKey() == r.refusalKey()
		}
		return false
	})
}

// neutral lists the interactions in the order in which they were begun.
func neutral(c *Cassette) []*neutralized {
	var list []*neutralized
	for i := range c.Interactions() {
		n := &neutralized{*i, i}
		if isLoopback(n.Request.Host) {
			n.Request.Host = "localhost"
		}
		if n.Request.Header.Get("If-None-Match") != "" {
			n.Request.Header = n.Request.Header.Clone()
			n.Request.Header.Set("If-None-Match", "{etag}")
		}
		n.Response.Header = http.Header{}
		for name, values := range i.Response.Header {
			for _, v := range values {
				n.Response.Header[name] = append(n.Response.Header[name], portless(v))
			}
		}
		list = append(list, n)
	}
	slices.SortStableFunc(list, func(a, b *neutralized) int { return cmp.Compare(a.Time.Start, b.Time.Start) })
	return list
}

func bySeq(list []*neutralized) []*neutralized {
	return slices.SortedFunc(slices.Values(list), func(a, b *neutralized) int { return cmp.Compare(a.Seq, b.Seq) })
}

var loopbackPort = pattern(`\b(?:localhost|127\.0\.0\.1|\[::1\]):[0-9]{1,5}\b`)

func portless(s string) string { return loopbackPort().ReplaceAllLiteralString(s, "localhost") }

// maxFields is how many differences of one document are listed.
const maxFields = 8

// compareJSON compares two bodies if both are JSON of a size to be looked at.
func compareJSON(a *Cassette, x *Body, b *Cassette, y *Body) (diffs []Difference, ok bool, err error) {
	one, ok1, err1 := a.json(x)
	other, ok2, err2 := b.json(y)
	if err := cmp.Or(err1, err2); err != nil || !ok1 || !ok2 {
		return nil, false, err
	}
	diffs = compareValues("body", one, other)
	if n := len(diffs); n > maxFields {
		diffs = append(diffs[:maxFields], Difference{"body", fmt.Sprintf("and %d more", n-maxFields), ""})
	}
	return diffs, true, nil
}

func (c *Cassette) json(b *Body) (v any, ok bool, err error) {
	if b.Size > maxText || b.Mode == BodyElided && c.play.elsewhere == nil {
		return nil, false, nil
	}
	r, err := c.OpenBody(b)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, false, err
	}
	err = json.Unmarshal([]byte(portless(string(data))), &v)
	return v, err == nil, nil
}

// compareValues lists the fields that are not the same. Two times are.
func compareValues(path string, a, b any) (diffs []Difference) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			all := maps.Clone(x)
			maps.Copy(all, y)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				diffs = append(diffs, compareValues(path+"."+name, x[name], y[name])...)
			}
			return diffs
		}
	case []any:
		if y, ok := b.([]any); ok && len(x) == len(y) {
			for n := range x {
				diffs = append(diffs, compareValues(path+"["+strconv.Itoa(n)+"]", x[n], y[n])...)
			}
			return diffs
		}
	case string:
		if y, ok := b.(string); ok && isTime(x) && isTime(y) {
			return nil
		}
	}
	if x, y := jsonText(a), jsonText(b); x != y {
		return []Difference{{path, x, y}}
	}
	return nil
}

func isTime(s string) bool { _, err := time.Parse(time.RFC3339, s); return err == nil }

// jsonText is short.
func jsonText(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(data) > 100 {
		return fmt.Sprintf("%.97s…", data)
	}
	return string(data)
}
