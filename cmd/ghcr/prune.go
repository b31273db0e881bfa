package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

func (a *app) pruneCommand() *cobra.Command {
	f := pruneFlags{rails: newRailFlags()}
	cmd := &cobra.Command{
		Use:   "prune [PKG | OWNER | 'OWNER/GLOB' | '!GLOB']...",
		Short: "Plan what may go by a policy, and delete it when told to",
		Long: `Work out which versions of packages may go, by a policy file or by flags, and say why.
Nothing is changed without --apply. What no rule is about stays; what stays keeps all
that it lists and all that is about it, its signatures and attestations; what can't be
read keeps all that it may list. So no image that stays can be broken.

The plan can be kept (--save-plan), read, compared (--diff) and carried out later
(--plan FILE --apply), where each action is done only if what it was planned on still
holds. What is done goes into a journal first: --resume goes on from it, and ghcr
restore --from takes it back for 30 days. ghcr help policy explains policies.`,
		Example: "  ghcr prune acme/app --tags 'pr-*' --older-than 30d\n" +
			"  ghcr prune acme/app --keep-last 5 --keep 'v*' --untagged --save-plan plan.json\n" +
			"  ghcr prune --plan plan.json --explain v1\n" +
			"  ghcr prune --plan plan.json --apply --yes",
		ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			for _, name := range quickNames {
				f.isQuick = f.isQuick || cmd.Flags().Changed(name)
			}
			if err := f.check(given); err != nil {
				return err
			}
			began := time.Now()
			report, err := a.prune(cmd.Context(), given, f)
			if f.stats {
				a.count.print(a.stderr)
			}
			if f.metrics != "" {
				err = errors.Join(err, a.writeMetrics(cmd.Context(), f.metrics, report, began, err))
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.policy, "policy", "", "policy `FILE`; ghcr help policy explains it")
	addQuick(flags, &f.quick)
	f.rails.add(flags)
	flags.StringArrayVar(&f.inUse, "in-use", nil, "keep what files of this `GLOB` name as in use: manifests, charts, lists")
	flags.StringVar(&f.at, "at", "", "plan as at this `TIME`: 2027-01-01, RFC 3339, or an age from now such as +90d")
	flags.StringArrayVar(&f.snapshot, "snapshot", nil, "plan on this saved `FILE`, without network")
	flags.StringVar(&f.plan, "plan", "", "take the plan from `FILE`, and evaluate no policy")
	flags.StringArrayVar(&f.resume, "resume", nil, "go on with the run of this journal `FILE`")
	flags.BoolVar(&f.diff, "diff", false, "compare two files of plans, or two snapshots")
	flags.BoolVar(&f.lint, "policy-check", false, "only look at the policy, as ghcr policy check does")
	flags.StringArrayVar(&f.explain, "explain", nil, "say why `REF` stays or goes: a tag, a digest or the number of a version")
	flags.StringVar(&f.savePlan, "save-plan", "", "write the plan to `FILE`")
	flags.StringVar(&f.saveSnapshot, "save-snapshot", "", "write what was read of the package to `FILE`; all of it, if no rules are given")
	flags.BoolVar(&f.all, "all", false, "print every version, and those that stay too")
	flags.BoolVar(&f.markdown, "markdown", false, "print Markdown")
	flags.BoolVar(&f.ndjson, "ndjson", false, "print a line of JSON for each plan, and for each action when it is done")
	flags.BoolVar(&f.stats, "stats", false, "print how many requests were made, by kind")
	flags.StringVar(&f.metrics, "metrics", "", "write figures of the run to `FILE`, for the textfile collector of Prometheus' node_exporter")
	flags.BoolVar(&f.exitCode, "exit-code", false, "end with 8 if there is something to do")
	flags.BoolVar(&f.apply, "apply", false, "carry the plan out")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only plan, even with --apply")
	flags.StringVar(&f.confirm, "confirm", "", "with --plan: carry it out only if it has this `DIGEST`, and do not ask")
	flags.StringVar(&f.journal, "journal", "", "new `FILE` for what is done (default: one in the cache)")
	flags.IntVar(&f.budget.MaxDeletes, "budget-deletes", 0, "end after `N` deletions, to be resumed later")
	flags.IntVar(&f.budget.MaxRequests, "budget-requests", 0, "end after `N` requests that count on GitHub's limits")
	flags.DurationVar(&f.budget.MaxTime, "max-time", 0, "end after this time")
	flags.StringVar(&f.archive, "archive", "", "copy the manifests of what goes to an OCI layout in `DIR` before")
	flags.BoolVar(&f.archiveBlobs, "archive-blobs", false, "with --archive: copy the content too")
	flags.DurationVar(&f.wait, "wait", 0, "for the API to show that tags have left (default 1m)")
	return cmd
}

// prune does what the flags ask for. The report, where there is one, is of what was planned
// and done, also beside an error.
func (a *app) prune(ctx context.Context, given []string, f pruneFlags) (*pruneReport, error) {
	switch {
	case f.diff:
		return nil, a.diffPlans(given[0], given[1], f)
	case f.lint:
		return nil, a.checkPolicy(ctx, f.policy, given, f.snapshot, f.exitCode)
	case len(f.resume) > 0:
		return a.resumePrune(ctx, f)
	}
	set, err := a.plans(ctx, given, f)
	if err != nil {
		return nil, steady(err)
	}
	report := newPruneReport(set)
	failed := set.failure()
	if len(set.list) == 0 {
		return report, failed // without one, a snapshot was taken, and no more was asked for
	}
	if err := set.save(f.savePlan); err != nil {
		return report, err
	}
	if len(f.explain) > 0 {
		return nil, errors.Join(a.explain(set, f.explain), failed)
	}
	return report, a.carryOut(ctx, set, report, failed, f)
}

// carryOut prints plans or, where that was asked for and agreed to, carries them out.
func (a *app) carryOut(ctx context.Context, set *planSet, report *pruneReport, failed error, f pruneFlags) error {
	refused := set.refusals()
	if !f.apply || f.dryRun || refused != nil || report.Totals.actions() == 0 {
		err := errors.Join(a.printPlans(report, f), failed, refused)
		if err == nil {
			a.tellNext(report, f)
			if f.exitCode && report.Totals.actions() > 0 {
				err = fmt.Errorf("prune: %s to be done: %w", plural(report.actionCount(), "action"), errFindings)
			}
		}
		return err
	}
	if err := a.mayApply(set, report, f); err != nil {
		return err
	}
	return a.applyPrune(ctx, set, report, f)
}

// steady gives a list that does not come to rest the exit code of a safety limit.
func steady(err error) error {
	if isMoving(err) {
		return &exitError{err, exitFindings}
	}
	return err
}

// refusals are what the rails of the plans have against them.
func (s *planSet) refusals() error {
	var all []error
	for _, p := range s.list {
		if len(p.plan.Refused) > 0 {
			texts := make([]string, len(p.plan.Refused))
			for i, r := range p.plan.Refused {
				texts[i] = r.Rail + ": " + r.Text
			}
			err := fmt.Errorf("prune %s: %w", p.name(), &ghcr.PlanError{Fault: ghcr.PlanRefused, Cause: errors.New(strings.Join(texts, "; "))})
			if slices.ContainsFunc(p.plan.Refused, func(r retain.Refusal) bool { return r.Rail == "match-all" }) {
				err = usage("%w (--i-mean-all agrees)", err)
			}
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// mayApply asks whether the plan is to be carried out. What is agreed to is what was
// printed.
func (a *app) mayApply(set *planSet, report *pruneReport, f pruneFlags) error {
	if f.confirm != "" {
		want, err := oci.ParseDigest(f.confirm)
		if err != nil {
			return usage("--confirm: %w", err)
		}
		if want != report.Digest {
			return &ghcr.PlanError{Fault: ghcr.PlanUnconfirmed, Cause: fmt.Errorf("%s was agreed to, and %s is %s", want, f.plan, report.Digest)}
		}
		return nil
	}
	if set.wide && f.yes {
		return usage("--apply --yes on a choice of packages, which may have grown: list them in the policy, or look at them before: --save-plan FILE, then ghcr prune --plan FILE --apply --yes")
	}
	asked := changeFlags{yes: f.yes}
	for _, p := range set.acting() {
		a.showPlan(asked, "to be done in "+p.name(), slices.Concat(p.table(maxShown), p.keptRows(false)))
	}
	if !a.flags.quiet || a.willAsk(asked) {
		fmt.Fprintf(a.stderr, "ghcr: %s\n", report.summary())
	}
	return a.confirm(asked, report.Totals.imperative()+" in "+plural(len(set.acting()), "package")+"?")
}

// tellNext says what can be done with a plan.
func (a *app) tellNext(report *pruneReport, f pruneFlags) {
	if a.flags.quiet || report.Totals.actions() == 0 {
		return
	}
	switch {
	case f.plan != "":
		fmt.Fprintf(a.stderr, "ghcr: nothing was changed; to do it: ghcr prune --plan %s --apply\n", shellWord(f.plan))
	case f.savePlan != "" && f.at == "":
		fmt.Fprintf(a.stderr, "ghcr: nothing was changed; to do it: ghcr prune --plan %s --apply\n", shellWord(f.savePlan))
	case f.at != "" || len(f.snapshot) > 0:
		fmt.Fprintln(a.stderr, "ghcr: nothing was changed")
	default:
		fmt.Fprintln(a.stderr, "ghcr: nothing was changed; to do it, add --apply, or keep the plan with --save-plan FILE")
	}
}
