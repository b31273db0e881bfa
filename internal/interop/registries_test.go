package interop

import (
	"os"
	"path/filepath"
	"testing"
)

// distribution starts the CNCF registry and returns its host and port.
func (b *bench) distribution() string {
	b.t.Helper()
	config := "version: 0.1\nlog: {level: info}\nstorage:\n  filesystem: {rootdirectory: " + filepath.Join(b.dir, "registry") + "}\n  delete: {enabled: true}\nhttp: {addr: 127.0.0.1:0}\n"
	if err := os.WriteFile(filepath.Join(b.dir, "registry.yml"), []byte(config), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return b.start(b.command("registry", "serve", "registry.yml"))
}

// craneRegistry starts the registry that comes with crane.
func (b *bench) craneRegistry() string {
	b.t.Helper()
	return b.start(b.command("crane", "registry", "serve", "--address", "127.0.0.1:0", "--disk", b.dir))
}

// TestOtherRegistries: our client does its work on registries that others wrote.
func TestOtherRegistries(t *testing.T) {
	for name, start := range map[string]func(*bench) string{
		"distribution": (*bench).distribution,
		"crane":        (*bench).craneRegistry,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			want := b.layout()
			host, other := start(b), b.serve("--profile", "spec")
			ghcr := func(args ...string) {
				b.t.Helper()
				b.digest(want, "ghcr", append([]string{"--plain-http"}, args...)...)
			}
			ghcr("push", "oci:build:v1", host+"/acme/app:v1")
			ghcr("push", "oci:build:v1", host+"/acme/app:v1")
			ghcr("push", "oci:build:v1", host+"/acme/chunked:v1", "--chunk-size", "1MiB")
			ghcr("cp", host+"/acme/app:v1", host+"/acme/prod:v1")
			ghcr("tag", host+"/acme/prod:v1", "v2", "v3")
			ghcr("digest", host+"/acme/prod:v3")
			ghcr("cp", "-r", host+"/acme/prod:v3", other+"/acme/mirror:v1")
			ghcr("cp", other+"/acme/mirror:v1", host+"/acme/back:v1")
			ghcr("pull", host+"/acme/back:v1", "oci:pulled")
			ghcr("pull", host+"/acme/back:v1", "docker-archive:pulled.tar")
			ghcr("push", "docker-archive:pulled.tar", host+"/acme/archived:v1")
			if got := b.run("ghcr", "--plain-http", "ls", "-q", host+"/acme/prod"); got != "v1\nv2\nv3" {
				t.Errorf("ls: got %q", got)
			}
			// The other's client must find it whole.
			b.digest(want, "crane", "digest", "--insecure", host+"/acme/archived:v1")
			b.run("crane", "validate", "--remote", host+"/acme/chunked:v1", "--insecure")
		})
	}
}

// TestDebian moves a real root file system: into the emulator in a directory, over
// a socket, and to a registry that others wrote. The image is made once, by
// .ci/run, and found through GHCR_DEBIAN_LAYOUT.
func TestDebian(t *testing.T) {
	source := os.Getenv("GHCR_DEBIAN_LAYOUT")
	if source == "" {
		t.Fatal("GHCR_DEBIAN_LAYOUT does not name an OCI layout; .ci/run makes one with debootstrap")
	}
	b := newBench(t)
	want := b.run("ghcr", "cp", "oci:"+source+":v1", "oci:copy:v1", "-q")
	served, foreign := b.serve(), b.distribution()
	for _, place := range []struct {
		name   string
		prefix string
		flags  []string
	}{
		{"in a directory", "", []string{"--sim", "box"}},
		{"over a socket", served + "/", []string{"--plain-http", "--registry", served}},
		{"on the CNCF registry", foreign + "/", []string{"--plain-http"}},
	} {
		t.Run(place.name, func(t *testing.T) {
			ghcr := func(args ...string) {
				t.Helper()
				b.digest(want, "ghcr", append(append([]string{}, place.flags...), args...)...)
			}
			ghcr("push", "oci:"+source+":v1", place.prefix+"acme/debian:v1")
			ghcr("cp", place.prefix+"acme/debian:v1", place.prefix+"acme/copy:v1")
			out := "oci:pulled-" + filepath.Base(t.Name())
			ghcr("pull", place.prefix+"acme/copy:v1", out)
			release := b.run("ghcr", append(append([]string{}, place.flags...), "cat", place.prefix+"acme/copy:v1", "/etc/os-release")...)
			if len(release) == 0 {
				t.Error("/etc/os-release is empty")
			}
		})
	}
}
