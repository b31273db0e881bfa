package ghcrtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Image is an image made for a test: a manifest, what it lists and what refers to
// it. [NewImage], [NewIndex] and the like make one, [Server.Add] puts it into a
// server past all checks, and [Image.WriteLayout] writes it to a directory.
type Image struct {
	Manifest *oci.Manifest
	Blobs    map[oci.Digest][]byte
	Children []*Image
	// Referrers are what was attached to it, by [Refer], [Sign], [CosignBundle] and the like.
	// They go wherever the image goes: attach first, then [Server.Add] it, or add it again.
	Referrers []*Image
	Platform  *oci.Platform
	// Tags of its own besides the one that it is added under, such as cosign's.
	Tags []string
}

// Digest returns the digest of the manifest.
func (i *Image) Digest() oci.Digest { return i.Manifest.Digest() }

// Descriptor returns the manifest's descriptor as an index would list it.
func (i *Image) Descriptor() oci.Descriptor {
	d := i.Manifest.Descriptor()
	d.Platform = i.Platform
	return d
}

// Layer makes a layer, a tar file compressed with gzip, from names and contents. A
// name that ends in "/" is a directory.
func Layer(files map[string]string) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	tw := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(1700000000, 0), Typeflag: tar.TypeReg}
		if name[len(name)-1] == '/' {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		must(tw.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := tw.Write([]byte(files[name]))
			must(err)
		}
	}
	must(tw.Close())
	must(z.Close())
	return buf.Bytes()
}

// must is for what cannot fail: writes to memory, and JSON of plain data.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// RandomLayer makes a layer that does not compress, the same for the same seed.
func RandomLayer(seed uint64, size int) []byte {
	data := make([]byte, size)
	random(seed).Read(data)
	return data
}

// RandomContent is what RandomLayer makes, as a stream: for content that is too
// large to hold.
func RandomContent(seed uint64, size int64) io.Reader {
	return io.LimitReader(random(seed), size)
}

func random(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1})
}

const configType = "application/vnd.oci.image.config.v1+json"

// imageTypes are the media types of manifest, config and layers.
type imageTypes struct{ manifest, config, layer string }

var (
	ociTypes    = imageTypes{oci.MediaTypeOCIManifest, configType, "application/vnd.oci.image.layer.v1.tar+gzip"}
	dockerTypes = imageTypes{oci.MediaTypeDockerManifest, "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"}
)

// NewImage makes an image for a platform, "linux/amd64" say, with these layers. It
// panics if the platform is malformed.
func NewImage(platform string, layers ...[]byte) *Image {
	return newImage(ociTypes, platform, layers)
}

// NewDockerImage makes an image as Docker wrote them before there was OCI.
func NewDockerImage(platform string, layers ...[]byte) *Image {
	return newImage(dockerTypes, platform, layers)
}

// Raw makes an image of a manifest that may be anything. It panics if the bytes
// contradict the media type.
func Raw(mediaType string, raw []byte) *Image {
	i := &Image{}
	i.setManifest(mediaType, raw)
	return i
}

func newImage(types imageTypes, platform string, layers [][]byte) *Image {
	p, err := oci.ParsePlatform(platform)
	must(err)
	diffs := []oci.Digest{}
	for _, l := range layers {
		diffs = append(diffs, digest.FromBytes(gunzip(l)))
	}
	config := marshal(map[string]any{
		"architecture": p.Architecture, "os": p.OS, "variant": p.Variant, "created": "2026-01-02T03:04:05Z",
		"config": map[string]any{"Env": []string{"PATH=/usr/bin:/bin"}, "Labels": map[string]string{"org.opencontainers.image.source": "https://github.com/acme/app"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	image := &Image{Blobs: map[oci.Digest][]byte{}, Platform: &p}
	list := []oci.Descriptor{}
	for _, l := range layers {
		list = append(list, image.blob(types.layer, l))
	}
	image.setManifest(types.manifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.manifest,
		"config": image.blob(types.config, config), "layers": list,
		"annotations": map[string]string{"org.opencontainers.image.title": "fixture"},
	}))
	return image
}

func gunzip(data []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return data
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(z); err != nil {
		return data
	}
	return out.Bytes()
}

func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	must(err)
	return raw
}

func (i *Image) blob(mediaType string, data []byte) oci.Descriptor {
	d := oci.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	i.Blobs[d.Digest] = data
	return d
}

func (i *Image) setManifest(mediaType string, raw []byte) {
	m, err := oci.ParseManifest(mediaType, raw)
	must(err)
	i.Manifest = m
}

// NewIndex makes an index of images.
func NewIndex(children ...*Image) *Image {
	return newIndex(oci.MediaTypeOCIIndex, children)
}

// NewDockerList makes a manifest list as Docker wrote them.
func NewDockerList(children ...*Image) *Image { return newIndex(oci.MediaTypeDockerList, children) }

func newIndex(mediaType string, children []*Image) *Image {
	list := []oci.Descriptor{}
	for _, c := range children {
		list = append(list, c.Descriptor())
	}
	index := &Image{Children: children}
	index.setManifest(mediaType, marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": list}))
	return index
}

// Attested makes an index as BuildKit pushes one: each image with an entry for its
// provenance, whose platform is unknown.
func Attested(children ...*Image) *Image {
	return attestedIndex(children, func(c *Image) *Image {
		return attestationManifest(map[string]any{}, marshal(map[string]any{
			"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
			"subject": []any{map[string]any{"name": "fixture", "digest": map[string]string{"sha256": c.Digest().Encoded()}}},
		}))
	})
}

// attestedIndex makes an index with an attestation for each image.
func attestedIndex(children []*Image, attest func(*Image) *Image) *Image {
	list := []oci.Descriptor{}
	all := slices.Clone(children)
	for _, c := range children {
		list = append(list, c.Descriptor())
	}
	for _, c := range children {
		a := attest(c)
		all = append(all, a)
		d := a.Descriptor()
		d.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": c.Digest().String(),
		}
		list = append(list, d)
	}
	index := &Image{Children: all}
	index.setManifest(oci.MediaTypeOCIIndex, marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": list}))
	return index
}

// Refer attaches an artifact to an image, as one with the image as its subject, and returns
// the artifact.
func Refer(subject *Image, artifactType, content string) *Image {
	r := &Image{Blobs: map[oci.Digest][]byte{}}
	empty := r.blob(oci.MediaTypeEmpty, []byte("{}"))
	r.setManifest(oci.MediaTypeOCIManifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "artifactType": artifactType,
		"config": empty, "layers": []oci.Descriptor{r.blob(artifactType, []byte(content))},
		"subject": subject.Manifest.Descriptor(),
	}))
	subject.Referrers = append(subject.Referrers, r)
	return r
}

// Sign attaches a signature to an image as cosign keeps it, as an artifact under the tag
// sha256-<hex>.sig, and returns the artifact.
func Sign(subject *Image) *Image {
	s := &Image{Blobs: map[oci.Digest][]byte{}, Tags: []string{oci.DigestTag(subject.Digest()) + ".sig"}}
	payload := s.blob("application/vnd.dev.cosign.simplesigning.v1+json", marshal(map[string]any{
		"critical": map[string]any{"image": map[string]string{"docker-manifest-digest": subject.Digest().String()}},
	}))
	s.setManifest(oci.MediaTypeOCIManifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest,
		"config": s.blob(configType, []byte(`{"architecture":"","os":""}`)), "layers": []oci.Descriptor{payload},
	}))
	subject.Referrers = append(subject.Referrers, s)
	return s
}

// WithBytes returns the image with other bytes for its manifest that say the same:
// white space and the order of keys are part of what a digest names.
func (i *Image) WithBytes(change func(raw []byte) []byte) *Image {
	other := *i
	other.setManifest(i.Manifest.MediaType, change(bytes.Clone(i.Manifest.Bytes())))
	return &other
}

// Add puts an image with all that belongs to it into a repository, under a tag or,
// with an empty tag, its digest alone. Nothing is asked or checked, and no request
// is logged.
//
// Errors: [oci.ErrInvalid] for a malformed name; a directory that cannot be written.
func (s *Server) Add(repo, tag string, image *Image) error {
	if err := oci.CheckName(repo); err != nil {
		return err
	}
	for d, data := range image.Blobs {
		if err := s.contents.put(d, data); err != nil {
			return err
		}
		if err := s.linkBlob(repo, d, identity{}); err != nil {
			return err
		}
	}
	for _, c := range image.Children {
		if err := s.Add(repo, "", c); err != nil {
			return err
		}
	}
	ref := tag
	if ref == "" {
		ref = image.Digest().String()
	}
	for _, name := range append([]string{ref}, image.Tags...) {
		if err := s.storeManifest(repo, name, image.Digest(), image.Manifest, event{}); err != nil {
			return err
		}
	}
	for _, r := range image.Referrers {
		if err := s.Add(repo, "", r); err != nil {
			return err
		}
	}
	return s.addFallback(repo, image)
}

// addFallback lists the referrers under the tag that stands in for the referrers
// API, as clients do that push them.
func (s *Server) addFallback(repo string, image *Image) error {
	if s.quirks.Referrers == "implemented" {
		return nil
	}
	var list []*Image
	for _, r := range image.Referrers {
		if r.Manifest.Subject != nil {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil
	}
	index := NewIndex(list...)
	return s.storeManifest(repo, oci.DigestTag(image.Digest()), index.Digest(), index.Manifest, event{})
}

// WriteLayout writes the image with all that belongs to it as an OCI image layout,
// under a tag or, with an empty tag, without a name. The directory is made.
//
// Errors: a directory that cannot be written.
func (i *Image) WriteLayout(dir, tag string) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	if err := i.writeBlobs(blobs); err != nil {
		return err
	}
	d := i.Descriptor()
	if tag != "" {
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	}
	entries := []oci.Descriptor{d}
	for _, r := range i.Referrers {
		e := r.Descriptor()
		if len(r.Tags) > 0 {
			e.Annotations = map[string]string{"org.opencontainers.image.ref.name": r.Tags[0]}
		}
		entries = append(entries, e)
	}
	index := marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": entries})
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func (i *Image) writeBlobs(dir string) error {
	all := maps.Clone(i.Blobs)
	if all == nil {
		all = map[oci.Digest][]byte{}
	}
	all[i.Digest()] = i.Manifest.Bytes()
	for d, data := range all {
		if err := os.WriteFile(filepath.Join(dir, d.Encoded()), data, 0o644); err != nil {
			return err
		}
	}
	for _, other := range slices.Concat(i.Children, i.Referrers) {
		if err := other.writeBlobs(dir); err != nil {
			return err
		}
	}
	return nil
}

// Holds checks that a repository has an image whole, with every manifest and blob
// byte for byte, under the tag or, with an empty tag, its digest. Referrers are not
// looked for.
//
// Errors: what is not there, or differs.
func (s *Server) Holds(repo, tag string, image *Image) error {
	ref := tag
	if ref == "" {
		ref = image.Digest().String()
	}
	v := s.store.manifest(repo, ref)
	if v == nil {
		return fmt.Errorf("%s has no manifest %s", repo, ref)
	}
	if v.desc.Digest != image.Digest() || !v.manifest.Equal(image.Manifest) {
		return fmt.Errorf("%s: %s is %s, want %s", repo, ref, v.desc.Digest, image.Digest())
	}
	for d, data := range image.Blobs {
		has, _ := s.store.hasBlob(repo, d)
		got, err := s.contents.read(d)
		if !has || err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("%s lacks the blob %s", repo, d)
		}
	}
	for _, c := range image.Children {
		if err := s.Holds(repo, "", c); err != nil {
			return err
		}
	}
	return nil
}
