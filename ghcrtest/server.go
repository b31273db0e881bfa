// Package ghcrtest hides a GitHub Container Registry of your own: the registry,
// its token service, the host that blobs come from, and the GitHub Packages API,
// with GHCR's departures from the specification, and what GitHub knows of the
// security of images, for tests and demos. It shares no code with the client but
// the data types, so that the two cannot be wrong in the same way.
//
// Begin with [Start], which serves on a loopback port until a test ends, or with
// [New] and [Server.Transport], which needs no socket and works in
// testing/synctest:
//
//	server, err := ghcrtest.New(ghcrtest.Options{})
//	client, err := ghcr.New(ghcr.Options{Base: server.Transport(), Credentials: …})
//
// Any owner exists, and [Token] may do everything. The Packages API is at "/" and
// "/api/v3" of a socket, and at [APIHost] of the transport; it shows the same rows
// as the registry. [Quirks] has a switch for each
// departure, [Server.Inject] makes things go wrong, and [Server.Requests] tells
// what was asked. [Catalogue] has the faults that are known of GHCR.
package ghcrtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Token may do everything on every emulator whose Options name no accounts.
const Token = "ghp_simulated"

// The hosts of the emulator's roles, as [Server.Transport] serves them.
const (
	RegistryHost = "ghcr.io"
	CDNHost      = "pkg-containers.githubusercontent.com"
	APIHost      = "api.github.com"
	WebHost      = "github.com"
	OSVHost      = "api.osv.dev"
)

// Options configure a [Server]. The zero value is GHCR, in memory, with an account
// whose token is [Token].
type Options struct {
	// Quirks is how the server behaves; nil is [GHCR].
	Quirks *Quirks
	// Dir keeps all state in a directory, for one process at a time. It must hold
	// nothing else. Empty keeps it in memory, and content of a megabyte and more in
	// temporary files.
	Dir string
	// Accounts are who may log in. None is one account with [Token].
	Accounts []Account
	// Owners are organizations and users that need an id or a kind of their own; the
	// others are made up as they are asked for.
	Owners []Owner
	// Packages are set up as [Server.SetPackage] does, but for those that Dir holds as
	// deleted.
	Packages []Package
	// Repositories are set up as [Server.SetRepository] does.
	Repositories []Repository
	// Ahead is how far the server's clock is ahead of the real one.
	Ahead time.Duration
	// Open serves everybody everything, without asking for a login.
	Open bool
	// Public are repositories that anybody may read.
	Public []string
	// Seed makes tokens, upload sessions and request ids the same in every run.
	Seed uint64
	// Admin serves what changes the server itself under /_sim/: docs/emulator.md has the
	// list. It is for whoever may connect, but not for web pages.
	Admin bool
	// NoLog turns the log of requests off, for servers that run for long.
	NoLog bool
}

// Server is an emulated GHCR. It is safe for concurrent use. Close it.
type Server struct {
	quirks   Quirks
	accounts []Account
	owners   []Owner
	open     bool
	ahead    atomic.Int64 // of the clock, in nanoseconds
	store    *store
	contents *contents
	parsed   sync.Map // SARIF by digest
	journal  *journal
	pipe     pipeFront

	whole          sync.RWMutex // held to replace all that is held, and shared to read or add to it at length
	atFirst        []Package    // that Reset sets up again
	sourcesAtFirst []Repository
	aheadAtFirst   time.Duration // of the clock
	sim            http.Handler  // of what is under /_sim/; nil is off

	closing chan struct{}  // closed when the server is
	serving sync.WaitGroup // requests; added to under mu, and not once closing is closed

	mu          sync.Mutex
	rand        *rand.Rand
	tokens      map[string]*grant
	sessions    map[string]*session
	faults      []*Fault
	states      map[string]string // of faults, by their name
	fired       []FaultRecord
	log         []*Request
	noLog       bool
	signing     string // the key of signed URLs
	windows     map[string]*window
	quotas      map[string]*quota // of the Packages API, by who has them
	requests    int               // that arrived
	sweepTokens int               // how many tokens there may be before old ones are forgotten
}

// New returns a server that answers through [Server.Transport] and
// [Server.Handler].
//
// Errors: [oci.ErrInvalid] for accounts, owners, packages or repositories that make no sense; a
// directory that cannot be used, is in use, or holds other things.
func New(opts Options) (*Server, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	quirks := GHCR()
	if opts.Quirks != nil {
		quirks = *opts.Quirks
	}
	s := &Server{
		quirks: quirks, accounts: opts.Accounts, owners: opts.Owners, open: opts.Open, noLog: opts.NoLog,
		contents: &contents{dir: opts.Dir, keep: opts.Dir != ""}, closing: make(chan struct{}),
		rand:   rand.New(rand.NewPCG(opts.Seed, 0x67686372)),
		tokens: map[string]*grant{}, sweepTokens: manyTokens, sessions: map[string]*session{}, windows: map[string]*window{},
		quotas: map[string]*quota{},
	}
	s.ahead.Store(int64(opts.Ahead))
	if len(s.accounts) == 0 {
		s.accounts = []Account{{Login: "simulated", Token: Token}}
	}
	s.signing = s.randomHex(32)
	if s.open {
		quirks.FirstPushVisibility = Public
	}
	s.store = newStore(s.contents, quirks, s.now)
	if opts.Dir != "" {
		j, err := openJournal(opts.Dir, s.store.replay)
		if err != nil {
			return nil, err
		}
		s.journal, s.store.journal = j, j
		if err := s.contents.sweep(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		// Ids of an earlier process must not come again.
		s.rand = rand.New(rand.NewPCG(opts.Seed, uint64(time.Now().UnixNano())))
	}
	packages := opts.Packages
	for _, repo := range opts.Public {
		packages = append(slices.Clip(packages), Package{Name: repo, Visibility: Public})
	}
	s.atFirst, s.sourcesAtFirst, s.aheadAtFirst = packages, opts.Repositories, opts.Ahead
	if opts.Admin {
		s.sim = s.adminHandler()
	}
	for _, p := range packages {
		if err := s.setUp(p); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	for _, r := range opts.Repositories {
		if err := s.SetRepository(r); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close ends the server and removes what it kept in temporary files. It waits for
// the requests that are being answered, so close the listeners first. Closing again
// does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed() {
		s.mu.Unlock()
		return nil
	}
	close(s.closing)
	s.mu.Unlock()
	s.pipe.close()
	s.serving.Wait()
	for _, e := range s.sessions {
		e.end(s.contents.keep)
	}
	return errors.Join(s.store.noteDownloads(), s.journal.close(), s.contents.close())
}

// now is what the server's clock shows. Everything that it does goes by this clock.
func (s *Server) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// Advance moves the server's clock on, or with a negative duration back: tokens and
// limits end, and what was deleted is lost for good when its time is over.
func (s *Server) Advance(d time.Duration) { s.ahead.Add(int64(d)) }

func (s *Server) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// enter tells whether a request may still be answered; serving.Done ends it.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		return false
	}
	s.serving.Add(1)
	return true
}

// Quirks returns how the server behaves.
func (s *Server) Quirks() Quirks { return s.quirks }

// ExpireTokens makes every token that was issued expire now.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
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
	for id, e := range s.sessions {
		if e.mu.TryLock() { // else it is taking in a part, and ends with that
			e.end(false)
			e.mu.Unlock()
		}
		delete(s.sessions, id)
	}
	s.contents.dropUploads()
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
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.serving.Done()
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		s.serveAdmin(w, r)
		return
	}
	x := s.route(r)
	x.server, x.w, x.r = s, &responseWriter{ResponseWriter: w}, r
	x.w.Header().Set("X-GitHub-Request-Id", s.requestID())
	x.w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	x.body = &countedReader{r: r.Body}
	r.Body = x.body
	s.begin(x)
	defer s.finish(x)
	defer x.w.end()
	if x.role == RoleAPI {
		defer x.occupy()()
	}
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
