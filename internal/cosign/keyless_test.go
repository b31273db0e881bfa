package cosign

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestCertificatesReadByCosign: what we attach that was signed with a certificate,
// cosign verifies with the same trusted root, and not for another signer. The instance
// of Sigstore is that of the project's tests, which cosign is thereby a judge of.
func TestCertificatesReadByCosign(t *testing.T) {
	s := sigstoretest.New("sigstore.example")
	stamped := sigstoretest.Good()
	stamped.Logged, stamped.Stamped, stamped.Unlogged = time.Time{}, sigstoretest.Epoch.Add(time.Minute), true
	for name, c := range map[string]struct {
		signing sigstoretest.Signing
		logs    bool
		flags   []string
	}{
		"with logs":       {sigstoretest.Good(), true, nil},
		"with timestamps": {stamped, false, []string{"--insecure-ignore-tlog=true", "--insecure-ignore-sct=true", "--use-signed-timestamps"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.write("root.json", s.TrustedRoot(c.logs))
			ref := b.ref(b.index.Digest())
			for _, predicateType := range []string{attest.PredicateSignature, slsaV1} {
				statement, err := json.Marshal(attest.Statement{
					Type: attest.StatementV1, PredicateType: predicateType, Predicate: json.RawMessage("{}"),
					Subject: []attest.Subject{{Name: "app", Digest: map[string]string{"sha256": b.index.Digest().Encoded()}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				bundle, _ := s.Sign(sigstoretest.Bundle03, statement, c.signing)
				if _, err := attest.Attach(t.Context(), b.repo, b.index.Digest(), "", []attest.Content{{MediaType: attest.MediaTypeOf(bundle), Data: bundle}}, nil); err != nil {
					t.Fatal(err)
				}
			}
			reading := slices.Concat([]string{"--trusted-root=root.json", "--allow-http-registry", "--certificate-oidc-issuer=" + sigstoretest.GitHubActions}, c.flags)
			for _, command := range [][]string{{"verify"}, {"verify-attestation", "--type=slsaprovenance1"}} {
				args := append(command, reading...)
				b.run("cosign3", append(args, "--certificate-identity="+sigstoretest.Workflow, ref)...)
				if out, err := b.try("cosign3", append(args, "--certificate-identity=somebody@example.com", ref)...); err == nil {
					t.Errorf("for somebody else: %s", out)
				}
			}
			// A key that is trusted is not that of a certificate.
			if _, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), require("", b.keys, attest.ScopeDigest)); !errors.Is(err, attest.ErrWrongKey) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestOldCertificatesReadByCosign: cosign verifies the tests' Sigstore in the forms of
// cosign 2, too, so that what package keyless is tested with is real.
func TestOldCertificatesReadByCosign(t *testing.T) {
	b := newBench(t)
	s := sigstoretest.New("sigstore.example")
	b.write("root.json", s.TrustedRoot(true))
	statement, err := json.Marshal(attest.Statement{
		Type: attest.StatementV1, PredicateType: slsaV1, Predicate: json.RawMessage("{}"),
		Subject: []attest.Subject{{Name: "app", Digest: map[string]string{"sha256": b.index.Digest().Encoded()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"app"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, b.index.Digest())
	for suffix, c := range map[string]struct {
		form    sigstoretest.Form
		content []byte
	}{".sig": {sigstoretest.SigTag, payload}, ".att": {sigstoretest.AttTag, statement}} {
		document, notes := s.Sign(c.form, c.content, sigstoretest.Good())
		b.tag(oci.DigestTag(b.index.Digest())+suffix, c.form.MediaType(), document, notes)
	}
	reading := []string{"--trusted-root=root.json", "--allow-http-registry", "--certificate-oidc-issuer=" + sigstoretest.GitHubActions}
	// cosign 2 takes no trusted root for an attestation of its own form; cosign 3 does.
	for _, command := range [][]string{{"cosign2", "verify"}, {"cosign3", "verify"}, {"cosign3", "verify-attestation", "--type=slsaprovenance1"}} {
		args := append(command[1:], reading...)
		b.run(command[0], append(args, "--certificate-identity="+sigstoretest.Workflow, b.ref(b.index.Digest()))...)
		if out, err := b.try(command[0], append(args, "--certificate-identity=somebody@example.com", b.ref(b.index.Digest()))...); err == nil {
			t.Errorf("for somebody else: %s", out)
		}
	}
}

// tag puts a document under a tag as cosign 2 does.
func (b *bench) tag(tag, mediaType string, document []byte, notes map[string]string) {
	b.Helper()
	config := []byte(`{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":["` + digest.FromBytes(document).String() + `"]}}`)
	describe := func(mediaType string, data []byte) oci.Descriptor {
		return oci.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	layer := describe(mediaType, document)
	layer.Annotations = notes
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIManifest,
		"config": describe("application/vnd.oci.image.config.v1+json", config), "layers": []oci.Descriptor{layer},
	})
	if err != nil {
		b.Fatal(err)
	}
	img := ghcrtest.Raw(oci.MediaTypeOCIManifest, raw)
	img.Blobs = map[oci.Digest][]byte{digest.FromBytes(config): config, layer.Digest: document}
	if err := b.server.Add(repoName, tag, img); err != nil {
		b.Fatal(err)
	}
}
