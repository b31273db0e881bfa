package ghcr_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The tests here are of images that were lost, named by who reported it. Many reports
// are of the same kind; docs/retention.md has the others.

// TestPruneKeepsPartsOfLiveIndexes, which have no tag, of whatever shape the index is and
// whatever keeps it.
func TestPruneKeepsPartsOfLiveIndexes(t *testing.T) {
	play(t, []scenario{
		{
			name: "actions/delete-package-versions#90",
			seed: func(s *stage) {
				s.index("index", "amd64 arm64", "v1", "latest")
				s.index("replaced", "amd64-old arm64-old")
			},
			rules: untaggedGo,
			left:  "index=latest,v1 amd64 arm64",
		},
		{
			name: "actions/delete-package-versions#162",
			seed: func(s *stage) {
				for _, v := range []string{"1", "2", "3", "4"} {
					s.index("v"+v, "amd64-"+v+" arm64-"+v+" riscv64-"+v, "v"+v)
					time.Sleep(time.Hour)
				}
			},
			rules: `rules: [{name: releases, match: {tags: ["v*"]}, keep: {last: 2}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
			left:  "v3=v3 amd64-3 arm64-3 riscv64-3 v4=v4 amd64-4 arm64-4 riscv64-4",
		},
		{
			name: "snok/container-retention-policy#43",
			seed: func(s *stage) {
				s.attested("index", "amd64 arm64", "v1")
				s.attested("replaced", "amd64 arm64-old")
			},
			rules: untaggedGo,
			left:  "index=v1 amd64 amd64.att arm64 arm64.att",
		},
		{
			name: "snok/container-retention-policy#67",
			seed: func(s *stage) {
				s.index("young", "old-amd64 old-arm64")
				s.lose("young") // its parts are older than it
				time.Sleep(60 * age)
				s.index("index", "old-amd64 old-arm64", "v2")
				s.image("other", "v1")
			},
			rules: `rules: [{name: all, match: {tags: ["v1"]}, delete: {older_than: 30d}}, {name: untagged, match: {untagged: true}, delete: {older_than: 30d}}]`,
			left:  "index=v2 old-amd64 old-arm64 other=v1",
		},
		{
			name: "vlaurin/action-ghcr-prune#76",
			seed: func(s *stage) {
				s.push("list", ghcrtest.NewDockerList(s.push("amd64", ghcrtest.NewDockerImage("linux/amd64", ghcrtest.RandomLayer(1, 100)))), "v1")
				s.push("loose", ghcrtest.NewDockerImage("linux/arm64", ghcrtest.RandomLayer(2, 100)))
			},
			rules: untaggedGo,
			left:  "list=v1 amd64",
		},
		{
			name: "Chizkiyahu/delete-untagged-ghcr-action#45",
			seed: func(s *stage) {
				s.index("inner", "amd64 arm64")
				s.index("outer", "inner windows", "v1")
				s.index("loose", "amd64 other")
			},
			rules: untaggedGo,
			left:  "outer=v1 inner amd64 arm64 windows",
		},
		{
			name: "dataaxiom/ghcr-cleanup-action#36",
			seed: func(s *stage) {
				s.index("keep", "amd64 arm64", "v1")
				s.index("go", "amd64 arm64 s390x", "pr-1")
			},
			rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
			left:  "keep=v1 amd64 arm64",
		},
		{
			name: "dataaxiom/ghcr-cleanup-action#121",
			seed: func(s *stage) {
				s.index("keep", "amd64 arm64", "main")
				s.sign("amd64")
				s.index("go", "amd64 s390x", "main-1")
				s.sign("s390x")
			},
			rules: `rules: [{name: old, match: {tags: ["main-*", "sha256-*"]}, delete: all}, {name: ghosts, match: {health: [ghost, partial, orphan]}, delete: all}]`,
			left:  "keep=main amd64 amd64.sig=~amd64.sig arm64",
		},
	})
}

// TestPruneSharedDigests: an image that has a staging tag and a release's, or that a release
// lists, loses the staging tag and nothing else.
func TestPruneSharedDigests(t *testing.T) {
	play(t, []scenario{
		{
			name: "nfrastack/db-backup#575",
			seed: func(s *stage) {
				s.image("amd64", "stage-amd64")
				s.image("arm64", "stage-arm64")
				s.image("failed", "stage-s390x")
				s.index("release", "amd64 arm64", "v1")
			},
			rules: `rules: [{name: staging, match: {tags: ["stage-*"]}, delete: all, untag: all}]`,
			left:  "release=v1 amd64 arm64",
			more: func(s *stage, run *pruned) {
				if run.report.Count(ghcr.Done) != 3 || why(run.plan, s.digest("amd64")) != "untag" {
					t.Errorf("done %d", run.report.Count(ghcr.Done))
				}
			},
		},
		{
			name: "nfrastack/db-backup#575, deletion alone",
			seed: func(s *stage) {
				s.image("amd64", "stage-amd64")
				s.index("release", "amd64", "v1")
			},
			rules: `rules: [{name: staging, match: {tags: ["stage-*"]}, delete: all}]`,
			left:  "release=v1 amd64=stage-amd64",
			more: func(s *stage, run *pruned) {
				for _, k := range run.plan.Kept {
					if k.Digest == s.digest("amd64") && (k.Blocked != "staging" || k.Reason != retain.ReasonNeededByKept) {
						t.Errorf("it is blocked by %q for %s", k.Blocked, k.Reason)
					}
				}
			},
		},
		{
			name: "numberly/vault-db-injector#78",
			seed: func(s *stage) {
				s.index("release", "amd64 arm64", "v3.2.2-unsigned", "v3.2.2", "latest")
				s.index("older", "amd64-old", "v3.2.1-unsigned")
			},
			rules: `rules: [{name: unsigned, match: {tags: ["*-unsigned"]}, delete: all}]`,
			left:  "release=latest,v3.2.2,v3.2.2-unsigned amd64 arm64",
		},
		{
			name: "numberly/vault-db-injector#78, untagged",
			seed: func(s *stage) {
				s.index("release", "amd64 arm64", "v3.2.2-unsigned", "v3.2.2", "latest")
				s.index("older", "amd64-old", "v3.2.1-unsigned")
			},
			rules: `rules: [{name: unsigned, match: {tags: ["*-unsigned"]}, delete: all, untag: all}]`,
			left:  "release=latest,v3.2.2 amd64 arm64",
		},
		{
			name: "bots-house/ghcr-delete-image-action#172",
			seed: func(s *stage) {
				s.image("a", "pr-1", "main")
				s.image("b", "pr-2")
			},
			rules: `rules: [{name: pr, match: {tags: ["pr-1"]}, untag: all}]`,
			left:  "a=main b=pr-2",
		},
	})
}

// TestPruneSignaturesSwept: a signature is no old version, and stays as long as its image.
func TestPruneSignaturesSwept(t *testing.T) {
	play(t, []scenario{{
		name: "bsherman/ublue-custom#33",
		seed: func(s *stage) {
			s.image("a", "v1")
			s.sign("a")
			s.image("gone", "v0")
			s.sign("gone")
			s.lose("gone")
			time.Sleep(100 * age)
		},
		rules: `rules: [{name: old, match: {tags: ["sha256-*", "*.sig"]}, delete: {older_than: 90d}}, {name: untagged, match: {untagged: true}, delete: all}]`,
		left:  "a=v1 a.sig=~a.sig",
	}})
}

// TestPruneInUse: what runs stays, by digest or by tag, though it is the oldest.
func TestPruneInUse(t *testing.T) {
	play(t, []scenario{{
		name: "marin-community/marin#1544",
		seed: func(s *stage) {
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				s.index(name, name+"0", "build-"+name)
				time.Sleep(time.Hour)
			}
			s.index("pinned", "pinned0")
		},
		rules: `rules: [{name: builds, match: {tags: ["build-*"]}, keep: {last: 1}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
		facts: func(s *stage) retain.Facts {
			deployment := "spec:\n  containers:\n  - image: ghcr.io/acme/app:build-a\n  - image: ghcr.io/acme/app@" + s.digest("pinned").String() + "\n  - image: ghcr.io/acme/app@" + s.digest("c0").String() + "\n"
			uses, err := retain.InUse([]byte(deployment), "ghcr.io", "acme", "app")
			if err != nil {
				s.t.Fatal(err)
			}
			facts := retain.Facts{InUse: map[oci.Digest]string{}, InUseTags: map[string]string{}}
			for _, d := range uses.Digests {
				facts.InUse[d] = "deployment.yaml"
			}
			for _, tag := range uses.Tags {
				facts.InUseTags[tag] = "deployment.yaml"
			}
			return facts
		},
		// A part that is in use stays, and its index, of which it is not known, goes.
		left: "a=build-a a0 e=build-e e0 pinned pinned0 c0",
	}})
}

// TestPruneWrongList: lists of what is kept are read as they were meant, or refused.
func TestPruneWrongList(t *testing.T) {
	seed := func(s *stage) {
		s.image("a", "dev")
		s.image("b", "latest")
		s.image("c", "v1.2.3")
		s.image("d", "pr-1")
		s.image("loose")
	}
	play(t, []scenario{
		{
			name: "GlycemicGPT/GlycemicGPT#552",
			seed: seed,
			rules: `
protect: {tags: ['re:(v\d+.*|latest|dev)']}
rules: [{name: all but releases, match: {tags: ["l*", "v*", "d*", "pr-*"]}, delete: all}]`,
			left: "a=dev b=latest c=v1.2.3 loose",
		},
		{
			name:  "goharbor/harbor#10555",
			seed:  seed,
			rules: `rules: [{name: requests, match: {tags: ["pr-*"], except: [latest]}, keep: {last: 5}, delete: all}]`,
			left:  "a=dev b=latest c=v1.2.3 d=pr-1 loose",
		},
	})
	t.Run("dataaxiom/ghcr-cleanup-action#146", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, ghcrtest.Options{})
			seed(s)
			time.Sleep(age)
			policy, err := retain.Quick{Tags: []string{"*"}, Keep: []string{"dev, latest"}, MeanAll: true}.Policy()
			if err != nil {
				t.Fatal(err)
			}
			policy.Rails = retain.Rails{MaxDelete: -1, MaxDeletePercent: -1, AllowMatchAll: true}
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if report, err := s.apply(plan, ghcr.ApplyOptions{}); err != nil || report.Count(ghcr.Done) != 2 {
				s.describe(report, err)
			}
			if got := s.state(); got != "a=dev b=latest loose" {
				t.Errorf("left are %s", got)
			}
		})
	})
}

// TestPruneWipesNothing: a policy that would leave nothing is stopped before the first
// request that changes something.
func TestPruneWipesNothing(t *testing.T) {
	t.Run("gitlab-org/gitlab#325429", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, ghcrtest.Options{})
			for _, name := range []string{"a", "b", "c", "d"} {
				s.index(name, name+"0", "v"+name)
			}
			time.Sleep(age)
			before := s.state()
			for _, rails := range []string{"{grace: 2h}", "{max_delete: unlimited, min_remaining: 2}", "{max_delete_percent: unlimited, min_remaining: 2}", "{max_delete_percent: unlimited, max_delete: 3}"} {
				policy, err := retain.Parse("policy.yaml", []byte("version: 1\ndefaults: "+rails+"\nrules: [{name: all, match: {tags: [\"v*\"]}, delete: all}]\n"))
				if err != nil {
					t.Fatal(err)
				}
				plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if report, err := s.apply(plan, ghcr.ApplyOptions{}); report != nil || !errors.Is(err, ghcr.PlanRefused) {
					t.Errorf("%s: %v", rails, err)
				}
			}
			if w := s.writes(); len(w) != 0 || s.state() != before {
				t.Errorf("sent %+v", w)
			}
		})
	})
}

// TestPruneKeepsTheNewerPush: what an image says of its own date plays no part, since those
// of reproducible builds are all the same, or from long ago.
func TestPruneKeepsTheNewerPush(t *testing.T) {
	dated := func(s *stage, name, date, tag string) {
		s.seeds++
		s.push(name, image(s.seeds, 1).WithBytes(func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"org.opencontainers.image.title":"fixture"`), []byte(`"org.opencontainers.image.created":"`+date+`"`), 1)
		}), tag)
		time.Sleep(time.Hour)
	}
	play(t, []scenario{{
		name: "gitlab-org/gitlab#377417, gcr-cleaner",
		seed: func(s *stage) {
			dated(s, "a", "2030-01-01T00:00:00Z", "v1")
			dated(s, "b", "1980-01-01T00:00:00Z", "v2")
			dated(s, "c", "1970-01-01T00:00:00Z", "v3")
		},
		rules: `rules: [{name: old, match: {tags: ["v*"]}, keep: {last: 2}, delete: all}]`,
		left:  "b=v2 c=v3",
	}})
}
