package ghcr_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// TestPruneWithAnyAnswer: whatever is answered to whichever request, nothing breaks and
// the report is true; and a later run does the rest.
func TestPruneWithAnyAnswer(t *testing.T) {
	happened := 0
	for name, fault := range map[string]ghcrtest.Fault{
		"401": {Status: 401}, "403": {Status: 403}, "404": {Status: 404}, "409": {Status: 409}, "429": {Status: 429}, "500": {Status: 500},
		"HTML": {Status: 200, Body: "<html>"}, "no answer": {Break: true}, "lost": {Served: true, Break: true}, "lost 502": {Served: true, Status: 502},
		"short": {ResponseBytes: 10, Break: true}, "empty": {Status: 204}, "late": {Delay: 3 * time.Minute},
	} {
		step := 3
		if testing.Short() {
			step = 9
		}
		for n := len(name) % 3; n < 33; n += step {
			synctest.Test(t, func(t *testing.T) {
				p, plan := smallPrunable(t, ghcrtest.Options{})
				fault.After = n
				p.server.Inject(fault)
				journal := t.TempDir() + "/journal"
				report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal})
				if len(p.server.Faults()) > 0 {
					happened++
				} else if err != nil {
					t.Error(err)
				}
				if err == nil && report.Count(ghcr.Done) != len(plan.Actions) {
					t.Errorf("%s at request %d: not all is done, and no error", name, n)
				}
				p.server.ClearFaults()
				p.truthful("acme/app", report)
				p.stay()
				if t.Failed() {
					p.describe(report, err)
					t.Fatalf("%s at request %d", name, n)
				}
				if report == nil {
					return
				}
				if report, err = p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{}); err != nil {
					p.describe(report, err)
					t.Errorf("%s at request %d, and again: %v", name, n, err)
				}
				p.truthful("acme/app", report)
				p.stay()
			})
		}
	}
	if happened < 30 {
		t.Errorf("only %d faults happened", happened)
	}
}

// TestPruneInAStorm: when everything fails, the run ends, says what is done and what is
// left, and a later one goes on.
func TestPruneInAStorm(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"API 500":         {Role: ghcrtest.RoleAPI, Status: 500},
		"API 502, served": {Role: ghcrtest.RoleAPI, Served: true, Status: 502},
		"DELETE 503":      {Role: ghcrtest.RoleAPI, Method: "DELETE", Status: 503},
		"registry 500":    {Role: ghcrtest.RoleRegistry, Status: 500},
		"all gone":        {Break: true},
	} {
		for _, after := range []int{0, 4, 7, 10} {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				plan := p.planOf("acme/app", "v1", "v2")
				storm := fault
				storm.After, storm.Times = after, -1
				if storm.Method == "DELETE" {
					storm.After = after / 2
				}
				p.server.Inject(storm)
				journal := t.TempDir() + "/journal"
				began := time.Now()
				report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal})
				if err == nil && report.Count(ghcr.Done) != len(plan.Actions) {
					t.Errorf("%s after %d: no error", name, after)
				}
				if took := time.Since(began); took > time.Hour {
					t.Errorf("%s after %d: took %s", name, after, took)
				}
				p.server.ClearFaults()
				p.truthful("acme/app", report)
				p.stay()
				if report == nil {
					return
				}
				if report, err = p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{}); err != nil {
					p.describe(report, err)
					t.Errorf("%s after %d, and again: %v", name, after, err)
				}
				p.truthful("acme/app", report)
				p.stay()
				if p.resolves("acme/app", "v1") != "" || p.resolves("acme/app", "v2") != "" {
					t.Errorf("%s after %d: not all is done in the end", name, after)
				}
			})
		}
	}
}

// TestPruneSkipsWhatChanged: what is not as it was planned is left alone with what hangs
// on it, the others go, and no image breaks, however late the lists are.
func TestPruneSkipsWhatChanged(t *testing.T) {
	raw := func(img *ghcrtest.Image) *ghcrtest.Image {
		return ghcrtest.Raw(img.Manifest.MediaType, img.Manifest.Bytes())
	}
	for name, test := range map[string]struct {
		change func(p *prunable)
		whole  bool // all of v1 must be there
		parts  func(p *prunable) *ghcrtest.Image
	}{
		"tag moved":        {change: func(p *prunable) { p.add("acme/app", "v1", image(70, 1)) }, whole: true},
		"tag came":         {change: func(p *prunable) { p.add("acme/app", "prod", p.old) }, whole: true},
		"old tag came":     {change: func(p *prunable) { p.add("acme/app", "v2", p.old) }, whole: true},
		"pushed again":     {change: func(p *prunable) { p.add("acme/app", "v1", p.other); p.add("acme/app", "v1", p.old) }, whole: true},
		"parent came":      {change: func(p *prunable) { p.add("acme/app", "all", raw(ghcrtest.NewIndex(p.old))) }, whole: true},
		"parent by a move": {change: func(p *prunable) { p.add("acme/app", "main", raw(ghcrtest.NewIndex(p.old))) }, whole: true},
		"untagged parent":  {change: func(p *prunable) { p.add("acme/app", "", raw(ghcrtest.NewIndex(p.old))); time.Sleep(2 * time.Minute) }, whole: true},
		"grandparent": {change: func(p *prunable) {
			p.add("acme/app", "", raw(ghcrtest.NewIndex(p.old)))
			p.add("acme/app", "top", raw(ghcrtest.NewIndex(ghcrtest.NewIndex(p.old))))
		}, whole: true},
		"parent of a part": {change: func(p *prunable) { p.add("acme/app", "all", raw(ghcrtest.NewIndex(p.old.Children[1]))) }, parts: func(p *prunable) *ghcrtest.Image { return p.old.Children[1] }},
		"part tagged":      {change: func(p *prunable) { p.add("acme/app", "part", p.old.Children[2]) }, parts: func(p *prunable) *ghcrtest.Image { return p.old.Children[2] }},
		"unreadable came":  {change: func(p *prunable) { p.unreadable(raw(ghcrtest.NewIndex(p.old))) }, whole: true},
	} {
		for _, stale := range []time.Duration{0, time.Minute} {
			if name == "pushed again" && stale > 0 {
				continue // the same tag on the same image, which only the list would tell
			}
			t.Run(fmt.Sprintf("%s/%s", name, stale), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPrunable(t, ghcrtest.Options{Quirks: late(stale)})
					plan := p.planOf("acme/app", "v1", "v2")
					time.Sleep(time.Minute)
					test.change(p)
					report, err := p.apply(plan, ghcr.ApplyOptions{})
					var changed *ghcr.ChangedError
					if !errors.As(err, &changed) {
						t.Errorf("error %v", err)
					}
					p.truthful("acme/app", report)
					p.holds("acme/app", "v3", p.kept)
					p.holds("acme/app", "latest", p.kept)
					p.holds("acme/app", "", p.other)
					if test.whole {
						p.holds("acme/app", "", p.old)
					}
					if test.parts != nil {
						p.holds("acme/app", "", test.parts(p))
					}
					if gone := p.resolves("acme/app", p.older.Digest().String()) == ""; !gone && name != "unreadable came" && name != "old tag came" {
						t.Error("the others did not go")
					}
					if t.Failed() {
						p.describe(report, err)
					}
				})
			})
		}
	}
}

// unreadable adds an image whose manifest can't be had.
func (p *prunable) unreadable(img *ghcrtest.Image) {
	p.add("acme/app", "broken", img)
	p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "GET", Ref: img.Digest().String(), Status: 500, Times: -1})
}

// TestPruneRestoredBetween: a version that came back between plan and application is not
// in the plan. What it lists stays.
func TestPruneRestoredBetween(t *testing.T) {
	for _, stale := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{Quirks: late(stale)})
			above := ghcrtest.NewIndex(p.old.Children[1])
			p.add("acme/app", "above", above)
			time.Sleep(time.Hour)
			api, _ := p.client.Packages()
			id := p.inventory("acme/app").Version(above.Digest()).ID
			if err := api.DeleteVersion(t.Context(), "acme", "app", id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			plan := p.planOf("acme/app", "v1", "v2")
			if err := api.RestoreVersion(t.Context(), "acme", "app", id); err != nil {
				t.Fatal(err)
			}
			report, err := p.apply(plan, ghcr.ApplyOptions{})
			if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Changed) != 1 {
				p.describe(report, err)
				t.Errorf("error %v", err)
			}
			p.truthful("acme/app", report)
			p.holds("acme/app", "above", above)
			p.stay()
		})
	}
}

// TestPruneWhatOthersDeleted is already gone, and not a failure, however late the list.
func TestPruneWhatOthersDeleted(t *testing.T) {
	for _, stale := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{Quirks: late(stale)})
			plan := p.planOf("acme/app", "v1", "v2")
			api, _ := p.client.Packages()
			for _, a := range plan.Actions[:2] {
				if err := api.DeleteVersion(t.Context(), "acme", "app", a.Version); err != nil {
					t.Fatal(err)
				}
			}
			report, err := p.apply(plan, ghcr.ApplyOptions{})
			if err != nil || report.Count(ghcr.AlreadyGone) != 2 || report.Count(ghcr.Done) != len(plan.Actions)-2 {
				p.describe(report, err)
				t.Error("not as it is")
			}
			p.truthful("acme/app", report)
			p.stay()
		})
	}
}

// TestPruneWhileAnIndexIsPushed: what an index begins to need after the last look is
// restored at the end, though the run was broken off.
func TestPruneWhileAnIndexIsPushed(t *testing.T) {
	for _, cut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{})
			plan := p.planOf("acme/app", "v1", "v2")
			nested := p.old.Children[2] // an index, with a part of its own
			needs := ghcrtest.NewIndex(nested, image(50, 1))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			left := 0
			for _, a := range plan.Actions {
				if a.Digest == nested.Digest() || a.Digest == nested.Children[0].Digest() {
					left++
				}
			}
			journal := t.TempDir() + "/journal"
			report, err := p.client.ApplyPrune(ctx, plan, ghcr.ApplyOptions{Journal: journal, Report: func(r ghcr.PruneResult) {
				if r.Outcome != ghcr.Done || r.Digest != nested.Digest() && r.Digest != nested.Children[0].Digest() {
					return
				}
				if left--; left == 0 {
					p.add("acme/app", "new", image(50, 1))
					p.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
					if cut {
						cancel()
					}
				}
			}})
			var changed *ghcr.ChangedError
			if !errors.As(err, &changed) || report.Count(ghcr.Changed) != 2 {
				p.describe(report, err)
				t.Errorf("error %v", err)
			}
			p.truthful("acme/app", report)
			p.holds("acme/app", "new", needs)
			j, err := ghcr.ReadJournal(journal)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(slices.DeleteFunc(j.Steps, func(s ghcr.JournalStep) bool { return !s.Restored })); n != 2 {
				t.Errorf("the journal has %d restored", n)
			}
			if undo, err := j.Undo(); err != nil || slices.ContainsFunc(undo.Items, func(i ghcr.UndoItem) bool { return i.Digest == nested.Digest() }) {
				t.Errorf("undo %+v: %v", undo, err)
			}
		})
	}
}

// TestPruneLooksAgain at the tags in a long run: an index that is pushed meanwhile keeps
// what it lists before that goes.
func TestPruneLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		last := plan.Actions[len(plan.Actions)-1]
		part := p.older.Children[1]
		if i := slices.IndexFunc(plan.Actions, func(a retain.Action) bool { return a.Digest == part.Digest() }); i < 3 {
			t.Fatalf("it is action %d, the last %s", i, last.Digest)
		}
		needs := ghcrtest.NewIndex(part)
		first := true
		report, err := p.client.ApplyPrune(t.Context(), plan, ghcr.ApplyOptions{Report: func(ghcr.PruneResult) {
			if first {
				p.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
				time.Sleep(2 * time.Minute)
			}
			first = false
		}})
		var changed *ghcr.ChangedError
		if !errors.As(err, &changed) {
			t.Errorf("error %v", err)
		}
		p.holds("acme/app", "new", needs)
		for _, r := range p.log() {
			if r.Route == ghcrtest.RouteVersionRestore {
				t.Error("it was deleted and restored")
			}
		}
		p.truthful("acme/app", report)
		p.stay()
	})
}

// TestPruneWhilePagesMove: somebody pushes while the list is read. It is read again.
func TestPruneWhilePagesMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		base := image(90, 1)
		for i := range 250 {
			p.add("acme/app", "", base.WithBytes(func(raw []byte) []byte {
				for bit := range 9 {
					raw = append(raw, " \n"[i>>bit&1])
				}
				return raw
			}))
		}
		plan := p.planOf("acme/app", "v1", "v2")
		needs := ghcrtest.NewIndex(p.old.Children[1])
		p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteVersions, After: 1, Do: func(*ghcrtest.Server) {
			p.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
		}})
		report, err := p.apply(plan, ghcr.ApplyOptions{})
		if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Changed) != 1 {
			p.describe(report, err)
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "new", needs)
		p.stay()
	})
}

// TestPruneWithoutPermission: a token that lacks the scope is refused before the first
// write; one that only lacks the role, at the first, which says so.
func TestPruneWithoutPermission(t *testing.T) {
	for name, account := range map[string]ghcrtest.Account{
		"scope": {Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Scopes: []string{"write:packages"}},
		"role":  {Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Role: "write"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &prunable{sandbox: newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{account}})}
				p.as("ghp_dev")
				p.old, p.kept = ghcrtest.NewIndex(image(1, 1)), image(2, 1)
				p.add("acme/app", "v1", p.old)
				p.add("acme/app", "v2", image(3, 1))
				p.add("acme/app", "v3", p.kept)
				plan := p.planOf("acme/app", "v1", "v2")
				report, err := p.apply(plan, ghcr.ApplyOptions{})
				writes := 0
				reason := packages.MissingScope
				if name == "role" {
					writes, reason = 1, packages.NoPermission
					if report.Count(ghcr.Failed) != 1 || report.Count(ghcr.Skipped) != len(plan.Actions)-1 {
						p.describe(report, err)
						t.Error("the report is wrong")
					}
				}
				if !errors.Is(err, reason) || errors.Is(err, ghcr.ErrNotFound) {
					t.Errorf("error %v", err)
				}
				if w := p.writes(); len(w) != writes {
					t.Errorf("sent %+v", w)
				}
				p.truthful("acme/app", report)
				p.holds("acme/app", "v1", p.old)
			})
		})
	}
}

// TestPrunePermissionLostHalfWay ends the run: what is done is told, the rest is left.
func TestPrunePermissionLostHalfWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		p.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", After: 3, Times: -1, Status: 404, Body: `{"message":"Not Found"}`})
		report, err := p.apply(plan, ghcr.ApplyOptions{})
		var partial *ghcr.PartialError
		if !errors.As(err, &partial) || partial.Done != 3 || !errors.Is(err, ghcr.ErrDenied) || report.Count(ghcr.Done) != 3 || report.Left != len(plan.Actions)-4 {
			p.describe(report, err)
			t.Errorf("left %d", report.Left)
		}
		p.truthful("acme/app", report)
		p.stay()
	})
}

// TestPruneAtTheLimit waits as it is told, and gives up where that is too long.
func TestPruneAtTheLimit(t *testing.T) {
	limit := ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", After: 2, Status: 403, Body: `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}`}
	for _, times := range []int{1, -1} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{})
			plan := p.planOf("acme/app", "v1", "v2")
			limit.Times = times
			p.server.Inject(limit)
			began := time.Now()
			report, err := p.apply(plan, ghcr.ApplyOptions{})
			switch {
			case times == 1 && (err != nil || time.Since(began) < time.Minute):
				t.Errorf("after %s: %v", time.Since(began), err)
			case times < 0 && (!errors.Is(err, ghcr.ErrRateLimited) || report.Count(ghcr.Done) != 2):
				p.describe(report, err)
				t.Error("it went on")
			}
			p.server.ClearFaults()
			time.Sleep(time.Hour)
			p.truthful("acme/app", report)
			p.stay()
		})
	}
}

// TestPruneLastTagged: what GitHub takes for the last tagged version is blocked, and the
// rest is done.
func TestPruneLastTagged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 1))
		s.add("acme/app", "v2", image(2, 1))
		s.add("acme/app", "", image(3, 1))
		plan := s.planOf("acme/app", "v1", "v2")
		report, err := s.apply(plan, ghcr.ApplyOptions{})
		if !errors.Is(err, packages.LastTagged) || report.Count(ghcr.Blocked) != 1 || report.Count(ghcr.Done) != 1 {
			s.describe(report, err)
			t.Error("the report is wrong")
		}
		s.truthful("acme/app", report)
	})
}

// TestPruneOrderIsChecked: a plan by hand that would delete a part before its index, or
// without it, breaks nothing.
func TestPruneOrderIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1")
		slices.Reverse(plan.Actions)
		report, err := p.apply(seal(plan), ghcr.ApplyOptions{})
		if err == nil || report.Count(ghcr.Skipped) == 0 {
			p.describe(report, err)
		}
		if d := p.resolves("acme/app", "v1"); d != "" {
			t.Error("v1 is not gone")
		}
		p.truthful("acme/app", report)
		p.stay()
		plan = p.planOf("acme/app", "v2")
		plan.Actions = slices.DeleteFunc(plan.Actions, func(a retain.Action) bool { return a.Digest == p.older.Digest() })
		report, err = p.apply(seal(plan), ghcr.ApplyOptions{})
		if err == nil || !strings.Contains(err.Error(), "stays") {
			p.describe(report, err)
		}
		p.holds("acme/app", "v2", p.older)
	})
}

// TestPruneKeepsWhatHangsOnWhatStays: a part of two images that were to go stays with the
// one that changed, and so do signatures and SBOMs of a part that has to stay.
func TestPruneKeepsWhatHangsOnWhatStays(t *testing.T) {
	t.Run("part of two", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			shared := image(1, 1)
			a, b := ghcrtest.NewIndex(shared, image(2, 1)), ghcrtest.NewIndex(shared, image(3, 1))
			s.add("acme/app", "a", a)
			s.add("acme/app", "b", b)
			s.add("acme/app", "stays", image(4, 1))
			time.Sleep(time.Hour)
			for _, change := range []*ghcrtest.Image{b, a} {
				plan := s.planOf("acme/app", "a", "b")
				s.add("acme/app", "prod", change)
				report, err := s.apply(plan, ghcr.ApplyOptions{})
				if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Done) != 2 {
					s.describe(report, err)
				}
				s.holds("acme/app", "prod", change)
				s.add("acme/app", "a", a)
				s.add("acme/app", "b", b)
				s.add("acme/app", "prod", image(4, 1))
			}
		})
	})
	t.Run("about a part", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			part := image(1, 1)
			index := ghcrtest.NewIndex(part, image(2, 1))
			signature := ghcrtest.Sign(part)
			sbom := ghcrtest.Refer(part, "application/spdx+json", "{}")
			about := ghcrtest.Sign(sbom)
			s.add("acme/app", "v1", index)
			s.add("acme/app", "stays", image(4, 1))
			time.Sleep(age)
			policy := s.policy(`rules: [{name: old, match: {tags: [v1]}, delete: all}]`)
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			needs := ghcrtest.NewIndex(part)
			s.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
			s.client = s.newClient("") // that knows no manifest
			report, err := s.apply(plan, ghcr.ApplyOptions{})
			s.truthful("acme/app", report)
			if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Done) != 2 {
				s.describe(report, err)
				t.Errorf("%d done", report.Count(ghcr.Done))
			}
			s.holds("acme/app", "new", needs)
			for _, img := range []*ghcrtest.Image{signature, sbom, about} {
				s.holds("acme/app", "", img)
			}
		})
	})
}

// TestPruneOrphanWhoseSubjectCameBack is an orphan no more.
func TestPruneOrphanWhoseSubjectCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(time.Minute)})
		subject := image(1, 1)
		signature := ghcrtest.Sign(subject)
		s.add("acme/app", "", signature)
		s.add("acme/app", "stays", image(2, 1))
		time.Sleep(age)
		policy := s.policy(`rules: [{name: orphans, match: {health: [orphan]}, delete: all}]`)
		plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
		if err != nil || len(plan.Actions) != 1 {
			t.Fatalf("%+v: %v", plan, err)
		}
		s.add("acme/app", "v1", subject)
		report, err := s.apply(plan, ghcr.ApplyOptions{})
		if err == nil {
			s.describe(report, err)
			t.Error("no error")
		}
		s.holds("acme/app", "", signature)
	})
}

// TestPrunePushedAgain: an index that went and is pushed again while its parts go needs
// them again.
func TestPrunePushedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1")
		report, err := p.apply(plan, ghcr.ApplyOptions{Report: func(r ghcr.PruneResult) {
			if r.Digest == p.old.Digest() && r.Outcome == ghcr.Done {
				p.add("acme/app", "v1", ghcrtest.Raw(p.old.Manifest.MediaType, p.old.Manifest.Bytes()))
			}
		}})
		if !errors.Is(err, ghcr.ErrConflict) {
			p.describe(report, err)
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "v1", p.old)
		p.stay()
	})
}

// TestPrunePushedAgainBeforeItIsRestored: what an index has begun to need and somebody
// pushes right before it is restored is another version. The one that went is gone, and
// is not said to be back.
func TestPrunePushedAgainBeforeItIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1")
		nested := p.old.Children[2]
		p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteVersionRestore, Do: func(*ghcrtest.Server) {
			p.add("acme/app", "", nested.Children[0])
			p.add("acme/app", "", nested)
		}})
		journal := t.TempDir() + "/journal"
		report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal, Report: func(r ghcr.PruneResult) {
			if r.Digest == nested.Children[0].Digest() && r.Outcome == ghcr.Done {
				index := ghcrtest.NewIndex(nested)
				p.add("acme/app", "new", ghcrtest.Raw(index.Manifest.MediaType, index.Manifest.Bytes()))
			}
		}})
		if len(p.server.Faults()) == 0 {
			t.Fatal("nothing was restored")
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "new", ghcrtest.NewIndex(nested))
		j, readErr := ghcr.ReadJournal(journal)
		if readErr != nil {
			t.Fatal(readErr)
		}
		for i, step := range j.Steps {
			if step.Restored != (report.Items[i].Outcome == ghcr.Changed) {
				t.Errorf("%s is restored by the journal: %v, and %s by the report", report.Items[i].Digest, step.Restored, report.Items[i].Outcome)
			}
		}
		if t.Failed() {
			p.describe(report, err)
		}
	})
}
