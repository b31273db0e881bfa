package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// pruneRun carries out plans, one package after the other.
type pruneRun struct {
	app    *app
	report *pruneReport
	flags  pruneFlags
	total  int // actions of all packages
	done   int
	began  time.Time
	told   time.Time
	left   ghcr.ApplyOptions // of the budget
	gone   int               // versions deleted, or maybe, in the package under way
	errs   []error
	codes  []int      // by package
	mu     sync.Mutex // held to print while it runs
	quiet  func()     // ends what is printed when it is broken off
}

// applyPrune carries the plans of a set out.
func (a *app) applyPrune(ctx context.Context, set *planSet, report *pruneReport, f pruneFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	list := set.acting()
	if f.journal != "" && len(list) > 1 {
		return usage("--journal: one file is for one package, and these are %d", len(list))
	}
	if f.ndjson {
		for _, p := range set.list {
			if err := p.encodeBlocked(json.NewEncoder(a.stdout)); err != nil {
				return err
			}
		}
	}
	run := a.newRun(ctx, report, f)
	for i, p := range list {
		opts := run.options(p, len(list))
		opts.Journal = f.journal
		result, err := client.ApplyPrune(ctx, p.plan, opts)
		if !run.add(p, result, err) {
			run.leave(list[i+1:])
			break
		}
	}
	for _, u := range set.failed {
		run.fail(u.err, exitCode(u.err))
	}
	return run.end(ctx)
}

// resumePrune goes on with runs that ended before their end, or says what is left.
func (a *app) resumePrune(ctx context.Context, f pruneFlags) (*pruneReport, error) {
	set := &planSet{}
	r := result{head: []string{"OUTCOME", "DO", "IMAGE", "WHY"}}
	left := 0
	var words []string
	var undone [][]string
	for _, name := range f.resume {
		words = append(words, shellWord(name))
		j, err := ghcr.ReadJournal(name)
		if err != nil {
			if !errors.Is(err, ghcr.ErrIntegrity) {
				err = usage("--resume: %w", err)
			}
			return nil, err
		}
		p := &planned{plan: j.Plan}
		set.list = append(set.list, p)
		for i, step := range j.Steps {
			x := j.Plan.Actions[i]
			outcome := string(step.Outcome)
			done := isDone(step.Outcome)
			if done {
				p.done++
			} else {
				left++
				r.ids = append(r.ids, p.ref(x.Digest))
				if outcome == "" {
					outcome = "left"
				}
			}
			row := []string{outcome, string(x.Do), imageName(x.Tags, x.Digest), step.Reason}
			if !done {
				undone = append(undone, row)
			}
			r.rows = append(r.rows, row)
			r.plain = append(r.plain, []string{outcome, string(x.Do), p.ref(x.Digest), shownTags(x.Tags), step.Reason})
		}
	}
	report := newPruneReport(set)
	report.Totals.Left = left
	if !f.apply || f.dryRun || left == 0 {
		r.data = report
		err := a.print(r)
		if left > 0 && !a.flags.quiet {
			fmt.Fprintf(a.stderr, "ghcr: %s left; to go on: ghcr prune --resume %s --apply\n", plural(left, "action"), strings.Join(words, " --resume "))
		}
		return report, err
	}
	asked := changeFlags{yes: f.yes}
	a.showPlan(asked, "left to be done", shortened(undone, maxHeld))
	if err := a.confirm(asked, "go on with "+plural(left, "action")+"?"); err != nil {
		return report, err
	}
	client, err := a.client()
	if err != nil {
		return report, err
	}
	run := a.newRun(ctx, report, f)
	for i, p := range set.list {
		result, err := client.ResumePrune(ctx, f.resume[i], run.options(p, len(set.list)))
		if !run.add(p, result, err) {
			run.leave(set.list[i+1:])
			break
		}
	}
	return report, run.end(ctx)
}

func (a *app) newRun(ctx context.Context, report *pruneReport, f pruneFlags) *pruneRun {
	report.Applied, report.Totals.Left = true, 0
	run := &pruneRun{app: a, report: report, flags: f, began: time.Now(), told: time.Now(), left: f.budget}
	run.total = report.actionCount()
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		run.mu.Lock()
		defer run.mu.Unlock()
		fmt.Fprintln(a.stderr, "ghcr: nothing more is sent; what was sent is waited for, and the tags are looked at once more, which may take a minute; ctrl-C again stops at once")
	})
	run.quiet = func() {
		if !stop() {
			<-told
		}
	}
	return run
}

// options are those of one package: what is left of the budget, and a place of its own
// in the archive.
func (r *pruneRun) options(p *planned, packages int) ghcr.ApplyOptions {
	opts := r.left
	opts.Archive, opts.ArchiveBlobs, opts.Wait = r.flags.archive, r.flags.archiveBlobs, r.flags.wait
	if opts.Archive != "" && packages > 1 {
		opts.Archive = filepath.Join(opts.Archive, p.plan.Owner, filepath.FromSlash(p.plan.Package))
	}
	opts.Report = func(result ghcr.PruneResult) { r.tell(p, result) }
	return opts
}

// tell shows how the run gets on.
func (r *pruneRun) tell(p *planned, result ghcr.PruneResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	if result.Do == retain.Delete && (result.Outcome == ghcr.Done || result.Outcome == ghcr.Unknown) {
		r.gone++
	}
	a := r.app
	switch {
	case r.flags.ndjson:
		r.line(a.stdout.Write, newPruneResult(p, result))
	case a.flags.progress == "json":
		r.line(a.stderr.Write, newPruneResult(p, result))
	case a.flags.quiet || a.flags.progress == "none" || time.Since(r.told) < progressLine:
	default:
		r.told = time.Now()
		fmt.Fprintf(a.stderr, "ghcr: %d of %s after %s\n", r.done, plural(r.total, "action"), time.Since(r.began).Round(time.Second))
	}
}

func (r *pruneRun) line(write func([]byte) (int, error), result pruneResult) {
	data, err := json.Marshal(struct {
		Type string `json:"type"`
		pruneResult
	}{"result", result})
	if err == nil {
		write(append(data, '\n'))
	}
}

func newPruneResult(p *planned, result ghcr.PruneResult) pruneResult {
	x := result.Action
	one := pruneResult{
		Ref: p.ref(x.Digest), Do: x.Do, Version: x.Version, Digest: x.Digest, Tags: append([]string{}, x.Tags...), Off: append([]string{}, x.Off...),
		On: x.On, Role: x.Role, Rule: x.Rule, Reason: x.Reason, Outcome: result.Outcome,
	}
	var stopped *ghcr.StoppedError
	switch {
	case errors.As(result.Err, &stopped):
		one.Why = "stopped after " + stopped.Limit
	case result.Err != nil:
		one.Why = result.Err.Error()
	}
	return one
}

// add takes in what became of a package. It is false if the run is to end here.
func (r *pruneRun) add(p *planned, result *ghcr.PruneReport, err error) bool {
	t := &r.report.Totals
	var over [2]bool // a budget is used up
	if result != nil {
		for _, item := range result.Items {
			r.report.Results = append(r.report.Results, newPruneResult(p, item))
			t.Outcomes[string(item.Outcome)]++
			if item.Do == retain.Delete && item.Outcome == ghcr.Done {
				t.Deleted++
			}
		}
		t.Left += result.Left
		if result.Journal != "" {
			r.report.Journals = append(r.report.Journals, result.Journal)
		}
		r.left.MaxRequests, over[0] = spend(r.left.MaxRequests, result.Requests)
		r.left.MaxDeletes, over[1] = spend(r.left.MaxDeletes, r.gone)
		r.gone = 0
	} else {
		t.Left += p.open()
	}
	if r.flags.budget.MaxTime > 0 {
		r.left.MaxTime = max(r.flags.budget.MaxTime-time.Since(r.began), time.Nanosecond)
	}
	code := pruneCode(result, err)
	r.fail(err, code)
	var stopped *ghcr.StoppedError
	return code != exitInterrupted && !errors.As(err, &stopped) && !errors.Is(err, ghcr.ErrRateLimited) && over == [2]bool{}
}

// spend takes from a budget, of which zero is none, and tells whether it is used up.
func spend(left, used int) (int, bool) {
	if left == 0 {
		return 0, false
	}
	return max(left-used, 1), used >= left
}

func (r *pruneRun) fail(err error, code int) {
	r.codes = append(r.codes, code)
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// leave counts packages that were not begun.
func (r *pruneRun) leave(list []*planned) {
	if len(list) == 0 {
		return
	}
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.name()
		r.report.Totals.Left += p.open()
	}
	r.fail(fmt.Errorf("not begun: %s: %w", strings.Join(names, ", "), errPartly), exitPartly)
}

// pruneCode is the exit code for one package: why its run ended, or else how much of it
// was done.
func pruneCode(result *ghcr.PruneReport, err error) int {
	var stopped *ghcr.StoppedError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case result == nil:
		return exitCode(steady(err))
	case errors.Is(err, ghcr.ErrRateLimited):
		return exitRateLimited
	case errors.Is(err, ghcr.ErrDenied), errors.Is(err, ghcr.ErrUnauthorized):
		return exitPermission
	case errors.As(err, &stopped):
		return exitPartly
	}
	for _, item := range result.Items {
		if item.Outcome != ghcr.Failed && item.Outcome != ghcr.Skipped {
			return exitPartly
		}
	}
	return exitFailure
}

// runCode is the exit code of a run over several packages.
func runCode(codes []int) int {
	codes = slices.Compact(slices.Sorted(slices.Values(codes)))
	switch {
	case len(codes) == 0:
		return 0
	case len(codes) == 1:
		return codes[0]
	case slices.Contains(codes, exitInterrupted):
		return exitInterrupted
	case slices.Contains(codes, exitRateLimited):
		return exitRateLimited
	}
	return exitPartly
}

// end prints what became of it all, and how to go on or back.
func (r *pruneRun) end(ctx context.Context) error {
	r.quiet()
	a := r.app
	err := errors.Join(r.errs...)
	printed := a.printResults(r.report, r.flags)
	r.hints(err)
	code := runCode(r.codes)
	switch {
	case err == nil:
		return printed
	case ctx.Err() != nil && code == exitInterrupted:
		return errors.Join(err, printed)
	}
	return errors.Join(&exitError{err, code}, printed)
}

func (r *pruneRun) hints(err error) {
	a, t := r.app, &r.report.Totals
	if a.flags.quiet {
		return
	}
	var stopped *ghcr.StoppedError
	told := errors.As(err, &stopped) // its hint says how to go on
	undo := t.Outcomes[string(ghcr.Done)] > 0
	for _, name := range r.report.Journals {
		if undo {
			fmt.Fprintf(a.stderr, "ghcr: to take it back, for 30 days: ghcr restore --from %s\n", shellWord(name))
		}
		if err != nil && !told && t.Left+t.notDone() > 0 {
			fmt.Fprintf(a.stderr, "ghcr: to go on: ghcr prune --resume %s --apply\n", shellWord(name))
		}
	}
}

func isDone(o ghcr.Outcome) bool { return o == ghcr.Done || o == ghcr.AlreadyGone }

// shortened are so many rows of a table, and how many more there are.
func shortened(rows [][]string, limit int) [][]string {
	if len(rows) <= limit+1 {
		return rows
	}
	last := []string{rows[limit][0], rows[limit][1], fmt.Sprintf("and %d more", len(rows)-limit)}
	return append(rows[:limit:limit], last)
}

// printResults prints what became of each action; on a terminal only of those that were
// not done, unless all are asked for.
func (a *app) printResults(r *pruneReport, f pruneFlags) error {
	if f.stats {
		r.Stats = a.count.byKind()
	}
	err := a.writeActions(r)
	out := result{data: r, head: []string{"OUTCOME", "DO", "IMAGE", "WHAT", "WHY"}}
	for _, x := range r.Results {
		out.ids = append(out.ids, x.Ref)
		if f.all || !isDone(x.Outcome) {
			out.rows = append(out.rows, []string{string(x.Outcome), string(x.Do), imageName(x.Tags, x.Digest), string(x.Role), printable(x.Why)})
		}
		out.plain = append(out.plain, []string{string(x.Outcome), string(x.Do), x.Ref, shownTags(x.Tags), string(x.Role), printable(x.Rule), printable(x.Why)})
	}
	if !f.all {
		out.rows = shortened(out.rows, maxHeld)
	}
	switch {
	case f.ndjson:
		err = errors.Join(err, json.NewEncoder(a.stdout).Encode(struct {
			Type     string      `json:"type"`
			Digest   oci.Digest  `json:"digest"`
			Totals   pruneTotals `json:"totals"`
			Journals []string    `json:"journals"`
		}{"end", r.Digest, r.Totals, r.Journals}))
	case f.markdown:
		out.head, out.text = nil, r.markdown(maxMarkdown)
		err = errors.Join(err, a.print(out))
	default:
		if len(out.rows) == 0 && (a.tables || a.isTerminal(a.stdout)) {
			out.head = nil // all was done, which is said below
		}
		err = errors.Join(err, a.print(out))
	}
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: %s\n", r.outcome())
	}
	return err
}
