package ghcr_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// TestPruneTwoAtOnce: two runs of one plan, as two workflows may do it, break nothing, both
// tell the truth, and what they leave is what one would have left.
func TestPruneTwoAtOnce(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{Quirks: late(time.Duration(seed%4) * time.Second)})
				for _, tag := range []string{"pr-1", "pr-2"} {
					p.add("acme/app", tag, p.other)
				}
				time.Sleep(time.Hour)
				plan := p.planOf("acme/app", "v1", "v2", "pr-1", "pr-2")
				before := len(p.inventory("acme/app").Versions)
				p.server.Inject(ghcrtest.Fault{Times: -1, Jitter: 3 * time.Second, Seed: seed})
				var reports [2]*ghcr.PruneReport
				var errs [2]error
				dir := t.TempDir()
				var group sync.WaitGroup
				for i := range reports {
					client := p.newClient("")
					group.Go(func() {
						reports[i], errs[i] = client.ApplyPrune(t.Context(), plan, ghcr.ApplyOptions{Journal: fmt.Sprint(dir, "/", i)})
					})
				}
				group.Wait()
				p.server.ClearFaults()
				time.Sleep(time.Hour)
				for i, report := range reports {
					if report == nil {
						t.Fatal(errs[i])
					}
					p.truthful("acme/app", report)
				}
				p.stay()
				for k, a := range plan.Actions {
					x, y := reports[0].Items[k], reports[1].Items[k]
					if a.Do == retain.Delete && x.Outcome == ghcr.Done && y.Outcome == ghcr.Done {
						t.Errorf("both have deleted %s", a.Digest)
					}
				}
				// One that finds the other's work in the middle of it leaves it alone. What then is not done,
				// neither has said to be, and it is done by resuming.
				for i := range reports {
					for k, a := range plan.Actions {
						for _, tag := range a.Off {
							if reports[i].Items[k].Outcome == ghcr.Done && p.resolves("acme/app", tag) != "" {
								t.Errorf("%s is said to be off by run %d", tag, i)
							}
						}
					}
				}
				for i := range reports {
					if again, err := p.client.ResumePrune(t.Context(), fmt.Sprint(dir, "/", i), ghcr.ApplyOptions{}); err != nil {
						p.describe(again, err)
						t.Errorf("run %d again: %v", i, err)
					}
				}
				p.stay()
				time.Sleep(time.Hour)
				if left, want := len(p.inventory("acme/app").Versions), before-(len(plan.Actions)-1); left != want {
					t.Errorf("%d versions are left; want %d", left, want)
				}
				if t.Failed() {
					p.describe(reports[0], errs[0])
					p.describe(reports[1], errs[1])
				}
			})
		})
	}
}
