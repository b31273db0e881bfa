package vuln

import (
	"cmp"
	"strings"

	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"
)

// Severity says how bad a vulnerability is. The zero value reads as
// [SeverityUnknown], which is not "harmless": nobody has rated it.
type Severity string

// The severities of the specification.
const (
	SeverityCritical Severity = "critical"
	SeverityHigh     Severity = "high"
	SeverityMedium   Severity = "medium"
	SeverityLow      Severity = "low"
	SeverityUnknown  Severity = "unknown"
)

// Severities are all of them, the worst first and unknown last.
var Severities = []Severity{SeverityCritical, SeverityHigh, SeverityMedium, SeverityLow, SeverityUnknown}

// ParseSeverity understands the words that scanners, distributions and advisory
// databases use, in any case: "important" is high, "moderate" medium,
// "negligible" low. Any other word is [SeverityUnknown].
func ParseSeverity(word string) Severity {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "critical":
		return SeverityCritical
	case "high", "important":
		return SeverityHigh
	case "medium", "moderate":
		return SeverityMedium
	case "low", "negligible", "unimportant", "informational", "info", "note":
		return SeverityLow
	}
	return SeverityUnknown
}

// rank is 4 for critical and 0 for unknown.
func (s Severity) rank() int {
	switch s {
	case SeverityCritical:
		return 4
	case SeverityHigh:
		return 3
	case SeverityMedium:
		return 2
	case SeverityLow:
		return 1
	}
	return 0
}

// Compare orders by severity: it is negative if s is less severe than other.
// Unknown is below low.
func (s Severity) Compare(other Severity) int { return cmp.Compare(s.rank(), other.rank()) }

// MarshalText writes the zero value as "unknown".
func (s Severity) MarshalText() ([]byte, error) { return []byte(cmp.Or(s, SeverityUnknown)), nil }

// UnmarshalText reads any word that [ParseSeverity] understands, so also the
// "Critical" of the specification's own form. It does not fail.
func (s *Severity) UnmarshalText(text []byte) error {
	*s = ParseSeverity(string(text))
	return nil
}

// ScoringMethod is the version of CVSS that a score or vector is of, in the words
// of CycloneDX. Empty if a severity was given in a word only.
type ScoringMethod string

// The methods whose vectors are understood.
const (
	MethodCVSS2  ScoringMethod = "CVSSv2"
	MethodCVSS30 ScoringMethod = "CVSSv3"
	MethodCVSS31 ScoringMethod = "CVSSv31"
	MethodCVSS4  ScoringMethod = "CVSSv4"
	MethodOther  ScoringMethod = "other"
)

// ScoreOf computes the score of a CVSS vector of version 2, 3.0, 3.1 or 4.0: of
// 2 and 3 the base score. It is false for what is none, which is no score and not a
// score of zero.
func ScoreOf(vector string) (score float64, method ScoringMethod, ok bool) {
	vector = strings.Trim(strings.TrimSpace(vector), "()")
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		if v, err := gocvss40.ParseVector(vector); err == nil {
			return v.Score(), MethodCVSS4, true
		}
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		if v, err := gocvss31.ParseVector(vector); err == nil {
			return v.BaseScore(), MethodCVSS31, true
		}
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		if v, err := gocvss30.ParseVector(vector); err == nil {
			return v.BaseScore(), MethodCVSS30, true
		}
	case strings.HasPrefix(vector, "AV:"):
		if v, err := gocvss20.ParseVector(vector); err == nil {
			return v.BaseScore(), MethodCVSS2, true
		}
	}
	return 0, "", false
}

// SeverityOf is the severity of a score. Version 2 of CVSS has no critical. A score
// of 0 says that there is no impact in version 3 and 4; it is rated unknown, since
// databases also write it for what has no score.
func SeverityOf(score float64, method ScoringMethod) Severity {
	switch {
	case score >= 9 && method != MethodCVSS2:
		return SeverityCritical
	case score >= 7:
		return SeverityHigh
	case score >= 4:
		return SeverityMedium
	case score > 0:
		return SeverityLow
	}
	return SeverityUnknown
}

// newRating makes a rating of whatever is given: a word, a vector, a score.
func newRating(source, word, vector string, score float64) (Rating, bool) {
	r := Rating{Source: normalDatabase(source), Vector: vector, Score: score, Word: word}
	if computed, method, ok := ScoreOf(vector); ok {
		r.Method = method
		if score == 0 {
			r.Score = computed
		}
	} else if score > 0 {
		r.Method = MethodOther
	}
	r.Severity = ParseSeverity(word)
	if r.Severity == SeverityUnknown {
		r.Severity = SeverityOf(r.Score, r.Method)
	}
	return r, word != "" || vector != "" || score > 0
}

// normalDatabase gives the databases that every tool spells its own way one name.
func normalDatabase(source string) string {
	s := strings.ToLower(source)
	switch {
	case strings.HasPrefix(s, "nvd"), strings.HasSuffix(s, "@nist.gov"):
		return "nvd"
	case strings.HasPrefix(s, "github"), s == "ghsa", strings.HasSuffix(s, "@github.com"):
		return "ghsa"
	}
	return s
}

// chooseRating picks the rating that a finding is shown with. The distribution that
// built the package knows which of its parts are in use; after it comes
// GitHub, then NVD, then anybody. Within one source its own word counts more than
// what its vector computes to, and of equals the worst.
func chooseRating(ratings []Rating, pkg *Package) Severity {
	var best *Rating
	distribution := pkg.distribution()
	for i := range ratings {
		r := &ratings[i]
		if r.Severity.rank() == 0 {
			continue
		}
		if best == nil || compareRatings(r, best, distribution) > 0 {
			best = r
		}
	}
	if best == nil {
		return SeverityUnknown
	}
	return best.Severity
}

func compareRatings(a, b *Rating, distribution string) int {
	words := func(r *Rating) int { return min(1, ParseSeverity(r.Word).rank()) }
	return cmp.Or(
		cmp.Compare(databaseRank(a.Source, distribution), databaseRank(b.Source, distribution)),
		cmp.Compare(words(a), words(b)),
		a.Severity.Compare(b.Severity),
	)
}

func databaseRank(source, distribution string) int {
	switch {
	case source != "" && strings.HasPrefix(distribution, source):
		return 3
	case source == "ghsa":
		return 2
	case source == "nvd":
		return 1
	}
	return 0
}
