package retain

import (
	"time"

	"github.com/Masterminds/semver/v3"
)

// moment is when a version came to be in an order; false if that is not known.
func (p *planner) moment(r *compiledRule, i int, by Order) (time.Time, bool) {
	it := &p.items[i]
	at := it.Created
	switch by {
	case ByUpdated:
		at = it.Updated
	case ByTagDate:
		at = time.Time{}
		for _, tag := range it.tags {
			if r.tag(tag) {
				if d := r.date(tag); d.After(at) {
					at = d
				}
			}
		}
	}
	return at, !at.IsZero()
}

func (p *planner) age(r *compiledRule, i int, by Order) (time.Duration, bool) {
	at, ok := p.moment(r, i, by)
	return p.now.Sub(at), ok
}

// holds tells whether the condition of an action is met.
func (p *planner) holds(r *compiledRule, i int, w *When, listed map[string]bool) (truth, Reason) {
	if w.OlderThan > 0 {
		age, ok := p.age(r, i, w.By)
		switch {
		case !ok:
			return no, ReasonNoDate
		case age < w.OlderThan:
			return no, ReasonCondition
		}
	}
	if listed != nil {
		tags := r.tags(&p.items[i])
		if len(tags) == 0 {
			return no, ReasonCondition
		}
		for _, tag := range tags {
			if key, ok := r.key(tag, w.Key); !ok || listed[key] {
				return no, ReasonCondition
			}
		}
	}
	if w.Expired == "" {
		return yes, ""
	}
	man := p.items[i].node.Manifest
	if man == nil {
		p.want(i)
		return unknown, ReasonCondition
	}
	at, ok := expiry(man.Annotations[w.Expired], p.items[i].Created)
	return isTrue(ok && !p.now.Before(at)), ReasonCondition
}

// key is what a tag has in a group, or the tag. A tag without the group has no key, so
// nothing is said about it.
func (r *compiledRule) key(tag, group string) (string, bool) {
	if group == "" {
		return tag, true
	}
	for _, pattern := range append(r.Match.Tags[:len(r.Match.Tags):len(r.Match.Tags)], r.Match.Calver) {
		if value, ok := pattern.groups(tag)[group]; ok {
			return value, true
		}
	}
	return "", false
}

// expiry reads when something ends: a date, or an age after its creation.
func expiry(text string, created time.Time) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	age, err := ParseAge(text)
	return created.Add(age), err == nil && !created.IsZero()
}

// newest returns the highest version among tags, or nil.
func newest(tags []string) *semver.Version {
	var best *semver.Version
	for _, tag := range tags {
		if v := versionOf(tag); v != nil && (best == nil || v.GreaterThan(best)) {
			best = v
		}
	}
	return best
}
