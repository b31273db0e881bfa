package ghcr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// check holds an action's preconditions against the package as it is now. It returns
// nil if they hold; that the version is gone is [packages.Gone].
func (p *pruning) check(ctx context.Context, i int) error {
	a := p.plan.Actions[i]
	row, listed := p.now.rows[a.Version]
	changed := ""
	switch tags := slices.Sorted(slices.Values(a.Tags)); {
	case !listed:
		changed = fmt.Sprintf("version %d is not listed any more", a.Version)
	case row.Digest() != a.Digest:
		return p.changed(a, "version %d is %s", a.Version, row.Digest())
	case a.Do == retain.Untag && p.isOff(a):
		return p.gone(a)
	case !p.hasTags(i, p.now.names[a.Digest], tags):
		changed = "by now it has " + describeTags(p.now.names[a.Digest])
	case !p.hasTags(i, slices.Sorted(slices.Values(row.Tags)), tags):
		changed = "it is listed with " + describeTags(row.Tags)
	case !(p.begun[i] && a.Do != retain.Delete) && !a.Updated.IsZero() && !row.UpdatedAt.Equal(a.Updated):
		changed = fmt.Sprintf("it was changed at %s", row.UpdatedAt.Format(time.RFC3339))
	}
	if changed != "" {
		if gone, err := p.isGone(ctx, a, listed); err != nil {
			return err
		} else if gone {
			return p.gone(a)
		}
		return p.changed(a, "%s", changed)
	}
	if a.Do != retain.Delete {
		return nil
	}
	switch index := p.now.needed[a.Digest]; {
	case p.belied[index]:
		return p.changed(a, "%s lists it, which is an index although another says that it is an image", p.nameOf(index))
	case index != "":
		return p.changed(a, "%s has begun to list it", p.nameOf(index))
	}
	if len(p.now.unread) > 0 {
		return p.changed(a, "it may be part of %s, which came since and can't be read", joinDigests(p.now.unread))
	}
	return nil
}

// hasTags compares the tags of a version. An untagging that was begun may have taken
// some off already.
func (p *pruning) hasTags(i int, have, want []string) bool {
	if a := p.plan.Actions[i]; p.begun[i] && a.Do == retain.Untag {
		off := func(tag string) bool { return slices.Contains(a.Off, tag) }
		have, want = slices.DeleteFunc(slices.Clone(have), off), slices.DeleteFunc(slices.Clone(want), off)
	}
	return slices.Equal(have, want)
}

// isOff tells whether the tags that were to be taken off are off already, and the image
// has no others but those that it was to keep.
func (p *pruning) isOff(a retain.Action) bool {
	for _, tag := range a.Off {
		if _, there := p.now.tags[tag]; there {
			return false
		}
	}
	kept := slices.DeleteFunc(slices.Sorted(slices.Values(a.Tags)), func(tag string) bool { return slices.Contains(a.Off, tag) })
	return slices.Equal(p.now.names[a.Digest], kept)
}

func (p *pruning) changed(a retain.Action, format string, args ...any) error {
	return &ChangedError{p.byDigest(a.Digest), fmt.Sprintf(format, args...)}
}

func (p *pruning) gone(a retain.Action) error {
	s := p.subject
	return &packages.Error{Reason: packages.Gone, Op: string(a.Do) + " version", Owner: s.owner, Package: s.name, Version: a.Version}
}

func (p *pruning) byDigest(d oci.Digest) oci.ImageRef {
	return p.subject.image.With(oci.Reference{Digest: d})
}

// isGone tells whether a version that is not as it was is gone: the registry knows it
// at once. Only what is still listed needs a look of the API too.
func (p *pruning) isGone(ctx context.Context, a retain.Action, listed bool) (bool, error) {
	s := p.subject
	if _, err := s.repo.Resolve(ctx, a.Digest.String()); err == nil || ignoreNotFound(err) != nil {
		return false, ignoreNotFound(err)
	}
	if !listed {
		return true, nil
	}
	_, err := s.api.Version(ctx, s.owner, s.name, a.Version)
	return errors.Is(err, ErrNotFound), ignoreNotFound(err)
}

// above returns what an action hangs on and that stays: an index that lists it, what it
// goes along with, or what it is about.
func (p *pruning) above(ctx context.Context, a retain.Action) (oci.Digest, error) {
	if a.Do != retain.Delete {
		return "", nil
	}
	about, err := p.about(ctx, a)
	if err != nil {
		return "", err
	}
	for _, d := range a.Parents {
		if _, planned := p.step[d]; planned && !p.went(d) || !planned && p.now.has(d) {
			return d, nil
		}
	}
	for _, d := range about {
		i, planned := p.step[d]
		// Tags can make circles, in which something has to be the first.
		if planned && i < p.step[a.Digest] && !p.went(d) || !planned && p.now.has(d) {
			return d, nil
		}
	}
	if _, planned := p.step[a.Because]; planned && !p.went(a.Because) {
		return a.Because, nil
	}
	return "", nil
}

// about returns what a referrer refers to, by its tags and its subject. The plan only
// tells which image it goes along with, and a part of that may have to stay.
func (p *pruning) about(ctx context.Context, a retain.Action) ([]oci.Digest, error) {
	var about []oci.Digest
	for _, tag := range a.Tags {
		if d, _, ok := oci.ParseDigestTag(tag); ok && d != a.Digest {
			about = append(about, d)
		}
	}
	if a.Role != oci.RoleReferrer && a.Reason != retain.ReasonReferrer {
		return about, nil
	}
	m, err := p.subject.manifest(ctx, a.Digest)
	if ignoreNotFound(err) != nil {
		return nil, err
	}
	if err == nil && m.Subject != nil && m.Subject.Digest != a.Digest {
		about = append(about, m.Subject.Digest)
	}
	return about, nil
}

// went tells whether an action has deleted a version.
func (p *pruning) went(d oci.Digest) bool {
	i, planned := p.step[d]
	return planned && p.plan.Actions[i].Do == retain.Delete && p.results[i].Outcome.good()
}
