package vuln

import (
	"maps"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

type trivyReport struct {
	SchemaVersion int
	CreatedAt     string
	ArtifactName  string
	Trivy         struct{ Version string }
	Metadata      struct {
		ImageID     string
		RepoDigests []string
		ImageConfig struct{ Architecture, OS, Variant string }
		OS          struct {
			Family, Name string
			EOSL         bool
		}
	}
	Results []struct {
		Target          string
		Class           string
		Type            string
		Vulnerabilities []trivyVulnerability

		ExperimentalModifiedFindings []struct {
			Type      string
			Status    string
			Statement string
			Source    string
			Finding   trivyVulnerability
		}
	}
}

type trivyVulnerability struct {
	VulnerabilityID  string
	VendorIDs        []string
	PkgName          string
	PkgPath          string
	PkgIdentifier    struct{ PURL string }
	InstalledVersion string
	FixedVersion     string
	Status           string
	Layer            struct{ Digest string }
	SeveritySource   string
	PrimaryURL       string
	Title            string
	Description      string
	Severity         string
	CweIDs           []string
	CVSS             map[string]struct {
		V2Vector, V3Vector, V40Vector string
		V2Score, V3Score, V40Score    float64
	}
	References       []string
	PublishedDate    string
	LastModifiedDate string
}

// parseTrivy reads a report of "trivy image --format json".
func parseTrivy(text []byte) (*Document, error) {
	var report trivyReport
	if err := decode("Trivy report", text, &report); err != nil {
		return nil, err
	}
	if report.SchemaVersion != 2 {
		// Where another version has its findings is not known: they would not be seen.
		return nil, oci.Invalid("Trivy report: schema version %d is not understood", report.SchemaVersion)
	}
	s := Scan{
		Tool: "trivy", single: true, ToolVersion: report.Trivy.Version, ScannedAt: parseTime(report.CreatedAt),
		Digests: digestsIn(append([]string{report.Metadata.ImageID}, report.Metadata.RepoDigests...)),
	}
	config := report.Metadata.ImageConfig
	s.platform = oci.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
	if os := report.Metadata.OS; os.EOSL {
		s.Warnings = append(s.Warnings, os.Family+" "+os.Name+" is no longer supported: new flaws in its packages may not be known")
	}
	packages := len(report.Results) == 0
	for _, result := range report.Results {
		packages = packages || result.Class == "" || strings.HasSuffix(result.Class, "-pkgs") || len(result.Vulnerabilities) > 0
		place := ""
		if result.Class == "lang-pkgs" && strings.Contains(result.Target, "/") {
			place = result.Target
		}
		for _, v := range result.Vulnerabilities {
			s.Findings = append(s.Findings, v.finding(result.Type, place))
		}
		for _, m := range result.ExperimentalModifiedFindings {
			if m.Type == "vulnerability" {
				s.Suppressed = append(s.Suppressed, Suppressed{
					Vulnerability: m.Finding.finding(result.Type, place),
					By:            SuppressedByScanner, Reason: strings.TrimSpace(m.Status + " " + m.Statement), Document: m.Source,
				})
			}
		}
	}
	if !packages {
		s.Partial = true
		s.Warnings = append(s.Warnings, "it is about secrets, settings or licenses: vulnerabilities may not have been looked for")
	}
	return scanOf(s), nil
}

func (t trivyVulnerability) finding(kind, place string) Vulnerability {
	p := Package{
		PURL: t.PkgIdentifier.PURL, Name: t.PkgName, Version: t.InstalledVersion, Type: kind, Path: t.PkgPath,
		LayerDigest: firstDigest(t.Layer.Digest),
	}
	fill(&p.Path, place)
	v := Vulnerability{
		ID: t.VulnerabilityID, Aliases: t.VendorIDs, Summary: t.Title, Description: t.Description,
		References: addUnique(addUnique(nil, t.PrimaryURL), t.References...), CWEs: t.CweIDs, Package: newPackage(p),
		FixedVersions: splitVersions(t.FixedVersion), FixState: trivyFix(t.Status),
		Published: parseTime(t.PublishedDate), Modified: parseTime(t.LastModifiedDate),
	}
	v.rate(t.SeveritySource, t.Severity, "", 0)
	for _, source := range slices.Sorted(maps.Keys(t.CVSS)) {
		c := t.CVSS[source]
		v.rate(source, "", c.V40Vector, c.V40Score)
		v.rate(source, "", c.V3Vector, c.V3Score)
		v.rate(source, "", c.V2Vector, c.V2Score)
	}
	settle(&v)
	return v
}

// rate adds a rating, if there is one.
func (v *Vulnerability) rate(source, word, vector string, score float64) {
	if r, ok := newRating(source, word, vector, score); ok {
		v.Ratings = addUnique(v.Ratings, r)
	}
}

func trivyFix(status string) FixState {
	switch status {
	case "fixed":
		return FixFixed
	case "affected", "under_investigation":
		return FixNotFixed
	case "will_not_fix", "fix_deferred", "end_of_life":
		return FixWontFix
	}
	return FixUnknown
}

func splitVersions(s string) []string {
	var list []string
	for v := range strings.SplitSeq(s, ",") {
		list = addUnique(list, strings.TrimSpace(v))
	}
	return list
}

// digestsIn reads the digests of "name@sha256:…" and of plain ones.
func digestsIn(names []string) []oci.Digest {
	var list []oci.Digest
	for _, name := range names {
		list = addUnique(list, firstDigest(name[strings.LastIndexByte(name, '@')+1:]))
	}
	return list
}

// firstDigest is the digest, or empty if it is none.
func firstDigest(s string) oci.Digest {
	d, err := oci.ParseDigest(s)
	if err != nil {
		return ""
	}
	return d
}
