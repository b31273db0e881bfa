package vuln

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// WriteOpenVEX writes what is said of findings as OpenVEX 0.2: a statement for each
// that is suppressed or triaged. The product is the image by its digest, and the
// package its subcomponent. An ignore rule or filter is nobody's analysis, so of a finding
// that one suppresses it says that it is under investigation. [Parse] reads it back.
//
// Errors: those of w; [oci.ErrInvalid] for a report without a reference, or where
// nothing is said, since OpenVEX needs a statement.
func WriteOpenVEX(w io.Writer, r *VulnerabilityReport, author string, now time.Time) error {
	ref, err := oci.ParseRef(r.Ref)
	if err != nil {
		return err
	}
	product := imagePURL(ref, r.Digest)
	file := openVEX{
		Context: PredicateOpenVEX, Author: author, Timestamp: now.UTC().Format(time.RFC3339), Version: json.RawMessage("1"), Tooling: homePage,
	}
	add := func(v Vulnerability, s openVEXStatement) {
		s.Vulnerability = openVEXName{Name: v.ID, Aliases: v.Aliases}
		p := openVEXProduct{ID: product, Identifiers: map[string]string{"purl": product}}
		if r.Digest.Algorithm() == "sha256" {
			p.Hashes = map[string]string{"sha-256": r.Digest.Encoded()}
		}
		if v.Package != nil {
			// Without a subcomponent it would be said of all packages.
			generic := packageurl.NewPackageURL(packageurl.TypeGeneric, "", v.Package.Name, v.Package.Version, nil, "")
			p.Subcomponents = []openVEXProduct{{ID: cmp.Or(v.Package.PURL, generic.ToString())}}
		}
		s.Products = []openVEXProduct{p}
		file.Statements = append(file.Statements, s)
	}
	for _, v := range r.Image() {
		if v.VEX != nil {
			add(v, statementOf(v.VEX))
		}
	}
	for _, s := range r.Suppressed {
		if v := s.Vulnerability; v.Link() == LinkRepository {
			continue // it may not be in the image
		} else if v.VEX != nil {
			add(v, statementOf(v.VEX))
		} else {
			add(v, openVEXStatement{Status: VEXUnderInvestigation, StatusNotes: fmt.Sprintf("suppressed by %s: %s", s.By, s.Reason)})
		}
	}
	if len(file.Statements) == 0 {
		return oci.Invalid("OpenVEX of %s: no finding is suppressed or triaged, so there is nothing to state", r.Ref)
	}
	statements, err := json.Marshal(file.Statements)
	if err != nil {
		return err
	}
	file.ID = fmt.Sprintf("https://openvex.dev/docs/public/vex-%x", sha256.Sum256(append(statements, file.Timestamp+author...)))
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(file)
}

func statementOf(s *VEXState) openVEXStatement {
	out := openVEXStatement{Status: s.Status, Justification: s.Justification}
	if !s.Timestamp.IsZero() {
		out.Timestamp = s.Timestamp.UTC().Format(time.RFC3339)
	}
	switch s.Status {
	case VEXNotAffected:
		out.Impact = s.Statement
	case VEXAffected:
		out.Action = s.Statement
		fill(&out.Action, "none is known")
	default:
		out.StatusNotes = s.Statement
	}
	return out
}

// VulnsPredicate makes of a report the predicate of in-toto's vulns 0.2, to attest
// a scan that somebody made: its type is [PredicateVulns].
//
// It has no place for what is not known, so a report that is not complete makes none.
//
// Errors: [ErrNotScanned], [ErrPartial].
func VulnsPredicate(r *VulnerabilityReport) (json.RawMessage, error) {
	if !r.Scanned() {
		return nil, fmt.Errorf("vulns predicate of %s: %w", r.Ref, ErrNotScanned)
	}
	if !r.Complete() {
		why := "not everything could be read"
		if len(r.Unscanned) > 0 {
			why = "no scan of " + strings.Join(r.Unscanned, ", ")
		}
		return nil, fmt.Errorf("vulns predicate of %s: %w: %s", r.Ref, ErrPartial, why)
	}
	type score struct {
		Method string `json:"method"`
		Score  string `json:"score"`
	}
	type result struct {
		ID          string              `json:"id"`
		Severity    []score             `json:"severity"`
		Annotations []map[string]string `json:"annotations,omitempty"`
	}
	var p struct {
		Scanner struct {
			URI     string `json:"uri"`
			Version string `json:"version,omitempty"`
			DB      struct {
				Version    string `json:"version,omitempty"`
				LastUpdate string `json:"lastUpdate,omitempty"`
			} `json:"db"`
			Result []result `json:"result"`
		} `json:"scanner"`
		Metadata struct {
			Started  string `json:"scanStartedOn,omitempty"`
			Finished string `json:"scanFinishedOn,omitempty"`
		} `json:"metadata"`
	}
	p.Scanner.URI, p.Scanner.Result = homePage, []result{}
	if at := r.scanTime(); !at.IsZero() {
		p.Metadata.Started = at.Format(time.RFC3339)
		p.Metadata.Finished = p.Metadata.Started
	}
	for _, v := range r.Image() {
		one := result{ID: v.ID, Severity: []score{}}
		for _, rating := range v.Ratings {
			switch {
			case rating.Score > 0:
				one.Severity = append(one.Severity, score{rating.Source, fmt.Sprintf("%.1f", rating.Score)})
			case rating.Severity.rank() > 0:
				one.Severity = append(one.Severity, score{rating.Source, string(rating.Severity)})
			}
		}
		if pkg := v.Package; pkg != nil {
			one.Annotations = []map[string]string{{"purl": pkg.PURL, "package": pkg.Name, "version": pkg.Version, "fixed": strings.Join(v.FixedVersions, ", ")}}
		}
		p.Scanner.Result = append(p.Scanner.Result, one)
	}
	return json.Marshal(p)
}
