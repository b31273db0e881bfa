package retain

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestUnknownIsNoLaterRules: what may be an earlier rule's, which would have let it stay
// for now, is not deleted by one behind it.
func TestUnknownIsNoLaterRules(t *testing.T) {
	p := newPkg(t)
	undated, unread, known := p.image("undated", "pr-1"), p.image("unread", "pr-2"), p.image("known", "pr-3")
	part := p.image("a part")
	half := p.index([]*Version{part, known}, "pr-4")
	p.at(p.image("other", "v1")).Labels = map[string]string{}
	p.lose(part)
	p.at(undated).Created = time.Time{}
	p.at(unread).Unreadable = "its config: 404"
	p.at(known).Labels = map[string]string{"team": "b"}
	policy := rules(
		Rule{Name: "young", Match: Match{Tags: patterns(t, "pr-1"), YoungerThan: 90 * day}, Delete: &When{OlderThan: 30 * day}},
		Rule{Name: "labelled", Match: Match{Labels: map[string]Pattern{"team": patterns(t, "a")[0]}}, Delete: &When{OlderThan: 5000 * day}},
		Rule{Name: "tiny", Match: Match{Tags: patterns(t, "pr-4"), SmallerThan: 1 << 30}, Delete: &When{OlderThan: 5000 * day}},
		Rule{Name: "prs", Match: p.tags("pr-*"), Delete: &When{}},
	)
	plan := p.plan(policy)
	p.wantKept(plan, undated, ReasonNoDate, "")
	p.wantKept(plan, unread, ReasonUnclear, "")
	p.wantKept(plan, half, ReasonUnclear, "")
	if got := p.kept(plan, unread).Rule; got != "labelled" {
		t.Errorf("kept by rule %q", got)
	}
}

// TestTagThatIsNotGivenIsNoLastTag: what is in its grace or can't be read gets no tag,
// and so does not stand in for the last version that has one.
func TestTagThatIsNotGivenIsNoLastTag(t *testing.T) {
	for name, change := range map[string]func(v *Version){
		"young":  func(v *Version) { v.Created = today.Add(-time.Minute) },
		"opaque": func(v *Version) { v.Manifest, v.Unreadable = nil, "404" },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPkg(t)
			bare, last := p.image("bare"), p.image("last", "v1")
			change(p.at(bare))
			policy := rules(Rule{Match: Match{Untagged: true}, Retag: "saved-{id}"}, Rule{Match: p.tags("v*"), Delete: &When{}})
			policy.Rails.Grace = time.Hour
			plan := p.plan(policy)
			p.wantKept(plan, last, ReasonLastTagged, "rule2")
		})
	}
}

// TestSignatureBeforeItsImage: a copy may bring a signature before the image, and for
// that long it is an orphan.
func TestSignatureBeforeItsImage(t *testing.T) {
	p := newPkg(t)
	p.image("other", "v1")
	image := imageOf(t, "on its way", nil)
	sig := p.image("signature", oci.DigestTag(image.Digest())+".sig")
	old := p.image("old signature", oci.DigestTag(digestA)+".sig")
	p.at(sig).Created = today.Add(-time.Minute)
	policy := rules(Rule{Match: Match{Health: []Health{Orphan}}, Delete: &When{}})
	policy.Rails.Grace = time.Hour
	plan := p.plan(policy)
	p.wantKept(plan, sig, ReasonGrace, "")
	if len(plan.Actions) != 1 || plan.Actions[0].Version != old.ID {
		t.Errorf("%v", actionsOf(t, plan))
	}
}

// TestProtectedIndexThatIsListedAsAnImage: a hostile index says of another index that it
// is an image, which need not be read. What is protected is read whatever is said of it.
func TestProtectedIndexThatIsListedAsAnImage(t *testing.T) {
	p := newPkg(t)
	leaf := p.image("leaf")
	inner := p.index([]*Version{leaf})
	lie := inner.Manifest.Descriptor()
	lie.MediaType = oci.MediaTypeOCIManifest
	p.add(manifest(t, oci.MediaTypeOCIIndex, map[string]any{"manifests": []oci.Descriptor{lie}}), "v1")
	p.image("other", "v2")
	policy := rules(Rule{Match: Match{Untagged: true}, Delete: &When{}})
	policy.Protect.Digests = []oci.Digest{inner.Digest}
	p.wantLeft(p.plan(policy), "#1 #2 v1 v2")
}

// TestLongChainsHaveShortPaths: signatures of signatures of signatures do not make a
// plan that is larger than the package by far.
func TestLongChainsHaveShortPaths(t *testing.T) {
	p := newPkg(t)
	first := p.image("image", "v1")
	last := first
	for range 200 {
		last = p.sig(last)
	}
	plan := p.plan(rules(Rule{Match: p.tags("pr-*"), Delete: &When{}}, Rule{Match: p.tags("v*"), Keep: &Keep{All: true}}))
	path := p.kept(plan, last).Path
	if len(path) != maxPath || path[0] != first.Digest || path[len(path)-1] != last.Digest {
		t.Errorf("%d steps", len(path))
	}
	if short := p.kept(plan, &p.inv.Versions[1]).Path; len(short) != 2 {
		t.Errorf("%v", short)
	}
}

// TestSizesDoNotOverflow: manifests may claim any sizes.
func TestSizesDoNotOverflow(t *testing.T) {
	p := newPkg(t)
	vast := p.add(imageOf(t, "vast", func(f map[string]any) {
		f["layers"] = []oci.Descriptor{layer("a", math.MaxInt64), layer("b", math.MaxInt64)}
	}), "pr-1")
	p.image("other", "v1")
	small := p.tags("pr-*")
	small.SmallerThan = 1000
	if plan := p.plan(rules(Rule{Match: small, Delete: &When{}})); len(plan.Actions) > 0 {
		t.Error("its size is taken for small")
	}
	plan := p.plan(rules(Rule{Match: Match{Digests: []oci.Digest{vast.Digest}}, Delete: &When{}}))
	if plan.Cost.UniqueBytes != math.MaxInt64 || plan.Actions[0].Size != math.MaxInt64 {
		t.Errorf("%+v, size %d", plan.Cost, plan.Actions[0].Size)
	}
}

// TestMakeRefusesRulesThatMeanSomethingElse: what a program wrote is not taken for no
// limit, or for one group of all.
func TestMakeRefusesRulesThatMeanSomethingElse(t *testing.T) {
	p := newPkg(t)
	p.image("image", "v1")
	for name, r := range map[string]Rule{
		"negative age":     {Match: p.tags("v*"), Delete: &When{OlderThan: -day}},
		"negative match":   {Match: Match{Tags: patterns(t, "v*"), OlderThan: -day}, Delete: &When{}},
		"negative count":   {Match: p.tags("v*"), Keep: &Keep{Last: -1, Within: day}, Delete: &When{}},
		"negative within":  {Match: p.tags("v*"), Keep: &Keep{Last: 1, Within: -day}, Delete: &When{}},
		"unknown group":    {Match: p.tags("v*"), Keep: &Keep{Last: 1, Per: "Minor"}, Delete: &When{}},
		"versions of none": {Match: p.tags("v*"), Keep: &Keep{Last: 1, Per: "minor"}, Delete: &When{}},
	} {
		if _, err := Make(rules(r), &p.inv, Facts{}, today); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListThatIsNoText: in what PowerShell writes nothing would be found, and all that
// is looked up in it would go.
func TestListThatIsNoText(t *testing.T) {
	p := newPkg(t)
	p.image("image", "pr-1")
	p.image("other", "v1")
	policy := rules(Rule{Match: Match{Tags: patterns(t, `re:pr-(?P<n>\d+)`)}, Delete: &When{NotIn: "open.txt", Key: "n"}})
	for name, data := range map[string]string{"UTF-16": "\xff\xfe1\x00\n\x00", "UTF-16, no mark": "1\x00\n\x00", "Latin-1": "1\n\xe4\n"} {
		_, err := Make(policy, &p.inv, Facts{Lists: map[string][]string{"open.txt": ParseLines([]byte(data))}}, today)
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "UTF-8") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if lines := ParseLines([]byte("\ufeff1\r\n# two\r\n")); !slices.Equal(lines, []string{"1"}) {
		t.Errorf("%q", lines)
	}
}

// TestGhostsTakeNoPlace: what another tool broke is not kept in place of what works.
func TestGhostsTakeNoPlace(t *testing.T) {
	p := newPkg(t)
	p.image("a", "v1")
	p.image("b", "v2")
	part := p.image("part")
	p.index([]*Version{part}, "v3")
	p.lose(part)
	keep := rules(Rule{Match: p.tags("v*"), Keep: &Keep{Last: 1}, Delete: &When{}})
	p.wantLeft(p.plan(keep), "v2 v3")
	keep.Rules[0].Keep = &Keep{Within: time.Nanosecond, AtLeast: 2}
	p.wantLeft(p.plan(keep), "v1 v2 v3")
	keep.Rules[0].Keep, keep.Rails.MinRemaining = &Keep{Last: 1}, 2
	if plan := p.plan(keep); len(plan.Refused) != 1 || plan.Refused[0].Rail != "min-remaining" {
		t.Errorf("%+v", plan.Refused)
	}
}
