package oci_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

func desc(kind string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":5}`, kind, hex64)
}

const config = "application/vnd.oci.image.config.v1+json"

func TestParseManifest(t *testing.T) {
	t.Parallel()
	image := `{"schemaVersion":2,"config":` + desc(config) + `,"layers":[` + desc("l") + `,` + desc("l") + `],"annotations":{"a":"b"}}`
	index := `{"schemaVersion":2,"manifests":[` + desc(oci.MediaTypeOCIManifest) + `]}`
	for _, test := range []struct {
		name, mediaType, raw string
		kind                 oci.Kind
		blobs, children      int
	}{
		{"OCI image", oci.MediaTypeOCIManifest, image, oci.KindImage, 1, 0},
		{"Docker image", oci.MediaTypeDockerManifest, strings.Replace(image, config, "application/vnd.docker.container.image.v1+json", 1), oci.KindImage, 1, 0},
		{"OCI index", oci.MediaTypeOCIIndex, index, oci.KindIndex, 0, 1},
		{"Docker list", oci.MediaTypeDockerList, index, oci.KindIndex, 0, 1},
		{"without a media type, image", "", image, oci.KindImage, 1, 0},
		{"without a media type, index", "", index, oci.KindIndex, 0, 1},
		{"artifact", oci.MediaTypeOCIManifest, `{"artifactType":"x/y","config":` + desc(oci.MediaTypeEmpty) + `,"layers":[]}`, oci.KindArtifact, 1, 0},
		{"artifact manifest", oci.MediaTypeArtifactManifest, `{"blobs":[` + desc("b") + `]}`, oci.KindArtifact, 1, 0},
		{"no layers", oci.MediaTypeOCIManifest, `{"config":` + desc(config) + `,"layers":null}`, oci.KindImage, 1, 0},
		{"empty index", oci.MediaTypeOCIIndex, `{"manifests":[]}`, oci.KindIndex, 0, 0},
		{"unknown", "application/vnd.example+json", `not JSON at all`, oci.KindUnknown, 0, 0},
	} {
		m, err := oci.ParseManifest(test.mediaType, []byte(test.raw))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if m.Kind() != test.kind || len(m.Blobs()) != test.blobs || len(m.Manifests) != test.children {
			t.Errorf("%s: got %s with %d blobs and %d children", test.name, m.Kind(), len(m.Blobs()), len(m.Manifests))
		}
		if string(m.Bytes()) != test.raw {
			t.Errorf("%s: the bytes have changed", test.name)
		}
		if err := m.Verify(m.Digest()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ mediaType, raw string }{
		"not JSON":         {oci.MediaTypeOCIManifest, `<html>`},
		"another type":     {oci.MediaTypeOCIManifest, `{"mediaType":"` + oci.MediaTypeOCIIndex + `","manifests":[]}`},
		"ambiguous image":  {oci.MediaTypeOCIManifest, `{"config":` + desc(config) + `,"manifests":[` + desc("m") + `]}`},
		"ambiguous index":  {oci.MediaTypeOCIIndex, `{"layers":[` + desc("m") + `],"manifests":[]}`},
		"malformed digest": {oci.MediaTypeOCIManifest, `{"config":{"mediaType":"x","digest":"../../etc/passwd","size":1}}`},
		"negative size":    {oci.MediaTypeOCIManifest, `{"config":{"mediaType":"x","digest":"sha256:` + hex64 + `","size":-1}}`},
		"wrong type":       {oci.MediaTypeOCIManifest, `{"layers":"many"}`},
		"nothing to go by": {"", `{}`},
		"over the limit":   {oci.MediaTypeOCIManifest, `{"a":"` + strings.Repeat("x", oci.MaxManifestSize) + `"}`},
		"over it, unknown": {"x/y", strings.Repeat("x", oci.MaxManifestSize+1)},
	} {
		if _, err := oci.ParseManifest(test.mediaType, []byte(test.raw)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestVerifyNamesBothDigests(t *testing.T) {
	t.Parallel()
	m, err := oci.ParseManifest("x/y", []byte("some"))
	if err != nil {
		t.Fatal(err)
	}
	other := oci.Digest("sha256:" + hex64)
	err = m.Verify(other)
	if !errors.Is(err, oci.ErrIntegrity) || !strings.Contains(err.Error(), hex64) || !strings.Contains(err.Error(), m.Digest().Encoded()) {
		t.Errorf("got %v", err)
	}
}

func TestEdges(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("f", 64)
	index := `{"manifests":[` + desc(oci.MediaTypeOCIManifest) + `,
		{"mediaType":"` + oci.MediaTypeOCIManifest + `","digest":"sha256:` + other + `","size":1,"platform":{"os":"unknown","architecture":"unknown"},
		 "annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"sha256:` + hex64 + `"}},
		` + strings.Replace(desc("application/vnd.buildkit.cacheconfig.v0"), hex64, strings.Repeat("a", 64), 1) + `],
		"subject":` + desc(oci.MediaTypeOCIManifest) + `}`
	m, err := oci.ParseManifest(oci.MediaTypeOCIIndex, []byte(index))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range m.Edges() {
		got = append(got, fmt.Sprintf("%s %.4s", e.Kind, e.Descriptor.Digest.Encoded()))
	}
	if want := "child 0123, child ffff, layer aaaa, attests 0123, subject 0123"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
}

func TestDigestTags(t *testing.T) {
	t.Parallel()
	d := oci.Digest("sha256:" + hex64)
	for tag, suffix := range map[string]string{"sha256-" + hex64: "", "sha256-" + hex64 + ".sig": ".sig", "sha256-" + hex64 + ".att": ".att"} {
		got, s, ok := oci.ParseDigestTag(tag)
		if !ok || got != d || s != suffix {
			t.Errorf("%s: got %s %q %v", tag, got, s, ok)
		}
	}
	for _, tag := range []string{"v1", "sha256-abc", "sha256-" + hex64 + "0", "sha256-" + hex64 + "-x"} {
		if _, _, ok := oci.ParseDigestTag(tag); ok {
			t.Errorf("%s is taken for a digest tag", tag)
		}
	}
	if oci.DigestTag(d) != "sha256-"+hex64 {
		t.Errorf("got %s", oci.DigestTag(d))
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(oci.MediaTypeOCIManifest, []byte(`{"config":`+desc(config)+`}`))
	f.Add("", []byte(`{"manifests":[]}`))
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		m, err := oci.ParseManifest(mediaType, raw)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Fatalf("%v is not ErrInvalid", err)
			}
			return
		}
		m.Kind()
		for _, d := range m.Blobs() {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Fatalf("a blob %v", d)
			}
		}
		for e := range m.Edges() {
			if e.Descriptor.Digest.Validate() != nil {
				t.Fatalf("an edge to %v", e.Descriptor)
			}
		}
	})
}

func BenchmarkParseManifest(b *testing.B) {
	raw := []byte(`{"config":` + desc(config) + `,"layers":[` + strings.Repeat(desc("l")+",", 39) + desc("l") + `]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := oci.ParseManifest(oci.MediaTypeOCIManifest, raw); err != nil {
			b.Fatal(err)
		}
	}
}
