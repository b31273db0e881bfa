package keyless_test

import (
	"errors"
	"slices"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// FuzzBundle: whatever is in a bundle, nothing panics, each failure is of a kind, and
// only what the authority signed is verified.
func FuzzBundle(f *testing.F) {
	known := map[string]bool{}
	for _, form := range []sigstoretest.Form{sigstoretest.Bundle01, sigstoretest.Bundle02, sigstoretest.Bundle03, sigstoretest.Message} {
		d := signed(f, public, form, good())
		known[string(d.Message())] = true
		f.Add(d.Raw)
	}
	v := verifier(f, roots(f, public.TrustedRoot(true)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := attest.Read(t.Context(), source(raw), attest.Attachment{
			Subject: subject.Digest(), Layout: attest.LayoutBundle, Layer: oci.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))},
		})
		if err != nil {
			return
		}
		signer, err := v.Verify(t.Context(), d)
		switch {
		case (signer == nil) != (err != nil):
			t.Fatalf("got %v, %v", signer, err)
		case err != nil && !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }):
			t.Fatalf("an error of no kind: %v", err)
		case err == nil && !known[string(d.Message())]:
			t.Fatal("verified, and never signed")
		}
	})
}
