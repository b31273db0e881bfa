package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// acceptManifests asks for every type by name, because GHCR answers 404 for an
// index whose type is not named (docs/quirks.md#strict-index-accept), and for
// anything else that the registry may hold.
var acceptManifests = strings.Join(append(append([]string{}, oci.ManifestTypes...), oci.MediaTypeArtifactManifest, "*/*;q=0.1"), ", ")

// Manifest returns the manifest that a tag or digest names. Its bytes are checked
// against the digest, or for a tag against the digest that the registry states.
// GHCR counts it as a download; [Repository.Resolve] does not.
//
// Errors: [oci.ErrNotFound], [transport.ErrUnauthorized], [transport.ErrDenied],
// [oci.ErrIntegrity], and [oci.ErrInvalid] for a malformed reference or a
// manifest over [oci.MaxManifestSize].
func (r *Repository) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	want, err := oci.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	resp, raw, err := r.read(ctx, oci.MaxManifestSize, request{
		method: http.MethodGet, url: r.url("manifests", ref),
		header: http.Header{"Accept": {acceptManifests}},
		call:   transport.Call{Op: "get manifest", Target: r.target(ref), Scopes: r.pull()},
	})
	if err != nil {
		return nil, err
	}
	// Before they are looked into: bytes that changed on the way may be no manifest.
	for _, d := range []oci.Digest{want.Digest, statedDigest(resp)} {
		if d == "" {
			continue
		}
		if err := oci.VerifyManifest(raw, d); err != nil {
			return nil, fmt.Errorf("get manifest %s: registry answered with other content: %w", r.target(ref), err)
		}
	}
	m, err := oci.ParseManifest(mediaType(resp), raw)
	if err != nil {
		return nil, fmt.Errorf("get manifest %s: %w", r.target(ref), err)
	}
	return m, nil
}

// Resolve returns the descriptor of the manifest that a tag or digest names,
// without fetching it.
//
// Errors: as for [Repository.Manifest].
func (r *Repository) Resolve(ctx context.Context, ref string) (oci.Descriptor, error) {
	want, err := oci.ParseReference(ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	resp, err := r.follow(ctx, request{
		method: http.MethodHead, url: r.url("manifests", ref),
		header: http.Header{"Accept": {acceptManifests}},
		call:   transport.Call{Op: "resolve manifest", Target: r.target(ref), Scopes: r.pull()},
	})
	if err != nil {
		return oci.Descriptor{}, err
	}
	resp.Body.Close()
	d := oci.Descriptor{MediaType: mediaType(resp), Digest: statedDigest(resp), Size: resp.ContentLength}
	if d.Digest == "" {
		d.Digest = want.Digest
	}
	if d.Digest == "" || d.Size < 0 {
		// Some registries leave the digest out of the answer to HEAD.
		m, err := r.Manifest(ctx, ref)
		if err != nil {
			return oci.Descriptor{}, err
		}
		return m.Descriptor(), nil
	}
	if want.Digest != "" && d.Digest != want.Digest && d.Digest.Algorithm() == want.Digest.Algorithm() {
		return oci.Descriptor{}, fmt.Errorf("resolve manifest %s: %w", r.target(ref),
			&oci.IntegrityError{What: "registry's answer", Want: want.Digest, Got: d.Digest})
	}
	return d, nil
}

// PutManifest stores a manifest byte for byte under a tag or its digest. If the
// manifest has a subject and the registry does not keep track of referrers, the
// tag that stands in for the referrers API is brought up to date
// (docs/quirks.md#referrers).
//
// Errors: [*oci.MissingBlobsError] when the registry says that content is
// missing, [oci.ErrInvalid] for a digest that is not the manifest's or a
// manifest over the limit, [transport.ErrUnauthorized], [transport.ErrDenied].
func (r *Repository) PutManifest(ctx context.Context, ref string, m *oci.Manifest) error {
	want, err := oci.ParseReference(ref)
	if err != nil {
		return err
	}
	if want.Digest != "" {
		if err := m.Verify(want.Digest); err != nil {
			return oci.Invalid("put manifest %s: %w", r.target(ref), err)
		}
	}
	resp, err := r.putManifest(ctx, ref, m)
	if err != nil {
		return err
	}
	if m.Subject == nil || resp.Header.Get("OCI-Subject") != "" {
		return nil
	}
	return r.addFallbackReferrer(ctx, m)
}

func (r *Repository) putManifest(ctx context.Context, ref string, m *oci.Manifest) (*http.Response, error) {
	raw := m.Bytes()
	if len(raw) > oci.MaxManifestSize {
		return nil, oci.Invalid("put manifest %s: it is %d bytes; the limit is %d", r.target(ref), len(raw), oci.MaxManifestSize)
	}
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	first, _ := body()
	resp, err := r.host.do(ctx, request{
		method: http.MethodPut, url: r.url("manifests", ref),
		header: http.Header{"Content-Type": {m.MediaType}},
		body:   first, again: body, size: int64(len(raw)),
		call: transport.Call{Op: "put manifest", Target: r.target(ref), Scopes: r.push()},
	})
	if err != nil {
		return nil, missingBlobs(err)
	}
	discard(resp)
	if err := onlyStatus(resp, "put manifest", r.target(ref), http.StatusCreated, http.StatusOK, http.StatusAccepted); err != nil {
		return nil, err
	}
	if d := statedDigest(resp); d != "" {
		if err := m.Verify(d); err != nil {
			return nil, fmt.Errorf("put manifest %s: registry stored something else: %w", r.target(ref), err)
		}
	}
	return resp, nil
}

// missingBlobs recognises the refusal of a manifest whose content is absent. The
// digests stand in the details, in one of three shapes that registries use.
func missingBlobs(err error) error {
	var e *transport.Error
	if !errors.As(err, &e) || (e.Status != http.StatusBadRequest && e.Status != http.StatusNotFound) {
		return err
	}
	missing := &oci.MissingBlobsError{Err: err}
	found := false
	for _, d := range e.Details {
		switch d.Code {
		case "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN":
		default:
			continue
		}
		found = found || d.Code != "MANIFEST_UNKNOWN"
		var text string
		var object struct{ Digest, Name string }
		if json.Unmarshal(d.Detail, &text) != nil {
			json.Unmarshal(d.Detail, &object)
			text = object.Digest
		}
		if digest, err := oci.ParseDigest(text); err == nil {
			missing.Digests = append(missing.Digests, digest)
			found = true
		}
	}
	if !found {
		return err
	}
	return missing
}

// DeleteManifest deletes a manifest by digest, or a tag, where the registry
// allows it. GHCR does not (docs/quirks.md#manifest-delete): package ghcr
// deletes there through GitHub's Packages API.
//
// Errors: [transport.ErrUnsupported], [oci.ErrNotFound], [transport.ErrDenied].
func (r *Repository) DeleteManifest(ctx context.Context, ref string) error {
	if _, err := oci.ParseReference(ref); err != nil {
		return err
	}
	return r.host.remove(ctx, request{
		url:  r.url("manifests", ref),
		call: transport.Call{Op: "delete manifest", Target: r.target(ref), Scopes: r.delete()},
	})
}

func (r *Repository) delete() []transport.Scope {
	return []transport.Scope{{Repository: r.name, Actions: []string{"pull", "push", "delete"}}}
}

// PlatformManifest returns the manifest for a platform: the entry of the index that
// ref names that suits best, or the image itself if it is for that platform.
//
// Errors: as for [Repository.Manifest], and [oci.ErrInvalid], naming the
// platforms that there are, if none suits.
func (r *Repository) PlatformManifest(ctx context.Context, ref string, p oci.Platform) (*oci.Manifest, error) {
	m, err := r.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		return m, r.checkPlatform(ctx, ref, m, p)
	}
	// An index may list indexes. Four levels are twice what anybody nests.
	for depth := 0; err == nil && m.IsIndex(); depth++ {
		if depth == 4 {
			return nil, oci.Invalid("%s: indexes are nested too deep", r.target(ref))
		}
		var d oci.Descriptor
		if d, err = oci.SelectPlatform(m.Manifests, p); err != nil {
			return nil, fmt.Errorf("%s: %w", r.target(ref), err)
		}
		m, err = r.Manifest(ctx, d.Digest.String())
	}
	return m, err
}

// checkPlatform looks into the config of a single image, which is where it says
// what it is for.
func (r *Repository) checkPlatform(ctx context.Context, ref string, m *oci.Manifest, want oci.Platform) error {
	if m.Kind() != oci.KindImage || m.Config.Size > oci.MaxManifestSize {
		return oci.Invalid("%s: it is no image and no index, so it is for no platform", r.target(ref))
	}
	body, err := r.GetBlob(ctx, *m.Config)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var have oci.Platform
	if err := json.Unmarshal(raw, &have); err != nil {
		return oci.Invalid("%s: its config is not readable: %w", r.target(ref), err)
	}
	if _, err := oci.SelectPlatform([]oci.Descriptor{{Platform: &have}}, want); err != nil {
		return fmt.Errorf("%s: %w", r.target(ref), err)
	}
	return nil
}

func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || t == "application/json" || t == "text/plain" || t == "application/octet-stream" {
		return "" // says nothing: the manifest's own word counts
	}
	return t
}

func statedDigest(resp *http.Response) oci.Digest {
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return ""
	}
	return d
}

// onlyStatus is an error unless the answer has one of the statuses that mean what
// was asked for. A 202 to a request that should have stored something stored
// nothing.
func onlyStatus(resp *http.Response, op, target string, ok ...int) error {
	for _, s := range ok {
		if resp.StatusCode == s {
			return nil
		}
	}
	return fmt.Errorf("%s %s: registry answered %s, which means nothing here", op, target, strconv.Itoa(resp.StatusCode))
}
