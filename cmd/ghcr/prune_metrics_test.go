package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// expose reads a text file as a collector does, strictly: HELP, TYPE, then all samples of
// the metric, no time, one label set once, a line break at the end.
func expose(t *testing.T, name string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o044 != 0o044 {
		t.Errorf("others can't read it: %v, %v", info.Mode(), err)
	}
	entries, err := fs.Glob(os.DirFS("."), ".new-*")
	if err != nil || len(entries) != 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
	line := regexp.MustCompile(`^([a-z_:]+)(\{(package="[^"]*")?,?(outcome="[a-z-]*")?\})? (-?[0-9.]+)$`)
	values := map[string]string{}
	metric, seen := "", map[string]bool{}
	if !strings.HasSuffix(string(data), "\n") {
		t.Error("it does not end with a line break")
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if rest, ok := strings.CutPrefix(lines[i], "# HELP "); ok {
			metric, _, _ = strings.Cut(rest, " ")
			if seen[metric] || !strings.HasPrefix(metric, "ghcr_prune_") {
				t.Errorf("%s comes twice, or is not ours", metric)
			}
			seen[metric] = true
			if i++; lines[i] != "# TYPE "+metric+" gauge" {
				t.Errorf("%q follows %s", lines[i], metric)
			}
			continue
		}
		m := line.FindStringSubmatch(lines[i])
		if m == nil || m[1] != metric {
			t.Errorf("%q is no sample of %s", lines[i], metric)
			continue
		}
		key := strings.TrimPrefix(m[1], "ghcr_prune_") + m[2]
		if _, twice := values[key]; twice {
			t.Errorf("%s comes twice", key)
		}
		values[key] = m[5]
	}
	return values
}

// TestPruneMetrics: the figures of a run are those of its report, whatever became of it.
func TestPruneMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		run := func(want int, args ...string) (values map[string]string) {
			t.Helper()
			code, out, errs := b.run(append([]string{"prune", "acme/app", "--tags", "pr-*", "--keep", "pr-3", "--max-percent", "90", "--metrics", "ghcr.prom"}, args...)...)
			if code != want {
				t.Fatalf("exit code %d: %s%s", code, out, errs)
			}
			return expose(t, "ghcr.prom")
		}
		has := func(values map[string]string, want ...string) {
			t.Helper()
			for i := 0; i < len(want); i += 2 {
				if values[want[i]] != want[i+1] {
					t.Errorf("%s is %q, want %q", want[i], values[want[i]], want[i+1])
				}
			}
		}
		app := `{package="ghcr.io/acme/app"}`
		planned := run(0)
		has(planned, "exit_code", "0", "applied", "0", "package_planned"+app, "1", "versions"+app, "5", "versions_to_delete"+app, "2", "versions_kept"+app, "3",
			"versions_blocked"+app, "1", "plan_refused"+app, "0", "versions_unreadable"+app, "0")
		for key := range planned {
			if strings.HasPrefix(key, "actions") || strings.HasPrefix(key, "versions_deleted") {
				t.Errorf("%s of a plan", key)
			}
		}
		has(run(exitFindings, "--max-deletes", "1"), "exit_code", "8", "plan_refused"+app, "1")

		b.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", Status: 400, Body: `{"message":"Publicly visible package versions with more than 5000 downloads cannot be deleted."}`})
		done := run(exitPartly, "--apply", "--yes", "--journal", "run.journal")
		of := func(outcome string) string {
			return `actions{package="ghcr.io/acme/app",outcome="` + outcome + `"}`
		}
		has(done, "exit_code", "3", "applied", "1", "versions_deleted"+app, "1", of("done"), "1", of("blocked"), "1", of("skipped"), "0", of("failed"), "0", of("unknown"), "0")

		// A run that came to nothing is told too: the figures of the last one would hide it.
		b.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Status: 404, Body: `{"message":"Not Found"}`, Times: -1})
		failed := run(exitNotFound)
		has(failed, "exit_code", "5", "applied", "0")
		if len(failed) != 4 {
			t.Errorf("figures of nothing: %v", failed)
		}
		b.server.ClearFaults()

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(errInterrupted{}) })
		b.ctx = ctx
		b.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", Status: 403, Body: `{"message":"You have exceeded a secondary rate limit."}`, Times: -1})
		began := time.Now()
		off := run(exitInterrupted, "--apply", "--yes", "--journal", "second.journal")
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it ended %s after it was broken off", took-10*time.Second)
		}
		has(off, "exit_code", "130", "applied", "1", "versions_deleted"+app, "0", of("done"), "0", of("skipped"), "1", of("failed"), "0", "duration_seconds", "10")
	})
}

// errInterrupted is what os/signal says of ctrl-C.
type errInterrupted struct{}

func (errInterrupted) Error() string        { return "interrupt signal received" }
func (errInterrupted) Is(target error) bool { return target == context.Canceled }

// TestMetricsThatCanNotBeWritten are an error, and what is in the way is left alone.
func TestMetricsThatCanNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		code, _, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--max-percent", "90", "--metrics", "nowhere/ghcr.prom")
		if code != exitFailure || !strings.Contains(errs, "--metrics") {
			t.Errorf("exit code %d: %s", code, errs)
		}
		if err := os.MkdirAll("dir.prom/x", 0o755); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--max-percent", "90", "--metrics", "dir.prom"); code != exitFailure {
			t.Errorf("exit code %d: %s", code, errs)
		}
		if _, err := os.Stat("dir.prom/x"); errors.Is(err, fs.ErrNotExist) {
			t.Error("the directory is gone")
		}
		if code, _, _ := b.run("prune", "--policy-check", "--policy", "x", "--metrics", "ghcr.prom"); code != exitUsage {
			t.Errorf("exit code %d", code)
		}
	})
}
