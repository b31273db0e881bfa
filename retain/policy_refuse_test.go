package retain

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"

	"github.com/llm-dev-ops/ghcr/oci"
)

const oneRule = "version: 1\nrules:\n  - {name: a, match: {tags: x}, delete: all}\n"

// bad are policies that are refused, and what is said of them.
var bad = []struct {
	text   string
	say    string // the whole error, or a part of it
	schema bool   // the JSON schema can't know better
}{
	{"", "p.yaml:1:1: the file is empty", false},
	{"# nothing\n", "p.yaml:1:1: the file is empty", false},
	{"a", `p.yaml:1:1: the policy is the text "a"; want a mapping`, false},
	{"{}", "version is missing", false},
	{"rules: [{name: a, match: {tags: x}, delete: all}]", "p.yaml:1:1: version is missing", false},
	{"version: 2\nnonsense: true", "p.yaml:1:10: version is the number 2; this program reads version 1", false},
	{"version: '1'\nrules: [{name: a, match: {tags: x}, delete: all}]", "version is the text \"1\"; want the number 1", false},
	{"version: 1", "rules is missing", false},
	{"version: 1\nrules: []", "p.yaml:2:8: rules is a list; want a list of mappings", false},
	{oneRule + "rule: x", `p.yaml:4:1: unknown key "rule"; did you mean rules?`, false},
	{oneRule + "\nzzzzzzzzzz: x", `unknown key "zzzzzzzzzz"; there are version, packages, defaults, protect, rules, tests`, false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {older-than: 3d}}]", `p.yaml:2:46: unknown key "older-than"; did you mean older_than?`, false},
	{oneRule + "version: 1", "p.yaml:4:1: the key version is there twice; the first is in line 1", true},
	{"version: 1\nrules: [{name: a, name: b, match: {tags: x}, delete: all}]", "the key name is there twice", true},
	{oneRule + "1: x", "the key is the number 1; want a text", false},
	{oneRule + "packages: [acme/app, '']", "p.yaml:4:22: packages[1] is empty; want a package", false},
	{oneRule + "packages: [acme/app, ]\nprotect: {tags: [dev, ' latest']}", `p.yaml:5:23: tags[1]: whitespace around " latest"`, false},
	{oneRule + "protect: {tags: [dev, , latest]}", "p.yaml:4:", true},
	{oneRule + "protect: {tags: []}", "empty list; leave the key out", false},
	{oneRule + "protect: {}", "empty mapping", false},
	{oneRule + "protect:", "protect is empty; want a mapping", false},
	{oneRule + "protect: {tags: [1.0]}", `tags[0] is the number 1.0; want a tag, a glob or re: with a regular expression: write it in quotes`, false},
	{oneRule + "protect: {tags: [2024-01-01]}", `write it in quotes`, true},
	{oneRule + "protect: {tags: [true]}", `write it in quotes`, false},
	{oneRule + "protect: {tags: {a: b}}", `tags is a mapping`, false},
	{oneRule + "protect: {tags: [[a]]}", `tags[0] is a list`, false},
	{oneRule + "protect: {digests: [latest]}", `malformed digest "latest"`, false},
	{oneRule + "packages: [Acme/App]", `is no package; write OWNER/PACKAGE in lower case`, false},
	{oneRule + "packages: [acme]", `is no package`, false},
	{oneRule + "defaults: {grace: 2}", "grace is the number 2; want an age, such as 2h: write it in quotes", false},
	{oneRule + "defaults: {grace: 2m}", "m may be minutes or months", false},
	{oneRule + "defaults: {max_delete: -1}", "-1 is no whole number", false},
	{oneRule + "defaults: {max_delete: 1_0}", "1_0 is no whole number", true},
	{oneRule + "defaults: {max_delete: 0x10}", "0x10 is no whole number", true},
	{oneRule + "defaults: {max_delete: \"200\"}", "max_delete is the text \"200\"", false},
	{oneRule + "defaults: {max_delete: lots}", "want a number from 0, or unlimited", false},
	{oneRule + "defaults: {max_delete_percent: 101}", "101 is more than 100 percent", false},
	{oneRule + "defaults: {max_delete: 1.5}", "max_delete is the number 1.5", false},
	{oneRule + "defaults: {allow_match_all: yes please}", "want true or false", false},
	{"version: 1\nrules: [{match: {tags: x}, delete: all}]", "p.yaml:2:9: name is missing", false},
	{"version: 1\nrules: [{name: '', match: {tags: x}, delete: all}]", "name is empty", false},
	{"version: 1\nrules: [{name: a, delete: all}]", "match is missing", false},
	{"version: 1\nrules: [{name: a, match: {}, delete: all}]", "p.yaml:2:26: empty mapping", false},
	{"version: 1\nrules: [{name: a, match: , delete: all}]", "match is empty; want a mapping", false},
	{"version: 1\nrules: [{name: a, match: {except: x}, delete: all}]", "except takes tags from a match of tags", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}}]", "says what it matches, and not what becomes of it", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {}}]", `delete is a mapping; write "all", or a mapping that says which`, false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: }]", `delete is empty; write "all"`, false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: true}]", `delete is the boolean true; write "all"`, false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: {last: 0}, delete: all}]", "p.yaml:2:50: last: 0 keeps nothing; leave the key out", false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: {per: minor}, delete: all}]", "keep does not say how many", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: all, delete: all}]", "keeps all, so there is nothing left", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, report: true, delete: all}]", "more than one of delete or untag, retag, and report", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, report: false}]", "want true, or leave the key out", false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {older_than: 0d}}]", "0d is no age", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {by: updated}}]", "by says what older_than goes by", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {older_than: 3d, by: semver}}]", `unknown "semver"; want one of created, updated, tag-date`, false},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {older_than: 3d, by: tag-date}}]", `read by match: {calver: ...}`, true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: {last: 2, per: minor}, delete: all}]", "per: minor needs match: {semver: ...}", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: {last: 2, order: semver}, delete: all}]", "order: semver needs", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, keep: {last: 2, per: team}, delete: all}]", `the pattern "x" has no group (?P<team>...)`, true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {key: n}}]", "key is looked up in the file of when_not_in", true},
	{"version: 1\nrules: [{name: a, match: {regex: '(?P<a>.)(?P<b>.)'}, delete: {when_not_in: f}}]", "one of the groups a, b? Say key: GROUP", true},
	{"version: 1\nrules: [{name: a, match: {untagged: true}, delete: {when_not_in: f}}]", "looks up tags", true},
	{"version: 1\nrules: [{name: a, match: {tags: x, tags_from: '*.txt'}, delete: all}]", "is a glob; want one file", true},
	{"version: 1\nrules: [{name: a, match: {tags: x, untagged: true}, delete: all}]", "what has no tag can't match tags", true},
	{"version: 1\nrules: [{name: a, match: {untagged: true}, untag: all}]", "untag needs a match of tags", true},
	{"version: 1\nrules: [{name: a, match: {untagged: true}, retag: keep}]", "gives all the same tag", true},
	{"version: 1\nrules: [{name: a, match: {untagged: true}, retag: 'sha256-{digest}'}]", "signatures", true},
	{"version: 1\nrules: [{name: a, match: {untagged: true}, retag: 'a b{id}'}]", "makes no tag", true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, retag: 'x{id}'}]", "retag is for what would be lost", true},
	{"version: 1\nrules: [{name: a, match: {tags: x, prerelease: true}, delete: all}]", "prerelease needs semver", true},
	{"version: 1\nrules: [{name: a, match: {semver: latest}, delete: all}]", "range of versions", true},
	{"version: 1\nrules: [{name: a, match: {calver: '(?P<year>.*)'}, delete: all}]", "no group (?P<month>...)", true},
	{"version: 1\nrules: [{name: a, match: {older_than: 3d, younger_than: 2d}, delete: all}]", "nothing is older than 3d and younger than 2d", true},
	{"version: 1\nrules: [{name: a, match: {larger_than: 3MB, smaller_than: 2MB}, delete: all}]", "nothing is larger", true},
	{"version: 1\nrules: [{name: a, match: {larger_than: 3 MB}, delete: all}]", "is no size", false},
	{"version: 1\nrules: [{name: a, match: {roles: unknown}, delete: all}]", `unknown "unknown"; want one of image, index`, false},
	{"version: 1\nrules: [{name: a, match: {health: unreadable}, delete: all}]", `can't be read is always kept`, true},
	{"version: 1\nrules: [{name: a, match: {platforms: amd64}, delete: all}]", `malformed platform "amd64"`, false},
	{"version: 1\nrules: [{name: a, match: {untagged: false}, delete: all}]", `want true, or leave the key out`, false},
	{"version: 1\nrules: [{name: a, match: {tags: '*'}, delete: all}]", "p.yaml:2:33: rule a deletes or untags, and matches every tag", true},
	{"version: 1\nrules: [{name: a, match: {tags: ['?*', x]}, untag: all}]", "matches every tag", true},
	{"version: 1\nrules: [{name: a, match: {tags: ['re:[a-z].*', 're:[^a-z].*']}, delete: {older_than: 3d}}]", "matches every tag", true},
	{"version: 1\nrules:\n- {name: a, match: {tags: x}, delete: all}\n- {name: a, match: {tags: y}, delete: all}", `p.yaml:4:10: the name "a" is there twice`, true},
	{oneRule + "tests: [{name: t, images: [{tags: x, want: gone}]}]", `unknown "gone"; want one of keep, delete, untag, retag`, false},
	{oneRule + "tests: [{name: t, images: [{tags: x, want: keep, rule: b}]}]", `there is no rule "b"`, true},
	{oneRule + "tests: [{name: t, images: [{tags: x, want: keep}, {tags: x, want: keep}]}]", `the tag x is on two images`, true},
	{"version: 1\nrules: [{name: a, match: {tags: x}, delete: {when_not_in: f}}]\ntests: [{name: t, images: [{tags: x, want: keep}]}]", `lists does not say what is in "f"`, true},
	{"version: 1\nrules: [{name: a, match: {older_than: 3d}, delete: all}]", "matches every tag", true},
	{oneRule + "tests: [{name: t, lists: {f: []}, images: [{tags: x, want: keep}]}]", `the policy names no file "f"`, true},
	{oneRule + "---\n" + oneRule, "a second document", true},
	{oneRule + "protect: &a {tags: [x]}", "anchor &a", true},
	{oneRule + "protect: {tags: !!str x}", "tag !!str", true},
	{oneRule + "<<: {packages: [acme/app]}", `the key is "<<"; want a text`, true},
	{oneRule + "protect: [", "not YAML", true},
	{oneRule + "\tx: y", "not YAML", true},
	{"version: 1\nrules: \xff", "not UTF-8", true},
	{oneRule + "protect: " + strings.Repeat("[", 20) + strings.Repeat("]", 20), "nested too deeply", false},
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range bad {
		_, err := Parse("p.yaml", []byte(tt.text))
		var problems *PolicyError
		if !errors.Is(err, oci.ErrInvalid) || !errors.As(err, &problems) {
			t.Errorf("%v for\n%s", err, tt.text)
			continue
		}
		if !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%v; want %s, for\n%s", err, tt.say, tt.text)
		}
		for _, p := range problems.Problems {
			if p.Line < 1 || p.Column < 1 {
				t.Errorf("%+v has no place", p)
			}
		}
	}
}

// TestParseEscapesWhatItQuotes: a policy of somebody else's does not control the terminal.
func TestParseEscapesWhatItQuotes(t *testing.T) {
	for _, text := range []string{
		oneRule + "\"a\\e[2J\": 1\n\"a\\e[2J\": 2\n",
		"version: 1\nrules: [{name: a, match: {annotations: {\"a\\e[2J\": \"\"}}, delete: all}]\n",
		"version: !%1b[2J 1\n",
		"version: \"\\x9b2J\"\n",
	} {
		_, err := Parse("p.yaml", []byte(text))
		if err == nil || strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\n", ""), unicode.IsControl) {
			t.Errorf("%q", err)
		}
	}
}

func TestParseReportsAllProblems(t *testing.T) {
	_, err := Parse("p.yaml", []byte(`version: 1
defaults: {grase: 2h}
rules:
  - name: a
    match: {tags: [x, " y"], tags: z}
    delete: {older_than: 6m}
  - match: {semver: nope}
    keep: {last: 0}
`))
	const want = `p.yaml:2:12: unknown key "grase"; did you mean grace?
p.yaml:5:23: tags[1]: whitespace around " y"
p.yaml:5:30: the key tags is there twice; the first is in line 5
p.yaml:6:26: older_than: age "6m": m may be minutes or months; write 6min or 6mo
p.yaml:7:5: name is missing
p.yaml:7:21: semver: range of versions "nope": improper constraint: "nope"; write for example >=1.0.0 <2
p.yaml:8:18: last: 0 keeps nothing; leave the key out`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "k%d: x\n", i)
	}
	_, err = Parse("p.yaml", []byte(many.String()))
	if n := len(strings.Split(err.Error(), "\n")); n != maxProblems {
		t.Errorf("%d problems", n)
	}
}

// TestParseA22 is A22: bombs and giants are refused in bounded time and memory.
func TestParseA22(t *testing.T) {
	bomb := "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'z'; i++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", i, i, strings.Repeat(fmt.Sprintf("*%c,", i-1), 8), i-1)
	}
	for name, text := range map[string]string{
		"anchors":     bomb,
		"self":        "version: 1\nrules: &a [*a]\n",
		"1 MB":        oneRule + strings.Repeat("# x\n", 1<<18),
		"deep":        strings.Repeat("[", 200_000),
		"deep blocks": strings.Repeat("- ", 100_000),
		"keys":        oneRule + strings.Repeat("{", 60_000),
		"many keys":   strings.Repeat("? a\n", 60_000),
		"expression":  "version: 1\nrules: [{name: a, match: {regex: '((a{100}){100}){100}'}, delete: all}]",
		"expressions": "version: 1\nrules: [{name: a, match: {regex: [" + strings.Repeat(`"(a{19}){1000}", `, 10_000) + "]}, delete: all}]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse("p.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		// What takes time takes memory too, and that can be counted.
		if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 100 {
			t.Errorf("%s took %d MiB", name, n)
		}
	}
}
