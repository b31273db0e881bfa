package ghcrtest

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// firstState is that of faults of which none has set another.
const firstState = "start"

// matches tells whether a request is one that the fault is for. The server is locked.
func (f *Fault) matches(x *exchange) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(f.Role, x.role) && is(f.Route, x.route) && is(f.Method, x.r.Method) && is(f.Repo, x.repo) && is(f.Ref, x.ref) &&
		(f.If == "" || f.If == cmp.Or(x.server.states[f.Name], firstState)) &&
		(f.Credential == "" || f.Credential == credential(x.r) || f.Credential == "some" && credential(x.r) != "none") &&
		(f.Over == 0 || x.r.ContentLength > f.Over) &&
		(f.FromByte == 0 || rangeBegin(x.r) >= f.FromByte) &&
		(f.Query == "" && f.Digest == "" || f.matchesQuery(x)) &&
		(x.r.ProtoMajor < 2 || !f.Malformed && f.Dribble == 0) && // that is only in HTTP/1
		(f.Action == "" || actions[f.Action].can(x))
}

func (f *Fault) matchesQuery(x *exchange) bool {
	query := x.r.URL.Query()
	want, err := url.ParseQuery(f.Query)
	if err != nil {
		return false
	}
	for name, values := range want {
		if !query.Has(name) || values[0] != "" && query.Get(name) != values[0] {
			return false
		}
	}
	return f.Digest == "" || f.Digest == x.ref || f.Digest == query.Get("digest") || f.Digest == query.Get("mount")
}

// rangeBegin is the first byte that a request asks for.
func rangeBegin(r *http.Request) int64 {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	n, _ := strconv.ParseInt(first, 10, 64) // what is no range begins at 0
	return n
}

// inBody tells whether the fault is for a byte of a body, or for what only HTTP/1
// has, so that only the answer shows whether it happens.
func (f *Fault) inBody() bool {
	return f.RequestBytes > 0 || f.AcceptBytes > 0 ||
		!f.Served && (f.ResponseBytes != 0 || f.Stall > 0 || f.Corrupt || f.Short || f.Malformed || f.Dribble > 0)
}

func (f *Fault) spent() bool { return f.Times >= 0 && f.used >= max(f.Times, 1) }

// due tells whether it is the turn of the request that was seen last. It goes by the
// place of the request alone: what happens to others at the same time does not matter.
func (f *Fault) due() bool {
	if f.seen <= f.After || (f.seen-f.After-1)%max(f.Every, 1) != 0 || f.spent() {
		return false
	}
	return f.Probability == 0 || f.chance().Float64() < f.Probability
}

// chance is drawn from for the request that was seen last.
func (f *Fault) chance() *rand.Rand { return rand.New(rand.NewPCG(f.Seed, uint64(f.seen))) }

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
		if !f.due() {
			continue
		}
		x.fault, x.delay = f, f.Delay
		if f.Jitter > 0 {
			x.delay += time.Duration(f.chance().Int64N(int64(f.Jitter)))
		}
		if !f.inBody() || f.before() {
			x.note()
		}
		return
	}
}

// before tells whether the fault does something whatever the answer turns out to be.
func (f *Fault) before() bool {
	return f.Do != nil || f.Action != "" || f.Status != 0 || f.Advance != 0 || f.Stale != 0 || f.Delay > 0 || f.Jitter > 0
}

// note counts the fault and enters it into the log. The server is locked.
func (x *exchange) note() {
	s, f := x.server, x.fault
	x.noted = true
	f.used++
	if f.Set != "" {
		if s.states == nil {
			s.states = map[string]string{}
		}
		s.states[f.Name] = f.Set
	}
	s.fired = append(s.fired, FaultRecord{
		Fault: f, Name: f.Name, What: f.what(), Time: s.now().UTC(), Method: x.r.Method, Path: x.r.URL.Path, Request: x.place,
	})
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
	x.actFault()
	if x.delay > 0 {
		x.standStill(x.delay)
	}
	if f.IgnoreRange {
		x.r.Header.Del("Range")
	}
	if f.AsQuery != "" {
		x.askInstead(f.AsQuery)
	}
	if f.Status == 0 && len(f.Header) > 0 {
		x.w.lies = x.fill(f.Header)
	}
	x.w.exchange, x.w.dribble, x.w.pace, x.body.pace = x, f.Dribble, f.BytesPerSecond, f.BytesPerSecond
	x.body.exchange = x
	if f.Close {
		x.w.Header().Set("Connection", "close")
	}
	switch {
	case f.RequestBytes > 0:
		x.body.limit = f.RequestBytes
	case f.AcceptBytes > 0: // takeIn looks at it
	case f.Served:
		x.w.mute = true
	case f.inBody() && f.Status == 0:
		x.w.fault = f
	default:
		if f.inBody() {
			x.w.fault = f
		}
		x.answerFault()
	}
}

// actFault does what a fault does to the server.
func (x *exchange) actFault() {
	f, s := x.fault, x.server
	if f.Do != nil {
		f.Do(s)
	}
	if f.Action != "" {
		actions[f.Action].do(x)
	}
	if f.Advance != 0 {
		s.Advance(f.Advance)
	}
	if f.Stale != 0 {
		s.store.setStaleness(f.Stale)
	}
}

// actions are what an [Action] does, and whether there is what it changes: a fault
// that changes nothing must not say that it happened.
var actions = map[Action]struct {
	can func(x *exchange) bool // the server is locked
	do  func(x *exchange)
}{
	ActionExpireTokens: {
		func(x *exchange) bool { return len(x.server.tokens) > 0 },
		func(x *exchange) { x.server.ExpireTokens() },
	},
	ActionExpireSignedURLs: {
		func(*exchange) bool { return true }, // nobody knows which are about
		func(x *exchange) { x.server.ExpireSignedURLs() },
	},
	ActionDropSessions: {
		func(x *exchange) bool { return len(x.server.sessions) > 0 || x.server.contents.keep },
		func(x *exchange) { x.server.DropSessions() },
	},
	ActionLoseBlobs: {
		func(x *exchange) bool { return x.server.store.hasBlobs(x.repo) },
		func(x *exchange) { x.server.store.loseBlobs(x.repo) },
	},
	ActionMoveTag: {
		func(x *exchange) bool {
			return !strings.Contains(x.ref, ":") && x.server.store.manifest(x.repo, x.ref) != nil
		},
		func(x *exchange) { x.server.Add(x.repo, x.ref, novelty(x.place)) },
	},
	ActionAddVersion: {
		func(x *exchange) bool { return x.server.store.exists(x.repo) },
		func(x *exchange) { x.server.Add(x.repo, fmt.Sprint("fault-", x.place), novelty(x.place)) },
	},
	ActionDeleteVersion: {
		func(x *exchange) bool { return x.server.store.hasVersions(x.repo) },
		func(x *exchange) { x.server.store.deleteLatest(x.repo) },
	},
}

// novelty makes a manifest that is like no other.
func novelty(n int) *Image {
	return Raw(oci.MediaTypeOCIIndex, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []any{}, "annotations": map[string]string{"fault": strconv.Itoa(n)},
	}))
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
	if f.Drain {
		io.Copy(io.Discard, x.r.Body)
	}
	switch {
	case f.Break && f.ResponseBytes == 0:
		x.abort(f.Reset)
	case f.Status != 0:
		body := x.filled(f.Body)
		x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		for k, v := range x.fill(f.Header) {
			x.w.Header()[k] = v
		}
		x.w.lied = f.Header.Get("Content-Length") != ""
		x.w.WriteHeader(f.Status)
		if x.r.Method != http.MethodHead {
			io.WriteString(x.w, body)
		}
		x.done = true
	}
}

// askInstead changes parameters of the request's query.
func (x *exchange) askInstead(change string) {
	query := x.r.URL.Query()
	values, _ := url.ParseQuery(change) // a part that makes no sense is left out
	for name, v := range values {
		if query.Del(name); v[0] != "" {
			query.Set(name, v[0])
		}
	}
	x.r.URL.RawQuery = query.Encode()
}

// moments are the times that stand in braces.
var moments = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{(date|unix)([+-][0-9a-zµ.]+)?\}`) })

// filled puts what it stands for in the place of what is in braces.
func (x *exchange) filled(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	s := x.server
	text = moments().ReplaceAllStringFunc(text, func(m string) string {
		parts := moments().FindStringSubmatch(m)
		d, _ := time.ParseDuration(cmp.Or(parts[2], "0s")) // what is no duration is none
		at := s.now().Add(d).UTC()
		if parts[1] == "unix" {
			return strconv.FormatInt(at.Unix(), 10)
		}
		return at.Format(http.TimeFormat)
	})
	base, signed := scheme(x.r)+"://"+x.r.Host, ""
	if d, err := oci.ParseDigest(x.ref); err == nil && strings.Contains(text, "{signed}") {
		signed = s.sign(x.r, blobPath+d.String())
	}
	return strings.NewReplacer(
		"{url}", base+x.r.URL.RequestURI(), "{base}", base, "{path}", x.r.URL.Path, "{repo}", x.repo, "{ref}", x.ref,
		"{signed}", signed, "{cdn}", s.otherHost(x.r, CDNHost), "{web}", s.otherHost(x.r, WebHost),
	).Replace(text)
}

func (x *exchange) fill(h http.Header) http.Header {
	out := http.Header{}
	for k, list := range h {
		out[k] = nil
		for _, v := range list {
			out[k] = append(out[k], x.filled(v))
		}
	}
	return out
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
