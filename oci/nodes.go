package oci

import "slices"

// Graph is the manifests of one repository, joined by what they point at. Make one
// with [NewGraph]; it does not change afterwards.
type Graph struct {
	nodes  map[Digest]*Node
	sorted []*Node // as they were given
}

// Node is one manifest of a [Graph]. Digest, Tags and Manifest are given, and the
// rest follows from them.
type Node struct {
	Digest   Digest
	Tags     []string
	Manifest *Manifest // nil if it could not be read; what it points at is then not known

	Parents   []*Node      // indexes that list it
	Children  []*Node      // manifests that it lists and that are here, each once
	Missing   []Descriptor // manifests that it lists and that are not here
	About     []Digest     // what it refers to by its subject or a digest tag, here or not
	Subjects  []*Node      // those of About that are here
	Referrers []*Node      // manifests that refer to it
	Attests   *Node        // what it vouches for as an entry that BuildKit made; nil if it is none
	Platform  *Platform    // what an index says it is for; nil if none says so
	Reach     Reach
}

// Reach tells whether a manifest is in use as far as tags say.
type Reach string

// What is known of the use of a manifest.
const (
	// Reached from a tag: it has one of its own, or an index that is reached lists it,
	// or it refers to what is reached.
	Reached Reach = "reached"
	// Unreached from any tag, by all that there is. A tag that only names another
	// digest, as those of signatures do, does not count: what it names must be reached.
	Unreached Reach = "unreached"
	// ReachUnknown: nothing that was read leads to it, and something was not read.
	ReachUnknown Reach = "unknown"
)

// Role says what a manifest is to its repository.
type Role string

// The roles of manifests.
const (
	RoleImage       Role = "image"
	RoleIndex       Role = "index"
	RoleChild       Role = "child"       // part of an index, without a tag of its own
	RoleAttestation Role = "attestation" // what BuildKit puts beside the images of an index
	RoleReferrer    Role = "referrer"    // a signature, an SBOM or the like
	RoleReferrers   Role = "referrers"   // the index that stands in for the referrers API
	RoleCache       Role = "cache"       // what BuildKit keeps its cache in: an index of layers, or a manifest whose config says so
	RoleArtifact    Role = "artifact"
	RoleUnknown     Role = "unknown" // not read, or of a type that is not understood
)

// NewGraph joins manifests. Of nodes with the same digest the first counts. The nodes
// become the graph's.
func NewGraph(nodes []*Node) *Graph {
	g := &Graph{nodes: make(map[Digest]*Node, len(nodes))}
	for _, n := range nodes {
		if g.nodes[n.Digest] == nil {
			g.nodes[n.Digest] = n
			g.sorted = append(g.sorted, n)
		}
	}
	for _, n := range g.sorted {
		g.join(n)
	}
	g.reach()
	return g
}

// Node returns the manifest of that digest, or nil if it is not here.
func (g *Graph) Node(d Digest) *Node { return g.nodes[d] }

// Nodes returns all manifests in the order in which they were given. Do not change
// the slice.
func (g *Graph) Nodes() []*Node { return g.sorted }

// Unread returns the manifests that could not be read.
func (g *Graph) Unread() []*Node {
	var list []*Node
	for _, n := range g.sorted {
		if n.Manifest == nil {
			list = append(list, n)
		}
	}
	return list
}

// join draws the edges that leave n.
func (g *Graph) join(n *Node) {
	about := func(d Digest) {
		if d == n.Digest || slices.Contains(n.About, d) {
			return
		}
		n.About = append(n.About, d)
		if subject := g.nodes[d]; subject != nil {
			n.Subjects = append(n.Subjects, subject)
			subject.Referrers = append(subject.Referrers, n)
		}
	}
	for _, tag := range n.Tags {
		if d, ok := digestTagOf(n.Digest, tag); ok {
			about(d)
		}
	}
	if n.Manifest == nil {
		return
	}
	for e := range n.Manifest.Edges() {
		d := e.Descriptor
		to := g.nodes[d.Digest]
		switch {
		case e.Kind == EdgeSubject:
			about(d.Digest)
		case e.Kind == EdgeAttests:
			if from := g.nodes[e.From]; from != nil && from.Attests == nil {
				from.Attests = to
			}
		case e.Kind != EdgeChild || d.Digest == n.Digest:
		case to == nil:
			n.Missing = append(n.Missing, d)
		case !slices.Contains(n.Children, to):
			n.Children = append(n.Children, to)
			to.Parents = append(to.Parents, n)
			if to.Platform == nil && HasPlatform(d) {
				to.Platform = d.Platform
			}
		}
	}
}

// digestTagOf reads a tag that names another digest. One that names the digest of
// its own manifest is a name like any other.
func digestTagOf(own Digest, tag string) (Digest, bool) {
	d, _, ok := ParseDigestTag(tag)
	return d, ok && d != own
}

// Names returns the tags that are the manifest's own, and not just the digest of
// something that it is about.
func (n *Node) Names() []string {
	var names []string
	for _, tag := range n.Tags {
		if _, ok := digestTagOf(n.Digest, tag); !ok {
			names = append(names, tag)
		}
	}
	return names
}

// cacheConfigType is the config of a cache that BuildKit pushed with image-manifest=true.
const cacheConfigType = "application/vnd.buildkit.cacheconfig.v0"

// Role says what the manifest is.
func (n *Node) Role() Role {
	if n.Manifest == nil {
		return RoleUnknown
	}
	named := len(n.Names()) > 0
	switch kind := n.Manifest.Kind(); {
	case n.Attests != nil && !named:
		return RoleAttestation
	case kind == KindIndex && len(n.Manifest.Manifests) > 0 && len(n.Children)+len(n.Missing) == 0:
		return RoleCache
	case len(n.About) > 0 && !named && kind == KindIndex && slices.ContainsFunc(n.Tags, isReferrersTag):
		return RoleReferrers
	case len(n.About) > 0 && !named:
		return RoleReferrer
	case len(n.Parents) > 0 && !named:
		return RoleChild
	case kind == KindImage:
		return RoleImage
	case kind == KindIndex:
		return RoleIndex
	case n.Manifest.Config != nil && n.Manifest.Config.MediaType == cacheConfigType:
		return RoleCache
	case kind == KindArtifact:
		return RoleArtifact
	}
	return RoleUnknown
}

func isReferrersTag(tag string) bool {
	_, suffix, ok := ParseDigestTag(tag)
	return ok && suffix == ""
}

// reach follows tags to everything in use: an index uses what it lists, and what is
// used is worth its referrers.
func (g *Graph) reach() {
	var todo []*Node
	mark := func(n *Node) {
		if n.Reach == "" {
			n.Reach = Reached
			todo = append(todo, n)
		}
	}
	for _, n := range g.sorted {
		n.Reach = ""
	}
	for _, n := range g.sorted {
		if len(n.Names()) > 0 {
			mark(n)
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, to := range n.Children {
			mark(to)
		}
		for _, to := range n.Referrers {
			mark(to)
		}
	}
	rest := Unreached
	if len(g.Unread()) > 0 {
		rest = ReachUnknown
	}
	for _, n := range g.sorted {
		if n.Reach == "" {
			n.Reach = rest
		}
	}
}
