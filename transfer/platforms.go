package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// choosePlatforms returns what to copy instead of root where platforms were
// chosen.
func (c *copier) choosePlatforms(ctx context.Context, root *oci.Manifest) (*oci.Manifest, error) {
	if len(c.opts.Platforms) == 0 {
		return root, nil
	}
	if !root.IsIndex() {
		return root, c.checkPlatform(ctx, root)
	}
	var chosen []oci.Descriptor
	for _, p := range c.opts.Platforms {
		d, err := oci.SelectPlatform(root.Manifests, p)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(chosen, func(o oci.Descriptor) bool { return o.Digest == d.Digest }) {
			chosen = append(chosen, d)
		}
	}
	if len(chosen) == 1 {
		m, err := c.src.Manifest(ctx, chosen[0].Digest.String())
		if err != nil {
			return nil, fmt.Errorf("read the manifest for %s: %w", oci.FormatPlatform(*chosen[0].Platform), err)
		}
		return m, nil
	}
	for _, d := range root.Manifests {
		about, ok := oci.AttestationOf(d)
		if ok && slices.ContainsFunc(chosen, func(o oci.Descriptor) bool { return o.Digest == about }) {
			chosen = append(chosen, d)
		}
	}
	m, err := withManifests(root, chosen)
	if err != nil {
		return nil, err
	}
	c.chosen = m
	return m, nil
}

// checkPlatform refuses a single image that is for none of the chosen platforms.
func (c *copier) checkPlatform(ctx context.Context, m *oci.Manifest) error {
	if m.Kind() != oci.KindImage {
		return oci.Invalid("%s is no index and no image, so it has no platforms to choose from", m.Digest())
	}
	if m.Config.Size > oci.MaxManifestSize {
		return oci.Invalid("the config %s is %d bytes, too much to hold a platform", m.Config.Digest, m.Config.Size)
	}
	raw, err := readBlob(ctx, c.src, *m.Config)
	if err != nil {
		return fmt.Errorf("read the image's platform: %w", err)
	}
	var have oci.Platform
	if err := json.Unmarshal(raw, &have); err != nil {
		return oci.Invalid("the config %s is not readable: %w", m.Config.Digest, err)
	}
	d := m.Descriptor()
	d.Platform = &have
	for _, p := range c.opts.Platforms {
		if _, err := oci.SelectPlatform([]oci.Descriptor{d}, p); err != nil {
			return err
		}
	}
	return nil
}

// withManifests returns an index that lists these manifests and is otherwise as
// the old one.
func withManifests(index *oci.Manifest, list []oci.Descriptor) (*oci.Manifest, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(index.Bytes(), &fields); err != nil {
		return nil, oci.Invalid("the index is not readable: %w", err)
	}
	entries, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	fields["manifests"] = entries
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return oci.ParseManifest(index.MediaType, raw)
}
