package retain

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Canonical returns the policy as JSON that [Parse] reads back, the same for all that
// mean the same however they were written: with sorted keys and all rails, and without
// tests and comments.
func (p *Policy) Canonical() []byte {
	bare := *p
	bare.Tests = nil
	return encode(write(fileKeys(), &bare), "")
}

// fileKeys makes the table of keys once: every plan has the digest of its policy.
var fileKeys = sync.OnceValue(policyKeys)

// Digest returns that of the canonical form, which tells a plan's policy from others.
func (p *Policy) Digest() oci.Digest {
	return bytesDigest(p.Canonical())
}

func encode(v any, indent string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		panic(err) // there are only texts, numbers, lists and maps
	}
	return b.Bytes()
}

// Files returns the names of files in the policy, sorted and each once. The lines of
// lists become [Facts.Lists]; inUse are globs of files that are searched by [InUse].
func (p *Policy) Files() (lists, inUse []string) {
	add := func(name string) {
		if name != "" {
			lists = append(lists, name)
		}
	}
	for _, r := range p.Rules {
		add(r.Match.TagsFrom)
		for _, w := range []*When{r.Delete, r.Untag} {
			if w != nil {
				add(w.NotIn)
			}
		}
	}
	slices.Sort(lists)
	inUse = slices.Sorted(slices.Values(p.Protect.InUseFrom))
	return slices.Compact(lists), slices.Compact(inUse)
}

// ParseLines returns the lines of a list: without surrounding whitespace, empty ones,
// those that begin with "#", and the mark with which some editors begin a file. [Make]
// refuses lines that are no text, as those of UTF-16 are.
func ParseLines(data []byte) []string {
	lines := []string{}
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// Covers tells whether the policy is for the package OWNER/PACKAGE, in lower case: it
// is if the policy names none, or a pattern matches and none with "!" does. A "*"
// matches "/" too.
func (p *Policy) Covers(name string) bool {
	named, covered := false, false
	for _, pattern := range p.Packages {
		text, out := strings.CutPrefix(pattern, "!")
		glob, err := ParsePattern(text)
		matches := err == nil && glob.Match(name)
		if out && matches {
			return false
		}
		named = named || !out
		covered = covered || matches
	}
	return covered || !named
}
