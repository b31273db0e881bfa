package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

var (
	_ attest.Target = (*registry.Repository)(nil)
	_ attest.Target = (*transfer.Layout)(nil)
)

const repoName = "acme/app"

// sandbox is an emulator of GHCR in virtual time, and a client of it.
type sandbox struct {
	*testing.T
	server *ghcrtest.Server
	repo   *registry.Repository
}

func run(t *testing.T, test func(s *sandbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		s := &sandbox{T: t, server: server}
		s.repo = s.client()
		test(s)
	})
}

// client is a client that shares nothing with others, as in another process.
func (s *sandbox) client() *registry.Repository {
	s.Helper()
	client, err := transport.New(transport.Options{
		Base:        s.server.Transport(),
		Credentials: transport.Static(map[string]transport.Credential{"ghcr.io": {Username: "u", Password: transport.NewSecret(ghcrtest.Token), Source: "test"}}),
		Rules: func(string) transport.HostRules {
			return transport.HostRules{Realm: "https://ghcr.io/token", Service: "ghcr.io", DirectBearer: true}
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	host, err := registry.New(client, "ghcr.io", registry.Options{})
	if err != nil {
		s.Fatal(err)
	}
	repo, err := host.Repository(repoName)
	if err != nil {
		s.Fatal(err)
	}
	return repo
}

func (s *sandbox) add(tag string, img *ghcrtest.Image) {
	s.Helper()
	if err := s.server.Add(repoName, tag, img); err != nil {
		s.Fatal(err)
	}
}

// list lists what is attached to an image, which must give no warning.
func (s *sandbox) list(img *ghcrtest.Image, opts attest.ListOptions) []attest.Attachment {
	s.Helper()
	l, err := attest.List(s.Context(), s.repo, img.Digest(), opts)
	if err != nil {
		s.Fatal(err)
	}
	for _, w := range l.Warnings {
		s.Errorf("warning: %v", w)
	}
	return l.Attachments
}

func (s *sandbox) read(a attest.Attachment) *attest.Document {
	s.Helper()
	d, err := attest.Read(s.Context(), s.repo, a)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// image is an image that no other test has.
func image(seed uint64) *ghcrtest.Image {
	return ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(seed, 1000))
}

// layer is a document in a carrying manifest.
type layer struct {
	mediaType string
	data      []byte
	notes     map[string]string
}

// carrier makes a manifest that carries documents, with or without a subject.
func carrier(subject *ghcrtest.Image, artifactType string, layers ...layer) *ghcrtest.Image {
	blobs := map[oci.Digest][]byte{digest.FromString("{}"): []byte("{}")}
	list := []oci.Descriptor{}
	for _, l := range layers {
		d := oci.Descriptor{MediaType: l.mediaType, Digest: digest.FromBytes(l.data), Size: int64(len(l.data)), Annotations: l.notes}
		blobs[d.Digest] = l.data
		list = append(list, d)
	}
	m := map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest, "layers": list,
		"config": oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: digest.FromString("{}"), Size: 2},
	}
	if artifactType != "" {
		m["artifactType"] = artifactType
		m["config"] = oci.Descriptor{MediaType: oci.MediaTypeEmpty, Digest: digest.FromString("{}"), Size: 2}
	}
	if subject != nil {
		m["subject"] = subject.Manifest.Descriptor()
	}
	img := ghcrtest.Raw(oci.MediaTypeOCIManifest, toJSON(m))
	img.Blobs = blobs
	return img
}

// refer attaches documents as a referrer.
func refer(subject *ghcrtest.Image, artifactType string, layers ...layer) *ghcrtest.Image {
	c := carrier(subject, artifactType, layers...)
	subject.Referrers = append(subject.Referrers, c)
	return c
}

// tagged attaches documents as cosign 2 does.
func tagged(subject *ghcrtest.Image, suffix string, layers ...layer) *ghcrtest.Image {
	c := carrier(nil, "", layers...)
	c.Tags = []string{oci.DigestTag(subject.Digest()) + suffix}
	subject.Referrers = append(subject.Referrers, c)
	return c
}

func toJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// signer is a key and a way to sign with it.
type signer struct {
	key  crypto.Signer
	opts crypto.SignerOpts
}

func (s signer) sign(message []byte) []byte {
	hashed := message
	if h := s.opts.HashFunc(); h != 0 {
		sum := h.New()
		sum.Write(message)
		hashed = sum.Sum(nil)
	}
	sig, err := s.key.Sign(rand.Reader, hashed, s.opts)
	if err != nil {
		panic(err)
	}
	return sig
}

func (s signer) der() []byte {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func (s signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: s.der()})
}

// hint names the key as cosign does in a bundle.
func (s signer) hint() string {
	sum := sha256.Sum256(s.der())
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (s signer) keys(t testing.TB) *attest.Keys {
	t.Helper()
	k, err := attest.ParseKeys(s.pem())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(curve elliptic.Curve, h crypto.Hash) signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{key, h}
}

// alice and mallory are two keys of the usual kind. They are the same in each process of
// a fuzzing run, so that what one signs another verifies.
var alice, mallory = namedKey("alice"), namedKey("mallory")

func namedKey(name string) signer {
	seed := sha256.Sum256([]byte(name))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		panic(err)
	}
	return signer{key, crypto.SHA256}
}

// signers are keys of each kind and scheme.
var signers = sync.OnceValue(func() map[string]signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return map[string]signer{
		"P-256":              alice,
		"P-384":              ecKey(elliptic.P384(), crypto.SHA384),
		"P-384 with SHA-256": ecKey(elliptic.P384(), crypto.SHA256),
		"P-521":              ecKey(elliptic.P521(), crypto.SHA512),
		"P-521 with SHA-256": ecKey(elliptic.P521(), crypto.SHA256),
		"RSA":                {big, crypto.SHA256},
		"Ed25519":            {ed, crypto.Hash(0)},
		"Ed25519ph":          {ed, &ed25519.Options{Hash: crypto.SHA512}},
	}
})

func statement(predicateType string, about ...oci.Digest) []byte {
	var subject []any
	for _, d := range about {
		subject = append(subject, map[string]any{"name": "app", "digest": map[string]string{"sha256": d.Encoded()}})
	}
	return toJSON(map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": predicateType, "subject": subject, "predicate": map[string]any{"made": "by a test"}})
}

const inToto = "application/vnd.in-toto+json"

func envelope(s signer, payload []byte) map[string]any {
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(payload), payload)
	return map[string]any{"payloadType": inToto, "payload": payload, "signatures": []any{map[string]any{"sig": s.sign(pae)}}}
}

// att is a layer of a .att tag.
func att(s signer, payload []byte) layer {
	return layer{"application/vnd.dsse.envelope.v1+json", toJSON(envelope(s, payload)), map[string]string{"dev.cosignproject.cosign/signature": ""}}
}

// sig is a layer of a .sig tag.
func sig(s signer, about oci.Digest) layer {
	payload := toJSON(map[string]any{"critical": map[string]any{
		"identity": map[string]string{"docker-reference": "ghcr.io/" + repoName},
		"image":    map[string]string{"docker-manifest-digest": about.String()},
		"type":     "cosign container image signature",
	}, "optional": nil})
	return layer{"application/vnd.dev.cosign.simplesigning.v1+json", payload,
		map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(s.sign(payload))}}
}

var bundleTypes = map[string]string{
	"0.1": "application/vnd.dev.sigstore.bundle+json;version=0.1",
	"0.2": "application/vnd.dev.sigstore.bundle+json;version=0.2",
	"0.3": "application/vnd.dev.sigstore.bundle.v0.3+json",
}

// bundled is a bundle, made with a key, of an envelope.
func bundled(s signer, version string, payload []byte) layer {
	return layer{bundleTypes[version], toJSON(map[string]any{
		"mediaType":            bundleTypes[version],
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": s.hint()}},
		"dsseEnvelope":         envelope(s, payload),
	}), nil}
}

// messageBundle is a bundle that signs the bytes of an image's manifest.
func messageBundle(s signer, img *ghcrtest.Image, signed []byte) layer {
	sum := sha256.Sum256(signed)
	return layer{bundleTypes["0.3"], toJSON(map[string]any{
		"mediaType":            bundleTypes["0.3"],
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": s.hint()}},
		"messageSignature": map[string]any{
			"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sum[:]}, "signature": s.sign(signed),
		},
	}), nil}
}
