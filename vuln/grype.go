package vuln

import (
	"encoding/json"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

type grypeReport struct {
	Matches        []grypeMatch
	IgnoredMatches []struct {
		grypeMatch
		AppliedIgnoreRules []struct{ Reason, Namespace, Vulnerability string }
	}
	Source struct {
		Target json.RawMessage
	}
	Descriptor struct {
		Name, Version, Timestamp string
		DB                       json.RawMessage
	}
}

type grypeMatch struct {
	Vulnerability          grypeVulnerability
	RelatedVulnerabilities []grypeVulnerability
	Artifact               struct {
		Name, Version, Type, PURL string
		Locations                 []struct{ Path, LayerID string }
	}
}

type grypeVulnerability struct {
	ID, DataSource, Namespace, Severity, Description string
	URLs                                             []string
	CVSS                                             []struct {
		Source, Vector string
		Metrics        struct{ BaseScore float64 }
	}
	KnownExploited []struct{ CVE string }
	EPSS           []struct {
		EPSS, Percentile float64
		Date             string
	}
	CWEs []struct{ CWE string }
	Fix  struct {
		Versions []string
		State    string
	}
	Advisories []struct{ Link string }
}

// parseGrype reads a report of "grype --output json".
func parseGrype(text []byte) (*Document, error) {
	var report grypeReport
	if err := decode("Grype report", text, &report); err != nil {
		return nil, err
	}
	if report.Matches == nil {
		return nil, oci.Invalid("Grype report: it has no list of matches, which says that nothing was scanned")
	}
	s := Scan{
		Tool: "grype", single: true, ToolVersion: report.Descriptor.Version, ScannedAt: parseTime(report.Descriptor.Timestamp),
	}
	var db struct {
		SchemaVersion json.RawMessage
		Built         string
		Status        struct{ SchemaVersion, Built string }
	}
	if json.Unmarshal(report.Descriptor.DB, &db) == nil {
		s.DBVersion = strings.Trim(string(db.SchemaVersion), `"`)
		fill(&s.DBVersion, db.Status.SchemaVersion)
		fill(&db.Built, db.Status.Built)
		s.DBUpdated = parseTime(db.Built)
	}
	var target struct {
		ImageID, ManifestDigest string
		RepoDigests             []string
		Architecture, OS        string
	}
	if json.Unmarshal(report.Source.Target, &target) == nil { // of a directory it is a string
		s.platform = oci.Platform{OS: target.OS, Architecture: target.Architecture}
		s.Digests = digestsIn(append([]string{target.ManifestDigest, target.ImageID}, target.RepoDigests...))
	}
	for _, m := range report.Matches {
		s.Findings = append(s.Findings, m.finding())
	}
	for _, m := range report.IgnoredMatches {
		reason := "ignored"
		if len(m.AppliedIgnoreRules) > 0 && m.AppliedIgnoreRules[0].Reason != "" {
			reason = m.AppliedIgnoreRules[0].Reason
		}
		s.Suppressed = append(s.Suppressed, Suppressed{Vulnerability: m.finding(), By: SuppressedByScanner, Reason: reason})
	}
	return scanOf(s), nil
}

func (m grypeMatch) finding() Vulnerability {
	own := m.Vulnerability
	p := Package{PURL: m.Artifact.PURL, Name: m.Artifact.Name, Version: m.Artifact.Version, Type: m.Artifact.Type}
	for i, l := range m.Artifact.Locations {
		p.addPath(l.Path)
		if i == 0 {
			p.LayerDigest = firstDigest(l.LayerID)
		}
	}
	v := Vulnerability{
		ID: own.ID, Description: own.Description, Package: newPackage(p),
		FixedVersions: addUnique(nil, own.Fix.Versions...), FixState: grypeFix(own.Fix.State),
	}
	v.rate(grypeDatabase(own.Namespace), own.Severity, "", 0)
	for _, source := range append([]grypeVulnerability{own}, m.RelatedVulnerabilities...) {
		v.Aliases = addUnique(v.Aliases, source.ID)
		v.References = addUnique(addUnique(v.References, source.DataSource), source.URLs...)
		for _, a := range source.Advisories {
			v.References = addUnique(v.References, a.Link)
		}
		fill(&v.Description, source.Description)
		if source.ID != own.ID {
			v.rate(grypeDatabase(source.Namespace), source.Severity, "", 0)
		}
		for _, c := range source.CVSS {
			database := c.Source
			fill(&database, grypeDatabase(source.Namespace))
			v.rate(database, "", c.Vector, c.Metrics.BaseScore)
		}
		for _, c := range source.CWEs {
			v.CWEs = addUnique(v.CWEs, c.CWE)
		}
		v.KEV = v.KEV || len(source.KnownExploited) > 0
		for _, e := range source.EPSS {
			if v.EPSS == nil || e.Date > v.EPSS.Date {
				v.EPSS = &EPSS{Score: e.EPSS, Percentile: e.Percentile, Date: e.Date}
			}
		}
	}
	settle(&v)
	return v
}

// grypeDatabase is the first part of a namespace such as "debian:distro:debian:12".
func grypeDatabase(namespace string) string {
	name, _, _ := strings.Cut(namespace, ":")
	return name
}

func grypeFix(state string) FixState {
	switch state {
	case "fixed":
		return FixFixed
	case "not-fixed":
		return FixNotFixed
	case "wont-fix":
		return FixWontFix
	}
	return FixUnknown
}
