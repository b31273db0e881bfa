package cassette

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Generated is content that is made from a seed, so that a recording of gigabytes
// takes some bytes. The algorithm is ChaCha8, as math/rand/v2 has it.
type Generated struct {
	Seed [32]byte
	Size int64 // in bytes
}

// Open returns the content.
func (g Generated) Open() io.Reader { return io.LimitReader(rand.NewChaCha8(g.Seed), g.Size) }

// maxText is how much of a text is held to be redacted as a whole.
const maxText = 1 << 20

// sink takes in a body while it passes: it hashes it, and keeps it in one of the
// ways there are.
type sink struct {
	r     *recorder
	where string
	hash  hash.Hash
	// check is a second hash for content that is named by another algorithm.
	check hash.Hash
	n     int64

	text  bool // hold it in buf, since secrets may have to come out of it
	buf   []byte
	part  *part
	scan  *scanner
	limit int64 // above which only the digest is kept
	skip  bool  // keep only the digest
	// digestOnly keeps only the digest too, of a text without its secrets.
	digestOnly bool
	gen        *generator
	err        error
}

func (r *recorder) newSink(where string, text bool) *sink {
	return &sink{r: r, where: where, hash: digest.SHA256.Hash(), text: text, limit: r.opts.ElideOver, skip: r.store == nil}
}

// generated has the body compared with what it may be made of.
func (s *sink) generated(size int64) {
	for _, g := range s.r.opts.Generated {
		if g.Size == size && !s.skip {
			s.gen = &generator{Generated: g, content: g.Open()}
		}
	}
}

// generator compares a body with generated content as it passes.
type generator struct {
	Generated
	content io.Reader
	buf     []byte
}

func (g *generator) matches(p []byte) bool {
	g.buf = append(g.buf[:0], p...)
	if _, err := io.ReadFull(g.content, g.buf); err != nil {
		return false
	}
	return bytes.Equal(g.buf, p)
}

func (s *sink) write(p []byte) {
	if len(p) == 0 {
		return
	}
	before := s.n
	s.hash.Write(p)
	if s.check != nil {
		s.check.Write(p)
	}
	s.n += int64(len(p))
	switch {
	case s.skip || s.err != nil:
	case s.gen != nil:
		if !s.gen.matches(p) {
			g := s.gen.Generated
			s.gen = nil
			g.Size = before
			if _, s.err = io.CopyBuffer(writerFunc(s.store), g.Open(), make([]byte, 32<<10)); s.err == nil {
				_, s.err = s.store(p)
			}
		}
	case s.text && len(s.buf)+len(p) <= maxText:
		s.buf = append(s.buf, p...)
	default:
		if s.text {
			s.text = false
			_, s.err = s.store(s.buf)
			s.buf = nil
		}
		if s.err == nil {
			_, s.err = s.store(p)
		}
	}
	if s.limit > 0 && s.n > s.limit && s.gen == nil && !s.text {
		s.skip = true
		s.drop()
	}
	if s.err != nil {
		s.drop()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// store writes to a file what was looked at first.
func (s *sink) store(p []byte) (int, error) {
	if s.r.store == nil || s.digestOnly {
		s.skip = true
		return len(p), nil
	}
	if s.part == nil {
		var err error
		if s.part, err = s.r.store.create(); err != nil {
			return 0, err
		}
		s.scan = &scanner{secrets: s.r.names.secrets}
	}
	s.scan.Write(p)
	if s.scan.found != "" {
		return 0, &LeakError{Where: s.where, What: s.scan.found}
	}
	return s.part.Write(p)
}

func (s *sink) drop() {
	if s.part != nil {
		s.part.drop()
	}
	s.part, s.buf, s.scan = nil, nil, nil
}

// finish returns how the body is kept. rewrite says what to write of a text in its
// place; nil is [secrets.redact].
func (s *sink) finish(rewrite func([]byte) string) (Body, error) {
	if s.err != nil {
		return Body{}, s.err
	}
	b := Body{Digest: digest.NewDigest(digest.SHA256, s.hash), Size: s.n}
	switch {
	case s.n == 0:
		return Body{Mode: BodyEmpty}, nil
	case s.skip:
		b.Mode = BodyElided
		return b, nil
	case s.gen != nil:
		b.Mode, b.Seed = BodyGenerated, hex.EncodeToString(s.gen.Seed[:])
		return b, nil
	case s.text && (utf8.Valid(s.buf) || rewrite != nil):
		return s.finishText(rewrite)
	case s.text:
		if _, err := s.store(s.buf); err != nil {
			s.drop()
			return Body{}, err
		}
	}
	if s.skip {
		b.Mode = BodyElided
		return b, nil
	}
	b.Mode = BodyBlob
	if what := s.scan.finish(); what != "" {
		s.drop()
		return Body{}, &LeakError{Where: s.where, What: what}
	}
	return b, s.r.keep(s.part, b.Digest)
}

func (s *sink) finishText(rewrite func([]byte) string) (Body, error) {
	var text string
	if rewrite != nil {
		text = rewrite(s.buf)
	} else {
		text = s.r.names.secrets.redact(string(s.buf))
	}
	b := Body{Mode: BodyInline, Digest: digest.FromString(text), Size: int64(len(text)), Text: text, Redacted: text != string(s.buf)}
	if len(text) <= maxInline && !s.digestOnly {
		return b, nil
	}
	b.Mode, b.Text = BodyBlob, ""
	if s.r.store == nil || s.digestOnly {
		b.Mode = BodyElided
		return b, nil
	}
	if _, err := s.store([]byte(text)); err != nil {
		s.drop()
		return Body{}, err
	}
	return b, s.r.keep(s.part, b.Digest)
}

// openBody opens a body, which is checked while it is read. elsewhere has those of
// which only the digest is kept; it may be nil.
func (s *store) openBody(b *Body, elsewhere *os.Root) (io.ReadCloser, error) {
	content, err := s.content(b, elsewhere)
	if err != nil || b.Mode == BodyEmpty {
		return content, err
	}
	return &checkedBody{ReadCloser: content, hash: digest.SHA256.Hash(), want: b.Digest, size: b.Size, what: "cassette " + s.dir + ": body"}, nil
}

// section is a body that can be read from anywhere.
type section struct {
	*io.SectionReader
	io.Closer
}

// content opens a body without checking it.
func (s *store) content(b *Body, elsewhere *os.Root) (io.ReadCloser, error) {
	switch b.Mode {
	case BodyEmpty:
		return http.NoBody, nil
	case BodyInline:
		return section{io.NewSectionReader(strings.NewReader(b.Text), 0, b.Size), io.NopCloser(nil)}, nil
	case BodyGenerated:
		var seed [32]byte
		if _, err := hex.Decode(seed[:], []byte(b.Seed)); err != nil {
			return nil, s.broken("%w", err)
		}
		return io.NopCloser(Generated{Seed: seed, Size: b.Size}.Open()), nil
	case BodyBlob, BodySlice:
		f, size, err := s.open(blobName(b.file()))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, s.broken("the body %s is missing: %w", b.file(), oci.ErrIntegrity)
		}
		if err != nil {
			return nil, err
		}
		want := max(s.sizes[b.file()], b.Offset+b.Size)
		if size < want || size > want && (b.Mode == BodyBlob || s.sizes != nil) {
			f.Close()
			return nil, s.broken("%w", &oci.IntegrityError{What: "body", Want: b.file(), WantSize: want, GotSize: size})
		}
		return section{io.NewSectionReader(f, b.Offset, b.Size), f}, nil
	case BodyElided:
		if elsewhere == nil {
			return nil, s.broken("only the digest is kept of the body %s of %d bytes: Options.Blobs must name an image layout that has it", b.Digest, b.Size)
		}
		other := &store{dir: elsewhere.Name(), root: elsewhere}
		f, size, err := other.open(blobName(b.Digest))
		if err != nil {
			return nil, fmt.Errorf("cassette %s: a body that is kept elsewhere: %w", s.dir, err)
		}
		if size < b.Size {
			f.Close()
			return nil, other.broken("%w", &oci.IntegrityError{What: "body", Want: b.Digest, WantSize: b.Size, GotSize: size})
		}
		return section{io.NewSectionReader(f, 0, b.Size), f}, nil
	}
	return nil, s.broken("a body is kept as %q", b.Mode)
}

// checkedBody gives away its last byte only when the digest of all of them is
// right, so that no reader takes the wrong content for the right one, not even
// one that does not wait for the end.
type checkedBody struct {
	io.ReadCloser
	hash hash.Hash
	want oci.Digest
	size int64
	n    int64
	what string
	err  error
}

func (b *checkedBody) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	b.n += int64(n)
	if b.n >= b.size || err == io.EOF {
		b.err = io.EOF
		if got := digest.NewDigest(digest.SHA256, b.hash); got != b.want {
			b.err = &oci.IntegrityError{What: b.what, Want: b.want, Got: got}
			return 0, b.err
		}
		if n > 0 {
			return n, nil
		}
		return 0, io.EOF
	}
	b.err = err
	return n, err
}

// digestOf reads all and returns the digest and the number of bytes.
func digestOf(ctx context.Context, r io.Reader, also io.Writer) (oci.Digest, int64, error) {
	h := digest.SHA256.Hash()
	w := io.Writer(h)
	if also != nil {
		w = io.MultiWriter(h, also)
	}
	buf := make([]byte, 64<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return "", n, err
		}
		m, err := r.Read(buf)
		w.Write(buf[:m])
		n += int64(m)
		if err == io.EOF {
			return digest.NewDigest(digest.SHA256, h), n, nil
		}
		if err != nil {
			return "", n, err
		}
	}
}
