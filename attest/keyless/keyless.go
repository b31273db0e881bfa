// Package keyless verifies signatures that were made with short-lived certificates
// of Sigstore, such as those of GitHub Actions. It hides what such a signature is
// proved by (the certificate and who issued it, logs of certificates and of
// signatures, timestamps) and which of these proofs a trusted root calls for.
//
// [ReadRoots] reads whom to trust, [New] makes an attest.Verifier of that and of the
// identities that may sign. Neither uses the network; only [Fetch] does, which gets a
// trusted root from where Sigstore publishes it.
//
// It is a package of its own since it brings the libraries of Sigstore with it, which
// a program that trusts public keys does not need.
package keyless

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// GitHubActions is the issuer of the identities of GitHub Actions.
const GitHubActions = "https://token.actions.githubusercontent.com"

// Identity is who may sign. Issuer and subject must both be given, each exactly or
// by an expression: anybody can get a certificate for some identity. What else is
// given must be in the certificate, exactly.
type Identity struct {
	Issuer       string // URL of the OIDC issuer, such as [GitHubActions]
	IssuerRegexp string
	// Subject is the certificate's subject alternative name: an address, or the URL of a
	// workflow with its ref.
	Subject       string
	SubjectRegexp string
	// What a certificate for a CI job says; see [attest.Signer].
	SourceRepository string
	SourceRef        string
	SourceDigest     string
	Builder          string
	Runner           string
}

// matcher returns the identity in sigstore-go's form. Expressions must match the
// whole text: one that may match anywhere lets https://evil.example/?github.com/acme
// pass for github.com/acme.
func (i Identity) matcher() (verify.CertificateIdentity, error) {
	var zero verify.CertificateIdentity
	switch {
	case (i.Issuer == "") == (i.IssuerRegexp == ""):
		return zero, oci.Invalid("identity: give the issuer either exactly or as an expression")
	case (i.Subject == "") == (i.SubjectRegexp == ""):
		return zero, oci.Invalid("identity: give the subject either exactly or as an expression")
	}
	issuer, err := verify.NewIssuerMatcher(i.Issuer, whole(i.IssuerRegexp))
	if err != nil {
		return zero, oci.Invalid("identity: issuer: %w", err)
	}
	subject, err := verify.NewSANMatcher(i.Subject, whole(i.SubjectRegexp))
	if err != nil {
		return zero, oci.Invalid("identity: subject: %w", err)
	}
	m, err := verify.NewCertificateIdentity(subject, issuer, certificate.Extensions{
		SourceRepositoryURI: i.SourceRepository, SourceRepositoryRef: i.SourceRef, SourceRepositoryDigest: i.SourceDigest,
		BuildSignerURI: i.Builder, RunnerEnvironment: i.Runner,
	})
	if err != nil {
		return zero, oci.Invalid("identity: %w", err)
	}
	return m, nil
}

func whole(expression string) string {
	if expression == "" {
		return ""
	}
	return `\A(?:` + expression + `)\z`
}

// Verifier is an [attest.Verifier] for signatures with certificates. It is safe for
// concurrent use. Make one with [New].
type Verifier struct {
	roots      *Roots
	identities []verify.PolicyOption
}

var _ attest.Verifier = (*Verifier)(nil)

// New returns a verifier that trusts certificates of the roots that name one of the
// identities.
//
// Errors: [oci.ErrInvalid] if no root or no identity is given, or an identity lacks
// issuer or subject.
func New(roots *Roots, identities ...Identity) (*Verifier, error) {
	if roots == nil || len(roots.list) == 0 {
		return nil, oci.Invalid("keyless verification: no trusted root is given")
	}
	if len(identities) == 0 {
		return nil, oci.Invalid("keyless verification: it needs the identity of who may sign; without one any signature would do")
	}
	v := &Verifier{roots: roots}
	for _, i := range identities {
		m, err := i.matcher()
		if err != nil {
			return nil, err
		}
		v.identities = append(v.identities, verify.WithCertificateIdentity(m))
	}
	return v, nil
}

// Verify checks the signature of a document against the root that its certificate
// comes from, everything that the root calls for, who signed, and what the document
// is about.
//
// Errors: those of package attest: [attest.ErrNoSignature],
// [attest.ErrBadSignature], [attest.ErrWrongKey] for a signature without a
// certificate, [attest.ErrWrongSubject], [attest.ErrExpired],
// [attest.ErrNoLogEntry], [attest.ErrNoTimestamp], [attest.ErrUntrusted],
// [attest.ErrWrongIdentity], [attest.ErrMalformed], [attest.ErrUnsupported].
func (v *Verifier) Verify(_ context.Context, d *attest.Document) (*attest.Signer, error) {
	raw, err := d.Bundle()
	if err != nil {
		return nil, err
	}
	if d.Message() == nil {
		return nil, fmt.Errorf("%w: it signs the bytes of the image, which were not read", attest.ErrUnsupported)
	}
	b := &bundle.Bundle{}
	if err := b.UnmarshalJSON(raw); err != nil {
		class := attest.ErrMalformed
		// A log entry that holds another signature is refused as soon as it is read.
		if material, e := b.VerificationContent(); e == nil && material.Certificate() != nil && !fits(material.Certificate(), d) {
			class = attest.ErrBadSignature
		}
		return nil, fmt.Errorf("%w: bundle: %w", class, err)
	}
	material, err := b.VerificationContent()
	if err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", attest.ErrMalformed, err)
	}
	leaf := material.Certificate()
	if leaf == nil {
		return nil, fmt.Errorf("%w: with a key, not with a certificate", attest.ErrWrongKey)
	}
	signed, err := b.SignatureContent()
	if err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", attest.ErrMalformed, err)
	}
	// The document was read by other code than that which verifies it.
	if e := signed.EnvelopeContent(); e != nil {
		if payload, err := e.RawEnvelope().DecodeB64Payload(); err != nil || !bytes.Equal(payload, d.Payload) {
			return nil, fmt.Errorf("%w: its payload can be read in two ways", attest.ErrMalformed)
		}
	}
	roots := v.roots.of(leaf)
	if len(roots) == 0 {
		return nil, fmt.Errorf("%w: it was issued by %s, which none of the %d trusted roots has", attest.ErrUntrusted, leaf.Issuer, len(v.roots.list))
	}
	for _, r := range roots {
		var signer *attest.Signer
		if signer, err = v.verify(r, b, leaf, d); err == nil {
			return signer, nil
		}
	}
	return nil, err
}

// verify verifies a bundle against one root.
func (v *Verifier) verify(r *trusted, b *bundle.Bundle, leaf *x509.Certificate, d *attest.Document) (*attest.Signer, error) {
	entries, err := b.TlogEntries()
	if err != nil {
		return nil, fmt.Errorf("%w: log entries: %w", attest.ErrMalformed, err)
	}
	stamps, err := b.Timestamps()
	if err != nil {
		return nil, fmt.Errorf("%w: timestamps: %w", attest.ErrMalformed, err)
	}
	switch {
	case r.logs && len(entries) == 0:
		return nil, attest.ErrNoLogEntry
	case !r.logs && len(stamps) == 0:
		return nil, attest.ErrNoTimestamp
	}
	artifact := verify.WithArtifact(bytes.NewReader(d.Message()))
	if d.Statement != nil {
		about, err := hex.DecodeString(d.Attachment.Subject.Encoded())
		if err != nil {
			return nil, oci.Invalid("%w", err)
		}
		artifact = verify.WithArtifactDigest(d.Attachment.Subject.Algorithm().String(), about)
	}
	result, err := r.verifier.Verify(b, verify.NewPolicy(artifact, v.identities...))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", r.reason(err, b, leaf, d), err)
	}
	if err := d.About(); err != nil {
		return nil, err
	}
	c := result.Signature.Certificate
	signer := &attest.Signer{
		Issuer: c.Issuer, Identity: c.SubjectAlternativeName,
		SourceRepository: c.SourceRepositoryURI, SourceRef: c.SourceRepositoryRef, SourceDigest: c.SourceRepositoryDigest,
		Builder: c.BuildSignerURI, Runner: c.RunnerEnvironment,
	}
	for _, t := range result.VerifiedTimestamps {
		if signer.Time.IsZero() || t.Timestamp.Before(signer.Time) {
			signer.Time = t.Timestamp.UTC()
		}
	}
	return signer, nil
}

// reason finds out which of the errors of package attest a failure is. sigstore-go
// stops at the first thing that is wrong, says so in words alone, and looks at the
// signature last: an altered payload does not fit its log entry either. So what can
// be wrong is looked at here once more, in the order of what matters. It can turn
// no failure into a success.
func (r *trusted) reason(err error, b *bundle.Bundle, leaf *x509.Certificate, d *attest.Document) error {
	if other := (*verify.ErrNoMatchingCertificateIdentity)(nil); errors.As(err, &other) {
		return attest.ErrWrongIdentity
	}
	switch {
	case !fits(leaf, d):
		return attest.ErrBadSignature
	case d.About() != nil:
		return attest.ErrWrongSubject
	case !r.issued(leaf):
		return attest.ErrUntrusted
	}
	logged, err := r.verifier.VerifyTransparencyLogInclusion(b)
	if err != nil {
		entries, _ := b.TlogEntries()
		for _, e := range entries {
			if !e.IntegratedTime().IsZero() && outside(leaf, e.IntegratedTime()) {
				return attest.ErrExpired
			}
		}
		return attest.ErrNoLogEntry
	}
	times, err := r.verifier.VerifyObserverTimestamps(b, logged)
	if err != nil {
		return attest.ErrNoTimestamp
	}
	for _, t := range times {
		if outside(leaf, t.Timestamp) {
			return attest.ErrExpired
		}
	}
	return attest.ErrUntrusted // the proof that the certificate was logged
}

// fits tells whether the signature is by the certificate's key, whatever else is
// wrong.
func fits(leaf *x509.Certificate, d *attest.Document) bool {
	key, err := attest.NewKeys(leaf.PublicKey)
	if err != nil {
		return false
	}
	_, err = key.Verify(context.Background(), d)
	return err == nil || errors.Is(err, attest.ErrWrongSubject)
}

func outside(leaf *x509.Certificate, t time.Time) bool {
	return t.Before(leaf.NotBefore) || t.After(leaf.NotAfter)
}
