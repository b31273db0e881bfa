package vuln

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		kind, a, b string
		want       int
		ok         bool
	}{
		{"npm", "1.2.3", "1.2.3", 0, true},
		{"npm", "1.2.3", "1.10.0", -1, true},
		{"npm", "1.2", "1.2.0", 0, true},
		{"npm", "v1.2.3", "1.2.4", -1, true},
		{"golang", "v0.0.0-20210101000000-abcdefabcdef", "0.0.0-20220101000000-abcdefabcdef", -1, true},
		{"npm", "1.0.0-alpha", "1.0.0", -1, true},
		{"npm", "1.0.0-alpha.2", "1.0.0-alpha.10", -1, true},
		{"npm", "1.0.0-1", "1.0.0-alpha", -1, true},
		{"npm", "1.0.0+build", "1.0.0", 0, true},
		{"npm", "99999999999999999999999.0.0", "2.0.0", 1, true},
		{"pypi", "1.0rc1", "1.0", 0, false},
		{"maven", "31.1-jre", "32.0.0-android", -1, true},
		{"maven", "32.0.0-jre", "32.0.0", 0, false},
		{"deb", "3.0.11-1~deb12u2", "3.0.13-1~deb12u1", -1, true},
		{"alpm", "1.0-1", "1.1-1", 0, false},
		{"npm", "latest", "1.0.0", 0, false},
		{"npm", "1.0.0-", "1.0.0", 0, false},
	} {
		if got, ok := compareVersions(c.kind, c.a, c.b); got != c.want || ok != c.ok {
			t.Errorf("%s %s and %s: %d %t", c.kind, c.a, c.b, got, ok)
		}
	}
}

func TestRanges(t *testing.T) {
	osv, _ := parseOSVEvents([]map[string]string{{"introduced": "0"}, {"fixed": "1.2.0"}, {"introduced": "2.0.0"}, {"last_affected": "2.3.0"}, {"introduced": "3.0.0"}})
	f := Affected{Ranges: osv}
	for version, want := range map[string]Match{
		"1.1.9": MatchYes, "1.2.0": MatchNo, "1.9.0": MatchNo, "2.0.0": MatchYes, "2.3.0": MatchYes, "2.3.1": MatchNo, "4.0.0": MatchYes,
		"edge": MatchUnknown, "": MatchUnknown,
	} {
		if got := f.has("npm", version); got != want {
			t.Errorf("OSV %q: %s, want %s", version, got, want)
		}
	}
	for _, c := range []struct {
		text, version string
		want          Match
	}{
		{">= 1.0, < 2.3.4", "2.3.3", MatchYes}, {">= 1.0, < 2.3.4", "2.3.4", MatchNo}, {">= 1.0, < 2.3.4", "0.9", MatchNo},
		{"= 1.5.0", "1.5.0", MatchYes}, {"= 1.5.0", "1.5.1", MatchNo}, {"<= 2.0", "2.0.0", MatchYes}, {"> 2.0", "2.0.0", MatchNo},
		{"~> 2.0", "2.0.0", MatchUnknown}, {"", "2.0.0", MatchUnknown},
	} {
		if got := parseGitHubRange(c.text).Has("npm", c.version); got != c.want {
			t.Errorf("%q has %s: %s, want %s", c.text, c.version, got, c.want)
		}
	}
}

func TestAdvisoriesThatCannotBeComparedAreNotClean(t *testing.T) {
	sbom := SBOM{Subject: hexDigest("1"), Packages: []Package{*newPackage(Package{PURL: "pkg:deb/debian/libssl3@3.0.11?distro=debian-12.4&upstream=openssl"})}}
	advisory := func(release string) []Advisory {
		return []Advisory{{Vulnerability: Vulnerability{ID: "CVE-2026-1"}, Affected: []Affected{{Ecosystem: release, Name: "openssl", Ranges: []VersionRange{{To: "<unfixed>", ToExcluded: true}}}}}}
	}
	s := EnrichSBOM(SourceOSV, sbom, func(Package) []Advisory { return advisory("Debian:12") })
	if len(s.Findings) != 1 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "cannot be told") {
		t.Errorf("%d findings, warnings %q", len(s.Findings), s.Warnings)
	}
	if s := EnrichSBOM(SourceOSV, sbom, func(Package) []Advisory { return advisory("Debian:11") }); len(s.Findings) != 0 {
		t.Error("the advisory of another release counts")
	}
}

func TestWithdrawnAdvisories(t *testing.T) {
	a := Advisory{Vulnerability: Vulnerability{ID: "CVE-2026-1"}, Withdrawn: time.Unix(1e9, 0), Affected: []Affected{{PURL: "pkg:npm/a", Versions: []string{"1"}}}}
	sbom := SBOM{Packages: []Package{*newPackage(Package{PURL: "pkg:npm/a@1"})}}
	if s := EnrichSBOM(SourceGHSA, sbom, func(Package) []Advisory { return []Advisory{a} }); len(s.Findings) != 0 {
		t.Error("a withdrawn advisory counts")
	}
}

func TestEcosystems(t *testing.T) {
	for _, c := range [][3]string{
		{"npm", "@angular/core", "pkg:npm/%40angular/core"}, {"pip", "Django", "pkg:pypi/django"}, {"maven", "org.apache:log4j", "pkg:maven/org.apache/log4j"},
		{"go", "golang.org/x/net", "pkg:golang/golang.org/x/net"}, {"crates.io", "tokio", "pkg:cargo/tokio"}, {"other", "x", ""},
	} {
		if got := ecosystemPURL(c[0], c[1], ""); got != c[2] {
			t.Errorf("%s %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// TestShapesOfAnAdvisory: first_patched_version and references differ between
// GitHub's advisories and Dependabot's alerts.
func TestShapesOfAnAdvisory(t *testing.T) {
	list, err := ParseGitHubAdvisories(fixture(t, "advisories.json"))
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := ParseDependabotAlerts(fixture(t, "dependabot-alerts.json"))
	if err != nil {
		t.Fatal(err)
	}
	const address = "https://github.com/advisories/GHSA-2222-3333-4444"
	alert := alerts[0].Advisory.finding()
	if a := list[0]; a.Affected[0].FixedVersions[0] != "4.17.21" || !slices.Contains(a.Vulnerability.References, address) {
		t.Errorf("advisory %+v", a)
	}
	if string(alerts[0].Vulnerability.FirstPatched) != "4.17.21" || !slices.Contains(alert.References, address) || alert.EPSS.Score != 0.02 {
		t.Errorf("alert %+v", alert)
	}
}
