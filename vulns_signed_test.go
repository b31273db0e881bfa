package ghcr_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// TestOnlyWhatIsSignedIsReadAsSigned: a genuine signature beside something else that
// another reader of the same document would take for its content.
func TestOnlyWhatIsSignedIsReadAsSigned(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := attest.NewKeys(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	about := oci.Digest("sha256:" + strings.Repeat("1", 64))
	statement := func(ids ...string) map[string]any {
		result := []map[string]string{}
		for _, id := range ids {
			result = append(result, map[string]string{"id": id})
		}
		return map[string]any{
			"_type": attest.StatementV1, "subject": []any{map[string]any{"digest": map[string]string{"sha256": about.Encoded()}}},
			"predicateType": vuln.PredicateVulns,
			"predicate":     map[string]any{"scanner": map[string]any{"result": result}, "metadata": map[string]any{}},
		}
	}
	raw := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const kind = "application/vnd.in-toto+json"
	payload := raw(statement("CVE-2026-0001"))
	hash := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload))
	signature, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	signed := map[string]any{"payload": payload, "payloadType": kind, "signatures": []any{map[string]any{"sig": signature}}}
	forged := map[string]any{"payload": raw(statement()), "payloadType": kind}
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bare := statement()
	bare["payload"], bare["PayloadType"], bare["signatures"] = payload, kind, signed["signatures"]
	// In a file, which was found at no image, it is verified for the image that was asked about.
	for digest, want := range map[oci.Digest]bool{about: true, oci.Digest("sha256:" + strings.Repeat("2", 64)): false} {
		r := vuln.Reader{Source: vuln.SourceFile, Target: vuln.Target{Digest: digest}, Verifier: ghcr.VerifyWith(keys)}
		if err := r.Read(t.Context(), vuln.Evidence{ID: "file", Content: raw(signed)}); err != nil {
			t.Fatal(err)
		}
		if got := r.Report().Scans; (len(got) == 1 && got[0].Link == vuln.LinkDigestSigned) != want {
			t.Errorf("a file, for %s: %+v", digest, got)
		}
	}
	for name, content := range map[string]map[string]any{
		"genuine":                    signed,
		"an envelope above a bundle": {"mediaType": bundle, "dsseEnvelope": signed, "payload": forged["payload"], "payloadType": kind},
		"a name in two cases":        {"mediaType": bundle, "dsseEnvelope": forged, "dsseenvelope": signed},
		"a statement around it":      bare,
	} {
		t.Run(name, func(t *testing.T) {
			r := vuln.Reader{Source: vuln.SourceAttestation, Target: vuln.Target{Digest: about}, Verifier: ghcr.VerifyWith(keys)}
			if err := r.Read(t.Context(), vuln.Evidence{ID: "x", Content: raw(content), Subject: about}); err != nil {
				t.Fatal(err)
			}
			report := r.Report()
			if len(report.Scans) != 1 || report.Scans[0].VerifiedBy == nil || len(report.Scans[0].Findings) != 1 {
				t.Errorf("got %+v of %+v", report.Scans, report.Evidence)
			}
		})
	}
}
