package ghcr_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// prune carries out a plan as the world has it: at once, in parts, with a process that
// dies or is told to end, or with an answer that is wrong. It returns the last report.
func (w *world) prune(plan *retain.Plan) (report *ghcr.PruneReport, err error) {
	t := w.t
	opts := ghcr.ApplyOptions{Journal: t.TempDir() + "/journal"}
	switch w.r.IntN(6) {
	default:
		opts.Journal = "" // a journal is on the disk after each step, which takes time
	case 0:
		opts.MaxDeletes = 1 + w.r.IntN(3)
	case 1:
		faults := []ghcrtest.Fault{
			{Status: 500}, {Status: 404}, {Status: 403}, {Status: 200, Body: "<html>"}, {Break: true}, {Served: true, Break: true}, {Served: true, Status: 502},
		}
		fault := faults[w.r.IntN(len(faults))]
		fault.After, fault.Times = w.r.IntN(60), 1+w.r.IntN(3)
		if fault.Status == 404 {
			// A second might have both the API and the registry say that a version is gone,
			// and nobody is left to ask.
			fault.Times = 1
		}
		w.server.Inject(fault)
	case 2:
		net := &lethal{base: w.server.Transport(), journal: opts.Journal, served: w.r.IntN(2) == 0, left: w.r.IntN(60)}
		client, err := ghcr.New(ghcr.Options{Base: net, Credentials: login})
		if err != nil {
			t.Fatal(err)
		}
		report, err = client.ApplyPrune(t.Context(), plan, opts)
		if net.disk == nil {
			return report, err
		}
		opts.Journal = t.TempDir() + "/found"
		if len(net.disk) > 0 {
			if err := os.WriteFile(opts.Journal, net.disk, 0o600); err != nil {
				t.Fatal(err)
			}
			return w.client.ResumePrune(t.Context(), opts.Journal, opts)
		}
	case 3:
		// Answers take long, and some are that of a limit.
		w.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", After: w.r.IntN(6), Status: 429, Body: `{"message":"slow down"}`})
		w.server.Inject(ghcrtest.Fault{Jitter: 4 * time.Second, Seed: w.r.Uint64(), Times: 100})
		report, err = w.client.ApplyPrune(w.after(time.Duration(w.r.IntN(60_000))*time.Millisecond), plan, opts)
		if report != nil && report.Count(ghcr.Failed)+report.Count(ghcr.Unknown) > 0 && errors.Is(err, errCtrlC) {
			t.Errorf("what was not sent is left, and what was is known: %v", err)
		}
		w.truthful(worldRepo, report)
		if report == nil || report.Journal == "" {
			return report, err
		}
		return w.client.ResumePrune(t.Context(), opts.Journal, opts)
	}
	report, err = w.client.ApplyPrune(t.Context(), plan, opts)
	for runs := 0; report != nil && report.Left > 0 && runs < 30; runs++ {
		report, err = w.client.ResumePrune(t.Context(), opts.Journal, opts)
	}
	return report, err
}

// plan is made by hand, or of a policy.
func (w *world) plan(named []string) *retain.Plan {
	if w.r.IntN(2) == 0 {
		return w.planOf(worldRepo, named...)
	}
	verb := []string{"delete: all", "untag: all", "keep: {last: 1}, delete: all", "delete: {older_than: 30s}"}[w.r.IntN(4)]
	rules := "defaults: {max_delete: unlimited, max_delete_percent: unlimited, min_remaining: 0, allow_match_all: true, grace: 1s}\nversion: 1\nrules:\n"
	if len(named) > 0 {
		rules += fmt.Sprintf("  - {name: some, match: {tags: [%s]%s}, %s}\n", strings.Join(named, ", "), []string{"", ", any_tag: true"}[w.r.IntN(2)], verb)
	}
	rules += []string{"  - {name: untagged, match: {untagged: true}, delete: all}\n", "  - {name: orphans, match: {health: [orphan, ghost, partial]}, delete: all}\n"}[w.r.IntN(2)]
	policy, err := retain.Parse("policy", []byte(rules))
	if err != nil {
		w.t.Fatal(err)
	}
	plan, _, err := w.client.PlanPrune(w.t.Context(), w.ref(worldRepo), policy, ghcr.PruneOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

// TestPruneTouchesNothingElse: whatever the repository is like, however late its lists,
// whatever somebody else does after the plan and while it is carried out, and however
// the run is cut short and taken up again: what the plan does not name is whole, and the
// report is true.
func TestPruneTouchesNothingElse(t *testing.T) {
	properties(t, 500, func(w *world) {
		t := w.t
		var named []string
		for _, name := range w.names() {
			if w.r.IntN(3) == 0 && name != "stays" {
				named = append(named, name)
			}
		}
		plan := w.plan(named)
		planned := maps.Clone(w.tags)
		for range w.r.IntN(3) {
			w.meddle()
			time.Sleep(time.Duration(w.r.IntN(3)) * time.Second)
		}
		start := maps.Clone(w.tags)
		for range w.r.IntN(5) {
			w.interleave()
		}
		report, err := w.prune(plan)
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		meddled := len(w.server.Faults()) > 0
		w.server.ClearFaults()
		var gone []string
		doomed := map[oci.Digest]bool{}
		for _, a := range plan.Actions {
			gone = append(gone, a.Off...)
			if a.Do == retain.Delete {
				doomed[a.Digest] = true
				gone = append(gone, a.Tags...)
			}
		}
		for name, img := range w.tags {
			late := start[name] != img && meddled // it came while the plan was carried out
			switch {
			case late && (doomed[img.Digest()] || slices.Contains(gone, name)):
				// It came between the last look and what followed, which nobody can know.
				gone = append(gone, name)
			case slices.Contains(gone, name) && planned[name].Digest() != img.Digest():
				gone = slices.DeleteFunc(gone, func(g string) bool { return g == name }) // it moved before
			}
		}
		// What is still there must be right.
		gone = slices.DeleteFunc(gone, func(name string) bool {
			return w.tags[name] == nil || w.resolves(worldRepo, name) == w.tags[name].Digest()
		})
		w.intact(gone...)
		for _, k := range plan.Kept {
			if w.resolves(worldRepo, k.Digest.String()) == "" {
				t.Errorf("%s %v was kept (%s), and is gone", k.Digest, k.Tags, k.Reason)
			}
		}
		w.truthful(worldRepo, report)
		if t.Failed() {
			w.tell(planned, named, nil, err)
			w.describe(report, err)
		}
		if err == nil && report != nil && report.Count(ghcr.Done)+report.Count(ghcr.AlreadyGone) != len(plan.Actions) {
			t.Error("not all is done, and no error")
		}
	})
}
