package ghcr_test

import (
	"errors"
	"os"
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
	"github.com/llm-dev-ops/ghcr/transfer"
)

// planOf is a plan by hand: images go that have no tag but these, with what only they
// need; what others need only loses its tag.
func (s *sandbox) planOf(repo string, tags ...string) *retain.Plan {
	s.t.Helper()
	inv, err := s.client.Snapshot(s.t.Context(), s.ref(repo), ghcr.SnapshotOptions{Manifests: true})
	if err != nil {
		s.t.Fatal(err)
	}
	var nodes []*oci.Node
	versions := map[oci.Digest]retain.Version{}
	for _, v := range inv.Versions {
		nodes = append(nodes, &oci.Node{Digest: v.Digest, Tags: v.Tags, Manifest: v.Manifest})
		versions[v.Digest] = v
	}
	g := oci.NewGraph(nodes)
	named := func(tag string) bool { return slices.Contains(tags, tag) }
	var roots []*oci.Node
	var actions []retain.Action
	for _, n := range g.Nodes() {
		if slices.ContainsFunc(n.Names(), named) {
			roots = append(roots, n)
		}
	}
	untag := func(n *oci.Node) {
		v := versions[n.Digest]
		off := slices.DeleteFunc(slices.Clone(v.Tags), func(tag string) bool { return !named(tag) })
		actions = append(actions, retain.Action{Do: retain.Untag, Version: v.ID, Digest: n.Digest, Tags: v.Tags, Off: off, Updated: v.Updated, Role: n.Role()})
	}
	roots = slices.DeleteFunc(roots, func(n *oci.Node) bool {
		some := slices.ContainsFunc(n.Tags, func(tag string) bool { return !named(tag) })
		if some {
			untag(n)
		}
		return some
	})
	for again := true; again; {
		again = false
		for _, k := range g.Removal(roots, true).Needed {
			untag(k.Node)
			roots = slices.DeleteFunc(roots, func(n *oci.Node) bool { return n == k.Node })
			again = true
		}
	}
	removal := g.Removal(roots, true)
	for _, n := range removal.Gone {
		v := versions[n.Digest]
		a := retain.Action{Do: retain.Delete, Version: v.ID, Digest: n.Digest, Tags: v.Tags, Updated: v.Updated, Role: n.Role(), Reason: retain.ReasonRule}
		for _, parent := range n.Parents {
			a.Parents = append(a.Parents, parent.Digest)
		}
		if !slices.Contains(roots, n) {
			a.Reason = retain.ReasonPart
			if len(n.Parents) > 0 {
				a.Because = n.Parents[0].Digest
			} else {
				a.Reason, a.Because = retain.ReasonReferrer, n.Subjects[0].Digest
			}
		}
		actions = append(actions, a)
	}
	plan := &retain.Plan{
		Schema: retain.PlanSchema, Tool: "test", Host: inv.Host, Owner: inv.Owner, OwnerID: inv.OwnerID, Package: inv.Package, PackageID: inv.PackageID,
		Created: time.Now().UTC(), Expires: time.Now().Add(time.Hour).UTC(), Actions: actions,
	}
	going := map[oci.Digest]bool{}
	for _, a := range actions {
		going[a.Digest] = true
	}
	for _, v := range inv.Versions {
		if !going[v.Digest] {
			plan.Kept = append(plan.Kept, retain.Decision{Version: v.ID, Digest: v.Digest, Tags: v.Tags, Reason: retain.ReasonUnmatched})
		}
	}
	return seal(plan)
}

// seal gives a plan its digest.
func seal(plan *retain.Plan) *retain.Plan {
	if err := plan.Seal(); err != nil {
		panic(err)
	}
	return plan
}

func (s *sandbox) apply(plan *retain.Plan, opts ghcr.ApplyOptions) (*ghcr.PruneReport, error) {
	s.t.Helper()
	return s.client.ApplyPrune(s.t.Context(), plan, opts)
}

// truthful checks a report against what is there: what it says is gone is gone, and
// what it says is not is there.
func (s *sandbox) truthful(repo string, report *ghcr.PruneReport) {
	s.t.Helper()
	if report == nil {
		return
	}
	api, err := s.client.Packages()
	if err != nil {
		s.t.Fatal(err)
	}
	owner, name, _ := strings.Cut(repo, "/")
	for _, item := range report.Items {
		// By number, since the same manifest may have been pushed again.
		_, err := api.Version(s.t.Context(), owner, name, item.Version)
		if err != nil && !errors.Is(err, ghcr.ErrNotFound) {
			s.t.Fatal(err)
		}
		there := err == nil
		switch gone := item.Outcome == ghcr.Done || item.Outcome == ghcr.AlreadyGone; {
		case item.Do != retain.Delete && !there && item.Outcome != ghcr.AlreadyGone:
			s.t.Errorf("%s of %s is %s, and it is gone", item.Do, item.Digest, item.Outcome)
		case item.Err != nil && strings.Contains(item.Err.Error(), "could not be restored"):
		case item.Do == retain.Delete && gone == there:
			s.t.Errorf("%s %v is said to be %s (%v), and there: %v", item.Digest, item.Tags, item.Outcome, item.Err, there)
		}
	}
}

// describe prints a report.
func (s *sandbox) describe(report *ghcr.PruneReport, err error) {
	s.t.Helper()
	s.t.Logf("%v", err)
	if report != nil {
		for _, item := range report.Items {
			s.t.Logf("%s %s %s %v: %v", item.Outcome, item.Do, item.Digest, item.Tags, item.Err)
		}
	}
}

// prunable is a package in which old and older may go: they share a part with what
// stays, and have signatures and an attestation.
type prunable struct {
	*sandbox
	old, older, kept, other *ghcrtest.Image
}

func newPrunable(t *testing.T, opts ghcrtest.Options) *prunable {
	p := &prunable{sandbox: newSandbox(t, opts)}
	shared := image(1, 1)
	p.old = ghcrtest.NewIndex(shared, image(2, 1), ghcrtest.NewIndex(image(3, 1)))
	p.older = ghcrtest.Attested(image(4, 1), image(5, 1))
	p.kept = ghcrtest.NewIndex(shared, image(6, 1))
	p.other = image(7, 1)
	ghcrtest.Sign(p.old)
	ghcrtest.Sign(p.older.Children[0])
	ghcrtest.Sign(shared)
	ghcrtest.Refer(p.old, "application/spdx+json", "{}")
	for tag, img := range map[string]*ghcrtest.Image{"v1": p.old, "v2": p.older, "v3": p.kept, "latest": p.kept, "main": p.other} {
		p.add("acme/app", tag, img)
	}
	time.Sleep(time.Hour)
	return p
}

// stay checks that what no tag of the plan names is as it was.
func (p *prunable) stay() {
	p.t.Helper()
	p.holds("acme/app", "v3", p.kept)
	p.holds("acme/app", "latest", p.kept)
	p.holds("acme/app", "main", p.other)
}

func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		before := len(p.inventory("acme/app").Versions)
		plan := p.planOf("acme/app", "v1", "v2")
		journal := t.TempDir() + "/journal"
		report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal, Confirm: plan.Digest})
		if err != nil || report.Count(ghcr.Done) != len(plan.Actions) || report.Journal != journal || report.Left != 0 {
			p.describe(report, err)
			t.Fatalf("%d of %d done", report.Count(ghcr.Done), len(plan.Actions))
		}
		p.truthful("acme/app", report)
		p.stay()
		if n := len(p.inventory("acme/app").Versions); n != before-len(plan.Actions) {
			t.Errorf("%d versions are left of %d", n, before)
		}
		// All of it can be taken back.
		back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(journal)})
		if err != nil {
			t.Fatalf("%+v: %v", back, err)
		}
		p.holds("acme/app", "v1", p.old)
		p.holds("acme/app", "v2", p.older)
		p.stay()
		if n := len(p.inventory("acme/app").Versions); n != before {
			t.Errorf("%d versions are back of %d", n, before)
		}
	})
}

// TestPruneUntagsAndRetags: a tag comes off an image that stays, and an image gets one.
func TestPruneUntagsAndRetags(t *testing.T) {
	for _, stale := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{Quirks: late(stale)})
			orphan := image(9, 1)
			p.add("acme/app", "", orphan)
			p.add("acme/app", "part", p.kept.Children[1])
			p.add("acme/app", "part2", p.kept.Children[1])
			time.Sleep(time.Hour)
			plan := p.planOf("acme/app", "part", "part2", "latest", "v1")
			for i, k := range plan.Kept {
				if k.Digest == orphan.Digest() {
					plan.Kept = slices.Delete(plan.Kept, i, i+1)
					plan.Actions = append(plan.Actions, retain.Action{Do: retain.Retag, Version: k.Version, Digest: k.Digest, On: "saved"})
					break
				}
			}
			journal := t.TempDir() + "/journal"
			report, err := p.apply(seal(plan), ghcr.ApplyOptions{Journal: journal})
			if err != nil {
				p.describe(report, err)
				t.Fatal(err)
			}
			p.truthful("acme/app", report)
			p.holds("acme/app", "v3", p.kept)
			p.holds("acme/app", "saved", orphan)
			for _, tag := range []string{"part", "part2", "latest", "v1"} {
				if d := p.resolves("acme/app", tag); d != "" {
					t.Errorf("%s is on %s", tag, d)
				}
			}
			if back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(journal)}); err != nil {
				t.Fatalf("%+v: %v", back, err)
			}
			p.stay()
			p.holds("acme/app", "part2", p.kept.Children[1])
			p.holds("acme/app", "v1", p.old)
		})
	}
}

// TestPlanIsRefused before anything is done: it is not what was made, of another
// package, too old, or stopped by its rails.
func TestPlanIsRefused(t *testing.T) {
	later := func(p *retain.Plan) { p.Expires = time.Now().Add(-time.Second) }
	for name, test := range map[string]struct {
		fault  ghcr.PlanFault
		class  error
		change func(p *retain.Plan)
		sealed bool
	}{
		"altered":       {ghcr.PlanAltered, ghcr.ErrIntegrity, func(p *retain.Plan) { p.Actions[0].Version++ }, false},
		"expired":       {ghcr.PlanExpired, ghcr.ErrConflict, later, true},
		"no expiry":     {ghcr.PlanExpired, ghcr.ErrConflict, func(p *retain.Plan) { p.Expires = time.Time{} }, true},
		"simulated":     {ghcr.PlanEarly, ghcr.ErrConflict, func(p *retain.Plan) { p.Created = time.Now().Add(time.Hour) }, true},
		"schema":        {ghcr.PlanMalformed, ghcr.ErrInvalid, func(p *retain.Plan) { p.Schema = "ghcr-plan/9" }, true},
		"other host":    {ghcr.PlanForeign, ghcr.ErrInvalid, func(p *retain.Plan) { p.Host = "containers.example.com" }, true},
		"other owner":   {ghcr.PlanForeign, ghcr.ErrInvalid, func(p *retain.Plan) { p.OwnerID++ }, true},
		"other package": {ghcr.PlanForeign, ghcr.ErrInvalid, func(p *retain.Plan) { p.PackageID++ }, true},
		"refused":       {ghcr.PlanRefused, ghcr.ErrConflict, func(p *retain.Plan) { p.Refused = []retain.Refusal{{Rail: "max-delete", Text: "9 of 4"}} }, true},
		"unfinished":    {ghcr.PlanMalformed, ghcr.ErrInvalid, func(p *retain.Plan) { p.Needs = []oci.Digest{p.Actions[0].Digest} }, true},
		"verb":          {ghcr.PlanMalformed, ghcr.ErrInvalid, func(p *retain.Plan) { p.Actions[0].Do = "purge" }, true},
		"twice":         {ghcr.PlanMalformed, ghcr.ErrInvalid, func(p *retain.Plan) { p.Actions = append(p.Actions, p.Actions[0]) }, true},
		"no version":    {ghcr.PlanMalformed, ghcr.ErrInvalid, func(p *retain.Plan) { p.Actions[0].Version = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				plan := p.planOf("acme/app", "v1")
				test.change(plan)
				if test.sealed {
					seal(plan)
				}
				p.server.ResetRequests()
				journal := t.TempDir() + "/journal"
				_, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal})
				if !errors.Is(err, test.fault) || !errors.Is(err, test.class) {
					t.Errorf("error %v", err)
				}
				if w := p.writes(); len(w) != 0 {
					t.Errorf("sent %+v", w)
				}
				if _, err := os.Stat(journal); err == nil {
					t.Error("a journal was begun")
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan, other := p.planOf("acme/app", "v1"), p.planOf("acme/app", "v2")
		if _, err := p.apply(plan, ghcr.ApplyOptions{Confirm: other.Digest}); !errors.Is(err, ghcr.PlanUnconfirmed) {
			t.Errorf("agreed to another plan: %v", err)
		}
	})
}

// TestPlanOfADeletedPackage is not carried out on the package that has its name by now.
func TestPlanOfADeletedPackage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1")
		api, _ := p.client.Packages()
		if err := api.Delete(t.Context(), "acme", "app"); err != nil {
			t.Fatal(err)
		}
		p.add("acme/app", "v1", p.old)
		if _, err := p.apply(plan, ghcr.ApplyOptions{}); !errors.Is(err, ghcr.PlanForeign) {
			t.Errorf("error %v", err)
		}
		p.holds("acme/app", "v1", p.old)
	})
}

// TestPruneLimits end a run between two actions, and the journal says how to go on.
func TestPruneLimits(t *testing.T) {
	for name, opts := range map[string]ghcr.ApplyOptions{
		"deletes":  {MaxDeletes: 3},
		"requests": {MaxRequests: 6},
		"time":     {MaxTime: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPrunable(t, ghcrtest.Options{})
				plan := p.planOf("acme/app", "v1", "v2")
				p.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", Delay: 700 * time.Millisecond, Times: -1})
				opts.Journal = t.TempDir() + "/journal"
				report, err := p.apply(plan, opts)
				var stopped *ghcr.StoppedError
				done := report.Count(ghcr.Done)
				if !errors.As(err, &stopped) || done == 0 || report.Left != len(plan.Actions)-done || stopped.Left != report.Left || !strings.Contains(err.Error(), opts.Journal) {
					p.describe(report, err)
					t.Fatalf("%d done, %d left", done, report.Left)
				}
				if opts.MaxRequests > 0 && report.Requests > opts.MaxRequests || opts.MaxDeletes > 0 && done != opts.MaxDeletes {
					t.Errorf("%d requests, %d done", report.Requests, done)
				}
				p.truthful("acme/app", report)
				p.stay()
				for runs := 1; err != nil && runs < 20; runs++ {
					report, err = p.client.ResumePrune(t.Context(), opts.Journal, opts)
				}
				if err != nil || report.Count(ghcr.Done) != len(plan.Actions) {
					p.describe(report, err)
					t.Errorf("not all is done in the end")
				}
				p.truthful("acme/app", report)
				p.stay()
			})
		})
	}
}

// TestPruneArchive: what is deleted is in a layout before, and can be pushed again when
// GitHub restores nothing any more.
func TestPruneArchive(t *testing.T) {
	for _, blobs := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{})
			p.client = p.newClient(t.TempDir())
			plan := p.planOf("acme/app", "v1", "v2")
			dir := t.TempDir() + "/archive"
			report, err := p.apply(plan, ghcr.ApplyOptions{Archive: dir, ArchiveBlobs: blobs})
			if err != nil {
				p.describe(report, err)
				t.Fatal(err)
			}
			layout, err := transfer.OpenLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range plan.Actions {
				if m, err := layout.Manifest(t.Context(), a.Digest.String()); err != nil || m.Digest() != a.Digest {
					t.Errorf("%s is not in the archive: %v", a.Digest, err)
				}
			}
			if !blobs {
				return
			}
			p.server.Advance(31 * 24 * time.Hour)
			if _, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(report.Journal)}); err == nil {
				t.Error("GitHub restored it after a month")
			}
			p.mustCopy("oci:"+dir+":v1", "acme/app:v1", transfer.Options{Recursive: true})
			p.holds("acme/app", "v1", p.old)
			p.stay()
		})
	}
}

// TestPruneKeepsWhatCannotBeArchived, with what it is a part of.
func TestPruneKeepsWhatCannotBeArchived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		for d := range p.old.Children[1].Blobs {
			p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteBlob, Method: "GET", Ref: d.String(), Status: 404, Times: -1})
		}
		report, err := p.apply(plan, ghcr.ApplyOptions{Archive: t.TempDir() + "/archive", ArchiveBlobs: true})
		if err == nil {
			t.Error("no error")
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "v1", p.old)
		if p.resolves("acme/app", "v2") != "" {
			t.Error("what was archived is not deleted")
		}
		p.stay()
	})
}

// TestPruneOutcomes: each refusal is told by its reason, the versions that hang on it stay,
// and the others go.
func TestPruneOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{Public: []string{"acme/app"}})
		plan := p.planOf("acme/app", "v1", "v2", "main")
		if err := p.server.SetDownloads("acme/app", "v1", 5001); err != nil {
			t.Fatal(err)
		}
		report, err := p.apply(plan, ghcr.ApplyOptions{})
		var partial *ghcr.PartialError
		if !errors.As(err, &partial) || !errors.Is(err, packages.TooManyDownloads) {
			t.Errorf("error %v", err)
		}
		p.truthful("acme/app", report)
		p.holds("acme/app", "v1", p.old)
		if p.resolves("acme/app", "v2") != "" || p.resolves("acme/app", "main") != "" {
			t.Error("the others did not go")
		}
		if report.Count(ghcr.Blocked) != 1 || report.Count(ghcr.Skipped) == 0 {
			p.describe(report, err)
		}
	})
}

// TestUndoOfAPlan: a plan takes back what was done of it, and leaves the rest alone.
func TestUndoOfAPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		path := t.TempDir() + "/plan.json"
		write := func(plans ...*retain.Plan) {
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := retain.WritePlans(f, plans...); err != nil {
				t.Fatal(err)
			}
		}
		write(plan)
		before := len(p.inventory("acme/app").Versions)
		if _, err := p.apply(plan, ghcr.ApplyOptions{MaxDeletes: 5}); err == nil {
			t.Fatal("it did not stop")
		}
		if back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(path)}); err != nil {
			t.Fatalf("%+v: %v", back, err)
		}
		p.holds("acme/app", "v1", p.old)
		p.holds("acme/app", "v2", p.older)
		if n := len(p.inventory("acme/app").Versions); n != before {
			t.Errorf("%d versions are back of %d", n, before)
		}
		write(plan, plan)
		if _, err := ghcr.ReadUndo(path); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("two plans: %v", err)
		}
		plan.Actions[0].Version++
		write(plan)
		if _, err := ghcr.ReadUndo(path); !errors.Is(err, ghcr.ErrIntegrity) {
			t.Errorf("altered: %v", err)
		}
	})
}
