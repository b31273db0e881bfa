package retain

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func mustPattern(t testing.TB, text string) Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatternMatchesTheWholeTag(t *testing.T) {
	for _, tt := range []struct {
		pattern, yes, no string // tags, separated by spaces
	}{
		{"latest", "latest", "latest2 Latest xlatest"},
		{"v1.2", "v1.2", "v1x2"},
		{"v*", "v v1 v1.2-rc.1", "xv V1"},
		{"*-rc*", "1-rc -rc 1-rc.2", "rc"},
		{"v?", "v1", "v v12"},
		{"**", "a 1-2_3.4", ""},
		{"v1.*", "v1.0 v1.", "v10"},
		{"[ab]*", "[ab] [ab]1", "a b1"}, // brackets are no wildcards, and no tag has them
		{"re:pr-\\d+", "pr-7", "xpr-7 pr-7x pr-"},
		{"re:a|b", "a b", "ab ac cb"},
		{"re:^v\\d+$", "v1 v22", "v1.2"},
		{"re:(?i)V1", "v1 V1", "v11"},
		{"re:(?m)^a$", "a", "ab"},
		{"sha256-*", "sha256-0a", "sha256"},
		{"!v1", "!v1", "v1 v2"}, // not in a pattern: a policy has except
	} {
		p := mustPattern(t, tt.pattern)
		for _, tag := range strings.Fields(tt.yes) {
			if !p.Match(tag) {
				t.Errorf("%s does not match %s", tt.pattern, tag)
			}
		}
		for _, tag := range strings.Fields(tt.no) {
			if p.Match(tag) {
				t.Errorf("%s matches %s", tt.pattern, tag)
			}
		}
	}
	if (Pattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
}

// TestPatternA22 is A22: crafted expressions cost a bounded time and memory, and are
// refused where they can't.
func TestPatternA22(t *testing.T) {
	for _, bad := range []string{
		"", " v1", "v1 ", "\tv1", "v\x001", "v\n1", "\xff", "re:", "re: a", "re:(", "re:a)|(b", "re:a{1001}", "re:(?=a)", "re:\\1",
		"re:" + strings.Repeat("a", 998), strings.Repeat("a", 1001),
		"re:" + strings.Repeat("a{1000}", 100), "re:((a{100}){100}){100}",
	} {
		if _, err := ParsePattern(bad); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	// What takes exponential time elsewhere would not end here.
	for _, slow := range []string{"re:(a+)+", "re:(a|a)*", "re:(a*)*b", "re:(.*a){20}", strings.Repeat("*a", 400)} {
		mustPattern(t, slow).Match(strings.Repeat("a", 127) + "!")
	}
}

// TestPatternA24 is A24: a tag is data, whatever is in it.
func TestPatternA24(t *testing.T) {
	p := mustPattern(t, "v1*")
	for _, tag := range []string{"v1*", "v1\x1b[2J", "v1\nv2", "v1?"} {
		if !p.Match(tag) {
			t.Errorf("%q is not matched", tag)
		}
	}
	if mustPattern(t, "v1").Match("v*") || mustPattern(t, "v1").Match("re:v1") {
		t.Error("a tag was taken for a pattern")
	}
}

func TestPatternGroups(t *testing.T) {
	p := mustPattern(t, `re:pr-(?P<n>\d+)(-(?P<arch>.*))?`)
	if g := p.groups("pr-12"); len(g) != 1 || g["n"] != "12" {
		t.Errorf("%v", g)
	}
	if g := p.groups("pr-12-arm64"); g["n"] != "12" || g["arch"] != "arm64" {
		t.Errorf("%v", g)
	}
	if g := p.groups("main"); g != nil {
		t.Errorf("%v", g)
	}
	if !p.hasGroup("n") || p.hasGroup("") || p.hasGroup("x") || mustPattern(t, "n").hasGroup("n") {
		t.Error("hasGroup")
	}
	if g := mustPattern(t, "v*").groups("v1"); g == nil || len(g) != 0 {
		t.Errorf("%v", g)
	}
}

func TestPatternMatchesAll(t *testing.T) {
	for text, want := range map[string]bool{
		"*": true, "**": true, "?*": true, "re:.*": true, "re:.+": true, `re:[\s\S]*`: true, "re:": false, `re:(|.)*`: true, `re:[^/]+`: true,
		"v*": false, "*.*": false, "??*": false, "re:v.*": false, "latest": false, `re:[a-z].*`: false,
	} {
		if p, err := ParsePattern(text); err == nil && p.matchesAll() != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2h": 2 * time.Hour, "7d": 7 * day, "3w": 21 * day, "6mo": 180 * day, "1y": 365 * day, "90min": 90 * time.Minute, "5s": 5 * time.Second,
		"1d12h": 36 * time.Hour, "0d": 0, "0h": 0, "100y": maxAge,
	} {
		if got, err := ParseAge(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, say := range map[string]string{
		"": "empty", "7": "no unit", "6m": "minutes or months", "-7d": "whole number", "1.5d": "unknown unit|no unit", "d": "whole number", "7 d": "no unit", "7D": "no unit",
		"7days": "unknown unit", "101y": "limit", "99999999999d": "too large", "60y60y": "limit", "7d ": "whole number", "٣d": "whole number",
	} {
		_, err := ParseAge(text)
		if !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		ok := false
		for s := range strings.SplitSeq(say, "|") {
			ok = ok || strings.Contains(err.Error(), s)
		}
		if !ok {
			t.Errorf("%q: %v, want %s", text, err, say)
		}
	}
	for _, text := range []string{"0s", "2h", "7d", "180d", "1d12h", "1h30min5s"} {
		if d, err := ParseAge(text); err != nil || FormatAge(d) != text {
			t.Errorf("%s is written as %s (%v)", text, FormatAge(d), err)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	f.Add("v*", "v1")
	f.Add(`re:(?P<a>\d+)|b`, "12")
	f.Add("re:a)|(b", "a")
	f.Fuzz(func(t *testing.T, text, tag string) {
		p, err := ParsePattern(text)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if p.Match(tag) != (p.groups(tag) != nil) {
			t.Fatalf("%q on %q: Match and Groups disagree", text, tag)
		}
		if !strings.ContainsAny(text, "*?") && !strings.HasPrefix(text, "re:") && p.Match(tag) != (text == tag) {
			t.Fatalf("%q is a literal", text)
		}
	})
}

func FuzzParseAge(f *testing.F) {
	f.Add("1d12h")
	f.Add("6m")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseAge(text)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseAge(FormatAge(d)); err != nil || again != d || d < 0 {
			t.Fatalf("%q: %v, then %s: %v, %v", text, d, FormatAge(d), again, err)
		}
	})
}
