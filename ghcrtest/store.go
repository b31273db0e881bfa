package ghcrtest

import (
	"cmp"
	"errors"
	"fmt"
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
	quirks   Quirks
	now      func() time.Time
	mu       sync.RWMutex
	packages map[string]*pkg                // that live, by "owner/name"
	deleted  map[string][]*pkg              // those of a name that were deleted, in that order
	owners   map[string][]*pkg              // by login, in the order in which they were made, with the deleted ones
	versions map[int64]*version             // with the deleted ones
	holders  map[oci.Digest]map[string]bool // the live repositories that have a blob
	lastPkg  int64                          // id
	lastVer  int64                          // id
	nextTag  int64
	security *security
	contents *contents
	journal  *journal // nil without a directory
}

// pkg is a package: a repository, as the registry calls it.
type pkg struct {
	id         int64
	name       string
	visibility Visibility
	repository string            // that it is linked to
	access     map[string]string // roles of repositories' workflows
	downloads  int64             // of each version, besides its own
	created    time.Time
	updated    time.Time
	since      time.Time               // it lives: created or restored
	deleted    time.Time               // zero while it lives
	versions   map[oci.Digest]*version // that live
	gone       map[oci.Digest]*version // the latest that was deleted of each digest that does not live
	list       listing
	tags       map[string]*tag
	blobs      map[oci.Digest]bool // uploaded or mounted here
	refs       map[oci.Digest]int  // how many live manifests name a digest
	subjects   map[oci.Digest][]oci.Digest
}

// version is one manifest of a package.
type version struct {
	pkg       *pkg
	id        int64
	desc      oci.Descriptor
	created   time.Time
	updated   time.Time
	deleted   time.Time // zero while it lives
	tags      []string  // never changed in place; a deleted version has those that it had
	labels    labels
	downloads atomic.Int64
	noted     int64 // how many of them the journal knows
	manifest  *oci.Manifest
}

type tag struct {
	name   string
	seq    int64 // tags keep the place in which they were made
	digest oci.Digest
}

func newStore(c *contents, q Quirks, now func() time.Time) *store {
	return &store{
		quirks: q, now: now, packages: map[string]*pkg{}, deleted: map[string][]*pkg{}, owners: map[string][]*pkg{}, versions: map[int64]*version{},
		holders: map[oci.Digest]map[string]bool{}, security: newSecurity(), contents: c, lastPkg: 1_000, lastVer: 100_000,
	}
}

// apply makes a change and notes it, so that the directory tells it again to the
// next process. All changes of rows go through here.
func (s *store) apply(e event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(e)
}

// commit is apply for those who hold the lock. The first push to a name makes the
// package.
func (s *store) commit(e event) error {
	p := s.packages[e.Repo]
	if (e.Op == opBlob || e.Op == opManifest) && !s.contents.has(e.Digest) {
		return fmt.Errorf("%s: its content was dropped meanwhile", e.Digest)
	}
	if p == nil && (e.Op == opBlob || e.Op == opManifest) {
		if err := s.commit(event{Op: opPackage, Repo: e.Repo, Visibility: s.quirks.FirstPushVisibility, Repository: e.workflow}); err != nil {
			return err
		}
		if e.workflow != "" {
			if err := s.commit(event{Op: opAccess, Repo: e.Repo, Repository: e.workflow, Role: roleAdmin}); err != nil {
				return err
			}
		}
		p = s.packages[e.Repo]
	}
	switch {
	case e.Op == opPackage && p == nil:
		e.ID = s.lastPkg + 1
	case e.Op == opManifest && p.versions[e.Digest] == nil:
		e.ID = s.lastVer + 1
		if old := p.gone[e.Digest]; old != nil && !s.quirks.RESTNewIDOnRepush {
			e.ID = old.id
		}
	}
	e.Time = s.now().UTC().Round(0) // as it will be read back
	if e.Security != nil {
		s.security.begin(e.Security, e.Time)
	}
	if err := s.replay(e); err != nil {
		return err
	}
	return s.journal.append(e)
}

// replay makes a change that is being made, or was made by an earlier process.
func (s *store) replay(e event) error {
	if e.Op == opState && e.State != nil {
		return s.load(e.State)
	}
	if e.Op == opSecurity && e.Security != nil {
		s.security.put(e.Security)
		return nil
	}
	p := s.packages[e.Repo]
	switch {
	case p != nil, e.Op == opDownloads, e.Op == opRestorePackage:
	case e.Op == opPackage:
		p = s.newPackage(e)
	default:
		return fmt.Errorf("change %q of the package %q, which is not there", e.Op, e.Repo)
	}
	switch e.Op {
	case opPackage:
		p.visibility = e.visibility()
		p.repository = cmp.Or(e.Repository, p.repository)
	case opAccess:
		p.access[e.Repository] = e.Role
	case opDownloads:
		s.replayDownloads(p, e)
	case opBlob:
		p.blobs[e.Digest] = true
		s.hold(e.Digest, e.Repo)
	case opUnlinkBlob:
		delete(p.blobs, e.Digest)
		delete(s.holders[e.Digest], e.Repo)
	case opManifest:
		return s.replayManifest(p, e)
	case opUntag:
		s.untag(p, e.Tag, e.Time)
	case opDelete:
		s.replayDelete(p, e)
	case opRestore:
		s.replayRestore(p, e)
	case opDeletePackage:
		s.replayDeletePackage(p, e)
	case opRestorePackage:
		s.replayRestorePackage(e)
	default:
		return fmt.Errorf("unknown change %q", e.Op)
	}
	return nil
}

func (s *store) newPackage(e event) *pkg {
	// Journals of earlier releases have no ids; they follow from the order.
	id := cmp.Or(e.ID, s.lastPkg+1)
	s.lastPkg = max(s.lastPkg, id)
	p := &pkg{
		id: id, name: e.Repo, created: e.Time, updated: e.Time, since: e.Time, access: map[string]string{},
		versions: map[oci.Digest]*version{}, gone: map[oci.Digest]*version{}, tags: map[string]*tag{}, blobs: map[oci.Digest]bool{},
		refs: map[oci.Digest]int{}, subjects: map[oci.Digest][]oci.Digest{},
	}
	s.packages[p.name] = p
	s.owners[p.owner()] = append(s.owners[p.owner()], p)
	return p
}

func (p *pkg) owner() string {
	owner, _, _ := strings.Cut(p.name, "/")
	return owner
}

func (s *store) hold(d oci.Digest, repo string) {
	if s.holders[d] == nil {
		s.holders[d] = map[string]bool{}
	}
	s.holders[d][repo] = true
}

// errExists says that a tag is there that was to be made.
var errExists = errors.New("the tag exists")

func (s *store) replayManifest(p *pkg, e event) error {
	if e.create && p.tags[e.Tag] != nil {
		return errExists
	}
	v := p.versions[e.Digest]
	if old := p.gone[e.Digest]; v == nil && old != nil && old.id == e.ID {
		v = old
		v.deleted, v.tags = time.Time{}, nil
		p.add(v)
	}
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
		id := cmp.Or(e.ID, s.lastVer+1)
		s.lastVer = max(s.lastVer, id)
		d := m.Descriptor()
		d.Digest = e.Digest
		v = &version{pkg: p, id: id, desc: d, created: e.Time, labels: e.labels, manifest: m}
		s.versions[v.id] = v
		p.add(v)
	}
	p.repository = cmp.Or(p.repository, e.Repository)
	p.updated, v.updated = e.Time, e.Time
	if e.Tag != "" {
		s.tag(p, e.Tag, v, e.Time)
	}
	s.show(v, e.Time)
	return nil
}

// tag has a tag name a version, and no other any more.
func (s *store) tag(p *pkg, name string, v *version, at time.Time) {
	t := p.tags[name]
	switch {
	case t == nil:
		s.nextTag++
		t = &tag{name: name, seq: s.nextTag}
		p.tags[name] = t
	case t.digest == v.desc.Digest:
		return
	default:
		s.drop(p.versions[t.digest], name, at)
	}
	t.digest = v.desc.Digest
	v.tags = append(slices.Clip(v.tags), name)
}

func (s *store) untag(p *pkg, name string, at time.Time) {
	if t := p.tags[name]; t != nil {
		delete(p.tags, name)
		s.drop(p.versions[t.digest], name, at)
	}
}

// drop takes a tag from the version that has it.
func (s *store) drop(v *version, name string, at time.Time) {
	v.tags = slices.DeleteFunc(slices.Clone(v.tags), func(t string) bool { return t == name })
	s.show(v, at)
}

// add puts a version among the live ones.
func (p *pkg) add(v *version) {
	p.versions[v.desc.Digest] = v
	delete(p.gone, v.desc.Digest)
	p.count(v, 1)
}

// count notes what a manifest names, or with -1 that it does so no more.
func (p *pkg) count(v *version, n int) {
	for edge := range v.manifest.Edges() {
		d := edge.Descriptor.Digest
		switch edge.Kind {
		case oci.EdgeSubject:
			list := slices.DeleteFunc(p.subjects[d], func(o oci.Digest) bool { return o == v.desc.Digest })
			if n > 0 {
				list = append(list, v.desc.Digest)
			}
			p.subjects[d] = list
		case oci.EdgeAttests:
		default:
			p.refs[d] += n
		}
	}
}
