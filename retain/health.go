package retain

import "github.com/llm-dev-ops/ghcr/oci"

// Check reports what is wrong with the versions of a package, by number. It needs what
// lists something and what is about something to be read: while needs is not empty,
// the report is not whole.
//
// Errors: [oci.ErrInvalid] for a version that is listed twice.
func Check(inv *Inventory) (list []Ailment, needs []oci.Digest, err error) {
	p := &planner{policy: &Policy{}, inv: inv, wanted: map[int]bool{}, labels: map[int]bool{}, heldBy: map[int]int{}}
	if err := p.load(); err != nil {
		return nil, nil, err
	}
	for _, i := range p.structure() {
		needs = append(needs, p.items[i].Digest)
	}
	return p.health(), needs, nil
}

// health lists what is wrong with all versions.
func (p *planner) health() []Ailment {
	var list []Ailment
	for i := range p.items {
		it := &p.items[i]
		for _, h := range p.ailments(i) {
			a := Ailment{Version: it.ID, Digest: it.Digest, Tags: it.tags, Health: h}
			switch h {
			case Orphan:
				a.Missing = it.node.About
			case Unreadable:
				a.Holds = p.heldBy[i]
			default:
				for _, d := range it.node.Missing {
					a.Missing = append(a.Missing, d.Digest)
				}
			}
			list = append(list, a)
		}
	}
	return list
}

// ghost tells whether all manifests of an index are gone.
func (it *item) ghost() bool { return len(it.node.Missing) > 0 && len(it.node.Children) == 0 }

// ailments is what is wrong with a version. An index of layers, which is a build cache,
// lists no manifests and so misses none. What has a name of its own is no orphan: it
// was given the name for its own sake.
func (p *planner) ailments(i int) (list []Health) {
	it := &p.items[i]
	n := it.node
	if it.unreadable != "" {
		list = append(list, Unreadable)
	}
	if it.named == 0 && len(n.About) > 0 && len(n.Subjects) == 0 {
		list = append(list, Orphan)
	}
	switch {
	case len(n.Missing) == 0:
	case n.Role() == oci.RoleReferrers:
		list = append(list, Dangling)
	case it.ghost():
		list = append(list, Ghost)
	default:
		list = append(list, Partial)
	}
	return list
}
