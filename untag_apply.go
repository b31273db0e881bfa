package ghcr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Apply takes the tags off. GHCR cannot delete a tag, and a version goes with all its
// tags (docs/quirks.md#manifest-delete). So each tag is put on an empty manifest of its
// own, which is then deleted by the number of the version that has exactly this digest
// and this tag, and never by a look for the tag: a list that comes late would still
// show it on the image. All tags share one wait. Other registries delete the tag.
//
// Right before a tag is moved it is looked at once more; nobody can keep others from
// moving it in the moment between. Afterwards the image, its other tags, and the tag
// itself are looked at. If the empty manifest can't be deleted, the tag is put back.
//
// Errors: that of [UntagPlan.Err] and [*ChangedError], with nothing done; the cause if
// no tag was taken off, such as [*PendingError]; else [*PartialError]. The result is
// there beside an error whenever something was tried.
func (p *UntagPlan) Apply(ctx context.Context) (*Untagging, error) {
	s := p.subject
	op := "untag in " + p.Image.Repository()
	if p.refused != nil {
		return nil, fmt.Errorf("%s: %w", op, p.refused)
	}
	if len(p.Items) == 0 {
		return &Untagging{}, nil
	}
	result := &Untagging{}
	if !p.step {
		undo, err := p.begin(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		result.Undo = undo
	}
	u := &untagging{plan: p, errs: make([]error, len(p.Items)), done: make([]bool, len(p.Items))}
	switch {
	case p.To != "":
		u.move(ctx)
	case s.api == nil:
		u.deleteTags(ctx)
	default:
		u.replace(ctx)
	}
	u.verify(ctx)
	var causes []error
	for i, item := range p.Items {
		r := UntagResult{UntagItem: item, Outcome: Done, Err: u.errs[i]}
		if r.Err != nil {
			r.Outcome = outcomeOf(r.Err)
			causes = append(causes, r.Err)
		}
		result.Items = append(result.Items, r)
		if p.opts.Report != nil {
			p.opts.Report(r)
		}
	}
	return result, sumUp(op, len(p.Items)-len(causes), len(p.Items), causes)
}

// begin looks at what could be in the way, and writes down how to undo it.
func (p *UntagPlan) begin(ctx context.Context) (undo string, err error) {
	if p.subject.api != nil && p.To == "" {
		if err := p.subject.mayDelete(ctx); err != nil {
			return "", err
		}
	}
	for _, item := range p.Items {
		if err := p.isStill(ctx, item); err != nil {
			return "", err
		}
	}
	if undo, err = p.subject.writeUndo(p.opts.Undo, p.undo()); err != nil {
		return "", fmt.Errorf("nothing was changed, since it could not be undone: %w", err)
	}
	return undo, nil
}

// mayDelete refuses to begin what a token is known not to be allowed to end
// (docs/quirks.md#rest-scopes). Of tokens without scopes it shows when it is tried.
func (s *subject) mayDelete(ctx context.Context) error {
	tokens, err := s.client.transport.Tokens(ctx, s.api.Host())
	if err != nil {
		return err
	}
	var refusal error
	for _, token := range tokens {
		missing := token.Lacks(transport.ScopeRead, transport.ScopeDelete)
		if len(missing) == 0 {
			return nil
		}
		refusal = &packages.Error{
			Reason: packages.MissingScope, Op: "delete versions of", Owner: s.owner, Package: s.name,
			Scope: missing[0], Token: token.Kind, Source: token.Source,
		}
	}
	return refusal
}

// isStill checks that a tag points where it did.
func (p *UntagPlan) isStill(ctx context.Context, item UntagItem) error {
	_, err := p.subject.digest(ctx, oci.Reference{Tag: item.Tag, Digest: cmp.Or(item.throwaway, item.Digest)})
	return brokenOff(ctx, err)
}

// untagging is a plan that is being carried out.
type untagging struct {
	plan *UntagPlan
	errs []error // by item; what went wrong
	done []bool  // by item; whether the tag is off
}

// move has the tags name another image.
func (u *untagging) move(ctx context.Context) {
	for i, item := range u.plan.Items {
		if u.errs[i] = u.plan.isStill(ctx, item); u.errs[i] == nil {
			_, u.errs[i] = u.plan.subject.point(ctx, item.Tag, u.plan.To)
		}
	}
}

// deleteTags deletes the tags where the registry can do that.
func (u *untagging) deleteTags(ctx context.Context) {
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	for i, item := range u.plan.Items {
		if u.errs[i] = u.plan.isStill(ctx, item); u.errs[i] == nil {
			u.errs[i] = notSent(ctx, sent, u.plan.subject.repo.DeleteManifest(sent, item.Tag))
			u.done[i] = u.errs[i] == nil
		}
	}
}

// replaced is a tag that is on a throw-away manifest.
type replaced struct {
	item    int
	digest  oci.Digest // of the throw-away manifest
	version int64      // its version, once it is known
	moved   bool       // somebody else has given the tag to something else since
}

// replace puts the tags on throw-away manifests, waits for the API to show them, and
// deletes these.
func (u *untagging) replace(ctx context.Context) {
	var pending []*replaced
	for i, item := range u.plan.Items {
		d := item.throwaway
		if d == "" {
			d, u.errs[i] = u.putThrowaway(ctx, item)
		}
		if u.errs[i] == nil {
			pending = append(pending, &replaced{item: i, digest: d})
		}
	}
	err := u.plan.subject.patiently(ctx, cmp.Or(u.plan.opts.Wait, time.Minute), func() (settled bool, err error) {
		return u.find(ctx, pending)
	})
	for _, r := range pending {
		switch item := u.plan.Items[r.item]; {
		case r.version == 0 && err != nil && ctx.Err() == nil:
			u.errs[r.item] = u.putBack(ctx, r, err)
		case ctx.Err() != nil:
			u.errs[r.item] = u.pending(ctx, r)
		case r.version == 0:
			u.errs[r.item] = &PendingError{u.plan.byTag(item.Tag), r.digest}
		default:
			u.errs[r.item] = u.finish(ctx, r)
			u.done[r.item] = u.errs[r.item] == nil
		}
	}
}

// The annotations of a throw-away manifest: what it is, so that whoever meets one
// knows, and a run that was broken off can be finished; and what makes it unlike any
// other.
const (
	annotationThrowaway = "io.github.llm-dev-ops.ghcr.untagged" // the digest that had the tag
	annotationTag       = "io.github.llm-dev-ops.ghcr.tag"
	annotationNonce     = "io.github.llm-dev-ops.ghcr.nonce"
)

// throwaway makes an empty index, which needs no blob to be there.
func throwaway(item UntagItem, nonce string) (*oci.Manifest, error) {
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []string{},
		"annotations": map[string]string{
			annotationThrowaway: item.Digest.String(), annotationTag: item.Tag, annotationNonce: nonce,
		},
	})
	if err != nil {
		return nil, err
	}
	return oci.ParseManifest(oci.MediaTypeOCIIndex, raw)
}

// throwawayOf tells whether a manifest is a throw-away one, and which image had its
// tag.
func throwawayOf(m *oci.Manifest) (oci.Digest, bool) {
	d, err := oci.ParseDigest(m.Annotations[annotationThrowaway])
	return d, err == nil && m.IsIndex() && len(m.Manifests) == 0
}

func (u *untagging) putThrowaway(ctx context.Context, item UntagItem) (oci.Digest, error) {
	nonce, err := u.plan.subject.client.nonce()
	if err != nil {
		return "", err
	}
	m, err := throwaway(item, nonce)
	if err != nil {
		return "", err
	}
	if err := u.plan.isStill(ctx, item); err != nil {
		return "", err
	}
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	return m.Digest(), u.plan.subject.put(ctx, sent, item.Tag, m)
}

// pending is what an untagging comes to that is broken off while its tag is on a
// throw-away manifest.
func (u *untagging) pending(ctx context.Context, r *replaced) error {
	return fmt.Errorf("%w (%w)", &PendingError{u.plan.byTag(u.plan.Items[r.item].Tag), r.digest}, context.Cause(ctx))
}

// find looks for the versions of throw-away manifests, and tells whether it has all.
// A version counts when it is listed with its tag alone, and the image without it.
func (u *untagging) find(ctx context.Context, pending []*replaced) (all bool, err error) {
	s := u.plan.subject
	rows := map[oci.Digest]packages.PackageVersion{}
	missing := map[oci.Digest]bool{}
	for _, r := range pending {
		if r.version == 0 {
			missing[r.digest] = true
		}
	}
	for row, err := range s.api.Versions(ctx, s.owner, s.name, packages.Active) {
		if err != nil {
			return false, err
		}
		rows[row.Digest()] = row
		if delete(missing, row.Digest()); len(missing) == 0 {
			break // new versions come first
		}
	}
	all = true
	for _, r := range pending {
		if r.version != 0 {
			continue
		}
		row, found := rows[r.digest]
		if found {
			found, err = u.settled(ctx, r, row, rows)
			if err != nil {
				return false, err
			}
		}
		if found {
			r.version = row.ID
		}
		all = all && found
	}
	return all, nil
}

func (u *untagging) settled(ctx context.Context, r *replaced, row packages.PackageVersion, rows map[oci.Digest]packages.PackageVersion) (bool, error) {
	s, item := u.plan.subject, u.plan.Items[r.item]
	if len(row.Tags) == 0 {
		// Somebody else has the tag by now, or the list is late.
		now, err := s.repo.Resolve(ctx, item.Tag)
		r.moved = errors.Is(err, ErrNotFound) || err == nil && now.Digest != r.digest
		return r.moved, ignoreNotFound(err)
	}
	if len(row.Tags) != 1 || row.Tags[0] != item.Tag {
		return false, nil
	}
	old, listed := rows[item.Digest]
	if !listed && item.Version != 0 {
		var err error
		if old, err = s.api.Version(ctx, s.owner, s.name, item.Version); err != nil && !errors.Is(err, ErrNotFound) {
			return false, err
		}
	}
	return !slices.Contains(old.Tags, item.Tag), nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// finish deletes a throw-away manifest by the number of its version, after one more
// look at both. If it can't be, the tag is put back.
func (u *untagging) finish(ctx context.Context, r *replaced) error {
	s, item := u.plan.subject, u.plan.Items[r.item]
	v, err := s.api.Version(ctx, s.owner, s.name, r.version)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // gone already, and the tag with it
	case err != nil && ctx.Err() != nil:
		return u.pending(ctx, r)
	case err != nil:
		return u.putBack(ctx, r, err)
	case v.Digest() != r.digest || len(v.Tags) > 1 || len(v.Tags) == 1 && v.Tags[0] != item.Tag:
		return u.putBack(ctx, r, &ChangedError{u.plan.byTag(item.Tag), fmt.Sprintf("version %d is %s by now, with %s", r.version, v.Digest(), describeTags(v.Tags))})
	}
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	err = s.sendDeletion(ctx, sent, r.version, r.digest)
	switch outcomeOf(err) {
	case Skipped:
		return u.pending(ctx, r)
	case Unknown:
		return unknown(ctx, u.plan.byTag(item.Tag), err)
	}
	if err != nil && !errors.Is(err, packages.Gone) {
		return u.putBack(sent, r, err)
	}
	if r.moved {
		return u.movedAway(sent, item)
	}
	return nil
}

func (u *untagging) movedAway(ctx context.Context, item UntagItem) error {
	now, err := u.plan.subject.repo.Resolve(ctx, item.Tag)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return &ChangedError{u.plan.byTag(item.Tag), fmt.Sprintf("somebody else has given it to %s meanwhile", now.Digest)}
}

// putBack gives a tag back to its image and tries to clear away what had it instead.
func (u *untagging) putBack(ctx context.Context, r *replaced, cause error) error {
	s, item := u.plan.subject, u.plan.Items[r.item]
	now, err := s.repo.Resolve(ctx, item.Tag)
	switch {
	case err != nil:
		return fmt.Errorf("tag %s is on the empty manifest %s: %w; and to put it back: %w", item.Tag, r.digest, cause, err)
	case now.Digest == item.Digest:
		return cause
	case now.Digest != r.digest:
		return errors.Join(cause, &ChangedError{u.plan.byTag(item.Tag), fmt.Sprintf("somebody else has given it to %s meanwhile", now.Digest)})
	}
	if _, err := s.point(ctx, item.Tag, item.Digest); err != nil {
		return fmt.Errorf("tag %s is on the empty manifest %s: %w; and to put it back: %w", item.Tag, r.digest, cause, err)
	}
	if r.version == 0 || hopeless(cause) {
		return fmt.Errorf("tag %s was put back, and the empty manifest %s is left over: %w", item.Tag, r.digest, cause)
	}
	// Without the tag it is not the last tagged version any more.
	if err := s.api.DeleteVersion(ctx, s.owner, s.name, r.version); err != nil && !errors.Is(err, packages.Gone) {
		return fmt.Errorf("tag %s was put back, and the empty manifest %s is left over: %w", item.Tag, r.digest, cause)
	}
	return fmt.Errorf("tag %s was put back: %w", item.Tag, cause)
}

// verify looks at what was to be as it was: the images and their other tags. A tag
// that went along is put back.
func (u *untagging) verify(run context.Context) {
	s := u.plan.subject
	ctx, release := transport.Finishing(run, finishWait)
	defer release()
	for i, item := range u.plan.Items {
		if !u.done[i] {
			continue
		}
		switch now, err := s.repo.Resolve(ctx, item.Tag); {
		case err == nil:
			u.errs[i] = &ChangedError{u.plan.byTag(item.Tag), fmt.Sprintf("it is there again, on %s", now.Digest)}
		case !errors.Is(err, ErrNotFound):
			u.errs[i] = unknown(run, u.plan.byTag(item.Tag), fmt.Errorf("look at tag %s afterwards: %w", item.Tag, err))
		}
		if u.errs[i] == nil {
			u.errs[i] = u.verifyOthers(ctx, item)
		}
	}
}

func (u *untagging) verifyOthers(ctx context.Context, item UntagItem) error {
	s := u.plan.subject
	if s.api == nil {
		if _, err := s.repo.Resolve(ctx, item.Digest.String()); errors.Is(err, ErrNotFound) {
			// There are registries that delete the image with any of its tags.
			for _, tag := range append([]string{item.Digest.String()}, item.Others...) {
				if err := s.repo.PutManifest(ctx, tag, u.plan.images[item.Digest]); err != nil {
					return fmt.Errorf("the registry deleted the image with its tag %s, and to put %s back: %w", item.Tag, tag, err)
				}
			}
		}
	}
	for _, tag := range item.Others {
		if _, err := s.digest(ctx, oci.Reference{Tag: tag, Digest: item.Digest}); err != nil {
			return fmt.Errorf("tag %s is off; the tag %s of the same image afterwards: %w", item.Tag, tag, err)
		}
	}
	return nil
}
