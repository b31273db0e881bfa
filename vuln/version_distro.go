package vuln

import (
	"cmp"
	"slices"
	"strings"
)

// The versions of distributions are ordered by rules of their own: those of dpkg are in
// Debian's policy, section 5.6.12, those of rpm in rpm-version(7), and those of apk in
// apk-package(5). What breaks the rules of its own kind is not compared.

// epochOf divides a version at its epoch. It is empty where none is written.
func epochOf(s string) (epoch, rest string) {
	if before, after, ok := strings.Cut(s, ":"); ok && isNumber(before) {
		return before, after
	}
	return "", s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// madeOf tells whether a text has only letters, digits and some other signs in it.
func madeOf(s, signs string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) && !isLetter(s[i]) && strings.IndexByte(signs, s[i]) < 0 {
			return false
		}
	}
	return true
}

// span is how many bytes at the beginning of a text are of a kind.
func span(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

// compareDebian orders versions as dpkg does. An epoch or revision that is not there is 0.
func compareDebian(a, b string) (int, bool) {
	x, ok := parseDebian(a)
	y, ok2 := parseDebian(b)
	if !ok || !ok2 {
		return 0, false
	}
	return cmp.Or(compareNumbers(x[0], y[0]), compareDebianPart(x[1], y[1]), compareDebianPart(x[2], y[2])), true
}

// parseDebian divides a version into epoch, upstream's version and revision.
func parseDebian(s string) (parts [3]string, ok bool) {
	epoch, rest := epochOf(s)
	upstream, revision := rest, ""
	if i := strings.LastIndexByte(rest, '-'); i >= 0 {
		upstream, revision = rest[:i], rest[i+1:]
	}
	return [3]string{epoch, upstream, revision}, upstream != "" && isDigit(upstream[0]) && madeOf(upstream, ".+-~:") && madeOf(revision, ".+~")
}

// compareDebianPart compares by turns what is no digit, where a tilde is before the end,
// the end before letters and letters before all else, and what is a number.
func compareDebianPart(a, b string) int {
	weight := func(s string) int {
		switch {
		case s == "" || isDigit(s[0]):
			return 0
		case s[0] == '~':
			return -1
		case isLetter(s[0]):
			return int(s[0])
		}
		return int(s[0]) + 256
	}
	for a != "" || b != "" {
		for weight(a) != 0 || weight(b) != 0 {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		n, m := span(a, isDigit), span(b, isDigit)
		if c := compareNumbers(a[:n], b[:m]); c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
	return 0
}

// compareRPM orders versions as rpm does. Where only one of them names an epoch that
// counts, or of equal ones only one has a release, the other may have left it out.
func compareRPM(a, b string) (int, bool) {
	epochA, a := epochOf(a)
	epochB, b := epochOf(b)
	if (epochA == "") != (epochB == "") && compareNumbers(epochA, epochB) != 0 {
		return 0, false
	}
	versionA, releaseA, hasA := strings.Cut(a, "-")
	versionB, releaseB, hasB := strings.Cut(b, "-")
	for _, part := range []string{versionA, versionB, releaseA, releaseB} {
		if !madeOf(part, "._+~^") {
			return 0, false
		}
	}
	if versionA == "" || versionB == "" {
		return 0, false
	}
	if c := cmp.Or(compareNumbers(epochA, epochB), compareRPMPart(versionA, versionB)); c != 0 {
		return c, true
	}
	return compareRPMPart(releaseA, releaseB), hasA == hasB
}

// compareRPMPart compares runs of digits and runs of letters, whatever is between them.
func compareRPMPart(a, b string) int {
	separator := func(c byte) bool { return !isDigit(c) && !isLetter(c) && c != '~' && c != '^' }
	for {
		a, b = a[span(a, separator):], b[span(b, separator):]
		switch begins := func(sign string) (x, y bool) { return strings.HasPrefix(a, sign), strings.HasPrefix(b, sign) }; {
		case a == "" && b == "":
			return 0
		default:
			if x, y := begins("~"); x || y { // before all, the end too
				if x != y {
					return sideOf(y)
				}
				a, b = a[1:], b[1:]
				continue
			}
			if x, y := begins("^"); x || y { // after the end, and before all else
				switch {
				case a == "" || b == "":
					return sideOf(b == "")
				case x != y:
					return sideOf(y)
				}
				a, b = a[1:], b[1:]
				continue
			}
		}
		if a == "" || b == "" {
			return sideOf(b == "")
		}
		if isDigit(a[0]) != isDigit(b[0]) {
			return sideOf(isDigit(a[0]))
		}
		kind := isLetter
		if isDigit(a[0]) {
			kind = isDigit
		}
		n, m := span(a, kind), span(b, kind)
		compare := cmp.Compare[string]
		if isDigit(a[0]) {
			compare = compareNumbers
		}
		if c := compare(a[:n], b[:m]); c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
}

// sideOf is 1 if the first of two is the later one, else -1.
func sideOf(first bool) int {
	if first {
		return 1
	}
	return -1
}

// apkKind is what a part of a version of apk is. Where two versions part, the one whose
// next part is of an earlier kind is the later version.
type apkKind int

const (
	apkNumber apkKind = iota
	apkLetter
	apkSuffix
	apkSuffixNumber
	apkHash
	apkRevision
	apkEnd
)

type apkPart struct {
	kind apkKind
	text string
	rank int // of a suffix
}

// apkSuffixes are in their order. Those before apkFinal are before the version itself.
var apkSuffixes = []string{"alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"}

const apkFinal = 4

// compareAPK orders versions as apk does.
func compareAPK(a, b string) (int, bool) {
	x, ok := parseAPK(a)
	y, ok2 := parseAPK(b)
	if !ok || !ok2 {
		return 0, false
	}
	for i := range min(len(x), len(y)) {
		p, q := x[i], y[i]
		if p.kind != q.kind {
			early := func(part apkPart) bool { return part.kind == apkSuffix && part.rank < apkFinal }
			if early(p) || early(q) {
				return sideOf(early(q)), true
			}
			return sideOf(p.kind < q.kind), true
		}
		c := 0
		switch {
		case p.kind == apkSuffix:
			c = cmp.Compare(p.rank, q.rank)
		case p.kind == apkNumber && i > 0 && (p.text[0] == '0' || q.text[0] == '0'):
			c = cmp.Compare(p.text, q.text) // as the digits after a point
		case p.kind == apkLetter, p.kind == apkHash:
			c = cmp.Compare(p.text, q.text)
		default:
			c = compareNumbers(p.text, q.text)
		}
		if c != 0 {
			return c, true
		}
	}
	return 0, true
}

// parseAPK divides 1.2.3b_rc1~0a1b2c-r4 into its parts.
func parseAPK(s string) ([]apkPart, bool) {
	var parts []apkPart
	take := func(kind apkKind, n int) bool {
		parts = append(parts, apkPart{kind: kind, text: s[:n]})
		s = s[n:]
		return n > 0
	}
	if !take(apkNumber, span(s, isDigit)) {
		return nil, false
	}
	for strings.HasPrefix(s, ".") {
		if s = s[1:]; !take(apkNumber, span(s, isDigit)) {
			return nil, false
		}
	}
	if s != "" && 'a' <= s[0] && s[0] <= 'z' {
		take(apkLetter, 1)
	}
	for strings.HasPrefix(s, "_") {
		s = s[1:]
		n := span(s, isLetter)
		rank := slices.Index(apkSuffixes, s[:n])
		if rank < 0 {
			return nil, false
		}
		parts = append(parts, apkPart{kind: apkSuffix, rank: rank})
		if s = s[n:]; s != "" && isDigit(s[0]) {
			take(apkSuffixNumber, span(s, isDigit))
		}
	}
	if strings.HasPrefix(s, "~") {
		hex := func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }
		if s = s[1:]; !take(apkHash, span(s, hex)) {
			return nil, false
		}
	}
	if strings.HasPrefix(s, "-r") {
		if s = s[2:]; !take(apkRevision, span(s, isDigit)) {
			return nil, false
		}
	}
	return append(parts, apkPart{kind: apkEnd}), s == ""
}
