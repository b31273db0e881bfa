package vuln

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func hexDigest(c string) oci.Digest { return oci.Digest("sha256:" + strings.Repeat(c, 64)) }

// testTarget is an index of one platform.
func testTarget(t testing.TB) Target {
	t.Helper()
	ref, err := oci.ParseRef("ghcr.io/acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	return Target{
		Ref: ref, Digest: hexDigest("1"), PackageVersionID: 42,
		Platforms: []PlatformImage{
			{Platform: oci.Platform{OS: "linux", Architecture: "amd64"}, Digest: hexDigest("a"), Config: hexDigest("c")},
		},
		Repository: "acme/app-source", DefaultBranch: "main", Pushed: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
}

// arm64 is the other platform of twoPlatforms.
var arm64 = PlatformImage{Platform: oci.Platform{OS: "linux", Architecture: "arm64"}, Digest: hexDigest("b"), Config: hexDigest("d")}

func twoPlatforms(t testing.TB) Target {
	target := testTarget(t)
	target.Platforms = append(target.Platforms, arm64)
	return target
}

func TestSpecificationFormRoundTrips(t *testing.T) {
	const form = `{"package_version_id":7,"vulnerabilities":[{"id":"CVE-2024-1234","severity":"Critical","summary":"s",` +
		`"description":"d","fixed_in":"1.2","references":["https://example.com"]},` +
		`{"id":"CVE-2024-1235","severity":"Unknown","summary":"","description":"","fixed_in":null,"references":[]}],"scanned_at":"2024-05-06T07:08:09Z"}`
	var r VulnerabilityReport
	if err := json.Unmarshal([]byte(form), &r); err != nil {
		t.Fatal(err)
	}
	if v := r.Vulnerabilities[0]; r.PackageVersionID != 7 || v.Severity != SeverityCritical || v.FixedIn != "1.2" {
		t.Errorf("read %+v", r)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`"Critical"`, `"critical"`, `"Unknown"`, `"unknown"`, `"fixed_in":null,`, "").Replace(form)
	if string(text) != want {
		t.Errorf("wrote\n%s\nwant\n%s", text, want)
	}
}

func TestNotScannedIsNotClean(t *testing.T) {
	target := testTarget(t)
	nothing := assemble([]SourceReport{{Name: SourceAttestation, Status: StatusEmpty}}, target, Options{})
	clean := assemble([]SourceReport{{Name: SourceAttestation, Status: StatusOK, Scans: []Scan{
		{Tool: "trivy", Link: LinkDigest, Subject: target.Digest, ScannedAt: time.Unix(1e9, 0)},
	}}}, target, Options{})

	text := func(r *VulnerabilityReport) string {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, part := range []string{`"vulnerabilities":null`, `"scanned_at":null`, `"state":"unavailable"`, `"complete":false`} {
		if !strings.Contains(text(nothing), part) {
			t.Errorf("not scanned: no %s in %s", part, text(nothing))
		}
	}
	if nothing.Counts != nil {
		t.Error("there are counts where nothing was scanned")
	}
	for _, part := range []string{`"vulnerabilities":[]`, `"scanned_at":"2001-`, `"state":"complete"`, `"complete":true`} {
		if !strings.Contains(text(clean), part) {
			t.Errorf("clean: no %s in %s", part, text(clean))
		}
	}
	gate := Gate{FailOn: SeverityCritical}
	if got := gate.Check(nothing, time.Now()).Outcome; got != OutcomeUnknown {
		t.Errorf("the gate says %s of an image that is not scanned", got)
	}
	if got := gate.Check(clean, time.Now()).Outcome; got != OutcomePass {
		t.Errorf("the gate says %s of a clean image", got)
	}
}

func TestNotScannedIsNoReport(t *testing.T) {
	for _, text := range []string{
		`{"vulnerabilities":[],"scanned_at":null}`,
		`{"vulnerabilities":null,"scanned_at":null,"state":"unavailable","complete":false}`,
	} {
		if _, err := ParseReport([]byte(text)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, want invalid", text, err)
		}
	}
}

// TestReportsAreNotBelievedAboutThemselves: who attaches a report could write into it
// that its findings are signed, triaged, or only of the repository.
func TestReportsAreNotBelievedAboutThemselves(t *testing.T) {
	s, err := ParseReport([]byte(`{"scanned_at":"2026-11-20T00:00:00Z","state":"complete","vulnerabilities":[` +
		`{"id":"CVE-2026-1","vex":{"status":"not_affected","signed":true},"provenance":[{"source":"attestation","link":"digest-signed","verified_by":{"key":"k"}}]}],` +
		`"suppressed":[{"vulnerability":{"id":"CVE-2026-2","vex":{"status":"fixed","signed":true}},"by":"vex"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if v := s.Findings[0]; v.VEX != nil || v.Provenance != nil {
		t.Errorf("believed %+v", v)
	}
	if x := s.Suppressed[0]; x.By != SuppressedByScanner || x.Vulnerability.VEX != nil {
		t.Errorf("believed %+v", x)
	}
}
