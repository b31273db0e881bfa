package vuln

import (
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Provenance says where a finding comes from and how surely it is about the image.
type Provenance struct {
	Source SourceName `json:"source"`
	Link   Link       `json:"link"`
	// Rule says what the link rests on, in words.
	Rule        string    `json:"rule,omitempty"`
	Method      Method    `json:"method,omitempty"`
	Tool        string    `json:"tool,omitempty"`
	ToolVersion string    `json:"tool_version,omitempty"`
	DBVersion   string    `json:"db_version,omitempty"`
	DBUpdated   time.Time `json:"db_updated,omitzero"`
	ScannedAt   time.Time `json:"scanned_at,omitzero"`
	// Evidence is the digest, address or file of the document that says so.
	Evidence string `json:"evidence,omitempty"`
	// Subject is the digest that was scanned: the index's or a platform's.
	Subject oci.Digest `json:"subject,omitempty"`
	// VerifiedBy is nil if no signature over the document was verified.
	VerifiedBy *Signer `json:"verified_by,omitempty"`
}

// SourceName names a kind of place where findings are.
type SourceName string

// The sources, in the order of a report.
const (
	SourcePackagesAPI       SourceName = "packages-api"       // the specification's endpoint, which GitHub does not have
	SourceAttestation       SourceName = "attestation"        // attached to the image in the registry
	SourceGitHubAttestation SourceName = "github-attestation" // kept by GitHub's attestations API
	SourceCodeScanning      SourceName = "code-scanning"
	SourceDependabot        SourceName = "dependabot"
	SourceGHSA              SourceName = "ghsa" // GitHub's advisories, for the packages of an SBOM
	SourceOSV               SourceName = "osv"  // OSV's, likewise
	SourceVEX               SourceName = "vex"
	SourceFile              SourceName = "file" // given by the caller
)

// SourceNames are all of them, in order.
var SourceNames = []SourceName{
	SourcePackagesAPI, SourceAttestation, SourceGitHubAttestation, SourceCodeScanning,
	SourceDependabot, SourceGHSA, SourceOSV, SourceVEX, SourceFile,
}

// Link says how a finding is tied to the image. The order of the constants is that
// of confidence.
type Link string

// The links, from the surest to the least sure.
const (
	// LinkDigestSigned: a document that names the image's digest, under a signature
	// that was verified.
	LinkDigestSigned Link = "digest-signed"
	// LinkDigest: a document that names the image's digest.
	LinkDigest Link = "digest"
	// LinkCommit: a scan of this image's name at the commit that it was built from.
	LinkCommit Link = "commit"
	// LinkPath: a scan whose category or path is the image's name, at some time.
	LinkPath Link = "category/path"
	// LinkRepository: only the repository is the same. Such a finding may not be in
	// the image at all.
	LinkRepository Link = "repository"
)

// rank grows with confidence; no link is 0.
func (l Link) rank() int {
	switch l {
	case LinkDigestSigned:
		return 5
	case LinkDigest:
		return 4
	case LinkCommit:
		return 3
	case LinkPath:
		return 2
	case LinkRepository:
		return 1
	}
	return 0
}

// byDigest tells whether the link rests on the image's digest.
func (l Link) byDigest() bool { return l.rank() >= LinkDigest.rank() }

// Method says how a finding was made.
type Method string

// The methods.
const (
	// MethodScan: a scanner looked at the image. Only such a document makes a report
	// that is not [StateUnavailable].
	MethodScan Method = "scan"
	// MethodSBOM: a list of packages was held against a list of flaws.
	MethodSBOM Method = "sbom-match"
)

// Signer is whoever a signature was verified to be made by.
type Signer struct {
	KeyID  string `json:"key,omitempty"`    // of a signature by a key
	Issuer string `json:"issuer,omitempty"` // who vouched for the identity
	SAN    string `json:"san,omitempty"`    // the identity: an address or a workflow
}

// String is the key or the identity.
func (s Signer) String() string {
	if s.KeyID != "" {
		return s.KeyID
	}
	if s.Issuer != "" {
		return s.SAN + " (" + s.Issuer + ")"
	}
	return s.SAN
}
