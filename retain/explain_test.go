package retain

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestExplain(t *testing.T) {
	p, plan := somePlan(t)
	index := p.inv.Versions[1]
	for ref, want := range map[string]string{
		"v1":                                     `stays: no rule is about it`,
		"v1-amd64":                               `loses v1-amd64 by the rule "amd" and stays, because v1 needs it`,
		"pr-1":                                   `goes by the rule "prs"`,
		"4":                                      `goes with pr-1, which the rule "prs" deletes, because it is about that`,
		"pr-2":                                   `loses pr-2 by the rule "prs" and stays`,
		"6":                                      `gets the tag lost-6 by the rule "save", so that it is not lost`,
		index.Digest.String():                    `stays: no rule is about it`,
		index.Digest.String()[:len("sha256:")+9]: `stays: no rule is about it`,
	} {
		e, err := Explain(plan, &p.inv, ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if e.Text != want || e.Change == "" {
			t.Errorf("%s: %q, want %q", ref, e.Text, want)
		}
	}
	for ref, want := range map[string]error{"v9": oci.ErrNotFound, "99": oci.ErrNotFound, "sha256:": oci.ErrNotFound, "sha256:zz": oci.ErrNotFound} {
		if _, err := Explain(plan, &p.inv, ref); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	// A tag that is also another version's number is not guessed about.
	p.image("number", "2")
	if _, err := Explain(plan, &p.inv, "2"); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
	if _, err := Explain(plan, &p.inv, fmt.Sprint(p.next()-1)); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("of another inventory: %v", err)
	}
	if _, err := Explain(&Plan{Needs: []oci.Digest{emptyConfig}}, &p.inv, "v1"); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

func TestExplainTellsThePath(t *testing.T) {
	p := newPkg(t)
	child := p.image("child")
	p.index([]*Version{p.index([]*Version{child})}, "v1")
	sig := p.sig(child)
	p.image("junk")
	plan := p.plan(rules(Rule{Name: "releases", Match: p.tags("v*"), Keep: &Keep{Last: 1}}, deleteUntagged()))
	e, err := Explain(plan, &p.inv, fmt.Sprint(sig.ID))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("stays: it is about v1, which stays (v1 -> %s -> %s -> %s)", shorten(p.inv.Versions[1].Digest), shorten(child.Digest), e.Tags[0])
	if e.Text != want || e.Reason != ReasonAboutKept || len(e.Path) != 4 {
		t.Errorf("%q, want %q", e.Text, want)
	}
}

// TestEveryReasonIsExplained: a code that no sentence stands for would be told as it is.
func TestEveryReasonIsExplained(t *testing.T) {
	for _, why := range []Reason{ReasonUnmatched, ReasonKeepRule, ReasonProtected, ReasonInUse, ReasonCondition, ReasonSomeTags, ReasonNeededByKept,
		ReasonAboutKept, ReasonGrace, ReasonNoDate, ReasonUnclear, ReasonUnreadable, ReasonUnknownParent, ReasonLastTagged, ReasonTagTaken} {
		e := Explanation{Reason: why, Blocked: "rule"}
		text, change := e.keeping()
		if strings.HasPrefix(text, "stays: "+string(why)) || change == "" || !strings.HasSuffix(text, `; the rule "rule" would have it go`) {
			t.Errorf("%s: %q, %q", why, text, change)
		}
	}
}

// TestExplainTrustsNoPlan: tags are escaped, and a plan that somebody made up is told as
// far as it goes.
func TestExplainTrustsNoPlan(t *testing.T) {
	p := newPkg(t)
	v := p.image("a", "x")
	for _, a := range []Action{
		{Do: Untag, Tags: []string{"\x1b[2J"}, Off: []string{"\x1b[2J"}, Reason: ReasonRule},
		{Do: Untag, Off: []string{"\u009b2J"}, Reason: ReasonAboutKept, Because: "\x1b"},
		{Do: Untag, Off: []string{"x"}, Reason: ReasonAboutKept},
		{Do: Retag, On: "\x1b[2J", Reason: ReasonRule},
		{Do: Delete, Reason: ReasonPart},
		{Do: Delete, Reason: ReasonReferrer},
		{Do: Delete, Reason: ReasonPart, Because: digestA},
	} {
		a.Version, a.Digest = v.ID, v.Digest
		e, err := Explain(&Plan{Actions: []Action{a}}, &p.inv, "x")
		if err != nil || strings.ContainsFunc(e.Text+e.Change, unicode.IsControl) {
			t.Errorf("%q, %v", e.Text, err)
		}
	}
}

func TestDiff(t *testing.T) {
	p := newPkg(t)
	p.image("a", "pr-1")
	p.image("b", "pr-2")
	p.image("c", "v1")
	before := p.plan(rules(deleteTags(p, "pr-1")))
	p.image("d", "v2")
	p.at(&Version{ID: 3}).Tags = []string{"v1", "v1.0"}
	after := p.plan(rules(deleteTags(p, "pr-2")))
	list, err := Diff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, fmt.Sprintf("%d: %v %s %v -> %v %s %v", d.Version, d.Before.Listed, d.Before.Do, d.Before.Tags, d.After.Listed, d.After.Do, d.After.Tags))
	}
	want := []string{"1: true delete [pr-1] -> true  [pr-1]", "2: true  [pr-2] -> true delete [pr-2]", "3: true  [v1] -> true  [v1 v1.0]", "4: false  [] -> true  [v2]"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if list, err := Diff(after, after); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := Diff(before, &Plan{}); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

// TestALaterDateIsSimulated: the date is an argument like any other.
func TestALaterDateIsSimulated(t *testing.T) {
	p := newPkg(t)
	v := p.image("a", "pr-1")
	p.image("b", "v1")
	p.at(v).Created = today.AddDate(0, 0, -10)
	policy := rules(Rule{Match: p.tags("pr-*"), Delete: &When{OlderThan: 30 * day}})
	now, err1 := Make(policy, &p.inv, Facts{}, today)
	later, err2 := Make(policy, &p.inv, Facts{}, today.Add(20*day))
	if err1 != nil || err2 != nil || len(now.Actions) != 0 || len(later.Actions) != 1 || !later.Created.Equal(today.Add(20*day)) || later.Expires.Sub(later.Created) != 24*time.Hour {
		t.Errorf("%+v, %+v, %v, %v", now, later, err1, err2)
	}
}

func TestCheckAsksForWhatItNeeds(t *testing.T) {
	p := newPkg(t)
	child, gone := p.image("child"), p.image("gone")
	p.index([]*Version{child, gone}, "v1")
	sig := p.sig(gone)
	p.lose(gone)
	for i := range p.inv.Versions {
		p.inv.Versions[i].Manifest = nil
	}
	_, needs, err := Check(&p.inv)
	if err != nil || len(needs) != 1 {
		t.Fatalf("%v, %v", needs, err)
	}
	p.inv.Versions[1].Manifest = indexOf(t, []*Version{child, gone})
	list, needs, err := Check(&p.inv)
	if err != nil || len(needs) != 1 || needs[0] != sig.Digest { // the child is an image, says the index
		t.Fatalf("%v, %v", needs, err)
	}
	if len(list) != 2 || list[0].Health != Partial || list[1].Health != Orphan {
		t.Errorf("%+v", list)
	}
}
