package vuln

import (
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// DocumentKind is what a document turned out to be.
type DocumentKind string

// The kinds of documents.
const (
	KindScan      DocumentKind = "scan"      // [Scan]
	KindVEX       DocumentKind = "vex"       // [VEX]
	KindSBOM      DocumentKind = "sbom"      // [SBOM]
	KindBuild     DocumentKind = "build"     // [Build]
	KindSignature DocumentKind = "signature" // of the image itself; says nothing of vulnerabilities
	KindOther     DocumentKind = "other"     // well formed and about something else
)

// Document is what a piece of evidence says. The parts that its kind has are set; a
// CycloneDX document may be an SBOM, a scan and VEX at once.
type Document struct {
	Kind DocumentKind
	// Predicate is the type of the in-toto predicate, empty if it was in no statement.
	Predicate string
	// Subjects are the digests that the statement is about.
	Subjects []oci.Digest
	// Signed tells whether a signature came with it. It was not verified.
	Signed bool

	Scans []Scan // more than one in SARIF with several runs
	VEX   *VEX
	SBOM  *SBOM
	Build *Build
}

// Scan is what one run of one scanner says.
type Scan struct {
	Source      SourceName
	Method      Method // empty is [MethodScan]
	Tool        string
	ToolVersion string
	DBVersion   string
	DBUpdated   time.Time
	ScannedAt   time.Time // zero if the document does not say
	Partial     bool      // the document says that it does not have everything

	// What it is about, as far as the document says.
	Digests    []oci.Digest // of manifests and configurations
	Repository string       // "owner/name" at GitHub
	Ref        string       // such as "refs/heads/main"
	Commit     string
	Category   string

	// How it is about the image; set by whoever knows both.
	Link       Link
	Rule       string
	Subject    oci.Digest
	Evidence   string
	VerifiedBy *Signer

	// Findings have no provenance; it is made of the fields above.
	Findings   []Vulnerability
	Suppressed []Suppressed
	Warnings   []string

	// single is the report of a scanner that looks at one image, never at all that an index
	// lists.
	single bool
	// platform is what such a scanner looked at, as far as it says.
	platform oci.Platform
	// elsewhere is a scan that names the digests of other images alone.
	elsewhere bool
	// unsure is a report of any tool, a linter say, that found nothing in packages.
	unsure bool
}

// VEX is what somebody says of vulnerabilities in products.
type VEX struct {
	ID         string
	Author     string
	Document   string // digest, address or file
	Timestamp  time.Time
	Signed     bool // a signature over it was verified
	Statements []VEXStatement

	given bool // by the caller, who knows whom to believe
}

// VEXStatement is one statement about some vulnerability in some products.
type VEXStatement struct {
	// IDs are the names of the vulnerability.
	IDs           []string
	Products      []VEXProduct // empty is the subject of the document's statement
	Status        VEXStatus
	Justification string
	// Text is the impact, action or notes. Of not_affected without a justification it is the
	// impact, which no note stands in for.
	Text      string
	Timestamp time.Time
}

// VEXProduct is a product and, if the statement is about parts of it, these.
type VEXProduct struct {
	// IDs are its purls and digests.
	IDs           []string
	Subcomponents []string // purls; empty is the whole product
}

// SBOM is the list of the packages of an image.
type SBOM struct {
	Format   string // "SPDX-2.3", "CycloneDX-1.6"
	Tool     string
	Created  time.Time
	Evidence string
	Subject  oci.Digest
	Signed   bool // a signature over it was verified
	Packages []Package
}

// Build is what build provenance says.
type Build struct {
	Repository string // "owner/name" at GitHub, or the source's address
	Commit     string
	Builder    string
	Evidence   string
	Subject    oci.Digest
	VerifiedBy *Signer
}
