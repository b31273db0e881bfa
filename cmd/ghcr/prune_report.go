package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// pruneReport is what ghcr prune prints: the plans, and once they are carried out what
// became of each action.
type pruneReport struct {
	Schema  string         `json:"schema"`
	Digest  oci.Digest     `json:"digest"` // of all plans together, for --confirm
	Applied bool           `json:"applied"`
	Totals  pruneTotals    `json:"totals"`
	Plans   []*retain.Plan `json:"plans"`
	// Unplanned are the packages that could not be looked at. No number counts them.
	Unplanned []unplanned    `json:"unplanned"`
	Results   []pruneResult  `json:"results"`
	Journals  []string       `json:"journals"`
	Stats     map[string]int `json:"stats,omitempty"` // requests by kind

	list []*planned
}

// pruneTotals count versions, the first half as planned and the second as done.
type pruneTotals struct {
	Packages    int   `json:"packages"`
	Versions    int   `json:"versions"`
	Delete      int   `json:"delete"`
	Untag       int   `json:"untag"` // tags
	Retag       int   `json:"retag"`
	Kept        int   `json:"kept"`
	Held        int   `json:"held"` // of those kept, that a rule would delete
	Refused     int   `json:"refused"`
	UniqueBytes int64 `json:"uniqueBytes"`
	SharedBytes int64 `json:"sharedBytes"`
	Requests    int   `json:"requests"`
	Points      int   `json:"points"`
	Looks       int   `json:"looks"`

	Deleted  int            `json:"deleted"`
	Outcomes map[string]int `json:"outcomes"`
	Left     int            `json:"left"` // not tried
}

// pruneResult is what became of one action.
type pruneResult struct {
	Ref     string        `json:"ref"`
	Do      retain.Verb   `json:"do"`
	Version int64         `json:"version"`
	Digest  oci.Digest    `json:"digest"`
	Tags    []string      `json:"tags"`
	Off     []string      `json:"off"` // tags that were to be taken off
	On      string        `json:"on"`  // the tag that it was to get
	Role    oci.Role      `json:"role"`
	Rule    string        `json:"rule"`
	Reason  retain.Reason `json:"reason"`
	Outcome ghcr.Outcome  `json:"outcome"`
	Why     string        `json:"why"` // unless it is done
}

func newPruneReport(set *planSet) *pruneReport {
	r := &pruneReport{Schema: schema, Plans: []*retain.Plan{}, Unplanned: append([]unplanned{}, set.failed...), Results: []pruneResult{}, Journals: []string{}, list: set.list}
	r.Totals.Outcomes = map[string]int{}
	t := &r.Totals
	for _, p := range set.list {
		r.Plans = append(r.Plans, p.plan)
		t.Packages++
		t.Versions += len(p.plan.Actions) + len(p.plan.Kept)
		t.Kept += len(p.plan.Kept)
		t.Refused += len(p.plan.Refused)
		t.UniqueBytes += p.plan.Cost.UniqueBytes
		t.SharedBytes += p.plan.Cost.SharedBytes
		t.Requests += p.plan.Cost.Requests
		t.Points += p.plan.Cost.Points
		t.Looks += p.plan.Cost.Looks
		for _, x := range p.plan.Actions {
			switch x.Do {
			case retain.Delete:
				t.Delete++
			case retain.Untag:
				t.Untag += len(x.Off)
			case retain.Retag:
				t.Retag++
			}
		}
		for _, d := range p.plan.Kept {
			if isHeld(d) {
				t.Held++
			}
		}
	}
	r.Digest = retain.PlansDigest(r.Plans...)
	return r
}

// notDone are the actions that were tried and could not be done, as far as is known, and
// that another try may do.
func (t *pruneTotals) notDone() int {
	return t.Outcomes[string(ghcr.Failed)] + t.Outcomes[string(ghcr.Pending)] + t.Outcomes[string(ghcr.Unknown)]
}

func (t *pruneTotals) actions() int { return t.Delete + t.Untag + t.Retag }

// imperative says what would be done.
func (t *pruneTotals) imperative() string {
	var parts []string
	if t.Delete > 0 {
		parts = append(parts, fmt.Sprintf("delete %d of %s", t.Delete, plural(t.Versions, "version")))
	}
	if t.Untag > 0 {
		parts = append(parts, "take off "+plural(t.Untag, "tag"))
	}
	if t.Retag > 0 {
		parts = append(parts, "give "+plural(t.Retag, "tag"))
	}
	if len(parts) == 0 {
		return fmt.Sprintf("nothing to do with %s", plural(t.Versions, "version"))
	}
	return strings.Join(parts, ", ")
}

// frees says what deleting gives back. What is shared with what stays does not come free.
func (t *pruneTotals) frees() string {
	text := "frees up to " + size(t.UniqueBytes)
	if t.SharedBytes > 0 {
		text += ", and " + size(t.SharedBytes) + " stay that others need"
	}
	return text
}

// pointsAMinute is what GitHub allows (docs/quirks.md#rest-points).
const pointsAMinute = 900

// takes says what carrying the plan out takes, as far as can be told before.
func (t *pruneTotals) takes() string {
	text := "less than a minute"
	if minutes := (t.Points + pointsAMinute/2) / pointsAMinute; minutes > 0 {
		text = "about " + plural(minutes, "minute")
	}
	return plural(t.Requests, "request") + " and " + plural(t.Looks, "look") + " at the registry, " + text
}

// summary is the verdict in a sentence.
func (r *pruneReport) summary() string {
	t := &r.Totals
	if r.Applied {
		return r.outcome()
	}
	text := "plan " + r.Digest.String() + ": " + t.imperative()
	if t.actions() > 0 {
		if t.Delete > 0 {
			text += "; " + t.frees()
		}
		text += "; " + t.takes()
	}
	return text
}

// outcome says what was done, in a sentence.
func (r *pruneReport) outcome() string {
	text := fmt.Sprintf("plan %s: %s deleted, %d of %s done", r.Digest, plural(r.Totals.Deleted, "version"),
		r.Totals.Outcomes[string(ghcr.Done)], plural(r.actionCount(), "action"))
	for _, name := range slices.Sorted(maps.Keys(r.Totals.Outcomes)) {
		if name != string(ghcr.Done) {
			text += fmt.Sprintf(", %d %s", r.Totals.Outcomes[name], name)
		}
	}
	if r.Totals.Left > 0 {
		text += fmt.Sprintf(", %d left", r.Totals.Left)
	}
	return text
}

func (r *pruneReport) actionCount() int {
	n := 0
	for _, p := range r.list {
		n += len(p.plan.Actions)
	}
	return n
}

// freed are the bytes that nothing needs any more, as far as that is known: what part
// of a plan frees, its figures don't tell.
func (r *pruneReport) freed() (n int64, known bool) {
	if !r.Applied || r.Totals.Deleted == 0 {
		return 0, true
	}
	return r.Totals.UniqueBytes, r.Totals.Deleted == r.Totals.Delete
}
