package ghcrtest

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/llm-dev-ops/ghcr/oci"
)

// reportRow is the report of a version, in the shape of the specification of this project.
type reportRow struct {
	Repo   string                     `json:"repo"`
	Digest oci.Digest                 `json:"digest"`
	Fields map[string]json.RawMessage `json:"fields"`
}

// AddVulnerabilityReport has the endpoint that the specification names, and GitHub has
// not, answer for a manifest, by tag or digest. It is served with the switch
// [Quirks].VulnerabilityEndpoint alone. The report is a JSON object in the specification's
// shape; the version's number is filled in.
//
// Errors: [oci.ErrInvalid] for what is no object; [oci.ErrNotFound] if the manifest is
// not there; a directory that cannot be written.
func (s *Server) AddVulnerabilityReport(repo, ref string, report []byte) error {
	v := s.store.manifest(repo, ref)
	if v == nil {
		return fmt.Errorf("add a report of %s, %s: manifest %w", repo, ref, oci.ErrNotFound)
	}
	row := &reportRow{Repo: repo, Digest: v.desc.Digest}
	if err := object("vulnerability report", report, &row.Fields); err != nil {
		return err
	}
	return s.store.secure(securityRow{Report: row})
}

// getReport answers as the switch says: as GitHub does, which does not know the path, or
// with the report.
func (x *exchange) getReport() {
	switch status := x.server.quirks.VulnerabilityEndpoint; status {
	case http.StatusOK:
	case http.StatusNotFound:
		x.noRoute()
		return
	default:
		x.refuseAPI(status, http.StatusText(status))
		return
	}
	x.api.role, x.api.scopes, x.api.verb = roleRead, readScopes, "get a package version"
	if !x.mayCall() {
		return
	}
	id, ok := x.versionID()
	if !ok {
		return
	}
	version, ok := x.server.store.versionRow(x.repo, id)
	if !ok {
		x.versionNotFound()
		return
	}
	x.server.store.mu.RLock()
	row := x.server.store.security.reports[reportKey{x.repo, version.digest}]
	x.server.store.mu.RUnlock()
	if row == nil {
		x.refuseAPI(http.StatusNotFound, "The version was not scanned.")
		return
	}
	report := map[string]json.RawMessage{"vulnerabilities": json.RawMessage("[]"), "scanned_at": json.RawMessage("null")}
	for name, value := range row.Fields {
		report[name] = value
	}
	report["package_version_id"] = marshal(id)
	x.answerJSON(http.StatusOK, report)
}

type reportKey struct {
	repo   string
	digest oci.Digest
}
