package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Apply deletes what the plan says, an index before what it lists and an image before
// its signatures, so that it can be broken off anywhere and leaves nothing broken.
// Before the first deletion the repository is looked at anew, and again each version
// before its own: what is not as it was planned is left alone. Afterwards each is
// looked at. An item whose index or subject stayed is skipped. A refusal that would
// meet all others too ends the run.
//
// Nobody can keep others from pushing between a look and the deletion that follows
// it. So at the end, even if ctx is done by then, the tags are looked at once more for
// up to a minute, and what an index has begun to list meanwhile is restored. A tag that is put on an image in the moment before it is
// deleted is lost.
//
// When ctx is done, waits end at once and nothing more is sent; a deletion that was sent has
// half a minute to be answered and looked at.
//
// Errors: those of [DeletePlan.Err] and [*ChangedError], with nothing done; the cause
// if nothing was deleted; else [*PartialError]. The result is there beside an error
// whenever something was tried.
func (p *DeletePlan) Apply(ctx context.Context) (*Deletion, error) {
	s := p.subject
	op := "delete from " + p.Image.Repository()
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if len(p.Items) == 0 {
		return &Deletion{}, nil
	}
	if !p.fresh {
		if err := p.recheck(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
	p.fresh = false
	result := &Deletion{}
	var err error
	if result.Undo, err = s.writeUndo(p.opts.Undo, p.undo()); err != nil {
		return nil, fmt.Errorf("%s: nothing was deleted, since it could not be undone: %w", op, err)
	}
	p.run(ctx, result)
	mendErr := p.mend(ctx, result)
	var causes []error
	done, untold := 0, false
	for _, r := range result.Items {
		switch {
		case r.Outcome.good():
			done++
		case r.Outcome != Skipped || len(causes) == 0:
			causes = append(causes, r.Err)
		default:
			untold = untold || ctx.Err() != nil
		}
	}
	if untold {
		causes = append(causes, context.Cause(ctx))
	}
	if mendErr != nil {
		causes = append(causes, mendErr)
	}
	return result, sumUp(op, done, len(p.Items), causes)
}

// mendWait bounds the last look at the tags, which goes on if the run is broken off.
const mendWait = time.Minute

// run deletes item by item.
func (p *DeletePlan) run(ctx context.Context, result *Deletion) {
	outcomes := map[oci.Digest]Outcome{}
	var end error
	for _, item := range p.Items {
		r := DeleteResult{DeleteItem: item}
		switch above := p.stayed(item, outcomes); {
		case end != nil:
			r.Outcome, r.Err = Skipped, end
		case ctx.Err() != nil:
			r.Outcome, r.Err = Skipped, context.Cause(ctx)
		case above != "":
			r.Outcome, r.Err = Skipped, fmt.Errorf("%s stays, since %s does", p.byDigest(item.Digest), above)
		default:
			if r.Err = p.subject.deleteOne(ctx, item); r.Err == nil {
				r.Outcome = Done
				break
			}
			if r.Outcome = outcomeOf(r.Err); hopeless(r.Err) {
				end = r.Err
			}
		}
		outcomes[item.Digest] = r.Outcome
		result.Items = append(result.Items, r)
		p.report(r)
	}
}

func (p *DeletePlan) report(r DeleteResult) {
	if p.opts.Report != nil {
		p.opts.Report(r)
	}
}

// mend looks at the tags once more, and restores what an index that was not there
// before lists and has just been deleted.
func (p *DeletePlan) mend(run context.Context, result *Deletion) error {
	if !slices.ContainsFunc(result.Items, func(r DeleteResult) bool { return r.Outcome == Done }) {
		return nil
	}
	// Whoever breaks the run off must not leave an index broken either.
	ctx, release := outliving(run, mendWait)
	defer release()
	s := p.subject
	needed, err := s.begun(ctx, p.seen)
	if err != nil {
		return fmt.Errorf("look whether somebody has begun to use what was deleted: %w", err)
	}
	for i := range slices.Backward(result.Items) {
		r := &result.Items[i]
		index := needed[r.Digest]
		if index == nil || r.Outcome != Done {
			continue
		}
		item := UndoItem{Version: r.Version, Digest: r.Digest}
		if m := r.node.Manifest; m != nil {
			item.MediaType, item.Manifest = m.MediaType, m.Bytes()
		}
		if r.Outcome, r.Err = s.bringBack(ctx, item, nameOf(index)); r.Outcome != Done {
			p.report(*r)
		}
	}
	return nil
}

// begun returns what the indexes need that tags lead to and that were not seen before.
func (s *subject) begun(ctx context.Context, seen *view) (map[oci.Digest]*oci.Node, error) {
	tags, err := s.allTags(ctx)
	if err != nil {
		return nil, err
	}
	before := seen.graph.Nodes()
	nodes, err := s.walk(ctx, slices.Clone(before), slices.Collect(maps.Values(tags)))
	if err != nil {
		return nil, err
	}
	now := &view{tags: tags}
	now.join(nodes)
	needed := map[oci.Digest]*oci.Node{}
	var visit func(n, root *oci.Node)
	visit = func(n, root *oci.Node) {
		for _, child := range n.Children {
			if needed[child.Digest] == nil {
				needed[child.Digest] = root
				visit(child, root)
			}
		}
	}
	for _, n := range now.graph.Nodes()[len(before):] {
		visit(n, n)
	}
	return needed, nil
}

// stayed returns what is above an item in the plan and was not deleted.
func (p *DeletePlan) stayed(item DeleteItem, outcomes map[oci.Digest]Outcome) oci.Digest {
	for _, n := range slices.Concat(item.node.Parents, item.node.Subjects) {
		if outcome, tried := outcomes[n.Digest]; tried && !outcome.good() {
			return n.Digest
		}
	}
	return ""
}

// recheck makes the plan anew and holds the two against each other. What is new is
// not the plan's business, unless it needs what goes.
func (p *DeletePlan) recheck(ctx context.Context) error {
	opts := p.opts
	opts.IgnoreMissing = true
	now, err := p.subject.planDelete(ctx, opts, p.refs)
	if err != nil {
		return err
	}
	p.seen = now.seen
	gone := map[oci.Digest]bool{}
	for _, ref := range now.Missing {
		gone[ref.Reference.Digest] = true
	}
	kept := map[oci.Digest]string{}
	for _, k := range now.Kept {
		kept[k.Digest] = k.Why
	}
	for _, item := range p.Items {
		i := slices.IndexFunc(now.Items, func(other DeleteItem) bool { return other.Digest == item.Digest })
		changed := &ChangedError{Image: p.byDigest(item.Digest)}
		switch {
		case i < 0 && kept[item.Digest] != "":
			changed.What = "by now it " + kept[item.Digest]
		case i < 0:
			continue // gone, which its own look will tell
		case now.Items[i].Version != item.Version:
			changed.What = fmt.Sprintf("it is version %d by now, and was version %d", now.Items[i].Version, item.Version)
		case !slices.Equal(now.Items[i].Tags, item.Tags):
			changed.What = "by now it has " + describeTags(now.Items[i].Tags)
		default:
			continue
		}
		return changed
	}
	return now.Err()
}

func describeTags(tags []string) string {
	if len(tags) == 0 {
		return "no tags"
	}
	return "the tags " + strings.Join(tags, ", ")
}

// deleteOne deletes one manifest, after a look at it and with a look after it.
func (s *subject) deleteOne(ctx context.Context, item DeleteItem) error {
	ref := s.image.With(oci.Reference{Digest: item.Digest})
	for _, tag := range item.Tags {
		switch d, err := s.repo.Resolve(ctx, tag); {
		case errors.Is(err, ErrNotFound):
			// Whether the tag alone is gone, or all of it, shows below.
		case err != nil:
			return brokenOff(ctx, err)
		case d.Digest != item.Digest:
			return &ChangedError{ref, fmt.Sprintf("its tag %s points to %s by now", tag, d.Digest)}
		}
	}
	if s.api == nil {
		return s.deleteManifest(ctx, item.Digest)
	}
	v, err := s.api.Version(ctx, s.owner, s.name, item.Version)
	switch {
	case errors.Is(err, ErrNotFound):
		return brokenOff(ctx, s.confirmGone(ctx, item.Version, item.Digest))
	case err != nil:
		return brokenOff(ctx, err)
	case v.Digest() != item.Digest:
		return &ChangedError{ref, fmt.Sprintf("version %d is %s", item.Version, v.Digest())}
	}
	tags := slices.Clone(v.Tags)
	slices.Sort(tags)
	if !slices.Equal(tags, item.Tags) {
		return &ChangedError{ref, "by now it has " + describeTags(tags)}
	}
	return s.deleteVersion(ctx, item.Version, item.Digest)
}

// finishWait is for how long a change that was sent is waited for after the run was
// broken off.
const finishWait = 30 * time.Second

// deleteVersion deletes a version and finds out what came of it, once it was sent even if
// ctx is done by then.
func (s *subject) deleteVersion(ctx context.Context, version int64, d oci.Digest) error {
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	switch err := s.sendDeletion(ctx, sent, version, d); {
	case errors.Is(err, packages.Gone):
		if err = s.confirmGone(sent, version, d); ctx.Err() != nil && outcomeOf(err) == Failed && !hopeless(err) {
			return unknown(ctx, s.byDigest(d), err)
		}
		return err
	case err != nil:
		return err
	}
	// The registry knows at once, and asking it costs nothing of the API's quota.
	if _, err := s.repo.Resolve(sent, d.String()); errors.Is(err, ErrNotFound) {
		return nil
	}
	// Somebody may have pushed the same manifest again, which is another version.
	switch _, err := s.api.Version(sent, s.owner, s.name, version); {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return unknown(ctx, s.byDigest(d), fmt.Errorf("GitHub said that it deleted version %d, which could not be looked at afterwards: %w", version, err))
	}
	return fmt.Errorf("version %d is still there, although GitHub said that it deleted it", version)
}

// sendDeletion deletes a version, and looks at it only if the answer leaves open what came
// of it.
func (s *subject) sendDeletion(ctx, sent context.Context, version int64, d oci.Digest) error {
	if ctx.Err() != nil {
		return &untried{context.Cause(ctx)}
	}
	err := s.api.DeleteVersion(sent, s.owner, s.name, version)
	switch {
	case err == nil, errors.Is(err, packages.Gone):
		return err
	case sent.Err() != nil:
		return unknown(ctx, s.byDigest(d), err)
	case !leavesOpen(err):
		return notSent(ctx, sent, err)
	}
	switch _, lookErr := s.repo.Resolve(sent, d.String()); {
	case errors.Is(lookErr, ErrNotFound):
		return nil
	case lookErr != nil:
		return unknown(ctx, s.byDigest(d), err)
	}
	return err
}

// leavesOpen tells whether an error leaves it open whether a change was made.
func leavesOpen(err error) bool {
	var e *transport.Error
	var refusal *packages.Error
	return errors.As(err, &e) && !errors.As(err, &refusal) && !e.NotSent() && (e.Status == 0 || e.Status >= 500)
}

func (s *subject) byDigest(d oci.Digest) oci.ImageRef {
	return s.image.With(oci.Reference{Digest: d})
}

// confirmGone returns [packages.Gone] for a version that the API does not find. Nor does
// it find what this login has lost the right to see
// (docs/quirks.md#rest-mask-forbidden), which the registry may still show: that is
// [ErrDenied].
func (s *subject) confirmGone(ctx context.Context, version int64, d oci.Digest) error {
	gone := &packages.Error{Reason: packages.Gone, Op: "delete version", Owner: s.owner, Package: s.name, Version: version}
	if _, err := s.repo.Resolve(ctx, d.String()); errors.Is(err, ErrNotFound) {
		return gone
	} else if err != nil {
		return err
	}
	// The same manifest may have been pushed again, as another version.
	if _, err := s.api.Get(ctx, s.owner, s.name); errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: the registry has %s, and the Packages API does not show its package to this login any more", ErrDenied, s.image.With(oci.Reference{Digest: d}))
	} else if err != nil {
		return err
	}
	// Or the answers before were wrong, which is not told as a deletion.
	if _, err := s.api.Version(ctx, s.owner, s.name, version); err == nil {
		return fmt.Errorf("version %d is there, although the Packages API did not find it at first", version)
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	return gone
}

// deleteManifest deletes on a registry that can.
func (s *subject) deleteManifest(ctx context.Context, d oci.Digest) error {
	gone := &packages.Error{Reason: packages.Gone, Op: "delete manifest " + d.String(), Owner: s.image.Registry, Package: s.image.Name}
	if ctx.Err() != nil {
		return &untried{context.Cause(ctx)}
	}
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	err := s.repo.DeleteManifest(sent, d.String())
	if errors.Is(err, ErrNotFound) {
		return gone
	}
	if err != nil && !leavesOpen(err) && ctx.Err() == nil {
		return err
	}
	switch _, lookErr := s.repo.Resolve(sent, d.String()); {
	case errors.Is(lookErr, ErrNotFound):
		return nil
	case lookErr != nil:
		return unknown(ctx, s.byDigest(d), cmp.Or(err, lookErr))
	case err != nil:
		return notSent(ctx, sent, err)
	}
	return fmt.Errorf("%s is still there, although the registry said that it deleted it", d)
}
