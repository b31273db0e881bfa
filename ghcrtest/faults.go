package ghcrtest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault makes something go wrong. The first fields say with which requests, and
// empty ones match all; the others say what happens. Faults are deterministic: they
// go by the order in which matching requests arrive, and chance by a seed. The zero
// value breaks nothing and is logged at the first request. [Catalogue] has those
// that are known of GHCR, and [ParseFaults] reads them from a file.
type Fault struct {
	// Name is what the log calls it. Faults of one name share a state, which is
	// "start" until one of them that has Set happens.
	Name string

	Role, Route, Method, Repo string  // as [Request] has them
	Ref                       string  // tag, digest, session or version
	Digest                    string  // in the path, or in the query as digest or mount
	Query                     string  // "name=value&…" that the URL has, among others; "name" is any value
	Credential                string  // as [Request] has it; "some" is any
	FromByte                  int64   // the Range begins there or later
	Over                      int64   // the request's body is longer
	If                        string  // the state of the faults of this name
	After                     int     // so many matching requests pass first
	Every                     int     // of those that follow, the first and then each so-manieth; 0 and 1 are all
	Probability               float64 // of those, the share that is drawn by Seed and the place among matching requests; 0 is all
	Seed                      uint64  // of Probability and Jitter
	Times                     int     // how often it then happens; 0 is once, below 0 is always

	// Set is the state of the faults of this name when it has happened.
	Set string

	// Do runs before the request is looked at: to move a tag, say. With nothing else
	// the request is then served. Action and Advance are what a file can say of it.
	Do func(*Server)
	// Action changes what the server has, before the request is looked at.
	Action Action
	// Advance moves the server's clock on, or with a negative duration back.
	Advance time.Duration
	// Stale has the lists of the Packages API be late by so much from then on, as
	// [Quirks.RESTStaleness]; [Server.ClearFaults] ends it.
	Stale time.Duration
	// AsQuery is what the request is taken to have asked for: "n=2" sets that
	// parameter, and "n=" drops it.
	AsQuery string

	// Delay is how long the server stands still before it does anything, and Jitter up
	// to how much longer, by Seed.
	Delay, Jitter time.Duration
	// BytesPerSecond is the pace of the bodies, in both directions; 0 is no limit.
	BytesPerSecond int64
	// Status, with Header and Body, is answered instead of what was asked for. Header
	// alone changes the real answer: a digest or a Content-Length that is a lie. A name
	// without a value is left out of it. What is in braces stands for something in both:
	// {url} {base} {path} {repo} {ref} of the request, {signed} for the address of the blob on
	// the storage host, {cdn} and {web} for those hosts, {date+25s} and {unix+25s} for a
	// time by the server's clock.
	Status int
	Header http.Header
	Body   string
	// IgnoreRange has the request's Range not looked at.
	IgnoreRange bool
	// RequestBytes breaks the connection when so many bytes of the request's body
	// have been read. What was read counts as received.
	RequestBytes int64
	// Drain reads the request's body to its end, for nothing, before Status or Break.
	Drain bool
	// Break breaks the connection: before the request is served, or where
	// ResponseBytes is given after so many bytes of the answer's body.
	Break bool
	// ResponseBytes is where in the answer's body something happens; below 0 it counts
	// from the end, -1 being before the last byte.
	ResponseBytes int64
	// Reset has a break look like a connection reset, not like its end.
	Reset bool
	// Served has the request served first, without an answer. After Stall, Status
	// comes in its place, or the connection breaks.
	Served bool
	// Short ends the answer after ResponseBytes as if that were all: there is no
	// Content-Length, and no error that would tell.
	Short bool
	// Malformed sends, after ResponseBytes, a chunk whose length is no number.
	Malformed bool
	// Stall stands still after ResponseBytes, for so long, and then goes on.
	Stall time.Duration
	// Dribble sends the answer's header a byte at a time, so far apart.
	Dribble time.Duration
	// Corrupt flips a bit of the answer's body at ResponseBytes.
	Corrupt bool
	// AcceptBytes takes in only so many bytes of an upload's part.
	AcceptBytes int64
	// Close closes the connection after the answer, so that the next request comes over
	// a new one: Go's client itself sends a GET again that broke on one it had used before.
	Close bool

	seen, used int
}

// Action is something that a fault does to what the server has. A request for which
// it has nothing of the kind is none that the fault is for.
type Action string

// The actions. Those of tags and versions are about the request's repository.
const (
	ActionExpireTokens     Action = "expire-tokens"
	ActionExpireSignedURLs Action = "expire-signed-urls"
	ActionDropSessions     Action = "drop-sessions"
	ActionLoseBlobs        Action = "lose-blobs"     // all that were uploaded or mounted
	ActionMoveTag          Action = "move-tag"       // the request's, to a version that is made
	ActionAddVersion       Action = "add-version"    // with a tag
	ActionDeleteVersion    Action = "delete-version" // the latest, with its tags
)

// FaultRecord is one time that a fault happened. One that is for a byte which a
// body does not have does not happen, and waits for the next request.
type FaultRecord struct {
	Fault   *Fault    `json:"-"`
	Name    string    `json:"name,omitempty"` // of the fault
	What    string    `json:"what"`           // happened, in words
	Time    time.Time `json:"time"`           // by the server's clock
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Request int       `json:"request"` // its place among all requests, from 1
}

// Inject adds faults. The first that matches a request happens to it.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// ClearFaults takes back all faults, and what they left behind in the way of states
// and stale lists. The log of those that happened stays.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	s.faults, s.states = nil, nil
	s.mu.Unlock()
	s.store.setStaleness(s.quirks.RESTStaleness)
}

// Faults tells which faults happened, so that a test can show that what it survived
// did take place.
func (s *Server) Faults() []FaultRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.fired)
}

// ResetFaultLog begins the log of faults anew.
func (s *Server) ResetFaultLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fired = nil
}

// what says in words what the fault does.
func (f *Fault) what() string {
	var list []string
	say := func(is bool, format string, args ...any) {
		if is {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	ending := cmp.Or(map[bool]string{true: "reset"}[f.Reset], "connection closed")
	say(f.Do != nil, "a function ran")
	say(f.Action != "", "%s", f.Action)
	say(f.Advance != 0, "the clock moved by %s", f.Advance)
	say(f.Stale != 0, "lists late by %s", f.Stale)
	say(f.AsQuery != "", "taken to ask %s", f.AsQuery)
	say(f.Delay != 0 || f.Jitter != 0, "late by %s", f.Delay+f.Jitter)
	say(f.BytesPerSecond > 0, "%d bytes a second", f.BytesPerSecond)
	say(f.IgnoreRange, "Range ignored")
	say(f.AcceptBytes > 0, "only %d bytes taken in", f.AcceptBytes)
	say(f.RequestBytes > 0, "%s after %d bytes of the request", ending, f.RequestBytes)
	say(f.Drain, "the request read and dropped")
	say(f.Served, "served without a word")
	say(f.Dribble > 0, "header a byte each %s", f.Dribble)
	at := fmt.Sprintf(" after %d bytes of the answer", f.ResponseBytes)
	if f.ResponseBytes < 0 {
		at = fmt.Sprintf(" %d bytes before the answer's end", -f.ResponseBytes)
	}
	say(f.Short, "ended%s", at)
	say(f.Malformed, "malformed chunk%s", at)
	say(f.Corrupt, "bit flipped%s", at)
	say(f.Stall > 0 && !f.Served, "stood still for %s%s", f.Stall, at)
	say(f.Stall > 0 && f.Served, "stood still for %s", f.Stall)
	say(f.Break && f.ResponseBytes != 0, "%s%s", ending, at)
	say(f.Break && f.ResponseBytes == 0, "%s", ending)
	say(f.Status != 0, "status %d", f.Status)
	say(f.Status == 0 && len(f.Header) > 0, "header changed")
	say(f.Close, "connection closed after the answer")
	return cmp.Or(strings.Join(list, ", "), "nothing")
}
