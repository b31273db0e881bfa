package oci

import "slices"

// Removal is what goes when manifests are deleted, and what stays although it hangs
// on them.
type Removal struct {
	// Gone is what goes, in an order that can be broken off anywhere: an index before
	// what it lists, and a manifest before what refers to it.
	Gone []*Node
	// Kept is what hangs on Gone and stays.
	Kept []Kept
	// Needed is what was to be deleted and must not be, because something that stays
	// lists it, or may do so.
	Needed []Kept
}

// Kept is a manifest that stays, and why: at least one of the reasons is there.
type Kept struct {
	Node     *Node
	Names    []string // tags of its own
	Parents  []*Node  // indexes that stay and list it
	Subjects []*Node  // that stay and that it is about
	Unread   []*Node  // that stay, were not read, and may be indexes that list it
}

// Removal works out what goes with roots: the manifests that only they list, and
// with referrers also what refers to what goes. What has a name of its own, is
// listed by an index that stays, or is about something that stays, stays. While
// anything that stays is unread, only it could tell what it lists, and so nothing
// goes along.
func (g *Graph) Removal(roots []*Node, referrers bool) Removal {
	gone := map[*Node]bool{}
	var order []*Node
	add := func(n *Node) {
		if !gone[n] {
			gone[n] = true
			order = append(order, n)
		}
	}
	for _, n := range roots {
		add(n)
	}
	stays := func(list []*Node) []*Node {
		return slices.DeleteFunc(slices.Clone(list), func(n *Node) bool { return gone[n] })
	}
	unread := stays(g.Unread())
	candidates := func() []*Node {
		var list []*Node
		for _, n := range order {
			list = append(list, stays(n.Children)...)
			if referrers {
				list = append(list, stays(n.Referrers)...)
			}
		}
		return list
	}
	for again := true; again; {
		again = false
		for _, n := range candidates() {
			free := len(unread) == 0 && n.Manifest != nil && len(n.Names()) == 0
			if free && len(stays(n.Parents)) == 0 && len(stays(n.Subjects)) == 0 && !gone[n] {
				add(n)
				again = true
			}
		}
	}
	r := Removal{Gone: sortDown(order, gone)}
	kept := map[*Node]bool{}
	for _, n := range candidates() {
		if !kept[n] {
			kept[n] = true
			r.Kept = append(r.Kept, Kept{Node: n, Names: n.Names(), Parents: stays(n.Parents), Subjects: stays(n.Subjects), Unread: unread})
		}
	}
	for _, n := range roots {
		if parents := stays(n.Parents); len(parents)+len(unread) > 0 {
			r.Needed = append(r.Needed, Kept{Node: n, Parents: parents, Unread: unread})
		}
	}
	return r
}

// TopDown returns nodes in an order in which they can be deleted one by one, broken
// off anywhere: an index before what it lists, a manifest before what refers to it.
// Tags can make circles of the latter, which are cut where no index is broken. What is
// free to choose is in the order of the list. What the list has twice comes once.
func TopDown(nodes []*Node) []*Node {
	within := make(map[*Node]bool, len(nodes))
	list := make([]*Node, 0, len(nodes))
	for _, n := range nodes {
		if !within[n] {
			within[n] = true
			list = append(list, n)
		}
	}
	return sortDown(list, within)
}

// sortDown puts indexes before what they list, and manifests before what refers to
// them. Tags can make circles of the latter, which are cut where no index is broken.
func sortDown(list []*Node, within map[*Node]bool) []*Node {
	parents, subjects := map[*Node]int{}, map[*Node]int{} // that have not gone
	for _, n := range list {
		for _, to := range n.Children {
			parents[to]++
		}
		for _, to := range n.Referrers {
			subjects[to]++
		}
	}
	var sorted, free, half []*Node // half are those that only wait for a subject
	seen := map[*Node]bool{}
	offer := func(n *Node) {
		switch {
		case !within[n] || parents[n] > 0:
		case subjects[n] > 0:
			half = append(half, n)
		default:
			free = append(free, n)
		}
	}
	for _, n := range list {
		offer(n)
	}
	for len(free)+len(half) > 0 {
		queue := &free
		if len(free) == 0 {
			queue = &half
		}
		n := (*queue)[0]
		*queue = (*queue)[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		sorted = append(sorted, n)
		for _, to := range n.Children {
			parents[to]--
			offer(to)
		}
		for _, to := range n.Referrers {
			subjects[to]--
			offer(to)
		}
	}
	return sorted
}
