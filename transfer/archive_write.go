package transfer

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ArchiveWriter writes an archive that docker load reads, and that is an OCI
// layout in a tar file as well, so that digests survive. It is a [Target]. What
// is put lies in a directory beside the file until [ArchiveWriter.Commit], so a
// run that was cut off goes on where it ended. There is nothing to close.
//
// One run at a time may write a file.
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
// Errors: [oci.ErrInvalid] if file is a directory or no regular file, or its directory is
// missing.
func CreateArchive(file, name string) (*ArchiveWriter, error) {
	switch info, err := os.Stat(file); {
	case err == nil && info.IsDir():
		return nil, oci.Invalid("archive %s: it is a directory (for an OCI layout write oci:%s)", file, file)
	case err == nil && !info.Mode().IsRegular():
		return nil, oci.Invalid("archive %s: it is a device or a pipe, which the archive would take the place of", file)
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
	stage, err := a.Layout.Stage(ctx, d)
	if err == nil {
		a.keep(d.Digest)
	}
	return stage, err
}

// PutBlob implements [Target].
func (a *ArchiveWriter) PutBlob(ctx context.Context, d oci.Descriptor, mount []string, open oci.Opener) (oci.Stored, error) {
	stored, err := a.Layout.PutBlob(ctx, d, mount, open)
	if err == nil {
		a.keep(d.Digest)
	}
	return stored, err
}

// PutManifest implements [Target].
func (a *ArchiveWriter) PutManifest(ctx context.Context, ref string, m *oci.Manifest) error {
	if err := a.Layout.PutManifest(ctx, ref, m); err != nil {
		return err
	}
	if d, err := oci.ParseDigest(ref); err == nil {
		a.keep(d)
	} else {
		a.keep(m.Digest())
	}
	return nil
}

// Commit writes the file aside and renames it into place. The image with this
// digest is the one that docker load loads and that the name is given to. After an
// error, what was put is still there for another run.
//
// Errors: [oci.ErrInvalid], with [oci.ErrNotFound], for an image that was not put whole;
// those of writing; the context's.
func (a *ArchiveWriter) Commit(ctx context.Context, d oci.Digest) error {
	if err := a.commit(ctx, d); err != nil {
		return fmt.Errorf("write archive %s: %w", a.file, err)
	}
	return os.RemoveAll(a.aside)
}

func (a *ArchiveWriter) commit(ctx context.Context, d oci.Digest) error {
	files, err := a.files(ctx, d)
	if err != nil {
		return err
	}
	// It lies in the directory that goes at the end, so nothing is left of a run that
	// was cut off here.
	path := filepath.Join(a.aside, ".archive")
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	err = a.write(ctx, out, files)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(path, a.file)
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// archiveFile is a file to write into the archive: data, or the content of a blob.
type archiveFile struct {
	name string
	data []byte
	blob oci.Digest
}

// files lists what to write in a fixed order, that first which says what is in the
// archive.
func (a *ArchiveWriter) files(ctx context.Context, root oci.Digest) ([]archiveFile, error) {
	m, err := a.Manifest(ctx, root.String())
	if err != nil {
		return nil, err
	}
	loads, err := a.loadList(ctx, m)
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(loads)
	if err != nil {
		return nil, err
	}
	index, err := a.listed(ctx, root)
	if err != nil {
		return nil, err
	}
	entries, err := index.marshal()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	files := []archiveFile{
		{name: v1.ImageLayoutFile, data: header},
		{name: v1.ImageIndexFile, data: entries},
		{name: "manifest.json", data: manifest},
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range slices.Sorted(maps.Keys(a.kept)) {
		files = append(files, archiveFile{name: blobMember(d), blob: d})
	}
	return files, nil
}

// listed returns the index of the archive: of what was put in this run, the image
// itself, what has a tag, and what refers to something. The image carries its
// whole name too, by which containerd and newer versions of docker know it.
func (a *ArchiveWriter) listed(ctx context.Context, root oci.Digest) (*layoutIndex, error) {
	index, err := a.read()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	kept := maps.Clone(a.kept)
	a.mu.Unlock()
	var entries []indexEntry
	for _, e := range index.entries {
		if !kept[e.Digest] {
			continue
		}
		if e.Digest == root && a.name != "" {
			e = indexEntry{Descriptor: e.Descriptor}
			e.Annotations = maps.Clone(e.Annotations)
			if e.Annotations == nil {
				e.Annotations = map[string]string{}
			}
			e.Annotations[containerdName] = a.name
		}
		if e.Digest == root || tagOf(e.Descriptor) != "" || a.refers(ctx, e.Descriptor) {
			entries = append(entries, e)
		}
	}
	// Blobs arrive in any order, manifests too.
	slices.SortStableFunc(entries, func(x, y indexEntry) int {
		return cmp.Or(order(x.Digest != root)-order(y.Digest != root), strings.Compare(string(x.Digest), string(y.Digest)))
	})
	return &layoutIndex{fields: index.fields, entries: entries}, nil
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}

// refers tells whether a manifest is about another one, so that only its entry in
// the index leads to it.
func (a *ArchiveWriter) refers(ctx context.Context, d oci.Descriptor) bool {
	m, err := a.Manifest(ctx, d.Digest.String())
	return err == nil && m.Subject != nil
}

// loadList makes manifest.json, which docker load goes by where it does not know
// layouts: an entry for each image that is there. The name is that of the first
// for linux/amd64, or else of the first, since of images with one name the last
// would win.
func (a *ArchiveWriter) loadList(ctx context.Context, root *oci.Manifest) ([]legacyImage, error) {
	list := []legacyImage{}
	named := -1
	var add func(m *oci.Manifest, p *oci.Platform) error
	add = func(m *oci.Manifest, p *oci.Platform) error {
		switch m.Kind() {
		case oci.KindIndex:
			for _, d := range m.Manifests {
				if !oci.IsManifestType(d.MediaType) || d.Platform != nil && !oci.HasPlatform(d) {
					continue
				}
				child, err := a.Manifest(ctx, d.Digest.String())
				if errors.Is(err, oci.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if err := add(child, d.Platform); err != nil {
					return err
				}
			}
		case oci.KindImage:
			if named < 0 && p != nil && p.OS == "linux" && p.Architecture == "amd64" {
				named = len(list)
			}
			image := legacyImage{Config: blobMember(m.Config.Digest), RepoTags: []string{}, Layers: []string{}}
			for _, d := range m.Layers {
				image.Layers = append(image.Layers, blobMember(d.Digest))
			}
			list = append(list, image)
		}
		return nil
	}
	if err := add(root, nil); err != nil {
		return nil, err
	}
	if a.name != "" && len(list) > 0 {
		list[max(named, 0)].RepoTags = []string{a.name}
	}
	return list, nil
}

// write writes all files with fixed times, so that the same image always makes the
// same archive.
func (a *ArchiveWriter) write(ctx context.Context, out io.Writer, files []archiveFile) error {
	tw := tar.NewWriter(out)
	for _, f := range files {
		if err := a.writeFile(ctx, tw, f); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (a *ArchiveWriter) writeFile(ctx context.Context, tw *tar.Writer, f archiveFile) error {
	var body io.Reader = bytes.NewReader(f.data)
	size := int64(len(f.data))
	if f.blob != "" {
		blob, err := os.Open(a.blobPath(f.blob))
		if err != nil {
			return err
		}
		defer blob.Close()
		info, err := blob.Stat()
		if err != nil {
			return err
		}
		body, size = blob, info.Size()
	}
	h := &tar.Header{Name: f.name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := copyBody(ctx, tw, body)
	return err
}
