package retain

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Limits of a policy file.
const (
	maxPolicySize = 256 << 10
	maxDepth      = 12
	maxProblems   = 100
)

// Problem is one thing that is wrong with a policy.
type Problem struct {
	Line, Column int    // from 1; zero for a policy that was not read from a file
	Where        string // the key: "rules[1].match.tags"
	Text         string
}

// PolicyError is all that is wrong with a policy, in the order of the file. It is
// [oci.ErrInvalid].
type PolicyError struct {
	File     string
	Problems []Problem
}

// Error has a line "FILE:LINE:COLUMN: text" for each problem.
func (e *PolicyError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		switch {
		case p.Line > 0:
			lines[i] = fmt.Sprintf("%s:%d:%d: %s", e.File, p.Line, p.Column, p.Text)
		case p.Where != "":
			lines[i] = fmt.Sprintf("%s: %s: %s", e.File, p.Where, p.Text)
		default:
			lines[i] = fmt.Sprintf("%s: %s", e.File, p.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// Is makes every PolicyError an [oci.ErrInvalid].
func (e *PolicyError) Is(target error) bool { return target == oci.ErrInvalid }

// Parse reads a policy from YAML, of which JSON is a part. The name is that of the
// file, for errors. What the file does not say of the rails is as in [DefaultRails].
//
// The reader is strict: a policy that is not understood to the last key is refused, with
// everything that is wrong with it at once. Anchors, aliases, tags of types and second
// documents are refused too; so are files over 256 KiB.
//
// Errors: [*PolicyError], which is [oci.ErrInvalid].
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{at: map[string]position{}}
	policy := &Policy{Rails: DefaultRails()}
	if root := r.decode(data); root != nil {
		r.policy(root, policy)
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &PolicyError{File: name, Problems: slices.Compact(r.problems)}
	}
	return policy, nil
}

// Validate reports what is wrong with a policy that was not read by [Parse], which does
// the same.
//
// Errors: [*PolicyError], which is [oci.ErrInvalid].
func (p *Policy) Validate() error {
	e := &PolicyError{File: "policy"}
	p.check(func(where, format string, args ...any) {
		e.Problems = append(e.Problems, Problem{Where: where, Text: fmt.Sprintf(format, args...)})
	})
	if len(e.Problems) > 0 {
		return e
	}
	return nil
}

type position struct{ line, column int }

// reader collects what is wrong, and where keys are.
type reader struct {
	problems []Problem
	at       map[string]position
}

func (r *reader) fail(n *yaml.Node, where, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, Problem{Line: max(n.Line, 1), Column: max(n.Column, 1), Where: where, Text: oneLine(fmt.Sprintf(format, args...))})
	}
}

// policy reads the whole file. If its version is not understood, neither is the rest.
func (r *reader) policy(root *yaml.Node, p *Policy) {
	if root.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(root.Content); i += 2 {
			if k, v := root.Content[i], root.Content[i+1]; k.Value == "version" && v.Value != "1" {
				r.fail(v, "version", "version is %s; this program reads version 1", whatIs(v))
				return
			}
		}
	}
	readObject(r, root, "", policyKeys(), p)
	if len(r.problems) > 0 {
		return // half of a policy would only be found wrong for what was not read
	}
	p.complete()
	p.check(func(where, format string, args ...any) {
		at := r.find(where)
		r.fail(&yaml.Node{Line: at.line, Column: at.column}, where, format, args...)
	})
}

// find returns where a key is, or else the nearest that it belongs to.
func (r *reader) find(where string) position {
	for {
		if at, ok := r.at[where]; ok || where == "" {
			return at
		}
		where = where[:max(0, strings.LastIndexAny(where, ".["))]
	}
}

var yamlLine = expression(`^yaml: line (\d+): `)

// decode returns the root of the only document, if it has nothing of what is refused
// everywhere.
func (r *reader) decode(data []byte) *yaml.Node {
	top := &yaml.Node{Line: 1, Column: 1}
	switch {
	case len(data) > maxPolicySize:
		r.fail(top, "", "the file has %d bytes; %d is the limit", len(data), maxPolicySize)
		return nil
	case !utf8.Valid(data):
		r.fail(top, "", "the file is not UTF-8")
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decodeYAML(decoder, &document); {
	case errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0:
		r.fail(top, "", "the file is empty")
		return nil
	case err != nil:
		r.failYAML(err)
		return nil
	}
	switch err := decodeYAML(decoder, &second); {
	case err == nil:
		r.fail(&second, "", "a second document; a policy is one")
	case !errors.Is(err, io.EOF):
		r.failYAML(err)
	}
	r.refuse(document.Content[0], 1)
	if len(r.problems) > 0 {
		return nil
	}
	return document.Content[0]
}

// decodeYAML turns a panic of the library on input that it did not foresee into an error.
func decodeYAML(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return d.Decode(n)
}

// zeroBased are errors of the library that count lines from zero.
var zeroBased = expression(`^did not find expected (node content|key|',' or '[\]}]'|'-' indicator|<)`)

func (r *reader) failYAML(err error) {
	text, line := err.Error(), 1
	if m := yamlLine().FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
		if zeroBased().MatchString(text) {
			line++
		}
	}
	r.fail(&yaml.Node{Line: line}, "", "not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}

// refuse reports what may not be anywhere in the file.
func (r *reader) refuse(n *yaml.Node, depth int) {
	switch {
	case depth > maxDepth:
		r.fail(n, "", "nested too deeply; %d levels are the limit", maxDepth)
		return
	case n.Kind == yaml.AliasNode:
		r.fail(n, "", "alias *%s; a policy says everything where it is meant", n.Value)
		return
	case n.Anchor != "":
		r.fail(n, "", "anchor &%s; a policy says everything where it is meant", n.Anchor)
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(n, "", "tag %s; types are known", n.Tag)
		return
	}
	for _, c := range n.Content {
		r.refuse(c, depth+1)
	}
}

// whatIs names what is there instead of what is wanted.
func whatIs(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!str":
		return fmt.Sprintf("the text %.60q", n.Value)
	case "!!bool":
		return "the boolean " + n.Value
	case "!!int", "!!float":
		return fmt.Sprintf("the number %.40s", n.Value)
	}
	return fmt.Sprintf("%.60q", n.Value)
}
