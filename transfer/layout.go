package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/oci"
)

// Layout is an OCI image layout: a directory with content by digest and an index
// of what has a name. It is a [Source] and a [Target], safe for concurrent use,
// also by several processes. There is nothing to close.
type Layout struct {
	dir string

	mu        sync.Mutex // of what was read last; see read
	data      []byte
	index     *layoutIndex
	referrers map[oci.Digest][]oci.Descriptor // of index; nil until asked for
}

// OpenLayout opens a layout that is there.
//
// Errors: [oci.ErrInvalid], saying what is missing or broken.
func OpenLayout(dir string) (*Layout, error) {
	l := &Layout{dir: dir}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, l.broken("no such directory")
	case err != nil:
		return nil, fmt.Errorf("OCI layout: %w", err)
	case !info.IsDir():
		return nil, l.broken("not a directory (for a tar file write docker-archive:%s)", dir)
	}
	data, err := readRegular(filepath.Join(dir, v1.ImageLayoutFile), maxLayoutJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.broken("it has no file oci-layout, so it is no image layout")
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	if err := checkLayoutHeader(data); err != nil {
		return nil, l.broken("%w", err)
	}
	_, err = l.read()
	return l, err
}

// CreateLayout opens a layout, and makes one where there is none.
//
// Errors: [oci.ErrInvalid] for a directory that holds something else.
func CreateLayout(dir string) (*Layout, error) {
	if _, err := os.Stat(filepath.Join(dir, v1.ImageLayoutFile)); err == nil {
		return OpenLayout(dir)
	}
	l := &Layout{dir: dir}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, l.broken("%w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == v1.ImageBlobsDir, name == v1.ImageIndexFile, name == v1.ImageLayoutFile, strings.HasPrefix(name, "."):
			// A run that was cut off, or one at this moment, leaves these.
		default:
			return nil, l.broken("the directory holds other things, such as %s; choose an empty one", name)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	release, err := l.lock(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := os.Stat(filepath.Join(dir, v1.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := l.write(&layoutIndex{}); err != nil {
			return nil, err
		}
	}
	header, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	// The file by which a layout is known comes last.
	if err := atomicfile.Write(filepath.Join(dir, v1.ImageLayoutFile), header, 0o644, true); err != nil {
		return nil, err
	}
	return OpenLayout(dir)
}

// lock keeps other writers off index.json.
func (l *Layout) lock(ctx context.Context) (release func(), err error) {
	return acquireLock(ctx, filepath.Join(l.dir, ".lock"))
}

// read returns the index as it is now. What has not changed is not parsed again.
func (l *Layout) read() (*layoutIndex, error) {
	data, err := readRegular(filepath.Join(l.dir, v1.ImageIndexFile), maxLayoutJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.broken("it has no index.json")
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index != nil && bytes.Equal(data, l.data) {
		return l.index, nil
	}
	index, err := parseIndex(data)
	if err != nil {
		return nil, l.broken("%w", err)
	}
	l.data, l.index, l.referrers = data, index, nil
	return index, nil
}

func (l *Layout) write(index *layoutIndex) error {
	data, err := index.marshal()
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.dir, v1.ImageIndexFile), data, 0o644, true)
}

// blobPath is where content with this digest is. Every digest is checked before,
// so a path never leaves the layout.
func (l *Layout) blobPath(d oci.Digest) string {
	return filepath.Join(l.dir, v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// in says in which layout an error occurred.
func (l *Layout) in(err error) error { return fmt.Errorf("OCI layout %s: %w", l.dir, err) }

// broken is for what no retry and no other reference will mend.
func (l *Layout) broken(format string, args ...any) error {
	return oci.Invalid("OCI layout %s: %w", l.dir, fmt.Errorf(format, args...))
}

// Manifest implements [Source]. The ref is a tag, a whole name, a digest, or empty
// for the only image.
//
// Errors: [oci.ErrInvalid], since a layout is input that the caller gave; besides,
// [oci.ErrNotFound], naming the tags that there are, or [oci.ErrIntegrity] for
// content that is not what its name says.
func (l *Layout) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	d, err := l.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	raw, err := readRegular(l.blobPath(d.Digest), oci.MaxManifestSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, l.broken("the manifest %s is missing: %w", d.Digest, oci.ErrNotFound)
	case err != nil:
		return nil, l.in(err)
	}
	m, err := parseStored(d, raw)
	if err != nil {
		return nil, l.broken("%w", err)
	}
	return m, nil
}

func (l *Layout) find(ctx context.Context, ref string) (oci.Descriptor, error) {
	index, err := l.read()
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := index.find(ref, func(d oci.Descriptor) bool {
		m, err := l.Manifest(ctx, d.Digest.String())
		return err == nil && m.Subject != nil
	})
	if err != nil {
		return oci.Descriptor{}, l.broken("%w", err)
	}
	return d, nil
}

// Resolve implements [Target].
func (l *Layout) Resolve(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, err := l.find(ctx, ref)
	if err != nil || d.MediaType != "" {
		return d, err
	}
	// It is not listed by itself; its own bytes say what it is.
	m, err := l.Manifest(ctx, d.Digest.String())
	if err != nil {
		return oci.Descriptor{}, err
	}
	found := m.Descriptor()
	found.Digest = d.Digest
	return found, nil
}

// TagNames implements [Tagger].
func (l *Layout) TagNames(context.Context) ([]string, error) {
	index, err := l.read()
	if err != nil {
		return nil, err
	}
	return index.tags(), nil
}

// Referrers implements [Referrerer] by looking at what index.json lists, and at
// what that lists.
func (l *Layout) Referrers(ctx context.Context, about oci.Digest) ([]oci.Descriptor, error) {
	index, err := l.read()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	all := l.referrers
	fresh := l.index == index && all != nil
	l.mu.Unlock()
	if !fresh {
		if all, err = index.referrersOf(ctx, l); err != nil {
			return nil, err
		}
		l.mu.Lock()
		if l.index == index {
			l.referrers = all
		}
		l.mu.Unlock()
	}
	return all[about], nil
}

// CheckBlob implements [Checker]: the blob must be there and as long as said. Its
// digest is left to whoever receives it; see [Layout.VerifyBlob].
//
// Errors: [oci.ErrInvalid], with [oci.ErrNotFound] or [oci.ErrIntegrity].
func (l *Layout) CheckBlob(_ context.Context, d oci.Descriptor) error {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return err
	}
	info, err := os.Stat(l.blobPath(d.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.broken("the blob %s is missing: %w", d.Digest, oci.ErrNotFound)
	case err != nil:
		return l.in(err)
	case !info.Mode().IsRegular():
		return l.broken("the blob %s is no file", d.Digest)
	case info.Size() != d.Size:
		return l.broken("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, WantSize: d.Size, GotSize: info.Size()})
	}
	return nil
}

// VerifyBlob reads a blob and checks its digest. A push does not need it, since
// the registry checks what it gets; it says which side was wrong after a refusal.
//
// Errors: as [Layout.CheckBlob].
func (l *Layout) VerifyBlob(ctx context.Context, d oci.Descriptor) error {
	body, err := l.Blob(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := digestOf(ctx, body, d.Digest.Algorithm())
	if err != nil {
		return l.in(err)
	}
	if got != d.Digest {
		return l.broken("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, Got: got})
	}
	return nil
}

// Blob implements [Source]. The reader is a section of a file.
func (l *Layout) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if err := l.CheckBlob(ctx, d); err != nil {
		return nil, err
	}
	s, err := openSection(l.blobPath(d.Digest), 0, d, offset, length)
	if err != nil {
		return nil, l.in(err)
	}
	return s, nil
}
