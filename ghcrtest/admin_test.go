package ghcrtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// operator speaks to a server's own API over a socket.
type operator struct {
	t      *testing.T
	server *ghcrtest.Running
}

func newOperator(t *testing.T) *operator {
	return &operator{t, ghcrtest.Start(t, ghcrtest.Options{Admin: true})}
}

func (o *operator) send(method, path, contentType string, body []byte, change ...func(*http.Request)) (int, string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, o.server.URL()+"/_sim/"+path, bytes.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// must sends what has to succeed, and reads the answer.
func (o *operator) must(method, path, contentType string, body []byte, v any) {
	o.t.Helper()
	status, text := o.send(method, path, contentType, body)
	if status != 200 {
		o.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			o.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// get reads from the registry.
func (o *operator) get(path string) int {
	o.t.Helper()
	req, err := http.NewRequest(http.MethodGet, o.server.URL()+path, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+encoded(ghcrtest.Token))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		o.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

const v1Path = "/v2/acme/app/manifests/v1"

// TestAdmin goes through all that the API can do.
func TestAdmin(t *testing.T) {
	o := newOperator(t)
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 2<<20))
	o.must("POST", "seed?repo=acme/app&tag=v1", "application/x-tar", layoutTar(t, img, ""), nil)
	if err := o.server.Holds("acme/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	status, archive := o.send("GET", "snapshot", "", nil)
	if status != 200 || !bytes.Equal([]byte(archive), snapshotOf(t, o.server.Server)) {
		t.Errorf("snapshot: %d, %d bytes", status, len(archive))
	}

	var rules []struct {
		Name, What string
		Happened   int
	}
	o.must("PUT", "faults", "application/json", []byte(`[{"name": "away", "match": {"route": "manifest"}, "do": {"status": 503}}]`), &rules)
	o.must("POST", "faults", "application/json; charset=utf-8", []byte(`[{"use": "F1a"}]`), &rules)
	if len(rules) != 2 || rules[0].Name != "away" || rules[1].Name != "F1a" {
		t.Errorf("rules %+v", rules)
	}
	for i, want := range []int{503, 429, 200} {
		if got := o.get(v1Path); got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
	o.must("GET", "faults", "", nil, &rules)
	if rules[0].Happened != 1 || rules[0].What != "status 503" {
		t.Errorf("rules %+v", rules)
	}
	_, log := o.send("GET", "faults/log", "", nil)
	var record ghcrtest.FaultRecord
	first, _, _ := strings.Cut(log, "\n")
	if err := json.Unmarshal([]byte(first), &record); err != nil || record.Name != "away" || record.Request != 1 || record.Path != v1Path {
		t.Errorf("the fault log says %s: %v", log, err)
	}
	o.must("DELETE", "faults", "", nil, nil)
	if o.must("GET", "faults", "", nil, &rules); len(rules) != 0 {
		t.Errorf("rules %+v", rules)
	}

	_, log = o.send("GET", "requests", "", nil)
	var request ghcrtest.Request
	first, _, _ = strings.Cut(log, "\n")
	if err := json.Unmarshal([]byte(first), &request); err != nil || request.Route != ghcrtest.RouteManifest || request.Status != 503 || !request.Fault || strings.Count(log, "\n") != 3 {
		t.Errorf("the log says %s: %v", log, err)
	}

	var summary struct {
		Now                        time.Time
		Requests, Faults, Happened int
		Uploads, Packages          int
	}
	o.must("POST", "clock", "application/json", []byte(`{"advance": "48h"}`), &summary)
	if ahead := time.Until(summary.Now); ahead < 47*time.Hour || summary.Requests != 3 || summary.Happened != 2 || summary.Packages != 1 {
		t.Errorf("%s ahead, %+v", ahead, summary)
	}
	for _, path := range []string{"expire-tokens", "expire-signed-urls", "drop-sessions"} {
		o.must("POST", path, "", nil, nil)
	}
	o.must("DELETE", "faults/log", "", nil, nil)
	o.must("DELETE", "requests", "", nil, nil)
	if status, log := o.send("GET", "requests", "", nil); status != 200 || log != "" {
		t.Errorf("%d %s", status, log)
	}
	o.must("POST", "reset", "", nil, &summary)
	if got := o.get(v1Path); got != 404 || summary.Packages != 0 || time.Until(summary.Now) > time.Hour {
		t.Errorf("after a reset: %d, %+v", got, summary)
	}
	o.must("PUT", "snapshot", "application/x-tar", []byte(archive), nil)
	if got := o.get(v1Path); got != 200 {
		t.Errorf("after the snapshot: %d", got)
	}
	var catalogue []struct{ ID, Title, Must string }
	if o.must("GET", "faults/catalogue", "", nil, &catalogue); len(catalogue) != len(ghcrtest.Catalogue()) || catalogue[0].ID != "F1a" {
		t.Errorf("catalogue %+v", catalogue)
	}
}

// TestAdminRefuses web pages, whatever their name leads to, and what it does not
// understand.
func TestAdminRefuses(t *testing.T) {
	o := newOperator(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for name, test := range map[string]struct {
		method, path, contentType, body string
		change                          func(*http.Request)
		want                            int
	}{
		"a page of another origin":   {"POST", "reset", "", "", header("Origin", "https://evil.example"), 403},
		"a page of this machine":     {"POST", "reset", "", "", header("Origin", "http://127.0.0.1:8080"), 403},
		"a page of no origin":        {"GET", "", "", "", header("Origin", "null"), 403},
		"a name that was bound anew": {"GET", "requests", "", "", host("evil.example"), 403},
		"the emulated host":          {"GET", "requests", "", "", host("ghcr.io"), 403},
		"localhost":                  {"GET", "requests", "", "", host("localhost:5000"), 200},
		"the other loopback":         {"GET", "requests", "", "", host("[::1]:5000"), 200},
		"a form":                     {"PUT", "faults", "application/x-www-form-urlencoded", "[]", nil, 415},
		"no type":                    {"PUT", "faults", "", "[]", nil, 415},
		"JSON for a tar file":        {"POST", "seed?repo=acme/app", "application/json", "[]", nil, 415},
		"no rules":                   {"PUT", "faults", "application/json", "{}", nil, 400},
		"a bad rule":                 {"POST", "faults", "application/json", `[{"use": "F99"}]`, nil, 400},
		"a bad duration":             {"POST", "clock", "application/json", `{"advance": 5}`, nil, 400},
		"an unknown field":           {"POST", "clock", "application/json", `{"advanced": "5s"}`, nil, 400},
		"no layout":                  {"POST", "seed?repo=acme/app", "application/x-tar", "", nil, 400},
		"no snapshot":                {"PUT", "snapshot", "application/x-tar", "", nil, 400},
		"no repository":              {"POST", "seed", "application/x-tar", "", nil, 400},
		"unknown":                    {"GET", "nothing", "", "", nil, 404},
		"unknown method":             {"PATCH", "faults", "", "", nil, 404},
	} {
		var change []func(*http.Request)
		if test.change != nil {
			change = append(change, test.change)
		}
		status, text := o.send(test.method, test.path, test.contentType, []byte(test.body), change...)
		var told struct{ Error string }
		if json.Unmarshal([]byte(text), &told); status != test.want || status != 200 && told.Error == "" {
			t.Errorf("%s: %d %s, want %d", name, status, text, test.want)
		}
	}
	off := ghcrtest.Start(t, ghcrtest.Options{})
	resp, err := http.Get(off.URL() + "/_sim/requests")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("when it is off: %d", resp.StatusCode)
	}
}

// TestAdminTellsNoSecrets: what logged in, signed and was uploaded is in no log.
func TestAdminTellsNoSecrets(t *testing.T) {
	o := newOperator(t)
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 100))
	if err := o.server.Add("acme/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	o.server.Inject(ghcrtest.Fault{Times: -1, Header: http.Header{"X-Fault": {"1"}}})
	blob := "/v2/acme/app/blobs/" + img.Manifest.Layers[0].Digest.String()
	req, err := http.NewRequest(http.MethodGet, o.server.URL()+blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("canary", "ghp_canary")
	for _, bearer := range []string{"", encoded(ghcrtest.Token), "ghp_canary"} {
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	resp, err := http.Get(o.server.URL() + "/token?account=canary&password=ghp_canary&scope=repository:acme/app:pull")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, path := range []string{"requests", "faults/log", "faults", ""} {
		_, text := o.send("GET", path, "", nil)
		for _, secret := range []string{"ghp_", encoded(ghcrtest.Token), encoded("canary:ghp_canary"), `sig=0`, `Z2hw`} {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %s: %s", path, secret, text)
			}
		}
	}
}

// TestAdminSecurity: what is known of security is put in over the API, and answered on the
// same socket.
func TestAdminSecurity(t *testing.T) {
	o := newOperator(t)
	img := ghcrtest.NewImage("linux/amd64")
	if err := o.server.Add("acme/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	const json = "application/json"
	o.must("PUT", "repository", json, []byte(`{"name": "acme/source", "private": true, "codeScanning": "on"}`), nil)
	o.must("POST", "attestations?repository=acme/source", json, ghcrtest.Bundle(ghcrtest.Statement(provenanceType, `{}`, img)), nil)
	o.must("POST", "sarif?repository=acme/source&ref=refs/heads/main", json, ghcrtest.TrivySARIF("acme/app", img, openssl), nil)
	o.must("POST", "dependabot?repository=acme/source", json, []byte(`{"security_advisory": {"severity": "high"}}`), nil)
	o.must("POST", "advisories", json, []byte(goRecord), nil)
	o.must("POST", "advisories", json, []byte(lodashAdvisory), nil)
	o.must("POST", "reports?repo=acme/app&ref=v1", json, []byte(`{"vulnerabilities": []}`), nil)
	for _, path := range []string{attestationOf("acme", img), codePath + "alerts", dependabotPath, "/advisories/GHSA-2222-3333-4444", "/api/v3" + codePath + "analyses", "/v1/vulns/GO-2026-2102"} {
		req, err := http.NewRequest(http.MethodGet, o.server.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+ghcrtest.Token)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || len(body) < 10 {
			t.Errorf("%s: %d %s, %v", path, resp.StatusCode, body, err)
		}
		if path == attestationOf("acme", img) && !strings.Contains(string(body), `"bundle_url":"http://localhost:`) {
			t.Errorf("the bundle is not on another host: %s", body)
		}
	}
	for path, body := range map[string]string{
		"attestations?repository=acme/source": `{}`, "attestations": string(ghcrtest.Bundle(ghcrtest.Statement(provenanceType, `{}`, img))), "sarif?repository=acme/source": `{}`,
		"dependabot?repository=acme": `{}`, "advisories": `[]`, "sarif?repository=acme/source&commit=main": string(ghcrtest.TrivySARIF("acme/app", img)),
	} {
		if status, text := o.send("POST", path, json, []byte(body)); status != 400 {
			t.Errorf("POST %s: %d %s", path, status, text)
		}
	}
	for _, body := range []string{`{"name": "acme"}`, `{"name": "acme/app", "dependabot": "yes"}`, `{"name": "acme/app", "nonsense": 1}`} {
		if status, text := o.send("PUT", "repository", json, []byte(body)); status != 400 {
			t.Errorf("PUT repository %s: %d %s", body, status, text)
		}
	}
}

// TestSecurityFaults: what comes and goes is a fault on one of the routes.
func TestSecurityFaults(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		w.sarif(ghcrtest.SARIFUpload{SARIF: ghcrtest.TrivySARIF("acme/app", img, openssl)})
		bundle := w.attest("acme/source", provenanceType, img)
		faults, err := ghcrtest.ParseFaults([]byte(`[
			{"match": {"route": "code-scanning-alerts"}, "do": {"status": 503, "body": "{\"code\":\"503\",\"message\":\"Service unavailable\"}"}},
			{"match": {"route": "attestation-bundle"}, "do": {"corrupt": true}}]`))
		if err != nil {
			t.Fatal(err)
		}
		w.server.Inject(faults...)
		w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 503, `"code":"503"`)
		w.want(w.api("ghp_owner", "GET", codePath+"alerts"), 200)
		address := w.attestations(attestationOf("acme", img))[0].BundleURL
		wrong, right := w.as("").do("GET", address, ""), w.as("").do("GET", address, "")
		if unsnap(t, right.body) != string(bundle) || wrong.body == right.body || wrong.body[2:] != right.body[2:] {
			t.Error("the length is not what is wrong, or what is not")
		}
	})
}
