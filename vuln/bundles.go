package vuln

import (
	"encoding/json"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Attestation is an attestation as GitHub's API lists it. Since July 2026 its bundle
// is null and kept at an address that is signed for a short time, which no
// credential may be sent to.
type Attestation struct {
	Bundle       json.RawMessage `json:"bundle"` // nil or "null" if it must be fetched
	BundleURL    string          `json:"bundle_url"`
	RepositoryID int64           `json:"repository_id"`
}

// Inline tells whether the list has the bundle itself.
func (a *Attestation) Inline() bool { return len(a.Bundle) > 0 && string(a.Bundle) != "null" }

// ParseAttestations reads a page of the attestations of one digest.
//
// Errors: [oci.ErrInvalid].
func ParseAttestations(text []byte) ([]Attestation, error) {
	var page struct {
		Attestations *[]Attestation `json:"attestations"`
	}
	if err := decode("attestations", text, &page); err != nil {
		return nil, err
	}
	if page.Attestations == nil {
		return nil, oci.Invalid("attestations: the answer has no list of them")
	}
	return *page.Attestations, nil
}

// ParseBulkAttestations reads a page of the attestations of many digests, and returns
// the cursor of the next, empty on the last. GitHub describes the page as a map and
// shows it as a list of maps; both are read. A digest without attestations is in the
// map with none.
//
// Errors: [oci.ErrInvalid].
func ParseBulkAttestations(text []byte) (map[oci.Digest][]Attestation, string, error) {
	var page struct {
		Digests json.RawMessage `json:"attestations_subject_digests"`
		Info    struct {
			HasNext bool   `json:"has_next"`
			Next    string `json:"next"`
		} `json:"page_info"`
	}
	if err := decode("attestations", text, &page); err != nil {
		return nil, "", err
	}
	if string(page.Digests) == "null" {
		return nil, "", oci.Invalid("attestations: the answer has no list of them")
	}
	found := map[oci.Digest][]Attestation{}
	if list := []map[oci.Digest][]Attestation{}; json.Unmarshal(page.Digests, &list) == nil {
		for _, m := range list {
			for d, some := range m {
				found[d] = append(found[d], some...)
			}
		}
	} else if err := decode("attestations", page.Digests, &found); err != nil {
		return nil, "", err
	}
	switch {
	case !page.Info.HasNext:
		page.Info.Next = ""
	case page.Info.Next == "":
		return nil, "", oci.Invalid("attestations: the list goes on, and the answer does not say where")
	}
	return found, page.Info.Next, nil
}
