package ghcrtest

import (
	"io"
	"net/http"
	"slices"
	"strings"
)

// responseWriter counts what is answered, and is where faults in an answer happen.
type responseWriter struct {
	http.ResponseWriter
	status     int
	n          int64
	hideRanges bool        // leave out Accept-Ranges
	mute       bool        // answer nothing
	lies       http.Header // in place of the real ones

	fault    *Fault    // that is for a byte still to come, or nil
	exchange *exchange // that it happens to
}

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	if w.mute {
		return
	}
	if w.hideRanges {
		w.Header().Del("Accept-Ranges")
	}
	for k, v := range w.lies {
		w.Header()[k] = v
	}
	if w.fault != nil && w.fault.Short {
		w.Header().Del("Content-Length")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.mute {
		return len(p), nil
	}
	if w.fault != nil {
		return w.writeFaulty(p)
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// ReadFrom lets the kernel send files where no fault wants to look at the bytes.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	from, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok || w.mute || w.fault != nil {
		return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 64<<10))
	}
	n, err := from.ReadFrom(r)
	w.n += n
	return n, err
}

// writeFaulty passes on the bytes up to where the fault is, and then lets it
// happen.
func (w *responseWriter) writeFaulty(p []byte) (int, error) {
	f := w.fault
	left := max(f.ResponseBytes-w.n, 0)
	if int64(len(p)) <= left {
		n, err := w.ResponseWriter.Write(p)
		w.n += int64(n)
		return n, err
	}
	n, err := w.ResponseWriter.Write(p[:left])
	w.n += int64(n)
	if err != nil {
		return n, err
	}
	rest := p[left:]
	w.fault = nil
	switch {
	case !w.exchange.happens():
	case f.Short:
		// Flushed, or net/http would count the few bytes itself.
		http.NewResponseController(w.ResponseWriter).Flush()
		w.mute = true
	case f.Break:
		http.NewResponseController(w.ResponseWriter).Flush()
		w.exchange.abort(f.Reset)
	case f.Stall > 0:
		http.NewResponseController(w.ResponseWriter).Flush()
		w.exchange.standStill(f.Stall)
	case f.Corrupt:
		rest = slices.Clone(rest)
		rest[0] ^= 1
	}
	m, err := w.Write(rest)
	return n + m, err
}

// Request is one request as the server saw it.
type Request struct {
	Role, Route  string
	Method, Path string
	Query        string // without the values of signatures
	Repo, Ref    string // in the Packages API the package, or for lists of them the owner; and the version's id
	Status       int
	Sent         int64 // bytes of the answer's body
	Received     int64 // bytes of the request's body
	// Credential is "none", "basic", "bearer" or "token".
	Credential          string
	Range, ContentRange string
	Fault               bool // a fault happened to it
}

// maxLog bounds the log of requests.
const maxLog = 1 << 16

// begin enters a request into the log.
func (s *Server) begin(x *exchange) {
	if s.noLog {
		return
	}
	query := x.r.URL.Query()
	if query.Has("sig") {
		query.Set("sig", "redacted")
	}
	credential := "none"
	if kind, _, ok := strings.Cut(x.r.Header.Get("Authorization"), " "); ok {
		credential = strings.ToLower(kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) >= maxLog {
		return
	}
	x.entry = &Request{
		Role: x.role, Route: x.route, Method: x.r.Method, Path: x.r.URL.Path, Query: query.Encode(),
		Repo: x.repo, Ref: x.ref,
		Credential: credential, Range: x.r.Header.Get("Range"), ContentRange: x.r.Header.Get("Content-Range"),
	}
	s.log = append(s.log, x.entry)
}

// finish completes the log's entry.
func (s *Server) finish(x *exchange) {
	if x.entry == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.entry.Status, x.entry.Sent, x.entry.Received, x.entry.Fault = x.w.status, x.w.n, x.body.n, x.fault != nil
}

// Requests returns what was asked so far, or the first 65536 of it, in the order in
// which it arrived. A request that is still being answered has no status and no
// sizes yet; in a synctest bubble, synctest.Wait waits for it.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Request, len(s.log))
	for i, r := range s.log {
		list[i] = *r
	}
	return list
}

// ResetRequests begins the log anew.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}
