package ghcrtest

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// session is one upload under way.
type session struct {
	mu      sync.Mutex // held while a part is taken in
	id      string
	repo    string
	spool   *spool
	started time.Time
	ended   bool
}

// sessionHeaders tell where the next part goes and how much is there.
func (x *exchange) sessionHeaders(s *session) {
	h := x.w.Header()
	path := "/v2/" + s.repo + "/blobs/uploads/" + s.id
	if x.server.quirks.SingularUploadPath {
		path = "/v2/" + s.repo + "/blobs/upload/" + s.id
	}
	h.Set("Location", path)
	h.Set("Docker-Upload-UUID", s.id)
	h.Set("Range", "0-"+strconv.FormatInt(max(s.spool.size-1, 0), 10))
	h.Set("Content-Length", "0")
	x.apiVersion()
}

// session finds the session that a request is for, or answers that there is none.
func (x *exchange) session() *session {
	srv := x.server
	srv.mu.Lock()
	s := srv.sessions[x.ref]
	srv.mu.Unlock()
	if s == nil && srv.contents.keep && !strings.ContainsAny(x.ref, `/\.`) {
		s = srv.reviveSession(x.repo, x.ref)
	}
	if s == nil || s.repo != x.repo || srv.expired(s) {
		x.uploadUnknown()
		return nil
	}
	return s
}

func (s *Server) expired(e *session) bool {
	return s.quirks.UploadTimeout > 0 && s.now().Sub(e.started) > s.quirks.UploadTimeout
}

// discardExpired drops the uploads that nobody will come back to. One that is
// taking in a part is left for the next time.
func (s *Server) discardExpired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.sessions {
		if s.expired(e) && e.mu.TryLock() {
			e.end(false)
			e.mu.Unlock()
			delete(s.sessions, id)
		}
	}
}

// end takes nothing in any more. What came so far is kept for a later process, or
// forgotten.
func (e *session) end(keep bool) {
	e.ended = true
	if keep {
		e.spool.close()
	} else {
		e.spool.discard()
	}
}

// reviveSession takes up a session that an earlier process left in the directory.
func (s *Server) reviveSession(repo, id string) *session {
	dir, err := s.contents.ensure("uploads")
	if err != nil {
		return nil
	}
	path := filepath.Join(dir, id)
	size, ok := fileSize(path)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.sessions[id]; other != nil {
		return other
	}
	revived := &session{id: id, repo: repo, started: s.now(), spool: &spool{contents: s.contents, path: path, size: size}}
	s.sessions[id] = revived
	return revived
}

func (x *exchange) uploadUnknown() {
	code := x.server.quirks.UploadUnknownCode
	x.fail(http.StatusNotFound, code, map[string]string{
		"BLOB_UPLOAD_INVALID": "blob upload invalid",
		"BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
	}[code])
}

func (s *Server) forget(e *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, e.id)
}

func fileSize(path string) (int64, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	return info.Size(), true
}
