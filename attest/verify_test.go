package attest_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestEveryKeyVerifies: each kind of key, in each layout, with the right key and
// another one, and about the right image and another one.
func TestEveryKeyVerifies(t *testing.T) {
	img, other := image(1), image(2)
	for name, s := range signers() {
		stranger := signers()["RSA"]
		if name == "RSA" {
			stranger = signers()["P-384"]
		}
		layouts := map[string]func(about *ghcrtest.Image) layer{
			"simple":  func(about *ghcrtest.Image) layer { return sig(s, about.Digest()) },
			"dsse":    func(about *ghcrtest.Image) layer { return att(s, statement(attest.PredicateSPDX, about.Digest())) },
			"message": func(about *ghcrtest.Image) layer { return messageBundle(s, img, about.Manifest.Bytes()) },
		}
		for version := range bundleTypes {
			layouts["bundle "+version] = func(about *ghcrtest.Image) layer {
				return bundled(s, version, statement(attest.PredicateSPDX, about.Digest()))
			}
		}
		for layout, make := range layouts {
			t.Run(name+"/"+layout, func(t *testing.T) {
				verify := func(l layer, keys *attest.Keys) (*attest.Signer, error) {
					d, err := attest.Parse(t.Context(), memory{manifest: img.Manifest}, attest.Attachment{
						Subject: img.Digest(), Layer: oci.Descriptor{MediaType: l.mediaType}, Annotations: l.notes,
					}, l.data)
					if err != nil {
						t.Fatal(err)
					}
					return keys.Verify(t.Context(), d)
				}
				if signer, err := verify(make(img), s.keys(t)); err != nil || !strings.HasPrefix(signer.Key, "sha256:") {
					t.Errorf("right key: got %v, %v", signer, err)
				}
				want := attest.ErrBadSignature // nothing in the document names the key
				if layout == "message" || strings.HasPrefix(layout, "bundle") {
					want = attest.ErrWrongKey
				}
				if signer, err := verify(make(img), stranger.keys(t)); signer != nil || !errors.Is(err, want) {
					t.Errorf("wrong key: got %v, %v", signer, err)
				}
				want = attest.ErrWrongSubject
				if layout == "message" {
					want = attest.ErrBadSignature // it signs the bytes of the image, which are others
				}
				if signer, err := verify(make(other), s.keys(t)); signer != nil || !errors.Is(err, want) {
					t.Errorf("wrong subject: got %v, %v", signer, err)
				}
			})
		}
	}
}

// TestAlteredPayload: what was signed, and is no longer what is there.
func TestAlteredPayload(t *testing.T) {
	img := image(1)
	good := statement(attest.PredicateSPDX, img.Digest())
	altered := func(l layer, from, to string) layer {
		data := strings.Replace(string(l.data), from, to, 1)
		if data == string(l.data) {
			t.Fatalf("there is no %q", from)
		}
		l.data = []byte(data)
		return l
	}
	envelopeOf := func(s signer) map[string]any {
		e := envelope(s, good)
		e["payload"] = statement(attest.PredicateVulns, img.Digest())
		return e
	}
	for name, l := range map[string]layer{
		"simple": altered(sig(alice, img.Digest()), `"optional":null`, `"optional":{"a":"b"}`),
		"dsse":   {"application/vnd.dsse.envelope.v1+json", toJSON(envelopeOf(alice)), nil},
		"bundle": {bundleTypes["0.3"], toJSON(map[string]any{
			"mediaType": bundleTypes["0.3"], "verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": alice.hint()}},
			"dsseEnvelope": envelopeOf(alice),
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			img.Referrers = nil
			tagged(img, ".att", l)
			run(t, func(s *sandbox) {
				s.add("v1", img)
				d := s.read(s.list(img, attest.ListOptions{})[0])
				if signer, err := alice.keys(t).Verify(s.Context(), d); signer != nil || !errors.Is(err, attest.ErrBadSignature) || errors.Is(err, attest.ErrWrongKey) {
					t.Errorf("got %v, %v", signer, err)
				}
			})
		})
	}
}

func sbomBy(keys ...attest.Verifier) attest.Requirement {
	return attest.Requirement{PredicateType: attest.PredicateSPDX, By: keys}
}

// TestNoSignatureIsNotABadOne: each failure is told from the others.
func TestNoSignatureIsNotABadOne(t *testing.T) {
	sbom := func(img *ghcrtest.Image) []byte { return statement(attest.PredicateSPDX+"/v2.3", img.Digest()) }
	kinds := []error{
		attest.ErrNoSignature, attest.ErrBadSignature, attest.ErrWrongKey, attest.ErrWrongSubject, attest.ErrMalformed, attest.ErrLimit,
	}
	for name, c := range map[string]struct {
		attach func(img *ghcrtest.Image)
		want   error // nil if it is met
	}{
		"good":                  {func(img *ghcrtest.Image) { tagged(img, ".att", att(alice, sbom(img))) }, nil},
		"good beside a bad one": {func(img *ghcrtest.Image) { tagged(img, ".att", att(mallory, sbom(img)), att(alice, sbom(img))) }, nil},
		"good beside rubbish": {func(img *ghcrtest.Image) {
			tagged(img, ".att", layer{"application/vnd.dsse.envelope.v1+json", []byte("{"), nil}, att(alice, sbom(img)))
		}, nil},
		"nothing":  {func(*ghcrtest.Image) {}, attest.ErrNoSignature},
		"unsigned": {func(img *ghcrtest.Image) { refer(img, inToto, layer{inToto, sbom(img), nil}) }, attest.ErrNoSignature},
		"of another kind": {func(img *ghcrtest.Image) {
			tagged(img, ".att", att(alice, statement(attest.PredicateVulns, img.Digest())))
		}, attest.ErrNoSignature},
		"another kind by prefix": {func(img *ghcrtest.Image) {
			tagged(img, ".att", att(alice, statement(attest.PredicateSPDX+"s", img.Digest())))
		}, attest.ErrNoSignature},
		"another kind below it": {func(img *ghcrtest.Image) {
			tagged(img, ".att", att(alice, statement(attest.PredicateSPDX+"/draft", img.Digest())))
		}, attest.ErrNoSignature},
		"by another": {func(img *ghcrtest.Image) { tagged(img, ".att", att(mallory, sbom(img))) }, attest.ErrBadSignature},
		"by another, who says so": {func(img *ghcrtest.Image) {
			refer(img, bundleTypes["0.3"], bundled(mallory, "0.3", sbom(img)))
		}, attest.ErrWrongKey},
		"by another, and unsigned": {func(img *ghcrtest.Image) {
			tagged(img, ".att", att(mallory, sbom(img)))
			refer(img, inToto, layer{inToto, sbom(img), nil})
		}, attest.ErrBadSignature},
		"about another": {func(img *ghcrtest.Image) { tagged(img, ".att", att(alice, sbom(image(9)))) }, attest.ErrWrongSubject},
		"unreadable": {func(img *ghcrtest.Image) {
			tagged(img, ".att", layer{"application/vnd.dsse.envelope.v1+json", []byte("{"), nil})
		}, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			img := image(1)
			c.attach(img)
			run(t, func(s *sandbox) {
				s.add("v1", img)
				result, err := attest.Verify(s.Context(), s.repo, img.Digest(), attest.Policy{Require: []attest.Requirement{sbomBy(alice.keys(t))}})
				if result == nil {
					t.Fatal(err)
				}
				if got := len(s.list(img, attest.ListOptions{})); got != len(result.Checks) {
					t.Errorf("%d of %d documents have an outcome", len(result.Checks), got)
				}
				if c.want == nil {
					if err != nil {
						t.Error(err)
					}
					return
				}
				for _, kind := range kinds {
					if errors.Is(err, kind) != (kind == c.want) {
						t.Errorf("got %v, which is %v", err, kind)
					}
				}
				if p := (*attest.PolicyError)(nil); !errors.As(err, &p) || len(p.Unmet) != 1 || p.Unmet[0].Subject != img.Digest() {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestPolicy: several requirements, several signers, unsigned documents and checks of
// what they say.
func TestPolicy(t *testing.T) {
	img := image(1)
	tagged(img, ".sig", sig(alice, img.Digest()), sig(alice, img.Digest()), sig(mallory, img.Digest()))
	refer(img, inToto, layer{inToto, statement(attest.PredicateSPDX, img.Digest()), nil})
	refer(img, "application/vnd.cyclonedx+json", layer{"application/vnd.cyclonedx+json", []byte(`{}`), nil})
	both := []attest.Verifier{alice.keys(t), mallory.keys(t)}
	no := errors.New("not this one")
	for name, c := range map[string]struct {
		require []attest.Requirement
		ok      bool
	}{
		"signature and unsigned SBOM": {[]attest.Requirement{{By: both}, {PredicateType: attest.PredicateSPDX, Unsigned: true}}, true},
		"bare document":               {[]attest.Requirement{{PredicateType: attest.PredicateCycloneDX, Unsigned: true}}, true},
		"one of two is missing":       {[]attest.Requirement{{By: both}, {PredicateType: attest.PredicateVulns, Unsigned: true}}, false},
		"two signers":                 {[]attest.Requirement{{By: both, Signers: 2}}, true},
		"one signer twice is not two": {[]attest.Requirement{{By: both[:1], Signers: 2}}, false},
		"three signers":               {[]attest.Requirement{{By: both, Signers: 3}}, false},
		"a check that refuses":        {[]attest.Requirement{{By: both, Check: func(*attest.Document, *attest.Signer) error { return no }}}, false},
		"a check that takes one": {[]attest.Requirement{{By: both, Check: func(_ *attest.Document, s *attest.Signer) error {
			if strings.HasPrefix(s.Key, "sha256:") {
				return nil
			}
			return no
		}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", img)
				result, err := attest.Verify(s.Context(), s.repo, img.Digest(), attest.Policy{Require: c.require})
				if (err == nil) != c.ok {
					t.Errorf("got %v", err)
				}
				if name == "a check that refuses" && !errors.Is(err, no) {
					t.Errorf("got %v", err)
				}
				if len(result.Checks) != 5 {
					t.Errorf("got %d outcomes", len(result.Checks))
				}
				for _, check := range result.Checks {
					if (check.Err == nil) == (len(check.Signers) == 0) {
						t.Errorf("%s: %v, %v", check.PredicateType, check.Signers, check.Err)
					}
				}
			})
		})
	}
}

// TestPolicyThatPassesEverything is refused, as is one that nothing can meet.
func TestPolicyThatPassesEverything(t *testing.T) {
	by := []attest.Verifier{alice.keys(t)}
	for name, p := range map[string][]attest.Requirement{
		"empty":                  nil,
		"by nobody":              {{PredicateType: attest.PredicateSPDX}},
		"by nil":                 {{By: []attest.Verifier{nil}}},
		"unsigned and signed":    {{PredicateType: attest.PredicateSPDX, Unsigned: true, By: by}},
		"unsigned signature":     {{Unsigned: true}},
		"two unsigned signers":   {{PredicateType: attest.PredicateSPDX, Unsigned: true, Signers: 2}},
		"a negative number":      {{By: by, Signers: -1}},
		"a scope that is no one": {{By: by, Scope: "everywhere"}},
	} {
		if _, err := attest.Verify(t.Context(), nil, image(1).Digest(), attest.Policy{Require: p}); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestParseKeys: what is a public key, and what is none.
func TestParseKeys(t *testing.T) {
	private, err := x509.MarshalPKCS8PrivateKey(alice.key)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, text := range map[string][]byte{
		"nothing":     nil,
		"text":        []byte("ssh-ed25519 AAAA"),
		"private key": block("PRIVATE KEY", private),
		"rubbish":     block("PUBLIC KEY", []byte("rubbish")),
		"weak":        signer{weak, crypto.SHA256}.pem(),
		"small curve": ecKey(elliptic.P224(), crypto.SHA256).pem(),
	} {
		if k, err := attest.ParseKeys(text); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, %v", name, k, err)
		}
	}
	strong := signers()["RSA"]
	pkcs1 := block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(strong.key.Public().(*rsa.PublicKey)))
	if _, err := attest.ParseKeys(slices.Concat(alice.pem(), pkcs1, mallory.pem())); err != nil {
		t.Error(err)
	}
}

// TestDocumentsFromElsewhere count like those that are attached, for their subject.
func TestDocumentsFromElsewhere(t *testing.T) {
	img, other := image(1), image(2)
	parse := func(attachedTo, about *ghcrtest.Image) *attest.Document {
		d, err := attest.Parse(t.Context(), nil, attest.Attachment{Subject: attachedTo.Digest(), Place: attest.PlaceGitHub},
			bundled(alice, "0.3", statement(attest.PredicateSPDX, about.Digest())).data)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, c := range map[string]struct {
		also []*attest.Document
		want error
	}{
		"none":                 {nil, attest.ErrNoSignature},
		"of the image":         {[]*attest.Document{parse(img, img)}, nil},
		"of another":           {[]*attest.Document{parse(other, other)}, attest.ErrNoSignature},
		"of another, as of it": {[]*attest.Document{parse(img, other)}, attest.ErrWrongSubject},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", img)
				result, err := attest.Verify(s.Context(), s.repo, img.Digest(), attest.Policy{Require: []attest.Requirement{sbomBy(alice.keys(t))}, Also: c.also})
				if !errors.Is(err, c.want) || len(result.Checks) != len(c.also) {
					t.Errorf("got %+v, %v", result, err)
				}
			})
		})
	}
}

// TestSignatureOfNoImage: a document that was found at no image, and says that it is about
// none, is not about it.
func TestSignatureOfNoImage(t *testing.T) {
	s := signers()["P-256"]
	for name, l := range map[string]layer{"simple": sig(s, ""), "dsse": att(s, statement(attest.PredicateSPDX, image(1).Digest()))} {
		d, err := attest.Parse(t.Context(), nil, attest.Attachment{Layer: oci.Descriptor{MediaType: l.mediaType}, Annotations: l.notes}, l.data)
		if err != nil {
			t.Fatal(err)
		}
		if signer, err := s.keys(t).Verify(t.Context(), d); signer != nil || !errors.Is(err, attest.ErrWrongSubject) {
			t.Errorf("%s: got %v, %v", name, signer, err)
		}
	}
}
