package vuln

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Limits of a statement: those of sigstore-go, and of GitHub's own attestations.
const (
	maxSubjects  = 1024
	maxDigests   = 32 // of a subject
	maxPredicate = 16 << 20
)

// Types of predicates. Others are told by a prefix, since their versions are part of them.
const (
	PredicateCosignVuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	PredicateVulns      = "https://in-toto.io/attestation/vulns/v0.2"
	PredicateOpenVEX    = "https://openvex.dev/ns/v0.2.0"
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateSLSA       = "https://slsa.dev/provenance/v1"
)

// Those that say nothing of vulnerabilities by themselves.
const (
	predicateCosignCustom = "https://cosign.sigstore.dev/attestation/v1"
	predicateCosignSign   = "https://sigstore.dev/cosign/sign/v1"
)

// inTotoPayload is the type of the payload of a DSSE envelope with a statement.
const inTotoPayload = "application/vnd.in-toto+json"

func parseEnvelope(text []byte, wraps int) (*Document, error) {
	var envelope struct {
		Payload     string            `json:"payload"`
		PayloadType string            `json:"payloadType"`
		Signatures  []json.RawMessage `json:"signatures"`
	}
	if err := decode("DSSE envelope", text, &envelope); err != nil {
		return nil, err
	}
	if envelope.PayloadType != inTotoPayload {
		return &Document{Kind: KindOther, Signed: len(envelope.Signatures) > 0}, nil
	}
	payload, err := decodeBase64(envelope.Payload)
	if err != nil {
		return nil, oci.Invalid("DSSE envelope: the payload is not base64")
	}
	doc, err := parseStatement(payload, wraps)
	if err != nil {
		return nil, err
	}
	doc.Signed = len(envelope.Signatures) > 0
	return doc, nil
}

// decodeBase64 reads both alphabets: DSSE allows either.
func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	return base64.RawStdEncoding.DecodeString(s)
}

func parseStatement(text []byte, wraps int) (*Document, error) {
	var statement struct {
		Type    string `json:"_type"`
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if err := decode("in-toto statement", text, &statement); err != nil {
		return nil, err
	}
	switch {
	case !strings.HasPrefix(statement.Type, "https://in-toto.io/Statement/"):
		return nil, oci.Invalid("in-toto statement: type %q", statement.Type)
	case len(statement.Subject) > maxSubjects:
		return nil, fmt.Errorf("%w: a statement about %d subjects; the limit is %d", ErrTooLarge, len(statement.Subject), maxSubjects)
	case len(statement.Predicate) > maxPredicate:
		return nil, fmt.Errorf("%w: a predicate of %d bytes; the limit is %d", ErrTooLarge, len(statement.Predicate), maxPredicate)
	case statement.PredicateType == "":
		return nil, oci.Invalid("in-toto statement: no predicate type")
	}
	var subjects []oci.Digest
	for _, s := range statement.Subject {
		if len(s.Digest) > maxDigests {
			return nil, fmt.Errorf("%w: a subject with %d digests; the limit is %d", ErrTooLarge, len(s.Digest), maxDigests)
		}
		for algorithm, hash := range s.Digest {
			if d, err := oci.ParseDigest(algorithm + ":" + hash); err == nil {
				subjects = append(subjects, d)
			}
		}
	}
	doc, err := parsePredicate(statement.PredicateType, statement.Predicate, wraps)
	if err != nil {
		return nil, fmt.Errorf("predicate %s: %w", statement.PredicateType, err)
	}
	doc.Predicate, doc.Subjects = statement.PredicateType, subjects
	return doc, nil
}

func parsePredicate(kind string, text []byte, wraps int) (*Document, error) {
	versioned := func(prefix string) bool { return kind == prefix || strings.HasPrefix(kind, prefix+"/") }
	text = bytes.TrimSpace(text)
	if inner, ok := unwrapData(text); ok {
		text = inner
	}
	switch {
	case kind == predicateCosignSign:
		return &Document{Kind: KindSignature}, nil
	case kind == PredicateCosignVuln, versioned("https://in-toto.io/attestation/vulns"):
		return parseScannerPredicate(text, wraps)
	case versioned("https://openvex.dev/ns"):
		return parseOpenVEX(text)
	case versioned("https://spdx.dev/Document"):
		if bytes.HasPrefix(text, []byte("SPDXVersion:")) {
			return parseSPDXText(string(text))
		}
		return parseKnown(text, wraps)
	case versioned("https://cyclonedx.org/bom"):
		return parseCycloneDX(text, bytes.HasPrefix(text, []byte("<")))
	case versioned("https://slsa.dev/provenance"):
		return parseProvenance(text)
	case kind == predicateCosignCustom:
		// Anything may be in it, so that it is not understood is no error. That it is cut off
		// or broken is one, for it may have been a scan.
		if !bytes.HasPrefix(text, []byte("{")) {
			break
		}
		if doc, err := parseJSON(text, wraps); err != nil || doc != nil {
			return doc, err
		}
	}
	return &Document{Kind: KindOther}, nil
}

// parseKnown reads a predicate whose type promises a document that is understood.
func parseKnown(text []byte, wraps int) (*Document, error) {
	doc, err := parseJSON(text, wraps)
	if err == nil && doc == nil {
		err = oci.Invalid("it is not what its type says")
	}
	return doc, err
}

// unwrapData takes the document out of {"Data": …, "Timestamp": …}, in which cosign puts
// what it has no type for, and once put SBOMs. The data is a string, which may be
// base64, or JSON as it is.
func unwrapData(text []byte) ([]byte, bool) {
	var m members
	if json.Unmarshal(text, &m) != nil || !m.has("Data") {
		return nil, false
	}
	for key := range m {
		if key != "Data" && key != "Timestamp" {
			return nil, false
		}
	}
	var s string
	if json.Unmarshal(m["Data"], &s) != nil {
		return m["Data"], true
	}
	if data := strings.TrimSpace(s); isText([]byte(data)) {
		return []byte(data), true
	}
	if data, err := decodeBase64(strings.TrimSpace(s)); err == nil && isText(data) {
		return bytes.TrimSpace(data), true
	}
	return []byte(s), true
}

func parseSimpleSigning(text []byte) (*Document, error) {
	var payload struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := decode("simple signing payload", text, &payload); err != nil {
		return nil, err
	}
	d, err := oci.ParseDigest(payload.Critical.Image.Digest)
	if err != nil {
		return nil, oci.Invalid("simple signing payload: %w", err)
	}
	return &Document{Kind: KindSignature, Predicate: "cosign container image signature", Subjects: []oci.Digest{d}, Signed: true}, nil
}

// parseScannerPredicate reads both predicates that have a scanner: that of cosign, whose
// result is the scanner's own report, and that of in-toto, whose result is a list.
func parseScannerPredicate(text []byte, wraps int) (*Document, error) {
	var predicate struct {
		Scanner struct {
			URI     string `json:"uri"`
			Version string `json:"version"`
			DB      struct {
				URI        string `json:"uri"`
				Version    string `json:"version"`
				LastUpdate string `json:"lastUpdate"`
			} `json:"db"`
			Result json.RawMessage `json:"result"`
		} `json:"scanner"`
		Metadata struct {
			Started  string `json:"scanStartedOn"`
			Finished string `json:"scanFinishedOn"`
		} `json:"metadata"`
	}
	if err := decode("scan", text, &predicate); err != nil {
		return nil, err
	}
	scanner := predicate.Scanner
	result := bytes.TrimSpace(scanner.Result)
	var doc *Document
	var err error
	switch {
	case len(result) == 0 || string(result) == "null":
		return nil, oci.Invalid("scan of %s: there is no result", scanner.URI)
	case result[0] == '[':
		doc, err = parseVulnsResult(result)
	default:
		if doc, err = parseJSON(result, wraps); err == nil && (doc == nil || len(doc.Scans) == 0) {
			err = oci.Invalid("the report of %s is in no format that is understood", scanner.URI)
		}
	}
	if err != nil {
		return nil, err
	}
	tool, version := toolOf(scanner.URI)
	for i := range doc.Scans {
		s := &doc.Scans[i]
		s.unsure = false // the predicate says that it is a scan
		fill(&s.Tool, tool)
		fill(&s.ToolVersion, scanner.Version)
		fill(&s.ToolVersion, version)
		fill(&s.DBVersion, scanner.DB.Version)
		if at := parseTime(scanner.DB.LastUpdate); s.DBUpdated.IsZero() {
			s.DBUpdated = at
		}
		for _, at := range []string{predicate.Metadata.Finished, predicate.Metadata.Started} {
			// The wrapping is done after the scan, at times days after.
			if s.ScannedAt.IsZero() {
				s.ScannedAt = parseTime(at)
			}
		}
	}
	return doc, nil
}

// toolOf reads the name of a scanner from its URI, such as
// "pkg:github/aquasecurity/trivy@0.60.0" or its home page.
func toolOf(uri string) (name, version string) {
	uri = strings.TrimRight(uri, "/")
	name = uri[strings.LastIndexByte(uri, '/')+1:]
	name, version, _ = strings.Cut(name, "@")
	return name, version
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// parseVulnsResult reads the list of in-toto's predicate. The text of its version 0.1
// puts each entry below "vulnerability", its example does not.
func parseVulnsResult(text []byte) (*Document, error) {
	type entry struct {
		ID       string `json:"id"`
		Severity []struct {
			Method string          `json:"method"`
			Score  json.RawMessage `json:"score"`
		} `json:"severity"`
	}
	var list []struct {
		entry
		Vulnerability *entry `json:"vulnerability"`
	}
	if err := decode("in-toto vulns", text, &list); err != nil {
		return nil, err
	}
	var s Scan
	for _, e := range list {
		if e.Vulnerability != nil {
			e.entry = *e.Vulnerability
		}
		if e.ID == "" {
			return nil, oci.Invalid("in-toto vulns: a result without an id")
		}
		v := Vulnerability{ID: e.ID}
		for _, severity := range e.Severity {
			if r, ok := methodRating(severity.Method, strings.Trim(string(severity.Score), `"`)); ok {
				v.Ratings = append(v.Ratings, r)
			}
		}
		s.Findings = append(s.Findings, v)
	}
	return scanOf(s), nil
}

// methodRating reads a score that is a number, a word or a vector. The method is free
// text: the name of a database, or of a kind of score.
func methodRating(method, score string) (Rating, bool) {
	source := method
	if m := strings.ToLower(method); strings.Contains(m, "cvss") || strings.Contains(m, "score") || strings.Contains(m, "severity") {
		source = ""
	}
	if _, _, ok := ScoreOf(score); ok {
		return newRating(source, "", score, 0)
	}
	var number float64
	if json.Unmarshal([]byte(score), &number) == nil {
		return newRating(source, "", "", number)
	}
	return newRating(source, score, "", 0)
}

// parseProvenance reads where an image was built from, of both versions of SLSA's
// predicate: 0.2 has it as the source of its configuration or a material, 1 as a
// resolved dependency.
func parseProvenance(text []byte) (*Document, error) {
	type source struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	var p struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Invocation struct {
			ConfigSource source `json:"configSource"`
		} `json:"invocation"`
		Materials       []source `json:"materials"`
		BuildDefinition struct {
			ResolvedDependencies []source `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if err := decode("SLSA provenance", text, &p); err != nil {
		return nil, err
	}
	b := &Build{Builder: p.Builder.ID}
	fill(&b.Builder, p.RunDetails.Builder.ID)
	sources := append([]source{p.Invocation.ConfigSource}, p.BuildDefinition.ResolvedDependencies...)
	for _, s := range append(sources, p.Materials...) {
		commit := s.Digest["gitCommit"]
		fill(&commit, s.Digest["sha1"])
		if commit != "" && s.URI != "" {
			b.Repository, b.Commit = repositoryName(s.URI), commit
			break
		}
	}
	return &Document{Kind: KindBuild, Build: b}, nil
}
