package retain

import (
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// settle works out what lives and what goes. All that no rule claims stays, with what
// it reaches; of the rest goes what is claimed, and what only hangs on that.
func (p *planner) settle() {
	// In this order the path that is told is the one that says most.
	for _, of := range []func(it *item) bool{
		func(it *item) bool { return it.stays != "" && !soft(it.stays) },
		func(it *item) bool { return it.named > 0 && !p.free(it) },
		func(it *item) bool { return it.stays == "" && !p.free(it) },
		func(it *item) bool { return it.stays != "" },
	} {
		p.enliven(of)
	}
	p.spread()
	if p.holdBack() {
		p.spread()
	}
}

// soft tells a reason that speaks of one version alone. That something needs the
// version says more.
func soft(why Reason) bool {
	return why != ReasonProtected && why != ReasonInUse && why != ReasonKeepRule
}

// free tells whether a version may go, by itself or along with another.
func (p *planner) free(it *item) bool {
	return it.stays == "" && !it.opaque && (it.do == Delete || it.part)
}

// enliven keeps versions and all that they reach: what an index lists, and what is
// about something that lives.
func (p *planner) enliven(of func(*item) bool) (changed bool) {
	var todo []int
	for i := range p.items {
		if it := &p.items[i]; !it.live && of(it) {
			it.live, it.root = true, int32(i)
			todo = append(todo, i)
		}
	}
	changed = len(todo) > 0
	for len(todo) > 0 {
		from := todo[0]
		todo = todo[1:]
		reach := func(to int) {
			if it := &p.items[to]; !it.live {
				it.live, it.via, it.root = true, int32(from), p.items[from].root
				todo = append(todo, to)
			}
		}
		n := p.items[from].node
		for _, to := range n.Children {
			reach(p.at[to])
		}
		for _, to := range n.Referrers {
			reach(p.at[to])
		}
	}
	return changed
}

// spread marks what goes: the claimed versions that do not live, and what hangs on
// them. What hangs on nothing but itself, as digest tags in a circle do, stays.
func (p *planner) spread() {
	for {
		var todo []int
		for i := range p.items {
			it := &p.items[i]
			it.going, it.origin = false, -1
			if !it.live && it.do == Delete {
				it.going, it.origin = true, int32(i)
				todo = append(todo, i)
			}
		}
		for len(todo) > 0 {
			from := &p.items[todo[0]]
			todo = todo[1:]
			for _, list := range [2][]*oci.Node{from.node.Children, from.node.Referrers} {
				for _, n := range list {
					if it := &p.items[p.at[n]]; !it.live && !it.going {
						it.going, it.origin = true, from.origin
						todo = append(todo, p.at[n])
					}
				}
			}
		}
		if !p.enliven(func(it *item) bool { return !it.going }) {
			return
		}
	}
}

// holdBack keeps what an unreadable manifest may list. One of unknown age may list
// anything. Of what has a tag, it lists nothing that came after it: an index is pushed
// after its parts. What has none is too easily lost to go by that.
func (p *planner) holdBack() bool {
	var blind []int
	for i := range p.items {
		if it := &p.items[i]; it.unreadable != "" && !it.leaf {
			blind = append(blind, i)
		}
	}
	if len(blind) == 0 {
		return false
	}
	// What the last of them can't list, none can.
	last := slices.MaxFunc(blind, func(a, b int) int {
		x, y := p.items[a].Created, p.items[b].Created
		switch {
		case x.IsZero() == y.IsZero():
			return x.Compare(y)
		case x.IsZero():
			return 1
		}
		return -1
	})
	var held []int
	always := 0
	var dates []time.Time // of those that only some keep
	for i := range p.items {
		it := &p.items[i]
		if !it.going {
			continue
		}
		if mayList(&p.items[last], it) {
			held = append(held, i)
		}
		if len(it.tags) == 0 || it.Created.IsZero() {
			always++
		} else {
			dates = append(dates, it.Created)
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	for _, b := range blind {
		n := len(dates)
		if at := p.items[b].Created; !at.IsZero() {
			n, _ = slices.BinarySearchFunc(dates, at, func(d, at time.Time) int {
				if d.After(at) {
					return 1
				}
				return -1
			})
		}
		p.heldBy[b] = always + n
	}
	for _, i := range held {
		p.items[i].stays = ReasonUnknownParent
	}
	changed := p.enliven(func(it *item) bool { return it.stays == ReasonUnknownParent })
	for _, i := range held {
		p.items[i].via, p.items[i].root = int32(last), p.items[last].root
	}
	return changed
}

func mayList(blind, it *item) bool {
	return len(it.tags) == 0 || blind.Created.IsZero() || it.Created.IsZero() || !blind.Created.Before(it.Created)
}

// keepLastTagged keeps the newest version that has a tag if otherwise none would have
// one: GitHub would refuse to delete it (docs/quirks.md#rest-last-tagged).
func (p *planner) keepLastTagged() bool {
	last := -1
	for i := range p.items {
		it := &p.items[i]
		if len(it.tags) == 0 {
			if it.retagged() {
				return false
			}
			continue
		}
		if !it.going && len(p.untags(i)) < len(it.tags) {
			return false
		}
		if last < 0 || newer(it, &p.items[last]) {
			last = i
		}
	}
	if last < 0 {
		return false
	}
	it := &p.items[last]
	it.pinned = true
	if it.going {
		it.stays = ReasonLastTagged
		p.enliven(func(other *item) bool { return other == it })
	}
	return true
}

// retagged tells whether a version is given a tag.
func (it *item) retagged() bool { return it.do == Retag && it.stays == "" && !it.opaque }

func newer(a, b *item) bool {
	switch {
	case (a.named > 0) != (b.named > 0):
		return a.named > 0
	case !a.Created.Equal(b.Created):
		return a.Created.After(b.Created)
	}
	return a.ID > b.ID
}

// untags returns the tags that are taken off a version that stays: because its rule
// says so, or in place of a deletion that would break something.
func (p *planner) untags(i int) []string {
	it := &p.items[i]
	switch {
	case it.going, it.opaque, it.pinned:
		return nil
	case it.do == Untag:
		return p.off(it)
	case it.do != Delete || !it.live || it.stays != "" || it.claim.Untag == nil:
		return nil
	}
	if t, _ := p.holds(it.claim, i, it.claim.Untag, it.claim.notIn[1]); t != yes {
		return nil
	}
	return p.off(it)
}

// structure returns what must be read to know what lists what: first what has a name,
// then all else that may be an index as far as the first tell. These are two steps and
// not one for each level, so that a chain of indexes does not take as many.
func (p *planner) structure() []int {
	var named, others []int
	for i := range p.items {
		it := &p.items[i]
		switch {
		case it.node.Manifest != nil || it.unreadable != "":
		case it.named > 0:
			named = append(named, i)
		// An index is believed what it says of its own parts. What stays without it is read.
		case !it.leaf || it.stays != "":
			others = append(others, i)
		}
	}
	if len(named) > 0 {
		return named
	}
	return others
}

// rest returns what else must be read: what goes, which may be about something that
// stays, and what rules ask for.
func (p *planner) rest() []int {
	var list []int
	for i := range p.items {
		if it := &p.items[i]; p.wanted[i] || it.going && it.node.Manifest == nil {
			list = append(list, i)
		}
	}
	return list
}

// needs writes down what must be read, and tells whether there is anything.
func (p *planner) needs(plan *Plan, list []int) bool {
	for _, i := range list {
		plan.Needs = append(plan.Needs, p.items[i].Digest)
	}
	if len(list) == 0 {
		for i := range p.items {
			if p.labels[i] {
				plan.NeedsLabels = append(plan.NeedsLabels, p.items[i].Digest)
			}
		}
	}
	return len(plan.Needs)+len(plan.NeedsLabels) > 0
}
