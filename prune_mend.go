package ghcr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// mend looks at the tags once more, and restores what indexes have begun to need that
// the plan does not know, with all that it takes along.
func (p *pruning) mend(ctx context.Context) error {
	if !slices.ContainsFunc(p.results, func(r PruneResult) bool { return r.Do == retain.Delete && r.Outcome == Done }) {
		return nil
	}
	for pause := time.Second; ; pause *= 2 {
		tags, err := p.subject.allTags(ctx)
		if err == nil {
			err = p.restoreNeeded(ctx, slices.AppendSeq(slices.Clone(p.back), maps.Values(tags)))
		}
		if err == nil {
			return nil
		}
		if pause < longestPause && !hopeless(err) {
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
			}
		}
		return fmt.Errorf("look whether somebody has begun to use what was deleted: %w", err)
	}
}

// longestPause is the pause that the last look is given up in place of.
const longestPause = 32 * time.Second

func (p *pruning) restoreNeeded(ctx context.Context, roots []oci.Digest) error {
	needed, _, err := p.readNew(ctx, roots)
	if err != nil {
		return err
	}
	// The actions are in order, so that what a restored index lists, and what is about
	// it, comes after it.
	var back []int
	restored := map[oci.Digest]string{}
	for i, r := range p.results {
		if r.Do != retain.Delete || r.Outcome != Done {
			continue
		}
		index := ""
		if d := needed[r.Digest]; d != "" {
			index = p.nameOf(d)
		}
		about, _ := p.about(ctx, r.Action) // what is not kept of it can't be had any more
		for _, d := range slices.Concat(r.Parents, about) {
			if index == "" {
				index = restored[d]
			}
		}
		if index != "" {
			restored[r.Digest] = index
			back = append(back, i)
		}
	}
	for _, i := range slices.Backward(back) {
		switch _, err := p.subject.repo.Resolve(ctx, p.results[i].Digest.String()); {
		case errors.Is(err, ErrNotFound):
			p.bringBack(ctx, i, restored[p.results[i].Digest])
		case err != nil:
			return err
		}
		// Else it was pushed again with the index, and the version is gone for all that.
	}
	return nil
}

func (p *pruning) bringBack(ctx context.Context, i int, index string) {
	a := p.plan.Actions[i]
	if outcome, err := p.subject.bringBack(ctx, UndoItem{Version: a.Version, Digest: a.Digest}, index); outcome != Done {
		p.restored(i, outcome, err)
	}
}

// bringBack restores what was deleted, for the sake of an index. The error says so. It is
// done still if somebody has pushed it again, for that is another version.
func (s *subject) bringBack(ctx context.Context, item UndoItem, index string) (Outcome, error) {
	image := s.image.With(oci.Reference{Digest: item.Digest})
	if err := (&restoring{subject: s}).restoreOne(ctx, item, &RestoreResult{}); err != nil {
		return Failed, fmt.Errorf("%s has begun to need %s, which could not be restored: %w", index, image, err)
	}
	if s.api != nil && item.Version != 0 {
		if _, err := s.api.Version(ctx, s.owner, s.name, item.Version); errors.Is(err, ErrNotFound) {
			return Done, nil
		}
	}
	return Changed, &ChangedError{image, fmt.Sprintf("%s has begun to need it, and it was restored", index)}
}

// restored notes that what was deleted is back or, if that failed, ought to be.
func (p *pruning) restored(i int, outcome Outcome, err error) {
	if writeErr := p.journal.restored(i, outcome, err); writeErr != nil && p.end == nil {
		p.end = fmt.Errorf("the outcome of an action could not be written down: %w", writeErr)
	}
	p.tell(i, outcome, err)
}

// sumUp is the error of the run.
func (p *pruning) sumUp(op string, other error) error {
	done := 0
	var causes []error
	for _, r := range p.results {
		switch {
		case r.Outcome.good():
			done++
		case p.end != nil && errors.Is(r.Err, p.end): // once, below
		case r.Outcome != Skipped || len(causes) == 0:
			causes = append(causes, r.Err)
		}
	}
	if stopped, ok := p.end.(*StoppedError); ok {
		stopped.Left = p.left
	}
	for _, err := range []error{p.end, other} {
		if err != nil {
			causes = append(causes, err)
		}
	}
	return sumUp(op, done, len(p.results), causes)
}
