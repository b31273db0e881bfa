package retain

import (
	"cmp"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// planner is the state of one planning. Versions are called by their place in items,
// which is the order of their numbers.
type planner struct {
	policy *Policy
	rules  []compiledRule
	inv    *Inventory
	facts  Facts
	now    time.Time
	items  []item
	graph  *oci.Graph
	at     map[*oci.Node]int

	unread bool         // what may list something is not read yet
	unsure bool         // more could be claimed than is, once more is read
	wanted map[int]bool // must be read
	labels map[int]bool // must have their configs read
	asked  bool         // the last match could not be told before more is read
	doubt  Reason       // why the last match can't be told otherwise
	heldBy map[int]int  // by what is unreadable: how many versions stay for it
	taken  map[string]bool
	named  []report
}

// report is what a rule says of a version.
type report struct {
	at int
	by *compiledRule
}

// item is one version, what is known of it and what becomes of it.
type item struct {
	*Version
	node       *oci.Node
	tags       []string // sorted
	named      int      // how many of them are its own, and not the digest of something else
	part       bool     // it has no name, and an index lists it or it is about something that is there
	leaf       bool     // an index says that it is no index itself
	unreadable string
	opaque     bool // it is not known what it is

	stays Reason        // why it must stay, if it must
	by    *compiledRule // that keeps it
	kept  uint64        // which rules keep it, by their place; all from the 64th on share a bit

	claim *compiledRule // the first that is about it
	do    Verb          // what the claim asks for; empty if its condition does not hold
	unmet Reason        // why it does not
	some  *compiledRule // the first that is about some of its tags

	live   bool
	via    int32 // what keeps it; -1 if it stays for itself
	root   int32 // the first of what keeps it
	going  bool
	pinned bool  // its tags stay, for no other version has one
	origin int32 // the claimed version that it goes along with
}

// Make plans what a policy asks for. It reads no clock and no files: the same
// arguments, in whatever order, make the same plan. The inventory is not changed.
//
// Rules may need manifests that were not read. Then the plan has no actions, and
// [Plan.Needs] and [Plan.NeedsLabels] say what to read before the next call. If no rule
// could claim anything by what the list of versions says, nothing is needed.
//
// Who carries the plan out sets Tool, and Cost.Downloads if it is known, and calls
// [Plan.Seal] again.
//
// Errors: [oci.ErrInvalid] for a policy that is not right, a list that it names and
// facts lack, and a version that is listed twice.
func Make(policy *Policy, inv *Inventory, facts Facts, now time.Time) (*Plan, error) {
	p := &planner{policy: policy, inv: inv, facts: facts, now: now, wanted: map[int]bool{}, labels: map[int]bool{}, heldBy: map[int]int{}}
	var err error
	if p.rules, err = compile(policy, facts); err != nil {
		return nil, err
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	p.protect()
	for i := range p.rules {
		if p.rules[i].Keep != nil {
			p.keep(&p.rules[i])
		}
	}
	p.grace()
	if err := p.claims(); err != nil {
		return nil, err
	}
	p.reports()
	plan := p.header()
	if p.mayAct() {
		if p.needs(plan, p.structure()) {
			return plan, nil
		}
		p.settle()
		if p.needs(plan, p.rest()) {
			return plan, nil
		}
	} else {
		p.settle()
	}
	for p.keepLastTagged() {
		p.spread()
	}
	p.write(plan)
	return plan, plan.Seal()
}

// load sorts the versions and joins them.
func (p *planner) load() error {
	p.items = make([]item, len(p.inv.Versions))
	for i := range p.inv.Versions {
		p.items[i] = item{Version: &p.inv.Versions[i], via: -1, origin: -1}
	}
	slices.SortFunc(p.items, func(a, b item) int { return cmp.Compare(a.ID, b.ID) })
	nodes := make([]*oci.Node, len(p.items))
	p.at = make(map[*oci.Node]int, len(p.items))
	for i := range p.items {
		it := &p.items[i]
		it.tags = it.Tags
		if !slices.IsSorted(it.tags) {
			it.tags = slices.Sorted(slices.Values(it.tags))
		}
		it.unreadable = it.Unreadable
		man := it.Manifest
		switch {
		case man == nil:
		case man.Digest() != it.Digest && man.Verify(it.Digest) != nil:
			man, it.unreadable = nil, "its manifest has the digest "+man.Digest().String()
		default:
			it.unreadable = "" // then it is said of its config
		}
		it.opaque = it.unreadable != "" || man != nil && man.Kind() == oci.KindUnknown
		it.node = &oci.Node{Digest: it.Digest, Tags: it.tags, Manifest: man}
		nodes[i], p.at[it.node] = it.node, i
		if i > 0 && it.ID == p.items[i-1].ID {
			return oci.Invalid("version %d is listed twice: list the versions again", it.ID)
		}
	}
	p.graph = oci.NewGraph(nodes)
	if len(p.graph.Nodes()) != len(nodes) {
		return oci.Invalid("a digest is listed twice: list the versions again")
	}
	p.describe()
	return nil
}

// describe notes what manifests say of each other. Whatever one names that is a version
// is taken for a part of it, be it as a config or a layer, or in a manifest that is not
// understood.
func (p *planner) describe() {
	index := make([]bool, len(p.items))
	name := func(from int, d oci.Digest) {
		n, to := p.items[from].node, p.graph.Node(d)
		if to != nil && to != n && !slices.Contains(n.Children, to) {
			n.Children = append(n.Children, to)
			to.Parents = append(to.Parents, n)
		}
	}
	for i := range p.items {
		it := &p.items[i]
		it.named = len(it.node.Names())
		man := it.node.Manifest
		if man == nil {
			continue
		}
		if man.Kind() == oci.KindUnknown {
			for _, d := range digestsIn(string(man.Bytes())) {
				name(i, d)
			}
		}
		if man.Config != nil {
			name(i, man.Config.Digest)
		}
		for _, d := range man.Layers {
			name(i, d.Digest)
		}
		for j := range man.Manifests {
			d := &man.Manifests[j]
			to := p.graph.Node(d.Digest)
			switch {
			case to == nil:
			case oci.IsIndexType(d.MediaType):
				index[p.at[to]] = true
			case oci.IsManifestType(d.MediaType):
				p.items[p.at[to]].leaf = true
			default:
				name(i, d.Digest)
			}
		}
	}
	for i := range p.items {
		it := &p.items[i]
		it.leaf = it.leaf && !index[i]
		p.unread = p.unread || !it.leaf && it.node.Manifest == nil && it.unreadable == ""
		it.part = it.named == 0 && len(it.node.Parents)+len(it.node.Subjects) > 0
	}
}

func (p *planner) want(i int) {
	if p.items[i].node.Manifest == nil && p.items[i].unreadable == "" {
		p.wanted[i], p.asked = true, true
	}
}
