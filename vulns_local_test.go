package ghcr_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// contents is a source of manifests and blobs by digest.
type contents map[oci.Digest][]byte

func (c contents) put(text string) oci.Descriptor {
	d := digest.FromString(text)
	c[d] = []byte(text)
	return oci.Descriptor{Digest: d, Size: int64(len(text))}
}

func (c contents) Manifest(_ context.Context, ref string) (*oci.Manifest, error) {
	text, ok := c[oci.Digest(ref)]
	if !ok {
		return nil, fmt.Errorf("%s: %w", ref, oci.ErrNotFound)
	}
	kind := oci.MediaTypeOCIManifest
	if bytes.Contains(text, []byte(oci.MediaTypeOCIIndex)) {
		kind = oci.MediaTypeOCIIndex
	}
	return oci.ParseManifest(kind, text)
}

func (c contents) Blob(_ context.Context, d oci.Descriptor, _, _ int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(c[d.Digest])), nil
}

func (contents) Referrers(context.Context, oci.Digest) ([]oci.Descriptor, error) { return nil, nil }

type noNetwork struct{ t *testing.T }

func (n noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("%s %s was asked", r.Method, r.URL)
	return nil, errors.New("there is no network")
}

// TestImageInALayout: what is there is read, nobody is asked, and a platform that is not
// there is not scanned by a report of another one.
func TestImageInALayout(t *testing.T) {
	c := contents{}
	image := func(arch string) oci.Descriptor {
		config := c.put(`{"os":"linux","architecture":"` + arch + `"}`)
		return c.put(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
			oci.MediaTypeOCIManifest, config.Digest, config.Size))
	}
	amd64, arm64 := image("amd64"), image("arm64")
	entry := func(d oci.Descriptor, arch string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"platform":{"os":"linux","architecture":%q}}`, oci.MediaTypeOCIManifest, d.Digest, d.Size, arch)
	}
	index := c.put(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s,%s]}`, oci.MediaTypeOCIIndex, entry(amd64, "amd64"), entry(arm64, "arm64")))
	delete(c, arm64.Digest)
	client, err := ghcr.New(ghcr.Options{Base: noNetwork{t}})
	if err != nil {
		t.Fatal(err)
	}
	report := func(arch string) vuln.Evidence {
		return vuln.Evidence{ID: arch, Content: []byte(`{"SchemaVersion":2,"ArtifactName":"app","CreatedAt":"2026-01-01T00:00:00Z","Metadata":{"RepoDigests":["app@` + index.Digest.String() +
			`"],"ImageConfig":{"os":"linux","architecture":"` + arch + `"}},"Results":[]}`)}
	}
	ref := oci.ImageRef{Registry: "ghcr.io", Name: "acme/app", Reference: oci.Reference{Tag: "v1", Digest: index.Digest}}
	for name, c2 := range map[string]struct {
		files     []vuln.Evidence
		want      vuln.State
		unscanned string
	}{
		"nothing":        {nil, vuln.StateUnavailable, ""},
		"one of the two": {[]vuln.Evidence{report("amd64")}, vuln.StatePartial, "linux/arm64"},
		"the other":      {[]vuln.Evidence{report("arm64")}, vuln.StatePartial, "linux/amd64"},
		"both":           {[]vuln.Evidence{report("amd64"), report("arm64")}, vuln.StateComplete, ""},
	} {
		got, err := client.AttachedVulnerabilities(t.Context(), c, ref, ghcr.VulnOptions{Files: c2.files})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := got.Merged; r.State != c2.want || strings.Join(r.Unscanned, " ") != c2.unscanned || len(got.Platforms) != 2 || r.Ref != "ghcr.io/acme/app:v1" {
			t.Errorf("%s: %s of %s, unscanned %q, %d platforms", name, r.State, r.Ref, r.Unscanned, len(got.Platforms))
		}
		asked := slices.ContainsFunc(got.Merged.Sources, func(s vuln.SourceReport) bool {
			return s.Status != vuln.StatusNotAsked && s.Name != vuln.SourceAttestation && s.Name != vuln.SourceFile
		})
		if asked {
			t.Errorf("%s: sources %+v", name, got.Merged.Sources)
		}
	}
	one, err := client.AttachedVulnerabilities(t.Context(), c, ref.With(oci.Reference{Digest: amd64.Digest}), ghcr.VulnOptions{})
	if err != nil || one.Merged.Platform != "linux/amd64" || len(one.Platforms) != 1 {
		t.Errorf("a single image: %+v, %v", one, err)
	}
	for name, ref := range map[string]oci.ImageRef{"no digest": ref.With(oci.Reference{Tag: "v1"}), "another platform": ref} {
		if _, err := client.AttachedVulnerabilities(t.Context(), c, ref, ghcr.VulnOptions{Platform: "linux/s390x"}); !errors.Is(err, ghcr.ErrInvalid) && !errors.Is(err, ghcr.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
