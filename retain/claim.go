package retain

import (
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// stay has a version stay. The first reason counts.
func (p *planner) stay(i int, why Reason, by *compiledRule) {
	it := &p.items[i]
	if it.stays == "" {
		it.stays, it.by = why, by
	}
	if by != nil {
		it.kept |= 1 << min(by.at, 63)
	}
}

// protect marks what stays whatever the rules say.
func (p *planner) protect() {
	digests := map[oci.Digest]bool{}
	for _, d := range p.policy.Protect.Digests {
		digests[d] = true
	}
	for i := range p.items {
		it := &p.items[i]
		_, inUse := p.facts.InUse[it.Digest]
		switch {
		case digests[it.Digest] || slices.ContainsFunc(it.tags, p.protects):
			p.stay(i, ReasonProtected, nil)
		case inUse || slices.ContainsFunc(it.tags, p.uses):
			p.stay(i, ReasonInUse, nil)
		}
	}
}

// grace marks what has no tag and is too young to go, or may be. So it is with what has
// only tags that name what is not there: a copy may bring a signature before its image.
func (p *planner) grace() {
	for i := range p.items {
		switch it := &p.items[i]; {
		case slices.ContainsFunc(it.tags, p.leadsHere):
		case it.Created.IsZero():
			p.stay(i, ReasonNoDate, nil)
		case p.now.Sub(it.Created) < p.policy.Rails.Grace:
			p.stay(i, ReasonGrace, nil)
		}
	}
}

// leadsHere tells whether a tag is a name, or names something that is there.
func (p *planner) leadsHere(tag string) bool {
	d, _, ok := oci.ParseDigestTag(tag)
	return !ok || p.graph.Node(d) != nil
}

func (p *planner) protects(tag string) bool {
	return slices.ContainsFunc(p.policy.Protect.Tags, func(pattern Pattern) bool { return pattern.Match(tag) })
}

func (p *planner) uses(tag string) bool {
	_, ok := p.facts.InUseTags[tag]
	return ok
}

// claims has each version claimed by the first rule that is about it.
func (p *planner) claims() error {
	for i := range p.items {
		it := &p.items[i]
		for j := range p.rules {
			r := &p.rules[j]
			acts := r.Delete != nil || r.Untag != nil || r.Retag != ""
			if !acts || it.part && !r.names() || it.stays != "" && r.asks && r.Untag == nil {
				continue
			}
			whole, some := p.matches(r, i, false)
			about := whole
			if r.Untag != nil {
				about = max(whole, some)
			}
			switch {
			case about == yes:
				it.claim = r
				p.decide(i, whole == yes)
			case about == unknown && p.asked:
				p.unsure = true
			case about == unknown:
				// Whether it is this rule's can't be told, so it is no later one's either.
				it.claim, it.unmet = r, p.doubt
			case some == yes && it.some == nil:
				it.some = r
			}
			if it.claim != nil {
				break
			}
		}
	}
	return p.retags()
}

// decide works out what the claim of a version asks for.
func (p *planner) decide(i int, whole bool) {
	it, r := &p.items[i], p.items[i].claim
	if whole && r.Retag != "" && len(it.tags) == 0 {
		if !it.part {
			it.do = Retag
		}
		return
	}
	try := func(do Verb, w *When, listed map[string]bool) bool {
		t, why := p.holds(r, i, w, listed)
		if t == unknown {
			p.unsure = true
		}
		if t == yes {
			it.do = do
		} else if it.unmet == "" {
			it.unmet = why
		}
		return t == yes
	}
	if whole && r.Delete != nil && try(Delete, r.Delete, r.notIn[0]) {
		return
	}
	if r.Untag != nil && len(it.tags) > 0 {
		try(Untag, r.Untag, r.notIn[1])
	}
}

// mayAct tells whether anything may become of any version, as far as is known.
func (p *planner) mayAct() bool {
	if p.unsure {
		return true
	}
	for i := range p.items {
		it := &p.items[i]
		if it.do == Untag && len(p.off(it)) > 0 || (it.do == Delete || it.do == Retag) && it.stays == "" && !it.opaque {
			return true
		}
	}
	return false
}

// off returns the tags that a claim takes off: those that nothing keeps. A tag that is
// the digest of something else is no name: it is how a signature is found.
func (p *planner) off(it *item) []string {
	return slices.DeleteFunc(it.claim.tags(it), func(tag string) bool {
		if p.protects(tag) || p.uses(tag) || pointsElsewhere(it, tag) {
			return true
		}
		for j := range p.rules {
			if r := &p.rules[j]; it.kept&(1<<min(j, 63)) != 0 && r.Keep != nil && r.tag(tag) {
				return true
			}
		}
		return false
	})
}

func pointsElsewhere(it *item, tag string) bool {
	d, _, ok := oci.ParseDigestTag(tag)
	return ok && d != it.Digest
}

// tagToGive is what a rule calls a version that has no tag.
func tagToGive(r *compiledRule, it *item) string {
	return strings.NewReplacer("{digest}", it.Digest.Encoded(), "{id}", strconv.FormatInt(it.ID, 10)).Replace(r.Retag)
}

// reports writes down what the rules name that only report.
func (p *planner) reports() {
	for j := range p.rules {
		r := &p.rules[j]
		for i := range p.items {
			if it := &p.items[i]; r.Report && (!it.part || r.names() || r.byRead) {
				switch t, _ := p.matches(r, i, false); {
				case t == yes:
					p.named = append(p.named, report{i, r})
				case t == unknown && p.asked:
					p.unsure = true
				}
			}
		}
	}
}

// retags checks the tags that would be given: none may be another version's.
func (p *planner) retags() error {
	for i := range p.items {
		it := &p.items[i]
		if it.do != Retag {
			continue
		}
		if p.taken == nil {
			p.taken = map[string]bool{}
			for j := range p.items {
				for _, tag := range p.items[j].tags {
					p.taken[tag] = true
				}
			}
		}
		tag := tagToGive(it.claim, it)
		if err := oci.CheckTag(tag); err != nil {
			return oci.Invalid("rule %q: retag: %w", it.claim.Name, err)
		}
		if p.taken[tag] {
			it.do = ""
			p.stay(i, ReasonTagTaken, nil)
		}
		p.taken[tag] = true
	}
	return nil
}
