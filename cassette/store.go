package cassette

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// The media types of a cassette, which is an OCI artifact.
const (
	// ArtifactType is what the manifest of a cassette says it is.
	ArtifactType = "application/vnd.llm-dev-ops.cassette.v1+json"
	// MediaTypeJournal is the first layer's: one [Interaction] on each line.
	MediaTypeJournal = "application/vnd.llm-dev-ops.interactions.v1+ndjson"
	// MediaTypeBody is that of the other layers, the bodies.
	MediaTypeBody = "application/vnd.llm-dev-ops.body.v1"
)

const (
	layoutFile  = "oci-layout"
	indexFile   = "index.json"
	journalFile = "interactions.ndjson" // of a recording that is not sealed
	blobsDir    = "blobs"
	shaDir      = blobsDir + "/sha256"
	tempPrefix  = ".part-"

	layoutHeader = `{"imageLayoutVersion":"1.0.0"}`
	emptyConfig  = `{}`

	maxIndex   = 1 << 20
	maxEntries = 1 << 20
)

// store is the directory of a cassette. Nothing outside of it is reached, whatever
// is in it.
type store struct {
	dir   string
	root  *os.Root
	parts atomic.Int64
	sizes map[oci.Digest]int64 // of bodies, as the manifest has them; nil before it is read

	made    bool // the directory was not there before
	mu      sync.Mutex
	created map[string]bool // nor were these files
}

func openStore(dir string) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &store{dir: dir, root: root, created: map[string]bool{}}, nil
}

func createStore(dir string) (*store, error) {
	_, missing := os.Lstat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	s.made = missing != nil
	if err := s.onlyCassette(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, s.root.MkdirAll(shaDir, 0o755)
}

// onlyCassette refuses to make a cassette among other things, which sealing would
// take for leftovers.
func (s *store) onlyCassette() error {
	names, err := s.list(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		switch name {
		case layoutFile, indexFile, journalFile, blobsDir, "ingest": // the last is oras's, and empty
		default:
			if !strings.HasPrefix(name, ".") {
				return s.broken("the directory holds other things, such as %s; choose an empty one", name)
			}
		}
	}
	return nil
}

// replaceable refuses to take the place of what is an image layout, but no cassette: a
// recording would remove the images. One of ours may be damaged.
func (s *store) replaceable() error {
	if err := s.onlyCassette(); err != nil {
		return err
	}
	var index layoutIndex
	data, err := s.read(indexFile, maxIndex)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return s.broken("%s cannot be read, so that it is not known whether this is a cassette; choose another directory: %w", indexFile, err)
	}
	for _, d := range index.Manifests {
		var m manifest // whose type other tools may leave out of the index
		if d.ArtifactType != ArtifactType && checkDigest(d.Digest) == nil {
			data, err := s.readBlob(d, oci.MaxManifestSize)
			if err == nil {
				json.Unmarshal(data, &m) // what is none has no type
			}
		}
		if d.ArtifactType != ArtifactType && m.ArtifactType != ArtifactType {
			return s.broken("the directory is an image layout, and not of a cassette; choose an empty one")
		}
	}
	return nil
}

func (s *store) close() error { return s.root.Close() }

// broken is for what no retry will mend.
func (s *store) broken(format string, args ...any) error {
	return &brokenError{oci.Invalid("cassette %s: %w", s.dir, fmt.Errorf(format, args...))}
}

// brokenError is permanent, as a [*MissError] is.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }
func (*brokenError) Permanent() bool { return true }

func (s *store) list(dir string) ([]string, error) {
	f, err := s.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func blobName(d oci.Digest) string { return path.Join(blobsDir, d.Algorithm().String(), d.Encoded()) }

// open opens what must be a file: no symbolic link, device or pipe.
func (s *store) open(name string) (*os.File, int64, error) {
	before, err := s.root.Lstat(name)
	if err != nil {
		return nil, 0, s.broken("%w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, 0, s.broken("%s is not a file", name)
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, 0, s.broken("%w", err)
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = s.broken("%s was replaced while it was opened", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (s *store) read(name string, limit int64) ([]byte, error) {
	f, size, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, s.broken("%s has %d bytes; at most %d are read", name, size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) != size {
		err = s.broken("%s changed while it was read", name)
	}
	return data, err
}

// readBlob reads a small blob and checks it.
func (s *store) readBlob(d oci.Descriptor, limit int64) ([]byte, error) {
	if err := checkDigest(d.Digest); err != nil {
		return nil, s.broken("%w", err)
	}
	data, err := s.read(blobName(d.Digest), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.broken("%s is missing", d.Digest)
	}
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, s.broken("%w", &oci.IntegrityError{What: d.MediaType, Want: d.Digest, Got: got})
	}
	if int64(len(data)) != d.Size {
		return nil, s.broken("%w", &oci.IntegrityError{What: d.MediaType, Want: d.Digest, WantSize: d.Size, GotSize: int64(len(data))})
	}
	return data, nil
}

// part is a file on its way to its name.
type part struct {
	*os.File
	s    *store
	name string
}

func (s *store) create() (*part, error) {
	for {
		name := shaDir + "/" + tempPrefix + strconv.FormatInt(s.parts.Add(1), 10)
		f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue // left by a run that was cut off
		}
		if err != nil {
			return nil, err
		}
		return &part{f, s, name}, nil
	}
}

// keep gives the file its name.
func (p *part) keep(name string, flush bool) error {
	var err error
	if flush {
		err = p.Sync()
	}
	_, missing := p.s.root.Lstat(name)
	if err = errors.Join(err, p.Close()); err == nil {
		err = p.s.root.Rename(p.name, name)
	}
	if err == nil && missing != nil {
		p.s.mu.Lock()
		p.s.created[name] = true
		p.s.mu.Unlock()
	}
	if err != nil {
		p.s.root.Remove(p.name)
	}
	return err
}

func (p *part) drop() {
	p.Close()
	p.s.root.Remove(p.name)
}

// uncreate removes what was not there before.
func (s *store) uncreate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.created {
		s.root.Remove(name)
	}
}

// settle has what was made stay, whatever fails later.
func (s *store) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.created)
}

// write puts a small file in place so that readers see the old or the new one.
func (s *store) write(name string, data []byte) error {
	p, err := s.create()
	if err != nil {
		return err
	}
	if _, err := p.Write(data); err != nil {
		p.drop()
		return err
	}
	return p.keep(name, true)
}

func (s *store) writeBlob(mediaType string, data []byte) (oci.Descriptor, error) {
	d := oci.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, s.write(blobName(d.Digest), data)
}

func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}
