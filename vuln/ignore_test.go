package vuln

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestIgnoreFiles(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"ignore.yaml", "- id: CVE-2026-1\n  purl: pkg:npm/a\n  path: usr/**\n  until: 2026-12-01\n  reason: r\n- purl: pkg:npm/b\n",
			"CVE-2026-1 [pkg:npm/a] [usr/**] 2026-12-01 r;  [pkg:npm/b] [] 0001-01-01 ;"},
		{".trivyignore", "# all\nCVE-2026-1 exp:2026-12-01 # r\n\nCVE-2026-2\n", "CVE-2026-1 [] [] 2026-12-01 r; CVE-2026-2 [] [] 0001-01-01 ;"},
		{"dir/.trivyignore.yaml", "vulnerabilities:\n  - id: CVE-2026-1\n    paths: [a, b]\n    purls: [\"pkg:npm/a\"]\n    expired_at: 2026-12-01\n    statement: r\nsecrets:\n  - id: x\n",
			"CVE-2026-1 [pkg:npm/a] [a b] 2026-12-01 r;"},
		{"osv-scanner.toml", "# c\n[[IgnoredVulns]]\nid = \"GHSA-1\" # c\nignoreUntil = 2026-12-01T00:00:00Z\nreason = 'r'\n\n[[PackageOverrides]]\nname = [\n\"x\"]\n[[IgnoredVulns]]\nid = \"GO-1\"\n",
			"GHSA-1 [] [] 2026-12-01 r; GO-1 [] [] 0001-01-01 ;"},
		{"empty.yaml", "", ""},
	} {
		rules, err := ParseIgnore(c.name, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, r := range rules {
			got = append(got, fmt.Sprintf("%s %v %v %s %s;", r.ID, r.PURLs, r.Paths, r.Until.Format(time.DateOnly), r.Reason))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestIgnoreFilesThatAreWrong(t *testing.T) {
	for name, text := range map[string]string{
		"everything.yaml":    "- reason: all of it\n",
		"typo.yaml":          "- id: CVE-2026-1\n  untill: 2026-12-01\n",
		"date.yaml":          "- id: CVE-2026-1\n  until: soon\n",
		"purl.yaml":          "- purl: lodash\n",
		"map.yaml":           "id: CVE-2026-1\n",
		".trivyignore":       "CVE-2026-1 exp:soon",
		"x/.trivyignore":     "CVE-2026-1 CVE-2026-2",
		".trivyignore.yaml":  "vulnerabilities:\n  - id: CVE-2026-1\n    expired: 2026-12-01\n",
		"osv-scanner.toml":   "[[IgnoredVulns]]\nid = \"x\"\nuntil = 2026-12-01\n",
		"x/osv-scanner.toml": "[[IgnoredVulns]]\nreason = \"x\"\n",
		"y/osv-scanner.toml": "[[IgnoredVulns]]\nid = \"x\n",
		"z/osv-scanner.toml": "[[IgnoredVulns]]\nid\n",
	} {
		if _, err := ParseIgnore(name, []byte(text)); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIgnoreRules(t *testing.T) {
	v := Vulnerability{ID: "CVE-2026-1", Aliases: []string{"GHSA-2222-3333-4444"}, Package: newPackage(Package{PURL: "pkg:npm/a@1?x=y"})}
	v.Package.addPath("usr/lib/a", "opt/a")
	for _, c := range []struct {
		rule IgnoreRule
		want bool
	}{
		{IgnoreRule{}, false},
		{IgnoreRule{ID: "cve-2026-1"}, true},
		{IgnoreRule{ID: "GHSA-2222-3333-4444"}, true},
		{IgnoreRule{ID: "CVE-2026-2"}, false},
		{IgnoreRule{PURLs: []string{"pkg:npm/a"}}, true},
		{IgnoreRule{PURLs: []string{"pkg:npm/b", "pkg:npm/a@1"}}, true},
		{IgnoreRule{ID: "CVE-2026-1", PURLs: []string{"pkg:npm/a@2"}}, false},
		{IgnoreRule{Paths: []string{"usr/**"}}, false}, // it is also elsewhere
		{IgnoreRule{Paths: []string{"usr/**", "/opt/*"}}, true},
		{IgnoreRule{Paths: []string{"**/a"}}, true},
		{IgnoreRule{Paths: []string{"**"}}, true},
	} {
		if got := c.rule.matches(&v); got != c.want {
			t.Errorf("%+v: %t", c.rule, got)
		}
	}
	if (IgnoreRule{Paths: []string{"**"}}).matches(&Vulnerability{ID: "x"}) {
		t.Error("a finding without a place is at every place")
	}
}

func TestExpiredRules(t *testing.T) {
	rules, err := ParseIgnore("i.yaml", []byte("- id: CVE-2026-1001\n  until: 2026-11-23\n- id: CVE-2026-4004\n  until: 2026-11-24\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := triaged(t, Options{Ignore: rules})
	if len(r.Suppressed) != 1 || r.Suppressed[0].Vulnerability.ID != "CVE-2026-4004" || r.Suppressed[0].Document != "i.yaml" {
		t.Errorf("suppressed %+v", r.Suppressed)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "CVE-2026-1001 ended on 2026-11-23") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestFixFilters(t *testing.T) {
	unfixed := triaged(t, Options{IgnoreUnfixed: true})
	if len(unfixed.Vulnerabilities) != 3 || len(unfixed.Suppressed) != 1 || unfixed.Suppressed[0].By != SuppressedByFix || unfixed.Counts.Low != 0 {
		t.Errorf("%d findings, suppressed %+v", len(unfixed.Vulnerabilities), unfixed.Suppressed)
	}
	unknown := []SourceReport{{Name: SourceAttestation, Scans: []Scan{{Link: LinkDigest, Subject: hexDigest("1"), Findings: []Vulnerability{{ID: "CVE-2026-1"}}}}}}
	if r := assemble(unknown, testTarget(t), Options{IgnoreUnfixed: true}); len(r.Vulnerabilities) != 1 {
		t.Error("a finding of whose fix nothing is known counts as one without")
	}
	if r := assemble(unknown, testTarget(t), Options{OnlyFixed: true}); len(r.Vulnerabilities) != 0 || len(r.Suppressed) != 1 {
		t.Error("a finding of whose fix nothing is known counts as fixed")
	}
}
