package retain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestReferrersOfReferrersLiveWithTheirSubject(t *testing.T) { // A7
	build := func() *pkg {
		p := newPkg(t)
		child := p.image("child")
		sig := p.sig(child)
		p.sig(sig)
		index := p.withAttestations([]*Version{child}, "v1")
		attestation := &Version{Digest: index.Manifest.Manifests[1].Digest}
		for _, v := range p.inv.Versions {
			if v.Digest == attestation.Digest {
				attestation = &v
			}
		}
		p.about(attestation, "sbom of the attestation")
		p.image("other", "v2")
		return p
	}
	p := build()
	plan := p.plan(rules(deleteUntagged(), deleteTags(p, "*.sig")))
	if len(plan.Actions) != 0 {
		t.Errorf("%s", actionsOf(t, plan))
	}
	plan = p.plan(rules(deleteTags(p, "v1")))
	p.wantLeft(plan, "v2")
	for _, a := range plan.Actions[1:] {
		if a.Because != plan.Actions[0].Digest || a.Rule != "rule1" {
			t.Errorf("%+v", a)
		}
	}
}

func TestDeepNestingAndDiamonds(t *testing.T) { // A8
	p := newPkg(t)
	leaf := p.image("leaf")
	left, right := p.index([]*Version{leaf, p.image("l")}), p.index([]*Version{leaf, p.image("r")})
	top := p.index([]*Version{left, right})
	p.index([]*Version{top, left}, "v1")
	p.image("other", "v2")
	p.wantLeft(p.plan(rules(deleteUntagged())), "#1 #2 #3 #4 #5 #6 v1 v2")
	plan := p.plan(rules(deleteTags(p, "v1")))
	p.wantLeft(plan, "v2")
	if n := len(plan.Actions); n != 7 || plan.Cost.Points != 1+7*5 {
		t.Errorf("%d actions, %d points", n, plan.Cost.Points)
	}
}

func TestArtifactsAreRoots(t *testing.T) { // A9
	p := newPkg(t)
	kinds := map[string]*oci.Manifest{
		"helm": imageOf(t, "chart", func(f map[string]any) {
			f["config"] = oci.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json", Digest: emptyConfig, Size: 2}
		}),
		"empty": imageOf(t, "empty", func(f map[string]any) {
			f["artifactType"] = "application/wasm"
			f["config"] = oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: emptyConfig, Size: 2}
		}),
		"artifact": manifest(t, oci.MediaTypeArtifactManifest, map[string]any{"artifactType": "application/vnd.example", "blobs": []oci.Descriptor{layer("blob", 1)}}),
	}
	for _, tag := range []string{"artifact", "empty", "helm"} {
		p.add(kinds[tag], tag)
	}
	schema1, err := oci.ParseManifest("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"fsLayers":[{"blobSum":"`+string(emptyConfig)+`"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	old := p.add(schema1, "schema1")
	for _, v := range p.inv.Versions[:3] {
		plan := p.plan(rules(deleteTags(p, v.Tags[0], "schema1")))
		if len(plan.Actions) != 1 || plan.Actions[0].Role != oci.RoleArtifact {
			t.Errorf("%s: %s", v.Tags[0], actionsOf(t, plan))
		}
		p.wantKept(plan, old, ReasonUnreadable, "rule1")
	}
	plan := p.plan(rules(Rule{Match: Match{ArtifactTypes: []string{"application/wasm", "application/vnd.cncf.helm.config.v1+json"}}, Delete: &When{}}))
	p.wantLeft(plan, "artifact schema1")
}

func TestUnknownKindsKeepWhatTheyName(t *testing.T) {
	p := newPkg(t)
	named := p.image("named", "pr-1")
	future, err := oci.ParseManifest("application/vnd.example.index.v9+json", []byte(`{"parts":["`+string(named.Digest)+`"]}`))
	if err != nil {
		t.Fatal(err)
	}
	p.add(future, "v1")
	p.image("other", "pr-2")
	plan := p.plan(rules(deleteTags(p, "pr-*")))
	p.wantLeft(plan, "pr-1 v1")
	p.wantKept(plan, named, ReasonNeededByKept, "rule1")
	// So does an index whose entry is of a type that is not known.
	p = newPkg(t)
	named = p.image("named", "pr-1")
	p.add(manifest(t, oci.MediaTypeOCIIndex, map[string]any{"manifests": []oci.Descriptor{{MediaType: "application/vnd.example.v9+json", Digest: named.Digest, Size: 9}}}), "v1")
	p.wantLeft(p.plan(rules(deleteTags(p, "pr-*"))), "pr-1 v1")
}

func TestBuildCachesHaveARole(t *testing.T) { // A10
	p := newPkg(t)
	p.add(cacheOf(t, "old"), "cache-old")
	p.add(imageOf(t, "new form", func(f map[string]any) {
		f["config"] = oci.Descriptor{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: emptyConfig, Size: 2}
	}), "cache-new")
	p.image("a", "v1")
	plan := p.plan(rules(Rule{Match: Match{Roles: []oci.Role{oci.RoleCache}}, Delete: &When{}}))
	p.wantLeft(plan, "v1")
	if plan.Actions[0].Role != oci.RoleCache || len(plan.Health) != 0 {
		t.Errorf("%+v", plan)
	}
}

func TestDanglingEntriesOfTheListOfReferrers(t *testing.T) { // A11
	p := newPkg(t)
	image := p.image("a", "v1")
	live, gone := p.about(image, "sbom"), p.about(image, "provenance")
	p.index([]*Version{live, gone}, oci.DigestTag(image.Digest))
	p.lose(gone)
	list, needs, err := Check(&p.inv)
	if err != nil || len(needs) != 0 || len(list) != 1 || list[0].Health != Dangling || !slices.Equal(list[0].Missing, []oci.Digest{gone.Digest}) {
		t.Errorf("%+v, %v, %v", list, needs, err)
	}
	plan := p.plan(rules(deleteUntagged()))
	if len(plan.Actions) != 0 {
		t.Errorf("%s", actionsOf(t, plan))
	}
}

func TestReferrerOfAChild(t *testing.T) { // A12
	p := newPkg(t)
	child := p.image("child")
	p.index([]*Version{child}, "v1")
	sbom := p.about(child, "sbom")
	plan := p.plan(rules(deleteUntagged()))
	p.wantLeft(plan, "#1 v1 #3")
	p.wantKept(plan, sbom, ReasonAboutKept, "")
}

func TestUntaggedInUse(t *testing.T) { // A13
	p := newPkg(t)
	child := p.image("child")
	index := p.index([]*Version{child})
	p.sig(index)
	p.image("junk")
	p.image("other", "v2")
	facts := Facts{InUse: map[oci.Digest]string{index.Digest: "deploy/app.yaml:7"}}
	plan := p.planWith(rules(deleteUntagged()), facts)
	p.wantLeft(plan, "#1 #2 "+oci.DigestTag(index.Digest)+".sig v2")
	p.wantKept(plan, index, ReasonInUse, "rule1")
	policy := rules(deleteUntagged())
	policy.Protect.Digests = []oci.Digest{index.Digest}
	plan = p.plan(policy)
	p.wantKept(plan, index, ReasonProtected, "rule1")
	p.wantKept(plan, child, ReasonNeededByKept, "")
	plan = p.planWith(rules(deleteTags(p, "v*")), Facts{InUseTags: map[string]string{"v2": "compose.yaml"}})
	p.wantLeft(plan, "#1 #2 "+oci.DigestTag(index.Digest)+".sig #4 v2")
}

func TestDatesThatAreMissingOrEqual(t *testing.T) { // A14
	p := newPkg(t)
	none := p.image("no date", "pr-1")
	bare := p.image("no date, no tag")
	p.image("a", "pr-2")
	p.image("b", "pr-3")
	future := p.image("future", "pr-4")
	p.image("other", "v1")
	p.at(none).Created, p.at(bare).Created = time.Time{}, time.Time{}
	p.at(future).Created = today.Add(time.Hour)
	for id := 3; id <= 4; id++ {
		p.inv.Versions[id-1].Created = today.AddDate(0, 0, -50)
	}
	plan := p.plan(rules(Rule{Match: p.tags("pr-*"), Delete: &When{OlderThan: 30 * day}}, deleteUntagged()))
	p.wantLeft(plan, "pr-1 #2 pr-4 v1")
	p.wantKept(plan, none, ReasonNoDate, "")
	p.wantKept(plan, bare, ReasonNoDate, "rule2")
	p.wantKept(plan, future, ReasonCondition, "")
	// Equal dates are ordered by number; what has no date takes no place.
	plan = p.plan(rules(Rule{Match: p.tags("pr-*"), Keep: &Keep{Last: 2}, Delete: &When{}}))
	p.wantLeft(plan, "pr-1 #2 pr-3 pr-4 v1")
	// Whether it is young enough is not known either, whatever the order.
	p.at(none).Tags = []string{"1.0.0"}
	plan = p.plan(rules(Rule{Match: Match{Semver: mustRange(t, ">=1")}, Keep: &Keep{Within: day}, Delete: &When{}}))
	p.wantKept(plan, none, ReasonKeepRule, "")
}

func TestHostilePoliciesAreBounded(t *testing.T) { // A22; the file's own bounds are tested with its reading
	p := newPkg(t)
	p.image("a", strings.Repeat("a", 128))
	p.image("b", "b")
	// Elsewhere this takes exponential time, and would not end.
	p.plan(rules(deleteTags(p, "re:(a*)*(a|aa)+(a?){50}$", strings.Repeat("*a", 400)+"*")))
}

func TestHostileManifests(t *testing.T) { // A23
	p := newPkg(t)
	p.image("a", "v1")
	lying := p.image("lying", "pr-1")
	other := p.image("other", "pr-2")
	p.at(lying).Manifest = other.Manifest
	plan := p.plan(rules(deleteTags(p, "pr-*")))
	p.wantKept(plan, lying, ReasonUnreadable, "rule1")
	if !strings.Contains(fmt.Sprint(plan.Health), string(Unreadable)) {
		t.Errorf("%+v", plan.Health)
	}
	// Signatures can be tagged in a circle, or with their own digest.
	p = newPkg(t)
	p.image("v", "v1")
	one, two, self := p.image("one"), p.image("two"), p.image("self")
	p.at(one).Tags = []string{oci.DigestTag(two.Digest) + ".sig"}
	p.at(two).Tags = []string{oci.DigestTag(one.Digest) + ".sig"}
	p.at(self).Tags = []string{oci.DigestTag(self.Digest)}
	plan = p.plan(rules(deleteUntagged()))
	if len(plan.Actions) != 0 {
		t.Errorf("%s", actionsOf(t, plan))
	}
	p.wantLeft(p.plan(rules(deleteTags(p, "sha256-*"))), "v1")
	// A chain and a list as long as they get.
	p = newPkg(t)
	at := p.image("leaf")
	for range 900 {
		at = p.index([]*Version{at})
	}
	p.at(at).Tags = []string{"pr-1"}
	p.image("v", "v1")
	p.wantLeft(p.plan(rules(Rule{Match: Match{Tags: patterns(t, "pr-1"), LargerThan: 1}, Delete: &When{}})), "v1")
}

func TestHostileTags(t *testing.T) { // A24
	p := newPkg(t)
	for i, tag := range []string{"*", "re:.*", "\x1b[2J", "a\nb", "?", "v1"} {
		p.image(fmt.Sprint(i), tag)
	}
	p.wantLeft(p.plan(rules(deleteTags(p, "v*"))), "* re:.* \x1b[2J a\nb ?")
	plan := p.plan(rules(deleteTags(p, "?")))
	p.wantLeft(plan, "re:.* \x1b[2J a\nb v1")
	if _, err := Explain(plan, &p.inv, "\x1b[2J"); err != nil {
		t.Error(err)
	}
	_, err := Explain(plan, &p.inv, "\x1b[0m")
	if !errors.Is(err, oci.ErrNotFound) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
	if s := (Step{Tags: []string{"\x1b[2J"}}).String(); strings.Contains(s, "\x1b") {
		t.Errorf("%q", s)
	}
}

func TestTwiceListedIsAnError(t *testing.T) {
	p := newPkg(t)
	p.image("a", "a")
	for _, change := range []func(v *Version){func(v *Version) { v.ID = 2 }, func(v *Version) { v.Digest, v.Manifest = emptyConfig, nil }} {
		inv := p.inv
		again := inv.Versions[0]
		change(&again)
		inv.Versions = append(slices.Clone(inv.Versions), again)
		if _, err := Make(&Policy{}, &inv, Facts{}, today); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

func TestNothingIsReadIfNothingCanGo(t *testing.T) {
	p := newPkg(t)
	for i := range 20 {
		p.index([]*Version{p.image(fmt.Sprint(i))}, fmt.Sprintf("1.0.%d", i))
	}
	all, err := ParseRange(">=0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]*Policy{
		"no rules":      {},
		"no such tags":  rules(deleteTags(p, "pr-*")),
		"all are kept":  rules(Rule{Match: Match{Semver: all}, Keep: &Keep{Last: 20}, Delete: &When{}}),
		"too young":     rules(Rule{Match: p.tags("*"), Delete: &When{OlderThan: 3000 * day}}),
		"only reported": rules(Rule{Match: p.tags("*"), Report: true}),
		"grace":         {Rails: Rails{Grace: 3000 * day}, Rules: []Rule{{Name: "a", Match: Match{Untagged: true}, Delete: &When{}}}},
	} {
		plan, reads := readAsNeeded(t, policy, &p.inv, Facts{})
		if reads != 0 || len(plan.Actions) != 0 || len(plan.Kept) != 40 {
			t.Errorf("%s: %d read, %d actions, %d kept", name, reads, len(plan.Actions), len(plan.Kept))
		}
	}
}

func TestOnlyWhatIsNeededIsRead(t *testing.T) {
	p := newPkg(t)
	for i := range 20 { // of 5 versions each
		p.withAttestations([]*Version{p.image(fmt.Sprint("x", i)), p.image(fmt.Sprint("y", i))}, fmt.Sprintf("v%d", i))
	}
	junk := p.image("junk")
	// All that may be an index, and the parts of the two that go.
	plan, reads := readAsNeeded(t, rules(deleteTags(p, "v0", "v1")), &p.inv, Facts{})
	if reads != 20+1+2*4 || len(plan.Actions) != 10 {
		t.Errorf("%d read, %d actions", reads, len(plan.Actions))
	}
	if plan.Cost.Unread != 18*4 {
		t.Errorf("%d unread", plan.Cost.Unread)
	}
	p.at(junk).Tags = []string{"junk"}
	if _, reads := readAsNeeded(t, rules(deleteTags(p, "junk")), &p.inv, Facts{}); reads != 21 {
		t.Errorf("%d read", reads)
	}
}

func TestPlansDoNotDependOnOrder(t *testing.T) {
	p := newPkg(t)
	for i := range 30 {
		v := p.image(fmt.Sprint(i), fmt.Sprintf("pr-%d", i), fmt.Sprintf("also-%d", i))
		p.sig(v)
	}
	rule := deleteTags(p, "pr-?")
	rule.Match.Any = true
	want := p.plan(rules(rule))
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		r.Shuffle(len(p.inv.Versions), func(i, j int) { p.inv.Versions[i], p.inv.Versions[j] = p.inv.Versions[j], p.inv.Versions[i] })
		for i := range p.inv.Versions {
			tags := slices.Clone(p.inv.Versions[i].Tags)
			r.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
			p.inv.Versions[i].Tags = tags
			p.inv.Versions[i].Created = p.inv.Versions[i].Created.In(time.FixedZone("", 3600*r.IntN(5)))
		}
		got, err := Make(rules(rule), &p.inv, Facts{}, today.In(time.FixedZone("", 7200)))
		if err != nil || got.Digest != want.Digest {
			t.Fatalf("%v, %v", got, err)
		}
	}
}
