package ghcr_test

import (
	"fmt"
	"testing"
)

// graph builds the layouts of TestPruneGraphs.
type graph struct {
	*stage
	attested, signed bool
	parts            map[string]string // what an index lists for an image
}

// single adds an image; with attestations it is an index of the image and its attestation.
func (g *graph) single(name string, tags ...string) {
	if g.attested {
		g.stage.attested(name, name+"0", tags...)
		g.parts[name] = name + "0"
	} else {
		g.image(name, tags...)
		g.parts[name] = name
	}
	g.mark(name)
}

// multi adds an index over what the images consist of.
func (g *graph) multi(name, a, b string, tags ...string) {
	if g.attested {
		g.stage.attested(name, g.parts[a]+" "+g.parts[b], tags...)
	} else {
		g.index(name, g.parts[a]+" "+g.parts[b], tags...)
	}
	g.mark(name)
}

// mark signs with a referrer and the list that it is found by.
func (g *graph) mark(name string) {
	if g.signed {
		g.refer(name+".ref", name)
		g.list(name)
	}
}

// TestPruneGraphs: a rule names tags, and a manifest stays while anything that stays needs
// it, whatever the graph. There are four layouts, nine things to do, and four sets of what
// belongs to an image: nothing, attestations, signatures, both.
func TestPruneGraphs(t *testing.T) {
	layouts := map[string]func(*graph){
		"1 image": func(g *graph) { g.single("a", "image-a") },
		"2 images": func(g *graph) {
			g.single("a", "image-a")
			g.single("b", "image-b")
			g.multi("m", "a", "b", "multiarch")
		},
		"2 multi-arch": func(g *graph) {
			g.single("a", "image-a")
			g.single("b", "image-b")
			g.single("c", "image-c")
			g.multi("m", "a", "b", "multiarch-a")
			g.multi("n", "b", "c", "multiarch-b")
		},
		"2 tags": func(g *graph) {
			g.single("a", "image-a")
			g.single("b")
			g.single("c")
			g.multi("m", "a", "b", "multiarch-a")
			g.multi("n", "b", "c")
		},
	}
	sets := []struct {
		name             string
		attested, signed bool
	}{{"nothing", false, false}, {"attestations", true, false}, {"signatures", false, true}, {"both", true, true}}
	for _, tt := range []struct {
		layout, name string
		match        string
		left         [4]string
	}{
		{"1 image", "delete image-a", `tags: [image-a]`, [4]string{}},
		// As a part it only loses its tag. With attestations the index that has the tag is
		// nobody's part: it goes, with its signature.
		{"2 images", "delete image-a", `tags: [image-a]`, [4]string{
			"a b=image-b m=multiarch",
			"a0 a0.att b=image-b b0 b0.att m=multiarch",
			"a a.list=~a a.ref b=image-b b.list=~b b.ref m=multiarch m.list=~m m.ref",
			"a0 a0.att b=image-b b.list=~b b.ref b0 b0.att m=multiarch m.list=~m m.ref",
		}},
		{"2 images", "delete multiarch", `tags: [multiarch]`, [4]string{
			"a=image-a b=image-b",
			"a=image-a a0 a0.att b=image-b b0 b0.att",
			"a=image-a a.list=~a a.ref b=image-b b.list=~b b.ref",
			"a=image-a a.list=~a a.ref a0 a0.att b=image-b b.list=~b b.ref b0 b0.att",
		}},
		{"2 images", "delete both", `tags: [image-a, multiarch]`, [4]string{
			"b=image-b",
			"b=image-b b0 b0.att",
			"b=image-b b.list=~b b.ref",
			"b=image-b b.list=~b b.ref b0 b0.att",
		}},
		{"2 multi-arch", "delete image-a", `tags: [image-a]`, [4]string{
			"a b=image-b c=image-c m=multiarch-a n=multiarch-b",
			"a0 a0.att b=image-b b0 b0.att c=image-c c0 c0.att m=multiarch-a n=multiarch-b",
			"a a.list=~a a.ref b=image-b b.list=~b b.ref c=image-c c.list=~c c.ref m=multiarch-a m.list=~m m.ref n=multiarch-b n.list=~n n.ref",
			"a0 a0.att b=image-b b.list=~b b.ref b0 b0.att c=image-c c.list=~c c.ref c0 c0.att m=multiarch-a m.list=~m m.ref n=multiarch-b n.list=~n n.ref",
		}},
		{"2 multi-arch", "delete multiarch-a", `tags: [multiarch-a]`, [4]string{
			"a=image-a b=image-b c=image-c n=multiarch-b",
			"a=image-a a0 a0.att b=image-b b0 b0.att c=image-c c0 c0.att n=multiarch-b",
			"a=image-a a.list=~a a.ref b=image-b b.list=~b b.ref c=image-c c.list=~c c.ref n=multiarch-b n.list=~n n.ref",
			"a=image-a a.list=~a a.ref a0 a0.att b=image-b b.list=~b b.ref b0 b0.att c=image-c c.list=~c c.ref c0 c0.att n=multiarch-b n.list=~n n.ref",
		}},
		{"2 multi-arch", "delete image-a and multiarch-a", `tags: [image-a, multiarch-a]`, [4]string{
			"b=image-b c=image-c n=multiarch-b",
			"b=image-b b0 b0.att c=image-c c0 c0.att n=multiarch-b",
			"b=image-b b.list=~b b.ref c=image-c c.list=~c c.ref n=multiarch-b n.list=~n n.ref",
			"b=image-b b.list=~b b.ref b0 b0.att c=image-c c.list=~c c.ref c0 c0.att n=multiarch-b n.list=~n n.ref",
		}},
		// The index without a tag is nobody's business, and stays with all that it lists.
		{"2 tags", "delete multiarch-a", `tags: [multiarch-a]`, [4]string{
			"a=image-a b c n",
			"a=image-a a0 a0.att b b0 b0.att c c0 c0.att n",
			"a=image-a a.list=~a a.ref b b.list=~b b.ref c c.list=~c c.ref n n.list=~n n.ref",
			"a=image-a a.list=~a a.ref a0 a0.att b b.list=~b b.ref b0 b0.att c c.list=~c c.ref c0 c0.att n n.list=~n n.ref",
		}},
		{"2 tags", "delete untagged", `untagged: true`, [4]string{
			"a=image-a b m=multiarch-a",
			"a=image-a a0 a0.att b0 b0.att m=multiarch-a",
			"a=image-a a.list=~a a.ref b b.list=~b b.ref m=multiarch-a m.list=~m m.ref",
			"a=image-a a.list=~a a.ref a0 a0.att b0 b0.att m=multiarch-a m.list=~m m.ref",
		}},
	} {
		for i, set := range sets {
			verbs := "delete: all, untag: all"
			if tt.match == "untagged: true" {
				verbs = "delete: all"
			}
			play(t, []scenario{{
				name: tt.layout + ", " + tt.name + ", " + set.name,
				seed: func(s *stage) {
					s.image("unrelated", "unrelated")
					layouts[tt.layout](&graph{s, set.attested, set.signed, map[string]string{}})
				},
				rules: fmt.Sprintf("rules: [{name: some, match: {%s}, %s}]", tt.match, verbs),
				left:  "unrelated=unrelated " + tt.left[i],
			}})
		}
	}
}

// TestPruneArtifacts: what belongs to an image goes with it, and with nothing else.
func TestPruneArtifacts(t *testing.T) {
	untagged := `rules: [{name: untagged, match: {untagged: true}, delete: all}]`
	shared := func(tags ...string) func(s *stage) {
		return func(s *stage) {
			s.index("one", "a b c", "v1")
			s.index("two", "b c d", tags...)
		}
	}
	play(t, []scenario{
		{
			name: "attestation of a deleted image",
			seed: func(s *stage) {
				s.attested("old", "a", "v1")
				s.attested("new", "b", "v2")
			},
			rules: `rules: [{name: old, match: {tags: [v1]}, delete: all}]`,
			left:  "new=v2 b b.att",
		},
		{
			name: "second push on a tag",
			seed: func(s *stage) {
				s.attested("first", "a", "v1")
				s.attested("second", "b", "v1")
			},
			rules: untagged,
			left:  "second=v1 b b.att",
		},
		{
			name: "cosign signature of a deleted image",
			seed: func(s *stage) {
				s.image("a", "v1")
				s.image("b", "v2")
				s.sign("a")
				s.sign("b")
			},
			rules: `rules: [{name: old, match: {tags: [v1]}, delete: all}]`,
			left:  "b=v2 b.sig=~b.sig",
		},
		{
			name: "signature behind a list of referrers",
			seed: func(s *stage) {
				s.image("a", "v1")
				s.refer("signature", "a")
				s.list("a")
				s.image("loose")
			},
			rules: untagged,
			left:  "a=v1 signature a.list=~a",
		},
		{
			name: "referrer that nothing leads to",
			seed: func(s *stage) {
				s.image("a", "v1")
				s.refer("sbom", "a")
				s.image("loose")
				s.refer("loose.sbom", "loose")
			},
			rules: untagged,
			left:  "a=v1 sbom",
			more: func(s *stage, run *pruned) {
				if why(run.plan, s.digest("sbom")) != "about-kept" {
					t.Error("it stays for another reason")
				}
			},
		},
		{name: "shared parts of a tagged index", seed: shared("v2"), rules: `rules: [{name: old, match: {tags: [v2]}, delete: all}]`, left: "one=v1 a b c"},
		{name: "shared parts of an untagged index", seed: shared(), rules: untagged, left: "one=v1 a b c"},
		{
			name: "parts signed",
			seed: func(s *stage) {
				s.index("one", "a b", "v1")
				s.index("two", "b c", "v2")
				for _, name := range []string{"a", "b", "c"} {
					s.sign(name)
				}
			},
			rules: `rules: [{name: old, match: {tags: [v2]}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
			left:  "one=v1 a a.sig=~a.sig b b.sig=~b.sig",
		},
		{
			name: "index signed",
			seed: func(s *stage) {
				s.index("one", "a b", "v1")
				s.sign("one")
				s.index("two", "b c", "v2")
				s.sign("two")
			},
			rules: `rules: [{name: old, match: {tags: ["v2", "sha256-*"], any_tag: true}, delete: all}]`,
			left:  "one=v1 one.sig=~one.sig a b",
		},
	})
}
