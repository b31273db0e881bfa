package ghcr_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// TestPrunePages: a hundred versions are a page, however many there are, and what the
// list alone decides reads no manifest. A15
func TestPrunePages(t *testing.T) {
	for _, n := range []int{1, 99, 100, 101, 200, 201} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, ghcrtest.Options{})
			s.image("v", "v1")
			s.many("many", n-1)
			time.Sleep(age)
			s.server.ResetRequests()
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(untaggedGo), ghcr.PruneOptions{})
			if err != nil || len(plan.Actions) != n-1 {
				t.Fatalf("%d of %d: %v", len(plan.Actions), n, err)
			}
			if got := s.spent(); got.pages != (n+99)/100 || n > 1 && got.manifests != n || n == 1 && got.manifests != 0 {
				t.Errorf("%d versions took %+v", n, got)
			}
		})
	}
}

// TestPruneManyVersions plans for a hundred thousand versions: in a thousand requests, in
// seconds, and with memory for no more than what is listed. A15
func TestPruneManyVersions(t *testing.T) {
	sizes := []int{10_000, 100_000}
	if testing.Short() || raced {
		sizes = sizes[:1] // to fill the emulator takes longer than to plan
	}
	for _, n := range sizes {
		synctest.Test(t, func(t *testing.T) {
			q := ghcrtest.GHCR()
			q.RESTLimits = false // it is requests that count here, not time
			s := newSandbox(t, ghcrtest.Options{Quirks: &q})
			fill(t, s.server, n)
			time.Sleep(age)
			s.server.ResetRequests()
			policy := s.policy(`rules: [{name: none, match: {tags: ["nightly-*"]}, delete: {older_than: 7d}}, {name: never, match: {untagged: true}, delete: {older_than: 1y}}]`)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			plan, inv, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
			runtime.GC()
			runtime.ReadMemStats(&after)
			if err != nil || len(plan.Actions) != 0 || len(plan.Kept) != n || len(inv.Versions) != n {
				t.Fatalf("%d actions, %d kept: %v", len(plan.Actions), len(plan.Kept), err)
			}
			if got := s.spent(); got.pages != n/100 || got.calls > 2 || got.manifests+got.heads+got.tags+got.deletes != 0 {
				t.Errorf("%d versions took %+v", n, got)
			}
			held := (int(after.HeapAlloc) - int(before.HeapAlloc)) / n
			t.Logf("%d versions, %d bytes each", n, held)
			if held > 2<<10 {
				t.Errorf("%d bytes are held for each of %d versions", held, n)
			}
			runtime.KeepAlive(plan)
			runtime.KeepAlive(inv)
		})
	}
}

// TestPruneWithADamagedCache: what was kept of manifests is checked against its digest, and
// fetched again where it is wrong. The plan is the same.
func TestPruneWithADamagedCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ghcrtest.Options{})
		s.index("index", "a b", "v1")
		s.index("old", "b c", "pr-1")
		s.image("loose")
		time.Sleep(age)
		dir := t.TempDir()
		policy := s.policy(`rules: [{name: pr, match: {tags: ["pr-*"]}, delete: all}, {name: untagged, match: {untagged: true}, delete: all}]`)
		plan := func() *retain.Plan {
			s.client = s.newClient(dir)
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return plan
		}
		first := plan()
		changes := map[string]func(data []byte) []byte{
			"cut":    func(data []byte) []byte { return data[:len(data)/2] },
			"empty":  func([]byte) []byte { return nil },
			"others": func(data []byte) []byte { return []byte(strings.ToUpper(string(data))) },
		}
		for name, change := range changes {
			files := 0
			err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				files++
				return os.WriteFile(path, change(data), 0o600)
			})
			if err != nil || files == 0 {
				t.Fatalf("%d files: %v", files, err)
			}
			second := plan()
			if len(second.Actions) != len(first.Actions) || second.Cost.Downloads != first.Cost.Downloads || second.Inventory != first.Inventory {
				t.Errorf("%s: %d actions, %d downloads; before %d, %d", name, len(second.Actions), second.Cost.Downloads, len(first.Actions), first.Cost.Downloads)
			}
		}
		if _, err := s.apply(plan(), ghcr.ApplyOptions{}); err != nil {
			t.Error(err)
		}
		if got := s.state(); got != "a b index=v1" {
			t.Errorf("left are %s", got)
		}
	})
}
