package vuln

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// fullReport has findings, triage, and each kind of suppression.
func fullReport(t testing.TB) *VulnerabilityReport {
	t.Helper()
	vex, err := Parse(fixture(t, "openvex.json"), "")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := ParseIgnore("ghcr-ignore.yaml", []byte("- id: CVE-2026-4004\n  reason: not used\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Collect(t.Context(), []Source{
		reading(t, SourceAttestation, hexDigest("1"), "cosign-vuln.dsse.json", "cosign-vuln.bundle-0.3.json"), dependabot(t),
	}, testTarget(t), Options{VEX: []VEX{*vex.VEX}, Ignore: rules, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reread makes a report of a document that was written, as of a file.
func reread(t testing.TB, text []byte, opts Options) *VulnerabilityReport {
	t.Helper()
	target := testTarget(t)
	reader := Reader{Source: SourceFile, Target: target}
	if err := reader.Read(t.Context(), Evidence{ID: "written", Content: text}); err != nil {
		t.Fatal(err)
	}
	report := reader.Report()
	if report.Status != StatusOK {
		t.Fatalf("what was written is not readable: %s", report.Reason)
	}
	return assemble([]SourceReport{*report}, target, opts)
}

func TestSARIFReadsBack(t *testing.T) {
	r := fullReport(t)
	var b bytes.Buffer
	if _, err := WriteSARIF(&b, r, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	again := reread(t, b.Bytes(), Options{Now: testNow})
	if got, want := briefs(again.Image()), briefs(r.Image()); !slices.Equal(got, want) {
		t.Errorf("read back\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(again.Suppressed) != 3 || again.State != StateComplete || again.Vulnerabilities[0].Link() != LinkDigest {
		t.Errorf("%d suppressed, %s, link %s", len(again.Suppressed), again.State, again.Vulnerabilities[0].Link())
	}
}

// TestSARIFIsWhatGitHubTakes: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
func TestSARIFIsWhatGitHubTakes(t *testing.T) {
	var b bytes.Buffer
	if _, err := WriteSARIF(&b, fullReport(t), "1.2.3"); err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID         string
						Properties map[string]any
					}
				}
			}
			AutomationDetails struct{ ID string }
			Results           []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
				PartialFingerprints map[string]string
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &file); err != nil {
		t.Fatal(err)
	}
	run := file.Runs[0]
	if file.Version != "2.1.0" || run.Tool.Driver.Name != "ghcr" || run.AutomationDetails.ID != "ghcr/acme/app/" {
		t.Errorf("version %q, tool %q, category %q", file.Version, run.Tool.Driver.Name, run.AutomationDetails.ID)
	}
	for _, rule := range run.Tool.Driver.Rules {
		score, err := strconv.ParseFloat(fmt.Sprint(rule.Properties["security-severity"]), 64)
		if _, isText := rule.Properties["security-severity"].(string); !isText || err != nil || score <= 0 {
			t.Errorf("%s: security-severity %v", rule.ID, rule.Properties["security-severity"])
		}
	}
	prints := map[string]bool{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("%s: its rule is %s", r.RuleID, run.Tool.Driver.Rules[r.RuleIndex].ID)
		}
		if len(r.Locations) != 1 || r.Locations[0].PhysicalLocation.ArtifactLocation.URI == "" || strings.HasPrefix(r.Locations[0].PhysicalLocation.ArtifactLocation.URI, "/") ||
			r.Locations[0].PhysicalLocation.Region.StartLine != 1 || r.Message.Text == "" {
			t.Errorf("%s: location or message %+v", r.RuleID, r)
		}
		prints[r.PartialFingerprints["primaryLocationLineHash"]] = true
	}
	if len(prints) != len(run.Results) {
		t.Errorf("%d fingerprints of %d results", len(prints), len(run.Results))
	}
}

func TestSARIFFingerprintsOutliveTheDigest(t *testing.T) {
	write := func(r *VulnerabilityReport) string {
		var b bytes.Buffer
		if _, err := WriteSARIF(&b, r, ""); err != nil {
			t.Fatal(err)
		}
		var prints []string
		for line := range strings.Lines(b.String()) {
			if strings.Contains(line, "primaryLocationLineHash") {
				prints = append(prints, strings.TrimSpace(line))
			}
		}
		return strings.Join(prints, "\n")
	}
	r := fullReport(t)
	before := write(r)
	r.Digest = hexDigest("9")
	if before == "" || write(r) != before {
		t.Error("the fingerprints depend on the digest, so alerts would never close")
	}
}

func TestNotScannedIsNoSARIF(t *testing.T) {
	r := assemble(nil, testTarget(t), Options{})
	var b bytes.Buffer
	if _, err := WriteSARIF(&b, r, ""); !errors.Is(err, ErrNotScanned) || b.Len() > 0 {
		t.Errorf("got %v and %q", err, b.String())
	}
	if _, err := VulnsPredicate(r); !errors.Is(err, ErrNotScanned) {
		t.Errorf("predicate: %v", err)
	}
}

func TestSARIFWithoutFindingsHasAList(t *testing.T) {
	target := testTarget(t)
	r := assemble([]SourceReport{{Name: SourceFile, Status: StatusOK, Scans: []Scan{{Link: LinkDigest, Subject: target.Digest, Tool: "trivy"}}}}, target, Options{})
	var b bytes.Buffer
	if _, err := WriteSARIF(&b, r, ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"results": []`) {
		t.Errorf("no empty list of results in %s", b.String())
	}
	if again := reread(t, b.Bytes(), Options{}); again.State != StateComplete || len(again.Vulnerabilities) != 0 {
		t.Errorf("read back as %s with %d findings", again.State, len(again.Vulnerabilities))
	}
}

func TestCycloneDXReadsBack(t *testing.T) {
	r := fullReport(t)
	var b bytes.Buffer
	if err := WriteCycloneDX(&b, r, "1.2.3", testNow); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b.Bytes()), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SpecVersion != cdx.SpecVersion1_6 || bom.Metadata.Component.Type != cdx.ComponentTypeContainer {
		t.Errorf("version %s of a %s", bom.SpecVersion, bom.Metadata.Component.Type)
	}
	refs := map[string]bool{bom.Metadata.Component.BOMRef: true}
	for _, c := range *bom.Components {
		if refs[c.BOMRef] {
			t.Errorf("%s is there twice", c.BOMRef)
		}
		refs[c.BOMRef] = true
	}
	for _, v := range *bom.Vulnerabilities {
		for _, a := range *v.Affects {
			if !refs[a.Ref] {
				t.Errorf("%s affects %s, which is no component", v.ID, a.Ref)
			}
		}
	}
	again := reread(t, b.Bytes(), Options{Now: testNow})
	if got, want := briefs(again.Vulnerabilities), briefs(r.Image()); !slices.Contains(got, want[0]) {
		t.Errorf("read back\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// What was suppressed by VEX is suppressed by the document's own VEX, and what a rule
	// ignored is a finding in triage.
	doc, err := Parse(b.Bytes(), "")
	if err != nil {
		t.Fatal(err)
	}
	again = reread(t, b.Bytes(), Options{VEX: []VEX{*doc.VEX}, Now: testNow})
	var all []string
	for _, v := range again.Vulnerabilities {
		status := VEXStatus("")
		if v.VEX != nil {
			status = v.VEX.Status
		}
		all = append(all, fmt.Sprintf("%s %s %s", v.ID, v.Severity, status))
	}
	want := []string{"CVE-2026-1001 critical ", "CVE-2026-9009 high under_investigation", "CVE-2026-3003 medium under_investigation", "CVE-2026-4004 low under_investigation"}
	if !slices.Equal(all, want) {
		t.Errorf("read back %q\nwant %q", all, want)
	}
}

func TestOpenVEXReadsBack(t *testing.T) {
	r := fullReport(t)
	var b bytes.Buffer
	if err := WriteOpenVEX(&b, r, "Acme", testNow); err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(b.Bytes(), "")
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "cosign-vuln.dsse.json")}, testTarget(t), Options{VEX: []VEX{*doc.VEX}, Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if len(fresh.Suppressed) != 1 || fresh.Suppressed[0].Vulnerability.ID != "CVE-2026-2002" || fresh.Suppressed[0].Reason != "vulnerable_code_not_in_execute_path" {
		t.Errorf("suppressed %+v", fresh.Suppressed)
	}
	nothing := assemble(nil, testTarget(t), Options{})
	if err := WriteOpenVEX(&b, nothing, "Acme", testNow); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("nothing to state: %v", err)
	}
}

func TestVulnsPredicateReadsBack(t *testing.T) {
	r := fullReport(t)
	predicate, err := VulnsPredicate(r)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(wrap(t, hexDigest("1"), PredicateVulns, predicate), "")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(doc.Scans[0].Findings); got != len(r.Image()) || !doc.Scans[0].ScannedAt.Equal(r.ScannedAt.Truncate(time.Second)) {
		t.Errorf("%d findings of %v", got, doc.Scans[0].ScannedAt)
	}
}

func TestJSONReadsBack(t *testing.T) {
	r := fullReport(t)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again := reread(t, text, Options{Now: testNow})
	if got, want := briefs(again.Vulnerabilities), briefs(r.Vulnerabilities); !slices.Equal(got, want) {
		t.Errorf("read back\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMarkdown(t *testing.T) {
	r := fullReport(t)
	r.Vulnerabilities[0].Package.Name = "a|b`<img src=x>\n[x](javascript:) @acme/team #1 \x1b[2J\u202e"
	r.Vulnerabilities[0].ID = "CVE-1](https://evil.example)"
	r.Vulnerabilities[0].References = []string{"https://example.com/\n\n# head", "javascript:alert(1)", "https://example.com/1"}
	var b bytes.Buffer
	if err := WriteMarkdown(&b, r, Gate{FailOn: SeverityHigh}.Check(r, testNow), testNow); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"### ❌ `ghcr.io/acme/app:v1`: 1 critical", "- 1 of severity high or worse", "| 1 | 0 | 1 | 0 |", "attestation: ok", "Suppressed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, bad := range []string{"<img", "a|b", "[x]", "](https://evil", "@acme", "#1 ", "\x1b", "\u202e", "# head"} {
		if strings.Contains(text, bad) {
			t.Errorf("what others write is more than text (%q):\n%s", bad, text)
		}
	}
	if !strings.Contains(text, "](https://example.com/1) |") {
		t.Errorf("no link in\n%s", text)
	}
	b.Reset()
	if err := WriteMarkdown(&b, assemble(nil, testTarget(t), Options{}), Verdict{Outcome: OutcomeUnknown}, testNow); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, "not scanned") || strings.Contains(text, "| 0 |") {
		t.Errorf("not scanned is written as\n%s", text)
	}
}

func TestMarkdownFitsASummary(t *testing.T) {
	r := fullReport(t)
	for i := range 20000 {
		v := r.Vulnerabilities[0].clone()
		v.ID = fmt.Sprintf("CVE-2026-%d", i)
		r.Vulnerabilities = append(r.Vulnerabilities, v)
	}
	var b bytes.Buffer
	if err := WriteMarkdown(&b, r, Verdict{}, testNow); err != nil {
		t.Fatal(err)
	}
	if b.Len() > MaxMarkdown || !strings.Contains(b.String(), "more are left out") || !strings.Contains(b.String(), "attestation: ok") {
		t.Errorf("%d bytes", b.Len())
	}
}

func TestAnnotations(t *testing.T) {
	r := fullReport(t)
	for i := range 20 {
		v := r.Vulnerabilities[0].clone()
		v.ID, v.Summary = fmt.Sprintf("CVE-2026-%d", i), "100%\nbad\x1b[2J"
		r.Vulnerabilities = append(r.Vulnerabilities, v)
	}
	var b bytes.Buffer
	if err := WriteAnnotations(&b, r, testNow); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "::error "); n != 10 {
		t.Errorf("%d errors", n)
	}
	if !strings.Contains(b.String(), "100%25%0Abad") || strings.Contains(b.String(), "\x1b") || !strings.Contains(b.String(), "::12 more") {
		t.Errorf("wrote %s", b.String())
	}
}

func TestHeadline(t *testing.T) {
	r := fullReport(t)
	if got, want := r.Headline(testNow), "1 critical, 1 medium (2 fixable), 4 suppressed; scanned 2d ago"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := assemble(nil, testTarget(t), Options{}).Headline(testNow); got != "not scanned, as far as is known" {
		t.Errorf("got %q", got)
	}
	rows := Rows(r.Vulnerabilities)
	if got := strings.Join(rows[0].Cells(), ","); got != "critical,CVE-2026-1001,libssl3,3.0.11-1~deb12u2,3.0.13-1~deb12u1,digest,exploited" {
		t.Errorf("row %s", got)
	}
}
