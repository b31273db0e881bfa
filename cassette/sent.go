package cassette

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// sentBody watches the body of a request while it is sent.
type sentBody struct {
	io.ReadCloser
	mu     sync.Mutex
	length int64
	sink   *sink
	ended  bool // its end was seen
	done   bool // no one looks any more
}

func (x *exchange) watchBody(body io.ReadCloser) *sentBody {
	text := isText(x.req, x.route)
	s := x.r.newSink("the body of "+x.entry.Request.Method+" "+x.entry.Request.URL(), text)
	s.digestOnly = !x.r.opts.StoreRequestBodies
	s.skip = s.skip || s.digestOnly && !text
	b := &sentBody{ReadCloser: body, length: x.req.ContentLength, sink: s}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sent != nil {
		x.sent.abandon()
	}
	x.sent = b
	return b
}

// isText tells whether the body of a request may hold secrets that have to come
// out of it. They do on both sides, so that a replay with others matches.
func isText(req *http.Request, r route) bool {
	return r.role != roleRegistry && strings.Contains(req.Header.Get("Content-Type"), "json")
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done {
		b.sink.write(p[:n])
		b.ended = b.ended || err == io.EOF
	}
	return n, err
}

// digest returns that of a body that was sent whole.
func (b *sentBody) digest() oci.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole() {
		return ""
	}
	return digest.NewDigest(digest.SHA256, b.sink.hash)
}

func (b *sentBody) whole() bool { return b.ended || b.length > 0 && b.sink.n == b.length }

func (b *sentBody) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	b.sink.drop()
}

func (b *sentBody) finish() (Body, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	body, err := b.sink.finish(nil)
	body.Partial = !b.whole()
	return body, err
}

func (x *exchange) setForm(data []byte) {
	text, form := x.r.names.tokenForm(data)
	x.form = form
	x.entry.Request.Body = formBody(text)
}

// formBody is how the body of a request to a token service is kept.
func formBody(text string) Body {
	text = fmt.Sprintf("%.*s", maxInline/4, text)
	return Body{Mode: BodyInline, Digest: digest.FromString(text), Size: int64(len(text)), Text: text, Redacted: true}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
