package ghcrtest

import (
	"net/http"
	"slices"
	"strings"
)

// Request is one request as the server saw it.
type Request struct {
	Role   string `json:"role"`
	Route  string `json:"route"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Query  string `json:"query,omitempty"` // without the values of what may be a secret
	// Repo and Ref are in the Packages API the package, or for lists of them the owner;
	// and the version's id.
	Repo     string `json:"repo,omitempty"`
	Ref      string `json:"ref,omitempty"`
	Status   int    `json:"status,omitempty"`
	Sent     int64  `json:"sent"`     // bytes of the answer's body
	Received int64  `json:"received"` // bytes of the request's body
	// Credential is "none", "basic", "bearer" or "token".
	Credential   string `json:"credential"`
	Range        string `json:"range,omitempty"`
	ContentRange string `json:"contentRange,omitempty"`
	Fault        bool   `json:"fault,omitempty"` // a fault happened to it
}

// maxLog bounds the log of requests.
const maxLog = 1 << 16

// toldParameters are those of queries that the log shows the values of. Others, such
// as signatures, may be secrets.
var toldParameters = []string{
	"n", "last", "digest", "mount", "from", "artifactType", "scope", "service", "account",
	"page", "per_page", "before", "after", "sort", "direction", "predicate_type", "ref", "tool_name", "severity", "ecosystem", "state", "package_type", "visibility", "se", "sp", "spr", "sr", "sv",
}

// begin enters a request into the log.
func (s *Server) begin(x *exchange) {
	if s.noLog {
		return
	}
	query := x.r.URL.Query()
	for name := range query {
		if !slices.Contains(toldParameters, name) {
			query[name] = []string{"redacted"}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) >= maxLog {
		return
	}
	x.entry = &Request{
		Role: x.role, Route: x.route, Method: x.r.Method, Path: x.r.URL.Path, Query: query.Encode(),
		Repo: x.repo, Ref: x.ref,
		Credential: credential(x.r), Range: x.r.Header.Get("Range"), ContentRange: x.r.Header.Get("Content-Range"),
	}
	s.log = append(s.log, x.entry)
}

// credential is the kind of credential that a request has.
func credential(r *http.Request) string {
	if kind, _, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		return strings.ToLower(kind)
	}
	return "none"
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
