package ghcrtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// advise puts advisories in.
func (w *wire) advise(records ...string) {
	w.t.Helper()
	for _, r := range records {
		if err := w.server.AddAdvisory([]byte(r)); err != nil {
			w.t.Fatal(err)
		}
	}
}

const (
	lodashAdvisory = `{"ghsa_id": "GHSA-2222-3333-4444", "cve_id": "CVE-2026-2002", "severity": "high", "summary": "injection", "cwes": [{"cwe_id": "CWE-94", "name": "x"}],
		"published_at": "2026-02-01T00:00:00Z", "cvss": {"vector_string": "CVSS:3.1/AV:N", "score": 7.2},
		"vulnerabilities": [{"package": {"ecosystem": "npm", "name": "lodash"}, "vulnerable_version_range": ">= 4.0, < 4.17.21", "first_patched_version": "4.17.21"}]}`
	scopedAdvisory = `{"ghsa_id": "GHSA-5555-6666-7777", "severity": "low", "published_at": "2026-03-01T00:00:00Z",
		"vulnerabilities": [{"package": {"ecosystem": "npm", "name": "@acme/x"}, "vulnerable_version_range": "= 1.0.0-rc.1"}]}`
	malwareAdvisory = `{"ghsa_id": "GHSA-8888-8888-8888", "type": "malware", "vulnerabilities": [{"package": {"ecosystem": "npm", "name": "lodash"}, "vulnerable_version_range": "> 0"}]}`
	debianRecord    = `{"id": "DEBIAN-CVE-2026-1001", "modified": "2026-10-02T00:00:00Z", "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"}, "versions": ["3.0.11-1~deb12u2"]}]}`
	goRecord        = `{"id": "GO-2026-2102", "modified": "2026-10-02T00:00:00Z", "summary": "reset", "affected": [{"package": {"ecosystem": "Go", "name": "golang.org/x/net"},
		"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "0.17.0"}]}, {"type": "GIT", "events": [{"introduced": "abc"}]}]}]}`
	withdrawnRecord = `{"id": "GO-2026-1", "modified": "2026-10-02T00:00:00Z", "withdrawn": "2026-10-03T00:00:00Z", "affected": [{"package": {"ecosystem": "Go", "name": "golang.org/x/net"}, "versions": ["0.1.0"]}]}`
)

// osv asks OSV.
func (w *wire) osv(path, body string) answer {
	w.t.Helper()
	return w.as("").do("POST", "https://"+ghcrtest.OSVHost+"/v1/"+path, body)
}

const debianPURL = "pkg:deb/debian/openssl@3.0.11-1~deb12u2?distro=debian-11"

var advisoryQuirks = map[string]quirkTest{
	"VulnerabilityEndpoint": {
		set: func(q *ghcrtest.Quirks) { q.VulnerabilityEndpoint = 200 },
		ghcr: func(w *wire) {
			path := w.reported()
			unknown := w.api("ghp_owner", "GET", versionsPath+"/1/nonsense")
			a := w.api("ghp_owner", "GET", path)
			if w.want(a, 404, "Not Found"); a.body != unknown.body {
				w.t.Errorf("it is %s, and any unknown path %s", a.body, unknown.body)
			}
		},
		other: func(w *wire) {
			path := w.reported()
			w.want(w.api("ghp_owner", "GET", path), 200, `"package_version_id":`, `"vulnerabilities":[{"id":"CVE-2026-1001"`, `"scanned_at":null`)
			w.want(w.api("", "GET", path), 401)
			w.want(w.api("ghp_stranger", "GET", path), 404, "Package not found.")
			w.add("v2", "linux/arm64")
			w.want(w.api("ghp_owner", "GET", versionsPath+"/"+w.id("v2")+"/vulnerabilities"), 404, "not scanned")
			w.want(w.api("ghp_owner", "GET", versionsPath+"/9/vulnerabilities"), 404, "Package version not found.")
		},
	},
	"OSVPage": {
		set:   func(q *ghcrtest.Quirks) { q.OSVPage = 1 },
		ghcr:  func(w *wire) { w.advise(goRecord); w.want(w.osv("query", `{"commit":"abc"}`), 200, "GO-2026-2102") },
		other: func(w *wire) { w.osvPages() },
	},
	"OSVQualifiers": {
		set: func(q *ghcrtest.Quirks) { q.OSVQualifiers = false },
		ghcr: func(w *wire) {
			w.advise(debianRecord)
			w.want(w.osv("query", `{"package":{"purl":"`+debianPURL+`"}}`), 200, "DEBIAN-CVE-2026-1001") // of another release
			if a := w.osv("query", `{"package":{"purl":"`+debianPURL+`&arch=amd64"}}`); a.status != 200 || a.body != "{}" {
				w.t.Errorf("got %d %s", a.status, a.body)
			}
		},
		other: func(w *wire) {
			w.advise(debianRecord)
			w.want(w.osv("query", `{"package":{"purl":"`+debianPURL+`&arch=amd64"}}`), 200, "DEBIAN-CVE-2026-1001")
		},
	},
}

// reported returns the path of the report of a version that has one.
func (w *wire) reported() string {
	w.t.Helper()
	w.image()
	if err := w.server.AddVulnerabilityReport("acme/app", "v1", []byte(`{"vulnerabilities":[{"id":"CVE-2026-1001","severity":"Critical"}]}`)); err != nil {
		w.t.Fatal(err)
	}
	return versionsPath + "/" + w.id("v1") + "/vulnerabilities"
}

func (w *wire) osvPages() {
	w.t.Helper()
	w.advise(goRecord, strings.Replace(goRecord, "2102", "2103", 1))
	var page struct {
		Vulns []struct{ ID string }
		Next  string `json:"next_page_token"`
	}
	w.decode(w.osv("query", `{"package":{"purl":"pkg:golang/golang.org/x/net@0.1.0"}}`), &page)
	if len(page.Vulns) != 1 || page.Next == "" {
		w.t.Fatalf("got %+v", page)
	}
	w.want(w.osv("query", `{"package":{"purl":"pkg:golang/golang.org/x/net@0.1.0"},"page_token":"`+page.Next+`"}`), 200, "GO-2026-2103")
	w.want(w.osv("query", `{"package":{"purl":"pkg:golang/golang.org/x/net@0.1.0"},"page_token":"x"}`), 400)
	w.want(w.osv("querybatch", `{"queries":[{"package":{"purl":"pkg:golang/golang.org/x/net@0.1.0"}}]}`), 200, `"next_page_token"`)
}

// TestAdvisories: the filters, without a login, in pages.
func TestAdvisories(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.advise(lodashAdvisory, scopedAdvisory, malwareAdvisory)
		for query, want := range map[string]string{
			"": "[GHSA-5555-6666-7777 GHSA-2222-3333-4444]", "?type=malware": "[GHSA-8888-8888-8888]", "?ghsa_id=GHSA-8888-8888-8888": "[GHSA-8888-8888-8888]",
			"?cve_id=CVE-2026-2002": "[GHSA-2222-3333-4444]", "?severity=low": "[GHSA-5555-6666-7777]", "?cwes=94": "[GHSA-2222-3333-4444]",
			"?affects=lodash@4.17.20,other": "[GHSA-2222-3333-4444]", "?affects=lodash@4.17.21": "[]", "?affects=lodash@3.9": "[]", "?affects=lodash": "[GHSA-2222-3333-4444]",
			"?affects[]=@acme/x@1.0.0-rc.1": "[GHSA-5555-6666-7777]", "?affects=@acme/x@1.0.0": "[]", "?ecosystem=pip&affects=lodash": "[]", "?ecosystem=npm&direction=asc": "[GHSA-2222-3333-4444 GHSA-5555-6666-7777]",
			"?is_withdrawn=true": "[]",
		} {
			var list []struct {
				GHSA string `json:"ghsa_id"`
			}
			w.decode(w.api("", "GET", "/advisories"+query), &list)
			got := []string{}
			for _, a := range list {
				got = append(got, a.GHSA)
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%q: %v, want %s", query, got, want)
			}
		}
		first := w.api("", "GET", "/advisories?per_page=1")
		w.linked(first, "next", "https://api.github.com/advisories?after=")
		w.want(w.as("").do("GET", link(first, "next"), ""), 200, "GHSA-2222-3333-4444")
		w.want(w.api("", "GET", "/advisories/GHSA-2222-3333-4444"), 200, `"cvss":{`, `"references":[]`, `"html_url":"https://github.com/advisories/GHSA-2222-3333-4444"`)
		if a := w.api("", "GET", "/advisories/GHSA-2222-3333-4444", "X-GitHub-Api-Version", "2026-03-10"); strings.Contains(a.body, `"cvss":`) {
			t.Errorf("the newer version has it still: %s", a.body)
		}
		w.want(w.api("", "GET", "/advisories/GHSA-none"), 404)
		w.want(w.api("", "GET", "/advisories?ecosystem=deb"), 422)
		w.want(w.api("", "GET", "/advisories?affects="+strings.Repeat("a,", 1000)+"a"), 422, "more than 1000")
		w.want(w.api("", "GET", "/advisories?affects="+strings.Repeat("package,", 1100)), 414)
		if err := w.server.AddAdvisory([]byte(`{"name":"x"}`)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOSV: what its API finds, and what it is not asked.
func TestOSV(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.advise(goRecord, debianRecord, withdrawnRecord)
		for query, want := range map[string]string{
			`{"package":{"name":"golang.org/x/net","ecosystem":"Go"},"version":"0.16.0"}`: "GO-2026-2102",
			`{"package":{"name":"golang.org/x/net","ecosystem":"Go"},"version":"0.17.0"}`: "",
			`{"package":{"purl":"pkg:golang/golang.org/x/net"},"version":"0.16.0"}`:       "GO-2026-2102",
			`{"package":{"purl":"pkg:golang/golang.org/x/net@0.17.0"}}`:                   "",
			`{"package":{"name":"openssl","ecosystem":"Debian:12"}}`:                      "DEBIAN-CVE-2026-1001",
			`{"package":{"name":"openssl","ecosystem":"Debian:11"}}`:                      "",
			`{"package":{"name":"openssl","ecosystem":"Debian"}}`:                         "DEBIAN-CVE-2026-1001",
			`{"commit":"def"}`: "",
		} {
			a := w.osv("query", query)
			if a.status != 200 || want == "" && a.body != "{}" || !strings.Contains(a.body, want) {
				t.Errorf("%s: got %d %s, want %q", query, a.status, a.body, want)
			}
		}
		w.want(w.osv("querybatch", `{"queries":[{"commit":"def"},{"commit":"abc"}]}`), 200, `{"results":[{},{"vulns":[{"id":"GO-2026-2102","modified":"2026-10-02T00:00:00Z"}]}]}`)
		w.want(w.osv("query", `{"version":"1","package":{"purl":"pkg:golang/golang.org/x/net@0.16.0"}}`), 400, `"code":3`, "version specified in params and purl query")
		w.want(w.osv("query", `{}`), 400, "Invalid query.")
		w.want(w.osv("query", `{"package":{"purl":"golang"}}`), 400, "Invalid Package URL.")
		many, _ := json.Marshal(map[string]any{"queries": make([]struct{}, 1001)})
		w.want(w.osv("querybatch", string(many)), 400, "Too many queries.")
		w.want(w.as("").do("GET", "https://"+ghcrtest.OSVHost+"/v1/vulns/GO-2026-2102", ""), 200, `"summary":"reset"`)
		w.want(w.as("").do("GET", "https://"+ghcrtest.OSVHost+"/v1/vulns/GO-2026-1", ""), 200, "withdrawn")
		w.want(w.as("").do("GET", "https://"+ghcrtest.OSVHost+"/v1/vulns/none", ""), 404, `"code":5`)
		if r := w.server.Requests()[0]; r.Role != ghcrtest.RoleOSV || r.Route != ghcrtest.RouteOSVQuery || r.Credential != "none" {
			t.Errorf("logged as %+v", r)
		}
	})
}
