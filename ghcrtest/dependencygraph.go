package ghcrtest

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// graphRow is a snapshot of what packages something is made of. Of each job and detector
// the latest counts.
type graphRow struct {
	ID         int64          `json:"id"`
	Repository string         `json:"repository"`
	Job        string         `json:"job"` // and the detector
	Ref        string         `json:"ref"`
	Packages   []graphPackage `json:"packages"`
	Created    time.Time      `json:"created"`
}

type graphPackage struct {
	PURL         string `json:"purl"`
	Manifest     string `json:"manifest"`
	Scope        string `json:"scope"`
	Relationship string `json:"relationship"`
}

// gitHubEcosystems are those of types of purl.
var gitHubEcosystems = map[string]string{
	"npm": "npm", "golang": "go", "pypi": "pip", "maven": "maven", "gem": "rubygems", "nuget": "nuget", "cargo": "rust", "composer": "composer",
	"hex": "erlang", "pub": "pub", "swift": "swift", "githubactions": "actions",
}

// graph finds the repository of a call to the dependency graph, and answers if it may not
// be made, or the graph is off.
func (x *exchange) graph(p permission) (Repository, bool) {
	r, ok := x.repository(p)
	if ok && !r.dependencyGraph() {
		x.refuseAPI(http.StatusForbidden, "Dependency graph is disabled for this repository.")
		return r, false
	}
	return r, ok
}

// snapshotBody is what is submitted.
type snapshotBody struct {
	Version *int `json:"version"`
	Job     struct {
		ID         string `json:"id"`
		Correlator string `json:"correlator"`
	} `json:"job"`
	SHA      string `json:"sha"`
	Ref      string `json:"ref"`
	Detector struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		URL     string `json:"url"`
	} `json:"detector"`
	Scanned   string `json:"scanned"`
	Manifests map[string]struct {
		Name string `json:"name"`
		File struct {
			Source string `json:"source_location"`
		} `json:"file"`
		Resolved map[string]struct {
			PURL         string `json:"package_url"`
			Relationship string `json:"relationship"`
			Scope        string `json:"scope"`
		} `json:"resolved"`
	} `json:"manifests"`
}

// wrong says what the submission lacks.
func (b *snapshotBody) wrong() string {
	_, err := time.Parse(time.RFC3339, b.Scanned)
	switch {
	case b.Version == nil || b.Job.ID == "" || b.Job.Correlator == "" || b.Detector.Name == "" || b.Detector.Version == "" || b.Detector.URL == "":
		return "version, job and detector are required"
	case len(b.SHA) < 40 || len(b.SHA) > 64 || strings.Trim(b.SHA, "0123456789abcdef") != "":
		return "sha must be a commit SHA"
	case !strings.HasPrefix(b.Ref, "refs/"):
		return "ref must begin with refs/"
	case err != nil:
		return "scanned must be a time"
	}
	return ""
}

func (b *snapshotBody) row(repository string) *graphRow {
	row := &graphRow{Repository: repository, Job: b.Job.Correlator + "\x00" + b.Detector.Name, Ref: b.Ref, Packages: []graphPackage{}}
	for _, key := range slices.Sorted(maps.Keys(b.Manifests)) {
		m := b.Manifests[key]
		for _, name := range slices.Sorted(maps.Keys(m.Resolved)) {
			p := m.Resolved[name]
			relationship := "transitive"
			if p.Relationship == "direct" {
				relationship = p.Relationship
			}
			row.Packages = append(row.Packages, graphPackage{p.PURL, cmp.Or(m.File.Source, m.Name, key), cmp.Or(p.Scope, "runtime"), relationship})
		}
	}
	return row
}

// submitSnapshot takes packages in. Those of the default branch get alerts.
func (x *exchange) submitSnapshot() {
	r, ok := x.graph(writeGraph)
	if !ok {
		return
	}
	var body snapshotBody
	if !x.bodyJSON(maxBundle, &body) {
		return
	}
	if wrong := body.wrong(); wrong != "" {
		x.unprocessable("Invalid snapshot: " + wrong)
		return
	}
	row := body.row(r.Name)
	err := x.server.store.secure(securityRow{Graph: row})
	result, message := "ACCEPTED", "The snapshot was accepted, but it is not for the default branch. It will not update dependency results for the repository."
	if row.Ref == r.defaultRef() {
		result, message = "SUCCESS", "Dependency results for the repo have been successfully updated."
		if err == nil {
			err = x.server.alertDependencies(row)
		}
	}
	if err != nil {
		x.internalAPI(err)
		return
	}
	x.answerJSON(http.StatusCreated, map[string]any{"id": row.ID, "created_at": timestamp(row.Created), "result": result, "message": message})
}

// alertDependencies makes an alert for each package that an advisory is about, and has
// those be fixed that the same job no longer submits.
func (s *Server) alertDependencies(row *graphRow) error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	key := func(a dependabotAlert) string {
		return strings.Join([]string{a.Advisory.GHSA, a.Dependency.Package.Ecosystem, a.Dependency.Package.Name, a.Dependency.Manifest}, "\x00")
	}
	known, still := map[string]*dependabotRow{}, map[string]bool{}
	for _, old := range s.store.security.dependabot[row.Repository] {
		if a := old.read(); old.Snapshot == row.Job && a.State != "fixed" {
			known[key(a)] = old
		}
	}
	var changes []*dependabotRow
	for _, found := range s.store.security.alerts(row) {
		k := key(found.read())
		if still[k] = true; known[k] == nil {
			known[k] = found
			changes = append(changes, found)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(known)) {
		if still[k] {
			continue
		}
		fixed := *known[k]
		fixed.Fields = maps.Clone(fixed.Fields)
		fixed.Fields["state"], fixed.Fields["fixed_at"] = marshal("fixed"), marshal(timestamp(row.Created))
		changes = append(changes, &fixed)
	}
	for _, c := range changes {
		if err := s.store.commit(event{Op: opSecurity, Security: &securityRow{Alert: c}}); err != nil {
			return err
		}
	}
	return nil
}

// alerts are those that a snapshot would have, were it the only one.
func (s *security) alerts(row *graphRow) (list []*dependabotRow) {
	for _, p := range row.Packages {
		u, ok := parsePURL(p.PURL)
		if !ok {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(s.advisories)) {
			a := s.advisories[id]
			for _, v := range a.Vulnerabilities {
				if v.Package.Ecosystem != gitHubEcosystems[u.kind] || v.Package.Name != u.name() || a.Withdrawn != "" || !inRange(u.version, v.Range) {
					continue
				}
				list = append(list, &dependabotRow{Repository: row.Repository, Snapshot: row.Job, Fields: a.alertOf(v, map[string]any{
					"package": v.Package, "manifest_path": p.Manifest, "scope": p.Scope, "relationship": p.Relationship,
				})})
			}
		}
	}
	return list
}

// getSBOM answers all packages of a repository as SPDX.
func (x *exchange) getSBOM() {
	r, ok := x.graph(readGraph)
	if !ok {
		return
	}
	packages, relationships := []any{}, []any{}
	for _, p := range x.server.store.dependencies(r) {
		u, _ := parsePURL(p)
		id := "SPDXRef-" + strings.Trim(strings.Map(func(c rune) rune {
			if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.", c) {
				return c
			}
			return '-'
		}, strings.TrimPrefix(p, "pkg:")), "-")
		packages = append(packages, map[string]any{
			"SPDXID": id, "name": u.name(), "versionInfo": u.version, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
			"externalRefs": []any{map[string]string{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": p}},
		})
		relationships = append(relationships, map[string]string{"relationshipType": "DEPENDS_ON", "spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": id})
	}
	x.answerJSON(http.StatusOK, map[string]any{"sbom": map[string]any{
		"SPDXID": "SPDXRef-DOCUMENT", "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "name": "com.github." + r.Name,
		"documentNamespace": "https://spdx.org/spdxdocs/protobom/" + nodeID("R", number(r.Name)),
		"creationInfo":      map[string]any{"created": timestamp(x.server.now()), "creators": []string{"Tool: GitHub.com-Dependency-Graph"}},
		"packages":          packages, "relationships": relationships,
	}})
}

// dependencies are the packages of the snapshots that count.
func (s *store) dependencies(r Repository) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	latest := map[string]*graphRow{}
	for _, row := range s.security.graphs[r.Name] {
		if row.Ref == r.defaultRef() {
			latest[row.Job] = row
		}
	}
	all := map[string]bool{}
	for _, row := range latest {
		for _, p := range row.Packages {
			all[p.PURL] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
