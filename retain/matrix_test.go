package retain

import (
	"fmt"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

// graph is a layout of the matrix: images, indexes over them, and one image that has
// nothing to do with them.
type graph struct {
	*pkg
	attested, signed bool
	parts            map[string][]oci.Descriptor // what an index lists for an image
}

// single adds an image; with attestations it is an index of the image and its attestation.
func (g *graph) single(name string, tags ...string) *Version {
	if !g.attested {
		v := g.image(name, tags...)
		g.parts[name] = []oci.Descriptor{v.Manifest.Descriptor()}
		return g.sign(v)
	}
	v := g.withAttestations([]*Version{g.image(name)}, tags...)
	g.parts[name] = v.Manifest.Manifests
	return g.sign(v)
}

func (g *graph) multi(names []string, tags ...string) *Version {
	var entries []oci.Descriptor
	for _, name := range names {
		entries = append(entries, g.parts[name]...)
	}
	return g.sign(g.add(manifest(g.t, oci.MediaTypeOCIIndex, map[string]any{"manifests": entries}), tags...))
}

// sign adds a signature, which has no tag, and the list of referrers that it is found by.
func (g *graph) sign(v *Version) *Version {
	if g.signed {
		signature := g.about(v, "signature of "+v.Digest.String())
		g.index([]*Version{signature}, oci.DigestTag(v.Digest))
	}
	return v
}

func (g *graph) counts(plan *Plan) string {
	manifests, tags := 0, 0
	for _, v := range g.inv.Versions {
		manifests++
		tags += len(v.Tags)
	}
	for _, a := range plan.Actions {
		if a.Do == Delete {
			manifests--
			tags -= len(a.Tags)
		} else {
			tags -= len(a.Off)
		}
	}
	return fmt.Sprint(manifests, "/", tags)
}

// TestGraphMatrix: a manifest stays while anything that stays needs it, whatever the
// shape. The counts follow from what was seeded; a signature keeps nothing, and goes
// with what it is about.
func TestGraphMatrix(t *testing.T) {
	one := func(g *graph) { g.single("a", "image-a") }
	two := func(g *graph) {
		g.single("a", "image-a")
		g.single("b", "image-b")
		g.multi([]string{"a", "b"}, "multiarch")
	}
	shared := func(g *graph) {
		g.single("a", "image-a")
		g.single("b", "image-b")
		g.single("c", "image-c")
		g.multi([]string{"a", "b"}, "multiarch-a")
		g.multi([]string{"b", "c"}, "multiarch-b")
	}
	tags := func(g *graph) {
		g.single("a", "image-a")
		g.single("b")
		g.single("c")
		g.multi([]string{"a", "b"}, "multiarch-a")
		g.multi([]string{"b", "c"})
	}
	sets := []struct {
		name             string
		attested, signed bool
	}{{"none", false, false}, {"attestations", true, false}, {"cosign", false, true}, {"both", true, true}}
	for _, tt := range []struct {
		name   string
		layout func(*graph)
		start  [4]string // manifests/tags with each set of artifacts
		delete []string  // "untagged" is a rule of its own
		end    [4]string
	}{
		{"1 image, delete image-a", one, [4]string{"2/2", "4/2", "4/3", "6/3"}, []string{"image-a"}, [4]string{"1/1", "1/1", "1/1", "1/1"}},
		// As a child it only loses its tag. With attestations the index that has the tag
		// is nobody's child: it goes, and its signature with it.
		{"2 images, delete image-a", two, [4]string{"4/4", "8/4", "10/7", "14/7"}, []string{"image-a"}, [4]string{"4/3", "7/3", "10/6", "11/5"}},
		{"2 images, delete multiarch", two, [4]string{"4/4", "8/4", "10/7", "14/7"}, []string{"multiarch"}, [4]string{"3/3", "7/3", "7/5", "11/5"}},
		{"2 images, delete both", two, [4]string{"4/4", "8/4", "10/7", "14/7"}, []string{"image-a", "multiarch"}, [4]string{"2/2", "4/2", "4/3", "6/3"}},
		{"2 multi-arch, delete image-a", shared, [4]string{"6/6", "12/6", "16/11", "22/11"}, []string{"image-a"}, [4]string{"6/5", "11/5", "16/10", "19/9"}},
		{"2 multi-arch, delete multiarch-a", shared, [4]string{"6/6", "12/6", "16/11", "22/11"}, []string{"multiarch-a"}, [4]string{"5/5", "11/5", "13/9", "19/9"}},
		{"2 multi-arch, delete image-a and multiarch-a", shared, [4]string{"6/6", "12/6", "16/11", "22/11"}, []string{"image-a", "multiarch-a"}, [4]string{"4/4", "8/4", "10/7", "14/7"}},
		// The index without a tag is nobody's business, and stays with all it lists.
		{"2 tags, delete multiarch-a", tags, [4]string{"6/3", "12/3", "16/8", "22/8"}, []string{"multiarch-a"}, [4]string{"5/2", "11/2", "13/6", "19/6"}},
		{"2 tags, delete untagged", tags, [4]string{"6/3", "12/3", "16/8", "22/8"}, []string{"untagged"}, [4]string{"4/3", "7/3", "10/6", "11/5"}},
	} {
		for i, set := range sets {
			t.Run(tt.name+", "+set.name, func(t *testing.T) {
				g := &graph{newPkg(t), set.attested, set.signed, map[string][]oci.Descriptor{}}
				g.image("unrelated", "unrelated")
				tt.layout(g)
				if got := g.counts(&Plan{}); got != tt.start[i] {
					t.Fatalf("%s at the start, want %s", got, tt.start[i])
				}
				policy := rules(Rule{Match: g.tags(tt.delete...), Delete: &When{}, Untag: &When{}})
				if tt.delete[0] == "untagged" {
					policy = rules(Rule{Match: Match{Untagged: true}, Delete: &When{}})
				}
				plan := g.plan(policy)
				if got := g.counts(plan); got != tt.end[i] {
					t.Errorf("%s are left, want %s\n%s", got, tt.end[i], tell(policy, &g.inv, plan))
				}
			})
		}
	}
}
