package ghcr_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The tests here are of what went wrong with the most used cleanup action, each by the
// whole path: a policy as text, listing, plan, and its application. They are named by
// the letters of its failures.

// policy reads the rules of a policy whose rails let everything by.
func (s *sandbox) policy(rules string) *retain.Policy {
	s.t.Helper()
	policy, err := retain.Parse("policy.yaml", []byte("version: 1\ndefaults: {max_delete: unlimited, max_delete_percent: unlimited, min_remaining: 0}\n"+rules))
	if err != nil {
		s.t.Fatal(err)
	}
	return policy
}

// prune plans and applies a policy.
func (s *sandbox) prune(rules string) (*retain.Plan, *ghcr.PruneReport, error) {
	s.t.Helper()
	plan, _, err := s.client.PlanPrune(s.t.Context(), s.ref("acme/app"), s.policy(rules), ghcr.PruneOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	report, err := s.client.ApplyPrune(s.t.Context(), plan, ghcr.ApplyOptions{Journal: s.t.TempDir() + "/journal"})
	s.truthful("acme/app", report)
	return plan, report, err
}

// gone checks that a tag or digest is not there any more.
func (s *sandbox) gone(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if d := s.resolves("acme/app", name); d != "" {
			s.t.Errorf("%s is still there", name)
		}
	}
}

// why returns what a plan says of a version that stays, or goes.
func why(plan *retain.Plan, d oci.Digest) string {
	for _, k := range plan.Kept {
		if k.Digest == d {
			return string(k.Reason)
		}
	}
	for _, a := range plan.Actions {
		if a.Digest == d {
			return string(a.Do)
		}
	}
	return "nothing"
}

// age has what was pushed be older than any grace.
const age = 48 * time.Hour

func TestPruneDataaxiomBKeepsATaggedChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child, other := image(1, 1), image(2, 1)
		s.add("acme/app", "v1", ghcrtest.NewIndex(child, other))
		s.add("acme/app", "v1-amd64", child)
		s.add("acme/app", "stays", image(3, 1))
		time.Sleep(age)
		_, report, err := s.prune(`
protect: {tags: [v1-amd64]}
rules: [{name: old, match: {tags: ["v1", "v1-amd64"], any_tag: true}, delete: all}]`)
		if err != nil {
			s.describe(report, err)
			t.Error(err)
		}
		s.holds("acme/app", "v1-amd64", child)
		s.holds("acme/app", "stays", image(3, 1))
		s.gone("v1", other.Digest().String())
	})
}

func TestPruneDataaxiomCUntagsWithAStaleList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(20 * time.Second)})
		img := image(1, 1)
		s.add("acme/app", "prod", img)
		s.add("acme/app", "pr-1", img)
		time.Sleep(age)
		_, report, err := s.prune(`rules: [{name: pr, match: {tags: ["pr-*"]}, untag: all}]`)
		if err != nil || report.Count(ghcr.Done) != 1 {
			s.describe(report, err)
			t.Error(err)
		}
		s.holds("acme/app", "prod", img)
		s.gone("pr-1")
		time.Sleep(time.Hour)
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
	})
}

func TestPruneDataaxiomDRefusesStrayWhitespace(t *testing.T) {
	for _, list := range []string{`["dev", " latest"]`, `["dev", ""]`, `["dev, latest", "x "]`} {
		_, err := retain.Parse("policy.yaml", []byte("version: 1\nprotect: {tags: "+list+"}\nrules: [{name: all, match: {tags: [\"v*\"]}, delete: all}]\n"))
		if !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

func TestPruneDataaxiomEPatternsSeeTagsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		bare := image(1, 1)
		s.add("acme/app", "", bare)
		s.add("acme/app", "v1", image(2, 1))
		s.add("acme/app", "v2", image(3, 1))
		time.Sleep(age)
		for _, pattern := range []string{"*a*", "re:sha256.*", "re:.*[0-9a-f]{64}", "sha256*"} {
			_, report, err := s.prune(fmt.Sprintf(`rules: [{name: pattern, match: {tags: [%q]}, delete: all}]`, pattern))
			if err != nil || len(report.Items) != 0 {
				s.describe(report, err)
				t.Errorf("%s matches something", pattern)
			}
		}
		s.holds("acme/app", "", bare)
	})
}

// layersIndex is a build cache as BuildKit first kept it: an index of layers.
func layersIndex(layers ...string) *ghcrtest.Image {
	var entries []string
	for _, l := range layers {
		entries = append(entries, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%064x","size":5}`, l))
	}
	entries = append(entries, fmt.Sprintf(`{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"sha256:%064x","size":5}`, "config"))
	return ghcrtest.Raw(oci.MediaTypeOCIIndex, []byte(`{"schemaVersion":2,"mediaType":"`+oci.MediaTypeOCIIndex+`","manifests":[`+strings.Join(entries, ",")+`]}`))
}

func TestPruneDataaxiomFABuildCacheIsNoGhost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		cache := layersIndex("a", "b")
		raw := ghcrtest.NewIndex(image(1, 1))
		ghost := ghcrtest.Raw(raw.Manifest.MediaType, raw.Manifest.Bytes())
		s.add("acme/app", "buildcache", cache)
		s.add("acme/app", "ghost", ghost)
		s.add("acme/app", "v1", image(2, 1))
		time.Sleep(age)
		_, report, err := s.prune(`rules: [{name: ghosts, match: {health: [ghost, partial]}, delete: all}]`)
		if err != nil || len(report.Items) != 1 {
			s.describe(report, err)
			t.Error(err)
		}
		s.holds("acme/app", "buildcache", cache)
		s.gone("ghost")
	})
}

func TestPruneDataaxiomGWalksAllLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		outer := ghcrtest.NewIndex(ghcrtest.NewIndex(ghcrtest.NewIndex(image(1, 1))), image(2, 1))
		bare := ghcrtest.NewIndex(image(3, 1))
		s.add("acme/app", "v1", outer)
		s.add("acme/app", "", bare)
		time.Sleep(age)
		_, report, err := s.prune(`rules: [{name: untagged, match: {untagged: true}, delete: all}]`)
		if err != nil || len(report.Items) != 2 {
			s.describe(report, err)
			t.Error(err)
		}
		s.holds("acme/app", "v1", outer)
		s.gone(bare.Digest().String(), bare.Children[0].Digest().String())
	})
}

func TestPruneDataaxiomHASignatureTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child := image(1, 1)
		v1, v2 := ghcrtest.NewIndex(child), ghcrtest.NewIndex(image(2, 1))
		s.add("acme/app", "v1", v1)
		time.Sleep(time.Hour)
		s.add("acme/app", "v2", v2)
		time.Sleep(time.Hour)
		signature := ghcrtest.Sign(child)
		s.add("acme/app", "", signature)
		time.Sleep(age)
		_, report, err := s.prune(`rules: [{name: last, match: {tags: ["v*", "sha256-*"]}, keep: {last: 2}, delete: all}]`)
		if err != nil || len(report.Items) != 0 {
			s.describe(report, err)
			t.Error("something went")
		}
		s.holds("acme/app", "v1", v1)
		s.holds("acme/app", "v2", v2)
		s.holds("acme/app", "", signature)
	})
}

func TestPruneDataaxiomIOrphanSignaturesTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		for i := range 3 {
			s.add("acme/app", fmt.Sprint("v", i+1), image(uint64(i+1), 1))
			time.Sleep(time.Hour)
		}
		for i := range 2 {
			s.add("acme/app", "", ghcrtest.Sign(image(uint64(i+10), 1)))
			time.Sleep(time.Hour)
		}
		time.Sleep(age)
		_, report, err := s.prune(`
rules:
  - {name: orphans, match: {health: [orphan]}, delete: all}
  - {name: last, match: {tags: ["v*"]}, keep: {last: 2}, delete: all}`)
		if err != nil {
			s.describe(report, err)
			t.Error(err)
		}
		s.holds("acme/app", "v2", image(2, 1))
		s.holds("acme/app", "v3", image(3, 1))
		s.gone("v1")
		if n := len(s.inventory("acme/app").Versions); n != 2 {
			t.Errorf("%d versions are left", n)
		}
	})
}

func TestPruneDataaxiomJAPlanSaysUntag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/app", "prod", img)
		s.add("acme/app", "pr-1", img)
		time.Sleep(age)
		plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(`rules: [{name: pr, match: {tags: ["pr-*"]}, untag: all}]`), ghcr.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if a := plan.Actions; len(a) != 1 || a[0].Do != retain.Untag || !slices.Equal(a[0].Off, []string{"pr-1"}) {
			t.Errorf("planned %+v", a)
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
	})
}

func TestPruneDataaxiomLOneUnreadableManifestKeepsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		part := image(1, 1)
		broken := ghcrtest.NewIndex(part)
		s.add("acme/app", "old-0", image(9, 1)) // older, so it may be a part of it
		time.Sleep(time.Hour)
		s.add("acme/app", "broken", broken)
		time.Sleep(time.Hour)
		s.add("acme/app", "old-1", image(2, 1))
		s.add("acme/app", "old-2", image(3, 1))
		s.add("acme/app", "v1", image(4, 1))
		time.Sleep(age)
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Ref: broken.Digest().String(), Method: "GET", Status: 404, Times: -1})
		plan, report, err := s.prune(`
rules:
  - {name: old, match: {tags: ["old-*"]}, delete: all}
  - {name: untagged, match: {untagged: true}, delete: all}`)
		if why(plan, broken.Digest()) != string(retain.ReasonUnreadable) {
			t.Errorf("the index stays as %s", why(plan, broken.Digest()))
		}
		s.server.ClearFaults()
		s.holds("acme/app", "broken", broken)
		s.holds("acme/app", "old-0", image(9, 1))
		s.holds("acme/app", "v1", image(4, 1))
		if err != nil || report.Count(ghcr.Done) != 2 {
			s.describe(report, err)
			t.Error("the others did not go")
		}
		s.gone("old-1", "old-2")
	})
}

func TestPruneDataaxiomMTheLastTaggedIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 1))
		s.add("acme/app", "v2", image(2, 1))
		s.add("acme/app", "", image(3, 1))
		time.Sleep(age)
		_, report, err := s.prune(`
rules:
  - {name: all, match: {tags: ["v*"]}, delete: all}
  - {name: untagged, match: {untagged: true}, delete: all}`)
		if err != nil || report.Count(ghcr.Done) != 2 {
			s.describe(report, err)
			t.Error("the others did not go")
		}
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
	})
}

func TestPruneDataaxiomM2TooManyDownloadsAreBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Public: []string{"acme/app"}})
		for i := range 5 {
			s.add("acme/app", fmt.Sprint("v", i+1), image(uint64(i+1), 1))
		}
		time.Sleep(age)
		if err := s.server.SetDownloads("acme/app", "v2", 5001); err != nil {
			t.Fatal(err)
		}
		_, report, err := s.prune(`rules: [{name: old, match: {tags: ["v1", "v2", "v3", "v4"]}, delete: all}]`)
		if !errors.Is(err, packages.TooManyDownloads) || report.Count(ghcr.Blocked) != 1 || report.Count(ghcr.Done) != 3 {
			s.describe(report, err)
			t.Error("not as it should be")
		}
		s.gone("v1", "v3", "v4")
		s.holds("acme/app", "v2", image(2, 1))
	})
}

func TestPruneDataaxiomNWithoutTheRightToDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Role: "write"}}})
		for i := range 4 {
			s.add("acme/app", fmt.Sprint("v", i+1), image(uint64(i+1), 1))
		}
		time.Sleep(age)
		s.as("ghp_dev")
		_, report, err := s.prune(`rules: [{name: old, match: {tags: ["v1", "v2", "v3"]}, delete: all}]`)
		if !errors.Is(err, ghcr.ErrDenied) || report.Count(ghcr.Done) != 0 || len(s.writes()) != 1 {
			s.describe(report, err)
			t.Error("not as it should be")
		}
	})
}

func TestPruneDataaxiomOAPushUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 1))
		s.add("acme/app", "", image(2, 1))
		time.Sleep(age)
		child := image(3, 1)
		s.add("acme/app", "", child) // its index comes next
		time.Sleep(time.Minute)
		plan, report, err := s.prune(`rules: [{name: untagged, match: {untagged: true}, delete: all}]`)
		if err != nil || len(report.Items) != 1 || why(plan, child.Digest()) != string(retain.ReasonGrace) {
			s.describe(report, err)
			t.Errorf("the child: %s", why(plan, child.Digest()))
		}
		s.holds("acme/app", "", child)
		s.gone(image(2, 1).Digest().String())
	})
}
