package keyless

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Roots are whom to trust: authorities that issue certificates, logs, and timestamp
// authorities, each root by itself. It is safe for concurrent use.
type Roots struct {
	list []*trusted
}

// trusted is one root, and a verifier that asks for what the root has.
type trusted struct {
	material *root.TrustedRoot
	verifier *verify.Verifier
	logs     bool // it has transparency logs, so an entry in one is asked for
}

// maxRoots is the largest file of roots that is read, in bytes.
const maxRoots = 8 << 20

// ReadRoots reads trusted roots: the JSON of one, or several on lines of their own as
// "gh attestation trusted-root" prints them. cosign and other clients keep one by the
// name of trusted_root.json in their TUF cache.
//
// What a root has, its signatures must show. With transparency logs, as the public
// instance of Sigstore has, a signature must be in one; with logs of certificates, the
// certificate must be. Without logs, as for private repositories on GitHub, a
// timestamp authority must tell the time.
//
// A root has no date of expiry, so nothing tells that it is too old: it should be
// fetched anew now and then.
//
// Errors: [oci.ErrInvalid] for what is no trusted root, or has no authority.
func ReadRoots(r io.Reader) (*Roots, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRoots+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRoots {
		return nil, oci.Invalid("trusted root: the file has more than %d bytes", maxRoots)
	}
	roots := &Roots{}
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var one json.RawMessage
		if err := dec.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, oci.Invalid("trusted root: %w", err)
		}
		material, err := root.NewTrustedRootFromJSON(one)
		if err != nil {
			return nil, oci.Invalid("trusted root: %w", err)
		}
		t, err := newTrusted(material)
		if err != nil {
			return nil, err
		}
		roots.list = append(roots.list, t)
	}
	if len(roots.list) == 0 {
		return nil, oci.Invalid("trusted root: the file is empty")
	}
	return roots, nil
}

func newTrusted(material *root.TrustedRoot) (*trusted, error) {
	t := &trusted{material: material, logs: len(material.RekorLogs()) > 0}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return nil, oci.Invalid("trusted root: it has no certificate authority")
	}
	var options []verify.VerifierOption
	switch {
	case t.logs:
		options = append(options, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	case len(material.TimestampingAuthorities()) > 0:
		options = append(options, verify.WithSignedTimestamps(1))
	default:
		return nil, oci.Invalid("trusted root: it has neither a transparency log nor a timestamp authority, so nobody tells when a signature was made")
	}
	if len(material.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	// The statement is read by package attest.
	verifier, err := verify.NewVerifier(material, append(options, verify.WithoutStatementPredicate())...)
	if err != nil {
		return nil, oci.Invalid("trusted root: %w", err)
	}
	t.verifier = verifier
	return t, nil
}

// of returns the roots that have an authority by the name of the certificate's issuer.
func (r *Roots) of(leaf *x509.Certificate) []*trusted {
	var list []*trusted
	for _, t := range r.list {
		for _, ca := range t.material.FulcioCertificateAuthorities() {
			a, ok := ca.(*root.FulcioCertificateAuthority)
			if ok && slices.ContainsFunc(append([]*x509.Certificate{a.Root}, a.Intermediates...), func(c *x509.Certificate) bool {
				return bytes.Equal(c.RawSubject, leaf.RawIssuer)
			}) {
				list = append(list, t)
				break
			}
		}
	}
	return list
}

// issued tells whether an authority of the root issued the certificate.
func (t *trusted) issued(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(t.material.FulcioCertificateAuthorities(), func(ca root.CertificateAuthority) bool {
		_, err := ca.Verify(leaf, leaf.NotBefore)
		return err == nil
	})
}
