package vuln

import (
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ErrNotScanned says that a report has nothing to write in a format that cannot say
// that nothing was scanned: its empty list would read as clean.
var ErrNotScanned = errors.New("the image is not scanned, as far as is known")

// ErrPartial says that a report does not know everything, and that a format can't say so:
// what it lacks would read as looked at.
var ErrPartial = errors.New("it would say that everything was looked at")

// homePage is what our documents name as the tool that made them.
const homePage = "https://github.com/llm-dev-ops/ghcr"

// GitHub's limits on an upload of SARIF. Of a file that is over one it takes nothing. Each
// result brings a rule at most, so that there are no more rules than results; it has one
// location and three tags, of the 1000 and 20 that it may have.
const (
	MaxSARIFResults = 25000
	// MaxSARIFSize is of the file as it is uploaded, compressed with gzip.
	MaxSARIFSize = 10_000_000
)

// maxSARIFText is how much of a description is in a rule.
const maxSARIFText = 8 << 10

// LeftOut is what a document has no room for: the least severe findings, and of those that
// do not count some before any that do.
type LeftOut struct {
	Findings   int      `json:"findings"`
	Worst      Severity `json:"worst,omitempty"` // of these findings
	Suppressed int      `json:"suppressed"`
}

// String says so in a sentence; empty if nothing is left out.
func (l LeftOut) String() string {
	if l == (LeftOut{}) {
		return ""
	}
	text := fmt.Sprintf("GitHub takes no more than %d results and %d bytes: left out are", MaxSARIFResults, MaxSARIFSize)
	if l.Findings > 0 {
		text += fmt.Sprintf(" %d findings of severity %s or less", l.Findings, l.Worst)
		if l.Suppressed > 0 {
			text += " and"
		}
	}
	if l.Suppressed > 0 {
		text += fmt.Sprintf(" %d findings that do not count", l.Suppressed)
	}
	return text
}

// WriteSARIF writes a report as SARIF 2.1.0 for GitHub's code scanning: a rule and an
// alert for each id and package, with a fingerprint that does not change with the
// image's digest, so that alerts stay the same from one build to the next and close
// when the flaw is gone. Findings about the repository only are left out, since
// GitHub has these. [Parse] reads it back.
//
// It returns what is over GitHub's limits and therefore left out, the worst being kept; the
// document says so too, and that it is not complete.
//
// Errors: [ErrNotScanned], because an upload of no results would close all alerts;
// those of w; [oci.ErrInvalid] for a report without a reference, or one whose worst finding
// alone is over the limits.
func WriteSARIF(w io.Writer, r *VulnerabilityReport, toolVersion string) (LeftOut, error) {
	return writeSARIF(w, r, toolVersion, MaxSARIFResults, MaxSARIFSize)
}

func writeSARIF(w io.Writer, r *VulnerabilityReport, toolVersion string, maxResults, maxSize int) (LeftOut, error) {
	if !r.Scanned() {
		return LeftOut{}, fmt.Errorf("SARIF of %s: %w", r.Ref, ErrNotScanned)
	}
	ref, err := oci.ParseRef(r.Ref)
	if err != nil {
		return LeftOut{}, err
	}
	findings := r.Image() // in whatever order the caller has them
	slices.SortStableFunc(findings, compareVulnerabilities)
	suppressed := slices.DeleteFunc(slices.Clone(r.Suppressed), func(s Suppressed) bool { return s.Vulnerability.Link() == LinkRepository })
	total := len(findings) + len(suppressed)
	for n := min(total, maxResults); ; {
		var left LeftOut
		shown := min(n, len(findings))
		left.Suppressed = total - n
		if left.Findings = len(findings) - shown; left.Findings > 0 {
			left.Worst, left.Suppressed = cmp.Or(findings[shown].Severity, SeverityUnknown), len(suppressed)
		}
		text, err := json.MarshalIndent(sarifOf(r, ref, toolVersion, findings[:shown], suppressed[:n-shown], left), "", "  ")
		if err != nil {
			return left, err
		}
		size, err := packedSize(text)
		switch {
		case err != nil:
			return left, err
		case size <= maxSize:
			_, err := w.Write(append(text, '\n'))
			return left, err
		case n <= 1:
			return left, oci.Invalid("SARIF of %s: it is %d bytes compressed, and GitHub takes %d", r.Ref, size, maxSize)
		}
		// In proportion, and a little less so that it ends soon.
		n = max(1, min(n-1, int(float64(n)*float64(maxSize)/float64(size)*0.95)))
	}
}

// packedSize is how large a text is when it is compressed as for an upload.
func packedSize(text []byte) (int, error) {
	var size counter
	z := gzip.NewWriter(&size)
	if _, err := z.Write(text); err != nil {
		return 0, err
	}
	err := z.Close()
	return int(size), err
}

type counter int

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// sarifOf is the document with these findings.
func sarifOf(r *VulnerabilityReport, ref oci.ImageRef, toolVersion string, findings []Vulnerability, suppressed []Suppressed, left LeftOut) sarifLog {
	run := sarifRun{
		AutomationDetails: &sarifAutomation{ID: "ghcr/" + ref.Name + "/"},
		Results:           []sarifResult{},
		Invocations:       []sarifInvocation{{Success: new(r.Complete() && left.Findings == 0)}},
		Properties:        &sarifImage{ImageName: ref.String(), State: r.State},
	}
	if left != (LeftOut{}) {
		run.Properties.LeftOut = &left
		run.Invocations[0].Notifications = []sarifNotification{{Level: "warning", Message: sarifText{Text: left.String()}}}
	}
	run.Tool.Driver = sarifDriver{Name: "ghcr", SemanticVersion: toolVersion, InformationURI: homePage, Rules: []sarifRule{}}
	if at := r.scanTime(); !at.IsZero() {
		run.Invocations[0].End = at.Format(time.RFC3339)
	}
	if ref.Reference.Tag != "" {
		run.Properties.RepoTags = []string{ref.Repository() + ":" + ref.Reference.Tag}
	}
	if r.Digest != "" {
		run.Properties.RepoDigests = []string{ref.Repository() + "@" + r.Digest.String()}
	}
	rules := map[string]int{}
	add := func(v Vulnerability, suppression *sarifSuppression) {
		result := newSARIFResult(v, r, ref)
		index, ok := rules[result.RuleID]
		if !ok {
			index = len(run.Tool.Driver.Rules)
			rules[result.RuleID] = index
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, newSARIFRule(result.RuleID, v))
		}
		result.RuleIndex = index
		if suppression != nil {
			result.Suppressions = []sarifSuppression{*suppression}
		}
		run.Results = append(run.Results, result)
	}
	for _, v := range findings {
		add(v, nil)
	}
	for _, s := range suppressed {
		add(s.Vulnerability, &sarifSuppression{Kind: "external", Status: "accepted", Justification: s.Reason})
	}
	return sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

func sarifLevel(s Severity) string {
	switch s {
	case SeverityCritical, SeverityHigh:
		return "error"
	case SeverityMedium:
		return "warning"
	}
	return "note"
}

// securitySeverity is the number by which GitHub sorts alerts into its own severities.
// The highest score of all databases may be in another one than the severity that was
// chosen, and then a number of the chosen one stands for it.
func securitySeverity(v Vulnerability) string {
	if score := v.Score(); score > 0 && SeverityOf(score, MethodCVSS31) == v.Severity {
		return fmt.Sprintf("%.1f", score)
	}
	return map[Severity]string{SeverityCritical: "9.5", SeverityHigh: "8.0", SeverityMedium: "5.5", SeverityLow: "2.0"}[v.Severity]
}

func newSARIFRule(id string, v Vulnerability) sarifRule {
	facts := [][2]string{{"Vulnerability", v.ID}, {"Severity", string(v.Severity)}}
	if p := v.Package; p != nil {
		facts = append(facts, [2]string{"Package", p.Name}, [2]string{"Installed Version", p.Version}, [2]string{"Type", p.Type})
	}
	facts = append(facts, [2]string{"Fixed Version", strings.Join(v.FixedVersions, ", ")})
	var text, head, row strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&text, "%s: %s\n", f[0], f[1])
		fmt.Fprintf(&head, "| %s ", f[0])
		fmt.Fprintf(&row, "| %s ", markdownCell(f[1]))
	}
	description := truncate(v.Description, maxSARIFText)
	if description != "" {
		text.WriteString("\n" + description)
	}
	rule := sarifRule{
		ID: id, Name: "VulnerablePackage",
		Short:   &sarifText{Text: truncate(cmp.Or(v.Summary, v.ID), 1024)},
		Full:    &sarifText{Text: truncate(cmp.Or(v.Description, v.Summary, v.ID), 1024)},
		Help:    &sarifText{Text: text.String(), Markdown: head.String() + "|\n" + strings.Repeat("|---", len(facts)) + "|\n" + row.String() + "|\n\n" + description},
		Default: &sarifRank{Level: sarifLevel(v.Severity)},
		Properties: sarifProps{
			Tags: []string{"vulnerability", "security", strings.ToUpper(string(v.Severity))}, Precision: "very-high",
			SecuritySeverity: securitySeverity(v),
		},
	}
	if list := addresses(v.References); len(list) > 0 {
		rule.HelpURI = list[0]
	}
	if v.Package != nil && v.Package.PURL != "" {
		rule.Properties.PURLs = []string{v.Package.PURL}
	}
	return rule
}

func newSARIFResult(v Vulnerability, r *VulnerabilityReport, ref oci.ImageRef) sarifResult {
	result := sarifResult{
		RuleID: v.ID, Level: sarifLevel(v.Severity), Message: sarifText{Text: v.ID + ": " + v.Summary},
		Properties: &sarifFinding{
			ID: v.ID, Severity: v.Severity, Aliases: v.Aliases, Package: v.Package, FixState: v.FixState, FixedVersions: v.FixedVersions,
			KEV: v.KEV, EPSS: v.EPSS, Ratings: v.Ratings, References: v.References, CWEs: v.CWEs, Provenance: v.Provenance,
		},
	}
	place, layer, purl := ref.Name, "", ""
	if p := v.Package; p != nil {
		if p.Name != "" {
			result.RuleID += "-" + p.Name
		}
		result.Message.Text = fmt.Sprintf("Package: %s\nInstalled Version: %s\nVulnerability %s\nSeverity: %s\nFixed Version: %s", p.Name, p.Version, v.ID, v.Severity, v.FixedIn)
		if p.Path != "" && p.distribution() == "" {
			place = strings.TrimPrefix(p.Path, "/")
		}
		layer, purl = p.LayerDigest.String(), p.key()
	}
	var location sarifLocation
	location.Physical.Artifact.URI = (&url.URL{Path: place}).EscapedPath()
	location.Physical.Region = &sarifRegion{StartLine: 1}
	location.Logical = []sarifLogical{{FullyQualifiedName: fmt.Sprintf("%s@%s:/%s", ref.Repository(), layer, place), Kind: "module"}}
	result.Locations = []sarifLocation{location}
	hash := sha256.Sum256([]byte(strings.Join([]string{ref.Repository(), r.Platform, result.RuleID, purl, place}, "\x00")))
	result.Fingerprints = map[string]string{"primaryLocationLineHash": fmt.Sprintf("%x:1", hash)}
	return result
}

func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}

// addresses are the addresses of a finding without those that are none.
func addresses(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		return !strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://") ||
			strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' })
	})
}
