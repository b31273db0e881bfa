package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// DeleteOptions say how to delete. The zero value takes referrers along, and refuses
// to delete an image with tags that were not named.
type DeleteOptions struct {
	// AllTags agrees to lose all tags of an image, and not just those that were named:
	// a version is deleted with all its tags.
	AllTags bool
	// KeepReferrers leaves signatures, SBOMs and the like of what goes.
	KeepReferrers bool
	// IgnoreMissing takes what does not exist for deleted.
	IgnoreMissing bool
	// Undo is the file to write that [Client.Restore] reads. If empty it is a new one
	// in Options.UndoDir, and none without that.
	Undo string
	// Wait is for how long to wait for the Packages API to list what was just pushed;
	// 30 s if zero.
	Wait time.Duration
	// Report is told of each item when its outcome is known, and of one that had to be
	// restored a second time. Nil is told nothing.
	Report func(DeleteResult)
}

// DeletePlan is what would be deleted. Nothing has been; [DeletePlan.Apply] does it.
type DeletePlan struct {
	Image   oci.ImageRef   // the repository
	Items   []DeleteItem   // in the order in which they go
	Kept    []KeptItem     // what hangs on them and stays
	Missing []oci.ImageRef // what does not exist, with DeleteOptions.IgnoreMissing
	// Orphaned is what stays and may be of no use any more: manifests without a tag that
	// nothing lists as far as is known, where an item could not be read. They may be its
	// parts, or of others that are gone. There are none where all items were read.
	Orphaned []oci.Digest

	subject  *subject
	opts     DeleteOptions
	refs     []oci.ImageRef // as they were resolved: with digest
	refusals []error
	seen     *view
	fresh    bool // it was made a moment ago, to be applied at once
}

// DeleteItem is one manifest that goes.
type DeleteItem struct {
	Version int64 // its number; 0 on a registry that is not GitHub's
	Digest  oci.Digest
	Role    oci.Role
	Created time.Time // zero if it is not known
	Tags    []string  // all that go with it
	Others  []string  // those of them that were not named
	Named   bool      // it was named itself, and does not go along with another
	// Unread is why its manifest could not be read; nil if it was. What such an item
	// lists is not known, and stays.
	Unread error

	node *oci.Node
}

// KeptItem is a manifest that hangs on what goes and stays.
type KeptItem struct {
	Digest oci.Digest
	Role   oci.Role
	Why    string // "has the tag v2", "is part of v3"
}

// DeleteResult is what became of an item.
type DeleteResult struct {
	DeleteItem
	Outcome Outcome
	Err     error // why, unless it is deleted
}

// Deletion is what became of a plan.
type Deletion struct {
	Items []DeleteResult
	Undo  string // the file that [Client.Restore] reads; empty if none was written
}

// Delete deletes images by tag or digest, all of one repository: [Client.PlanDelete]
// and [DeletePlan.Apply] in one.
//
// Errors: those of both.
func (c *Client) Delete(ctx context.Context, opts DeleteOptions, refs ...oci.ImageRef) (*Deletion, error) {
	plan, err := c.PlanDelete(ctx, opts, refs...)
	if err != nil {
		return nil, err
	}
	plan.fresh = true
	return plan.Apply(ctx)
}

// PlanDelete works out what goes with images that are named by tag or digest, all of
// one repository. Which manifest a tag means is asked of the registry, and its version
// found by digest. What only these images list goes along, and what refers to it. The
// plan is returned even if it may not be applied: [DeletePlan.Err] says why.
//
// Errors: [ErrNotFound] for an image that does not exist, [ErrConflict] for a tag that
// does not point to the digest beside it, [*UnlistedError], [ErrInvalid] for no
// images or those of several repositories, and those of [Client.Inventory].
func (c *Client) PlanDelete(ctx context.Context, opts DeleteOptions, refs ...oci.ImageRef) (*DeletePlan, error) {
	s, err := c.oneSubject(refs)
	if err != nil {
		return nil, err
	}
	plan, err := s.planDelete(ctx, opts, refs)
	if err != nil {
		return nil, fmt.Errorf("delete from %s: %w", s.image.Repository(), err)
	}
	return plan, nil
}

// oneSubject returns the repository that all references are in.
func (c *Client) oneSubject(refs []oci.ImageRef) (*subject, error) {
	if len(refs) == 0 {
		return nil, oci.Invalid("no image is named")
	}
	for _, ref := range refs {
		if ref.Repository() != refs[0].Repository() {
			return nil, oci.Invalid("%s and %s are of two repositories", refs[0], ref)
		}
		if ref.Reference.IsZero() {
			return nil, oci.Invalid("%s names a whole repository: add a tag or digest", ref)
		}
	}
	return c.subject(refs[0])
}

// Err says why the plan may not be applied, or nil.
//
// Errors: [*TagsError], [*NeededError], and [*packages.Error] with reason
// [packages.LastTagged] where no tagged version would be left
// (docs/quirks.md#rest-last-tagged).
func (p *DeletePlan) Err() error { return errors.Join(p.refusals...) }

func (s *subject) planDelete(ctx context.Context, opts DeleteOptions, refs []oci.ImageRef) (*DeletePlan, error) {
	var plan *DeletePlan
	err := s.patiently(ctx, cmp.Or(opts.Wait, defaultWait), func() (settled bool, err error) {
		v, err := s.look(ctx, refs)
		if err != nil {
			return false, err
		}
		plan = &DeletePlan{Image: s.image, subject: s, opts: opts, seen: v}
		roots, err := plan.resolve(v, refs)
		if err != nil {
			return false, err
		}
		removal, err := s.removal(ctx, v, roots, !opts.KeepReferrers)
		if err != nil {
			return false, err
		}
		return plan.fill(v, removal, roots), nil
	})
	if err != nil {
		return nil, err
	}
	return plan, plan.dropUnlisted()
}

// resolve finds the manifests that are named.
func (p *DeletePlan) resolve(v *view, refs []oci.ImageRef) (roots []oci.Digest, err error) {
	for _, ref := range refs {
		d, tag := ref.Reference.Digest, ref.Reference.Tag
		if tag != "" {
			at, ok := v.tags[tag]
			switch {
			case !ok && p.opts.IgnoreMissing && (d == "" || v.graph.Node(d) == nil):
				p.Missing = append(p.Missing, ref)
				continue
			case !ok:
				return nil, fmt.Errorf("tag %s: %w", tag, ErrNotFound)
			case d != "" && d != at:
				return nil, &ChangedError{ref, fmt.Sprintf("the tag points to %s", at)}
			}
			d = at
		}
		if v.graph.Node(d) == nil {
			if p.opts.IgnoreMissing {
				p.Missing = append(p.Missing, ref)
				continue
			}
			return nil, fmt.Errorf("manifest %s: %w", d, ErrNotFound)
		}
		p.refs = append(p.refs, ref.With(oci.Reference{Tag: tag, Digest: d}))
		if !slices.Contains(roots, d) {
			roots = append(roots, d)
		}
	}
	return roots, nil
}

// removal works out what goes. Before anything is kept for the sake of a version that
// may only be listed still, that version is looked at.
func (s *subject) removal(ctx context.Context, v *view, roots []oci.Digest, referrers bool) (oci.Removal, error) {
	checked := map[oci.Digest]bool{}
	for {
		nodes := make([]*oci.Node, len(roots))
		for i, d := range roots {
			nodes[i] = v.graph.Node(d)
		}
		r := v.graph.Removal(nodes, referrers)
		var keepers []oci.Digest
		for _, k := range slices.Concat(r.Needed, r.Kept) {
			for _, n := range slices.Concat(k.Parents, k.Subjects, k.Unread) {
				if !checked[n.Digest] {
					checked[n.Digest] = true
					keepers = append(keepers, n.Digest)
				}
			}
		}
		if dropped, err := s.dropGone(ctx, v, keepers); err != nil || !dropped {
			return r, err
		}
	}
}

// fill writes down what goes, and tells whether all of it has a number.
func (p *DeletePlan) fill(v *view, r oci.Removal, roots []oci.Digest) (settled bool) {
	settled = true
	named := map[string]bool{}
	for _, ref := range p.refs {
		named[ref.Reference.Tag] = true
	}
	left := len(v.tags)
	for _, n := range r.Gone {
		item := DeleteItem{Digest: n.Digest, Role: n.Role(), Tags: n.Tags, Named: slices.Contains(roots, n.Digest), node: n}
		left -= len(n.Tags)
		if version := v.versions[n.Digest]; version != nil {
			item.Version, item.Created = version.ID, version.CreatedAt
		} else if p.subject.api != nil {
			settled = false
		}
		if n.Manifest == nil {
			item.Unread = v.unread(n.Digest)
			p.Orphaned = v.orphans(r.Gone)
		}
		if item.Named {
			item.Others = slices.DeleteFunc(slices.Clone(n.Tags), func(tag string) bool { return named[tag] })
		}
		p.Items = append(p.Items, item)
		if len(item.Others) > 0 && !p.opts.AllTags {
			p.refuse(&TagsError{p.byDigest(n.Digest), item.Others})
		}
	}
	for _, k := range r.Kept {
		p.Kept = append(p.Kept, KeptItem{k.Node.Digest, k.Node.Role(), whyKept(k)})
	}
	for _, k := range r.Needed {
		e := &NeededError{Image: p.byDigest(k.Node.Digest)}
		for _, parent := range k.Parents {
			e.Indexes = append(e.Indexes, nameOf(parent))
		}
		for _, unread := range k.Unread {
			e.Unread = append(e.Unread, unread.Digest)
		}
		p.refuse(e)
	}
	if s := p.subject; s.api != nil && left == 0 && len(v.tags) > 0 {
		p.refuse(&packages.Error{Reason: packages.LastTagged, Op: "delete from", Owner: s.owner, Package: s.name})
	}
	return settled
}

func (p *DeletePlan) refuse(err error) { p.refusals = append(p.refusals, err) }

func (p *DeletePlan) byDigest(d oci.Digest) oci.ImageRef {
	return p.Image.With(oci.Reference{Digest: d})
}

// dropUnlisted takes out what the API did not list in time, and what hangs on that and
// would be missed there. It goes another day; what was named must have a number, and so
// must an index that lists it.
func (p *DeletePlan) dropUnlisted() error {
	if p.subject.api == nil {
		return nil
	}
	stays := map[*oci.Node]bool{}
	isStaying := func(n *oci.Node) bool { return stays[n] }
	var left []DeleteItem
	for _, item := range p.Items { // an index comes before what it lists
		parent := slices.IndexFunc(item.node.Parents, isStaying)
		why := ""
		switch {
		case item.Version == 0 && item.Named:
			return &UnlistedError{p.byDigest(item.Digest)}
		case item.Version == 0:
			why = "is not yet listed by the Packages API"
		case parent >= 0 && item.Named:
			return &UnlistedError{p.byDigest(item.node.Parents[parent].Digest)}
		case parent >= 0:
			why = "is part of " + nameOf(item.node.Parents[parent])
		case !item.Named && slices.ContainsFunc(item.node.Subjects, isStaying):
			why = "is about what stays"
		default:
			left = append(left, item)
			continue
		}
		stays[item.node] = true
		p.Kept = append(p.Kept, KeptItem{item.Digest, item.Role, why})
	}
	p.Items = left
	return nil
}

func nameOf(n *oci.Node) string {
	if names := n.Names(); len(names) > 0 {
		return names[0]
	}
	return n.Digest.String()
}

func whyKept(k oci.Kept) string {
	switch {
	case len(k.Names) > 0:
		return "has the tag " + k.Names[0]
	case len(k.Parents) > 0:
		return "is part of " + nameOf(k.Parents[0])
	case len(k.Subjects) > 0:
		return "is about " + nameOf(k.Subjects[0])
	case len(k.Unread) > 0:
		return "may be part of " + k.Unread[0].Digest.String() + ", which could not be read"
	}
	return "can't be told apart from what stays"
}

// defaultWait is for how long to wait for lists of the API to show a change.
const defaultWait = 30 * time.Second

// patiently calls try, with growing pauses, until it is settled, fails, or the wait
// is over. That it did not settle is no error. The wait is that of the pauses alone, so
// that how often is tried does not depend on how fast the answers come: a recording
// could not be replayed otherwise.
func (s *subject) patiently(ctx context.Context, wait time.Duration, try func() (settled bool, err error)) error {
	for pause := time.Second; ; pause = min(2*pause, 8*time.Second) {
		settled, err := try()
		if err != nil || settled || wait <= 0 {
			return err
		}
		pause = min(pause, wait)
		wait -= pause
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
