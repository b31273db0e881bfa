package ghcr_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/transport"
)

// authFile is a login file of docker or the containers tools.
func authFile(t *testing.T, path, host, password string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte("someone:" + password))
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoginsOrder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir) // no gh
	file := func(name string) string { return authFile(t, filepath.Join(dir, name), "ghcr.io", name) }
	env := map[string]string{
		"GHCR_TOKEN": "one", "GH_TOKEN": "two", "GITHUB_TOKEN": "three", "GITHUB_ACTOR": "actor",
		"REGISTRY_AUTH_FILE": file("registry.json"),
		"DOCKER_CONFIG":      filepath.Dir(file("docker/config.json")),
		"XDG_RUNTIME_DIR":    filepath.Dir(filepath.Dir(file("run/containers/auth.json"))),
		"HOME":               dir,
	}
	file(".config/containers/auth.json")
	file(".docker/config.json")
	for _, step := range []struct{ want, source, unset string }{
		{"one", "GHCR_TOKEN", "GHCR_TOKEN"},
		{"two", "GH_TOKEN", "GH_TOKEN"},
		{"three", "GITHUB_TOKEN", "GITHUB_TOKEN"},
		{"registry.json", "registry.json", "REGISTRY_AUTH_FILE"},
		{"docker/config.json", "docker", "DOCKER_CONFIG"},
		{"run/containers/auth.json", "run", "XDG_RUNTIME_DIR"},
		{".config/containers/auth.json", ".config", ""},
	} {
		logins := &ghcr.Logins{Getenv: func(name string) string { return env[name] }}
		c, err := logins.Credential(t.Context(), "ghcr.io")
		if err != nil || c.Password.Reveal() != step.want || !strings.Contains(c.Source, step.source) {
			t.Errorf("got %q from %s, %v, want %q", c.Password.Reveal(), c.Source, err, step.want)
		}
		delete(env, step.unset)
	}
	if err := os.Remove(filepath.Join(dir, ".config/containers/auth.json")); err != nil {
		t.Fatal(err)
	}
	logins := &ghcr.Logins{Getenv: func(name string) string { return env[name] }}
	if c, err := logins.Credential(t.Context(), "ghcr.io"); err != nil || c.Password.Reveal() != ".docker/config.json" {
		t.Errorf("got %q, %v", c.Password.Reveal(), err)
	}
}

// TestLoginsStayOnTheirHost: a GitHub token is for GitHub's registry alone.
func TestLoginsStayOnTheirHost(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	env := map[string]string{"GHCR_TOKEN": "secret", "HOME": t.TempDir()}
	logins := &ghcr.Logins{Getenv: func(name string) string { return env[name] }, Registry: "containers.example.com"}
	for host, want := range map[string]bool{"ghcr.io": true, "containers.example.com": true, "docker.io": false, "ghcr.io.evil.com": false, "ghcr.io:444": false} {
		c, err := logins.Credential(t.Context(), host)
		if err != nil || c.IsZero() == want {
			t.Errorf("%s: got %v, %v", host, !c.IsZero(), err)
		}
	}
}

// TestLoginSave: a login is kept where docker keeps it, for the user alone, is found
// there, and is gone after it was removed. What else the file holds stays.
func TestLoginSave(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir) // no helper and no gh
	file := authFile(t, filepath.Join(dir, ".docker", "config.json"), "other.example.com", "kept")
	env := map[string]string{"HOME": dir}
	logins := &ghcr.Logins{Getenv: func(name string) string { return env[name] }}
	if c, err := logins.Credential(t.Context(), "ghcr.io"); err != nil || !c.IsZero() {
		t.Fatalf("before: %v, %v", c, err)
	}
	where, err := logins.Save(t.Context(), "ghcr.io", transport.Credential{Password: transport.NewSecret("ghp_new")}, true)
	if err != nil || where != file {
		t.Fatalf("saved in %s, %v", where, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	if c, err := logins.Credential(t.Context(), "ghcr.io"); err != nil || c.Password.Reveal() != "ghp_new" || c.Source != file {
		t.Errorf("after: %v, %v", c, err)
	}
	env["GH_TOKEN"] = "ghp_first, ghp_second"
	var places []string
	for _, p := range logins.Places(t.Context(), "ghcr.io") {
		if len(p.Logins) > 0 {
			places = append(places, fmt.Sprintf("%s %d", p.Name, len(p.Logins)))
		}
	}
	if want := []string{"GH_TOKEN 2", file + " 1"}; !slices.Equal(places, want) {
		t.Errorf("logins in %q, want %q", places, want)
	}
	removed, err := logins.Remove(t.Context(), "ghcr.io")
	if err != nil || !slices.Equal(removed, []string{file}) {
		t.Errorf("removed from %v, %v", removed, err)
	}
	if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), "ghcr.io") || !strings.Contains(string(data), "other.example.com") {
		t.Errorf("the file has %s, %v", data, err)
	}
	if removed, err := logins.Remove(t.Context(), "ghcr.io"); err != nil || len(removed) > 0 {
		t.Errorf("again: removed from %v, %v", removed, err)
	}
	if _, err := logins.Save(t.Context(), "ghcr.io", transport.Credential{}, true); !errors.Is(err, ghcr.ErrInvalid) {
		t.Errorf("no token: got %v", err)
	}
	none := &ghcr.Logins{Getenv: func(string) string { return "" }}
	if _, err := none.Save(t.Context(), "ghcr.io", transport.Credential{Password: transport.NewSecret("x")}, true); !errors.Is(err, ghcr.ErrInvalid) {
		t.Errorf("no home: got %v", err)
	}
}

func TestHint(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"write_package":  {&transport.Error{Status: 403, Message: "permission_denied: write_package"}, "packages: write"},
		"installation":   {&transport.Error{Status: 403, Message: "installation not allowed to Create organization package"}, "packages: write"},
		"scopes":         {&transport.Error{Status: 403, Message: "permission_denied: The token provided does not match expected scopes."}, "write:packages"},
		"expired":        {&transport.Error{Status: 401, Message: "unauthenticated: User cannot be authenticated with the token provided.", Credential: "GH_TOKEN"}, "GH_TOKEN is expired"},
		"anonymous":      {&transport.Error{Status: 401, Credential: "anonymous"}, "You are anonymous"},
		"not found":      {&transport.Error{Status: 404, Method: "GET", Credential: "GH_TOKEN"}, "token from GH_TOKEN"},
		"limit":          {&transport.Error{Status: 429}, "--max-wait"},
		"delete":         {&transport.Error{Status: 405, Method: "DELETE"}, "ghcr rm"},
		"plain HTTP":     {&transport.Error{Err: errors.New("http: server gave HTTP response to HTTPS client")}, "--plain-http"},
		"full disk":      {&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "run it again"},
		"nothing to add": {fmt.Errorf("plain"), ""},
	} {
		got := ghcr.Hint(fmt.Errorf("wrapped: %w", test.err))
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q in it", name, got, test.want)
		}
	}
}

// TestSeveralTokens: with commas between them, for the API to choose from.
func TestSeveralTokens(t *testing.T) {
	logins := &ghcr.Logins{Getenv: func(name string) string {
		return map[string]string{"GHCR_TOKEN": "ghp_a, ghp_b,", "GH_TOKEN": "ghp_c"}[name]
	}}
	list, err := logins.Credentials(t.Context(), "ghcr.io")
	if err != nil || len(list) != 2 || list[1].Password.Reveal() != "ghp_b" || list[0].Source == list[1].Source {
		t.Errorf("%d logins, %v", len(list), err)
	}
	if c, err := logins.Credential(t.Context(), "ghcr.io"); err != nil || c.Password.Reveal() != "ghp_a" {
		t.Errorf("the registry gets %q, %v", c.Password.Reveal(), err)
	}
}
