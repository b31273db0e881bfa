// Package ghcrtest hides a GitHub Container Registry of your own: the registry,
// its token service and the host that blobs come from, with GHCR's departures from
// the specification, for tests and demos. It shares no code with the client but
// the data types, so that the two cannot be wrong in the same way.
//
// Begin with [Start], which serves on a loopback port until a test ends, or with
// [New] and [Server.Transport], which needs no socket and works in
// testing/synctest:
//
//	server, err := ghcrtest.New(ghcrtest.Options{})
//	client, err := ghcr.New(ghcr.Options{Base: server.Transport(), Credentials: …})
//
// Any owner exists, and [Token] may do everything. [Quirks] has a switch for each
// departure, [Server.Inject] makes things go wrong, and [Server.Requests] tells
// what was asked.
package ghcrtest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Token may do everything on every emulator whose Options name no accounts.
const Token = "ghp_simulated"

// The hosts of the emulator's roles, as [Server.Transport] serves them.
const (
	RegistryHost = "ghcr.io"
	CDNHost      = "pkg-containers.githubusercontent.com"
	WebHost      = "github.com"
)

// Account is a login and what it may do.
type Account struct {
	Login string
	// Token is what it logs in with. One that begins with ghs_ is the token of a
	// workflow, and refused in other words than a user's.
	Token string
	// Scopes of a classic token: "read:packages", "write:packages",
	// "delete:packages". Empty is all of them.
	Scopes []string
	// Owners whose private packages it sees and may write; empty is everybody's.
	Owners []string
}

// Options configure a [Server]. The zero value is GHCR, in memory, with an account
// whose token is [Token].
type Options struct {
	// Quirks is how the server behaves; nil is [GHCR].
	Quirks *Quirks
	// Dir keeps all state in a directory, for one process at a time. Empty keeps it
	// in memory, and content of a megabyte and more in temporary files.
	Dir string
	// Accounts are who may log in. None is one account with [Token].
	Accounts []Account
	// Open serves everybody everything, without asking for a login.
	Open bool
	// Public are repositories that anybody may read.
	Public []string
	// Seed makes tokens, upload sessions and request ids the same in every run.
	Seed uint64
	// NoLog turns the log of requests off, for servers that run for long.
	NoLog bool
}

// Server is an emulated GHCR. It is safe for concurrent use. Close it.
type Server struct {
	quirks   Quirks
	accounts []Account
	open     bool
	store    *store
	contents *contents
	journal  *journal
	pipe     pipeFront

	mu          sync.Mutex
	rand        *rand.Rand
	tokens      map[string]*grant
	sessions    map[string]*session
	faults      []*Fault
	fired       []FaultRecord
	log         []*Request
	noLog       bool
	signing     string // the key of signed URLs
	windows     map[string]*window
	requests    int // that arrived
	sweepTokens int // how many tokens there may be before old ones are forgotten
}

// New returns a server that answers through [Server.Transport] and
// [Server.Handler].
//
// Errors: a directory that cannot be used, or is in use.
func New(opts Options) (*Server, error) {
	quirks := GHCR()
	if opts.Quirks != nil {
		quirks = *opts.Quirks
	}
	s := &Server{
		quirks: quirks, accounts: opts.Accounts, open: opts.Open, noLog: opts.NoLog,
		contents: &contents{dir: opts.Dir, keep: opts.Dir != ""},
		rand:     rand.New(rand.NewPCG(opts.Seed, 0x67686372)),
		tokens:   map[string]*grant{}, sweepTokens: manyTokens, sessions: map[string]*session{}, windows: map[string]*window{},
	}
	if len(s.accounts) == 0 {
		s.accounts = []Account{{Login: "simulated", Token: Token}}
	}
	s.signing = s.randomHex(32)
	s.store = newStore(s.contents, nil)
	if opts.Dir != "" {
		j, err := openJournal(opts.Dir, s.store.replay)
		if err != nil {
			return nil, err
		}
		s.journal, s.store.journal = j, j
		// Ids of an earlier process must not come again.
		s.rand = rand.New(rand.NewPCG(opts.Seed, uint64(time.Now().UnixNano())))
	}
	for _, repo := range opts.Public {
		if err := s.SetPrivate(repo, false); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close ends the server and removes what it kept in temporary files.
func (s *Server) Close() error {
	s.pipe.close()
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, e := range open {
		e.mu.Lock()
		e.end(s.contents.keep)
		e.mu.Unlock()
	}
	return errors.Join(s.journal.close(), s.contents.close())
}

// SetPrivate says who may read a repository: those with permission, or everybody.
// On GHCR this is done on the package's settings page and nowhere else. A
// repository that does not exist is made.
func (s *Server) SetPrivate(repo string, private bool) error {
	if err := oci.CheckName(repo); err != nil {
		return err
	}
	return s.store.apply(event{Op: opPackage, Repo: repo, Private: private})
}

// Quirks returns how the server behaves.
func (s *Server) Quirks() Quirks { return s.quirks }

// ExpireTokens makes every token that was issued expire now.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, g := range s.tokens {
		g.expires = now
	}
}

// ExpireSignedURLs makes every signed URL that was given out expire now.
func (s *Server) ExpireSignedURLs() {
	key := s.randomHex(32)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signing = key
}

// DropSessions forgets every upload that is under way.
func (s *Server) DropSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.sessions {
		if s.contents.keep {
			os.Remove(filepath.Join(s.contents.dir, "uploads", id)) // or it would be taken up again
		}
		delete(s.sessions, id)
	}
}

func (s *Server) randomHex(digits int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for b.Len() < digits {
		fmt.Fprintf(&b, "%016x", s.rand.Uint64())
	}
	return b.String()[:digits]
}

// requestID is unlike a UUID: GHCR's has three parts of upper-case digits.
func (s *Server) requestID() string {
	h := strings.ToUpper(s.randomHex(16))
	return h[:4] + ":" + h[4:10] + ":" + h[10:]
}

func (s *Server) uuid() string {
	h := s.randomHex(32)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// Handler answers for all roles: by host name those of [Server.Transport], and on
// any other host by path.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve runs one request: finds its role and route, logs it, and lets faults have
// their way with it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	x := s.route(r)
	x.server, x.w, x.r = s, &responseWriter{ResponseWriter: w}, r
	x.w.Header().Set("X-GitHub-Request-Id", s.requestID())
	x.body = &countedReader{r: r.Body}
	r.Body = x.body
	s.begin(x)
	defer s.finish(x)
	x.applyFaults()
	if x.done {
		return
	}
	if x.limited() {
		return
	}
	x.handle()
	x.afterFaults()
}

// exchange is one request being answered.
type exchange struct {
	server *Server
	w      *responseWriter
	r      *http.Request
	body   *countedReader
	role   string
	route  string
	repo   string
	ref    string // tag, digest or session id
	handle func()
	done   bool
	fault  *Fault // that is for this request
	place  int    // among all requests, for the log of faults
	noted  bool   // the fault is in the log
	who    identity
	entry  *Request
}

// Roles and routes, as the log and faults name them.
const (
	RoleRegistry = "registry"
	RoleToken    = "token"
	RoleCDN      = "cdn"
	RoleWeb      = "web"

	RoutePing         = "ping"
	RouteManifest     = "manifest"
	RouteBlob         = "blob"
	RouteUploadStart  = "upload-start"
	RouteUploadChunk  = "upload-chunk"
	RouteUploadCommit = "upload-commit"
	RouteUploadStatus = "upload-status"
	RouteUploadCancel = "upload-cancel"
	RouteTags         = "tags"
	RouteReferrers    = "referrers"
	RouteCatalog      = "catalog"
	RouteToken        = "token"
	RouteSigned       = "signed-blob"
	RouteUnknown      = "unknown"
)

func (s *Server) route(r *http.Request) *exchange {
	path := r.URL.Path
	x := &exchange{role: RoleRegistry, route: RouteUnknown}
	x.handle = x.unknownRoute
	host, _, _ := strings.Cut(r.Host, ":")
	switch {
	case host == CDNHost || strings.HasPrefix(path, "/ghcr1/"):
		x.role, x.route, x.handle = RoleCDN, RouteSigned, x.signedBlob
		x.ref = strings.TrimPrefix(path, "/ghcr1/blobs/")
		return x
	case host == WebHost || strings.HasPrefix(path, "/-/"):
		x.role, x.handle = RoleWeb, x.web
		return x
	case path == "/token":
		x.role, x.route, x.handle = RoleToken, RouteToken, x.token
		return x
	case path == "/v2/" || path == "/v2":
		x.route, x.handle = RoutePing, x.ping
		return x
	case path == "/v2/_catalog":
		x.route, x.handle = RouteCatalog, x.catalog
		return x
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return x
	}
	x.routeRepository(r.Method, rest)
	if x.repo != "" && strings.ToLower(x.repo) != x.repo {
		if s.quirks.LowercaseOnly {
			x.handle = func() { x.nameOK() }
		} else {
			x.repo = strings.ToLower(x.repo)
		}
	}
	return x
}

// routeRepository finds the route of a path below /v2/. A repository's name may
// itself hold any of the words, so the last one counts.
func (x *exchange) routeRepository(method, path string) {
	if repo, ok := strings.CutSuffix(path, "/tags/list"); ok {
		x.repo, x.route, x.handle = repo, RouteTags, x.tags
		return
	}
	for _, session := range []string{"/blobs/uploads/", "/blobs/upload/"} {
		i := strings.LastIndex(path, session)
		if i < 0 {
			continue
		}
		x.repo, x.ref = path[:i], path[i+len(session):]
		switch {
		case x.ref == "" && method == http.MethodPost:
			x.route, x.handle = RouteUploadStart, x.startUpload
		case x.ref == "":
		case method == http.MethodPatch:
			x.route, x.handle = RouteUploadChunk, x.uploadChunk
		case method == http.MethodPut:
			x.route, x.handle = RouteUploadCommit, x.commitUpload
		case method == http.MethodGet:
			x.route, x.handle = RouteUploadStatus, x.uploadStatus
		case method == http.MethodDelete:
			x.route, x.handle = RouteUploadCancel, x.cancelUpload
		}
		return
	}
	if repo, ok := strings.CutSuffix(path, "/blobs/uploads"); ok && method == http.MethodPost {
		x.repo, x.route, x.handle = repo, RouteUploadStart, x.startUpload
		return
	}
	for _, kind := range []struct {
		word, route string
		handle      func()
	}{
		{"/manifests/", RouteManifest, x.manifest},
		{"/blobs/", RouteBlob, x.blob},
		{"/referrers/", RouteReferrers, x.referrers},
	} {
		i := strings.LastIndex(path, kind.word)
		if i < 0 || strings.Contains(path[i+len(kind.word):], "/") {
			continue
		}
		x.repo, x.ref = path[:i], path[i+len(kind.word):]
		x.route, x.handle = kind.route, kind.handle
		return
	}
}

// unknownRoute answers what GHCR does not know. It hands such requests to GitHub's
// web pages.
func (x *exchange) unknownRoute() {
	if x.server.quirks.UnmatchedRoute == http.StatusSeeOther {
		x.seeOther()
		return
	}
	x.fail(http.StatusNotFound, "NOT_FOUND", "page not found")
}

func (x *exchange) seeOther() {
	// GitHub's page for the package, were the rest of the path a part of its name.
	name, _, _ := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/v2/"), ":")
	base := x.server.otherHost(x.r, WebHost)
	x.w.Header().Set("Location", base+"/-/v2/packages/container/package/"+url.PathEscape(name))
	x.w.WriteHeader(http.StatusSeeOther)
}

// web stands for GitHub's web pages, of which a client wants none.
func (x *exchange) web() {
	x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	x.w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(x.w, "<!DOCTYPE html><title>Page not found</title>")
}

// otherHost returns scheme and host of another role. On sockets that is the same
// server under another name of this machine: a client that goes by the host's name
// must see that it is another.
func (s *Server) otherHost(r *http.Request, host string) string {
	name, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if _, pipe := connOf(r.Context()).(*pipeConn); pipe || name == RegistryHost || name == CDNHost || name == WebHost {
		return "https://" + host
	}
	other := "localhost"
	if name == "localhost" {
		other = "127.0.0.1"
	}
	if port != "" {
		other += ":" + port
	}
	return scheme(r) + "://" + other
}

// scheme is what clients see: over a pipe all is taken to be TLS.
func scheme(r *http.Request) string {
	if _, pipe := connOf(r.Context()).(*pipeConn); pipe || r.TLS != nil {
		return "https"
	}
	return "http"
}
