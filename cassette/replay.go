package cassette

import (
	"context"
	"hash"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// player answers requests from a cassette.
type player struct {
	opts      Options
	store     *store
	tape      *tape
	elsewhere *os.Root // bodies of which the cassette has only the digest
	names     *names
	epochs    *epochs

	mu     sync.Mutex
	index  *index
	hosts  map[string]string // the recorded for the live, of this machine
	misses []error
	minted int
	wholes map[oci.Digest]*Body        // of blobs; nil until one is needed
	sound  map[oci.Digest]func() error // whether they are what they should be
	tokens map[string]*http.Request    // what each token that was made up was asked for with
}

// What a replay makes up in place of what it does not have.
const (
	mintedSigned = "cassette-signed"
	mintedUpload = "cassette-upload-"
	mintedToken  = "cassette-token-"
)

func newPlayer(opts Options, s *store, t *tape, n *names) (*player, error) {
	p := &player{
		opts: opts, store: s, tape: t, names: n, index: newIndex(t.entries, opts.Order, opts.Repeat),
		epochs: newEpochs(), hosts: map[string]string{}, tokens: map[string]*http.Request{}, sound: map[oci.Digest]func() error{},
	}
	for _, e := range t.entries {
		n.last = max(n.last, e.opens(), sessionIn(e.Request.Path))
	}
	if opts.Blobs != "" {
		root, err := os.OpenRoot(opts.Blobs)
		if err != nil {
			return nil, oci.Invalid("cassette %s: bodies kept elsewhere: %w", s.dir, err)
		}
		p.elsewhere = root
	}
	return p, nil
}

func (p *player) close() error {
	if p.elsewhere == nil {
		return nil
	}
	return p.elsewhere.Close()
}

// roundTrip answers a request, or fails with a [*MissError].
func (p *player) roundTrip(req *http.Request) (*http.Response, error) {
	defer closeBody(req)
	began := time.Now()
	l, it, err := p.match(req, true)
	if err != nil {
		return nil, err
	}
	if it == nil {
		it = p.reread(l)
	}
	if it == nil {
		if err := p.hold(req.Context()); err != nil {
			return nil, err
		}
		miss := p.miss(l)
		p.note(miss)
		return nil, miss
	}
	return p.answer(req, l, it, began)
}

// holdTime is for how long a miss is held back.
const holdTime = time.Second

// hold keeps a miss back for a moment where the recording has failures. A program that
// does several things at once gives the others up when one fails, and how far they have
// got by then is chance. It may be about to give up this request, which then needs no
// answer: the error is the context's.
func (p *player) hold(ctx context.Context) error {
	fails := func(it *item) bool {
		return it.Response.Error != nil || it.Response.Status >= http.StatusBadRequest && it.Response.Status != http.StatusUnauthorized
	}
	if p.opts.Order == OrderStrict || !slices.ContainsFunc(p.index.items, fails) {
		return nil
	}
	t := time.NewTimer(holdTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *player) note(miss error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.misses = append(p.misses, miss)
}

// match finds what was recorded for a request, reading its body as a server would;
// where nothing can match, only if that is asked for.
func (p *player) match(req *http.Request, readAlways bool) (*live, *item, error) {
	q, up := p.names.request(req)
	l := &live{request: q}
	r := routeOf(req.URL)
	l.epoch = p.epochs.of(dependsOn(&r, req.URL.Query()))
	p.mu.Lock()
	p.rename(&l.request)
	l.key = l.request.key()
	e := p.edge(up, l.key)
	cuts, stop := e.reading()
	p.mu.Unlock()
	if e == nil && !readAlways {
		return l, nil, nil
	}
	if err := p.readBody(req, l, cuts, stop); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.index.take(e, l)
	if up == nil && p.opts.Order != OrderStrict && (it == nil || it.Request.Role == roleToken && it.gaveUp()) {
		if again := p.index.logins.again(&l.request); again != nil {
			it = again
			p.index.logins.took(it)
		}
	}
	if it != nil && up != nil {
		up.node = e.to
	}
	return l, it, nil
}

func (p *player) edge(up *upload, key string) *edge {
	at := p.index.plain
	if up != nil {
		if up.node == nil {
			up.node = p.index.orphan
		}
		at = up.node
	}
	return at.edges[key]
}

// reading returns the sizes at which request bodies of this key were cut off, and
// whether there is no use in reading further.
func (e *edge) reading() (cuts []int64, stop bool) {
	if e == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(e.cuts)), e.unread == 0 && len(e.cuts) > 0
}

// readBody reads and hashes the body. It stops where only answers are left that
// came before the body's end.
func (p *player) readBody(req *http.Request, l *live, cuts []int64, stop bool) error {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	if l.request.Role == roleToken {
		data, err := io.ReadAll(io.LimitReader(req.Body, maxText))
		if err != nil {
			return err
		}
		text, _ := p.names.tokenForm(data)
		l.request.Body = formBody(text)
		return nil
	}
	var text []byte
	redactable := isText(req, routeOf(req.URL))
	h := digest.SHA256.Hash()
	l.prefixes = map[int64]oci.Digest{}
	buf := make([]byte, 32<<10)
	var n int64
	for {
		for len(cuts) > 0 && cuts[0] == n {
			l.prefixes[n] = sum(h)
			cuts = cuts[1:]
		}
		if stop && len(cuts) == 0 {
			break
		}
		part := buf
		if len(cuts) > 0 {
			part = buf[:min(int64(len(buf)), cuts[0]-n)]
		}
		m, err := req.Body.Read(part)
		h.Write(part[:m])
		n += int64(m)
		if redactable && n <= maxText {
			text = append(text, part[:m]...)
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = req.Context().Err()
		}
		if err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	l.prefixes[n] = sum(h)
	l.request.Body = Body{Mode: BodyElided, Digest: sum(h), Size: n}
	if redactable && n <= maxText && utf8.Valid(text) {
		kept := p.names.secrets.redact(string(text))
		l.request.Body = Body{Mode: BodyElided, Digest: digest.FromString(kept), Size: int64(len(kept))}
	}
	return nil
}

func sum(h hash.Hash) oci.Digest { return digest.NewDigest(digest.SHA256, h) }

// rename takes a host of this machine for the one that it was when the recording
// was made, since ports differ from run to run. Which one is seen from what is
// asked of it.
func (p *player) rename(q *Request) {
	if !isLoopback(q.Host) {
		return
	}
	if recorded, ok := p.hosts[q.Host]; ok {
		q.Host = recorded
		return
	}
	liveHost := q.Host
	taken := map[string]bool{}
	for _, recorded := range p.hosts {
		taken[recorded] = true
	}
	tried := map[string]bool{}
	for _, it := range p.index.items {
		host := it.Request.Host
		if tried[host] || taken[host] || !isLoopback(host) {
			continue
		}
		tried[host] = true
		q.Host = host
		if p.index.plain.edges[q.key()] != nil {
			p.hosts[liveHost] = host
			return
		}
	}
	q.Host = liveHost
}

func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// answer makes the response of an interaction.
func (p *player) answer(req *http.Request, l *live, it *item, began time.Time) (*http.Response, error) {
	ctx := req.Context()
	a := &it.Response
	if it.gaveUp() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := p.wait(ctx, began, it.Time.FirstByte); err != nil {
		return nil, err
	}
	p.answered(req, l, it)
	if a.Status == 0 {
		return nil, a.Error.err()
	}
	body, err := p.open(it)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		Status:     strconv.Itoa(a.Status) + " " + http.StatusText(a.Status),
		StatusCode: a.Status, Proto: a.Proto, Request: req, ContentLength: a.Length,
		Header: p.header(req, l, it),
	}
	resp.ProtoMajor, resp.ProtoMinor, _ = http.ParseHTTPVersion(a.Proto)
	if use := it.brings("body"); use != "" {
		text, err := p.fill(req, body, use)
		if err != nil {
			return nil, err
		}
		body = io.NopCloser(strings.NewReader(text))
		if !a.Body.Partial {
			setLength(resp, int64(len(text)))
		}
	} else if a.Body.Redacted && !a.Body.Partial {
		setLength(resp, a.Body.Size)
	}
	if a.Body.Mode == BodyEmpty && a.Error == nil && !a.Body.Partial {
		resp.Body = http.NoBody
		return resp, nil
	}
	resp.Body = &replayedBody{ReadCloser: body, p: p, ctx: ctx, it: it, began: began}
	return resp, nil
}

func setLength(resp *http.Response, n int64) {
	if resp.ContentLength >= 0 {
		resp.ContentLength = n
	}
	if resp.Header.Get("Content-Length") != "" {
		resp.Header.Set("Content-Length", strconv.FormatInt(n, 10))
	}
}

// answered counts a write as done.
func (p *player) answered(req *http.Request, l *live, it *item) {
	r := routeOf(req.URL)
	p.epochs.add(touches(&r, l.request.Method, req.URL.Query(), it.Response.Status, l.request.Body.Digest))
}

// header fills in what servers make up.
func (p *player) header(req *http.Request, l *live, it *item) http.Header {
	session := ""
	if n := it.opens(); n > 0 || sessionIn(it.Request.Path) > 0 {
		session = p.session(req, l)
	}
	p.mu.Lock()
	hosts := maps.Clone(p.hosts)
	p.mu.Unlock()
	h := http.Header{}
	for name, values := range it.Response.Header {
		for _, v := range values {
			v = uploadForm().ReplaceAllLiteralString(v, session)
			v = strings.ReplaceAll(v, signedPlaceholder, mintedSigned)
			for live, recorded := range hosts {
				if live != recorded {
					v = strings.ReplaceAll(v, recorded, live)
				}
			}
			h[name] = append(h[name], v)
		}
	}
	return h
}

// session returns the id of the request's upload session, or of a new one.
func (p *player) session(req *http.Request, l *live) string {
	if r := routeOf(req.URL); r.name == routeUpload {
		return r.ref
	}
	p.mu.Lock()
	p.minted++
	id := mintedUpload + strconv.Itoa(p.minted)
	at := p.index.opened(l.key)
	p.mu.Unlock()
	p.names.mu.Lock()
	defer p.names.mu.Unlock()
	p.names.last++
	p.names.uploads[id] = &upload{n: p.names.last, node: at, minted: true}
	return id
}

// brings returns what an answer brings in a place.
func (i *Interaction) brings(in string) string {
	for _, c := range i.Captures {
		if c.In == in {
			return c.Var
		}
	}
	return ""
}

// fill makes up what was taken out of an answer's body: a signature, or a token, which
// is never the same one twice, since a client that asks again wants another.
func (p *player) fill(req *http.Request, body io.ReadCloser, use string) (string, error) {
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, 2*maxText)) // what stands for a secret may be longer
	if err != nil {
		return "", err
	}
	if use == "signed" {
		return strings.ReplaceAll(string(text), signedPlaceholder, mintedSigned), nil
	}
	p.mu.Lock()
	p.minted++
	value := mintedToken + strconv.Itoa(p.minted)
	p.tokens[value] = req
	p.mu.Unlock()
	p.names.mu.Lock()
	p.names.tokens[value] = use
	p.names.mu.Unlock()
	return strings.ReplaceAll(string(text), tokenPlaceholder, value), nil
}
