package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// signedWorld is an emulator with what cosign 2 signed, and the key.
func signedWorld(t *testing.T, opts ghcrtest.Options) (*world, string) {
	w := newWorld(t, opts)
	code, _, stderr := w.run("ghp_alice", "push", "-r", "oci:"+filepath.Join(cosignDir, "cosign2")+":v1", w.host+"/acme/app:v1")
	if code != 0 {
		t.Fatal(stderr)
	}
	return w, filepath.Join(cosignDir, "cosign.pub")
}

// TestOnlyTheVerifiedDigestIsMoved: somebody moves the tag while the signature is looked at.
// What was verified is moved, or nothing.
func TestOnlyTheVerifiedDigestIsMoved(t *testing.T) {
	const signed = "sha256:3e6f2666f754993818d418b9252aafcb5aee6d0b78aa56cdf3a1b80534bfc790"
	for command, want := range map[string]int{"pull": 0, "cp": 0, "promote": exitFailure} {
		w, key := signedWorld(t, ghcrtest.Options{Accounts: everyToken})
		moved := false
		w.server.Inject(ghcrtest.Fault{Name: "mallory", Ref: "sha256-" + signed[7:] + ".sig", Do: func(s *ghcrtest.Server) {
			moved = true
			if err := s.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("evil"))); err != nil {
				t.Error(err)
			}
		}})
		dst := w.host + "/acme/prod:v1"
		if command == "pull" {
			dst = "oci:" + filepath.Join(t.TempDir(), "out")
		}
		code, stdout, stderr := w.run("ghp_alice", command, w.host+"/acme/app:v1", dst, "--verify", "--key", key)
		if code != want || code == 0 && !strings.HasSuffix(stdout, "@"+signed+"\n") {
			t.Errorf("%s: exit code %d: %s%s", command, code, stdout, stderr)
		}
		if !moved {
			t.Errorf("%s: the tag was not moved", command)
		}
		if code, stdout, _ := w.run("ghp_alice", "digest", w.host+"/acme/prod:v1"); code == 0 && stdout != signed+"\n" {
			t.Errorf("%s: what is there is %s", command, stdout)
		}
	}
}

// TestUnreadSignatureIsNotKnown: that something could not be read is another answer than
// that it is not signed.
func TestUnreadSignatureIsNotKnown(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int
	}{
		"not signed":     {attest.ErrNoSignature, exitIntegrity},
		"bad signature":  {attest.ErrBadSignature, exitIntegrity},
		"gone":           {&attest.Warning{Err: oci.ErrNotFound}, exitIntegrity},
		"no permission":  {errors.Join(attest.ErrBadSignature, ghcr.ErrDenied), exitPermission},
		"rate limit":     {errors.Join(attest.ErrNoSignature, ghcr.ErrRateLimited), exitRateLimited},
		"network":        {&transport.Error{Op: "get blob", Err: errors.New("connection reset")}, exitFailure},
		"GitHub forbids": {&vuln.SourceError{Status: vuln.StatusForbidden, Err: errors.New("403")}, exitPermission},
		"GitHub is down": {&vuln.SourceError{Status: vuln.StatusError, Err: errors.New("503")}, exitFailure},
	} {
		err := fmt.Errorf("nothing was moved: %w", &unverifiedError{"app", &attest.PolicyError{Unmet: []attest.Unmet{{Err: test.err}}}})
		if code := exitCode(err); code != test.code {
			t.Errorf("%s: exit code %d, want %d", name, code, test.code)
		}
	}
}

// TestVerifyAsksGitHubLast: what the registry has is enough; where it is not, and GitHub can't
// be asked, it is not known whether the image is signed.
func TestVerifyAsksGitHubLast(t *testing.T) {
	w, key := signedWorld(t, ghcrtest.Options{Accounts: everyToken})
	asked := func() int {
		n := 0
		for _, r := range w.server.Requests() {
			if strings.Contains(r.Path, "/attestations/") {
				n++
			}
		}
		return n
	}
	if code, _, stderr := w.run("ghp_alice", "verify", w.host+"/acme/app:v1", "--key", key); code != 0 || asked() != 0 {
		t.Fatalf("exit code %d, GitHub was asked %d times: %s", code, asked(), stderr)
	}
	other := filepath.Join(cosignDir, "other.pub")
	if code, _, _ := w.run("ghp_alice", "verify", w.host+"/acme/app:v1", "--key", other); code != exitIntegrity || asked() == 0 {
		t.Errorf("exit code %d, GitHub was asked %d times", code, asked())
	}
	for _, route := range []string{ghcrtest.RouteAttestations, ghcrtest.RouteAttestationsBulk} {
		w.server.Inject(ghcrtest.Fault{Name: route, Route: route, Status: http.StatusForbidden, Times: -1})
	}
	code, _, stderr := w.run("ghp_alice", "verify", w.host+"/acme/app:v1", "--key", other)
	if code != exitPermission || !strings.Contains(stderr, "what GitHub attests could not be read") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestCachedRoot: the newest of those that this command and clients of Sigstore keep.
func TestCachedRoot(t *testing.T) {
	home := t.TempDir()
	a := &app{stderr: &strings.Builder{}, getenv: func(name string) string { return map[string]string{"HOME": home}[name] }}
	if _, err := a.cachedRoot(); !errors.Is(err, ghcr.ErrInvalid) {
		t.Errorf("without one: %v", err)
	}
	fetched := time.Now().Add(-time.Hour)
	newest := func(name string) {
		t.Helper()
		fetched = fetched.Add(time.Minute)
		if err := os.Chtimes(name, fetched, fetched); err != nil {
			t.Fatal(err)
		}
		if got, err := a.cachedRoot(); err != nil || got != name {
			t.Errorf("got %s, %v, want %s", got, err, name)
		}
	}
	for _, dir := range []string{"targets", "tuf-repo-cdn.sigstore.dev/targets"} {
		name := filepath.Join(home, ".sigstore", "root", dir, "trusted_root.json")
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("{}"), 0o644)); err != nil {
			t.Fatal(err)
		}
		newest(name)
	}
	for range 2 {
		if err := keepRoot(a.cacheDir(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		newest(filepath.Join(a.cacheDir(), keptRoot))
	}
}
