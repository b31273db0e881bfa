package ghcrtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// state is all rows of a store at one moment. A journal that holds one begins there.
type state struct {
	Packages    []packageState `json:"packages"` // by id
	LastPackage int64          `json:"lastPackage"`
	LastVersion int64          `json:"lastVersion"`
	NextTag     int64          `json:"nextTag"`
	Security    []securityRow  `json:"security,omitempty"`
	LastRow     int64          `json:"lastRow,omitempty"` // of them
}

type packageState struct {
	ID         int64             `json:"id"`
	Name       string            `json:"name"`
	Visibility Visibility        `json:"visibility"`
	Repository string            `json:"repository,omitempty"`
	Access     map[string]string `json:"access,omitempty"`
	Downloads  int64             `json:"downloads,omitempty"`
	Created    time.Time         `json:"created"`
	Updated    time.Time         `json:"updated"`
	Since      time.Time         `json:"since"`
	Deleted    time.Time         `json:"deleted,omitzero"`
	Blobs      []oci.Digest      `json:"blobs,omitempty"`
	Tags       []tagState        `json:"tags,omitempty"`     // in the order in which they were made
	Versions   []versionState    `json:"versions,omitempty"` // by id
}

type tagState struct {
	Name   string     `json:"name"`
	Place  int64      `json:"place"`
	Digest oci.Digest `json:"digest"`
}

type versionState struct {
	ID        int64      `json:"id"`
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Created   time.Time  `json:"created"`
	Updated   time.Time  `json:"updated"`
	Deleted   time.Time  `json:"deleted,omitzero"`
	Tags      []string   `json:"tags,omitempty"`
	Downloads int64      `json:"downloads,omitempty"`
	labels
}

// state takes the rows down.
func (s *store) state() *state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows()
}

// rows is state for those who hold the lock.
func (s *store) rows() *state {
	st := &state{LastPackage: s.lastPkg, LastVersion: s.lastVer, NextTag: s.nextTag, Security: s.security.rows(), LastRow: s.security.lastID}
	place := map[*pkg]int{}
	for _, list := range s.owners {
		for _, p := range list {
			st.Packages = append(st.Packages, p.state())
		}
	}
	slices.SortFunc(st.Packages, func(a, b packageState) int { return cmp.Compare(a.ID, b.ID) })
	byID := map[int64]int{}
	for i, p := range st.Packages {
		byID[p.ID] = i
	}
	for _, list := range s.owners {
		for _, p := range list {
			place[p] = byID[p.id]
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.versions)) {
		v := s.versions[id]
		p := &st.Packages[place[v.pkg]]
		p.Versions = append(p.Versions, versionState{
			ID: id, Digest: v.desc.Digest, MediaType: v.manifest.MediaType, Created: v.created, Updated: v.updated, Deleted: v.deleted,
			Tags: v.tags, Downloads: v.downloads.Load(), labels: v.labels,
		})
	}
	return st
}

func (p *pkg) state() packageState {
	st := packageState{
		ID: p.id, Name: p.name, Visibility: p.visibility, Repository: p.repository, Access: maps.Clone(p.access), Downloads: p.downloads,
		Created: p.created, Updated: p.updated, Since: p.since, Deleted: p.deleted, Blobs: slices.Sorted(maps.Keys(p.blobs)),
	}
	for _, t := range p.tags {
		st.Tags = append(st.Tags, tagState{t.name, t.seq, t.digest})
	}
	slices.SortFunc(st.Tags, func(a, b tagState) int { return cmp.Compare(a.Place, b.Place) })
	return st
}

// digests are those of all content that the rows name.
func (st *state) digests() map[oci.Digest]bool {
	all := map[oci.Digest]bool{}
	for _, p := range st.Packages {
		for _, d := range p.Blobs {
			all[d] = true
		}
		for _, v := range p.Versions {
			all[v.Digest] = true
		}
	}
	for _, row := range st.Security {
		for _, d := range row.documents() {
			all[d] = true
		}
	}
	return all
}

// load replaces all rows. The content must be there. After an error nothing has
// changed.
func (s *store) load(st *state) error {
	fresh, err := s.read(st)
	if err == nil {
		s.adopt(fresh)
	}
	return err
}

// read makes a store of rows.
func (s *store) read(st *state) (*store, error) {
	fresh := newStore(s.contents, s.quirks, s.now)
	fresh.lastPkg, fresh.lastVer, fresh.nextTag = max(fresh.lastPkg, st.LastPackage), max(fresh.lastVer, st.LastVersion), st.NextTag
	ids := map[int64]bool{}
	for _, p := range st.Packages {
		if ids[p.ID] {
			return nil, oci.Invalid("two packages have the number %d", p.ID)
		}
		ids[p.ID] = true
		if err := fresh.loadPackage(p); err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	for _, row := range st.Security {
		for _, d := range row.documents() {
			if !s.contents.has(d) {
				return nil, oci.Invalid("security data: the document %s is missing", d)
			}
		}
		fresh.security.put(&row)
	}
	fresh.security.lastID = max(fresh.security.lastID, st.LastRow)
	for _, list := range fresh.deleted {
		slices.SortFunc(list, func(a, b *pkg) int { return a.deleted.Compare(b.deleted) })
	}
	return fresh, nil
}

// adopt takes over the rows of another store.
func (s *store) adopt(fresh *store) {
	s.packages, s.deleted, s.owners, s.versions, s.holders = fresh.packages, fresh.deleted, fresh.owners, fresh.versions, fresh.holders
	s.security = fresh.security
	s.lastPkg, s.lastVer, s.nextTag = fresh.lastPkg, fresh.lastVer, fresh.nextTag
}

func (s *store) loadPackage(st packageState) error {
	if err := (Package{Name: st.Name, Visibility: st.Visibility, Access: st.Access}).check(); err != nil {
		return err
	}
	if s.packages[st.Name] != nil && st.Deleted.IsZero() {
		return oci.Invalid("there are two of that name")
	}
	was := s.packages[st.Name]
	p := s.newPackage(event{ID: st.ID, Repo: st.Name, Time: st.Created})
	p.visibility, p.repository, p.downloads = st.Visibility, st.Repository, st.Downloads
	p.updated, p.since, p.deleted = st.Updated, st.Since, st.Deleted
	maps.Copy(p.access, st.Access)
	if !p.deleted.IsZero() {
		if delete(s.packages, p.name); was != nil {
			s.packages[p.name] = was
		}
		s.deleted[p.name] = append(s.deleted[p.name], p)
	}
	for _, d := range st.Blobs {
		if !s.contents.has(d) {
			return oci.Invalid("its blob %s is missing", d)
		}
		p.blobs[d] = true
		if p.deleted.IsZero() {
			s.hold(d, p.name)
		}
	}
	for _, v := range st.Versions {
		if err := s.loadVersion(p, v); err != nil {
			return fmt.Errorf("version %d: %w", v.ID, err)
		}
	}
	return s.loadTags(p, st.Tags)
}

func (s *store) loadVersion(p *pkg, st versionState) error {
	switch {
	case s.versions[st.ID] != nil:
		return oci.Invalid("there are two of that number")
	case st.Deleted.IsZero() && p.versions[st.Digest] != nil:
		return oci.Invalid("there are two of the digest %s", st.Digest)
	case !s.contents.has(st.Digest):
		return oci.Invalid("its manifest %s is missing", st.Digest)
	}
	raw, err := s.contents.read(st.Digest)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(st.MediaType, raw)
	if err != nil {
		return err
	}
	v := &version{
		pkg: p, id: st.ID, desc: m.Descriptor(), created: st.Created, updated: st.Updated, deleted: st.Deleted,
		tags: st.Tags, labels: st.labels, noted: st.Downloads, manifest: m,
	}
	v.desc.Digest = st.Digest
	v.downloads.Store(st.Downloads)
	s.versions[v.id] = v
	s.lastVer = max(s.lastVer, v.id)
	if v.deleted.IsZero() {
		p.add(v)
	} else if old := p.gone[st.Digest]; p.versions[st.Digest] == nil && (old == nil || !old.deleted.After(v.deleted)) {
		p.gone[st.Digest] = v
	}
	p.list.put(v.row(v.updated))
	return nil
}

// loadTags sets tags, and sees to it that versions and tags say the same.
func (s *store) loadTags(p *pkg, list []tagState) error {
	for _, st := range list {
		if p.versions[st.Digest] == nil || p.tags[st.Name] != nil {
			return oci.Invalid("its tag %q names nothing, or is there twice", st.Name)
		}
		p.tags[st.Name] = &tag{name: st.Name, seq: st.Place, digest: st.Digest}
		s.nextTag = max(s.nextTag, st.Place)
	}
	n := 0
	for _, v := range p.versions {
		for _, name := range v.tags {
			if t := p.tags[name]; t == nil || t.digest != v.desc.Digest {
				return oci.Invalid("version %d has the tag %q, and the tag not the version", v.id, name)
			}
			n++
		}
	}
	if n != len(p.tags) {
		return oci.Invalid("it has %d tags, and its versions %d", len(p.tags), n)
	}
	return nil
}
