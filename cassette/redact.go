package cassette

import (
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
	// Patterns are looked for in URLs, headers and texts of up to 1 MiB.
	Patterns []*regexp.Regexp
	// Headers of answers go, and the values of these parameters of URLs.
	Headers, Query []string
}

// RedactResult is what [Redact] did.
type RedactResult struct {
	Changed int // interactions
	// Elided are bodies that are named by their digest, such as layers: nothing can be
	// taken out of them, so the digest is all that is kept.
	Elided int
}

// Redact makes a cassette of another one, without what it is not to hold. The
// directory that it makes it in must be empty or absent. Requests that had it in
// them match at a replay only if its Options.Secrets has it.
//
// Errors: [oci.ErrInvalid] for a secret that is too short to be found, for a pattern
// that takes away too much, and where from is no cassette; [oci.ErrIntegrity] where it
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
	x := &redacting{ctx: ctx, src: src, dst: dst, secrets: newSecrets(r.Secrets), headers: map[string]bool{}, patterns: r.Patterns}
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
		x.keepText(b, b.Text)
		return nil
	case b.file() == "" && b.Mode != BodyInline:
		return nil
	}
	r, err := x.src.openBody(b, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	scan := &scanner{secrets: x.secrets}
	if b.Size > maxText {
		if _, _, err := digestOf(x.ctx, r, scan); err != nil {
			return err
		}
		x.elide(b, scan.finish() != "")
		return nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if content || !utf8.Valid(data) {
		scan.Write(data)
		found := scan.finish() != ""
		for _, p := range slices.Concat(x.patterns, x.query) {
			found = found || p.Match(data)
		}
		x.elide(b, found)
		return nil
	}
	if before := x.changed; x.text(string(data)) == string(data) {
		x.changed = before
		return nil
	}
	return x.keepText(b, string(data))
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
