package ghcr_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The tests here are of packages that no other tool tests. docs/retention.md has the
// letters.

// TestPruneReferrers: what is about something lives and goes with it, through any number of
// steps.
func TestPruneReferrers(t *testing.T) {
	chain := func(s *stage) {
		s.attested("index", "a", "v1")
		s.sign("a")
		s.sign("a.sig")
		s.refer("sbom", "a.att")
		s.refer("sbom.sbom", "sbom")
		s.image("other", "v2")
	}
	play(t, []scenario{
		{
			name: "A7 stay with their subject", seed: chain,
			rules: `rules: [{name: signatures, match: {tags: ["sha256-*"]}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`,
			left:  "index=v1 a a.att a.sig=~a.sig a.sig.sig=~a.sig.sig sbom sbom.sbom other=v2",
		},
		{name: "A7 go with their subject", seed: chain, rules: `rules: [{name: old, match: {tags: [v1]}, delete: all}]`, left: "other=v2"},
		{
			name: "A11 a list of which some are gone",
			seed: func(s *stage) {
				s.image("a", "v1")
				s.refer("live", "a")
				s.refer("lost", "a")
				s.list("a")
				s.lose("lost")
			},
			rules: untaggedGo,
			left:  "a=v1 live a.list=~a",
			more: func(s *stage, run *pruned) {
				list, needs, err := retain.Check(run.inventory)
				if err != nil || len(needs) != 0 || len(list) != 1 || list[0].Health != retain.Dangling || list[0].Digest != s.digest("a.list") {
					t.Errorf("%+v, %v, %v", list, needs, err)
				}
			},
		},
		{
			name: "A12 about a part",
			seed: func(s *stage) {
				s.index("index", "a b", "v1")
				s.refer("sbom", "a")
			},
			rules: untaggedGo,
			left:  "index=v1 a b sbom",
		},
		{
			name: "A13 kept by digest",
			seed: func(s *stage) {
				s.index("index", "a b")
				s.sign("index")
				s.refer("sbom", "b")
				s.index("loose", "b c")
				s.image("other", "v1")
			},
			rules: `
protect: {digests: ["digest(index)"]}
` + untaggedGo,
			left: "index index.sig=~index.sig a b sbom other=v1",
		},
	})
}

// TestPruneNesting: indexes of indexes are walked to the end, and what is reached on two
// ways goes once.
func TestPruneNesting(t *testing.T) {
	seed := func(s *stage) {
		s.index("left", "leaf l")
		s.index("right", "leaf r")
		s.index("top", "left right")
		s.index("roof", "top left", "v1")
		s.image("other", "v2")
	}
	play(t, []scenario{
		{name: "A8 stay", seed: seed, rules: untaggedGo, left: "roof=v1 top left right leaf l r other=v2"},
		{name: "A8 go", seed: seed, rules: `rules: [{name: old, match: {tags: [v1]}, delete: all}]`, left: "other=v2"},
	})
}

// artifact is a manifest of blobs that are never pushed.
func artifact(mediaType string, fields string) *ghcrtest.Image {
	return ghcrtest.Raw(mediaType, []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,%s}`, mediaType, fields)))
}

func blob(mediaType, seed string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%064x","size":9}`, mediaType, seed)
}

// TestPruneArtifactKinds: what is no image of a container is one thing to a policy like any
// other, and what is not understood stays.
func TestPruneArtifactKinds(t *testing.T) {
	const manifest = oci.MediaTypeOCIManifest
	seed := func(s *stage) {
		s.push("helm", artifact(manifest, `"config":`+blob("application/vnd.cncf.helm.config.v1+json", "h")+`,"layers":[`+blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "c")+`]`), "helm")
		s.push("wasm", artifact(manifest, `"artifactType":"application/wasm","config":`+blob("application/vnd.wasm.config.v0+json", "w")+`,"layers":[`+blob("application/wasm", "m")+`]`), "wasm")
		s.push("empty", artifact(manifest, `"artifactType":"application/vnd.example","config":`+blob(oci.MediaTypeEmpty, "e")+`,"layers":[`+blob(oci.MediaTypeEmpty, "e")+`]`), "empty")
		s.push("old", artifact(oci.MediaTypeArtifactManifest, `"artifactType":"application/vnd.example","blobs":[`+blob("text/plain", "b")+`]`), "artifact")
		s.push("docker", ghcrtest.NewDockerImage("linux/amd64", ghcrtest.RandomLayer(1, 10)), "docker")
		s.push("schema1", ghcrtest.Raw("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"name":"acme/app","fsLayers":[{"blobSum":"sha256:`+strings.Repeat("a", 64)+`"}]}`)), "schema1")
		s.push("cache", layersIndex("a", "b"), "cache")
		s.push("newcache", artifact(manifest, `"config":`+blob("application/vnd.buildkit.cacheconfig.v0", "k")+`,"layers":[`+blob("application/vnd.oci.image.layer.v1.tar+gzip", "l")+`]`), "newcache")
		s.image("stays", "v1")
	}
	play(t, []scenario{
		{
			name: "A9 by tag", seed: seed,
			rules: `rules: [{name: all, match: {tags: [helm, wasm, empty, artifact, docker, schema1, "*cache"]}, delete: all}]`,
			// The manifest of schema 1 may name anything, so what has no tag would stay too.
			left: "schema1=schema1 stays=v1",
			more: func(s *stage, run *pruned) {
				if why(run.plan, s.digest("schema1")) != "unreadable" {
					s.t.Errorf("schema 1: %s", why(run.plan, s.digest("schema1")))
				}
			},
		},
		{
			name: "A9 by role", seed: seed,
			rules: `rules: [{name: artifacts, match: {roles: [artifact]}, delete: all}]`,
			left:  "docker=docker schema1=schema1 cache=cache newcache=newcache stays=v1",
		},
		{
			name: "A10 caches by role", seed: seed,
			rules: `rules: [{name: ghosts, match: {health: [ghost, partial]}, delete: all}, {name: caches, match: {roles: [cache]}, delete: all}]`,
			left:  "helm=helm wasm=wasm empty=empty old=artifact docker=docker schema1=schema1 stays=v1",
			more: func(s *stage, run *pruned) {
				for _, a := range run.plan.Health {
					if a.Health == retain.Ghost {
						s.t.Errorf("%v is a ghost", a.Tags)
					}
				}
			},
		},
	})
}

// rewrite changes the rows of the list of versions.
type rewrite struct {
	base http.RoundTripper
	row  func(row map[string]any)
}

func (w *rewrite) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/versions") || resp.StatusCode != 200 {
		return resp, err
	}
	defer resp.Body.Close()
	var rows []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&rows); err != nil {
		return nil, err
	}
	for _, row := range rows {
		w.row(row)
	}
	body, err := json.Marshal(rows)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, err
}

// TestPruneDates: what has no date is within any age, and stays. A14
func TestPruneDates(t *testing.T) {
	for name, value := range map[string]any{"null": nil, "zero": "0001-01-01T00:00:00Z"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ghcrtest.Options{})
				s.image("a", "pr-1")
				s.image("b")
				s.image("c", "pr-2")
				s.image("d")
				s.image("other", "v1")
				time.Sleep(30 * age)
				undated := map[string]bool{s.digest("a").String(): true, s.digest("b").String(): true}
				client, err := ghcr.New(ghcr.Options{Credentials: login, Base: &rewrite{s.server.Transport(), func(row map[string]any) {
					if digest, _ := row["name"].(string); undated[digest] {
						row["created_at"], row["updated_at"] = value, value
					}
				}}})
				if err != nil {
					t.Fatal(err)
				}
				s.client = client
				plan, report, err := s.prune(`rules: [{name: pr, match: {tags: ["pr-*"]}, delete: {older_than: 7d}}, {name: untagged, match: {untagged: true}, delete: {older_than: 7d}}]`)
				if err != nil || report.Count(ghcr.Done) != 2 || why(plan, s.digest("a")) != "no-date" || why(plan, s.digest("b")) != "no-date" {
					s.describe(report, err)
					t.Errorf("a: %s, b: %s", why(plan, s.digest("a")), why(plan, s.digest("b")))
				}
				if got := s.state(); got != "a=pr-1 b other=v1" {
					t.Errorf("left are %s", got)
				}
			})
		})
	}
	q := ghcrtest.GHCR()
	q.RESTSameTimestamp = true
	play(t, []scenario{{
		name: "A14 equal dates go by number",
		opts: ghcrtest.Options{Quirks: &q},
		seed: func(s *stage) {
			for _, name := range []string{"a", "b", "c", "d"} {
				s.image(name, "v"+name)
			}
		},
		rules: `rules: [{name: old, match: {tags: ["v*"]}, keep: {last: 2}, delete: all}]`,
		left:  "c=vc d=vd",
	}, {
		name: "A14 dates ahead of this clock",
		opts: ghcrtest.Options{Ahead: 30 * 24 * time.Hour},
		seed: func(s *stage) {
			s.image("a")
			s.image("b", "pr-1")
			s.image("other", "v1")
		},
		rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: {older_than: 1d}}, {name: untagged, match: {untagged: true}, delete: all}]`,
		left:  "a b=pr-1 other=v1",
	}})
}

// TestPruneNamesInManyParts are one segment of the API's paths, whatever their case. A21
func TestPruneNamesInManyParts(t *testing.T) {
	play(t, []scenario{{
		name: "A21",
		seed: func(s *stage) {
			s.repo = "acme/tools/go/lint"
			s.index("index", "a b", "v1")
			s.image("old", "pr-1", "pr-2")
			s.image("c", "pr-3", "main")
			s.repo = "Acme/Tools/go/lint"
		},
		rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all, untag: all}]`,
		left:  "index=v1 a b c=main",
	}})
}

// TestPruneUndoTooLate: after a month, or when the name was given to something else, what
// a prune deleted can't be brought back, which is told. A19
func TestPruneUndoTooLate(t *testing.T) {
	for name, test := range map[string]struct {
		then  func(p *prunable)
		class error
	}{
		"a month later": {func(p *prunable) { p.server.Advance(31 * 24 * time.Hour) }, ghcr.ErrNotFound},
		"package deleted": {func(p *prunable) {
			api, _ := p.client.Packages()
			if err := api.Delete(p.t.Context(), "acme", "app"); err != nil {
				p.t.Fatal(err)
			}
			p.add("acme/app", "v3", p.kept)
			p.add("acme/app", "latest", p.kept)
			p.add("acme/app", "main", p.other)
		}, ghcr.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				journal := t.TempDir() + "/journal"
				if _, err := p.apply(p.planOf("acme/app", "v1", "v2"), ghcr.ApplyOptions{Journal: journal}); err != nil {
					t.Fatal(err)
				}
				test.then(p)
				back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(journal)})
				if !errors.Is(err, test.class) || ghcr.Hint(err) == "" {
					t.Errorf("%v, hint %q", err, ghcr.Hint(err))
				}
				for _, r := range back {
					if r.Outcome == ghcr.Done {
						t.Errorf("%+v is said to be back", r)
					}
				}
				p.stay()
			})
		})
	}
}

// TestPruneOneOfManyIsDenied: a package that the token may not see is refused, and the
// others are done. A20
func TestPruneOneOfManyIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}}}})
		for _, repo := range []string{"other/app", "acme/app"} {
			s.add(repo, "v1", image(1, 1))
			s.add(repo, "", image(2, 1))
		}
		time.Sleep(age)
		s.as("ghp_dev")
		_, _, err := s.client.PlanPrune(t.Context(), s.ref("other/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
		if !errors.Is(err, ghcr.ErrNotFound) && !errors.Is(err, ghcr.ErrDenied) {
			t.Errorf("error %v", err)
		}
		if _, report, err := s.prune(untaggedGo); err != nil || report.Count(ghcr.Done) != 1 {
			t.Error(err)
		}
		s.holds("other/app", "", image(2, 1))
	})
}
