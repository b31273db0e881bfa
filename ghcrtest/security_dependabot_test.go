package ghcrtest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

const (
	dependabotPath = "/repos/acme/source/dependabot/alerts"
	graphPath      = "/repos/acme/source/dependency-graph/"
)

// alert puts an alert of Dependabot in.
func (w *wire) alert(repository, ecosystem, name, severity string, more ...string) {
	w.t.Helper()
	raw := fmt.Sprintf(`{"dependency":{"package":{"ecosystem":%q,"name":%q},"manifest_path":"lock.json","scope":"runtime","relationship":"direct"},
		"security_advisory":{"ghsa_id":"GHSA-%s","severity":%q,"epss":{"percentage":0.3}},"security_vulnerability":{"first_patched_version":{"identifier":"2"}}%s}`,
		ecosystem, name, name, severity, strings.Join(more, ""))
	if err := w.server.AddDependabotAlert(repository, []byte(raw)); err != nil {
		w.t.Fatal(err)
	}
}

// submission is a snapshot of packages, by purl.
func submission(correlator, ref string, purls ...string) string {
	resolved := map[string]any{}
	for _, p := range purls {
		resolved[p] = map[string]any{"package_url": p, "relationship": "direct"}
	}
	raw, _ := json.Marshal(map[string]any{
		"version": 0, "sha": strings.Repeat("c", 40), "ref": ref, "scanned": "2026-01-01T00:00:00Z", "job": map[string]any{"id": "1", "correlator": correlator},
		"detector":  map[string]any{"name": "trivy", "version": "0.67.0", "url": "https://github.com/aquasecurity/trivy"},
		"manifests": map[string]any{"ghcr.io/acme/app:v1": map[string]any{"name": "ghcr.io/acme/app:v1", "resolved": resolved}},
	})
	return string(raw)
}

var dependencyQuirks = map[string]quirkTest{
	"RESTDependencyLimit": {
		set: func(q *ghcrtest.Quirks) { q.RESTDependencyLimit = 0 },
		ghcr: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			var last answer
			for range 100 {
				last = w.api("ghp_owner", "GET", graphPath+"sbom")
			}
			w.want(last, 200)
			if h := last.header; h.Get("X-RateLimit-Resource") != "dependency_sbom" || h.Get("X-RateLimit-Limit") != "100" || h.Get("X-RateLimit-Remaining") != "0" {
				w.t.Errorf("got %v", h)
			}
			w.want(w.api("ghp_owner", "GET", graphPath+"sbom"), 403, "API rate limit exceeded")
			w.want(w.post("ghp_owner", graphPath+"snapshots", submission("a", "refs/heads/main")), 201)
			w.want(w.api("ghp_owner", "GET", "/rate_limit"), 200, `"dependency_sbom":{"limit":100,"remaining":0`, `"dependency_snapshots":{"limit":100,"remaining":99`, `"core":{"limit":5000,"remaining":5000`)
			time.Sleep(time.Minute)
			w.want(w.api("ghp_owner", "GET", graphPath+"sbom"), 200)
		},
		other: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			if a := w.api("ghp_owner", "GET", graphPath+"sbom"); a.header.Get("X-RateLimit-Resource") != "core" || a.header.Get("X-RateLimit-Remaining") != "4999" {
				w.t.Errorf("got %v", a.header)
			}
		},
	},
}

// TestDependabotAlerts: what is filled in, the filters, pages, and an owner's.
func TestDependabotAlerts(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.alert("acme/source", "npm", "lodash", "high")
		time.Sleep(time.Hour)
		w.alert("acme/source", "pip", "jinja2", "low", `,"state":"dismissed","dismissed_reason":"not_used"`)
		w.alert("acme/other", "npm", "lodash", "high")
		w.want(w.api("ghp_owner", "GET", dependabotPath+"/1"), 200, `"number":1`, `"state":"open"`, `"fixed_at":null`, `"created_at":"2000-01-01T00:00:00Z"`,
			`"url":"https://api.github.com/repos/acme/source/dependabot/alerts/1"`, `"html_url":"https://github.com/acme/source/security/dependabot/1"`)
		w.want(w.api("ghp_owner", "GET", dependabotPath+"/3"), 404)
		for query, want := range map[string]string{
			"": "[2 1]", "?state=open": "[1]", "?state=open,dismissed": "[2 1]", "?severity=low": "[2]", "?ecosystem=npm": "[1]", "?package=jinja2,x": "[2]", "?manifest=other": "[]",
			"?scope=development": "[]", "?has=patch": "[2 1]", "?epss_percentage=>0.5": "[]", "?epss_percentage=0.1..0.4": "[2 1]", "?direction=asc": "[1 2]", "?classification=malware": "[]", "?per_page=1": "[2]",
		} {
			var list []struct{ Number int }
			w.decode(w.api("ghp_owner", "GET", dependabotPath+query), &list)
			got := []int{}
			for _, a := range list {
				got = append(got, a.Number)
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%q: %v, want %s", query, got, want)
			}
		}
		w.linked(w.api("ghp_owner", "GET", dependabotPath+"?per_page=1"), "next", "/dependabot/alerts?after=")
		w.want(w.api("ghp_owner", "GET", dependabotPath+"?state=closed"), 422)
		w.want(w.api("ghp_owner", "GET", dependabotPath+"?epss_percentage=x"), 422)
		w.want(w.api("ghp_owner", "GET", "/orgs/acme/dependabot/alerts?ecosystem=npm"), 200, `"full_name":"acme/source"`, `"full_name":"acme/other"`)
		w.image()
		w.set(ghcrtest.Package{Repository: "acme/source"})
		a := w.api("ghp_owner", "GET", "/orgs/acme/dependabot/alerts?artifact_registry_url=https://ghcr.io")
		if w.want(a, 200, `"full_name":"acme/source"`); strings.Contains(a.body, "acme/other") {
			t.Errorf("it has what no package is linked to: %s", a.body)
		}
	})
}

// TestDependabotRefusals: switched off, and not permitted.
func TestDependabotRefusals(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.repository(ghcrtest.Repository{Name: "acme/source", Dependabot: "off"})
		w.want(w.api("ghp_owner", "GET", dependabotPath), 403, "Dependabot alerts are disabled for this repository.")
		w.repository(ghcrtest.Repository{Name: "acme/source"})
		w.want(w.api("ghp_owner", "GET", dependabotPath), 200, "[]")
		w.want(w.api("ghp_stranger", "GET", dependabotPath), 403, "You are not authorized to perform this operation.")
		w.want(w.api("ghs_own", "GET", dependabotPath), 403, "Resource not accessible by integration")
		for _, r := range []ghcrtest.Repository{{Name: "acme/source", Private: true}, {Name: "acme/source", Fork: true}, {Name: "acme/source", DependencyGraph: "off"}} {
			w.repository(r)
			w.want(w.api("ghp_owner", "GET", graphPath+"sbom"), 403, "Dependency graph is disabled for this repository.")
		}
	})
}

// TestDependencySnapshots: what is submitted is in the SBOM, and has alerts until it is
// submitted no more.
func TestDependencySnapshots(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.repository(ghcrtest.Repository{Name: "acme/source"})
		w.advise(lodashAdvisory)
		submit := func(body string, status int, words ...string) {
			t.Helper()
			w.want(w.post("ghp_owner", graphPath+"snapshots", body), status, words...)
		}
		submit(submission("a", "refs/heads/dev", "pkg:npm/lodash@4.17.20"), 201, `"result":"ACCEPTED"`)
		w.want(w.api("ghp_owner", "GET", dependabotPath), 200, "[]")
		submit(submission("a", "refs/heads/main", "pkg:npm/lodash@4.17.20", "pkg:npm/%40acme/x@1.0.0"), 201, `"result":"SUCCESS"`)
		submit(submission("a", "refs/heads/main", "pkg:npm/lodash@4.17.20"), 201)
		submit(submission("b", "refs/heads/main", "pkg:golang/golang.org/x/net@0.16.0"), 201)
		a := w.api("ghp_owner", "GET", dependabotPath)
		w.want(a, 200, `"manifest_path":"ghcr.io/acme/app:v1"`, `"first_patched_version":{"identifier":"4.17.21"}`, `"ghsa_id":"GHSA-2222-3333-4444"`, `"classification":"general"`)
		if strings.Contains(a.body, `"number":2`) {
			t.Errorf("the same package has two alerts: %s", a.body)
		}
		w.want(w.api("ghp_owner", "GET", graphPath+"sbom"), 200, `"SPDXID":"SPDXRef-DOCUMENT"`, `"referenceLocator":"pkg:npm/lodash@4.17.20"`, "golang.org/x/net")
		submit(submission("a", "refs/heads/main", "pkg:npm/lodash@4.17.21"), 201)
		w.want(w.api("ghp_owner", "GET", dependabotPath), 200, `"state":"fixed"`)
		submit(strings.Replace(submission("a", "refs/heads/main"), `"sha":"cc`, `"sha":"main`, 1), 422, "sha")
		submit(submission("a", "main"), 422, "ref")
		submit(`{}`, 422)
		w.want(w.post("ghp_stranger", graphPath+"snapshots", `{}`), 403)
	})
}

// TestSecuritySnapshot: every kind of row is in a snapshot, and the same after it was
// restored.
func TestSecuritySnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var was string
	inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
		w.repository(ghcrtest.Repository{Name: "acme/source", DefaultBranch: "trunk"})
		img := w.image()
		w.attest("acme/source", provenanceType, img)
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", img, openssl), Ref: "refs/heads/trunk"})
		w.alert("acme/source", "npm", "lodash", "high")
		w.advise(lodashAdvisory, goRecord)
		if err := w.server.DismissAlert("acme/source", 1, "false positive", ""); err != nil {
			t.Fatal(err)
		}
		if err := w.server.AddVulnerabilityReport("acme/app", "v1", []byte(`{"vulnerabilities":[]}`)); err != nil {
			t.Fatal(err)
		}
		w.want(w.post(ghcrtest.Token, graphPath+"snapshots", submission("a", "refs/heads/trunk", "pkg:npm/lodash@4.17.20")), 201)
		was = string(snapshotOf(t, w.server))
	})
	look := func(w *wire) {
		t.Helper()
		if again := string(snapshotOf(t, w.server)); again != was {
			t.Error("it is not the same any more")
		}
		w.want(w.api(ghcrtest.Token, "GET", codePath+"alerts?state=dismissed"), 200, openssl.ID)
		w.want(w.api(ghcrtest.Token, "GET", dependabotPath), 200, `"number":2`)
		w.want(w.api(ghcrtest.Token, "GET", graphPath+"sbom"), 200, "lodash")
		w.want(w.api(ghcrtest.Token, "GET", "/advisories"), 200, "GHSA-2222-3333-4444")
		w.want(w.osv("query", `{"commit":"abc"}`), 200, "GO-2026-2102")
	}
	inDir(t, dir, ghcrtest.Options{}, look)
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.Restore(strings.NewReader(was)); err != nil {
		t.Fatal(err)
	}
	look(&wire{t: t, server: server})
}
