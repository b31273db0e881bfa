package ghcr_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// counts sorts requests into lists of versions, other calls to the API, and manifests.
func counts(log []ghcrtest.Request) (pages, unchanged, calls, manifests int) {
	for _, r := range log {
		switch {
		case r.Role == ghcrtest.RoleAPI && r.Route == ghcrtest.RouteVersions:
			pages++
			if r.Status == 304 {
				unchanged++
			}
		case r.Role == ghcrtest.RoleAPI:
			calls++
		case r.Route == ghcrtest.RouteManifest && r.Method == "GET":
			manifests++
		}
	}
	return
}

// TestInventoryOfTenThousand costs a request for each hundred versions and a few
// more, and each manifest is fetched once ever.
func TestInventoryOfTenThousand(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		base := image(1, 1)
		for i := range n {
			// White space, by which manifests differ that say the same.
			s.add("acme/app", "", base.WithBytes(func(raw []byte) []byte {
				for bit := range 14 {
					raw = append(raw, " \n"[i>>bit&1])
				}
				return raw
			}))
		}
		s.add("acme/app", "v1", image(2, 1))
		cache := t.TempDir()
		for round := range 3 {
			s.client = s.newClient(cache) // as another process
			s.server.ResetRequests()
			inv := s.inventory("acme/app")
			if len(inv.Versions) != n+1 || len(inv.Unreadable()) != 0 {
				t.Fatalf("%d versions, %d unreadable", len(inv.Versions), len(inv.Unreadable()))
			}
			pages, unchanged, calls, manifests := counts(s.log())
			t.Logf("round %d: %d pages, %d of them unchanged, %d other calls, %d manifests", round, pages, unchanged, calls, manifests)
			wantPages, wantManifests, wantUnchanged := n/100+1, n+1, 0
			if round > 0 {
				wantManifests, wantUnchanged = 0, wantPages
			}
			if pages != wantPages || unchanged != wantUnchanged || manifests != wantManifests || calls > 4 {
				t.Errorf("want %d pages, %d of them unchanged, and %d manifests", wantPages, wantUnchanged, wantManifests)
			}
		}
	})
}

// TestTagged chooses versions by tag.
func TestTagged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		for i, tag := range []string{"v1", "v2", "edge"} {
			s.add("acme/app", tag, image(uint64(i), 1))
			s.add("acme/app", "also-"+tag, image(uint64(i), 1))
		}
		s.add("acme/app", "", image(9, 1))
		got := s.inventory("acme/app").Tagged(func(tag string) bool { return strings.HasPrefix(tag, "v") })
		if len(got) != 2 || !slices.Contains(got[0].Tags, "v2") {
			t.Errorf("%+v", got)
		}
	})
}
