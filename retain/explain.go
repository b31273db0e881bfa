package retain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Explanation is why a version goes or stays.
type Explanation struct {
	Version int64      `json:"version"`
	Digest  oci.Digest `json:"digest"`
	Tags    []string   `json:"tags,omitempty"`
	Role    oci.Role   `json:"role"`
	// Do is what becomes of it; empty if it stays as it is.
	Do     Verb   `json:"do,omitempty"`
	Reason Reason `json:"reason"`
	Rule   string `json:"rule,omitempty"`
	// Blocked is the rule that would have it go.
	Blocked string `json:"blocked,omitempty"`
	// Path leads from what decides to the version itself.
	Path []Step `json:"path,omitempty"`
	// Text says all of it in a sentence, and Change what would have to be otherwise for
	// it to go, or to stay.
	Text   string `json:"text"`
	Change string `json:"change"`
}

// Step is a version on a path.
type Step struct {
	Digest oci.Digest `json:"digest"`
	Tags   []string   `json:"tags,omitempty"`
}

// String names a step by a tag, or else by the begin of its digest.
func (s Step) String() string {
	if len(s.Tags) > 0 {
		return printable(s.Tags[0])
	}
	return shorten(s.Digest)
}

func shorten(d oci.Digest) string {
	return printable(d.String()[:min(len(d), len("sha256:")+12)])
}

// printable is a tag or a digest as it can be shown: what controls a terminal is escaped.
func printable(tag string) string {
	if quoted := strconv.Quote(tag); quoted[1:len(quoted)-1] != tag {
		return quoted
	}
	return tag
}

// Explain says why a plan has a version go or stay. The version is named by a tag, a
// digest or the begin of one, or its number.
//
// Errors: [oci.ErrNotFound] if the inventory has no such version, [oci.ErrInvalid] if
// it has several, or if the plan still needs manifests or was made on another inventory.
func Explain(plan *Plan, inv *Inventory, ref string) (*Explanation, error) {
	if len(plan.Needs)+len(plan.NeedsLabels) > 0 {
		return nil, oci.Invalid("nothing is planned before %d manifests and configs are read", len(plan.Needs)+len(plan.NeedsLabels))
	}
	v, err := inv.find(ref)
	if err != nil {
		return nil, err
	}
	step := func(d oci.Digest) Step {
		for i := range inv.Versions {
			if inv.Versions[i].Digest == d {
				return Step{d, slices.Sorted(slices.Values(inv.Versions[i].Tags))}
			}
		}
		return Step{Digest: d}
	}
	e := &Explanation{Version: v.ID, Digest: v.Digest, Tags: slices.Sorted(slices.Values(v.Tags))}
	for _, a := range plan.Actions {
		if a.Version == v.ID {
			e.Role, e.Do, e.Reason, e.Rule = a.Role, a.Do, a.Reason, a.Rule
			if a.Because != "" {
				e.Path = []Step{step(a.Because), step(v.Digest)}
			}
			e.Text, e.Change = e.action(a)
			return e, nil
		}
	}
	for _, d := range plan.Kept {
		if d.Version == v.ID {
			e.Role, e.Reason, e.Rule, e.Blocked = d.Role, d.Reason, d.Rule, d.Blocked
			for _, at := range d.Path {
				e.Path = append(e.Path, step(at))
			}
			e.Text, e.Change = e.keeping()
			return e, nil
		}
	}
	return nil, oci.Invalid("the plan says nothing of version %d: it was made on another inventory", v.ID)
}

// find returns the version that a text names.
func (inv *Inventory) find(ref string) (*Version, error) {
	var found *Version
	number, _ := strconv.ParseInt(ref, 10, 64)
	for i := range inv.Versions {
		v := &inv.Versions[i]
		named := slices.Contains(v.Tags, ref) || v.ID == number && number > 0 || v.Digest.String() == ref ||
			strings.HasPrefix(ref, "sha") && len(ref) > len("sha256:") && strings.HasPrefix(v.Digest.String(), ref)
		if !named {
			continue
		}
		if found != nil {
			return nil, oci.Invalid("%s names version %d as well as %d: give the whole digest", printable(ref), found.ID, v.ID)
		}
		found = v
	}
	if found == nil {
		return nil, fmt.Errorf("%s in %s/%s: %w", printable(ref), inv.Owner, inv.Package, oci.ErrNotFound)
	}
	return found, nil
}

func (e *Explanation) action(a Action) (text, change string) {
	from := shorten(a.Because)
	if len(e.Path) > 0 {
		from = e.Path[0].String()
	}
	tags := make([]string, len(a.Off))
	for i, tag := range a.Off {
		tags[i] = printable(tag)
	}
	off := strings.Join(tags, ", ")
	switch {
	case a.Do == Retag:
		return fmt.Sprintf("gets the tag %s by the rule %q, so that it is not lost", printable(a.On), a.Rule), "take the retag out of the rule"
	case a.Do == Untag && a.Reason == ReasonAboutKept:
		return fmt.Sprintf("loses %s by the rule %q and stays, because it is about %s", off, a.Rule, from), "delete " + from + " too"
	case a.Do == Untag && a.Because != "":
		return fmt.Sprintf("loses %s by the rule %q and stays, because %s needs it", off, a.Rule, from), "delete " + from + " too"
	case a.Do == Untag:
		return fmt.Sprintf("loses %s by the rule %q and stays", off, a.Rule), "let the rule delete, and match all of its tags"
	case a.Reason == ReasonPart:
		return fmt.Sprintf("goes with %s, which the rule %q deletes, because nothing else lists it", from, a.Rule), "keep " + from
	case a.Reason == ReasonReferrer:
		return fmt.Sprintf("goes with %s, which the rule %q deletes, because it is about that", from, a.Rule), "keep " + from
	}
	return fmt.Sprintf("goes by the rule %q", a.Rule), "have a rule keep it, or protect it"
}

// keeping says why a version stays, and what would let it go.
func (e *Explanation) keeping() (text, change string) {
	from, way := "", ""
	if len(e.Path) > 1 {
		from = e.Path[0].String()
		steps := make([]string, len(e.Path))
		for i, s := range e.Path {
			steps[i] = s.String()
		}
		way = " (" + strings.Join(steps, " -> ") + ")"
	}
	switch e.Reason {
	case ReasonUnmatched:
		text, change = "stays: no rule is about it", "write a rule that matches it"
	case ReasonKeepRule:
		text, change = fmt.Sprintf("stays: the rule %q keeps it", e.Rule), "have that rule keep less"
	case ReasonProtected:
		text, change = "stays: the policy protects it", "take its tag or digest out of protect"
	case ReasonInUse:
		text, change = "stays: something outside uses it", "stop using it, or do not search that file"
	case ReasonCondition:
		text, change = fmt.Sprintf("stays: the rule %q is about it, and its condition does not hold yet", e.Rule), "wait, or loosen the condition"
	case ReasonSomeTags:
		text, change = fmt.Sprintf("stays: the rule %q is about some of its tags only", e.Rule), "match all of its tags, or have the rule untag"
	case ReasonNeededByKept:
		text, change = "stays: it is part of "+from+", which stays"+way, "let "+from+" go"
	case ReasonAboutKept:
		text, change = "stays: it is about "+from+", which stays"+way, "let "+from+" go"
	case ReasonGrace:
		text, change = "stays: it has no tag of its own and is younger than the grace period", "wait"
	case ReasonNoDate:
		text, change = "stays: its age is not known", "match it without an age"
	case ReasonUnclear:
		text, change = fmt.Sprintf("stays: whether the rule %q is about it can't be told, for its platform, its labels or a part of it is not known", e.Rule), "put that rule behind those that may have it, or delete it by its digest"
	case ReasonUnreadable:
		text, change = "stays: it could not be read, or is of a kind that is not understood", "delete it by its digest if it is broken for good"
	case ReasonUnknownParent:
		text, change = "stays: "+from+" could not be read, and may list it", "have that read again, or delete it by its digest if it is broken for good"
	case ReasonLastTagged:
		text, change = "stays: it would be the last version with a tag, which GitHub does not delete", "delete the package, or tag another version"
	case ReasonTagTaken:
		text, change = "stays without the tag that it was to get: another version has that", "have the rule give another tag"
	default:
		text, change = "stays: "+string(e.Reason), ""
	}
	if e.Blocked != "" {
		text += fmt.Sprintf("; the rule %q would have it go", e.Blocked)
	}
	return text, change
}
