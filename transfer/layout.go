package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Layout is an OCI image layout: a directory with content by digest and an index
// of what has a name. It is a [Source] and a [Target], safe for concurrent use,
// also by several processes.
type Layout struct {
	dir string
	mu  sync.Mutex // one writer of index.json
}

// layoutIndex is index.json. Fields that are not known are kept.
type layoutIndex struct {
	fields    map[string]json.RawMessage
	manifests []oci.Descriptor
}

// refNames are the annotations by which tools name an entry. The first is the
// specification's.
var refNames = []string{v1.AnnotationRefName, "io.containerd.image.name"}

// OpenLayout opens a layout that is there.
//
// Errors: [oci.ErrInvalid], saying what is missing or broken.
func OpenLayout(dir string) (*Layout, error) {
	l := &Layout{dir: dir}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, oci.Invalid("OCI layout %s: no such directory", dir)
	case err != nil:
		return nil, fmt.Errorf("OCI layout: %w", err)
	case !info.IsDir():
		return nil, oci.Invalid("OCI layout %s: not a directory (for a tar file write docker-archive:%s)", dir, dir)
	}
	data, err := os.ReadFile(filepath.Join(dir, v1.ImageLayoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Invalid("OCI layout %s: it has no file oci-layout, so it is no image layout", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	var header v1.ImageLayout
	if err := json.Unmarshal(data, &header); err != nil {
		return nil, oci.Invalid("OCI layout %s: the file oci-layout is not readable: %w", dir, err)
	}
	if header.Version != v1.ImageLayoutVersion {
		return nil, oci.Invalid("OCI layout %s: its version is %q; only %s is understood", dir, header.Version, v1.ImageLayoutVersion)
	}
	_, err = l.readIndex()
	return l, err
}

// CreateLayout opens a layout, and makes one where there is none.
//
// Errors: [oci.ErrInvalid] for a directory that holds something else.
func CreateLayout(dir string) (*Layout, error) {
	if _, err := os.Stat(filepath.Join(dir, v1.ImageLayoutFile)); err == nil {
		return OpenLayout(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Invalid("OCI layout %s: %w", dir, err)
	}
	for _, e := range entries {
		// A run that was cut off may have left blobs before anything else.
		if e.Name() != v1.ImageBlobsDir && e.Name() != v1.ImageIndexFile && !strings.HasPrefix(e.Name(), ".") {
			return nil, oci.Invalid("OCI layout %s: the directory holds other things, such as %s; choose an empty one", dir, e.Name())
		}
	}
	l := &Layout{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, v1.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := l.writeIndex(&layoutIndex{}); err != nil {
			return nil, err
		}
	}
	header, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	// The file by which a layout is known comes last.
	return l, writeAside(filepath.Join(dir, v1.ImageLayoutFile), header)
}

func (l *Layout) readIndex() (*layoutIndex, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, v1.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Invalid("OCI layout %s: it has no index.json", l.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	index := &layoutIndex{}
	if err := json.Unmarshal(data, &index.fields); err != nil {
		return nil, oci.Invalid("OCI layout %s: index.json is not readable: %w", l.dir, err)
	}
	if list := index.fields["manifests"]; list != nil {
		if err := json.Unmarshal(list, &index.manifests); err != nil {
			return nil, oci.Invalid("OCI layout %s: index.json is not readable: %w", l.dir, err)
		}
	}
	for _, d := range index.manifests {
		if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
			return nil, oci.Invalid("OCI layout %s: index.json: %w", l.dir, err)
		}
	}
	return index, nil
}

func (l *Layout) writeIndex(index *layoutIndex) error {
	data, err := index.marshal()
	if err != nil {
		return err
	}
	return writeAside(filepath.Join(l.dir, v1.ImageIndexFile), data)
}

func (index *layoutIndex) marshal() ([]byte, error) {
	fields := map[string]json.RawMessage{"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + oci.MediaTypeOCIIndex + `"`)}
	for k, v := range index.fields {
		fields[k] = v
	}
	if index.manifests == nil {
		index.manifests = []oci.Descriptor{}
	}
	var err error
	if fields["manifests"], err = json.Marshal(index.manifests); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// writeAside writes a file so that readers see the old or the new one, whole.
func writeAside(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// blobPath is where content with this digest is. Digests are checked before, so a
// path never leaves the layout.
func (l *Layout) blobPath(d oci.Digest) string {
	return filepath.Join(l.dir, v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (l *Layout) fail(format string, args ...any) error {
	return oci.Invalid("OCI layout %s: %w", l.dir, fmt.Errorf(format, args...))
}

// Manifest implements [Source]. An empty ref is the only image of the layout.
//
// Errors: [oci.ErrNotFound], naming the tags that there are; [oci.ErrInvalid] with
// [oci.ErrIntegrity] for content that is not what its name says.
func (l *Layout) Manifest(_ context.Context, ref string) (*oci.Manifest, error) {
	d, err := l.resolve(ref)
	if err != nil {
		return nil, err
	}
	if d.Size > oci.MaxManifestSize {
		return nil, l.fail("the manifest %s is %d bytes; the limit is %d", d.Digest, d.Size, oci.MaxManifestSize)
	}
	raw, err := os.ReadFile(l.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.fail("the manifest %s is missing from blobs: %w", d.Digest, oci.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if len(raw) > oci.MaxManifestSize {
		return nil, l.fail("the manifest %s is %d bytes; the limit is %d", d.Digest, len(raw), oci.MaxManifestSize)
	}
	mediaType := d.MediaType
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		return nil, l.fail("manifest %s: %w", d.Digest, err)
	}
	if err := m.Verify(d.Digest); err != nil {
		return nil, l.fail("%w", err)
	}
	return m, nil
}

// Resolve implements [Target].
func (l *Layout) Resolve(_ context.Context, ref string) (oci.Descriptor, error) {
	return l.resolve(ref)
}

func (l *Layout) resolve(ref string) (oci.Descriptor, error) {
	index, err := l.readIndex()
	if err != nil {
		return oci.Descriptor{}, err
	}
	if strings.Contains(ref, ":") {
		return l.resolveDigest(index, ref)
	}
	if ref == "" {
		return l.only(index)
	}
	for _, d := range index.manifests {
		if names(d, ref) {
			return d, nil
		}
	}
	return oci.Descriptor{}, l.fail("no image is tagged %q; %s: %w", ref, tagList(index), oci.ErrNotFound)
}

func (l *Layout) resolveDigest(index *layoutIndex, ref string) (oci.Descriptor, error) {
	want, err := oci.ParseDigest(ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	for _, d := range index.manifests {
		if d.Digest == want {
			return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType}, nil
		}
	}
	// Parts of an index are not listed; their own bytes say what they are.
	info, err := os.Stat(l.blobPath(want))
	if err != nil {
		return oci.Descriptor{}, l.fail("it does not hold %s: %w", want, oci.ErrNotFound)
	}
	return oci.Descriptor{Digest: want, Size: info.Size()}, nil
}

// only returns the image of a layout that holds one.
func (l *Layout) only(index *layoutIndex) (oci.Descriptor, error) {
	var images []oci.Descriptor
	for _, d := range index.manifests {
		if !slices.ContainsFunc(images, func(o oci.Descriptor) bool { return o.Digest == d.Digest }) {
			images = append(images, d)
		}
	}
	if len(images) > 1 {
		// Referrers are listed beside the image that they are about.
		named := slices.DeleteFunc(slices.Clone(images), func(d oci.Descriptor) bool { return nameOf(d) == "" })
		if len(named) == 1 {
			return named[0], nil
		}
	}
	switch len(images) {
	case 0:
		return oci.Descriptor{}, l.fail("it holds no image: %w", oci.ErrNotFound)
	case 1:
		return images[0], nil
	}
	return oci.Descriptor{}, l.fail("it holds %d images: choose one with oci:%s:TAG; %s", len(images), l.dir, tagList(index))
}

func names(d oci.Descriptor, tag string) bool {
	for _, key := range refNames {
		name := d.Annotations[key]
		if name == tag || strings.HasSuffix(name, ":"+tag) {
			return true
		}
	}
	return false
}

func nameOf(d oci.Descriptor) string {
	for _, key := range refNames {
		if name := d.Annotations[key]; name != "" {
			if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
				name = name[i+1:]
			}
			return name
		}
	}
	return ""
}

func tagList(index *layoutIndex) string {
	var tags []string
	for _, d := range index.manifests {
		if name := nameOf(d); name != "" {
			tags = append(tags, name)
		}
	}
	if len(tags) == 0 {
		return "it has no tags"
	}
	return "there are " + strings.Join(tags, ", ")
}

// TagNames implements [Tagger].
func (l *Layout) TagNames(context.Context) ([]string, error) {
	index, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, d := range index.manifests {
		if name := nameOf(d); name != "" {
			tags = append(tags, name)
		}
	}
	return tags, nil
}

// Referrers implements [Referrerer] by looking at what index.json lists.
func (l *Layout) Referrers(ctx context.Context, about oci.Digest) ([]oci.Descriptor, error) {
	index, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	var list []oci.Descriptor
	for _, d := range index.manifests {
		m, err := l.Manifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		if m.Subject != nil && m.Subject.Digest == about {
			list = append(list, m.Descriptor())
		}
	}
	return list, nil
}

// CheckBlob implements [Checker]: the blob must be there and as long as said. Its
// digest is left to whoever receives it.
func (l *Layout) CheckBlob(_ context.Context, d oci.Descriptor) error {
	info, err := os.Stat(l.blobPath(d.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.fail("the blob %s is missing: %w", d.Digest, oci.ErrNotFound)
	case err != nil:
		return err
	case info.Size() != d.Size:
		return l.fail("%w", &oci.IntegrityError{What: "blob", Want: d.Digest, WantSize: d.Size, GotSize: info.Size()})
	}
	return nil
}

// Blob implements [Source]. The reader is a section of a file.
func (l *Layout) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if err := l.CheckBlob(ctx, d); err != nil {
		return nil, err
	}
	if length < 0 {
		length = d.Size - offset
	}
	return openSection(l.blobPath(d.Digest), offset, length)
}

// Stage implements [Stager].
func (l *Layout) Stage(_ context.Context, d oci.Descriptor) (*Stage, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return nil, err
	}
	return openStage(l.blobPath(d.Digest), d)
}

// PutBlob implements [Target].
func (l *Layout) PutBlob(ctx context.Context, d oci.Descriptor, _ []string, open oci.Opener) (oci.Stored, error) {
	stage, err := l.Stage(ctx, d)
	if err != nil {
		return "", err
	}
	if stage == nil {
		return oci.StoredExisting, nil
	}
	for _, span := range stage.Missing() {
		if err := fillSpan(ctx, stage, span, open); err != nil {
			return "", errors.Join(err, stage.Close())
		}
	}
	if err := stage.Commit(); err != nil {
		return "", errors.Join(err, stage.Close())
	}
	return oci.StoredUpload, nil
}

func fillSpan(ctx context.Context, stage *Stage, s Span, open oci.Opener) error {
	body, err := open(ctx, s.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	return copySpan(ctx, stage, s, body, nil)
}

// PutManifest implements [Target]. A manifest that is put by its digest is listed
// only if it has a subject, since nothing else would lead to it.
func (l *Layout) PutManifest(_ context.Context, ref string, m *oci.Manifest) error {
	want := m.Digest()
	if strings.Contains(ref, ":") {
		d, err := oci.ParseDigest(ref)
		if err != nil {
			return err
		}
		if err := m.Verify(d); err != nil {
			return l.fail("%w", err)
		}
		want = d
	} else if err := oci.CheckTag(ref); err != nil {
		return err
	}
	if _, err := os.Stat(l.blobPath(want)); err != nil {
		if err := os.MkdirAll(filepath.Dir(l.blobPath(want)), 0o755); err != nil {
			return err
		}
		if err := writeAside(l.blobPath(want), m.Bytes()); err != nil {
			return err
		}
	}
	if strings.Contains(ref, ":") {
		if m.Subject == nil {
			return nil
		}
		ref = ""
	}
	d := m.Descriptor()
	d.Digest = want
	return l.list(d, ref)
}

// list enters a manifest into index.json: under a tag, which it takes from any
// other, or without one.
func (l *Layout) list(d oci.Descriptor, tag string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock, err := os.OpenFile(filepath.Join(l.dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := lockFile(lock); err != nil {
		return err
	}
	index, err := l.readIndex()
	if err != nil {
		return err
	}
	if tag == "" {
		if slices.ContainsFunc(index.manifests, func(o oci.Descriptor) bool { return o.Digest == d.Digest }) {
			return nil
		}
	} else {
		index.manifests = slices.DeleteFunc(index.manifests, func(o oci.Descriptor) bool {
			return nameOf(o) == tag || o.Digest == d.Digest && nameOf(o) == ""
		})
		d.Annotations = map[string]string{v1.AnnotationRefName: tag}
	}
	index.manifests = append(index.manifests, d)
	return l.writeIndex(index)
}
