package ghcr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// do carries out n actions: one, or several untaggings.
func (p *pruning) do(ctx context.Context, i, n int) {
	var ready []int
	for k := i; k < i+n; k++ {
		a := p.plan.Actions[k]
		if !p.isOpen(k) {
			continue
		}
		if p.begun[k] && p.wasDone(ctx, k) {
			p.finish(k, nil)
			continue
		}
		switch above, err := p.above(ctx, a); {
		case err != nil:
			p.finish(k, brokenOff(ctx, err))
		case above != "":
			p.tell(k, Skipped, fmt.Errorf("%s stays, since %s does", p.byDigest(a.Digest), above))
		default:
			if err := p.prepare(ctx, k); err != nil {
				p.finish(k, brokenOff(ctx, err))
			} else {
				ready = append(ready, k)
			}
		}
	}
	if p.end == nil && ctx.Err() != nil {
		p.end = context.Cause(ctx)
	}
	for _, k := range ready {
		if p.end != nil {
			break
		}
		if err := p.journal.begin(k); err != nil {
			p.end = fmt.Errorf("nothing more was changed, since it could not be written down: %w", err)
		}
	}
	switch {
	case len(ready) == 0:
	case p.end != nil:
		for _, k := range ready {
			p.skip(k, 1)
		}
	case p.plan.Actions[i].Do == retain.Untag:
		p.untag(ctx, ready)
	case p.plan.Actions[i].Do == retain.Retag:
		p.finish(i, p.retag(ctx, p.plan.Actions[i]))
	default:
		p.finish(i, p.delete(ctx, p.plan.Actions[i]))
	}
}

// prepare checks what an action was planned on, and archives what it deletes, which may
// take so long that it has to be checked again.
func (p *pruning) prepare(ctx context.Context, k int) error {
	err := p.check(ctx, k)
	if err != nil || p.layout == nil || p.plan.Actions[k].Do != retain.Delete {
		return err
	}
	if err := p.archive(ctx, k); err != nil || !p.lookIsDue() {
		return err
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	return p.check(ctx, k)
}

// wasDone looks at what became of an action that an earlier run has begun. If that
// can't be told, it is taken for not done: its preconditions will tell.
func (p *pruning) wasDone(ctx context.Context, k int) bool {
	s, a := p.subject, p.plan.Actions[k]
	switch a.Do {
	case retain.Delete:
		_, err := s.api.Version(ctx, s.owner, s.name, a.Version)
		return errors.Is(err, ErrNotFound) && errors.Is(s.confirmGone(ctx, a.Version, a.Digest), packages.Gone)
	case retain.Retag:
		return p.now.tags[a.On] == a.Digest
	}
	for _, tag := range a.Off {
		if _, there := p.now.tags[tag]; there {
			return false
		}
	}
	return true
}

// finish notes what an action came to, in the journal first.
func (p *pruning) finish(k int, err error) {
	outcome := Done
	if err != nil {
		outcome = outcomeOf(err)
	}
	if writeErr := p.journal.ended(k, outcome, err); writeErr != nil && p.end == nil {
		p.end = fmt.Errorf("the outcome of an action could not be written down: %w", writeErr)
	}
	if outcome == Skipped {
		if p.left++; p.end == nil {
			p.end = err
		}
	}
	p.tell(k, outcome, err)
	p.proved = p.proved || outcome == Done && p.plan.Actions[k].Do != retain.Retag
	if outcome != Failed && outcome != Unknown {
		p.failures = 0
		return
	}
	p.failures++
	if p.end == nil && (hopeless(err) || p.failures == maxFailures) {
		p.end = err
	}
}

// maxFailures in a row end a run: it is not about single versions any more.
const maxFailures = 5

func (p *pruning) tell(k int, outcome Outcome, err error) {
	p.results[k].Outcome, p.results[k].Err = outcome, err
	if p.opts.Report != nil {
		p.opts.Report(p.results[k])
	}
}

// delete deletes one version, and looks that it is gone.
func (p *pruning) delete(ctx context.Context, a retain.Action) error {
	s := p.subject
	for _, tag := range a.Tags {
		switch now, err := s.repo.Resolve(ctx, tag); {
		case errors.Is(err, ErrNotFound):
			if gone, err := p.isGone(ctx, a, true); err != nil {
				return brokenOff(ctx, err)
			} else if gone {
				return p.gone(a)
			}
			return p.changed(a, "its tag %s is gone by now", tag)
		case err != nil:
			return brokenOff(ctx, err)
		case now.Digest != a.Digest:
			return p.changed(a, "its tag %s points to %s by now", tag, now.Digest)
		}
	}
	err := s.deleteVersion(ctx, a.Version, a.Digest)
	if err == nil || outcomeOf(err) == Unknown || leavesOpen(err) {
		p.deleted++
		p.sinceList++
	}
	return err
}

// retag gives an image a tag that nothing else has.
func (p *pruning) retag(ctx context.Context, a retain.Action) error {
	switch now, err := p.subject.repo.Resolve(ctx, a.On); {
	case ignoreNotFound(err) != nil:
		return brokenOff(ctx, err)
	case err == nil && now.Digest != a.Digest:
		return p.changed(a, "the tag %s that it was to get is on %s", a.On, now.Digest)
	}
	_, err := p.subject.point(ctx, a.On, a.Digest)
	return err
}

// untag takes tags off by the way of [UntagPlan.Apply], all in one wait.
func (p *pruning) untag(ctx context.Context, ready []int) {
	s := p.subject
	u := &UntagPlan{Image: s.image, subject: s, opts: UntagOptions{Wait: p.opts.Wait}, images: map[oci.Digest]*oci.Manifest{}, step: true}
	left := len(p.now.tags)
	owner, errs := map[string]int{}, map[int]error{} // the action that a tag is of; by action
	for _, k := range ready {
		a := p.plan.Actions[k]
		others := slices.DeleteFunc(slices.Clone(a.Tags), func(tag string) bool { return slices.Contains(a.Off, tag) })
		for _, tag := range a.Off {
			d, there := p.now.tags[tag]
			if !there {
				continue // an earlier run has taken it off
			}
			left--
			item := UntagItem{Tag: tag, Digest: d, Version: a.Version, Others: others}
			if err := u.readImage(ctx, &item); err != nil {
				errs[k] = errors.Join(errs[k], brokenOff(ctx, err))
			} else if item.Digest != a.Digest {
				errs[k] = errors.Join(errs[k], p.changed(a, "its tag %s points to %s by now", tag, item.Digest))
			} else {
				owner[tag], u.Items = k, append(u.Items, item)
			}
		}
	}
	if left == 0 && len(u.Items) > 0 {
		u.refused = &packages.Error{Reason: packages.LastTagged, Op: "untag", Owner: s.owner, Package: s.name}
	}
	result, err := u.Apply(ctx)
	if result == nil {
		for _, k := range ready {
			errs[k] = errors.Join(errs[k], err)
		}
		result = &Untagging{}
	}
	for _, r := range result.Items {
		errs[owner[r.Tag]] = errors.Join(errs[owner[r.Tag]], r.Err)
	}
	for _, k := range ready {
		p.finish(k, errs[k])
	}
}
