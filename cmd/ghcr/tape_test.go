package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// makeTapes makes what the examples of the tape commands work on.
func makeTapes(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"pull", "acme/app:v1.2.3", "oci:taped", "--record", "tape"}, {"ls", "acme/app", "--record", "other"},
		{"tape", "push", "tape", "acme/tapes:pull"},
	} {
		if code, _, stderr := runSim(t, "box", args...); code != 0 {
			t.Fatal(stderr)
		}
	}
	crash(t, "crashed")
	if err := os.WriteFile("fixture.yaml", []byte(vcrText("https://ghcr.io/v2/", "Accept", "*/*", "", 200)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// crash leaves a recording that nobody seals.
func crash(t *testing.T, dir string) {
	t.Helper()
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, "https://ghcr.io/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
}

// TestTapeRecover: what was written of a recording before its program ended is kept.
func TestTapeRecover(t *testing.T) {
	t.Chdir(t.TempDir())
	crash(t, "crashed")
	if code, _, stderr := runOff(t, "tape", "verify", "crashed"); code != exitUsage {
		t.Errorf("before: exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := runOff(t, "ls", "acme", "--replay", "crashed"); code != exitUsage || !strings.Contains(stderr, "ghcr tape recover") {
		t.Errorf("replayed: exit code %d\n%s", code, stderr)
	}
	code, stdout, stderr := runOff(t, "tape", "recover", "crashed")
	if code != 0 || !strings.HasPrefix(stdout, "sha256:") || !strings.Contains(stderr, "1 interaction") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, out, stderr := runOff(t, "tape", "verify", "crashed"); code != 0 || out != stdout {
		t.Errorf("after: exit code %d\n%s%s", code, out, stderr)
	}
}

// TestTapeKeepsAwayFromItself: the cassette of the environment is not written while it
// is looked at.
func TestTapeKeepsAwayFromItself(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, _, stderr := runSim(t, "box", "ls", "acme", "--record", "tape"); code != 0 {
		t.Fatal(stderr)
	}
	before, err := os.ReadFile("tape/index.json")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{stdin: strings.NewReader(""), stdout: new(strings.Builder), stderr: new(strings.Builder), getenv: func(name string) string {
		return map[string]string{"GHCR_CASSETTE": "tape", "GHCR_CASSETTE_MODE": "record"}[name]
	}}
	if code := a.run(t.Context(), []string{"--sim", "box", "tape", "push", "tape", "acme/tapes:v1"}); code != 0 {
		t.Fatal(a.stderr)
	}
	if after, err := os.ReadFile("tape/index.json"); err != nil || string(after) != string(before) {
		t.Errorf("it was changed: %s, %v", after, err)
	}
}

// TestCompletionIsNotRecorded: what is asked while a command is typed does not get into
// its recording, nor into that of the environment.
func TestCompletionIsNotRecorded(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := demoImage().WriteLayout("build", "v1"); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runSim(t, "box", "push", "oci:build:v1", "acme/app:v1"); code != 0 {
		t.Fatal(stderr)
	}
	for _, mode := range []string{"record", "once", "replay"} {
		var out strings.Builder
		a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: new(strings.Builder), getenv: func(name string) string {
			return map[string]string{"GHCR_CASSETTE": "tape", "GHCR_CASSETTE_MODE": mode}[name]
		}}
		a.run(t.Context(), []string{"__complete", "--sim", "box", "pull", "--record", "tape", "acme/app:"})
		if !strings.Contains(out.String(), "acme/app:v1") {
			t.Errorf("%s: got %s", mode, out.String())
		}
		if _, err := os.Stat("tape"); err == nil {
			t.Errorf("%s: it was recorded", mode)
		}
	}
}

// TestSeedStaysOnThisMachine: names in a cassette that look like those of a host do
// not lead there.
func TestSeedStaysOnThisMachine(t *testing.T) {
	t.Chdir(t.TempDir())
	m := ghcrtest.NewIndex().Manifest // all of which is there
	c, err := cassette.Open("tape", cassette.Options{Mode: cassette.ModeRecord, Base: roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {m.MediaType}}, Request: req,
			ContentLength: int64(len(m.Bytes())), Body: io.NopCloser(bytes.NewReader(m.Bytes())),
		}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, "https://ghcr.io/v2/registry.example.com/acme/app/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	if err := errors.Join(resp.Body.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	a := &app{stdin: strings.NewReader(""), stdout: new(strings.Builder), stderr: new(strings.Builder), getenv: func(string) string { return "" }, network: roundTripper(func(req *http.Request) (*http.Response, error) {
		if asked++; req.URL.Hostname() != "127.0.0.1" {
			t.Errorf("%s %s", req.Method, req.URL)
		}
		return answer(req, http.StatusBadRequest, nil), nil
	})}
	if code := a.run(t.Context(), []string{"--registry", "127.0.0.1:1", "--plain-http", "tape", "seed", "tape"}); code != exitPartly || asked == 0 {
		t.Errorf("exit code %d after %d requests\n%s", code, asked, a.stderr)
	}
}

// TestRedactThroughALink changes the cassette, and not the link to it.
func TestRedactThroughALink(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, _, stderr := runSim(t, "box", "ls", "acme", "--record", "tape"); code != 0 {
		t.Fatal(stderr)
	}
	if err := os.Symlink("tape", "link"); err != nil {
		t.Skip(err)
	}
	if code, _, stderr := runOff(t, "tape", "redact", "link", "--header", "Date"); code != 0 {
		t.Fatal(stderr)
	}
	if info, err := os.Lstat("link"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: %v, %v", info, err)
	}
	if _, stdout, _ := runOff(t, "tape", "show", "tape", "--seq", "1"); strings.Contains(stdout, "Date:") {
		t.Errorf("it was not taken out:\n%s", stdout)
	}
}
