package retain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// These are what other tools did to their users' images.

func deleteTags(p *pkg, tags ...string) Rule {
	return Rule{Match: p.tags(tags...), Delete: &When{}}
}

func deleteUntagged() Rule { return Rule{Match: Match{Untagged: true}, Delete: &When{}} }

func TestDataaxiomBTaggedChildIsItsOwnRoot(t *testing.T) {
	p := newPkg(t)
	amd, arm := p.image("amd", "v1-amd64"), p.image("arm")
	p.index([]*Version{amd, arm}, "v1")
	p.image("other", "v2")
	rule := deleteTags(p, "v1*")
	rule.Match.Except = patterns(t, "v1-amd64")
	plan := p.plan(rules(rule))
	p.wantLeft(plan, "v1-amd64 v2")
	p.wantKept(plan, amd, ReasonUnmatched, "")
}

func TestDataaxiomCUntagLeavesTheImage(t *testing.T) {
	p := newPkg(t)
	p.image("a", "prod", "pr-1")
	plan := p.plan(rules(Rule{Match: p.tags("pr-*"), Untag: &When{}}))
	p.wantLeft(plan, "prod")
	if a := plan.Actions[0]; len(plan.Actions) != 1 || a.Do != Untag || !slices.Equal(a.Off, []string{"pr-1"}) || !slices.Equal(a.Tags, []string{"pr-1", "prod"}) {
		t.Errorf("%+v", plan.Actions)
	}
}

func TestDataaxiomDWhitespaceIsRefused(t *testing.T) {
	for _, text := range []string{" latest", "latest ", "", "\tlatest"} {
		if _, err := ParsePattern(text); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDataaxiomEPatternsSeeTagsOnly(t *testing.T) {
	p := newPkg(t)
	p.image("untagged")
	p.image("a", "a")
	p.image("b", "b")
	rule := deleteTags(p, "*")
	rule.Match.Except = patterns(t, "b")
	p.wantLeft(p.plan(rules(rule)), "#1 b")
	p.wantLeft(p.plan(rules(deleteTags(p, "sha256*", "re:.*[0-9a-f]{64}"))), "#1 a b")
}

// cacheOf is BuildKit's registry cache in its old form: an index of layers.
func cacheOf(t testing.TB, name string) *oci.Manifest {
	config := oci.Descriptor{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: bytesDigest([]byte("cache" + name)), Size: 5}
	return manifest(t, oci.MediaTypeOCIIndex, map[string]any{"manifests": []oci.Descriptor{layer(name, 100), config}})
}

func TestDataaxiomFBuildCacheIsNoGhost(t *testing.T) {
	p := newPkg(t)
	p.add(cacheOf(t, "main"), "buildcache")
	gone := p.image("gone")
	p.index([]*Version{gone}, "ghost")
	p.lose(gone)
	plan := p.plan(rules(Rule{Match: Match{Health: []Health{Ghost, Partial}}, Delete: &When{}}))
	if got := p.left(plan); got != "buildcache" {
		t.Errorf("left: %s", got)
	}
	if len(plan.Health) != 1 || plan.Health[0].Health != Ghost || plan.Health[0].Tags[0] != "ghost" {
		t.Errorf("%+v", plan.Health)
	}
}

func TestDataaxiomGNestedIndexesAreWalked(t *testing.T) {
	p := newPkg(t)
	inner := p.index([]*Version{p.image("leaf")})
	p.index([]*Version{inner}, "v1")
	p.image("junk")
	plan := p.plan(rules(deleteUntagged()))
	p.wantLeft(plan, "#1 #2 v1")
}

func TestDataaxiomHReferrersTakeNoSlot(t *testing.T) {
	p := newPkg(t)
	child := p.image("child")
	p.index([]*Version{child}, "v1")
	p.image("b", "v2")
	sig := p.sig(child)
	plan := p.plan(rules(Rule{Match: p.tags("*"), Keep: &Keep{Last: 2}, Delete: &When{}}))
	if len(plan.Actions) != 0 {
		t.Errorf("%s", actionsOf(t, plan))
	}
	p.wantKept(plan, sig, ReasonAboutKept, "rule1")
}

func TestDataaxiomIOrphansTakeNoSlot(t *testing.T) {
	p := newPkg(t)
	for _, tag := range []string{"v1", "v2", "v3"} {
		p.image(tag, tag)
	}
	gone1, gone2 := p.image("gone1"), p.image("gone2")
	p.sig(gone1)
	p.sig(gone2)
	p.lose(gone1, gone2)
	plan := p.plan(rules(Rule{Match: p.tags("v*"), Keep: &Keep{Last: 2}, Delete: &When{}}, Rule{Name: "orphans", Match: Match{Health: []Health{Orphan}}, Delete: &When{}}))
	p.wantLeft(plan, "v2 v3")
	plan = p.plan(rules(Rule{Match: p.tags("*"), Keep: &Keep{Last: 2}, Delete: &When{}}))
	p.wantLeft(plan, "v2 v3")
}

func TestDataaxiomJAPlanSaysWhatIsUntagged(t *testing.T) {
	p := newPkg(t)
	v := p.image("a", "prod", "pr-1")
	plan := p.plan(rules(Rule{Name: "prs", Match: p.tags("pr-*"), Untag: &When{}}))
	e, err := Explain(plan, &p.inv, "prod")
	if err != nil {
		t.Fatal(err)
	}
	if e.Version != v.ID || e.Do != Untag || !strings.Contains(e.Text, "loses pr-1") || !strings.Contains(e.Text, "stays") {
		t.Errorf("%+v", e)
	}
}

func TestDataaxiomLOneUnreadableVersionDoesNotStopTheRest(t *testing.T) {
	p := newPkg(t)
	child := p.image("child", "v1-amd64")
	lost := p.index([]*Version{child}, "v1")
	junk := p.image("junk")
	p.image("new", "pr-2")
	p.image("newer", "v2")
	*p.at(lost) = Version{ID: lost.ID, Digest: lost.Digest, Tags: []string{"v1"}, Created: p.at(lost).Created, Unreadable: "404"}
	plan := p.plan(rules(deleteTags(p, "*-amd64", "pr-*"), deleteUntagged()))
	p.wantLeft(plan, "v1-amd64 v1 #3 v2")
	p.wantKept(plan, child, ReasonUnknownParent, "rule1")
	p.wantKept(plan, junk, ReasonUnknownParent, "rule2")
	p.wantKept(plan, lost, ReasonUnreadable, "")
	if len(plan.Health) != 1 || plan.Health[0].Holds != 2 {
		t.Errorf("%+v", plan.Health)
	}
	// What an index calls an image lists nothing, readable or not.
	p.at(lost).Unreadable = ""
	p.at(lost).Manifest = lost.Manifest
	p.at(child).Manifest, p.at(child).Unreadable = nil, "404"
	plan = p.plan(rules(deleteTags(p, "pr-*"), deleteUntagged()))
	p.wantLeft(plan, "v1-amd64 v1 v2")
}

func TestDataaxiomMTheLastTaggedVersionIsBlocked(t *testing.T) {
	p := newPkg(t)
	p.image("junk")
	p.image("a", "pr-1")
	last := p.image("b", "pr-2")
	plan := p.plan(rules(deleteTags(p, "pr-*"), deleteUntagged()))
	p.wantLeft(plan, "pr-2")
	p.wantKept(plan, last, ReasonLastTagged, "rule1")
	// Taking the tags off all is no better.
	plan = p.plan(rules(Rule{Match: p.tags("pr-*"), Untag: &When{}}))
	p.wantLeft(plan, "#1 #2 pr-2")
}

func TestDataaxiomOGraceProtectsAPushUnderWay(t *testing.T) {
	p := newPkg(t)
	p.image("a", "v1")
	child := p.image("pushed a moment ago")
	p.at(child).Created = today.Add(-time.Hour)
	old := p.image("old")
	policy := rules(deleteUntagged())
	policy.Rails.Grace = DefaultRails().Grace
	plan := p.plan(policy)
	p.wantLeft(plan, "v1 #2")
	p.wantKept(plan, child, ReasonGrace, "rule1")
	// Along with its index it does not go either.
	p.index([]*Version{child, old}, "pr-1")
	plan = p.plan(rules(deleteTags(p, "pr-*"), deleteUntagged()))
	p.wantLeft(plan, "v1")
	policy.Rules = append(policy.Rules, Rule{Name: "prs", Match: p.tags("pr-*"), Delete: &When{}})
	p.wantLeft(p.plan(policy), "v1 #2")
}

// What the other tools did to others.

func TestSharedChildrenOfAStagingTagStay(t *testing.T) {
	p := newPkg(t)
	a, b, c, d := p.image("a"), p.image("b"), p.image("c"), p.image("d")
	p.index([]*Version{a, b, c}, "v1")
	p.index([]*Version{a, b, d}, "staging")
	p.wantLeft(p.plan(rules(deleteTags(p, "staging"))), "#1 #2 #3 v1")
}

func TestAnyTagIsSaid(t *testing.T) {
	p := newPkg(t)
	v := p.image("a", "pr-1", "latest")
	p.image("b", "b")
	plan := p.plan(rules(deleteTags(p, "pr-*")))
	p.wantLeft(plan, "pr-1 latest b")
	p.wantKept(plan, v, ReasonSomeTags, "")
	rule := deleteTags(p, "pr-*")
	rule.Match.Any = true
	p.wantLeft(p.plan(rules(rule)), "b")
	// An exception is one whatever else matches.
	rule.Match.Except = patterns(t, "latest")
	p.wantLeft(p.plan(rules(rule)), "pr-1 latest b")
}

func TestKeepBeatsDelete(t *testing.T) {
	p := newPkg(t)
	p.image("a", "pr-1", "v1")
	p.image("b", "pr-2")
	rule := deleteTags(p, "pr-*")
	rule.Match.Any = true
	// One matching tag is enough to stay, and rules that keep count first wherever they are.
	p.wantLeft(p.plan(rules(rule, Rule{Match: p.tags("v*"), Keep: &Keep{All: true}})), "pr-1 v1")
}

func TestNeededRootIsUntaggedOrBlocked(t *testing.T) {
	p := newPkg(t)
	child := p.image("child", "v1-amd64")
	index := p.index([]*Version{child}, "v1")
	plan := p.plan(rules(deleteTags(p, "*-amd64")))
	p.wantLeft(plan, "v1-amd64 v1")
	p.wantKept(plan, child, ReasonNeededByKept, "rule1")
	if path := p.kept(plan, child).Path; !slices.Equal(path, []oci.Digest{index.Digest, child.Digest}) {
		t.Errorf("%v", path)
	}
	rule := deleteTags(p, "*-amd64")
	rule.Untag = &When{}
	plan = p.plan(rules(rule))
	p.wantLeft(plan, "#1 v1")
	if a := plan.Actions[0]; a.Reason != ReasonNeededByKept || a.Because != index.Digest {
		t.Errorf("%+v", a)
	}
}

func TestUntagNeverTakesTheTagOfASignature(t *testing.T) {
	p := newPkg(t)
	sig := p.sig(p.image("a", "v1"))
	plan := p.plan(rules(Rule{Match: p.tags("*.sig"), Delete: &When{}, Untag: &When{}}))
	if len(plan.Actions) != 0 {
		t.Errorf("%s", actionsOf(t, plan))
	}
	p.wantKept(plan, sig, ReasonAboutKept, "rule1")
}
