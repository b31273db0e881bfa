package retain

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Patterns of the JSON schema. The reader knows more than they can say.
const (
	noSpaceAround = `^\S(.*\S)?$`
	agePattern    = `^([0-9]+(s|min|h|d|w|mo|y))+$`
	sizePattern   = `^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$`
)

// The types of values.
var (
	textKind = scalar[string]{
		want: "a text", tag: "!!str", schema: object{"type": "string", "pattern": noSpaceAround},
		read:  readText,
		write: func(s string) any { return s },
	}
	// looseKind is what others wrote, such as the value of a label.
	looseKind = scalar[string]{
		want: "a text", tag: "!!str", loose: true, schema: object{"type": "string"},
		read:  func(s string) (string, error) { return s, nil },
		write: func(s string) any { return s },
	}
	nameKind = scalar[string]{
		want: "a name", tag: "!!str", schema: object{"type": "string", "pattern": noSpaceAround, "maxLength": 100},
		read: func(s string) (string, error) {
			if len(s) > 100 {
				return "", fmt.Errorf("name of %d bytes; 100 is the limit", len(s))
			}
			return readText(s)
		},
		write: func(s string) any { return s },
	}
	fileKind = scalar[string]{
		want: "the name of a file", tag: "!!str", schema: object{"type": "string", "pattern": noSpaceAround},
		read: func(s string) (string, error) {
			if strings.ContainsAny(s, "*?[") {
				return "", fmt.Errorf("%q is a glob; want one file", s)
			}
			return readText(s)
		},
		write: func(s string) any { return s },
	}
	filesKind = scalar[string]{
		want: "a file or a glob of files", tag: "!!str", schema: object{"type": "string", "pattern": noSpaceAround},
		read: func(s string) (string, error) {
			if _, err := path.Match(s, ""); err != nil {
				return "", fmt.Errorf("%q is no glob: %v", s, err)
			}
			return readText(s)
		},
		write: func(s string) any { return s },
	}
	packageKind = scalar[string]{
		want: "a package, such as acme/app", tag: "!!str", schema: object{"type": "string", "pattern": `^!?[a-z0-9*?][a-z0-9._*?-]*(/[a-z0-9*?][a-z0-9._*?-]*)+$`},
		read:  readPackage,
		write: func(s string) any { return s },
	}
	patternKind = scalar[Pattern]{
		want: "a tag, a glob or re: with a regular expression", tag: "!!str",
		schema: object{"type": "string", "pattern": noSpaceAround, "maxLength": maxPatternLength},
		read:   ParsePattern,
		write:  func(p Pattern) any { return p.Text },
	}
	regexKind = scalar[Pattern]{
		want: "a regular expression", tag: "!!str",
		schema: object{"type": "string", "pattern": noSpaceAround, "maxLength": maxPatternLength - len(regexPrefix)},
		read: func(s string) (Pattern, error) {
			if strings.HasPrefix(s, regexPrefix) {
				return Pattern{}, fmt.Errorf("%q: without re:, which is for places that take globs too", s)
			}
			return ParsePattern(regexPrefix + s)
		},
		write: func(p Pattern) any { return strings.TrimPrefix(p.Text, regexPrefix) },
	}
	rangeKind = scalar[Range]{
		want: "a range of versions, such as \">=1.0.0 <2\"", tag: "!!str", schema: object{"type": "string", "pattern": noSpaceAround, "maxLength": 512},
		read:  ParseRange,
		write: func(r Range) any { return r.Text },
	}
	digestKind = scalar[oci.Digest]{
		want: "a digest", tag: "!!str", schema: object{"type": "string", "pattern": `^sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$`},
		read:  oci.ParseDigest,
		write: func(d oci.Digest) any { return string(d) },
	}
	ageKind = scalar[time.Duration]{
		want: "an age, such as 7d", tag: "!!str", schema: object{"type": "string", "pattern": agePattern},
		read: func(s string) (time.Duration, error) {
			d, err := ParseAge(s)
			if err == nil && d == 0 {
				return 0, fmt.Errorf("%s is no age; leave the key out", s)
			}
			return d, err
		},
		write: func(d time.Duration) any { return FormatAge(d) },
	}
	// graceKind may be zero, which takes the rail away.
	graceKind = scalar[time.Duration]{
		want: "an age, such as 2h", tag: "!!str", schema: object{"type": "string", "pattern": agePattern},
		read: ParseAge, write: func(d time.Duration) any { return FormatAge(d) },
	}
	countKind = scalar[int]{
		want: "a number from 1", tag: "!!int", schema: object{"type": "integer", "minimum": 1, "maximum": maxCount},
		read: func(s string) (int, error) {
			n, err := readCount(s)
			if err == nil && n == 0 {
				return 0, fmt.Errorf("0 keeps nothing; leave the key out")
			}
			return n, err
		},
		write: func(n int) any { return n },
	}
	remainKind = scalar[int]{
		want: "a number from 0", tag: "!!int", schema: object{"type": "integer", "minimum": 0, "maximum": maxCount},
		read: readCount, write: func(n int) any { return n },
	}
	limitKind = scalar[int]{
		want: "a number from 0, or " + unlimited, tag: "!!int", word: unlimited,
		schema: object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": maxCount}, object{"const": unlimited}}},
		read:   readLimit, write: writeLimit,
	}
	percentKind = scalar[int]{
		want: "a number from 0 to 100, or " + unlimited, tag: "!!int", word: unlimited,
		schema: object{"anyOf": []any{object{"type": "integer", "minimum": 0, "maximum": 100}, object{"const": unlimited}}},
		read: func(s string) (int, error) {
			n, err := readLimit(s)
			if err == nil && n > 100 {
				return 0, fmt.Errorf("%d is more than 100 percent", n)
			}
			return n, err
		},
		write: writeLimit,
	}
	flagKind = scalar[bool]{
		want: "true or false", tag: "!!bool", schema: object{"type": "boolean"},
		read: strconv.ParseBool, write: func(b bool) any { return b },
	}
	// setKind is a flag that is left out where it is false.
	setKind = scalar[bool]{
		want: "true", tag: "!!bool", schema: object{"const": true},
		read: func(s string) (bool, error) {
			if b, err := strconv.ParseBool(s); err != nil || !b {
				return false, fmt.Errorf("%s; want true, or leave the key out", s)
			}
			return true, nil
		},
		write: func(b bool) any { return b },
	}
	sizeKind = scalar[int64]{
		want: "a size, such as 500MB", tag: "!!str", schema: object{"type": "string", "pattern": sizePattern},
		read: readSize, write: func(n int64) any { return fmt.Sprintf("%dB", n) },
	}
	platformKind = scalar[string]{
		want: "a platform, such as linux/amd64", tag: "!!str", schema: object{"type": "string", "pattern": `^[^/\s]+/[^/\s]+(/[^/\s]+)?$`},
		read: func(s string) (string, error) {
			p, err := oci.ParsePlatform(s)
			return oci.FormatPlatform(p), err
		},
		write: func(s string) any { return s },
	}
)

// enum is a type of a few words.
func enum[V ~string](words ...V) scalar[V] {
	list, names := []any{}, []string{}
	for _, w := range words {
		list, names = append(list, string(w)), append(names, string(w))
	}
	want := strings.Join(names, ", ")
	return scalar[V]{
		want: want, tag: "!!str", schema: object{"enum": list},
		read: func(s string) (V, error) {
			if slices.Contains(words, V(s)) {
				return V(s), nil
			}
			return "", fmt.Errorf("unknown %q; want one of %s", s, want)
		},
		write: func(v V) any { return string(v) },
	}
}

const (
	unlimited = "unlimited"
	maxCount  = 1_000_000_000
)

func readText(s string) (string, error) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("control character in %q", s)
	}
	return s, nil
}

// readCount reads decimal digits alone: YAML has numbers of other kinds as well.
func readCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case err != nil || len(s) > 1 && s[0] == '0':
		return 0, fmt.Errorf("%.40s is no whole number from 0 to %d", s, maxCount)
	case n > maxCount:
		return 0, fmt.Errorf("%d is too large; %d is the limit", n, maxCount)
	}
	return int(n), nil
}

func readLimit(s string) (int, error) {
	if s == unlimited {
		return -1, nil
	}
	return readCount(s)
}

func writeLimit(n int) any {
	if n < 0 {
		return unlimited
	}
	return n
}

var sizes = []struct {
	unit  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

func readSize(s string) (int64, error) {
	for _, u := range sizes {
		if digits, ok := strings.CutSuffix(s, u.unit); ok {
			n, err := strconv.ParseUint(digits, 10, 31)
			if bytes := int64(n) * u.bytes; err == nil && n > 0 && bytes/u.bytes == int64(n) {
				return bytes, nil
			}
			// A larger number of bytes is how the canonical form says it.
			if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n > 0 && u.bytes == 1 {
				return n, nil
			}
			break
		}
	}
	return 0, fmt.Errorf("%q is no size; write a whole number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
}

func readPackage(s string) (string, error) {
	name := strings.TrimPrefix(s, "!")
	// What stands for the wildcards may be anything that a name may have there.
	if err := oci.CheckName(strings.NewReplacer("*", "x", "?", "x").Replace(name)); err != nil || !strings.Contains(name, "/") {
		return "", fmt.Errorf("%q is no package; write OWNER/PACKAGE in lower case, with * and ? where there may be several, and ! before what to leave out", s)
	}
	return s, nil
}
