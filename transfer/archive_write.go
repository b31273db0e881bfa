package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ArchiveWriter writes an archive that docker load reads, and that is an OCI
// layout in a tar file as well, so that digests survive. It is a [Target]. What
// is put lies in a directory beside the file until [ArchiveWriter.Commit], so a
// run that was cut off goes on where it ended.
type ArchiveWriter struct {
	*Layout
	file  string
	name  string
	aside string

	mu   sync.Mutex
	kept map[oci.Digest]bool // what belongs to this image; the directory may hold more
}

// CreateArchive prepares to write a file. The image's name, such as
// "ghcr.io/acme/app:v1", is what docker load will tag it with; it may be empty.
//
// Errors: [oci.ErrInvalid] if file is a directory, or its directory is missing.
func CreateArchive(file, name string) (*ArchiveWriter, error) {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return nil, oci.Invalid("archive %s: it is a directory (for an OCI layout write oci:%s)", file, file)
	}
	dir := filepath.Dir(file)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, oci.Invalid("archive %s: there is no directory %s", file, dir)
	}
	aside := filepath.Join(dir, "."+filepath.Base(file)+".partial")
	layout, err := CreateLayout(aside)
	if err != nil {
		return nil, err
	}
	return &ArchiveWriter{Layout: layout, file: file, name: name, aside: aside, kept: map[oci.Digest]bool{}}, nil
}

func (a *ArchiveWriter) keep(d oci.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept[d] = true
}

// Stage implements [Stager].
func (a *ArchiveWriter) Stage(ctx context.Context, d oci.Descriptor) (*Stage, error) {
	a.keep(d.Digest)
	return a.Layout.Stage(ctx, d)
}

// PutBlob implements [Target].
func (a *ArchiveWriter) PutBlob(ctx context.Context, d oci.Descriptor, mount []string, open oci.Opener) (oci.Stored, error) {
	a.keep(d.Digest)
	return a.Layout.PutBlob(ctx, d, mount, open)
}

// PutManifest implements [Target].
func (a *ArchiveWriter) PutManifest(ctx context.Context, ref string, m *oci.Manifest) error {
	a.keep(m.Digest())
	if err := a.Layout.PutManifest(ctx, ref, m); err != nil {
		return err
	}
	// Other than in a layout, what is in an archive without a name is listed too:
	// it may be the whole image.
	return a.list(m.Descriptor(), "")
}

// Commit writes the file aside and renames it into place. The image with this
// digest is the one that docker load loads.
func (a *ArchiveWriter) Commit(ctx context.Context, d oci.Digest) error {
	m, err := a.Manifest(ctx, d.String())
	if err != nil {
		return err
	}
	members, err := a.members(ctx, m)
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(a.file), "."+filepath.Base(a.file)+"-*")
	if err != nil {
		return err
	}
	err = a.write(out, members)
	if err == nil {
		err = out.Chmod(0o644)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), a.file)
	}
	if err != nil {
		os.Remove(out.Name())
		return fmt.Errorf("write archive %s: %w", a.file, err)
	}
	return os.RemoveAll(a.aside)
}

// member is a file of the archive: data, or the content of a blob.
type member struct {
	name string
	data []byte
	blob oci.Digest
}

// members lists the files in a fixed order, those first that say what is in the
// archive.
func (a *ArchiveWriter) members(ctx context.Context, m *oci.Manifest) ([]member, error) {
	list, err := a.loadList(ctx, m)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []legacyImage{}
	}
	manifest, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	index, err := a.readIndex()
	if err != nil {
		return nil, err
	}
	index.manifests = slices.DeleteFunc(index.manifests, func(d oci.Descriptor) bool {
		// Parts of an index are found through it.
		return !a.kept[d.Digest] || nameOf(d) == "" && d.Digest != m.Digest() && !a.refers(ctx, d)
	})
	entries, err := index.marshal()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	files := []member{
		{name: v1.ImageLayoutFile, data: header},
		{name: v1.ImageIndexFile, data: entries},
		{name: "manifest.json", data: manifest},
	}
	for _, d := range slices.Sorted(maps.Keys(a.kept)) {
		files = append(files, member{name: blobMember(d), blob: d})
	}
	return files, nil
}

// refers tells whether a manifest is about another one, so that only its entry in
// the index leads to it.
func (a *ArchiveWriter) refers(ctx context.Context, d oci.Descriptor) bool {
	m, err := a.Manifest(ctx, d.Digest.String())
	return err == nil && m.Subject != nil
}

// loadList makes manifest.json, which docker load goes by: an entry for each image
// that has a platform.
func (a *ArchiveWriter) loadList(ctx context.Context, m *oci.Manifest) ([]legacyImage, error) {
	if m.Kind() == oci.KindIndex {
		var list []legacyImage
		for _, d := range m.Manifests {
			if !oci.IsManifestType(d.MediaType) || d.Platform != nil && !oci.HasPlatform(d) {
				continue
			}
			child, err := a.Manifest(ctx, d.Digest.String())
			if err != nil {
				return nil, err
			}
			more, err := a.loadList(ctx, child)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
		return list, nil
	}
	if m.Kind() != oci.KindImage {
		return nil, nil
	}
	image := legacyImage{Config: blobMember(m.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	if a.name != "" {
		image.RepoTags = append(image.RepoTags, a.name)
	}
	for _, d := range m.Layers {
		image.Layers = append(image.Layers, blobMember(d.Digest))
	}
	return []legacyImage{image}, nil
}

// write writes all members with fixed times, so that the same image always makes
// the same file.
func (a *ArchiveWriter) write(out io.Writer, members []member) error {
	tw := tar.NewWriter(out)
	for _, m := range members {
		if m.blob == "" {
			if err := writeMember(tw, m.name, int64(len(m.data)), bytes.NewReader(m.data)); err != nil {
				return err
			}
			continue
		}
		if err := a.writeBlob(tw, m); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (a *ArchiveWriter) writeBlob(tw *tar.Writer, m member) error {
	f, err := os.Open(a.blobPath(m.blob))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return writeMember(tw, m.name, info.Size(), f)
}

func writeMember(tw *tar.Writer, name string, size int64, r io.Reader) error {
	err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg})
	if err != nil {
		return err
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	_, err = io.CopyBuffer(struct{ io.Writer }{tw}, r, *buf)
	return err
}
