package vuln

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// triaged applies VEX documents to the findings of the fixtures.
func triaged(t testing.TB, opts Options, documents ...VEX) *VulnerabilityReport {
	t.Helper()
	opts.VEX, opts.Now = documents, testNow
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "cosign-vuln.dsse.json")}, testTarget(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func vexFile(t testing.TB, name string) VEX {
	t.Helper()
	doc, err := Parse(fixture(t, name), "")
	if err != nil {
		t.Fatal(err)
	}
	doc.VEX.Document = name
	return *doc.VEX
}

// statement makes a document of one statement about lodash's flaw.
func statement(status VEXStatus, day int, product string, parts ...string) VEX {
	return VEX{ID: "x", Author: "a", Timestamp: time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC), Statements: []VEXStatement{{
		IDs: []string{"CVE-2026-2002"}, Status: status, Text: "because", Products: []VEXProduct{{IDs: []string{product}, Subcomponents: parts}},
	}}}
}

func hidden(r *VulnerabilityReport) bool {
	for _, v := range r.Vulnerabilities {
		if v.ID == "CVE-2026-2002" {
			return false
		}
	}
	return true
}

func TestVEXFiles(t *testing.T) {
	for _, name := range []string{"openvex.json", "vex.cdx.json", "vex.cdx.xml"} {
		r := triaged(t, Options{}, vexFile(t, name))
		if !hidden(r) || len(r.Suppressed) != 1 || r.Suppressed[0].By != SuppressedByVEX || r.Suppressed[0].Document != name || r.Suppressed[0].Vulnerability.VEX.Signed {
			t.Errorf("%s: suppressed %+v", name, r.Suppressed)
		}
		if strings.HasSuffix(name, ".json") && (r.Vulnerabilities[1].VEX == nil || r.Vulnerabilities[1].VEX.Status != VEXUnderInvestigation) {
			t.Errorf("%s: the triage of %s is lost", name, r.Vulnerabilities[1].ID)
		}
	}
	if r := triaged(t, Options{}, vexFile(t, "openvex-0.0.1.json")); hidden(r) || r.Vulnerabilities[1].VEX.Status != VEXAffected || r.Vulnerabilities[1].VEX.Statement != "upgrade" {
		t.Errorf("version 0.0.1: %+v", r.Vulnerabilities[1].VEX)
	}
}

func TestVEXInAnAttestation(t *testing.T) {
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "cosign-vuln.dsse.json", "openvex-attestation.json")}, testTarget(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Suppressed) != 1 || r.Suppressed[0].Vulnerability.ID != "CVE-2026-1001" || r.Suppressed[0].Document != "openvex-attestation.json" {
		t.Errorf("suppressed %+v", r.Suppressed)
	}
}

func TestVEXProducts(t *testing.T) {
	digest := func(c string) string { return strings.Replace(hexDigest(c).String(), ":", "%3A", 1) }
	for _, c := range []struct {
		product string
		parts   []string
		want    bool
	}{
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", nil, true},
		{"pkg:oci/app?repository_url=ghcr.io/acme", nil, true},
		{"pkg:oci/app@" + digest("1") + "?repository_url=ghcr.io/acme/app", nil, true},
		{"pkg:oci/app@" + digest("1"), nil, true},
		{"pkg:oci/app@" + digest("e") + "?repository_url=ghcr.io/acme/app", nil, false},
		{"pkg:oci/app?repository_url=ghcr.io/other/app", nil, false},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app&tag=v1", nil, true},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app&tag=v2", nil, false},
		{"pkg:oci/other?repository_url=ghcr.io/acme/app", nil, false},
		{"pkg:oci/app", nil, false}, // anybody's
		{hexDigest("1").String(), nil, true},
		{hexDigest("a").String(), nil, true}, // the platform that was scanned
		{hexDigest("b").String(), nil, false},
		{"ghcr.io/acme/app", nil, true},
		{"ghcr.io/acme/app:v1", nil, true},
		{"ghcr.io/acme/app:v2", nil, false},
		{"acme/app", nil, false},
		{"pkg:npm/lodash@4.17.20", nil, true},
		{"pkg:npm/lodash", nil, true},
		{"pkg:npm/lodash@4.17.19", nil, false},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", []string{"pkg:npm/lodash@4.17.20"}, true},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", []string{"pkg:npm/lodash"}, true},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", []string{"pkg:npm/lodash?arch=arm64"}, false},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", []string{"pkg:npm/underscore"}, false},
		{"pkg:oci/app?repository_url=ghcr.io/acme/app", []string{"unnamed"}, false},
	} {
		if got := hidden(triaged(t, Options{}, statement(VEXNotAffected, 1, c.product, c.parts...))); got != c.want {
			t.Errorf("%s %q: %t, want %t", c.product, c.parts, got, c.want)
		}
	}
}

func TestVEXOfOnePlatform(t *testing.T) {
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("a"), "trivy.json")}, testTarget(t),
		Options{VEX: []VEX{statement(VEXNotAffected, 1, hexDigest("a").String())}, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if !hidden(r) {
		t.Error("what is said of a platform does not hold for its own finding")
	}
}

func TestVEXConflicts(t *testing.T) {
	const image = "pkg:oci/app?repository_url=ghcr.io/acme/app"
	signed := func(v VEX) VEX {
		v.Signed = true
		return v
	}
	not, affected := VEXNotAffected, VEXAffected
	for name, c := range map[string]struct {
		documents []VEX
		want      bool
	}{
		"the later counts":                {[]VEX{statement(affected, 1, image), statement(not, 2, image)}, true},
		"in whatever order":               {[]VEX{statement(affected, 2, image), statement(not, 1, image)}, false},
		"of one time, the one that keeps": {[]VEX{statement(not, 1, image), statement(affected, 1, image)}, false},
		"a signed one before a later one": {[]VEX{signed(statement(affected, 1, image)), statement(not, 2, image)}, false},
	} {
		if got := hidden(triaged(t, Options{}, c.documents...)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestUnsignedVEX(t *testing.T) {
	doc := statement(VEXNotAffected, 1, hexDigest("1").String())
	if r := triaged(t, Options{VEXSignedOnly: true}, doc); hidden(r) || len(r.Warnings) != 1 {
		t.Errorf("an unsigned statement counts; warnings %q", r.Warnings)
	}
	doc.Signed = true
	if !hidden(triaged(t, Options{VEXSignedOnly: true}, doc)) {
		t.Error("a signed statement does not count")
	}
}

func TestVEXWithoutAReason(t *testing.T) {
	doc := statement(VEXNotAffected, 1, hexDigest("1").String())
	doc.Statements[0].Text = ""
	if r := triaged(t, Options{}, doc); hidden(r) || len(r.Warnings) != 1 {
		t.Errorf("not_affected without a reason counts; warnings %q", r.Warnings)
	}
	doc.Statements[0].Status = "fine"
	if r := triaged(t, Options{}, doc); hidden(r) || !strings.Contains(fmt.Sprint(r.Warnings), `unknown status "fine"`) {
		t.Errorf("warnings %q", r.Warnings)
	}
}
