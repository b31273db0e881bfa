package cassette

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// reads are the requests that read one blob from one place. In how many pieces a
// client reads may depend on how far away it finds the registry, and a replay is
// nearer than the network was. So a blob of which the cassette has all bytes may be
// read in other pieces, as long as that takes no more bytes than were read then.
type reads struct {
	items []*item
	left  int64 // bytes that were read then and have not been now
	loose bool  // it was read in other pieces
}

func (x *index) addRead(it *item) {
	if !it.Request.readsBlob() {
		return
	}
	key := it.Request.keyWithout("Range")
	r := x.reads[key]
	if r == nil {
		r = &reads{}
		x.reads[key] = r
	}
	r.items = append(r.items, it)
	if it.isContent() {
		r.left += it.Response.Body.Size
	}
	it.reads = r
}

func (r *Request) readsBlob() bool {
	return r.Method == http.MethodGet && (r.Route == routeBlob || r.Route == routeSigned) && r.Body.Mode == BodyEmpty
}

func (i *Interaction) isContent() bool {
	return i.Response.Status == http.StatusOK || i.Response.Status == http.StatusPartialContent
}

// took counts an answer that was given as it was recorded. A nil r has none.
func (r *reads) took(it *item) {
	if r != nil && it.isContent() {
		r.left -= it.Response.Body.Size
	}
}

// excused tells whether answers need not have been asked for, since the blob was read
// in other pieces instead.
func (r *reads) excused() bool { return r != nil && r.loose && r.left <= 0 }

func (r *reads) content() *item {
	for _, it := range r.items {
		if it.isContent() {
			return it
		}
	}
	return nil
}

// redirect returns what was answered in place of content, such as where that is. How
// often it is asked for depends on the number of pieces.
func (r *reads) redirect(recorded bool) *item {
	for _, it := range r.items {
		if !it.used {
			return it
		}
	}
	if recorded && !r.loose {
		return nil
	}
	return r.items[len(r.items)-1]
}

// reread returns the answer to a read of a part of a blob that was read in other
// parts, or nil.
func (p *player) reread(l *live) *item {
	if p.opts.Order == OrderStrict || !l.request.readsBlob() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.index.reads[l.request.keyWithout("Range")]
	if r == nil {
		return nil
	}
	content := r.content()
	if content == nil {
		it := r.redirect(p.index.plain.edges[l.key] != nil)
		if it != nil {
			it.used, r.loose = true, true
		}
		return it
	}
	whole := p.whole(l.request.blob())
	if whole == nil {
		return nil
	}
	first, n, ok := l.request.span(whole.Size)
	ignored := content.Response.Status == http.StatusOK && content.Request.Header.Get("Range") != ""
	if ignored {
		first, n = 0, whole.Size // as the server did
	}
	if !ok || n > r.left {
		return nil
	}
	r.left, r.loose = r.left-n, true
	return content.part(whole, first, n, l.request.Header.Get("Range") != "" && !ignored)
}

// blob returns the digest in the path.
func (r *Request) blob() oci.Digest {
	u, err := url.Parse(r.URL())
	if err != nil {
		return ""
	}
	return oci.Digest(routeOf(u).ref)
}

// span returns which bytes of so many are asked for.
func (r *Request) span(size int64) (first, n int64, ok bool) {
	text := r.Header.Get("Range")
	if text == "" {
		return 0, size, true
	}
	from, to, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	first, err := strconv.ParseInt(from, 10, 64)
	if !ok || err != nil || first < 0 || first >= size {
		return 0, 0, false
	}
	if to == "" {
		return first, size - first, true
	}
	last, err := strconv.ParseInt(to, 10, 64)
	if err != nil || last < first {
		return 0, 0, false
	}
	return first, min(last, size-1) - first + 1, true
}

// part is the answer with other bytes of the blob.
func (it *item) part(whole *Body, first, n int64, ranged bool) *item {
	i := *it.Interaction
	a := &i.Response
	a.Error = nil
	if a.Length >= 0 {
		a.Length = n
	}
	a.Body = Body{Mode: BodySlice, Offset: first, Size: n}
	if a.Header = a.Header.Clone(); a.Header == nil {
		a.Header = http.Header{}
	}
	a.Header.Del("Content-Range")
	a.Status = http.StatusOK
	if ranged {
		a.Status = http.StatusPartialContent
		a.Header.Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+strconv.FormatInt(first+n-1, 10)+"/"+strconv.FormatInt(whole.Size, 10))
	}
	if a.Header.Get("Content-Length") != "" {
		a.Header.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	return &item{Interaction: &i, place: it.place, used: true, whole: whole}
}

// whole returns how a blob is kept of which there are all bytes, or nil.
func (p *player) whole(d oci.Digest) *Body {
	if p.wholes == nil {
		p.wholes = p.find().bodies
	}
	return p.wholes[d]
}

// open opens the body of an answer. What was read otherwise has no digest to check it
// by, so all that it is a part of is checked, once.
func (p *player) open(it *item) (io.ReadCloser, error) {
	if it.whole == nil {
		return p.store.openBody(&it.Response.Body, p.elsewhere)
	}
	p.mu.Lock()
	sound := p.sound[it.whole.Digest]
	if sound == nil {
		sound = sync.OnceValue(func() error {
			body, err := p.store.openBody(it.whole, p.elsewhere)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			return err
		})
		p.sound[it.whole.Digest] = sound
	}
	p.mu.Unlock()
	if err := sound(); err != nil {
		return nil, err
	}
	body, err := p.store.content(it.whole, p.elsewhere)
	if err != nil {
		return nil, err
	}
	b := &it.Response.Body
	if at, ok := body.(io.Seeker); ok {
		_, err = at.Seek(b.Offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, body, b.Offset)
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, b.Size), body}, nil
}
