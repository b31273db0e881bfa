package retain

import (
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Quick is a policy as the flags of a command say it. The zero value asks for nothing,
// which is an error.
//
// Tags that are counted and have an age are the tagged images'; what has no tag is only
// touched by Untagged, Orphans and Broken.
type Quick struct {
	Tags   []string // patterns of tags that may go; each text may be a list with commas
	Except []string // patterns of tags that do not match after all
	Keep   []string // patterns of tags that are protected
	// KeepLast keeps the newest of the images that Tags match, or of all tagged ones.
	KeepLast int
	// KeepVersions keeps the newest versions by semver, in each group of Per: "major",
	// "minor", "channel", or all in one if it is empty. Only tags that are versions
	// match then, and of them those that Tags match.
	KeepVersions int
	Per          string
	KeepWithin   time.Duration // keeps what is younger
	OlderThan    time.Duration // only what is older goes
	Untagged     bool          // deletes what has no tag
	Orphans      bool          // deletes referrers whose subject is gone
	Broken       bool          // deletes indexes of which manifests are gone
	// MeanAll agrees to a pattern in Tags that matches every tag.
	MeanAll bool
}

// Policy returns the policy that the flags mean, with [DefaultRails].
//
// Errors: [oci.ErrInvalid] if they ask for nothing, contradict each other, or have an
// empty item in a list; [*PolicyError] for the rest.
func (q Quick) Policy() (*Policy, error) {
	p := &Policy{Rails: DefaultRails()}
	for name, n := range map[string]int64{"keep-last": int64(q.KeepLast), "keep-versions": int64(q.KeepVersions), "older-than": int64(q.OlderThan), "keep-within": int64(q.KeepWithin)} {
		if n < 0 {
			return nil, oci.Invalid("%s is below zero", name)
		}
	}
	tags, err := patternList("tags", q.Tags)
	if err != nil {
		return nil, err
	}
	except, err := patternList("except", q.Except)
	if err != nil {
		return nil, err
	}
	if p.Protect.Tags, err = patternList("keep", q.Keep); err != nil {
		return nil, err
	}
	rest := q.Untagged || q.Orphans || q.Broken
	tagged := len(tags) > 0 || q.KeepLast > 0 || q.KeepVersions > 0 || q.KeepWithin > 0 || q.OlderThan > 0 && !rest
	switch {
	case !tagged && !rest:
		return nil, oci.Invalid("nothing is asked for; say which tags may go, how many are kept, from which age on, or that what has no tag may go")
	case len(except) > 0 && !tagged:
		return nil, oci.Invalid("except takes tags from those that may go, and no tags may go")
	case q.KeepLast > 0 && q.KeepVersions > 0:
		return nil, oci.Invalid("newest by date and newest by version are two rules; write a policy file")
	case q.Per != "" && q.KeepVersions == 0:
		return nil, oci.Invalid("per %s groups versions, and no number of them is kept", q.Per)
	}
	// All tags are meant if none are named, and then it is a number or an age that limits.
	p.Rails.AllowMatchAll = q.MeanAll || len(tags) == 0
	if tagged {
		p.Rules = append(p.Rules, q.tagged(tags, except))
	}
	add := func(name string, m Match) {
		p.Rules = append(p.Rules, Rule{Name: name, Match: m, Delete: &When{OlderThan: q.OlderThan}})
	}
	if q.Orphans {
		add("orphans", Match{Health: []Health{Orphan}})
	}
	if q.Broken {
		add("broken", Match{Health: []Health{Ghost, Partial}})
	}
	if q.Untagged {
		add("untagged", Match{Untagged: true})
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// tagged is the rule about what has tags.
func (q Quick) tagged(tags, except []Pattern) Rule {
	r := Rule{Name: "tags", Match: Match{Tags: tags, Except: except}, Delete: &When{OlderThan: q.OlderThan}}
	if q.KeepVersions > 0 {
		r.Name = "versions"
		r.Match.Semver, _ = ParseRange(allVersions)
	} else if len(tags) == 0 {
		r.Match.Tags = []Pattern{everyTag()}
	}
	if q.KeepLast > 0 || q.KeepVersions > 0 || q.KeepWithin > 0 {
		r.Keep = &Keep{Last: max(q.KeepLast, q.KeepVersions), Within: q.KeepWithin, Per: q.Per}
		if q.KeepVersions > 0 {
			r.Keep.Order = BySemver
		}
	}
	return r
}

// allVersions is the range of all versions, pre-releases of 0.0.0 too.
const allVersions = ">=0.0.0-0"

func everyTag() Pattern {
	p, _ := ParsePattern("*")
	return p
}

// patternList reads lists with commas. A regular expression may have commas of its own, so
// it is always an item alone.
func patternList(flag string, texts []string) ([]Pattern, error) {
	var list []Pattern
	for _, text := range texts {
		parts, err := splitList(text)
		if err != nil {
			return nil, oci.Invalid("%s: %w", flag, err)
		}
		for _, part := range parts {
			p, err := ParsePattern(part)
			if err != nil {
				return nil, oci.Invalid("%s: %w", flag, err)
			}
			if !slices.ContainsFunc(list, func(o Pattern) bool { return o.Text == p.Text }) {
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// splitList returns the items of a list with commas, trimmed. A text that begins with
// "re:" is one item. An empty item is an error, for it is what is left of one that went
// missing.
//
// Errors: [oci.ErrInvalid].
func splitList(text string) ([]string, error) {
	if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, regexPrefix) {
		return []string{trimmed}, nil
	}
	items := strings.Split(text, ",")
	for i, item := range items {
		if items[i] = strings.TrimSpace(item); items[i] == "" {
			return nil, oci.Invalid("empty item in the list %q", text)
		}
		if strings.HasPrefix(items[i], regexPrefix) {
			return nil, oci.Invalid("%q: give a regular expression on its own, for commas may be a part of it", text)
		}
	}
	return items, nil
}
