package retain

import (
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// planLife is how long a plan may be carried out, unless its maker says otherwise: what
// it was made on grows old.
const planLife = 24 * time.Hour

func (p *planner) header() *Plan {
	inv := p.inv
	return &Plan{
		Schema: PlanSchema, Host: inv.Host, Owner: inv.Owner, OwnerID: inv.OwnerID, Package: inv.Package, PackageID: inv.PackageID,
		Created: p.now.UTC(), Expires: p.now.UTC().Add(planLife),
		Actions: []Action{}, Kept: []Decision{}, Refused: []Refusal{}, // written as lists, even if empty
	}
}

// write puts down what was worked out.
func (p *planner) write(plan *Plan) {
	plan.Policy, plan.Inventory = p.policy.Digest(), p.inv.Digest()
	acted := make([]bool, len(p.items))
	order := p.order()
	// A large package would otherwise be copied many times while these grow.
	plan.Actions = make([]Action, 0, len(order))
	plan.Kept = make([]Decision, 0, len(p.items)-len(order))
	add := func(i int, a Action) {
		acted[i] = true
		plan.Actions = append(plan.Actions, a)
	}
	for i := range p.items {
		if it := &p.items[i]; it.retagged() {
			a := p.action(i, Retag, ReasonRule)
			a.Rule, a.On = it.claim.Name, tagToGive(it.claim, it)
			add(i, a)
		}
	}
	for i := range p.items {
		if off := p.untags(i); len(off) > 0 {
			it := &p.items[i]
			a := p.action(i, Untag, ReasonRule)
			a.Rule, a.Off = it.claim.Name, off
			if it.do == Delete {
				a.Reason, a.Because = p.needer(i)
			}
			add(i, a)
		}
	}
	for _, i := range order {
		it := &p.items[i]
		origin := &p.items[it.origin]
		a := p.action(i, Delete, ReasonRule)
		a.Rule = origin.claim.Name
		if it != origin {
			a.Because, a.Reason = origin.Digest, ReasonReferrer
			if len(it.node.Parents) > 0 {
				a.Reason = ReasonPart
			}
		}
		add(i, a)
	}
	for i := range p.items {
		if !acted[i] {
			plan.Kept = append(plan.Kept, p.decision(i))
		}
	}
	for _, r := range p.named {
		d := p.bare(r.at)
		d.Reason, d.Rule = ReasonReportOnly, r.by.Name
		plan.Reports = append(plan.Reports, d)
	}
	plan.Health = p.health()
	plan.Cost = p.cost(plan.Actions)
	plan.Refused = append(plan.Refused, p.rails(plan.Actions)...)
}

// needer returns what needs a version that was not to stay for itself: an index before
// anything else.
func (p *planner) needer(i int) (Reason, oci.Digest) {
	first := func(list []*oci.Node) int {
		best := -1
		for _, n := range list {
			if at := p.at[n]; p.items[at].live && (best < 0 || at < best) {
				best = at
			}
		}
		return best
	}
	n := p.items[i].node
	if at := first(n.Parents); at >= 0 {
		return ReasonNeededByKept, p.items[at].Digest
	}
	if at := first(n.Subjects); at >= 0 {
		return ReasonAboutKept, p.items[at].Digest
	}
	return p.reason(i), p.items[p.items[i].via].Digest
}

func (p *planner) action(i int, do Verb, why Reason) Action {
	it := &p.items[i]
	a := Action{Do: do, Version: it.ID, Digest: it.Digest, Tags: it.tags, Role: p.role(i), Created: utc(it.Created), Updated: utc(it.Updated), Reason: why}
	for _, parent := range it.node.Parents {
		a.Parents = append(a.Parents, parent.Digest)
	}
	slices.Sort(a.Parents)
	if man := it.node.Manifest; man != nil {
		a.Size = int64(len(man.Bytes()))
		if man.Config != nil {
			a.Size = addSize(a.Size, man.Config.Size)
		}
		for j := range man.Layers {
			a.Size = addSize(a.Size, man.Layers[j].Size)
		}
	}
	return a
}

// utc is the moment as plans have it, so that equal ones are written alike.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// role is what the graph says, and of what was not read what the indexes say that list it.
func (p *planner) role(i int) oci.Role {
	it := &p.items[i]
	switch {
	case it.node.Manifest != nil || !it.leaf || it.named > 0:
		return it.node.Role()
	case it.node.Attests != nil:
		return oci.RoleAttestation
	case len(it.node.About) > 0:
		return oci.RoleReferrer
	}
	return oci.RoleChild
}

// order puts deletions into an order that can be broken off anywhere: named images
// first, then what has no name, then what goes along.
func (p *planner) order() []int {
	var named, bare, along []*oci.Node
	for i := range p.items {
		switch it := &p.items[i]; {
		case !it.going:
		case it.origin != int32(i):
			along = append(along, it.node)
		case it.named > 0:
			named = append(named, it.node)
		default:
			bare = append(bare, it.node)
		}
	}
	var list []int
	for _, n := range oci.TopDown(slices.Concat(named, bare, along)) {
		list = append(list, p.at[n])
	}
	return list
}

func (p *planner) bare(i int) Decision {
	it := &p.items[i]
	return Decision{
		Version: it.ID, Digest: it.Digest, Tags: it.tags, Role: p.role(i),
		Unread: it.leaf && it.node.Manifest == nil && it.unreadable == "",
	}
}

// decision says why a version stays that nothing becomes of.
func (p *planner) decision(i int) Decision {
	it := &p.items[i]
	d := p.bare(i)
	d.Reason = p.reason(i)
	switch d.Reason {
	case ReasonKeepRule:
		d.Rule = it.by.Name
	case ReasonSomeTags:
		d.Rule = it.some.Name
	case ReasonCondition, ReasonNoDate, ReasonUnclear:
		if it.claim != nil {
			d.Rule = it.claim.Name
		}
	}
	switch d.Reason {
	case ReasonKeepRule, ReasonSomeTags, ReasonCondition:
	default:
		if it.claim != nil && it.do != "" {
			d.Blocked = it.claim.Name
		}
		if it.do == "" && it.stays == ReasonTagTaken {
			d.Blocked = it.claim.Name
		}
	}
	d.Path = p.path(i)
	return d
}

// maxPath is how many steps of a path are told: more than any image needs, and few
// enough that a chain of thousands does not make a plan of millions.
const maxPath = 20

// path leads from what keeps a version to the version. Of a long one the middle is left
// out.
func (p *planner) path(i int) (list []oci.Digest) {
	if p.items[i].via < 0 {
		return nil
	}
	at := int32(i)
	for ; at >= 0 && len(list) < maxPath-1; at = p.items[at].via {
		list = append(list, p.items[at].Digest)
	}
	if at >= 0 {
		list = append(list, p.items[p.items[at].root].Digest)
	}
	slices.Reverse(list)
	return list
}

// reason is the first of what keeps a version.
func (p *planner) reason(i int) Reason {
	it := &p.items[i]
	switch {
	case it.stays != "" && !soft(it.stays):
		return it.stays
	case it.opaque:
		return ReasonUnreadable
	case it.via >= 0 && it.stays != ReasonUnknownParent:
		if slices.Contains(it.node.Subjects, p.items[it.via].node) {
			return ReasonAboutKept
		}
		return ReasonNeededByKept
	case it.stays != "":
		return it.stays
	case it.pinned:
		return ReasonLastTagged
	case it.unmet != "":
		return it.unmet
	case it.some != nil:
		return ReasonSomeTags
	}
	return ReasonUnmatched
}
