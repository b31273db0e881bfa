package vuln

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"

	packageurl "github.com/package-url/packageurl-go"
)

// Advisory is a flaw and the versions of packages that have it, as a database of
// advisories says. Make one of [ParseOSV] or [ParseGitHubAdvisories].
type Advisory struct {
	Vulnerability Vulnerability // without a package
	Withdrawn     time.Time     // zero if it was not
	Affected      []Affected
}

// Affected are the versions of one package that have a flaw.
type Affected struct {
	PURL      string // without a version; empty if the ecosystem has no type of purl
	Ecosystem string // as the database spells it
	Name      string
	Versions  []string // each one by name
	Ranges    []VersionRange
	// FixedVersions are those the ranges end with.
	FixedVersions []string
	FixState      FixState
}

// GitHubAdvisory is an advisory as GitHub's API answers it, for itself and within an
// alert of Dependabot. The two differ in the types of some fields; both are read.
type GitHubAdvisory struct {
	GHSA           string                   `json:"ghsa_id"`
	CVE            string                   `json:"cve_id"`
	HTMLURL        string                   `json:"html_url"`
	Summary        string                   `json:"summary"`
	Description    string                   `json:"description"`
	Severity       string                   `json:"severity"`
	CVSS           advisoryCVSS             `json:"cvss"`
	CVSSSeverities map[string]*advisoryCVSS `json:"cvss_severities"`
	EPSS           *struct {
		Percentage float64 `json:"percentage"`
		Percentile float64 `json:"percentile"`
	} `json:"epss"`
	CWEs []struct {
		ID string `json:"cwe_id"`
	} `json:"cwes"`
	Identifiers []struct {
		Value string `json:"value"`
	} `json:"identifiers"`
	References      []advisoryReference     `json:"references"`
	Vulnerabilities []advisoryVulnerability `json:"vulnerabilities"`
	PublishedAt     string                  `json:"published_at"`
	UpdatedAt       string                  `json:"updated_at"`
	WithdrawnAt     string                  `json:"withdrawn_at"`
}

type advisoryCVSS struct {
	Vector string  `json:"vector_string"`
	Score  float64 `json:"score"`
}

type advisoryPackage struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"name"`
}

type advisoryVulnerability struct {
	Package      advisoryPackage `json:"package"`
	Range        string          `json:"vulnerable_version_range"`
	FirstPatched patchedVersion  `json:"first_patched_version"`
}

// patchedVersion is a string in an advisory and {"identifier": …} in an alert.
type patchedVersion string

// UnmarshalJSON reads both.
func (p *patchedVersion) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var object struct {
			Identifier string `json:"identifier"`
		}
		err := json.Unmarshal(text, &object)
		*p = patchedVersion(object.Identifier)
		return err
	}
	return json.Unmarshal(text, (*string)(p))
}

// advisoryReference is a string in an advisory and {"url": …} in an alert.
type advisoryReference string

// UnmarshalJSON reads both.
func (r *advisoryReference) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '{' {
		var object struct {
			URL string `json:"url"`
		}
		err := json.Unmarshal(text, &object)
		*r = advisoryReference(object.URL)
		return err
	}
	return json.Unmarshal(text, (*string)(r))
}

func (a *GitHubAdvisory) finding() Vulnerability {
	v := Vulnerability{
		ID: cmp.Or(a.CVE, a.GHSA), Summary: a.Summary, Description: a.Description,
		Published: parseTime(a.PublishedAt), Modified: parseTime(a.UpdatedAt),
	}
	v.Aliases = addUnique(v.Aliases, a.GHSA)
	for _, id := range a.Identifiers {
		v.Aliases = addUnique(v.Aliases, id.Value)
	}
	v.References = addUnique(v.References, a.HTMLURL)
	for _, r := range a.References {
		v.References = addUnique(v.References, string(r))
	}
	for _, c := range a.CWEs {
		v.CWEs = addUnique(v.CWEs, c.ID)
	}
	v.rate("ghsa", a.Severity, "", 0)
	for _, version := range []string{"cvss_v4", "cvss_v3"} {
		if c := a.CVSSSeverities[version]; c != nil {
			v.rate("ghsa", "", c.Vector, c.Score)
		}
	}
	if len(a.CVSSSeverities) == 0 {
		v.rate("ghsa", "", a.CVSS.Vector, a.CVSS.Score)
	}
	if a.EPSS != nil {
		v.EPSS = &EPSS{Score: a.EPSS.Percentage, Percentile: a.EPSS.Percentile}
	}
	return v
}

// ParseGitHubAdvisories reads a page of GitHub's advisories.
//
// Errors: [oci.ErrInvalid].
func ParseGitHubAdvisories(text []byte) ([]Advisory, error) {
	list, err := decodeList[GitHubAdvisory]("GitHub advisories", text)
	if err != nil {
		return nil, err
	}
	advisories := make([]Advisory, len(list))
	for i, a := range list {
		advisories[i] = Advisory{Vulnerability: a.finding(), Withdrawn: parseTime(a.WithdrawnAt)}
		for _, v := range a.Vulnerabilities {
			affected := Affected{
				PURL: ecosystemPURL(v.Package.Ecosystem, v.Package.Name, ""), Ecosystem: v.Package.Ecosystem, Name: v.Package.Name,
				Ranges:        []VersionRange{parseGitHubRange(v.Range)},
				FixedVersions: addUnique(nil, string(v.FirstPatched)), FixState: FixNotFixed,
			}
			if len(affected.FixedVersions) > 0 {
				affected.FixState = FixFixed
			}
			advisories[i].Affected = append(advisories[i].Affected, affected)
		}
	}
	return advisories, nil
}

// osvRecord is a record of OSV's schema.
type osvRecord struct {
	ID        string        `json:"id"`
	Modified  string        `json:"modified"`
	Published string        `json:"published"`
	Withdrawn string        `json:"withdrawn"`
	Aliases   []string      `json:"aliases"`
	Upstream  []string      `json:"upstream"`
	Summary   string        `json:"summary"`
	Details   string        `json:"details"`
	Severity  []osvSeverity `json:"severity"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
			PURL      string `json:"purl"`
		} `json:"package"`
		Severity []osvSeverity `json:"severity"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
	} `json:"affected"`
	References []struct {
		URL string `json:"url"`
	} `json:"references"`
	DatabaseSpecific json.RawMessage `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

// ParseOSV reads records of OSV: one, a list of them, or an answer to a query, which
// has them below "vulns".
//
// Errors: [oci.ErrInvalid].
func ParseOSV(text []byte) ([]Advisory, error) {
	var records []osvRecord
	var answer struct {
		osvRecord
		Vulns []osvRecord `json:"vulns"`
	}
	if trimmed := strings.TrimSpace(string(text)); strings.HasPrefix(trimmed, "[") {
		if err := decode("OSV", text, &records); err != nil {
			return nil, err
		}
	} else if err := decode("OSV", text, &answer); err != nil {
		return nil, err
	} else if records = answer.Vulns; answer.ID != "" {
		records = []osvRecord{answer.osvRecord}
	}
	advisories := make([]Advisory, len(records))
	for i, r := range records {
		advisories[i] = r.advisory()
	}
	return advisories, nil
}

func (r *osvRecord) advisory() Advisory {
	a := Advisory{Withdrawn: parseTime(r.Withdrawn)}
	v := &a.Vulnerability
	v.ID, v.Summary, v.Description, v.Aliases = r.ID, r.Summary, r.Details, r.Aliases
	v.Published, v.Modified = parseTime(r.Published), parseTime(r.Modified)
	if len(cves(v.IDs())) == 0 && len(cves(r.Upstream)) == 1 {
		// A record of a distribution about one flaw has its CVE as upstream.
		v.Aliases = addUnique(v.Aliases, cves(r.Upstream)...)
	}
	for _, ref := range r.References {
		v.References = addUnique(v.References, ref.URL)
	}
	source := osvSource(r.ID)
	var specific struct {
		Severity string   `json:"severity"`
		CWEs     []string `json:"cwe_ids"`
	}
	if json.Unmarshal(r.DatabaseSpecific, &specific) == nil {
		v.rate(source, specific.Severity, "", 0)
		v.CWEs = addUnique(v.CWEs, specific.CWEs...)
	}
	rate := func(list []osvSeverity) {
		for _, s := range list {
			if strings.HasPrefix(s.Type, "CVSS_") {
				v.rate(source, "", s.Score, 0)
			} else {
				v.rate(source, s.Score, "", 0)
			}
		}
	}
	rate(r.Severity)
	for _, f := range r.Affected {
		if len(r.Severity) == 0 {
			rate(f.Severity)
		}
		affected := Affected{PURL: f.Package.PURL, Ecosystem: f.Package.Ecosystem, Name: f.Package.Name, Versions: f.Versions, FixState: FixUnknown}
		if affected.PURL == "" {
			affected.PURL = ecosystemPURL(f.Package.Ecosystem, f.Package.Name, "")
		}
		for _, rg := range f.Ranges {
			if rg.Type == "GIT" {
				continue // commits, not versions
			}
			parsed, fixed := parseOSVEvents(rg.Events)
			affected.Ranges = append(affected.Ranges, parsed...)
			affected.FixedVersions = addUnique(affected.FixedVersions, fixed...)
		}
		if len(affected.FixedVersions) > 0 {
			affected.FixState = FixFixed
		}
		a.Affected = append(a.Affected, affected)
	}
	return a
}

// osvSource is the database a record is from, by its id.
func osvSource(id string) string {
	switch prefix, _, _ := strings.Cut(strings.ToUpper(id), "-"); prefix {
	case "GHSA":
		return "ghsa"
	case "DSA", "DLA", "DEBIAN":
		return "debian"
	case "USN", "UBUNTU":
		return "ubuntu"
	case "ALPINE", "ALSA", "RHSA", "RLSA", "SUSE":
		return map[string]string{"ALPINE": "alpine", "ALSA": "almalinux", "RHSA": "redhat", "RLSA": "rocky", "SUSE": "suse"}[prefix]
	}
	return "osv"
}

// purlTypes are the types of purls of GitHub's and OSV's ecosystems, which spell the
// same ones differently.
var purlTypes = map[string]string{
	"npm": "npm", "pip": "pypi", "pypi": "pypi", "go": "golang", "rubygems": "gem", "rust": "cargo", "crates.io": "cargo",
	"maven": "maven", "nuget": "nuget", "composer": "composer", "packagist": "composer", "erlang": "hex", "hex": "hex",
	"pub": "pub", "swift": "swift", "swifturl": "swift", "actions": "github", "github actions": "github",
}

// ecosystemPURL is the purl of a package of an ecosystem, or empty.
func ecosystemPURL(ecosystem, name, version string) string {
	kind := purlTypes[strings.ToLower(ecosystem)]
	if kind == "" || name == "" {
		return ""
	}
	namespace := ""
	separator := "/"
	if kind == "maven" {
		separator = ":"
	}
	if i := strings.LastIndex(name, separator); i >= 0 {
		namespace, name = name[:i], name[i+1:]
	}
	u := packageurl.NewPackageURL(kind, namespace, name, version, nil, "")
	if u.Normalize() != nil {
		return ""
	}
	return u.ToString()
}
