package vuln

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Row is a finding as a line of a table.
type Row struct {
	Severity Severity `json:"severity"`
	ID       string   `json:"id"`
	Package  string   `json:"package"`
	Version  string   `json:"version"`
	FixedIn  string   `json:"fixed_in"` // or why there is none
	Link     Link     `json:"link"`
	Notes    string   `json:"notes,omitempty"` // known to be exploited, triaged
}

// Columns are the headings of the cells of a [Row].
var Columns = []string{"SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED IN", "LINK", "NOTES"}

// Cells are the row's texts in the order of [Columns].
func (r Row) Cells() []string {
	return []string{string(r.Severity), r.ID, r.Package, r.Version, r.FixedIn, string(r.Link), r.Notes}
}

// Rows makes lines of findings, in their order.
func Rows(list []Vulnerability) []Row {
	rows := make([]Row, len(list))
	for i, v := range list {
		row := Row{Severity: cmp.Or(v.Severity, SeverityUnknown), ID: v.ID, FixedIn: v.FixedIn, Link: v.Link()}
		if p := v.Package; p != nil {
			row.Package, row.Version = p.Name, p.Version
		}
		if row.FixedIn == "" {
			row.FixedIn = map[FixState]string{FixNotFixed: "not fixed", FixWontFix: "won't be fixed", FixFixed: "fixed"}[v.FixState]
		}
		var notes []string
		if v.KEV {
			notes = append(notes, "exploited")
		}
		if v.VEX != nil {
			notes = append(notes, strings.ReplaceAll(string(v.VEX.Status), "_", " "))
		}
		row.Notes = strings.Join(notes, ", ")
		rows[i] = row
	}
	return rows
}

// Headline is the report in a line: how many findings of which severity, or that the
// image is not scanned, and how old the scan is.
func (r *VulnerabilityReport) Headline(now time.Time) string {
	if !r.Scanned() {
		return "not scanned, as far as is known"
	}
	var parts []string
	for _, s := range Severities {
		if n := r.Counts.By(s); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	line := "no known vulnerabilities"
	if len(parts) > 0 {
		line = strings.Join(parts, ", ")
	}
	if n := r.Counts.Fixable; n > 0 {
		line += fmt.Sprintf(" (%d fixable)", n)
	}
	if n := r.Counts.Suppressed; n > 0 {
		line += fmt.Sprintf(", %d suppressed", n)
	}
	if r.ScannedAt == nil {
		line += "; the scan does not say when it was made"
	} else {
		line += fmt.Sprintf("; scanned %s ago", Age(now.Sub(*r.ScannedAt)))
		if oldest, ok := r.Oldest(); ok && len(r.PlatformScans) > 1 && oldest.ScannedAt.IsZero() {
			line += ", " + oldest.name() + " at no stated time"
		} else if ok && r.ScannedAt.Sub(oldest.ScannedAt) >= 24*time.Hour {
			line += fmt.Sprintf(", %s %s ago", oldest.name(), Age(now.Sub(oldest.ScannedAt)))
		}
	}
	if r.State == StatePartial {
		line += "; not everything could be read"
		if len(r.Unscanned) > 0 {
			line += ", no scan of " + strings.Join(r.Unscanned, ", ")
		}
	}
	return line
}

// Line is the source in a line.
func (s *SourceReport) Line(now time.Time) string {
	line := fmt.Sprintf("%s: %s", s.Name, strings.ReplaceAll(string(s.Status), "_", " "))
	if s.Status == StatusOK || s.Findings > 0 {
		line += fmt.Sprintf(", %d findings", s.Findings)
	}
	if !s.ScannedAt.IsZero() {
		line += fmt.Sprintf(", %s old", Age(now.Sub(s.ScannedAt)))
	}
	if s.Reason != "" {
		line += " (" + s.Reason + ")"
	}
	if s.Remedy != "" {
		line += "; " + s.Remedy
	}
	return line
}
