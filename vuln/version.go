package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// Match says whether a version has a flaw.
type Match string

// The answers. What cannot be compared is unknown, which is not "no".
const (
	MatchYes     Match = "yes"
	MatchNo      Match = "no"
	MatchUnknown Match = "unknown"
)

// VersionRange are the versions from one to another. An empty bound is open.
type VersionRange struct {
	From, To                 string
	FromExcluded, ToExcluded bool
	// Text is what was not understood; such a range is neither left nor entered.
	Text string
}

// Has tells whether a version of a type of package, such as "npm", is in the range.
func (r VersionRange) Has(kind, version string) Match {
	if r.Text != "" {
		return MatchUnknown
	}
	result := MatchYes
	for _, bound := range []struct {
		limit    string
		excluded bool
		side     int
	}{{r.From, r.FromExcluded, -1}, {r.To, r.ToExcluded, 1}} {
		if bound.limit == "" {
			continue
		}
		order, ok := compareVersions(kind, version, bound.limit)
		switch {
		case !ok:
			result = MatchUnknown
		case order == bound.side || order == 0 && bound.excluded:
			return MatchNo
		}
	}
	return result
}

// Affects tells whether a package has the flaw, and if so which part of the advisory
// says it.
func (a *Advisory) Affects(p Package) (Match, *Affected) {
	result, part := MatchNo, (*Affected)(nil)
	for i := range a.Affected {
		f := &a.Affected[i]
		if !f.about(p) {
			continue
		}
		switch f.has(p.Type, p.source()) {
		case MatchYes:
			return MatchYes, f
		case MatchUnknown:
			result, part = MatchUnknown, f
		}
	}
	return result, part
}

// source is the version that advisories of a distribution are about: that of the source
// that the package is built from, which may differ from its own, with its epoch, which
// may stand beside it.
func (p Package) source() string {
	u, err := packageurl.FromString(p.PURL)
	if err != nil || p.distribution() == "" {
		return p.Version
	}
	qualifiers := u.Qualifiers.Map()
	if _, version, ok := strings.Cut(qualifiers["upstream"], "@"); ok && version != "" {
		return version
	}
	if epoch := qualifiers["epoch"]; epoch != "" && p.Version != "" && !strings.HasPrefix(p.Version, epoch+":") {
		return epoch + ":" + p.Version
	}
	return p.Version
}

func (f *Affected) about(p Package) bool {
	u, err := packageurl.FromString(p.PURL)
	if err != nil {
		return false
	}
	if p.distribution() == "" {
		return purlMatches(f.PURL, p.PURL)
	}
	// Packages of distributions go by the name of their source, and by release: "Debian:12",
	// "Alpine:v3.19", "Ubuntu:22.04:LTS".
	qualifiers := u.Qualifiers.Map()
	source, _, _ := strings.Cut(qualifiers["upstream"], "@")
	if f.Name != u.Name && f.Name != source {
		return false
	}
	system, release, _ := strings.Cut(strings.ToLower(f.Ecosystem), ":")
	if system != p.distribution() {
		return false
	}
	release, _, _ = strings.Cut(strings.TrimPrefix(release, "v"), ":")
	_, installed, _ := strings.Cut(qualifiers["distro"], "-")
	return release == "" || installed == "" || strings.HasPrefix(installed+".", release+".")
}

func (f *Affected) has(kind, version string) Match {
	if version == "" {
		return MatchUnknown
	}
	if slices.Contains(f.Versions, version) {
		return MatchYes
	}
	result := MatchNo
	for _, r := range f.Ranges {
		switch r.Has(kind, version) {
		case MatchYes:
			return MatchYes
		case MatchUnknown:
			result = MatchUnknown
		}
	}
	if len(f.Ranges) == 0 && len(f.Versions) == 0 {
		return MatchUnknown
	}
	return result
}

// parseGitHubRange reads ">= 1.0, < 2.3.4".
func parseGitHubRange(s string) VersionRange {
	var r VersionRange
	for part := range strings.SplitSeq(s, ",") {
		operator, version, ok := strings.Cut(strings.TrimSpace(part), " ")
		version = strings.TrimSpace(version)
		if !ok || version == "" {
			return VersionRange{Text: cmp.Or(s, "no range")}
		}
		switch operator {
		case "=":
			r.From, r.To = version, version
		case ">", ">=":
			r.From, r.FromExcluded = version, operator == ">"
		case "<", "<=":
			r.To, r.ToExcluded = version, operator == "<"
		default:
			return VersionRange{Text: s}
		}
	}
	return r
}

// parseOSVEvents reads the events of a range, in their order: each "introduced" opens
// one, and "fixed", "last_affected" or "limit" ends it.
func parseOSVEvents(events []map[string]string) (ranges []VersionRange, fixed []string) {
	open := false
	var r VersionRange
	end := func(to string, excluded bool) {
		if open {
			r.To, r.ToExcluded = to, excluded
			ranges = append(ranges, r)
		}
		open, r = false, VersionRange{}
	}
	for _, e := range events {
		switch {
		case e["introduced"] != "":
			end("", false)
			open = true
			if e["introduced"] != "0" {
				r.From = e["introduced"]
			}
		case e["fixed"] != "":
			fixed = addUnique(fixed, e["fixed"])
			end(e["fixed"], true)
		case e["last_affected"] != "":
			end(e["last_affected"], false)
		case e["limit"] != "" && e["limit"] != "*":
			end(e["limit"], true)
		}
	}
	end("", false)
	return ranges, fixed
}

// EnrichSBOM holds the packages of an SBOM against what a database says of them. For each
// package found returns the advisories that the database has of it, be it for this
// version or for any. A version that cannot be compared with an advisory's range is
// reported as a finding that may be one, and never as clean.
func EnrichSBOM(source SourceName, sbom SBOM, found func(Package) []Advisory) Scan {
	s := Scan{
		Source: source, Method: MethodSBOM, Tool: string(source), ScannedAt: sbom.Created, Evidence: sbom.Evidence,
		Subject: sbom.Subject, Link: LinkDigest, Rule: "an SBOM of the image's digest lists the package",
	}
	switch {
	case sbom.Subject == "":
		s.Link, s.Rule = LinkPath, "an SBOM that the caller gives lists the package"
	case sbom.Signed:
		s.Link = LinkDigestSigned
	}
	for _, p := range sbom.Packages {
		for _, a := range found(p) {
			match, part := a.Affects(p)
			if match == MatchNo || !a.Withdrawn.IsZero() {
				continue
			}
			v := a.Vulnerability.clone()
			v.Package = &p
			v.FixedVersions, v.FixState = part.FixedVersions, part.FixState
			if match == MatchUnknown {
				s.Warnings = append(s.Warnings, fmt.Sprintf("%s: whether %s %s has it cannot be told from its range: it may", v.ID, p.Name, p.Version))
			}
			settle(&v)
			s.Findings = append(s.Findings, v)
		}
	}
	return s
}

// compareVersions orders two versions of a type of package as semantic versioning
// does, and by as many numbers as there are: 1.2 is 1.2.0. It is false where that cannot
// be told: one of them is no such version, or the ecosystem orders what follows the
// numbers by rules of its own. The versions of distributions have rules of their own
// altogether.
func compareVersions(kind, a, b string) (int, bool) {
	if a == b {
		return 0, true
	}
	switch kind {
	case packageurl.TypeDebian:
		return compareDebian(a, b)
	case packageurl.TypeRPM:
		return compareRPM(a, b)
	case "apk":
		return compareAPK(a, b)
	case "alpm":
		return 0, false
	}
	x, ok := parseVersion(a)
	y, ok2 := parseVersion(b)
	if !ok || !ok2 {
		return 0, false
	}
	for i := range max(len(x.numbers), len(y.numbers)) {
		if c := compareNumbers(at(x.numbers, i), at(y.numbers, i)); c != 0 {
			return c, true
		}
	}
	switch {
	case x.pre == "" && y.pre == "":
		return 0, true
	case kind == packageurl.TypeMaven, kind == packageurl.TypePyPi, kind == packageurl.TypeGem:
		return 0, false // 1.0-jre is not before 1.0, nor is 1.0-1
	case x.pre == "":
		return 1, true
	case y.pre == "":
		return -1, true
	}
	return comparePre(x.pre, y.pre), true
}

type semver struct {
	numbers []string
	pre     string
}

func parseVersion(s string) (semver, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(s, "v"), "go"), "+")
	core, pre, hasPre := strings.Cut(s, "-")
	v := semver{numbers: strings.Split(core, "."), pre: pre}
	for _, n := range v.numbers {
		if !isNumber(n) {
			return semver{}, false
		}
	}
	if hasPre {
		for part := range strings.SplitSeq(pre, ".") {
			if part == "" {
				return semver{}, false
			}
		}
	}
	return v, true
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "0"
}

// compareNumbers compares numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func comparePre(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		var c int
		switch numeric, other := isNumber(x[i]), isNumber(y[i]); {
		case numeric && other:
			c = compareNumbers(x[i], y[i])
		case numeric:
			c = -1
		case other:
			c = 1
		default:
			c = cmp.Compare(x[i], y[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}
