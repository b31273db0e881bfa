package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// TestPruneInActions: the step's summary, its outputs and its annotations.
func TestPruneInActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		if err := b.server.SetPackage(ghcrtest.Package{Name: "acme/app", Visibility: ghcrtest.Public}); err != nil {
			t.Fatal(err)
		}
		if err := b.server.SetDownloads("acme/app", "pr-1", 6000); err != nil {
			t.Fatal(err)
		}
		maps.Copy(b.env, map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "summary.md", "GITHUB_OUTPUT": "output"})
		write(t, "output", "before=1\n")
		code, _, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--keep", "pr-3", "--max-percent", "90", "--apply", "--yes", "--journal", "run.journal")
		if code != exitPartly {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		outputs, err := os.ReadFile("output")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"before=1\n", "to-delete=2\n", "\ndeleted=1\n", "failed=0\n", "blocked=2\n", "kept=3\n", "plan-digest=sha256:", "freed-bytes=\n", "journal=run.journal\n"} {
			if !strings.Contains(string(outputs), want) {
				t.Errorf("no %q in %s", want, outputs)
			}
		}
		summary, err := os.ReadFile("summary.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"### Prune: 1 version deleted, 1 blocked", "| ghcr.io/acme/app | 5 | 2 |", "1 action not done", "more than 5000 downloads", "ghcr restore --from run.journal"} {
			if !strings.Contains(string(summary), want) {
				t.Errorf("no %q in %s", want, summary)
			}
		}
		// What GitHub refuses, and what a rule would delete and was kept from.
		for _, want := range []string{"::warning title=ghcr prune::ghcr.io/acme/app@sha256:", "::warning title=ghcr prune::ghcr.io/acme/app pr-3: rule "} {
			if !strings.Contains(errs, want) {
				t.Errorf("no %q in %s", want, errs)
			}
		}
	})
}

// TestAnnotationsAreFew: GitHub shows ten of a kind, and none of what follows.
func TestAnnotationsAreFew(t *testing.T) {
	var b strings.Builder
	texts := make([]string, 40)
	for i := range texts {
		texts[i] = fmt.Sprintf("line %d\n::error::%%", i)
	}
	annotations(&b, "warning", texts)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != maxAnnotations || !strings.Contains(lines[9], "and 31 more") || lines[0] != "::warning title=ghcr prune::line 0%0A::error::%25" {
		t.Errorf("got %q", lines)
	}
	b.Reset()
	annotations(&b, "warning", texts[:10])
	if strings.Count(b.String(), "\n") != 10 || strings.Contains(b.String(), "more") {
		t.Errorf("got %q", b.String())
	}
}

// hostileReport is a plan with texts that try to be more than texts.
func hostileReport() *pruneReport {
	plan := &retain.Plan{Host: "ghcr.io", Owner: "acme", Package: "app", Schema: retain.PlanSchema}
	evil := "x\x1b[31m|<img src=x>`@acme` \n::error::y\u202e"
	for i := range 20_000 {
		plan.Actions = append(plan.Actions, retain.Action{Do: retain.Delete, Version: int64(i + 1), Digest: ghcrtest.NewImage("linux/amd64").Digest(), Tags: []string{evil}, Rule: evil, Reason: retain.ReasonRule})
		plan.Kept = append(plan.Kept, retain.Decision{Version: int64(i + 100_000), Tags: []string{evil}, Reason: retain.ReasonLastTagged, Blocked: evil})
	}
	return newPruneReport(&planSet{list: []*planned{{plan: plan}}})
}

// TestHostileTagsAreText: what others wrote neither controls a terminal nor becomes
// Markdown, HTML or a workflow command, and a summary stays below its limit.
func TestHostileTagsAreText(t *testing.T) {
	r := hostileReport()
	text := r.markdown(maxSummary)
	if len(text) > maxSummary {
		t.Errorf("the summary has %d bytes", len(text))
	}
	if !strings.Contains(text, "rows left out") {
		t.Error("it does not say that it was cut")
	}
	var commands strings.Builder
	r.annotate(&commands)
	for line := range strings.Lines(commands.String()) {
		if !strings.HasPrefix(line, "::warning title=ghcr prune::") {
			t.Errorf("a command of its own: %q", line)
		}
	}
	out := text + commands.String()
	for _, p := range r.list {
		for _, rows := range [][][]string{p.table(0), p.keptRows(true), p.keptGroups(false), p.plain(true)} {
			for _, row := range rows[:min(3, len(rows))] {
				out += strings.Join(row, "|")
			}
		}
	}
	for _, bad := range []string{"\x1b", "\u202e"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is printed as it is", bad)
		}
	}
	for _, bad := range []string{"<img", "`@acme", "x|<"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is Markdown", bad)
		}
	}
}

// TestLongTablesAreShort: a table names some of the images, and never leaves out how many
// more there are.
func TestLongTablesAreShort(t *testing.T) {
	plan := &retain.Plan{Host: "ghcr.io", Owner: "acme", Package: "app"}
	for i := range 3000 {
		for _, do := range []retain.Verb{retain.Delete, retain.Untag} {
			plan.Actions = append(plan.Actions, retain.Action{Do: do, Digest: digest.FromString(fmt.Sprint(do, i)), Tags: []string{"x"}, Off: []string{"x"}, Rule: "r"})
		}
	}
	text := fmt.Sprint((&planned{plan: plan}).table(maxShown))
	if strings.Count(text, "and 2990 more") != 2 || strings.Count(text, "rule r") != 22 {
		t.Errorf("got %s", text)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		for i := range 60 {
			if err := b.server.Add("acme/app", fmt.Sprint("pr-", i), ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i), 10))); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &bytes.Buffer{}, getenv: func(name string) string { return map[string]string{"GHCR_TOKEN": b.token}[name] }, network: b.server.Transport(), tables: true}
		code := a.run(t.Context(), []string{"prune", "acme/app", "--tags", "pr-?,pr-??", "--except", "pr-0", "--max-percent", "100", "--apply", "--yes", "--budget-deletes", "2", "--journal", "j"})
		if code != exitPartly || strings.Count(out.String(), "\n") != 1+maxHeld+1 || !strings.Contains(out.String(), "and 17 more") {
			t.Errorf("exit code %d:\n%s", code, out.String())
		}
	})
}

// TestUnplannedPackagesAreTold: a package that could not be looked at is in all that is
// printed, and not taken for one without anything to do.
func TestUnplannedPackagesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		b.env["GITHUB_ACTIONS"], b.env["GITHUB_STEP_SUMMARY"], b.env["GITHUB_OUTPUT"] = "true", "summary.md", "output"
		code, out, errs := b.run("prune", "acme/app", "acme/none", "--tags", "zzz", "--jq", ".unplanned[].package")
		if code != exitPartly || out != "ghcr.io/acme/none\n" {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
		for name, want := range map[string]string{"summary.md": "> **Not planned** ghcr.io/acme/none: ", "output": "unplanned=1\n"} {
			if data, err := os.ReadFile(name); err != nil || !strings.Contains(string(data), want) {
				t.Errorf("%s, %v: no %q in:\n%s", name, err, want, data)
			}
		}
		if code, out, _ := b.run("prune", "acme/app", "acme/none", "--tags", "zzz", "--markdown"); code != exitPartly || !strings.Contains(out, "### Prune plan: nothing to do with 5 versions; 1 package could not be planned\n") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}
