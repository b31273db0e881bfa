package ghcr_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// The tests here try to have a run destroy what is in use, lose what it wrote down, or
// say what is not so.

// notFound is what GitHub answers to who may not see something.
var notFound = ghcrtest.Fault{Role: ghcrtest.RoleAPI, Times: -1, Status: 404, Body: `{"message":"Not Found"}`}

// TestPruneAccessLostHalfWay: a login that may not even see the package any more gets the
// answers of versions that are gone. The registry knows better.
func TestPruneAccessLostHalfWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		done := 0
		report, err := p.apply(plan, ghcr.ApplyOptions{Report: func(ghcr.PruneResult) {
			if done++; done == 2 {
				p.server.Inject(notFound)
			}
		}})
		p.server.ClearFaults()
		if !errors.Is(err, ghcr.ErrDenied) || report.Count(ghcr.Done) != 2 || report.Count(ghcr.AlreadyGone) != 0 || report.Left != len(plan.Actions)-3 {
			p.describe(report, err)
			t.Error("the report is wrong")
		}
		p.truthful("acme/app", report)
		p.stay()
	})
	t.Run("rm", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPrunable(t, ghcrtest.Options{})
			first := true
			result, err := p.client.Delete(t.Context(), ghcr.DeleteOptions{Report: func(ghcr.DeleteResult) {
				if first {
					p.server.Inject(notFound)
				}
				first = false
			}}, p.ref("acme/app:v1"))
			p.server.ClearFaults()
			if !errors.Is(err, ghcr.ErrDenied) || result.Items[1].Outcome != ghcr.Failed || result.Items[2].Outcome != ghcr.Skipped {
				t.Errorf("%+v: %v", result, err)
			}
		})
	})
}

// TestPruneArchivesAllThatItDeletes, also with a limit on deletions and when the first
// actions come to nothing.
func TestPruneArchivesAllThatItDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		plan := p.planOf("acme/app", "v1", "v2")
		tag := plan.Actions[0].Tags[0]
		p.add("acme/app", tag, p.other)
		dir := t.TempDir() + "/archive"
		report, err := p.apply(plan, ghcr.ApplyOptions{Archive: dir, MaxDeletes: 2})
		if report.Count(ghcr.Done) != 2 {
			p.describe(report, err)
			t.Fatal("the deletions are not two")
		}
		layout, err := transfer.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range report.Items {
			if _, err := layout.Manifest(t.Context(), item.Digest.String()); item.Outcome == ghcr.Done && err != nil {
				t.Errorf("%s went and is not in the archive: %v", item.Digest, err)
			}
		}
	})
}

// TestArchiveKeepsWhatHadTheTagBefore: an archive of many runs lists the images of all of
// them, though their tags are the same.
func TestArchiveKeepsWhatHadTheTagBefore(t *testing.T) {
	for _, blobs := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			s.add("acme/app", "stays", image(1, 1))
			dir := t.TempDir() + "/archive"
			for i := range 3 {
				s.add("acme/app", "nightly", image(uint64(10+i), 1))
				time.Sleep(age)
				if report, err := s.apply(s.planOf("acme/app", "nightly"), ghcr.ApplyOptions{Archive: dir, ArchiveBlobs: blobs}); err != nil {
					s.describe(report, err)
					t.Fatal(err)
				}
			}
			index, err := os.ReadFile(dir + "/index.json")
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if d := image(uint64(10+i), 1).Digest(); !bytes.Contains(index, []byte(d)) {
					t.Errorf("image %d is not listed any more", i)
				}
			}
		})
	}
}

// TestPruneRetagTakesNoTagAway that came after the last look at the tags.
func TestPruneRetagTakesNoTagAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrunable(t, ghcrtest.Options{})
		orphan, live := image(9, 1), image(10, 1)
		p.add("acme/app", "", orphan)
		time.Sleep(time.Hour)
		plan := p.planOf("acme/app", "v1")
		for _, k := range plan.Kept {
			if k.Digest == orphan.Digest() {
				plan.Actions = append(plan.Actions, retain.Action{Do: retain.Retag, Version: k.Version, Digest: k.Digest, On: "saved"})
			}
		}
		first := true
		report, err := p.apply(seal(plan), ghcr.ApplyOptions{Report: func(ghcr.PruneResult) {
			if first {
				p.add("acme/app", "saved", live)
			}
			first = false
		}})
		if !errors.Is(err, ghcr.ErrConflict) || report.Count(ghcr.Changed) != 1 {
			p.describe(report, err)
		}
		p.holds("acme/app", "saved", live)
		p.stay()
	})
}

// TestPruneUntagsWithinTheLimit: a limit that is too small for all untaggings lets some of
// them be done, and the next run does more.
func TestPruneUntagsWithinTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		var tags []string
		for i := range 6 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i+1), 1))
			tags = append(tags, fmt.Sprint("pr", i))
			s.add("acme/app", tags[i], image(uint64(i+1), 1))
		}
		time.Sleep(age)
		plan := s.planOf("acme/app", tags...)
		journal := t.TempDir() + "/journal"
		const limit = 14
		report, err := s.apply(plan, ghcr.ApplyOptions{Journal: journal, MaxRequests: limit})
		for runs := 1; ; runs++ {
			if report.Requests > limit {
				t.Errorf("%d requests", report.Requests)
			}
			if err == nil || runs == 10 {
				break
			}
			report, err = s.client.ResumePrune(t.Context(), journal, ghcr.ApplyOptions{MaxRequests: limit})
		}
		if err != nil || report.Count(ghcr.Done) != len(plan.Actions) {
			s.describe(report, err)
			t.Error("not all is done in the end")
		}
		s.gone(tags...)
	})
}

// TestPruneUntagProvesThePermission with one tag, before the others are moved.
func TestPruneUntagProvesThePermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := ghcrtest.Account{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Role: "write"}
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{account}})
		var tags []string
		for i := range 6 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i+1), 1))
			tags = append(tags, fmt.Sprint("pr", i))
			s.add("acme/app", tags[i], image(uint64(i+1), 1))
		}
		time.Sleep(age)
		s.as("ghp_dev")
		plan := s.planOf("acme/app", tags...)
		report, err := s.apply(plan, ghcr.ApplyOptions{})
		if !errors.Is(err, ghcr.ErrDenied) || report.Count(ghcr.Done) != 0 || report.Left != len(plan.Actions)-1 {
			s.describe(report, err)
			t.Error("the report is wrong")
		}
		puts := 0
		for _, w := range s.writes() {
			if w.Method == "PUT" {
				puts++
			}
		}
		if puts != 2 { // there and back
			t.Errorf("%d times a manifest was put", puts)
		}
		for i, tag := range tags {
			s.holds("acme/app", tag, image(uint64(i+1), 1))
		}
	})
}

// TestPruneLimitIsOfDeletions, and not of what could not be deleted.
func TestPruneLimitIsOfDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Public: []string{"acme/app"}})
		for i := range 5 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i+1), 1))
		}
		plan := s.planOf("acme/app", "v0", "v1", "v2", "v3")
		for i := range 2 {
			if err := s.server.SetDownloads("acme/app", plan.Actions[i].Tags[0], 5001); err != nil {
				t.Fatal(err)
			}
		}
		report, err := s.apply(plan, ghcr.ApplyOptions{MaxDeletes: 1})
		var stopped *ghcr.StoppedError
		if !errors.As(err, &stopped) || stopped.Limit != "1 deletions" || report.Count(ghcr.Done) != 1 || report.Count(ghcr.Blocked) != 2 {
			s.describe(report, err)
			t.Errorf("%+v", stopped)
		}
	})
}

// TestPruneLastLookMayTakeLong: many tags take more than a minute to look at.
func TestPruneLastLookMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := smallPrunable(t, ghcrtest.Options{})
		for i := range 50 {
			p.add("acme/app", fmt.Sprint("t", i), image(uint64(100+i), 1))
		}
		plan := p.planOf("acme/app", "v1", "pr")
		done := 0
		report, err := p.apply(plan, ghcr.ApplyOptions{Report: func(ghcr.PruneResult) {
			if done++; done == len(plan.Actions) {
				p.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "HEAD", Delay: 25 * time.Second, Times: -1})
			}
		}})
		if err != nil {
			p.describe(report, err)
			t.Error(err)
		}
	})
}

// TestPlansOfOddNames are refused or carried out, and lead nowhere else.
func TestPlansOfOddNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/tools/app", "v1", img)
		s.add("acme/tools/app", "stays", image(2, 1))
		time.Sleep(age)
		plan := s.planOf("acme/tools/app", "v1")
		for name, change := range map[string]func(p *retain.Plan){
			"upper case": func(p *retain.Plan) { p.Owner = "ACME" },
			"path":       func(p *retain.Plan) { p.Package = "../../other/app" },
			"no owner":   func(p *retain.Plan) { p.Owner = "" },
			"query":      func(p *retain.Plan) { p.Package = "tools/app?state=deleted" },
		} {
			odd := *plan
			change(&odd)
			if _, err := s.apply(seal(&odd), ghcr.ApplyOptions{}); !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
		report, err := s.apply(plan, ghcr.ApplyOptions{})
		if err != nil {
			s.describe(report, err)
			t.Error(err)
		}
		s.truthful("acme/tools/app", report)
	})
	client, err := ghcr.New(ghcr.Options{Registry: "registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = client.PlanPrune(t.Context(), oci.ImageRef{Registry: "localhost:5000", Name: "acme/app"}, &retain.Policy{}, ghcr.PruneOptions{})
	if !errors.Is(err, ghcr.ErrUnsupported) && !errors.Is(err, ghcr.ErrInvalid) {
		t.Errorf("another registry: %v", err)
	}
}

// TestPruneOfAUser: packages of a user have other addresses than those of an organization,
// and names of users have capital letters.
func TestPruneOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "Dev", Token: "ghp_dev"}}})
		s.as("ghp_dev")
		index := ghcrtest.NewIndex(image(1, 1))
		s.add("dev/tools/app", "v1", index)
		s.add("dev/tools/app", "stays", image(2, 1))
		time.Sleep(age)
		ref, err := s.client.ParseRef("Dev/tools/app")
		if err != nil {
			t.Fatal(err)
		}
		plan, _, err := s.client.PlanPrune(t.Context(), ref, s.policy(`rules: [{name: old, match: {tags: [v1]}, delete: all}]`), ghcr.PruneOptions{})
		if err != nil {
			t.Fatal(err)
		}
		journal := t.TempDir() + "/journal"
		report, err := s.apply(plan, ghcr.ApplyOptions{Journal: journal})
		if err != nil || report.Count(ghcr.Done) != 2 {
			s.describe(report, err)
			t.Error(err)
		}
		s.truthful("dev/tools/app", report)
		if back, err := s.client.Restore(t.Context(), ref, ghcr.RestoreOptions{Undo: s.undo(journal)}); err != nil {
			t.Errorf("%+v: %v", back, err)
		}
		s.holds("dev/tools/app", "v1", index)
	})
}

// TestPruneWhenTheArchiveIsFull ends after five tries, with nothing deleted.
func TestPruneWhenTheArchiveIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		var tags []string
		for i := range 9 {
			tags = append(tags, fmt.Sprint("v", i))
			s.add("acme/app", tags[i], image(uint64(i+1), 1))
		}
		s.add("acme/app", "stays", image(100, 1))
		time.Sleep(age)
		plan := s.planOf("acme/app", tags...)
		dir := t.TempDir() + "/archive"
		if _, err := transfer.CreateLayout(dir); err != nil {
			t.Fatal(err)
		}
		// As good as full, for root too.
		if err := errors.Join(os.RemoveAll(dir+"/blobs"), os.WriteFile(dir+"/blobs", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		report, err := s.apply(plan, ghcr.ApplyOptions{Archive: dir, ArchiveBlobs: true})
		if err == nil || report.Count(ghcr.Failed) != 5 || report.Left != 4 {
			s.describe(report, err)
			t.Error("it went on")
		}
		for i, tag := range tags {
			s.holds("acme/app", tag, image(uint64(i+1), 1))
		}
	})
}
