package attest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Document is an attachment that was read.
type Document struct {
	Attachment Attachment
	// Raw is the document as it is kept, unpacked if it was compressed.
	Raw []byte
	// Payload is what it is about: the statement in an envelope or a bundle, the
	// payload of a simple signature, or the document itself.
	Payload     []byte
	PayloadType string
	// Statement is the payload, if it is a statement of in-toto; else nil.
	Statement *Statement
	// PredicateType is what the document says, or its media type where it is bare.
	PredicateType string
	// Signatures are none for what is not signed. That there are some says nothing
	// about whether they are good.
	Signatures []Signature

	message   []byte  // what the signatures are over
	bundle    *bundle // of a Sigstore bundle
	simple    *simple // of a simple signature
	certified bool    // a certificate is beside the signature
}

// Signature is one signature of a document.
type Signature struct {
	KeyID string // a hint, which anybody may have written
	Bytes []byte
}

// Message returns the bytes that the signatures are over: the encoding of an
// envelope, the payload of a simple signature, or the manifest of the image. It is nil
// if that manifest was not read, and for what is not signed.
func (d *Document) Message() []byte { return d.message }

// Read reads an attachment and takes it out of its envelope. It verifies nothing but
// the digest. A bundle that signs the bytes of the image takes a second request, for
// its manifest.
//
// Errors: [ErrLimit] if it is larger than [MaxDocumentSize], compressed or not, or
// has more subjects or signatures than are read; [ErrMalformed];
// [oci.ErrIntegrity] if the bytes are not those of the digest; those of the source.
func Read(ctx context.Context, src Source, a Attachment) (*Document, error) {
	raw, err := readBlob(ctx, src, a.Layer)
	if err != nil {
		return nil, fmt.Errorf("read %s, attached to %s: %w", a.Layer.Digest, a.Subject, err)
	}
	d, err := Parse(ctx, src, a, raw)
	if err != nil {
		return nil, fmt.Errorf("read %s, attached to %s: %w", a.Layer.Digest, a.Subject, err)
	}
	return d, nil
}

// Parse takes a document that was had from elsewhere, such as a file or GitHub's API,
// out of its envelope. a.Subject is what it should be about. Where a.Layout is empty,
// the layer's media type and the content say what it is.
//
// A bundle that signs the bytes of the image takes its manifest from src. With a nil
// src it is read, and can't be verified.
//
// Errors: [ErrMalformed], [ErrLimit], those of the source.
func Parse(ctx context.Context, src Source, a Attachment, raw []byte) (*Document, error) {
	if len(raw) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: it is %d bytes; %d are read", ErrLimit, len(raw), MaxDocumentSize)
	}
	if a.Layout == "" {
		if a.Layout = layoutOf(a.ArtifactType, a.Layer.MediaType); a.Layout == LayoutDocument {
			a.Layout = layoutOf("", MediaTypeOf(raw))
		}
	}
	d := &Document{Attachment: a, Raw: raw, Payload: raw, PayloadType: a.Layer.MediaType, PredicateType: a.PredicateType}
	if err := d.parse(ctx, src); err != nil {
		return nil, err
	}
	return d, nil
}

// MediaTypeOf returns the media type under which a document is attached, by what is
// in it: a Sigstore bundle, an envelope, a statement, SPDX, CycloneDX, OpenVEX or SARIF
// in JSON. It is empty for anything else.
func MediaTypeOf(raw []byte) string {
	var probe struct {
		MediaType   string          `json:"mediaType"`
		PayloadType string          `json:"payloadType"`
		Type        string          `json:"_type"`
		SPDX        string          `json:"spdxVersion"`
		BOM         string          `json:"bomFormat"`
		Runs        json.RawMessage `json:"runs"`
		Context     string          `json:"@context"`
	}
	// Of a field with another type, the others are read all the same.
	if err := json.Unmarshal(raw, &probe); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
		return ""
	}
	switch {
	case bundleVersion(probe.MediaType) != "":
		return probe.MediaType
	case probe.PayloadType != "":
		return dsseType
	case strings.HasPrefix(probe.Type, statementTypes):
		return inTotoType
	case probe.SPDX != "":
		return "application/spdx+json"
	case probe.BOM == "CycloneDX":
		return "application/vnd.cyclonedx+json"
	case strings.HasPrefix(probe.Context, PredicateOpenVEX):
		return "application/vnd.openvex+json"
	case len(probe.Runs) > 0:
		return "application/sarif+json"
	}
	return ""
}

// Documents reads attachments one after the other, so that only one is in memory. One
// that can't be read is yielded as a [*Warning] that names its digest, and the rest
// follows. When the context ends, its error is the last that is yielded.
func Documents(ctx context.Context, src Source, list []Attachment) iter.Seq2[*Document, error] {
	return func(yield func(*Document, error) bool) {
		for _, a := range list {
			d, err := Read(ctx, src, a)
			if ctx.Err() != nil {
				yield(nil, errors.Join(context.Cause(ctx), err))
				return
			}
			if err != nil {
				d, err = nil, &Warning{a.Layer.Digest, err}
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

// readBlob reads a blob whole, checks it, and unpacks it if it is compressed.
func readBlob(ctx context.Context, src Source, d oci.Descriptor) ([]byte, error) {
	if d.Size > MaxDocumentSize {
		return nil, fmt.Errorf("%w: it is %d bytes; %d are read", ErrLimit, d.Size, MaxDocumentSize)
	}
	body, err := src.Blob(ctx, d, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, d.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, &oci.IntegrityError{What: "attached document", Want: d.Digest, WantSize: d.Size, GotSize: int64(len(raw))}
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, &oci.IntegrityError{What: "attached document", Want: d.Digest, Got: got}
	}
	// No document that is text begins like this.
	if !bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		return raw, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	unpacked, err := io.ReadAll(io.LimitReader(z, MaxDocumentSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(unpacked) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: it unpacks to more than %d bytes", ErrLimit, MaxDocumentSize)
	}
	return unpacked, nil
}

// parse takes the document out of what its layout wraps it in.
func (d *Document) parse(ctx context.Context, src Source) error {
	switch d.Attachment.Layout {
	case LayoutBundle:
		return d.parseBundle(ctx, src)
	case LayoutDSSE:
		if err := d.parseEnvelope(d.Raw); err != nil {
			return err
		}
		d.certified = d.Attachment.Annotations[certificateNote] != ""
	case LayoutSimpleSigning:
		return d.parseSimple()
	case LayoutInToto:
		if isEnvelope(d.Raw) {
			return d.parseEnvelope(d.Raw)
		}
		return d.parseStatement()
	}
	return nil
}
