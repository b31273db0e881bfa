package attest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// outline says in a line what an attachment is.
func outline(a attest.Attachment) string {
	return fmt.Sprintf("%s %s %s signed=%t", a.Place, a.Layout, a.PredicateType, a.Signed)
}

// TestEveryLayoutIsListed: each way in which clients attach something to an image is
// found, and what it holds is read.
func TestEveryLayoutIsListed(t *testing.T) {
	img := image(1)
	slsa := statement("https://slsa.dev/provenance/v1", img.Digest())
	sbom := statement("https://spdx.dev/Document/v2.3", img.Digest())
	bundleV3 := "application/vnd.dev.sigstore.bundle.v0.3+json"
	cases := map[string]struct {
		attach    func()
		want      string
		predicate string
		signed    int
	}{
		"bundle":            {func() { refer(img, bundleV3, bundled(alice, "0.3", slsa)) }, "referrer bundle  signed=true", "https://slsa.dev/provenance/v1", 1},
		"bundle 0.1":        {func() { refer(img, bundleTypes["0.1"], bundled(alice, "0.1", slsa)) }, "referrer bundle  signed=true", "https://slsa.dev/provenance/v1", 1},
		"bundle 0.2":        {func() { refer(img, bundleTypes["0.2"], bundled(alice, "0.2", slsa)) }, "referrer bundle  signed=true", "https://slsa.dev/provenance/v1", 1},
		"message signature": {func() { refer(img, bundleV3, messageBundle(alice, img, img.Manifest.Bytes())) }, "referrer bundle  signed=true", attest.PredicateSignature, 1},
		"in-toto statement": {func() {
			refer(img, inToto, layer{inToto, sbom, map[string]string{"in-toto.io/predicate-type": "https://spdx.dev/Document/v2.3"}})
		}, "referrer in-toto https://spdx.dev/Document/v2.3 signed=false", "https://spdx.dev/Document/v2.3", 0},
		"in-toto envelope": {func() { refer(img, inToto, layer{inToto, toJSON(envelope(alice, sbom)), nil}) },
			"referrer in-toto  signed=false", "https://spdx.dev/Document/v2.3", 1},
		"buildkit artifact": {func() { refer(img, "application/vnd.docker.attestation.manifest.v1+json", layer{inToto, sbom, nil}) },
			"referrer in-toto  signed=false", "https://spdx.dev/Document/v2.3", 0},
		"cosign attestation": {func() { tagged(img, ".att", att(alice, slsa)) }, "tag dsse  signed=true", "https://slsa.dev/provenance/v1", 1},
		"cosign signature":   {func() { tagged(img, ".sig", sig(alice, img.Digest())) }, "tag simple-signing " + attest.PredicateSignature + " signed=true", attest.PredicateSignature, 1},
		"cosign signature as a referrer": {func() { refer(img, "application/vnd.dev.cosign.artifact.sig.v1+json", sig(alice, img.Digest())) },
			"referrer simple-signing " + attest.PredicateSignature + " signed=true", attest.PredicateSignature, 1},
		"cosign sbom": {func() { tagged(img, ".sbom", layer{"text/spdx+json", []byte(`{"spdxVersion":"SPDX-2.3"}`), nil}) },
			"tag document https://spdx.dev/Document signed=false", "https://spdx.dev/Document", 0},
		"bare CycloneDX": {func() {
			refer(img, "application/vnd.cyclonedx+json", layer{"application/vnd.cyclonedx+json", []byte(`{"bomFormat":"CycloneDX"}`), nil})
		}, "referrer document https://cyclonedx.org/bom signed=false", "https://cyclonedx.org/bom", 0},
		"notation": {func() {
			refer(img, "application/vnd.cncf.notary.signature", layer{"application/jose+json", []byte(`{}`), nil})
		}, "referrer notation  signed=true", "", 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			img.Referrers = nil
			c.attach()
			run(t, func(s *sandbox) {
				s.add("v1", img)
				list := s.list(img, attest.ListOptions{})
				if len(list) != 1 {
					t.Fatalf("got %d attachments", len(list))
				}
				a := list[0]
				if got := outline(a); got != c.want {
					t.Errorf("got %s\nwant %s", got, c.want)
				}
				if a.Subject != img.Digest() || a.Manifest.Digest != img.Referrers[0].Digest() {
					t.Errorf("it is %s, attached to %s", a.Manifest.Digest, a.Subject)
				}
				d := s.read(a)
				if d.PredicateType != c.predicate || len(d.Signatures) != c.signed {
					t.Errorf("read %q with %d signatures, want %q with %d", d.PredicateType, len(d.Signatures), c.predicate, c.signed)
				}
				if err := d.About(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestBuildKitAttestationsAreListed: they are entries of the index, one for each
// platform.
func TestBuildKitAttestationsAreListed(t *testing.T) {
	amd, arm := image(1), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 1000))
	index := ghcrtest.Attested(amd, arm)
	run(t, func(s *sandbox) {
		s.add("v1", index)
		if list := s.list(index, attest.ListOptions{}); len(list) != 0 {
			t.Errorf("the index itself has %d", len(list))
		}
		if list := s.list(amd, attest.ListOptions{}); len(list) != 0 {
			t.Errorf("the platform alone has %d: nothing there tells of the index", len(list))
		}
		for _, list := range [][]attest.Attachment{
			s.list(index, attest.ListOptions{Children: true}),
			append(s.list(amd, attest.ListOptions{Index: index.Digest()}), s.list(arm, attest.ListOptions{Index: index.Digest()})...),
		} {
			if len(list) != 2 || list[0].Subject != amd.Digest() || list[1].Subject != arm.Digest() {
				t.Fatalf("got %+v", list)
			}
			for _, a := range list {
				if got := outline(a); got != "index in-toto https://slsa.dev/provenance/v0.2 signed=false" {
					t.Errorf("got %s", got)
				}
				if d := s.read(a); d.Statement == nil || d.About() != nil {
					t.Errorf("got %+v", d)
				}
			}
		}
		l, err := attest.List(s.Context(), s.repo, index.Digest(), attest.ListOptions{Children: true})
		if err != nil || len(l.Images) != 3 || !l.Images[0].Index || l.Images[1].Index {
			t.Errorf("got the images %+v, %v", l.Images, err)
		}
	})
}

// TestFallbackIndexIsNotBelieved: its entries may have a wrong artifact type, or
// none, or name manifests that are about something else (docs/quirks.md#referrers).
func TestFallbackIndexIsNotBelieved(t *testing.T) {
	img, other := image(1), image(2)
	good := carrier(img, bundleTypes["0.3"], bundled(alice, "0.3", statement(attest.PredicateSPDX, img.Digest())))
	foreign := carrier(other, bundleTypes["0.3"], bundled(alice, "0.3", statement(attest.PredicateSPDX, other.Digest())))
	entry := good.Manifest.Descriptor()
	entry.ArtifactType = "application/vnd.oci.empty.v1+json"
	gone := oci.Descriptor{MediaType: oci.MediaTypeOCIManifest, Digest: image(3).Digest(), Size: 10}
	index := ghcrtest.Raw(oci.MediaTypeOCIIndex, toJSON(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []oci.Descriptor{foreign.Manifest.Descriptor(), gone, entry},
	}))
	run(t, func(s *sandbox) {
		s.add("v1", img)
		s.add("", good)
		s.add("", foreign)
		s.add(oci.DigestTag(img.Digest()), index)
		l, err := attest.List(s.Context(), s.repo, img.Digest(), attest.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Attachments) != 1 || l.Attachments[0].Layout != attest.LayoutBundle || l.Attachments[0].ArtifactType != bundleTypes["0.3"] {
			t.Errorf("got %+v", l.Attachments)
		}
		if len(l.Warnings) != 2 || l.Warnings[0].Digest != gone.Digest || !errors.Is(l.Warnings[0], oci.ErrNotFound) ||
			l.Warnings[1].Digest != foreign.Digest() || !errors.Is(l.Warnings[1], attest.ErrWrongSubject) {
			t.Errorf("got the warnings %v", l.Warnings)
		}
	})
}

// TestReferrersTagThatIsSomethingElse: the tag may hold an image, or be the subject
// itself.
func TestReferrersTagThatIsSomethingElse(t *testing.T) {
	index := ghcrtest.NewIndex(image(1), image(2))
	for name, under := range map[string]*ghcrtest.Image{"an image": image(3), "the subject": index} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", index)
				s.add(oci.DigestTag(index.Digest()), under)
				if list := s.list(index, attest.ListOptions{}); len(list) != 0 {
					t.Errorf("got %+v", list)
				}
			})
		})
	}
}

// TestBrokenDocumentIsPassedOver: the other layers under a tag are still read.
func TestBrokenDocumentIsPassedOver(t *testing.T) {
	img := image(1)
	broken := layer{"application/vnd.dsse.envelope.v1+json", []byte(`{"payload":"!"`), nil}
	tagged(img, ".att", att(alice, statement(attest.PredicateSPDX, img.Digest())), broken, att(alice, statement(attest.PredicateOpenVEX+"/v0.2.0", img.Digest())))
	run(t, func(s *sandbox) {
		s.add("v1", img)
		list := s.list(img, attest.ListOptions{})
		var types []string
		var warnings []error
		for d, err := range attest.Documents(s.Context(), s.repo, list) {
			if err != nil {
				warnings = append(warnings, err)
				continue
			}
			types = append(types, d.PredicateType)
		}
		if !slices.Equal(types, []string{attest.PredicateSPDX, attest.PredicateOpenVEX + "/v0.2.0"}) {
			t.Errorf("got %v", types)
		}
		if len(warnings) != 1 || !errors.Is(warnings[0], attest.ErrMalformed) || !strings.Contains(warnings[0].Error(), list[1].Layer.Digest.String()) {
			t.Errorf("got the warnings %v", warnings)
		}
	})
}

// TestListIsBounded: of more than a hundred, a hundred are listed, and it is said.
func TestListIsBounded(t *testing.T) {
	many := func(add func(img *ghcrtest.Image, n int)) *ghcrtest.Image {
		img := image(1)
		for n := range attest.MaxAttachments + 1 {
			add(img, n)
		}
		return img
	}
	for name, img := range map[string]*ghcrtest.Image{
		"manifests": many(func(img *ghcrtest.Image, n int) {
			refer(img, inToto, layer{inToto, statement(fmt.Sprint("https://example.com/", n), img.Digest()), nil})
		}),
		"layers": func() *ghcrtest.Image {
			var layers []layer
			img := many(func(img *ghcrtest.Image, n int) {
				layers = append(layers, layer{inToto, statement(fmt.Sprint("https://example.com/", n), img.Digest()), nil})
			})
			tagged(img, ".att", layers...)
			return img
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", img)
				l, err := attest.List(s.Context(), s.repo, img.Digest(), attest.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if len(l.Attachments) != attest.MaxAttachments || len(l.Warnings) != 1 || !errors.Is(l.Warnings[0], attest.ErrLimit) || l.Warnings[0].Digest != img.Digest() {
					t.Errorf("got %d attachments and the warnings %v", len(l.Attachments), l.Warnings)
				}
			})
		})
	}
}

// TestLargeDocumentIsNotRead: neither one that is large nor one that unpacks to
// something large.
func TestLargeDocumentIsNotRead(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.CopyN(z, zeros{}, attest.MaxDocumentSize+1); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	img := image(1)
	refer(img, "application/spdx+json", layer{"application/spdx+json", bytes.Repeat([]byte(" "), attest.MaxDocumentSize+1), nil})
	refer(img, "application/spdx+json", layer{"application/spdx+json", packed.Bytes(), nil})
	run(t, func(s *sandbox) {
		s.add("v1", img)
		list := s.list(img, attest.ListOptions{})
		if len(list) != 2 {
			t.Fatalf("got %d", len(list))
		}
		for d, err := range attest.Documents(s.Context(), s.repo, list) {
			if d != nil || !errors.Is(err, attest.ErrLimit) {
				t.Errorf("got %v", err)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestCompressedDocumentIsRead: whatever its media type says.
func TestCompressedDocumentIsRead(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, `{"spdxVersion":"SPDX-2.3"}`)
	z.Close()
	img := image(1)
	refer(img, "application/spdx+json", layer{"application/spdx+json", packed.Bytes(), nil})
	run(t, func(s *sandbox) {
		s.add("v1", img)
		if d := s.read(s.list(img, attest.ListOptions{})[0]); string(d.Payload) != `{"spdxVersion":"SPDX-2.3"}` {
			t.Errorf("got %q", d.Payload)
		}
	})
}

// TestEndOfContextEndsTheLoop: it is not taken for documents that can't be read.
func TestEndOfContextEndsTheLoop(t *testing.T) {
	img := image(1)
	for n := range 5 {
		refer(img, inToto, layer{inToto, statement(fmt.Sprint("https://example.com/", n), img.Digest()), nil})
	}
	run(t, func(s *sandbox) {
		s.add("v1", img)
		list := s.list(img, attest.ListOptions{})
		ctx, cancel := context.WithCancelCause(s.Context())
		defer cancel(nil)
		why := errors.New("enough")
		var read int
		var last error
		for _, err := range attest.Documents(ctx, s.repo, list) {
			read++
			last = err
			if read == 2 {
				cancel(why)
			}
		}
		if read != 3 || !errors.Is(last, why) {
			t.Errorf("read %d, and then %v", read, last)
		}
		if _, err := attest.List(ctx, s.repo, img.Digest(), attest.ListOptions{}); err == nil {
			t.Error("a list without a context is no error")
		}
	})
}

// TestNestedAttachments: a signature of a signature is found, and circles end.
func TestNestedAttachments(t *testing.T) {
	img := image(1)
	first := refer(img, bundleTypes["0.3"], bundled(alice, "0.3", statement(attest.PredicateSPDX, img.Digest())))
	second := refer(first, bundleTypes["0.3"], bundled(alice, "0.3", statement(attest.PredicateSignature, first.Digest())))
	run(t, func(s *sandbox) {
		s.add("v1", img)
		if list := s.list(img, attest.ListOptions{}); len(list) != 1 {
			t.Errorf("got %d", len(list))
		}
		list := s.list(img, attest.ListOptions{Nested: true})
		if len(list) != 2 || list[1].Subject != first.Digest() || list[1].Manifest.Digest != second.Digest() {
			t.Errorf("got %+v", list)
		}
	})
}

// TestAskingFails: what can't be asked is an error, not an empty list.
func TestAskingFails(t *testing.T) {
	img := image(1)
	for _, ref := range []string{oci.DigestTag(img.Digest()), oci.DigestTag(img.Digest()) + ".att"} {
		run(t, func(s *sandbox) {
			s.add("v1", img)
			s.server.Inject(ghcrtest.Fault{Ref: ref, Status: 403, Times: -1})
			if l, err := attest.List(s.Context(), s.repo, img.Digest(), attest.ListOptions{}); err == nil {
				t.Errorf("%s: got %+v", ref, l)
			}
		})
	}
}

// TestListCountsRequests: so many and no more, and no manifest twice, for each counts as
// a download (docs/quirks.md#count-downloads).
func TestListCountsRequests(t *testing.T) {
	img := image(1)
	for n := range 3 {
		refer(img, inToto, layer{inToto, statement(fmt.Sprint("https://example.com/", n), img.Digest()), nil})
	}
	run(t, func(s *sandbox) {
		s.add("v1", img)
		s.list(img, attest.ListOptions{}) // learns that there is no referrers API
		before := len(s.server.Requests())
		s.list(img, attest.ListOptions{Nested: true})
		asked := map[string]int{}
		for _, r := range s.server.Requests()[before:] {
			asked[r.Path]++
			if asked[r.Path] > 1 && !strings.Contains(r.Path, "sha256-") {
				t.Errorf("%s was asked for twice", r.Path)
			}
		}
		// The index and three tags, for the image and each of three referrers, and these.
		if got := len(asked); got != 4*4+3 {
			t.Errorf("%d requests: %v", got, asked)
		}
	})
}
