package ghcr_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestResumeDoesNotTakeHiddenForDone: that a version was to be deleted and is not found is
// no proof that it was.
func TestResumeDoesNotTakeHiddenForDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		journal := t.TempDir() + "/journal"
		p.apply(plan, ghcr.ApplyOptions{Journal: journal, MaxDeletes: 1})
		j, err := ghcr.ReadJournal(journal)
		if err != nil {
			t.Fatal(err)
		}
		next := slices.IndexFunc(j.Steps, func(s ghcr.JournalStep) bool { return !s.Begun })
		f, err := os.OpenFile(journal, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, `{"time":"2026-01-01T00:00:00Z","step":%d,"state":"begun"}`+"\n", next)
		f.Close()
		// It loses its rights when it has listed the versions.
		p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "HEAD", Do: func(s *ghcrtest.Server) { s.Inject(notFound) }})
		report, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
		p.server.ClearFaults()
		p.truthful("acme/app", report)
		if t.Failed() {
			p.describe(report, err)
		}
		p.stay()
	})
}

// TestResumeAfterARestore: what somebody has brought back since stays with all that it
// needs, and is not said to be gone.
func TestResumeAfterARestore(t *testing.T) {
	for _, all := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			index := ghcrtest.NewIndex(image(1, 1), ghcrtest.NewIndex(image(2, 1)))
			s.add("acme/app", "", index)
			s.add("acme/app", "stays", image(3, 1))
			time.Sleep(age)
			policy := s.policy(`rules: [{name: untagged, match: {untagged: true}, delete: all}]`)
			plan, _, err := s.client.PlanPrune(t.Context(), s.ref("acme/app"), policy, ghcr.PruneOptions{})
			if err != nil || len(plan.Actions) != 4 {
				t.Fatalf("%+v: %v", plan, err)
			}
			// Whether GitHub dates a restored version anew is not known.
			for i := range plan.Actions {
				plan.Actions[i].Updated = time.Time{}
			}
			journal := t.TempDir() + "/journal"
			s.apply(seal(plan), ghcr.ApplyOptions{Journal: journal, MaxDeletes: 2})
			undo := s.undo(journal)
			if !all {
				undo.Items = undo.Items[:1] // the index alone, as the page of GitHub does it
				undo.Items[0].Needs = nil
				api, _ := s.client.Packages()
				if err := api.RestoreVersion(t.Context(), "acme", "app", undo.Items[0].Version); err != nil {
					t.Fatal(err)
				}
			} else if back, err := s.restore(ghcr.RestoreOptions{Undo: undo}); err != nil {
				t.Fatalf("%+v: %v", back, err)
			}
			report, err := s.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
			if !errors.Is(err, ghcr.ErrConflict) {
				t.Errorf("error %v", err)
			}
			s.truthful("acme/app", report)
			s.holds("acme/app", "", index)
			if t.Failed() {
				s.describe(report, err)
			}
		})
	}
}

// TestTwoRunsOfAJournal at once would each write over what the other has written.
func TestTwoRunsOfAJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		journal := t.TempDir() + "/journal"
		tried := 0
		second := func(ghcr.PruneResult) {
			before := len(p.writes())
			if _, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{}); !errors.Is(err, ghcr.ErrConflict) {
				t.Errorf("a second run: %v", err)
			}
			if len(p.writes()) != before {
				t.Error("the second run sent something")
			}
			tried++
		}
		p.apply(plan, ghcr.ApplyOptions{Journal: journal, MaxDeletes: 1, Report: second})
		report, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{Report: second})
		if err != nil || tried < len(plan.Actions) {
			p.describe(report, err)
			t.Errorf("%d tried", tried)
		}
		if left, _ := filepath.Glob(journal + "?*"); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	})
}

// TestJournalEditedByHand: what says that something is done that was not begun is
// damaged; and what is said to be done and is there is not taken for gone.
func TestJournalEditedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, plan := smallPrunable(t, ghcrtest.Options{})
		journal := t.TempDir() + "/journal"
		p.apply(plan, ghcr.ApplyOptions{Journal: journal, MaxDeletes: 1})
		data, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		last := len(plan.Actions) - 1
		ended := fmt.Sprintf(`{"step":%d,"state":"ended","outcome":"done"}`+"\n", last)
		write := func(lines string) {
			if err := os.WriteFile(journal, append(slices.Clone(data), lines...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(ended + `{"step":0,"state":"begun"}` + "\n")
		if _, err := ghcr.ReadJournal(journal); !errors.Is(err, ghcr.ErrIntegrity) {
			t.Errorf("error %v", err)
		}
		write(fmt.Sprintf(`{"step":%d,"state":"begun"}`+"\n", last) + ended)
		report, err := p.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{})
		p.truthful("acme/app", report)
		if t.Failed() {
			p.describe(report, err)
		}
	})
}

// TestUndoLeavesAloneWhatWasLeftAlone: a tag that somebody has taken off, so that the run
// did not touch the image, does not come back.
func TestUndoLeavesAloneWhatWasLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		for _, tag := range []string{"v1", "v2", "stays"} {
			s.add("acme/app", tag, image(uint64(len(tag))+uint64(tag[1]), 1))
		}
		time.Sleep(age)
		plan := s.planOf("acme/app", "v1", "v2")
		journal := t.TempDir() + "/journal"
		first := true
		report, err := s.apply(plan, ghcr.ApplyOptions{Journal: journal, Report: func(ghcr.PruneResult) {
			if first {
				if _, err := s.untag("acme/app:" + plan.Actions[1].Tags[0]); err != nil {
					t.Fatal(err)
				}
			}
			first = false
		}})
		if report.Count(ghcr.Changed) != 1 || report.Count(ghcr.Done) != 1 {
			s.describe(report, err)
			t.Fatal("it did not change")
		}
		if back, err := s.restore(ghcr.RestoreOptions{Undo: s.undo(journal)}); err != nil {
			t.Fatalf("%+v: %v", back, err)
		}
		s.gone(plan.Actions[1].Tags[0])
		if s.resolves("acme/app", plan.Actions[0].Tags[0]) == "" {
			t.Error("what was deleted is not back")
		}
	})
}

// TestUndoDirIsNotEmptied of what is somebody else's.
func TestUndoDirIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-100 * 24 * time.Hour)
	for _, name := range []string{"thesis.json", "app-20200101-000000-000000001.json", "app-20200101-000000-000000001.journal"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir+"/"+name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	s := newSandbox(t, ghcrtest.Options{})
	client, err := ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, UndoDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.add("acme/app", "v1", image(1, 1))
	s.add("acme/app", "v2", image(2, 1))
	if _, err := client.Delete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app:v1")); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 2 || !slices.Contains(names, "thesis.json") {
		t.Errorf("there are %v", names)
	}
}

// TestMendThatFails leaves to the undo what could not be restored.
func TestMendThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		part := p.older.Children[1]
		needs := ghcrtest.NewIndex(part)
		journal := t.TempDir() + "/journal"
		report, err := p.apply(plan, ghcr.ApplyOptions{Journal: journal, Report: func(r ghcr.PruneResult) {
			if r.Digest == part.Digest() && r.Outcome == ghcr.Done {
				p.add("acme/app", "new", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
				p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteVersionRestore, Status: 403, Times: -1})
			}
		}})
		p.server.ClearFaults()
		if err == nil || !strings.Contains(err.Error(), "could not be restored") {
			p.describe(report, err)
			t.Fatal("it was restored")
		}
		if back, err := p.restore(ghcr.RestoreOptions{Undo: p.undo(journal)}); err != nil {
			t.Fatalf("%+v: %v", back, err)
		}
		p.holds("acme/app", "new", needs)
	})
}
