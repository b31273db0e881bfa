package vuln

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Gate says which findings are too many. The zero value lets everything pass.
type Gate struct {
	// FailOn fails findings of this severity or a worse one. [SeverityUnknown] fails
	// any finding. Empty fails none by severity.
	FailOn Severity
	// FailOnKEV fails findings that are known to be exploited, and makes a report
	// [OutcomeUnknown] where no scanner says of a CVE whether it is, as Trivy says of none.
	FailOnKEV bool
	// EPSS fails findings that are at least this likely to be exploited, from 0 to 1, and
	// makes a report [OutcomeUnknown] where that is not known of a CVE. 0 fails none.
	EPSS float64
	// IgnoreUnfixed leaves out findings of which it is known that there is no fix. Where
	// that is not known there may be one.
	IgnoreUnfixed bool
	// IncludeRepository judges also what is only known of the repository.
	IncludeRepository bool
	// FailOnUnknown fails findings that nobody has rated, and makes a report that is not
	// complete [OutcomeUnknown] even if nothing else is asked of it.
	FailOnUnknown bool
	// AllowUnrated lets findings pass that nobody has rated. Without it they make a report
	// [OutcomeUnknown] where FailOn asks for a severity: they may be that bad.
	AllowUnrated bool
	// MaxAge makes a report [OutcomeUnknown] in which the newest scan of any platform is
	// older, or has no time. 0 is any age.
	MaxAge time.Duration
}

// Outcome is what a gate says.
type Outcome string

// The outcomes.
const (
	OutcomePass Outcome = "pass"
	OutcomeFail Outcome = "fail" // there are findings over the threshold
	// OutcomeUnknown: nothing was found over the threshold, and not everything is
	// known. That is no pass.
	OutcomeUnknown Outcome = "unknown"
)

// Verdict is what a gate says of a report, and why.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Findings are those over the threshold.
	Findings []Vulnerability `json:"findings,omitempty"`
	Reasons  []string        `json:"reasons,omitempty"`
	// Forbidden is set if more permission would have told more.
	Forbidden bool `json:"forbidden,omitempty"`
}

// Check judges a report at a time. A gate that asks for anything passes only a
// complete report: a finding over the threshold fails also in a partial one, and
// without one the outcome is unknown.
func (g Gate) Check(r *VulnerabilityReport, now time.Time) Verdict {
	var v Verdict
	var why map[string]int
	for _, f := range r.Vulnerabilities {
		if reason := g.over(f); reason != "" {
			v.Findings = append(v.Findings, f)
			if why == nil {
				why = map[string]int{}
			}
			why[reason]++
		}
	}
	for _, reason := range g.reasons() {
		if n := why[reason]; n > 0 {
			v.Reasons = append(v.Reasons, fmt.Sprintf("%d %s", n, reason))
		}
	}
	unknown := g.doubts(r, now)
	v.Reasons = append(v.Reasons, unknown...)
	switch {
	case len(v.Findings) > 0:
		v.Outcome = OutcomeFail
	case len(unknown) > 0:
		v.Outcome = OutcomeUnknown
	default:
		v.Outcome = OutcomePass
	}
	if len(unknown) > 0 {
		for _, s := range r.Sources {
			v.Forbidden = v.Forbidden || s.Status == StatusForbidden
		}
	}
	return v
}

func (g Gate) asks() bool {
	return g.FailOn != "" || g.FailOnKEV || g.EPSS > 0 || g.FailOnUnknown || g.MaxAge > 0
}

func (g Gate) reasons() []string {
	return []string{
		"known to be exploited",
		fmt.Sprintf("of severity %s or worse", g.FailOn),
		"of unknown severity",
		fmt.Sprintf("with an EPSS of %g or more", g.EPSS),
	}
}

// judges tells whether a finding is looked at at all.
func (g Gate) judges(f Vulnerability) bool {
	return (f.Link() != LinkRepository || g.IncludeRepository) && (!g.IgnoreUnfixed || f.FixState != FixNotFixed && f.FixState != FixWontFix)
}

// over is why a finding fails, one of reasons, or empty.
func (g Gate) over(f Vulnerability) string {
	reasons := g.reasons()
	switch {
	case !g.judges(f):
		return ""
	case g.FailOnKEV && f.KEV:
		return reasons[0]
	case g.FailOn != "" && f.Severity.Compare(g.FailOn) >= 0:
		return reasons[1]
	case g.FailOnUnknown && f.Severity.rank() == 0:
		return reasons[2]
	case g.EPSS > 0 && f.EPSS != nil && f.EPSS.Score >= g.EPSS:
		return reasons[3]
	}
	return ""
}

// doubts is why a report without findings over the threshold is no pass.
func (g Gate) doubts(r *VulnerabilityReport, now time.Time) []string {
	if !g.asks() {
		return nil
	}
	var doubts []string
	switch {
	case !r.Scanned():
		doubts = append(doubts, "the image is not scanned, as far as is known")
	case !r.Complete():
		doubts = append(doubts, "not everything could be read")
	}
	if len(r.Unscanned) > 0 {
		doubts = append(doubts, "no scan of "+strings.Join(r.Unscanned, ", "))
	}
	if !r.Complete() {
		for _, s := range r.Sources {
			if s.Status.Harms() {
				doubts = append(doubts, fmt.Sprintf("%s: %s: %s", s.Name, s.Status, s.Reason))
			}
		}
	}
	unlikely, unrated, untold := 0, 0, 0
	for _, f := range r.Vulnerabilities {
		if !g.judges(f) {
			continue
		}
		if len(cves(f.IDs())) > 0 {
			if f.EPSS == nil {
				unlikely++
			}
			if !f.tellsKEV() {
				untold++
			}
		}
		if f.Severity.rank() == 0 {
			unrated++
		}
	}
	if g.FailOnKEV && untold > 0 {
		doubts = append(doubts, fmt.Sprintf("%d of which no scanner says whether they are exploited", untold))
	}
	if g.EPSS > 0 && unlikely > 0 {
		doubts = append(doubts, fmt.Sprintf("%d without an EPSS", unlikely))
	}
	if g.FailOn.rank() > 0 && unrated > 0 && !g.AllowUnrated {
		doubts = append(doubts, fmt.Sprintf("%d that nobody has rated", unrated))
	}
	if g.MaxAge > 0 && r.Scanned() {
		doubts = append(doubts, g.stale(r, now)...)
	}
	return doubts
}

// stale names each platform whose newest scan is too old.
func (g Gate) stale(r *VulnerabilityReport, now time.Time) []string {
	scans := r.PlatformScans
	if len(scans) == 0 { // it was read from a document that does not have them, or none is of a platform
		scans = []PlatformScan{{}}
		if r.ScannedAt != nil {
			scans[0].ScannedAt = *r.ScannedAt
		}
	}
	var doubts []string
	for _, s := range scans {
		of := ""
		if len(scans)+len(r.Unscanned) > 1 {
			of = " of " + s.name()
		}
		switch age := now.Sub(s.ScannedAt); {
		case s.ScannedAt.IsZero():
			doubts = append(doubts, "the scan"+of+" does not say when it was made")
		case -age > clocksDiffer:
			doubts = append(doubts, "the scan"+of+" says that it is yet to be made")
		case age > g.MaxAge:
			doubts = append(doubts, fmt.Sprintf("the newest scan%s is %s old, more than %s", of, Age(age), Age(g.MaxAge)))
		}
	}
	return doubts
}

// tellsKEV tells whether it is known if a finding is exploited: of the scanners that are
// read only Grype's own report says so.
func (v *Vulnerability) tellsKEV() bool {
	return v.KEV || slices.ContainsFunc(v.Provenance, func(p Provenance) bool { return p.Tool == "grype" && p.Source != SourceCodeScanning })
}

// Age writes a duration in its largest unit, such as "3d" or "5h".
func Age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	case d >= time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%ds", int(max(0, d.Seconds())))
}
