package retain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestQuickIsThePolicyOfAFile: flags and the file that says the same are one policy.
func TestQuickIsThePolicyOfAFile(t *testing.T) {
	for _, tt := range []struct {
		quick Quick
		file  string
	}{
		{
			Quick{KeepLast: 5, OlderThan: 30 * day},
			"defaults: {allow_match_all: true}\nrules: [{name: tags, match: {tags: '*'}, keep: {last: 5}, delete: {older_than: 30d}}]",
		},
		{Quick{Untagged: true}, "defaults: {allow_match_all: true}\nrules: [{name: untagged, match: {untagged: true}, delete: all}]"},
		{
			Quick{Untagged: true, OlderThan: 7 * day}, // tagged images are not touched
			"defaults: {allow_match_all: true}\nrules: [{name: untagged, match: {untagged: true}, delete: {older_than: 7d}}]",
		},
		{
			Quick{Tags: []string{"pr-*, dev", `re:\d{1,3}`}, Except: []string{"pr-1"}, Keep: []string{"latest,v*"}, Untagged: true, Orphans: true, Broken: true},
			`
protect: {tags: [latest, v*]}
rules:
- {name: tags, match: {tags: [pr-*, dev, 're:\d{1,3}'], except: pr-1}, delete: all}
- {name: orphans, match: {health: orphan}, delete: all}
- {name: broken, match: {health: [ghost, partial]}, delete: all}
- {name: untagged, match: {untagged: true}, delete: all}`,
		},
		{
			Quick{KeepVersions: 2, Per: "minor", KeepWithin: 14 * day},
			"defaults: {allow_match_all: true}\nrules: [{name: versions, match: {semver: '>=0.0.0-0'}, keep: {last: 2, within: 14d, per: minor, order: semver}, delete: all}]",
		},
		{
			Quick{Tags: []string{"*"}, MeanAll: true},
			"defaults: {allow_match_all: true}\nrules: [{name: tags, match: {tags: '*'}, delete: all}]",
		},
	} {
		p, err := tt.quick.Policy()
		if err != nil {
			t.Errorf("%+v: %v", tt.quick, err)
			continue
		}
		if want := mustParse(t, "version: 1\n"+tt.file); p.Digest() != want.Digest() {
			t.Errorf("%+v:\n%s%s", tt.quick, p.Canonical(), want.Canonical())
		}
	}
}

func TestQuickRefuses(t *testing.T) {
	for _, tt := range []struct {
		quick Quick
		say   string
	}{
		{Quick{}, "nothing is asked for"},
		{Quick{Keep: []string{"v*"}}, "nothing is asked for"},
		{Quick{Tags: []string{"a,,b"}}, "empty item"},
		{Quick{Tags: []string{""}}, "empty item"},
		{Quick{Except: []string{"dev, "}, KeepLast: 1}, "empty item"},
		{Quick{Keep: []string{","}, KeepLast: 1}, "empty item"},
		{Quick{Tags: []string{"a,re:b"}}, "on its own"},
		{Quick{Tags: []string{"re:("}}, "missing closing"},
		{Quick{Tags: []string{"*"}}, "matches every tag"},
		{Quick{Tags: []string{"*"}, KeepLast: 3}, "matches every tag"},
		{Quick{Untagged: true, Except: []string{"x"}}, "no tags may go"},
		{Quick{KeepLast: -1}, "below zero"},
		{Quick{OlderThan: -time.Second}, "below zero"},
		{Quick{KeepLast: 1, KeepVersions: 1}, "two rules"},
		{Quick{KeepLast: 1, Per: "minor"}, "groups versions"},
		{Quick{KeepVersions: 1, Per: "team"}, "no regex"},
	} {
		if _, err := tt.quick.Policy(); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%+v: %v; want %s", tt.quick, err, tt.say)
		}
	}
}

// TestSplitListD is D of the failures of other tools: "dev, latest" with a space
// excluded nothing, and latest was deleted.
func TestSplitListD(t *testing.T) {
	got, err := splitList("dev, latest ,\tv1")
	if err != nil || !slices.Equal(got, []string{"dev", "latest", "v1"}) {
		t.Errorf("%q, %v", got, err)
	}
	q, err := Quick{KeepLast: 1, Except: []string{"dev, latest"}}.Policy()
	if err != nil || !slices.ContainsFunc(q.Rules[0].Match.Except, func(p Pattern) bool { return p.Match("latest") }) {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestStarE is E of the failures of other tools: "*" matched the digests of untagged
// versions.
func TestStarE(t *testing.T) {
	p, err := Quick{Tags: []string{"*"}, MeanAll: true}.Policy()
	if err != nil || !p.Rules[0].Match.byTag() || p.Rules[0].Match.Untagged {
		t.Errorf("%+v, %v", p, err)
	}
}
