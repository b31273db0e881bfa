package cassette

import (
	"context"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Summary is what a cassette holds.
type Summary struct {
	Digest       oci.Digest // to pin it by
	Interactions int
	Bodies       int   // files
	Size         int64 // of the bodies, in bytes
	Elided       int   // bodies of which only the digest is there
	Annotations  map[string]string
}

// Verify checks all of a cassette without a network: its digest, if it is pinned;
// the chain of its interactions; each body; that the digests in what was recorded
// agree; that nothing in it looks like a secret, or is one of the environment; and
// that no file is there that nothing names. Of the options it looks at Pin, Blobs,
// Secrets and AllowWrongDigests. Bodies that are kept elsewhere are checked if
// Blobs says where.
//
// Errors: [oci.ErrInvalid], with [oci.ErrIntegrity] for what was changed;
// [*LeakError]; the context's.
func Verify(ctx context.Context, dir string, opts Options) (Summary, error) {
	s, err := openStore(dir)
	if err != nil {
		return Summary{}, oci.Invalid("cassette %s: %w", dir, err)
	}
	defer s.close()
	t, err := s.load(opts.Pin)
	if err != nil {
		return Summary{}, err
	}
	sum := Summary{Digest: t.descriptor.Digest, Interactions: len(t.entries), Bodies: len(t.blobs), Annotations: t.manifest.Annotations}
	if err := s.verifyFiles(t); err != nil {
		return Summary{}, err
	}
	known := newSecrets(opts.Secrets)
	known.environment()
	for _, d := range slices.Sorted(maps.Keys(t.blobs)) {
		if err := s.verifyBlob(ctx, d, t.blobs[d], known); err != nil {
			return Summary{}, err
		}
		sum.Size += t.blobs[d]
	}
	for _, d := range []oci.Descriptor{t.descriptor, t.manifest.Layers[0]} {
		if err := s.verifyBlob(ctx, d.Digest, d.Size, known); err != nil {
			return Summary{}, err
		}
	}
	var elsewhere *os.Root
	if opts.Blobs != "" {
		if elsewhere, err = os.OpenRoot(opts.Blobs); err != nil {
			return Summary{}, oci.Invalid("cassette %s: bodies kept elsewhere: %w", dir, err)
		}
		defer elsewhere.Close()
	}
	for _, e := range t.entries {
		if err := checkContent(e); err != nil && !opts.AllowWrongDigests {
			return Summary{}, s.broken("interaction %d: %w", e.Seq, err)
		}
		for _, b := range []*Body{&e.Request.Body, &e.Response.Body} {
			if err := s.verifyBody(ctx, e, b, elsewhere, opts); err != nil {
				return Summary{}, err
			}
		}
		if e.Response.Body.Mode == BodyElided {
			sum.Elided++
		}
	}
	return sum, nil
}

func (s *store) verifyBlob(ctx context.Context, d oci.Digest, size int64, known *secrets) error {
	f, n, err := s.open(blobName(d))
	if err != nil {
		return s.broken("body %s: %w", d, err)
	}
	defer f.Close()
	if n != size {
		return s.broken("%w", &oci.IntegrityError{What: "body", Want: d, WantSize: size, GotSize: n})
	}
	scan := &scanner{secrets: known}
	got, _, err := digestOf(ctx, f, scan)
	if err != nil {
		return err
	}
	if got != d {
		return s.broken("%w", &oci.IntegrityError{What: "body", Want: d, Got: got})
	}
	if what := scan.finish(); what != "" {
		return &LeakError{Where: "cassette " + s.dir + ": " + string(d), What: what}
	}
	return nil
}

// verifyBody checks what the digest of its file does not say.
func (s *store) verifyBody(ctx context.Context, e *Interaction, b *Body, elsewhere *os.Root, opts Options) error {
	if b.Mode == BodyElided && (elsewhere == nil || b == &e.Request.Body) {
		return nil
	}
	if b.Mode == BodySlice || b.Mode == BodyGenerated || b.Mode == BodyElided {
		r, err := s.openBody(b, elsewhere)
		if err != nil {
			return err
		}
		defer r.Close()
		if _, _, err := digestOf(ctx, r, nil); err != nil {
			return s.broken("interaction %d: %w", e.Seq, err)
		}
	}
	u, err := url.Parse(e.Request.URL())
	if err != nil {
		return s.broken("interaction %d: %w", e.Seq, err)
	}
	// Content may be named by another algorithm than the files are.
	d := oci.Digest(routeOf(u).ref)
	if b != &e.Response.Body || b.Mode != BodyBlob || b.Partial || b.Redacted || e.Response.Status != 200 || d.Validate() != nil || d.Algorithm() == digest.SHA256 || opts.AllowWrongDigests {
		return nil
	}
	r, err := s.openBody(b, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	h := d.Algorithm().Hash()
	if _, _, err := digestOf(ctx, r, h); err != nil {
		return s.broken("interaction %d: %w", e.Seq, err)
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return s.broken("interaction %d: %w", e.Seq, &oci.IntegrityError{What: "content", Want: d, Got: got})
	}
	return nil
}

// verifyFiles finds files that the cassette does not name, and such as are none.
func (s *store) verifyFiles(t *tape) error {
	named := set(layoutFile, indexFile, blobName(t.descriptor.Digest), blobName(t.manifest.Config.Digest), blobName(t.manifest.Layers[0].Digest))
	for d := range t.blobs {
		named[blobName(d)] = true
	}
	return fs.WalkDir(s.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return s.broken("%w", err)
		case e.IsDir() && !named[name]:
			// Other tools leave empty ones; what is in them comes up itself.
		case !e.Type().IsRegular():
			return s.broken("%s is not a file", name)
		case strings.HasPrefix(path.Base(name), ".") && path.Dir(name) == ".":
			// Locks and marks of other tools.
		case !named[name]:
			return s.broken("nothing in it names the file %s: %w", name, oci.ErrIntegrity)
		}
		return nil
	})
}
