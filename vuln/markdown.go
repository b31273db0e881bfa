package vuln

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// MaxMarkdown is how many bytes GitHub takes as the summary of a step.
const MaxMarkdown = 1 << 20

// WriteMarkdown writes a report for the summary of a step or a comment: the verdict, the
// counts, the findings, the sources. It is no larger than [MaxMarkdown]; what does not fit
// is said to be left out.
//
// Errors: those of w.
func WriteMarkdown(w io.Writer, r *VulnerabilityReport, verdict Verdict, now time.Time) error {
	var b strings.Builder
	sign := map[Outcome]string{OutcomePass: "✅ ", OutcomeFail: "❌ ", OutcomeUnknown: "❔ "}[verdict.Outcome]
	fmt.Fprintf(&b, "### %s`%s`: %s\n\n", sign, r.Ref, r.Headline(now))
	for _, reason := range verdict.Reasons {
		fmt.Fprintf(&b, "- %s\n", markdownCell(reason))
	}
	if len(verdict.Reasons) > 0 {
		b.WriteString("\n")
	}
	if r.Scanned() {
		b.WriteString("| critical | high | medium | low | unknown | fixable | suppressed | exploited |\n|---|---|---|---|---|---|---|---|\n")
		c := r.Counts
		fmt.Fprintf(&b, "| %d | %d | %d | %d | %d | %d | %d | %d |\n\n", c.Critical, c.High, c.Medium, c.Low, c.Unknown, c.Fixable, c.Suppressed, c.KEV)
	}
	tail := markdownSources(r, now)
	room := MaxMarkdown - len(tail) - 1024
	for _, part := range []struct {
		title string
		list  []Vulnerability
	}{
		{"Findings", r.Image()},
		{"Known of the repository, maybe not in the image", r.Repository()},
	} {
		markdownFindings(&b, part.title, part.list, room)
	}
	if len(r.Suppressed) > 0 && b.Len() < room {
		b.WriteString("<details><summary>Suppressed</summary>\n\n| id | package | by | reason |\n|---|---|---|---|\n")
		for _, s := range r.Suppressed {
			name := ""
			if s.Vulnerability.Package != nil {
				name = s.Vulnerability.Package.Name
			}
			line := fmt.Sprintf("| %s | %s | %s | %s |\n", markdownCell(s.Vulnerability.ID), markdownCell(name), s.By, markdownCell(s.Reason))
			if b.Len()+len(line) > room {
				break
			}
			b.WriteString(line)
		}
		b.WriteString("\n</details>\n\n")
	}
	b.WriteString(tail)
	_, err := io.WriteString(w, truncate(b.String(), MaxMarkdown))
	return err
}

func markdownFindings(b *strings.Builder, title string, list []Vulnerability, room int) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "<details><summary>%s (%d)</summary>\n\n| severity | id | package | version | fixed in | link | notes |\n|---|---|---|---|---|---|---|\n", title, len(list))
	for i, row := range Rows(list) {
		cells := row.Cells()
		for j := range cells {
			cells[j] = markdownCell(cells[j])
		}
		if address := addresses(list[i].References); len(address) > 0 && !strings.ContainsAny(address[0], "()<>|`\\") {
			cells[1] = fmt.Sprintf("[%s](%s)", cells[1], address[0])
		}
		line := "| " + strings.Join(cells, " | ") + " |\n"
		if b.Len()+len(line) > room {
			fmt.Fprintf(b, "\n%d more are left out.\n", len(list)-i)
			break
		}
		b.WriteString(line)
	}
	b.WriteString("\n</details>\n\n")
}

func markdownSources(r *VulnerabilityReport, now time.Time) string {
	var b strings.Builder
	b.WriteString("<details><summary>Sources</summary>\n\n")
	for _, s := range r.Sources {
		fmt.Fprintf(&b, "- %s\n", truncate(markdownCell(s.Line(now)), 1000))
	}
	for i, warning := range r.Warnings {
		if i == 100 {
			fmt.Fprintf(&b, "- %d more warnings\n", len(r.Warnings)-i)
			break
		}
		fmt.Fprintf(&b, "- ⚠️ %s\n", truncate(markdownCell(warning), 1000))
	}
	b.WriteString("\n</details>\n")
	return b.String()
}

// markdownCell makes text of somebody else's one cell of a table: on one line, and nothing
// that is Markdown, HTML, or the name of a person.
func markdownCell(s string) string {
	var b strings.Builder
	for _, r := range visible(strings.Join(strings.Fields(s), " ")) {
		if strings.ContainsRune("\\`*_{}[]<>()#!|~@&", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// visible replaces what controls a terminal, or hides what stands there.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// WriteAnnotations writes the worst findings as annotations of a GitHub Actions step. GitHub
// shows ten of each kind, so the rest are one line that counts them.
//
// Errors: those of w.
func WriteAnnotations(w io.Writer, r *VulnerabilityReport, now time.Time) error {
	var b strings.Builder
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	if !r.Complete() {
		fmt.Fprintf(&b, "::warning title=%s::%s\n", property.Replace(r.Ref), data.Replace(r.Headline(now)))
	}
	const shown = 9
	kinds := map[string]string{"error": "error", "warning": "warning", "note": "notice"}
	counts := map[string]int{}
	for _, v := range r.Image() {
		kind := kinds[sarifLevel(v.Severity)]
		limit := shown
		if kind == "warning" && !r.Complete() {
			limit-- // one is taken
		}
		if counts[kind]++; counts[kind] > limit {
			continue
		}
		row := Rows([]Vulnerability{v})[0]
		fmt.Fprintf(&b, "::%s title=%s::%s\n", kind, property.Replace(fmt.Sprintf("%s %s", row.Severity, v.ID)),
			data.Replace(fmt.Sprintf("%s %s (fixed in: %s): %s", row.Package, row.Version, cmp.Or(row.FixedIn, "unknown"), v.Summary)))
	}
	for _, kind := range []string{"error", "warning", "notice"} {
		limit := shown
		if kind == "warning" && !r.Complete() {
			limit--
		}
		if n := counts[kind] - limit; n > 0 {
			fmt.Fprintf(&b, "::%s title=%s::%d more\n", kind, property.Replace(r.Ref), n)
		}
	}
	_, err := io.WriteString(w, visible(b.String()))
	return err
}
