//go:build unix

package ghcr_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
)

// TestLoginHelpers, which are shell scripts here: a credential helper is asked, and gh comes last.
func TestLoginHelpers(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script("docker-credential-fake", `read host; echo "{\"Username\":\"u\",\"Secret\":\"from $host\"}"`)
	script("gh", `[ "$1 $2" = "auth token" ] && echo from-gh`)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+"/bin"+string(os.PathListSeparator)+"/usr/bin")
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"credHelpers":{"registry.example.com":"fake"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DOCKER_CONFIG": dir, "HOME": dir}
	logins := &ghcr.Logins{Getenv: func(name string) string { return env[name] }}
	for host, want := range map[string]string{"registry.example.com": "from registry.example.com", "ghcr.io": "from-gh", "other.example.com": ""} {
		c, err := logins.Credential(t.Context(), host)
		if err != nil || c.Password.Reveal() != want {
			t.Errorf("%s: got %q, %v, want %q", host, c.Password.Reveal(), err, want)
		}
	}
	if err := os.WriteFile(config, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	logins = &ghcr.Logins{Getenv: func(name string) string { return env[name] }}
	if _, err := logins.Credential(t.Context(), "other.example.com"); err == nil || !strings.Contains(err.Error(), config) {
		t.Errorf("a broken login file: got %v", err)
	}
}
