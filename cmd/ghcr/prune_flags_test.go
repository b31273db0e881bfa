package main

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestPruneRefusesWhatIsNotMeant: a variable that was not set, quotes that a shell has left
// on, and flags that would be passed over are errors before anything is asked of anybody.
func TestPruneRefusesWhatIsNotMeant(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		says string
		args []string
	}{
		{"--confirm is empty", []string{"--plan", "p", "--apply", "--yes", "--confirm", ""}},
		{"--archive is empty", []string{"acme/app", "--tags", "x", "--apply", "--yes", "--archive="}},
		{"--plan is empty", []string{"acme/app", "--tags", "x", "--plan", "", "--apply", "--yes"}},
		{"--save-plan is empty", []string{"acme/app", "--tags", "x", "--save-plan", ""}},
		{"--policy is empty", []string{"acme/app", "--policy", "", "--untagged"}},
		{"--at is empty", []string{"acme/app", "--tags", "x", "--at", ""}},
		{"--per is empty", []string{"acme/app", "--keep-versions", "3", "--per", ""}},
		{"--journal is empty", []string{"acme/app", "--tags", "x", "--journal", ""}},
		{`"" for "--keep-last"`, []string{"acme/app", "--keep-last", ""}},
		{`"" for "--max-deletes"`, []string{"acme/app", "--tags", "x", "--max-deletes", ""}},
		{"want a number", []string{"acme/app", "--tags", "x", "--max-deletes", "5\n7"}},
		{"quotes", []string{"acme/app", "--tags", "x", "--keep", "'v*'"}},
		{"quotes", []string{"acme/app", "--tags", `"x"`}},
		{"quotes", []string{"'acme/*'", "--tags", "x"}},
		{"--resume has the plan", []string{"--resume", "j", "--in-use", "deploy/*", "--apply", "--yes"}},
		{"--resume has the plan", []string{"--resume", "j", "--max-deletes", "5", "--apply", "--yes"}},
		{"--resume has the plan", []string{"--resume", "j", "--save-plan", "p"}},
		{"--diff compares files", []string{"--diff", "x", "y", "--save-plan", "p"}},
		{"--diff compares files", []string{"--diff", "x", "y", "--snapshot", "s"}},
		{"--policy-check changes nothing", []string{"acme/app", "--policy", "p", "--policy-check", "--apply"}},
	} {
		code, out, errs := runSim(t, "box", append([]string{"prune"}, test.args...)...)
		if code != exitUsage || !strings.Contains(errs, test.says) {
			t.Errorf("%q: exit code %d, want %q in:\n%s%s", test.args, code, test.says, out, errs)
		}
	}
}

// TestExplainSavesThePlan: the plan that was explained is the one that is kept.
func TestExplainSavesThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		b.must("prune", "acme/app", "--tags", "pr-*", "--max-percent", "90", "--explain", "v1", "--save-plan", "plan.json")
		b.must("prune", "--plan", "plan.json")
	})
}

// TestWhoIsAskedSeesThePlan: what goes, what it costs and what is in the way is there before
// the question, with --quiet too, and when a run is taken up again.
func TestWhoIsAskedSeesThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		ask := func(want []string, args ...string) {
			t.Helper()
			var out, errs bytes.Buffer
			a := &app{stdin: strings.NewReader("n\n"), stdout: &out, stderr: &errs, getenv: func(name string) string { return map[string]string{"GHCR_TOKEN": b.token}[name] }, network: b.server.Transport(), asks: true}
			code := a.run(t.Context(), args)
			before, _, asked := strings.Cut(errs.String(), "[y/N]")
			if code != exitFailure || !asked {
				t.Fatalf("%v: exit code %d\n%s", args, code, errs.String())
			}
			for _, text := range want {
				if !strings.Contains(before, text) {
					t.Errorf("%v: no %q before the question:\n%s", args, text, before)
				}
			}
		}
		prune := []string{"prune", "acme/app", "--tags", "pr-*", "--keep", "pr-3", "--max-percent", "90", "--apply"}
		plan := []string{"delete   pr-1", "delete   pr-2", "blocked  pr-3", "frees up to", "3 requests"}
		ask(plan, prune...)
		ask(plan, append(prune, "--quiet")...)
		ask([]string{"pr-1"}, "rm", "acme/app:pr-1", "--quiet")
		if code, _, errs := b.run(append(prune, "--yes", "--budget-deletes", "1", "--journal", "my run")...); code != exitPartly || runtime.GOOS != "windows" && !strings.Contains(errs, "ghcr restore --from 'my run'") {
			t.Errorf("exit code %d: %s", code, errs)
		}
		ask([]string{"pr-2"}, "prune", "--resume", "my run", "--apply", "--quiet")
	})
}

// TestMistypedPatternsAreTold: a pattern of the flags that matches no tag protects nothing,
// or has nothing go, and that is said.
func TestMistypedPatternsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		_, _, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--keep", "rel-*,pr-1", "--max-percent", "90")
		if strings.Count(errs, "note:") != 1 || !strings.Contains(errs, "rel-* matches none of 5 tags") {
			t.Errorf("got %s", errs)
		}
		write(t, "policy.yaml", "version: 1\nprotect: {tags: rel-*}\nrules: [{name: x, match: {tags: pr-1}, delete: all}]\n")
		if _, _, errs := b.run("prune", "acme/app", "--policy", "policy.yaml"); strings.Contains(errs, "note:") {
			t.Errorf("a policy may have patterns for what comes: %s", errs)
		}
	})
}

// TestRestoreDryRunOfWhatIsThere: what was never deleted is not told as lost for good.
func TestRestoreDryRunOfWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		b.must("prune", "acme/app", "--tags", "pr-1", "--save-plan", "plan.json")
		if out := b.must("restore", "--from", "plan.json", "--dry-run"); !strings.Contains(out, "\tpr-1\tit is there already") {
			t.Errorf("got %s", out)
		}
	})
}
