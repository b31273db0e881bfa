package retain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// check reports what is wrong with a policy that is well-formed: what contradicts
// itself, and what could only be a mistake. Where is the key, as a [Problem] has it.
func (p *Policy) check(report func(where, format string, args ...any)) {
	if len(p.Rules) == 0 {
		report("rules", "no rules; the policy does nothing")
	}
	if p.Rails.Grace < 0 {
		report("defaults.grace", "grace is below zero")
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		at := fmt.Sprintf("rules[%d]", i)
		c := checker{at: at, report: report}
		switch {
		case r.Name == "":
			report(at, "name is missing")
		case names[r.Name]:
			report(at+".name", "the name %q is there twice; it is printed as the reason", r.Name)
		}
		names[r.Name] = true
		c.rule(r)
		if (r.Delete != nil || r.Untag != nil) && !p.Rails.AllowMatchAll && r.Match.matchesAll() {
			report(at+".match.tags", "rule %s deletes or untags, and matches every tag; narrow it, or agree with defaults: {allow_match_all: true}", r.Name)
		}
	}
	tests := map[string]bool{}
	for i, t := range p.Tests {
		at := fmt.Sprintf("tests[%d]", i)
		if tests[t.Name] {
			report(at+".name", "the name %q is there twice", t.Name)
		}
		tests[t.Name] = true
		p.checkTest(at, t, names, report)
	}
}

// matchesAll tells whether any tag will do: by a pattern, or because nothing but age
// and size is asked for. Those narrow a match, but not to fewer tags.
func (m *Match) matchesAll() bool {
	if m.TagsFrom != "" || m.Semver.Text != "" || m.Calver.Text != "" || m.Untagged || len(m.Digests) > 0 || !m.says() {
		return false
	}
	read := len(m.Roles)+len(m.Health)+len(m.MediaTypes)+len(m.ArtifactTypes)+len(m.Annotations)+len(m.Labels)+len(m.Platforms) > 0
	return matchAll(m.Tags) || len(m.Tags) == 0 && !read
}

// complete fills in what follows from the rest: an expression with one group has it
// for that which is looked up.
func (p *Policy) complete() {
	for i := range p.Rules {
		for _, w := range []*When{p.Rules[i].Delete, p.Rules[i].Untag} {
			if w == nil || w.NotIn == "" || w.Key != "" {
				continue
			}
			if groups := p.Rules[i].Match.groups(); len(groups) == 1 {
				w.Key = groups[0]
			}
		}
	}
}

func (p *Policy) checkTest(at string, t Test, rules map[string]bool, report func(where, format string, args ...any)) {
	tags := map[string]bool{}
	for j, image := range t.Images {
		at := fmt.Sprintf("%s.images[%d]", at, j)
		if image.Rule != "" && !rules[image.Rule] {
			report(at+".rule", "there is no rule %q", image.Rule)
		}
		for _, tag := range image.Tags {
			switch err := oci.CheckTag(tag); {
			case err != nil:
				report(at+".tags", "%v", err)
			case tags[tag]:
				report(at+".tags", "the tag %s is on two images", tag)
			}
			tags[tag] = true
		}
	}
	lists, _ := p.Files()
	for name := range t.Lists {
		if !slices.Contains(lists, name) {
			report(at+".lists", "the policy names no file %q", name)
		}
	}
	for _, name := range lists {
		if t.Lists[name] == nil {
			report(at, "test %s: lists does not say what is in %q", t.Name, name)
		}
	}
}

// checker reports what is wrong with one rule.
type checker struct {
	at     string
	report func(where, format string, args ...any)
}

func (c checker) fail(key, format string, args ...any) { c.report(c.at+key, format, args...) }

func (c checker) rule(r *Rule) {
	c.match(&r.Match)
	acts := 0
	// Delete and untag go together: what can't be deleted whole loses its tags.
	for _, set := range []bool{r.Delete != nil || r.Untag != nil, r.Retag != "", r.Report} {
		if set {
			acts++
		}
	}
	switch {
	case acts == 0 && r.Keep == nil:
		c.fail("", "rule %s says what it matches, and not what becomes of it: keep, delete, untag, retag or report", r.Name)
	case acts > 1:
		c.fail("", "rule %s does more than one of delete or untag, retag, and report", r.Name)
	case acts == 1 && r.Keep != nil && r.Keep.All:
		c.fail(".keep", "rule %s keeps all, so there is nothing left for what else it does", r.Name)
	}
	if r.Keep != nil {
		c.keep(r)
	}
	if r.Delete != nil {
		c.when(".delete", r, r.Delete)
		if slices.Contains(r.Match.Health, Unreadable) {
			c.fail(".match.health", "what can't be read is always kept; use report")
		}
	}
	if r.Untag != nil {
		c.when(".untag", r, r.Untag)
		if !r.Match.byTag() {
			c.fail(".untag", "untag needs a match of tags, which say what is taken off")
		}
	}
	if r.Retag != "" {
		c.retag(r)
	}
}

// byTag tells whether the match says anything of tags, so that an untagged image does
// not match.
func (m *Match) byTag() bool {
	return len(m.Tags) > 0 || m.TagsFrom != "" || m.Semver.Text != "" || m.Calver.Text != ""
}

// says tells whether the match says anything at all of which images it is about.
func (m *Match) says() bool {
	return m.byTag() || len(m.Digests) > 0 || m.Untagged || len(m.Roles) > 0 || len(m.Health) > 0 || len(m.MediaTypes) > 0 || len(m.ArtifactTypes) > 0 ||
		len(m.Annotations) > 0 || len(m.Labels) > 0 || len(m.Platforms) > 0 || m.LargerThan > 0 || m.SmallerThan > 0 || m.OlderThan > 0 || m.YoungerThan > 0
}

func (c checker) match(m *Match) {
	if !m.says() && len(m.Except) == 0 {
		c.fail(".match", "match says nothing, so it matches nothing")
	}
	if len(m.Except) > 0 && !m.byTag() {
		c.fail(".match.except", "except takes tags from a match of tags, and there is none")
	}
	if m.Untagged && (m.byTag() || m.Any) {
		c.fail(".match.untagged", "what has no tag can't match tags")
	}
	if m.Any && !m.byTag() {
		c.fail(".match.any_tag", "any_tag needs a match of tags")
	}
	if m.Prerelease != nil && m.Semver.Text == "" {
		c.fail(".match.prerelease", "prerelease needs semver; all versions are semver: \">=0.0.0-0\"")
	}
	if m.OlderThan > 0 && m.YoungerThan > 0 && m.OlderThan >= m.YoungerThan {
		c.fail(".match.older_than", "nothing is older than %s and younger than %s", FormatAge(m.OlderThan), FormatAge(m.YoungerThan))
	}
	if m.LargerThan > 0 && m.SmallerThan > 0 && m.LargerThan >= m.SmallerThan {
		c.fail(".match.larger_than", "nothing is larger than %d and smaller than %d bytes", m.LargerThan, m.SmallerThan)
	}
	if m.By != "" && m.OlderThan == 0 && m.YoungerThan == 0 {
		c.fail(".match.by", "by says what older_than and younger_than go by, and there is neither")
	}
	if m.OlderThan < 0 || m.YoungerThan < 0 {
		c.fail(".match", "an age is below zero")
	}
	c.dated(".match.by", m.By, m)
	if m.Calver.Text != "" {
		for _, group := range []string{"year", "month", "day"} {
			if !m.Calver.hasGroup(group) {
				c.fail(".match.calver", "the expression has no group (?P<%s>...)", group)
			}
		}
	}
}

// dated checks an order that goes by the dates in tags.
func (c checker) dated(key string, order Order, m *Match) {
	if order == ByTagDate && m.Calver.Text == "" {
		c.fail(key, "dates in tags are read by match: {calver: ...}, and there is none")
	}
}

func (c checker) keep(r *Rule) {
	k := r.Keep
	counted := max(k.Last, k.Days, k.Weeks, k.Months, k.Years, k.AtLeast) > 0
	c.counts(k)
	switch {
	case !k.All && !counted && k.Within == 0:
		c.fail(".keep", "keep does not say how many; write keep: all, or last, within, days, weeks, months, years or at_least")
	case !counted && (k.Per != "" || k.Order != ""):
		c.fail(".keep", "per and order are for counts, and there is none")
	}
	c.dated(".keep.order", k.Order, &r.Match)
	if k.Order == BySemver && r.Match.Semver.Text == "" {
		c.fail(".keep.order", "order: semver needs match: {semver: ...}")
	}
	c.per(r)
}

func (c checker) counts(k *Keep) {
	if min(k.Last, k.Days, k.Weeks, k.Months, k.Years, k.AtLeast) < 0 || k.Within < 0 {
		c.fail(".keep", "a number is below zero")
	}
}

// per checks the groups in which a rule counts.
func (c checker) per(r *Rule) {
	switch k := r.Keep; k.Per {
	case "", "platform":
	case "major", "minor", "channel":
		if r.Match.Semver.Text == "" {
			c.fail(".keep.per", "per: %s needs match: {semver: ...}", k.Per)
		}
	default:
		c.group(".keep.per", k.Per, r)
	}
}

func (c checker) when(key string, r *Rule, w *When) {
	if w.OlderThan < 0 {
		c.fail(key, "an age is below zero")
	}
	if w.By != "" && w.OlderThan == 0 {
		c.fail(key+".by", "by says what older_than goes by, and there is none")
	}
	c.dated(key+".by", w.By, &r.Match)
	switch {
	case w.NotIn == "" && w.Key != "":
		c.fail(key+".key", "key is looked up in the file of when_not_in, and there is none")
	case w.NotIn != "" && !r.Match.byTag():
		c.fail(key+".when_not_in", "when_not_in looks up tags, and match says nothing of them")
	case w.Key != "":
		c.group(key+".key", w.Key, r)
	case w.NotIn != "":
		if groups := r.Match.groups(); len(groups) > 0 {
			c.fail(key+".when_not_in", "what is looked up: the whole tag, or one of the groups %s? Say key: GROUP", strings.Join(groups, ", "))
		}
	}
}

// group checks that each expression of a match has the group: an image without one
// would be of no group, or looked up as nothing.
func (c checker) group(key, group string, r *Rule) {
	if len(r.Match.Tags) == 0 {
		c.fail(key, "%q is a group of a regular expression, and match has no regex", group)
		return
	}
	for _, p := range r.Match.Tags {
		if !p.hasGroup(group) {
			c.fail(key, "the pattern %q has no group (?P<%s>...)", p.Text, group)
		}
	}
}

// groups are the names of the groups of all expressions of a match, sorted.
func (m *Match) groups() []string {
	var list []string
	for _, p := range m.Tags {
		if p.expr == nil {
			continue
		}
		for _, name := range p.expr.SubexpNames() {
			if name != "" {
				list = append(list, name)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// retag checks the template of a tag: what it makes must be a tag, and another one for
// each image, or the last would take it from all before.
func (c checker) retag(r *Rule) {
	if !r.Match.Untagged {
		c.fail(".retag", "retag is for what would be lost: match: {untagged: true}")
	}
	tag := strings.NewReplacer("{digest}", strings.Repeat("0", 64), "{id}", "0000000000").Replace(r.Retag)
	if tag == r.Retag {
		c.fail(".retag", "%q gives all the same tag; put {digest} or {id} in it", r.Retag)
		return
	}
	if err := oci.CheckTag(tag); err != nil {
		c.fail(".retag", "%q makes no tag: %v", r.Retag, err)
	} else if _, _, ok := oci.ParseDigestTag(tag); ok {
		c.fail(".retag", "%q is what registries call the signatures of an image", r.Retag)
	}
}
