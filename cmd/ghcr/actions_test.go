package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/vuln"
)

// TestPrintable: what others write stays on its line and what it is, and is no command to a
// terminal or to GitHub Actions, wherever in the line these look for one.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"libssl3 ≥ 3.0 ✅":      "libssl3 ≥ 3.0 ✅",
		`a\b`:                  `a\b`,
		"a\nb\tc\u2028d":       "a b c d",
		"\x1b[2Jx\u202e\u009b": `\x1b[2Jx\u202e\u009b`,
		"bad \xff":             `bad \ufffd`,
		"::error::x":           ": :error::x",
		" \n::error::x":        ": :error::x",
		"std::vector":          "std::vector",
		"a ##[error]b":         "a # #[error]b",
		"###[error]":           "## #[error]",
	} {
		got := printable(text)
		if got != want || printable(got) != got {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestErrorsAreNoCommands: an error has lines, and those that somebody else wrote obey the
// same rules.
func TestErrorsAreNoCommands(t *testing.T) {
	var out strings.Builder
	a := &app{stderr: &out, getenv: func(name string) string { return map[string]string{"GITHUB_ACTIONS": "true"}[name] }}
	a.report(errors.New("first\n::stop-commands::x\n  ::add-mask::y\nand \x1b[2J"))
	const want = "ghcr: error: first\n: :stop-commands::x\n: :add-mask::y\nand \\x1b[2J\n::error title=ghcr::first%0A: :stop-commands::x%0A: :add-mask::y%0Aand \\x1b[2J\n"
	if out.String() != want {
		t.Errorf("printed %q", out.String())
	}
}

// TestPackageThatFailsIsNotKnown: of an owner of whom one package could not be looked at not
// everything is known, however clean the others are.
func TestPackageThatFailsIsNotKnown(t *testing.T) {
	clean := &reported{VulnerabilityReport: &vuln.VulnerabilityReport{
		State: vuln.StateComplete, Vulnerabilities: []vuln.Vulnerability{}, Counts: &vuln.Counts{},
	}}
	gate := vuln.Gate{FailOn: vuln.SeverityHigh, FailOnUnknown: true}
	clean.verdict = verdictOf(gate, clean.VulnerabilityReport, time.Now())
	list, failed := []*reported{clean}, []error{errors.New("ghcr.io/acme/app: <b>connection reset</b>")}
	if err := judge("acme", list, nil, gate); err != nil {
		t.Fatal(err)
	}
	if err := judge("acme", list, failed, gate); exitCode(errors.Join(partly(1, failed), err)) != exitUnknown {
		t.Errorf("judged as %v", err)
	}
	if out := outputsOf(list, failed); !strings.Contains(out, "complete=false\n") || !strings.Contains(outputsOf(list, nil), "complete=true\n") {
		t.Errorf("outputs %q", out)
	}
	var summary strings.Builder
	if err := writeSummary(&summary, "acme", list, failed, time.Now()); err != nil {
		t.Fatal(err)
	}
	if text := summary.String(); !strings.Contains(text, "**Not looked at**: ghcr.io/acme/app: &#60;b&#62;connection reset") {
		t.Errorf("summary\n%s", text)
	}
}
