package vuln

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ErrVulnerabilityAPIUnavailable says that GitHub does not have the specification's
// endpoint for the vulnerabilities of a version. A source that returns it is
// [StatusUnavailable], which is no failure.
var ErrVulnerabilityAPIUnavailable = errors.New("GitHub has no vulnerability endpoint for container versions")

// Source is a place where findings may be. Implementations fetch, and leave the
// reading to a [Reader].
type Source interface {
	// Name is the kind of the source, such as [SourceAttestation].
	Name() SourceName
	// Fetch reads what the source has about the image. What it found before it
	// failed is in the report beside the error. An error that is no [SourceError]
	// has [StatusError].
	Fetch(ctx context.Context, t Target) (*SourceReport, error)
}

// Enricher is a source that needs to know the packages of the image, from the SBOMs
// that the other sources found. It is asked after them.
type Enricher interface {
	Name() SourceName
	// Enrich is [Source.Fetch] for these packages.
	Enrich(ctx context.Context, t Target, sboms []SBOM) (*SourceReport, error)
}

// Target is the image that is asked about, and what is known of it.
type Target struct {
	Ref oci.ImageRef
	// Digest is what Ref names: an index or an image.
	Digest oci.Digest
	// Parent is the index that lists Digest, where one platform of it is asked
	// about. What is said of the index is then said of Digest.
	Parent oci.Digest
	// Platforms are the images of the index Digest, or the image Digest itself.
	Platforms []PlatformImage
	// Others are the other images of Parent, so that scans of them are told apart from
	// those of Digest.
	Others []PlatformImage
	// PackageVersionID is the number of the version that has Digest, or 0.
	PackageVersionID uint64
	// Repository is the linked repository as "owner/name", or empty.
	Repository string
	// DefaultBranch is that of Repository, such as "main". Empty if not known.
	DefaultBranch string
	// Commits are those that the image says it was built from, by its label
	// org.opencontainers.image.revision. Those of verified or plain build provenance
	// are added by [Collect].
	Commits []string
	// Pushed is when the version was made, or its tag moved; zero if not known.
	Pushed time.Time
}

// PlatformImage is the image of one platform.
type PlatformImage struct {
	Platform oci.Platform
	Digest   oci.Digest
	// Config is the digest of its configuration, which scanners call image ID. Empty if
	// not known.
	Config oci.Digest
}

// in tells whether the digests have that of the image or of its configuration.
func (p PlatformImage) in(digests []oci.Digest) bool {
	return slices.Contains(digests, p.Digest) || p.Config != "" && slices.Contains(digests, p.Config)
}

// Digests are the digests that a document may name to be about this image, the index
// first.
func (t Target) Digests() []oci.Digest {
	list := addUnique[oci.Digest](nil, t.Parent, t.Digest)
	for _, p := range t.Platforms {
		list = addUnique(list, p.Digest)
	}
	return list
}

// image tells which image of the target the digests name. A scanner names the index
// that it was given and the platform's image or configuration that it looked at; then it is
// the platform's. It is false if they name none, or only a platform that was not asked
// about.
func (t Target) image(digests []oci.Digest) (oci.Digest, bool) {
	var own []oci.Digest
	for _, p := range t.Platforms {
		if p.in(digests) {
			own = append(own, p.Digest)
		}
	}
	switch {
	case len(own) == 1:
		return own[0], true
	case len(own) == 0 && t.isOther(digests):
		return "", false
	}
	for _, d := range t.Digests() {
		if slices.Contains(digests, d) {
			return d, true
		}
	}
	return "", false
}

// SourceReport says what became of one source. The fields that JSON leaves out are
// what it found; [Collect] joins them.
type SourceReport struct {
	Name   SourceName `json:"name"`
	Status Status     `json:"status"`
	// Reason says why the status is what it is, with the server's own words.
	Reason string `json:"reason,omitempty"`
	// Remedy says what to do about it.
	Remedy   string        `json:"remedy,omitempty"`
	Started  time.Time     `json:"started,omitzero"`
	Duration time.Duration `json:"duration,omitempty"` // in nanoseconds
	Requests int           `json:"requests,omitempty"`
	// Findings is how many it had that are about the image, before any are joined.
	Findings int `json:"findings"`
	// ScannedAt is when the newest of its scans was made.
	ScannedAt time.Time `json:"scanned_at,omitzero"`
	// Evidence is each document that was looked at, also those that were not used.
	Evidence []EvidenceNote `json:"evidence,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`

	Scans  []Scan  `json:"-"`
	VEX    []VEX   `json:"-"`
	SBOMs  []SBOM  `json:"-"`
	Builds []Build `json:"-"`
}

// Status is what became of a source.
type Status string

// The statuses. The last four mean that the source may hold findings that were not
// read.
const (
	StatusOK          Status = "ok"          // answered, and has something
	StatusEmpty       Status = "empty"       // answered: there is nothing
	StatusUnavailable Status = "unavailable" // this host does not have it at all
	StatusNotAsked    Status = "not_asked"   // passed over; the reason says why

	StatusFeatureDisabled Status = "feature_disabled" // switched off for this repository
	StatusForbidden       Status = "forbidden"        // the credential may not
	StatusRateLimited     Status = "rate_limited"     // gave up waiting
	StatusError           Status = "error"            // anything else
)

// Harms tells whether the source may hold findings that were not read.
func (s Status) Harms() bool {
	switch s {
	case StatusOK, StatusEmpty, StatusUnavailable, StatusNotAsked:
		return false
	}
	return true
}

// SourceError is why a source could not be read, with the status that this is.
type SourceError struct {
	Status Status
	// Remedy says what to do about it, such as which permission is missing.
	Remedy string
	Err    error
}

// Error is the cause.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// StatusOf tells which status a source's error is, and what to do about it.
func StatusOf(err error) (Status, string) {
	var failed *SourceError
	switch {
	case err == nil:
		return StatusOK, ""
	case errors.As(err, &failed):
		return failed.Status, failed.Remedy
	case errors.Is(err, ErrVulnerabilityAPIUnavailable):
		return StatusUnavailable, ""
	}
	return StatusError, ""
}

// EvidenceNote is the trace of one document in a report.
type EvidenceNote struct {
	ID        string       `json:"id"`                  // digest, address or file
	Kind      DocumentKind `json:"kind,omitempty"`      // what it turned out to be
	Predicate string       `json:"predicate,omitempty"` // type of the statement's predicate
	Subject   oci.Digest   `json:"subject,omitempty"`
	Link      Link         `json:"link,omitempty"`
	// Signature is "verified", "not verified" (there is one), or "unsigned".
	Signature  string  `json:"signature,omitempty"`
	VerifiedBy *Signer `json:"verified_by,omitempty"`
	// Note says why the document was not used, or used with a lesser link.
	Note string `json:"note,omitempty"`
}

// Evidence is one document as it was fetched.
type Evidence struct {
	// ID is its digest, address or file, for provenance and messages.
	ID string
	// MediaType is what whoever keeps it says it is. It is a hint: the content
	// decides.
	MediaType string
	// Annotations are those of the layer or manifest it was found at.
	Annotations map[string]string
	Content     []byte
	// Subject is the digest it was found at: what it should be about. Empty if it
	// was found at no image, as a file.
	Subject oci.Digest
}

// Verifier verifies the signature of a document. The one with a public key needs
// nothing; the keyless one is in a package that this one does not know.
type Verifier interface {
	// Verify returns who signed, and what: the payload of an envelope, say. Only that is
	// read, since what is around it may be read in two ways. A document without a
	// signature, or with one that is not right, is an error.
	Verify(ctx context.Context, e Evidence) (Signer, []byte, error)
}
