package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestServeConfig: all that a configuration can say reaches the server.
func TestServeConfig(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(`{
		"accounts": [
			{"login": "octocat", "token": "ghp_octocat", "scopes": ["read:packages"], "owners": ["acme"], "role": "read"},
			{"login": "ci", "token": "ghs_ci", "repository": "acme/app"}],
		"owners": [{"login": "Acme", "id": 9919, "kind": "Organization"}],
		"packages": [{"name": "acme/app", "visibility": "internal", "repository": "acme/app", "downloads": 3, "access": {"acme/app": "admin"}}],
		"repositories": [{"name": "acme/app", "dependabot": "off"}, {"name": "acme/hidden", "private": true, "codeScanning": "on"}],
		"public": ["acme/open"],
		"ahead": "24h",
		"quirks": {"RESTHourly": 7, "TokenTTL": "90s", "signedURLTTL": 60000000000}
	}`), 0o644); err != nil {
		t.Fatal(err)
	}
	opts, err := serveOptions("ghcr", config)
	if err != nil {
		t.Fatal(err)
	}
	if q := opts.Quirks; q.TokenTTL != 90*time.Second || q.SignedURLTTL != time.Minute || q.RESTPoints != ghcrtest.GHCR().RESTPoints {
		t.Errorf("quirks %+v", q)
	}
	server, err := ghcrtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.Add("acme/app", "v1", demoImage()); err != nil {
		t.Fatal(err)
	}
	if n := server.Downloads("acme/app", "v1"); n != 3 {
		t.Errorf("downloads are %d", n)
	}
	for _, test := range []struct{ token, path, words string }{
		{"ghp_octocat", "/users/acme", `"login":"Acme","id":9919`},
		{"ghp_octocat", "/orgs/acme/packages/container/app", `"visibility":"internal"`},
		{"ghp_octocat", "/orgs/acme/packages/container/open", `"visibility":"public"`},
		{"ghp_octocat", "/rate_limit", `"limit":7`},
		{"ghp_octocat", "/repos/acme/app", `"default_branch":"main","visibility":"public"`},
		{"ghs_ci", "/repos/acme/app/dependabot/alerts", "Dependabot alerts are disabled"},
		{"ghs_ci", "/orgs/acme/packages/container/app", `"full_name":"acme/app"`},
	} {
		req, err := http.NewRequest(http.MethodGet, "https://"+ghcrtest.APIHost+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+test.token)
		resp, err := server.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), test.words) {
			t.Errorf("%s by %s: got %s, %v; want %s", test.path, test.token, body, err, test.words)
		}
	}
	for _, text := range []string{`{"ahead": "a day"}`, `{"packages": [{"nmae": "acme/app"}]}`, `{"quirks": {"RESTHuorly": 1}}`, `{"quirks": {"TokenTTL": "soon"}}`, `[]`} {
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := serveOptions("ghcr", config); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), config) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestServeFaults: what goes wrong is read from a file, and one that makes no sense is
// refused before anything is served.
func TestServeFaults(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "faults.json")
	for text, says := range map[string]string{
		`[{"use": "F3a"}, {"match": {"route": "tags"}, "do": {"delay": "1.5s"}}]`: "",
		`[{"use": "F0"}]`:                       `fault 1: "F0": use: there is no fault`,
		`[{}, {"match": {"route": "nowhere"}}]`: "fault 2: match.route",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		faults, err := readFaults(file)
		if says == "" {
			if err != nil || len(faults) != 2 || faults[0].Status != 503 || faults[1].Delay != 1500*time.Millisecond {
				t.Errorf("%s: %+v, %v", text, faults, err)
			}
			continue
		}
		if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if _, err := readFaults(file + ".none"); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("no file: %v", err)
	}
}
