package ghcrtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Media types and predicate types of what vouches for an image.
const (
	bundleType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	envelopeType = "application/vnd.dsse.envelope.v1+json"
	inTotoType   = "application/vnd.in-toto+json"
	buildKitType = "application/vnd.docker.attestation.manifest.v1+json"
)

// signingKey signs all fixtures. Its signatures are the same each time, so the digests
// of what holds them are too.
var signingKey = sync.OnceValue(func() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("ghcrtest signs its fixtures so.."))
})

// PublicKey returns, in PEM, the key that verifies what [Envelope] and [Bundle] sign.
func PublicKey() []byte {
	der, err := x509.MarshalPKIXPublicKey(signingKey().Public())
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Statement makes an in-toto statement about some images: what vouches for them. The
// predicate is anything that JSON can hold; bytes and text are taken for JSON as they
// are. Attached to an image that is none of the subjects, it is mismatched.
func Statement(predicateType string, predicate any, subjects ...*Image) []byte {
	return statement("https://in-toto.io/Statement/v1", predicateType, predicate, subjects)
}

func statement(version, predicateType string, predicate any, subjects []*Image) []byte {
	switch p := predicate.(type) {
	case []byte:
		predicate = json.RawMessage(p)
	case string:
		predicate = json.RawMessage(p)
	}
	list := []any{}
	for _, s := range subjects {
		list = append(list, map[string]any{"name": "fixture", "digest": map[string]string{"sha256": s.Digest().Encoded()}})
	}
	return marshal(map[string]any{"_type": version, "subject": list, "predicateType": predicateType, "predicate": predicate})
}

// envelope is that of the DSSE specification.
type envelope struct {
	Payload     []byte `json:"payload"`
	PayloadType string `json:"payloadType"`
	Signatures  []any  `json:"signatures"`
}

func sealed(statement []byte) envelope {
	signed := append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(inTotoType), inTotoType, len(statement)), statement...)
	signature := map[string]any{"sig": ed25519.Sign(signingKey(), signed), "keyid": ""}
	return envelope{statement, inTotoType, []any{signature}}
}

// Envelope signs a statement as cosign up to version 2 keeps it: [CosignTag] attaches it.
func Envelope(statement []byte) []byte { return marshal(sealed(statement)) }

// Bundle signs a statement as a Sigstore bundle, version 0.3: [CosignBundle] attaches it,
// and [Server.AddAttestation] puts it into GitHub's API. It has no proof of a log.
func Bundle(statement []byte) []byte {
	return marshal(map[string]any{
		"mediaType": bundleType, "dsseEnvelope": sealed(statement),
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "ghcrtest"}},
	})
}

// predicateOf reads what a statement, envelope or bundle is about; of what is broken that
// is nothing.
func predicateOf(document []byte) string {
	var d struct {
		PredicateType string `json:"predicateType"`
		Payload       []byte `json:"payload"`
		Envelope      *struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	json.Unmarshal(document, &d)
	switch {
	case d.Envelope != nil:
		return predicateOf(d.Envelope.Payload)
	case len(d.Payload) > 0:
		return predicateOf(d.Payload)
	}
	return d.PredicateType
}

// CosignBundle attaches a bundle to an image as cosign 3 and GitHub's action do, as a
// referrer, which it returns. The bundle may be anything, as what is pushed is.
func CosignBundle(subject *Image, bundle []byte) *Image {
	r := &Image{Blobs: map[oci.Digest][]byte{}}
	annotations := map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "org.opencontainers.image.created": "2026-01-02T03:04:05Z"}
	if p := predicateOf(bundle); p != "" {
		annotations["dev.sigstore.bundle.predicateType"] = p
	}
	r.setManifest(oci.MediaTypeOCIManifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "artifactType": bundleType,
		"config": r.blob(oci.MediaTypeEmpty, []byte("{}")), "layers": []oci.Descriptor{r.blob(bundleType, bundle)},
		"subject": subject.Manifest.Descriptor(), "annotations": annotations,
	}))
	subject.Referrers = append(subject.Referrers, r)
	return r
}

// CosignTag attaches envelopes to an image as cosign up to version 2 does, as the layers of
// an artifact under the tag sha256-<hex>.att, which it returns. They may be anything, as
// what is pushed is.
func CosignTag(subject *Image, envelopes ...[]byte) *Image {
	return underTag(subject, ".att", envelopeType, envelopes...)
}

// CosignSBOM attaches an SBOM to an image as cosign attach sbom does, as an artifact under
// the tag sha256-<hex>.sbom, which it returns. The media type is "text/spdx+json", say.
func CosignSBOM(subject *Image, mediaType string, content []byte) *Image {
	return underTag(subject, ".sbom", mediaType, content)
}

func underTag(subject *Image, suffix, mediaType string, documents ...[]byte) *Image {
	t := &Image{Blobs: map[oci.Digest][]byte{}, Tags: []string{oci.DigestTag(subject.Digest()) + suffix}}
	layers := []oci.Descriptor{}
	for _, document := range documents {
		layer := t.blob(mediaType, document)
		if mediaType == envelopeType {
			layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": "", "predicateType": predicateOf(document)}
		}
		layers = append(layers, layer)
	}
	t.setManifest(oci.MediaTypeOCIManifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "config": t.blob(configType, []byte(`{"architecture":"","os":""}`)), "layers": layers,
	}))
	subject.Referrers = append(subject.Referrers, t)
	return t
}

// BuildKit makes an index as BuildKit pushes one with attestations: each image, and for
// each an entry of the platform unknown with a layer for each statement that about makes
// of the image. [BuildKitStatement] makes one as BuildKit does; none are signed.
func BuildKit(about func(*Image) [][]byte, children ...*Image) *Image {
	return buildKit(false, about, children)
}

// BuildKitArtifact is [BuildKit] as it is since the middle of 2026: the attestations are
// artifacts that name their image as subject. BuildKit writes no tag for those.
func BuildKitArtifact(about func(*Image) [][]byte, children ...*Image) *Image {
	return buildKit(true, about, children)
}

func buildKit(artifact bool, about func(*Image) [][]byte, children []*Image) *Image {
	return attestedIndex(children, func(c *Image) *Image {
		manifest := map[string]any{}
		if artifact {
			manifest["artifactType"], manifest["subject"] = buildKitType, c.Manifest.Descriptor()
		}
		return attestationManifest(manifest, about(c)...)
	})
}

// BuildKitStatement makes a statement of the kind and version that BuildKit writes.
func BuildKitStatement(subject *Image, predicateType string, predicate any) []byte {
	return statement("https://in-toto.io/Statement/v0.1", predicateType, predicate, []*Image{subject})
}

// attestationManifest is that of a BuildKit attestation.
func attestationManifest(manifest map[string]any, statements ...[]byte) *Image {
	a := &Image{Blobs: map[oci.Digest][]byte{}}
	layers, diffs := []oci.Descriptor{}, []oci.Digest{}
	for _, s := range statements {
		layer := a.blob(inTotoType, s)
		layer.Annotations = map[string]string{"in-toto.io/predicate-type": predicateOf(s)}
		layers, diffs = append(layers, layer), append(diffs, layer.Digest)
	}
	manifest["schemaVersion"], manifest["mediaType"], manifest["layers"] = 2, oci.MediaTypeOCIManifest, layers
	if manifest["artifactType"] != nil {
		manifest["config"] = a.blob(oci.MediaTypeEmpty, []byte("{}"))
	} else {
		manifest["config"] = a.blob(configType, marshal(map[string]any{"architecture": "unknown", "os": "unknown", "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}))
	}
	a.setManifest(oci.MediaTypeOCIManifest, marshal(manifest))
	return a
}

// Oversized makes a JSON document larger without changing what it says, for limits to be
// tried with.
func Oversized(document []byte, size int) []byte {
	if len(document) >= size {
		return document
	}
	return append(bytes.Repeat([]byte(" "), size-len(document)), document...)
}
