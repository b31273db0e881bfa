package retain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Source is a tool whose retention settings [Convert] reads.
type Source string

// The tools. What the first three read are the inputs of their step in a workflow: the
// whole workflow, the step's inputs as YAML, or lines KEY=VALUE.
const (
	FromCleanupAction    Source = "ghcr-cleanup-action"        // dataaxiom/ghcr-cleanup-action
	FromRetentionPolicy  Source = "container-retention-policy" // snok/container-retention-policy
	FromDeleteVersions   Source = "delete-package-versions"    // actions/delete-package-versions
	FromECR              Source = "ecr"                        // a lifecycle policy of Amazon ECR, JSON
	FromArtifactRegistry Source = "artifact-registry"          // cleanup policies of Google Artifact Registry, JSON
)

// Note is something that the policy means differently than what it was converted from.
type Note struct {
	Input string // that it is about: "keep-n-tagged", or the name of a rule
	Text  string
	// Lost says that the policy can't do it: it deletes less.
	Lost bool
}

// Convert turns the settings of another tool into a policy, as YAML with comments that
// say what is meant differently and what can't be expressed. An empty source is found
// out. The policy deletes at most what the tool would, besides the parts and signatures
// of what it deletes, which other tools leave behind or break.
//
// Errors: [oci.ErrInvalid] for settings that are not understood to the last input, whose
// source can't be found out, or that can't be said without deleting more, as where what
// the tool would keep can't be expressed.
func Convert(source Source, data []byte) ([]byte, []Note, error) {
	switch {
	case len(data) > maxPolicySize:
		return nil, nil, oci.Invalid("%d bytes; %d is the limit", len(data), maxPolicySize)
	case !utf8.Valid(data):
		return nil, nil, oci.Invalid("not UTF-8")
	}
	if source == "" {
		var err error
		if source, err = detect(data); err != nil {
			return nil, nil, err
		}
	}
	c := &conversion{source: source, policy: Policy{Rails: DefaultRails()}}
	var err error
	switch source {
	case FromCleanupAction, FromRetentionPolicy, FromDeleteVersions:
		err = c.action(data)
	case FromECR:
		err = c.ecr(data)
	case FromArtifactRegistry:
		err = c.artifactRegistry(data)
	default:
		err = oci.Invalid("unknown source %q; there are %s, %s, %s, %s and %s", source,
			FromCleanupAction, FromRetentionPolicy, FromDeleteVersions, FromECR, FromArtifactRegistry)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("convert %s: %w", source, err)
	}
	if !slices.ContainsFunc(c.policy.Rules, func(r Rule) bool { return r.Delete != nil || r.Untag != nil }) {
		return nil, c.notes, oci.Invalid("convert %s: nothing that it deletes can be expressed\n%s", source, c.reasons())
	}
	if err := c.policy.Validate(); err != nil {
		return nil, c.notes, fmt.Errorf("convert %s: %w", source, err)
	}
	return c.text(), c.notes, nil
}

// detect finds out whose settings these are.
func detect(data []byte) (Source, error) {
	text := string(data)
	var found []Source
	for source, marks := range map[Source][]string{
		FromCleanupAction:    {"dataaxiom/ghcr-cleanup-action", "keep-n-tagged", "keep-n-untagged", "delete-tags", "exclude-tags", "delete-ghost-images", "delete-untagged:", "delete-untagged="},
		FromRetentionPolicy:  {"snok/container-retention-policy", "cut-off", "keep-n-most-recent", "tag-selection"},
		FromDeleteVersions:   {"actions/delete-package-versions", "min-versions-to-keep", "delete-only-untagged-versions", "num-old-versions-to-delete"},
		FromECR:              {`"rulePriority"`},
		FromArtifactRegistry: {`"keepCount"`, `"tagState"`, `"mostRecentVersions"`, `"olderThan"`},
	} {
		if slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(text, mark) }) {
			found = append(found, source)
		}
	}
	switch len(found) {
	case 0:
		return "", oci.Invalid("whose settings these are can't be told: they have no mark of a tool that is known; say which")
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, source := range found {
		names[i] = string(source)
	}
	slices.Sort(names)
	return "", oci.Invalid("whose settings these are can't be told; say which: %s", strings.Join(names, " or "))
}

// conversion is a policy in the making.
type conversion struct {
	source Source
	policy Policy
	limits bool // the rails are not the defaults
	notes  []Note
}

func (c *conversion) note(input, format string, args ...any) {
	c.notes = append(c.notes, Note{Input: input, Text: fmt.Sprintf(format, args...)})
}

// lose notes what the policy can't do.
func (c *conversion) lose(input, format string, args ...any) {
	c.notes = append(c.notes, Note{Input: input, Text: fmt.Sprintf(format, args...), Lost: true})
}

func (c *conversion) reasons() string {
	var lines []string
	for _, n := range c.notes {
		lines = append(lines, n.Input+": "+n.Text)
	}
	return strings.Join(lines, "\n")
}

// rule adds a rule under a name of its own.
func (c *conversion) rule(r Rule) {
	name := r.Name
	for n := 2; slices.ContainsFunc(c.policy.Rules, func(o Rule) bool { return o.Name == r.Name }); n++ {
		r.Name = fmt.Sprintf("%s %d", name, n)
	}
	c.policy.Rules = append(c.policy.Rules, r)
	// The tool was told so, and this is the only way to say it.
	if (r.Delete != nil || r.Untag != nil) && r.Match.matchesAll() {
		c.policy.Rails.AllowMatchAll = true
	}
}

// text writes the policy with its notes before it.
func (c *conversion) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Converted from the settings of %s. Read the plan before it is carried out.\n", c.source)
	for _, n := range c.notes {
		text := oneLine(n.Text)
		if n.Lost {
			text = "NOT DONE: " + text
		}
		fmt.Fprintf(&b, "#\n# %s: %s\n", oneLine(n.Input), text)
	}
	m := write(policyKeys(), &c.policy)
	if rails := m["defaults"].(object); !c.limits {
		m["defaults"] = object{"allow_match_all": rails["allow_match_all"]}
		if !c.policy.Rails.AllowMatchAll {
			delete(m, "defaults")
		}
	}
	fmt.Fprint(&b, "version: 1\n")
	for _, name := range []string{"packages", "defaults", "protect"} {
		if v, ok := m[name]; ok {
			fmt.Fprintf(&b, "%s: %s\n", name, flow(v))
		}
	}
	fmt.Fprint(&b, "rules:\n")
	for _, r := range m["rules"].([]any) {
		rule := r.(object)
		fmt.Fprintf(&b, "  - name: %s\n", flow(rule["name"]))
		for _, name := range []string{"match", "keep", "delete", "untag"} {
			if v, ok := rule[name]; ok {
				fmt.Fprintf(&b, "    %s: %s\n", name, flow(v))
			}
		}
	}
	return b.Bytes()
}

// plainText is what YAML takes for a text without quotes, but for a few words.
var plainText = expression(`^([a-z][a-zA-Z0-9._/-]*|[1-9][0-9]*(s|min|h|d|w|mo|y))$`)

// flow writes a value in one line. JSON is YAML, and quotes whatever could be taken for
// something else.
func flow(v any) string {
	if s, ok := v.(string); ok && plainText().MatchString(s) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, s) {
		return s
	}
	data := strings.TrimSpace(string(encode(v, "")))
	if m, ok := v.(object); ok {
		var parts []string
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			parts = append(parts, k+": "+flow(m[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	if list, ok := v.([]any); ok {
		var parts []string
		for _, item := range list {
			parts = append(parts, flow(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return data
}

// oneLine makes others' text safe in a comment and on a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// readJSON reads settings to the last key.
func readJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return oci.Invalid("not the JSON that was expected: %v", err)
	}
	if d.More() {
		return oci.Invalid("there is something behind the JSON")
	}
	return nil
}

// glob returns the pattern of a glob of another tool, whose "*" and "?" mean the
// same as ours. What else means something there is told.
func glob(text string, special string) (Pattern, error) {
	if strings.HasPrefix(text, regexPrefix) {
		return Pattern{}, oci.Invalid("%q would be a regular expression here", text)
	}
	if i := strings.IndexAny(text, special); i >= 0 {
		return Pattern{}, oci.Invalid("%q: %q is not in our globs; write a regular expression", text, text[i])
	}
	return ParsePattern(text)
}

// digestTags are those of signatures and the like, which are never counted and go with
// what they are about.
func digestTags() Pattern {
	p, _ := ParsePattern("sha256-*")
	return p
}

// untaggedRule is what most tools have.
func untaggedRule(m Match, keep *Keep) Rule {
	m.Untagged = true
	return Rule{Name: "untagged", Match: m, Keep: keep, Delete: &When{}}
}
