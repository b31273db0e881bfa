package retain

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

// taken are inputs that are read one after the other. What is left at the end was not
// understood, and may have kept something.
type taken struct {
	*conversion
	inputs map[string]string
	err    error // the first
}

// action converts the inputs of a step.
func (c *conversion) action(data []byte) error {
	inputs, err := c.inputs(data)
	if err != nil {
		return err
	}
	t := &taken{conversion: c, inputs: maps.Clone(inputs)}
	for _, name := range []string{"token", "log-level", "rust-log", "registry-url", "github-api-url", "repository", "package-type"} {
		delete(t.inputs, name) // who asks and where, or nothing that retention is about
	}
	switch c.source {
	case FromCleanupAction:
		t.cleanupAction()
	case FromRetentionPolicy:
		t.retentionPolicy()
	case FromDeleteVersions:
		t.deleteVersions()
	}
	if t.err == nil && len(t.inputs) > 0 {
		return oci.Invalid("unknown inputs %s, which may have kept something", strings.Join(slices.Sorted(maps.Keys(t.inputs)), ", "))
	}
	return t.err
}

func (t *taken) fail(input, format string, args ...any) {
	if t.err == nil {
		t.err = oci.Invalid("%s: %w", input, fmt.Errorf(format, args...))
	}
}

// text takes an input. An expression is only known when the workflow runs.
func (t *taken) text(name string) string {
	value := strings.TrimSpace(t.inputs[name])
	delete(t.inputs, name)
	if strings.Contains(value, "${{") {
		t.fail(name, "%s is only known when the workflow runs; put the value in its place", value)
	}
	return value
}

func (t *taken) flag(name string) bool {
	switch value := t.text(name); value {
	case "true", "True", "TRUE":
		return true
	case "", "false", "False", "FALSE":
	default:
		t.fail(name, "%q is neither true nor false", value)
	}
	return false
}

// number is -1 if there is none.
func (t *taken) number(name string) int {
	value := t.text(name)
	if value == "" {
		return -1
	}
	n, err := readCount(value)
	if err != nil {
		t.fail(name, "%v", err)
	}
	return n
}

// list takes a list with commas, or with whitespace if that separates too.
func (t *taken) list(name string, spaces bool) []string {
	value := t.text(name)
	if value == "" {
		return nil
	}
	split := func(r rune) bool { return r == ',' || r == '\n' || spaces && (r == ' ' || r == '\t') }
	var items []string
	for item := range strings.FieldsFuncSeq(value, split) {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// names takes a list of packages. They are named again when the policy is used, so that
// an expression does not matter.
func (t *taken) names(name string, spaces bool) []string {
	if strings.Contains(t.inputs[name], "${{") {
		delete(t.inputs, name)
		t.note(name, "is only known when the workflow runs; name the packages when you run it")
	}
	return t.list(name, spaces)
}

// packages says which packages are meant, if the owner is known.
func (t *taken) packages(input, owner string, names []string) {
	if strings.Contains(owner, "${{") {
		owner = ""
	}
	for _, name := range names {
		out := strings.HasPrefix(name, "!")
		name = strings.ToLower(strings.TrimPrefix(name, "!"))
		pattern, err := readPackage(strings.ToLower(owner) + "/" + name)
		switch {
		case owner == "" && strings.ContainsAny(name, "*?!"), owner == "" && out:
			t.fail(input, "which packages %q are depends on an owner; add it to the inputs", name)
		case owner == "":
			t.note(input, "name the package OWNER/%s when you run it", name)
			continue
		case err != nil:
			t.fail(input, "%v", err)
		}
		if out {
			pattern = "!" + pattern
		}
		t.policy.Packages = append(t.policy.Packages, pattern)
	}
}

func (t *taken) dryRun() {
	value := t.inputs["dry-run"]
	delete(t.inputs, "dry-run")
	if value != "" && value != "false" {
		t.note("dry-run", "ghcr prune plans and changes nothing until --apply")
	}
}

// age reads how other tools write ages: "3 weeks", "1 year 2 months", "30d", "1w ago UTC".
// Months and years are taken for the longest that any of them takes them for. The unit m
// is minutes, and M, which one of them takes for months, is refused.
func (t *taken) age(name string) time.Duration {
	value := t.text(name)
	switch {
	case value == "":
		return 0
	case bigM().MatchString(value):
		t.fail(name, "M in %q may be months or minutes; write it out", value)
		return 0
	}
	plain := strings.ToLower(value)
	for _, end := range []string{" utc", " ago"} {
		plain = strings.TrimSpace(strings.TrimSuffix(plain, end))
	}
	var sum time.Duration
	rest := plain
	for rest != "" {
		found := agePart().FindStringSubmatch(rest)
		if found == nil {
			t.fail(name, "the age %q is not understood", value)
			return 0
		}
		rest = rest[len(found[0]):]
		n, err := strconv.Atoi(found[1])
		unit := foreignUnits[found[2]]
		if err != nil || unit == 0 || time.Duration(n) > maxAge/unit || sum > maxAge {
			t.fail(name, "the age %q is not understood, or too long", value)
			return 0
		}
		sum += time.Duration(n) * unit
	}
	return sum
}

var bigM = expression(`\d\s*M(?:[^A-Za-z]|$)`)

var agePart = expression(`^\s*(\d{1,9})\s*([a-z]+)[\s,]*(?:and\s+)?`)

var foreignUnits = func() map[string]time.Duration {
	units := map[string]time.Duration{}
	for names, unit := range map[string]time.Duration{
		"s sec secs second seconds": time.Second, "m min mins minute minutes": time.Minute, "h hr hrs hour hours": time.Hour,
		"d day days": day, "w wk wks week weeks": 7 * day, "mo month months": 31 * day, "y yr yrs year years": 366 * day,
	} {
		for _, name := range strings.Fields(names) {
			units[name] = unit
		}
	}
	return units
}()

// notJavaScript is what Go reads in another way than JavaScript, or only Go reads: \A is
// the letter A there. It takes some for it that are the same, such as the A of \\A.
var notJavaScript = expression(`\\[^dDwWsSbBtnrfvx0-9[:punct:]]|\\x\{|\[\^?\]|\[[:.=]|\(\?[^:=!<]`)

// anywhere is a regular expression of JavaScript that matches somewhere in a tag, as
// one that matches the whole of it.
func anywhere(expr string) (Pattern, error) {
	if found := notJavaScript().FindString(expr); found != "" {
		return Pattern{}, oci.Invalid("%q: %q means something else in JavaScript", expr, found)
	}
	p, err := ParsePattern(regexPrefix + "(?:.*)(?:" + expr + ")(?:.*)")
	if err == nil {
		// Alone it must be an expression too: "a)|(b" is none.
		_, err = ParsePattern(regexPrefix + expr)
	}
	return p, err
}

// inputs finds those of the tool in a workflow, a mapping, or lines.
func (c *conversion) inputs(data []byte) (map[string]string, error) {
	r := &reader{at: map[string]position{}}
	root := r.decode(data)
	var steps []*yaml.Node
	if root != nil {
		findSteps(root, string(c.source), &steps)
	}
	if root == nil || root.Kind != yaml.MappingNode && len(steps) == 0 {
		if list, err := keyValues(data); err == nil {
			return list, nil
		}
		if len(r.problems) > 0 {
			return nil, &PolicyError{File: "input", Problems: r.problems}
		}
		return nil, oci.Invalid("want a workflow, a mapping of inputs, or lines KEY=VALUE")
	}
	switch {
	case len(steps) > 1:
		return nil, oci.Invalid("the workflow has %d steps of it; convert the inputs of each alone", len(steps))
	case len(steps) == 1:
		if root = field(steps[0], "with"); root == nil {
			root = &yaml.Node{Kind: yaml.MappingNode}
		}
	case field(root, "jobs") != nil || field(root, "runs") != nil:
		return nil, oci.Invalid("the workflow has no step of it")
	case field(root, "with") != nil:
		root = field(root, "with")
	}
	inputs := map[string]string{}
	if root.Kind != yaml.MappingNode {
		return nil, oci.Invalid("with is %s; want a mapping", whatIs(root))
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		if _, twice := inputs[k.Value]; twice {
			return nil, oci.Invalid("the input %s is there twice", k.Value)
		}
		if v.Kind != yaml.ScalarNode {
			return nil, oci.Invalid("the input %s is %s; inputs are texts", k.Value, whatIs(v))
		}
		inputs[k.Value] = v.Value
		if v.ShortTag() == "!!null" {
			inputs[k.Value] = ""
		}
	}
	return inputs, nil
}

func field(n *yaml.Node, name string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func findSteps(n *yaml.Node, action string, steps *[]*yaml.Node) {
	if uses := field(n, "uses"); uses != nil && strings.Contains("/"+uses.Value+"@", "/"+action+"@") {
		*steps = append(*steps, n)
	}
	for _, c := range n.Content {
		findSteps(c, action, steps)
	}
}

func keyValues(data []byte) (map[string]string, error) {
	inputs := map[string]string{}
	for _, line := range ParseLines(data) {
		k, v, ok := strings.Cut(line, "=")
		k = strings.TrimPrefix(strings.TrimSpace(k), "--")
		if _, twice := inputs[k]; !ok || k == "" || twice || strings.ContainsAny(k, " :{}") {
			return nil, oci.Invalid("%q is no line KEY=VALUE, or one that is there twice", line)
		}
		inputs[k] = strings.TrimSpace(v)
	}
	if len(inputs) == 0 {
		return nil, oci.Invalid("there are no inputs")
	}
	return inputs, nil
}
