package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// isHeld tells whether something is in the way of a rule. That a part or a signature
// stays with its image is not.
func isHeld(d retain.Decision) bool {
	switch d.Reason {
	case retain.ReasonAboutKept:
		return false
	case retain.ReasonNeededByKept:
		return d.Blocked != "" && len(d.Tags) > 0
	}
	return d.Blocked != ""
}

// encodeBlocked writes a line of JSON for each version that a rule would delete and that
// stays.
func (p *planned) encodeBlocked(enc *json.Encoder) error {
	for _, d := range p.plan.Kept {
		if !isHeld(d) {
			continue
		}
		err := enc.Encode(struct {
			Type    string        `json:"type"`
			Ref     string        `json:"ref"`
			Version int64         `json:"version"`
			Digest  oci.Digest    `json:"digest"`
			Tags    []string      `json:"tags"`
			Role    oci.Role      `json:"role"`
			Rule    string        `json:"rule"` // that would delete it
			Reason  retain.Reason `json:"reason"`
			Why     string        `json:"why"`
		}{"blocked", p.ref(d.Digest), d.Version, d.Digest, append([]string{}, d.Tags...), d.Role, d.Blocked, d.Reason, p.keptWhy(d)})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxHeld is how many versions a table names that a rule would delete.
const maxHeld = 40

// keptRows are the versions that a rule would delete and that stay, with the reason; or
// all that stay.
func (p *planned) keptRows(all bool) [][]string {
	var rows [][]string
	more := 0
	for _, d := range p.plan.Kept {
		switch {
		case isHeld(d) && !all && len(rows) == maxHeld:
			more++
		case isHeld(d):
			rows = append(rows, []string{"blocked", imageName(d.Tags, d.Digest), string(d.Role), "", "", "rule " + printable(d.Blocked) + ", but " + p.keptWhy(d)})
		case all:
			rows = append(rows, []string{"keep", imageName(d.Tags, d.Digest), string(d.Role), "", "", p.keptWhy(d)})
		}
	}
	if more > 0 {
		rows = append(rows, []string{"blocked", fmt.Sprintf("and %d more", more)})
	}
	return rows
}

// keptGroups count what stays by the reason, unless all was told before.
func (p *planned) keptGroups(all bool) [][]string {
	type group struct {
		reason retain.Reason
		rule   string
	}
	found := map[group][]retain.Decision{}
	var order []group
	for _, d := range p.plan.Kept {
		if isHeld(d) || all {
			continue
		}
		g := group{d.Reason, d.Rule}
		if found[g] == nil {
			order = append(order, g)
		}
		found[g] = append(found[g], d)
	}
	// Images by rules first, parts last.
	slices.SortStableFunc(order, func(x, y group) int {
		return cmp.Or(cmp.Compare(reasonOrder(x.reason), reasonOrder(y.reason)), cmp.Compare(x.rule, y.rule))
	})
	var rows [][]string
	for _, g := range order {
		rows = append(rows, []string{"keep", plural(len(found[g]), "version"), reasonText(g.reason, g.rule), someNames(found[g])})
	}
	return rows
}

// someNames are the newest of the versions that have tags.
func someNames(list []retain.Decision) string {
	var names []string
	tagged := 0
	for _, d := range slices.Backward(list) {
		if len(d.Tags) == 0 || isDigestTag(d.Tags[0]) {
			continue
		}
		if tagged++; len(names) < 3 {
			names = append(names, imageName(d.Tags, d.Digest))
		}
	}
	if tagged > len(names) {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

func isDigestTag(tag string) bool {
	_, _, ok := oci.ParseDigestTag(tag)
	return ok
}

var reasonTexts = []struct {
	reason retain.Reason
	text   string // with the rule in place of %s
}{
	{retain.ReasonKeepRule, "rule %s keeps it"},
	{retain.ReasonProtected, "the policy protects it"},
	{retain.ReasonInUse, "it is in use"},
	{retain.ReasonCondition, "rule %s is about it, and its condition does not hold yet"},
	{retain.ReasonSomeTags, "rule %s is about some of its tags only"},
	{retain.ReasonUnmatched, "no rule is about it"},
	{retain.ReasonReportOnly, "rule %s only reports it"},
	{retain.ReasonGrace, "it has no tag and came just now"},
	{retain.ReasonNoDate, "its age is not known"},
	{retain.ReasonLastTagged, "GitHub does not delete the last version with a tag"},
	{retain.ReasonTagTaken, "another version has the tag that it was to get"},
	{retain.ReasonUnreadable, "it can't be read"},
	{retain.ReasonUnknownParent, "something that can't be read may need it"},
	{retain.ReasonNeededByKept, "an image that stays lists it"},
	{retain.ReasonAboutKept, "it is about an image that stays"},
}

func reasonOrder(reason retain.Reason) int {
	for i, r := range reasonTexts {
		if r.reason == reason {
			return i
		}
	}
	return len(reasonTexts)
}

func reasonText(reason retain.Reason, rule string) string {
	i := reasonOrder(reason)
	if i == len(reasonTexts) {
		return string(reason)
	}
	return strings.ReplaceAll(reasonTexts[i].text, "%s", printable(rule))
}

// keptWhy says why one version stays, and for which.
func (p *planned) keptWhy(d retain.Decision) string {
	text := reasonText(d.Reason, d.Rule)
	if len(d.Path) < 2 {
		return text
	}
	for i, name := range d.Path[:len(d.Path)-1] {
		if i == 0 {
			text += ": "
		} else {
			text += " → "
		}
		text += p.nameOf(name)
	}
	return text
}
