package vuln

import (
	"strings"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	full := fullReport(t)
	full.Suppressed = nil
	partial := fullReport(t)
	partial.State = StatePartial
	partial.Sources = append(partial.Sources, SourceReport{Name: SourceGitHubAttestation, Status: StatusForbidden, Reason: "HTTP 403"})
	unrated := fullReport(t)
	unrated.Vulnerabilities = []Vulnerability{{ID: "CVE-2026-1"}}
	for name, c := range map[string]struct {
		gate Gate
		r    *VulnerabilityReport
		want Outcome
		says string
	}{
		"asks nothing":                      {Gate{}, full, OutcomePass, ""},
		"asks nothing of a partial one":     {Gate{}, partial, OutcomePass, ""},
		"over":                              {Gate{FailOn: SeverityHigh}, full, OutcomeFail, "1 of severity high or worse"},
		"all":                               {Gate{FailOn: SeverityUnknown}, full, OutcomeFail, "2 of severity unknown or worse"},
		"exploited":                         {Gate{FailOnKEV: true}, full, OutcomeFail, "1 known to be exploited"},
		"likely to be":                      {Gate{EPSS: 0.6}, full, OutcomeFail, "1 with an EPSS of 0.6 or more"},
		"not likely enough":                 {Gate{EPSS: 0.7}, full, OutcomeUnknown, "1 without an EPSS"},
		"partial and over":                  {Gate{FailOn: SeverityHigh}, partial, OutcomeFail, "not everything could be read"},
		"partial and under":                 {Gate{FailOnKEV: true, IgnoreUnfixed: true, FailOn: ""}, withoutFindings(partial), OutcomeUnknown, "github-attestation: forbidden: HTTP 403"},
		"partial without a threshold":       {Gate{FailOnUnknown: true}, withoutFindings(partial), OutcomeUnknown, "not everything"},
		"old":                               {Gate{MaxAge: 24 * time.Hour}, full, OutcomeUnknown, "the newest scan is 2d old, more than 24h"},
		"not old":                           {Gate{MaxAge: 72 * time.Hour}, full, OutcomePass, ""},
		"nobody has rated it":               {Gate{FailOn: SeverityCritical}, unrated, OutcomeUnknown, "1 that nobody has rated"},
		"nobody has rated it, which may be": {Gate{FailOn: SeverityLow, AllowUnrated: true}, unrated, OutcomePass, ""},
		"nobody has rated it, and it may":   {Gate{FailOnUnknown: true}, unrated, OutcomeFail, "1 of unknown severity"},
	} {
		v := c.gate.Check(c.r, testNow)
		if v.Outcome != c.want || !strings.Contains(strings.Join(v.Reasons, "; "), c.says) {
			t.Errorf("%s: %s because %q, want %s because %q", name, v.Outcome, v.Reasons, c.want, c.says)
		}
		if v.Forbidden != (c.r.State == StatePartial && c.gate.asks()) {
			t.Errorf("%s: forbidden is %t", name, v.Forbidden)
		}
	}
}

func withoutFindings(r *VulnerabilityReport) *VulnerabilityReport {
	copied := *r
	copied.Vulnerabilities = nil
	return &copied
}

func TestGateIgnoresUnfixed(t *testing.T) {
	r := triaged(t, Options{})
	for _, c := range []struct {
		gate Gate
		want int
	}{{Gate{FailOn: SeverityLow}, 4}, {Gate{FailOn: SeverityLow, IgnoreUnfixed: true}, 3}, {Gate{FailOn: SeverityCritical}, 1}} {
		if got := c.gate.Check(r, testNow).Findings; len(got) != c.want {
			t.Errorf("%+v: %d findings", c.gate, len(got))
		}
	}
}

// TestVEXPassesTheGate: a gate judges what is left after VEX.
func TestVEXPassesTheGate(t *testing.T) {
	gate := Gate{FailOn: SeverityHigh, IgnoreUnfixed: true}
	all := VEX{Author: "a", Statements: []VEXStatement{
		{IDs: []string{"CVE-2026-2002", "CVE-2026-1001"}, Status: VEXNotAffected, Text: "x", Products: []VEXProduct{{IDs: []string{hexDigest("1").String()}}}},
	}}
	if got := gate.Check(triaged(t, Options{}), testNow).Outcome; got != OutcomeFail {
		t.Errorf("without VEX: %s", got)
	}
	if got := gate.Check(triaged(t, Options{}, all), testNow).Outcome; got != OutcomePass {
		t.Errorf("with VEX: %s", got)
	}
}

func TestCompare(t *testing.T) {
	before := triaged(t, Options{})
	after := triaged(t, Options{})
	after.Vulnerabilities = after.Vulnerabilities[:3]                                                   // zlib is fixed
	after.Vulnerabilities[1].Severity = SeverityCritical                                                // lodash is worse
	after.Vulnerabilities[2].Package = newPackage(Package{PURL: "pkg:golang/golang.org/x/net@v0.11.0"}) // updated, not fixed
	after.Vulnerabilities = append(after.Vulnerabilities, found("CVE-2026-5005", "pkg:npm/new@1"))
	d := Compare(before, after)
	if ids(d.Added) != "CVE-2026-5005" || ids(d.Fixed) != "CVE-2026-4004" || len(d.Unchanged) != 2 || len(d.Changed) != 1 ||
		d.Changed[0].Before != SeverityHigh || len(d.Unsure)+len(d.Doubts) != 0 {
		t.Errorf("difference %+v", d)
	}
	after.State = StatePartial
	if d := Compare(before, after); len(d.Fixed) != 0 || ids(d.Unsure) != "CVE-2026-4004" || len(d.Doubts) != 1 {
		t.Errorf("what a partial report lacks is fixed: %+v", d)
	}
	if d := Compare(before, assemble(nil, testTarget(t), Options{})); len(d.Fixed) != 0 || len(d.Unsure) != 4 {
		t.Errorf("an image that is not scanned has fixed %d", len(d.Fixed))
	}
}

// TestCompareTellsFlawsOfOneAdvisoryApart: they share its id, and only one is fixed.
func TestCompareTellsFlawsOfOneAdvisoryApart(t *testing.T) {
	const purl = "pkg:deb/debian/openssl@1"
	before, after := triaged(t, Options{}), triaged(t, Options{})
	before.Vulnerabilities = []Vulnerability{found("CVE-2026-1", purl, "DSA-1"), found("CVE-2026-2", purl, "DSA-1")}
	after.Vulnerabilities = before.Vulnerabilities[1:]
	d := Compare(before, after)
	if ids(d.Fixed) != "CVE-2026-1=DSA-1" || len(d.Unchanged) != 1 || len(d.Added) != 0 {
		t.Errorf("difference %+v", d)
	}
}
