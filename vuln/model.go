package vuln

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// VulnerabilityReport is all that is known of the vulnerabilities of one image.
// [Collect] makes it. In JSON it is the specification's type with further fields,
// all of which may be absent.
//
// An empty list of vulnerabilities means that there are none only if State is
// [StateComplete]. Where no scan was read, State is [StateUnavailable], ScannedAt
// and Counts are nil, and Vulnerabilities is null unless a source that is no scan
// had some.
type VulnerabilityReport struct {
	// PackageVersionID is the number of the version in the Packages API; 0 if only
	// a digest is known.
	PackageVersionID uint64 `json:"package_version_id,omitempty"`
	// Vulnerabilities are the findings that count, the worst first.
	Vulnerabilities []Vulnerability `json:"vulnerabilities"`
	// ScannedAt is when the newest scan that was read was made, in UTC; nil if
	// there is none or none says when.
	ScannedAt *time.Time `json:"scanned_at"`

	Ref          string     `json:"ref,omitempty"`
	Digest       oci.Digest `json:"digest,omitempty"`
	Platform     string     `json:"platform,omitempty"`      // of Digest, if that is one platform's image
	ParentDigest oci.Digest `json:"parent_digest,omitempty"` // the index that lists Digest

	// Sources has each source that was asked or passed over, in order, also those
	// that failed.
	Sources []SourceReport `json:"sources,omitempty"`
	State   State          `json:"state,omitempty"`
	// Counts is nil when no scan was read: then there is nothing to count.
	Counts *Counts `json:"counts,omitempty"`
	// Suppressed are findings that a statement, a rule or a filter took out of
	// Vulnerabilities.
	Suppressed []Suppressed `json:"suppressed,omitempty"`
	// PlatformScans are the platforms that were scanned, and when last. Of an image that
	// is no index it is the one.
	PlatformScans []PlatformScan `json:"platform_scans,omitempty"`
	// Unscanned are the platforms that no scan names, where some do.
	Unscanned []string `json:"unscanned,omitempty"`
	// Warnings say what was read and not believed, such as expired rules.
	Warnings []string `json:"warnings,omitempty"`
}

// PlatformScan is the newest scan that is of one platform.
type PlatformScan struct {
	Platform  string     `json:"platform,omitempty"` // empty if the image does not say
	Digest    oci.Digest `json:"digest"`
	ScannedAt time.Time  `json:"scanned_at,omitzero"` // in UTC; zero if no scan says when it was made
}

// name is the platform, or its digest.
func (p PlatformScan) name() string { return cmp.Or(p.Platform, p.Digest.String()) }

// Oldest is the platform whose newest scan is the oldest, one without a time first: as old
// as it is what is known of the image. It is false where none was scanned.
func (r *VulnerabilityReport) Oldest() (PlatformScan, bool) {
	if len(r.PlatformScans) == 0 {
		return PlatformScan{}, false
	}
	return slices.MinFunc(r.PlatformScans, func(a, b PlatformScan) int { return a.ScannedAt.Compare(b.ScannedAt) }), true
}

// scanTime is how old what is known of the image is: the time of the oldest of its scans
// that count, and zero if that is not known. Documents of ours have it as their own, so that
// who reads them back does not take an old scan for a newer one.
func (r *VulnerabilityReport) scanTime() time.Time {
	if oldest, ok := r.Oldest(); ok {
		return oldest.ScannedAt
	}
	if r.ScannedAt != nil {
		return r.ScannedAt.UTC()
	}
	return time.Time{}
}

// State says how much the list of vulnerabilities means.
type State string

// The states of a report.
const (
	// StateComplete: a scan was read, and nothing that may hold another one failed.
	StateComplete State = "complete"
	// StatePartial: a scan was read, but something failed or a platform has none.
	StatePartial State = "partial"
	// StateUnavailable: no scan was read. The image may have any vulnerability.
	StateUnavailable State = "unavailable"
)

// Complete tells whether an empty list means that no vulnerability is known.
func (r *VulnerabilityReport) Complete() bool { return r.State == StateComplete }

// Scanned tells whether a scan of this image was read.
func (r *VulnerabilityReport) Scanned() bool {
	return r.State == StateComplete || r.State == StatePartial
}

// MarshalJSON adds "complete", which State decides.
func (r VulnerabilityReport) MarshalJSON() ([]byte, error) {
	type plain VulnerabilityReport
	out := struct {
		plain
		Complete *bool `json:"complete,omitempty"`
	}{plain: plain(r)}
	if r.State != "" {
		out.Complete = new(r.Complete())
	}
	return json.Marshal(out)
}

// Image returns the findings about the image's content, and Repository those
// that are only known to be about the repository it is built from.
func (r *VulnerabilityReport) Image() []Vulnerability { return r.byLink(false) }

// Repository returns what is known of the repository that the image is built from,
// which may or may not be in the image.
func (r *VulnerabilityReport) Repository() []Vulnerability { return r.byLink(true) }

func (r *VulnerabilityReport) byLink(repository bool) []Vulnerability {
	var found []Vulnerability
	for _, v := range r.Vulnerabilities {
		if (v.Link() == LinkRepository) == repository {
			found = append(found, v)
		}
	}
	return found
}

// Vulnerability is one flaw in one package of the image.
type Vulnerability struct {
	// ID is the CVE if there is one, else GitHub's id, else the source's own.
	ID          string   `json:"id"`
	Severity    Severity `json:"severity"`
	Summary     string   `json:"summary"`
	Description string   `json:"description"`
	// FixedIn is the first version without the flaw; empty if none is known.
	FixedIn    string   `json:"fixed_in,omitempty"`
	References []string `json:"references"`

	Aliases       []string  `json:"aliases,omitempty"` // the other ids
	Package       *Package  `json:"package,omitempty"` // nil if the source does not say
	FixedVersions []string  `json:"fixed_versions,omitempty"`
	FixState      FixState  `json:"fix_state,omitempty"`
	Ratings       []Rating  `json:"ratings,omitempty"` // all; Severity is chosen of them
	EPSS          *EPSS     `json:"epss,omitempty"`
	KEV           bool      `json:"kev,omitempty"` // CISA knows that it is exploited
	CWEs          []string  `json:"cwes,omitempty"`
	Published     time.Time `json:"published,omitzero"`
	Modified      time.Time `json:"modified,omitzero"`
	VEX           *VEXState `json:"vex,omitempty"`
	// Provenance has at least one entry in a report of [Collect], the surest first.
	Provenance []Provenance `json:"provenance,omitempty"`

	vouched []Rating // those of Ratings that a verified signature is over
}

// MarshalJSON writes no list of references as an empty one, for the
// specification's type has a list there.
func (v Vulnerability) MarshalJSON() ([]byte, error) {
	type plain Vulnerability
	if v.References == nil {
		v.References = []string{}
	}
	return json.Marshal(plain(v))
}

// IDs are the id and all aliases.
func (v *Vulnerability) IDs() []string { return append([]string{v.ID}, v.Aliases...) }

// Has tells whether the vulnerability is known by this id.
func (v *Vulnerability) Has(id string) bool { return slices.ContainsFunc(v.IDs(), foldEqual(id)) }

// meant are the ids of which what is said is said of all of the finding. A distribution's
// advisory may stand for several CVEs, and one of them is not the others.
func (v *Vulnerability) meant() []string {
	ids := v.IDs()
	if len(cves(ids)) > 1 {
		ids = slices.DeleteFunc(ids, func(id string) bool { return idRank(id) == 0 && !strings.EqualFold(id, v.ID) })
	}
	return ids
}

// Link is how surely the finding is about the image: the surest of its provenance.
// It is empty for a finding without provenance.
func (v *Vulnerability) Link() Link {
	var best Link
	for _, p := range v.Provenance {
		if p.Link.rank() > best.rank() {
			best = p.Link
		}
	}
	return best
}

// Score is the highest score of all ratings, 0 if none has one.
func (v *Vulnerability) Score() float64 {
	var score float64
	for _, r := range v.Ratings {
		score = max(score, r.Score)
	}
	return score
}

// FixState says whether there is a version without the flaw.
type FixState string

// The states of a fix. The zero value reads as FixUnknown.
const (
	FixFixed    FixState = "fixed"     // in FixedVersions
	FixNotFixed FixState = "not_fixed" // not yet
	FixWontFix  FixState = "wont_fix"  // whoever maintains the package has said that there will be none
	FixUnknown  FixState = "unknown"
)

// Rating is what one database says of the severity.
type Rating struct {
	Source   string        `json:"source,omitempty"` // nvd, ghsa, or the name of a distribution or tool
	Method   ScoringMethod `json:"method,omitempty"`
	Vector   string        `json:"vector,omitempty"`
	Score    float64       `json:"score,omitempty"` // computed from Vector where only that is given
	Severity Severity      `json:"severity"`
	Word     string        `json:"word,omitempty"` // the severity as the source spells it
}

// EPSS is the probability that the flaw will be exploited within 30 days, as
// FIRST estimates it.
type EPSS struct {
	Score      float64 `json:"score"`      // 0 to 1
	Percentile float64 `json:"percentile"` // 0 to 1
	Date       string  `json:"date,omitempty"`
}

// VEXState is what a VEX statement says of a finding.
type VEXState struct {
	Status        VEXStatus `json:"status"`
	Justification string    `json:"justification,omitempty"` // in OpenVEX's words
	Statement     string    `json:"statement,omitempty"`     // impact, action or notes
	Author        string    `json:"author,omitempty"`
	Document      string    `json:"document,omitempty"` // digest, address or file
	Timestamp     time.Time `json:"timestamp,omitzero"`
	Signed        bool      `json:"signed"` // a signature over the document was verified
}

// VEXStatus is a status of OpenVEX.
type VEXStatus string

// The statuses. The first two take a finding out of the list, the others annotate it.
const (
	VEXNotAffected        VEXStatus = "not_affected"
	VEXFixed              VEXStatus = "fixed"
	VEXAffected           VEXStatus = "affected"
	VEXUnderInvestigation VEXStatus = "under_investigation"
)

// Counts are the findings about the image by severity. Findings that are only about
// its repository are not counted, suppressed ones only as such.
type Counts struct {
	Critical   int `json:"critical"`
	High       int `json:"high"`
	Medium     int `json:"medium"`
	Low        int `json:"low"`
	Unknown    int `json:"unknown"`
	Fixable    int `json:"fixable"`
	Suppressed int `json:"suppressed"`
	KEV        int `json:"kev"`
}

// Total is the number of findings that are not suppressed.
func (c *Counts) Total() int { return c.Critical + c.High + c.Medium + c.Low + c.Unknown }

// By returns the number of findings of one severity.
func (c *Counts) By(s Severity) int { return *c.of(s) }

func (c *Counts) of(s Severity) *int {
	switch s {
	case SeverityCritical:
		return &c.Critical
	case SeverityHigh:
		return &c.High
	case SeverityMedium:
		return &c.Medium
	case SeverityLow:
		return &c.Low
	}
	return &c.Unknown
}

// Suppressed is a finding that does not count, and why.
type Suppressed struct {
	Vulnerability Vulnerability `json:"vulnerability"`
	By            SuppressedBy  `json:"by"`
	Reason        string        `json:"reason,omitempty"`
	Author        string        `json:"author,omitempty"`   // of a dismissal or statement
	Document      string        `json:"document,omitempty"` // the file, digest or address of what says so
	Until         time.Time     `json:"until,omitzero"`     // when an ignore rule ends
}

// SuppressedBy says what took a finding out of the list.
type SuppressedBy string

// What suppresses findings.
const (
	SuppressedByVEX       SuppressedBy = "vex"       // a statement
	SuppressedByIgnore    SuppressedBy = "ignore"    // a rule of an ignore file
	SuppressedByDismissal SuppressedBy = "dismissal" // dismissed at GitHub
	SuppressedByScanner   SuppressedBy = "scanner"   // the scanner's own configuration
	SuppressedByFix       SuppressedBy = "unfixed"   // Options.OnlyFixed or Options.IgnoreUnfixed
)
