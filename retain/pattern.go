package retain

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Pattern matches a whole tag: literally, by "*" (any characters) and "?" (one), or
// with "re:" before it by a regular expression, which takes time that is linear in its
// input. It never matches digests. Make one with [ParsePattern]; the zero value matches
// nothing.
type Pattern struct {
	Text string         // as the policy has it
	expr *regexp.Regexp // nil for a literal
}

// regexPrefix begins a pattern that is a regular expression.
const regexPrefix = "re:"

// Limits of patterns. A tag has at most 128 characters, so nobody needs more; what
// "{1000}" makes of a short text is bounded apart.
const (
	maxPatternLength = 1000
	maxPatternSize   = 20_000 // instructions of the compiled expression
)

// expression is a regular expression of this package's own. It is compiled when it is
// first needed, which most commands never do.
func expression(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

// ParsePattern reads a pattern. A regular expression is of the syntax of Go's regexp
// package and is always anchored: it must match the whole tag.
//
// Errors: [oci.ErrInvalid], for what is empty, longer than 1000 bytes, has whitespace
// around it or control characters within, or is no regular expression.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{Text: text}
	switch {
	case text == "":
		return Pattern{}, oci.Invalid("empty pattern")
	case len(text) > maxPatternLength:
		return Pattern{}, oci.Invalid("pattern of %d bytes; %d is the limit", len(text), maxPatternLength)
	case !utf8.ValidString(text):
		return Pattern{}, oci.Invalid("pattern %q is not UTF-8", text)
	case strings.TrimSpace(text) != text:
		return Pattern{}, oci.Invalid("whitespace around the pattern %q", text)
	case strings.ContainsFunc(text, unicode.IsControl):
		return Pattern{}, oci.Invalid("control character in the pattern %q", text)
	}
	expr, isRegex := strings.CutPrefix(text, regexPrefix)
	switch {
	case isRegex:
		if expr == "" || strings.TrimSpace(expr) != expr {
			return Pattern{}, oci.Invalid("pattern %q: empty regular expression, or whitespace around it", text)
		}
		// Alone first: "a)|(b" is an expression only once it is put in brackets.
		tree, err := syntax.Parse(expr, syntax.Perl)
		if err != nil {
			return Pattern{}, oci.Invalid("pattern %q: %v", text, err)
		}
		prog, err := syntax.Compile(tree.Simplify())
		if err != nil {
			return Pattern{}, oci.Invalid("pattern %q: %v", text, err)
		}
		if len(prog.Inst) > maxPatternSize {
			return Pattern{}, oci.Invalid("pattern %q repeats too much: it is %d steps long; %d is the limit", text, len(prog.Inst), maxPatternSize)
		}
	case strings.ContainsAny(text, "*?"):
		expr = globExpr(text)
	default:
		return p, nil
	}
	var err error
	if p.expr, err = regexp.Compile(`\A(?:` + expr + `)\z`); err != nil {
		return Pattern{}, oci.Invalid("pattern %q: %v", text, err)
	}
	return p, nil
}

// globExpr is the regular expression of a glob. A run of stars is one star.
func globExpr(glob string) string {
	var b strings.Builder
	star := false
	for _, r := range glob {
		switch {
		case r != '*':
			star = false
			if r == '?' {
				b.WriteString("(?s:.)")
			} else {
				b.WriteString(regexp.QuoteMeta(string(r)))
			}
		case !star:
			star = true
			b.WriteString("(?s:.*)")
		}
	}
	return b.String()
}

// Match tells whether the pattern matches the whole of the tag.
func (p Pattern) Match(tag string) bool {
	if p.expr == nil {
		return p.Text != "" && p.Text == tag
	}
	return p.expr.MatchString(tag)
}

// groups returns what the named groups of a regular expression matched, or nil if the
// tag does not match. A group that took no part is not in it.
func (p Pattern) groups(tag string) map[string]string {
	if p.expr == nil {
		if p.Match(tag) {
			return map[string]string{}
		}
		return nil
	}
	at := p.expr.FindStringSubmatchIndex(tag)
	if at == nil {
		return nil
	}
	groups := map[string]string{}
	for i, name := range p.expr.SubexpNames() {
		if name != "" && at[2*i] >= 0 {
			groups[name] = tag[at[2*i]:at[2*i+1]]
		}
	}
	return groups
}

// hasGroup tells whether the pattern is a regular expression with a group of that name.
func (p Pattern) hasGroup(name string) bool {
	return p.expr != nil && name != "" && p.expr.SubexpIndex(name) >= 0
}

// matchesAll tells whether the pattern matches whatever tag there may be, as "*", "?*"
// and "re:.+" do.
func (p Pattern) matchesAll() bool { return matchAll([]Pattern{p}) }

// matchAll tells whether the patterns together match every tag. It goes by tags that
// have nothing in common.
func matchAll(patterns []Pattern) bool {
	for _, tag := range []string{"a", "Z", "0", "_", "latest", "1.2.3", "v1.2.3-rc.1", "pr-7", "sha-0a1b2c3", "__--..", strings.Repeat("q", 128)} {
		if !slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(tag) }) {
			return false
		}
	}
	return true
}
