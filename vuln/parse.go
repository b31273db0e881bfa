package vuln

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// maxWraps is how many documents may be wrapped in each other: a bundle in snappy
// holds an envelope, that a statement, that a "Data", and that a report.
const maxWraps = 6

// Parse reads a document of any format that is understood: a Sigstore bundle, a DSSE
// envelope or a bare in-toto statement and the predicate within; a report of Trivy,
// Grype or in SARIF; an SBOM in SPDX, CycloneDX or Syft's format; VEX. The content
// decides, and the media type only where that says nothing. Signatures are not
// verified.
//
// A predicate about something else is [KindOther]. A scan whose report is not
// understood is an error: it is not a scan without findings.
//
// Errors: [oci.ErrInvalid], [ErrTooLarge].
func Parse(content []byte, mediaType string) (*Document, error) {
	text, err := Unpack(content)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	switch {
	case len(text) == 0:
		return nil, oci.Invalid("the document is empty")
	case text[0] == '<':
		return parseCycloneDX(text, true)
	case text[0] != '{' && text[0] != '[':
		return parseSPDXText(string(text))
	}
	doc, err := parseJSON(text, maxWraps)
	if err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, oci.Invalid("no format that is understood (%s)", orUnnamed(mediaType))
	}
	return doc, nil
}

func orUnnamed(mediaType string) string {
	if mediaType == "" {
		return "no media type"
	}
	return mediaType
}

// members are the keys of a JSON object with what is below them unread.
type members map[string]json.RawMessage

func (m members) has(keys ...string) bool {
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			return false
		}
	}
	return true
}

// text returns a member that is a string.
func (m members) text(key string) string {
	var s string
	if json.Unmarshal(m[key], &s) != nil {
		return ""
	}
	return s
}

// parseJSON recognizes a document by the keys that only it has. It returns nil for one
// that it does not know.
func parseJSON(text []byte, wraps int) (*Document, error) {
	if wraps == 0 {
		return nil, oci.Invalid("the document is wrapped more than %d times", maxWraps)
	}
	var m members
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, oci.Invalid("the document is no JSON object: %w", err)
	}
	switch {
	case m.has("payload", "payloadType"):
		return parseEnvelope(text, wraps-1)
	case m.has("dsseEnvelope"):
		return parseEnvelope(m["dsseEnvelope"], wraps-1)
	case m.has("messageSignature"):
		return &Document{Kind: KindSignature, Signed: true}, nil
	case strings.HasPrefix(m.text("_type"), "https://in-toto.io/Statement/"):
		return parseStatement(text, wraps-1)
	case m.has("critical"):
		return parseSimpleSigning(text)
	case m.text("bomFormat") == "CycloneDX":
		return parseCycloneDX(text, false)
	case m.has("spdxVersion"):
		return parseSPDX(text)
	case m.has("sbom"): // as the dependency graph answers
		return parseJSON(m["sbom"], wraps-1)
	case bytes.Contains(m["@context"], []byte("openvex.dev")):
		return parseOpenVEX(text)
	case bytes.Contains(m["@context"], []byte("spdx.org/rdf/3")):
		return parseSPDX3(text)
	case m.has("SchemaVersion") && (m.has("Results") || m.has("ArtifactName")):
		return parseTrivy(text)
	case m.has("matches", "descriptor"):
		return parseGrype(text)
	case m.has("runs", "version"):
		return parseSARIF(text)
	case m.has("artifacts", "descriptor"):
		return parseSyft(text)
	case m.has("scanner", "metadata"):
		return parseScannerPredicate(text, wraps-1)
	case m.has("vulnerabilities", "scanned_at"):
		return parseReport(text)
	}
	return nil, nil
}

// scanOf makes a document of one scan.
func scanOf(s Scan) *Document { return &Document{Kind: KindScan, Scans: []Scan{s}} }

// decode reads JSON into a struct of the fields that are of interest.
func decode(what string, text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return oci.Invalid("%s: %w", what, err)
	}
	return nil
}

// decodeList reads a list. What is no list, such as null, does not say that there is nothing.
func decodeList[T any](what string, text []byte) ([]T, error) {
	var list []T
	if err := decode(what, text, &list); err != nil {
		return nil, err
	}
	if list == nil {
		return nil, oci.Invalid("%s: the answer has no list of them", what)
	}
	return list, nil
}

// parseTime reads a time as tools write it; zero for what is none, since a broken
// time is no reason to lose a finding.
func parseTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05.999999999 -0700 MST", time.DateTime, time.DateOnly} {
		if at, err := time.Parse(layout, s); err == nil && at.Year() > 1970 {
			return at.UTC()
		}
	}
	return time.Time{}
}

// parseReport reads a report in the specification's form, as this package writes it.
func parseReport(text []byte) (*Document, error) {
	s, err := ParseReport(text)
	if err != nil {
		return nil, err
	}
	return scanOf(*s), nil
}

// ParseReport reads a report in the specification's form, which is also that of the
// endpoint that it expects, as a scan. Provenance and triage in it are not taken over. A report that says that nothing was scanned
// is an error, not a scan without findings.
//
// Errors: [oci.ErrInvalid].
func ParseReport(text []byte) (*Scan, error) {
	if len(text) > MaxDocumentSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(text))
	}
	var r VulnerabilityReport
	if err := decode("vulnerability report", text, &r); err != nil {
		return nil, err
	}
	if r.State == StateUnavailable || r.ScannedAt == nil && r.State == "" {
		return nil, oci.Invalid("the report says that the image was not scanned")
	}
	if r.Vulnerabilities == nil {
		return nil, oci.Invalid("the report has no list of vulnerabilities, which says that the image was not scanned")
	}
	s := &Scan{Digests: addUnique(nil, r.Digest, r.ParentDigest)}
	// What the report says of its own evidence, signatures and triage is only its word.
	plain := func(v Vulnerability) Vulnerability {
		v.Provenance, v.VEX = nil, nil
		return v
	}
	for _, v := range r.Vulnerabilities {
		if v.Link() != LinkRepository {
			s.Findings = append(s.Findings, plain(v))
		}
	}
	for _, x := range r.Suppressed {
		x.Vulnerability, x.By = plain(x.Vulnerability), SuppressedByScanner
		s.Suppressed = append(s.Suppressed, x)
	}
	s.ScannedAt = r.scanTime()
	s.Partial = r.State == StatePartial || len(r.Unscanned) > 0
	return s, nil
}

// laterTime is when something was last changed, or else when it was made.
func laterTime(made, changed string) time.Time {
	if at := parseTime(changed); !at.IsZero() {
		return at
	}
	return parseTime(made)
}
