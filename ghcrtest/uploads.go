package ghcrtest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// startUpload answers POST: a mount, a whole blob, or a session.
func (x *exchange) startUpload() {
	if !x.nameOK() || !x.authorize("push") {
		return
	}
	query := x.r.URL.Query()
	if query.Has("mount") && x.mount(query.Get("mount"), query.Get("from")) {
		return
	}
	id := x.server.uuid()
	s := &session{id: id, repo: x.repo, started: x.server.now(), spool: &spool{contents: x.server.contents}}
	if x.server.contents.keep {
		// A later process must find it.
		dir, err := x.server.contents.ensure("uploads")
		if err != nil {
			x.internal(err)
			return
		}
		s.spool.path = filepath.Join(dir, id)
	}
	if query.Get("digest") != "" {
		x.ref = id
		defer s.end(false)
		x.finishUpload(s)
		return
	}
	x.server.discardExpired()
	x.server.mu.Lock()
	x.server.sessions[id] = s
	x.server.mu.Unlock()
	x.sessionHeaders(s)
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(http.StatusAccepted)
}

// mount answers a mount if it can be done.
func (x *exchange) mount(d, from string) bool {
	q := x.server.quirks
	want, err := oci.ParseDigest(d)
	if err != nil {
		return false
	}
	if from == "" && q.MountAnonymous {
		readable := func(repo string) bool { return x.mayMountFrom(repo) }
		holders := x.server.store.holding(want)
		if i := slices.IndexFunc(holders, readable); i >= 0 {
			from = holders[i]
		}
	}
	if from == x.repo && !q.MountSelf {
		return false
	}
	has, _ := x.server.store.hasBlob(from, want)
	if from != "" && !x.mayMountFrom(from) {
		if q.MountInvisible != http.StatusAccepted {
			x.fail(q.MountInvisible, "DENIED", "requested access to the resource is denied")
			return true
		}
		return false
	}
	if !has {
		return false
	}
	if from != x.repo {
		if err := x.server.linkBlob(x.repo, want, x.who); err != nil {
			x.internal(err)
			return true
		}
	}
	x.created(want)
	return true
}

// mayMountFrom goes by what the account may see, not by what this token was issued
// for.
func (x *exchange) mayMountFrom(repo string) bool {
	return x.server.open || x.server.allows(identity{account: x.who.account}, repo, "pull")
}

func (s *Server) linkBlob(repo string, d oci.Digest, who identity) error {
	return s.store.apply(event{Op: opBlob, Repo: repo, Digest: d, workflow: who.workflow()})
}

func (x *exchange) created(d oci.Digest) {
	x.apiVersion()
	x.w.Header().Set("Location", "/v2/"+x.repo+"/blobs/"+d.String())
	x.w.Header().Set("Docker-Content-Digest", d.String())
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusCreated)
}

func (x *exchange) uploadStatus() {
	if !x.authorize("pull") {
		return
	}
	if x.server.quirks.UploadStatus != http.StatusNoContent {
		x.uploadUnknown()
		return
	}
	s := x.session()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.sessionHeaders(s)
	x.w.WriteHeader(http.StatusNoContent)
}

func (x *exchange) cancelUpload() {
	if x.server.quirks.UploadDelete == http.StatusMethodNotAllowed {
		x.unsupported()
		return
	}
	if !x.authorize("push") {
		return
	}
	s := x.session()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.server.forget(s)
	s.end(false)
	x.w.WriteHeader(x.server.quirks.UploadDelete)
}

func (x *exchange) uploadChunk() {
	if !x.authorize("push") {
		return
	}
	s := x.session()
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		x.uploadUnknown()
		return
	}
	if !x.chunkFits(s) {
		return
	}
	if !x.takeIn(s) {
		return
	}
	x.sessionHeaders(s)
	x.w.WriteHeader(http.StatusAccepted)
}

// chunkFits answers a chunk that is too large or at the wrong place.
func (x *exchange) chunkFits(s *session) bool {
	q := x.server.quirks
	contentRange := x.r.Header.Get("Content-Range")
	first, last, ranged, ok := parseChunkRange(contentRange)
	if !ok {
		x.fail(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "malformed Content-Range")
		return false
	}
	length := x.r.ContentLength
	byRange := ranged && last-first+1 > q.ChunkCap
	byLength := length > q.ChunkCap
	capped := map[string]bool{"range": byRange, "length": byLength, "either": byRange || byLength}[q.ChunkCapTrigger]
	if q.ChunkCap > 0 && capped {
		x.fail(http.StatusRequestedRangeNotSatisfiable, "REQUESTED_RANGE_NOT_SATISFIABLE",
			fmt.Sprintf("the request body is too large and exceeds the maximum permissible limit of %.2fMiB", float64(q.ChunkCap)/(1<<20)))
		return false
	}
	if ranged && (first != s.spool.size || length >= 0 && last-first+1 != length) {
		x.sessionHeaders(s)
		x.w.Header().Del("Content-Length")
		x.fail(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "the chunk does not follow what was uploaded")
		return false
	}
	return true
}

// parseChunkRange reads "<first>-<last>", as chunks have it: without a unit.
func parseChunkRange(s string) (first, last int64, ranged, ok bool) {
	if s == "" {
		return 0, 0, false, true
	}
	a, b, found := strings.Cut(strings.TrimPrefix(s, "bytes "), "-")
	b, _, _ = strings.Cut(b, "/")
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	return first, last, true, found && err1 == nil && err2 == nil && first >= 0 && last >= first
}

// buffers are for copying bodies: a push of many small blobs would be all
// allocation.
var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// takeIn appends the request's body to the session. What came before a connection
// broke stays. What cannot be taken in is answered.
func (x *exchange) takeIn(s *session) bool {
	q := x.server.quirks
	body := io.Reader(x.r.Body)
	if q.MaxLayer > 0 {
		body = io.LimitReader(body, q.MaxLayer-s.spool.size+1)
	}
	if x.fault != nil && x.fault.AcceptBytes > 0 && x.happens() {
		body = io.LimitReader(body, x.fault.AcceptBytes)
	}
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{s.spool}, struct{ io.Reader }{body}, buffer[:])
	switch {
	case x.body.err != nil:
		x.abort(false) // the connection broke; saying nothing would be a 200
	case err != nil:
		x.internal(err)
		return false
	case q.MaxLayer > 0 && s.spool.size > q.MaxLayer:
		x.fail(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the layer is too large")
		return false
	}
	return true
}

func (x *exchange) commitUpload() {
	if !x.authorize("push") {
		return
	}
	s := x.session()
	if s == nil {
		return
	}
	x.finishUpload(s)
}

// finishUpload takes in the last part and gives the blob its name.
func (x *exchange) finishUpload(s *session) {
	q := x.server.quirks
	want, ok := x.digest(x.r.URL.Query().Get("digest"))
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		x.uploadUnknown()
		return
	}
	if want == emptyDigest && q.EmptyBlob == "ghost" {
		x.uploadUnknown()
		return
	}
	if (x.r.Header.Get("Content-Range") != "") && !x.chunkFits(s) {
		return
	}
	if !x.takeIn(s) {
		return
	}
	// From here on a second PUT finds no session.
	s.ended = true
	x.server.forget(s)
	if x.server.loses() {
		s.spool.discard()
		x.abort(true)
	}
	if err := s.spool.commit(want); err != nil {
		s.spool.discard()
		if errors.Is(err, errWrongDigest) {
			x.digestInvalid(err)
		} else {
			x.internal(err)
		}
		return
	}
	if err := x.server.linkBlob(x.repo, want, x.who); err != nil {
		x.internal(err)
		return
	}
	if q.CommitDelay > 0 {
		x.standStill(q.CommitDelay)
	}
	x.created(want)
}

func (s *Server) loses() bool {
	if s.quirks.CommitLossRate == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.Float64() < s.quirks.CommitLossRate
}
