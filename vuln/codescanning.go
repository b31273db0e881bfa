package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CodeScanningAlert is an alert of GitHub's code scanning, as its API answers it.
type CodeScanningAlert struct {
	Number           int    `json:"number"`
	State            string `json:"state"`
	HTMLURL          string `json:"html_url"`
	UpdatedAt        string `json:"updated_at"`
	DismissedReason  string `json:"dismissed_reason"`
	DismissedComment string `json:"dismissed_comment"`
	DismissedBy      *struct {
		Login string `json:"login"`
	} `json:"dismissed_by"`
	Rule struct {
		ID               string   `json:"id"`
		Severity         string   `json:"severity"`
		SecuritySeverity string   `json:"security_severity_level"`
		Description      string   `json:"description"`
		Tags             []string `json:"tags"`
		Help             string   `json:"help"`
		HelpURI          string   `json:"help_uri"`
	} `json:"rule"`
	Tool               codeScanningTool `json:"tool"`
	MostRecentInstance struct {
		Ref      string    `json:"ref"`
		Category string    `json:"category"`
		Commit   string    `json:"commit_sha"`
		Message  sarifText `json:"message"`
		Location struct {
			Path string `json:"path"`
		} `json:"location"`
	} `json:"most_recent_instance"`
}

type codeScanningTool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// CodeScanningAnalysis is one upload of results, also of none.
type CodeScanningAnalysis struct {
	ID        int64            `json:"id"`
	Ref       string           `json:"ref"`
	Commit    string           `json:"commit_sha"`
	Category  string           `json:"category"`
	CreatedAt string           `json:"created_at"`
	Results   int              `json:"results_count"`
	Tool      codeScanningTool `json:"tool"`
	URL       string           `json:"url"`
	Error     string           `json:"error"`
	Warning   string           `json:"warning"`
}

// ParseCodeScanningAlerts reads a page of alerts.
//
// Errors: [oci.ErrInvalid].
func ParseCodeScanningAlerts(text []byte) ([]CodeScanningAlert, error) {
	return decodeList[CodeScanningAlert]("code scanning alerts", text)
}

// ParseCodeScanningAnalyses reads a page of analyses.
//
// Errors: [oci.ErrInvalid].
func ParseCodeScanningAnalyses(text []byte) ([]CodeScanningAnalysis, error) {
	return decodeList[CodeScanningAnalysis]("code scanning analyses", text)
}

// CodeScanningScans makes scans of the analyses and alerts of a repository: one for each
// tool and category, as of its newest analysis, with the alerts of that tool and
// category. An analysis by a scanner of images without results is a scan that found
// nothing; by any other tool it says nothing of images, whatever its category. Alerts that are
// fixed are left out, those that were dismissed are suppressed, and those about source
// code, such as CodeQL's, are not about an image. Whether a scan is about one is for
// [Associate] to say.
func CodeScanningScans(repository string, analyses []CodeScanningAnalysis, alerts []CodeScanningAlert) []Scan {
	type key struct{ tool, category, ref string }
	scans := map[key]*Scan{}
	var order []key
	at := func(k key) *Scan {
		if scans[k] == nil {
			scans[k] = &Scan{Source: SourceCodeScanning, Tool: k.tool, Repository: repository, Category: k.category, Ref: k.ref, single: scansImages(k.tool) && k.tool != "ghcr"}
			order = append(order, k)
		}
		return scans[k]
	}
	about := map[string]bool{} // tools that said something of packages
	for _, a := range alerts {
		if aboutPackage(a) {
			about[strings.ToLower(a.Tool.Name)] = true
		}
	}
	for _, a := range analyses {
		if tool := strings.ToLower(a.Tool.Name); !about[tool] && !scansImages(tool) {
			continue
		}
		s := at(key{strings.ToLower(a.Tool.Name), a.Category, a.Ref})
		made := parseTime(a.CreatedAt)
		if a.Error != "" {
			s.Warnings = addUnique(s.Warnings, fmt.Sprintf("analysis %d of %s: %s", a.ID, a.Tool.Name, a.Error))
			s.Partial = true
			continue
		}
		if s.ScannedAt.IsZero() || made.After(s.ScannedAt) {
			s.ScannedAt, s.Commit, s.Evidence = made, a.Commit, a.URL
			s.ToolVersion = cmp.Or(a.Tool.Version, s.ToolVersion)
		}
	}
	for _, a := range alerts {
		i := a.MostRecentInstance
		if a.State == "fixed" || !aboutPackage(a) {
			continue
		}
		s := at(key{strings.ToLower(a.Tool.Name), i.Category, i.Ref})
		fill(&s.ToolVersion, a.Tool.Version)
		fill(&s.Commit, i.Commit)
		fill(&s.Evidence, a.HTMLURL)
		if s.ScannedAt.IsZero() {
			// Without its analysis, what is known is that the alert was still there then.
			s.ScannedAt = parseTime(a.UpdatedAt)
		}
		text := alertText{
			Rule: a.Rule.ID, Short: a.Rule.Description, Message: i.Message.Text, Help: a.Rule.Help, Level: a.Rule.Severity,
			Word: a.Rule.SecuritySeverity, Tags: a.Rule.Tags, Paths: addUnique(nil, i.Location.Path), Link: a.Rule.HelpURI,
		}
		v := text.finding()
		v.References = addUnique(v.References, a.HTMLURL)
		if a.State != "dismissed" {
			s.Findings = append(s.Findings, v)
			continue
		}
		dismissed := Suppressed{Vulnerability: v, By: SuppressedByDismissal, Reason: a.DismissedReason, Document: a.HTMLURL}
		if a.DismissedComment != "" {
			dismissed.Reason += ": " + a.DismissedComment
		}
		if a.DismissedBy != nil {
			dismissed.Author = a.DismissedBy.Login
		}
		s.Suppressed = append(s.Suppressed, dismissed)
	}
	list := make([]Scan, 0, len(order))
	for _, k := range order {
		if s := scans[k]; s.Evidence != "" || len(s.Findings)+len(s.Suppressed) > 0 {
			list = append(list, *s)
		}
	}
	return list
}

// aboutPackage tells an alert about a vulnerable package from one about code.
func aboutPackage(a CodeScanningAlert) bool {
	return scansImages(strings.ToLower(a.Tool.Name)) ||
		slices.Contains(a.Rule.Tags, "vulnerability") || vulnerabilityID().MatchString(a.Rule.ID)
}

// imageScanners are in the names of tools that look at images.
var imageScanners = []string{"trivy", "grype", "anchore", "docker scout", "snyk container", "clair", "ghcr"}

// scansImages tells a scanner of images from other tools by its name in lower case.
func scansImages(tool string) bool {
	return slices.ContainsFunc(imageScanners, func(name string) bool { return strings.Contains(tool, name) })
}

// DependabotAlert is an alert of Dependabot, as its API answers it.
type DependabotAlert struct {
	Number     int    `json:"number"`
	State      string `json:"state"`
	HTMLURL    string `json:"html_url"`
	Dependency struct {
		Package      advisoryPackage `json:"package"`
		ManifestPath string          `json:"manifest_path"`
		Scope        string          `json:"scope"`
	} `json:"dependency"`
	Advisory      GitHubAdvisory        `json:"security_advisory"`
	Vulnerability advisoryVulnerability `json:"security_vulnerability"`
	UpdatedAt     string                `json:"updated_at"`
	DismissedBy   *struct {
		Login string `json:"login"`
	} `json:"dismissed_by"`
	DismissedReason  string `json:"dismissed_reason"`
	DismissedComment string `json:"dismissed_comment"`
}

// ParseDependabotAlerts reads a page of alerts.
//
// Errors: [oci.ErrInvalid].
func ParseDependabotAlerts(text []byte) ([]DependabotAlert, error) {
	return decodeList[DependabotAlert]("Dependabot alerts", text)
}

// DependabotScan makes one scan of a repository's alerts. They are about its
// dependencies, so most are tied to an image by the repository only; where an SBOM of
// the image was submitted, by the manifest's path. Fixed ones are left out.
func DependabotScan(repository string, alerts []DependabotAlert, now time.Time) Scan {
	s := Scan{
		Source: SourceDependabot, Method: MethodSBOM, Tool: "dependabot", Repository: repository, ScannedAt: now.UTC(),
		Evidence: "https://github.com/" + repository + "/security/dependabot",
	}
	for _, a := range alerts {
		if a.State == "fixed" {
			continue
		}
		ecosystem, name := a.Dependency.Package.Ecosystem, a.Dependency.Package.Name
		v := a.Advisory.finding()
		p := Package{PURL: ecosystemPURL(ecosystem, name, ""), Name: name, Type: ecosystem, Path: a.Dependency.ManifestPath}
		v.Package = newPackage(p)
		v.FixedVersions = addUnique(nil, string(a.Vulnerability.FirstPatched))
		v.References = addUnique(v.References, a.HTMLURL)
		if v.FixState = FixNotFixed; len(v.FixedVersions) > 0 {
			v.FixState = FixFixed
		}
		settle(&v)
		if a.State == "open" {
			s.Findings = append(s.Findings, v)
			continue
		}
		dismissed := Suppressed{Vulnerability: v, By: SuppressedByDismissal, Reason: cmp.Or(a.DismissedReason, a.State), Document: a.HTMLURL}
		if a.DismissedComment != "" {
			dismissed.Reason += ": " + a.DismissedComment
		}
		if a.DismissedBy != nil {
			dismissed.Author = a.DismissedBy.Login
		}
		s.Suppressed = append(s.Suppressed, dismissed)
	}
	return s
}
