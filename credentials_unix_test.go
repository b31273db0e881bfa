//go:build unix

package ghcr_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/transport"
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

// TestLoginSaveWithHelper: a helper that docker's config names keeps the login, and the
// file never has it.
func TestLoginSaveWithHelper(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	script := `#!/bin/sh
case $1 in
store) cat > "` + kept + `";;
get) cat "` + kept + `" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
erase) rm "` + kept + `";;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-fake"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+"/bin"+string(os.PathListSeparator)+"/usr/bin")
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"credsStore":"fake"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	logins := &ghcr.Logins{Getenv: func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] }}
	where, err := logins.Save(t.Context(), "ghcr.io", transport.Credential{Username: "u", Password: transport.NewSecret("ghp_helped")}, false)
	if err != nil || where != "docker-credential-fake" {
		t.Fatalf("saved in %s, %v", where, err)
	}
	if data, err := os.ReadFile(config); err != nil || strings.Contains(string(data), "ghp_helped") {
		t.Errorf("the file has %s, %v", data, err)
	}
	if c, err := logins.Credential(t.Context(), "ghcr.io"); err != nil || c.Password.Reveal() != "ghp_helped" {
		t.Errorf("got %v, %v", c, err)
	}
	if removed, err := logins.Remove(t.Context(), "ghcr.io"); err != nil || len(removed) != 1 {
		t.Errorf("removed from %v, %v", removed, err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("the helper still has it")
	}
}
