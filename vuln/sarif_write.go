package vuln

import (
	"cmp"
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

// homePage is what our documents name as the tool that made them.
const homePage = "https://github.com/llm-dev-ops/ghcr"

// WriteSARIF writes a report as SARIF 2.1.0 for GitHub's code scanning: a rule and an
// alert for each id and package, with a fingerprint that does not change with the
// image's digest, so that alerts stay the same from one build to the next and close
// when the flaw is gone. Findings about the repository only are left out, since
// GitHub has these. [Parse] reads it back.
//
// Errors: [ErrNotScanned], because an upload of no results would close all alerts;
// those of w.
func WriteSARIF(w io.Writer, r *VulnerabilityReport, toolVersion string) error {
	if !r.Scanned() {
		return fmt.Errorf("SARIF of %s: %w", r.Ref, ErrNotScanned)
	}
	ref, err := oci.ParseRef(r.Ref)
	if err != nil {
		return err
	}
	run := sarifRun{
		AutomationDetails: &sarifAutomation{ID: "ghcr/" + ref.Name + "/"},
		Results:           []sarifResult{},
		Invocations:       []sarifInvocation{{Success: new(r.Complete())}},
		Properties:        &sarifImage{ImageName: ref.String(), State: r.State},
	}
	run.Tool.Driver = sarifDriver{Name: "ghcr", SemanticVersion: toolVersion, InformationURI: homePage, Rules: []sarifRule{}}
	if r.ScannedAt != nil {
		run.Invocations[0].End = r.ScannedAt.UTC().Format(time.RFC3339)
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
	for _, v := range r.Image() {
		add(v, nil)
	}
	for _, s := range r.Suppressed {
		if s.Vulnerability.Link() != LinkRepository {
			add(s.Vulnerability, &sarifSuppression{Kind: "external", Status: "accepted", Justification: s.Reason})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
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
	if v.Description != "" {
		text.WriteString("\n" + v.Description)
	}
	rule := sarifRule{
		ID: id, Name: "VulnerablePackage",
		Short:   &sarifText{Text: truncate(cmp.Or(v.Summary, v.ID), 1024)},
		Full:    &sarifText{Text: truncate(cmp.Or(v.Description, v.Summary, v.ID), 1024)},
		Help:    &sarifText{Text: text.String(), Markdown: head.String() + "|\n" + strings.Repeat("|---", len(facts)) + "|\n" + row.String() + "|\n\n" + v.Description},
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
