package vuln

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// wrap makes a statement about a digest.
func wrap(t testing.TB, subject oci.Digest, predicate string, content any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": content,
		"subject": []any{map[string]any{"name": "app", "digest": map[string]string{subject.Algorithm().String(): subject.Encoded()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fixedSource answers with what is given.
type fixedSource struct {
	name  SourceName
	fetch func(context.Context, Target) (*SourceReport, error)
}

func (s fixedSource) Name() SourceName { return s.name }

func (s fixedSource) Fetch(ctx context.Context, t Target) (*SourceReport, error) {
	return s.fetch(ctx, t)
}

// reading is a source that reads fixtures found at a digest.
func reading(t testing.TB, name SourceName, subject oci.Digest, files ...string) Source {
	return fixedSource{name, func(ctx context.Context, target Target) (*SourceReport, error) {
		r := Reader{Source: name, Target: target}
		for _, f := range files {
			if err := r.Read(ctx, Evidence{ID: f, Content: fixture(t, f), Subject: subject}); err != nil {
				return r.Report(), err
			}
		}
		return r.Report(), nil
	}}
}

func codeScanning(t testing.TB) Source {
	return fixedSource{SourceCodeScanning, func(context.Context, Target) (*SourceReport, error) {
		alerts, err := ParseCodeScanningAlerts(fixture(t, "code-scanning-alerts.json"))
		if err != nil {
			return nil, err
		}
		analyses, err := ParseCodeScanningAnalyses(fixture(t, "code-scanning-analyses.json"))
		if err != nil {
			return nil, err
		}
		return &SourceReport{Scans: CodeScanningScans("acme/app-source", analyses, alerts)}, nil
	}}
}

func dependabot(t testing.TB) Source {
	return fixedSource{SourceDependabot, func(context.Context, Target) (*SourceReport, error) {
		alerts, err := ParseDependabotAlerts(fixture(t, "dependabot-alerts.json"))
		if err != nil {
			return nil, err
		}
		return &SourceReport{Scans: []Scan{DependabotScan("acme/app-source", alerts, testNow)}}, nil
	}}
}

func packagesAPI(t testing.TB) Source {
	return fixedSource{SourcePackagesAPI, func(_ context.Context, target Target) (*SourceReport, error) {
		s, err := ParseReport(fixture(t, "report.json"))
		if err != nil {
			return nil, err
		}
		s.Link, s.Subject, s.Rule = LinkDigest, target.Digest, "the version's own endpoint"
		return &SourceReport{Scans: []Scan{*s}}, nil
	}}
}

type advisories struct {
	name SourceName
	list []Advisory
}

func (a advisories) Name() SourceName { return a.name }

func (a advisories) Enrich(_ context.Context, _ Target, sboms []SBOM) (*SourceReport, error) {
	var r SourceReport
	for _, sbom := range sboms {
		r.Scans = append(r.Scans, EnrichSBOM(a.name, sbom, func(Package) []Advisory { return a.list }))
	}
	return &r, nil
}

func enrichers(t testing.TB) []Enricher {
	osv, err := ParseOSV(fixture(t, "osv.json"))
	if err != nil {
		t.Fatal(err)
	}
	ghsa, err := ParseGitHubAdvisories(fixture(t, "advisories.json"))
	if err != nil {
		t.Fatal(err)
	}
	return []Enricher{advisories{SourceGHSA, ghsa}, advisories{SourceOSV, osv}}
}

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// brief is a finding in a line: what all sources must agree on.
func brief(v Vulnerability) string {
	name := ""
	if v.Package != nil {
		name = v.Package.Name + " " + v.Package.Version
	}
	return fmt.Sprintf("%s %s %s fixed in %s", v.Severity, v.ID, name, v.FixedIn)
}

func briefs(list []Vulnerability) []string {
	out := []string{}
	for _, v := range list {
		out = append(out, brief(v))
	}
	return out
}

// allFindings are what is in the image of the fixtures.
var allFindings = []string{
	"critical CVE-2026-1001 libssl3 3.0.11-1~deb12u2 fixed in 3.0.13-1~deb12u1",
	"high CVE-2026-2002 lodash 4.17.20 fixed in 4.17.21",
	"medium CVE-2026-3003 golang.org/x/net v0.10.0 fixed in 0.17.0",
	"low CVE-2026-4004 zlib1g 1:1.2.13.dfsg-1 fixed in ",
}

// without leaves out packages or ids that a format has no place for.
func without(list []string, what string) []string {
	out := slices.Clone(list)
	for i, line := range out {
		fields := strings.Fields(line)
		switch what {
		case "package":
			out[i] = fields[0] + " " + fields[1] + "  fixed in "
		case "name and version":
			_, fixed, _ := strings.Cut(line, "fixed in ")
			out[i] = fields[0] + " " + fields[1] + "  fixed in " + fixed
		}
	}
	return out
}

// perSource is every source alone, with what it must find and from where.
func perSource(t testing.TB) map[string]struct {
	source Source
	enrich []Enricher
	want   []string
	from   Provenance
	state  State
} {
	type row = struct {
		source Source
		enrich []Enricher
		want   []string
		from   Provenance
		state  State
	}
	index, amd64 := hexDigest("1"), hexDigest("a")
	trivy := Provenance{Source: SourceAttestation, Link: LinkDigest, Method: MethodScan, Tool: "trivy", ToolVersion: "0.67.0", Subject: amd64}
	grype := Provenance{Source: SourceAttestation, Link: LinkDigest, Method: MethodScan, Tool: "grype", ToolVersion: "0.104.0", Subject: amd64}
	from := func(p Provenance, change func(*Provenance)) Provenance {
		change(&p)
		return p
	}
	attested := from(grype, func(p *Provenance) { p.Subject = index }) // the document does not say what was scanned
	ghsaIDs := slices.Clone(allFindings)
	ghsaIDs[1] = strings.Replace(ghsaIDs[1], "CVE-2026-2002", "GHSA-2222-3333-4444", 1)
	sarifIDs := slices.Clone(ghsaIDs)
	sarifIDs[2] = strings.Replace(sarifIDs[2], "CVE-2026-3003", "GHSA-3333-4444-5555", 1)
	return map[string]row{
		"Trivy attested by cosign 2": {source: reading(t, SourceAttestation, index, "cosign-vuln.dsse.json"), want: allFindings, from: trivy, state: StateComplete},
		"Grype attested by cosign 3": {source: reading(t, SourceAttestation, index, "cosign-vuln.bundle-0.3.json"), want: allFindings, from: grype, state: StateComplete},
		"Trivy as custom data":       {source: reading(t, SourceAttestation, index, "cosign-custom.json"), want: allFindings, from: trivy, state: StateComplete},
		"Trivy as base64":            {source: reading(t, SourceAttestation, index, "cosign-custom-base64.json"), want: allFindings, from: trivy, state: StateComplete},
		"Trivy attached as it is":    {source: reading(t, SourceAttestation, index, "trivy.json"), want: allFindings, from: trivy, state: StateComplete},
		"Grype kept by GitHub": {
			source: reading(t, SourceGitHubAttestation, index, "cosign-vuln.bundle-0.3.json"), want: allFindings, state: StateComplete,
			from: from(grype, func(p *Provenance) { p.Source = SourceGitHubAttestation }),
		},
		"in-toto vulns 0.1, bundle 0.1": {source: reading(t, SourceAttestation, index, "vulns-0.1.bundle-0.1.json"), want: without(ghsaIDs, "package"), from: attested, state: StateComplete},
		"in-toto vulns 0.2, bundle 0.2": {source: reading(t, SourceAttestation, index, "vulns-0.2.bundle-0.2.json"), want: without(ghsaIDs, "package"), from: attested, state: StateComplete},
		"Trivy as CycloneDX":            {source: reading(t, SourceAttestation, index, "vdr.cdx.json"), want: allFindings, from: trivy, state: StateComplete},
		"Trivy's SARIF as a file": {
			source: reading(t, SourceFile, "", "trivy.sarif"), want: allFindings, state: StateComplete,
			from: from(trivy, func(p *Provenance) { p.Source = SourceFile }),
		},
		"Grype's SARIF as a file": {
			source: reading(t, SourceFile, "", "grype.sarif"), want: sarifIDs, state: StatePartial, // it has no time, and may be older than the image
			from: from(grype, func(p *Provenance) { p.Source, p.Link, p.Subject = SourceFile, LinkPath, index }),
		},
		"code scanning": {
			source: codeScanning(t), want: allFindings, state: StateComplete,
			from: from(trivy, func(p *Provenance) { p.Source, p.Link, p.Subject = SourceCodeScanning, LinkPath, "" }),
		},
		"Dependabot": {
			source: dependabot(t), want: []string{"high CVE-2026-2002 lodash  fixed in 4.17.21"}, state: StateUnavailable,
			from: Provenance{Source: SourceDependabot, Link: LinkRepository, Method: MethodSBOM, Tool: "dependabot"},
		},
		"the specification's endpoint": {
			source: packagesAPI(t), want: without(allFindings, "name and version"), state: StateComplete,
			from: Provenance{Source: SourcePackagesAPI, Link: LinkDigest, Method: MethodScan, Subject: index},
		},
		"SBOM and advisories": {
			source: reading(t, SourceAttestation, amd64, "buildx-sbom.json"), enrich: enrichers(t), want: allFindings[:3], state: StateUnavailable,
			from: Provenance{Source: SourceOSV, Link: LinkDigest, Method: MethodSBOM, Tool: "osv", Subject: amd64},
		},
		"nothing": {source: reading(t, SourceAttestation, index), want: []string{}, state: StateUnavailable},
	}
}

func TestEachSourceAlone(t *testing.T) {
	for name, c := range perSource(t) {
		t.Run(name, func(t *testing.T) {
			r, err := Collect(t.Context(), []Source{c.source}, testTarget(t), Options{Enrichers: c.enrich, Now: testNow})
			if err != nil {
				t.Fatal(err)
			}
			if got := briefs(r.Vulnerabilities); !slices.Equal(got, c.want) {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
			if r.State != c.state {
				t.Errorf("state %s, want %s", r.State, c.state)
			}
			if (r.Counts != nil) != (c.state != StateUnavailable) {
				t.Errorf("counts %v in state %s", r.Counts, r.State)
			}
			for _, v := range r.Vulnerabilities {
				if len(v.Provenance) == 0 {
					t.Errorf("%s: no provenance", v.ID)
					continue
				}
				p := v.Provenance[0]
				got := Provenance{Source: p.Source, Link: p.Link, Method: p.Method, Tool: p.Tool, ToolVersion: p.ToolVersion, Subject: p.Subject}
				want := c.from
				if p.Source == SourceGHSA && len(c.enrich) > 0 {
					want.Source, want.Tool = SourceGHSA, "ghsa"
				}
				if got != want || p.Evidence == "" && p.Source != SourcePackagesAPI || p.Rule == "" {
					t.Errorf("%s: provenance %+v, want %+v", v.ID, p, want)
				}
			}
		})
	}
}

func TestAllSourcesTogether(t *testing.T) {
	index, amd64 := hexDigest("1"), hexDigest("a")
	sources := []Source{
		packagesAPI(t),
		reading(t, SourceAttestation, index, "cosign-vuln.dsse.json", "cosign-vuln.bundle-0.3.json", "vulns-0.2.bundle-0.2.json", "vdr.cdx.json"),
		reading(t, SourceAttestation, amd64, "buildx-sbom.json", "buildx-provenance-0.2.json"),
		reading(t, SourceGitHubAttestation, index, "cosign-vuln.bundle-0.3.json", "actions-provenance-1.bundle.json"),
		codeScanning(t),
		dependabot(t),
		reading(t, SourceFile, "", "trivy.sarif", "grype.sarif"),
	}
	r, err := Collect(t.Context(), sources, testTarget(t), Options{Enrichers: enrichers(t), Now: testNow, History: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := briefs(r.Vulnerabilities); !slices.Equal(got, allFindings) {
		t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(allFindings, "\n  "))
	}
	if r.State != StateComplete || len(r.Repository()) != 0 {
		t.Errorf("state %s, %d findings of the repository", r.State, len(r.Repository()))
	}
	want := map[string]bool{
		"packages-api digest ": true, "attestation digest trivy": true, "attestation digest grype": true, "github-attestation digest grype": true,
		"code-scanning commit trivy": true, "dependabot repository dependabot": true, "file digest trivy": true, "file category/path grype": true,
		"ghsa digest ghsa": true,
	}
	got := map[string]bool{}
	for _, p := range r.Vulnerabilities[1].Provenance {
		got[fmt.Sprintf("%s %s %s", p.Source, p.Link, p.Tool)] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("provenance of %s:\n%v\nwant\n%v", r.Vulnerabilities[1].ID, got, want)
	}
	if first := r.Vulnerabilities[0]; !first.KEV || first.EPSS == nil || first.EPSS.Score != 0.61 || !first.Has("DSA-5900-1") || first.Package.LayerDigest != hexDigest("7") {
		t.Errorf("what only one source knows is lost: %+v", first)
	}
	if got := fmt.Sprintf("%+v", *r.Counts); got != "{Critical:1 High:1 Medium:1 Low:1 Unknown:0 Fixable:3 Suppressed:3 KEV:1}" {
		t.Errorf("counts %s", got)
	}
	if r.ScannedAt == nil || !r.ScannedAt.Equal(time.Date(2026, 11, 21, 8, 1, 0, 0, time.UTC)) {
		t.Errorf("scanned at %v", r.ScannedAt)
	}
}
