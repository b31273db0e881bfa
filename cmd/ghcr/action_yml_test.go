package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// theAction is action.yml, as far as it is our own.
type theAction struct {
	Inputs map[string]struct {
		Required bool
		Default  string
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Steps []struct {
			ID, Run, Uses string
			Env, With     map[string]string
		}
	}
}

func readAction(t *testing.T) (a theAction, prune string, env map[string]string) {
	t.Helper()
	data, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &a); err != nil {
		t.Fatal(err)
	}
	for _, step := range a.Runs.Steps {
		if step.ID == "prune" {
			return a, step.Run, step.Env
		}
	}
	t.Fatal("action.yml has no step prune")
	return a, "", nil
}

// TestActionFile: each input reaches the script as a variable, none is put into its
// text, and each output is one that prune writes.
func TestActionFile(t *testing.T) {
	a, script, env := readAction(t)
	var used []string
	for _, step := range a.Runs.Steps {
		if strings.Contains(step.Run, "${{") {
			t.Errorf("a script has an expression in its text, which runs what it holds:\n%s", step.Run)
		}
	}
	for name, value := range env {
		if m := regexp.MustCompile(`^\$\{\{ inputs\.([a-z-]+) \}\}$`).FindStringSubmatch(value); m != nil {
			used = append(used, m[1])
			if name != "GHCR_TOKEN" && !strings.Contains(script, "$"+name) {
				t.Errorf("the script does not use %s", name)
			}
		}
	}
	for name := range a.Inputs {
		if !slices.Contains(used, name) {
			t.Errorf("the input %s is not used", name)
		}
	}
	written := (&pruneReport{}).outputs()
	for _, line := range strings.Split(strings.TrimSpace(written), "\n") {
		name, _, _ := strings.Cut(line, "=")
		if want := "${{ steps.prune.outputs." + name + " }}"; a.Outputs[name].Value != want {
			t.Errorf("the output %s is %q, want %q", name, a.Outputs[name].Value, want)
		}
	}
	if n := strings.Count(written, "\n"); n != len(a.Outputs) {
		t.Errorf("%d outputs are written, %d are declared", n, len(a.Outputs))
	}
}

// TestActionRuns: its script plans by default, deletes when it is told to, and takes no
// input for a command or, among packages, for a flag.
func TestActionRuns(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if runtime.GOOS == "windows" || err != nil {
		t.Skip("the action's script needs bash")
	}
	a, script, _ := readAction(t)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "ghcr-prune"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary is the command when it has its name; see TestMain.
	if err := os.Symlink(self, filepath.Join(dir, "ghcr-prune", "ghcr")); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken})
	for seed, tag := range []string{"v1", "v2", "v3", "pr-1", "pr-2"} {
		for _, repo := range []string{"acme/app", "acme/base"} {
			if err := w.server.Add(repo, tag, ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(seed), 100))); err != nil {
				t.Fatal(err)
			}
		}
	}
	tags := func(repo string) string {
		t.Helper()
		code, out, errs := w.run("ghp_alice", "ls", w.host+"/"+repo, "-q")
		if code != 0 {
			t.Fatalf("ls: %s", errs)
		}
		list := strings.Fields(out)
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	outputs := filepath.Join(dir, "outputs")
	act := func(inputs map[string]string) (code int, output string) {
		t.Helper()
		os.Remove(outputs)
		cmd := exec.CommandContext(t.Context(), bash, "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER_TEMP=" + dir, "GHCR_TOKEN=ghp_alice", "GHCR_REGISTRY=" + w.host, "XDG_CACHE_HOME=" + filepath.Join(dir, "ghcr-prune", "cache"),
			"GITHUB_ACTIONS=true", "CI=true", "GITHUB_OUTPUT=" + outputs, "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary.md")}
		for name, in := range a.Inputs {
			if name == "token" {
				continue
			}
			value, given := inputs[name]
			if !given {
				value = in.Default
			}
			if name == "flags" {
				value += "\n  --plain-http \r\n"
			}
			cmd.Env = append(cmd.Env, strings.ToUpper(name)+"="+value)
		}
		text, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(text)
	}
	const all, rest = "pr-1 pr-2 v1 v2 v3", "v1 v2 v3"
	prs := map[string]string{"packages": "acme/*\n!acme/base\n", "flags": "--tags=pr-*\n--max-percent=90"}
	with := func(name, value string) map[string]string {
		inputs := map[string]string{name: value}
		for k, v := range prs {
			if k != name {
				inputs[k] = v
			}
		}
		return inputs
	}

	if code, text := act(prs); code != 0 || tags("acme/app") != all {
		t.Fatalf("by default: exit code %d, left %q:\n%s", code, tags("acme/app"), text)
	}
	for _, file := range []string{outputs, filepath.Join(dir, "summary.md")} {
		if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), "2") {
			t.Errorf("%s: %v\n%s", file, err, data)
		}
	}
	for name, inputs := range map[string]map[string]string{
		"apply is neither":      with("apply", "yes"),
		"a word among flags":    with("flags", "--tags pr-*\nacme/base"),
		"a flag among packages": with("packages", "acme/app\n--i-mean-all"),
		"a command":             with("packages", "$(touch ran); touch ran; `touch ran`"),
		"no package":            with("packages", " \n"),
	} {
		code, text := act(inputs)
		if code != 2 {
			t.Errorf("%s: exit code %d:\n%s", name, code, text)
		}
		if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil || tags("acme/app") != all || tags("acme/base") != all {
			t.Errorf("%s: something was done", name)
		}
	}
	applied := map[string]string{"packages": "acme/app", "flags": prs["flags"], "apply": "true"}
	if code, text := act(with("apply", "true")); code != 2 || tags("acme/app") != all {
		t.Errorf("apply to what a glob finds: exit code %d:\n%s", code, text)
	}
	if code, text := act(applied); code != 0 || tags("acme/app") != rest || tags("acme/base") != all {
		t.Errorf("apply: exit code %d, left %q and %q:\n%s", code, tags("acme/app"), tags("acme/base"), text)
	}
	data, err := os.ReadFile(outputs)
	if err != nil || !strings.Contains(string(data), "\ndeleted=2\n") {
		t.Errorf("%v\n%s", err, data)
	}
	// What the next step keeps is what restore reads.
	pattern := ""
	for _, step := range a.Runs.Steps {
		if strings.HasPrefix(step.Uses, "actions/upload-artifact@") {
			pattern = strings.Replace(step.With["path"], "${{ runner.temp }}", dir, 1)
		}
	}
	kept, err := filepath.Glob(pattern)
	if err != nil || len(kept) != 1 || !strings.Contains(string(data), "\njournal="+kept[0]+"\n") {
		t.Errorf("kept are %v: %v", kept, err)
	}
}
