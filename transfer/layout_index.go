package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// layoutIndex is what index.json says of a layout, in a directory or in a tar
// file. It is not changed once it was read.
type layoutIndex struct {
	fields  map[string]json.RawMessage
	entries []indexEntry
}

// indexEntry is a descriptor of the index, as it was read: what is not understood
// in it is kept.
type indexEntry struct {
	oci.Descriptor
	raw json.RawMessage // nil for a new entry
}

// UnmarshalJSON implements [json.Unmarshaler].
func (e *indexEntry) UnmarshalJSON(data []byte) error {
	e.raw = slices.Clone(data)
	return json.Unmarshal(data, &e.Descriptor)
}

// MarshalJSON implements [json.Marshaler].
func (e indexEntry) MarshalJSON() ([]byte, error) {
	if e.raw != nil {
		return e.raw, nil
	}
	return json.Marshal(e.Descriptor)
}

// imageNames are the annotations by which tools name an entry: the
// specification's, which holds a tag or a whole name, and containerd's, which
// holds a whole name.
var imageNames = []string{v1.AnnotationRefName, containerdName}

const containerdName = "io.containerd.image.name"

// maxLayoutJSON bounds the small files that say what is in a layout or archive.
const maxLayoutJSON = 64 << 20

func checkLayoutHeader(data []byte) error {
	var header v1.ImageLayout
	if err := json.Unmarshal(data, &header); err != nil {
		return fmt.Errorf("the file oci-layout is not readable: %w", err)
	}
	if header.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("its version is %q; only %s is understood", header.Version, v1.ImageLayoutVersion)
	}
	return nil
}

func parseIndex(data []byte) (*layoutIndex, error) {
	index := &layoutIndex{}
	if err := json.Unmarshal(data, &index.fields); err != nil {
		return nil, fmt.Errorf("index.json is not readable: %w", err)
	}
	if list := index.fields["manifests"]; list != nil {
		if err := json.Unmarshal(list, &index.entries); err != nil {
			return nil, fmt.Errorf("index.json is not readable: %w", err)
		}
	}
	for _, e := range index.entries {
		if _, err := oci.ParseDigest(string(e.Digest)); err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
	}
	return index, nil
}

func (index *layoutIndex) marshal() ([]byte, error) {
	fields := map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + oci.MediaTypeOCIIndex + `"`),
	}
	for k, v := range index.fields {
		fields[k] = v
	}
	entries := index.entries
	if entries == nil {
		entries = []indexEntry{}
	}
	var err error
	if fields["manifests"], err = json.Marshal(entries); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// find returns the entry that a tag, a whole name or a digest means; an empty ref
// is the only image. Of a digest that is not listed, as those inside an index are
// not, only the digest is returned.
//
// Errors: [oci.ErrNotFound], naming what there is; others for a ref that is
// ambiguous.
func (index *layoutIndex) find(ref string, refers func(oci.Descriptor) bool) (oci.Descriptor, error) {
	if ref == "" {
		return index.only(refers)
	}
	if d, err := oci.ParseDigest(ref); err == nil {
		for _, e := range index.entries {
			if e.Digest == d {
				return oci.Descriptor{MediaType: e.MediaType, Digest: d, Size: e.Size, ArtifactType: e.ArtifactType}, nil
			}
		}
		return oci.Descriptor{Digest: d}, nil
	}
	found := index.images(func(e indexEntry) bool {
		return slices.ContainsFunc(imageNames, func(key string) bool { return sameName(e.Annotations[key], ref) })
	})
	if len(found) == 0 {
		found = index.images(func(e indexEntry) bool { return tagOf(e.Descriptor) == ref })
	}
	switch len(found) {
	case 0:
		return oci.Descriptor{}, fmt.Errorf("no image is %s %q; %s: %w", namedOrTagged(ref), ref, index.list(), oci.ErrNotFound)
	case 1:
		return found[0].Descriptor, nil
	}
	return oci.Descriptor{}, oci.Invalid("%d images are %s %q: choose one by its whole name or digest; %s", len(found), namedOrTagged(ref), ref, index.list())
}

// only returns the image of a layout that holds one. Its signatures and other
// referrers may be listed beside it.
func (index *layoutIndex) only(refers func(oci.Descriptor) bool) (oci.Descriptor, error) {
	found := index.images(func(indexEntry) bool { return true })
	if len(found) > 1 {
		found = slices.DeleteFunc(found, func(e indexEntry) bool {
			tag := tagOf(e.Descriptor)
			_, _, ok := oci.ParseDigestTag(tag)
			return ok || tag == "" && refers(e.Descriptor)
		})
	}
	switch len(found) {
	case 0:
		return oci.Descriptor{}, fmt.Errorf("it holds no image: %w", oci.ErrNotFound)
	case 1:
		return found[0].Descriptor, nil
	}
	return oci.Descriptor{}, oci.Invalid("it holds %d images: choose one by tag or digest; %s", len(found), index.list())
}

// images returns the entries that are wanted, each digest once.
func (index *layoutIndex) images(want func(indexEntry) bool) []indexEntry {
	var found []indexEntry
	seen := map[oci.Digest]bool{}
	for _, e := range index.entries {
		if !seen[e.Digest] && want(e) {
			seen[e.Digest] = true
			found = append(found, e)
		}
	}
	return found
}

// tags returns the tags of the entries, each once.
func (index *layoutIndex) tags() []string {
	var tags []string
	seen := map[string]bool{"": true}
	for _, e := range index.entries {
		if tag := tagOf(e.Descriptor); !seen[tag] {
			seen[tag] = true
			tags = append(tags, tag)
		}
	}
	return tags
}

// list says in words which images there are: by whole name or tag, or by digest
// where none has a name. Signatures, whose tags are digests, are not what anyone
// looks for.
func (index *layoutIndex) list() string {
	var names, digests []string
	for _, e := range index.entries {
		digests = append(digests, e.Digest.String())
		name := cmp.Or(e.Annotations[containerdName], e.Annotations[v1.AnnotationRefName])
		if _, _, ok := oci.ParseDigestTag(tagIn(name)); !ok && name != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = digests
	}
	return listNames(names)
}

// namedOrTagged is the word for what a ref is to an image.
func namedOrTagged(ref string) string {
	if strings.ContainsAny(ref, ":/") {
		return "named"
	}
	return "tagged"
}

// listNames says in words which names there are, but not more than one can read.
func listNames(names []string) string {
	const most = 20
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	switch {
	case len(names) == 0:
		return "there are none"
	case len(names) > most:
		return fmt.Sprintf("there are %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return "there are " + strings.Join(names, ", ")
}

// tagOf returns the tag by which an entry is known, or nothing.
func tagOf(d oci.Descriptor) string {
	for _, key := range imageNames {
		if name := d.Annotations[key]; name != "" {
			return tagIn(name)
		}
	}
	return ""
}

// tagIn returns the tag at the end of a name, or the name where it is only a tag.
func tagIn(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[i+1:]
	}
	return name
}

// sameName compares names as docker does, for which "app:v1" is
// "docker.io/library/app:v1".
func sameName(a, b string) bool {
	short := func(s string) string {
		return strings.TrimPrefix(strings.TrimPrefix(s, "docker.io/"), "library/")
	}
	return a != "" && short(a) == short(b)
}

// referrersOf finds every manifest with a subject among those that the index
// lists, and those that they list, by the subject.
func (index *layoutIndex) referrersOf(ctx context.Context, src Source) (map[oci.Digest][]oci.Descriptor, error) {
	found := map[oci.Digest][]oci.Descriptor{}
	seen := map[oci.Digest]bool{}
	var visit func(d oci.Descriptor) error
	visit = func(d oci.Descriptor) error {
		if seen[d.Digest] || d.MediaType != "" && !oci.IsManifestType(d.MediaType) {
			return nil
		}
		seen[d.Digest] = true
		m, err := src.Manifest(ctx, d.Digest.String())
		if errors.Is(err, oci.ErrNotFound) {
			return nil // of an index, some platforms may have been left out
		}
		if err != nil {
			return err
		}
		if m.Subject != nil {
			found[m.Subject.Digest] = append(found[m.Subject.Digest], referrer(m, d.Digest))
		}
		for _, child := range m.Manifests {
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	for _, e := range index.entries {
		if err := visit(e.Descriptor); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// referrer describes a manifest as a registry's list of referrers does.
func referrer(m *oci.Manifest, d oci.Digest) oci.Descriptor {
	desc := m.Descriptor()
	desc.Digest, desc.Annotations = d, m.Annotations
	if desc.ArtifactType == "" && m.Config != nil {
		desc.ArtifactType = m.Config.MediaType
	}
	return desc
}

// parseStored reads a manifest out of a layout. Its digest is checked before
// anything that it says.
func parseStored(d oci.Descriptor, raw []byte) (*oci.Manifest, error) {
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, &oci.IntegrityError{What: "manifest", Want: d.Digest, Got: got}
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return m, nil
}

// readRegular reads a file whole that must be a file and not be longer than limit.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, oci.Invalid("%s: not a file of at most %d bytes", path, limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = oci.Invalid("%s: longer than %d bytes", path, limit)
	}
	return data, err
}
