package ghcr_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// TestPruneUntagged: what has no tag goes unless something that stays needs it.
func TestPruneUntagged(t *testing.T) {
	play(t, []scenario{
		{
			name: "nothing to do",
			seed: func(s *stage) {
				s.attested("index", "a b", "v1")
				s.image("c", "v2")
			},
			rules: untaggedGo,
			left:  "index=v1 a a.att b b.att c=v2",
			more: func(s *stage, run *pruned) {
				if n := run.spent; n != (spent{}) || run.report.Journal != "" {
					t.Errorf("nothing to do took %+v and the journal %q", n, run.report.Journal)
				}
			},
		},
		{
			name: "some",
			seed: func(s *stage) {
				s.index("index", "a b", "v1")
				s.index("loose", "b c")
				s.image("d")
			},
			rules: untaggedGo,
			left:  "index=v1 a b",
		},
		{
			name: "more are kept than there are",
			seed: func(s *stage) {
				s.image("a", "v1")
				s.image("b")
				s.image("c")
			},
			rules: `rules: [{name: untagged, match: {untagged: true}, keep: {last: 5}, delete: all}]`,
			left:  "a=v1 b c",
		},
		{
			name: "the newest two are kept",
			seed: func(s *stage) {
				s.image("a", "v1")
				for _, name := range []string{"b", "c", "d", "e"} {
					s.index(name, name+"0")
					time.Sleep(time.Hour)
				}
			},
			rules: `rules: [{name: untagged, match: {untagged: true}, keep: {last: 2}, delete: all}]`,
			left:  "a=v1 d d0 e e0",
		},
		{
			name: "digest tags that name themselves or each other",
			seed: func(s *stage) {
				s.image("v", "v1")
				one, two, self := s.image("one"), s.image("two"), s.image("self")
				s.push("one", one, oci.DigestTag(two.Digest())+".sig")
				s.push("two", two, oci.DigestTag(one.Digest())+".sig")
				s.push("self", self, oci.DigestTag(self.Digest()))
			},
			rules: untaggedGo,
			left:  "v=v1 one=~two.sig two=~one.sig self=~self",
		},
	})
}

// TestPruneTagged: images go by their tags and digests, and lose tags.
func TestPruneTagged(t *testing.T) {
	list := func(s *stage) *ghcrtest.Image {
		return ghcrtest.NewDockerList(s.parts("a b")...)
	}
	play(t, []scenario{
		{
			name: "by tag",
			seed: func(s *stage) {
				s.index("old", "a b", "v1")
				s.index("new", "b c", "v2")
			},
			rules: `rules: [{name: old, match: {tags: [v1]}, delete: all}]`,
			left:  "new=v2 b c",
		},
		{
			name: "by digest",
			seed: func(s *stage) {
				s.image("a", "v1", "also")
				s.image("b")
				s.image("c")
				s.image("d", "v2")
			},
			rules: `rules: [{name: those, match: {digests: ["digest(a)", "digest(b)"]}, delete: all}]`,
			left:  "c d=v2",
		},
		{
			name: "untag an image",
			seed: func(s *stage) {
				s.image("a", "keep", "drop")
				s.index("index", "a", "v1")
			},
			rules: `rules: [{name: drop, match: {tags: [drop]}, untag: all}]`,
			left:  "a=keep index=v1",
		},
		{
			name: "untag an index",
			seed: func(s *stage) {
				s.index("index", "a b", "keep", "drop")
				s.sign("index")
				s.index("other", "b c", "v1")
			},
			rules: `rules: [{name: drop, match: {tags: [drop, "sha256-*"]}, untag: all}]`,
			left:  "index=keep index.sig=~index.sig a b other=v1 c",
		},
		{
			name: "untag a Docker manifest list",
			seed: func(s *stage) {
				s.push("list", list(s), "drop-1", "drop-2", "keep")
				s.index("other", "b c", "v1")
			},
			rules: `rules: [{name: drop, match: {tags: ["drop-*"]}, untag: all}]`,
			left:  "list=keep a b other=v1 c",
		},
		{
			name: "what an index needs is blocked",
			seed: func(s *stage) {
				s.attested("a", "a0", "image-a")
				s.image("b", "image-b")
				s.index("m", "b c", "multiarch")
				s.index("top", "m", "top")
			},
			rules: `rules: [{name: all, match: {tags: ["image-*", multiarch]}, delete: all}]`,
			left:  "b=image-b m=multiarch c top=top",
		},
		{
			name: "a protected tag keeps the image",
			seed: func(s *stage) {
				s.index("index", "a b", "pr-1", "keep-me")
				s.image("c", "pr-2")
			},
			rules: `
protect: {tags: ["keep-*"]}
rules: [{name: pr, match: {tags: ["pr-*"], any_tag: true}, delete: all}]`,
			left: "index=keep-me,pr-1 a b",
		},
		{
			name: "more are kept than there are",
			seed: func(s *stage) {
				s.index("index", "a b", "v1")
				s.image("c", "v2")
			},
			rules: `rules: [{name: old, match: {tags: ["v*"]}, keep: {last: 5}, delete: all}]`,
			left:  "index=v1 a b c=v2",
		},
		{
			name: "some of a pattern are kept",
			seed: func(s *stage) {
				for i, name := range []string{"a", "b", "c", "d"} {
					s.index(name, name+"0 shared", fmt.Sprint("pr-", i))
					time.Sleep(time.Hour)
				}
				s.image("main", "main")
			},
			rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, keep: {last: 2}, delete: all}]`,
			left:  "c=pr-2 c0 d=pr-3 d0 shared main=main",
		},
		{
			name: "each group has its own number",
			seed: func(s *stage) {
				for _, tag := range []string{"api-1", "api-2", "web-1", "web-2", "web-3", "other"} {
					s.image(tag, tag)
					time.Sleep(time.Hour)
				}
			},
			rules: `rules: [{name: builds, match: {regex: '(?P<app>[a-z]+)-\d+'}, keep: {last: 1, per: app}, delete: all}]`,
			left:  "api-2=api-2 web-3=web-3 other=other",
		},
		{
			name: "a regular expression that also matches a shared part",
			seed: func(s *stage) {
				s.image("a", "v1-amd64")
				s.index("one", "a b", "v1")
				s.index("two", "a c", "v2")
			},
			rules: `rules: [{name: old, match: {regex: 'v1(-\w+)?'}, delete: all, untag: all}]`,
			left:  "two=v2 a c",
		},
		{
			name: "a pattern taken back, and one that keeps",
			seed: func(s *stage) {
				for _, tag := range []string{"dev-1", "dev-2", "dev-lts", "rc-1"} {
					s.image(tag, tag)
				}
				s.image("both", "dev-3", "dev-lts-3")
			},
			rules: `
rules:
  - {name: rc, match: {tags: ["rc-*", "dev-2"]}, keep: all}
  - {name: dev, match: {tags: ["dev-*", "rc-*"], except: ["*-lts*"]}, delete: all}`,
			left: "dev-2=dev-2 dev-lts=dev-lts rc-1=rc-1 both=dev-3,dev-lts-3",
		},
	})
}

// TestPruneBroken: a rule about what is broken finds that, and nothing that is whole.
func TestPruneBroken(t *testing.T) {
	for _, broken := range []bool{true, false} {
		left := "v=v1 ghost=g a partial=p b c signed=s signed.sig=~signed.sig"
		if broken {
			left = "v=v1"
		}
		play(t, []scenario{{
			name: fmt.Sprintf("ghost, partial, orphan: %v", broken),
			seed: func(s *stage) {
				s.image("v", "v1")
				s.index("ghost", "a", "g")
				s.index("partial", "b c", "p")
				s.image("signed", "s")
				s.sign("signed")
				if broken {
					s.lose("a")
					s.lose("b")
					s.lose("signed")
				}
			},
			rules: `rules: [{name: broken, match: {health: [ghost, partial, orphan]}, delete: all}]`,
			left:  left,
		}})
	}
}

// TestPrunePackagesOnTheirOwn: what one package has counts for no other, though they have
// the same manifests.
func TestPrunePackagesOnTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		policy, err := retain.Parse("policy.yaml", []byte("version: 1\npackages: [\"acme/*\", \"!acme/tools/*\"]\ndefaults: {max_delete_percent: unlimited}\n"+untaggedGo))
		if err != nil {
			t.Fatal(err)
		}
		part := image(1, 1)
		index := ghcrtest.NewIndex(part)
		for _, repo := range []string{"acme/app", "acme/web", "acme/tools/lint"} {
			s.add(repo, "v1", image(2, 1))
			s.add(repo, "", part)
		}
		s.add("acme/web", "v2", index)
		time.Sleep(age)
		for _, repo := range []string{"acme/app", "acme/web", "acme/tools/lint"} {
			if !policy.Covers(repo) {
				continue
			}
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref(repo), policy, ghcr.PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.apply(plan, ghcr.ApplyOptions{}); err != nil {
				t.Error(err)
			}
		}
		s.gone(part.Digest().String())
		s.holds("acme/web", "v2", index)
		s.holds("acme/tools/lint", "", part)
	})
}

// TestPrunePlanOfAMovingList: versions come and go while the list is read, so that one slips
// from a page to the one before. It is read again, or given up on, and never planned on.
func TestPrunePlanOfAMovingList(t *testing.T) {
	for name, test := range map[string]struct {
		fault ghcrtest.Fault
		kept  int // no plan if it is zero
	}{
		"one is deleted":    {ghcrtest.Fault{Action: ghcrtest.ActionDeleteVersion}, 2},
		"one is pushed":     {ghcrtest.Fault{Action: ghcrtest.ActionAddVersion}, 4},
		"some at all times": {ghcrtest.Fault{Action: ghcrtest.ActionAddVersion, Times: -1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ghcrtest.Options{})
				part := image(900, 1)
				s.push("index", ghcrtest.NewIndex(part), "v1")
				time.Sleep(time.Hour)
				s.many("loose", 198)
				time.Sleep(time.Hour)
				s.push("part", part)
				time.Sleep(time.Hour)
				s.image("last", "v2") // so the index is the first of the third page
				time.Sleep(age)
				test.fault.Route, test.fault.Query = ghcrtest.RouteVersions, "page=3"
				s.server.Inject(test.fault)
				plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
				if len(s.server.Faults()) == 0 {
					t.Error("nothing moved")
				}
				if test.kept == 0 {
					if !errors.Is(err, ghcr.ErrConflict) || plan != nil {
						t.Errorf("error %v", err)
					}
					return
				}
				if err != nil || len(plan.Actions) != 198 || len(plan.Kept) != test.kept || why(plan, s.digest("part")) != "needed-by-kept" {
					t.Errorf("%d actions, %d kept, the part %s: %v", len(plan.Actions), len(plan.Kept), why(plan, s.digest("part")), err)
				}
			})
		})
	}
}
