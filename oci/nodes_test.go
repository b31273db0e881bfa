package oci

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// leaf is an image that differs from others by its name.
func leaf(t testing.TB, name string, subject *Node) *Node {
	fields := map[string]any{
		"schemaVersion": 2, "mediaType": MediaTypeOCIManifest, "annotations": map[string]string{"name": name}, "layers": []any{},
		"config": Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	}
	if subject != nil {
		fields["subject"] = subject.Manifest.Descriptor()
	}
	return nodeOf(t, MediaTypeOCIManifest, fields)
}

func list(t testing.TB, children ...*Node) *Node {
	entries := []Descriptor{}
	for _, c := range children {
		entries = append(entries, c.Manifest.Descriptor())
	}
	return nodeOf(t, MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "mediaType": MediaTypeOCIIndex, "manifests": entries})
}

func nodeOf(t testing.TB, mediaType string, fields map[string]any) *Node {
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(mediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	return &Node{Digest: m.Digest(), Manifest: m}
}

func (n *Node) tagged(tags ...string) *Node {
	n.Tags = tags
	return n
}

func TestGraph(t *testing.T) {
	a, b, c := leaf(t, "a", nil), leaf(t, "b", nil), leaf(t, "c", nil)
	inner := list(t, a)
	outer := list(t, inner, b, b).tagged("v1")
	sbom := leaf(t, "sbom", a)
	signature := leaf(t, "signature", nil).tagged(DigestTag(sbom.Digest) + ".sig")
	fallback := list(t, sbom).tagged(DigestTag(a.Digest))
	orphan := leaf(t, "orphan", nil).tagged(DigestTag(leaf(t, "gone", nil).Digest) + ".sig")
	self := leaf(t, "self", nil)
	self.Tags = []string{DigestTag(self.Digest)}
	ghost := list(t, leaf(t, "gone", nil))
	cache := nodeOf(t, MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "mediaType": MediaTypeOCIIndex, "manifests": []Descriptor{
		{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: a.Digest}}}).tagged("cache")
	image := nodeOf(t, MediaTypeOCIManifest, map[string]any{"schemaVersion": 2, "mediaType": MediaTypeOCIManifest,
		"config": Descriptor{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: b.Digest}, "layers": []Descriptor{}}).tagged("image-cache")
	all := []*Node{a, b, c, inner, outer, sbom, signature, fallback, orphan, self, ghost, cache, image}
	g := NewGraph(all)
	for _, test := range []struct {
		name  string
		node  *Node
		role  Role
		reach Reach
	}{
		{"a child of a nested index", a, RoleChild, Reached},
		{"a child listed twice", b, RoleChild, Reached},
		{"nothing leads to it", c, RoleImage, Unreached},
		{"a nested index", inner, RoleChild, Reached},
		{"a tagged index", outer, RoleIndex, Reached},
		{"about a child", sbom, RoleReferrer, Reached},
		{"a signature of an SBOM", signature, RoleReferrer, Reached},
		{"the stand-in for the referrers API", fallback, RoleReferrers, Reached},
		{"a signature of nothing", orphan, RoleReferrer, Unreached},
		{"tagged with its own digest", self, RoleImage, Reached},
		{"an index whose children are gone", ghost, RoleIndex, Unreached},
		{"BuildKit's cache", cache, RoleCache, Reached},
		{"BuildKit's cache as a manifest", image, RoleCache, Reached},
	} {
		if test.node.Role() != test.role || test.node.Reach != test.reach {
			t.Errorf("%s: %s, %s; want %s, %s", test.name, test.node.Role(), test.node.Reach, test.role, test.reach)
		}
	}
	if len(b.Parents) != 1 || len(outer.Children) != 2 || len(ghost.Missing) != 1 || !slices.Equal(a.Parents, []*Node{inner}) {
		t.Error("edges are drawn twice or not at all")
	}
	if g.Node(a.Digest) != a || len(g.Nodes()) != len(all) {
		t.Error("nodes are missing")
	}
}

// TestUnreadNodesListAnything: what can't be read may be what leads to all the rest.
func TestUnreadNodesListAnything(t *testing.T) {
	a, b := leaf(t, "a", nil), leaf(t, "b", nil).tagged("v1")
	unread := &Node{Digest: leaf(t, "unread", nil).Digest}
	g := NewGraph([]*Node{a, b, unread})
	if a.Reach != ReachUnknown || b.Reach != Reached || unread.Reach != ReachUnknown || unread.Role() != RoleUnknown {
		t.Errorf("%s, %s, %s", a.Reach, b.Reach, unread.Reach)
	}
	if r := g.Removal([]*Node{b}, true); len(r.Needed) != 1 || len(r.Needed[0].Unread) != 1 {
		t.Errorf("needed %+v", r.Needed)
	}
	if r := g.Removal([]*Node{b, unread}, true); len(r.Needed) != 0 {
		t.Errorf("with it: needed %+v", r.Needed)
	}
}

// TestCirclesOfTags end, and nothing in them is taken for unused.
func TestCirclesOfTags(t *testing.T) {
	a, b, root := leaf(t, "a", nil), leaf(t, "b", nil), leaf(t, "root", nil).tagged("v1")
	a.Tags, b.Tags = []string{DigestTag(b.Digest) + ".sig"}, []string{DigestTag(a.Digest) + ".sig", DigestTag(root.Digest) + ".sig"}
	g := NewGraph([]*Node{a, b, root})
	if a.Reach != Reached || b.Reach != Reached {
		t.Errorf("%s, %s", a.Reach, b.Reach)
	}
	if r := g.Removal([]*Node{root}, true); len(r.Gone) != 1 {
		t.Errorf("%d go", len(r.Gone))
	}
	if r := g.Removal([]*Node{root, a}, true); len(r.Gone) != 3 {
		t.Errorf("%d go", len(r.Gone))
	}
}

// TestRemoval over random graphs: what goes needs to have been asked for or to hang on
// that alone, in an order that never breaks what is left, and nothing more could go.
func TestRemoval(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		var nodes []*Node
		pick := func() *Node { return nodes[r.IntN(len(nodes))] }
		for i := range 3 + r.IntN(12) {
			var n *Node
			switch {
			case len(nodes) > 0 && r.IntN(2) == 0:
				children := make([]*Node, 1+r.IntN(3))
				for i := range children {
					children[i] = pick()
				}
				n = list(t, children...)
			case len(nodes) > 0 && r.IntN(3) == 0:
				n = leaf(t, fmt.Sprint(i), pick())
			default:
				n = leaf(t, fmt.Sprint(i), nil)
			}
			if r.IntN(3) == 0 {
				n.Tags = append(n.Tags, fmt.Sprint("t", i))
			}
			if len(nodes) > 0 && r.IntN(6) == 0 {
				n.Tags = append(n.Tags, DigestTag(pick().Digest)+".sig")
			}
			nodes = append(nodes, n)
		}
		g := NewGraph(nodes)
		nodes = g.Nodes()
		roots := []*Node{pick(), pick()}
		referrers := r.IntN(4) > 0
		removal := g.Removal(roots, referrers)
		gone := map[*Node]bool{}
		fail := func(format string, args ...any) { t.Errorf("seed %d: "+format, append([]any{seed}, args...)...) }
		for _, n := range removal.Gone {
			if gone[n] {
				fail("%s goes twice", n.Digest)
			}
			for _, above := range n.Parents {
				if slices.Contains(removal.Gone, above) && !gone[above] {
					fail("%s goes before %s, which lists it", n.Digest, above.Digest)
				}
			}
			gone[n] = true
		}
		needed := map[*Node]bool{}
		for _, k := range removal.Needed {
			needed[k.Node] = true
		}
		for _, n := range nodes {
			named := slices.Contains(roots, n)
			stays := func(list []*Node) bool { return slices.ContainsFunc(list, func(n *Node) bool { return !gone[n] }) }
			hangs := slices.ContainsFunc(n.Parents, func(p *Node) bool { return gone[p] }) ||
				referrers && slices.ContainsFunc(n.Subjects, func(s *Node) bool { return gone[s] })
			free := len(n.Names()) == 0 && !stays(n.Parents) && !stays(n.Subjects)
			switch {
			case named != gone[n] && named:
				fail("%s was named and stays", n.Digest)
			case named && stays(n.Parents) != needed[n]:
				fail("%s is needed: %v", n.Digest, needed[n])
			case !named && gone[n] && !(hangs && free):
				fail("%s goes without a reason", n.Digest)
			case !gone[n] && hangs && free:
				fail("%s is left behind", n.Digest)
			case !gone[n] && hangs && !slices.ContainsFunc(removal.Kept, func(k Kept) bool { return k.Node == n }):
				fail("%s stays and is not told of", n.Digest)
			}
		}
	}
}

func TestTopDown(t *testing.T) {
	a, b, other := leaf(t, "a", nil), leaf(t, "b", nil), leaf(t, "other", nil)
	inner := list(t, a)
	outer := list(t, inner, b)
	sbom := leaf(t, "sbom", a)
	one, two := leaf(t, "one", nil), leaf(t, "two", nil)
	one.Tags, two.Tags = []string{DigestTag(two.Digest) + ".sig"}, []string{DigestTag(one.Digest) + ".sig"}
	NewGraph([]*Node{a, b, other, inner, outer, sbom, one, two})
	got := TopDown([]*Node{sbom, one, a, b, other, inner, two, outer, a, other})
	if want := []*Node{other, outer, inner, b, a, sbom, one, two}; !slices.Equal(got, want) {
		for _, n := range got {
			t.Log(n.Digest, n.Tags, n.Manifest.Annotations)
		}
		t.Error("not in this order")
	}
	// What is not in the list has no say.
	if got := TopDown([]*Node{sbom, b}); !slices.Equal(got, []*Node{sbom, b}) {
		t.Errorf("%d nodes", len(got))
	}
}
