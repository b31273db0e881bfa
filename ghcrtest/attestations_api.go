package ghcrtest

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// maxSubjects is how many digests, or ids, one request may name.
const maxSubjects = 1024

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// attestationsServed answers where there is no such API.
func (x *exchange) attestationsServed() bool {
	if !x.server.quirks.AttestationsAPI {
		x.noRoute()
	}
	return x.server.quirks.AttestationsAPI
}

// attestationScope is whose attestations the path means, and a filter for those that the
// caller may read, or write.
func (x *exchange) attestationScope(p permission) (matches func(*attestationRow) bool, ok bool) {
	if !x.attestationsServed() {
		return nil, false
	}
	if x.api.form == "repos" {
		r, ok := x.repository(p)
		return func(a *attestationRow) bool { return a.Repository == r.Name }, ok
	}
	if !x.ownerCall() {
		return nil, false
	}
	prefix := strings.ToLower(x.api.owner.Login) + "/"
	allowed := x.permittedOf(p)
	return func(a *attestationRow) bool { return strings.HasPrefix(a.Repository, prefix) && allowed(a.Repository) }, true
}

// attestationJSON is an attestation as a list has it.
type attestationJSON struct {
	Bundle       json.RawMessage `json:"bundle,omitempty"`
	RepositoryID int64           `json:"repository_id"`
	BundleURL    string          `json:"bundle_url,omitempty"`
	Initiator    string          `json:"initiator,omitempty"`
}

func (x *exchange) attestationJSON(a *attestationRow) (attestationJSON, error) {
	shown := attestationJSON{RepositoryID: number(a.Repository), Initiator: a.Initiator}
	form := x.server.quirks.AttestationBundle
	old := x.api.version(x.r) == apiVersions[0]
	if old {
		shown.Bundle = json.RawMessage("null")
	} else if form == "inline" {
		form = "url" // the newer version has no place for it
	}
	switch form {
	case "inline":
		raw, err := x.server.contents.read(a.Bundle)
		if err != nil {
			return shown, err
		}
		shown.Bundle = compact(raw)
	case "url":
		shown.BundleURL = x.server.sign(x.r, attestationPath+strconv.FormatInt(a.ID, 10)+attestationSuffix)
	}
	return shown, nil
}

func (x *exchange) attestationsJSON(rows []*attestationRow) ([]attestationJSON, bool) {
	list := []attestationJSON{}
	for _, a := range rows {
		shown, err := x.attestationJSON(a)
		if err != nil {
			x.internalAPI(err)
			return nil, false
		}
		list = append(list, shown)
	}
	return list, true
}

func attestationID(a *attestationRow) int64 { return a.ID }

// listAttestations answers what attests one digest.
func (x *exchange) listAttestations() {
	matches, ok := x.attestationScope(readAttestations)
	if !ok {
		return
	}
	d, err := oci.ParseDigest(x.ref)
	if err != nil {
		x.unprocessable("Invalid digest: " + x.ref)
		return
	}
	asked := x.r.URL.Query().Get("predicate_type")
	rows := x.server.store.attestationsOf([]oci.Digest{d}, func(a *attestationRow) bool {
		return matches(a) && predicateIs(a.PredicateType, asked)
	})
	if len(rows) == 0 && x.server.quirks.AttestationsMissing != http.StatusOK {
		x.refuseAPI(x.server.quirks.AttestationsMissing, "Not Found")
		return
	}
	rows, c, ok := cursorPage(x, rows, attestationID)
	if !ok {
		return
	}
	list, ok := x.attestationsJSON(rows)
	if !ok {
		return
	}
	x.linkCursors(c)
	x.answerJSON(http.StatusOK, map[string]any{"attestations": list})
}

// bodyJSON reads the body of a request, and answers if it is not what is wanted.
func (x *exchange) bodyJSON(limit int64, v any) bool {
	raw, err := io.ReadAll(io.LimitReader(x.r.Body, limit+1))
	switch {
	case err != nil:
		panic(http.ErrAbortHandler) // nobody is there any more
	case int64(len(raw)) > limit:
		x.refuseAPI(http.StatusRequestEntityTooLarge, "Payload too big")
	case json.Unmarshal(raw, v) != nil:
		x.refuseAPI(http.StatusBadRequest, "Problems parsing JSON")
	default:
		return true
	}
	return false
}

// digests reads a list of subjects, and answers if it is malformed.
func (x *exchange) digests(texts []string) ([]oci.Digest, bool) {
	var list []oci.Digest
	for _, text := range texts {
		d, err := oci.ParseDigest(text)
		if err != nil {
			x.unprocessable("Invalid digest: " + text)
			return nil, false
		}
		if !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	if len(list) == 0 || len(texts) > maxSubjects {
		x.unprocessable("Invalid request.\n\nsubject_digests must have 1 to 1024 items.")
		return nil, false
	}
	return list, true
}

// attested is an attestation of one of the digests that were asked for.
type attested struct {
	digest oci.Digest
	row    *attestationRow
	place  int64
}

// bulkAttestations answers what attests many digests. What nothing attests is in the first
// page with null.
func (x *exchange) bulkAttestations() {
	matches, ok := x.attestationScope(readAttestations)
	if !ok {
		return
	}
	var body struct {
		Digests []string `json:"subject_digests"`
		Type    string   `json:"predicate_type"`
	}
	if !x.bodyJSON(maxAdminBody, &body) {
		return
	}
	digests, ok := x.digests(body.Digests)
	if !ok {
		return
	}
	found := map[string][]attestationJSON{}
	rows := x.server.store.attestationsOf(digests, func(a *attestationRow) bool {
		return matches(a) && predicateIs(a.PredicateType, body.Type)
	})
	var list []attested
	for i, d := range digests {
		n := len(list)
		for _, a := range rows {
			if slices.Contains(a.Subjects, d) {
				list = append(list, attested{d, a, int64(i)<<40 | a.ID})
			}
		}
		if query := x.r.URL.Query(); len(list) == n && query.Get("after") == "" && query.Get("before") == "" {
			found[d.String()] = nil
		}
	}
	list, c, ok := cursorPage(x, list, func(a attested) int64 { return a.place })
	if !ok {
		return
	}
	for _, a := range list {
		shown, err := x.attestationJSON(a.row)
		if err != nil {
			x.internalAPI(err)
			return
		}
		found[a.digest.String()] = append(found[a.digest.String()], shown)
	}
	x.answerJSON(http.StatusOK, map[string]any{
		"attestations_subject_digests": x.bulkForm(found),
		"page_info":                    map[string]any{"has_next": c.next != "", "has_previous": c.previous != "", "next": c.next, "previous": c.previous},
	})
}

// bulkForm is a map, or what GitHub's example shows: a list of maps.
func (x *exchange) bulkForm(found map[string][]attestationJSON) any {
	if !x.server.quirks.AttestationsBulkArray {
		return found
	}
	list := []any{}
	for _, d := range slices.Sorted(maps.Keys(found)) {
		list = append(list, map[string][]attestationJSON{d: found[d]})
	}
	return list
}

// attestationRepositories lists where attestations of an organization come from.
func (x *exchange) attestationRepositories() {
	matches, ok := x.attestationScope(readAttestations)
	if !ok {
		return
	}
	asked := x.r.URL.Query().Get("predicate_type")
	type entry struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	list := []entry{}
	for _, a := range x.server.store.attestationsOf(nil, matches) {
		_, name, _ := strings.Cut(a.Repository, "/")
		if e := (entry{number(a.Repository), name}); predicateIs(a.PredicateType, asked) && !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	list, c, ok := cursorPage(x, list, func(e entry) int64 { return e.ID })
	if !ok {
		return
	}
	x.linkCursors(c)
	x.answerJSON(http.StatusOK, list)
}

// uploadAttestation takes a bundle in.
func (x *exchange) uploadAttestation() {
	if !x.attestationsServed() {
		return
	}
	r, ok := x.repository(writeAttestations)
	if !ok {
		return
	}
	var body struct {
		Bundle json.RawMessage `json:"bundle"`
	}
	if !x.bodyJSON(maxBundle, &body) {
		return
	}
	row, err := readBundle(body.Bundle)
	if err != nil {
		x.unprocessable("Invalid bundle: " + err.Error())
		return
	}
	row.Repository, row.Initiator = r.Name, "user"
	if err := x.server.storeAttestation(row, body.Bundle); err != nil {
		x.internalAPI(err)
		return
	}
	x.answerJSON(http.StatusCreated, map[string]int64{"id": row.ID})
}

// deleteAttestations deletes by digest, by id, or by a list of either.
func (x *exchange) deleteAttestations() {
	matches, ok := x.attestationScope(writeAttestations)
	if !ok {
		return
	}
	var body struct {
		Digests []string `json:"subject_digests"`
		IDs     []int64  `json:"attestation_ids"`
	}
	status := http.StatusOK
	switch rest := x.ref; {
	case x.r.Method == http.MethodPost:
		if !x.bodyJSON(maxAdminBody, &body) {
			return
		}
	case strings.HasPrefix(x.api.below, "attestations/digest/"):
		body.Digests = []string{rest}
	default:
		id, ok := x.pathID(rest)
		if !ok {
			return
		}
		body.IDs, status = []int64{id}, http.StatusNoContent
	}
	if len(body.Digests) > 0 == (len(body.IDs) > 0) || len(body.IDs) > maxSubjects {
		x.unprocessable("Invalid request.\n\nEither subject_digests or attestation_ids must have 1 to 1024 items.")
		return
	}
	named := func(a *attestationRow) bool { return slices.Contains(body.IDs, a.ID) }
	var digests []oci.Digest
	if len(body.Digests) > 0 {
		if digests, ok = x.digests(body.Digests); !ok {
			return
		}
		named = func(*attestationRow) bool { return true }
	}
	rows := x.server.store.attestationsOf(digests, func(a *attestationRow) bool { return named(a) && matches(a) })
	if len(rows) == 0 {
		if len(body.IDs) == 1 && x.readsAttestation(body.IDs[0]) {
			x.notPermitted()
			return
		}
		x.noRoute()
		return
	}
	if err := x.server.store.dropAttestations(rows); err != nil {
		x.internalAPI(err)
		return
	}
	if status == http.StatusNoContent {
		x.w.WriteHeader(status)
		return
	}
	x.answerJSON(status, struct{}{})
}

// readsAttestation tells whether the caller may read one of the owner's, though not delete it.
func (x *exchange) readsAttestation(id int64) bool {
	allowed := x.permittedOf(readAttestations)
	prefix := strings.ToLower(x.api.owner.Login) + "/"
	return len(x.server.store.attestationsOf(nil, func(a *attestationRow) bool {
		return a.ID == id && strings.HasPrefix(a.Repository, prefix) && allowed(a.Repository)
	})) > 0
}

// Where the storage host has bundles.
const (
	attestationPath   = "attestations/"
	attestationSuffix = ".json.sn"
)

// signedBundle is a bundle at the storage host.
func (x *exchange) signedBundle() {
	if !x.storageAllows(attestationPath + x.ref) {
		return
	}
	id, _ := strconv.ParseInt(strings.TrimSuffix(x.ref, attestationSuffix), 10, 64)
	rows := x.server.store.attestationsOf(nil, func(a *attestationRow) bool { return a.ID == id })
	if len(rows) == 0 {
		x.storageError(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
		return
	}
	raw, err := x.server.contents.read(rows[0].Bundle)
	if err != nil {
		x.storageError(http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	body, mediaType := attestationBody(x.server.quirks.AttestationBody, raw)
	x.w.Header().Set("Content-Type", mediaType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if x.w.WriteHeader(http.StatusOK); x.r.Method != http.MethodHead {
		x.w.Write(body)
	}
}
