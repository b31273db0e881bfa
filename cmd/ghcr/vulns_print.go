package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/llm-dev-ops/ghcr/vuln"
)

// vulnsPrint says how reports are printed and judged.
type vulnsPrint struct {
	every      bool
	format     string
	output     string
	show       string
	sort       string
	suppressed bool
	author     string
	gate       vuln.Gate
}

var vulnsFormats = []string{"table", "json", "jsonl", "sarif", "cyclonedx", "openvex", "vulns", "markdown"}

func (p *vulnsPrint) add(flags *pflag.FlagSet) {
	flags.StringVar(&p.format, "format", "table", "`FORMAT`: "+strings.Join(vulnsFormats, ", "))
	flags.StringVarP(&p.output, "output", "o", "", "write it to this `FILE`")
	flags.StringVar(&p.show, "show", string(vuln.SeverityUnknown), "list findings of this `SEVERITY` or worse; all are judged")
	flags.StringVar(&p.sort, "sort", "severity", "sort by `KEY`: "+sortNames())
	flags.BoolVar(&p.suppressed, "show-suppressed", false, "list also what statements, rules and filters left out")
	flags.StringVar(&p.author, "author", "ghcr", "`WHO` says it, in OpenVEX")
}

func (p *vulnsPrint) check(f flags) error {
	if !slices.Contains(vulnsFormats, p.format) {
		return usage("--format %q: want one of %s", p.format, strings.Join(vulnsFormats, ", "))
	}
	if _, ok := vulnSorts[p.sort]; !ok {
		return usage("--sort %q: want one of %s", p.sort, sortNames())
	}
	if chosen := f.json.set || f.jq != "" || f.template != ""; chosen && (p.output != "" || p.format != "table" && p.format != "json") {
		return usage("--json, --jq and --template print JSON on stdout: leave out -o and --format %s", p.format)
	}
	_, err := severity("show", p.show)
	return err
}

// printReports prints reports in the format that is asked for, tells GitHub Actions, and
// judges them.
func (a *app) printReports(what string, list []*reported, failed []error, p vulnsPrint) error {
	now := time.Now()
	for _, r := range list {
		r.verdict = verdictOf(p.gate, r.VulnerabilityReport, now)
		if by := vulnSorts[p.sort]; by != nil {
			slices.SortStableFunc(r.Vulnerabilities, by)
		}
	}
	one := single(what) && !p.every && len(list) == 1
	errs := []error{a.writeReports(what, list, failed, one, p, now), a.tellActions(what, list, failed, now)}
	if len(failed) > 0 {
		errs = append(errs, partly(len(list), failed))
	}
	return errors.Join(append(errs, judge(what, list, failed, p.gate))...)
}

func (a *app) writeReports(what string, list []*reported, failed []error, one bool, p vulnsPrint, now time.Time) error {
	if p.output == "" && (p.format == "table" || p.format == "json") {
		if p.format == "json" && a.flags.jq == "" && a.flags.template == "" {
			a.flags.json.set = true
		}
		if one {
			return a.printReport(list[0], p, now)
		}
		return a.printSummary(what, list, now)
	}
	var out bytes.Buffer
	if err := a.formatReports(&out, what, list, failed, one, p, now); err != nil {
		return err
	}
	for _, r := range list {
		if !r.Complete() {
			fmt.Fprintf(a.stderr, "ghcr: %s: %s\n", printable(r.Ref), printable(r.Headline(now)))
		}
	}
	if p.output != "" {
		return writeAside(p.output, &out)
	}
	raw := out.Bytes()
	if p.format != "markdown" {
		raw = loggedJSON(raw) // a table has it no more, and all others are JSON
	}
	_, err := a.stdout.Write(raw)
	return err
}

// formatReports writes reports in a format that is not ours alone, or as JSON.
func (a *app) formatReports(out *bytes.Buffer, what string, list []*reported, failed []error, one bool, p vulnsPrint, now time.Time) error {
	switch p.format {
	case "sarif", "cyclonedx", "openvex", "vulns":
		if !one {
			return usage("--format %s is of one image: name its tag or digest", p.format)
		}
	}
	switch p.format {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		data := reportsJSON(list)
		if one {
			return enc.Encode(data[0])
		}
		return enc.Encode(data)
	case "jsonl":
		return writeLines(out, list)
	case "sarif":
		left, err := vuln.WriteSARIF(out, list[0].VulnerabilityReport, version())
		if err == nil && left.String() != "" {
			fmt.Fprintf(a.stderr, "ghcr: warning: %s\n", left)
		}
		return err
	case "cyclonedx":
		return vuln.WriteCycloneDX(out, list[0].VulnerabilityReport, version(), now)
	case "openvex":
		return vuln.WriteOpenVEX(out, list[0].VulnerabilityReport, p.author, now)
	case "vulns":
		predicate, err := vuln.VulnsPredicate(list[0].VulnerabilityReport)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", predicate)
		}
		return err
	case "markdown":
		return writeSummary(out, what, list, failed, now)
	}
	for _, r := range list {
		fmt.Fprintln(out, printable(r.Ref+": "+r.Headline(now)))
		printColumns(out, append([][]string{vuln.Columns}, findingCells(r.VulnerabilityReport, p)...))
		for _, line := range sourceLines(r.VulnerabilityReport, now) {
			fmt.Fprintln(out, line)
		}
	}
	return nil
}

// reportsJSON are reports as JSON has them: with the schema, and the verdict of the gate.
func reportsJSON(list []*reported) []map[string]any {
	all := []map[string]any{}
	for _, r := range list {
		raw, err := json.Marshal(r.VulnerabilityReport)
		m := map[string]any{}
		if err == nil {
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.UseNumber()
			err = dec.Decode(&m)
		}
		if err != nil {
			panic(err) // it is made of text, numbers and times
		}
		m["schema"], m["outcome"], m["reasons"] = schema, nil, append([]string{}, r.verdict.Reasons...)
		if r.verdict.Outcome != "" {
			m["outcome"] = r.verdict.Outcome
		}
		if r.Tags != nil {
			m["tags"] = r.Tags
		}
		for _, name := range []string{"sources", "suppressed", "platform_scans", "unscanned", "warnings"} {
			if m[name] == nil {
				m[name] = []any{} // so that --json=suppressed is no error
			}
		}
		if _, ok := m["counts"]; !ok {
			m["counts"] = nil
		}
		all = append(all, m)
	}
	return all
}

// writeLines writes a line for each finding, and after those of an image its report
// without them.
func writeLines(out *bytes.Buffer, list []*reported) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for i, m := range reportsJSON(list) {
		for _, v := range list[i].Vulnerabilities {
			if err := enc.Encode(struct {
				Type    string             `json:"type"`
				Ref     string             `json:"ref"`
				Digest  string             `json:"digest"`
				Finding vuln.Vulnerability `json:"finding"`
			}{"finding", list[i].Ref, list[i].Digest.String(), v}); err != nil {
				return err
			}
		}
		delete(m, "vulnerabilities")
		m["type"] = "report"
		if err := enc.Encode(m); err != nil {
			return err
		}
	}
	return nil
}

// printReport prints the report of one image as a table. What it does not know is on
// stderr, whatever is printed on stdout.
func (a *app) printReport(r *reported, p vulnsPrint, now time.Time) error {
	rows := findingCells(r.VulnerabilityReport, p)
	out := result{data: reportsJSON([]*reported{r})[0], head: vuln.Columns, rows: rows}
	for _, v := range r.Vulnerabilities {
		if p.shows(v) && (v.Link() != vuln.LinkRepository || p.gate.IncludeRepository) {
			out.ids = append(out.ids, v.ID)
		}
	}
	out.ids = slices.Compact(slices.Sorted(slices.Values(out.ids)))
	if !r.Scanned() {
		out.rows = append([][]string{{"not scanned"}}, rows...)
	}
	terminal := a.tables || a.isTerminal(a.stdout)
	if terminal && !a.flags.quiet {
		fmt.Fprintln(a.stderr, a.bold(printable(r.Ref)))
	}
	if !a.flags.quiet || !r.Complete() {
		fmt.Fprintf(a.stderr, "ghcr: %s\n", printable(r.Headline(now)))
	}
	if !a.flags.quiet && !a.flags.json.set {
		for _, line := range sourceLines(r.VulnerabilityReport, now) {
			fmt.Fprintf(a.stderr, "ghcr: %s\n", line)
		}
	}
	return a.print(out)
}

// sourceLines tell in a line what became of each source, and then why of those that may
// hold more, and what was read and not believed.
func sourceLines(r *vuln.VulnerabilityReport, now time.Time) []string {
	var all, lines []string
	for _, s := range r.Sources {
		if s.Status == vuln.StatusNotAsked {
			continue
		}
		text := fmt.Sprintf("%s %s", s.Name, strings.ReplaceAll(string(s.Status), "_", " "))
		if !s.ScannedAt.IsZero() {
			text += " (" + vuln.Age(now.Sub(s.ScannedAt)) + " old)"
		}
		all = append(all, text)
		if s.Status.Harms() {
			lines = append(lines, printable(s.Line(now)))
		}
		for _, w := range s.Warnings {
			lines = append(lines, printable(string(s.Name)+": warning: "+w))
		}
	}
	lines = append([]string{"sources: " + cmp.Or(strings.Join(all, ", "), "none was asked")}, lines...)
	for _, w := range r.Warnings {
		lines = append(lines, printable("warning: "+w))
	}
	return lines
}

func (p vulnsPrint) shows(v vuln.Vulnerability) bool {
	return v.Severity.Compare(vuln.Severity(strings.ToLower(p.show))) >= 0
}

// findingCells are the lines of a table: findings about the image, then those about its
// repository only, then what does not count.
func findingCells(r *vuln.VulnerabilityReport, p vulnsPrint) [][]string {
	var list []vuln.Vulnerability
	for _, v := range append(r.Image(), r.Repository()...) {
		if p.shows(v) {
			list = append(list, v)
		}
	}
	var rows [][]string
	for _, row := range vuln.Rows(list) {
		rows = append(rows, row.Cells())
	}
	if !p.suppressed {
		return rows
	}
	for _, s := range r.Suppressed {
		cells := vuln.Rows([]vuln.Vulnerability{s.Vulnerability})[0].Cells()
		note := "suppressed by " + string(s.By)
		if s.Reason != "" {
			note += ": " + s.Reason
		}
		cells[len(cells)-1] = note
		rows = append(rows, cells)
	}
	return rows
}

// printSummary prints a line for each image.
func (a *app) printSummary(what string, list []*reported, now time.Time) error {
	out := result{data: reportsJSON(list), head: []string{"IMAGE", "TAGS", "DIGEST"}}
	for _, s := range vuln.Severities {
		out.head = append(out.head, strings.ToUpper(string(s)))
	}
	out.head = append(out.head, "FIXABLE", "STATE", "SCANNED")
	unknown := 0
	for _, r := range list {
		name := r.Package
		if r.ParentDigest != "" && r.Platform != "" {
			name += " (" + r.Platform + ")"
		}
		state, scanned, scannedAt := string(r.State), "-", ""
		if !r.Scanned() {
			state = "not scanned"
		}
		if !r.Complete() {
			unknown++
		}
		if oldest, ok := r.Oldest(); ok && !oldest.ScannedAt.IsZero() {
			scanned, scannedAt = ago(oldest.ScannedAt, now), oldest.ScannedAt.Format(time.RFC3339)
		}
		counts := []string{}
		for _, s := range vuln.Severities {
			counts = append(counts, count(r, func(c *vuln.Counts) int { return c.By(s) }))
		}
		counts = append(counts, count(r, func(c *vuln.Counts) int { return c.Fixable }), state)
		out.ids = append(out.ids, r.Digest.String())
		out.rows = append(out.rows, slices.Concat([]string{name, shortTags(r.Tags), shortDigest(r.Digest)}, counts, []string{scanned}))
		out.plain = append(out.plain, slices.Concat([]string{name, strings.Join(r.Tags, " "), r.Digest.String()}, counts, []string{scannedAt}))
	}
	switch {
	case unknown > 0:
		fmt.Fprintf(a.stderr, "ghcr: %s of %s; of %d not everything is known\n", plural(len(list), "image"), what, unknown)
	case !a.flags.quiet:
		fmt.Fprintf(a.stderr, "ghcr: %s of %s\n", plural(len(list), "image"), what)
	}
	return a.print(out)
}

// count is a number of findings, or that it is not known.
func count(r *reported, of func(*vuln.Counts) int) string {
	if r.Counts == nil {
		return "?"
	}
	return fmt.Sprint(of(r.Counts))
}
