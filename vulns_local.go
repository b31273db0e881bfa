package ghcr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// AttachedVulnerabilities reports as [Client.PlatformVulnerabilities] does of an image that
// is in no registry, such as in an OCI layout, which is a source: before it is pushed, or
// where there is no network. What is attached to it there is read, and Files; the other
// sources are not asked. Enrich is, if it is set.
//
// The reference is the name that the image goes by, or will: that by which VEX and SARIF
// name it. Its digest is the image's, and must be there.
//
// Errors: [ErrInvalid] for a reference without a digest, a platform that is not there, or
// options that mean nothing; those of the source; the context's.
func (c *Client) AttachedVulnerabilities(ctx context.Context, src attest.Source, ref oci.ImageRef, opts VulnOptions) (*ImageVulnerabilities, error) {
	e, err := c.examineLocal(ctx, src, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("vulnerabilities of %s: %w", ref, err)
	}
	return e.byPlatform(ctx)
}

func (c *Client) examineLocal(ctx context.Context, src attest.Source, ref oci.ImageRef, opts VulnOptions) (*examination, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	d := ref.Reference.Digest
	if d == "" {
		return nil, oci.Invalid("the digest of the image is not given")
	}
	m, err := src.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	if ref.Reference.Tag != "" {
		ref.Reference.Digest = "" // the report has it beside the name
	}
	e := &examination{look: c.newLook(opts), attached: &attached{source: src}, local: true}
	e.target = vuln.Target{Ref: ref, Digest: d}
	if e.target.Platforms, err = platformsIn(ctx, src, m); err != nil {
		return nil, err
	}
	if opts.Platform != "" {
		err = e.choose(m)
	}
	return e, err
}

// platformsIn are the images that a manifest is of. A layout may have some of them alone.
func platformsIn(ctx context.Context, src attest.Source, m *oci.Manifest) ([]vuln.PlatformImage, error) {
	if !m.IsIndex() {
		image := vuln.PlatformImage{Digest: m.Digest()}
		if m.Config != nil {
			image.Config = m.Config.Digest
			image.Platform = platformIn(ctx, src, *m.Config)
		}
		return []vuln.PlatformImage{image}, ctx.Err()
	}
	list := imagesOf(m)
	for i := range list {
		child, err := src.Manifest(ctx, list[i].Digest.String())
		switch {
		case err == nil && child.Config != nil:
			list[i].Config = child.Config.Digest
		case err != nil && !errors.Is(err, ErrNotFound) && !ofOneManifest(err):
			return nil, err
		}
	}
	return list, ctx.Err()
}

// platformIn is what a configuration says that its image is for; nothing if it can't be
// read.
func platformIn(ctx context.Context, src attest.Source, d oci.Descriptor) oci.Platform {
	var config imageConfig
	if d.Size > maxConfig {
		return config.Platform
	}
	body, err := src.Blob(ctx, d, 0, -1)
	if err != nil {
		return config.Platform
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, d.Size+1))
	if err != nil || d.Digest.Algorithm().FromBytes(text) != d.Digest || json.Unmarshal(text, &config) != nil {
		return oci.Platform{}
	}
	return config.Platform
}
