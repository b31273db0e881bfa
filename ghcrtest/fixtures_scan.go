package ghcrtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Finding is a vulnerable package in an image, for reports to be made of.
type Finding struct {
	ID       string // "CVE-2026-1001"
	Severity string // "CRITICAL", "HIGH", "MEDIUM", "LOW" or "UNKNOWN"
	Score    float64
	Title    string
	Package  string
	Version  string
	Fixed    string // empty if there is no fix
	PURL     string // empty is that of a Debian package
	Path     string // in the image; empty for a package of its operating system
}

func (f Finding) purl() string {
	return cmp.Or(f.PURL, "pkg:deb/debian/"+f.Package+"@"+f.Version+"?arch=amd64&distro=debian-12")
}

// scanTime is when fixtures were scanned.
var scanTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TrivyReport makes the JSON report of Trivy of an image in a repository of ghcr.io. With
// no findings it says that nothing was found.
func TrivyReport(repo string, image *Image, findings ...Finding) []byte {
	system, language := []any{}, []any{}
	for _, f := range findings {
		status := "affected"
		if f.Fixed != "" {
			status = "fixed"
		}
		entry := map[string]any{
			"VulnerabilityID": f.ID, "PkgID": f.Package + "@" + f.Version, "PkgName": f.Package, "PkgIdentifier": map[string]any{"PURL": f.purl()},
			"InstalledVersion": f.Version, "FixedVersion": f.Fixed, "Status": status, "Severity": f.Severity, "SeveritySource": "nvd",
			"PrimaryURL": "https://avd.aquasec.com/nvd/" + strings.ToLower(f.ID), "Title": f.Title, "Description": f.Title,
			"Layer": map[string]any{}, "References": []string{"https://nvd.nist.gov/vuln/detail/" + f.ID},
			"PublishedDate": "2026-01-01T00:00:00Z", "LastModifiedDate": "2026-01-01T00:00:00Z",
		}
		if f.Score > 0 {
			entry["CVSS"] = map[string]any{"nvd": map[string]any{"V3Score": f.Score}}
		}
		if f.Path == "" {
			system = append(system, entry)
		} else {
			entry["PkgPath"] = f.Path
			language = append(language, entry)
		}
	}
	name := RegistryHost + "/" + repo
	results := []any{map[string]any{"Target": name + " (debian 12.4)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": system}}
	if len(language) > 0 {
		results = append(results, map[string]any{"Target": "Node.js", "Class": "lang-pkgs", "Type": "node-pkg", "Vulnerabilities": language})
	}
	return marshal(map[string]any{
		"SchemaVersion": 2, "CreatedAt": scanTime, "ArtifactName": name, "ArtifactType": "container_image", "Results": results,
		"Trivy": map[string]any{"Version": "0.67.0"},
		"Metadata": map[string]any{
			"OS": map[string]any{"Family": "debian", "Name": "12.4"}, "ImageID": imageID(image),
			"RepoTags": []string{name + ":v1"}, "RepoDigests": []string{name + "@" + image.Digest().String()},
		},
	})
}

// imageID is the digest of an image's config, or "" of an index.
func imageID(image *Image) oci.Digest {
	if c := image.Manifest.Config; c != nil {
		return c.Digest
	}
	return ""
}

// GrypeReport makes the JSON report of Grype of an image in a repository of ghcr.io.
func GrypeReport(repo string, image *Image, findings ...Finding) []byte {
	matches := []any{}
	for _, f := range findings {
		fix := map[string]any{"versions": []string{}, "state": "not-fixed"}
		if f.Fixed != "" {
			fix = map[string]any{"versions": []string{f.Fixed}, "state": "fixed"}
		}
		scores := []any{}
		if f.Score > 0 {
			scores = append(scores, map[string]any{"source": "nvd@nist.gov", "type": "Primary", "version": "3.1", "metrics": map[string]any{"baseScore": f.Score}})
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(f.purl(), "pkg:"), "/")
		matches = append(matches, map[string]any{
			"vulnerability": map[string]any{
				"id": f.ID, "dataSource": "https://nvd.nist.gov/vuln/detail/" + f.ID, "namespace": "debian:distro:debian:12",
				"severity": capitalized(f.Severity), "urls": []string{}, "description": f.Title, "cvss": scores, "fix": fix, "advisories": []any{},
			},
			"relatedVulnerabilities": []any{},
			"matchDetails":           []any{map[string]any{"type": "exact-direct-match", "matcher": kind + "-matcher"}},
			"artifact": map[string]any{
				"name": f.Package, "version": f.Version, "type": kind, "purl": f.purl(), "licenses": []string{}, "cpes": []string{},
				"locations": []any{map[string]any{"path": cmp.Or(f.Path, "/var/lib/dpkg/status")}},
			},
		})
	}
	name := RegistryHost + "/" + repo
	return marshal(map[string]any{
		"matches": matches,
		"source": map[string]any{"type": "image", "target": map[string]any{
			"userInput": name + ":v1", "imageID": imageID(image), "manifestDigest": image.Digest(), "tags": []string{name + ":v1"},
			"repoDigests": []string{name + "@" + image.Digest().String()},
		}},
		"distro":     map[string]any{"name": "debian", "version": "12"},
		"descriptor": map[string]any{"name": "grype", "version": "0.104.0", "timestamp": scanTime},
	})
}

func capitalized(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + strings.ToLower(word[1:])
}

// CosignVulnType is the predicate type of [CosignVuln].
const CosignVulnType = "https://cosign.sigstore.dev/attestation/vuln/v1"

// CosignVuln makes the predicate that cosign attests a scan with: the report of a scanner,
// such as "pkg:github/aquasecurity/trivy@0.67.0", and when it was made.
func CosignVuln(scanner string, report []byte, at time.Time) []byte {
	_, version, _ := strings.Cut(scanner, "@")
	return marshal(map[string]any{
		"invocation": map[string]any{"parameters": nil, "uri": "", "event_id": "", "builder.id": ""},
		"scanner":    map[string]any{"uri": scanner, "version": version, "db": map[string]any{"uri": "", "version": ""}, "result": json.RawMessage(report)},
		"metadata":   map[string]any{"scanStartedOn": at.UTC(), "scanFinishedOn": at.UTC()},
	})
}

// SPDXType is the predicate type of [SPDX].
const SPDXType = "https://spdx.dev/Document"

// SPDX makes an SBOM of the packages that findings are about, vulnerable or not.
func SPDX(name string, findings ...Finding) []byte {
	packages, relationships := []any{}, []any{}
	for i, f := range findings {
		id := "SPDXRef-Package-" + strconv.Itoa(i)
		packages = append(packages, map[string]any{
			"SPDXID": id, "name": f.Package, "versionInfo": f.Version, "downloadLocation": "NOASSERTION",
			"externalRefs": []any{map[string]any{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": f.purl()}},
		})
		relationships = append(relationships, map[string]any{"spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": id, "relationshipType": "DESCRIBES"})
	}
	return marshal(map[string]any{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name, "documentNamespace": "https://example.com/" + name,
		"creationInfo": map[string]any{"created": scanTime, "creators": []string{"Tool: syft-1.30.0"}},
		"packages":     packages, "relationships": relationships,
	})
}

// TrivySARIF makes what Trivy writes for code scanning, with the image it is about in the
// properties of the run.
func TrivySARIF(repo string, image *Image, findings ...Finding) []byte {
	name := RegistryHost + "/" + repo
	return sarif("Trivy", "0.67.0", findings, map[string]any{
		"imageName": name + ":v1", "imageID": imageID(image), "repoTags": []string{name + ":v1"}, "repoDigests": []string{name + "@" + image.Digest().String()},
	}, func(f Finding) sarifFinding {
		link := "https://avd.aquasec.com/nvd/" + strings.ToLower(f.ID)
		return sarifFinding{
			rule: f.ID, name: "OsPackageVulnerability", path: cmp.Or(f.Path, repo), link: link,
			message: fmt.Sprintf("Package: %s\nInstalled Version: %s\nVulnerability %s\nSeverity: %s\nFixed Version: %s\nLink: [%s](%s)", f.Package, f.Version, f.ID, f.Severity, f.Fixed, f.ID, link),
			help:    fmt.Sprintf("Vulnerability %s\nSeverity: %s\nPackage: %s\nFixed Version: %s\nLink: [%s](%s)\n%s", f.ID, f.Severity, f.Package, f.Fixed, f.ID, link, f.Title),
		}
	})
}

// GrypeSARIF makes what Grype writes for code scanning.
func GrypeSARIF(repo string, findings ...Finding) []byte {
	name := repo[strings.LastIndex(repo, "/")+1:]
	return sarif("grype", "0.104.0", findings, nil, func(f Finding) sarifFinding {
		kind, _, _ := strings.Cut(strings.TrimPrefix(f.purl(), "pkg:"), "/")
		path := strings.TrimPrefix(cmp.Or(f.Path, "/var/lib/dpkg/status"), "/")
		link := "https://nvd.nist.gov/vuln/detail/" + f.ID
		return sarifFinding{
			rule: f.ID + "-" + f.Package, name: "MatcherExactDirectMatch", path: name + "/" + path, link: link, purl: f.purl(),
			message: fmt.Sprintf("A %s vulnerability in %s package: %s, version %s was found in image %s/%s:v1 at: /%s", strings.ToLower(f.Severity), kind, f.Package, f.Version, RegistryHost, repo, path),
			help: fmt.Sprintf("Vulnerability %s\nSeverity: %s\nPackage: %s\nVersion: %s\nFix Version: %s\nType: %s\nLocation: %s\nData Namespace: unknown\nLink: [%s](%s)",
				f.ID, strings.ToLower(f.Severity), f.Package, f.Version, f.Fixed, kind, path, f.ID, link),
		}
	})
}

// sarifFinding is a finding as a scanner words it.
type sarifFinding struct{ rule, name, path, link, purl, message, help string }

var sarifLevels = map[string]string{"CRITICAL": "error", "HIGH": "error", "MEDIUM": "warning"}

func sarif(tool, version string, findings []Finding, properties map[string]any, words func(Finding) sarifFinding) []byte {
	rules, results := []any{}, []any{}
	for i, f := range findings {
		w := words(f)
		level := cmp.Or(sarifLevels[f.Severity], "note")
		ruleProperties := map[string]any{
			"precision": "very-high", "security-severity": strconv.FormatFloat(f.Score, 'f', 1, 64), "tags": []string{"vulnerability", "security", f.Severity},
		}
		if w.purl != "" {
			ruleProperties["purls"] = []string{w.purl}
		}
		rules = append(rules, map[string]any{
			"id": w.rule, "name": w.name, "shortDescription": text(f.Title), "fullDescription": text(f.Title), "helpUri": w.link, "help": text(w.help),
			"defaultConfiguration": map[string]any{"level": level}, "properties": ruleProperties,
		})
		results = append(results, map[string]any{
			"ruleId": w.rule, "ruleIndex": i, "level": level, "message": text(w.message),
			"locations": []any{map[string]any{"physicalLocation": map[string]any{
				"artifactLocation": map[string]any{"uri": w.path, "uriBaseId": "ROOTPATH"},
				"region":           map[string]any{"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
			}}},
		})
	}
	run := map[string]any{"tool": map[string]any{"driver": map[string]any{"name": tool, "version": version, "rules": rules}}, "results": results, "columnKind": "utf16CodeUnits"}
	if properties != nil {
		run["properties"] = properties
	}
	return marshal(map[string]any{"version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "runs": []any{run}})
}

func text(s string) map[string]string { return map[string]string{"text": s} }
