package ghcrtest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Fault makes something go wrong. The first fields say with which requests, and
// empty ones match all; the others say what happens. Faults are deterministic: they
// go by the order in which matching requests arrive. The zero value breaks nothing
// and is logged at the first request.
type Fault struct {
	Role, Route, Method, Repo string // as [Request] has them
	Ref                       string // tag, digest, session or version
	After                     int    // so many matching requests pass first
	Every                     int    // of those that follow, the first and then each so-manieth; 0 and 1 are all
	Times                     int    // how often it then happens; 0 is once, below 0 is always

	// Do runs before the request is looked at: to move a tag, say, or to call
	// [Server.ExpireTokens]. With nothing else the request is then served.
	Do func(*Server)
	// Delay is how long the server stands still before it does anything.
	Delay time.Duration
	// Status, with Header and Body, is answered instead of what was asked for. Header
	// alone changes the real answer: a digest or a Content-Length that is a lie.
	Status int
	Header http.Header
	Body   string
	// IgnoreRange has the request's Range not looked at.
	IgnoreRange bool
	// RequestBytes breaks the connection when so many bytes of the request's body
	// have been read. What was read counts as received.
	RequestBytes int64
	// Break breaks the connection: before the request is served, or where
	// ResponseBytes is given after so many bytes of the answer's body.
	Break         bool
	ResponseBytes int64
	// Reset has a break look like a connection reset, not like its end.
	Reset bool
	// Served has the request served first, without an answer. After Stall, Status
	// comes in its place, or the connection breaks.
	Served bool
	// Short ends the answer after ResponseBytes as if that were all: there is no
	// Content-Length, and no error that would tell.
	Short bool
	// Stall stands still after ResponseBytes, for so long, and then goes on.
	Stall time.Duration
	// Corrupt flips a bit of the answer's body at ResponseBytes.
	Corrupt bool
	// AcceptBytes takes in only so many bytes of an upload's part.
	AcceptBytes int64

	seen, used int
}

// FaultRecord is one time that a fault happened. One that is for a byte which a
// body does not have does not happen, and waits for the next request.
type FaultRecord struct {
	Fault   *Fault
	Method  string
	Path    string
	Request int // its place among all requests, from 1
}

// Inject adds faults. The first that matches a request happens to it.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Faults tells which faults happened, so that a test can show that what it survived
// did take place.
func (s *Server) Faults() []FaultRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.fired)
}

func (f *Fault) matches(x *exchange) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.Role, x.role) && is(f.Route, x.route) && is(f.Method, x.r.Method) && is(f.Repo, x.repo) && is(f.Ref, x.ref)
}

// inBody tells whether the fault is for a byte of a body, so that only the body
// shows whether it happens.
func (f *Fault) inBody() bool {
	return f.RequestBytes > 0 || f.AcceptBytes > 0 ||
		!f.Served && (f.ResponseBytes > 0 || f.Stall > 0 || f.Corrupt || f.Short)
}

func (f *Fault) spent() bool { return f.Times >= 0 && f.used >= max(f.Times, 1) }

// takeFault finds the fault that is for a request.
func (x *exchange) takeFault() {
	s := x.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	x.place = s.requests
	for _, f := range s.faults {
		if !f.matches(x) {
			continue
		}
		f.seen++
		if f.seen <= f.After || (f.seen-f.After-1)%max(f.Every, 1) != 0 || f.spent() {
			continue
		}
		x.fault = f
		if !f.inBody() || f.Do != nil || f.Delay > 0 {
			x.note()
		}
		return
	}
}

// note counts the fault and enters it into the log. The server is locked.
func (x *exchange) note() {
	x.noted = true
	x.fault.used++
	x.server.fired = append(x.server.fired, FaultRecord{Fault: x.fault, Method: x.r.Method, Path: x.r.URL.Path, Request: x.place})
}

// happens tells whether a fault in a body still may: another request may have been
// quicker.
func (x *exchange) happens() bool {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	if !x.noted && x.fault.spent() {
		return false
	}
	if !x.noted {
		x.note()
	}
	return true
}

// applyFaults lets a fault happen before the request is served.
func (x *exchange) applyFaults() {
	x.takeFault()
	f := x.fault
	if f == nil {
		return
	}
	if f.Do != nil {
		f.Do(x.server)
	}
	if f.Delay > 0 {
		x.standStill(f.Delay)
	}
	if f.IgnoreRange {
		x.r.Header.Del("Range")
	}
	if f.Status == 0 {
		x.w.lies = f.Header
	}
	switch {
	case f.RequestBytes > 0:
		x.body.limit, x.body.exchange = f.RequestBytes, x
	case f.AcceptBytes > 0: // takeIn looks at it
	case f.Served:
		x.w.mute = true
	case f.inBody():
		x.w.fault, x.w.exchange = f, x
	default:
		x.answerFault()
	}
}

// afterFaults answers a request that was served without one.
func (x *exchange) afterFaults() {
	if x.fault == nil || !x.fault.Served {
		return
	}
	x.w.mute, x.w.status = false, 0
	clear(x.w.Header())
	if x.fault.Stall > 0 {
		x.standStill(x.fault.Stall)
	}
	if x.fault.Status == 0 {
		x.abort(x.fault.Reset)
	}
	x.answerFault()
}

func (x *exchange) answerFault() {
	f := x.fault
	switch {
	case f.Break:
		x.abort(f.Reset)
	case f.Status != 0:
		for k, v := range f.Header {
			x.w.Header()[k] = v
		}
		x.w.Header().Set("Content-Length", strconv.Itoa(len(f.Body)))
		x.w.WriteHeader(f.Status)
		if x.r.Method != http.MethodHead {
			fmt.Fprint(x.w, f.Body)
		}
		x.done = true
	}
}

func (x *exchange) standStill(d time.Duration) {
	select {
	case <-time.After(d):
	case <-x.r.Context().Done():
	case <-x.server.closing:
	}
}

// abort ends the connection in mid-air.
func (x *exchange) abort(reset bool) {
	if reset {
		conn := connOf(x.r.Context())
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		switch conn := conn.(type) {
		case *pipeConn:
			conn.reset()
		case *net.TCPConn:
			// Without lingering, closing sends a reset.
			conn.SetLinger(0)
			conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}
