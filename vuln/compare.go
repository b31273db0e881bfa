package vuln

import (
	"fmt"
	"slices"
	"strings"
)

// Difference is what changed from one report to another. Findings about the repository
// only are left out.
type Difference struct {
	Added     []Vulnerability `json:"added"`
	Fixed     []Vulnerability `json:"fixed"` // gone, as a complete report says
	Unchanged []Vulnerability `json:"unchanged"`
	Changed   []Change        `json:"changed"` // of another severity
	// Unsure are findings of the first that the second lacks without being complete: it
	// does not know that they are gone.
	Unsure []Vulnerability `json:"unsure,omitempty"`
	// Doubts say which of the reports does not know everything. What is added may
	// then have been there before.
	Doubts []string `json:"doubts,omitempty"`
}

// Change is a finding whose severity changed.
type Change struct {
	Before Severity      `json:"before"`
	After  Vulnerability `json:"after"`
}

// Compare tells what changed from one report to the next. A finding is the same if it has
// the same CVE or GitHub's id, or else any id, in a package of the same name, of whatever
// version. Of several that are the same, each has one counterpart.
func Compare(before, after *VulnerabilityReport) Difference {
	d := Difference{Added: []Vulnerability{}, Fixed: []Vulnerability{}, Unchanged: []Vulnerability{}, Changed: []Change{}}
	for _, side := range []struct {
		name string
		r    *VulnerabilityReport
	}{{"before", before}, {"after", after}} {
		switch {
		case !side.r.Scanned():
			d.Doubts = append(d.Doubts, fmt.Sprintf("%s: %s is not scanned, as far as is known", side.name, side.r.Ref))
		case !side.r.Complete():
			d.Doubts = append(d.Doubts, fmt.Sprintf("%s: not everything of %s could be read", side.name, side.r.Ref))
		}
	}
	old := before.Image()
	seen := make([]bool, len(old))
	places := map[[2]string][]int{} // of old, by id and name
	for i := range old {
		for _, key := range old[i].sameness() {
			places[key] = append(places[key], i)
		}
	}
	for _, v := range after.Image() {
		i := -1
		for _, key := range v.sameness() {
			list := places[key]
			for len(list) > 0 && seen[list[0]] {
				list = list[1:]
			}
			places[key] = list
			if i < 0 && len(list) > 0 {
				i = list[0]
			}
		}
		switch {
		case i < 0:
			d.Added = append(d.Added, v)
			continue
		case old[i].Severity == v.Severity:
			d.Unchanged = append(d.Unchanged, v)
		default:
			d.Changed = append(d.Changed, Change{old[i].Severity, v})
		}
		seen[i] = true
	}
	for i, v := range old {
		switch {
		case seen[i]:
		case after.Complete():
			d.Fixed = append(d.Fixed, v)
		default:
			d.Unsure = append(d.Unsure, v)
		}
	}
	return d
}

// sameness are the ids that tell a finding from others, each with the name of the package.
// A distribution's id stands for several flaws, so it only counts where there is no other.
func (v *Vulnerability) sameness() [][2]string {
	ids := v.IDs()
	if idRank(v.ID) < 2 {
		ids = slices.DeleteFunc(ids, func(id string) bool { return idRank(id) == 2 })
	}
	names := v.Package.names()
	if len(names) == 0 {
		names = []string{""}
	}
	var keys [][2]string
	for _, id := range ids {
		for _, name := range names {
			keys = append(keys, [2]string{strings.ToUpper(id), name})
		}
	}
	return keys
}
