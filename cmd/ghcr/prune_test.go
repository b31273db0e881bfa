package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/retain"
)

// bubble is an emulated GHCR in virtual time, and the command on it.
type bubble struct {
	t      *testing.T
	server *ghcrtest.Server
	ctx    context.Context
	token  string
	env    map[string]string
	stdin  string
}

func newBubble(t *testing.T, opts ghcrtest.Options) *bubble {
	t.Helper()
	t.Chdir(t.TempDir())
	server, err := ghcrtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bubble{t: t, server: server, ctx: t.Context(), token: ghcrtest.Token, env: map[string]string{"CI": "1", "XDG_CACHE_HOME": "cache"}}
}

func (b *bubble) run(args ...string) (code int, stdout, stderr string) {
	b.t.Helper()
	var out, errs bytes.Buffer
	getenv := func(name string) string {
		if name == "GHCR_TOKEN" {
			return b.token
		}
		return b.env[name]
	}
	a := &app{stdin: strings.NewReader(b.stdin), stdout: &out, stderr: &errs, getenv: getenv, network: b.server.Transport()}
	code = a.run(b.ctx, args)
	return code, out.String(), errs.String()
}

func (b *bubble) must(args ...string) string {
	b.t.Helper()
	code, out, errs := b.run(args...)
	if code != 0 {
		b.t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// fill makes a package: v1 and v2 stay, pr-1 to pr-3 may go. All are images.
func (b *bubble) fill(repo string) {
	b.t.Helper()
	for i, tag := range []string{"v1", "v2", "pr-1", "pr-2", "pr-3"} {
		if err := b.server.Add(repo, tag, ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i+1), 10))); err != nil {
			b.t.Fatal(err)
		}
	}
}

// change writes a plan anew that somebody has changed.
func (b *bubble) change(name string, change func(*retain.Plan)) {
	b.t.Helper()
	set, err := readPlans(name)
	if err != nil {
		b.t.Fatal(err)
	}
	change(set.list[0].plan)
	if err := set.list[0].plan.Seal(); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		b.t.Fatal(err)
	}
	if err := set.save(name); err != nil {
		b.t.Fatal(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPruneExitCodes is the table of exit codes: each row is a reason for which a run
// ends, with what it says to do next.
func TestPruneExitCodes(t *testing.T) {
	pr := []string{"prune", "acme/app", "--tags", "pr-*", "--max-percent", "90"}
	apply := append(slices.Clone(pr), "--apply", "--yes", "--journal", "run.journal")
	saved := []string{"prune", "--plan", "plan.json", "--apply", "--yes"}
	save := func(b *bubble) { b.must(append(slices.Clone(pr), "--save-plan", "plan.json")...) }
	deletion := ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE"}
	fault := func(f ghcrtest.Fault) func(*bubble) {
		return func(b *bubble) { b.server.Inject(f) }
	}
	refused := deletion
	refused.Status, refused.Body, refused.Times = 400, `{"message":"no"}`, -1
	oneRefused := refused
	oneRefused.Times = 1
	hidden := deletion
	hidden.Status, hidden.Body, hidden.Times = 404, `{"message":"Not Found"}`, -1
	limited := deletion
	limited.Status, limited.Body, limited.Times = 403, `{"message":"You have exceeded a secondary rate limit."}`, -1
	slow := deletion
	slow.Delay = 2 * time.Second
	policy := func(text string) func(*bubble) {
		return func(b *bubble) { write(b.t, "policy.yaml", text) }
	}
	byPolicy := []string{"prune", "acme/app", "--policy", "policy.yaml"}
	const rule = "version: 1\nrules:\n  - name: x\n    match: {tags: \"pr-*\"}\n    delete: all\n"
	for name, test := range map[string]struct {
		code   int
		says   string // on stderr
		before func(*bubble)
		args   []string
	}{
		"plan with changes":   {0, "nothing was changed", nil, pr},
		"nothing to do":       {0, "nothing to do", nil, []string{"prune", "acme/app", "--tags", "zzz"}},
		"changes asked for":   {8, "3 actions to be done", nil, append(slices.Clone(pr), "--exit-code")},
		"all done":            {0, "3 of 3 actions done", nil, apply},
		"already gone":        {0, "3 already-gone", func(b *bubble) { save(b); b.must(apply...) }, saved},
		"policy is invalid":   {2, "policy.yaml:6:5", policy(rule + "    bad: 1\n"), byPolicy},
		"policy is missing":   {2, "no such file", nil, byPolicy},
		"empty item":          {2, "empty item", nil, []string{"prune", "acme/app", "--tags", "a,,b"}},
		"every tag":           {2, "--i-mean-all", nil, []string{"prune", "acme/app", "--tags", "*"}},
		"bad flag":            {2, "did you mean --older-than", nil, []string{"prune", "acme/app", "--older-then", "3d"}},
		"unknown plan schema": {2, "schema", func(b *bubble) { write(b.t, "plan.json", `{"schema":"ghcr-plans/9","plans":[]}`) }, saved},
		"other host": {2, "of another package", func(b *bubble) {
			save(b)
			b.change("plan.json", func(p *retain.Plan) { p.Host = "containers.example.com" })
		}, saved},
		"other owner":       {2, "of another package", func(b *bubble) { save(b); b.change("plan.json", func(p *retain.Plan) { p.OwnerID++ }) }, saved},
		"other package":     {2, "of another package", func(b *bubble) { save(b); b.change("plan.json", func(p *retain.Plan) { p.PackageID++ }) }, saved},
		"policy for others": {2, "the policy is for acme/other", policy("packages: [acme/other]\n" + rule), byPolicy},
		"one failed":        {3, "1 failed", fault(oneRefused), apply},
		"one changed":       {3, "1 changed", func(b *bubble) { save(b); b.must("tag", "acme/app:pr-1", "kept") }, saved},
		"one blocked by GitHub": {3, "1 blocked", func(b *bubble) {
			if err := b.server.SetPackage(ghcrtest.Package{Name: "acme/app", Visibility: ghcrtest.Public}); err != nil {
				b.t.Fatal(err)
			}
			if err := b.server.SetDownloads("acme/app", "pr-1", 6000); err != nil {
				b.t.Fatal(err)
			}
		}, apply},
		"all failed":          {1, "3 failed", fault(refused), apply},
		"blocked by the plan": {0, "nothing to do", policy(rule + "protect: {tags: \"pr-*\"}\n"), append(slices.Clone(byPolicy), "--apply", "--yes")},
		"budget of deletions": {3, "ghcr prune --resume run.journal --apply", nil, append(slices.Clone(apply), "--budget-deletes", "1")},
		"budget of requests":  {3, "ghcr prune --resume run.journal --apply", nil, append(slices.Clone(apply), "--budget-requests", "2")},
		"budget of time":      {3, "ghcr prune --resume run.journal --apply", fault(slow), append(slices.Clone(apply), "--max-time", "1s")},
		"limit":               {6, "ghcr prune --resume run.journal --apply", fault(limited), append(slices.Clone(apply), "--max-wait", "1s")},
		"no login":            {4, "GHCR_TOKEN", func(b *bubble) { b.token = "" }, apply},
		"no scope":            {4, "delete:packages", func(b *bubble) { b.token = "ghp_reader" }, apply},
		"no permission":       {4, "Admin", fault(hidden), apply},
		"one of two packages": {3, "acme/app2", func(b *bubble) { b.fill("acme/app2"); f := hidden; f.Repo = "acme/app2"; b.server.Inject(f) },
			[]string{"prune", "acme/app", "acme/app2", "--tags", "pr-*", "--max-percent", "90", "--apply", "--yes"}},
		"no package":            {5, "not found", nil, []string{"prune", "acme/none", "--tags", "x"}},
		"nothing to explain":    {5, "no version has that tag", nil, append(slices.Clone(pr), "--explain", "zzz")},
		"no tag to take off":    {5, "zzz", nil, []string{"untag", "acme/app:zzz", "--yes"}},
		"no version to restore": {5, "30 days", nil, []string{"restore", "acme/app#1"}},
		"plan is damaged":       {7, "it was altered", func(b *bubble) { save(b); damage(b.t, "plan.json", `"pr-1"`, `"pr-9"`) }, saved},
		"snapshot is damaged": {7, "digest", func(b *bubble) {
			b.must("prune", "acme/app", "--save-snapshot", "s")
			damage(b.t, "s", `"pr-1"`, `"pr-9"`)
		},
			[]string{"prune", "--snapshot", "s", "--tags", "pr-*"}},
		"journal is damaged": {7, "line 2", func(b *bubble) { b.must(apply...); damage(b.t, "run.journal", "begun", "begum") },
			[]string{"prune", "--resume", "run.journal"}},
		"undo is damaged":      {7, "line 2", func(b *bubble) { b.must(apply...); damage(b.t, "run.journal", "begun", "begum") }, []string{"restore", "--from", "run.journal"}},
		"rail of the number":   {8, "max-delete: 3 versions", nil, append(slices.Clone(apply), "--max-deletes", "2")},
		"rail of the share":    {8, "max-delete-percent", nil, []string{"prune", "acme/app", "--tags", "pr-*", "--apply", "--yes"}},
		"rail of what is left": {8, "min-remaining", nil, append(slices.Clone(apply), "--min-remaining", "3")},
		"rail, planned":        {8, "max-delete", nil, append(slices.Clone(pr), "--max-deletes", "2")},
		"expired":              {8, "it has expired", func(b *bubble) { save(b); time.Sleep(25 * time.Hour) }, saved},
		"not confirmed":        {8, "agreed to", save, []string{"prune", "--plan", "plan.json", "--apply", "--confirm", "sha256:" + strings.Repeat("0", 64)}},
		"list does not rest":   {8, "run it again", fault(ghcrtest.Fault{Route: ghcrtest.RouteVersions, Times: -1, Action: ghcrtest.ActionAddVersion}), pr},
		"last tagged": {8, "last tagged", func(b *bubble) {
			if err := b.server.Add("acme/one", "v1", ghcrtest.NewImage("linux/amd64")); err != nil {
				b.t.Fatal(err)
			}
		}, []string{"untag", "acme/one:v1", "--yes"}},
		"policy test fails": {8, "not as wanted", policy(rule + "tests: [{name: t, images: [{tags: [pr-1], want: keep}]}]\n"), []string{"policy", "test", "policy.yaml"}},
		"finding":           {8, "finding", policy("defaults: {max_delete: 0}\n" + rule), []string{"policy", "check", "policy.yaml", "--exit-code"}},
		"restored in part": {3, "", func(b *bubble) {
			b.must(apply...)
			time.Sleep(29 * 24 * time.Hour)
			b.must("rm", "acme/app:v2", "--yes", "--undo", "undo.json")
			time.Sleep(2 * 24 * time.Hour)
		},
			[]string{"restore", "--from", "run.journal", "--from", "undo.json"}},
		"too late to restore": {5, "30 days", func(b *bubble) { b.must(apply...); time.Sleep(31 * 24 * time.Hour) }, []string{"restore", "--from", "run.journal"}},
		"interrupted": {130, "interrupted", func(b *bubble) {
			ctx, cancel := context.WithCancel(b.ctx)
			b.ctx = ctx
			f := deletion
			f.Do = func(*ghcrtest.Server) { cancel() }
			b.server.Inject(f)
		}, apply},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, ghcrtest.Options{Accounts: append(slices.Clone(everyToken), ghcrtest.Account{Login: "simulated", Token: ghcrtest.Token})})
				b.fill("acme/app")
				time.Sleep(24 * time.Hour)
				if test.before != nil {
					test.before(b)
				}
				code, out, errs := b.run(test.args...)
				if code != test.code || !strings.Contains(errs, test.says) {
					t.Errorf("exit code %d, want %d, and %q in:\n%s%s", code, test.code, test.says, out, errs)
				}
			})
		})
	}
}

func damage(t *testing.T, name, old, new string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s has no %s: %v", name, old, err)
	}
	if err := os.WriteFile(name, bytes.Replace(data, []byte(old), []byte(new), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInterruptedPruneGoesOn: what was under way when somebody broke it off is done and
// written down, and the rest is done by the command that it prints.
func TestInterruptedPruneGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		ctx, cancel := context.WithCancel(b.ctx)
		b.ctx = ctx
		b.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", After: 1, Do: func(*ghcrtest.Server) { cancel() }})
		code, out, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--max-percent", "90", "--apply", "--yes", "--journal", "run.journal")
		if code != exitInterrupted || strings.Count(out, "done\t") != 2 || strings.Count(out, "skipped\t") != 1 {
			t.Errorf("exit code %d:\n%s%s", code, out, errs)
		}
		for _, want := range []string{"ghcr restore --from run.journal", "ghcr prune --resume run.journal --apply"} {
			if !strings.Contains(errs, want) {
				t.Errorf("no %q in %s", want, errs)
			}
		}
		b.ctx = t.Context()
		if out := b.must("prune", "--resume", "run.journal", "--apply", "--yes"); strings.Count(out, "done\t") != 3 {
			t.Errorf("resumed: %s", out)
		}
		if out := b.must("ls", "acme/app", "-q"); strings.Contains(out, "pr-") {
			t.Errorf("left: %s", out)
		}
	})
}

// TestInUseFiles: globs find files, links don't lead out of what was named, and a glob
// that finds none is refused, for it would protect nothing.
func TestInUseFiles(t *testing.T) {
	tree := fstest.MapFS{}
	for _, name := range []string{"a.yaml", "deploy/b.yaml", "deploy/x/c.yaml", "deploy/x/y/d.yaml", "deploy/e.txt"} {
		tree[name] = &fstest.MapFile{}
	}
	for glob, want := range map[string][]string{
		"a.yaml":           {"a.yaml"},
		"*.yaml":           {"a.yaml"},
		"deploy/*.yaml":    {"deploy/b.yaml"},
		"deploy/**/*.yaml": {"deploy/b.yaml", "deploy/x/c.yaml", "deploy/x/y/d.yaml"},
		"**/c.yaml":        {"deploy/x/c.yaml"},
		"deploy/**":        {"deploy/b.yaml", "deploy/e.txt", "deploy/x/c.yaml", "deploy/x/y/d.yaml"},
		"deploy/?/c.yaml":  {"deploy/x/c.yaml"},
		"deploy":           nil,
		"none/*":           nil,
	} {
		if got, err := expand(tree, glob); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", glob, got, err, want)
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "ghcr.io/acme/app:v1")
	write(t, filepath.Join(dir, "deploy", "ok.yaml"), "ghcr.io/acme/app:v2")
	if err := os.Symlink("../secret", filepath.Join(dir, "deploy", "link.yaml")); err != nil {
		t.Skip(err)
	}
	facts := &factFiles{}
	if err := facts.search(filepath.Join(dir, "deploy", "*.yaml")); err == nil || exitCode(err) != exitUsage {
		t.Errorf("a link that leads out: %v", err)
	}
	if err := facts.search(filepath.Join(dir, "deploy", "*.yml")); err == nil || exitCode(err) != exitUsage {
		t.Errorf("no file: %v", err)
	}
	if err := facts.search(filepath.Join(dir, "deploy", "ok.*")); err != nil || len(facts.inUse) != 1 {
		t.Errorf("got %v, %v", facts.inUse, err)
	}
}

// TestWhatIsInUseStays: a file that names an image keeps it, with all that it is made of.
func TestWhatIsInUseStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		write(t, "k8s/app.yaml", "image: ghcr.io/acme/app:pr-2\nother: ghcr.io/acme/app:${TAG}\n")
		code, out, errs := b.run("prune", "acme/app", "--tags", "pr-*", "--max-percent", "90", "--in-use", "k8s/**/*.yaml", "--json")
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		var report pruneReport
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(err)
		}
		if report.Totals.Delete != 2 || report.Totals.Held != 1 || !strings.Contains(errs, "whose tag is not known here") {
			t.Errorf("got %+v\n%s", report.Totals, errs)
		}
	})
}

// TestPruneAsks: what is asked about is what is done, and no is no.
func TestPruneAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		for answer, code := range map[string]int{"n\n": exitFailure, "": exitFailure} {
			var out, errs bytes.Buffer
			a := &app{stdin: strings.NewReader(answer), stdout: &out, stderr: &errs, getenv: func(name string) string { return map[string]string{"GHCR_TOKEN": b.token}[name] }, network: b.server.Transport(), asks: true}
			if got := a.run(t.Context(), []string{"prune", "acme/*", "--tags", "pr-*", "--max-percent", "90", "--apply"}); got != code || !strings.Contains(errs.String(), "delete 3 of 5 versions in 1 package? [y/N]") {
				t.Errorf("%q: exit code %d\n%s", answer, got, errs.String())
			}
		}
		if out := b.must("ls", "acme/app", "-q"); strings.Count(out, "\n") != 5 {
			t.Errorf("left: %s", out)
		}
	})
}

// TestPolicyOfTheHelp: what help shows is a policy, and its tests pass.
func TestPolicyOfTheHelp(t *testing.T) {
	_, text, _ := strings.Cut(policyText, "\n\n")
	text, _, _ = strings.Cut(text, "\n\n")
	policy, err := retain.Parse("help", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	results, err := retain.RunTests(policy, time.Now())
	if err != nil || len(results) == 0 {
		t.Fatal(results, err)
	}
	for _, r := range results {
		if !r.Passed {
			t.Error(r)
		}
	}
}

// TestRemoveUnreadable: before and after, rm says what may be left of what it can't read.
func TestRemoveUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, ghcrtest.Options{})
		b.fill("acme/app")
		child := ghcrtest.NewImage("linux/riscv64")
		broken := ghcrtest.NewIndex(child)
		if err := b.server.Add("acme/app", "", broken); err != nil {
			t.Fatal(err)
		}
		b.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "GET", Ref: broken.Digest().String(), Status: 404, Times: -1})
		code, out, errs := b.run("rm", "acme/app@"+broken.Digest().String(), "--yes", "--json")
		if code != 0 || !strings.Contains(out, `"unread": "get manifest`) {
			t.Errorf("exit code %d: %s", code, out)
		}
		for _, want := range []string{"it can't be read: what it lists is not known, and stays", shortDigest(child.Digest()), "1 manifest without a tag that may be part of it stay: ghcr ls acme/app --untagged"} {
			if !strings.Contains(errs, want) {
				t.Errorf("no %q in %s", want, errs)
			}
		}
	})
}
