package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	from         string
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
(acme/app#123, acme/app@sha256:…), or all that ghcr rm or ghcr untag wrote into an undo
file. GitHub keeps what was deleted for 30 days. What an index lists comes back before
it, and tags are given back unless something else has them by now. With --package a
package that was deleted whole comes back.`,
		Example: "  ghcr restore --from undo.json\n  ghcr restore acme/app#1234",
		RunE: func(cmd *cobra.Command, given []string) error {
			switch {
			case f.from != "" && (len(given) > 0 || f.wholePackage):
				return usage("--from names all there is to restore")
			case f.from != "":
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
	flags.StringVar(&f.from, "from", "", "undo `FILE` of ghcr rm or ghcr untag")
	flags.BoolVar(&f.wholePackage, "package", false, "whole packages, named without tag")
	flags.BoolVar(&f.moveTags, "move-tags", false, "take tags back from what has them by now")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what there is to restore, and change nothing")
	return cmd
}

func (a *app) restoreFrom(ctx context.Context, f restoreFlags) error {
	undo, err := ghcr.ReadUndo(f.from)
	if err != nil {
		return usage("--from: %w", err)
	}
	_, ref, err := a.repository(undo.Image, true)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.restorePlan(ctx, ref, undo.Items)
	}
	return a.restore(ctx, ref, ghcr.RestoreOptions{Undo: undo, MoveTags: f.moveTags})
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
	if f.dryRun {
		return a.restorePlan(ctx, image, items)
	}
	return a.restore(ctx, image, opts)
}

func (a *app) restore(ctx context.Context, image oci.ImageRef, opts ghcr.RestoreOptions) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	results, err := client.Restore(ctx, image, opts)
	if len(results) == 0 {
		return err
	}
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
			fmt.Fprintf(a.stderr, "ghcr: note: the tag %s is on %s by now; --move-tags takes it back\n", moved.Tag, moved.Digest)
			lost++
		}
		list = append(list, row)
	}
	if err == nil && lost > 0 {
		err = fmt.Errorf("restore in %s: %s not given back: %w", image.Repository(), plural(lost, "tag"), errPartly)
	}
	return errors.Join(a.printRestored(list), err)
}

// restorePlan looks which of the items can be restored.
func (a *app) restorePlan(ctx context.Context, image oci.ImageRef, items []ghcr.UndoItem) error {
	api, owner, name, err := a.packageOf(image)
	if err != nil {
		return err
	}
	rows, err := api.AllVersions(ctx, owner, name, packages.Deleted)
	if err != nil {
		return err
	}
	list := []restored{}
	for _, item := range items {
		row := restored{Version: item.Version, Digest: item.Digest, Tags: append([]string{}, item.Tags...), Lost: []string{}, Outcome: plannedOutcome}
		at := slices.IndexFunc(rows, func(v packages.PackageVersion) bool { return v.ID == item.Version || v.Digest() == item.Digest })
		switch {
		case at >= 0:
			row.Version, row.Digest = rows[at].ID, rows[at].Digest()
			if len(item.Tags) == 0 {
				row.Tags = append(row.Tags, rows[at].Tags...)
			}
		case item.Version != 0:
			row.Outcome, row.Why = string(ghcr.Skipped), "it is not among the versions deleted in the last 30 days"
		}
		row.Ref = fmt.Sprintf("%s#%d", image.Repository(), row.Version)
		if row.Digest != "" {
			row.Ref = image.With(oci.Reference{Digest: row.Digest}).String()
		}
		list = append(list, row)
	}
	return a.printRestored(list)
}

func (a *app) printRestored(list []restored) error {
	r := result{data: list, head: []string{"OUTCOME", "DIGEST", "TAGS", "WHY"}}
	for _, m := range list {
		r.ids = append(r.ids, m.Ref)
		r.rows = append(r.rows, []string{m.Outcome, shortDigest(m.Digest), shortTags(m.Tags), m.Why})
		r.plain = append(r.plain, []string{m.Outcome, m.Ref, strings.Join(m.Tags, " "), m.Why})
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
