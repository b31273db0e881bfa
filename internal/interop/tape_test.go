package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestTapesTravel: a recording that was pushed as an artifact is copied out by each of
// the other clients, keeps its digest, and replays from what they wrote, without a
// registry.
func TestTapesTravel(t *testing.T) {
	for name, fetch := range map[string][][]string{
		"crane": {
			{"crane", "auth", "login", "HOST", "-u", "anybody", "-p", "TOKEN"},
			{"crane", "pull", "--format", "oci", "HOST/acme/tapes@PIN", "fetched", "--insecure"},
		},
		"oras": {
			{"oras", "login", "HOST", "-u", "anybody", "-p", "TOKEN", "--plain-http"},
			{"oras", "cp", "--from-plain-http", "HOST/acme/tapes:pull", "--to-oci-layout", "fetched:pull"},
		},
		"regctl": {
			{"regctl", "registry", "login", "HOST", "-u", "anybody", "-p", "TOKEN", "--skip-check"},
			{"regctl", "registry", "set", "HOST", "--tls", "disabled"},
			{"regctl", "image", "copy", "HOST/acme/tapes:pull", "ocidir://fetched:pull"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			want := b.layout()
			host := b.serve()
			ghcr := func(args ...string) string {
				return b.run("ghcr", append([]string{"--registry", host, "--plain-http"}, args...)...)
			}
			ghcr("push", "oci:build:v1", "acme/app:v1")
			ghcr("pull", "acme/app:v1", "oci:recorded", "--record", "tape")
			pin := ghcr("tape", "verify", "tape")
			if got := ghcr("tape", "push", "tape", "acme/tapes:pull"); !strings.HasSuffix(got, "/acme/tapes:pull@"+pin) {
				t.Fatalf("pushed %s, which is %s", got, pin)
			}
			for _, step := range fetch {
				args := make([]string, len(step))
				for i, arg := range step {
					args[i] = strings.NewReplacer("HOST", host, "TOKEN", ghcrtest.Token, "PIN", pin).Replace(arg)
				}
				b.run(args[0], args[1:]...)
			}
			if got := b.run("ghcr", "tape", "verify", "fetched", "--pin", pin); got != pin {
				t.Errorf("%s fetched %s, which was %s", name, got, pin)
			}
			// The cassette answers, not the host, whose port means nothing to it.
			cmd := b.command("ghcr", "--registry", "127.0.0.1:1", "--plain-http", "pull", "acme/app:v1", "oci:replayed", "--replay", "fetched@"+pin)
			cmd.Env = append(cmd.Env, "GHCR_TOKEN=")
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
				t.Fatalf("replay: %v\n%s", err, out)
			}
			for _, dir := range []string{"recorded", "replayed"} {
				if files, err := os.ReadDir(filepath.Join(b.dir, dir, "blobs", "sha256")); err != nil || len(files) != 9 {
					t.Errorf("%s has %d files: %v", dir, len(files), err)
				}
			}
		})
	}
}
