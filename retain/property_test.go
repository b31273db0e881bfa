package retain

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// truthOf is what a version points at, whether the planner could read it or not.
type truthOf struct{ children, subjects []oci.Digest }

func truths(inv *Inventory) map[oci.Digest]truthOf {
	all := map[oci.Digest]truthOf{}
	for _, v := range inv.Versions {
		var of truthOf
		for _, tag := range v.Tags {
			if d, _, ok := oci.ParseDigestTag(tag); ok && d != v.Digest {
				of.subjects = append(of.subjects, d)
			}
		}
		if v.Manifest != nil {
			for _, d := range v.Manifest.Manifests {
				of.children = append(of.children, d.Digest)
			}
			if v.Manifest.Subject != nil && v.Manifest.Subject.Digest != v.Digest {
				of.subjects = append(of.subjects, v.Manifest.Subject.Digest)
			}
		}
		all[v.Digest] = of
	}
	return all
}

// checkSafe holds a plan against what is true: truly is the inventory with everything
// read, seen the one that the plan was made on. Whenever the actions are broken off,
// no index that is there lacks what it lists because of them.
func checkSafe(t testing.TB, plan *Plan, seen, truly *Inventory, grace time.Duration) {
	t.Helper()
	of := truths(truly)
	versions := map[oci.Digest]*Version{}
	for i := range seen.Versions {
		versions[seen.Versions[i].Digest] = &seen.Versions[i]
	}
	gone := map[oci.Digest]bool{}
	retags, tagged, untagging := 0, 0, true
	for _, a := range plan.Actions {
		v := versions[a.Digest]
		if v == nil || v.ID != a.Version {
			t.Fatalf("version %d is not the package's", a.Version)
		}
		if a.Do != Delete {
			if !untagging {
				t.Error("tags are changed after something is gone")
			}
			if a.Do == Retag {
				retags++
			}
			continue
		}
		untagging = false
		gone[a.Digest] = true
		switch {
		case v.Unreadable != "" && v.Manifest == nil || v.Manifest.Kind() == oci.KindUnknown:
			t.Errorf("version %d goes and is not known", v.ID)
		case adrift(v, versions) && v.Created.IsZero():
			t.Errorf("version %d goes and has no date", v.ID)
		case adrift(v, versions) && today.Sub(v.Created) < grace:
			t.Errorf("version %d goes and is in its grace", v.ID)
		}
		for _, parent := range truly.Versions {
			if !gone[parent.Digest] && slices.Contains(of[parent.Digest].children, a.Digest) {
				t.Errorf("version %d goes while %d lists it", v.ID, parent.ID)
			}
		}
	}
	for _, v := range truly.Versions {
		for _, subject := range of[v.Digest].subjects {
			if versions[subject] != nil && !gone[subject] && gone[v.Digest] && versions[v.Digest].Manifest != nil {
				t.Errorf("version %d goes, and what it is about stays", v.ID)
			}
		}
		if !gone[v.Digest] && len(v.Tags) > 0 {
			tagged++
		}
	}
	for _, a := range plan.Actions {
		if a.Do == Untag && len(a.Off) == len(a.Tags) {
			tagged--
		}
	}
	anyTagged := slices.ContainsFunc(seen.Versions, func(v Version) bool { return len(v.Tags) > 0 })
	if anyTagged && tagged+retags == 0 {
		t.Error("nothing with a tag is left")
	}
	if len(plan.Needs) == 0 {
		acted := map[int64]bool{}
		for _, a := range plan.Actions {
			acted[a.Version] = true
		}
		if len(acted)+len(plan.Kept) != len(seen.Versions) {
			t.Errorf("%d actions and %d kept of %d versions", len(acted), len(plan.Kept), len(seen.Versions))
		}
	}
}

// adrift tells whether a version has no tag but such as name what is not there.
func adrift(v *Version, listed map[oci.Digest]*Version) bool {
	return !slices.ContainsFunc(v.Tags, func(tag string) bool {
		d, _, ok := oci.ParseDigestTag(tag)
		return !ok || listed[d] != nil
	})
}

// universe is manifests that packages are made of, in an order in which they can have
// been pushed.
type universe []*oci.Manifest

func newUniverse(t testing.TB, r *rand.Rand, n uint64) universe {
	var u universe
	other := imageOf(t, fmt.Sprint("elsewhere ", n), nil)
	pick := func() *oci.Manifest {
		if len(u) == 0 || r.IntN(12) == 0 {
			return other
		}
		return u[r.IntN(len(u))]
	}
	for i := range 4 + r.IntN(11) {
		name := fmt.Sprint(n, " ", i)
		subject := func(f map[string]any) {
			if r.IntN(4) == 0 {
				f["subject"] = pick().Descriptor()
			}
		}
		switch r.IntN(8) {
		case 0, 1, 2:
			entries := []oci.Descriptor{}
			for range 1 + r.IntN(3) {
				entries = append(entries, pick().Descriptor())
			}
			f := map[string]any{"manifests": entries, "annotations": map[string]string{"name": name}}
			subject(f)
			u = append(u, manifest(t, oci.MediaTypeOCIIndex, f))
		case 3:
			if r.IntN(3) > 0 {
				break
			}
			m, err := oci.ParseManifest("application/vnd.example.unknown", []byte(name))
			if err != nil {
				t.Fatal(err)
			}
			u = append(u, m)
		case 4:
			u = append(u, manifest(t, oci.MediaTypeOCIIndex, map[string]any{"manifests": []oci.Descriptor{layer(name, 5)}}))
		default:
			u = append(u, imageOf(t, name, subject))
		}
	}
	return u
}

// list makes a package of a universe: some of it is lost, some can't be read.
func (u universe) list(r *rand.Rand) (seen, truly *Inventory) {
	truly = &Inventory{Host: "ghcr.io", Owner: "acme", Package: "app", Taken: today}
	at := today.AddDate(0, 0, -40)
	for i, m := range u {
		at = at.Add(time.Duration(r.IntN(5)) * 24 * time.Hour)
		if at.After(today) {
			at = today.Add(-time.Hour)
		}
		if r.IntN(15) == 0 {
			continue
		}
		v := Version{ID: int64(i + 1), Digest: m.Digest(), Created: at, Updated: at, Manifest: m}
		if r.IntN(25) == 0 {
			v.Created = time.Time{}
		}
		for _, tag := range []string{"a", "b", "c"} {
			if r.IntN(6) == 0 {
				v.Tags = append(v.Tags, fmt.Sprint(tag, i))
			}
		}
		if r.IntN(7) == 0 {
			v.Tags = append(v.Tags, oci.DigestTag(u[r.IntN(len(u))].Digest())+[]string{"", ".sig"}[r.IntN(2)])
		}
		slices.Sort(v.Tags)
		truly.Versions = append(truly.Versions, v)
	}
	copied := *truly
	seen = &copied
	seen.Versions = slices.Clone(truly.Versions)
	if r.IntN(3) == 0 && len(seen.Versions) > 0 {
		v := &seen.Versions[r.IntN(len(seen.Versions))]
		v.Manifest, v.Unreadable = nil, "404"
	}
	return seen, truly
}

// anyPolicy makes rules of those selectors that the model below knows.
func anyPolicy(t testing.TB, r *rand.Rand, inv *Inventory) *Policy {
	p := &Policy{Rails: loose()}
	p.Rails.Grace = time.Duration(r.IntN(3)) * 48 * time.Hour
	if r.IntN(3) == 0 {
		p.Protect.Tags = patterns(t, fmt.Sprint("a", r.IntN(12)))
	}
	if r.IntN(4) == 0 && len(inv.Versions) > 0 {
		p.Protect.Digests = []oci.Digest{inv.Versions[r.IntN(len(inv.Versions))].Digest}
	}
	for i := range 1 + r.IntN(3) {
		rule := Rule{Name: fmt.Sprint("r", i)}
		switch r.IntN(5) {
		case 0:
			rule.Match.Untagged = true
		case 1:
			rule.Match.Health = []Health{Orphan}
		default:
			rule.Match.Tags = patterns(t, []string{"a*", "b*", "c*", "*", "?1*"}[r.IntN(5)])
			rule.Match.Any = r.IntN(3) == 0
		}
		if r.IntN(4) == 0 {
			rule.Match.OlderThan = time.Duration(r.IntN(20)) * day
		}
		if r.IntN(3) == 0 {
			rule.Keep = &Keep{Last: r.IntN(3), Within: time.Duration(r.IntN(2)*r.IntN(10)) * day}
		}
		if r.IntN(5) > 0 {
			rule.Delete = &When{}
			if r.IntN(3) == 0 {
				rule.Delete.OlderThan = time.Duration(r.IntN(25)) * day
			}
		}
		if r.IntN(4) == 0 {
			rule.Untag = &When{}
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// TestPlansAreSafe over random packages and policies: no plan breaks what stays, takes
// what it must not, or leaves what it should take; it does not depend on the order of
// its input; and reading only what is needed makes the same plan. The last two are
// looked at with some.
func TestPlansAreSafe(t *testing.T) {
	universes := 2500
	if testing.Short() || raceEnabled {
		universes = 150
	}
	const packages = 40
	var next, deleted, reads, versions atomic.Int64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for !t.Failed() {
				seed := uint64(next.Add(1))
				if seed > uint64(universes) {
					return
				}
				r := rand.New(rand.NewPCG(seed, 1))
				u := newUniverse(t, r, seed)
				for n := range packages {
					seen, truly := u.list(r)
					policy := anyPolicy(t, r, truly)
					d, n := checkPlan(t, fmt.Sprintf("universe %d, package %d", seed, n), r, policy, seen, truly)
					deleted.Add(int64(d))
					reads.Add(int64(n))
					versions.Add(int64(len(seen.Versions)))
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d versions in %d packages: %d deleted, %d read", versions.Load(), universes*packages, deleted.Load(), reads.Load())
	if deleted.Load() == 0 {
		t.Error("nothing was ever deleted")
	}
}

func complete(inv *Inventory) bool {
	return !slices.ContainsFunc(inv.Versions, func(v Version) bool { return v.Manifest == nil })
}

// only tells whether a plan does nothing that another does not do.
func only(plan, other *Plan) bool {
	for _, a := range plan.Actions {
		if !slices.ContainsFunc(other.Actions, func(b Action) bool { return a.Version == b.Version && a.Do == b.Do && slices.Equal(a.Off, b.Off) }) {
			return false
		}
	}
	return true
}

var told atomic.Bool // a failing plan was described

func checkPlan(t *testing.T, name string, r *rand.Rand, policy *Policy, seen, truly *Inventory) (deleted, reads int) {
	plan, err := Make(policy, seen, Facts{}, today)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return 0, 0
	}
	fail := func(format string, args ...any) {
		t.Helper()
		told.Store(true)
		t.Errorf("%s: %s\n%s", name, fmt.Sprintf(format, args...), tell(policy, seen, plan))
	}
	if t.Failed() {
		return 0, 0
	}
	if len(plan.Needs) > 0 {
		fail("%d manifests are needed, and all are there", len(plan.Needs))
		return 0, 0
	}
	checkSafe(t, plan, seen, truly, policy.Rails.Grace)
	goes := map[oci.Digest]bool{}
	for _, a := range plan.Actions {
		if a.Do == Delete {
			goes[a.Digest] = true
		}
	}
	for _, a := range plan.Actions {
		for _, tag := range a.Off {
			named := slices.ContainsFunc(policy.Rules, func(r Rule) bool { return r.Untag != nil && len(r.Match.Tags) > 0 && r.Match.Tags[0].Match(tag) })
			d, _, elsewhere := oci.ParseDigestTag(tag)
			if !named || len(policy.Protect.Tags) > 0 && policy.Protect.Tags[0].Match(tag) || elsewhere && d != a.Digest {
				fail("version %d loses the tag %s", a.Version, tag)
			}
		}
	}
	last := slices.ContainsFunc(plan.Kept, func(d Decision) bool { return d.Reason == ReasonLastTagged })
	if want := model(policy, seen); !last && !maps.Equal(goes, want) {
		fail("%d go, and %d should: %v", len(goes), len(want), slices.Sorted(maps.Keys(want)))
	}
	switch r.IntN(4) {
	case 0:
		mixed := *seen
		mixed.Versions = slices.Clone(seen.Versions)
		r.Shuffle(len(mixed.Versions), func(i, j int) {
			mixed.Versions[i], mixed.Versions[j] = mixed.Versions[j], mixed.Versions[i]
		})
		other, err := Make(policy, &mixed, Facts{}, today)
		if err != nil || other.Digest != plan.Digest {
			fail("in another order the plan is another: %v", err)
		}
	case 1, 2:
		var lazy *Plan
		lazy, reads = readAsNeeded(t, policy, seen, Facts{})
		// Next to a manifest that can't be read, what would stay anyway is not read, and
		// why it stays may then be enough for a tag to stay too.
		if got, want := actionsOf(t, lazy), actionsOf(t, plan); got != want && (complete(seen) || !only(lazy, plan)) {
			fail("with what is needed read it is %s", tell(policy, seen, lazy))
		}
	}
	if t.Failed() && !told.Swap(true) {
		fail("that was the plan")
	}
	return len(goes), reads
}

func tell(policy *Policy, inv *Inventory, plan *Plan) string {
	var b strings.Builder
	rules := policy.Canonical()
	fmt.Fprintf(&b, "%s\n", rules)
	for _, v := range inv.Versions {
		fmt.Fprintf(&b, "#%d %s %v created %s", v.ID, shorten(v.Digest), v.Tags, v.Created.Format(time.DateOnly))
		if v.Manifest == nil {
			fmt.Fprint(&b, " unreadable")
		} else {
			for _, d := range v.Manifest.Manifests {
				fmt.Fprint(&b, " lists ", shorten(d.Digest))
			}
			if v.Manifest.Subject != nil {
				fmt.Fprint(&b, " about ", shorten(v.Manifest.Subject.Digest))
			}
		}
		b.WriteByte('\n')
	}
	for _, a := range plan.Actions {
		fmt.Fprintf(&b, "%s #%d %s %s\n", a.Do, a.Version, a.Reason, a.Rule)
	}
	for _, d := range plan.Kept {
		fmt.Fprintf(&b, "keep #%d %s %s blocked %q\n", d.Version, d.Reason, d.Rule, d.Blocked)
	}
	return b.String()
}
