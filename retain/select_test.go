package retain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func mustRange(t *testing.T, text string) Range {
	t.Helper()
	r, err := ParseRange(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSelectors(t *testing.T) {
	p := newPkg(t)
	a := p.image("a", "v1.0.0")                                                                                 // 1
	p.image("b", "v1.1.0-rc.1")                                                                                 // 2
	arm := p.index([]*Version{p.image("amd"), p.image("arm")}, "v2.0.0")                                        // 3 4 5
	p.index([]*Version{p.image("only amd")}, "2026-05-01")                                                      // 6 7
	p.add(imageOf(t, "annotated", func(f map[string]any) { f["artifactType"] = "application/x" }), "annotated") // 8
	p.about(a, "sbom")                                                                                          // 9
	gone := p.image("gone")                                                                                     // 10
	p.index([]*Version{gone, p.image("half")}, "partial")                                                       // 11 12
	p.lose(gone)
	big := p.add(imageOf(t, "big", func(f map[string]any) { f["layers"] = []oci.Descriptor{layer("huge", 1<<30)} }), "big") // 13
	for i := range p.inv.Versions {
		if m := p.inv.Versions[i].Manifest; m.Kind() == oci.KindImage {
			p.inv.Versions[i].Labels = map[string]string{}
		}
	}
	p.inv.Versions[0].Labels = map[string]string{"team": "core"}
	one := func(text string) Pattern { return patterns(t, text)[0] }
	no, yes := false, true
	for name, tt := range map[string]struct {
		match Match
		want  string // of the versions that go, or are needed and may not
	}{
		"nothing set":       {Match{}, ""},
		"only an exception": {Match{Except: patterns(t, "v*")}, ""},
		"tags":              {p.tags("v1*"), "1 2 9"},
		"tags from a file":  {Match{TagsFrom: "list"}, "1 9"},
		"tags and a file":   {Match{Tags: patterns(t, "v2*"), TagsFrom: "list"}, ""},
		"except":            {Match{Tags: patterns(t, "v1*"), Except: patterns(t, "*rc*")}, "1 9"},
		"versions":          {Match{Semver: mustRange(t, ">=1.0.0 <2")}, "1 2 9"},
		"no pre-releases":   {Match{Semver: mustRange(t, ">=1.0.0 <2"), Prerelease: &no}, "1 9"},
		"pre-releases":      {Match{Semver: mustRange(t, ">=1.0.0 <2"), Prerelease: &yes}, "2"},
		"dates in tags":     {Match{Calver: one(`re:(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)`)}, "6 7"},
		"older by tag":      {Match{Calver: one(`re:(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)`), OlderThan: 40 * day, By: ByTagDate}, "6 7"},
		"younger by tag":    {Match{Calver: one(`re:(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)`), YoungerThan: 40 * day, By: ByTagDate}, ""},
		"digest":            {Match{Digests: []oci.Digest{arm.Digest}}, "3 4 5"},
		"role":              {Match{Roles: []oci.Role{oci.RoleIndex}}, "3 4 5 6 7 11 12"},
		"health":            {Match{Health: []Health{Partial}}, "11 12"},
		"media type":        {Match{MediaTypes: []string{oci.MediaTypeOCIIndex}, Tags: patterns(t, "v*")}, "3 4 5"},
		"artifact type":     {Match{ArtifactTypes: []string{"application/x"}}, "8"},
		"annotation":        {Match{Annotations: map[string]Pattern{"name": one("ann*")}}, "8"},
		"label":             {Match{Labels: map[string]Pattern{"team": one("core")}}, "1 9"},
		"no such label":     {Match{Labels: map[string]Pattern{"team": one("other")}}, ""},
		"platforms":         {Match{Platforms: []string{"linux/x86_64", "linux/arm64"}}, "3 4 5 6 7"},
		"a platform":        {Match{Platforms: []string{"linux/amd64"}}, "6 7"},
		"larger":            {Match{LargerThan: 1 << 20}, "13"},
		"smaller":           {Match{SmallerThan: 1 << 20, Tags: patterns(t, "big", "v2*")}, "3 4 5"},
		"older":             {Match{OlderThan: today.Sub(p.at(a).Created)}, "1 9"},
		"younger":           {Match{YoungerThan: today.Sub(p.inv.Versions[len(p.inv.Versions)-1].Created) + 1}, "13"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = big
			p := &pkg{t, p.inv}
			plan := p.planWith(rules(Rule{Match: tt.match, Delete: &When{}}), Facts{Lists: map[string][]string{"list": {"v1.0.0", "v1", "other"}}})
			var gone []string
			for _, v := range p.inv.Versions {
				if slices.ContainsFunc(plan.Actions, func(a Action) bool { return a.Version == v.ID }) {
					gone = append(gone, fmt.Sprint(v.ID))
				}
			}
			if got := strings.Join(gone, " "); got != tt.want {
				t.Errorf("%q go, want %q", got, tt.want)
			}
		})
	}
}

func TestLabelsAreAskedFor(t *testing.T) {
	p := newPkg(t)
	p.index([]*Version{p.image("a"), p.image("b")}, "pr-1")
	p.image("c", "v1")
	match := p.tags("pr-*")
	match.Labels = map[string]Pattern{"keep": patterns(t, "no")[0]}
	policy := rules(Rule{Match: match, Delete: &When{}})
	plan, err := Make(policy, &p.inv, Facts{}, today)
	if err != nil || len(plan.Needs) != 0 || len(plan.NeedsLabels) != 2 {
		t.Fatalf("%v, %v, %v", plan.Needs, plan.NeedsLabels, err)
	}
	p.inv.Versions[0].Labels = map[string]string{"keep": "no"}
	p.inv.Versions[1].Unreadable = "its config: 404"
	plan = p.plan(policy)
	p.wantLeft(plan, "#1 #2 pr-1 v1")
	p.inv.Versions[1].Unreadable, p.inv.Versions[1].Labels = "", map[string]string{"keep": "no"}
	p.wantLeft(p.plan(policy), "v1")
	// What a rule keeps by labels stays if they can't be had.
	p.inv.Versions[3].Unreadable, p.inv.Versions[3].Labels = "404", nil
	keep := Rule{Name: "keep", Match: Match{Labels: match.Labels}, Keep: &Keep{All: true}}
	p.wantLeft(p.plan(rules(keep, deleteTags(p, "v*"))), "#1 #2 pr-1 v1")
}

func TestConditions(t *testing.T) {
	p := newPkg(t)
	p.image("1", "pr-1")
	p.image("2", "pr-2-amd64")
	p.image("3", "pr-3")
	ttl := func(v string) func(map[string]any) {
		return func(f map[string]any) { f["annotations"] = map[string]string{"expires-after": v} }
	}
	p.add(imageOf(t, "4", ttl("2w")), "pr-4")
	p.add(imageOf(t, "5", ttl("9000d")), "pr-5")
	p.add(imageOf(t, "6", ttl("2026-06-15")), "pr-6")
	p.add(imageOf(t, "7", ttl("soon")), "pr-7")
	p.at(&Version{ID: 3}).Updated = today.Add(-time.Hour)
	p.image("v", "v1")
	for name, tt := range map[string]struct {
		when When
		want string
	}{
		"always":        {When{}, "v1"},
		"older":         {When{OlderThan: 998 * day}, "pr-3 pr-4 pr-5 pr-6 pr-7 v1"},
		"older by push": {When{OlderThan: 30 * day, By: ByUpdated}, "pr-3 v1"},
		"not listed":    {When{NotIn: "open", Key: "n"}, "pr-2-amd64 pr-3 v1"},
		"no such key":   {When{NotIn: "open", Key: "other"}, "pr-1 pr-2-amd64 pr-3 pr-4 pr-5 pr-6 pr-7 v1"},
		"whole tags":    {When{NotIn: "tags"}, "pr-1 v1"},
		"nothing open":  {When{NotIn: "none", Key: "n"}, "v1"},
		"expired":       {When{Expired: "expires-after"}, "pr-1 pr-2-amd64 pr-3 pr-5 pr-7 v1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pkg{t, p.inv}
			when := tt.when
			facts := Facts{Lists: map[string][]string{"open": {"2", "3"}, "tags": {"pr-1", "2"}, "none": {}}}
			plan := p.planWith(rules(Rule{Match: p.tags(`re:pr-(?P<n>\d+)(-.*)?`), Delete: &when}), facts)
			p.wantLeft(plan, tt.want)
		})
	}
	// A list that is missing is not an empty one.
	if _, err := Make(rules(Rule{Match: p.tags("pr-*"), Delete: &When{NotIn: "open"}}), &p.inv, Facts{}, today); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

func TestKeeps(t *testing.T) {
	p := newPkg(t)
	for i, tag := range []string{"1.0.0", "1.0.1", "1.1.0", "2.0.0-rc.1", "2.0.0", "1.0.2", "2.0.1-rc.2"} {
		p.image(fmt.Sprint(i), tag)
	}
	p.image("o", "other")
	all := Match{Semver: mustRange(t, ">=0.0.0-0")}
	for name, tt := range map[string]struct {
		match Match
		keep  Keep
		want  string
	}{
		"all":           {all, Keep{All: true}, "1.0.0 1.0.1 1.1.0 2.0.0-rc.1 2.0.0 1.0.2 2.0.1-rc.2"},
		"last":          {all, Keep{Last: 2}, "2.0.0 2.0.1-rc.2"},
		"by creation":   {all, Keep{Last: 2, Order: ByCreated}, "1.0.2 2.0.1-rc.2"},
		"per major":     {all, Keep{Last: 1, Per: "major"}, "1.1.0 2.0.1-rc.2"},
		"per minor":     {all, Keep{Last: 1, Per: "minor"}, "1.1.0 1.0.2 2.0.1-rc.2"},
		"per channel":   {all, Keep{Last: 1, Per: "channel"}, "2.0.0 2.0.1-rc.2"},
		"per group":     {p.tags(`re:(?P<line>\d+)\..*`), Keep{Last: 1, Per: "line"}, "1.0.2 2.0.1-rc.2"},
		"within":        {all, Keep{Within: today.Sub(p.inv.Versions[4].Created) + 1}, "2.0.0 1.0.2 2.0.1-rc.2"},
		"at least":      {all, Keep{Within: time.Hour, AtLeast: 3}, "2.0.0-rc.1 2.0.0 2.0.1-rc.2"},
		"enough anyway": {all, Keep{Last: 3, AtLeast: 2}, "2.0.0-rc.1 2.0.0 2.0.1-rc.2"},
		"none":          {all, Keep{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pkg{t, p.inv}
			keep := tt.keep
			p.wantLeft(p.plan(rules(Rule{Match: tt.match, Keep: &keep, Delete: &When{}})), strings.TrimSpace(tt.want+" other"))
		})
	}
}

// TestKeepPerPlatform: what runs on other platforms is counted apart, and an image that
// no index lists does not say what it runs on.
func TestKeepPerPlatform(t *testing.T) {
	p := newPkg(t)
	for i := range 3 {
		amd := p.image(fmt.Sprint("amd", i))
		p.index([]*Version{amd}, fmt.Sprintf("v%d-amd", i))
		p.index([]*Version{amd, p.image(fmt.Sprint("arm", i))}, fmt.Sprintf("v%d", i))
		p.image(fmt.Sprint("single", i), fmt.Sprintf("v%d-one", i))
	}
	plan := p.plan(rules(Rule{Match: p.tags("v*"), Keep: &Keep{Last: 1, Per: "platform"}, Delete: &When{}}))
	p.wantLeft(plan, "v0-one v1-one #11 v2-amd #13 v2 v2-one")
}

func TestGrandfatherFatherSon(t *testing.T) {
	p := newPkg(t)
	// Two a day for 800 days: the newest of a day is its later one.
	for i := range 1600 {
		v := p.image(fmt.Sprint(i), fmt.Sprintf("t%d", i))
		p.at(v).Created = time.Date(2024, 4, 7, 6+12*(i%2), 0, 0, 0, time.UTC).AddDate(0, 0, i/2)
	}
	p.image("last", "v")
	kept := func(k Keep) (dates []string) {
		plan, err := Make(rules(Rule{Match: p.tags("t*"), Keep: &k, Delete: &When{}}), &p.inv, Facts{}, today)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range plan.Kept {
			if d.Reason == ReasonKeepRule {
				dates = append(dates, p.inv.Versions[d.Version-1].Created.Format("06-01-02T15"))
			}
		}
		return dates
	}
	for name, tt := range map[string]struct {
		keep Keep
		want string
	}{
		"days":   {Keep{Days: 2}, "26-06-14T18 26-06-15T18"},
		"weeks":  {Keep{Weeks: 3}, "26-06-07T18 26-06-14T18 26-06-15T18"},
		"months": {Keep{Months: 3}, "26-04-30T18 26-05-31T18 26-06-15T18"},
		"years":  {Keep{Years: 5}, "24-12-31T18 25-12-31T18 26-06-15T18"},
		"all":    {Keep{Days: 2, Months: 2, Years: 2}, "25-12-31T18 26-05-31T18 26-06-14T18 26-06-15T18"},
	} {
		if got := strings.Join(kept(tt.keep), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestNamedReferrersStayAtTheirRank(t *testing.T) {
	p := newPkg(t)
	gone := p.image("gone")
	p.image("a", "v1")
	p.image("b", "v2")
	p.about(gone, "sbom", "v2-sbom")
	p.lose(gone)
	p.wantLeft(p.plan(rules(Rule{Match: p.tags("*"), Keep: &Keep{Last: 1}, Delete: &When{}})), "v2 v2-sbom")
}

func TestRetag(t *testing.T) {
	p := newPkg(t)
	orphan := p.image("orphan")
	p.image("v", "v1")
	policy := rules(Rule{Name: "save", Match: Match{Untagged: true}, Retag: "lost-{id}"}, deleteUntagged())
	plan := p.plan(policy)
	p.wantLeft(plan, "lost-1 v1")
	if a := plan.Actions[0]; a.Do != Retag || a.Rule != "save" || a.Digest != orphan.Digest {
		t.Errorf("%+v", a)
	}
	// A tag is never taken from another.
	p.image("w", "lost-1")
	plan = p.plan(policy)
	p.wantLeft(plan, "#1 v1 lost-1")
	p.wantKept(plan, orphan, ReasonTagTaken, "save")
	p.image("second orphan")
	policy.Rules[0].Retag = "lost"
	p.wantLeft(p.plan(policy), "lost v1 lost-1 #4")
	policy.Rules[0].Retag = "lost {id}"
	if _, err := Make(policy, &p.inv, Facts{}, today); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

func TestReports(t *testing.T) {
	p := newPkg(t)
	gone := p.image("gone")
	ghost := p.index([]*Version{gone}, "v1")
	p.lose(gone)
	p.image("other", "v2")
	plan := p.plan(rules(Rule{Name: "ghosts", Match: Match{Health: []Health{Ghost}}, Report: true}))
	if len(plan.Reports) != 1 || plan.Reports[0].Version != ghost.ID || plan.Reports[0].Rule != "ghosts" || len(plan.Actions) != 0 {
		t.Errorf("%+v", plan)
	}
	lazy, reads := readAsNeeded(t, rules(Rule{Name: "ghosts", Match: Match{Health: []Health{Ghost}}, Report: true}), &p.inv, Facts{})
	if len(lazy.Reports) != 1 || reads != 2 {
		t.Errorf("%d read: %+v", reads, lazy.Reports)
	}
}

func TestRails(t *testing.T) {
	build := func() *pkg {
		p := newPkg(t)
		for i := range 10 {
			p.image(fmt.Sprint(i), fmt.Sprintf("pr-%d", i))
		}
		return p
	}
	refused := func(p *pkg, policy *Policy) string {
		plan := p.plan(policy)
		var names []string
		for _, r := range plan.Refused {
			names = append(names, r.Rail)
		}
		if err := plan.Err(); (err != nil) != (len(names) > 0) || err != nil && !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		return strings.Join(names, " ")
	}
	for name, tt := range map[string]struct {
		tags   string
		change func(r *Rails)
		want   string
	}{
		"within all":      {"pr-[0-2]", func(r *Rails) { r.MaxDelete, r.MaxDeletePercent, r.MinRemaining = 3, 30, 7 }, ""},
		"count":           {"pr-[0-2]", func(r *Rails) { r.MaxDelete = 2 }, "max-delete"},
		"percent":         {"pr-[0-2]", func(r *Rails) { r.MaxDeletePercent = 29 }, "max-delete-percent"},
		"remaining":       {"pr-[0-2]", func(r *Rails) { r.MinRemaining = 8 }, "min-remaining"},
		"all at once":     {"pr-[0-2]", func(r *Rails) { *r = Rails{MinRemaining: 8} }, "max-delete max-delete-percent min-remaining"},
		"nothing to do":   {"x", func(r *Rails) { *r = Rails{MinRemaining: 80} }, ""},
		"every tag":       {".+", func(r *Rails) { r.AllowMatchAll = false }, "match-all"},
		"every tag, said": {".+", func(r *Rails) {}, ""},
	} {
		p := build()
		policy := rules(deleteTags(p, "re:"+tt.tags))
		tt.change(&policy.Rails)
		if got := refused(p, policy); got != tt.want {
			t.Errorf("%s: %q refuse, want %q", name, got, tt.want)
		}
	}
	// Age alone is about every tag too.
	p := build()
	policy := rules(Rule{Match: Match{OlderThan: day}, Delete: &When{}})
	policy.Rails.AllowMatchAll = false
	if got := refused(p, policy); got != "match-all" {
		t.Errorf("%q", got)
	}
	// Without a tag there is no last tagged version to stop it.
	p = newPkg(t)
	p.image("a")
	p.image("b")
	if got := refused(p, rules(deleteUntagged())); got != "empty" {
		t.Errorf("%q", got)
	}
}

func TestCost(t *testing.T) {
	p := newPkg(t)
	p.image("a", "pr-1")
	p.image("b", "v1", "pr-2")
	plan := p.plan(rules(Rule{Match: p.tags("pr-1"), Delete: &When{}}, Rule{Match: p.tags("pr-2"), Untag: &When{}}))
	size := int64(len(p.inv.Versions[0].Manifest.Bytes()))
	// Three pages; a deletion; and for the tag a manifest, a push and a deletion.
	// Three tags looked at twice, and what is deleted.
	want := Cost{Requests: 3 + 1 + 3, Points: 3 + 2*5, Looks: 2*3 + 1, UniqueBytes: size + 100, SharedBytes: 1002}
	if plan.Cost != want {
		t.Errorf("%+v, want %+v", plan.Cost, want)
	}
	if plan.Actions[1].Size != size+1102 {
		t.Errorf("%d", plan.Actions[1].Size)
	}
}
