package ghcrtest

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// attestationRow is one attestation as GitHub keeps it: a Sigstore bundle, and what it is
// found by.
type attestationRow struct {
	ID            int64        `json:"id"`
	Repository    string       `json:"repository"`
	Bundle        oci.Digest   `json:"bundle"`
	Subjects      []oci.Digest `json:"subjects"`
	PredicateType string       `json:"predicateType,omitempty"`
	Initiator     string       `json:"initiator"`
	Created       time.Time    `json:"created"`
}

// maxBundle bounds a bundle that is put in.
const maxBundle = 32 << 20

// AddAttestation puts a Sigstore bundle into GitHub's attestations API, as an attestation
// that a workflow of the repository made. It is found by the subjects of the statement in
// it, or the digest that is signed. Nothing of it is verified. A repository that is not
// there is made, and is public.
//
// Errors: [oci.ErrInvalid] for a malformed name, or for what is no bundle that has a
// subject; a directory that cannot be written.
func (s *Server) AddAttestation(repository string, bundle []byte) error {
	row, err := readBundle(bundle)
	if err != nil {
		return err
	}
	if row.Repository, err = s.seedRepository(repository); err != nil {
		return err
	}
	row.Initiator = "github"
	return s.storeAttestation(row, bundle)
}

func (s *Server) storeAttestation(row *attestationRow, bundle []byte) (err error) {
	s.whole.RLock()
	defer s.whole.RUnlock()
	if row.Bundle, err = s.keep(bundle); err != nil {
		return err
	}
	return s.store.secure(securityRow{Attestation: row})
}

// readBundle finds what an attestation is found by.
func readBundle(raw []byte) (*attestationRow, error) {
	var bundle struct {
		MediaType string `json:"mediaType"`
		Envelope  *struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
		Signature *struct {
			Digest struct {
				Algorithm string `json:"algorithm"`
				Digest    []byte `json:"digest"`
			} `json:"messageDigest"`
		} `json:"messageSignature"`
	}
	if err := object("bundle", raw, &bundle); err != nil {
		return nil, err
	}
	row := &attestationRow{}
	switch {
	case !strings.HasPrefix(bundle.MediaType, "application/vnd.dev.sigstore.bundle"):
		return nil, oci.Invalid("bundle: its mediaType is %q", bundle.MediaType)
	case bundle.Envelope != nil:
		var statement struct {
			Subject []struct {
				Digest map[string]string `json:"digest"`
			} `json:"subject"`
			PredicateType string `json:"predicateType"`
		}
		if err := object("statement of the bundle", bundle.Envelope.Payload, &statement); err != nil {
			return nil, err
		}
		row.PredicateType = statement.PredicateType
		for _, subject := range statement.Subject {
			if d, err := oci.ParseDigest("sha256:" + subject.Digest["sha256"]); err == nil && !slices.Contains(row.Subjects, d) {
				row.Subjects = append(row.Subjects, d)
			}
		}
	case bundle.Signature != nil:
		if d, err := oci.ParseDigest("sha256:" + hexOf(bundle.Signature.Digest.Digest)); err == nil {
			row.Subjects = append(row.Subjects, d)
		}
	}
	if len(row.Subjects) == 0 {
		return nil, oci.Invalid("bundle: it names no subject by sha256")
	}
	return row, nil
}

// predicateIs tells whether a predicate type is one that is asked for: a URI, or GitHub's
// word for several.
func predicateIs(predicateType, asked string) bool {
	for word, prefixes := range map[string][]string{
		"provenance": {"https://slsa.dev/provenance/"},
		"sbom":       {"https://spdx.dev/Document", "https://cyclonedx.org/bom"},
		"release":    {"https://in-toto.io/attestation/release/"},
	} {
		if asked == word {
			return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(predicateType, prefix) })
		}
	}
	return asked == "" || predicateType == asked
}

// attestationsOf lists what attests one of the digests, or with none all, the newest first.
func (s *store) attestationsOf(subjects []oci.Digest, matches func(*attestationRow) bool) (list []*attestationRow) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range slices.Backward(s.security.attestations) {
		about := len(subjects) == 0 || slices.ContainsFunc(a.Subjects, func(d oci.Digest) bool { return slices.Contains(subjects, d) })
		if about && matches(a) {
			list = append(list, a)
		}
	}
	return list
}

// dropAttestations deletes them.
func (s *store) dropAttestations(list []*attestationRow) error {
	var ids []int64
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	return s.secure(securityRow{Withdrawn: ids})
}

// attestationBody is a bundle as the storage host serves it, by the switch AttestationBody.
func attestationBody(form string, bundle []byte) (body []byte, mediaType string) {
	switch form {
	case "plain":
		return bundle, "application/json"
	case "framed":
		return snappyFrames(bundle), "application/x-snappy-framed"
	}
	return snappyBlock(bundle), "application/x-snappy"
}

// compact is a bundle as the API's JSON has it.
func compact(raw []byte) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return json.RawMessage("null")
	}
	return out.Bytes()
}
