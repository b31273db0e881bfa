package ghcrtest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// store holds the rows that all views of the emulator share: packages, their
// versions (one for each manifest) and tags, and which blobs a repository has.
// The content itself is in contents.
type store struct {
	mu       sync.RWMutex
	packages map[string]*pkg                // by "owner/name"
	holders  map[oci.Digest]map[string]bool // the repositories that have a blob
	nextID   int64
	nextTag  int64
	contents *contents
	journal  *journal // nil without a directory
}

// pkg is a package: a repository, as the registry calls it.
type pkg struct {
	name     string
	private  bool
	created  time.Time
	versions map[oci.Digest]*version // that live
	deleted  []*version              // that could be restored
	tags     map[string]*tag
	blobs    map[oci.Digest]bool // uploaded or mounted here
	refs     map[oci.Digest]int  // how many live manifests name a digest
	subjects map[oci.Digest][]oci.Digest
}

// version is one manifest of a package.
type version struct {
	id        int64
	desc      oci.Descriptor
	created   time.Time
	updated   time.Time
	deleted   time.Time // zero while it lives
	downloads atomic.Int64
	manifest  *oci.Manifest
}

type tag struct {
	name   string
	seq    int64 // tags keep the place in which they were made
	digest oci.Digest
}

func newStore(c *contents, j *journal) *store {
	return &store{packages: map[string]*pkg{}, holders: map[oci.Digest]map[string]bool{}, contents: c, journal: j, nextID: 100_000}
}

func newPkg(name string, private bool, at time.Time) *pkg {
	return &pkg{
		name: name, private: private, created: at,
		versions: map[oci.Digest]*version{}, tags: map[string]*tag{}, blobs: map[oci.Digest]bool{},
		refs: map[oci.Digest]int{}, subjects: map[oci.Digest][]oci.Digest{},
	}
}

// apply makes a change and notes it, so that the directory tells it again to the
// next process. All changes of rows go through here.
func (s *store) apply(e event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Time = time.Now().UTC()
	if err := s.replay(e); err != nil {
		return err
	}
	return s.journal.append(e)
}

// replay makes a change that is being made, or was made by an earlier process.
func (s *store) replay(e event) error {
	p := s.packages[e.Repo]
	if p == nil && e.Repo != "" {
		p = newPkg(e.Repo, e.Private, e.Time)
		s.packages[e.Repo] = p
	}
	switch e.Op {
	case opPackage:
		p.private = e.Private
	case opBlob:
		p.blobs[e.Digest] = true
		if s.holders[e.Digest] == nil {
			s.holders[e.Digest] = map[string]bool{}
		}
		s.holders[e.Digest][e.Repo] = true
	case opUnlinkBlob:
		delete(p.blobs, e.Digest)
		delete(s.holders[e.Digest], e.Repo)
	case opManifest:
		return s.replayManifest(p, e)
	case opUntag:
		delete(p.tags, e.Tag)
	case opDelete:
		p.remove(e.Digest, e.Time)
	default:
		return fmt.Errorf("unknown change %q", e.Op)
	}
	return nil
}

// errExists says that a tag is there that was to be made.
var errExists = errors.New("the tag exists")

func (s *store) replayManifest(p *pkg, e event) error {
	if e.create && p.tags[e.Tag] != nil {
		return errExists
	}
	v := p.versions[e.Digest]
	if v == nil {
		m := e.manifest
		if m == nil {
			raw, err := s.contents.read(e.Digest)
			if err != nil {
				return err
			}
			if m, err = oci.ParseManifest(e.MediaType, raw); err != nil {
				return err
			}
		}
		s.nextID++
		d := m.Descriptor()
		d.Digest = e.Digest
		v = &version{id: s.nextID, desc: d, created: e.Time, manifest: m}
		p.versions[e.Digest] = v
		for edge := range m.Edges() {
			switch edge.Kind {
			case oci.EdgeSubject:
				p.subjects[edge.Descriptor.Digest] = append(p.subjects[edge.Descriptor.Digest], e.Digest)
			case oci.EdgeAttests:
			default:
				p.refs[edge.Descriptor.Digest]++
			}
		}
	}
	v.updated = e.Time
	if e.Tag != "" {
		t := p.tags[e.Tag]
		if t == nil {
			s.nextTag++
			t = &tag{name: e.Tag, seq: s.nextTag}
			p.tags[e.Tag] = t
		}
		t.digest = e.Digest
	}
	return nil
}

// remove deletes a version softly, with its tags.
func (p *pkg) remove(d oci.Digest, at time.Time) {
	v := p.versions[d]
	if v == nil {
		return
	}
	v.deleted = at
	delete(p.versions, d)
	p.deleted = append(p.deleted, v)
	maps.DeleteFunc(p.tags, func(_ string, t *tag) bool { return t.digest == d })
	for edge := range v.manifest.Edges() {
		switch edge.Kind {
		case oci.EdgeSubject:
			list := p.subjects[edge.Descriptor.Digest]
			p.subjects[edge.Descriptor.Digest] = slices.DeleteFunc(list, func(o oci.Digest) bool { return o == d })
		case oci.EdgeAttests:
		default:
			p.refs[edge.Descriptor.Digest]--
		}
	}
}

// manifest returns the live version that a tag or digest names.
func (s *store) manifest(repo, ref string) *version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return nil
	}
	d := oci.Digest(ref)
	if !strings.Contains(ref, ":") {
		t := p.tags[ref]
		if t == nil {
			return nil
		}
		d = t.digest
	}
	return p.versions[d]
}

func (s *store) exists(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.packages[repo] != nil
}

// public tells whether anybody may read a repository.
func (s *store) public(repo string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	return p != nil && !p.private
}

// hasBlob tells whether the repository has a blob, and whether a live manifest
// names it.
func (s *store) hasBlob(repo string, d oci.Digest) (has, referenced bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return false, false
	}
	return p.blobs[d], p.refs[d] > 0
}

// holding lists the repositories that have a blob.
func (s *store) holding(d oci.Digest) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.holders[d]))
}

// missing lists the content that a manifest names and the repository lacks.
func (s *store) missing(repo string, m *oci.Manifest, children bool) []oci.Digest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	var list []oci.Digest
	for e := range m.Edges() {
		d := e.Descriptor.Digest
		switch e.Kind {
		case oci.EdgeConfig, oci.EdgeLayer:
			if !m.IsIndex() && (p == nil || !p.blobs[d]) && !oci.IsForeign(e.Descriptor) && !slices.Contains(list, d) {
				list = append(list, d)
			}
		case oci.EdgeChild:
			if children && (p == nil || p.versions[d] == nil) {
				list = append(list, d)
			}
		}
	}
	return list
}

// tags lists the tags of a repository in the order of the profile.
func (s *store) tags(repo string, lexical bool) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.packages[repo]
	if p == nil {
		return nil
	}
	list := slices.Collect(maps.Values(p.tags))
	slices.SortFunc(list, func(a, b *tag) int {
		if lexical {
			return cmp.Compare(a.name, b.name)
		}
		return cmp.Compare(a.seq, b.seq)
	})
	names := make([]string, len(list))
	for i, t := range list {
		names[i] = t.name
	}
	return names
}

// referrers lists the live manifests whose subject is d.
func (s *store) referrers(repo string, d oci.Digest) []oci.Descriptor {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := []oci.Descriptor{}
	p := s.packages[repo]
	if p == nil {
		return list
	}
	for _, r := range p.subjects[d] {
		v := p.versions[r]
		desc := v.desc
		desc.Annotations = v.manifest.Annotations
		if desc.ArtifactType == "" && v.manifest.Config != nil {
			desc.ArtifactType = v.manifest.Config.MediaType
		}
		list = append(list, desc)
	}
	return list
}

func (s *store) repositories() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.packages))
}
