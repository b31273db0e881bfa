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
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// removed is one line of ghcr rm.
type removed struct {
	Ref     string     `json:"ref"`
	Version int64      `json:"version"` // 0 on a registry that has no numbers
	Digest  oci.Digest `json:"digest"`
	Role    oci.Role   `json:"role"`
	Tags    []string   `json:"tags"`
	Named   bool       `json:"named"` // and not just along with another
	Outcome string     `json:"outcome"`
	Why     string     `json:"why"`    // unless it is deleted
	Unread  string     `json:"unread"` // why it could not be read, so that what it lists is not known and stays
	Undo    string     `json:"undo"`   // the file that ghcr restore --from reads
}

// removeFlags are those of ghcr rm.
type removeFlags struct {
	changeFlags
	allTags       bool
	keepReferrers bool
	wholePackage  bool
	wait          time.Duration
}

func (a *app) removeCommand() *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use: "rm REF...", Aliases: []string{"delete"},
		Short: "Delete images, with what belongs to them alone",
		Long: `Delete images by tag, digest, or number of their version (acme/app#123). What only they
list goes along, and so do their signatures and attestations; what another image needs
stays, and an image that an index needs is refused. A version goes with all its tags:
those that were not named must be agreed to by --all-tags; to take off a tag alone there
is ghcr untag. The plan is shown, and asked about; a file is written by which
ghcr restore takes it back for 30 days. With --package a whole package is deleted.`,
		Example: "  ghcr rm acme/app:pr-81 --yes\n  ghcr rm acme/app:v1.2.3 --all-tags --dry-run",
		Args:    args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if f.wholePackage {
				return a.removePackages(cmd.Context(), given, f)
			}
			return a.remove(cmd.Context(), given, f)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.allTags, "all-tags", false, "agree to lose tags that were not named")
	flags.BoolVar(&f.keepReferrers, "keep-referrers", false, "leave signatures, SBOMs and attestations")
	flags.BoolVar(&f.wholePackage, "package", false, "delete whole packages, named without tag")
	flags.DurationVar(&f.wait, "wait", 0, "for the API to list what was just pushed (default 30s)")
	return cmd
}

func (a *app) remove(ctx context.Context, given []string, f removeFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	groups, err := a.byRepository(ctx, given, f.changeFlags)
	if err != nil {
		return err
	}
	opts := ghcr.DeleteOptions{AllTags: f.allTags, KeepReferrers: f.keepReferrers, IgnoreMissing: f.ignoreMissing, Undo: f.undo, Wait: f.wait}
	var plans []*ghcr.DeletePlan
	var refused []error
	list := []removed{}
	for _, refs := range groups {
		plan, err := client.PlanDelete(ctx, opts, refs...)
		if err != nil {
			return err
		}
		plans = append(plans, plan)
		refused = append(refused, plan.Err())
		a.showPlan(f.changeFlags, "to be deleted from "+plan.Image.Repository(), planRows(plan))
		for _, item := range plan.Items {
			list = append(list, newRemoved(plan.Image, ghcr.DeleteResult{DeleteItem: item, Outcome: plannedOutcome}, ""))
		}
	}
	if err = errors.Join(refused...); err != nil {
		err = &exitError{err, exitFindings}
	}
	if f.dryRun || err == nil && len(list) == 0 {
		return errors.Join(a.printRemoved(list), err)
	}
	if err != nil {
		return err
	}
	if err := a.confirm(f.changeFlags, fmt.Sprintf("delete %s?", plural(len(list), "manifest"))); err != nil {
		return err
	}
	list = list[:0]
	done := 0
	var failed []error
	for _, plan := range plans {
		if ctx.Err() != nil {
			for _, item := range plan.Items {
				list = append(list, newRemoved(plan.Image, ghcr.DeleteResult{DeleteItem: item, Outcome: ghcr.Skipped, Err: context.Cause(ctx)}, ""))
			}
			continue
		}
		result, err := plan.Apply(ctx)
		if err != nil {
			failed = append(failed, err)
		}
		if result == nil {
			continue
		}
		a.tellOrphaned(plan, result)
		for _, r := range result.Items {
			if r.Err == nil {
				done++
			}
			list = append(list, newRemoved(plan.Image, r, result.Undo))
		}
		a.tellUndo(result.Undo)
	}
	return errors.Join(a.printRemoved(list), partly(done, failed))
}

// tellOrphaned says what may be left of indexes that were deleted unread.
func (a *app) tellOrphaned(plan *ghcr.DeletePlan, result *ghcr.Deletion) {
	for _, r := range result.Items {
		if r.Unread == nil || r.Outcome != ghcr.Done || a.flags.quiet {
			continue
		}
		text := "nothing without a tag is left that could be part of it"
		if n := len(plan.Orphaned); n > 0 {
			text = plural(n, "manifest") + " without a tag that may be part of it stay: ghcr ls " + plan.Image.Name + " --untagged"
		}
		fmt.Fprintf(a.stderr, "ghcr: note: %s could not be read, so what it listed is not known; %s\n", r.Digest, text)
	}
}

// partly is the error of several things of which some may have been done.
func partly(done int, failed []error) error {
	err := errors.Join(failed...)
	if err != nil && done > 0 {
		return errors.Join(err, errPartly)
	}
	return err
}

// byRepository reads references, and puts those of one repository together.
func (a *app) byRepository(ctx context.Context, given []string, f changeFlags) ([][]oci.ImageRef, error) {
	var groups [][]oci.ImageRef
	at := map[string]int{}
	for _, s := range given {
		ref, err := a.image(ctx, s)
		if f.ignoreMissing && errors.Is(err, ghcr.ErrNotFound) {
			// If the package can be seen, so could the version.
			api, owner, name, apiErr := a.packageOf(ref)
			if apiErr != nil {
				return nil, apiErr
			}
			if _, err = api.Get(ctx, owner, name); err == nil {
				fmt.Fprintf(a.stderr, "ghcr: note: %s does not exist\n", s)
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		if ref.Reference.IsZero() {
			return nil, usage("%s names a whole package: add a tag or digest (ghcr rm --package deletes all of it)", s)
		}
		i, ok := at[ref.Repository()]
		if !ok {
			i = len(groups)
			at[ref.Repository()] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], ref)
	}
	if f.undo != "" && len(groups) > 1 {
		return nil, usage("--undo: one file is for one repository, and these are %d", len(groups))
	}
	return groups, nil
}

func planRows(plan *ghcr.DeletePlan) [][]string {
	var rows [][]string
	for _, item := range plan.Items {
		what := "along with it"
		switch {
		case len(item.Others) > 0:
			what = "with the tags " + strings.Join(item.Others, ", ") + ", which were not named"
		case item.Named:
			what = ""
		}
		if item.Unread != nil {
			what = strings.TrimPrefix(what+"; it can't be read: what it lists is not known, and stays", "; ")
		}
		rows = append(rows, []string{"delete", shortDigest(item.Digest), string(item.Role), shortTags(item.Tags), what})
	}
	for _, kept := range plan.Kept {
		rows = append(rows, []string{"keep", shortDigest(kept.Digest), string(kept.Role), "", kept.Why})
	}
	for i, d := range plan.Orphaned {
		if i == maxShown {
			rows = append(rows, []string{"keep", fmt.Sprintf("and %d more", len(plan.Orphaned)-i)})
			break
		}
		rows = append(rows, []string{"keep", shortDigest(d), "", "", "may be part of what can't be read"})
	}
	for _, ref := range plan.Missing {
		rows = append(rows, []string{"missing", ref.Reference.String(), "", "", "does not exist"})
	}
	return rows
}

func newRemoved(image oci.ImageRef, r ghcr.DeleteResult, undo string) removed {
	m := removed{
		Ref: image.With(oci.Reference{Digest: r.Digest}).String(), Version: r.Version, Digest: r.Digest, Role: r.Role,
		Tags: append([]string{}, r.Tags...), Named: r.Named, Outcome: string(r.Outcome), Undo: undo,
	}
	if r.Err != nil {
		m.Why = r.Err.Error()
	}
	if r.Unread != nil {
		m.Unread = r.Unread.Error()
	}
	return m
}

func (a *app) printRemoved(list []removed) error {
	r := result{data: list, head: []string{"OUTCOME", "DIGEST", "WHAT", "TAGS"}}
	for _, m := range list {
		r.ids = append(r.ids, m.Ref)
		r.rows = append(r.rows, []string{m.Outcome, shortDigest(m.Digest), string(m.Role), shortTags(m.Tags)})
		r.plain = append(r.plain, []string{m.Outcome, m.Ref, string(m.Role), strings.Join(m.Tags, " ")})
	}
	return a.print(r)
}

// removePackages deletes packages whole, after all of them were looked at and agreed to.
func (a *app) removePackages(ctx context.Context, given []string, f removeFlags) error {
	type gone struct {
		Package  string `json:"package"`
		Versions int    `json:"versions"`
		Outcome  string `json:"outcome"`
	}
	list := []gone{}
	r := result{head: []string{"OUTCOME", "PACKAGE", "VERSIONS"}}
	all, err := a.wholePackages(given)
	if err != nil {
		return err
	}
	versions := map[string]int{}
	for i := 0; i < len(all); {
		ref := all[i]
		api, owner, name, err := a.packageOf(ref)
		if err != nil {
			return err
		}
		p, err := api.Get(ctx, owner, name)
		if errors.Is(err, ghcr.ErrNotFound) && f.ignoreMissing {
			all = slices.Delete(all, i, i+1)
			continue
		}
		if err != nil {
			return err
		}
		versions[ref.Name] = p.VersionCount
		a.showPlan(f.changeFlags, "to be deleted whole", [][]string{{ref.Repository(), plural(p.VersionCount, "version"), string(p.Visibility)}})
		i++
	}
	if !f.dryRun {
		for _, ref := range all {
			if err := a.confirmName(f.changeFlags, ref.Name); err != nil {
				return err
			}
		}
	}
	done := 0
	var failed []error
	for _, ref := range all {
		g := gone{ref.Repository(), versions[ref.Name], plannedOutcome}
		if !f.dryRun {
			api, owner, name, err := a.packageOf(ref)
			if err == nil {
				err = deletePackage(ctx, api, ref, owner, name)
			}
			var unknown *ghcr.UnknownError
			switch g.Outcome = string(ghcr.Done); {
			case errors.As(err, &unknown):
				g.Outcome = string(ghcr.Unknown)
				failed = append(failed, err)
			case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
				g.Outcome = string(ghcr.Skipped)
				failed = append(failed, err)
			case err != nil:
				failed = append(failed, err)
				continue
			case !a.flags.quiet:
				fmt.Fprintf(a.stderr, "ghcr: to take it back, for 30 days and while its name is free: ghcr restore --package %s\n", ref.Repository())
			}
		}
		if g.Outcome == string(ghcr.Done) {
			done++
		}
		list = append(list, g)
		r.ids = append(r.ids, g.Package)
		r.rows = append(r.rows, []string{g.Outcome, g.Package, fmt.Sprint(g.Versions)})
	}
	r.data = list
	return errors.Join(a.print(r), partly(done, failed))
}

// deletePackage deletes a whole package. When ctx is done before it is sent, it is not; once
// it was, it is waited for.
func deletePackage(ctx context.Context, api *packages.Client, image oci.ImageRef, owner, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sent, release := transport.Finishing(ctx, 30*time.Second)
	defer release()
	err := api.Delete(sent, owner, name)
	if err != nil && sent.Err() != nil {
		err = &ghcr.UnknownError{Image: image, Cause: err}
	}
	return err
}

// wholePackages reads the names of packages, each once. Nothing is done to any before
// all are known to be well formed.
func (a *app) wholePackages(given []string) ([]oci.ImageRef, error) {
	var all []oci.ImageRef
	for _, s := range given {
		ref, id, err := a.named(s)
		if err != nil {
			return nil, err
		}
		if id != 0 || !ref.Reference.IsZero() {
			return nil, usage("--package: %s names one image of it", s)
		}
		if !slices.Contains(all, ref) {
			all = append(all, ref)
		}
	}
	return all, nil
}
