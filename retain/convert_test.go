package retain

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

// convertedOn is a package as it comes of years of work. Names are those of the first
// tag, or what is said here; the numbers are ages in days.
func convertedOn(t testing.TB) (*Inventory, map[int64]string) {
	p := newPkg(t)
	names := map[int64]string{}
	aged := func(days int, name string, v *Version) *Version {
		made := today.AddDate(0, 0, -days)
		at := &p.inv.Versions[v.ID-1]
		at.Created, at.Updated = made, made
		names[v.ID] = name
		return v
	}
	for _, i := range []struct {
		days int
		tags string
	}{
		{400, "v1.0.0"}, {300, "v1.1.0"}, {200, "v2.0.0-rc.1"}, {100, "v2.0.0 latest"}, {90, "pr-1"}, {80, "pr-4 keepme"}, {20, "pr-2"}, {2, "pr-3"},
		{50, "dev"}, {40, "nightly-1"}, {30, "nightly-2"}, {1, "nightly-3"},
	} {
		tags := strings.Fields(i.tags)
		aged(i.days, tags[0], p.image(i.tags, tags...))
	}
	aged(300, "u300", p.image("u300"))
	aged(40, "u40", p.image("u40"))
	aged(3, "u3", p.image("u3"))
	amd, arm := aged(60, "part-amd64", p.image("amd")), aged(60, "part-arm64", p.image("arm"))
	index := aged(60, "v3.0.0", p.index([]*Version{amd, arm}, "v3.0.0"))
	aged(60, "signature", p.sig(index))
	lone := aged(70, "lone-part", p.image("lone"))
	aged(70, "lone-index", p.index([]*Version{lone}))
	return &p.inv, names
}

const dataaxiomWorkflow = `
name: cleanup
on: {schedule: [{cron: "0 3 * * *"}]}
jobs:
  cleanup:
    runs-on: ubuntu-latest
    permissions: {packages: write}
    steps:
      - uses: actions/checkout@v4
      - name: clean
        uses: dataaxiom/ghcr-cleanup-action@v1
        with:
          token: ${{ secrets.GITHUB_TOKEN }}
          owner: Acme
          packages: app,tools/*
          delete-tags: pr-*, dev
          exclude-tags: keepme, latest
          older-than: 3 weeks
          delete-untagged: true
          dry-run: true
`

const ecrLifecycle = `{
  "rules": [
    {"rulePriority": 20, "description": "everything else", "selection": {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 35}, "action": {"type": "expire"}},
    {"rulePriority": 1, "description": "two releases", "selection": {"tagStatus": "tagged", "tagPrefixList": ["v"], "countType": "imageCountMoreThan", "countNumber": 2}, "action": {"type": "expire"}},
    {"rulePriority": 5, "selection": {"tagStatus": "tagged", "tagPatternList": ["nightly*"], "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 1}, "action": {"type": "expire"}}
  ]
}`

const garPolicies = `[
  {"name": "delete-previews", "action": {"type": "Delete"}, "condition": {"tagState": "tagged", "tagPrefixes": ["pr-", "nightly"], "olderThan": "2592000s"}},
  {"name": "delete-untagged", "action": {"type": "Delete"}, "condition": {"tagState": "UNTAGGED", "olderThan": "30d"}},
  {"name": "keep-some", "action": {"type": "Keep"}, "mostRecentVersions": {"packageNamePrefixes": ["app"], "keepCount": 2}},
  {"name": "keep-releases", "action": {"type": "Keep"}, "condition": {"tagState": "tagged", "tagPrefixes": ["v"]}}
]`

// TestConvert: what the policy deletes is listed, and the original would delete all of
// it and more. What goes along with an index is not counted; parts of what stays never go.
func TestConvert(t *testing.T) {
	for _, tt := range []struct {
		name, input string
		source      Source
		original    string // what it deletes of convertedOn
		ours        string
		say         []string // in the notes
	}{
		{
			"dataaxiom, a workflow", dataaxiomWorkflow, FromCleanupAction,
			"pr-1 dev u300 u40 lone-index", "pr-1 dev u300 u40 lone-index",
			[]string{"dry-run", "exclude-tags", "older-than"},
		},
		{
			"dataaxiom, nothing said", "token: x\npackage: app\nowner: acme\n", FromCleanupAction,
			"u300 u40 u3 lone-index", "u300 u40 u3 lone-index", []string{"for two hours"},
		},
		{
			"dataaxiom, keep numbers", "keep-n-tagged=3\nkeep-n-untagged=1\nexclude-tags=v*, latest\ndelete-orphaned-images=true\n", FromCleanupAction,
			// Of what is not excluded nightly-3, pr-3 and pr-2 are the newest.
			"nightly-1 nightly-2 dev pr-4 pr-1 u300 u40 lone-index", "nightly-1 nightly-2 dev pr-4 pr-1 u300 u40 lone-index", []string{"take no place"},
		},
		{
			"dataaxiom, a regular expression", "delete-tags: ^pr-\\d+$\nuse-regex: true\nkeep-n-tagged: 1\n", FromCleanupAction,
			"pr-2 pr-1 pr-4", "pr-2 pr-1", nil,
		},
		{
			"snok", `
account: acme
token: ${{ secrets.PAT }}
image-names: "app tools/* !tools/old"
image-tags: "!v* !latest !keepme"
cut-off: 2w
keep-n-most-recent: 2
`, FromRetentionPolicy,
			// Of what is older pr-2 and nightly-2 are the newest; and of the rest u40 and v3.0.0's parts.
			"pr-1 dev nightly-1 u300 u40 lone-index lone-part", "pr-1 dev nightly-1 u300", []string{"of tagged and of untagged images each"},
		},
		{
			"snok, untagged", "account=user\nimage-names=app\ncut-off=30 days ago UTC\ntag-selection=untagged\ntimestamp-to-use=created_at\nskip-shas=" + string(digestA), FromRetentionPolicy,
			"u300 u40 lone-index lone-part", "u300 u40 lone-index", []string{"name the package OWNER/app"},
		},
		{
			"delete-package-versions", "- uses: actions/delete-package-versions@v5\n  with: {package-name: app, package-type: container, min-versions-to-keep: 5, ignore-versions: '^v'}\n", FromDeleteVersions,
			// All but the five newest versions of any kind: nightly-3, pr-3, u3, pr-2, nightly-2.
			"nightly-1 dev u40 pr-4 pr-1 v2.0.0 v2.0.0-rc.1 v1.1.0 v1.0.0 u300 v3.0.0 part-amd64 part-arm64 signature lone-index lone-part",
			"dev pr-4 pr-1", []string{"compared with digests, and keeps nothing", "100 deletions"},
		},
		{
			"delete-package-versions, untagged", "package-name: ${{ github.event.repository.name }}\nmin-versions-to-keep: 0\ndelete-only-untagged-versions: true\n", FromDeleteVersions,
			"u300 u40 u3 lone-index lone-part part-amd64 part-arm64", "u300 u40 u3 lone-index", []string{"the original deletes them", "name the packages when you run it"},
		},
		{
			"delete-package-versions, pre-releases", "min-versions-to-keep: 0\ndelete-only-pre-release-versions: true\n", FromDeleteVersions,
			"nightly-1 nightly-2 nightly-3 dev u3 u40 pr-1 pr-2 pr-3 pr-4 v2.0.0 v2.0.0-rc.1 v1.1.0 v1.0.0 u300 v3.0.0 part-amd64 part-arm64 signature lone-index lone-part",
			"v2.0.0-rc.1", []string{"so deletes all"},
		},
		{
			"ECR", ecrLifecycle, FromECR,
			// v3.0.0 and v2.0.0 are the newest releases; nightly ones are another rule's, whatever it does.
			"v2.0.0-rc.1 v1.1.0 v1.0.0 pr-1 pr-4 dev u300 u40 lone-index", "v2.0.0-rc.1 v1.1.0 v1.0.0 pr-1 pr-4 dev u300 u40 lone-index",
			[]string{"when an image was pulled", "is two rules"},
		},
		{
			"Artifact Registry", garPolicies, FromArtifactRegistry,
			"pr-1 pr-4 nightly-1 nightly-2 u300 u40 lone-index lone-part", "pr-1 nightly-1 nightly-2 u300 lone-index", []string{"one is enough", "for packages app there"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, source := range []Source{tt.source, ""} {
				if source == "" && tt.name == "dataaxiom, nothing said" {
					continue // whose it is shows in nothing
				}
				text, notes, err := Convert(source, []byte(tt.input))
				if err != nil {
					t.Fatal(err)
				}
				policy, err := Parse("converted.yaml", text)
				if err != nil {
					t.Fatalf("%v\n%s", err, text)
				}
				for _, say := range tt.say {
					if !slices.ContainsFunc(notes, func(n Note) bool { return strings.Contains(n.Input+": "+n.Text, say) }) || !strings.Contains(string(text), say) {
						t.Errorf("no word of %q:\n%s", say, text)
					}
				}
				inv, names := convertedOn(t)
				policy.Rails = Rails{Grace: policy.Rails.Grace, MaxDelete: -1, MaxDeletePercent: -1, AllowMatchAll: policy.Rails.AllowMatchAll}
				plan, err := Make(policy, inv, Facts{}, today)
				if err != nil {
					t.Fatal(err)
				}
				if len(plan.Refused) > 0 {
					t.Errorf("%v", plan.Refused)
				}
				var got []string
				gone := map[oci.Digest]bool{}
				for _, a := range plan.Actions {
					gone[a.Digest] = true
					if a.Do == Delete && a.Because == "" {
						got = append(got, names[a.Version])
					}
				}
				want, original := strings.Fields(tt.ours), strings.Fields(tt.original)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("it deletes\n%v, want\n%v\n%s", got, want, text)
				}
				for _, name := range got {
					if !slices.Contains(original, name) {
						t.Errorf("the original keeps %s\n%s", name, text)
					}
				}
				for _, v := range inv.Versions {
					if gone[v.Digest] {
						continue
					}
					for e := range v.Manifest.Edges() {
						if e.Kind == oci.EdgeChild && gone[e.Descriptor.Digest] {
							t.Errorf("%s stays without %s", names[v.ID], e.Descriptor.Digest)
						}
					}
				}
			}
		})
	}
}

// TestConvertRefuses: what is not understood may have kept something.
func TestConvertRefuses(t *testing.T) {
	for _, tt := range []struct {
		source     Source
		input, say string
	}{
		{"", "hello", "say which"},
		{"", "", "say which"},
		{"harbor", "a=b", "unknown source"},
		{FromCleanupAction, "", "empty"},
		{FromCleanupAction, "[a]", "want a workflow"},
		{FromCleanupAction, "jobs: {a: {steps: [{uses: actions/checkout@v4}]}}", "no step of it"},
		{FromCleanupAction, dataaxiomWorkflow + "      - uses: dataaxiom/ghcr-cleanup-action@v1\n", "2 steps"},
		{FromCleanupAction, "delete-tags: a\nkeep-latest: 3", "unknown inputs keep-latest"},
		{FromCleanupAction, "delete-tags: a\ndelete-tags: b", "twice"},
		{FromCleanupAction, "delete-tags: ${{ inputs.tags }}", "only known when the workflow runs"},
		{FromCleanupAction, "delete-tags: a\nexclude-tags: '(?=x)'\nuse-regex: true", "what it keeps can't be expressed"},
		{FromCleanupAction, "delete-tags: a\nexclude-tags: 'v[0-9]'", "what it keeps can't be expressed"},
		{FromCleanupAction, "delete-tags: '(?=x)'\nuse-regex: true", "nothing that it deletes can be expressed"},
		{FromCleanupAction, "tags: 'v[0-9]*'\nkeep-n-tagged: 3", "nothing that it deletes can be expressed"},
		{FromCleanupAction, "delete-tags: 're:.*'", "would be a regular expression here"},
		{FromCleanupAction, "delete-tags: '\\Av'\nuse-regex: true", "means something else in JavaScript"},
		{FromCleanupAction, "delete-tags: '\\x{41}'\nuse-regex: true", "means something else in JavaScript"},
		{FromCleanupAction, "delete-tags: '[]a]'\nuse-regex: true", "means something else in JavaScript"},
		{FromCleanupAction, "delete-tags: '[^[:digit:]]'\nuse-regex: true", "means something else in JavaScript"},
		{FromCleanupAction, "delete-tags: '(?P<n>a)'\nuse-regex: true", "means something else in JavaScript"},
		{FromCleanupAction, "delete-tags: a\nexclude-tags: 'v\\z'\nuse-regex: true", "what it keeps can't be expressed"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Delete"}, "condition": {"tagPrefixes": ["re:."]}}]`, "would be a regular expression here"},
		{FromCleanupAction, "delete-tags: a\nolder-than: soon", "not understood"},
		{FromCleanupAction, "delete-tags: a\nolder-than: 3M", "months or minutes"},
		{FromCleanupAction, "keep-n-tagged: 3abc", "no whole number"},
		{FromCleanupAction, "delete-untagged: maybe", "neither true nor false"},
		{FromCleanupAction, "packages: app*", "depends on an owner"},
		{FromRetentionPolicy, "account: acme\nimage-names: app", "cut-off: it is required"},
		{FromRetentionPolicy, "cut-off: 1w\nskip-shas: abc", "what it keeps can't be expressed"},
		{FromRetentionPolicy, "cut-off: 1w\ntag-selection: some", "none of tagged"},
		{FromDeleteVersions, "num-old-versions-to-delete: 3", "how many of the oldest"},
		{FromDeleteVersions, "package-version-ids: '1, 2'", "ghcr rm"},
		{FromDeleteVersions, "min-versions-to-keep: 3\nignore-versions: '(?!v)'", "what it keeps can't be expressed"},
		{FromECR, `{"rules": []}`, "no rules"},
		{FromECR, `{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1, "except": "x"}, "action": {"type": "expire"}}]}`, "unknown field"},
		{FromECR, `{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "tagged", "countType": "imageCountMoreThan", "countNumber": 1}, "action": {"type": "expire"}}]}`, "neither tagPrefixList"},
		{FromECR, `{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "tagged", "tagPrefixList": ["a", "b"], "countType": "imageCountMoreThan", "countNumber": 1}, "action": {"type": "expire"}}]}`, "for each of several"},
		{FromECR, `{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 0}, "action": {"type": "expire"}}]}`, "countNumber is 0"},
		{FromECR, `{"rules": []} {}`, "behind the JSON"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Keep"}, "condition": {"versionNamePrefixes": ["sha256:a"]}}]`, "what it keeps can't be expressed"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Delete"}, "condition": {"packageNamePrefixes": ["x"]}}]`, "a policy is for its packages as a whole"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Delete"}}]`, "want either condition"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Archive"}, "condition": {}}]`, "neither Delete nor Keep"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Delete"}, "condition": {"olderThan": "soon"}}]`, "olderThan"},
		{FromArtifactRegistry, `[{"name": "a", "action": {"type": "Keep"}, "condition": {"tagState": "tagged"}}]`, "nothing that it deletes"},
	} {
		if _, _, err := Convert(tt.source, []byte(tt.input)); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s\n%v; want %s", tt.input, err, tt.say)
		}
	}
}

// TestConvertTakesCommonExpressions: what both read alike is converted.
func TestConvertTakesCommonExpressions(t *testing.T) {
	for _, expr := range []string{`^pr-\d+$`, `^(?:dev|test)[-_.]\w{1,8}`, `sha-[0-9a-f]+`, `\bx\b|a\.b\/c\-d`, `(?<n>\d+)`, `[^v].*?`, `\\`} {
		if p, err := anywhere(expr); err != nil || expr == `^pr-\d+$` && (!p.Match("pr-7") || p.Match("pr-7a")) {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// TestConvertWritesNothingOfOthersAsYAML: names and texts of the settings stay texts.
func TestConvertWritesNothingOfOthersAsYAML(t *testing.T) {
	text, _, err := Convert(FromArtifactRegistry, []byte(`[{"name": "x\nrules: []\u2028evil: 1", "action": {"type": "Delete"}, "condition": {"tagPrefixes": ["a: b#"], "packageNamePrefixes": []}}]`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse("p", text)
	if err != nil || len(p.Rules) != 1 || p.Rules[0].Match.Tags[0].Text != "a: b#*" {
		t.Errorf("%v\n%s", err, text)
	}
}

func FuzzConvert(f *testing.F) {
	f.Add("", dataaxiomWorkflow)
	f.Add(string(FromECR), ecrLifecycle)
	f.Add(string(FromArtifactRegistry), garPolicies)
	f.Add(string(FromRetentionPolicy), "account: acme\ncut-off: 1w\nimage-tags: '!v* x'\nkeep-n-most-recent: 2")
	f.Add(string(FromDeleteVersions), "min-versions-to-keep=3\nignore-versions=^v")
	f.Fuzz(func(t *testing.T, source, input string) {
		text, _, err := Convert(Source(source), []byte(input))
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if _, err := Parse("converted", text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
