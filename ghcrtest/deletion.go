package ghcrtest

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"
)

// Why a package or version is not deleted or restored.
var (
	errNotThere      = errors.New("not there")
	errLastTagged    = errors.New("the last tagged version")
	errLastVersion   = errors.New("the last version")
	errManyDownloads = errors.New("too many downloads")
	errNameInUse     = errors.New("there is another by its name")
)

// deleteVersion deletes a version softly, with all its tags. What else names its
// digest is not looked at: GHCR breaks indexes without a word.
func (s *store) deleteVersion(repo string, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	v := p.version(s, id)
	switch {
	case v == nil || !v.deleted.IsZero():
		return errNotThere
	case s.quirks.RESTLastTagged && len(v.tags) > 0 && len(v.tags) == len(p.tags):
		return errLastTagged
	case s.quirks.RESTLastTagged && len(p.versions) == 1:
		return errLastVersion
	case s.tooPopular(v):
		return errManyDownloads
	}
	return s.commit(event{Op: opDelete, Repo: repo, Digest: v.desc.Digest})
}

// tooPopular tells whether a version is one that the public relies on.
func (s *store) tooPopular(v *version) bool {
	limit := s.quirks.RESTDownloadLimit
	return limit > 0 && v.pkg.visibility == Public && v.pkg.downloads+v.downloads.Load() > limit
}

func (s *store) replayDelete(p *pkg, e event) {
	v := p.versions[e.Digest]
	if v == nil {
		return
	}
	v.deleted = e.Time
	delete(p.versions, e.Digest)
	p.gone[e.Digest] = v
	p.count(v, -1)
	for _, name := range v.tags {
		delete(p.tags, name)
	}
	s.show(v, e.Time)
}

// restoreVersion brings a deleted version back, with those of its tags that no other
// version has got since.
func (s *store) restoreVersion(repo string, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	v := p.version(s, id)
	switch {
	case v == nil || v.deleted.IsZero() || !s.restorable(v.deleted):
		return errNotThere
	case p.versions[v.desc.Digest] != nil:
		return errNameInUse
	}
	e := event{Op: opRestore, Repo: repo, ID: id}
	for _, name := range v.tags {
		if s.quirks.RESTRestoreTags && p.tags[name] == nil {
			e.Tags = append(e.Tags, name)
		}
	}
	return s.commit(e)
}

// restorable tells whether what was deleted then may still be restored.
func (s *store) restorable(deleted time.Time) bool {
	return s.now().Sub(deleted) < s.quirks.RESTRestoreWindow
}

func (s *store) replayRestore(p *pkg, e event) {
	v := s.versions[e.ID]
	v.deleted, v.updated, v.tags = time.Time{}, e.Time, nil
	p.add(v)
	for _, name := range e.Tags {
		s.tag(p, name, v, e.Time)
	}
	s.show(v, e.Time)
}

// version finds a version of the package by its id. There need be no package.
func (p *pkg) version(s *store, id int64) *version {
	if v := s.versions[id]; p != nil && v != nil && v.pkg == p {
		return v
	}
	return nil
}

func (s *store) deletePackage(repo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	if p == nil {
		return errNotThere
	}
	for _, v := range p.versions {
		if s.tooPopular(v) {
			return errManyDownloads
		}
	}
	return s.commit(event{Op: opDeletePackage, Repo: repo})
}

func (s *store) replayDeletePackage(p *pkg, e event) {
	p.deleted = e.Time
	delete(s.packages, p.name)
	s.deleted[p.name] = append(s.deleted[p.name], p)
	for d := range p.blobs {
		delete(s.holders[d], p.name)
	}
}

// restorePackage brings the latest package of a name back that was deleted, unless
// there is a new one.
func (s *store) restorePackage(repo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.trashed(repo)
	switch {
	case p == nil:
		return errNotThere
	case s.packages[repo] != nil:
		return errNameInUse
	}
	return s.commit(event{Op: opRestorePackage, Repo: repo, ID: p.id})
}

// trashed finds the latest package of a name that could be restored.
func (s *store) trashed(repo string) *pkg {
	list := s.deleted[repo]
	if len(list) == 0 || !s.restorable(list[len(list)-1].deleted) {
		return nil
	}
	return list[len(list)-1]
}

func (s *store) replayRestorePackage(e event) {
	list := s.deleted[e.Repo]
	i := slices.IndexFunc(list, func(p *pkg) bool { return p.id == e.ID })
	if i < 0 {
		return
	}
	p := list[i]
	s.deleted[e.Repo] = slices.Delete(list, i, i+1)
	p.deleted, p.since, p.updated = time.Time{}, e.Time, e.Time
	s.packages[p.name] = p
	for d := range p.blobs {
		s.hold(d, p.name)
	}
}

func (s *store) hasBlobs(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	return p != nil && len(p.blobs) > 0
}

func (s *store) hasVersions(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	return p != nil && len(p.versions) > 0
}

// loseBlobs forgets that a repository has any blob.
func (s *store) loseBlobs(repo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	if p == nil {
		return nil
	}
	for _, d := range slices.Sorted(maps.Keys(p.blobs)) {
		if err := s.commit(event{Op: opUnlinkBlob, Repo: repo, Digest: d}); err != nil {
			return err
		}
	}
	return nil
}

// deleteLatest deletes the version that was made last, past all rules.
func (s *store) deleteLatest(repo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	if p == nil || len(p.versions) == 0 {
		return nil
	}
	latest := slices.MaxFunc(slices.Collect(maps.Values(p.versions)), func(a, b *version) int { return cmp.Compare(a.id, b.id) })
	return s.commit(event{Op: opDelete, Repo: repo, Digest: latest.desc.Digest})
}
