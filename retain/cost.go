package retain

import (
	"math"

	"github.com/llm-dev-ops/ghcr/oci"
)

// pageSize is how many versions the Packages API lists at once, and the points are those
// of GitHub's limit (docs/quirks.md#rest-points).
const (
	pageSize        = 100
	deletePoints    = 5
	pointsPerMinute = 900
)

// cost works out what the actions take and free. An untagging is a manifest read, one
// put and one deleted for each tag, and the list read twice more for all; a tag that is
// given, a manifest read and put. Where the tags point is looked at before, after, and each
// minute between; what was not read, once.
func (p *planner) cost(actions []Action) Cost {
	var c Cost
	if len(actions) == 0 {
		return c
	}
	pages := (len(p.items) + pageSize - 1) / pageSize
	lists, deletes := pages, 0
	for _, a := range actions {
		switch a.Do {
		case Delete:
			deletes++
			c.Looks++
		case Retag:
			c.Requests += 2
		case Untag:
			lists = 3 * pages
			deletes += len(a.Off)
			c.Requests += 1 + len(a.Off)
		}
	}
	c.Requests += lists + deletes
	c.Points = lists + deletes*deletePoints
	tags := 0
	for i := range p.items {
		tags += len(p.items[i].node.Tags)
	}
	c.Looks += tags * (2 + c.Points/pointsPerMinute)
	p.bytes(&c)
	if deletes > 0 {
		c.Looks += c.Unread
	}
	return c
}

// bytes counts each blob of what goes once. It holds those blobs alone, not those of
// all that stays.
func (p *planner) bytes(c *Cost) {
	sizes := map[oci.Digest]int64{}
	eachBlob := func(i int, do func(d *oci.Descriptor)) {
		man := p.items[i].node.Manifest
		if man.Config != nil {
			do(man.Config)
		}
		for j := range man.Layers {
			do(&man.Layers[j])
		}
	}
	for i := range p.items {
		if p.items[i].going {
			c.UniqueBytes = addSize(c.UniqueBytes, int64(len(p.items[i].node.Manifest.Bytes())))
			eachBlob(i, func(d *oci.Descriptor) {
				if !oci.IsForeign(*d) {
					sizes[d.Digest] = d.Size
				}
			})
		}
	}
	for i := range p.items {
		switch it := &p.items[i]; {
		case it.going:
		case it.node.Manifest == nil:
			c.Unread++
		default:
			eachBlob(i, func(d *oci.Descriptor) {
				c.SharedBytes = addSize(c.SharedBytes, sizes[d.Digest])
				delete(sizes, d.Digest)
			})
		}
	}
	for _, size := range sizes {
		c.UniqueBytes = addSize(c.UniqueBytes, size)
	}
}

// addSize adds sizes up to what a number holds: manifests may claim any.
func addSize(a, b int64) int64 { return a + min(b, math.MaxInt64-a) }

// size is the bytes of all that a version reaches, each blob once. It is false if not
// all of it is known.
func (p *planner) size(i int) (sum int64, ok bool) {
	ok = true
	blobs, seen := map[oci.Digest]bool{}, map[*oci.Node]bool{}
	var visit func(n *oci.Node)
	visit = func(n *oci.Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		ok = ok && len(n.Missing) == 0
		if n.Manifest == nil {
			p.want(p.at[n])
			ok = false
			return
		}
		sum = addSize(sum, int64(len(n.Manifest.Bytes())))
		for _, d := range n.Manifest.Blobs() {
			if !blobs[d.Digest] {
				blobs[d.Digest] = true
				sum = addSize(sum, d.Size)
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(p.items[i].node)
	return sum, ok
}
