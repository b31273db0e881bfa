package cassette

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Redaction is what to take out of a cassette, besides what looks like a credential or
// is one of the environment.
type Redaction struct {
	// Secrets are values, which are found as they are, in base64, URL-encoded and as JSON
	// has them. Shorter ones than 8 bytes are not looked for.
	Secrets []string
	// Patterns are looked for in URLs, headers and bodies.
	Patterns []*regexp.Regexp
	// Headers of answers go, and the values of these parameters of URLs.
	Headers, Query []string
}

// RedactResult is what [Redact] did.
type RedactResult struct {
	Changed int // interactions
	// Elided are bodies that are named by their digest, such as layers, or have more than
	// 1 MiB: nothing can be taken out of them, so the digest is all that is kept.
	Elided int
}

// Redact makes a cassette of another one, without what it is not to hold. The
// directory that it makes it in must be empty or absent. Requests that had it in
// them match at a replay only if its Options.Secrets has it.
//
// Errors: [oci.ErrInvalid] for a secret that is too short to be found, for a pattern
// that takes away too much or is in the name of a host, and where from is no cassette; [oci.ErrIntegrity] where it
// is damaged; [*LeakError] for what cannot be taken out; the context's.
func Redact(ctx context.Context, from, to string, r Redaction) (RedactResult, error) {
	for _, secret := range r.Secrets {
		if len(secret) < leastSecret {
			return RedactResult{}, oci.Invalid("cassette: a secret of %d bytes is too short to be told from chance; use a pattern", len(secret))
		}
	}
	src, err := openStore(from)
	if err != nil {
		return RedactResult{}, oci.Invalid("cassette %s: %w", from, err)
	}
	defer src.close()
	t, err := src.load("")
	if err != nil {
		return RedactResult{}, err
	}
	dst, err := createStore(to)
	if err != nil {
		return RedactResult{}, err
	}
	defer dst.close()
	if dst.sealed() || dst.unsealed() {
		return RedactResult{}, dst.broken("there is a cassette already; choose an empty directory")
	}
	x := &redacting{ctx: ctx, src: src, dst: dst, secrets: newSecrets(r.Secrets), headers: map[string]bool{}, patterns: r.Patterns, found: map[oci.Digest]bool{}}
	x.secrets.environment()
	for _, h := range r.Headers {
		x.headers[http.CanonicalHeaderKey(h)] = true
	}
	for _, q := range r.Query {
		x.query = append(x.query, regexp.MustCompile(`(^|[?&])(`+regexp.QuoteMeta(url.QueryEscape(q))+`)=[^&>\s"\\]*`))
	}
	if err := x.all(t); err != nil {
		dst.uncreate()
		return RedactResult{}, err
	}
	return x.result, nil
}

type redacting struct {
	ctx      context.Context
	src, dst *store
	secrets  *secrets
	patterns []*regexp.Regexp
	query    []*regexp.Regexp
	headers  map[string]bool
	found    map[oci.Digest]bool // files, and whether what must go is in them
	result   RedactResult
	changed  bool // of the interaction at hand
}

func (x *redacting) all(t *tape) error {
	var entries []*Interaction
	for _, i := range t.entries {
		e := *i
		x.changed = false
		if err := x.interaction(&e); err != nil {
			return err
		}
		if x.changed {
			x.result.Changed++
		}
		if err := e.check(); err != nil {
			return oci.Invalid("cassette %s: interaction %d: what is left of it cannot be: %w", x.src.dir, e.Seq, err)
		}
		entries = append(entries, &e)
	}
	copied := map[oci.Digest]bool{}
	for _, e := range entries {
		for _, b := range []*Body{&e.Request.Body, &e.Response.Body} {
			if d := b.file(); d != "" && !copied[d] {
				copied[d] = true
				if err := x.copyFile(d); err != nil {
					return err
				}
			}
		}
	}
	s := sealing{store: x.dst, secrets: x.secrets, entries: entries}
	if seed, err := hex.DecodeString(t.manifest.Annotations[AnnotationSeed]); err == nil {
		copy(s.seed[:], seed)
	}
	created, err := time.Parse(time.RFC3339, t.manifest.Annotations[AnnotationCreated])
	if err != nil {
		created = time.Now()
	}
	return s.seal(x.ctx, t.manifest.Annotations[AnnotationOrigin], created)
}

// text takes out of a text what must not be in it.
func (x *redacting) text(s string) string {
	out := s
	for _, p := range x.patterns {
		out = p.ReplaceAllLiteralString(out, secretPlaceholder)
	}
	for _, p := range x.query {
		out = p.ReplaceAllString(out, "${1}${2}="+redactedPlaceholder)
	}
	out = x.secrets.redact(out)
	x.changed = x.changed || out != s
	return out
}

func (x *redacting) interaction(e *Interaction) error {
	q, a := &e.Request, &e.Response
	content := isContent(e)
	for _, p := range x.patterns {
		if p.MatchString(q.Host) {
			return oci.Invalid("cassette %s: interaction %d: the pattern %q is in the name of the host %s, which cannot be taken out", x.src.dir, e.Seq, p, q.Host)
		}
	}
	q.Path, q.Query, q.Auth = x.text(q.Path), x.text(q.Query), x.text(q.Auth)
	q.Header, a.Header = x.header(q.Header, false), x.header(a.Header, true)
	if a.Error != nil {
		f := *a.Error
		f.Text = x.text(f.Text)
		a.Error = &f
	}
	e.Captures = slices.Clone(e.Captures)
	for n := range e.Captures {
		e.Captures[n].Var = x.text(e.Captures[n].Var)
	}
	return errors.Join(x.body(&q.Body, content), x.body(&a.Body, content))
}

// isContent tells whether the bodies are named by their digest.
func isContent(e *Interaction) bool {
	u, err := url.Parse(e.Request.URL())
	if err != nil {
		return false
	}
	switch routeOf(u).name {
	case routeManifest, routeBlob, routeSigned, routeUpload, routeStart:
		return e.Response.Status < 300
	}
	return false
}

func (x *redacting) header(h http.Header, answer bool) http.Header {
	out := http.Header{}
	for name, values := range h {
		if answer && x.headers[name] {
			x.changed = true
			continue
		}
		for _, v := range values {
			out[name] = append(out[name], x.text(v))
		}
	}
	if len(out) == 0 && h == nil {
		return nil
	}
	return out
}

func (x *redacting) body(b *Body, content bool) error {
	switch {
	case b.Mode == BodyInline && !content:
		return x.keepText(b, b.Text)
	case b.Mode == BodyInline:
		found, err := x.finds(func() (io.ReadCloser, error) { return x.src.openBody(b, nil) })
		x.elide(b, found)
		return err
	case b.file() == "":
		return nil
	case content, b.Mode == BodySlice, b.Size > maxText:
		return x.elideFile(b)
	}
	r, err := x.src.openBody(b, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	switch {
	case err != nil:
		return err
	case !utf8.Valid(data):
		return x.elideFile(b)
	}
	return x.keepText(b, string(data))
}

// elideFile keeps the digest alone of a body if what must go is anywhere in the file:
// another body may be the part of it that has it.
func (x *redacting) elideFile(b *Body) error {
	d := b.file()
	found, known := x.found[d]
	if !known {
		var err error
		found, err = x.finds(func() (io.ReadCloser, error) {
			return x.src.openBody(&Body{Mode: BodyBlob, Digest: d, Size: x.src.sizes[d]}, nil)
		})
		if err != nil {
			return err
		}
		x.found[d] = found
	}
	x.elide(b, found)
	return nil
}

// finds looks for what must go in content of any size.
func (x *redacting) finds(open func() (io.ReadCloser, error)) (bool, error) {
	r, err := open()
	if err != nil {
		return false, err
	}
	scan := &scanner{secrets: x.secrets}
	_, _, err = digestOf(x.ctx, r, scan)
	if err = errors.Join(err, r.Close()); err != nil {
		return false, err
	}
	found := scan.finish() != ""
	for _, p := range slices.Concat(x.patterns, x.query) {
		if found {
			break
		}
		if r, err = open(); err != nil {
			return false, err
		}
		found = p.MatchReader(bufio.NewReader(r))
		if err := errors.Join(r.Close(), x.ctx.Err()); err != nil {
			return false, err
		}
	}
	return found, nil
}

func (x *redacting) elide(b *Body, found bool) {
	if !found {
		return
	}
	*b = Body{Mode: BodyElided, Digest: b.Digest, Size: b.Size, Partial: b.Partial, Redacted: b.Redacted}
	x.changed = true
	x.result.Elided++
}

// keepText puts what is left of a text in its place.
func (x *redacting) keepText(b *Body, text string) error {
	left := x.text(text)
	if left == text {
		return nil
	}
	*b = Body{Mode: BodyInline, Digest: digest.FromString(left), Size: int64(len(left)), Text: left, Partial: b.Partial, Redacted: true}
	if left == "" {
		*b = Body{Mode: BodyEmpty, Partial: b.Partial}
		return nil
	}
	if len(left) <= maxInline {
		return nil
	}
	b.Mode, b.Text = BodyBlob, ""
	return x.dst.write(blobName(b.Digest), []byte(left))
}

// copyFile copies a body that stays as it is.
func (x *redacting) copyFile(d oci.Digest) error {
	if _, err := x.dst.root.Lstat(blobName(d)); err == nil {
		return nil
	}
	f, _, err := x.src.open(blobName(d))
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := x.dst.create()
	if err != nil {
		return err
	}
	got, _, err := digestOf(x.ctx, f, p)
	if err == nil && got != d {
		err = x.src.broken("%w", &oci.IntegrityError{What: "body", Want: d, Got: got})
	}
	if err != nil {
		p.drop()
		return err
	}
	return p.keep(blobName(d), false)
}
