package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

var ghcrBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ghcr-interop-*")
	if err != nil {
		panic(err)
	}
	ghcrBinary = filepath.Join(dir, "ghcr")
	build := exec.Command("go", "build", "-o", ghcrBinary, "./cmd/ghcr")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build ghcr: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// bench is a directory to work in, with a home of its own for logins and caches.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	b := &bench{t, t.TempDir()}
	if err := os.Mkdir(filepath.Join(b.dir, "home"), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// command prepares a program that runs in the bench, with no login but those made
// there.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	b.t.Helper()
	if name == "ghcr" {
		name = ghcrBinary
	} else if _, err := exec.LookPath(name); err != nil {
		b.t.Fatalf("%s is not installed; .ci/run installs it: %v", name, err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	home := filepath.Join(b.dir, "home")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"),
		"XDG_RUNTIME_DIR=" + home, "TMPDIR=" + b.dir,
		// Only ghcr reads it, and only for the registry that --registry names.
		"GHCR_TOKEN=" + ghcrtest.Token,
	}
	return cmd
}

func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	cmd := b.command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// digest fails the test unless a command prints this digest.
func (b *bench) digest(want, name string, args ...string) {
	b.t.Helper()
	if got := b.run(name, args...); !strings.Contains(got, want) {
		b.t.Errorf("%s %s: got %s, want %s", name, strings.Join(args, " "), got, want)
	}
}

// start runs a server until the test ends, and returns its host and port, of which it
// tells when it listens. It chooses the port itself: one that is found free before may be
// taken by then.
func (b *bench) start(cmd *exec.Cmd) string {
	b.t.Helper()
	told, write, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		b.t.Fatal(err)
	}
	read := make(chan struct{})
	b.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		<-read
		told.Close()
	})
	var before []string
	lines := bufio.NewScanner(told)
	for lines.Scan() {
		before = append(before, lines.Text())
		if m := port.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				defer close(read)
				io.Copy(io.Discard, told)
			}()
			return "127.0.0.1:" + m[1]
		}
	}
	close(read)
	b.t.Fatalf("%s ended before it listened: %v\n%s", cmd, lines.Err(), strings.Join(before, "\n"))
	return ""
}

// port is what is told of it by "ghcr serve", the CNCF registry, and that of crane.
var port = regexp.MustCompile(`(?:127\.0\.0\.1:|serving on port )(\d+)`)

// serve starts the emulator and returns its host and port.
func (b *bench) serve(args ...string) string {
	b.t.Helper()
	return b.start(b.command("ghcr", append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...))
}

// layout writes an image for two platforms as an OCI layout named "build".
func (b *bench) layout() string {
	b.t.Helper()
	platform := func(name string, seed uint64) *ghcrtest.Image {
		return ghcrtest.NewImage(name,
			ghcrtest.Layer(map[string]string{"etc/": "", "etc/issue": name}),
			ghcrtest.Layer(map[string]string{"model": string(ghcrtest.RandomLayer(seed, 6<<20))}))
	}
	index := ghcrtest.NewIndex(platform("linux/amd64", 1), platform("linux/arm64", 2))
	if err := index.WriteLayout(filepath.Join(b.dir, "build"), "v1"); err != nil {
		b.t.Fatal(err)
	}
	return index.Digest().String()
}

// TestOtherClients: each client pushes, pulls, copies and lists a multi-platform
// image on the emulator, in both profiles, with credentials, and no digest
// changes.
func TestOtherClients(t *testing.T) {
	clients := map[string][][]string{
		"crane": {
			{"crane", "auth", "login", "HOST", "-u", "anybody", "-p", ghcrtest.Token},
			{"crane", "ls", "HOST/acme/app", "--insecure"},
			{"crane", "pull", "--format", "oci", "HOST/acme/app:v1", "pulled", "--insecure"},
			{"crane", "push", "pulled", "HOST/acme/pushed:v1", "--insecure"},
			{"crane", "copy", "HOST/acme/app:v1", "HOST/acme/copied:v1", "--insecure"},
			{"crane", "digest", "HOST/acme/copied:v1", "--insecure"},
		},
		"oras": {
			{"oras", "login", "HOST", "-u", "anybody", "-p", ghcrtest.Token, "--plain-http"},
			{"oras", "repo", "tags", "--plain-http", "HOST/acme/app"},
			{"oras", "cp", "--from-plain-http", "HOST/acme/app:v1", "--to-oci-layout", "pulled:v1"},
			{"oras", "cp", "--from-oci-layout", "pulled:v1", "--to-plain-http", "HOST/acme/pushed:v1"},
			{"oras", "cp", "-r", "--from-plain-http", "--to-plain-http", "HOST/acme/app:v1", "HOST/acme/copied:v1"},
			{"oras", "resolve", "--plain-http", "HOST/acme/copied:v1"},
		},
		"regctl": {
			{"regctl", "registry", "login", "HOST", "-u", "anybody", "-p", ghcrtest.Token, "--skip-check"},
			{"regctl", "registry", "set", "HOST", "--tls", "disabled"},
			{"regctl", "tag", "ls", "HOST/acme/app"},
			{"regctl", "image", "copy", "HOST/acme/app:v1", "ocidir://pulled:v1"},
			{"regctl", "image", "copy", "ocidir://pulled:v1", "HOST/acme/pushed:v1"},
			{"regctl", "image", "copy", "--referrers", "--digest-tags", "HOST/acme/app:v1", "HOST/acme/copied:v1"},
			{"regctl", "image", "digest", "HOST/acme/copied:v1"},
		},
		"skopeo": {
			{"skopeo", "login", "HOST", "-u", "anybody", "-p", ghcrtest.Token, "--tls-verify=false"},
			{"skopeo", "list-tags", "--tls-verify=false", "docker://HOST/acme/app"},
			{"skopeo", "--insecure-policy", "copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://HOST/acme/app:v1", "oci:pulled:v1"},
			{"skopeo", "--insecure-policy", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:pulled:v1", "docker://HOST/acme/pushed:v1"},
			{"skopeo", "--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://HOST/acme/app:v1", "docker://HOST/acme/copied:v1"},
		},
	}
	for _, profile := range []string{"ghcr", "spec"} {
		for name, steps := range clients {
			t.Run(profile+"/"+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				want := b.layout()
				host := b.serve("--profile", profile)
				b.run("ghcr", "--registry", host, "--plain-http", "push", "oci:build:v1", host+"/acme/app:v1")
				for _, step := range steps {
					args := make([]string, len(step))
					for i, arg := range step {
						args[i] = strings.ReplaceAll(arg, "HOST", host)
					}
					out := b.run(args[0], args[1:]...)
					if lists := slices.ContainsFunc(step, func(s string) bool { return s == "ls" || s == "tags" || s == "list-tags" }); lists && !strings.Contains(out, "v1") {
						t.Errorf("%s lists %q", name, out)
					}
				}
				for _, repo := range []string{"pushed", "copied"} {
					b.digest(want, "ghcr", "--registry", host, "--plain-http", "digest", host+"/acme/"+repo+":v1")
				}
				// And ours can read back, whole, what the other one wrote.
				b.digest(want, "ghcr", "--registry", host, "--plain-http", "pull", host+"/acme/pushed:v1", "oci:back")
			})
		}
	}
}
