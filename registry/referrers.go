package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Referrers returns the manifests that have d as their subject: signatures, SBOMs
// and attestations. Where the registry has no referrers API, and GHCR has none
// (docs/quirks.md#referrers), the index under the tag sha256-<hex> stands in for
// it. Nothing there is an empty list.
//
// Entries of the tag's index may name a wrong artifact type; the manifest itself
// decides.
//
// Errors: [transport.ErrUnauthorized], [transport.ErrDenied].
func (r *Repository) Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	var listed []oci.Descriptor
	if !r.host.noReferrers.Load() {
		found, known, err := r.referrersAPI(ctx, d)
		if err != nil {
			return nil, err
		}
		if known && len(found) > 0 {
			return found, nil
		}
		if !known {
			r.host.noReferrers.Store(true)
		}
		listed = found
	}
	// An empty answer of the API does not rule the tag out: registries that came to
	// the API late have both.
	fallback, err := r.fallbackIndex(ctx, d)
	if err != nil {
		return nil, err
	}
	return append(listed, fallback.Manifests...), nil
}

// referrersAPI asks the API. known is false if there is none.
func (r *Repository) referrersAPI(ctx context.Context, d oci.Digest) (found []oci.Descriptor, known bool, err error) {
	u := r.url("referrers", d.String())
	asked := map[string]bool{}
	for u != nil {
		if asked[u.String()] {
			return nil, false, fmt.Errorf("list referrers %s: %w", r.target(d.String()), errCircle)
		}
		first := len(asked) == 0 // only this page tells whether there is such an API
		asked[u.String()] = true
		resp, body, err := r.read(ctx, oci.MaxManifestSize, request{
			method: http.MethodGet, url: u, list: true,
			header: http.Header{"Accept": {oci.MediaTypeOCIIndex}},
			call:   transport.Call{Op: "list referrers", Target: r.target(d.String()), Scopes: r.pull()},
		})
		if err != nil && first {
			switch status(err) {
			case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
				return found, false, nil
			}
			// GHCR has answered with a 303 to GitHub's web pages. It is not followed.
			if errors.Is(err, oci.ErrNotFound) {
				return found, false, nil
			}
		}
		if err != nil {
			return nil, false, err
		}
		index, err := oci.ParseManifest(oci.MediaTypeOCIIndex, body)
		if err != nil && first {
			return nil, false, nil // a web page, or another thing that is no list
		}
		if err != nil {
			return nil, false, fmt.Errorf("list referrers %s: %w", r.target(d.String()), err)
		}
		found = append(found, index.Manifests...)
		if u, err = nextPage(u, resp); err != nil {
			return nil, false, fmt.Errorf("list referrers %s: %w", r.target(d.String()), err)
		}
	}
	return found, true, nil
}

// fallbackIndex returns the index under the referrers tag, empty if there is none.
func (r *Repository) fallbackIndex(ctx context.Context, d oci.Digest) (*oci.Manifest, error) {
	m, err := r.Manifest(ctx, oci.DigestTag(d))
	if errors.Is(err, oci.ErrNotFound) {
		return &oci.Manifest{}, nil
	}
	if err == nil && (!m.IsIndex() || m.Digest() == d) {
		// cosign keeps other things under names that only look like this one, and there
		// are registries for which the tag is another name of the subject.
		return &oci.Manifest{}, nil
	}
	return m, err
}

// fallbackTries bounds how often a referrers tag is written again because
// somebody else wrote it at the same time.
const fallbackTries = 5

// addFallbackReferrer lists m in the index under its subject's referrers tag.
// Registries cannot write a tag only if it has not changed, so the tag is read
// again afterwards and written again if the entry was lost to another writer.
func (r *Repository) addFallbackReferrer(ctx context.Context, m *oci.Manifest) error {
	subject := m.Subject.Digest
	tag := oci.DigestTag(subject)
	unlock, err := r.host.fallback.lock(ctx, r.name+":"+tag)
	if err != nil {
		return err
	}
	defer unlock()
	for try := 0; try < fallbackTries; try++ {
		index, err := r.fallbackIndex(ctx, subject)
		if err != nil {
			return fmt.Errorf("list %s as referrer of %s: %w", m.Digest(), subject, err)
		}
		if slices.ContainsFunc(index.Manifests, func(d oci.Descriptor) bool { return d.Digest == m.Digest() }) {
			return nil
		}
		grown, err := withReferrer(index, m)
		if err != nil {
			return err
		}
		if _, err := r.putManifest(ctx, tag, grown); err != nil {
			return fmt.Errorf("list %s as referrer of %s: %w", m.Digest(), subject, err)
		}
	}
	return fmt.Errorf("list %s as referrer of %s: somebody else keeps rewriting the tag %s; try again", m.Digest(), subject, r.target(tag))
}

// withReferrer returns the index with m added. What it does not understand of the
// old index, it keeps.
func withReferrer(index, m *oci.Manifest) (*oci.Manifest, error) {
	fields := map[string]json.RawMessage{}
	if raw := index.Bytes(); len(raw) > 0 {
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, err
		}
	}
	set := func(key string, value any) {
		fields[key], _ = json.Marshal(value)
	}
	entry := m.Descriptor()
	if entry.ArtifactType == "" && m.Config != nil {
		entry.ArtifactType = m.Config.MediaType
	}
	entry.Annotations = m.Annotations
	set("schemaVersion", 2)
	set("mediaType", oci.MediaTypeOCIIndex)
	entries := append(slices.Clone(index.Manifests), entry)
	set("manifests", entries)
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return oci.ParseManifest(oci.MediaTypeOCIIndex, raw)
}
