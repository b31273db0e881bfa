package vuln

import "testing"

func TestParseSeverity(t *testing.T) {
	for word, want := range map[string]Severity{
		"Critical": SeverityCritical, "HIGH": SeverityHigh, "important": SeverityHigh, "Moderate": SeverityMedium, "medium": SeverityMedium,
		"low": SeverityLow, "Negligible": SeverityLow, "unimportant": SeverityLow, "note": SeverityLow,
		"none": SeverityUnknown, "untriaged": SeverityUnknown, "": SeverityUnknown, "gibberish": SeverityUnknown,
	} {
		if got := ParseSeverity(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// TestScoreOf: vectors and scores as NVD and FIRST publish them.
func TestScoreOf(t *testing.T) {
	for _, c := range []struct {
		vector string
		score  float64
		method ScoringMethod
		want   Severity
	}{
		{"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, MethodCVSS4, SeverityCritical},
		{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10, MethodCVSS31, SeverityCritical}, // CVE-2021-44228
		{"CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5, MethodCVSS30, SeverityHigh},    // CVE-2014-0160
		{"AV:N/AC:M/Au:N/C:C/I:C/A:C", 9.3, MethodCVSS2, SeverityHigh},                       // version 2 has no critical
		{"(AV:N/AC:L/Au:N/C:P/I:N/A:N)", 5, MethodCVSS2, SeverityMedium},
		{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0, MethodCVSS31, SeverityUnknown},
	} {
		score, method, ok := ScoreOf(c.vector)
		if !ok || score != c.score || method != c.method || SeverityOf(score, method) != c.want {
			t.Errorf("%s: %g %s %s, want %g %s %s", c.vector, score, method, SeverityOf(score, method), c.score, c.method, c.want)
		}
	}
	for _, bad := range []string{"", "CVSS:3.1/AV:N", "CVSS:5.0/AV:N", "high", "AV:N/AC:L"} {
		if _, _, ok := ScoreOf(bad); ok {
			t.Errorf("%q has a score", bad)
		}
	}
}

func TestWhichRatingIsShown(t *testing.T) {
	deb := newPackage(Package{PURL: "pkg:deb/debian/zlib1g@1"})
	npm := newPackage(Package{PURL: "pkg:npm/lodash@1"})
	critical := "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
	rate := func(source, word, vector string) Rating {
		r, _ := newRating(source, word, vector, 0)
		return r
	}
	for name, c := range map[string]struct {
		pkg     *Package
		ratings []Rating
		want    Severity
	}{
		"the distribution's of its own package":      {deb, []Rating{rate("nvd", "", critical), rate("ghsa", "high", ""), rate("debian", "low", "")}, SeverityLow},
		"another distribution's counts as any":       {deb, []Rating{rate("redhat", "low", ""), rate("nvd", "", critical)}, SeverityCritical},
		"GitHub's before NVD's":                      {npm, []Rating{rate("nvd", "", critical), rate("ghsa", "moderate", "")}, SeverityMedium},
		"its word before its vector":                 {npm, []Rating{rate("ghsa", "", critical), rate("ghsa", "high", "")}, SeverityHigh},
		"a source that does not know does not count": {deb, []Rating{rate("debian", "unknown", ""), rate("nvd", "", critical)}, SeverityCritical},
		"of equals the worst":                        {npm, []Rating{rate("a", "low", ""), rate("b", "high", "")}, SeverityHigh},
		"only a vector":                              {nil, []Rating{rate("", "", "AV:N/AC:L/Au:N/C:C/I:C/A:C")}, SeverityHigh},
		"none":                                       {nil, nil, SeverityUnknown},
	} {
		if got := chooseRating(c.ratings, c.pkg); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestUnknownSeverityIsBelowLow(t *testing.T) {
	for i := range Severities[1:] {
		if Severities[i].Compare(Severities[i+1]) <= 0 {
			t.Errorf("%s is not worse than %s", Severities[i], Severities[i+1])
		}
	}
	if Severity("").Compare(SeverityUnknown) != 0 {
		t.Error("the zero value is not unknown")
	}
}
