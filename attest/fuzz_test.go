package attest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// memory is a source of one blob and one manifest.
type memory struct {
	blob     []byte
	manifest *oci.Manifest
}

func (m memory) Manifest(context.Context, string) (*oci.Manifest, error) { return m.manifest, nil }
func (m memory) Blob(context.Context, oci.Descriptor, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.blob)), nil
}
func (m memory) Referrers(context.Context, oci.Digest) ([]oci.Descriptor, error) { return nil, nil }

// fuzzRead reads documents of a layout that may hold anything: nothing panics, what
// fails says so in an error of the package, and what was altered is not verified.
func fuzzRead(f *testing.F, layout attest.Layout, seeds ...layer) {
	img := image(1)
	keys := alice.keys(f)
	for _, l := range seeds {
		notes := toJSON(l.notes)
		f.Add(l.data, notes)
	}
	f.Fuzz(func(t *testing.T, data, notes []byte) {
		a := attest.Attachment{
			Subject: img.Digest(), Layout: layout, Annotations: map[string]string{},
			Layer: oci.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))},
		}
		json.Unmarshal(notes, &a.Annotations)
		d, err := attest.Read(t.Context(), memory{data, img.Manifest}, a)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) && !errors.Is(err, attest.ErrLimit) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		d.About()
		signer, err := keys.Verify(t.Context(), d)
		if (signer == nil) == (err == nil) {
			t.Fatalf("got %v, %v", signer, err)
		}
		if signer != nil && d.Statement != nil && !d.Statement.Is(img.Digest()) {
			t.Fatal("verified, and about another image")
		}
		b, err := d.Bundle()
		if err != nil {
			return
		}
		a.Layout, a.Layer = attest.LayoutBundle, oci.Descriptor{Digest: digest.FromBytes(b), Size: int64(len(b))}
		again, err := attest.Read(t.Context(), memory{b, img.Manifest}, a)
		if err != nil {
			t.Fatalf("its bundle can't be read: %v\n%s", err, b)
		}
		if len(again.Signatures) != len(d.Signatures) || d.Statement != nil && !bytes.Equal(again.Payload, d.Payload) {
			t.Fatal("its bundle says something else")
		}
	})
}

func FuzzBundle(f *testing.F) {
	img := image(1)
	good := statement(attest.PredicateSPDX, img.Digest())
	fuzzRead(f, attest.LayoutBundle, bundled(alice, "0.1", good), bundled(alice, "0.2", good), bundled(mallory, "0.3", good), messageBundle(alice, img, img.Manifest.Bytes()))
}

func FuzzEnvelope(f *testing.F) {
	good := statement(attest.PredicateSPDX, image(1).Digest())
	logged := att(alice, good)
	logged.notes = map[string]string{
		"dev.sigstore.cosign/certificate":      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"dev.sigstore.cosign/bundle":           `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"e30=","integratedTime":1,"logIndex":2,"logID":"c0ffee"}}`,
		"dev.sigstore.cosign/rfc3161timestamp": `{"SignedRFC3161Timestamp":"AAAA"}`,
	}
	fuzzRead(f, attest.LayoutDSSE, att(alice, good), logged)
}

func FuzzSimpleSigning(f *testing.F) {
	fuzzRead(f, attest.LayoutSimpleSigning, sig(alice, image(1).Digest()), sig(alice, image(2).Digest()))
}

func FuzzInToto(f *testing.F) {
	good := statement(attest.PredicateSPDX, image(1).Digest())
	fuzzRead(f, attest.LayoutInToto, layer{data: good}, layer{data: toJSON(envelope(alice, good))})
}
