package transfer

import (
	"context"
	"fmt"

	"github.com/llm-dev-ops/ghcr/oci"
)

// copyReferrers copies what refers to root, or to a manifest that root lists:
// referrers, what refers to those, and the manifests under tags named after one of
// these digests.
func (c *copier) copyReferrers(ctx context.Context, root *oci.Manifest) error {
	about, err := c.manifestsUnder(ctx, root, map[oci.Digest]bool{})
	if err != nil {
		return err
	}
	seen := map[oci.Digest]bool{}
	for _, d := range about {
		seen[d] = true
	}
	if source, ok := c.src.(Referrerer); ok {
		// The list grows: a signature may itself be vouched for.
		for i := 0; i < len(about); i++ {
			list, err := source.Referrers(ctx, about[i])
			if err != nil {
				return fmt.Errorf("look for referrers of %s: %w", about[i], err)
			}
			for _, d := range list {
				if seen[d.Digest] {
					continue
				}
				seen[d.Digest] = true
				if err := c.child(ctx, d); err != nil {
					return err
				}
				about = append(about, d.Digest)
				c.count(func(r *Result) { r.Referrers++ })
			}
		}
	}
	tagger, ok := c.src.(Tagger)
	if !ok {
		return nil
	}
	tags, err := tagger.TagNames(ctx)
	if err != nil {
		return fmt.Errorf("look for digest tags: %w", err)
	}
	for _, tag := range tags {
		d, suffix, ok := oci.ParseDigestTag(tag)
		if !ok || !seen[d] {
			continue
		}
		if suffix == "" {
			// The stand-in for the referrers API. The target keeps its own as the referrers
			// are put; to copy the source's would undo what others listed there.
			continue
		}
		if err := c.copyTag(ctx, tag); err != nil {
			return err
		}
		c.count(func(r *Result) { r.Referrers++ })
	}
	return nil
}

func (c *copier) copyTag(ctx context.Context, tag string) error {
	m, err := c.src.Manifest(ctx, tag)
	if err != nil {
		return err
	}
	if err := c.content(ctx, m); err != nil {
		return err
	}
	return c.putManifest(ctx, tag, m)
}

// manifestsUnder returns the digests of a manifest and of all that it lists.
func (c *copier) manifestsUnder(ctx context.Context, m *oci.Manifest, seen map[oci.Digest]bool) ([]oci.Digest, error) {
	if seen[m.Digest()] {
		return nil, nil
	}
	seen[m.Digest()] = true
	list := []oci.Digest{m.Digest()}
	for _, d := range m.Manifests {
		if !oci.IsManifestType(d.MediaType) || seen[d.Digest] {
			continue
		}
		if !oci.IsIndexType(d.MediaType) {
			seen[d.Digest] = true
			list = append(list, d.Digest)
			continue
		}
		child, err := c.src.Manifest(ctx, d.Digest.String())
		if err != nil {
			return nil, err
		}
		under, err := c.manifestsUnder(ctx, child, seen)
		if err != nil {
			return nil, err
		}
		list = append(list, under...)
	}
	return list, nil
}
