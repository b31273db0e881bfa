package transfer

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/llm-dev-ops/ghcr/oci"
)

// legacyImage is an entry of manifest.json, the only list that older archives
// have.
type legacyImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// madeImage is the manifest that was made for a legacy image, and where its blobs
// are.
type madeImage struct {
	manifest *oci.Manifest
	blobs    map[oci.Digest]madeBlob
}

type madeBlob struct {
	where fileRange
	size  int64
}

func (a *Archive) readLegacy() error {
	if _, ok := a.entries["manifest.json"]; !ok {
		return a.fail("it has neither index.json nor manifest.json, so docker save did not write it")
	}
	data, err := a.readMember("manifest.json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &a.legacy); err != nil {
		return a.fail("manifest.json is not readable: %w", err)
	}
	for _, image := range a.legacy {
		for _, member := range append([]string{image.Config}, image.Layers...) {
			if _, ok := a.entries[path.Clean(member)]; !ok {
				return a.fail("manifest.json names %q, which is missing", member)
			}
		}
	}
	return nil
}

func (a *Archive) legacyManifest(ref string) (*oci.Manifest, error) {
	if d, err := oci.ParseDigest(ref); err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, m := range a.made {
			if m.manifest.Digest() == d {
				return m.manifest, nil
			}
		}
		return nil, a.fail("it does not hold %s: %w", d, oci.ErrNotFound)
	}
	place := -1
	var all []string
	for i, image := range a.legacy {
		all = append(all, image.RepoTags...)
		for _, name := range image.RepoTags {
			if ref != "" && (sameName(name, ref) || strings.HasSuffix(name, ":"+ref)) {
				place = i
			}
		}
	}
	switch {
	case place >= 0:
	case ref == "" && len(a.legacy) == 1:
		place = 0
	case ref == "":
		return nil, a.fail("it holds %d images: choose one with docker-archive:%s:NAME; there are %s", len(a.legacy), a.name, strings.Join(all, ", "))
	default:
		return nil, a.fail("no image is named %q; there are %s: %w", ref, strings.Join(all, ", "), oci.ErrNotFound)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.made[place]; m != nil {
		return m.manifest, nil
	}
	m, err := a.make(a.legacy[place])
	if err != nil {
		return nil, err
	}
	a.made[place] = m
	return m.manifest, nil
}

// make turns a legacy image into one with a manifest. Layers are compressed as
// they would be by docker push; the same archive always gives the same digest.
func (a *Archive) make(image legacyImage) (*madeImage, error) {
	config, err := a.readMember(image.Config)
	if err != nil {
		return nil, err
	}
	dir, err := a.tempDir()
	if err != nil {
		return nil, err
	}
	made := &madeImage{blobs: map[oci.Digest]madeBlob{}}
	layers := make([]oci.Descriptor, len(image.Layers))
	blobs := make([]madeBlob, len(image.Layers))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range image.Layers {
		group.Go(func() error {
			var err error
			layers[i], blobs[i], err = a.makeLayer(dir, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, d := range layers {
		made.blobs[d.Digest] = blobs[i]
	}
	desc := oci.Descriptor{MediaType: "application/vnd.docker.container.image.v1+json", Digest: digest.FromBytes(config), Size: int64(len(config))}
	made.blobs[desc.Digest] = madeBlob{fileRange{a.file.Name(), a.entries[path.Clean(image.Config)].offset}, desc.Size}
	raw, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        oci.Descriptor   `json:"config"`
		Layers        []oci.Descriptor `json:"layers"`
	}{2, oci.MediaTypeDockerManifest, desc, layers})
	if err != nil {
		return nil, err
	}
	made.manifest, err = oci.ParseManifest(oci.MediaTypeDockerManifest, raw)
	return made, err
}

const dockerLayer = "application/vnd.docker.image.rootfs.diff.tar.gzip"

// makeLayer describes a layer, compressing it if it is not.
func (a *Archive) makeLayer(dir, name string) (oci.Descriptor, madeBlob, error) {
	e := a.entries[path.Clean(name)]
	in := io.NewSectionReader(a.file, e.offset, e.size)
	hash := digest.Canonical.Digester()
	var head [2]byte
	in.ReadAt(head[:], 0)
	if head == [2]byte{0x1f, 0x8b} {
		if _, err := io.Copy(hash.Hash(), in); err != nil {
			return oci.Descriptor{}, madeBlob{}, a.fail("read %s: %w", name, err)
		}
		d := oci.Descriptor{MediaType: dockerLayer, Digest: hash.Digest(), Size: e.size}
		return d, madeBlob{fileRange{a.file.Name(), e.offset}, e.size}, nil
	}
	out, err := os.CreateTemp(dir, "layer-*.tar.gz")
	if err != nil {
		return oci.Descriptor{}, madeBlob{}, err
	}
	defer out.Close()
	z := gzip.NewWriter(io.MultiWriter(out, hash.Hash()))
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	if _, err := io.CopyBuffer(z, struct{ io.Reader }{in}, *buf); err != nil {
		return oci.Descriptor{}, madeBlob{}, fmt.Errorf("compress %s of archive %s: %w", name, a.name, err)
	}
	if err := z.Close(); err != nil {
		return oci.Descriptor{}, madeBlob{}, err
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return oci.Descriptor{}, madeBlob{}, err
	}
	d := oci.Descriptor{MediaType: dockerLayer, Digest: hash.Digest(), Size: size}
	return d, madeBlob{fileRange{out.Name(), 0}, size}, nil
}
