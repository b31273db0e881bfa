package ghcr_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// lying is an index that says of what it lists that it is an image, whatever it is.
func lying(parts ...*ghcrtest.Image) *ghcrtest.Image {
	var list []oci.Descriptor
	for _, part := range parts {
		raw := part.Manifest.Bytes()
		list = append(list, oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: part.Digest(), Size: int64(len(raw)), Platform: &oci.Platform{OS: "linux", Architecture: "amd64"}})
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": list})
	if err != nil {
		panic(err)
	}
	index := ghcrtest.Raw(oci.MediaTypeOCIIndex, raw)
	index.Children = parts
	return index
}

// TestPruneIndexThatLies: an index that says of an inner index that it is an image is
// believed by the plan, which does not read the parts of what stays. Before anything goes
// the registry is asked what they are, and what the inner index lists stays.
func TestPruneIndexThatLies(t *testing.T) {
	for name, rules := range map[string]string{
		"untagged": `rules: [{name: u, match: {untagged: true}, delete: all}]`,
		"by tag":   `rules: [{name: u, match: {tags: "leaf-*"}, delete: all}, {name: o, match: {untagged: true}, delete: all}]`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ghcrtest.Options{})
				s.image("leaf", map[string][]string{"untagged": nil, "by tag": {"leaf-1"}}[name]...)
				s.image("lost")
				s.index("deep", "leaf")
				s.index("inner", "deep")
				s.push("outer", lying(s.images["inner"], s.image("honest")), "v1")
				s.index("other", "honest", "v2")
				time.Sleep(age)
				before := s.state()
				plan, _, err := s.client.PlanPrune(t.Context(), s.ref(s.repo), s.policy(s.rules(rules)), ghcr.PruneOptions{})
				if err != nil {
					t.Fatal(err)
				}
				report, err := s.apply(plan, ghcr.ApplyOptions{Journal: t.TempDir() + "/journal"})
				time.Sleep(time.Hour)
				s.truthful(s.repo, report)
				if got, want := s.state(), strings.Join(strings.Fields(strings.ReplaceAll(" "+before+" ", " lost ", " ")), " "); got != want {
					s.describe(report, err)
					t.Errorf("left are\n%s\nwant\n%s", got, want)
				}
				for _, item := range report.Items {
					told := item.Outcome == ghcr.Skipped || item.Outcome == ghcr.Changed && strings.Contains(item.Err.Error(), "is an index")
					if item.Digest != s.digest("lost") && !told {
						t.Errorf("%s is %s: %v", s.called(item.Digest), item.Outcome, item.Err)
					}
				}
			})
		})
	}
}
