package retain

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Finding is something in a policy that is allowed, and probably not meant.
type Finding struct {
	Code FindingCode
	Rule string // empty if it is about the policy
	Text string
}

// FindingCode is a kind of finding. The codes are stable.
type FindingCode string

// What Lint finds.
const (
	FindUnreachable FindingCode = "unreachable" // earlier rules claim all that it matches
	FindOverlap     FindingCode = "overlap"     // an earlier rule claims some of what it matches
	FindNoMatch     FindingCode = "no-match"    // a pattern or rule matches none of the package's tags
	FindAllMatch    FindingCode = "all-match"   // a pattern or rule matches all of the package's tags
	FindNeverActs   FindingCode = "never-acts"  // its conditions can't hold, or nothing is left for it
	FindNoEffect    FindingCode = "no-effect"   // a condition that another one makes needless
	FindAmbiguous   FindingCode = "ambiguous"   // it does not say something that is worth saying
)

// String returns "RULE: text (code)".
func (f Finding) String() string {
	if f.Rule == "" {
		return fmt.Sprintf("%s (%s)", f.Text, f.Code)
	}
	return fmt.Sprintf("%s: %s (%s)", f.Rule, f.Text, f.Code)
}

// Lint finds what is probably not meant: by the policy alone, and if there is an
// inventory, by the tags of that package. Rules that read manifests or files are only
// looked at alone. The policy must be valid, and inv may be nil.
func Lint(policy *Policy, inv *Inventory) []Finding {
	l := &linter{policy: policy}
	acts := false
	for i := range policy.Rules {
		r := &policy.Rules[i]
		acts = acts || r.Delete != nil
		l.alone(r)
		l.behindAll(i)
	}
	switch {
	case acts && policy.Rails.MaxDelete == 0:
		l.find(FindNeverActs, "", "max_delete is 0, so that no plan may delete anything")
	case acts && policy.Rails.MaxDeletePercent == 0:
		l.find(FindNeverActs, "", "max_delete_percent is 0, so that no plan may delete anything")
	}
	if inv != nil {
		l.onTags(inv)
	}
	slices.SortStableFunc(l.found, func(a, b Finding) int { return cmp.Compare(l.place(a.Rule), l.place(b.Rule)) })
	return l.found
}

type linter struct {
	policy *Policy
	found  []Finding
}

func (l *linter) find(code FindingCode, rule, format string, args ...any) {
	l.found = append(l.found, Finding{Code: code, Rule: rule, Text: fmt.Sprintf(format, args...)})
}

// place sorts what is about the policy before what is about its rules.
func (l *linter) place(rule string) int {
	return slices.IndexFunc(l.policy.Rules, func(r Rule) bool { return r.Name == rule })
}

// alone looks at one rule for itself.
func (l *linter) alone(r *Rule) {
	m := &r.Match
	if m.Semver.Text != "" && m.Prerelease == nil && (r.Delete != nil || r.Untag != nil) {
		l.find(FindAmbiguous, r.Name, "semver matches pre-releases too; say prerelease: false or true, or have a rule for each")
	}
	for _, w := range []*When{r.Delete, r.Untag} {
		if w == nil {
			continue
		}
		by, matchBy := cmp.Or(w.By, ByCreated), cmp.Or(m.By, ByCreated)
		if w.OlderThan > 0 && m.YoungerThan > 0 && by == matchBy && w.OlderThan >= m.YoungerThan {
			l.find(FindNeverActs, r.Name, "it matches what is younger than %s, and acts on what is older than %s", FormatAge(m.YoungerThan), FormatAge(w.OlderThan))
		}
		if w.OlderThan > 0 && m.OlderThan >= w.OlderThan && by == matchBy {
			l.find(FindNoEffect, r.Name, "all that it matches is older than %s anyway", FormatAge(w.OlderThan))
		}
		if m.Untagged && w.OlderThan > 0 && w.OlderThan < l.policy.Rails.Grace {
			l.find(FindNoEffect, r.Name, "older_than %s is within the grace of %s", FormatAge(w.OlderThan), FormatAge(l.policy.Rails.Grace))
		}
	}
	if k := r.Keep; k != nil {
		if k.Within > 0 && r.Delete != nil && r.Delete.OlderThan > 0 && r.Delete.OlderThan <= k.Within && cmp.Or(r.Delete.By, ByCreated) == cmp.Or(k.Order, ByCreated) {
			l.find(FindNoEffect, r.Name, "what is younger than %s is kept, so that older_than %s leaves nothing out", FormatAge(k.Within), FormatAge(r.Delete.OlderThan))
		}
		if k.AtLeast > 0 && k.AtLeast <= k.Last && k.Per == "" {
			l.find(FindNoEffect, r.Name, "last: %d keeps at_least: %d anyway", k.Last, k.AtLeast)
		}
	}
	for i, p := range m.Tags {
		for _, e := range m.Except {
			if covers(e, p) {
				l.find(FindNeverActs, r.Name, "except %s takes away all that %s matches", e.Text, p.Text)
			}
		}
		for j, q := range m.Tags {
			if i != j && covers(q, p) && (!covers(p, q) || j < i) {
				l.find(FindNoEffect, r.Name, "%s matches all that %s does", q.Text, p.Text)
				break
			}
		}
	}
	if len(m.Tags) > 0 && (r.Delete != nil || r.Untag != nil) &&
		!slices.ContainsFunc(m.Tags, func(p Pattern) bool {
			return !slices.ContainsFunc(l.policy.Protect.Tags, func(q Pattern) bool { return covers(q, p) })
		}) {
		l.find(FindNeverActs, r.Name, "all that it matches is protected")
	}
}

// covers tells whether a matches all that b does, where that is plain.
func covers(a, b Pattern) bool {
	return a.Text == b.Text || a.matchesAll() || b.expr == nil && a.Match(b.Text)
}

// claims tells whether a rule decides for what it matches, so that no later one does.
func (r *Rule) claims() bool { return r.Delete != nil || r.Untag != nil || r.Retag != "" }

// onlyTags tells whether tags alone decide what a rule matches, and they are all here.
func (m *Match) onlyTags() bool {
	bare := *m
	bare.Tags, bare.Except, bare.Semver, bare.Prerelease, bare.Calver, bare.Any = nil, nil, Range{}, nil, Pattern{}, false
	return m.byTag() && m.TagsFrom == "" && !bare.says()
}

// behindAll finds a rule about tags behind one that claims whatever has a tag.
func (l *linter) behindAll(i int) {
	r := &l.policy.Rules[i]
	if !r.claims() || !r.Match.byTag() {
		return
	}
	for j := range i {
		before := &l.policy.Rules[j]
		if before.claims() && before.Match.onlyTags() && before.Match.matchesAll() && len(before.Match.Except) == 0 {
			l.find(FindUnreachable, r.Name, "rule %s before it claims every tag", before.Name)
			return
		}
	}
}

// onTags looks at what the rules match in one package.
func (l *linter) onTags(inv *Inventory) {
	var tagged []*Version
	var names []string
	for i := range inv.Versions {
		v := &inv.Versions[i]
		own := (&oci.Node{Digest: v.Digest, Tags: v.Tags}).Names()
		if len(own) > 0 {
			tagged, names = append(tagged, v), append(names, own...)
		}
	}
	if len(names) == 0 {
		return
	}
	for _, p := range l.policy.Protect.Tags {
		l.pattern("", "protect.tags", p, names, false)
	}
	claimed := map[*Version]string{} // by which rule
	for i := range l.policy.Rules {
		r := &l.policy.Rules[i]
		for _, p := range r.Match.Tags {
			l.pattern(r.Name, "tags", p, names, r.claims())
		}
		for _, p := range r.Match.Except {
			l.pattern(r.Name, "except", p, names, false)
		}
		if !r.Match.onlyTags() {
			continue
		}
		c, err := compileRule(r, Facts{Lists: l.noLists()})
		if err != nil {
			continue // Make says so
		}
		l.matches(&c, tagged, claimed)
	}
}

// noLists stands in for files, which decide what a rule does and not what it matches.
func (l *linter) noLists() map[string][]string {
	lists := map[string][]string{}
	names, _ := l.policy.Files()
	for _, name := range names {
		lists[name] = nil
	}
	return lists
}

func (l *linter) pattern(rule, key string, p Pattern, tags []string, all bool) {
	n := 0
	for _, tag := range tags {
		if p.Match(tag) {
			n++
		}
	}
	switch {
	case n == 0:
		l.find(FindNoMatch, rule, "%s: %s matches none of %d tags", key, p.Text, len(tags))
	case all && n == len(tags) && n > 1:
		l.find(FindAllMatch, rule, "%s: %s matches all %d tags", key, p.Text, n)
	}
}

func (l *linter) matches(c *compiledRule, tagged []*Version, claimed map[*Version]string) {
	total, mine := 0, 0
	before := map[string]int{}
	for _, v := range tagged {
		if all, _ := c.byTags(&item{Version: v, tags: v.Tags}); !all {
			continue
		}
		total++
		if !c.claims() {
			continue
		}
		if first := claimed[v]; first != "" {
			before[first]++
			continue
		}
		mine++
		claimed[v] = c.Name
	}
	switch {
	case total == 0 && (c.Match.Semver.Text != "" || c.Match.Calver.Text != "" || len(c.Match.Tags) > 1 || len(c.Match.Except) > 0):
		l.find(FindNoMatch, c.Name, "it matches none of %d tagged versions whole", len(tagged))
	case c.claims() && total > 0 && mine == 0:
		l.find(FindUnreachable, c.Name, "rules before it claim all %d versions that it matches", total)
	case len(before) > 0:
		for _, r := range l.policy.Rules {
			if n := before[r.Name]; n > 0 {
				l.find(FindOverlap, c.Name, "rule %s before it claims %d of the %d versions that it matches", r.Name, n, total)
			}
		}
	}
	if k := c.Keep; c.claims() && k != nil && k.Per == "" && mine > 0 && max(k.Last, k.AtLeast) >= total {
		l.find(FindNeverActs, c.Name, "it keeps %d, and matches only %d versions", max(k.Last, k.AtLeast), total)
	}
}
