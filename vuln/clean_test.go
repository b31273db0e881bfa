package vuln

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestNothingFoundIsNotNothingLookedAt: documents without findings that are no scan of
// packages.
func TestNothingFoundIsNotNothingLookedAt(t *testing.T) {
	run := func(tool, results string) string {
		return `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"` + tool + `"}}` + results + `}]}`
	}
	for name, c := range map[string]struct {
		text string
		want State
	}{
		"a scanner that found nothing":     {run("Trivy", `,"results":[]`), StateComplete},
		"a scanner without results":        {run("Trivy", ``), StateUnavailable},
		"a scanner whose results are null": {run("Trivy", `,"results":null`), StateUnavailable},
		"a linter that found nothing":      {run("hadolint", `,"results":[]`), StateUnavailable},
		"a linter that found something":    {run("hadolint", `,"results":[{"ruleId":"DL3008","message":{"text":"pin versions"}}]`), StateUnavailable},
		"another tool that found a CVE":    {run("x", `,"results":[{"ruleId":"CVE-2026-0001","message":{"text":"y"}}]`), StateComplete},
		"another tool, attested as a scan": {`{"scanner":{"uri":"x","result":` + run("x", `,"results":[]`) + `},"metadata":{}}`, StateComplete},
		"more runs than there are":         {run("Trivy", `,"results":[]`+strings.Repeat(`},{"tool":{"driver":{"name":"Trivy"}},"results":[]`, maxRuns)), StateUnavailable},
		"Trivy's next form":                {`{"SchemaVersion":3,"ArtifactName":"app","Findings":[{"ID":"CVE-2026-0001"}]}`, StateUnavailable},
		"Trivy looking for secrets":        {`{"SchemaVersion":2,"ArtifactName":"app","Results":[{"Target":"/key","Class":"secret"}]}`, StatePartial},
		"Trivy looking at packages":        {`{"SchemaVersion":2,"ArtifactName":"app","Results":[{"Target":"app","Class":"os-pkgs"},{"Target":"/key","Class":"secret"}]}`, StateComplete},
		"a partial report in CycloneDX":    {`{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"properties":[{"name":"ghcr:state","value":"partial"}]}}`, StatePartial},
		"a state that nobody knows in it":  {`{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"properties":[{"name":"ghcr:state","value":"?"}]}}`, StateUnavailable},
		"a complete report in CycloneDX":   {`{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"properties":[{"name":"ghcr:state","value":"complete"}]}}`, StateComplete},
	} {
		source := fixedSource{SourceAttestation, func(ctx context.Context, target Target) (*SourceReport, error) {
			return read(t, &Reader{}, at1("x", []byte(c.text))), nil
		}}
		r, err := Collect(t.Context(), []Source{source}, testTarget(t), Options{Now: testNow})
		if err != nil {
			t.Fatal(err)
		}
		if r.State != c.want {
			t.Errorf("%s: %s, want %s: %s", name, r.State, c.want, r.Sources[0].Reason)
		}
	}
}

func TestRejectedSuppressionOfSARIF(t *testing.T) {
	for status, want := range map[string]bool{"": true, "accepted": true, "underReview": false, "rejected": false} {
		text := fmt.Sprintf(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"Trivy"}},"results":[{"ruleId":"CVE-2026-0001","message":{"text":"x"},"suppressions":[{"kind":"external"},{"kind":"external","status":%q}]}]}]}`, status)
		doc, err := Parse([]byte(text), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := len(doc.Scans[0].Suppressed) == 1; got != want {
			t.Errorf("%q: suppressed is %t", status, got)
		}
	}
}

// TestOneOfSeveralFlaws: what is said of one CVE says nothing of the others that a
// distribution's advisory stands for.
func TestOneOfSeveralFlaws(t *testing.T) {
	advisory := Vulnerability{ID: "DSA-1", Aliases: []string{"CVE-2026-0001", "CVE-2026-0002"}}
	for id, want := range map[string]bool{"CVE-2026-0001": false, "cve-2026-0002": false, "DSA-1": true} {
		if got := (IgnoreRule{ID: id}).matches(&advisory); got != want {
			t.Errorf("a rule for %s: %t", id, got)
		}
		r := VulnerabilityReport{Vulnerabilities: []Vulnerability{advisory}}
		r.applyVEX([]VEX{{Statements: []VEXStatement{{
			IDs: []string{id}, Status: VEXFixed, Products: []VEXProduct{{IDs: []string{hexDigest("1").String()}}},
		}}}}, testTarget(t), Options{})
		if got := len(r.Suppressed) == 1; got != want {
			t.Errorf("a statement about %s: %t", id, got)
		}
	}
}

// TestAnalysisOfVersions: an analysis of CycloneDX for some versions is not one of all.
func TestAnalysisOfVersions(t *testing.T) {
	for versions, want := range map[string]bool{
		``: true, `,"versions":[{"version":"1.0"}]`: true, `,"versions":[{"version":"2.0"}]`: false, `,"versions":[{"range":"vers:npm/<2"}]`: false,
	} {
		doc, err := Parse([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[{"id":"CVE-2026-0001",
			"analysis":{"state":"not_affected","detail":"x"},"affects":[{"ref":"pkg:npm/a"`+versions+`}]}]}`), "")
		if err != nil {
			t.Fatal(err)
		}
		r := VulnerabilityReport{Vulnerabilities: []Vulnerability{{ID: "CVE-2026-0001", Package: &Package{PURL: "pkg:npm/a@1.0", Name: "a", Version: "1.0"}}}}
		r.applyVEX([]VEX{*doc.VEX}, testTarget(t), Options{})
		if got := len(r.Suppressed) == 1; got != want {
			t.Errorf("%s: suppressed is %t", versions, got)
		}
	}
}

// TestFloodOfStatements keeps what it could not look at.
func TestFloodOfStatements(t *testing.T) {
	doc := VEX{}
	for range 20 {
		doc.Statements = append(doc.Statements, VEXStatement{IDs: []string{"CVE-2026-0001"}, Status: VEXFixed, Products: []VEXProduct{{IDs: []string{"x"}, Subcomponents: make([]string, 1000)}}})
	}
	var r VulnerabilityReport
	for i := range 1000 {
		r.Vulnerabilities = append(r.Vulnerabilities, Vulnerability{ID: "CVE-2026-0001", Package: &Package{Name: fmt.Sprint(i)}})
	}
	r.applyVEX([]VEX{doc}, testTarget(t), Options{})
	if len(r.Vulnerabilities) != 1000 || len(r.Warnings) != 1 {
		t.Errorf("%d findings, warnings %q", len(r.Vulnerabilities), r.Warnings)
	}
}

func TestGateDoesNotGuessEPSS(t *testing.T) {
	report := func(v Vulnerability) *VulnerabilityReport {
		return &VulnerabilityReport{State: StateComplete, Vulnerabilities: []Vulnerability{v}}
	}
	for name, c := range map[string]struct {
		v    Vulnerability
		want Outcome
	}{
		"low":              {Vulnerability{ID: "CVE-2026-0001", EPSS: &EPSS{Score: 0.1}}, OutcomePass},
		"high":             {Vulnerability{ID: "CVE-2026-0001", EPSS: &EPSS{Score: 0.9}}, OutcomeFail},
		"none":             {Vulnerability{ID: "CVE-2026-0001"}, OutcomeUnknown},
		"none, and no CVE": {Vulnerability{ID: "GHSA-xxxx-xxxx-xxxx"}, OutcomePass},
	} {
		if got := (Gate{EPSS: 0.5}).Check(report(c.v), time.Time{}); got.Outcome != c.want {
			t.Errorf("%s: %s, %q", name, got.Outcome, got.Reasons)
		}
	}
}

// TestPartialStaysPartial through each format that is read back.
func TestPartialStaysPartial(t *testing.T) {
	r := &VulnerabilityReport{Ref: "ghcr.io/acme/app:v1", Digest: hexDigest("1"), State: StatePartial, ScannedAt: &testNow, Vulnerabilities: []Vulnerability{}, Counts: &Counts{}}
	var sarif, cyclone bytes.Buffer
	_, err := WriteSARIF(&sarif, r, "1.0.0")
	if err := errors.Join(err, WriteCycloneDX(&cyclone, r, "1.0.0", testNow)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"SARIF": sarif.Bytes(), "CycloneDX": cyclone.Bytes()} {
		doc, err := Parse(text, "")
		if err != nil || len(doc.Scans) != 1 || !doc.Scans[0].Partial {
			t.Errorf("%s: %+v, %v", name, doc, err)
		}
	}
	if _, err := Parse([]byte(`{"version":"2.1.0","runs":[]}`), ""); !errors.Is(err, oci.ErrInvalid) {
		t.Error(err)
	}
}

// TestScanOfTheFuture is of no known age.
func TestScanOfTheFuture(t *testing.T) {
	r := &VulnerabilityReport{State: StateComplete, ScannedAt: new(testNow.AddDate(70, 0, 0))}
	if got := (Gate{MaxAge: time.Hour}).Check(r, testNow); got.Outcome != OutcomeUnknown {
		t.Errorf("%s", got.Outcome)
	}
}

// TestOutputsSayNoMoreThanTheReport: a name that is used once, an address that is one, and
// a statement about one package that is not one about all.
func TestOutputsSayNoMoreThanTheReport(t *testing.T) {
	v := Vulnerability{
		ID: "CVE-2026-0001", Severity: SeverityLow, References: []string{"javascript:alert(1)"},
		Package: &Package{Name: "a", Version: "1.0", Path: "opt/a b#c"}, Provenance: []Provenance{{Link: LinkDigest, Subject: hexDigest("1")}},
	}
	triaged, elsewhere := v.clone(), v.clone()
	triaged.VEX = &VEXState{Status: VEXFixed}
	elsewhere.Provenance = []Provenance{{Link: LinkRepository}}
	r := &VulnerabilityReport{
		Ref: "ghcr.io/acme/app:v1", Digest: hexDigest("1"), State: StateComplete, Vulnerabilities: []Vulnerability{v}, Counts: &Counts{},
		Suppressed: []Suppressed{{Vulnerability: triaged, By: SuppressedByVEX}, {Vulnerability: elsewhere, By: SuppressedByDismissal}},
	}
	var sarif, cyclone, vex bytes.Buffer
	_, err := WriteSARIF(&sarif, r, "1.0.0")
	if err := errors.Join(err, WriteCycloneDX(&cyclone, r, "1.0.0", testNow), WriteOpenVEX(&vex, r, "me", testNow)); err != nil {
		t.Fatal(err)
	}
	if text := sarif.String(); strings.Contains(text, `"helpUri"`) || !strings.Contains(text, `"uri": "opt/a%20b%23c"`) {
		t.Errorf("SARIF: %s", text)
	}
	var bom struct {
		Vulnerabilities []struct {
			Ref string `json:"bom-ref"`
		}
	}
	if err := json.Unmarshal(cyclone.Bytes(), &bom); err != nil || len(bom.Vulnerabilities) != 2 || bom.Vulnerabilities[0].Ref == bom.Vulnerabilities[1].Ref {
		t.Errorf("CycloneDX: %+v, %v", bom, err)
	}
	doc, err := Parse(vex.Bytes(), "")
	if err != nil || len(doc.VEX.Statements) != 1 {
		t.Fatalf("OpenVEX: %+v, %v", doc, err)
	}
	other := Vulnerability{ID: v.ID, Package: &Package{PURL: "pkg:npm/b@1.0", Name: "b", Version: "1.0"}}
	back := VulnerabilityReport{Vulnerabilities: []Vulnerability{other}}
	if back.applyVEX([]VEX{*doc.VEX}, testTarget(t), Options{}); len(back.Suppressed) > 0 {
		t.Error("OpenVEX: what is said of one package is said of another")
	}
}
