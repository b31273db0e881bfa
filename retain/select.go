package retain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// truth is whether something holds, as far as it is known. Both is the least, either
// the most.
type truth int8

const (
	no truth = iota
	unknown
	yes
)

func isTrue(b bool) truth {
	if b {
		return yes
	}
	return no
}

// compiledRule is a [Rule] that is ready to be asked.
type compiledRule struct {
	*Rule
	at        int // its place in the policy
	literal   map[string]bool
	listed    map[string]bool // Match.TagsFrom
	notIn     [2]map[string]bool
	byTag     bool // it looks for tags
	byRead    bool // it looks into manifests
	asks      bool // so does one of its conditions, or it itself
	platforms []string
}

// names tells whether the rule names versions by what the list of versions alone says,
// so that it can be about a part of something else.
func (r *compiledRule) names() bool {
	return (r.byTag || len(r.Match.Digests) > 0) && !r.byRead
}

// compile readies the rules.
//
// Errors: [oci.ErrInvalid] for a list that is missing or no text, a name that is not
// there or comes twice, a platform or order that does not exist, and a condition or a
// count that would mean something else.
func compile(policy *Policy, facts Facts) ([]compiledRule, error) {
	rules := make([]compiledRule, len(policy.Rules))
	names := map[string]bool{}
	for i := range policy.Rules {
		r := &policy.Rules[i]
		if r.Name == "" || names[r.Name] {
			return nil, oci.Invalid("rule %d: its name %q is empty or another rule's", i+1, r.Name)
		}
		names[r.Name] = true
		var err error
		if rules[i], err = compileRule(r, facts); err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		rules[i].at = i
	}
	return rules, nil
}

func compileRule(r *Rule, facts Facts) (c compiledRule, err error) {
	m := &r.Match
	c.Rule = r
	c.byTag = m.byTag()
	c.byRead = len(m.Roles)+len(m.Health)+len(m.MediaTypes)+len(m.ArtifactTypes)+len(m.Annotations)+len(m.Labels)+len(m.Platforms) > 0 ||
		m.LargerThan > 0 || m.SmallerThan > 0
	c.asks = c.byRead
	c.literal = map[string]bool{}
	for _, p := range m.Tags {
		if p.expr == nil {
			c.literal[p.Text] = true
		}
	}
	list := func(name string) map[string]bool {
		if name == "" || err != nil {
			return nil
		}
		lines, ok := facts.Lists[name]
		if !ok {
			err = oci.Invalid("the list %s is not there; an empty one would have to be given as such", name)
		}
		set := make(map[string]bool, len(lines))
		for _, line := range lines {
			if !utf8.ValidString(line) || strings.IndexByte(line, 0) >= 0 {
				// Nothing would be found in it, and all that is looked up would go.
				err = oci.Invalid("the list %s is not UTF-8; write it anew as UTF-8", name)
			}
			set[line] = true
		}
		return set
	}
	// What would be taken for no limit, or for one group of all, would have more go.
	if min(int64(m.OlderThan), int64(m.YoungerThan), m.LargerThan, m.SmallerThan) < 0 {
		return c, oci.Invalid("match: an age or a size is below zero")
	}
	c.listed = list(m.TagsFrom)
	for i, w := range []*When{r.Delete, r.Untag} {
		if w != nil {
			c.notIn[i] = list(w.NotIn)
			c.asks = c.asks || w.Expired != ""
			err = firstError(err, checkOrder(w.By))
			if w.OlderThan < 0 {
				return c, oci.Invalid("an age is below zero")
			}
		}
	}
	if r.Keep != nil {
		check := checker{report: func(_, format string, args ...any) { err = firstError(err, oci.Invalid(format, args...)) }}
		check.counts(r.Keep)
		check.per(r)
		err = firstError(err, checkOrder(r.Keep.Order))
	}
	for _, text := range m.Platforms {
		p, perr := oci.ParsePlatform(text)
		err = firstError(err, perr)
		c.platforms = append(c.platforms, oci.FormatPlatform(p))
	}
	return c, firstError(err, checkOrder(m.By))
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func checkOrder(o Order) error {
	switch o {
	case "", ByCreated, ByUpdated, BySemver, ByTagDate:
		return nil
	}
	return oci.Invalid("there is no order %q", o)
}

// tag tells whether the rule is about a tag. Without a selector of tags it is about
// all that it does not except.
func (r *compiledRule) tag(tag string) bool {
	m := &r.Match
	switch {
	case r.excepts(tag):
		return false
	case len(m.Tags) > 0 && !r.literal[tag] && !slices.ContainsFunc(m.Tags, func(p Pattern) bool { return p.expr != nil && p.Match(tag) }):
		return false
	case r.listed != nil && !r.listed[tag]:
		return false
	case m.Semver.Text != "" && !r.version(tag):
		return false
	case m.Calver.Text != "" && r.date(tag).IsZero():
		return false
	}
	return true
}

func (r *compiledRule) excepts(tag string) bool {
	return slices.ContainsFunc(r.Match.Except, func(p Pattern) bool { return p.Match(tag) })
}

func (r *compiledRule) version(tag string) bool {
	if !r.Match.Semver.Match(tag) {
		return false
	}
	return r.Match.Prerelease == nil || *r.Match.Prerelease == (versionOf(tag).Prerelease() != "")
}

// date reads the date that a tag has, or returns zero.
func (r *compiledRule) date(tag string) time.Time {
	groups := r.Match.Calver.groups(tag)
	number := func(name string, missing int) int {
		text, ok := groups[name]
		if !ok {
			return missing
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return -1
		}
		return n
	}
	year, month, day, hour, minute := number("year", -1), number("month", 1), number("day", 1), number("hour", 0), number("minute", 0)
	if 0 <= year && year < 100 && len(groups["year"]) == 2 {
		year += 2000
	}
	at := time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
	// The 31st of February is no date, and not the third of March.
	if year < 1970 || year > 9999 || at.Year() != year || at.Month() != time.Month(month) || at.Day() != day || at.Hour() != hour || at.Minute() != minute {
		return time.Time{}
	}
	return at
}

// tags returns those of a version that the rule is about.
func (r *compiledRule) tags(it *item) []string {
	var list []string
	for _, tag := range it.tags {
		if r.tag(tag) {
			list = append(list, tag)
		}
	}
	return list
}

// byTags tells whether the tags of a version match, and whether at least some do. One
// that is excepted keeps the whole version.
func (r *compiledRule) byTags(it *item) (all, some bool) {
	matched, excepted := 0, false
	for _, tag := range it.tags {
		switch {
		case r.excepts(tag):
			excepted = true
		case r.byTag && r.tag(tag):
			matched++
		}
	}
	switch {
	case !r.byTag:
		return !excepted, false
	case matched == 0:
		return false, false
	}
	return !excepted && (r.Match.Any || matched == len(it.tags)), true
}

// matches tells whether the rule is about a version, and whether it is about some of its
// tags. What can't be told before more is read is unknown, and asked for. To keep a
// version one matching tag is enough.
func (p *planner) matches(r *compiledRule, i int, keep bool) (whole, some truth) {
	it, m := &p.items[i], &r.Match
	p.asked = false
	if !m.says() {
		return no, no
	}
	if len(m.Digests) > 0 && !slices.Contains(m.Digests, it.Digest) || m.Untagged && (len(it.tags) > 0 || it.part) {
		return no, no
	}
	all, any := r.byTags(it)
	if keep && (any || !r.byTag && (len(it.tags) == 0 || slices.ContainsFunc(it.tags, r.tag))) {
		all = true
	}
	if !all && (!any || r.Untag == nil) {
		return no, isTrue(any)
	}
	var t truth
	t, p.doubt = yes, ReasonUnclear
	if m.OlderThan > 0 || m.YoungerThan > 0 {
		age, ok := p.age(r, i, m.By)
		switch {
		case !ok:
			t, p.doubt = unknown, ReasonNoDate
		case m.OlderThan > 0 && age < m.OlderThan, m.YoungerThan > 0 && age >= m.YoungerThan:
			return no, no
		}
	}
	if r.byRead {
		t = min(t, p.looksLike(r, i))
	}
	return min(t, isTrue(all)), min(t, isTrue(any))
}
