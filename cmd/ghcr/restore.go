package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// restored is one line of ghcr restore.
type restored struct {
	Ref     string     `json:"ref"`
	Version int64      `json:"version"` // 0 if only tags were to be given back
	Digest  oci.Digest `json:"digest"`
	Tags    []string   `json:"tags"` // that it has now, of those it had
	Lost    []string   `json:"lost"` // tags that something else has by now
	Outcome string     `json:"outcome"`
	Why     string     `json:"why"` // unless it is back
}

// restoreFlags are those of ghcr restore.
type restoreFlags struct {
	from         []string
	wholePackage bool
	moveTags     bool
	dryRun       bool
}

func (a *app) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore REF...",
		Short: "Bring back what was deleted, or tags that were taken off",
		Long: `Bring back deleted versions, by the number or digest that ghcr ls --deleted prints
(acme/app#123, acme/app@sha256:…), or all that a file tells of: the undo file of ghcr rm
or ghcr untag, the journal of ghcr prune, or the plan of one, of which is restored what
is gone. GitHub keeps what was deleted for 30 days. What an index lists comes back before
it, and tags are given back unless something else has them by now. With --package a
package that was deleted whole comes back.`,
		Example: "  ghcr restore --from undo.json\n  ghcr restore acme/app#1234",
		RunE: func(cmd *cobra.Command, given []string) error {
			switch {
			case len(f.from) > 0 && (len(given) > 0 || f.wholePackage):
				return usage("--from names all there is to restore")
			case len(f.from) > 0:
				return a.restoreFrom(cmd.Context(), f)
			case len(given) == 0:
				return usage("restore: name a version or --from FILE; usage: %s", cmd.UseLine())
			case f.wholePackage:
				return a.restorePackages(cmd.Context(), given, f)
			}
			return a.restoreVersions(cmd.Context(), given, f)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.from, "from", nil, "`FILE` of what was done: an undo file, a journal or a plan")
	flags.BoolVar(&f.wholePackage, "package", false, "whole packages, named without tag")
	flags.BoolVar(&f.moveTags, "move-tags", false, "take tags back from what has them by now")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what there is to restore, and change nothing")
	return cmd
}

func (a *app) restoreFrom(ctx context.Context, f restoreFlags) error {
	var undos []*ghcr.Undo
	for _, name := range f.from {
		found, err := readUndos(name)
		if err != nil && !errors.Is(err, ghcr.ErrIntegrity) {
			err = usage("--from: %w", err)
		}
		if err != nil {
			return err
		}
		undos = append(undos, found...)
	}
	list := []restored{}
	done := 0
	var failed []error
	for _, undo := range undos {
		_, ref, err := a.repository(undo.Image, true)
		if err != nil {
			return err
		}
		var rows []restored
		if f.dryRun {
			rows, err = a.restorePlan(ctx, ref, undo.Items)
		} else {
			rows, err = a.restore(ctx, ref, ghcr.RestoreOptions{Undo: undo, MoveTags: f.moveTags})
		}
		list = append(list, rows...)
		if err != nil {
			failed = append(failed, err)
		} else {
			done++
		}
		if ctx.Err() != nil {
			break
		}
	}
	err := partly(done, failed)
	if len(list) == 0 && err != nil {
		return err
	}
	return errors.Join(a.printRestored(list), err)
}

// readUndos reads what a file tells of. A file of plans may have one for each package.
func readUndos(name string) ([]*ghcr.Undo, error) {
	set, err := readPlans(name)
	if err != nil || len(set.list) < 2 {
		undo, err := ghcr.ReadUndo(name)
		return []*ghcr.Undo{undo}, err
	}
	var undos []*ghcr.Undo
	for _, p := range set.list {
		undo, err := ghcr.UndoOf(p.plan)
		if err != nil {
			return nil, err
		}
		undos = append(undos, undo)
	}
	return undos, nil
}

func (a *app) restoreVersions(ctx context.Context, given []string, f restoreFlags) error {
	var image oci.ImageRef
	opts := ghcr.RestoreOptions{MoveTags: f.moveTags}
	var items []ghcr.UndoItem
	for _, s := range given {
		ref, id, err := a.named(s)
		if err != nil {
			return err
		}
		if image.Name != "" && image.Repository() != ref.Repository() {
			return usage("restore: %s and %s are of two repositories", image.Repository(), ref.Repository())
		}
		image = ref.With(oci.Reference{})
		switch {
		case id != 0:
			opts.Versions = append(opts.Versions, id)
		case ref.Reference.Digest != "" && ref.Reference.Tag == "":
			opts.Digests = append(opts.Digests, ref.Reference.Digest)
		default:
			return usage("restore %s: what is deleted has no tags; name it by number or digest, as ghcr ls %s --deleted prints them", s, ref.Repository())
		}
		items = append(items, ghcr.UndoItem{Version: id, Digest: ref.Reference.Digest})
	}
	var list []restored
	var err error
	if f.dryRun {
		list, err = a.restorePlan(ctx, image, items)
	} else {
		list, err = a.restore(ctx, image, opts)
	}
	if len(list) == 0 && err != nil {
		return err
	}
	return errors.Join(a.printRestored(list), err)
}

func (a *app) restore(ctx context.Context, image oci.ImageRef, opts ghcr.RestoreOptions) ([]restored, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	results, err := client.Restore(ctx, image, opts)
	list := []restored{}
	lost := 0
	for _, r := range results {
		row := restored{
			Ref: image.With(oci.Reference{Digest: r.Digest}).String(), Version: r.Version, Digest: r.Digest,
			Tags: append([]string{}, r.Tags...), Lost: []string{}, Outcome: string(r.Outcome),
		}
		if r.Err != nil {
			row.Why = r.Err.Error()
		}
		for _, moved := range r.Lost {
			row.Lost = append(row.Lost, moved.Tag)
			fmt.Fprintf(a.stderr, "ghcr: note: the tag %s is on %s by now; --move-tags takes it back\n", printable(moved.Tag), moved.Digest)
			lost++
		}
		list = append(list, row)
	}
	if err == nil && lost > 0 {
		err = fmt.Errorf("restore in %s: %s not given back: %w", image.Repository(), plural(lost, "tag"), errPartly)
	}
	return list, err
}

// restorePlan looks which of the items can be restored.
func (a *app) restorePlan(ctx context.Context, image oci.ImageRef, items []ghcr.UndoItem) ([]restored, error) {
	api, owner, name, err := a.packageOf(image)
	if err != nil {
		return nil, err
	}
	rows, err := api.AllVersions(ctx, owner, name, packages.Deleted)
	if err != nil {
		return nil, err
	}
	is := func(item ghcr.UndoItem) func(packages.PackageVersion) bool {
		return func(v packages.PackageVersion) bool { return v.ID == item.Version || v.Digest() == item.Digest }
	}
	var there []packages.PackageVersion
	if slices.ContainsFunc(items, func(item ghcr.UndoItem) bool { return item.Version != 0 && !slices.ContainsFunc(rows, is(item)) }) {
		if there, err = api.AllVersions(ctx, owner, name, packages.Active); err != nil {
			return nil, err
		}
	}
	list := []restored{}
	for _, item := range items {
		row := restored{Version: item.Version, Digest: item.Digest, Tags: append([]string{}, item.Tags...), Lost: []string{}, Outcome: plannedOutcome}
		at := slices.IndexFunc(rows, is(item))
		switch {
		case at >= 0:
			row.Version, row.Digest = rows[at].ID, rows[at].Digest()
			if len(item.Tags) == 0 {
				row.Tags = append(row.Tags, rows[at].Tags...)
			}
		case slices.ContainsFunc(there, is(item)):
			row.Outcome, row.Why = string(ghcr.Skipped), "it is there already"
		case item.Version != 0:
			row.Outcome, row.Why = string(ghcr.Skipped), "it is not among the versions deleted in the last 30 days"
		}
		row.Ref = fmt.Sprintf("%s#%d", image.Repository(), row.Version)
		if row.Digest != "" {
			row.Ref = image.With(oci.Reference{Digest: row.Digest}).String()
		}
		list = append(list, row)
	}
	return list, nil
}

func (a *app) printRestored(list []restored) error {
	r := result{data: list, head: []string{"OUTCOME", "DIGEST", "TAGS", "WHY"}}
	for _, m := range list {
		r.ids = append(r.ids, m.Ref)
		r.rows = append(r.rows, []string{m.Outcome, shortDigest(m.Digest), shortTags(m.Tags), printable(m.Why)})
		r.plain = append(r.plain, []string{m.Outcome, m.Ref, shownTags(m.Tags), printable(m.Why)})
	}
	return a.print(r)
}

// restorePackages brings packages back that were deleted whole.
func (a *app) restorePackages(ctx context.Context, given []string, f restoreFlags) error {
	type back struct {
		Package string `json:"package"`
		Outcome string `json:"outcome"`
	}
	list := []back{}
	r := result{head: []string{"OUTCOME", "PACKAGE"}}
	var failed []error
	all, err := a.wholePackages(given)
	if err != nil {
		return err
	}
	for _, ref := range all {
		api, owner, name, err := a.packageOf(ref)
		if err != nil {
			return err
		}
		b := back{ref.Repository(), plannedOutcome}
		if !f.dryRun {
			if err := api.Restore(ctx, owner, name); err != nil {
				failed = append(failed, err)
				continue
			}
			b.Outcome = string(ghcr.Done)
		}
		list = append(list, b)
		r.ids = append(r.ids, b.Package)
		r.rows = append(r.rows, []string{b.Outcome, b.Package})
	}
	r.data = list
	return errors.Join(a.print(r), partly(len(list), failed))
}
