package retain

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

const day = 24 * time.Hour

// units are those of ages, the longest first. A month is 30 days and a year 365: an age
// is a length of time, whatever the calendar has in it.
var units = []struct {
	name string
	long time.Duration
}{
	{"y", 365 * day}, {"mo", 30 * day}, {"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second},
}

// maxAge keeps sums of ages far from overflow.
const maxAge = 100 * 365 * day

// ParseAge reads an age, such as "36h", "7d", "3w", "6mo", "1y" or "1d12h": whole
// numbers with the units s, min, h, d, w, mo (30 days) and y (365 days). The unit "m" is
// refused, because 6m may be meant as months and would be read as minutes.
//
// Errors: [oci.ErrInvalid].
func ParseAge(text string) (time.Duration, error) {
	var sum time.Duration
	rest := text
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 {
			return 0, oci.Invalid("age %q: want a whole number with a unit, such as 36h, 7d, 3w, 6mo or 1y", text)
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 32)
		if err != nil {
			return 0, oci.Invalid("age %q: %s is too large", text, rest[:digits])
		}
		rest = rest[digits:]
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit, err := unitOf(rest[:letters], text, n)
		if err != nil {
			return 0, err
		}
		rest = rest[letters:]
		if sum > maxAge || n > int64(maxAge/unit) {
			return 0, oci.Invalid("age %q: 100y is the limit", text)
		}
		sum += time.Duration(n) * unit
	}
	switch {
	case text == "":
		return 0, oci.Invalid("empty age: want a number with a unit, such as 7d")
	case sum > maxAge:
		return 0, oci.Invalid("age %q: 100y is the limit", text)
	}
	return sum, nil
}

func unitOf(name, text string, n int64) (time.Duration, error) {
	for _, u := range units {
		if u.name == name {
			return u.long, nil
		}
	}
	switch name {
	case "":
		return 0, oci.Invalid("age %q: %d has no unit; write %dd for days or %dh for hours", text, n, n, n)
	case "m":
		return 0, oci.Invalid("age %q: m may be minutes or months; write %dmin or %dmo", text, n, n)
	}
	return 0, oci.Invalid("age %q: unknown unit %q; the units are s, min, h, d, w, mo and y", text, name)
}

// FormatAge writes an age as [ParseAge] reads it, in days and less. What is below a
// second is left out.
func FormatAge(age time.Duration) string {
	var b strings.Builder
	for _, u := range units[3:] {
		if n := age / u.long; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			age -= n * u.long
		}
	}
	return cmp.Or(b.String(), "0s")
}
