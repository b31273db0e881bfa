package ghcrtest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

var (
	openssl = ghcrtest.Finding{ID: "CVE-2026-1001", Severity: "CRITICAL", Score: 9.1, Title: "memory corruption", Package: "libssl3", Version: "3.0.11", Fixed: "3.0.13"}
	zlib    = ghcrtest.Finding{ID: "CVE-2026-4004", Severity: "LOW", Score: 2, Title: "overflow", Package: "zlib1g", Version: "1.2.13"}
	lodash  = ghcrtest.Finding{ID: "GHSA-2222-3333-4444", Severity: "HIGH", Score: 7.2, Title: "injection", Package: "lodash", Version: "4.17.20", Fixed: "4.17.21", PURL: "pkg:npm/lodash@4.17.20", Path: "app/package.json"}
)

const codePath = "/repos/acme/source/code-scanning/"

// sarif has code scanning process an upload.
func (w *wire) sarif(u ghcrtest.SARIFUpload) {
	w.t.Helper()
	if u.Repository == "" {
		u.Repository = "acme/source"
	}
	if err := w.server.UploadSARIF(u); err != nil {
		w.t.Fatal(err)
	}
}

// packed is SARIF as it is uploaded.
func packed(sarif []byte) map[string]string {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(sarif)
	z.Close()
	return map[string]string{"commit_sha": strings.Repeat("a", 40), "ref": "refs/heads/main", "sarif": base64.StdEncoding.EncodeToString(out.Bytes())}
}

type codeAlert struct {
	Number   int
	State    string
	Rule     struct{ ID, Severity, Level string }
	Tool     struct{ Name string }
	FixedAt  string `json:"fixed_at"`
	Instance struct {
		Ref, Category, State string
		Commit               string `json:"commit_sha"`
		Location             struct{ Path string }
		Message              struct{ Text string }
	} `json:"most_recent_instance"`
	Repository struct {
		FullName string `json:"full_name"`
	}
}

func (w *wire) codeAlerts(query string) (list []codeAlert) {
	w.t.Helper()
	w.decode(w.api("ghp_owner", "GET", codePath+"alerts"+query), &list)
	return list
}

var scanningQuirks = map[string]quirkTest{
	"SecurityOffWording": {
		set: func(q *ghcrtest.Quirks) { q.SecurityOffWording = "Advanced Security" },
		ghcr: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source", Private: true})
			for _, path := range []string{"alerts", "analyses", "sarifs/x"} {
				w.want(w.api("ghp_owner", "GET", codePath+path), 403, "Code Security must be enabled for this repository to use code scanning.")
			}
			w.want(w.post("ghp_owner", codePath+"sarifs", `{}`), 403, "Code Security must be enabled")
			w.repository(ghcrtest.Repository{Name: "acme/source", Private: true, CodeScanning: "on"})
			w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 404, "no analysis found")
		},
		other: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source", CodeScanning: "off"})
			w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 403, "Advanced Security must be enabled for this repository to use code scanning.")
		},
	},
	"CodeScanningDelay": {
		set: func(q *ghcrtest.Quirks) { q.CodeScanningDelay = time.Minute },
		ghcr: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			w.uploaded(ghcrtest.TrivySARIF("acme/app", w.image(), openssl), `"processing_status":"complete"`)
			w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 200, openssl.ID)
		},
		other: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			status := w.uploaded(ghcrtest.TrivySARIF("acme/app", w.image(), openssl), `"processing_status":"pending"`, `"analyses_url":null`)
			w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 404, "no analysis found")
			time.Sleep(time.Minute)
			w.want(w.as("ghp_owner").do("GET", status, ""), 200, `"processing_status":"complete"`)
			w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 200, openssl.ID)
		},
	},
	"CodeScanningProperties": {
		set: func(q *ghcrtest.Quirks) { q.CodeScanningProperties = true },
		ghcr: func(w *wire) {
			if body := w.download(); strings.Contains(body, "repoDigests") {
				w.t.Errorf("it says what image it was: %s", body)
			}
		},
		other: func(w *wire) {
			if body := w.download(); !strings.Contains(body, `"repoDigests":["ghcr.io/acme/app@sha256:`) {
				w.t.Errorf("it does not say what image it was: %s", body)
			}
		},
	},
}

// uploaded uploads SARIF, and returns where its status is after that was looked at.
func (w *wire) uploaded(sarif []byte, words ...string) string {
	w.t.Helper()
	a := w.post("ghp_owner", codePath+"sarifs", packed(sarif))
	w.want(a, 202)
	var answer struct{ ID, URL string }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || !strings.HasSuffix(answer.URL, answer.ID) {
		w.t.Fatalf("%v: %s", err, a.body)
	}
	w.want(w.as("ghp_owner").do("GET", answer.URL, ""), 200, words...)
	return answer.URL
}

// download returns the SARIF of the analysis of an image.
func (w *wire) download() string {
	w.t.Helper()
	w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", w.image(), openssl, zlib)})
	var list []struct {
		ID      int64
		URL     string
		Results int `json:"results_count"`
		Tool    struct{ Name string }
	}
	w.decode(w.api("ghp_owner", "GET", codePath+"analyses?tool_name=Trivy"), &list)
	if len(list) != 1 || list[0].Results != 2 || list[0].Tool.Name != "Trivy" {
		w.t.Fatalf("analyses %+v", list)
	}
	a := w.as("ghp_owner").do("GET", list[0].URL, "", "Accept", "application/sarif+json")
	w.want(a, 200, `"github/alertNumber":2`, `/repos/acme/source/code-scanning/alerts/1"`, `"Trivy"`)
	if a.header.Get("Content-Type") != "application/sarif+json" {
		w.t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
	w.want(w.as("ghp_owner").do("GET", list[0].URL, ""), 200, `"results_count":2`)
	return a.body
}

// TestCodeScanningAlerts: alerts follow from uploads, one for each rule and place.
func TestCodeScanningAlerts(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", img, openssl, zlib, lodash), Commit: strings.Repeat("b", 40)})
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.GrypeSARIF("acme/app", openssl)})
		list := w.codeAlerts("")
		if len(list) != 4 || list[0].Rule.ID != "CVE-2026-1001-libssl3" || list[0].Instance.Location.Path != "app/var/lib/dpkg/status" || list[3].Rule.ID != openssl.ID {
			t.Fatalf("got %+v", list)
		}
		if a := list[3]; a.State != "open" || a.Instance.Commit != strings.Repeat("b", 40) || a.Instance.Location.Path != "acme/app" || !strings.Contains(a.Instance.Message.Text, "Installed Version: 3.0.11") {
			t.Errorf("got %+v", a)
		}
		w.want(w.api("ghp_owner", "GET", codePath+"alerts/1"), 200, `"security_severity_level":"critical"`, `"severity":"error"`, `"tags":["vulnerability","security","CRITICAL"]`, `"help_uri":"https://avd`)
		w.want(w.api("ghp_owner", "GET", codePath+"alerts/9"), 404)
		// Of the same tool, category and ref the next upload counts.
		time.Sleep(time.Hour)
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", img, zlib)})
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", img, openssl), Ref: "refs/heads/dev"})
		for query, want := range map[string]int{
			"": 2, "?tool_name=Trivy": 1, "?state=fixed": 2, "?ref=refs/heads/dev": 1, "?ref=dev": 1, "?pr=7": 0, "?severity=critical": 1, "?severity=note&tool_name=Trivy": 1, "?state=closed": 2,
		} {
			if got := len(w.codeAlerts(query)); got != want {
				t.Errorf("%q: %d, want %d", query, got, want)
			}
		}
		if a := w.codeAlerts("?state=fixed")[0]; a.FixedAt != "2000-01-01T01:00:00Z" || a.Instance.State != "fixed" {
			t.Errorf("got %+v", a)
		}
		var instances []struct{ Ref, State string }
		w.decode(w.api("ghp_owner", "GET", codePath+"alerts/1/instances"), &instances)
		if fmt.Sprint(instances) != "[{refs/heads/dev open} {refs/heads/main fixed}]" {
			t.Errorf("instances %v", instances)
		}
		w.want(w.api("ghp_owner", "GET", codePath+"alerts?tool_name=a&tool_guid=b"), 422)
		w.linked(w.api("ghp_owner", "GET", codePath+"alerts?per_page=1"), "next", "https://api.github.com/repositories/", "/code-scanning/alerts?page=2&per_page=1")
	})
}

// TestCodeScanningDismissal: a dismissed alert is closed, until it is opened or fixed.
func TestCodeScanningDismissal(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", w.image(), openssl, zlib)})
		if err := w.server.DismissAlert("acme/source", 1, "won't fix", "not reachable"); err != nil {
			t.Fatal(err)
		}
		w.want(w.api("ghp_owner", "GET", codePath+"alerts?state=dismissed"), 200, `"dismissed_reason":"won't fix"`, `"dismissed_comment":"not reachable"`, `"dismissed_by":{"login":"owner"`)
		if list := w.codeAlerts(""); len(list) != 1 || list[0].Rule.ID != zlib.ID {
			t.Errorf("open are %+v", list)
		}
		patch := func(token, body string, status int) {
			t.Helper()
			w.want(w.as(token).do("PATCH", "https://api.github.com"+codePath+"alerts/1", body), status)
		}
		patch("ghp_owner", `{"state":"dismissed"}`, 400)
		patch("ghp_reader", `{"state":"open"}`, 403)
		patch("ghp_owner", `{"state":"open"}`, 200)
		if list := w.codeAlerts(""); len(list) != 2 {
			t.Errorf("open are %+v", list)
		}
		if w.server.DismissAlert("acme/source", 3, "won't fix", "") == nil || w.server.DismissAlert("acme/source", 1, "so", "") == nil {
			t.Error("it dismisses what is not there, or for no reason")
		}
	})
}

// TestCodeScanningRefusals: of whom, and of what is not taken.
func TestCodeScanningRefusals(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.repository(ghcrtest.Repository{Name: "acme/source"})
		w.repository(ghcrtest.Repository{Name: "acme/hidden", Private: true})
		for token, want := range map[string]int{"": 401, "ghp_stranger": 403, "ghp_reader": 403, "ghs_own": 403, "ghs_ci": 404, "github_pat_fine": 404, "ghp_owner": 404} {
			w.want(w.api(token, "GET", codePath+"alerts"), want)
		}
		w.want(w.api("ghp_owner", "GET", codePath+"analyses"), 404, "no analysis found", "code-scanning/code-scanning#list-code-scanning-analyses-for-a-repository")
		w.want(w.api("ghp_stranger", "GET", "/repos/acme/hidden/code-scanning/alerts"), 404, "Not Found")
		w.want(w.post("ghp_owner", codePath+"sarifs", map[string]string{"commit_sha": "main", "ref": "refs/heads/main", "sarif": ""}), 400, "commit_sha")
		plain := packed(nil)
		plain["sarif"] = base64.StdEncoding.EncodeToString([]byte(`{}`))
		w.want(w.post("ghp_owner", codePath+"sarifs", plain), 400, "not gzip compressed")
		branch := packed(nil)
		branch["ref"] = "main"
		w.want(w.post("ghp_owner", codePath+"sarifs", branch), 400, "full Git reference")
		bomb := packed(make([]byte, 65<<20))
		w.want(w.post("ghp_owner", codePath+"sarifs", bomb), 413, "too large")
		w.uploaded([]byte(`{"version":"2.0.0"}`), `"processing_status":"failed"`, "Unsupported version")
		w.uploaded([]byte(`{"version":"2.1.0","runs":[`+strings.Repeat(`{"tool":{"driver":{"name":"x"}},"results":[]},`, 20)+`{"tool":{"driver":{"name":"x"}},"results":[]}]}`), "more runs than allowed (21")
		w.uploaded([]byte(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}}}]}`), "Missing 'results' array")
		w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 404, "no analysis found")
		w.want(w.api("ghp_owner", "GET", codePath+"sarifs/none"), 404)
	})
}

// TestCodeScanningKeepsTheWorst: of many results those of the highest severity.
func TestCodeScanningKeepsTheWorst(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		var list []ghcrtest.Finding
		for i := range 5001 {
			f := zlib
			f.ID = fmt.Sprintf("CVE-2026-%d", i)
			list = append(list, f)
		}
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", w.image(), append(list, openssl)...)})
		w.want(w.api("ghp_owner", "GET", codePath+"analyses"), 200, `"results_count":5000`)
		w.want(w.api("ghp_owner", "GET", codePath+"alerts/1"), 200, openssl.ID)
	})
}

// TestCodeScanningOfOwner: the alerts of all repositories, in pages, with where they are from.
func TestCodeScanningOfOwner(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		for _, name := range []string{"acme/source", "acme/other", "owner/source"} {
			w.sarif(ghcrtest.SARIFUpload{Repository: name, SARIF: ghcrtest.TrivySARIF("acme/app", img, openssl, zlib)})
		}
		first := w.api("ghp_owner", "GET", "/orgs/acme/code-scanning/alerts?per_page=3")
		var list []codeAlert
		w.decode(first, &list)
		if len(list) != 3 || !strings.HasPrefix(list[0].Repository.FullName, "acme/") {
			t.Errorf("got %+v", list)
		}
		w.decode(w.as("ghp_owner").do("GET", link(first, "next"), ""), &list)
		if len(list) != 1 {
			t.Errorf("got %+v", list)
		}
		w.want(w.api("ghs_ci", "GET", "/orgs/acme/code-scanning/alerts"), 200, "acme/source")
		w.want(w.api("ghp_owner", "GET", "/users/owner/code-scanning/alerts"), 404)
	})
}
