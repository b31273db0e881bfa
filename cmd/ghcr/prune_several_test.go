package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// several is a bubble with packages of which three versions each may go.
func several(t *testing.T, repos ...string) *bubble {
	b := newBubble(t, ghcrtest.Options{})
	for _, repo := range repos {
		b.fill(repo)
	}
	return b
}

// pruneJSON is what ghcr prune --json prints, as far as it counts.
type pruneJSON struct {
	Totals struct {
		Packages, Versions, Delete, Deleted, Left int
		Outcomes                                  map[string]int
	}
	Unplanned []struct{ Package, Why string }
	Results   []struct{ Ref, Outcome string }
}

func (b *bubble) prune(want int, args ...string) (r pruneJSON, errs string) {
	b.t.Helper()
	code, out, errs := b.run(append([]string{"prune", "--json"}, args...)...)
	if code != want {
		b.t.Fatalf("%v: exit code %d, want %d\n%s", args, code, want, errs)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.t.Fatal(err)
	}
	return r, errs
}

// deletions counts the versions that were deleted, by the emulator.
func (b *bubble) deletions() (n int) {
	for _, r := range b.server.Requests() {
		if r.Role == ghcrtest.RoleAPI && r.Method == "DELETE" && r.Status == 204 {
			n++
		}
	}
	return n
}

// whole checks that every action of a report is one of what was done, what was not, and
// what is left.
func (r *pruneJSON) whole(t *testing.T, actions int) {
	t.Helper()
	sum := r.Totals.Left
	for outcome, n := range r.Totals.Outcomes {
		if outcome != "skipped" {
			sum += n
		}
	}
	if sum != actions {
		t.Errorf("of %d actions the report tells of %d: %+v", actions, sum, r.Totals)
	}
}

var goes = []string{"--tags", "pr-*", "--max-percent", "90"}

// TestBudgetIsOfAllPackages: a budget that one package has used up was no longer one, and
// each of those after it lost one more version.
func TestBudgetIsOfAllPackages(t *testing.T) {
	for budget, want := range map[string]int{"3": 3, "4": 4, "6": 6, "9": 9} {
		synctest.Test(t, func(t *testing.T) {
			b := several(t, "acme/a", "acme/b", "acme/c")
			code := exitPartly
			if want == 9 {
				code = 0
			}
			r, errs := b.prune(code, append(goes, "acme/a", "acme/b", "acme/c", "--apply", "--yes", "--budget-deletes", budget)...)
			if n := b.deletions(); n != want || r.Totals.Deleted != want || r.Totals.Left != 9-want {
				t.Errorf("budget %s: %d deletions, and the report has %+v\n%s", budget, n, r.Totals, errs)
			}
			r.whole(t, 9)
		})
	}
}

// TestPruneOneOfManyIsGone: a package that is not there any more when plans are carried out
// is told, its actions are left, and the others go on.
func TestPruneOneOfManyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := several(t, "acme/a", "acme/b", "other/c")
		b.must(append([]string{"prune", "acme/a", "acme/b", "other/c", "--save-plan", "plan.json"}, goes...)...)
		b.must("rm", "--package", "acme/b", "--yes")
		b.server.ResetRequests()
		r, errs := b.prune(exitPartly, "--plan", "plan.json", "--apply", "--yes")
		if n := b.deletions(); n != 6 || r.Totals.Deleted != 6 || r.Totals.Left != 3 || !strings.Contains(errs, "acme/b") {
			t.Errorf("%d deletions, and the report has %+v\n%s", n, r.Totals, errs)
		}
		r.whole(t, 9)
	})
}

// TestPruneOneOwnerIsDenied: an owner whose packages can't be listed is told as a package
// that can't be planned, and the others go on.
func TestPruneOneOwnerIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := several(t, "acme/a", "other/c")
		b.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Route: ghcrtest.RoutePackages, Status: 403, Body: `{"message":"Resource not accessible by personal access token"}`, Times: -1})
		r, errs := b.prune(exitPartly, append(goes, "acme/a", "other", "--save-plan", "plan.json")...)
		if r.Totals.Packages != 1 || r.Totals.Delete != 3 || len(r.Unplanned) != 1 || r.Unplanned[0].Package != "ghcr.io/other/*" || strings.Contains(errs, "no package is") {
			t.Errorf("%+v\n%s", r, errs)
		}
		r, errs = b.prune(exitPartly, append(goes, "acme/a", "other/x*", "--apply", "--yes")...)
		if r.Totals.Deleted != 3 || len(r.Unplanned) != 1 {
			t.Errorf("%+v\n%s", r, errs)
		}
		// Alone it is what the run comes to.
		if code, _, errs := b.run(append([]string{"prune", "other"}, goes...)...); code != exitPermission {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
}

// TestPruneNamesAPackageOnce: in whatever case, and however often it is named.
func TestPruneNamesAPackageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := several(t, "acme/app", "acme/legacy")
		r, _ := b.prune(0, append(goes, "Acme/App", "acme/app", "ghcr.io/ACME/APP", "ACME", "!Acme/Legacy", "--save-plan", "plan.json")...)
		if r.Totals.Packages != 1 || r.Totals.Delete != 3 {
			t.Errorf("%+v", r.Totals)
		}
		b.must("prune", "--plan", "plan.json", "--apply", "--yes", "--journal", "run.journal")
		for _, args := range [][]string{
			{"--resume", "run.journal", "--resume", "./run.journal", "--apply", "--yes"},
			{"--snapshot", "s", "--snapshot", "./s", "--tags", "x"},
		} {
			if code, _, errs := b.run(append([]string{"prune"}, args...)...); code != exitUsage || !strings.Contains(errs, "twice") {
				t.Errorf("%v: exit code %d: %s", args, code, errs)
			}
		}
		// Two plans of one package are put together by hand.
		data, err := os.ReadFile("plan.json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Schema string            `json:"schema"`
			Plans  []json.RawMessage `json:"plans"`
		}
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		file.Plans = append(file.Plans, file.Plans[0])
		if data, err = json.Marshal(file); err != nil {
			t.Fatal(err)
		}
		write(t, "twice.json", string(data))
		if code, _, errs := b.run("prune", "--plan", "twice.json", "--apply", "--yes"); code != exitUsage || !strings.Contains(errs, "two plans") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
}

// TestDeletedVersionsCountDown: the list of what was deleted tells for how long it can
// still be restored.
func TestDeletedVersionsCountDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := several(t, "acme/app")
		b.must("rm", "acme/app:pr-1", "--yes")
		deleted := time.Now()
		time.Sleep(10*24*time.Hour + time.Hour)
		if out := b.must("ls", "acme/app", "--deleted"); !strings.HasSuffix(out, "\t"+deleted.Add(30*24*time.Hour).UTC().Format(time.RFC3339)+"\n") {
			t.Errorf("got %q", out)
		}
		if out := b.must("ls", "acme/app", "--deleted", "--jq", ".[0].restorableUntil"); !strings.HasPrefix(out, deleted.Add(30*24*time.Hour).UTC().Format("2006-01-02T")) {
			t.Errorf("got %q", out)
		}
		if out := b.must("ls", "acme/app", "--versions", "--jq", ".[0].restorableUntil"); strings.TrimSpace(out) != "null" {
			t.Errorf("got %q", out)
		}
		for left, want := range map[time.Duration]string{19*24*time.Hour + 23*time.Hour: "for 19 days", 25 * time.Hour: "for 1 day", time.Minute: "for 1 hour at most", 0: "no longer"} {
			if got := countdown(left); got != want {
				t.Errorf("%s: %s, want %s", left, got, want)
			}
		}
	})
}

// TestBlockedVersionsAreLines: a reader of lines of JSON is told of each version that a rule
// would delete and that stays, when it is planned and when it is done at once.
func TestBlockedVersionsAreLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := several(t, "acme/app")
		for _, apply := range []bool{false, true} {
			args := append([]string{"prune", "acme/app", "--keep", "pr-3", "--ndjson"}, goes...)
			want := map[string]int{"plan": 1, "blocked": 1}
			if apply {
				args = append(args, "--apply", "--yes")
				want = map[string]int{"blocked": 1, "result": 2, "end": 1}
			}
			got := map[string]int{}
			for line := range strings.Lines(b.must(args...)) {
				var one struct {
					Type, Ref, Rule, Reason, Why string
					Version                      int64
					Tags                         []string
				}
				if err := json.Unmarshal([]byte(line), &one); err != nil {
					t.Fatal(err)
				}
				got[one.Type]++
				if one.Type == "blocked" && (!slices.Equal(one.Tags, []string{"pr-3"}) || one.Rule != "tags" || one.Reason != "protected" || one.Version == 0 || !strings.Contains(one.Why, "protects") || !strings.HasPrefix(one.Ref, "ghcr.io/acme/app@sha256:")) {
					t.Errorf("%s", line)
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("apply %v: lines %v, want %v", apply, got, want)
			}
		}
	})
}

// TestRemovePackagesBrokenOff: a deletion that was sent is waited for, and what was not sent
// is skipped.
func TestRemovePackagesBrokenOff(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"under way": {Delay: 20 * time.Second},
		"limited":   {Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := several(t, "acme/a", "acme/b", "acme/c")
				fault.Role, fault.Method, fault.After = ghcrtest.RoleAPI, "DELETE", 1
				b.server.Inject(fault)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(10*time.Second, func() { cancel(errInterrupted{}) })
				b.ctx = ctx
				code, out, errs := b.run("rm", "--package", "acme/a", "acme/b", "acme/c", "--yes")
				want := "done\tghcr.io/acme/a\t5\ndone\tghcr.io/acme/b\t5\nskipped\tghcr.io/acme/c\t5\n"
				if name == "limited" {
					want = strings.Replace(want, "done\tghcr.io/acme/b", "skipped\tghcr.io/acme/b", 1)
				}
				if code != exitInterrupted || out != want {
					t.Errorf("exit code %d: %s%s", code, out, errs)
				}
			})
		})
	}
}
