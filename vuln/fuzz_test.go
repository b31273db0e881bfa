package vuln

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/snappy"

	"github.com/llm-dev-ops/ghcr/oci"
)

// seed gives the fuzzer all fixtures, plain and compressed.
func seed(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
}

func expected(err error) bool {
	return errors.Is(err, oci.ErrInvalid) || errors.Is(err, ErrTooLarge)
}

// FuzzParse: whatever is attached to an image is read or refused, and what was read can
// be joined, counted and written in each format.
func FuzzParse(f *testing.F) {
	seed(f, "*.json", "*.sarif", "*.spdx", "*.xml")
	f.Add(snappy.Encode(nil, []byte(`{"_type":"https://in-toto.io/Statement/v1"}`)))
	f.Add([]byte("\xff\x06\x00\x00sNaPpY"))
	f.Add([]byte("\x1f\x8b"))
	target := testTarget(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		if doc, err := Parse(content, ""); err != nil {
			if !expected(err) {
				t.Errorf("unclassified: %v", err)
			}
		} else if doc == nil {
			t.Error("neither a document nor an error")
		}
		reader := Reader{Source: SourceAttestation, Target: target}
		if err := reader.Read(t.Context(), Evidence{ID: "x", Content: content, Subject: target.Digest}); err != nil {
			t.Fatal(err)
		}
		source := *reader.Report()
		r := assemble([]SourceReport{source}, target, Options{Now: testNow})
		if source.Status == StatusError && r.Complete() {
			t.Error("complete, though a document could not be read")
		}
		for _, v := range r.Vulnerabilities {
			if len(v.Provenance) == 0 || v.Severity == "" {
				t.Errorf("%+v", v)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
		if r.Scanned() {
			if _, err := WriteSARIF(io.Discard, r, ""); err != nil {
				t.Error(err)
			}
		}
		if err := WriteCycloneDX(io.Discard, r, "", testNow); err != nil {
			t.Error(err)
		}
		if err := WriteMarkdown(io.Discard, r, Gate{FailOn: SeverityLow}.Check(r, testNow), testNow); err != nil {
			t.Error(err)
		}
		if err := WriteOpenVEX(io.Discard, r, "", testNow); err != nil && !errors.Is(err, oci.ErrInvalid) {
			t.Error(err)
		}
		Compare(r, r)
	})
}

// FuzzAnswers: pages of GitHub's APIs and of OSV.
func FuzzAnswers(f *testing.F) {
	seed(f, "code-scanning-*.json", "dependabot-*.json", "advisories.json", "osv.json")
	sbom := SBOM{Packages: []Package{*newPackage(Package{PURL: "pkg:npm/lodash@4.17.20"}), *newPackage(Package{PURL: "pkg:deb/debian/libssl3@3?upstream=openssl"})}}
	f.Fuzz(func(t *testing.T, text []byte) {
		check := func(err error) bool {
			if err != nil && !expected(err) {
				t.Errorf("unclassified: %v", err)
			}
			return err == nil
		}
		alerts, err := ParseCodeScanningAlerts(text)
		check(err)
		analyses, err := ParseCodeScanningAnalyses(text)
		if check(err) {
			CodeScanningScans("acme/app", analyses, alerts)
		}
		if alerts, err := ParseDependabotAlerts(text); check(err) {
			DependabotScan("acme/app", alerts, testNow)
		}
		for _, parse := range []func([]byte) ([]Advisory, error){ParseOSV, ParseGitHubAdvisories} {
			if list, err := parse(text); check(err) {
				EnrichSBOM(SourceOSV, sbom, func(Package) []Advisory { return list })
			}
		}
	})
}

// FuzzIgnore: a rule that was read never ignores everything.
func FuzzIgnore(f *testing.F) {
	f.Add("ignore.yaml", []byte("- id: CVE-2026-1\n  path: usr/**/*\n  until: 2026-12-01\n"))
	f.Add(".trivyignore", []byte("CVE-2026-1 exp:2026-12-01 # r\n"))
	f.Add(".trivyignore.yaml", []byte("vulnerabilities:\n  - id: CVE-2026-1\n    paths: [a]\n"))
	f.Add("osv-scanner.toml", []byte("[[IgnoredVulns]]\nid = \"GHSA-1\"\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		rules, err := ParseIgnore(name, data)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		for _, rule := range rules {
			if rule.matches(&Vulnerability{ID: "X-1"}) && rule.ID != "X-1" && rule.ID != "x-1" {
				t.Errorf("%+v ignores anything", rule)
			}
		}
	})
}

// FuzzVersions: the order of versions is one.
func FuzzVersions(f *testing.F) {
	for _, v := range []string{"1.2.3", "v1.0.0-alpha.1+b", "1.0.0-1", "0", "01.2"} {
		f.Add("npm", v, "1.2.4")
	}
	f.Fuzz(func(t *testing.T, kind, a, b string) {
		x, ok := compareVersions(kind, a, b)
		y, ok2 := compareVersions(kind, b, a)
		if ok != ok2 || x != -y {
			t.Errorf("%q and %q: %d %t, and back %d %t", a, b, x, ok, y, ok2)
		}
	})
}
