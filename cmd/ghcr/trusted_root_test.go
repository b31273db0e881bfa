package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
)

// TestTrustedRoot: what is fetched is printed on a line, and nothing else is.
func TestTrustedRoot(t *testing.T) {
	published := sigstoretest.NewTUF(sigstoretest.New("public.example").TrustedRoot(true), time.Now().Add(time.Hour))
	server := httptest.NewServer(published)
	defer server.Close()
	dir := t.TempDir()
	root := filepath.Join(dir, "root.json")
	if err := os.WriteFile(root, published.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.RedirectHandler("http://tuf.example.com/", http.StatusFound))
	defer elsewhere.Close()
	fetch := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		getenv := func(name string) string {
			return map[string]string{"XDG_CACHE_HOME": dir, "GHCR_TOKEN": "ghp_alice"}[name]
		}
		code = run(context.Background(), append([]string{"trusted-root"}, args...), strings.NewReader(""), &out, &errs, getenv)
		return code, out.String(), errs.String()
	}
	code, out, errs := fetch("--tuf-url", server.URL, "--tuf-root", root, "--plain-http")
	if code != 0 || strings.Count(out, "\n") != 1 {
		t.Fatalf("exit code %d, %q, %s", code, out, errs)
	}
	if _, err := keyless.ReadRoots(strings.NewReader(out)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ghcr", keptRoot)); err == nil {
		t.Error("another instance's root is kept as that of the public one")
	}
	published.Served = []byte("{}")
	published.Version = 2
	published.Content = append(published.Content, '\n')
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"not as it was signed": {[]string{"--tuf-url", server.URL, "--tuf-root", root, "--plain-http"}, exitIntegrity, "does not match"},
		"without TLS":          {[]string{"--tuf-url", server.URL, "--tuf-root", root}, exitUsage, "HTTPS only"},
		"another host":         {[]string{"--tuf-url", "http://tuf.example.com", "--tuf-root", root, "--plain-http"}, exitUsage, "HTTPS only"},
		"redirected":           {[]string{"--tuf-url", elsewhere.URL, "--tuf-root", root, "--plain-http"}, 1, "redirected to http://tuf.example.com; refused"},
		"a URL alone":          {[]string{"--tuf-url", server.URL}, exitUsage, "tuf-root"},
		"no file":              {[]string{"--tuf-url", server.URL, "--tuf-root", filepath.Join(dir, "none"), "--plain-http"}, exitUsage, "none"},
		"the emulator":         {[]string{"--sim", dir}, exitUsage, "publishes no"},
	} {
		if code, out, errs := fetch(test.args...); code != test.code || out != "" || !strings.Contains(errs, test.says) {
			t.Errorf("%s: exit code %d, %q, %s", name, code, out, errs)
		}
	}
}
