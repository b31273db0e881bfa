package ghcrtest

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Repository is a repository of source code, as far as GitHub keeps there what it knows
// of the security of images: attestations, alerts, and the packages that code depends
// on. A package is linked to one by [Package]. A repository that is only linked to exists
// too; it is public if one of its packages is.
type Repository struct {
	Name    string `json:"name"` // "owner/name"
	Private bool   `json:"private,omitempty"`
	Fork    bool   `json:"fork,omitempty"`
	// DefaultBranch is "main" if it is empty.
	DefaultBranch string `json:"defaultBranch,omitempty"`
	// CodeScanning, DependencyGraph and Dependabot are "on" or "off". Empty is as GitHub
	// has it for a new repository: on, but for the first two where not all may read, and for
	// the graph of a fork.
	CodeScanning    string `json:"codeScanning,omitempty"`
	DependencyGraph string `json:"dependencyGraph,omitempty"`
	Dependabot      string `json:"dependabot,omitempty"`
}

const (
	featureOn  = "on"
	featureOff = "off"
)

func (r Repository) check() error {
	if owner, name, ok := strings.Cut(r.Name, "/"); !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return oci.Invalid("the repository %q: want owner/name", r.Name)
	}
	for _, feature := range []string{r.CodeScanning, r.DependencyGraph, r.Dependabot} {
		if !slices.Contains([]string{"", featureOn, featureOff}, feature) {
			return oci.Invalid("a feature of %s is %q: want on or off", r.Name, feature)
		}
	}
	return nil
}

func (r Repository) codeScanning() bool {
	return r.CodeScanning == featureOn || r.CodeScanning == "" && !r.Private
}

func (r Repository) dependencyGraph() bool {
	return r.DependencyGraph == featureOn || r.DependencyGraph == "" && !r.Private && !r.Fork
}

func (r Repository) dependabot() bool { return r.Dependabot != featureOff }

func (r Repository) defaultRef() string {
	if r.DefaultBranch == "" {
		return "refs/heads/main"
	}
	return "refs/heads/" + r.DefaultBranch
}

// SetRepository changes the settings of a repository, all of them. One that does not
// exist is made. What it holds is kept.
//
// Errors: [oci.ErrInvalid] for a malformed name or feature; a directory that cannot be
// written.
func (s *Server) SetRepository(r Repository) error {
	if err := r.check(); err != nil {
		return err
	}
	r.Name = strings.ToLower(r.Name)
	s.store.mu.RLock()
	old, found := s.store.security.repositories[r.Name]
	s.store.mu.RUnlock()
	if found && old == r {
		return nil
	}
	return s.store.secure(securityRow{Repository: &r})
}

// securityRow is one row of what GitHub knows of security: one of its fields.
type securityRow struct {
	Repository  *Repository     `json:"repository,omitempty"`
	Attestation *attestationRow `json:"attestation,omitempty"`
	Withdrawn   []int64         `json:"withdrawn,omitempty"` // attestations that are deleted
	Upload      *uploadRow      `json:"upload,omitempty"`
	Judgement   *judgementRow   `json:"judgement,omitempty"`
	Advisory    json.RawMessage `json:"advisory,omitempty"`
	Alert       *dependabotRow  `json:"alert,omitempty"`
	Graph       *graphRow       `json:"graph,omitempty"`
	Report      *reportRow      `json:"report,omitempty"`
}

// security are the rows as they are looked up. The store's lock guards them.
type security struct {
	repositories map[string]Repository
	attestations []*attestationRow       // in the order of their numbers
	uploads      map[string][]*uploadRow // by repository
	judgements   map[string][]*judgementRow
	advisories   map[string]*advisory  // by GHSA id
	osv          map[string]*osvRecord // by id
	reports      map[reportKey]*reportRow
	dependabot   map[string][]*dependabotRow // by repository
	graphs       map[string][]*graphRow
	lastID       int64 // of everything that has a number
}

func newSecurity() *security {
	return &security{
		repositories: map[string]Repository{}, uploads: map[string][]*uploadRow{}, judgements: map[string][]*judgementRow{},
		advisories: map[string]*advisory{}, osv: map[string]*osvRecord{}, reports: map[reportKey]*reportRow{},
		dependabot: map[string][]*dependabotRow{}, graphs: map[string][]*graphRow{}, lastID: 5_000,
	}
}

// secure puts a row in.
func (s *store) secure(row securityRow) error {
	return s.apply(event{Op: opSecurity, Security: &row})
}

// begin numbers what is new.
func (s *security) begin(row *securityRow, at time.Time) {
	switch {
	case row.Attestation != nil:
		row.Attestation.ID, row.Attestation.Created = s.lastID+1, at
	case row.Upload != nil:
		row.Upload.ID, row.Upload.Created = s.lastID+1, at
	case row.Judgement != nil:
		row.Judgement.At = at
	case row.Graph != nil:
		row.Graph.ID, row.Graph.Created = s.lastID+1, at
	case row.Alert != nil:
		a := row.Alert
		if a.Updated = at; a.Number == 0 {
			a.Number, a.Created = int64(len(s.dependabot[a.Repository]))+1, at
		}
	}
}

// put takes a row in that is new, or was kept.
func (s *security) put(row *securityRow) {
	switch {
	case row.Repository != nil:
		s.repositories[row.Repository.Name] = *row.Repository
	case row.Attestation != nil:
		s.attestations = append(s.attestations, row.Attestation)
		s.lastID = max(s.lastID, row.Attestation.ID)
	case row.Upload != nil:
		u := row.Upload
		s.uploads[u.Repository] = append(s.uploads[u.Repository], u)
		s.lastID = max(s.lastID, u.ID+maxRuns-1)
	case row.Judgement != nil:
		j := row.Judgement
		s.judgements[j.Repository] = append(s.judgements[j.Repository], j)
	case row.Advisory != nil:
		s.putAdvisory(row.Advisory)
	case row.Report != nil:
		s.reports[reportKey{row.Report.Repo, row.Report.Digest}] = row.Report
	case row.Graph != nil:
		g := row.Graph
		s.graphs[g.Repository] = append(s.graphs[g.Repository], g)
		s.lastID = max(s.lastID, g.ID)
	case row.Alert != nil:
		s.putAlert(row.Alert)
	case len(row.Withdrawn) > 0:
		s.attestations = slices.DeleteFunc(slices.Clone(s.attestations), func(a *attestationRow) bool { return slices.Contains(row.Withdrawn, a.ID) })
	}
}

// putAlert adds an alert, or changes the one of its number. Lists that somebody reads are
// never changed in place.
func (s *security) putAlert(a *dependabotRow) {
	list := s.dependabot[a.Repository]
	if i := slices.IndexFunc(list, func(old *dependabotRow) bool { return old.Number == a.Number }); i >= 0 {
		list = slices.Clone(list)
		list[i] = a
	} else {
		list = append(slices.Clip(list), a)
	}
	s.dependabot[a.Repository] = list
}

// rows takes down all of it, such that it is the same when they are put in anew.
func (s *security) rows() (list []securityRow) {
	for _, name := range slices.Sorted(maps.Keys(s.repositories)) {
		r := s.repositories[name]
		list = append(list, securityRow{Repository: &r})
	}
	for _, a := range s.attestations {
		list = append(list, securityRow{Attestation: a})
	}
	for _, name := range slices.Sorted(maps.Keys(s.uploads)) {
		for _, u := range s.uploads[name] {
			list = append(list, securityRow{Upload: u})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.judgements)) {
		for _, j := range s.judgements[name] {
			list = append(list, securityRow{Judgement: j})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.dependabot)) {
		for _, a := range s.dependabot[name] {
			list = append(list, securityRow{Alert: a})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.graphs)) {
		for _, g := range s.graphs[name] {
			list = append(list, securityRow{Graph: g})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.advisories)) {
		list = append(list, securityRow{Advisory: marshal(s.advisories[id].fields)})
	}
	for _, id := range slices.Sorted(maps.Keys(s.osv)) {
		list = append(list, securityRow{Advisory: s.osv[id].raw})
	}
	reports := slices.SortedFunc(maps.Values(s.reports), func(a, b *reportRow) int {
		return cmp.Or(strings.Compare(a.Repo, b.Repo), strings.Compare(a.Digest.String(), b.Digest.String()))
	})
	for _, r := range reports {
		list = append(list, securityRow{Report: r})
	}
	return list
}

// documents are the digests of what the row keeps among the contents.
func (row *securityRow) documents() (list []oci.Digest) {
	if row.Attestation != nil {
		list = append(list, row.Attestation.Bundle)
	}
	if row.Upload != nil {
		list = append(list, row.Upload.Document)
	}
	return list
}

// repository finds one that was set up, or that a package is linked to.
func (s *store) repository(name string) (Repository, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r, ok := s.security.repositories[name]; ok {
		return r, true
	}
	r, found := Repository{Name: name, Private: true}, false
	for _, p := range s.packages {
		if p.repository == name {
			found, r.Private = true, r.Private && p.visibility != Public
		}
	}
	return r, found
}

// ownerRepositories are those of the owner that the caller may do something to.
func (x *exchange) ownerRepositories(p permission) (list []Repository) {
	s, prefix := x.server, strings.ToLower(x.api.owner.Login)+"/"
	s.store.mu.RLock()
	var all []Repository
	for _, r := range s.store.security.repositories {
		if strings.HasPrefix(r.Name, prefix) {
			all = append(all, r)
		}
	}
	s.store.mu.RUnlock()
	slices.SortFunc(all, func(a, b Repository) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range all {
		if s.sees(x.who, r) && s.permits(x.who, r, p) {
			list = append(list, r)
		}
	}
	return list
}

// repositoryByID finds the one that a Link names by number.
func (s *store) repositoryByID(id int64) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name := range s.security.repositories {
		if number(name) == id {
			return name, true
		}
	}
	for _, p := range s.packages {
		if p.repository != "" && number(p.repository) == id {
			return p.repository, true
		}
	}
	return "", false
}

// seedRepository makes a repository that something is put into, if it is not there.
func (s *Server) seedRepository(name string) (string, error) {
	name = strings.ToLower(name)
	if err := (Repository{Name: name}).check(); err != nil {
		return "", err
	}
	if _, ok := s.store.repository(name); ok {
		return name, nil
	}
	return name, s.SetRepository(Repository{Name: name})
}

// keep stores a document among the contents.
func (s *Server) keep(document []byte) (oci.Digest, error) {
	d := digest.FromBytes(document)
	return d, s.contents.put(d, document)
}

// object reads a JSON object into the fields that v has, and checks that it is one.
func object(what string, raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return oci.Invalid("%s: %w", what, err)
	}
	return nil
}
