package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// untagged is one line of ghcr untag.
type untagged struct {
	Ref     string     `json:"ref"` // the image, by digest, where it stays
	Tag     string     `json:"tag"`
	Digest  oci.Digest `json:"digest"`
	Others  []string   `json:"others"` // tags that the image keeps
	Outcome string     `json:"outcome"`
	Why     string     `json:"why"`  // unless the tag is off
	Undo    string     `json:"undo"` // the file that ghcr restore --from reads
}

func (a *app) untagCommand() *cobra.Command {
	var f changeFlags
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "untag REF...",
		Short: "Take tags off, and leave the images and their other tags",
		Long: `Take tags off their images. GHCR cannot delete a tag, and a version goes with all its
tags, so each tag is put on an empty manifest of its own, which then is deleted by
number. The image and its other tags are looked at afterwards. The last tag of a package
is refused. acme/app:v1@sha256:… takes the tag off only if it is on that image. A file is
written by which ghcr restore gives the tags back.`,
		Example: "  ghcr untag acme/app:nightly --yes\n  ghcr untag acme/app:edge acme/app:beta --dry-run",
		Args:    args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.untag(cmd.Context(), given, f, wait)
		},
	}
	f.add(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "for the API to show that the tags have left (default 1m)")
	return cmd
}

func (a *app) untag(ctx context.Context, given []string, f changeFlags, wait time.Duration) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	groups, err := a.byRepository(ctx, given, f)
	if err != nil {
		return err
	}
	opts := ghcr.UntagOptions{IgnoreMissing: f.ignoreMissing, Undo: f.undo, Wait: wait}
	var plans []*ghcr.UntagPlan
	var refused []error
	list := []untagged{}
	for _, refs := range groups {
		plan, err := client.PlanUntag(ctx, opts, refs...)
		if err != nil {
			return err
		}
		plans = append(plans, plan)
		refused = append(refused, plan.Err())
		var rows [][]string
		for _, item := range plan.Items {
			rows = append(rows, []string{"untag", item.Tag, shortDigest(item.Digest), staysAs(item)})
			list = append(list, newUntagged(plan.Image, ghcr.UntagResult{UntagItem: item, Outcome: plannedOutcome}, ""))
		}
		for _, ref := range plan.Missing {
			rows = append(rows, []string{"missing", ref.Reference.String(), "", "does not exist"})
		}
		a.showPlan(f, "to be taken off in "+plan.Image.Repository(), rows)
	}
	err = errors.Join(refused...)
	if errors.Is(err, packages.LastTagged) {
		err = &exitError{err, exitFindings}
	}
	if f.dryRun || err == nil && len(list) == 0 {
		return errors.Join(a.printUntagged(list), err)
	}
	if err != nil {
		return err
	}
	if err := a.confirm(f, fmt.Sprintf("take off %s?", plural(len(list), "tag"))); err != nil {
		return err
	}
	list = list[:0]
	done := 0
	var failed []error
	for _, plan := range plans {
		result, err := plan.Apply(ctx)
		if err != nil {
			failed = append(failed, err)
		}
		if result == nil {
			continue
		}
		for _, r := range result.Items {
			if r.Err == nil {
				done++
			}
			list = append(list, newUntagged(plan.Image, r, result.Undo))
		}
		a.tellUndo(result.Undo)
	}
	return errors.Join(a.printUntagged(list), partly(done, failed))
}

func staysAs(item ghcr.UntagItem) string {
	if len(item.Others) == 0 {
		return "the image stays, without a tag"
	}
	return "the image stays, as " + strings.Join(item.Others, ", ")
}

func newUntagged(image oci.ImageRef, r ghcr.UntagResult, undo string) untagged {
	u := untagged{
		Ref: image.With(oci.Reference{Digest: r.Digest}).String(), Tag: r.Tag, Digest: r.Digest,
		Others: append([]string{}, r.Others...), Outcome: string(r.Outcome), Undo: undo,
	}
	if r.Err != nil {
		u.Why = r.Err.Error()
	}
	return u
}

func (a *app) printUntagged(list []untagged) error {
	r := result{data: list, head: []string{"OUTCOME", "TAG", "DIGEST", "OTHER TAGS"}}
	for _, u := range list {
		r.ids = append(r.ids, u.Ref)
		others := strings.Join(u.Others, " ")
		r.rows = append(r.rows, []string{u.Outcome, u.Tag, shortDigest(u.Digest), others})
		r.plain = append(r.plain, []string{u.Outcome, u.Tag, u.Ref, others})
	}
	return a.print(r)
}
