package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/vuln"
)

// maxAnnotated is of how many images findings are annotated: GitHub shows ten of each
// kind for a step, and one image alone may have as many.
const maxAnnotated = 1

// maxFailed is how many packages that could not be looked at a summary names.
const maxFailed = 100

// tellActions tells GitHub Actions of reports: the summary of the step, annotations of the
// worst findings, and outputs. Elsewhere it does nothing.
func (a *app) tellActions(what string, list []*reported, failed []error, now time.Time) error {
	if !a.inActions() {
		return nil
	}
	var summary strings.Builder
	if err := writeSummary(&summary, what, list, failed, now); err != nil {
		return err
	}
	errs := []error{appendTo(a.getenv("GITHUB_STEP_SUMMARY"), summary.String())}
	if 0 < len(list) && len(list) <= maxAnnotated {
		errs = append(errs, vuln.WriteAnnotations(a.stderr, list[0].VulnerabilityReport, now))
	}
	return errors.Join(append(errs, appendTo(a.getenv("GITHUB_OUTPUT"), outputsOf(list, failed)))...)
}

// outputsOf are the outputs of the step: how many findings there are, the highest
// severity, and whether that is all. Of what is not scanned they are empty.
func outputsOf(list []*reported, failed []error) string {
	findings, highest, complete, scanned := 0, vuln.Severity(""), len(list) > 0 && len(failed) == 0, false
	for _, r := range list {
		complete = complete && r.Complete()
		if r.Counts == nil {
			continue
		}
		scanned = true
		findings += r.Counts.Total()
		for _, v := range r.Image() {
			if highest == "" || v.Severity.Compare(highest) > 0 {
				highest = v.Severity
			}
		}
	}
	total := ""
	if scanned {
		total = fmt.Sprint(findings)
	}
	return fmt.Sprintf("findings=%s\nhighest=%s\ncomplete=%t\n", total, highest, complete)
}

// writeSummary writes reports as Markdown: one in full, several as a table, and first what
// there is no report of.
func writeSummary(w io.Writer, what string, list []*reported, failed []error, now time.Time) error {
	if len(list) == 1 && len(failed) == 0 {
		return vuln.WriteMarkdown(w, list[0].VulnerabilityReport, list[0].verdict, now)
	}
	var b strings.Builder
	for i, err := range failed {
		if i == maxFailed {
			fmt.Fprintf(&b, "> **Not looked at**: %d more\n\n", len(failed)-i)
			break
		}
		fmt.Fprintf(&b, "> **Not looked at**: %s\n\n", cell(err.Error()))
	}
	if len(list) == 0 {
		fmt.Fprintf(&b, "### ❔ %s: there is no image to look at\n", cell(what))
	} else {
		writeTable(&b, list, now)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTable(b *strings.Builder, list []*reported, now time.Time) {
	b.WriteString("| | image | critical | high | medium | low | unknown | fixable | state |\n|---|---|--:|--:|--:|--:|--:|--:|---|\n")
	for i, r := range list {
		sign := map[vuln.Outcome]string{vuln.OutcomePass: "✅", vuln.OutcomeFail: "❌", vuln.OutcomeUnknown: "❔"}[r.verdict.Outcome]
		line := "| " + sign + " | " + cell(r.Ref) + " |"
		for _, s := range vuln.Severities {
			line += " " + count(r, func(c *vuln.Counts) int { return c.By(s) }) + " |"
		}
		line += " " + count(r, func(c *vuln.Counts) int { return c.Fixable }) + " | " + cell(r.Headline(now)) + " |\n"
		if b.Len()+len(line) > vuln.MaxMarkdown-100 {
			fmt.Fprintf(b, "\n%d more are left out.\n", len(list)-i)
			break
		}
		b.WriteString(line)
	}
}
