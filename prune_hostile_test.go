package ghcr_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestPruneHostileManifests: what lies about itself, or is too large, can't be read and
// stays; what is merely strange is bounded. A23
func TestPruneHostileManifests(t *testing.T) {
	entries := make([]string, 20_000)
	for i := range entries {
		entries[i] = blob(oci.MediaTypeOCIManifest, fmt.Sprint(i))
	}
	play(t, []scenario{
		{
			name: "a list of twenty thousand that are not there",
			seed: func(s *stage) {
				s.push("huge", ghcrtest.Raw(oci.MediaTypeOCIIndex, []byte(`{"schemaVersion":2,"mediaType":"`+oci.MediaTypeOCIIndex+`","manifests":[`+strings.Join(entries, ",")+`]}`)), "pr-1")
				s.image("other", "v1")
			},
			rules: `rules: [{name: ghosts, match: {health: [ghost]}, delete: all}]`,
			left:  "other=v1",
		},
		{
			name: "a chain of hundreds",
			seed: func(s *stage) {
				part := "leaf"
				for i := range 150 {
					name := fmt.Sprint("level", i)
					s.index(name, part)
					part = name
				}
				s.push("top", ghcrtest.NewIndex(s.images[part]), "pr-1")
				s.image("other", "v1")
			},
			rules: `rules: [{name: pr, match: {tags: [pr-1]}, delete: all}]`,
			left:  "other=v1",
		},
		{
			name: "an entry of no known type",
			seed: func(s *stage) {
				s.image("a", "pr-1")
				s.push("strange", ghcrtest.Raw(oci.MediaTypeOCIIndex, []byte(`{"schemaVersion":2,"mediaType":"`+oci.MediaTypeOCIIndex+`","manifests":[{"mediaType":"application/vnd.example.v9+json","digest":"`+s.digest("a").String()+`","size":9}]}`)), "v1")
			},
			rules: `rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all}]`,
			left:  "a=pr-1 strange=v1",
		},
	})
}

// TestPruneHostileTags are literal text, in patterns of others and where they are shown. A24
func TestPruneHostileTags(t *testing.T) {
	play(t, []scenario{{
		name: "tags like patterns",
		seed: func(s *stage) {
			s.image("a", "v1.0")
			s.image("b", "v1x0")
			s.image("c", "sha256-abc")
			s.image("d", "sha256-"+strings.Repeat("0", 63)+"g")
			s.image("e", strings.Repeat("a", 128))
			s.image("f", "_.-")
		},
		rules: `rules: [{name: literal, match: {tags: ["v1.0", "?.-", "sha256-???", "re:a{128}"]}, delete: all}]`,
		left:  "b=v1x0 d=sha256-" + strings.Repeat("0", 63) + "g",
	}})
}

// TestPruneTagsThatAreNone: a list may have tags that no client could have pushed. They are
// text that is escaped where it is shown, and what has them stays. A24
func TestPruneTagsThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		s.image("a", "pr-1")
		s.image("b", "pr-2")
		s.image("c", "pr-3")
		s.image("other", "v1")
		time.Sleep(age)
		strange := map[string]string{s.digest("a").String(): "\x1b[2Jpr-", s.digest("b").String(): "pr-\nre:.*"}
		client, err := ghcr.New(ghcr.Options{Credentials: login, Base: &rewrite{s.server.Transport(), func(row map[string]any) {
			digest, _ := row["name"].(string)
			if tag := strange[digest]; tag != "" {
				row["metadata"].(map[string]any)["container"].(map[string]any)["tags"] = []string{tag}
			}
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s.client = client
		report := func() (*ghcr.PruneReport, error) {
			_, report, err := s.prune(`rules: [{name: pr, match: {regex: '(?s).*pr-.*'}, delete: all}]`)
			return report, err
		}
		first, err := report()
		if err == nil || first.Count(ghcr.Done) != 1 {
			t.Errorf("%d done: %v", first.Count(ghcr.Done), err)
		}
		for _, text := range append([]string{err.Error()}, texts(first)...) {
			if strings.ContainsAny(text, "\x1b\n") {
				t.Errorf("%q", text)
			}
		}
		s.client = s.newClient("")
		if got := s.state(); got != "a=pr-1 b=pr-2 other=v1" {
			t.Errorf("left are %s", got)
		}
	})
}

func texts(report *ghcr.PruneReport) (list []string) {
	for _, item := range report.Items {
		if item.Err != nil {
			list = append(list, item.Err.Error())
		}
	}
	return list
}
