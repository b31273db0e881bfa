package ghcrtest

import (
	"cmp"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// listing is what lists of a package's versions show. GitHub reads lists from a
// search index that comes after the rows, and so does this: changes wait in late
// until lists may show them. Each list is in order, so that a page costs no more
// than its rows.
type listing struct {
	live, gone []row     // oldest first
	late       []row     // in the order in which they happened
	oldest     time.Time // none of gone was deleted earlier
}

// row is a version as it is, or was at a time.
type row struct {
	id        int64
	digest    oci.Digest
	created   time.Time
	updated   time.Time
	deleted   time.Time // zero while it lives
	tags      []string
	labels    labels
	changedAt time.Time
}

func (v *version) row(at time.Time) row {
	return row{
		id: v.id, digest: v.desc.Digest, created: v.created, updated: v.updated, deleted: v.deleted,
		tags: v.tags, labels: v.labels, changedAt: at,
	}
}

func byAge(a, b row) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id))
}

// show has lists show a version as it is now, when they come to it.
func (s *store) show(v *version, at time.Time) {
	l := &v.pkg.list
	if s.quirks.RESTStaleness == 0 {
		l.put(v.row(at))
		return
	}
	l.late = append(l.late, v.row(at))
	l.catchUp(s.now().Add(-s.quirks.RESTStaleness))
}

// catchUp has lists show all that happened up to a time.
func (l *listing) catchUp(to time.Time) {
	n := 0
	for n < len(l.late) && !l.late[n].changedAt.After(to) {
		l.put(l.late[n])
		n++
	}
	l.late = slices.Delete(l.late, 0, n)
}

func (l *listing) put(r row) {
	in, out := &l.live, &l.gone
	if !r.deleted.IsZero() {
		in, out = out, in
		if len(l.gone) == 0 || r.deleted.Before(l.oldest) {
			l.oldest = r.deleted
		}
	}
	if i, found := slices.BinarySearchFunc(*out, r, byAge); found {
		*out = slices.Delete(*out, i, i+1)
	}
	i, found := slices.BinarySearchFunc(*in, r, byAge)
	if found {
		(*in)[i] = r
		return
	}
	*in = slices.Insert(*in, i, r)
}

// forget drops what was deleted up to a time.
func (l *listing) forget(to time.Time) {
	if len(l.gone) == 0 || l.oldest.After(to) {
		return
	}
	l.gone = slices.DeleteFunc(l.gone, func(r row) bool { return !r.deleted.After(to) })
	if len(l.gone) > 0 {
		l.oldest = slices.MinFunc(l.gone, func(a, b row) int { return a.deleted.Compare(b.deleted) }).deleted
	}
}

// versionPage lists versions of a package, newest first, and tells how many there
// are in all.
func (s *store) versionPage(repo string, deleted bool, first, n int) (page []row, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packages[repo]
	if p == nil {
		return nil, 0
	}
	now := s.now()
	p.list.catchUp(now.Add(-s.quirks.RESTStaleness))
	list := p.list.live
	if deleted {
		p.list.forget(now.Add(-s.quirks.RESTRestoreWindow))
		list = p.list.gone
	}
	total = len(list)
	last := max(total-first, 0)
	page = slices.Clone(list[max(last-n, 0):last])
	slices.Reverse(page)
	return page, total
}

// versionRow finds a live version as it is now, whatever lists show.
func (s *store) versionRow(repo string, id int64) (row, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.packages[repo].version(s, id)
	if v == nil || !v.deleted.IsZero() {
		return row{}, false
	}
	return v.row(time.Time{}), true
}

// packageRow is a package as lists show it.
type packageRow struct {
	id         int64
	name       string
	visibility Visibility
	repository string
	versions   int
	created    time.Time
	updated    time.Time
}

func (p *pkg) row() packageRow {
	return packageRow{
		id: p.id, name: p.name, visibility: p.visibility, repository: p.repository,
		versions: len(p.versions), created: p.created, updated: p.updated,
	}
}

// packageRow finds a live package.
func (s *store) packageRow(repo string) (packageRow, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.packages[repo]; p != nil {
		return p.row(), true
	}
	return packageRow{}, false
}

// packagesOf lists the packages of an owner as lists show them, newest first.
func (s *store) packagesOf(owner string) []packageRow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at := s.now().Add(-s.quirks.RESTStaleness)
	var list []packageRow
	for _, p := range slices.Backward(s.owners[owner]) {
		if !p.since.After(at) && (p.deleted.IsZero() || p.deleted.After(at)) {
			list = append(list, p.row())
		}
	}
	return list
}

// setStaleness changes how late lists are.
func (s *store) setStaleness(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quirks.RESTStaleness = d
}
