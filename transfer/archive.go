package transfer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Archive is a file as docker save writes it, read as a [Source]. Archives of
// newer versions are OCI layouts in a tar file, and keep their digests. From older
// ones, which hold uncompressed layers and no manifest, a manifest is made, and
// the layers are compressed into temporary files. Close it.
type Archive struct {
	name    string // as the user wrote it
	file    *os.File
	temp    string // directory of temporary files, or empty
	entries map[string]archiveEntry
	index   *layoutIndex // of a layout in a tar; nil for the older form
	legacy  []legacyImage

	mu   sync.Mutex
	made map[int]*madeImage // of legacy, by place
}

// archiveEntry is where in the file a member's content is.
type archiveEntry struct{ offset, size int64 }

// maxEntries bounds the members of an archive; an image has a few hundred.
const maxEntries = 1 << 17

// OpenArchive opens an archive, which may as a whole be compressed with gzip or
// zstd.
//
// Errors: [oci.ErrInvalid], saying what is missing or broken.
func OpenArchive(file string) (*Archive, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Invalid("archive %s: no such file", file)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	a := &Archive{name: file, file: f, entries: map[string]archiveEntry{}, made: map[int]*madeImage{}}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Archive) open() error {
	if info, err := a.file.Stat(); err != nil {
		return err
	} else if info.IsDir() {
		return oci.Invalid("archive %s: it is a directory (for an OCI layout write oci:%s)", a.name, a.name)
	}
	if err := a.decompress(); err != nil {
		return err
	}
	if err := a.readEntries(); err != nil {
		return err
	}
	if _, ok := a.entries[v1.ImageIndexFile]; ok {
		if _, ok := a.entries[v1.ImageLayoutFile]; ok {
			return a.readLayout()
		}
	}
	return a.readLegacy()
}

// Close removes temporary files.
func (a *Archive) Close() error {
	err := a.file.Close()
	if a.temp != "" {
		err = errors.Join(err, os.RemoveAll(a.temp))
	}
	return err
}

func (a *Archive) fail(format string, args ...any) error {
	return oci.Invalid("archive %s: %w", a.name, fmt.Errorf(format, args...))
}

func (a *Archive) tempDir() (string, error) {
	if a.temp == "" {
		dir, err := os.MkdirTemp("", "ghcr-archive-*")
		if err != nil {
			return "", err
		}
		a.temp = dir
	}
	return a.temp, nil
}

// decompress replaces a compressed file by a temporary one that is not, so that
// members can be read in any order.
func (a *Archive) decompress() error {
	var head [4]byte
	n, _ := a.file.ReadAt(head[:], 0)
	var r io.Reader
	switch {
	case n >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(a.file)
		if err != nil {
			return a.fail("not readable as gzip: %w", err)
		}
		r = z
	case n == 4 && bytes.Equal(head[:], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(a.file, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return a.fail("not readable as zstd: %w", err)
		}
		defer z.Close()
		r = z
	default:
		return nil
	}
	dir, err := a.tempDir()
	if err != nil {
		return err
	}
	plain, err := os.CreateTemp(dir, "plain-*.tar")
	if err != nil {
		return err
	}
	if _, err := io.Copy(plain, r); err != nil {
		plain.Close()
		return a.fail("decompress: %w", err)
	}
	a.file.Close()
	a.file = plain
	return nil
}

// readEntries notes where each member is, without reading contents.
func (a *Archive) readEntries() error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	section := io.NewSectionReader(a.file, 0, info.Size())
	tr := tar.NewReader(section)
	links := map[string]string{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return a.fail("not readable as tar: %w", err)
		}
		if len(a.entries)+len(links) > maxEntries {
			return a.fail("it has more than %d members", maxEntries)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := section.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			if at+h.Size > info.Size() {
				return a.fail("it ends in the middle of %s", name)
			}
			a.entries[name] = archiveEntry{at, h.Size}
		case tar.TypeSymlink, tar.TypeLink:
			// Older versions of docker link layers that are the same.
			target := h.Linkname
			if h.Typeflag == tar.TypeSymlink {
				target = path.Join(path.Dir(name), target)
			}
			links[name] = path.Clean(target)
		}
	}
	for name, target := range links {
		if e, ok := a.entries[target]; ok {
			a.entries[name] = e
		}
	}
	if len(a.entries) == 0 {
		return a.fail("it is no tar file, or an empty one")
	}
	return nil
}

// maxArchiveJSON bounds the small files that say what is in an archive.
const maxArchiveJSON = 16 << 20

func (a *Archive) readMember(name string) ([]byte, error) {
	e, ok := a.entries[path.Clean(name)]
	if !ok {
		return nil, a.fail("%s is missing: %w", name, oci.ErrNotFound)
	}
	if e.size > maxArchiveJSON {
		return nil, a.fail("%s is %d bytes, too much for what it is", name, e.size)
	}
	data := make([]byte, e.size)
	if _, err := a.file.ReadAt(data, e.offset); err != nil {
		return nil, a.fail("read %s: %w", name, err)
	}
	return data, nil
}

func (a *Archive) readLayout() error {
	data, err := a.readMember(v1.ImageIndexFile)
	if err != nil {
		return err
	}
	index := &layoutIndex{}
	if err := json.Unmarshal(data, &index.fields); err != nil {
		return a.fail("index.json is not readable: %w", err)
	}
	if err := json.Unmarshal(index.fields["manifests"], &index.manifests); err != nil {
		return a.fail("index.json is not readable: %w", err)
	}
	for _, d := range index.manifests {
		if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
			return a.fail("index.json: %w", err)
		}
	}
	a.index = index
	return nil
}

func blobMember(d oci.Digest) string {
	return path.Join(v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// Manifest implements [Source]. The ref is a tag, a whole name such as
// "acme/app:v1", a digest, or empty for the only image.
//
// Errors: [oci.ErrNotFound], naming the images that there are.
func (a *Archive) Manifest(_ context.Context, ref string) (*oci.Manifest, error) {
	if a.index == nil {
		return a.legacyManifest(ref)
	}
	d, err := a.find(ref)
	if err != nil {
		return nil, err
	}
	raw, err := a.readMember(blobMember(d.Digest))
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		return nil, a.fail("manifest %s: %w", d.Digest, err)
	}
	if err := m.Verify(d.Digest); err != nil {
		return nil, a.fail("%w", err)
	}
	return m, nil
}

func (a *Archive) find(ref string) (oci.Descriptor, error) {
	if d, err := oci.ParseDigest(ref); err == nil {
		for _, entry := range a.index.manifests {
			if entry.Digest == d {
				return entry, nil
			}
		}
		return oci.Descriptor{Digest: d}, nil
	}
	var images []oci.Descriptor
	for _, d := range a.index.manifests {
		if ref != "" && (names(d, ref) || slices.ContainsFunc(refNames, func(k string) bool { return sameName(d.Annotations[k], ref) })) {
			return d, nil
		}
		if !slices.ContainsFunc(images, func(o oci.Descriptor) bool { return o.Digest == d.Digest }) {
			images = append(images, d)
		}
	}
	switch {
	case ref != "":
		return oci.Descriptor{}, a.fail("no image is named %q; %s: %w", ref, tagList(a.index), oci.ErrNotFound)
	case len(images) == 1:
		return images[0], nil
	}
	return oci.Descriptor{}, a.fail("it holds %d images: choose one with docker-archive:%s:NAME; %s", len(images), a.name, tagList(a.index))
}

// sameName compares names as docker does, for which "app:v1" is
// "docker.io/library/app:v1".
func sameName(a, b string) bool {
	short := func(s string) string {
		return strings.TrimPrefix(strings.TrimPrefix(s, "docker.io/"), "library/")
	}
	return a != "" && short(a) == short(b)
}

// TagNames implements [Tagger].
func (a *Archive) TagNames(context.Context) ([]string, error) {
	var tags []string
	if a.index != nil {
		for _, d := range a.index.manifests {
			if name := nameOf(d); name != "" {
				tags = append(tags, name)
			}
		}
	}
	return tags, nil
}

// CheckBlob implements [Checker].
func (a *Archive) CheckBlob(_ context.Context, d oci.Descriptor) error {
	_, size, err := a.locate(d.Digest)
	if err != nil {
		return err
	}
	if size != d.Size {
		return a.fail("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, WantSize: d.Size, GotSize: size})
	}
	return nil
}

// locate returns the file that holds a blob's bytes from an offset on.
func (a *Archive) locate(d oci.Digest) (where fileRange, size int64, err error) {
	if a.index != nil {
		e, ok := a.entries[blobMember(d)]
		if !ok {
			return fileRange{}, 0, a.fail("the blob %s is missing: %w", d, oci.ErrNotFound)
		}
		return fileRange{a.file.Name(), e.offset}, e.size, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.made {
		if b, ok := m.blobs[d]; ok {
			return b.where, b.size, nil
		}
	}
	return fileRange{}, 0, a.fail("it does not hold %s: %w", d, oci.ErrNotFound)
}

type fileRange struct {
	path   string
	offset int64
}

// Blob implements [Source]. The reader is a section of a file.
func (a *Archive) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if err := a.CheckBlob(ctx, d); err != nil {
		return nil, err
	}
	where, _, err := a.locate(d.Digest)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		length = d.Size - offset
	}
	return openSection(where.path, where.offset+offset, length)
}
