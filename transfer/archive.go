package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Archive is a file as docker save writes it, read as a [Source]. Archives of
// newer versions are OCI layouts in a tar file, and keep their digests. From older
// ones, which hold uncompressed layers and no manifest, a manifest is made, and
// the layers are compressed into temporary files. It is safe for concurrent use.
// Close it.
type Archive struct {
	name    string // as the user wrote it
	file    *os.File
	members map[string]member
	index   *layoutIndex  // of a layout in a tar; nil for the older form
	legacy  []legacyImage // of the older form

	making    sync.Mutex // held while an image of legacy is made, which takes long
	mu        sync.Mutex
	temp      string             // directory of temporary files, or empty
	made      map[int]*madeImage // of legacy, by place
	referrers map[oci.Digest][]oci.Descriptor
}

// OpenArchive opens an archive, which may as a whole be compressed with gzip or
// zstd.
//
// Errors: [oci.ErrInvalid], saying what is missing or broken.
func OpenArchive(file string) (*Archive, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, oci.Invalid("archive %s: no such file", file)
	case err != nil:
		return nil, fmt.Errorf("archive: %w", err)
	case info.IsDir():
		return nil, oci.Invalid("archive %s: it is a directory (for an OCI layout write oci:%s)", file, file)
	}
	if !info.Mode().IsRegular() {
		return nil, oci.Invalid("archive %s: it is no regular file, so its members cannot be read in any order; copy it to one", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a := &Archive{name: file, file: f, made: map[int]*madeImage{}}
	if err := a.open(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Archive) open() error {
	if err := a.decompress(); err != nil {
		return err
	}
	info, err := a.file.Stat()
	if err != nil {
		return a.in(err)
	}
	if a.members, err = indexTar(a.file, info.Size()); err != nil {
		return a.broken("%w", err)
	}
	_, hasIndex := a.members[v1.ImageIndexFile]
	_, hasHeader := a.members[v1.ImageLayoutFile]
	if hasIndex && hasHeader {
		return a.readLayout()
	}
	return a.readLegacy()
}

// Close removes temporary files. Readers that are open stay readable where the
// system allows it.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.file.Close()
	if a.temp != "" {
		err = errors.Join(err, os.RemoveAll(a.temp))
	}
	return err
}

// in says in which archive an error occurred.
func (a *Archive) in(err error) error { return fmt.Errorf("archive %s: %w", a.name, err) }

// broken is for what no retry and no other reference will mend.
func (a *Archive) broken(format string, args ...any) error {
	return oci.Invalid("archive %s: %w", a.name, fmt.Errorf(format, args...))
}

// tempFile makes a file that Close removes.
func (a *Archive) tempFile(pattern string) (*os.File, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.temp == "" {
		dir, err := os.MkdirTemp("", "ghcr-archive-*")
		if err != nil {
			return nil, err
		}
		a.temp = dir
	}
	return os.CreateTemp(a.temp, pattern)
}

// What compressed files begin with.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress replaces a compressed file by a temporary one that is not, so that
// members can be read in any order.
func (a *Archive) decompress() error {
	head := make([]byte, 4)
	n, err := a.file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return a.in(err)
	}
	var in io.Reader
	switch head = head[:n]; {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(a.file)
		if err != nil {
			return a.broken("not readable as gzip: %w", err)
		}
		in = z
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(a.file, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return a.broken("not readable as zstd: %w", err)
		}
		defer z.Close()
		in = z
	default:
		return nil
	}
	plain, err := a.tempFile("plain-*.tar")
	if err != nil {
		return a.in(err)
	}
	body := &erringReader{Reader: in}
	if _, err := copyBody(context.Background(), plain, body); err != nil {
		plain.Close()
		if body.err != nil {
			return a.broken("decompress: %w", err)
		}
		return a.in(fmt.Errorf("decompress to a temporary file: %w", err))
	}
	a.file.Close()
	a.file = plain
	return nil
}

// erringReader remembers that it was the reading that failed.
type erringReader struct {
	io.Reader
	err error
}

func (r *erringReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (a *Archive) readLayout() error {
	header, err := a.readMember(v1.ImageLayoutFile, maxLayoutJSON)
	if err != nil {
		return err
	}
	if err := checkLayoutHeader(header); err != nil {
		return a.broken("%w", err)
	}
	data, err := a.readMember(v1.ImageIndexFile, maxLayoutJSON)
	if err != nil {
		return err
	}
	if a.index, err = parseIndex(data); err != nil {
		return a.broken("%w", err)
	}
	return nil
}

// readMember reads one of the small files that say what is in the archive.
func (a *Archive) readMember(name string, limit int64) ([]byte, error) {
	m, ok := a.members[memberName(name)]
	if !ok {
		return nil, a.broken("%s is missing: %w", name, oci.ErrNotFound)
	}
	if m.size > limit {
		return nil, a.broken("%s is %d bytes; the limit is %d", name, m.size, limit)
	}
	data := make([]byte, m.size)
	if _, err := a.file.ReadAt(data, m.offset); err != nil && m.size > 0 {
		return nil, a.in(fmt.Errorf("read %s: %w", name, err))
	}
	return data, nil
}

// Manifest implements [Source]. The ref is a tag, a whole name such as
// "acme/app:v1", a digest, or empty for the only image. For the older form the
// layers are compressed here, the first time that an image is asked for.
//
// Errors: [oci.ErrInvalid]; besides, [oci.ErrNotFound], naming the images that
// there are, or [oci.ErrIntegrity] for content that is not what its name says.
func (a *Archive) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	if a.index == nil {
		return a.legacyManifest(ctx, ref)
	}
	d, err := a.index.find(ref, func(d oci.Descriptor) bool {
		m, err := a.Manifest(ctx, d.Digest.String())
		return err == nil && m.Subject != nil
	})
	if err != nil {
		return nil, a.broken("%w", err)
	}
	if _, ok := a.members[blobMember(d.Digest)]; !ok {
		return nil, a.broken("the manifest %s is missing; if the archive holds one platform of several, choose that: %w", d.Digest, oci.ErrNotFound)
	}
	raw, err := a.readMember(blobMember(d.Digest), oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	m, err := parseStored(d, raw)
	if err != nil {
		return nil, a.broken("%w", err)
	}
	return m, nil
}

// TagNames implements [Tagger].
func (a *Archive) TagNames(context.Context) ([]string, error) {
	if a.index != nil {
		return a.index.tags(), nil
	}
	return legacyTags(a.legacy), nil
}

// Referrers implements [Referrerer].
func (a *Archive) Referrers(ctx context.Context, about oci.Digest) ([]oci.Descriptor, error) {
	if a.index == nil {
		return nil, nil
	}
	a.mu.Lock()
	all := a.referrers
	a.mu.Unlock()
	if all == nil {
		var err error
		if all, err = a.index.referrersOf(ctx, a); err != nil {
			return nil, err
		}
		a.mu.Lock()
		a.referrers = all
		a.mu.Unlock()
	}
	return all[about], nil
}

// place is where a blob's bytes are: in the archive, or in a temporary file.
type place struct {
	path         string
	offset, size int64
}

func (a *Archive) locate(d oci.Digest) (place, error) {
	if a.index == nil {
		return a.locateMade(d)
	}
	m, ok := a.members[blobMember(d)]
	if !ok {
		return place{}, a.broken("the blob %s is missing: %w", d, oci.ErrNotFound)
	}
	return place{a.file.Name(), m.offset, m.size}, nil
}

func (a *Archive) checked(d oci.Descriptor) (place, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return place{}, err
	}
	at, err := a.locate(d.Digest)
	if err == nil && at.size != d.Size {
		err = a.broken("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, WantSize: d.Size, GotSize: at.size})
	}
	return at, err
}

// CheckBlob implements [Checker]: the blob must be there and as long as said. Its
// digest is left to whoever receives it; see [Archive.VerifyBlob].
//
// Errors: [oci.ErrInvalid], with [oci.ErrNotFound] or [oci.ErrIntegrity].
func (a *Archive) CheckBlob(_ context.Context, d oci.Descriptor) error {
	_, err := a.checked(d)
	return err
}

// VerifyBlob reads a blob and checks its digest, as [Layout.VerifyBlob] does.
//
// Errors: as [Archive.CheckBlob].
func (a *Archive) VerifyBlob(ctx context.Context, d oci.Descriptor) error {
	body, err := a.Blob(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := digestOf(ctx, body, d.Digest.Algorithm())
	if err != nil {
		return a.in(err)
	}
	if got != d.Digest {
		return a.broken("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, Got: got})
	}
	return nil
}

// Blob implements [Source]. The reader is a section of a file.
func (a *Archive) Blob(_ context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	at, err := a.checked(d)
	if err != nil {
		return nil, err
	}
	s, err := openSection(at.path, at.offset, d, offset, length)
	if err != nil {
		return nil, a.in(err)
	}
	return s, nil
}
