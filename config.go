package ghcr

import (
	"context"
	"encoding/json"
	"io"

	"github.com/llm-dev-ops/ghcr/oci"
)

// imageConfig is the part of an image's config that says what it is.
type imageConfig struct {
	oci.Platform
	Config struct {
		Labels map[string]string
	} `json:"config"`
}

// labels are never nil, which would say that they are not known.
func (c *imageConfig) labels() map[string]string {
	if c.Config.Labels == nil {
		return map[string]string{}
	}
	return c.Config.Labels
}

// maxConfig is far above the size of an image's config, in bytes.
const maxConfig = 4 << 20

// config reads the config of an image, if it is not kept. What is no image has an empty
// one.
//
// Errors: [ErrInvalid] for one that is too large, or not JSON.
func (s *subject) config(ctx context.Context, m *oci.Manifest) (config imageConfig, err error) {
	if m.Kind() != oci.KindImage || m.Config == nil {
		return config, nil
	}
	if m.Config.Size > maxConfig {
		return config, oci.Invalid("it is %d bytes; the limit is %d", m.Config.Size, maxConfig)
	}
	body, err := (&keptSource{s}).Blob(ctx, *m.Config, 0, -1) // checks the digest
	if err != nil {
		return config, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err != nil {
		return config, err
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return imageConfig{}, oci.Invalid("it is not JSON: %w", err)
	}
	return config, nil
}
