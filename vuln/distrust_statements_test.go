package vuln

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestUnsignedRatingMakesNothingBetter: what a signed scan calls critical stays so.
func TestUnsignedRatingMakesNothingBetter(t *testing.T) {
	signed, unsigned := trivyOf(1, "", trivyFinding("CVE-2026-1", "CRITICAL")), []byte(`{"matches":[{"vulnerability":{"id":"CVE-2026-1","namespace":"github:x","severity":"Low"},
		"artifact":{"name":"a","version":"1","purl":"pkg:npm/a@1"}}],"descriptor":{"name":"grype"}}`)
	r := scannedAs(t, testTarget(t), Options{}, verifier{"0": {KeyID: "k"}}, signed, unsigned)
	if got := r.Vulnerabilities; len(got) != 1 || got[0].Severity != SeverityCritical || len(got[0].Ratings) != 2 {
		t.Errorf("%+v", got)
	}
	r = scannedAs(t, testTarget(t), Options{}, verifier{"1": {KeyID: "k"}}, signed, unsigned)
	if got := r.Vulnerabilities; len(got) != 1 || got[0].Severity != SeverityLow {
		t.Errorf("GitHub's rating counts before that of nobody: %+v", got)
	}
}

// TestUnsignedWordMakesNothingBetter: neither that there will be no fix, for which findings are
// ignored, nor that nobody will exploit it.
func TestUnsignedWordMakesNothingBetter(t *testing.T) {
	finding := func(link Link, fix FixState, likely float64, date string) Scan {
		v := found("CVE-2026-1", "pkg:npm/a@1")
		v.FixState, v.EPSS = fix, &EPSS{Score: likely, Date: date}
		return Scan{Tool: string(link) + date, Link: link, Findings: []Vulnerability{v}}
	}
	for name, c := range map[string]struct {
		scans  []Scan
		fix    FixState
		likely float64
	}{
		"better":            {[]Scan{finding(LinkDigestSigned, FixUnknown, 0.9, "2026-01-01"), finding(LinkDigest, FixWontFix, 0.1, "2099-01-01")}, FixUnknown, 0.9},
		"worse":             {[]Scan{finding(LinkDigestSigned, FixWontFix, 0.1, "2026-01-01"), finding(LinkDigest, FixFixed, 0.9, "2025-01-01")}, FixFixed, 0.9},
		"neither is signed": {[]Scan{finding(LinkDigest, FixUnknown, 0.9, "2026-01-01"), finding(LinkDigest, FixWontFix, 0.1, "2026-02-01")}, FixWontFix, 0.1},
		"both are":          {[]Scan{finding(LinkDigestSigned, FixNotFixed, 0.1, "2026-02-01"), finding(LinkDigestSigned, FixWontFix, 0.9, "2026-01-01")}, FixWontFix, 0.1},
	} {
		for range 2 {
			list, _ := merge(c.scans)
			if len(list) != 1 || list[0].FixState != c.fix || list[0].EPSS.Score != c.likely {
				t.Errorf("%s: %+v", name, list)
			}
			slices.Reverse(c.scans) // in whatever order they come
		}
	}
}

// TestStatementsThatDoNotCount: each would take a finding away.
func TestStatementsThatDoNotCount(t *testing.T) {
	product := `"products":[{"@id":"` + hexDigest("1").String() + `"}]`
	for name, c := range map[string]struct {
		statement string
		counts    bool
	}{
		"with a justification":            {`"status":"not_affected","justification":"component_not_present"`, true},
		"with an impact":                  {`"status":"not_affected","impact_statement":"not used"`, true},
		"with a note alone":               {`"status":"not_affected","status_notes":"looked at"`, false},
		"with an action alone":            {`"status":"not_affected","action_statement":"none"`, false},
		"with a justification of its own": {`"status":"not_affected","justification":"trust me"`, false},
		"of tomorrow, by another clock":   {`"status":"fixed","timestamp":"` + testNow.Add(20*time.Hour).Format(time.RFC3339) + `"`, true},
		"of the year after next":          {`"status":"fixed","timestamp":"` + testNow.AddDate(2, 0, 0).Format(time.RFC3339) + `"`, false},
		"in a status of its own":          {`"status":"Fixed"`, false},
	} {
		doc, err := Parse([]byte(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-01-01T00:00:00Z","statements":[{"vulnerability":{"name":"CVE-2026-1"},`+product+`,`+c.statement+`}]}`), "")
		if err != nil {
			t.Fatal(err)
		}
		r := scanned(t, testTarget(t), Options{VEX: []VEX{*doc.VEX}}, trivyOf(1, "", trivyFinding("CVE-2026-1", "HIGH")))
		if got := len(r.Suppressed) == 1; got != c.counts || got == (len(r.Warnings) > 0) {
			t.Errorf("%s: suppressed is %t, warnings %q", name, got, r.Warnings)
		}
	}
}

// TestAnalysisOfAnotherImage: CycloneDX says of packages in the image that it is of, not in
// others.
func TestAnalysisOfAnotherImage(t *testing.T) {
	for image, want := range map[string]bool{
		``: true,
		`{"type":"container","name":"app","version":"` + hexDigest("1").String() + `"}`:                                                         true,
		`{"type":"container","name":"app","version":"` + hexDigest("9").String() + `"}`:                                                         false,
		`{"type":"container","name":"app","purl":"pkg:oci/app?repository_url=ghcr.io/acme/app"}`:                                                true,
		`{"type":"container","name":"app","purl":"pkg:oci/app?repository_url=ghcr.io/other/app"}`:                                               false,
		`{"type":"container","name":"app","purl":"pkg:oci/app@sha256:` + strings.Repeat("9", 64) + `"}`:                                         false,
		`{"type":"container","name":"app","properties":[{"name":"aquasecurity:trivy:RepoDigest","value":"x@` + hexDigest("9").String() + `"}]}`: false,
	} {
		metadata := ""
		if image != "" {
			metadata = `"metadata":{"component":` + image + `},`
		}
		doc, err := Parse([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6",`+metadata+`"vulnerabilities":[{"id":"CVE-2026-1","analysis":{"state":"not_affected","detail":"x"},"affects":[{"ref":"pkg:npm/a@1"}]}]}`), "")
		if err != nil {
			t.Fatal(err)
		}
		r := scanned(t, testTarget(t), Options{VEX: []VEX{*doc.VEX}}, trivyOf(1, "", trivyFinding("CVE-2026-1", "HIGH")))
		if got := len(r.Suppressed) == 1; got != want {
			t.Errorf("of %s: suppressed is %t", image, got)
		}
	}
}

// TestResolvedInOtherVersions: it is resolved in those that are not affected.
func TestResolvedInOtherVersions(t *testing.T) {
	for versions, want := range map[string]bool{
		`[{"version":"1","status":"affected"},{"version":"2","status":"unaffected"}]`: false,
		`[{"version":"0","status":"affected"},{"version":"1","status":"unaffected"}]`: true,
		`[{"version":"1"}]`: true,
	} {
		doc, err := Parse([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","vulnerabilities":[{"id":"CVE-2026-1","analysis":{"state":"resolved"},"affects":[{"ref":"pkg:npm/a","versions":`+versions+`}]}]}`), "")
		if err != nil {
			t.Fatal(err)
		}
		r := scanned(t, testTarget(t), Options{VEX: []VEX{*doc.VEX}}, trivyOf(1, "", trivyFinding("CVE-2026-1", "HIGH")))
		if got := len(r.Suppressed) == 1; got != want {
			t.Errorf("%s: suppressed is %t", versions, got)
		}
	}
}

// TestRuleWithoutItsEnd: an end that is empty or before all time is no "never".
func TestRuleWithoutItsEnd(t *testing.T) {
	for name, text := range map[string]string{
		".trivyignore": "CVE-2026-1 exp:\n", ".trivyignore.yaml": "vulnerabilities:\n- id: CVE-2026-1\n  expired_at:\n", "osv-scanner.toml": "[[IgnoredVulns]]\nid = \"CVE-2026-1\"\nignoreUntil = \"\"\n",
		"null.yaml": "- id: CVE-2026-1\n  until:\n", "empty.yaml": "- id: CVE-2026-1\n  until: ''\n", "zero.yaml": "- id: CVE-2026-1\n  until: 0001-01-01\n",
		"list.yaml": "- id: CVE-2026-1\n  until: [2026-01-01]\n", "month.yaml": "- id: CVE-2026-1\n  until: 2026-13-01\n", "twice.yaml": "- id: CVE-2026-1\n  until: 2026-01-01\n  until: 2027-01-01\n",
	} {
		if rules, err := ParseIgnore(name, []byte(text)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, rules, err)
		}
	}
	rules, err := ParseIgnore("good.yaml", []byte("- id: CVE-2026-1\n  until: &end 2026-12-01\n- id: CVE-2026-2\n  until: *end\n- id: CVE-2026-3\n"))
	if err != nil || !rules[1].Until.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) || !rules[2].Until.IsZero() {
		t.Errorf("%+v, %v", rules, err)
	}
}

// TestUnsignedStatementTakesNothingSignedAway: who may attach documents may not make what a
// signed scan found go away. The caller may.
func TestUnsignedStatementTakesNothingSignedAway(t *testing.T) {
	scan := trivyOf(1, "", trivyFinding("CVE-2026-1", "CRITICAL"))
	statement := wrap(t, hexDigest("1"), PredicateOpenVEX, json.RawMessage(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-11-01T00:00:00Z",
		"statements":[{"vulnerability":{"name":"CVE-2026-1"},"status":"not_affected","justification":"component_not_present"}]}`))
	gate := Gate{FailOn: SeverityHigh}
	for name, c := range map[string]struct {
		by   verifier
		want Outcome
	}{
		"nothing is signed":      {nil, OutcomePass},
		"the scan is":            {verifier{"0": {KeyID: "k"}}, OutcomeFail},
		"the statement is":       {verifier{"1": {KeyID: "k"}}, OutcomePass},
		"scan and statement are": {verifier{"0": {KeyID: "k"}, "1": {KeyID: "k"}}, OutcomePass},
	} {
		r := scannedAs(t, testTarget(t), Options{}, c.by, scan, statement)
		if got := gate.Check(r, testNow).Outcome; got != c.want || (got == OutcomeFail) != (len(r.Warnings) == 1) {
			t.Errorf("%s: %s, warnings %q", name, got, r.Warnings)
		}
	}
	doc, err := Parse(statement, "")
	if err != nil {
		t.Fatal(err)
	}
	doc.VEX.Statements[0].Products = []VEXProduct{{IDs: []string{hexDigest("1").String()}}}
	r := scannedAs(t, testTarget(t), Options{VEX: []VEX{*doc.VEX}}, verifier{"0": {KeyID: "k"}}, scan)
	if got := gate.Check(r, testNow).Outcome; got != OutcomePass {
		t.Errorf("the caller's statement: %s", got)
	}
}
