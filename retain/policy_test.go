package retain

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

var update = flag.Bool("update", false, "write docs/policy.schema.json anew")

const example = `
version: 1
packages: ["acme/app", "acme/tools/*", "!acme/tools/legacy"]
defaults: {grace: 2h, max_delete: 200, max_delete_percent: 30, min_remaining: 3}
protect:
  tags: [latest, "re:^v\\d+$"]
  digests_from: [deploy/**/*.yaml, k8s-images.txt]   # in use
rules:
  - name: releases
    match: {semver: ">=0.0.0", prerelease: false}
    keep: {last: 2, per: minor, order: semver}
    delete: {older_than: 180d}
  - name: pr
    match: {regex: "pr-(?P<n>\\d+)(-.*)?"}
    keep: {within: 14d}
    delete: {when_not_in: open-prs.txt}
  - name: untagged
    match: {untagged: true}
    delete: {older_than: 7d}
`

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func TestParse(t *testing.T) {
	got := mustParse(t, example)
	no := false
	semver, _ := ParseRange(">=0.0.0")
	want := &Policy{
		Packages: []string{"acme/app", "acme/tools/*", "!acme/tools/legacy"},
		Rails:    Rails{Grace: 2 * time.Hour, MaxDelete: 200, MaxDeletePercent: 30, MinRemaining: 3},
		Protect: Protect{
			Tags:      []Pattern{mustPattern(t, "latest"), mustPattern(t, `re:^v\d+$`)},
			InUseFrom: []string{"deploy/**/*.yaml", "k8s-images.txt"},
		},
		Rules: []Rule{
			{
				Name: "releases", Match: Match{Semver: semver, Prerelease: &no}, Keep: &Keep{Last: 2, Per: "minor", Order: BySemver},
				Delete: &When{OlderThan: 180 * day},
			},
			{
				Name: "pr", Match: Match{Tags: []Pattern{mustPattern(t, `re:pr-(?P<n>\d+)(-.*)?`)}}, Keep: &Keep{Within: 14 * day},
				Delete: &When{NotIn: "open-prs.txt", Key: "n"},
			},
			{Name: "untagged", Match: Match{Untagged: true}, Delete: &When{OlderThan: 7 * day}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	lists, inUse := got.Files()
	if fmt.Sprint(lists, inUse) != "[open-prs.txt] [deploy/**/*.yaml k8s-images.txt]" {
		t.Error(lists, inUse)
	}
	for name, covered := range map[string]bool{"acme/app": true, "acme/tools/x": true, "acme/tools/legacy": false, "acme/apps": false, "evil/acme/app": false} {
		if got.Covers(name) != covered {
			t.Errorf("%s: %v", name, !covered)
		}
	}
}

// every has each key that there is.
const every = `
version: 1
packages: acme/app
defaults: {grace: 0h, max_delete: unlimited, max_delete_percent: unlimited, min_remaining: 0, allow_match_all: true}
protect: {tags: [latest], digests: ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"], digests_from: a.yaml}
rules:
  - name: all
    match:
      tags: ["re:v(?P<n>.*)"]
      regex: b(?P<n>.*)
      tags_from: tags.txt
      except: [x, "y*"]
      semver: ">=1"
      prerelease: true
      calver: (?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)
      any_tag: true
      digests: [sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855]
      roles: [image, index]
      health: partial
      media_types: [application/vnd.oci.image.manifest.v1+json]
      artifact_types: application/vnd.cncf.helm.config.v1+json
      annotations: {org.example.a: "x*"}
      labels: {org.example.b: "re:y|z"}
      platforms: [linux/amd64, linux/arm/v7]
      larger_than: 1MB
      smaller_than: 2GiB
      older_than: 1d
      younger_than: 1y
      by: tag-date
    keep: {last: 1, within: 2d, days: 3, weeks: 4, months: 5, years: 6, at_least: 7, whole: true, per: minor, order: semver}
    untag: {older_than: 3d, by: updated, when_not_in: list.txt, expired: expires-after, key: n}
  - {name: keep all, match: {untagged: true}, keep: all}
  - {name: save, match: {untagged: true}, retag: "lost-{id}"}
  - {name: tell, match: {untagged: true}, report: true}
  - {name: go, match: {untagged: true}, delete: all}
tests:
  - name: t
    lists: {list.txt: ["1"], tags.txt: []}
    images:
      - {tags: [a, b], age: 3d, annotations: {expires-after: 2d}, labels: {a: " b "}, want: delete, rule: all}
      - {want: keep}
`

// TestCanonicalFormIsAPolicy: it is read back as the same policy, and is the same for
// policies that mean the same.
func TestCanonicalFormIsAPolicy(t *testing.T) {
	for _, text := range []string{example, every} {
		p := mustParse(t, text)
		again, err := Parse("canonical", p.Canonical())
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Canonical())
		}
		p.Tests = nil
		if !reflect.DeepEqual(p, again) {
			t.Errorf("got  %+v\nwant %+v", again, p)
		}
		if p.Digest() != again.Digest() || p.Digest().Validate() != nil {
			t.Errorf("digests %s and %s", p.Digest(), again.Digest())
		}
	}
	short := mustParse(t, "version: 1\nrules: [{name: a, match: {tags: x}, delete: all}]")
	long := mustParse(t, "# said at length\nversion: 1\ndefaults: {max_delete: 200, grace: 120min}\nrules:\n- delete: all\n  name: a\n  match:\n    tags: ['x']\n")
	if short.Digest() != long.Digest() {
		t.Errorf("%s%s", short.Canonical(), long.Canonical())
	}
	other := mustParse(t, "version: 1\nrules: [{name: a, match: {tags: y}, delete: all}]")
	if short.Digest() == other.Digest() {
		t.Error("two policies have one digest")
	}
}

func TestBareStarIsAgreedTo(t *testing.T) {
	for _, good := range []string{
		"version: 1\nrules: [{name: a, match: {tags: '*'}, keep: {last: 3}}]",
		"version: 1\nprotect: {tags: '*'}\nrules: [{name: a, match: {tags: x}, delete: all}]",
		"version: 1\ndefaults: {allow_match_all: true}\nrules: [{name: a, match: {tags: '*'}, keep: {last: 3}, delete: all}]",
		"version: 1\nrules: [{name: a, match: {tags: '*', semver: '>=1'}, keep: {last: 3}, delete: all}]",
	} {
		mustParse(t, good)
	}
}

func TestJSONIsAPolicy(t *testing.T) {
	p := mustParse(t, `{"version": 1, "rules": [{"name": "a", "match": {"tags": ["x"]}, "delete": "all"}]}`)
	if p.Digest() != mustParse(t, oneRule).Digest() {
		t.Error("it means something else")
	}
}

func TestSchemaIsPublished(t *testing.T) {
	const file = "../docs/policy.schema.json"
	if *update {
		if err := os.WriteFile(file, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != string(Schema()) {
		t.Errorf("%s is not what the reader reads: go test ./retain -run TestSchemaIsPublished -update", file)
	}
}

// TestSchemaAgreesWithTheReader: it takes each good policy, and refuses each bad one
// but those that no schema can tell.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	var schema object
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{example, every, oneRule} {
		mustParse(t, good)
		if err := conforms(schema, fromYAML(t, good)); err != nil {
			t.Errorf("the schema refuses a policy: %v\n%s", err, good)
		}
	}
	for _, tt := range bad {
		if err := conforms(schema, fromYAML(t, tt.text)); (err == nil) != tt.schema && fromYAML(t, tt.text) != nil {
			t.Errorf("the schema says %v to\n%s", err, tt.text)
		}
	}
}

// fromYAML returns a document as JSON has it, or nil if it is none.
func fromYAML(t *testing.T, text string) any {
	var v any
	if yaml.Unmarshal([]byte(text), &v) != nil {
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return map[string]any{"not": "JSON"}
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(every)
	for _, tt := range bad {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.yaml", []byte(text))
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) || err.Error() == "" {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse("canonical", p.Canonical())
		if err != nil {
			t.Fatalf("%v\n%s", err, p.Canonical())
		}
		if p.Digest() != again.Digest() {
			t.Fatalf("%s%s", p.Canonical(), again.Canonical())
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		Lint(p, nil)
	})
}
