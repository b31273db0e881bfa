package vuln

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

// IgnoreRule says that findings do not count. All parts that it has must hold. Make
// rules with [ParseIgnore]; the zero value ignores nothing.
type IgnoreRule struct {
	ID    string   // the id or an alias; not one CVE of several that a finding stands for
	PURLs []string // one of them is the package; parts that a purl leaves out may be anything
	Paths []string // one of them is a pattern for a place of the package; ** is any number of directories
	// Until is when the rule ends; zero is never. A date ends as it begins, in UTC.
	Until  time.Time
	Reason string
	File   string // where it is written
}

// Expired tells whether the rule has ended.
func (r IgnoreRule) Expired(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.Until) }

func (r IgnoreRule) matches(v *Vulnerability) bool {
	if r.ID == "" && len(r.PURLs) == 0 && len(r.Paths) == 0 || r.ID != "" && !(v.Has(r.ID) && slices.ContainsFunc(v.meant(), foldEqual(r.ID))) {
		return false
	}
	if len(r.PURLs) > 0 && (v.Package == nil || !slices.ContainsFunc(r.PURLs, func(p string) bool { return purlMatches(p, v.Package.PURL) })) {
		return false
	}
	if len(r.Paths) == 0 {
		return true
	}
	// All places must match: a package that is also elsewhere still has the flaw there.
	places := v.Package.allPaths()
	return len(places) > 0 && !slices.ContainsFunc(places, func(place string) bool {
		return !slices.ContainsFunc(r.Paths, func(pattern string) bool { return matchPath(pattern, place) })
	})
}

// String is what the rule ignores.
func (r IgnoreRule) String() string {
	return cmp.Or(r.ID, strings.Join(r.PURLs, ", "), strings.Join(r.Paths, ", "))
}

// matchPath matches by directories, where ** stands for any number of them.
func matchPath(pattern, place string) bool {
	return matchParts(strings.Split(strings.Trim(pattern, "/"), "/"), strings.Split(strings.Trim(place, "/"), "/"))
}

func matchParts(pattern, place []string) bool {
	for ; len(pattern) > 0; pattern, place = pattern[1:], place[1:] {
		if pattern[0] == "**" {
			pattern = slices.CompactFunc(pattern, func(a, b string) bool { return a == "**" && b == "**" })
			for i := range len(place) + 1 {
				if matchParts(pattern[1:], place[i:]) {
					return true
				}
			}
			return false
		}
		if len(place) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], place[0]); err != nil || !ok {
			return false
		}
	}
	return len(place) == 0
}

func (r *VulnerabilityReport) applyIgnore(rules []IgnoreRule, now time.Time) {
	var live []IgnoreRule
	for _, rule := range rules {
		if !rule.Expired(now) {
			live = append(live, rule)
			continue
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("the rule that ignores %s ended on %s and no longer applies",
			rule, rule.Until.UTC().Format(time.DateOnly)))
	}
	r.suppress(func(v *Vulnerability) *Suppressed {
		for _, rule := range live {
			if rule.matches(v) {
				return &Suppressed{By: SuppressedByIgnore, Reason: rule.Reason, Document: rule.File, Until: rule.Until}
			}
		}
		return nil
	})
}

func (r *VulnerabilityReport) applyFixFilter(opts Options) {
	if !opts.IgnoreUnfixed && !opts.OnlyFixed {
		return
	}
	r.suppress(func(v *Vulnerability) *Suppressed {
		if v.FixState == FixFixed || v.FixState == FixUnknown && !opts.OnlyFixed {
			return nil
		}
		return &Suppressed{By: SuppressedByFix, Reason: string(v.FixState)}
	})
}

// suppress moves the findings for which there is a reason.
func (r *VulnerabilityReport) suppress(why func(*Vulnerability) *Suppressed) {
	r.Vulnerabilities = slices.DeleteFunc(r.Vulnerabilities, func(v Vulnerability) bool {
		s := why(&v)
		if s == nil {
			return false
		}
		s.Vulnerability = v
		r.Suppressed = append(r.Suppressed, *s)
		return true
	})
}

// ParseIgnore reads an ignore file in the format that its name says: .trivyignore,
// .trivyignore.yaml, osv-scanner.toml, or else this module's own, a YAML list:
//
//	# one entry for each rule
//	- id: CVE-2026-1234
//	  purl: pkg:deb/debian/openssl
//	  path: usr/lib/**
//	  until: 2026-12-01
//	  reason: not reachable
//
// A rule needs an id, a purl or a path. What a rule says that is not understood is an
// error, since a misspelled end would make it last forever.
//
// Errors: [oci.ErrInvalid].
func ParseIgnore(name string, data []byte) ([]IgnoreRule, error) {
	var rules []IgnoreRule
	var err error
	switch base := path.Base(strings.ReplaceAll(name, `\`, "/")); {
	case base == ".trivyignore":
		rules, err = parseTrivyIgnore(string(data))
	case base == ".trivyignore.yaml" || base == ".trivyignore.yml":
		rules, err = parseTrivyIgnoreYAML(data)
	case path.Ext(base) == ".toml":
		rules, err = parseOSVConfig(string(data))
	default:
		rules, err = parseIgnoreYAML(data)
	}
	if err != nil {
		return nil, oci.Invalid("ignore file %s: %w", name, err)
	}
	for i := range rules {
		rule := &rules[i]
		rule.File = name
		if rule.ID == "" && len(rule.PURLs) == 0 && len(rule.Paths) == 0 {
			return nil, oci.Invalid("ignore file %s: rule %d has no id, purl or path, and would ignore everything", name, i+1)
		}
		for _, p := range rule.PURLs {
			if !purlMatches(p, p) {
				return nil, oci.Invalid("ignore file %s: %q is no purl", name, p)
			}
		}
	}
	return rules, nil
}

func parseIgnoreYAML(data []byte) ([]IgnoreRule, error) {
	var entries []struct {
		ID     string    `yaml:"id"`
		PURL   string    `yaml:"purl"`
		Path   string    `yaml:"path"`
		Until  yaml.Node `yaml:"until"`
		Reason string    `yaml:"reason"`
	}
	if err := strictYAML(data, &entries); err != nil {
		return nil, err
	}
	rules := make([]IgnoreRule, len(entries))
	for i, e := range entries {
		until, err := untilIn(e.Until)
		if err != nil {
			return nil, err
		}
		rules[i] = IgnoreRule{ID: e.ID, PURLs: addUnique(nil, e.PURL), Paths: addUnique(nil, e.Path), Until: until, Reason: e.Reason}
	}
	return rules, nil
}

func parseTrivyIgnoreYAML(data []byte) ([]IgnoreRule, error) {
	type entry struct {
		ID        string    `yaml:"id"`
		Paths     []string  `yaml:"paths"`
		PURLs     []string  `yaml:"purls"`
		ExpiredAt yaml.Node `yaml:"expired_at"`
		Statement string    `yaml:"statement"`
	}
	var file struct {
		Vulnerabilities   []entry `yaml:"vulnerabilities"`
		Misconfigurations []any   `yaml:"misconfigurations"`
		Secrets           []any   `yaml:"secrets"`
		Licenses          []any   `yaml:"licenses"`
	}
	if err := strictYAML(data, &file); err != nil {
		return nil, err
	}
	rules := make([]IgnoreRule, len(file.Vulnerabilities))
	for i, e := range file.Vulnerabilities {
		until, err := untilIn(e.ExpiredAt)
		if err != nil {
			return nil, err
		}
		rules[i] = IgnoreRule{ID: e.ID, PURLs: e.PURLs, Paths: e.Paths, Until: until, Reason: e.Statement}
	}
	return rules, nil
}

func strictYAML(data []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	err := dec.Decode(into)
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) {
		// Which Go type it does not fit says nothing to whoever wrote the file.
		texts := make([]string, len(wrong.Errors))
		for i, e := range wrong.Errors {
			e, _, _ = strings.Cut(e, " into ")
			texts[i], _, _ = strings.Cut(e, " in type ")
		}
		return errors.New(strings.Join(texts, "; "))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// parseTrivyIgnore reads lines of "CVE-2026-1234 exp:2026-12-01 # why".
func parseTrivyIgnore(text string) ([]IgnoreRule, error) {
	var rules []IgnoreRule
	for line := range strings.Lines(text) {
		entry, comment, _ := strings.Cut(line, "#")
		fields := strings.Fields(entry)
		if len(fields) == 0 {
			continue
		}
		rule := IgnoreRule{ID: fields[0], Reason: strings.TrimSpace(comment)}
		for _, f := range fields[1:] {
			date, ok := strings.CutPrefix(f, "exp:")
			if !ok {
				return nil, fmt.Errorf("%q is neither an id nor exp:DATE", f)
			}
			until, err := parseUntil(date)
			if err != nil {
				return nil, err
			}
			rule.Until = until
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// parseOSVConfig reads the [[IgnoredVulns]] tables of an osv-scanner.toml, and no
// more of TOML than these need. Other tables are about other things.
func parseOSVConfig(text string) ([]IgnoreRule, error) {
	var rules []IgnoreRule
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			header, _, _ := strings.Cut(line, "#")
			if inside = strings.TrimSpace(header) == "[[IgnoredVulns]]"; inside {
				rules = append(rules, IgnoreRule{})
			}
			continue
		case !inside:
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY = VALUE on one line", line)
		}
		value, err := tomlValue(strings.TrimSpace(value))
		if err != nil {
			return nil, err
		}
		rule := &rules[len(rules)-1]
		switch strings.TrimSpace(key) {
		case "id":
			rule.ID = value
		case "reason":
			rule.Reason = value
		case "ignoreUntil":
			if rule.Until, err = parseUntil(value); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unknown key %q in [[IgnoredVulns]]", strings.TrimSpace(key))
		}
	}
	return rules, nil
}

// tomlValue is a string in quotes or a bare date, with a comment after it or not.
func tomlValue(s string) (string, error) {
	switch {
	case strings.HasPrefix(s, `"`):
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", fmt.Errorf("%s is no string", s)
		}
		return strconv.Unquote(quoted)
	case strings.HasPrefix(s, "'"):
		value, _, ok := strings.Cut(s[1:], "'")
		if !ok {
			return "", fmt.Errorf("%s is no string", s)
		}
		return value, nil
	}
	value, _, _ := strings.Cut(s, "#")
	return strings.TrimSpace(value), nil
}

// untilIn reads the end of a rule, if it has one. An end that is left empty, as by a
// variable that is not set, is not none.
func untilIn(n yaml.Node) (time.Time, error) {
	if n.IsZero() {
		return time.Time{}, nil
	}
	var s string
	if err := n.Decode(&s); err != nil {
		return time.Time{}, fmt.Errorf("line %d: the end is no date", n.Line)
	}
	return parseUntil(s)
}

func parseUntil(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339, time.DateTime} {
		if at, err := time.Parse(layout, s); err == nil && !at.IsZero() { // which would be no end
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date; want YYYY-MM-DD", s)
}
