package ghcr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// ApplyPrune carries out a plan that [Client.PlanPrune] made, now or another day. No
// policy is asked any more: each action is done if what it was planned on still holds,
// and left alone otherwise, with what hangs on it, while the others go on. The order is
// the plan's, which may be broken off anywhere.
//
// The package is listed once, and again only in long runs. Where its tags point is
// looked at before the first action, every minute or so, and, of a version's own tags,
// right before it goes; what came since the plan is read, and what it needs stays. After each
// deletion the registry is asked whether the manifest is gone. At the end, even if ctx
// is done by then, the tags are looked at once more for up to a minute, and what an index
// has begun to need meanwhile is restored. A tag that is put on an image after the last
// look at the tags and before its deletion is lost.
//
// When ctx is done, waits end at once and nothing more is sent; a change that was sent has
// half a minute to be answered and looked at. A refusal that would meet all others too ends
// the run, and so do five failures one after the other.
//
// Errors: [*PlanError], [ErrDenied] for a token that is known not to be allowed to
// delete, and [packages.MovingError], with nothing done; [*StoppedError] for a limit of
// the options; the cause if nothing was done; else [*PartialError]. The report is there
// beside an error whenever something was tried.
func (c *Client) ApplyPrune(ctx context.Context, plan *retain.Plan, opts ApplyOptions) (*PruneReport, error) {
	return c.prune(ctx, plan, opts, nil)
}

// ResumePrune goes on with a run that ended before its end, even in the middle of an
// action: what its journal says is done is not done again, what was under way is looked
// at, and the rest is tried, each action after a new look. What somebody has restored
// meanwhile is left alone, with what belongs to it. It may do so after the plan has
// expired. The journal of the options is not looked at.
//
// Errors: those of [ReadJournal] and [Client.ApplyPrune]; [ErrConflict] while another run
// goes by the journal.
func (c *Client) ResumePrune(ctx context.Context, journal string, opts ApplyOptions) (*PruneReport, error) {
	// What is read of it must be all of it until this run has ended.
	release, err := lockJournal(journal)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := ReadJournal(journal)
	if err != nil {
		return nil, err
	}
	return c.prune(ctx, j.Plan, opts, j)
}

func (c *Client) prune(ctx context.Context, plan *retain.Plan, opts ApplyOptions, earlier *Journal) (*PruneReport, error) {
	image := oci.ImageRef{Registry: plan.Host, Name: plan.Owner + "/" + plan.Package}
	op := "prune " + image.Repository()
	if err := checkPlan(plan, c.opts.Registry, opts, earlier != nil); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	s, err := c.subject(image)
	if err != nil {
		return nil, err
	}
	if s.api == nil {
		return nil, s.noAPI("prune")
	}
	p := newPruning(s, plan, opts, earlier)
	if err := p.begin(ctx, earlier); err != nil {
		return nil, fmt.Errorf("%s: %w", op, errors.Join(err, p.journal.close()))
	}
	p.run(ctx)
	// Whoever breaks the run off must not leave an index broken either.
	mendCtx, release := outliving(ctx, mendWait)
	mendErr := p.mend(mendCtx)
	release()
	report := &PruneReport{Plan: plan.Digest, Items: p.results, Journal: p.journal.path(), Left: p.left, Requests: p.spent()}
	return report, p.sumUp(op, errors.Join(mendErr, p.journal.close()))
}

// pruning is a plan that is being carried out.
type pruning struct {
	subject *subject
	plan    *retain.Plan
	opts    ApplyOptions
	journal *journal

	known   map[oci.Digest]bool // that the plan tells of
	unread  []oci.Digest        // of these, what an index says to be no index itself
	belied  map[oci.Digest]bool // of these, what is one
	step    map[oci.Digest]int  // actions
	results []PruneResult       // by action
	begun   []bool              // by action: an earlier run tried it and did not say that it is done
	back    []oci.Digest        // what an action has deleted and somebody has restored
	now     outlook

	layout   *transfer.Layout     // where what goes is copied before; nil for nowhere
	archived map[oci.Digest]error // what was copied, or why not
	parts    map[oci.Digest][]int // deletions by the indexes that list what they delete

	started   time.Time
	charged   int64 // requests of the client before the run
	deleted   int   // versions, in this run, or maybe
	proved    bool  // that the login may delete
	sinceList int   // versions deleted since they were listed
	nextLook  time.Time
	failures  int   // one after the other
	end       error // why the run ended before its end
	left      int   // actions that were not tried for it
}

func newPruning(s *subject, plan *retain.Plan, opts ApplyOptions, earlier *Journal) *pruning {
	p := &pruning{
		subject: s, plan: plan, opts: opts, started: time.Now(), charged: s.client.charged.Load(),
		known: map[oci.Digest]bool{}, belied: map[oci.Digest]bool{}, step: map[oci.Digest]int{}, archived: map[oci.Digest]error{}, parts: map[oci.Digest][]int{},
		results: make([]PruneResult, len(plan.Actions)), begun: make([]bool, len(plan.Actions)),
	}
	for i, a := range plan.Actions {
		p.known[a.Digest], p.step[a.Digest] = true, i
		p.results[i].Action = a
		if a.Do == retain.Delete {
			for _, d := range a.Parents {
				p.parts[d] = append(p.parts[d], i)
			}
		}
	}
	for _, d := range plan.Kept {
		p.known[d.Digest] = true
		if d.Unread {
			p.unread = append(p.unread, d.Digest)
		}
	}
	if earlier != nil {
		for i, step := range earlier.Steps {
			p.begun[i] = step.Begun && !step.Outcome.good()
			if step.Outcome.good() {
				p.results[i].Outcome = step.Outcome
			}
		}
	}
	return p
}

// begin looks at everything that could be in the way before anything is changed.
func (p *pruning) begin(ctx context.Context, earlier *Journal) (err error) {
	if len(p.plan.Actions) == 0 {
		return nil
	}
	if err := p.doubt(ctx); err != nil {
		return err
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	// By now it is known what the token may do.
	if err := p.subject.mayDelete(ctx); err != nil {
		return err
	}
	if p.opts.Archive != "" {
		if p.layout, err = transfer.CreateLayout(p.opts.Archive); err != nil {
			return err
		}
	}
	if earlier != nil {
		p.journal, err = earlier.reopen()
	} else {
		p.journal, err = p.subject.newJournal(p.opts.Journal, p.plan)
	}
	if err != nil {
		return fmt.Errorf("nothing was changed, since it could not be written down: %w", err)
	}
	return nil
}

// run carries out what is open, action by action or, of untaggings, several at once.
func (p *pruning) run(ctx context.Context) {
	for i := 0; i < len(p.results); {
		n := 1
		if p.isOpen(i) {
			n = p.batch(i)
			p.mayGoOn(ctx, i, n)
			if p.end != nil {
				p.skip(i, n)
			} else {
				p.do(ctx, i, n)
			}
		}
		i += n
	}
}

// isOpen tells whether an action is still to be tried: it is not if an earlier run has
// done it, even if somebody has restored it since.
func (p *pruning) isOpen(k int) bool { return p.results[k].Outcome == "" }

// untagBatch is how many untaggings share one wait. With more, a run that is broken off
// would leave too many of them half done. The first deletion of a run is of one version
// alone, even of a throw-away manifest: it may show that this login may not delete.
const untagBatch = 100

// batch is how many actions to carry out at once: so many untaggings that follow each
// other as the limit of requests has room for.
func (p *pruning) batch(i int) int {
	n := 1
	for p.plan.Actions[i].Do == retain.Untag && p.proved && n < untagBatch && i+n < len(p.results) &&
		p.plan.Actions[i+n].Do == retain.Untag && p.affords(i, n+1) {
		n++
	}
	return n
}

// affords tells whether the limit of requests has room for n actions, and for the list
// that is due before them.
func (p *pruning) affords(i, n int) bool {
	if p.opts.MaxRequests == 0 {
		return true
	}
	requests := 0
	if p.listIsDue() {
		requests = p.now.pages + 1
	}
	for k := i; k < i+n; k++ {
		switch a := p.plan.Actions[k]; {
		case !p.isOpen(k):
		case a.Do == retain.Untag:
			requests += 3 * len(a.Off) // looks at both versions, and one goes
		case a.Do == retain.Delete:
			requests++
		}
	}
	if p.plan.Actions[i].Do == retain.Untag {
		requests += p.now.pages // until all is listed
	}
	return p.spent()+requests <= p.opts.MaxRequests
}

// outliving outlives a context for a while.
func outliving(ctx context.Context, wait time.Duration) (context.Context, func()) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(wait):
			cancel(context.Cause(ctx))
		case <-inner.Done():
		}
	})
	return inner, func() { stop(); cancel(nil) }
}

// mayGoOn finds out whether the run is to end here, and looks again if it is time to.
func (p *pruning) mayGoOn(ctx context.Context, i, n int) {
	a := p.plan.Actions[i]
	stop := func(format string, args ...any) {
		p.end = &StoppedError{Limit: fmt.Sprintf(format, args...), Journal: p.journal.path()}
	}
	switch {
	case p.end != nil:
	case ctx.Err() != nil:
		p.end = context.Cause(ctx)
	case p.opts.MaxTime > 0 && time.Since(p.started) >= p.opts.MaxTime:
		stop("%s", p.opts.MaxTime)
	case p.opts.MaxDeletes > 0 && a.Do == retain.Delete && p.deleted >= p.opts.MaxDeletes:
		stop("%d deletions", p.deleted)
	case !p.affords(i, n):
		stop("%d requests", p.spent())
	case p.lookIsDue():
		if err := p.look(ctx); err != nil {
			p.end = fmt.Errorf("look at the package again: %w", err)
		}
	}
}

func (p *pruning) spent() int { return int(p.subject.client.charged.Load() - p.charged) }

// skip leaves actions out.
func (p *pruning) skip(i, n int) {
	for k := i; k < i+n; k++ {
		if p.isOpen(k) {
			p.left++
			p.tell(k, Skipped, p.end)
		}
	}
}
