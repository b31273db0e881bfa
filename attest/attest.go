// Package attest hides how signatures, SBOMs, provenance and scan reports are kept
// beside an image in a registry: in half a dozen layouts, under tags, as referrers
// and inside indexes, signed in three ways or not at all.
//
// [List] finds what is attached to a digest, [Read] opens one of it, within
// bounds that a hostile document cannot break, [Attach] adds to it, and [Verify]
// holds it to a [Policy]. Who signed is decided by a [Verifier]: [Keys] for public
// keys, in this package and with the standard library alone, or package
// attest/keyless for certificates of Sigstore.
//
// What was not found is never taken for what is not there: whatever could not be
// read is a [Warning] beside the answer.
package attest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Source is where attachments are read from. *registry.Repository and
// *transfer.Layout are sources. Implementations are safe for concurrent use.
//
// GHCR counts each manifest that is fetched as a download
// (docs/quirks.md#count-downloads). A source that keeps manifests by digest spares
// most of that; this package asks for one manifest once in a call.
type Source interface {
	// Manifest returns the manifest that a tag or digest names, its bytes checked
	// against the digest.
	//
	// Errors: [oci.ErrNotFound].
	Manifest(ctx context.Context, ref string) (*oci.Manifest, error)
	// Blob opens length bytes of a blob from an offset; a negative length means to
	// the end. The caller closes it. The digest need not be checked.
	Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error)
	// Referrers returns the manifests that say to have d as their subject, those
	// listed under the tag sha256-<hex> among them (docs/quirks.md#referrers).
	// Nothing there is an empty list. What the entries say is not relied on.
	Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error)
}

// Target is where attachments are written to. *registry.Repository and
// *transfer.Layout are targets.
type Target interface {
	Source
	// Resolve returns the descriptor of the manifest that a tag or digest names.
	//
	// Errors: [oci.ErrNotFound].
	Resolve(ctx context.Context, ref string) (oci.Descriptor, error)
	// PutBlob stores a blob whose digest and size are d's.
	PutBlob(ctx context.Context, d oci.Descriptor, mount []string, open oci.Opener) (oci.Stored, error)
	// PutManifest stores a manifest under a tag or its digest, and lists it as a
	// referrer of its subject, in the tag that stands in for the referrers API where
	// there is none.
	PutManifest(ctx context.Context, ref string, m *oci.Manifest) error
}

// Layout is the form in which a document is kept.
type Layout string

// The layouts that are understood.
const (
	LayoutBundle        Layout = "bundle"         // a Sigstore bundle: cosign 3, actions/attest
	LayoutDSSE          Layout = "dsse"           // a signed envelope: cosign 1 and 2
	LayoutInToto        Layout = "in-toto"        // a statement, in an envelope or bare; reading it tells which: BuildKit, Docker Scout
	LayoutSimpleSigning Layout = "simple-signing" // a signature of the image: cosign 1 and 2
	LayoutDocument      Layout = "document"       // the document itself, unsigned: oras attach, trivy, cosign attach sbom
	LayoutNotation      Layout = "notation"       // a signature of Notary Project, which is listed and not verified
)

// Place is where in the registry an attachment was found.
type Place string

// The places that are looked at.
const (
	PlaceReferrer Place = "referrer" // a manifest with a subject, listed by the API or its stand-in
	PlaceTag      Place = "tag"      // under sha256-<hex>.sig, .att or .sbom
	PlaceIndex    Place = "index"    // an entry of the image's index, as BuildKit writes
	// PlaceGitHub is GitHub's attestations API. It is not looked at here: whoever asked it
	// gives what it has to [Parse] and [Policy].
	PlaceGitHub Place = "github"
)

// Predicate types that have a meaning here. Others are passed on as they are.
const (
	// PredicateSignature stands for a signature of the image itself, whatever its
	// form: simple signing and message signatures count as this type.
	PredicateSignature  = "https://sigstore.dev/cosign/sign/v1"
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateProvenance = "https://slsa.dev/provenance"
	PredicateVulns      = "https://in-toto.io/attestation/vulns"
	PredicateCosignVuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	PredicateOpenVEX    = "https://openvex.dev/ns"
)

// Attachment is one document that is attached to a manifest, as far as its
// surroundings tell without reading it.
type Attachment struct {
	Subject  oci.Digest     `json:"subject"`  // the manifest that it is attached to
	Manifest oci.Descriptor `json:"manifest"` // the manifest that carries it
	Layer    oci.Descriptor `json:"layer"`    // the document
	Layout   Layout         `json:"layout"`
	Place    Place          `json:"place"`
	// ArtifactType is the carrying manifest's, or else its config's media type. It is
	// never taken from an index, where other clients write wrong ones.
	ArtifactType string `json:"artifactType,omitempty"`
	// PredicateType is what the annotations say, and empty where they say nothing. What
	// the document says is in [Document].
	PredicateType string `json:"predicateType,omitempty"`
	// Created is the time that the annotations state; zero where they state none.
	Created time.Time `json:"created,omitzero"`
	// Signed tells that the layout is one that carries a signature. It says nothing
	// about whether the signature is good.
	Signed bool `json:"signed"`
	// Annotations are the manifest's, and over them the layer's.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Bounds of what is read, per digest or document. They are those of the tools that
// write these documents.
const (
	MaxAttachments  = 100      // documents attached to one digest
	MaxDocumentSize = 20 << 20 // bytes of one document, decompressed
	MaxSubjects     = 1024     // of one statement
	MaxDigests      = 32       // of one subject
	maxSignatures   = 64       // in one envelope
	maxDepth        = 4        // indexes in indexes, and signatures of signatures
	maxManifests    = 1000     // manifests under one index
)

// Why a document was not read or did not count. Test for them with [errors.Is].
var (
	// ErrNoSignature says that there is nothing signed: not that a signature is bad.
	ErrNoSignature = errors.New("there is no signature")
	// ErrBadSignature says that the signature does not fit the content and the keys
	// given: the content was altered, or another key signed it.
	ErrBadSignature = errors.New("the signature does not fit the content and the key")
	// ErrWrongKey says that the document names a key of its signer that is not among
	// those given, or that it was signed with a certificate where a key is wanted, or
	// the other way round.
	ErrWrongKey = errors.New("it was signed with another key")
	// ErrWrongIdentity says that the signature is good but the signer is none of those
	// wanted.
	ErrWrongIdentity = errors.New("it was signed by somebody else")
	// ErrWrongSubject says that the document is about another image.
	ErrWrongSubject = errors.New("it is about another image")
	// ErrExpired says that the certificate was not valid when the signature was made.
	ErrExpired = errors.New("the certificate was not valid when it signed")
	// ErrNoLogEntry says that no transparency log that is trusted vouches for the
	// signature, where the trusted root has such logs.
	ErrNoLogEntry = errors.New("no trusted transparency log has the signature")
	// ErrNoTimestamp says that nobody trusted tells when the signature was made.
	ErrNoTimestamp = errors.New("there is no trusted time of the signature")
	// ErrUntrusted says that the certificate was not issued by an authority of the
	// trusted root, or lacks the proof that it was logged.
	ErrUntrusted = errors.New("the certificate is not from a trusted authority")
	// ErrMalformed says that the document is not what its layout promises.
	ErrMalformed = errors.New("the document is malformed")
	// ErrLimit says that there is more, or a larger document, than is read.
	ErrLimit = errors.New("over the limit of what is read")
	// ErrUnverified says that the policy names nobody whose signature would count, so the
	// signature was not looked at.
	ErrUnverified = errors.New("the signature was not verified, since no signer is named")
	// ErrUnsupported says that this kind of signature cannot be verified here.
	ErrUnsupported = errors.New("this kind of signature is not supported")
)

// Warning is something that could not be read, or was passed over because it is
// not what it was said to be.
type Warning struct {
	Digest oci.Digest // of the manifest, or of the document in it
	Err    error
}

// Error names the digest.
func (w *Warning) Error() string { return fmt.Sprintf("%s: %v", w.Digest, w.Err) }

// Unwrap returns the cause.
func (w *Warning) Unwrap() error { return w.Err }
