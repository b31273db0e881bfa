package cassette

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// recorder sends requests on and writes down what comes of them. Without a store
// it only watches.
type recorder struct {
	opts   Options
	store  *store
	names  *names
	base   http.RoundTripper
	began  time.Time
	epochs *epochs

	mu      sync.Mutex
	journal *os.File
	seq     int
	prev    oci.Digest
	seed    [32]byte
	before  time.Duration // of the interactions that were there, when more are added
	open    map[*exchange]bool
	err     error // why the recording cannot be kept
	closed  bool
}

func newRecorder(opts Options, base http.RoundTripper, s *store, n *names) *recorder {
	return &recorder{
		opts: opts, store: s, names: n, base: base, began: time.Now(),
		epochs: newEpochs(), open: map[*exchange]bool{},
	}
}

// fail makes the recording one that is not kept. What is recorded goes on as if
// nothing were wrong.
func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// exchange is one request under way.
type exchange struct {
	r       *recorder
	req     *http.Request
	route   route
	start   time.Time
	session *upload

	mu    sync.Mutex
	entry Interaction
	sent  *sentBody
	body  *sink
	form  url.Values // of a request to a token service
	done  bool
	// told is called with the entry when all of it is known.
	told func(*Interaction)
}

func (r *recorder) roundTrip(req *http.Request, told func(*Interaction)) (*http.Response, error) {
	x, out, err := r.begin(req)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	x.told = told
	resp, err := r.base.RoundTrip(out)
	x.entry.Time.FirstByte = time.Since(x.start)
	if err != nil {
		x.entry.Response.Error = newFailure(req.Context(), err, r.names.secrets)
		x.answered(0)
		x.end(nil)
		return nil, err
	}
	if resp.StatusCode < 200 {
		r.fail(fmt.Errorf("%s answered %d: a connection that changes its protocol cannot be recorded", x.entry.Request.URL(), resp.StatusCode))
		x.forget()
		return resp, nil
	}
	x.answered(resp.StatusCode)
	a := &x.entry.Response
	a.Status, a.Proto, a.Length = resp.StatusCode, resp.Proto, resp.ContentLength
	a.Header, x.entry.Captures = r.names.response(req, resp, x.session)
	sink := x.newBodySink(resp)
	x.mu.Lock()
	x.body = sink // from here on, closing the recording may end this
	x.mu.Unlock()
	if resp.Body == nil || resp.Body == http.NoBody {
		x.end(nil)
		return resp, nil
	}
	seen := *resp
	seen.Body = &recordedBody{ReadCloser: resp.Body, x: x}
	return &seen, nil
}

// begin notes the request, and returns the one to send.
func (r *recorder) begin(req *http.Request) (*exchange, *http.Request, error) {
	x := &exchange{r: r, req: req, route: routeOf(req.URL), start: time.Now()}
	x.entry.Version = formatVersion
	x.entry.Response.Body.Mode = BodyEmpty
	x.entry.Request, x.session = r.names.request(req)
	x.entry.Epoch = r.epochs.of(dependsOn(&x.route, req.URL.Query()))
	r.mu.Lock()
	x.entry.Time.Start = r.before + x.start.Sub(r.began)
	r.open[x] = true
	r.mu.Unlock()
	if req.Body == nil || req.Body == http.NoBody {
		return x, req, nil
	}
	out := req.Clone(req.Context())
	if x.route.role == roleToken {
		// What it holds must not be written, not even as a digest.
		data, err := io.ReadAll(io.LimitReader(req.Body, maxText+1))
		closeBody(req)
		if err == nil && len(data) > maxText {
			err = fmt.Errorf("cassette: a request to a token service of over %d bytes", maxText)
		}
		if err != nil {
			x.forget()
			return nil, nil, err
		}
		x.setForm(data)
		out.Body = io.NopCloser(bytes.NewReader(data))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		out.ContentLength = int64(len(data))
		return x, out, nil
	}
	out.Body = x.watchBody(req.Body)
	if req.GetBody != nil {
		// net/http sends a request again when it finds a connection closed.
		out.GetBody = func() (io.ReadCloser, error) {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			return x.watchBody(body), nil
		}
	}
	return x, out, nil
}

// answered counts a write as done.
func (x *exchange) answered(status int) {
	var sent oci.Digest
	x.mu.Lock()
	if x.sent != nil {
		sent = x.sent.digest()
	}
	x.mu.Unlock()
	x.r.epochs.add(touches(&x.route, x.req.Method, x.req.URL.Query(), status, sent))
}

// content tells whether an answer's body is named by its digest, and so must stay
// as it is.
func (x *exchange) content(status int) bool {
	return (status == http.StatusOK || status == http.StatusPartialContent) &&
		(x.route.name == routeManifest || x.route.name == routeBlob || x.route.name == routeSigned)
}

func (x *exchange) newBodySink(resp *http.Response) *sink {
	content := x.content(resp.StatusCode)
	s := x.r.newSink("the answer's body of "+x.entry.Request.Method+" "+x.entry.Request.URL(), !content)
	if x.route.role == roleToken {
		s.skip = false // whoever only watches must know tokens too
	}
	if content {
		s.generated(resp.ContentLength)
		s.skip = s.skip || s.gen == nil && s.limit > 0 && resp.ContentLength > s.limit
		if d := oci.Digest(x.route.ref); d.Validate() == nil && d.Algorithm() != digest.SHA256 && resp.StatusCode == http.StatusOK {
			s.check = d.Algorithm().Hash()
		}
	}
	return s
}

// recordedBody is an answer's body while it is read.
type recordedBody struct {
	io.ReadCloser
	x *exchange
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.mu.Lock()
	if !b.x.done {
		b.x.body.write(p[:n])
	}
	b.x.mu.Unlock()
	if err == io.EOF {
		b.x.end(nil)
	} else if err != nil {
		b.x.end(err)
	}
	return n, err
}

func (b *recordedBody) Close() error {
	err := b.ReadCloser.Close()
	b.x.end(errClosedEarly)
	return err
}

// errClosedEarly says that who read the answer did not want all of it.
var errClosedEarly = errors.New("closed before its end")

// end writes the exchange down, once. cause is why the answer's body ended, if
// that was not its end.
func (x *exchange) end(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	x.done = true
	if err := x.complete(cause); err != nil {
		x.r.fail(err)
	}
	err := x.r.append(x)
	if err != nil {
		x.r.fail(err)
	}
	if x.told != nil {
		x.told(&x.entry)
	}
}

func (x *exchange) complete(cause error) error {
	e := &x.entry
	e.Time.Duration = max(time.Since(x.start), e.Time.FirstByte)
	var err error
	if x.sent != nil {
		if e.Request.Body, err = x.sent.finish(); err != nil {
			return err
		}
	}
	if x.body == nil {
		return nil
	}
	var rewrite func([]byte) string
	if x.route.role == roleToken && e.Response.Status == http.StatusOK {
		rewrite = func(body []byte) string {
			text, captures, ok := x.r.names.tokenBody(body, tokenUse(&e.Request, x.form))
			if !ok {
				return redactedPlaceholder
			}
			e.Captures = append(e.Captures, captures...)
			return text
		}
	}
	if x.route.role != roleToken && x.body.text && utf8.Valid(x.body.buf) {
		rewrite = func(body []byte) string {
			text, isSigned := x.r.names.text(x.req.URL, body)
			if isSigned {
				e.Captures = append(e.Captures, Capture{Var: "signed", In: "body"})
			}
			return text
		}
	}
	received := x.body.n
	if e.Response.Body, err = x.body.finish(rewrite); err != nil {
		return err
	}
	if cause == errClosedEarly && received == e.Response.Length {
		cause = nil // all was read but the sign that it was all
	}
	if cause != nil {
		e.Response.Body.Partial = true
		if cause != errClosedEarly {
			e.Response.Error = newFailure(x.req.Context(), cause, x.r.names.secrets)
		}
	}
	if x.r.opts.AllowWrongDigests {
		return nil
	}
	if x.body.check != nil && cause == nil {
		want := oci.Digest(x.route.ref)
		if got := digest.NewDigest(want.Algorithm(), x.body.check); got != want {
			return wrongContent(e, &oci.IntegrityError{What: "answer", Want: want, Got: got})
		}
	}
	return checkContent(e)
}

// forget drops an exchange that cannot be written down.
func (x *exchange) forget() {
	x.r.mu.Lock()
	defer x.r.mu.Unlock()
	delete(x.r.open, x)
}

// append writes the line.
func (r *recorder) append(x *exchange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open[x] {
		return nil
	}
	delete(r.open, x)
	if r.journal == nil || r.err != nil {
		return nil
	}
	x.entry.Seq, x.entry.Prev = r.seq+1, r.prev
	line, err := x.entry.encode()
	if err != nil {
		return err
	}
	if _, err := r.journal.Write(line); err != nil {
		return err
	}
	r.seq++
	r.prev = lineDigest(line)
	return nil
}

// keep gives a body its name.
func (r *recorder) keep(p *part, d oci.Digest) error {
	name := blobName(d)
	_, err := r.store.root.Lstat(name)
	if err == nil {
		p.drop()
		return nil
	}
	return p.keep(name, false)
}

// start begins the journal.
func (r *recorder) start() error {
	f, err := r.store.root.OpenFile(journalFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	r.journal = f
	return err
}

// finish ends what is still under way, and seals the recording after the
// interactions that were there before.
func (r *recorder) finish(ctx context.Context, before []*Interaction) error {
	r.mu.Lock()
	open := slices.Collect(maps.Keys(r.open))
	r.mu.Unlock()
	for _, x := range open {
		x.mu.Lock()
		answered := x.body != nil
		x.mu.Unlock()
		if answered {
			x.end(errClosedEarly)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.store == nil {
		return r.err
	}
	r.closed = true
	err := errors.Join(r.err, r.journal.Close())
	if err == nil {
		err = r.seal(ctx, before)
	}
	if err != nil {
		r.discard()
	}
	return err
}

func (r *recorder) seal(ctx context.Context, before []*Interaction) error {
	data, err := r.store.read(journalFile, maxJournal)
	if err != nil {
		return err
	}
	entries, rest, err := parseJournal(data)
	if err == nil && len(rest) > 0 {
		err = errors.New("the journal is cut off")
	}
	if err != nil {
		return err
	}
	if len(entries) == 0 && len(before) > 0 {
		return r.store.root.Remove(journalFile) // nothing was added
	}
	if len(entries) == 0 {
		return fmt.Errorf("cassette %s: %w: is the cassette in the way of the requests?", r.store.dir, ErrEmpty)
	}
	s := sealing{store: r.store, secrets: r.names.secrets, entries: slices.Concat(before, entries), seed: r.seed}
	return s.seal(ctx, r.opts.Origin, time.Now())
}

// ErrEmpty says that no request was made, so that there is no recording. Test for it
// with [errors.Is].
var ErrEmpty = errors.New("nothing was recorded")

// discard takes away what a recording that cannot be kept has written. A cassette
// that was there before stays.
func (r *recorder) discard() {
	r.store.uncreate()
	r.store.root.Remove(journalFile)
	for _, dir := range []string{shaDir, blobsDir} {
		r.store.root.Remove(dir) // if it is empty
	}
	if r.store.made {
		os.Remove(r.store.dir)
	}
}
