package ghcrtest_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// layerOf returns what the only, or first, layer of an image holds.
func layerOf(img *ghcrtest.Image) []byte { return img.Blobs[img.Manifest.Layers[0].Digest] }

// TestSignedFixtures: envelopes and bundles verify with the key that is given out, and
// only as they are.
func TestSignedFixtures(t *testing.T) {
	t.Parallel()
	block, _ := pem.Decode(ghcrtest.PublicKey())
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	statement := ghcrtest.Statement(provenanceType, map[string]string{"a": "b"}, ghcrtest.NewIndex())
	var bundle struct {
		MediaType string
		Envelope  json.RawMessage `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(ghcrtest.Bundle(statement), &bundle); err != nil || bundle.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" {
		t.Fatalf("%v, %q", err, bundle.MediaType)
	}
	for name, raw := range map[string][]byte{"envelope": ghcrtest.Envelope(statement), "bundle": bundle.Envelope} {
		var e struct {
			Payload     []byte
			PayloadType string
			Signatures  []struct{ Sig []byte }
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		signed := fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(e.Payload), e.Payload)
		if string(e.Payload) != string(statement) || !ed25519.Verify(key.(ed25519.PublicKey), signed, e.Signatures[0].Sig) {
			t.Errorf("%s: it does not verify", name)
		}
	}
}

// TestCosignLayouts: what is attached is where cosign and BuildKit would put it.
func TestCosignLayouts(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := ghcrtest.NewImage("linux/amd64")
		tag := oci.DigestTag(img.Digest())
		report := ghcrtest.TrivyReport("acme/app", img, openssl)
		predicate := ghcrtest.CosignVuln("pkg:github/aquasecurity/trivy@0.67.0", report, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		statement := ghcrtest.Statement(ghcrtest.CosignVulnType, predicate, img)
		ghcrtest.CosignBundle(img, ghcrtest.Bundle(statement))
		ghcrtest.CosignBundle(img, []byte("broken"))
		ghcrtest.CosignTag(img, ghcrtest.Envelope(statement), []byte("broken"))
		ghcrtest.CosignSBOM(img, "text/spdx+json", ghcrtest.SPDX("app", openssl))
		if err := w.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		w.want(w.do("GET", "/v2/acme/app/manifests/"+tag, "", "Accept", indexType), 200, `"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"`)
		w.want(w.do("GET", "/v2/acme/app/manifests/"+tag+".att", ""), 200, "application/vnd.dsse.envelope.v1+json", `"predicateType":"`+ghcrtest.CosignVulnType+`"`)
		w.want(w.do("GET", "/v2/acme/app/manifests/"+tag+".sbom", ""), 200, "text/spdx+json")
		if a := img.Referrers[0].Manifest.Annotations; a["dev.sigstore.bundle.predicateType"] != ghcrtest.CosignVulnType || img.Referrers[0].Manifest.Subject.Digest != img.Digest() {
			t.Errorf("annotations %v", a)
		}
		for _, word := range []string{`"scanFinishedOn":"2026-01-01T00:00:00Z"`, `"RepoDigests":["ghcr.io/acme/app@` + img.Digest().String(), `"VulnerabilityID":"CVE-2026-1001"`, `"sha256":"` + img.Digest().Encoded()} {
			if !strings.Contains(string(statement), word) {
				t.Errorf("%s does not say %s", statement, word)
			}
		}
		if grype := string(ghcrtest.GrypeReport("acme/app", img, lodash)); !strings.Contains(grype, `"manifestDigest":"`+img.Digest().String()) || !strings.Contains(grype, `"severity":"High"`) {
			t.Error(grype)
		}
		if big := ghcrtest.Oversized(statement, 1<<20); len(big) != 1<<20 || !json.Valid(big) {
			t.Error("it is not larger, or says something else")
		}
	})
}

// TestBuildKitLayouts: attestations stand beside their image in the index, and as artifacts
// name it as their subject, with no tag for them.
func TestBuildKitLayouts(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		about := func(img *ghcrtest.Image) [][]byte {
			return [][]byte{ghcrtest.BuildKitStatement(img, ghcrtest.SPDXType, ghcrtest.SPDX("app", openssl)), ghcrtest.BuildKitStatement(img, provenanceType, `{}`)}
		}
		one, two := ghcrtest.NewImage("linux/amd64"), ghcrtest.NewImage("linux/arm64")
		for _, index := range []*ghcrtest.Image{ghcrtest.BuildKit(about, one, two), ghcrtest.BuildKitArtifact(about, one, two)} {
			if err := w.server.Add("acme/app", "v1", index); err != nil {
				t.Fatal(err)
			}
			if len(index.Manifest.Manifests) != 4 {
				t.Fatalf("%d entries", len(index.Manifest.Manifests))
			}
			subject, ok := oci.AttestationOf(index.Manifest.Manifests[3])
			attestation := index.Children[3]
			if !ok || subject != two.Digest() || len(attestation.Manifest.Layers) != 2 || attestation.Manifest.Layers[0].Annotations["in-toto.io/predicate-type"] != ghcrtest.SPDXType {
				t.Errorf("%v: %+v", subject, attestation.Manifest)
			}
			if !strings.Contains(string(layerOf(attestation)), `"_type":"https://in-toto.io/Statement/v0.1"`) {
				t.Errorf("%s", layerOf(attestation))
			}
			if s := attestation.Manifest.Subject; s != nil && (s.Digest != two.Digest() || attestation.Manifest.ArtifactType != "application/vnd.docker.attestation.manifest.v1+json") {
				t.Errorf("subject %v of %s", s, attestation.Manifest.ArtifactType)
			}
		}
		if tags := w.do("GET", "/v2/acme/app/tags/list", "").body; strings.Contains(tags, "sha256-") {
			t.Errorf("tags %s", tags)
		}
	})
}
