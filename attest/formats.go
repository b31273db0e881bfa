package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// StatementV1 is the type of a statement, as [Statement] has it, that is newly made.
const StatementV1 = statementTypes + "v1"

const statementTypes = "https://in-toto.io/Statement/"

// Statement is what is said about some subjects, in the form of in-toto.
type Statement struct {
	Type          string          `json:"_type"`
	PredicateType string          `json:"predicateType"`
	Subject       []Subject       `json:"subject"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is what a statement is about, by its digests: the algorithm, such as
// "sha256", and the hash in hexadecimal.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// ParseStatement reads a statement of in-toto, version 0.1 or 1.
//
// Errors: [ErrMalformed]; [ErrLimit] for more than [MaxSubjects] subjects or
// [MaxDigests] digests of one.
func ParseStatement(raw []byte) (*Statement, error) {
	var s Statement
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%w: statement: %w", ErrMalformed, err)
	}
	if s.Type != StatementV1 && s.Type != statementTypes+"v0.1" {
		return nil, fmt.Errorf("%w: %q is no type of statement", ErrMalformed, s.Type)
	}
	if s.PredicateType == "" {
		return nil, fmt.Errorf("%w: the statement has no predicate type", ErrMalformed)
	}
	if len(s.Subject) > MaxSubjects {
		return nil, fmt.Errorf("%w: the statement has %d subjects; %d are read", ErrLimit, len(s.Subject), MaxSubjects)
	}
	for _, subject := range s.Subject {
		if len(subject.Digest) > MaxDigests {
			return nil, fmt.Errorf("%w: a subject has %d digests; %d are read", ErrLimit, len(subject.Digest), MaxDigests)
		}
	}
	return &s, nil
}

// Is tells whether the statement names d as a subject.
func (s *Statement) Is(d oci.Digest) bool {
	if d.Validate() != nil {
		return false
	}
	for _, subject := range s.Subject {
		if hex, ok := subject.Digest[d.Algorithm().String()]; ok && strings.EqualFold(hex, d.Encoded()) {
			return true
		}
	}
	return false
}

// envelope is a signed envelope of the DSSE specification.
type envelope struct {
	Payload     base64Bytes `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []struct {
		Sig   base64Bytes `json:"sig"`
		KeyID string      `json:"keyid,omitempty"`
	} `json:"signatures"`
}

// base64Bytes are bytes in either alphabet of base64, which DSSE both allows.
type base64Bytes []byte

// UnmarshalText reads either alphabet, padded.
func (b *base64Bytes) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		if data, err = base64.URLEncoding.DecodeString(string(text)); err != nil {
			return err
		}
	}
	*b = data
	return nil
}

// MarshalText writes the standard alphabet.
func (b base64Bytes) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(b)), nil
}

// preAuthenticated is what the signatures of an envelope are over.
func preAuthenticated(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// isEnvelope tells an envelope from a bare statement; both are kept under the same
// media type.
func isEnvelope(raw []byte) bool {
	var probe struct {
		PayloadType string `json:"payloadType"`
	}
	return json.Unmarshal(raw, &probe) == nil && probe.PayloadType != ""
}

func (d *Document) parseEnvelope(raw []byte) error {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("%w: envelope: %w", ErrMalformed, err)
	}
	return d.openEnvelope(&e)
}

func (d *Document) openEnvelope(e *envelope) error {
	if len(e.Signatures) > maxSignatures {
		return fmt.Errorf("%w: the envelope has %d signatures; %d are read", ErrLimit, len(e.Signatures), maxSignatures)
	}
	d.Payload, d.PayloadType = e.Payload, e.PayloadType
	d.message = preAuthenticated(e.PayloadType, e.Payload)
	for _, s := range e.Signatures {
		d.Signatures = append(d.Signatures, Signature{s.KeyID, s.Sig})
	}
	if e.PayloadType != inTotoType {
		return fmt.Errorf("%w: the envelope holds %q, not a statement", ErrMalformed, e.PayloadType)
	}
	return d.parseStatement()
}

func (d *Document) parseStatement() error {
	s, err := ParseStatement(d.Payload)
	if err != nil {
		return err
	}
	d.Statement, d.PredicateType, d.PayloadType = s, s.PredicateType, inTotoType
	return nil
}

// bundle is what is read here of a Sigstore bundle. The proofs in it are for package
// keyless.
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		Certificate *rawCertificate `json:"certificate"`
		Chain       *struct {
			Certificates []rawCertificate `json:"certificates"`
		} `json:"x509CertificateChain"`
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	MessageSignature *struct {
		MessageDigest *struct {
			Algorithm string `json:"algorithm"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
	Envelope *envelope `json:"dsseEnvelope"`
}

type rawCertificate struct {
	RawBytes []byte `json:"rawBytes"`
}

// bundleVersion returns the version of a bundle that is understood, or nothing.
func bundleVersion(mediaType string) string {
	switch v := strings.TrimPrefix(mediaType, bundleType); v {
	case "+json;version=0.1", "+json;version=0.2", "+json;version=0.3":
		return strings.TrimPrefix(v, "+json;version=")
	case ".v0.3+json":
		return "0.3"
	}
	return ""
}

func (d *Document) parseBundle(ctx context.Context, src Source) error {
	b := &bundle{}
	if err := json.Unmarshal(d.Raw, b); err != nil {
		return fmt.Errorf("%w: bundle: %w", ErrMalformed, err)
	}
	version := bundleVersion(b.MediaType)
	switch {
	case version == "":
		return fmt.Errorf("%w: a bundle of the type %q is not understood", ErrMalformed, b.MediaType)
	case (b.Envelope == nil) == (b.MessageSignature == nil):
		return fmt.Errorf("%w: a bundle has either an envelope or a signature", ErrMalformed)
	case version == "0.3" && b.Material.Chain != nil:
		return fmt.Errorf("%w: a bundle of version 0.3 has no chain of certificates", ErrMalformed)
	}
	d.bundle = b
	d.certified = b.Material.Certificate != nil || b.Material.Chain != nil
	if b.Envelope != nil {
		return d.openEnvelope(b.Envelope)
	}
	// It signs the image's manifest itself.
	d.Payload, d.PayloadType, d.PredicateType = nil, "", PredicateSignature
	d.Signatures = []Signature{{Bytes: b.MessageSignature.Signature}}
	if src == nil {
		return nil
	}
	m, err := src.Manifest(ctx, d.Attachment.Subject.String())
	if err != nil {
		return fmt.Errorf("what it signs: %w", err)
	}
	d.message = m.Bytes()
	return nil
}

// simple is the payload of a simple signature.
type simple struct {
	Critical struct {
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
}

const simpleSignature = "cosign container image signature"

// Annotations of the layer of a simple signature or an envelope.
const (
	signatureNote   = "dev.cosignproject.cosign/signature"
	certificateNote = "dev.sigstore.cosign/certificate"
	rekorNote       = "dev.sigstore.cosign/bundle"
	timestampNote   = "dev.sigstore.cosign/rfc3161timestamp"
)

func (d *Document) parseSimple() error {
	d.simple = &simple{}
	if err := json.Unmarshal(d.Raw, d.simple); err != nil {
		return fmt.Errorf("%w: simple signature: %w", ErrMalformed, err)
	}
	if t := d.simple.Critical.Type; t != simpleSignature {
		return fmt.Errorf("%w: %q is no type of simple signature", ErrMalformed, t)
	}
	d.PredicateType, d.message = PredicateSignature, d.Raw
	d.certified = d.Attachment.Annotations[certificateNote] != ""
	if text := d.Attachment.Annotations[signatureNote]; text != "" {
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%w: its signature: %w", ErrMalformed, err)
		}
		d.Signatures = []Signature{{Bytes: sig}}
	}
	return nil
}

// About checks that the document itself says to be about the manifest that it is
// attached to. A bare document says nothing of the kind, and passes.
//
// Errors: [ErrWrongSubject].
func (d *Document) About() error {
	want := d.Attachment.Subject
	switch {
	case (d.Statement != nil || d.simple != nil) && want.Validate() != nil:
		return fmt.Errorf("%w: it is not known which it should be about", ErrWrongSubject)
	case d.Statement != nil:
		if !d.Statement.Is(want) {
			return fmt.Errorf("%w: the statement does not name %s", ErrWrongSubject, want)
		}
	case d.simple != nil:
		if d.simple.Critical.Image.Digest != want.String() {
			return fmt.Errorf("%w: it signs %q, not %s", ErrWrongSubject, d.simple.Critical.Image.Digest, want)
		}
	case d.message != nil && d.bundle != nil && d.bundle.MessageSignature.MessageDigest != nil:
		stated := d.bundle.MessageSignature.MessageDigest
		if h, ok := digestNames[stated.Algorithm]; ok && !bytes.Equal(sum(h, d.message), stated.Digest) {
			return fmt.Errorf("%w: it signs %x, not %s", ErrWrongSubject, stated.Digest, want)
		}
	}
	return nil
}
