package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// gateFlags say what is too much.
type gateFlags struct {
	failOn            string
	failOnUnknown     bool
	failOnKEV         bool
	epss              float64
	maxAge            string
	includeRepository bool
	allowUnrated      bool
	given             func(flag string) bool
}

func (f *gateFlags) add(flags *pflag.FlagSet) {
	f.given = flags.Changed
	flags.StringVar(&f.failOn, "fail-on", "", "exit code 8 if there is a finding of this `SEVERITY` or worse")
	flags.BoolVar(&f.failOnUnknown, "fail-on-unknown", false, "exit code 9 if not everything is known; and 8 for findings that nobody has rated")
	flags.BoolVar(&f.failOnKEV, "fail-on-kev", false, "exit code 8 if a finding is known to be exploited")
	flags.Float64Var(&f.epss, "epss", 0, "exit code 8 if a finding has this `PROBABILITY` of being exploited, over 0, up to 1")
	flags.StringVar(&f.maxAge, "max-age", "", "what is known of a platform from a scan older than this `AGE`, such as 7d, is not known any more")
	flags.BoolVar(&f.allowUnrated, "allow-unrated", false, "let findings pass that nobody has rated: without it, --fail-on does not know")
	flags.BoolVar(&f.includeRepository, "include-repository", false, "judge also what is known of the repository only")
}

func (f *gateFlags) gate() (vuln.Gate, error) {
	if err := checkUnrated(f.allowUnrated, f.failOn, f.failOnUnknown); err != nil {
		return vuln.Gate{}, err
	}
	g := vuln.Gate{AllowUnrated: f.allowUnrated, FailOnUnknown: f.failOnUnknown, FailOnKEV: f.failOnKEV, EPSS: f.epss, IncludeRepository: f.includeRepository}
	var err error
	if f.failOn != "" {
		if g.FailOn, err = severity("fail-on", f.failOn); err != nil {
			return g, err
		}
	}
	// Not a number is neither below nor above, and none is not asked for.
	if f.given("epss") && !(f.epss > 0 && f.epss <= 1) {
		return g, usage("--epss %g: want a probability over 0, up to 1", f.epss)
	}
	if f.maxAge != "" {
		if g.MaxAge, err = parseAge(f.maxAge); err != nil {
			return g, usage("--max-age: %w", err)
		}
	}
	return g, nil
}

// checkUnrated refuses to let pass what nobody has rated where it is asked to fail.
func checkUnrated(allowed bool, failOn string, failOnUnknown bool) error {
	switch {
	case allowed && failOnUnknown:
		return usage("--fail-on-unknown fails what --allow-unrated lets pass")
	case allowed && failOn == "":
		return usage("--allow-unrated does nothing without --fail-on")
	}
	return nil
}

// severity reads a level. One that is misspelled must not be the lowest.
func severity(flag, s string) (vuln.Severity, error) {
	level := vuln.Severity(strings.ToLower(s))
	if !slices.Contains(vuln.Severities, level) {
		return "", usage("--%s %q: want one of %s", flag, s, commas(vuln.Severities))
	}
	return level, nil
}

// parseAge reads "7d", "2w", or a duration as Go writes them.
func parseAge(s string) (time.Duration, error) {
	if len(s) > 1 {
		if unit := map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[s[len(s)-1]]; unit > 0 {
			if n, err := strconv.ParseFloat(s[:len(s)-1], 64); err == nil && n*float64(unit) >= 1 && n < 36500 {
				return time.Duration(n * float64(unit)), nil
			}
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no age: want one such as 36h, 7d or 2w", s)
	}
	return d, nil
}

// asks tells whether a gate judges anything.
func asks(g vuln.Gate) bool {
	g.IgnoreUnfixed, g.IncludeRepository, g.AllowUnrated = false, false, false
	return g != vuln.Gate{}
}

// verdictOf is what a gate says of a report. Where nothing was asked nothing passes: an
// image that nobody scanned is not known to be well, and one with findings is not judged.
func verdictOf(g vuln.Gate, r *vuln.VulnerabilityReport, now time.Time) vuln.Verdict {
	switch {
	case asks(g):
		return g.Check(r, now)
	case !r.Complete():
		return vuln.Verdict{Outcome: vuln.OutcomeUnknown}
	case len(r.Image()) == 0:
		return vuln.Verdict{Outcome: vuln.OutcomePass}
	}
	return vuln.Verdict{}
}

// judge is what the gate says of all reports: findings over the threshold before what is
// not known.
func judge(what string, list []*reported, failed []error, gate vuln.Gate) error {
	var over, unknown []string
	forbidden := false
	if !asks(gate) {
		return nil
	}
	if n := len(failed); n > 0 {
		unknown = append(unknown, plural(n, "package")+" could not be looked at")
	}
	if len(list) == 0 {
		unknown = append(unknown, "there is no image to look at")
	}
	for _, r := range list {
		text := strings.Join(r.verdict.Reasons, "; ")
		if len(list) > 1 {
			text = cmp.Or(strings.Join(r.Tags, " "), r.Digest.String()) + ": " + text
		}
		switch r.verdict.Outcome {
		case vuln.OutcomeFail:
			over = append(over, text)
		case vuln.OutcomeUnknown:
			unknown = append(unknown, text)
			forbidden = forbidden || r.verdict.Forbidden
		}
	}
	if len(over) > 0 {
		return fmt.Errorf("vulns %s: %s: %w", what, few(over), errFindings)
	}
	return unknownError("vulns "+what, unknown, forbidden, gate.FailOnUnknown)
}

// unknownError says that a gate neither passes nor fails; nil if there is no doubt. Its
// exit code is one of its own only if that was asked for.
func unknownError(what string, doubts []string, forbidden, asked bool) error {
	switch {
	case len(doubts) == 0:
		return nil
	case asked:
		return fmt.Errorf("%s: %s: %w", what, few(doubts), errUnknown)
	case forbidden:
		return fmt.Errorf("%s: it is not known whether all is well: %s: %w", what, few(doubts), ghcr.ErrDenied)
	}
	return fmt.Errorf("%s: it is not known whether all is well: %s", what, few(doubts))
}

// few are some texts of many.
func few(texts []string) string {
	const most = 5
	if n := len(texts) - most; n > 0 {
		texts = append(texts[:most:most], fmt.Sprintf("and %d more", n))
	}
	return printable(strings.Join(texts, "; "))
}
