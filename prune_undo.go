package ghcr

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// schemaOf reads what kind of file this is from the first JSON value in it.
func schemaOf(data []byte) string {
	var head struct {
		Schema string `json:"schema"`
	}
	if json.NewDecoder(bytes.NewReader(data)).Decode(&head) != nil {
		return ""
	}
	return head.Schema
}

// journalUndo is what takes back what a run did.
func journalUndo(data []byte) (*Undo, error) {
	j, err := parseJournal(data)
	if err != nil {
		return nil, err
	}
	return j.Undo()
}

// Undo is what takes back what the run did, for [RestoreOptions]: the versions that it
// deleted or may have deleted, and the tags that it took off.
//
// Errors: [*PlanError] for a plan that was altered.
func (j *Journal) Undo() (*Undo, error) {
	u, err := undoOf(j.Plan, func(i int) bool {
		step := j.Steps[i]
		switch {
		case !step.Begun, step.Restored, step.Outcome == AlreadyGone, step.Outcome == Blocked:
			return false
		case step.Outcome == Changed:
			return j.Plan.Actions[i].Do != retain.Delete // what had changed was left alone
		}
		return true // an action that failed may have been done all the same
	})
	if err != nil {
		return nil, err
	}
	u.Time = j.Begun
	return u, nil
}

// filedUndo is what takes back what the plan of a file does.
func filedUndo(data []byte) (*Undo, error) {
	plans, err := retain.ReadPlans(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if len(plans) != 1 {
		return nil, oci.Invalid("it has %d plans: take one after the other", len(plans))
	}
	return UndoOf(plans[0])
}

// UndoOf is what takes back all that a plan does, for [RestoreOptions], whether it was
// done or not: restoring leaves alone what is still there. A journal knows better.
//
// Errors: [*PlanError] for a plan that was altered.
func UndoOf(plan *retain.Plan) (*Undo, error) {
	u, err := undoOf(plan, func(int) bool { return true })
	if err != nil {
		return nil, err
	}
	u.Time = plan.Created
	return u, nil
}

func undoOf(plan *retain.Plan, done func(i int) bool) (*Undo, error) {
	if err := checkWhole(plan, time.Time{}); err != nil {
		return nil, err
	}
	image := oci.ImageRef{Registry: plan.Host, Name: plan.Owner + "/" + plan.Package}
	u := &Undo{Schema: UndoSchema, Op: "prune", Image: image.Repository()}
	at := map[oci.Digest]int{}
	for i, a := range plan.Actions {
		switch {
		case !done(i):
		case a.Do == retain.Untag:
			u.Items = append(u.Items, UndoItem{Digest: a.Digest, Tags: a.Off})
		case a.Do == retain.Delete:
			at[a.Digest] = len(u.Items)
			u.Items = append(u.Items, UndoItem{Version: a.Version, Digest: a.Digest, Tags: a.Tags})
		}
	}
	for _, a := range plan.Actions {
		if _, back := at[a.Digest]; !back {
			continue
		}
		for _, d := range a.Parents {
			if i, back := at[d]; back && !slices.Contains(u.Items[i].Needs, a.Digest) {
				u.Items[i].Needs = append(u.Items[i].Needs, a.Digest)
			}
		}
		// What goes along and is no part is about what it goes along with.
		if i := at[a.Digest]; a.Reason == retain.ReasonReferrer && a.Because != "" {
			u.Items[i].Needs = append(u.Items[i].Needs, a.Because)
		}
	}
	if err := u.check(); err != nil {
		return nil, badPlan(PlanMalformed, "%v", err)
	}
	return u, nil
}
