package ghcr

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Size is how much an image or a package takes in the registry, in bytes, as it is
// compressed there. Manifests themselves, which are small, are not counted.
type Size struct {
	Total  int64      // of all blobs, each once
	Shared int64      // of blobs that more than one part has
	Parts  []PartSize // platforms and attestations of an image, or the images of a package
	Blobs  []BlobSize // the largest first
}

// PartSize is the size of a part.
type PartSize struct {
	Name       string // "linux/amd64", or of a package's image its first tag, else its digest
	Digest     oci.Digest
	Compressed int64 // what a pull moves
	Unique     int64 // of blobs that no other part has
	Layers     int
}

// BlobSize is the size of a blob.
type BlobSize struct {
	Digest    oci.Digest
	MediaType string
	Size      int64
	Parts     int // that have it
}

// part is manifests whose blobs count as one.
type part struct {
	name      string
	digest    oci.Digest
	manifests []*oci.Manifest
}

func sizeOf(parts []part) Size {
	s := Size{Parts: []PartSize{}, Blobs: []BlobSize{}}
	have := map[oci.Digest]int{}
	blobs := make([][]oci.Descriptor, len(parts))
	for i, p := range parts {
		seen := map[oci.Digest]bool{}
		for _, m := range p.manifests {
			for _, d := range m.Blobs() {
				if !seen[d.Digest] {
					seen[d.Digest] = true
					have[d.Digest]++
					blobs[i] = append(blobs[i], d)
				}
			}
		}
	}
	listed := map[oci.Digest]bool{}
	for i, p := range parts {
		size := PartSize{Name: p.name, Digest: p.digest}
		for _, m := range p.manifests {
			size.Layers += len(m.Layers)
		}
		for _, d := range blobs[i] {
			size.Compressed += d.Size
			if have[d.Digest] == 1 {
				size.Unique += d.Size
			}
			if listed[d.Digest] {
				continue
			}
			listed[d.Digest] = true
			s.Total += d.Size
			if have[d.Digest] > 1 {
				s.Shared += d.Size
			}
			s.Blobs = append(s.Blobs, BlobSize{d.Digest, d.MediaType, d.Size, have[d.Digest]})
		}
		s.Parts = append(s.Parts, size)
	}
	slices.SortStableFunc(s.Blobs, func(x, y BlobSize) int { return cmp.Compare(y.Size, x.Size) })
	return s
}

// Size returns the size of an image by platform.
//
// Errors: those of [registry.Repository.Manifest], and [ErrInvalid] for indexes that
// are nested too deep.
func (c *Client) Size(ctx context.Context, image oci.ImageRef) (Size, error) {
	s, err := c.oneRegistry(image)
	if err != nil {
		return Size{}, err
	}
	d, err := s.digest(ctx, image.Reference)
	if err != nil {
		return Size{}, err
	}
	root, err := s.manifest(ctx, d)
	if err != nil {
		return Size{}, err
	}
	if !root.IsIndex() {
		return sizeOf([]part{{string(root.Kind()), d, []*oci.Manifest{root}}}), nil
	}
	parts, err := s.parts(ctx, root, 0)
	if err != nil {
		return Size{}, err
	}
	return sizeOf(parts), nil
}

// maxNesting is how deep indexes may be nested: twice as deep as anybody does.
const maxNesting = 4

// parts reads what an index lists, with that of the indexes among it.
func (s *subject) parts(ctx context.Context, index *oci.Manifest, depth int) ([]part, error) {
	if depth == maxNesting {
		return nil, oci.Invalid("%s: indexes are nested too deep", s.image.Repository())
	}
	platforms := map[oci.Digest]string{}
	for _, d := range index.Manifests {
		if oci.HasPlatform(d) {
			platforms[d.Digest] = oci.FormatPlatform(*d.Platform)
		}
	}
	var parts []part
	seen := map[oci.Digest]bool{}
	for e := range index.Edges() {
		d := e.Descriptor
		if e.Kind != oci.EdgeChild || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		m, err := s.manifest(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		if m.IsIndex() {
			nested, err := s.parts(ctx, m, depth+1)
			if err != nil {
				return nil, err
			}
			parts = append(parts, nested...)
			continue
		}
		name := platforms[d.Digest]
		if about, ok := oci.AttestationOf(d); ok {
			name = "attestation for " + cmp.Or(platforms[about], about.String())
		}
		parts = append(parts, part{cmp.Or(name, string(m.Kind())), d.Digest, []*oci.Manifest{m}})
	}
	return parts, nil
}

// Size returns the size of a package by image: each manifest that no index lists, with
// all that it lists. What could not be read is not counted; [Inventory.Unreadable] has
// it.
func (v *Inventory) Size() Size {
	var parts []part
	for _, n := range v.Graph.Nodes() {
		if len(n.Parents) > 0 && len(n.Names()) == 0 || n.Manifest == nil {
			continue
		}
		p := part{nameOf(n), n.Digest, nil}
		seen := map[*oci.Node]bool{}
		var visit func(n *oci.Node)
		visit = func(n *oci.Node) {
			if seen[n] || n.Manifest == nil {
				return
			}
			seen[n] = true
			p.manifests = append(p.manifests, n.Manifest)
			for _, child := range n.Children {
				visit(child)
			}
		}
		visit(n)
		parts = append(parts, p)
	}
	return sizeOf(parts)
}

// String sums it up.
func (s Size) String() string {
	return fmt.Sprintf("%d bytes in %d blobs, %d of them shared", s.Total, len(s.Blobs), s.Shared)
}
