package retain

import (
	"cmp"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// State is what a plan has become of a version.
type State struct {
	// Listed is false if the plan does not have the version at all.
	Listed bool     `json:"listed"`
	Do     Verb     `json:"do,omitempty"` // empty if it stays as it is
	Rule   string   `json:"rule,omitempty"`
	Reason Reason   `json:"reason,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Change string   `json:"change,omitempty"` // the tags that are taken off or given
}

// Difference is a version of which two plans say different things.
type Difference struct {
	Version int64      `json:"version"`
	Digest  oci.Digest `json:"digest"`
	Before  State      `json:"before"`
	After   State      `json:"after"`
}

// Diff returns the versions of which two plans for the same package say different
// things, by number. The path that keeps a version does not count.
//
// Errors: [oci.ErrInvalid] for plans of two packages, or that are not made yet.
func Diff(a, b *Plan) ([]Difference, error) {
	if a.Host != b.Host || a.Owner != b.Owner || a.Package != b.Package {
		return nil, oci.Invalid("one plan is for %s/%s/%s and the other for %s/%s/%s", a.Host, a.Owner, a.Package, b.Host, b.Owner, b.Package)
	}
	if len(a.Needs)+len(b.Needs)+len(a.NeedsLabels)+len(b.NeedsLabels) > 0 {
		return nil, oci.Invalid("a plan is not made yet: manifests must be read first")
	}
	found := map[int64]*Difference{}
	of := func(id int64, d oci.Digest) *Difference {
		if found[id] == nil {
			found[id] = &Difference{Version: id, Digest: d}
		}
		return found[id]
	}
	a.states(func(id int64, d oci.Digest, s State) { of(id, d).Before = s })
	b.states(func(id int64, d oci.Digest, s State) { of(id, d).After = s })
	var list []Difference
	for _, d := range found {
		if !d.Before.equal(d.After) {
			list = append(list, *d)
		}
	}
	slices.SortFunc(list, func(a, b Difference) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}

func (s State) equal(o State) bool {
	return s.Listed == o.Listed && s.Do == o.Do && s.Rule == o.Rule && s.Reason == o.Reason && s.Change == o.Change && slices.Equal(s.Tags, o.Tags)
}

// states tells what becomes of each version.
func (p *Plan) states(each func(id int64, d oci.Digest, s State)) {
	for _, a := range p.Actions {
		s := State{Listed: true, Do: a.Do, Rule: a.Rule, Reason: a.Reason, Tags: a.Tags}
		for _, tag := range a.Off {
			s.Change += " -" + tag
		}
		if a.On != "" {
			s.Change = " +" + a.On
		}
		each(a.Version, a.Digest, s)
	}
	for _, d := range p.Kept {
		each(d.Version, d.Digest, State{Listed: true, Rule: d.Rule, Reason: d.Reason, Tags: d.Tags})
	}
}
