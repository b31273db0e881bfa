package ghcr

import (
	"errors"
	"fmt"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// ApplyOptions say how to carry out a plan. The zero value does all of it.
type ApplyOptions struct {
	// Journal is the file to write, which must not be there: what is about to be done,
	// before it is, and what came of it. Beside it is a file PATH.lock as long as the run
	// lasts. [Client.ResumePrune] goes on from it, and
	// [ReadUndo] reads it. If empty it is a new one where undo files are kept, as
	// Options say, and none where they are not.
	Journal string
	// Confirm is the digest of the plan that was agreed to. Empty asks for nothing.
	Confirm oci.Digest
	// MaxRequests, MaxDeletes and MaxTime end the run between two actions: so many
	// requests that count on the limits of the API, so many versions deleted, so much
	// time. Zero is no limit. The first list of the versions is read in any case.
	MaxRequests int
	MaxDeletes  int
	MaxTime     time.Duration
	// Archive is an OCI image layout, made if need be, to which the manifests of what is
	// deleted are copied right before; with ArchiveBlobs, their content too. What can't
	// be copied is not deleted, and neither is an index a part of which can't. A tag leaves
	// what had it in the layout before, which stays listed. Empty copies nothing.
	Archive      string
	ArchiveBlobs bool
	// Wait is for how long to wait for the Packages API to show that tags have left
	// their images; a minute if zero.
	Wait time.Duration
	// Report is told of each action when its outcome is known, and of one that had to be
	// taken back a second time. Nil is told nothing.
	Report func(PruneResult)
}

// PruneResult is what became of an action.
type PruneResult struct {
	retain.Action
	Outcome Outcome
	Err     error // why, unless it is done
}

// PruneReport is what became of a plan. Each number in it was looked at.
type PruneReport struct {
	Plan    oci.Digest
	Items   []PruneResult // by the actions of the plan
	Journal string        // the file; empty if none was written
	// Left are actions that were not tried, since the run ended before.
	Left int
	// Requests are those that counted on the limits of the API, of all that the client did
	// during the run.
	Requests int
}

// Count returns how many actions had an outcome.
func (r *PruneReport) Count(o Outcome) int {
	n := 0
	for _, item := range r.Items {
		if item.Outcome == o {
			n++
		}
	}
	return n
}

// PlanFault is why a plan may not be carried out. Each is an error, so that it can be
// tested for with [errors.Is]; details are in [*PlanError].
type PlanFault string

// The faults, with the class of error that each is of.
const (
	PlanMalformed   PlanFault = "it is no plan that this program understands" // [ErrInvalid]
	PlanForeign     PlanFault = "it is of another package"                    // [ErrInvalid]
	PlanAltered     PlanFault = "it was altered"                              // [ErrIntegrity]
	PlanExpired     PlanFault = "it has expired"                              // [ErrConflict]
	PlanEarly       PlanFault = "it is for a later time"                      // [ErrConflict]
	PlanUnconfirmed PlanFault = "it is not the one that was agreed to"        // [ErrConflict]
	PlanRefused     PlanFault = "it does more than its policy allows"         // [ErrConflict]
)

// Error says what the fault is.
func (f PlanFault) Error() string { return string(f) }

// Is tells which class of errors the fault is of.
func (f PlanFault) Is(target error) bool {
	switch f {
	case PlanMalformed, PlanForeign:
		return target == ErrInvalid
	case PlanAltered:
		return target == ErrIntegrity
	case PlanExpired, PlanEarly, PlanUnconfirmed, PlanRefused:
		return target == ErrConflict
	}
	return false
}

// PlanError is the refusal of a plan, with nothing done. For [errors.Is] it is its
// fault, and of that fault's class.
type PlanError struct {
	Fault PlanFault
	Cause error // what was found
}

// Error says what is wrong with the plan.
func (e *PlanError) Error() string { return fmt.Sprintf("the plan: %s: %v", e.Fault, e.Cause) }

// Is tells whether target is the fault or its class.
func (e *PlanError) Is(target error) bool { return target == e.Fault || e.Fault.Is(target) }

// Unwrap returns the cause: [retain.ErrExpired], for example.
func (e *PlanError) Unwrap() error { return e.Cause }

func badPlan(f PlanFault, format string, args ...any) error {
	return &PlanError{f, fmt.Errorf(format, args...)}
}

// StoppedError says that a run ended by a limit of its own, between two actions. The
// rest can be done by [Client.ResumePrune].
type StoppedError struct {
	Limit   string // "100 deletions"
	Left    int    // actions that were not tried
	Journal string // empty if none was written
}

// Error says how to go on.
func (e *StoppedError) Error() string {
	text := fmt.Sprintf("stopped after %s, as was asked, with %d actions left", e.Limit, e.Left)
	if e.Journal != "" {
		text += ": the journal " + e.Journal + " says how to go on"
	}
	return text
}

// checkPlan refuses what must not be carried out, whatever the package is like. A run
// that was begun in time may be taken up later: what it does is checked again anyway.
func checkPlan(plan *retain.Plan, registry string, opts ApplyOptions, resumed bool) error {
	now := time.Now()
	if resumed {
		now = time.Time{}
	}
	if err := checkWhole(plan, now); err != nil {
		return err
	}
	if opts.Confirm != "" && opts.Confirm != plan.Digest {
		return badPlan(PlanUnconfirmed, "%s was agreed to, and this is %s", opts.Confirm, plan.Digest)
	}
	if plan.Host != registry {
		return badPlan(PlanForeign, "it is of the registry %s, not of %s", plan.Host, registry)
	}
	if err := plan.Err(); err != nil {
		return badPlan(PlanRefused, "%w", err)
	}
	return nil
}

// checkWhole refuses what is no plan, not the one that was made, or too old.
func checkWhole(plan *retain.Plan, now time.Time) error {
	switch err := plan.Verify(now, nil); {
	case errors.Is(err, ErrIntegrity):
		return badPlan(PlanAltered, "%w", err)
	case errors.Is(err, retain.ErrExpired):
		return badPlan(PlanExpired, "%w", err)
	case err != nil:
		return badPlan(PlanMalformed, "%w", err)
	case len(plan.Needs)+len(plan.NeedsLabels) > 0:
		return badPlan(PlanMalformed, "it is not finished: %d manifests and %d configs must be read first", len(plan.Needs), len(plan.NeedsLabels))
	case !now.IsZero() && plan.Created.After(now.Add(clockSkew)):
		// Ages were counted to that time: what it deletes may be too young today.
		return badPlan(PlanEarly, "it says what would be done at %s", plan.Created.Format(time.RFC3339))
	}
	return checkActions(plan)
}

// clockSkew is how far the clock of the machine that made a plan may be ahead.
const clockSkew = 5 * time.Minute

func checkActions(plan *retain.Plan) error {
	versions, digests := map[int64]bool{}, map[oci.Digest]bool{}
	for i, a := range plan.Actions {
		bad := func(format string, args ...any) error {
			return badPlan(PlanMalformed, "action %d: %s", i, fmt.Sprintf(format, args...))
		}
		if _, err := oci.ParseDigest(a.Digest.String()); err != nil {
			return bad("%v", err)
		}
		if a.Version <= 0 || versions[a.Version] || digests[a.Digest] {
			return bad("version %d of %s is no version, or there twice", a.Version, a.Digest)
		}
		versions[a.Version], digests[a.Digest] = true, true
		changed := a.Off
		switch {
		case a.Do == retain.Delete:
		case a.Do == retain.Untag && len(a.Off) > 0:
		case a.Do == retain.Retag && a.On != "":
			changed = []string{a.On}
		default:
			return bad("%q of %s is nothing that can be done", a.Do, a.Digest)
		}
		for _, tag := range changed {
			if err := oci.CheckTag(tag); err != nil {
				return bad("%v", err)
			}
		}
	}
	return nil
}
