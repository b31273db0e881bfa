package retain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A key of a mapping knows how its value is read into T, how it is written from there,
// and what the JSON schema says of it. So the three can't disagree.
type key[T any] struct {
	name, doc string
	required  bool
	schema    object
	set       func(r *reader, n *yaml.Node, where string, into *T)
	get       func(from *T) any // nil if it is not set
}

// object is JSON.
type object = map[string]any

// scalar is a type of values that are not made of others.
type scalar[V any] struct {
	want   string // for errors: "an age, such as 7d"
	tag    string // of YAML's types
	word   string // a text that is taken besides
	loose  bool   // may be empty, and have whitespace around it
	schema object
	read   func(text string) (V, error)
	write  func(V) any
}

// value reads one scalar. Whether it could is the second result.
func (s scalar[V]) value(r *reader, n *yaml.Node, where string) (v V, ok bool) {
	name := where[strings.LastIndexByte(where, '.')+1:]
	tag := n.ShortTag()
	if s.word != "" && tag == "!!str" && n.Value == s.word {
		tag = s.tag
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		r.fail(n, where, "%s is %s; want %s", name, whatIs(n), s.want)
	case tag == "!!null" || tag == "!!str" && n.Value == "" && !s.loose:
		r.fail(n, where, "%s is empty; want %s", name, s.want)
	case tag != s.tag && s.tag == "!!str":
		r.fail(n, where, "%s is %s; want %s: write it in quotes", name, whatIs(n), s.want)
	case tag != s.tag:
		r.fail(n, where, "%s is %s; want %s", name, whatIs(n), s.want)
	case strings.TrimSpace(n.Value) != n.Value && !s.loose:
		r.fail(n, where, "%s: whitespace around %q", name, n.Value)
	default:
		var err error
		if v, err = s.read(n.Value); err == nil {
			return v, true
		}
		r.fail(n, where, "%s: %v", name, err)
	}
	return v, false
}

// one is a key with one scalar.
func one[T any, V comparable](name, doc string, kind scalar[V], at func(*T) *V) key[T] {
	return key[T]{
		name: name, doc: doc, schema: kind.schema,
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			if v, ok := kind.value(r, n, where); ok {
				*at(into) = v
			}
		},
		get: func(from *T) any {
			var zero V
			if v := *at(from); v != zero {
				return kind.write(v)
			}
			return nil
		},
	}
}

// fixed is a key whose zero value says something, and that is always written.
func fixed[T any, V comparable](name, doc string, kind scalar[V], at func(*T) *V) key[T] {
	k := one(name, doc, kind, at)
	k.get = func(from *T) any { return kind.write(*at(from)) }
	return k
}

// optional is a key whose zero value differs from its absence.
func optional[T any, V comparable](name, doc string, kind scalar[V], at func(*T) **V) key[T] {
	return key[T]{
		name: name, doc: doc, schema: kind.schema,
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			if v, ok := kind.value(r, n, where); ok {
				*at(into) = &v
			}
		},
		get: func(from *T) any {
			if v := *at(from); v != nil {
				return kind.write(*v)
			}
			return nil
		},
	}
}

// many is a key with a list of scalars, or one of them alone.
func many[T, V any](name, doc string, kind scalar[V], at func(*T) *[]V) key[T] {
	return key[T]{
		name: name, doc: doc,
		schema: object{"anyOf": []any{kind.schema, object{"type": "array", "minItems": 1, "items": kind.schema}}},
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			*at(into) = append(*at(into), readMany(r, n, where, kind)...)
		},
		get: func(from *T) any {
			list := []any{}
			for _, v := range *at(from) {
				list = append(list, kind.write(v))
			}
			if len(list) == 0 {
				return nil
			}
			return list
		},
	}
}

func readMany[V any](r *reader, n *yaml.Node, where string, kind scalar[V]) []V {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if items = n.Content; len(items) == 0 {
			r.fail(n, where, "empty list; leave the key out")
		}
	}
	var list []V
	for i, item := range items {
		at := where
		if n.Kind == yaml.SequenceNode {
			at = fmt.Sprintf("%s[%d]", where, i)
			r.at[at] = position{item.Line, item.Column}
		}
		if v, ok := kind.value(r, item, at); ok {
			list = append(list, v)
		}
	}
	return list
}

// dict is a key with a mapping of names that the user chooses.
func dict[T, V any](name, doc string, kind scalar[V], at func(*T) *map[string]V) key[T] {
	return dictOf(name, doc, kind.schema, kind.value, func(v V) any { return kind.write(v) }, at)
}

// dictMany is a dict of lists, which may be empty.
func dictMany[T, V any](name, doc string, kind scalar[V], at func(*T) *map[string][]V) key[T] {
	read := func(r *reader, n *yaml.Node, where string) ([]V, bool) {
		if n.Kind != yaml.SequenceNode {
			r.fail(n, where, "%s is %s; want a list", where[strings.LastIndexByte(where, '.')+1:], whatIs(n))
			return nil, false
		}
		if len(n.Content) == 0 {
			return []V{}, true
		}
		return readMany(r, n, where, kind), true
	}
	write := func(list []V) any {
		out := []any{}
		for _, v := range list {
			out = append(out, kind.write(v))
		}
		return out
	}
	return dictOf(name, doc, object{"type": "array", "items": kind.schema}, read, write, at)
}

func dictOf[T, V any](name, doc string, schema object, read func(*reader, *yaml.Node, string) (V, bool), write func(V) any, at func(*T) *map[string]V) key[T] {
	return key[T]{
		name: name, doc: doc,
		schema: object{"type": "object", "minProperties": 1, "additionalProperties": schema, "propertyNames": object{"pattern": noSpaceAround}},
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			m := map[string]V{}
			eachKey(r, n, where, func(k, v *yaml.Node) {
				if value, ok := read(r, v, where+"."+k.Value); ok {
					m[k.Value] = value
				}
			})
			*at(into) = m
		},
		get: func(from *T) any {
			m := object{}
			for k, v := range *at(from) {
				m[k] = write(v)
			}
			if len(m) == 0 {
				return nil
			}
			return m
		},
	}
}

// nested is a key with a mapping of its own.
func nested[T, C any](name, doc string, keys []key[C], at func(*T) *C) key[T] {
	return key[T]{
		name: name, doc: doc, schema: schemaOf(keys),
		set: func(r *reader, n *yaml.Node, where string, into *T) { readObject(r, n, where, keys, at(into)) },
		get: func(from *T) any {
			if m := write(keys, at(from)); len(m) > 0 {
				return m
			}
			return nil
		},
	}
}

// allWord stands for a mapping without limits.
const allWord = "all"

// action is a nested key that may be absent, or "all".
func action[T, C any](name, doc string, keys []key[C], at func(*T) **C, all func(*C), isAll func(*C) bool) key[T] {
	return key[T]{
		name: name, doc: doc,
		schema: object{"anyOf": []any{object{"const": allWord}, schemaOf(keys)}},
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			c := new(C)
			*at(into) = c
			switch {
			case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && n.Value == allWord:
				all(c)
			case n.Kind == yaml.MappingNode && len(n.Content) > 0:
				readObject(r, n, where, keys, c)
			default:
				r.fail(n, where, "%s is %s; write %q, or a mapping that says which", name, whatIs(n), allWord)
			}
		},
		get: func(from *T) any {
			c := *at(from)
			switch {
			case c == nil:
				return nil
			case isAll(c):
				return allWord
			}
			return write(keys, c)
		},
	}
}

// items is a key with a list of mappings.
func items[T, C any](name, doc string, keys []key[C], at func(*T) *[]C) key[T] {
	return key[T]{
		name: name, doc: doc,
		schema: object{"type": "array", "minItems": 1, "items": schemaOf(keys)},
		set: func(r *reader, n *yaml.Node, where string, into *T) {
			if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
				r.fail(n, where, "%s is %s; want a list of mappings", name, whatIs(n))
				return
			}
			list := make([]C, len(n.Content))
			for i, item := range n.Content {
				at := fmt.Sprintf("%s[%d]", where, i)
				r.at[at] = position{item.Line, item.Column}
				readObject(r, item, at, keys, &list[i])
			}
			*at(into) = list
		},
		get: func(from *T) any {
			list := []any{}
			for i := range *at(from) {
				list = append(list, write(keys, &(*at(from))[i]))
			}
			if len(list) == 0 {
				return nil
			}
			return list
		},
	}
}

// needed makes a key required.
func needed[T any](k key[T]) key[T] {
	k.required = true
	return k
}

// eachKey calls f for each key of a mapping that is a text and the first of its name.
func eachKey(r *reader, n *yaml.Node, where string, f func(k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		name := where[strings.LastIndexByte(where, '.')+1:]
		if name == "" {
			name = "the policy"
		}
		r.fail(n, where, "%s is %s; want a mapping", name, whatIs(n))
		return
	}
	if len(n.Content) == 0 {
		r.fail(n, where, "empty mapping; leave the key out")
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch first := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
			r.fail(k, where, "the key is %s; want a text", whatIs(k))
		case strings.TrimSpace(k.Value) != k.Value || k.Value == "":
			r.fail(k, where, "the key %q is empty, or has whitespace around it", k.Value)
		case first != nil:
			r.fail(k, where, "the key %s is there twice; the first is in line %d", k.Value, first.Line)
		default:
			seen[k.Value] = k
			f(k, v)
		}
	}
}

func readObject[T any](r *reader, n *yaml.Node, where string, keys []key[T], into *T) {
	found := map[string]bool{}
	eachKey(r, n, where, func(k, v *yaml.Node) {
		at := strings.TrimPrefix(where+"."+k.Value, ".")
		i := slices.IndexFunc(keys, func(c key[T]) bool { return c.name == k.Value })
		if i < 0 {
			r.fail(k, at, "unknown key %.60q%s", k.Value, suggest(k.Value, keys))
			return
		}
		found[k.Value] = true
		r.at[at] = position{v.Line, v.Column}
		keys[i].set(r, v, at, into)
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	for _, k := range keys {
		if k.required && !found[k.name] {
			r.fail(n, where, "%s is missing", k.name)
		}
	}
}

// write returns what [readObject] reads.
func write[T any](keys []key[T], from *T) object {
	m := object{}
	for _, k := range keys {
		if k.get == nil {
			continue
		}
		if v := k.get(from); v != nil {
			m[k.name] = v
		}
	}
	return m
}

func schemaOf[T any](keys []key[T]) object {
	properties, required := object{}, []any{}
	for _, k := range keys {
		s := maps.Clone(k.schema)
		s["description"] = k.doc
		properties[k.name] = s
		if k.required {
			required = append(required, k.name)
		}
	}
	s := object{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// suggest names the key that was probably meant, or all that there are.
func suggest[T any](name string, keys []key[T]) string {
	best, least := "", max(2, len(name)/3)+1
	var all []string
	for _, k := range keys {
		all = append(all, k.name)
		if d := distance(strings.ReplaceAll(strings.ToLower(name), "-", "_"), k.name); d < least {
			best, least = k.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; there are " + strings.Join(all, ", ")
}

// distance is how many characters must be changed, added or taken to get from a to b.
func distance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
