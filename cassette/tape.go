package cassette

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

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
