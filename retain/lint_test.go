package retain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	tags := []string{"v1.0.0", "v1.1.0", "v2.0.0-rc.1", "pr-1", "pr-2", "dev"}
	for _, tt := range []struct {
		name, rules string
		want        []string
	}{
		{"clean", `
- {name: releases, match: {semver: ">=0.0.0", prerelease: false}, keep: {last: 1}, delete: {older_than: 30d}}
- {name: pr, match: {tags: "pr-*"}, delete: {older_than: 7d}}`, nil},
		{"pattern matches nothing", `
- {name: a, match: {tags: [pr-*, "nightly-*"]}, delete: all}`, []string{"a: tags: nightly-* matches none of 6 tags (no-match)"}},
		{"pattern matches everything that there is", `
- {name: a, match: {regex: "[a-z].*"}, delete: all}`, []string{"a: tags: re:[a-z].* matches all 6 tags (all-match)"}},
		{"unreachable", `
- {name: a, match: {tags: pr-*}, delete: {older_than: 30d}}
- {name: b, match: {tags: pr-1}, delete: all}`, []string{"b: rules before it claim all 1 versions that it matches (unreachable)"}},
		{"unreachable behind everything", `
- {name: a, match: {tags: "*"}, keep: {last: 1}, delete: all}
- {name: b, match: {tags: dev}, delete: all}`, []string{
			"a: tags: * matches all 6 tags (all-match)", "b: rule a before it claims every tag (unreachable)",
			"b: rules before it claim all 1 versions that it matches (unreachable)",
		}},
		{"overlap", `
- {name: a, match: {tags: pr-1}, delete: all}
- {name: b, match: {tags: pr-*}, delete: all}`, []string{"b: rule a before it claims 1 of the 2 versions that it matches (overlap)"}},
		{"keeps more than there are", `
- {name: a, match: {tags: pr-*}, keep: {last: 2}, delete: all}`, []string{"a: it keeps 2, and matches only 2 versions (never-acts)"}},
		{"never", `
- {name: a, match: {tags: pr-*, younger_than: 7d}, delete: {older_than: 7d}}`, []string{"a: it matches what is younger than 7d, and acts on what is older than 7d (never-acts)"}},
		{"no effect", `
- {name: a, match: {tags: pr-*}, keep: {within: 30d}, delete: {older_than: 7d}}
- {name: b, match: {untagged: true}, delete: {older_than: 1h}}
- {name: c, match: {tags: [v1.*, v1.0.0], older_than: 9d}, delete: {older_than: 7d}}`, []string{
			"a: what is younger than 30d is kept, so that older_than 7d leaves nothing out (no-effect)",
			"b: older_than 1h is within the grace of 2h (no-effect)",
			"c: all that it matches is older than 7d anyway (no-effect)",
			"c: v1.* matches all that v1.0.0 does (no-effect)",
		}},
		{"pre-releases", `
- {name: a, match: {semver: ">=2"}, delete: all}`, []string{
			"a: semver matches pre-releases too; say prerelease: false or true, or have a rule for each (ambiguous)",
			"a: it matches none of 6 tagged versions whole (no-match)",
		}},
		{"protected", `
- {name: a, match: {tags: latest}, delete: all}`, []string{
			"protect.tags: latest matches none of 6 tags (no-match)",
			"a: all that it matches is protected (never-acts)", "a: tags: latest matches none of 6 tags (no-match)",
		}},
		{"excepted", `
- {name: a, match: {tags: pr-1, except: pr-*}, delete: all}`, []string{
			"a: except pr-* takes away all that pr-1 matches (never-acts)", "a: it matches none of 6 tagged versions whole (no-match)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			head := "version: 1\ndefaults: {allow_match_all: true}\n"
			if tt.name == "protected" {
				head += "protect: {tags: latest}\n"
			}
			p := newPkg(t)
			for _, tag := range tags {
				p.image(tag, tag)
			}
			p.sig(p.image("untagged")) // counts as no tag
			var got []string
			for _, f := range Lint(mustParse(t, head+"rules:"+tt.rules), &p.inv) {
				got = append(got, f.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestLintOfTheRails(t *testing.T) {
	p := mustParse(t, "version: 1\ndefaults: {max_delete: 0}\nrules: [{name: a, match: {tags: x}, delete: all}]")
	if got := fmt.Sprint(Lint(p, nil)); got != "[max_delete is 0, so that no plan may delete anything (never-acts)]" {
		t.Error(got)
	}
	if got := Lint(mustParse(t, example), nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
