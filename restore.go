package ghcr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// RestoreOptions say what to restore: versions by number, manifests by digest, or all
// of an undo file. The zero value restores nothing.
type RestoreOptions struct {
	Versions []int64
	Digests  []oci.Digest
	Undo     *Undo // of the same repository
	// MoveTags takes tags of the undo file back from other images that have them by
	// now. Tags that nobody has are given back in any case.
	MoveTags bool
	// Report is told of each item when its outcome is known. Nil is told nothing.
	Report func(RestoreResult)
}

// RestoreResult is what became of a version.
type RestoreResult struct {
	Version int64 // 0 if only tags were to be given back
	Digest  oci.Digest
	Tags    []string // that it has now, of those it had
	Lost    []Moved  // tags that it had and that something else has by now
	Outcome Outcome
	Err     error // why, unless it is back
}

// Moved is a tag that something else has by now.
type Moved struct {
	Tag    string
	Digest oci.Digest
}

// Restore brings deleted versions back, which GitHub does for thirty days
// (docs/quirks.md#rest-restore-window): what an index lists before the index, and an
// image before its signatures. What a restored index lists and was deleted too comes
// along. Each is looked at afterwards, and the tags of an undo file are given back.
// A version that is there is as good as restored.
//
// When ctx is done, waits end at once and nothing more is begun; what was begun has half a
// minute to end.
//
// Errors: [ErrInvalid] for nothing to restore, and for an undo file of another
// repository or whose numbers are of other digests; [ErrNotFound] for what was not
// deleted, or too long ago; [*packages.Error] with the reason of a refusal,
// [packages.NameTaken] if something has its name; [*PartialError] if some of it came
// back; [ErrUnsupported] for a version of a registry that is not GitHub's. The result is there beside an error whenever something was tried.
func (c *Client) Restore(ctx context.Context, image oci.ImageRef, opts RestoreOptions) ([]RestoreResult, error) {
	s, err := c.subject(image)
	if err != nil {
		return nil, err
	}
	op := "restore in " + s.image.Repository()
	if opts.Undo != nil && opts.Undo.Image != s.image.Repository() {
		return nil, oci.Invalid("the undo file is of %s, not of %s", opts.Undo.Image, s.image.Repository())
	}
	r := &restoring{subject: s, opts: opts}
	if err := r.plan(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if len(r.items) == 0 {
		return nil, oci.Invalid("%s: nothing is named", op)
	}
	return r.run(ctx, op)
}

// restoring is a restoration under way.
type restoring struct {
	subject *subject
	opts    RestoreOptions
	items   []UndoItem // in the order in which they come back
	deleted map[oci.Digest]packages.PackageVersion
}

// plan finds the versions and puts them in order.
func (r *restoring) plan(ctx context.Context) error {
	s := r.subject
	if r.opts.Undo != nil {
		r.items = append(r.items, r.opts.Undo.Items...)
	}
	if s.api == nil {
		if len(r.opts.Versions)+len(r.opts.Digests) > 0 {
			return s.noAPI("restore a version of")
		}
		r.items = sortUp(r.items)
		return nil
	}
	if err := r.readDeleted(ctx); err != nil {
		return err
	}
	byID := map[int64]oci.Digest{}
	for d, v := range r.deleted {
		byID[v.ID] = d
	}
	for _, item := range r.items {
		if d := byID[item.Version]; d != "" && d != item.Digest {
			return oci.Invalid("the undo file is wrong: version %d is %s, not %s", item.Version, d, item.Digest)
		}
	}
	for _, id := range r.opts.Versions {
		d := byID[id]
		if d == "" {
			v, err := s.api.Version(ctx, s.owner, s.name, id)
			if err != nil {
				return fmt.Errorf("it is not among the versions deleted in the last 30 days: %w", err)
			}
			d = v.Digest()
		}
		r.items = append(r.items, r.item(UndoItem{Version: id, Digest: d}))
	}
	for _, d := range r.opts.Digests {
		v, ok := r.deleted[d]
		if !ok {
			if _, err := s.repo.Resolve(ctx, d.String()); err == nil {
				r.items = append(r.items, UndoItem{Digest: d})
				continue
			}
			return fmt.Errorf("%s is not among the versions deleted in the last 30 days: %w", d, ErrNotFound)
		}
		r.items = append(r.items, r.item(UndoItem{Version: v.ID, Digest: d}))
	}
	r.items = sortUp(r.items)
	return nil
}

// readDeleted lists what can be restored.
func (r *restoring) readDeleted(ctx context.Context) error {
	s := r.subject
	rows, err := s.api.AllVersions(ctx, s.owner, s.name, packages.Deleted)
	if err != nil {
		return err
	}
	r.deleted = map[oci.Digest]packages.PackageVersion{}
	for _, v := range rows {
		// One digest may have been deleted more than once. The last time counts.
		if old, ok := r.deleted[v.Digest()]; !ok || v.DeletedAt.After(old.DeletedAt) {
			r.deleted[v.Digest()] = v
		}
	}
	return nil
}

// item adds what is known of a deleted version: its tags, and from a manifest that is
// still kept, what it needs.
func (r *restoring) item(item UndoItem) UndoItem {
	item.Tags = r.deleted[item.Digest].Tags
	if m := r.subject.client.manifests.get(item.Digest); m != nil {
		item.Needs = needsOf(m)
	}
	return item
}

func needsOf(m *oci.Manifest) []oci.Digest {
	var needs []oci.Digest
	for e := range m.Edges() {
		if e.Kind == oci.EdgeChild || e.Kind == oci.EdgeSubject {
			needs = append(needs, e.Descriptor.Digest)
		}
	}
	return needs
}

// sortUp puts what is needed before what needs it. Of the same digest the first
// counts.
func sortUp(items []UndoItem) []UndoItem {
	byDigest := map[oci.Digest]UndoItem{}
	for _, item := range slices.Backward(items) {
		byDigest[item.Digest] = item
	}
	var sorted []UndoItem
	seen := map[oci.Digest]bool{}
	var visit func(d oci.Digest)
	visit = func(d oci.Digest) {
		item, ok := byDigest[d]
		if !ok || seen[d] {
			return
		}
		seen[d] = true
		for _, need := range item.Needs {
			visit(need)
		}
		sorted = append(sorted, item)
	}
	for _, item := range items {
		visit(item.Digest)
	}
	return sorted
}

func (r *restoring) run(ctx context.Context, op string) ([]RestoreResult, error) {
	var results []RestoreResult
	var causes []error
	done := 0
	var end error
	tried := map[oci.Digest]bool{}
	back := map[oci.Digest]bool{}
	// The list grows: what an index lists is known once it is back.
	for i := 0; i < len(r.items); i++ {
		item := r.items[i]
		if tried[item.Digest] {
			continue
		}
		tried[item.Digest] = true
		result := RestoreResult{Version: item.Version, Digest: item.Digest}
		switch {
		case end != nil:
			result.Outcome, result.Err = Skipped, end
		case ctx.Err() != nil:
			result.Outcome, result.Err = Skipped, context.Cause(ctx)
		case missing(item, tried, back) != "":
			// A tag must not come back to an index that lacks something.
			result.Outcome = Skipped
			result.Err = fmt.Errorf("%s stays deleted, since %s, which it needs, could not be restored", r.subject.image.With(oci.Reference{Digest: item.Digest}), missing(item, tried, back))
		default:
			result.Err = r.restoreOne(ctx, item, &result)
			if result.Outcome = Done; result.Err != nil {
				result.Outcome = outcomeOf(result.Err)
			}
			if hopeless(result.Err) {
				end = result.Err
			}
		}
		switch {
		case result.Outcome == Done:
			done++
		case result.Outcome != Skipped || len(causes) == 0:
			causes = append(causes, result.Err)
		}
		results = append(results, result)
		if r.opts.Report != nil {
			r.opts.Report(result)
		}
		if back[item.Digest] = result.Outcome == Done; back[item.Digest] {
			r.followUp(ctx, item.Digest, tried)
		}
	}
	return results, sumUp(op, done, len(results), causes)
}

// missing returns what an item needs that was to come back and did not.
func missing(item UndoItem, tried, back map[oci.Digest]bool) oci.Digest {
	for _, need := range item.Needs {
		if tried[need] && !back[need] {
			return need
		}
	}
	return ""
}

// restoreOne brings one manifest back, and its tags.
func (r *restoring) restoreOne(run context.Context, item UndoItem, result *RestoreResult) error {
	s := r.subject
	if run.Err() != nil {
		return &untried{context.Cause(run)}
	}
	ctx, release := transport.Finishing(run, finishWait)
	defer release()
	switch {
	case item.Version != 0 && s.api != nil:
		if err := r.restoreVersion(ctx, item); err != nil {
			return notSent(run, ctx, err)
		}
	case item.Manifest != nil:
		m, err := oci.ParseManifest(item.MediaType, item.Manifest)
		if err == nil {
			err = m.Verify(item.Digest)
		}
		if err != nil {
			return fmt.Errorf("the undo file: %w", err)
		}
		if err := s.repo.PutManifest(ctx, item.Digest.String(), m); err != nil {
			return err
		}
	}
	if _, err := s.repo.Resolve(ctx, item.Digest.String()); err != nil {
		return err
	}
	for _, tag := range item.Tags {
		if err := r.restoreTag(ctx, tag, item.Digest, result); err != nil {
			return fmt.Errorf("%s is there; its tag %s: %w", item.Digest, tag, err)
		}
	}
	return nil
}

func (r *restoring) restoreVersion(ctx context.Context, item UndoItem) error {
	s := r.subject
	err := s.api.RestoreVersion(ctx, s.owner, s.name, item.Version)
	if err == nil {
		return nil
	}
	// It may be there already, by this number or, pushed again, by another.
	switch _, lookErr := s.repo.Resolve(ctx, item.Digest.String()); {
	case lookErr == nil:
		return nil
	case leavesOpen(err) && !errors.Is(lookErr, ErrNotFound):
		return unknown(transport.Waits(ctx), s.byDigest(item.Digest), err)
	}
	return err
}

// restoreTag gives a tag back, unless something else has it.
func (r *restoring) restoreTag(ctx context.Context, tag string, d oci.Digest, result *RestoreResult) error {
	s := r.subject
	now, err := s.repo.Resolve(ctx, tag)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err == nil && now.Digest == d:
		result.Tags = append(result.Tags, tag)
		return nil
	case err == nil && !r.opts.MoveTags && !r.isThrowaway(ctx, now.Digest):
		result.Lost = append(result.Lost, Moved{tag, now.Digest})
		return nil
	}
	if _, err := s.point(ctx, tag, d); err != nil {
		return err
	}
	result.Tags = append(result.Tags, tag)
	return nil
}

// isThrowaway tells whether a tag is on what an untagging that was broken off has put
// there.
func (r *restoring) isThrowaway(ctx context.Context, d oci.Digest) bool {
	m, err := r.subject.manifest(ctx, d)
	if err != nil {
		return false
	}
	_, ok := throwawayOf(m)
	return ok
}

// followUp adds what a restored manifest lists and was deleted too.
func (r *restoring) followUp(ctx context.Context, d oci.Digest, tried map[oci.Digest]bool) {
	m, err := r.subject.manifest(ctx, d)
	if err != nil || !m.IsIndex() {
		return
	}
	for _, entry := range m.Manifests {
		v, ok := r.deleted[entry.Digest]
		listed := slices.ContainsFunc(r.items, func(item UndoItem) bool { return item.Digest == entry.Digest })
		if !ok || listed || tried[entry.Digest] {
			continue
		}
		r.items = append(r.items, UndoItem{Version: v.ID, Digest: entry.Digest, Tags: v.Tags})
	}
}
