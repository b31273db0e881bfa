package retain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// member is an image in a group of those that a quantifier counts.
type member struct {
	at      int
	when    time.Time
	version *semver.Version
	slot    bool // it is counted; referrers and ghosts are not
	open    bool // whether it matches at all shows only when it is read
}

// counts tells whether a version is an image that a number can be of. A ghost is none:
// nothing of it is left to be kept in place of another.
func (it *item) counts() bool { return len(it.node.About) == 0 && !it.ghost() }

// keep marks what the quantifiers of a rule name. Referrers and ghosts are never counted,
// and an image that has no place in the order stays without being counted.
func (p *planner) keep(r *compiledRule) {
	k := r.Keep
	order := k.Order
	if order == "" {
		order = ByCreated
		if r.Match.Semver.Text != "" {
			order = BySemver
		}
	}
	groups := map[string][]member{}
	for i := range p.items {
		it := &p.items[i]
		if it.part && !r.names() {
			continue
		}
		t, _ := p.matches(r, i, !k.Whole)
		if t == yes && k.Per == "platform" {
			if _, ok := p.platformsOf(i); !ok {
				t = unknown // the group that it is counted in can't be told
				p.unsure = p.unsure || p.asked
			}
		}
		open := t == unknown && p.asked
		when, known := p.moment(r, i, order)
		switch {
		case t == no:
			continue
		case open && order != BySemver && !known:
			continue // whether it matches or not, it takes no place
		case !open && (k.All || t == unknown || it.opaque), order != BySemver && !known,
			k.Within > 0 && !open && (!known || p.now.Sub(when) < k.Within):
			p.stay(i, ReasonKeepRule, r)
			continue
		case it.part, it.named == 0 && len(it.tags) > 0 && len(it.node.About) > 0:
			continue // its tags say that it is about something else
		}
		m := member{at: i, when: when, slot: it.counts(), open: open}
		for group, tags := range p.groups(r, i) {
			if order == BySemver {
				if m.version = newest(tags); m.version == nil {
					p.keepMember(r, m)
					continue
				}
			}
			groups[group] = append(groups[group], m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		p.keepOf(r, groups[name])
	}
}

// keepOf keeps from one group.
func (p *planner) keepOf(r *compiledRule, group []member) {
	k := r.Keep
	slices.SortFunc(group, func(a, b member) int {
		order := b.when.Compare(a.when)
		if a.version != nil && b.version != nil {
			order = b.version.Compare(a.version)
		}
		return cmp.Or(order, cmp.Compare(p.items[b.at].ID, p.items[a.at].ID))
	})
	last := newCounter(k.Last, nil)
	periods := []*counter{
		newCounter(k.Days, func(t time.Time) string { return t.Format(time.DateOnly) }),
		newCounter(k.Weeks, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "-", w) }),
		newCounter(k.Months, func(t time.Time) string { return t.Format("2006-01") }),
		newCounter(k.Years, func(t time.Time) string { return t.Format("2006") }),
	}
	byTime := slices.Clone(group)
	slices.SortStableFunc(byTime, func(a, b member) int { return b.when.Compare(a.when) })
	for _, m := range group {
		if last.takes(m) {
			p.keepMember(r, m)
		}
	}
	for _, m := range byTime {
		for _, c := range periods {
			if c.n > 0 && (m.when.IsZero() || c.takes(m)) {
				p.keepMember(r, m)
			}
		}
	}
	kept := 0
	for _, m := range group {
		if m.slot && p.items[m.at].stays != "" {
			kept++
		}
	}
	for _, m := range group {
		if kept < k.AtLeast && p.items[m.at].stays == "" {
			p.keepMember(r, m)
			if m.slot {
				kept++
			}
		}
	}
}

func (p *planner) keepMember(r *compiledRule, m member) {
	if !m.open {
		p.stay(m.at, ReasonKeepRule, r)
	}
}

// counter takes the newest, or the newest of each period, until it has enough.
type counter struct {
	n      int
	period func(time.Time) string
	taken  int
	last   string // the period taken from; members come in their order
}

func newCounter(n int, period func(time.Time) string) *counter { return &counter{n: n, period: period} }

// takes tells whether a member stays. One without a slot stays at its rank, and leaves
// the place to the next.
func (c *counter) takes(m member) bool {
	if c.taken >= c.n {
		return false
	}
	name := ""
	if c.period != nil {
		if name = c.period(m.when.UTC()); c.taken > 0 && name == c.last {
			return false
		}
	}
	if m.slot {
		c.taken++
		c.last = name
	}
	return true
}

// groups returns the groups of Keep.Per that a version is in, and by which of its tags.
func (p *planner) groups(r *compiledRule, i int) map[string][]string {
	tags := r.tags(&p.items[i])
	per := r.Keep.Per
	if per == "" {
		return map[string][]string{"": tags}
	}
	if per == "platform" {
		list, _ := p.platformsOf(i)
		return map[string][]string{strings.Join(list, ","): tags}
	}
	groups := map[string][]string{}
	for _, tag := range tags {
		name := r.group(tag)
		groups[name] = append(groups[name], tag)
	}
	if len(tags) == 0 {
		groups[""] = nil
	}
	return groups
}

// group is the group that a tag is in. A group of the rule's own expressions goes
// before what versions have.
func (r *compiledRule) group(tag string) string {
	if value, ok := r.key(tag, r.Keep.Per); ok {
		return value
	}
	v := versionOf(tag)
	if v == nil {
		return ""
	}
	switch r.Keep.Per {
	case "major":
		return fmt.Sprint(v.Major())
	case "minor":
		return fmt.Sprintf("%d.%d", v.Major(), v.Minor())
	case "channel":
		channel, _, _ := strings.Cut(v.Prerelease(), ".")
		return strings.TrimRight(channel, "0123456789")
	}
	return ""
}
