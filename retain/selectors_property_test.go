package retain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// richUniverse is like newUniverse, with platforms, annotations, sizes, and indexes that
// list something as what it is not.
func richUniverse(t testing.TB, r *rand.Rand, n uint64) universe {
	var u universe
	pick := func() *oci.Manifest { return u[r.IntN(len(u))] }
	for i := range 5 + r.IntN(10) {
		name := fmt.Sprint(n, " ", i)
		change := func(f map[string]any) {
			notes := map[string]string{"name": name}
			if r.IntN(3) == 0 {
				notes["expires-after"] = []string{"5d", "90d", "2026-06-01", "soon"}[r.IntN(4)]
			}
			f["annotations"] = notes
			if i > 0 && r.IntN(5) == 0 {
				f["subject"] = pick().Descriptor()
			}
		}
		if i > 1 && r.IntN(3) == 0 {
			entries := []oci.Descriptor{}
			for range 1 + r.IntN(3) {
				d := pick().Descriptor()
				if r.IntN(3) > 0 {
					d.Platform = &oci.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[r.IntN(2)]}
				}
				if r.IntN(8) == 0 {
					d.MediaType = "application/vnd.example.layer"
				}
				entries = append(entries, d)
			}
			f := map[string]any{"manifests": entries}
			change(f)
			u = append(u, manifest(t, oci.MediaTypeOCIIndex, f))
			continue
		}
		u = append(u, imageOf(t, name, func(f map[string]any) {
			f["layers"] = []oci.Descriptor{layer("base", 1000), layer(name, int64(r.IntN(3000)))}
			change(f)
		}))
	}
	return u
}

func richPolicy(t testing.TB, r *rand.Rand, inv *Inventory) (*Policy, Facts) {
	p := &Policy{Rails: loose()}
	p.Rails.Grace = time.Duration(r.IntN(3)) * 48 * time.Hour
	facts := Facts{Lists: map[string][]string{"open": {"a1", "b2", "c3", "a4"}, "tags": {"a1", "a2", "b3", "c5"}}}
	some := func() *Version { return &inv.Versions[r.IntN(len(inv.Versions))] }
	if r.IntN(4) == 0 {
		facts.InUse = map[oci.Digest]string{some().Digest: "x"}
	}
	if r.IntN(4) == 0 {
		facts.InUseTags = map[string]string{fmt.Sprint("b", r.IntN(12)): "x"}
	}
	one := func(n int) bool { return r.IntN(n) == 0 }
	for i := range 1 + r.IntN(4) {
		rule := Rule{Name: fmt.Sprint("r", i)}
		m := &rule.Match
		switch r.IntN(4) {
		case 0:
			m.Untagged = true
		case 1:
			m.Tags = patterns(t, []string{"a*", "b*", "c*", "*", "re:(?P<l>[ab]).*"}[r.IntN(5)])
			m.Any = one(3)
		case 2:
			m.TagsFrom = "tags"
		}
		if m.Tags != nil && one(3) {
			m.Except = patterns(t, fmt.Sprint([]string{"a", "b"}[r.IntN(2)], r.IntN(9)))
		}
		if one(5) {
			m.Digests = []oci.Digest{some().Digest, some().Digest}
		}
		if one(5) {
			m.Roles = []oci.Role{[]oci.Role{oci.RoleImage, oci.RoleIndex, oci.RoleChild, oci.RoleReferrer}[r.IntN(4)]}
		}
		if one(6) {
			m.Health = []Health{[]Health{Ghost, Partial, Orphan, Dangling}[r.IntN(4)]}
		}
		if one(6) {
			m.Annotations = map[string]Pattern{"expires-after": patterns(t, "*d")[0]}
		}
		if one(6) {
			m.Labels = map[string]Pattern{"team": patterns(t, "a")[0]}
		}
		if one(5) {
			m.Platforms = []string{"linux/amd64"}
		}
		switch r.IntN(8) {
		case 0:
			m.LargerThan = 2500
		case 1:
			m.SmallerThan = 2500
		}
		if one(4) {
			m.OlderThan = time.Duration(r.IntN(20)) * day
		} else if one(5) {
			m.YoungerThan = time.Duration(1+r.IntN(30)) * day
		}
		when := func() *When {
			w := &When{}
			if one(3) {
				w.OlderThan = time.Duration(r.IntN(25)) * day
			}
			if one(4) {
				w.NotIn = "open"
			}
			if one(4) {
				w.Expired = "expires-after"
			}
			return w
		}
		if one(3) {
			rule.Keep = &Keep{Last: r.IntN(3), AtLeast: r.IntN(3), Days: r.IntN(2), Weeks: r.IntN(2), Whole: one(2)}
			switch r.IntN(3) {
			case 0:
				rule.Keep.Per = "platform"
			case 1:
				if len(m.Tags) > 0 && m.Tags[0].hasGroup("l") {
					rule.Keep.Per = "l"
				}
			}
			if one(3) {
				rule.Keep.Order = ByUpdated
			}
		}
		switch {
		case m.Untagged && one(4):
			rule.Retag = "saved-{id}"
		case one(8):
			rule.Report = true
		default:
			if !one(5) {
				rule.Delete = when()
			}
			if m.byTag() && one(3) {
				rule.Untag = when()
			}
		}
		p.Rules = append(p.Rules, rule)
	}
	return p, facts
}

// TestPlansOfAllSelectorsAreSafe is as [TestPlansAreSafe], with all that a policy can say.
// No model says what should go; reading only what is needed makes the same plan.
func TestPlansOfAllSelectorsAreSafe(t *testing.T) {
	universes := 400
	if testing.Short() || raceEnabled {
		universes = 60
	}
	deleted := 0
	for seed := range uint64(universes) {
		r := rand.New(rand.NewPCG(seed, 7))
		u := richUniverse(t, r, seed)
		for n := range 20 {
			seen, truly := u.list(r)
			if len(seen.Versions) == 0 {
				continue
			}
			label(r, seen)
			policy, facts := richPolicy(t, r, truly)
			plan, err := Make(policy, seen, facts, today)
			if err != nil || len(plan.Needs)+len(plan.NeedsLabels) > 0 {
				t.Fatalf("universe %d, package %d: %v, needs %v, %v", seed, n, err, plan.Needs, plan.NeedsLabels)
			}
			checkSafe(t, plan, seen, truly, policy.Rails.Grace)
			mixed := *seen
			mixed.Versions = slices.Clone(seen.Versions)
			r.Shuffle(len(mixed.Versions), func(i, j int) {
				mixed.Versions[i], mixed.Versions[j] = mixed.Versions[j], mixed.Versions[i]
			})
			if other, err := Make(policy, &mixed, facts, today); err != nil || other.Digest != plan.Digest {
				t.Errorf("in another order the plan is another: %v", err)
			}
			lazy, _ := readAsNeeded(t, policy, seen, facts)
			if got, want := actionsOf(t, lazy), actionsOf(t, plan); got != want && (complete(seen) || !only(lazy, plan)) {
				t.Errorf("with what is needed read it is %s", tell(policy, seen, lazy))
			}
			if t.Failed() {
				t.Fatalf("universe %d, package %d: %s", seed, n, tell(policy, seen, plan))
			}
			deleted += len(plan.Actions)
		}
	}
	if deleted == 0 {
		t.Error("nothing was ever done")
	}
}

// label says what is known of the configs.
func label(r *rand.Rand, inv *Inventory) {
	for i := range inv.Versions {
		v := &inv.Versions[i]
		switch n := r.IntN(9); {
		case v.Manifest == nil:
		case n < 3:
			v.Labels = map[string]string{"team": "a"}
		case n < 6:
			v.Labels = map[string]string{}
		case n < 8:
			v.Labels = map[string]string{"team": "b"}
		default:
			v.Unreadable = "its config: 404"
		}
	}
}
