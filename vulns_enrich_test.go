package ghcr_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

func (s *sandbox) advise(records ...string) {
	s.t.Helper()
	for _, r := range records {
		if err := s.server.AddAdvisory([]byte(r)); err != nil {
			s.t.Fatal(err)
		}
	}
}

const (
	lodashAdvisory = `{"ghsa_id": "GHSA-2222-3333-4444", "cve_id": "CVE-2026-2002", "severity": "high", "summary": "injection", "published_at": "2026-02-01T00:00:00Z",
		"vulnerabilities": [{"package": {"ecosystem": "npm", "name": "lodash"}, "vulnerable_version_range": "< 4.17.21", "first_patched_version": "4.17.21"}]}`
	ownAdvisory = `{"ghsa_id": "GHSA-5555-6666-7777", "severity": "low", "published_at": "2026-03-01T00:00:00Z",
		"vulnerabilities": [{"package": {"ecosystem": "npm", "name": "@acme/web"}, "vulnerable_version_range": "< 2.0.0"}]}`
	lodashRecord = `{"id": "GHSA-2222-3333-4444", "modified": "2026-10-02T00:00:00Z", "aliases": ["CVE-2026-2002"], "summary": "injection", "affected": [{"package": {"ecosystem": "npm", "name": "lodash"},
		"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "4.17.21"}]}]}]}`
	opensslRecord = `{"id": "DEBIAN-CVE-2026-1001", "modified": "2026-10-02T00:00:00Z", "upstream": ["CVE-2026-1001"], "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"}, "versions": ["3.0.1"]}]}`
	otherRelease  = `{"id": "DEBIAN-CVE-2026-1003", "modified": "2026-10-02T00:00:00Z", "affected": [{"package": {"ecosystem": "Debian:11", "name": "openssl"}, "versions": ["3.0.1"]}]}`
)

// withSBOM puts an image with an attested SBOM in.
func (s *sandbox) withSBOM() *ghcrtest.Image {
	s.t.Helper()
	i := image(1, 2)
	sbom := ghcrtest.SPDX("acme/app", openssl,
		ghcrtest.Finding{Package: "lodash", Version: "4.17.20", PURL: "pkg:npm/lodash@4.17.20"},
		ghcrtest.Finding{Package: "@acme/web", Version: "1.0.0", PURL: "pkg:npm/%40acme/web@1.0.0"})
	ghcrtest.CosignBundle(i, ghcrtest.Bundle(ghcrtest.Statement(attest.PredicateSPDX, json.RawMessage(sbom), i)))
	s.add("acme/app", "v1", i)
	s.repository(ghcrtest.Repository{Name: "acme/app"})
	return i
}

// TestSBOMIsLookedUpOnRequest: in GitHub's advisories and in OSV, without a scan of the
// image becoming of it; nothing is told to them that is not asked for, and no name of the
// owner's own.
func TestSBOMIsLookedUpOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.withSBOM()
		s.advise(lodashAdvisory, ownAdvisory, lodashRecord, opensslRecord, otherRelease)

		r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
		if tally := s.tally(); len(r.Vulnerabilities) != 0 || tally[ghcrtest.RouteAdvisories]+tally[ghcrtest.RouteOSVBatch] != 0 {
			t.Errorf("unasked: %v, %v", ids(r.Vulnerabilities), tally)
		}
		both := ghcr.VulnOptions{Enrich: []vuln.SourceName{vuln.SourceGHSA, vuln.SourceOSV}}
		r = s.vulns("acme/app:v1", both)
		if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "CVE-2026-2002"}) || r.State != vuln.StateUnavailable {
			t.Errorf("%v, %s, %+v", got, r.State, r.Sources)
		}
		for _, v := range r.Vulnerabilities {
			if v.ID == "CVE-2026-2002" && len(v.Provenance) != 2 {
				t.Errorf("%+v", v.Provenance)
			}
		}
		if warnings := source(t, r, vuln.SourceGHSA).Warnings; !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "not to be told") }) {
			t.Errorf("it is not said that names were left out: %v", warnings)
		}
		for _, request := range s.log() {
			if request.Route == ghcrtest.RouteOSVBatch && request.Credential != "none" {
				t.Errorf("a credential went to OSV: %+v", request)
			}
		}
		own := both
		own.Disclosure = security.Disclosure{Own: true, Except: []string{"lod*"}}
		r = s.vulns("acme/app:v1", own)
		if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "GHSA-5555-6666-7777"}) {
			t.Errorf("%v", got)
		}
	})
}

// TestOSVPages: what OSV has of a package comes in pages, and records that are known are
// not fetched again.
func TestOSVPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.OSVPage = 1
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		s.withSBOM()
		s.advise(opensslRecord, strings.ReplaceAll(opensslRecord, "1001", "1009"))
		osv := ghcr.VulnOptions{Enrich: []vuln.SourceName{vuln.SourceOSV}}
		for range 2 {
			if got := ids(s.vulns("acme/app:v1", osv).Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "CVE-2026-1009"}) {
				t.Errorf("%v", got)
			}
		}
		if n := s.tally()[ghcrtest.RouteOSVRecord]; n != 2 {
			t.Errorf("fetched %d records", n)
		}
	})
}

// TestSBOM: where it is attested, for which platform, and in which format.
func TestSBOM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		amd, arm := image(1, 2), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(9, 100))
		document := ghcrtest.SPDX("acme/app", openssl)
		index := ghcrtest.BuildKit(func(i *ghcrtest.Image) [][]byte {
			return [][]byte{ghcrtest.BuildKitStatement(i, attest.PredicateSPDX, json.RawMessage(document))}
		}, amd, arm)
		s.add("acme/app", "v1", index)
		s.attestAtGitHub("acme/source", ghcrtest.Bundle(ghcrtest.Statement(attest.PredicateCycloneDX, json.RawMessage(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[]}`), amd)))
		for _, test := range []struct {
			opts ghcr.SBOMOptions
			want []string // formats by platform
		}{
			{ghcr.SBOMOptions{}, []string{"CycloneDX-1.6 linux/amd64", "SPDX-2.3 linux/amd64", "SPDX-2.3 linux/arm64"}},
			{ghcr.SBOMOptions{Platform: "linux/arm64"}, []string{"SPDX-2.3 linux/arm64"}},
			{ghcr.SBOMOptions{Format: "cyclonedx"}, []string{"CycloneDX-1.6 linux/amd64"}},
		} {
			found, err := s.client.SBOM(t.Context(), s.ref("acme/app:v1"), test.opts)
			if err != nil || !found.Complete() {
				t.Fatalf("%v, %v", err, found)
			}
			var got []string
			for _, sbom := range found.List {
				got = append(got, sbom.Format+" "+sbom.Platform)
				if strings.HasPrefix(sbom.Format, "SPDX") && (!strings.Contains(string(sbom.Content), `"SPDX-2.3"`) || len(sbom.Packages) == 0) {
					t.Errorf("%s", sbom.Content)
				}
			}
			if slices.Sort(got); !slices.Equal(got, test.want) {
				t.Errorf("%+v: got %v", test.opts, got)
			}
		}
	})
}

// TestVulnOptionsThatMeanNothing are refused.
func TestVulnOptionsThatMeanNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		for _, opts := range []ghcr.VulnOptions{{Sources: []vuln.SourceName{"trivy"}}, {Enrich: []vuln.SourceName{vuln.SourceDependabot}}} {
			if _, err := s.client.Vulnerabilities(t.Context(), s.ref("acme/app:v1"), opts); !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		}
		for _, err := range s.client.PackageVulnerabilities(t.Context(), s.ref("acme/app"), ghcr.SweepOptions{VulnOptions: ghcr.VulnOptions{Platform: "linux/amd64"}}) {
			if !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// TestSBOMOfTheRepository is added on request, and never taken for one of the image.
func TestSBOMOfTheRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.withSBOM()
		found, err := s.client.SBOM(t.Context(), s.ref("acme/app:v1"), ghcr.SBOMOptions{Repository: true})
		if err != nil || !found.Complete() || len(found.List) != 2 {
			t.Fatalf("%v, %+v", err, found)
		}
		if first, last := found.List[0], found.List[1]; first.Repository != "" || last.Repository != "acme/app" || last.Subject != "" {
			t.Errorf("%+v", found.List)
		}
		s.repository(ghcrtest.Repository{Name: "acme/app", DependencyGraph: "off"})
		found, err = s.client.SBOM(t.Context(), s.ref("acme/app:v1"), ghcr.SBOMOptions{Repository: true})
		if err != nil || found.Complete() || len(found.List) != 1 {
			t.Errorf("%v, %+v", err, found)
		}
	})
}
