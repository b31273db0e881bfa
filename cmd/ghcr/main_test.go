package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

func TestMain(m *testing.M) {
	cosignDir, _ = filepath.Abs("testdata/cosign")
	testscript.Main(m, map[string]func(){"ghcr": main})
}

// TestScripts runs testdata/script. Besides testscript's own commands there are:
//
//	exits CODE COMMAND...   the command must end with this exit code
//	keep NAME               sets a variable to what the last command has printed
//	layout DIR KIND         makes an OCI layout; see fixtures
//	signed DIR HOW          makes one that is signed with a certificate; see signatures
//	cosign DIR              copies testdata/cosign
//	scanning BOX REPO       has GitHub do code scanning in a repository of an emulator
//	sarif FILE UPLOAD       makes what GitHub takes as an upload of SARIF
//	fill BOX                puts the package of ghcr demo prune into an emulator's directory
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Nothing of the machine's logins or caches.
			for _, name := range []string{"GHCR_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "GITHUB_ACTIONS", "GHCR_REGISTRY", "GHCR_API_URL", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
				env.Setenv(name, "")
			}
			env.Setenv("CI", "1")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "keep": keep, "layout": makeLayout, "signed": makeSigned, "cosign": copyCosign, "scanning": codeScanning, "sarif": sarifUpload,
			"fill": fillBox, "legacy": makeLegacy, "corrupt": corrupt,
		},
		RequireExplicitExec: true,
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("ended with exit code %d, want %d", got, want)
	}
}

func keep(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// fixtures are the images that scripts can ask for.
var fixtures = map[string]func() *ghcrtest.Image{
	"demo":  demoImage,
	"image": func() *ghcrtest.Image { return ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 20_000)) },
	"files": func() *ghcrtest.Image {
		return ghcrtest.NewImage("linux/amd64",
			ghcrtest.Layer(map[string]string{"etc/": "", "etc/a": "lower\n", "etc/gone": "x\n", "opt/": "", "opt/x": "deep\n"}),
			ghcrtest.Layer(map[string]string{"etc/a": "upper\n", "etc/.wh.gone": "", "opt/.wh..wh..opq": "", "opt/y": "new\n"}))
	},
}

func makeLayout(ts *testscript.TestScript, _ bool, args []string) {
	fixture := fixtures[args[1]]
	if fixture == nil {
		ts.Fatalf("there is no fixture %s", args[1])
	}
	img := fixture()
	ts.Check(img.WriteLayout(ts.MkAbs(args[0]), "v1"))
	ts.Setenv("DIGEST", img.Digest().String())
	if len(img.Manifest.Layers) > 0 {
		ts.Setenv("LAYER", img.Manifest.Layers[0].Digest.String())
		ts.Setenv("LAYERHEX", img.Manifest.Layers[0].Digest.Encoded())
	}
}

func fillBox(ts *testscript.TestScript, _ bool, args []string) {
	server, err := ghcrtest.New(ghcrtest.Options{Dir: ts.MkAbs(args[0]), NoLog: true})
	ts.Check(err)
	ts.Check(newDemoPackage(server).fill())
	ts.Check(server.Close())
}

// makeLegacy writes an archive such as old versions of docker save made.
func makeLegacy(ts *testscript.TestScript, _ bool, args []string) {
	var layer, out bytes.Buffer
	tw := tar.NewWriter(&layer)
	ts.Check(tw.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 3, Typeflag: tar.TypeReg}))
	tw.Write([]byte("hi\n"))
	ts.Check(tw.Close())
	tw = tar.NewWriter(&out)
	for _, f := range []struct{ name, data string }{
		{"config.json", `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`},
		{"abc/layer.tar", layer.String()},
		{"manifest.json", `[{"Config":"config.json","RepoTags":["acme/old:v1"],"Layers":["abc/layer.tar"]}]`},
	} {
		ts.Check(tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}))
		tw.Write([]byte(f.data))
	}
	ts.Check(tw.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o644))
}

// corrupt flips a bit of a file.
func corrupt(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(name, data, 0o644))
}

// runSim runs the command on an emulator in a directory.
func runSim(t *testing.T, dir string, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return map[string]string{"CI": "1"}[name] }
	code := run(context.Background(), append([]string{"--sim", dir}, args...), strings.NewReader(""), &stdout, &stderr, getenv)
	return code, stdout.String(), stderr.String()
}

// TestServe: one line when it is ready, which says how to log in; the registry
// works; it ends in order, and its state is what --sim finds.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	img := demoImage()
	if err := img.WriteLayout("build", "v1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("config.json", []byte(`{"accounts":[{"login":"a","token":"ghp_a"}],"quirks":{"BlobRedirect":false}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("faults.json", []byte(`[{"use": "F3a"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{nil, {"--profile", "spec"}, {"--tls"}, {"--config", "config.json"}, {"--faults", "faults.json", "--admin"}} {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		done := make(chan int)
		go func() {
			done <- run(ctx, append([]string{"serve", "--addr", "127.0.0.1:0", "--data", "box"}, flags...), nil, in, io.Discard, func(string) string { return "" })
		}()
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "serving 127.0.0.1:") {
			t.Fatalf("%v: got %q, %v", flags, line, err)
		}
		if host := strings.Fields(line)[1]; !slices.Contains(flags, "--tls") {
			token := ghcrtest.Token
			if slices.Contains(flags, "--config") {
				token = "ghp_a"
			}
			getenv := func(name string) string { return map[string]string{"GHCR_TOKEN": token, "CI": "1"}[name] }
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"--plain-http", "--registry", host, "push", "oci:build:v1", host + "/acme/app:v1"}, nil, &stdout, &stderr, getenv)
			if code != 0 {
				t.Errorf("%v: exit code %d\n%s", flags, code, stderr.String())
			}
			resp, err := http.Get("http://" + host + "/_sim/faults/log")
			if err != nil {
				t.Fatal(err)
			}
			log, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if on := slices.Contains(flags, "--admin"); err != nil || strings.Contains(string(log), `"name":"F3a"`) != on || (resp.StatusCode == 404) == on {
				t.Errorf("%v: the fault log is %d %s, %v", flags, resp.StatusCode, log, err)
			}
		}
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("%v: it ended with exit code %d", flags, code)
		}
	}
	if code, stdout, stderr := runSim(t, "box", "digest", "acme/app:v1"); code != 0 || strings.TrimSpace(stdout) != img.Digest().String() {
		t.Errorf("--sim: %d %s%s", code, stdout, stderr)
	}
}

// TestExamplesRun runs the example of every command that can run by itself.
func TestExamplesRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	img := demoImage()
	if err := img.WriteLayout("build", ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"push", "oci:build@" + img.Digest().String(), "acme/app:v1"}, {"push", "oci:build@" + img.Digest().String(), "acme/app:v1.2.3"},
		{"pull", "acme/app:v1", "docker-archive:app.tar"},
	} {
		if code, _, stderr := runSim(t, "box", args...); code != 0 {
			t.Fatalf("%v: %s", args, stderr)
		}
	}
	if err := os.RemoveAll("build"); err != nil {
		t.Fatal(err)
	}
	if err := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 10)).WriteLayout("build", "v1"); err != nil {
		t.Fatal(err)
	}
	for i, tag := range []string{"pr-80", "pr-81", "nightly", "edge", "beta"} {
		if err := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i+2), 10)).WriteLayout("build-"+tag, "v1"); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := runSim(t, "box", "push", "oci:build-"+tag+":v1", "acme/app:"+tag); code != 0 {
			t.Fatal(stderr)
		}
	}
	if code, _, stderr := runSim(t, "box", "rm", "acme/app:pr-80", "--yes", "--undo", "undo.json"); code != 0 {
		t.Fatal(stderr)
	}
	for name, text := range map[string]string{"policy.yaml": demoFiles["policy.yaml"], "open-prs.txt": "7\n", "deploy/prod.yaml": "x: ghcr.io/acme/app:v1\n",
		"cleanup.yml": "steps:\n  - uses: dataaxiom/ghcr-cleanup-action@v1\n    with: {keep-n-tagged: 3}\n"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	manifest := ghcrtest.NewIndex().Manifest
	if err := os.WriteFile("manifest.json", manifest.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("layer.tar.gz", []byte("layer"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"trivy.json": `{"SchemaVersion":2,"CreatedAt":"2026-01-02T03:04:05Z","ArtifactName":"app","Trivy":{"Version":"0.67.0"},"Results":[{"Target":"app","Class":"lang-pkgs","Type":"npm",` +
			`"Vulnerabilities":[{"VulnerabilityID":"CVE-2021-44228","PkgName":"x","InstalledVersion":"1","Severity":"HIGH"}]}]}`,
		"sbom.spdx.json": `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","packages":[]}`,
		"openvex.json":   `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"x","timestamp":"2026-01-02T03:04:05Z","version":1,"statements":[]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	makeTapes(t)
	// What cannot run here: it serves for ever, needs a network or a shell, reads a file
	// that the image lacks, names a blob or a version that nobody has, or wants a signature
	// (verify.txtar has those).
	skip := []string{"serve", "registry.example.com", "os-release", "e3b0c442", "source <(", "auth login <", "docker login", "#1234", "--key cosign.pub", "--trusted-root", "ghcr trusted-root"}
	ran := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, line := range strings.Split(cmd.Example, "\n") {
			args := strings.Fields(strings.ReplaceAll(line, "'", ""))
			if len(args) == 0 || args[0] != "ghcr" || containsAny(line, skip) {
				continue
			}
			code, _, stderr := runSim(t, "box", args[1:]...)
			// An image that is there may not be clobbered: that is what the flag is for.
			if code != 0 && !(strings.Contains(line, "--no-clobber") && strings.Contains(stderr, "names another image")) {
				t.Errorf("%s: exit code %d\n%s", line, code, stderr)
			}
			ran++
		}
		if cmd.Runnable() && cmd.HasParent() && !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }}
	walk(a.root())
	if ran < 15 {
		t.Errorf("only %d examples ran", ran)
	}
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 84_000_000: "84 MB", 9_960_000_000: "10.0 GB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for s, want := range map[string]int64{"5MiB": 5 << 20, "64k": 64000, "100": 100, "1.5GiB": 3 << 29} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "MiB", "5x", "-"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q: got %d", s, n)
		}
	}
}

// TestLimitsAreRefused: what no registry takes is refused before anything moves.
func TestLimitsAreRefused(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	huge := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":"sha256:%064d","size":2},"layers":[{"mediaType":"x","digest":"sha256:%064d","size":%d}]}`,
		oci.MediaTypeOCIManifest, 1, 2, int64(oci.MaxLayerSize)+1)
	img := ghcrtest.NewImage("linux/amd64").WithBytes(func([]byte) []byte { return []byte(huge) })
	if err := img.WriteLayout("huge", "v1"); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runSim(t, "box", "push", "oci:huge:v1", "acme/app:v1")
	if code != exitUsage || !strings.Contains(stderr, "limit") {
		t.Errorf("a layer: exit code %d\n%s", code, stderr)
	}
	if err := os.WriteFile("large.json", bytes.Repeat([]byte(" "), oci.MaxManifestSize+1), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = runSim(t, "box", "manifest", "put", "acme/app:v1", "large.json")
	if code != exitUsage || !strings.Contains(stderr, "limit") {
		t.Errorf("a manifest: exit code %d\n%s", code, stderr)
	}
}
