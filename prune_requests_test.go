package ghcr_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
	"github.com/llm-dev-ops/ghcr/transport"
)

// spent is what a step cost, by kinds of requests.
type spent struct {
	pages, calls, manifests, tags, heads, deletes int
}

func (s *sandbox) spent() (n spent) {
	for _, r := range s.log() {
		switch {
		case r.Role == ghcrtest.RoleAPI && r.Method == "DELETE":
			n.deletes++
		case r.Role == ghcrtest.RoleAPI && r.Route == ghcrtest.RouteVersions:
			n.pages++
		case r.Role == ghcrtest.RoleAPI:
			n.calls++
		case r.Route == ghcrtest.RouteManifest && r.Method == "GET":
			n.manifests++
		case r.Route == ghcrtest.RouteManifest && r.Method == "HEAD":
			n.heads++
		case r.Route == ghcrtest.RouteTags:
			n.tags++
		}
	}
	s.server.ResetRequests()
	return n
}

// TestPruneRequests holds the numbers of docs/design.md for a package in which every
// fourth version is an index of two images, and one an image alone.
func TestPruneRequests(t *testing.T) {
	sizes := []int{100, 10_000}
	if testing.Short() {
		sizes = []int{100, 1000}
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := ghcrtest.GHCR()
				q.RESTLimits = false // it is requests that count here, not time
				s := newSandbox(t, ghcrtest.Options{Quirks: &q})
				indexes := fill(t, s.server, n)
				time.Sleep(age)
				cache := t.TempDir()
				policy := s.policy(`rules: [{name: old, match: {tags: ["old-*"]}, delete: all}]`)
				old := indexes / 25
				pages := (n + 99) / 100
				plan := func() *retain.Plan {
					t.Helper()
					s.client = s.newClient(cache) // as another process
					plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if len(plan.Actions) != 3*old {
						t.Fatalf("%d actions of %d", len(plan.Actions), 3*old)
					}
					return plan
				}
				s.server.ResetRequests()
				first := plan()
				cold := s.spent()
				t.Logf("cold %+v, %d downloads", cold, first.Cost.Downloads)
				if cold.pages != pages || cold.calls > 2 || cold.manifests > n || cold.manifests != first.Cost.Downloads || cold.heads+cold.tags != 0 {
					t.Errorf("cold: %+v; want %d pages", cold, pages)
				}
				plan()
				if warm := s.spent(); warm.pages != pages || warm.calls > 2 || warm.manifests+warm.heads+warm.tags != 0 {
					t.Errorf("warm: %+v; want %d pages", warm, pages)
				}
				s.add("acme/app", "new", ghcrtest.NewIndex(image(1, 1)))
				time.Sleep(time.Hour)
				last := plan()
				if delta := s.spent(); delta.manifests > 2 {
					t.Errorf("two new: %+v", delta)
				}
				tags := indexes + n - 3*indexes + 1
				began := time.Now()
				report, err := s.client.ApplyPrune(t.Context(), last, ghcr.ApplyOptions{Journal: t.TempDir() + "/journal"})
				if err != nil || report.Count(ghcr.Done) != 3*old {
					t.Fatalf("%d of %d done: %v", report.Count(ghcr.Done), 3*old, err)
				}
				apply := s.spent()
				t.Logf("apply %+v, %d of them counted; %d tags, %d deletions", apply, report.Requests, tags, 3*old)
				// The tags before and after and each minute, each deleted version's own before it
				// goes, and each digest after it; and once what is known by an index's word alone.
				heads := tags + (tags - old) + old + 3*old + 2*(indexes-old)
				looks := int(time.Since(began) / time.Minute)
				if apply.pages != (n+2+99)/100 || apply.calls > 2 || apply.deletes != 3*old || apply.manifests != 0 ||
					apply.heads < heads || apply.heads > heads+looks*tags {
					t.Errorf("apply: %+v; want %d HEADs, %d times %d, and %d deletions", apply, heads, looks, tags, 3*old)
				}
				if last.Cost.Looks != heads+int(last.Cost.Points/900)*tags {
					t.Errorf("the plan says %d HEADs; want %d, and %d for each minute", last.Cost.Looks, heads, tags)
				}
				if report.Requests > apply.pages+apply.calls+apply.deletes {
					t.Errorf("%d requests are said to count", report.Requests)
				}
			})
		})
	}
}

// BenchmarkPlanPrune plans for a package whose manifests are kept. It tells what that
// takes of requests and memory, at two sizes, since both must grow no faster than these,
// and how long it had to wait: the list of the larger one has more pages than GitHub lets
// anybody read in a minute (docs/quirks.md#rest-points).
func BenchmarkPlanPrune(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkPlanPrune(b, n) })
	}
}

func benchmarkPlanPrune(b *testing.B, n int) {
	q := ghcrtest.GHCR()
	q.RESTLimits, q.RegistryReadLimit = false, 0
	server, err := ghcrtest.New(ghcrtest.Options{Quirks: &q, Ahead: -age})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	indexes := fill(b, server, n)
	server.Advance(age)
	cache := b.TempDir()
	policy, err := retain.Parse("policy.yaml", []byte("version: 1\ndefaults: {max_delete: unlimited}\nrules: [{name: old, match: {tags: [\"old-*\"]}, delete: all}]"))
	if err != nil {
		b.Fatal(err)
	}
	var waited atomic.Int64
	observe := transport.ObserverFunc(func(e transport.Exchange) {
		for was := waited.Load(); int64(e.Waited) > was && !waited.CompareAndSwap(was, int64(e.Waited)); {
			was = waited.Load()
		}
	})
	plan := func() (*retain.Plan, *retain.Inventory) {
		client, err := ghcr.New(ghcr.Options{Base: server.Transport(), Credentials: login, CacheDir: cache, Observer: observe})
		if err != nil {
			b.Fatal(err)
		}
		ref, err := client.ParseRef("acme/app")
		if err != nil {
			b.Fatal(err)
		}
		plan, inv, err := client.PlanPrune(b.Context(), ref, policy, ghcr.PruneOptions{})
		if err != nil || len(plan.Actions) != indexes/25*3 {
			b.Fatalf("%d actions of %d: %v", len(plan.Actions), indexes/25*3, err)
		}
		return plan, inv
	}
	plan()
	server.ResetRequests()
	waited.Store(0)
	var before, after, held runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		plan, inv := plan()
		runtime.ReadMemStats(&after)
		runtime.GC()
		runtime.ReadMemStats(&held)
		runtime.KeepAlive(plan)
		runtime.KeepAlive(inv)
	}
	b.ReportMetric(float64(len(server.Requests()))/float64(b.N), "requests/op")
	b.ReportMetric(time.Duration(waited.Load()).Seconds(), "wait-s/op")
	b.ReportMetric(float64(after.Sys)/float64(n), "sysbytes/version") // with the emulator's
	b.ReportMetric(float64(held.HeapAlloc-before.HeapAlloc)/float64(n), "heldbytes/version")
}

// fill sets up n versions: of each four an index, its two images, and an image alone.
// Every 25th index is old. It returns how many indexes there are.
func fill(t testing.TB, server *ghcrtest.Server, n int) (indexes int) {
	base := image(1, 1)
	unique := func(i int) *ghcrtest.Image {
		return base.WithBytes(func(raw []byte) []byte {
			for bit := range 18 {
				raw = append(raw, " \n"[i>>bit&1])
			}
			return raw
		})
	}
	add := func(tag string, img *ghcrtest.Image) {
		if err := server.Add("acme/app", tag, img); err != nil {
			t.Fatal(err)
		}
	}
	indexes = n / 4
	for i := range indexes {
		name := fmt.Sprint("v", i)
		if i%25 == 24 {
			name = fmt.Sprint("old-", i)
		}
		add(name, ghcrtest.NewIndex(unique(4*i), unique(4*i+1)))
		add(fmt.Sprint("alone", i), unique(4*i+2))
	}
	return indexes
}

// TestPruneListsAgain in a long run: what only the list tells, an index without a tag,
// keeps what it lists before that goes.
func TestPruneListsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := ghcrtest.GHCR()
		q.RESTLimits = false
		s := newSandbox(t, ghcrtest.Options{Quirks: &q})
		base := image(1, 1)
		var parts []*ghcrtest.Image
		for i := range 1010 {
			parts = append(parts, base.WithBytes(func(raw []byte) []byte {
				for bit := range 11 {
					raw = append(raw, " \n"[i>>bit&1])
				}
				return raw
			}))
			s.add("acme/app", "", parts[i])
		}
		s.add("acme/app", "v1", image(2, 1))
		time.Sleep(age)
		plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), s.policy(`rules: [{name: untagged, match: {untagged: true}, delete: all}]`), ghcr.PruneOptions{})
		if err != nil || len(plan.Actions) != len(parts) {
			t.Fatalf("%d actions: %v", len(plan.Actions), err)
		}
		last := plan.Actions[len(plan.Actions)-1].Digest
		at := slices.IndexFunc(parts, func(part *ghcrtest.Image) bool { return part.Digest() == last })
		needs := ghcrtest.NewIndex(parts[at])
		done := 0
		s.server.ResetRequests()
		report, err := s.apply(plan, ghcr.ApplyOptions{Report: func(ghcr.PruneResult) {
			if done++; done == 500 {
				s.add("acme/app", "", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
			}
		}})
		if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Changed) != 1 || report.Count(ghcr.Done) != len(parts)-1 {
			t.Errorf("%d changed, %d done: %v", report.Count(ghcr.Changed), report.Count(ghcr.Done), err)
		}
		s.holds("acme/app", "", needs)
		if n := s.spent(); n.pages != 11+1 {
			t.Errorf("%+v", n)
		}
	})
}
