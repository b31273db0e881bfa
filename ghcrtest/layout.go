package ghcrtest

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/llm-dev-ops/ghcr/oci"
)

// refName is the annotation that names what an entry of a layout's index is.
const refName = "org.opencontainers.image.ref.name"

// AddLayout puts all of an OCI image layout, given as a tar file, into a repository,
// as [Server.Add] does. It is read once, and its content is not held in memory. A tag
// is given to the first entry of the layout's index; the others keep the names that
// the layout has for them, and with an empty tag the first does too. What has no name
// is there by its digest.
//
// Errors: [oci.ErrInvalid] for a malformed name or tag, for what is no layout, and for
// one that lacks content; a directory that cannot be written.
func (s *Server) AddLayout(repo, tag string, r io.Reader) error {
	if err := oci.CheckName(repo); err != nil {
		return err
	}
	if tag != "" {
		if err := oci.CheckTag(tag); err != nil {
			return err
		}
	}
	s.whole.RLock()
	defer s.whole.RUnlock()
	index, err := s.readLayout(r)
	if err != nil {
		return fmt.Errorf("add a layout to %s: %w", repo, err)
	}
	added := map[oci.Digest]bool{}
	for i, d := range index.Manifests {
		name := d.Annotations[refName]
		if i == 0 && tag != "" {
			name = tag
		}
		if oci.CheckTag(name) != nil {
			name = ""
		}
		if err := s.addFromLayout(repo, name, d, added); err != nil {
			return fmt.Errorf("add a layout to %s: %w", repo, err)
		}
	}
	return nil
}

// readLayout takes in the content, and returns the index.
func (s *Server) readLayout(r io.Reader) (*oci.Manifest, error) {
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	var index *oci.Manifest
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, oci.Invalid("not a tar file of a layout: %w", err)
		}
		name := path.Clean(h.Name)
		d, isBlob := blobName(name)
		switch {
		case h.Typeflag == tar.TypeReg && !isWhole(h):
			return nil, oci.Invalid("%s is stored with holes: make the file without --sparse", name)
		case h.Typeflag != tar.TypeReg:
		case isBlob:
			if err := s.contents.take(d, tr); err != nil {
				return nil, err
			}
		case name == "oci-layout" || name == "index.json":
			raw, err := io.ReadAll(io.LimitReader(tr, oci.MaxManifestSize+1))
			if err != nil {
				return nil, oci.Invalid("%s: %w", name, err)
			}
			if name == "oci-layout" {
				err = json.Unmarshal(raw, &version)
			} else {
				index, err = oci.ParseManifest(oci.MediaTypeOCIIndex, raw)
			}
			if err != nil {
				return nil, oci.Invalid("%s: %w", name, err)
			}
		}
	}
	if index == nil || version.Version != "1.0.0" {
		return nil, oci.Invalid("not a layout: it has no index.json, or no oci-layout of version 1.0.0")
	}
	return index, nil
}

// addFromLayout adds a manifest and all that it names, which is among the contents.
// What was added is not looked into again: each level of nested indexes could name
// the next one many times.
func (s *Server) addFromLayout(repo, tag string, d oci.Descriptor, added map[oci.Digest]bool) error {
	if added[d.Digest] && tag == "" {
		return nil
	}
	if d.Size > oci.MaxManifestSize || !s.contents.has(d.Digest) {
		return oci.Invalid("it lacks the manifest %s", d.Digest)
	}
	raw, err := s.contents.read(d.Digest)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		return err
	}
	for e := range m.Edges() {
		child := e.Descriptor
		switch {
		case e.Kind == oci.EdgeChild:
			err = s.addFromLayout(repo, "", child, added)
		case e.Kind != oci.EdgeConfig && e.Kind != oci.EdgeLayer, oci.IsForeign(child):
		case !s.contents.has(child.Digest):
			err = oci.Invalid("it lacks the blob %s of %s", child.Digest, d.Digest)
		default:
			err = s.linkBlob(repo, child.Digest, identity{})
		}
		if err != nil {
			return err
		}
	}
	added[d.Digest] = true
	if tag == "" {
		tag = d.Digest.String()
	}
	return s.storeManifest(repo, tag, d.Digest, m, event{})
}

// has tells whether content is there.
func (c *contents) has(d oci.Digest) bool {
	f, err := c.open(d)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// take takes in content of any size, and checks it.
func (c *contents) take(d oci.Digest, r io.Reader) error {
	if c.has(d) {
		return nil // and the reader goes on to the next
	}
	s := &spool{contents: c}
	defer s.discard()
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, buffer[:]); err != nil {
		return oci.Invalid("blob %s: %w", d, err)
	}
	err := s.commit(d)
	if errors.Is(err, errWrongDigest) {
		return oci.Invalid("blob %s: %w", d, err)
	}
	return err
}
