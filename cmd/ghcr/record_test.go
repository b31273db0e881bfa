package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// noNetwork fails the test when anything is sent.
func noNetwork(t *testing.T) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		t.Errorf("%s %s went out", req.Method, req.URL)
		return nil, errors.New("there is no network")
	})
}

// runOff runs the command where there is no network and no login.
func runOff(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, network: noNetwork(t), getenv: func(string) string { return "" }}
	code = a.run(t.Context(), args)
	return code, out.String(), errs.String()
}

// chance is what differs between two runs.
var chance = regexp.MustCompile(`in [0-9.]+m?s\b|--from \S*acme-prod-\S*|plan sha256:[0-9a-f]+`)

// TestReplaysTheDemo: all of the demo is replayed without network, emulator and login,
// and prints the same, every time.
func TestReplaysTheDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	code, recorded, stderr := runOff(t, "demo", "--record", dir)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, recorded, stderr)
	}
	if _, plain, _ := runOff(t, "demo"); chance.ReplaceAllString(plain, "") != chance.ReplaceAllString(recorded, "") {
		t.Errorf("recording changes what it does:\n%s", recorded)
	}
	times := 20
	if testing.Short() {
		times = 3
	}
	for range times {
		code, replayed, stderr := runOff(t, "demo", "--replay", dir)
		if code != 0 || chance.ReplaceAllString(replayed, "") != chance.ReplaceAllString(recorded, "") {
			t.Fatalf("exit code %d\n%s%s\nwant\n%s", code, replayed, stderr, recorded)
		}
	}
}

// session runs several commands through one cassette, as the demo does.
func session(t *testing.T, mode, dir string, commands [][]string) string {
	t.Helper()
	var out bytes.Buffer
	sim := t.TempDir()
	owner := &app{stdout: &out, stderr: &out, getenv: func(string) string { return "" }, emulated: true, ran: true}
	if mode == "record" {
		owner.flags.record = dir
	} else {
		owner.flags.replay = dir
	}
	if err := owner.openTape(); err != nil {
		t.Fatal(err)
	}
	for _, args := range commands {
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: owner.getenv, network: noNetwork(t), tape: owner.tape, lent: true}
		given := args
		if mode == "record" {
			given = append([]string{"--sim", sim}, args...)
		}
		out.WriteString("$ " + strings.Join(args, " ") + "\n")
		if code := a.run(t.Context(), given); code != 0 && code != exitFindings {
			t.Errorf("%s %v: exit code %d\n%s", mode, args, code, out.String())
		}
	}
	if err := owner.closeTape(t.Context(), nil); err != nil {
		t.Errorf("%s: %v", mode, err)
	}
	return out.String()
}

// TestReplaysADeletionWithItsUndo: what deletes, and what takes it back, does the same
// at each replay.
func TestReplaysADeletionWithItsUndo(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := demoImage().WriteLayout("build", "v1"); err != nil {
		t.Fatal(err)
	}
	for i, dir := range []string{"pr1", "pr2"} {
		if err := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i), 1000)).WriteLayout(dir, "v1"); err != nil {
			t.Fatal(err)
		}
	}
	commands := [][]string{
		{"push", "oci:build:v1", "acme/app:v1", "--recursive"},
		{"push", "oci:pr1:v1", "acme/app:pr-1"},
		{"push", "oci:pr2:v1", "acme/app:pr-2"},
		{"tag", "acme/app:v1", "stable", "latest"},
		{"ls", "acme/app", "--versions"},
		{"promote", "acme/app:v1", "acme/prod:v1"},
		{"rm", "acme/app:v1", "--all-tags", "--yes", "--undo", "rm.json"},
		{"check", "acme/app"},
		{"ls", "acme/app", "--versions"},
		{"ls", "acme/app", "--deleted"},
		{"restore", "--from", "rm.json"},
		{"untag", "acme/app:stable", "acme/app:pr-2", "--yes", "--undo", "untag.json"},
		{"ls", "acme/app"},
		{"restore", "--from", "untag.json"},
		{"digest", "acme/app:stable"},
		{"check", "acme/app"},
		{"rm", "--package", "acme/prod", "--yes"},
		{"ls", "acme"},
	}
	recorded := session(t, "record", "tape", commands)
	undone := func() {
		for _, file := range []string{"rm.json", "untag.json"} {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	for range 5 {
		undone()
		if replayed := session(t, "replay", "tape", commands); chance.ReplaceAllString(replayed, "") != chance.ReplaceAllString(recorded, "") {
			t.Fatalf("got\n%s\nwant\n%s", replayed, recorded)
		}
	}
}

// TestReplayNeedsNoLogin: each kind of token is recorded and replayed without it, and
// stays out of the cassette.
func TestReplayNeedsNoLogin(t *testing.T) {
	w := newWorld(t, ghcrtest.Options{Accounts: everyToken, Packages: []ghcrtest.Package{{Name: "acme/app"}}})
	if err := w.server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	tokens := []string{"", "ghp_wrong0123456789"}
	for _, a := range everyToken {
		tokens = append(tokens, a.Token)
	}
	for _, token := range tokens {
		for _, args := range [][]string{{"digest", "acme/app:v1"}, {"ls", "acme/app", "--versions"}, {"ls", "acme"}, {"untag", "acme/app:nope", "--yes"}} {
			dir := filepath.Join(t.TempDir(), "tape")
			code, recorded, _ := w.run(token, append(args, "--record", dir)...)
			again, replayed, stderr := runOff(t, append(args, "--plain-http", "--registry", w.host, "--replay", dir)...)
			if again != code || replayed != recorded {
				t.Errorf("%s %v: exit code %d, now %d\n%s\nwant\n%s\n%s", token, args, code, again, replayed, recorded, stderr)
			}
			err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				data, err := os.ReadFile(filepath.Join(dir, path))
				if token != "" && bytes.Contains(data, []byte(token)) {
					t.Errorf("%s: it is in the cassette", token)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// TestTapeFlags: what cannot be is refused before anything is done, and what a replay
// lacks is told at once.
func TestTapeFlags(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, _, stderr := runSim(t, "box", "ls", "acme", "--record", "tape"); code != 0 {
		t.Fatal(stderr)
	}
	for _, test := range []struct {
		env  string
		args []string
		code int
		want string
	}{
		{"", []string{"ls", "acme", "--record", "a", "--replay", "b"}, exitUsage, "exclude each other"},
		{"", []string{"--sim", "box", "ls", "acme", "--replay", "tape"}, exitUsage, "exclude each other"},
		{"", []string{"ls", "acme", "--replay", "nowhere"}, exitUsage, "nowhere"},
		{"", []string{"version", "--record", "a"}, exitUsage, "sent no requests"},
		{"", []string{"serve", "--record", "a"}, exitUsage, "serve sends no requests"},
		{"", []string{"ls", "acme", "--replay", "tape"}, 0, ""},
		{"", []string{"ls", "acme", "--replay", "tape@sha256:" + strings.Repeat("0", 64)}, exitIntegrity, "want sha256:00000"},
		{"", []string{"ls", "other", "--replay", "tape"}, exitFailure, "was not recorded"},
		{"", []string{"digest", "acme/app:v1", "--replay", "tape"}, exitFailure, "nothing like it"},
		{"tape", []string{"ls", "acme"}, 0, ""},
		{"tape", []string{"--sim", "box", "ls", "acme"}, 0, ""},
		{"tape", []string{"ls", "other"}, exitFailure, "was not recorded"},
		{"tape", []string{"version"}, 0, ""},
	} {
		var out, errs bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, network: noNetwork(t), getenv: func(name string) string {
			return map[string]string{"GHCR_CASSETTE": test.env, "CI": "1"}[name]
		}}
		if code := a.run(t.Context(), test.args); code != test.code || !strings.Contains(errs.String(), test.want) {
			t.Errorf("%v: exit code %d, want %d and %q\n%s", test.args, code, test.code, test.want, errs.String())
		}
	}
	if _, err := os.Stat("a"); err == nil {
		t.Error("a cassette was made of nothing")
	}
}

// TestRecordingKeepsTheUndoFile: what a recorded deletion needs to be undone outlives
// the recording.
func TestRecordingKeepsTheUndoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := demoImage().WriteLayout("build", "v1"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"push", "oci:build:v1", "acme/app:v1"}, {"tag", "acme/app:v1", "v2"}, {"untag", "acme/app:v1", "--yes", "--record", "tape"}} {
		if code, _, stderr := runSim(t, "box", args...); code != 0 {
			t.Fatal(stderr)
		}
	}
	if files, err := filepath.Glob("box/cache/undo/*.json"); err != nil || len(files) != 1 {
		t.Errorf("undo files: %v, %v", files, err)
	}
}

// TestDamagedCassette: what was changed in a cassette is not given to the command, and
// it is said where the damage is.
func TestDamagedCassette(t *testing.T) {
	t.Chdir(t.TempDir())
	layer := ghcrtest.RandomLayer(1, 200_000)
	if err := os.WriteFile("layer", layer, 0o644); err != nil {
		t.Fatal(err)
	}
	_, d, _ := runSim(t, "box", "blob", "put", "acme/app", "layer")
	d = strings.TrimSpace(d)
	if code, _, stderr := runSim(t, "box", "blob", "get", "acme/app@"+d, "-o", "one", "--record", "tape"); code != 0 {
		t.Fatal(stderr)
	}
	name := filepath.Join("tape", "blobs", "sha256", strings.TrimPrefix(d, "sha256:"))
	layer[100_000] ^= 1
	if err := os.WriteFile(name, layer, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runOff(t, "blob", "get", "acme/app@"+d, "-o", "two", "--replay", "tape")
	if code != exitIntegrity || !strings.Contains(stderr, "ghcr tape verify tape") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if _, err := os.Stat("two"); err == nil {
		t.Error("it was given away")
	}
}

// TestInterruptedRecording is kept where there was none before, and does not take the
// place of one that is whole.
func TestInterruptedRecording(t *testing.T) {
	t.Chdir(t.TempDir())
	record := func(stop bool) (stderr string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := 0
		var errs bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: new(bytes.Buffer), stderr: &errs, getenv: func(string) string { return "" }, network: roundTripper(func(req *http.Request) (*http.Response, error) {
			if asked++; stop && asked == 2 {
				cancel()
				return nil, ctx.Err()
			}
			if !strings.HasPrefix(req.URL.Path, "/v2/") {
				return answer(req, http.StatusNotFound, nil), nil
			}
			return answer(req, http.StatusUnauthorized, http.Header{"Www-Authenticate": {`Bearer realm="https://ghcr.io/token",service="ghcr.io"`}}), nil
		})}
		a.run(ctx, []string{"ls", "acme/app", "--record", "tape"})
		return errs.String()
	}
	digest := func() string {
		code, stdout, stderr := runOff(t, "tape", "verify", "tape")
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		return stdout
	}
	if stderr := record(true); !strings.Contains(stderr, "tape has what was recorded until then") {
		t.Errorf("the first: %s", stderr)
	}
	first := digest()
	record(false)
	whole := digest()
	if whole == first {
		t.Fatal("it was not recorded again")
	}
	if stderr := record(true); !strings.Contains(stderr, "tape is as it was") || digest() != whole {
		t.Errorf("it took the place of the whole one: %s", stderr)
	}
}

func answer(req *http.Request, status int, h http.Header) *http.Response {
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody, Request: req}
}

// TestReplayedLoginStays: to replay a login does not write one into the machine's
// credential helper.
func TestReplayedLoginStays(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper of this test is a shell script")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	helper := "#!/bin/sh\ntouch " + filepath.Join(dir, "called") + "\n"
	for _, name := range []string{"docker-credential-pass", "docker-credential-secretservice", "docker-credential-osxkeychain", "pass"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(helper), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, args := range [][]string{{"--sim", "box", "--record", "tape"}, {"--replay", "tape"}} {
		var errs bytes.Buffer
		a := &app{stdin: strings.NewReader(ghcrtest.Token + "\n"), stdout: new(bytes.Buffer), stderr: &errs, network: noNetwork(t), getenv: func(string) string { return "" }}
		if code := a.run(t.Context(), append([]string{"auth", "login"}, args...)); code != 0 {
			t.Fatalf("%v: exit code %d\n%s", args, code, errs.String())
		}
	}
	if _, err := os.Stat("called"); err == nil {
		t.Error("the machine's credential helper was called")
	}
}
