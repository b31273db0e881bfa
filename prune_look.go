package ghcr

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// outlook is what a package is like while a plan is carried out. The list of versions
// costs of the API's quota and comes late (docs/quirks.md#rest-staleness); where tags
// point is the registry's word, which costs none.
type outlook struct {
	rows   map[int64]packages.PackageVersion
	listed map[oci.Digest]bool
	pages  int // that the list had
	tags   map[string]oci.Digest
	names  map[oci.Digest][]string   // the same by digest, sorted
	needed map[oci.Digest]oci.Digest // what manifests list that the plan does not know, and which
	unread []oci.Digest              // manifests that it does not know, which can't be read: they may list anything
}

// has tells whether a manifest is there, as far as lists and tags show.
func (o *outlook) has(d oci.Digest) bool {
	return o.listed[d] || len(o.names[d]) > 0 || o.needed[d] != ""
}

// list reads the versions anew.
func (p *pruning) list(ctx context.Context) error {
	s := p.subject
	pkg, rows, err := s.api.Contents(ctx, s.owner, s.name)
	if err != nil {
		return err
	}
	owner, err := s.api.Owner(ctx, s.owner) // is known by now
	switch {
	case err != nil:
		return err
	case owner.ID != p.plan.OwnerID:
		return badPlan(PlanForeign, "its owner %s has the number %d, and now it is %d", p.plan.Owner, p.plan.OwnerID, owner.ID)
	case pkg.ID != p.plan.PackageID:
		return badPlan(PlanForeign, "its package %s has the number %d, and now it is %d", p.plan.Package, p.plan.PackageID, pkg.ID)
	}
	p.now.rows, p.now.listed = make(map[int64]packages.PackageVersion, len(rows)), make(map[oci.Digest]bool, len(rows))
	for _, row := range rows {
		p.now.rows[row.ID], p.now.listed[row.Digest()] = row, true
	}
	p.now.pages, p.sinceList = (len(rows)+99)/100, 0
	return p.findRestored(ctx)
}

// findRestored looks at what an action has deleted and is listed. Mostly the list is
// late, which the registry knows. Else somebody has restored it and means to keep it, with
// all that it needs.
func (p *pruning) findRestored(ctx context.Context) error {
	s := p.subject
	var listed []int
	for i, a := range p.plan.Actions {
		if row, ok := p.now.rows[a.Version]; ok && row.Digest() == a.Digest && p.went(a.Digest) {
			listed = append(listed, i)
		}
	}
	there := make([]bool, len(listed))
	err := each(ctx, len(listed), func(ctx context.Context, n int) error {
		_, err := s.repo.Resolve(ctx, p.plan.Actions[listed[n]].Digest.String())
		there[n] = err == nil
		return ignoreNotFound(err)
	})
	if err != nil {
		return err
	}
	for n, i := range listed {
		if !there[n] {
			continue
		}
		// It may be the same manifest, pushed again as another version.
		a := p.plan.Actions[i]
		switch _, err := s.api.Version(ctx, s.owner, s.name, a.Version); {
		case ignoreNotFound(err) != nil:
			return err
		case err == nil:
			delete(p.known, a.Digest) // its parts may go, or be gone
			p.back = append(p.back, a.Digest)
			p.restored(i, Changed, p.changed(a, "it was deleted, and somebody has restored it"))
		}
	}
	return nil
}

// listEvery is after how many deletions the versions are listed again, and listShare
// the least share of the requests that the deletions themselves must be: a list of a
// large package costs more.
const (
	listEvery = 1000
	listShare = 10
)

func (p *pruning) listIsDue() bool {
	return p.now.rows == nil || p.sinceList >= max(listEvery, listShare*p.now.pages)
}

func (p *pruning) lookIsDue() bool { return p.listIsDue() || !time.Now().Before(p.nextLook) }

// lookEvery is how old what is known of the tags may get. Looking at many tags takes
// long, so it may not take more than a tenth of the run.
const (
	lookEvery = time.Minute
	lookShare = 10
)

// look sees where the tags point now, and reads the manifests that the plan does not
// know: what they list must not go. A tag that was moved since a list was made, or that
// came, is seen in no other way.
func (p *pruning) look(ctx context.Context) error {
	began := time.Now()
	if p.listIsDue() {
		if err := p.list(ctx); err != nil {
			return err
		}
	}
	// The tags are read after the list, so that what was pushed before is seen in one of
	// them.
	tags, err := p.subject.allTags(ctx)
	if err != nil {
		return err
	}
	now := &p.now
	now.tags, now.names = tags, map[oci.Digest][]string{}
	for tag, d := range tags {
		now.names[d] = append(now.names[d], tag)
	}
	for _, names := range now.names {
		slices.Sort(names)
	}
	var wanted []oci.Digest
	for _, row := range now.rows {
		if d := row.Digest(); !p.went(d) || row.ID != p.plan.Actions[p.step[d]].Version {
			wanted = append(wanted, d)
		}
	}
	for d := range now.names {
		wanted = append(wanted, d)
	}
	if now.needed, now.unread, err = p.readNew(ctx, wanted); err != nil {
		return err
	}
	p.nextLook = time.Now().Add(max(lookEvery, lookShare*time.Since(began)))
	return nil
}

// allTags asks the registry where all tags point. A tag that it names and then does not
// have is asked for twice: it may lead to what must stay.
func (s *subject) allTags(ctx context.Context) (map[string]oci.Digest, error) {
	names, err := s.repo.TagNames(ctx)
	if ignoreNotFound(err) != nil {
		return nil, err
	}
	tags, err := s.resolveTags(ctx, names)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(names, func(name string) bool { return tags[name] != "" })
	again, err := s.resolveTags(ctx, missing)
	maps.Copy(tags, again)
	return tags, err
}

// readNew reads those manifests that the plan does not know, and what they list, and
// tells what they need. What the plan knows needs nothing that goes, and never will: a
// digest always names the same. What went and is there again was pushed anew.
func (p *pruning) readNew(ctx context.Context, wanted []oci.Digest) (needed map[oci.Digest]oci.Digest, unread []oci.Digest, err error) {
	s := p.subject
	needed = map[oci.Digest]oci.Digest{}
	have := map[oci.Digest]bool{}
	for top := true; len(wanted) > 0; top = false {
		wanted = slices.DeleteFunc(wanted, func(d oci.Digest) bool {
			skip := p.known[d] && !p.went(d) || have[d]
			have[d] = true
			return skip
		})
		slices.Sort(wanted)
		manifests, failed := make([]*oci.Manifest, len(wanted)), make([]bool, len(wanted))
		err := each(ctx, len(wanted), func(ctx context.Context, i int) error {
			m, err := s.manifest(ctx, wanted[i])
			switch {
			case err == nil:
				manifests[i] = m
			case errors.Is(err, ErrNotFound) && !top:
				// An index lists what is not there. That is nothing to keep.
			case errors.Is(err, ErrNotFound):
				failed[i], err = p.isThere(ctx, wanted[i])
				return err
			case !ofOneManifest(err):
				return err
			default:
				failed[i] = true
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		var below []oci.Digest
		for i, d := range wanted {
			if failed[i] {
				unread = append(unread, d)
			}
			m := manifests[i]
			if m == nil {
				continue
			}
			if m.Kind() == oci.KindUnknown {
				unread = append(unread, d)
			}
			for e := range m.Edges() {
				if e.Kind == oci.EdgeSubject || e.Descriptor.Digest == d {
					continue // what refers to something does not keep it
				}
				needed[e.Descriptor.Digest] = d
				if e.Kind == oci.EdgeChild {
					below = append(below, e.Descriptor.Digest)
				}
			}
		}
		wanted = below
	}
	return needed, unread, nil
}

// doubt asks the registry about what the plan knows by the word of an index alone: that it
// is no index itself. What is one is read as what came since. What the registry does not
// have is nothing to keep.
func (p *pruning) doubt(ctx context.Context) error {
	s := p.subject
	if !slices.ContainsFunc(p.plan.Actions, func(a retain.Action) bool { return a.Do == retain.Delete }) {
		return nil
	}
	belied := make([]bool, len(p.unread))
	err := each(ctx, len(p.unread), func(ctx context.Context, i int) error {
		if m := s.client.manifests.get(p.unread[i]); m != nil {
			belied[i] = m.IsIndex()
			return nil
		}
		stored, err := s.repo.Resolve(ctx, p.unread[i].String())
		belied[i] = err == nil && (oci.IsIndexType(stored.MediaType) || !oci.IsManifestType(stored.MediaType))
		if err != nil && ofOneManifest(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, d := range p.unread {
		if belied[i] {
			delete(p.known, d)
			p.belied[d] = true
		}
	}
	return nil
}

func (p *pruning) nameOf(d oci.Digest) string {
	if names := p.now.names[d]; len(names) > 0 {
		return names[0]
	}
	return d.String()
}

// isThere tells whether something that the registry does not have is still there for
// the API, or for a tag: then it can't be said what it lists.
func (p *pruning) isThere(ctx context.Context, d oci.Digest) (bool, error) {
	for _, row := range p.now.rows {
		if row.Digest() != d {
			continue
		}
		_, err := p.subject.api.Version(ctx, p.subject.owner, p.subject.name, row.ID)
		if err == nil || ignoreNotFound(err) != nil {
			return true, ignoreNotFound(err)
		}
	}
	for _, tag := range p.now.names[d] {
		now, err := p.subject.repo.Resolve(ctx, tag)
		if ignoreNotFound(err) != nil || err == nil && now.Digest == d {
			return true, ignoreNotFound(err)
		}
	}
	return false, nil
}
