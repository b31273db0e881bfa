package ghcrtest

// Where GitHub describes operations.
const (
	codeDocs     = "code-scanning/code-scanning#"
	advisoryDocs = "security-advisories/global-advisories#"
)

// ownerSecurity are operations on what all repositories of an owner have. Of two that match
// a path the later counts.
var ownerSecurity = []operation{
	{method: "GET", path: "packages/{type}/{name}/versions/{id}/vulnerabilities", route: RouteVulnerabilities, run: (*exchange).getReport},
	{method: "GET", path: "attestations/{digest}", route: RouteAttestations, doc: "orgs/attestations#list-attestations", run: (*exchange).listAttestations},
	{method: "GET", path: "attestations/repositories", route: RouteAttestationsSources, doc: "orgs/attestations#list-attestation-repositories", run: (*exchange).attestationRepositories},
	{method: "POST", path: "attestations/bulk-list", route: RouteAttestationsBulk, doc: "orgs/attestations#list-attestations-by-bulk-subject-digests", run: (*exchange).bulkAttestations},
	{method: "POST", path: "attestations/delete-request", route: RouteAttestationDelete, doc: "orgs/attestations#delete-attestations-in-bulk", run: (*exchange).deleteAttestations},
	{method: "DELETE", path: "attestations/{id}", route: RouteAttestationDelete, doc: "orgs/attestations#delete-attestations-by-id", run: (*exchange).deleteAttestations},
	{method: "GET", path: "code-scanning/alerts", route: RouteCodeAlerts, doc: codeDocs + "list-code-scanning-alerts-for-an-organization", run: (*exchange).listOwnerCodeAlerts},
	{method: "GET", path: "dependabot/alerts", route: RouteDependabotAlerts, doc: "dependabot/alerts#list-dependabot-alerts-for-an-organization", run: (*exchange).listOwnerDependabot},
	{method: "DELETE", path: "attestations/digest/{digest}", route: RouteAttestationDelete, doc: "orgs/attestations#delete-attestations-by-subject-digest", run: (*exchange).deleteAttestations},
}

// repositorySecurity are operations on a repository of source code.
var repositorySecurity = []operation{
	{method: "GET", path: "", route: RouteRepository, doc: "repos/repos#get-a-repository", run: (*exchange).getRepository},
	{method: "GET", path: "attestations/{digest}", route: RouteAttestations, doc: "repos/attestations#list-attestations", run: (*exchange).listAttestations},
	{method: "POST", path: "attestations", route: RouteAttestationUpload, doc: "repos/attestations#create-an-attestation", run: (*exchange).uploadAttestation},
	{method: "GET", path: "code-scanning/alerts", route: RouteCodeAlerts, doc: codeDocs + "list-code-scanning-alerts-for-a-repository", run: (*exchange).listCodeAlerts},
	{method: "GET", path: "code-scanning/alerts/{n}", route: RouteCodeAlert, doc: codeDocs + "get-a-code-scanning-alert", run: (*exchange).getCodeAlert},
	{method: "PATCH", path: "code-scanning/alerts/{n}", route: RouteCodeAlert, doc: codeDocs + "update-a-code-scanning-alert", run: (*exchange).updateCodeAlert},
	{method: "GET", path: "code-scanning/alerts/{n}/instances", route: RouteCodeInstances, doc: codeDocs + "list-instances-of-a-code-scanning-alert", run: (*exchange).listCodeInstances},
	{method: "GET", path: "code-scanning/analyses", route: RouteAnalyses, doc: codeDocs + "list-code-scanning-analyses-for-a-repository", run: (*exchange).listAnalyses},
	{method: "GET", path: "code-scanning/analyses/{id}", route: RouteAnalysis, doc: codeDocs + "get-a-code-scanning-analysis-for-a-repository", run: (*exchange).getAnalysis},
	{method: "POST", path: "code-scanning/sarifs", route: RouteSARIFUpload, doc: codeDocs + "upload-an-analysis-as-sarif-data", run: (*exchange).uploadSARIF},
	{method: "GET", path: "code-scanning/sarifs/{id}", route: RouteSARIFStatus, doc: codeDocs + "get-information-about-a-sarif-upload", run: (*exchange).getSARIF},
	{method: "GET", path: "dependabot/alerts", route: RouteDependabotAlerts, doc: "dependabot/alerts#list-dependabot-alerts-for-a-repository", run: (*exchange).listDependabot},
	{method: "GET", path: "dependabot/alerts/{n}", route: RouteDependabotAlert, doc: "dependabot/alerts#get-a-dependabot-alert", run: (*exchange).getDependabot},
	{method: "POST", path: "dependency-graph/snapshots", route: RouteDependencySnapshot, doc: "dependency-graph/dependency-submission", resource: "dependency_snapshots", run: (*exchange).submitSnapshot},
	{method: "GET", path: "dependency-graph/sbom", route: RouteDependencySBOM, doc: "dependency-graph/sboms", resource: "dependency_sbom", run: (*exchange).getSBOM},
}
