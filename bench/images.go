//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// image is one that is moved about; its layout is made once and kept.
type image struct {
	name  string
	about string
	make  func(ctx context.Context, l *layoutMaker) (oci.Descriptor, error)
}

const mib = 1 << 20

var (
	debian = image{"deb", "a Debian root file system, about 90 MB in 3 layers", makeDebian}
	many   = image{"many", "40 layers of 1 MB", func(_ context.Context, l *layoutMaker) (oci.Descriptor, error) {
		return l.random("amd64", 40, 1_000_000)
	}}
	large   = image{"llm", "4 layers of 512 MB that do not compress", func(_ context.Context, l *layoutMaker) (oci.Descriptor, error) { return l.random("amd64", 4, 512*mib) }}
	derived = image{"derived", "the Debian image and one more layer of 1 MB", makeDerived}
	index   = image{"index", "4 platforms of 5 layers of 1 MB", makeIndex}
)

func (b *bench) layout(img image) string { return filepath.Join(b.dir, "lay-"+img.name) }

// makeImages makes what is missing of these; derived needs debian before it.
func (b *bench) makeImages(ctx context.Context, images []image) error {
	for _, img := range images {
		dir := b.layout(img)
		if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
			continue
		}
		b.say("make the image %s: %s", img.name, img.about)
		l := &layoutMaker{dir: dir, seed: uint64(len(img.name))}
		root, err := img.make(ctx, l)
		if err == nil {
			err = l.finish(root)
		}
		if err != nil {
			return fmt.Errorf("make the image %s: %w", img.name, err)
		}
	}
	return nil
}

// layoutMaker writes an OCI image layout.
type layoutMaker struct {
	dir  string
	seed uint64
}

// blob writes what fill writes, and returns its descriptor.
func (l *layoutMaker) blob(mediaType string, fill func(io.Writer) error) (oci.Descriptor, error) {
	blobs := filepath.Join(l.dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return oci.Descriptor{}, err
	}
	f, err := os.CreateTemp(l.dir, "blob-*")
	if err != nil {
		return oci.Descriptor{}, err
	}
	hash := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, hash), mib)
	err = errors.Join(fill(out), out.Flush())
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return oci.Descriptor{}, err
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, hash), Size: info.Size()}
	return d, os.Rename(f.Name(), filepath.Join(blobs, d.Digest.Encoded()))
}

func (l *layoutMaker) json(mediaType string, v any) (oci.Descriptor, error) {
	return l.blob(mediaType, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

const (
	layerTar  = "application/vnd.oci.image.layer.v1.tar"
	layerGzip = layerTar + "+gzip"
)

// image writes config and manifest of an image.
func (l *layoutMaker) image(architecture string, layers []oci.Descriptor, diffIDs []oci.Digest) (oci.Descriptor, error) {
	platform := oci.Platform{OS: "linux", Architecture: architecture}
	config, err := l.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"os": platform.OS, "architecture": architecture, "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := l.json(oci.MediaTypeOCIManifest, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "config": config, "layers": layers,
	})
	d.Platform = &platform
	return d, err
}

// random makes an image of layers that do not compress.
func (l *layoutMaker) random(architecture string, count int, size int64) (oci.Descriptor, error) {
	var layers []oci.Descriptor
	var ids []oci.Digest
	for range count {
		d, err := l.randomLayer(architecture[0], size)
		if err != nil {
			return d, err
		}
		layers, ids = append(layers, d), append(ids, d.Digest)
	}
	return l.image(architecture, layers, ids)
}

// randomLayer makes a tar file with one file of random bytes.
func (l *layoutMaker) randomLayer(kind byte, size int64) (oci.Descriptor, error) {
	l.seed++
	source := rand.NewChaCha8([32]byte{byte(l.seed), byte(l.seed >> 8), kind})
	return l.blob(layerTar, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		err := archive.WriteHeader(&tar.Header{Name: fmt.Sprint("data-", l.seed), Mode: 0o644, Size: size, Format: tar.FormatPAX})
		if err == nil {
			_, err = io.CopyN(archive, source, size)
		}
		return errors.Join(err, archive.Close())
	})
}

func makeIndex(_ context.Context, l *layoutMaker) (oci.Descriptor, error) {
	var entries []oci.Descriptor
	for _, architecture := range []string{"amd64", "arm64", "riscv64", "s390x"} {
		d, err := l.random(architecture, 5, 1_000_000)
		if err != nil {
			return d, err
		}
		entries = append(entries, d)
	}
	return l.json(oci.MediaTypeOCIIndex, map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": entries})
}

// makeDerived adds a layer to the Debian image, which is made already.
func makeDerived(_ context.Context, l *layoutMaker) (oci.Descriptor, error) {
	base := filepath.Join(filepath.Dir(l.dir), "lay-"+debian.name)
	read := func(path string, v any) error {
		raw, err := os.ReadFile(filepath.Join(base, path))
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, v)
	}
	blob := func(d oci.Digest) string { return filepath.Join("blobs", "sha256", d.Encoded()) }
	var root struct{ Manifests []oci.Descriptor }
	var manifest struct {
		Config oci.Descriptor
		Layers []oci.Descriptor
	}
	var config struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		}
	}
	err := read("index.json", &root)
	if err == nil {
		err = read(blob(root.Manifests[0].Digest), &manifest)
	}
	if err == nil {
		err = read(blob(manifest.Config.Digest), &config)
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	added, err := l.randomLayer('d', 1_000_000)
	if err != nil {
		return added, err
	}
	for _, d := range manifest.Layers {
		if err := os.Link(filepath.Join(base, blob(d.Digest)), filepath.Join(l.dir, blob(d.Digest))); err != nil {
			return d, err
		}
	}
	return l.image("amd64", append(manifest.Layers, added), append(config.RootFS.DiffIDs, added.Digest))
}

// makeDebian installs a small Debian and cuts its files, in order of their names,
// into three layers of like size.
func makeDebian(ctx context.Context, l *layoutMaker) (oci.Descriptor, error) {
	root, err := os.MkdirTemp("", "ghcr-bench-debian-*")
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer os.RemoveAll(root)
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include=git", "bookworm", root)
	if out, err := cmd.CombinedOutput(); err != nil {
		return oci.Descriptor{}, fmt.Errorf("debootstrap (this needs root): %w\n%s", err, out[max(0, len(out)-2000):])
	}
	var paths []string
	var sizes []int64
	var total int64
	skip := []string{"dev", "proc", "sys", "var/cache/apt", "var/lib/apt/lists"}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if slices.Contains(skip, name) {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size := int64(100) // of an entry, packed
		if info.Mode().IsRegular() {
			packed, err := packedSize(path)
			if err != nil {
				return err
			}
			size += packed
		}
		paths, sizes, total = append(paths, name), append(sizes, size), total+size
		return nil
	})
	if err != nil {
		return oci.Descriptor{}, err
	}
	const parts = 3
	var layers []oci.Descriptor
	var ids []oci.Digest
	for begin, done := 0, int64(0); len(layers) < parts; {
		end := begin
		for ; end < len(paths) && (done < total*int64(len(layers)+1)/parts || len(layers) == parts-1); end++ {
			done += sizes[end]
		}
		plain := sha256.New()
		d, err := l.blob(layerGzip, func(w io.Writer) error {
			packed, err := gzip.NewWriterLevel(w, gzip.DefaultCompression)
			if err != nil {
				return err
			}
			return errors.Join(packTree(io.MultiWriter(packed, plain), root, paths[begin:end]), packed.Close())
		})
		if err != nil {
			return d, err
		}
		layers, ids = append(layers, d), append(ids, digest.NewDigest(digest.SHA256, plain))
		begin = end
	}
	return l.image("amd64", layers, ids)
}

// packedSize is about what a file adds to a layer.
func packedSize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n counted
	w, err := gzip.NewWriterLevel(&n, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(w, f)
	return int64(n), errors.Join(err, w.Close())
}

type counted int64

func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}

func packTree(w io.Writer, root string, paths []string) error {
	archive := tar.NewWriter(w)
	for _, name := range paths {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		header.Name = name
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			header.Uid, header.Gid = int(owner.Uid), int(owner.Gid)
		}
		header.Uname, header.Gname = "", ""
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return archive.Close()
}

// finish writes what makes the directory a layout, whose image has the tag v1.
func (l *layoutMaker) finish(root oci.Descriptor) error {
	root.Annotations = map[string]string{"org.opencontainers.image.ref.name": "v1"}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []oci.Descriptor{root}})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(l.dir, "index.json"), raw, 0o644),
		os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
	)
}
