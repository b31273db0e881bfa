package ghcr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// UntagOptions say how to take tags off. The zero value removes them.
type UntagOptions struct {
	// To moves the tags to another image of the repository instead of removing them.
	To oci.Reference
	// IgnoreMissing takes tags that do not exist for removed.
	IgnoreMissing bool
	// Undo is the file to write that [Client.Restore] reads. If empty it is a new one
	// in Options.UndoDir, and none without that.
	Undo string
	// Wait is for how long to wait for the Packages API to show that the tags have
	// left their images; a minute if zero.
	Wait time.Duration
	// Report is told of each tag when its outcome is known. Nil is told nothing.
	Report func(UntagResult)
}

// UntagPlan is which tags would be taken off. Nothing has been done;
// [UntagPlan.Apply] does it.
type UntagPlan struct {
	Image   oci.ImageRef // the repository
	Items   []UntagItem
	Missing []oci.ImageRef // tags that do not exist, with UntagOptions.IgnoreMissing
	To      oci.Digest     // where the tags move, with UntagOptions.To

	subject *subject
	opts    UntagOptions
	images  map[oci.Digest]*oci.Manifest
	refused error
	step    bool // it is part of a run with a journal, where one tag does not keep the others
}

// UntagItem is one tag.
type UntagItem struct {
	Tag     string
	Digest  oci.Digest // of its image, which stays
	Version int64      // of the image; 0 if the API does not list it
	Others  []string   // tags that the image keeps, as far as they are known

	throwaway oci.Digest // where an earlier run that was broken off has put the tag
}

// UntagResult is what became of a tag.
type UntagResult struct {
	UntagItem
	Outcome Outcome
	Err     error // why, unless the tag is off
}

// Untagging is what became of a plan.
type Untagging struct {
	Items []UntagResult
	Undo  string // the file that [Client.Restore] reads; empty if none was written
}

// Untag takes tags off their images, which stay: [Client.PlanUntag] and
// [UntagPlan.Apply] in one.
//
// Errors: those of both.
func (c *Client) Untag(ctx context.Context, opts UntagOptions, refs ...oci.ImageRef) (*Untagging, error) {
	plan, err := c.PlanUntag(ctx, opts, refs...)
	if err != nil {
		return nil, err
	}
	return plan.Apply(ctx)
}

// PlanUntag looks at tags, all of one repository. A digest beside a tag is what the
// tag must point to.
//
// Errors: [ErrNotFound] for a tag that does not exist, [*ChangedError], [ErrInvalid]
// for a reference without a tag, and those of [Client.Inventory].
func (c *Client) PlanUntag(ctx context.Context, opts UntagOptions, refs ...oci.ImageRef) (*UntagPlan, error) {
	s, err := c.oneSubject(refs)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if ref.Reference.Tag == "" {
			return nil, oci.Invalid("%s names no tag", ref)
		}
	}
	plan, err := s.planUntag(ctx, opts, refs)
	if err != nil {
		return nil, fmt.Errorf("untag in %s: %w", s.image.Repository(), err)
	}
	return plan, nil
}

// Err says why the plan may not be applied, or nil.
//
// Errors: [*packages.Error] with reason [packages.LastTagged] where no tag would be
// left in the package (docs/quirks.md#rest-last-tagged).
func (p *UntagPlan) Err() error { return p.refused }

func (s *subject) planUntag(ctx context.Context, opts UntagOptions, refs []oci.ImageRef) (*UntagPlan, error) {
	p := &UntagPlan{Image: s.image, subject: s, opts: opts, images: map[oci.Digest]*oci.Manifest{}}
	if !opts.To.IsZero() {
		to, err := s.digest(ctx, opts.To)
		if err != nil {
			return nil, err
		}
		p.To = to
	}
	for _, ref := range refs {
		tag := ref.Reference.Tag
		if slices.ContainsFunc(p.Items, func(item UntagItem) bool { return item.Tag == tag }) {
			continue
		}
		d, err := s.digest(ctx, ref.Reference)
		switch {
		case errors.Is(err, ErrNotFound) && opts.IgnoreMissing:
			p.Missing = append(p.Missing, ref)
			continue
		case err != nil:
			return nil, fmt.Errorf("tag %s: %w", tag, err)
		}
		p.Items = append(p.Items, UntagItem{Tag: tag, Digest: d})
	}
	if len(p.Items) == 0 || p.To != "" {
		return p, nil
	}
	if err := p.readImages(ctx); err != nil {
		return nil, err
	}
	return p, p.readOthers(ctx)
}

// readImages reads the images, which are put back if need be.
func (p *UntagPlan) readImages(ctx context.Context) error {
	for i := range p.Items {
		if err := p.readImage(ctx, &p.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// readImage reads an image. A throw-away manifest of a run that was broken off is told by
// what it says of itself.
func (p *UntagPlan) readImage(ctx context.Context, item *UntagItem) error {
	m, err := p.subject.manifest(ctx, item.Digest)
	if err != nil {
		return err
	}
	if was, ok := throwawayOf(m); ok {
		item.throwaway, item.Digest = item.Digest, was
	}
	p.images[m.Digest()] = m
	return nil
}

// readOthers finds out which tags the images and the package keep.
func (p *UntagPlan) readOthers(ctx context.Context) error {
	s := p.subject
	names, err := s.repo.TagNames(ctx)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, p.takes)
	if s.api != nil && len(names) == 0 {
		p.refused = &packages.Error{Reason: packages.LastTagged, Op: "untag", Owner: s.owner, Package: s.name}
	}
	candidates := names
	if s.api != nil {
		// The list tells which tags are worth asking about. It may be late, and the
		// registry has the last word.
		rows, err := s.api.AllVersions(ctx, s.owner, s.name, packages.Active)
		if err != nil {
			return err
		}
		candidates = nil
		for _, row := range rows {
			for i := range p.Items {
				if item := &p.Items[i]; item.Digest == row.Digest() {
					item.Version = row.ID
					candidates = append(candidates, row.Tags...)
				}
			}
		}
		slices.Sort(candidates)
		candidates = slices.DeleteFunc(slices.Compact(candidates), p.takes)
	}
	have, err := s.resolveTags(ctx, candidates)
	if err != nil {
		return err
	}
	for i := range p.Items {
		item := &p.Items[i]
		for tag, d := range have {
			if d == item.Digest {
				item.Others = append(item.Others, tag)
			}
		}
		slices.Sort(item.Others)
	}
	return nil
}

func (p *UntagPlan) takes(tag string) bool {
	return slices.ContainsFunc(p.Items, func(item UntagItem) bool { return item.Tag == tag })
}

func (p *UntagPlan) byTag(tag string) oci.ImageRef {
	return p.Image.With(oci.Reference{Tag: tag})
}

// undo is what takes the plan back.
func (p *UntagPlan) undo() *Undo {
	u := &Undo{Op: "untag"}
	for _, item := range p.Items {
		u.Items = append(u.Items, UndoItem{Digest: item.Digest, Tags: []string{item.Tag}})
	}
	return u
}
