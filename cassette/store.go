package cassette

import (
	"bytes"
	"crypto/sha256"
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
	journalFile = "journal.ndjson" // of a recording that is not sealed
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

	mu      sync.Mutex
	created map[string]bool // files that were not there before
}

func openStore(dir string) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &store{dir: dir, root: root, created: map[string]bool{}}, nil
}

func createStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s, err := openStore(dir)
	if err != nil {
		return nil, err
	}
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
		case layoutFile, indexFile, journalFile, blobsDir:
		default:
			if !strings.HasPrefix(name, ".") {
				return s.broken("the directory holds other things, such as %s; choose an empty one", name)
			}
		}
	}
	return nil
}

func (s *store) close() error { return s.root.Close() }

// broken is for what no retry will mend.
func (s *store) broken(format string, args ...any) error {
	return oci.Invalid("cassette %s: %w", s.dir, fmt.Errorf(format, args...))
}

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

// manifest is the manifest of the artifact.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        oci.Descriptor    `json:"config"`
	Layers        []oci.Descriptor  `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// layoutIndex is index.json, as it is written here. Other tools may write it otherwise.
type layoutIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`
}

func (s *store) sealed() bool {
	_, err := s.root.Lstat(indexFile)
	return err == nil
}

func (s *store) unsealed() bool {
	_, err := s.root.Lstat(journalFile)
	return err == nil
}

// find returns the descriptor of the cassette's manifest.
func (s *store) find() (oci.Descriptor, error) {
	data, err := s.read(layoutFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return oci.Descriptor{}, s.broken("it has no file %s, so it is no cassette", layoutFile)
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	if err := exactly(data, &struct {
		Version string `json:"imageLayoutVersion"`
	}{"1.0.0"}); err != nil {
		return oci.Descriptor{}, s.broken("%s: %w", layoutFile, err)
	}
	data, err = s.read(indexFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return oci.Descriptor{}, s.broken("it has no %s", indexFile)
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	return s.parseIndex(data)
}

// parseIndex reads an index that this package or another tool has written.
func (s *store) parseIndex(data []byte) (oci.Descriptor, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return oci.Descriptor{}, s.broken("%s: %w", indexFile, err)
	}
	for name, raw := range fields {
		ok := true
		switch name {
		case "schemaVersion":
			ok = string(raw) == "2"
		case "mediaType":
			ok = string(raw) == `"`+oci.MediaTypeOCIIndex+`"`
		case "manifests", "annotations":
		default:
			ok = false
		}
		if !ok {
			return oci.Descriptor{}, s.broken("%s: its field %q is not as in an index", indexFile, name)
		}
	}
	if fields["schemaVersion"] == nil {
		return oci.Descriptor{}, s.broken("%s: it has no schemaVersion", indexFile)
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(fields["manifests"], &entries); err != nil {
		return oci.Descriptor{}, s.broken("%s: %w", indexFile, err)
	}
	if len(entries) != 1 {
		return oci.Descriptor{}, s.broken("%s lists %d manifests; a cassette is one", indexFile, len(entries))
	}
	var d oci.Descriptor
	for name, raw := range entries[0] {
		var err error
		switch name {
		case "mediaType":
			err = json.Unmarshal(raw, &d.MediaType)
		case "artifactType":
			err = json.Unmarshal(raw, &d.ArtifactType)
		case "digest":
			err = json.Unmarshal(raw, &d.Digest)
		case "size":
			err = json.Unmarshal(raw, &d.Size)
		case "annotations": // names that other tools give it
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return oci.Descriptor{}, s.broken("%s: its field %q: %w", indexFile, name, err)
		}
	}
	if d.MediaType != oci.MediaTypeOCIManifest || d.ArtifactType != "" && d.ArtifactType != ArtifactType {
		return oci.Descriptor{}, s.broken("%s lists a %s, which is no cassette", indexFile, d.MediaType)
	}
	return d, checkDigest(d.Digest)
}

// exactly compares JSON with what it must say, whatever its white space. Unlike
// encoding/json it tells upper case from lower.
func exactly(data []byte, want any) error {
	wanted, err := json.Marshal(want)
	if err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return err
	}
	if !bytes.Equal(compact.Bytes(), wanted) {
		return fmt.Errorf("it is not %s", wanted)
	}
	return nil
}

// tape is what a sealed cassette says: everything but its bodies.
type tape struct {
	descriptor oci.Descriptor
	manifest   manifest
	entries    []*Interaction
	blobs      map[oci.Digest]int64 // sizes of the bodies
}

// load reads all but the bodies, and checks what can be checked without them.
func (s *store) load(pin oci.Digest) (*tape, error) {
	d, err := s.find()
	if err != nil {
		return nil, err
	}
	if pin != "" && d.Digest != pin {
		return nil, s.broken("%w", &oci.IntegrityError{What: "the cassette", Want: pin, Got: d.Digest})
	}
	raw, err := s.readBlob(d, oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	t := &tape{descriptor: d, blobs: map[oci.Digest]int64{}}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t.manifest); err != nil {
		return nil, s.broken("manifest: %w", err)
	}
	m := &t.manifest
	switch {
	case m.SchemaVersion != 2 || m.MediaType != oci.MediaTypeOCIManifest || m.ArtifactType != ArtifactType:
		return nil, s.broken("manifest: it is %q, which is no cassette", m.ArtifactType)
	case len(m.Layers) == 0 || m.Layers[0].MediaType != MediaTypeJournal:
		return nil, s.broken("manifest: its first layer is no journal")
	}
	if _, err := s.readBlob(m.Config, maxInline); err != nil {
		return nil, err
	}
	for _, l := range m.Layers[1:] {
		if err := checkDigest(l.Digest); err != nil {
			return nil, s.broken("manifest: %w", err)
		}
		if _, twice := t.blobs[l.Digest]; twice || l.MediaType != MediaTypeBody || l.Size < 0 || l.Size > maxBody {
			return nil, s.broken("manifest: the layer %s is no body", l.Digest)
		}
		t.blobs[l.Digest] = l.Size
	}
	journal, err := s.readBlob(m.Layers[0], maxJournal)
	if err != nil {
		return nil, err
	}
	entries, rest, err := parseJournal(journal)
	if err == nil && len(rest) > 0 {
		err = errors.New("its last line is cut off")
	}
	if err != nil {
		return nil, s.broken("journal: %w", err)
	}
	t.entries, s.sizes = entries, t.blobs
	if err := t.checkBodies(); err != nil {
		return nil, s.broken("%w", err)
	}
	return t, nil
}

// parseJournal reads lines up to the last that is whole, and checks their chain.
func parseJournal(data []byte) (entries []*Interaction, rest []byte, err error) {
	var prev oci.Digest
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return entries, data, nil
		}
		line := data[:end+1]
		n := len(entries) + 1
		if len(line) > maxLine || n > maxEntries {
			return entries, data, fmt.Errorf("line %d: more than is read", n)
		}
		i, err := decodeInteraction(line)
		switch {
		case err != nil:
			return entries, data, fmt.Errorf("line %d: %w", n, err)
		case i.Prev != prev || i.Seq != n:
			return entries, data, fmt.Errorf("line %d: %w", n, errChain)
		}
		entries = append(entries, i)
		prev = lineDigest(line)
		data = data[end+1:]
	}
	return entries, nil, nil
}

// errChain says that lines were changed, taken out, added or moved.
var errChain = fmt.Errorf("it does not follow from the line before: %w", oci.ErrIntegrity)

func lineDigest(line []byte) oci.Digest {
	sum := sha256.Sum256(line)
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}

// checkBodies finds bodies that nothing brings and layers that nothing uses.
func (t *tape) checkBodies() error {
	used := map[oci.Digest]bool{}
	for _, i := range t.entries {
		for _, b := range []*Body{&i.Request.Body, &i.Response.Body} {
			d, least := b.file(), b.Size
			if d == "" {
				continue
			}
			used[d] = true
			size, there := t.blobs[d]
			if b.Mode == BodySlice {
				least = b.Offset + b.Size
			}
			if !there || size < least || b.Mode == BodyBlob && size != b.Size {
				return fmt.Errorf("interaction %d: its body is not among the layers: %w", i.Seq, oci.ErrIntegrity)
			}
		}
	}
	for d := range t.blobs {
		if !used[d] {
			return fmt.Errorf("the layer %s is of no interaction: %w", d, oci.ErrIntegrity)
		}
	}
	return nil
}

// file returns the digest of the file that the body is in, if it is in one.
func (b *Body) file() oci.Digest {
	switch b.Mode {
	case BodyBlob:
		return b.Digest
	case BodySlice:
		return b.Of
	}
	return ""
}

func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}
