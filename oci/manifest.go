package oci

import (
	"bytes"
	"encoding/json"

	digest "github.com/opencontainers/go-digest"
)

// Kind says what a manifest is.
type Kind string

// The kinds of manifest.
const (
	KindImage    Kind = "image"    // config and layers
	KindIndex    Kind = "index"    // a list of manifests
	KindArtifact Kind = "artifact" // anything else that OCI manifests carry: charts, signatures, SBOMs
	KindUnknown  Kind = "unknown"  // a media type that is not understood; only its bytes are known
)

// Manifest is the exact bytes of a manifest and a view of what they say. The
// bytes are what its digest names, so they are never made again from the view:
// another order of keys would be another image.
//
// Make one with [ParseManifest]. The fields are a view: changing them changes
// nothing that is sent.
type Manifest struct {
	SchemaVersion int
	MediaType     string
	ArtifactType  string
	Config        *Descriptor  // nil for an index or an artifact manifest
	Layers        []Descriptor // the blobs of an artifact manifest are here too
	Manifests     []Descriptor // of an index
	Subject       *Descriptor  // what this manifest is about, or nil
	Annotations   map[string]string

	raw    []byte
	digest Digest
}

// manifestView is the union of the fields of the four media types. Where a
// field has the wrong JSON type, decoding fails.
type manifestView struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Blobs         []Descriptor      `json:"blobs"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest reads a manifest of the media type that its sender named. With
// an empty media type, the one inside the manifest counts, and without that its
// shape. A media type that is not understood is no error: the manifest is then
// [KindUnknown] and carries its bytes.
//
// The manifest keeps raw; do not change it afterwards.
//
// Errors: [ErrInvalid] if it is over [MaxManifestSize], is not JSON though its
// type says so, contradicts its media type, or holds a malformed descriptor.
func ParseManifest(mediaType string, raw []byte) (*Manifest, error) {
	if len(raw) > MaxManifestSize {
		return nil, Invalid("the manifest is %d bytes; the limit is %d", len(raw), MaxManifestSize)
	}
	m := &Manifest{MediaType: mediaType, raw: raw, digest: digest.FromBytes(raw)}
	if mediaType != "" && !IsManifestType(mediaType) {
		return m, nil
	}
	var v manifestView
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, Invalid("the manifest is not readable as %s: %w", orUnnamed(mediaType), err)
	}
	switch {
	case mediaType == "":
		m.MediaType = v.guessType()
	case v.MediaType != "" && v.MediaType != mediaType:
		return nil, Invalid("the manifest says it is %q but was sent as %q", v.MediaType, mediaType)
	}
	if m.MediaType != "" && !IsManifestType(m.MediaType) {
		return m, nil
	}
	if m.MediaType == "" {
		return nil, Invalid("the manifest names no media type and has neither config and layers nor manifests")
	}
	if IsIndexType(m.MediaType) && (v.Config != nil || len(v.Layers) > 0) ||
		!IsIndexType(m.MediaType) && len(v.Manifests) > 0 {
		// One document that two clients could read in two ways: CVE-2021-41190.
		return nil, Invalid("the manifest is ambiguous: %s with the fields of another type", m.MediaType)
	}
	m.SchemaVersion, m.ArtifactType, m.Config = v.SchemaVersion, v.ArtifactType, v.Config
	m.Layers, m.Manifests, m.Subject, m.Annotations = v.Layers, v.Manifests, v.Subject, v.Annotations
	if m.MediaType == MediaTypeArtifactManifest {
		m.Layers = v.Blobs
	}
	for e := range m.Edges() {
		if err := checkDescriptor(e.Descriptor); err != nil {
			return nil, Invalid("the manifest's %s: %w", e.Kind, err)
		}
	}
	return m, nil
}

func orUnnamed(mediaType string) string {
	if mediaType == "" {
		return "JSON"
	}
	return mediaType
}

func (v *manifestView) guessType() string {
	switch {
	case v.MediaType != "":
		return v.MediaType
	case v.Manifests != nil:
		return MediaTypeOCIIndex
	case v.Config != nil:
		return MediaTypeOCIManifest
	}
	return ""
}

func checkDescriptor(d Descriptor) error {
	if _, err := ParseDigest(string(d.Digest)); err != nil {
		return err
	}
	if d.Size < 0 {
		return Invalid("%s has the negative size %d", d.Digest, d.Size)
	}
	return nil
}

// Bytes returns the manifest as it was made. Do not change them.
func (m *Manifest) Bytes() []byte { return m.raw }

// Digest returns the sha256 digest of the bytes.
func (m *Manifest) Digest() Digest { return m.digest }

// Descriptor returns media type, digest, size and artifact type, as an index
// would list this manifest.
func (m *Manifest) Descriptor() Descriptor {
	return Descriptor{MediaType: m.MediaType, Digest: m.digest, Size: int64(len(m.raw)), ArtifactType: m.ArtifactType}
}

// Verify checks the bytes against a digest of any algorithm.
//
// Errors: as for [VerifyManifest].
func (m *Manifest) Verify(d Digest) error { return VerifyManifest(m.raw, d) }

// VerifyManifest checks the bytes of a manifest against a digest of any algorithm,
// whether they can be read or not.
//
// Errors: [ErrIntegrity]; [ErrInvalid] for a malformed digest.
func VerifyManifest(raw []byte, d Digest) error {
	if err := d.Validate(); err != nil {
		return Invalid("%w", err)
	}
	if got := d.Algorithm().FromBytes(raw); got != d {
		return &IntegrityError{What: "manifest", Want: d, Got: got}
	}
	return nil
}

// IsIndex tells whether the manifest lists other manifests.
func (m *Manifest) IsIndex() bool { return IsIndexType(m.MediaType) }

// imageConfigTypes are the configs that make a manifest a runnable image.
var imageConfigTypes = map[string]bool{
	"application/vnd.oci.image.config.v1+json":       true,
	"application/vnd.docker.container.image.v1+json": true,
}

// Kind says what the manifest is.
func (m *Manifest) Kind() Kind {
	switch {
	case !IsManifestType(m.MediaType):
		return KindUnknown
	case m.IsIndex():
		return KindIndex
	case m.Config != nil && imageConfigTypes[m.Config.MediaType] && m.ArtifactType == "":
		return KindImage
	}
	return KindArtifact
}

// Blobs returns config and layers, each digest once: the content to move before
// the manifest itself. Foreign layers, which may not be pushed and are fetched
// from the URLs that they name, are left out.
func (m *Manifest) Blobs() []Descriptor {
	var out []Descriptor
	seen := map[Digest]bool{}
	add := func(d Descriptor) {
		if !seen[d.Digest] && !IsForeign(d) {
			seen[d.Digest] = true
			out = append(out, d)
		}
	}
	if m.Config != nil {
		add(*m.Config)
	}
	for _, d := range m.Layers {
		add(d)
	}
	return out
}

// IsForeign tells whether a layer is distributed by its URLs alone.
func IsForeign(d Descriptor) bool {
	switch d.MediaType {
	case "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return len(d.URLs) > 0
	}
	return false
}

// Equal tells whether both have the same bytes and media type.
func (m *Manifest) Equal(o *Manifest) bool {
	return m.MediaType == o.MediaType && bytes.Equal(m.raw, o.raw)
}
