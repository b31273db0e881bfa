package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

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
	blobs    map[oci.Digest]place
}

// Media types of what is made. Docker's are what docker push makes of the same
// image.
const (
	dockerConfig    = "application/vnd.docker.container.image.v1+json"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// maxLayers bounds the layers of an image; docker itself makes no more than 127.
const maxLayers = 1 << 14

func (a *Archive) readLegacy() error {
	if _, ok := a.members["manifest.json"]; !ok {
		return a.broken("it has neither oci-layout and index.json nor manifest.json, so docker save did not write it")
	}
	data, err := a.readMember("manifest.json", maxLayoutJSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &a.legacy); err != nil {
		return a.broken("manifest.json is not readable: %w", err)
	}
	for _, image := range a.legacy {
		if len(image.Layers) > maxLayers {
			return a.broken("manifest.json lists %d layers of one image; the limit is %d", len(image.Layers), maxLayers)
		}
		for _, name := range append([]string{image.Config}, image.Layers...) {
			if _, ok := a.members[memberName(name)]; !ok {
				return a.broken("manifest.json names %q, which is missing", name)
			}
		}
	}
	return nil
}

// legacyTags returns the tags of all images, each once.
func legacyTags(images []legacyImage) []string {
	var tags []string
	for _, name := range legacyNames(images) {
		if tag := tagIn(name); !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

func legacyNames(images []legacyImage) []string {
	var names []string
	for _, image := range images {
		names = append(names, image.RepoTags...)
	}
	return names
}

// findLegacy returns the place of the image that a tag or whole name means; an
// empty ref is the only image.
func findLegacy(images []legacyImage, ref string) (int, error) {
	matching := func(match func(name string) bool) []int {
		var found []int
		for i, image := range images {
			if slices.ContainsFunc(image.RepoTags, match) {
				found = append(found, i)
			}
		}
		return found
	}
	var found []int
	if ref == "" {
		for i := range images {
			found = append(found, i)
		}
	} else if found = matching(func(name string) bool { return sameName(name, ref) }); len(found) == 0 {
		found = matching(func(name string) bool { return tagIn(name) == ref })
	}
	names := listNames(legacyNames(images))
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && ref == "":
		return 0, fmt.Errorf("it holds no image: %w", oci.ErrNotFound)
	case len(found) == 0:
		return 0, fmt.Errorf("no image is %s %q; %s: %w", namedOrTagged(ref), ref, names, oci.ErrNotFound)
	case ref == "":
		return 0, oci.Invalid("it holds %d images: choose one by its whole name; %s", len(found), names)
	}
	return 0, oci.Invalid("%d images are %s %q: choose one by its whole name; %s", len(found), namedOrTagged(ref), ref, names)
}

func (a *Archive) legacyManifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	if d, err := oci.ParseDigest(ref); err == nil {
		// The digest of a manifest is not known before it is made.
		for i := range a.legacy {
			made, err := a.madeAt(ctx, i)
			if err != nil {
				return nil, err
			}
			if made.manifest.Verify(d) == nil {
				return made.manifest, nil
			}
		}
		return nil, a.broken("it does not hold %s: %w", d, oci.ErrNotFound)
	}
	i, err := findLegacy(a.legacy, ref)
	if err != nil {
		return nil, a.broken("%w", err)
	}
	made, err := a.madeAt(ctx, i)
	if err != nil {
		return nil, err
	}
	return made.manifest, nil
}

// madeAt returns an image's manifest, made once.
func (a *Archive) madeAt(ctx context.Context, i int) (*madeImage, error) {
	a.making.Lock()
	defer a.making.Unlock()
	a.mu.Lock()
	made := a.made[i]
	a.mu.Unlock()
	if made != nil {
		return made, nil
	}
	made, err := a.make(ctx, a.legacy[i])
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.made[i] = made
	a.mu.Unlock()
	return made, nil
}

func (a *Archive) locateMade(d oci.Digest) (place, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, made := range a.made {
		if at, ok := made.blobs[d]; ok {
			return at, nil
		}
	}
	return place{}, a.broken("it does not hold the blob %s: %w", d, oci.ErrNotFound)
}

// make turns a legacy image into one with a manifest. The same archive always
// gives the same digest.
func (a *Archive) make(ctx context.Context, image legacyImage) (*madeImage, error) {
	config, err := a.readMember(image.Config, oci.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	var view struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &view); err != nil {
		return nil, a.broken("the config %s is not readable: %w", image.Config, err)
	}
	diffIDs := view.RootFS.DiffIDs
	if len(diffIDs) == 0 {
		diffIDs = make([]oci.Digest, len(image.Layers)) // not said, so not checked
	}
	if len(diffIDs) != len(image.Layers) {
		return nil, a.broken("the config %s is of %d layers, but manifest.json lists %d", image.Config, len(diffIDs), len(image.Layers))
	}
	for i, d := range diffIDs {
		if _, err := oci.ParseDigest(string(d)); err != nil && d != "" {
			return nil, a.broken("the config %s, layer %d: %w", image.Config, i, err)
		}
	}
	layers := make([]oci.Descriptor, len(image.Layers))
	places := make([]place, len(image.Layers))
	first := map[member]int{} // layers that are the same are links to one
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range image.Layers {
		m := a.members[memberName(name)]
		if same, seen := first[m]; seen {
			if diffIDs[same] != diffIDs[i] {
				return nil, errors.Join(a.broken("%s is two different layers of the config", name), group.Wait())
			}
			continue
		}
		first[m] = i
		group.Go(func() (err error) {
			layers[i], places[i], err = a.makeLayer(ctx, name, m, diffIDs[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	desc := oci.Descriptor{MediaType: dockerConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	made := &madeImage{blobs: map[oci.Digest]place{
		desc.Digest: {a.file.Name(), a.members[memberName(image.Config)].offset, desc.Size},
	}}
	for i, name := range image.Layers {
		same := first[a.members[memberName(name)]]
		layers[i] = layers[same]
		made.blobs[layers[i].Digest] = places[same]
	}
	raw, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        oci.Descriptor   `json:"config"`
		Layers        []oci.Descriptor `json:"layers"`
	}{2, oci.MediaTypeDockerManifest, desc, layers})
	if err != nil {
		return nil, err
	}
	if made.manifest, err = oci.ParseManifest(oci.MediaTypeDockerManifest, raw); err != nil {
		return nil, a.broken("%w", err)
	}
	return made, nil
}

// makeLayer describes a layer, and compresses it if it is not. One pass over an
// uncompressed layer also checks it against the config, the only checksum that
// such an archive has.
func (a *Archive) makeLayer(ctx context.Context, name string, m member, diffID oci.Digest) (oci.Descriptor, place, error) {
	fail := func(err error) (oci.Descriptor, place, error) {
		return oci.Descriptor{}, place{}, a.in(fmt.Errorf("layer %s: %w", name, err))
	}
	in := io.NewSectionReader(a.file, m.offset, m.size)
	head := make([]byte, 4)
	n, err := in.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return fail(err)
	}
	d := oci.Descriptor{Size: m.size}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, gzipMagic):
		d.MediaType = dockerLayerGzip
	case bytes.HasPrefix(head, zstdMagic):
		d.MediaType = dockerLayerZstd
	}
	if d.MediaType != "" {
		if d.Digest, err = digestOf(ctx, in, digest.Canonical); err != nil {
			return fail(err)
		}
		return d, place{a.file.Name(), m.offset, m.size}, nil
	}
	out, err := a.tempFile("layer-*.tar.gz")
	if err != nil {
		return fail(err)
	}
	defer out.Close()
	algorithm := digest.Canonical
	if diffID != "" {
		algorithm = diffID.Algorithm()
	}
	whole, packed := algorithm.Digester(), digest.Canonical.Digester()
	z := gzip.NewWriter(io.MultiWriter(out, packed.Hash()))
	if _, err := copyBody(ctx, io.MultiWriter(z, whole.Hash()), in); err != nil {
		return fail(err)
	}
	if err := z.Close(); err != nil {
		return fail(err)
	}
	if got := whole.Digest(); diffID != "" && got != diffID {
		return oci.Descriptor{}, place{}, a.broken("%w", &oci.IntegrityError{What: "layer " + name, Want: diffID, Got: got})
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return fail(err)
	}
	d = oci.Descriptor{MediaType: dockerLayerGzip, Digest: packed.Digest(), Size: size}
	return d, place{out.Name(), 0, size}, nil
}
