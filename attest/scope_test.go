package attest_test

import (
	"errors"
	"testing"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestScopes: a signature of an index, of one platform, of all, and of a signature.
func TestScopes(t *testing.T) {
	amd, arm := image(1), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 1000))
	sign := func(img *ghcrtest.Image) *ghcrtest.Image { return tagged(img, ".sig", sig(alice, img.Digest())) }
	for name, c := range map[string]struct {
		signed              func(index *ghcrtest.Image)
		digest, images, all bool
	}{
		"nothing":      {func(*ghcrtest.Image) {}, false, false, false},
		"index":        {func(index *ghcrtest.Image) { sign(index) }, true, false, false},
		"one platform": {func(*ghcrtest.Image) { sign(amd) }, false, false, false},
		"platforms":    {func(*ghcrtest.Image) { sign(amd); sign(arm) }, false, true, false},
		"everything":   {func(index *ghcrtest.Image) { sign(amd); sign(arm); sign(index) }, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			amd.Referrers, arm.Referrers = nil, nil
			index := ghcrtest.Attested(amd, arm)
			c.signed(index)
			run(t, func(s *sandbox) {
				s.add("v1", index)
				for scope, want := range map[attest.Scope]bool{"": c.digest, attest.ScopeDigest: c.digest, attest.ScopeImages: c.images, attest.ScopeAll: c.all} {
					_, err := attest.Verify(s.Context(), s.repo, index.Digest(), attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{alice.keys(t)}, Scope: scope}}})
					if (err == nil) != want {
						t.Errorf("%q: got %v", scope, err)
					}
				}
				// Of an image, each scope is the image.
				for _, scope := range []attest.Scope{attest.ScopeDigest, attest.ScopeImages, attest.ScopeAll} {
					_, err := attest.Verify(s.Context(), s.repo, amd.Digest(), attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{alice.keys(t)}, Scope: scope}}})
					if (err == nil) != (len(amd.Referrers) > 0) {
						t.Errorf("platform, %q: got %v", scope, err)
					}
				}
			})
		})
	}
	t.Run("an index without images", func(t *testing.T) {
		run(t, func(s *sandbox) {
			empty := ghcrtest.NewIndex()
			sign(empty)
			refer(empty, "application/spdx+json", layer{"application/spdx+json", []byte(`{"spdxVersion":"SPDX-2.3"}`), nil})
			s.add("v1", empty)
			for _, r := range []attest.Requirement{
				{By: []attest.Verifier{alice.keys(t)}, Scope: attest.ScopeImages},
				{PredicateType: attest.PredicateSPDX, Unsigned: true, Scope: attest.ScopeImages},
			} {
				var unmet *attest.PolicyError
				if _, err := attest.Verify(s.Context(), s.repo, empty.Digest(), attest.Policy{Require: []attest.Requirement{r}}); !errors.As(err, &unmet) || !errors.Is(err, oci.ErrInvalid) {
					t.Errorf("there was nothing to ask of: got %v", err)
				}
			}
		})
	})
	t.Run("an image that is annotated as an attestation", func(t *testing.T) {
		img, hidden := image(1), image(6)
		entry := hidden.Descriptor()
		entry.Platform = &oci.Platform{OS: "linux", Architecture: "arm64"}
		entry.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": img.Digest().String()}
		index := ghcrtest.Raw(oci.MediaTypeOCIIndex, toJSON(map[string]any{
			"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []oci.Descriptor{img.Descriptor(), entry},
		}))
		sign(img)
		run(t, func(s *sandbox) {
			s.add("", img)
			s.add("", hidden)
			s.add("v1", index)
			if _, err := attest.Verify(s.Context(), s.repo, index.Digest(), attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{alice.keys(t)}, Scope: attest.ScopeImages}}}); err == nil {
				t.Error("it can be run, nobody signed it, and it passed")
			}
		})
	})
	t.Run("an index that can't be read", func(t *testing.T) {
		img := image(1)
		gone := ghcrtest.NewIndex(image(5))
		outer := ghcrtest.Raw(oci.MediaTypeOCIIndex, toJSON(map[string]any{
			"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []oci.Descriptor{img.Descriptor(), gone.Descriptor()},
		}))
		sign(img)
		run(t, func(s *sandbox) {
			s.add("", img)
			s.add("v1", outer)
			if _, err := attest.Verify(s.Context(), s.repo, outer.Digest(), attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{alice.keys(t)}, Scope: attest.ScopeImages}}}); err == nil {
				t.Error("what the inner index lists is not known, and it passed")
			}
		})
	})
	t.Run("a signature of a signature", func(t *testing.T) {
		img := image(1)
		first := refer(img, bundleTypes["0.3"], bundled(alice, "0.3", statement(attest.PredicateSignature, img.Digest())))
		refer(first, bundleTypes["0.3"], bundled(mallory, "0.3", statement(attest.PredicateSignature, first.Digest())))
		run(t, func(s *sandbox) {
			s.add("v1", img)
			by := func(k signer) attest.Policy {
				return attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{k.keys(t)}}}}
			}
			if _, err := attest.Verify(s.Context(), s.repo, first.Digest(), by(mallory)); err != nil {
				t.Error(err)
			}
			if _, err := attest.Verify(s.Context(), s.repo, img.Digest(), by(mallory)); !errors.Is(err, attest.ErrWrongKey) {
				t.Errorf("the signature of a signature counts for the image: %v", err)
			}
		})
	})
}
