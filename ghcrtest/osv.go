package ghcrtest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// osvRecord is what is read of a record of OSV, and all that it says.
type osvRecord struct {
	ID        string        `json:"id"`
	Modified  string        `json:"modified"`
	Withdrawn string        `json:"withdrawn"`
	Affected  []osvAffected `json:"affected"`

	raw []byte
}

type osvAffected struct {
	Package  packageName `json:"package"`
	Ranges   []osvRange  `json:"ranges"`
	Versions []string    `json:"versions"`
}

type osvRange struct {
	Type   string              `json:"type"`
	Events []map[string]string `json:"events"`
}

// osvQuery is a question to OSV.
type osvQuery struct {
	Commit  string `json:"commit"`
	Version string `json:"version"`
	Package struct {
		packageName
		PURL string `json:"purl"`
	} `json:"package"`
	Token string `json:"page_token"`

	nothing bool // OSV finds nothing for what is asked
}

// maxQueries is how many one batch may have.
const maxQueries = 1000

// osvEcosystems are those of types of purl.
var osvEcosystems = map[string]string{
	"npm": "npm", "golang": "Go", "pypi": "PyPI", "maven": "Maven", "gem": "RubyGems", "nuget": "NuGet", "cargo": "crates.io", "composer": "Packagist",
	"hex": "Hex", "pub": "Pub", "deb/debian": "Debian", "deb/ubuntu": "Ubuntu", "apk/alpine": "Alpine", "apk/wolfi": "Wolfi", "apk/chainguard": "Chainguard",
}

// readPURL takes from a purl what OSV goes by. Qualifiers it reads in a way of its own: the
// distribution's release does not matter, and with an architecture it finds nothing.
func (q *osvQuery) readPURL() (version string, ok bool) {
	p, ok := parsePURL(q.Package.PURL)
	arch := p.qualifiers.Get("arch")
	q.nothing = arch != "" && arch != "source"
	system := p.kind
	q.Package.Name = p.name()
	if i := strings.LastIndex(p.path, "/"); i >= 0 && osvEcosystems[p.kind+"/"+p.path[:i]] != "" {
		system, q.Package.Name = p.kind+"/"+p.path[:i], p.path[i+1:]
	}
	q.Package.Ecosystem = osvEcosystems[system]
	return p.version, ok
}

// read checks a question, and says what is wrong with it.
func (q *osvQuery) read(qualifiers bool) (wrong string) {
	switch {
	case q.Package.PURL != "" && (q.Package.Name != "" || q.Package.Ecosystem != ""):
		return "name or ecosystem specified in a purl query"
	case q.Package.PURL != "":
		version, ok := q.readPURL()
		if !ok {
			return "Invalid Package URL."
		}
		if version != "" && q.Version != "" {
			return "version specified in params and purl query"
		}
		q.Version += version
		q.nothing = q.nothing && qualifiers
	case q.Commit == "" && (q.Package.Name == "" || q.Package.Ecosystem == ""):
		return "Invalid query."
	}
	return ""
}

// matches tells whether a record is about what is asked.
func (q *osvQuery) matches(o *osvRecord) bool {
	if o.Withdrawn != "" || q.nothing {
		return false
	}
	return slices.ContainsFunc(o.Affected, func(a osvAffected) bool {
		if q.Commit != "" {
			return slices.ContainsFunc(a.Ranges, func(r osvRange) bool {
				return r.Type == "GIT" && slices.ContainsFunc(r.Events, func(e map[string]string) bool { return e["introduced"] == q.Commit })
			})
		}
		system := a.Package.Ecosystem
		if !strings.Contains(q.Package.Ecosystem, ":") {
			system, _, _ = strings.Cut(system, ":") // all releases of a distribution
		}
		return system == q.Package.Ecosystem && a.Package.Name == q.Package.Name && (q.Version == "" || a.has(q.Version))
	})
}

// has tells whether a version is named, or in a range.
func (a *osvAffected) has(version string) bool {
	if slices.Contains(a.Versions, version) {
		return true
	}
	for _, r := range a.Ranges {
		if r.Type == "GIT" {
			continue
		}
		in := false
		for _, e := range r.Events {
			switch {
			case e["introduced"] == "0", e["introduced"] != "" && compareVersions(version, e["introduced"]) >= 0:
				in = true
			case e["fixed"] != "" && compareVersions(version, e["fixed"]) >= 0, e["last_affected"] != "" && compareVersions(version, e["last_affected"]) > 0:
				in = false
			}
		}
		if in {
			return true
		}
	}
	return false
}

// answer finds a page of records, and where the next begins.
func (q *osvQuery) answer(s *Server) (list []*osvRecord, next string, ok bool) {
	s.store.mu.RLock()
	for _, o := range s.store.security.osv {
		if q.matches(o) {
			list = append(list, o)
		}
	}
	s.store.mu.RUnlock()
	slices.SortFunc(list, func(a, b *osvRecord) int { return strings.Compare(a.ID, b.ID) })
	first := 0
	if q.Token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(q.Token)
		if first, _ = strconv.Atoi(string(raw)); err != nil || first <= 0 || first > len(list) {
			return nil, "", false
		}
	}
	list = list[first:]
	if page := s.quirks.OSVPage; page > 0 && len(list) > page {
		list, next = list[:page], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(first+page)))
	}
	return list, next, true
}

// osvRefuse answers in the words of OSV's API, which are those of gRPC.
func (x *exchange) osvRefuse(status, code int, message string) {
	x.answerOSV(status, map[string]any{"code": code, "message": message})
}

func (x *exchange) answerOSV(status int, v any) {
	body := marshal(v)
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if x.w.WriteHeader(status); x.r.Method != http.MethodHead {
		x.w.Write(body)
	}
}

// osvBody reads a question, and answers if it is none.
func (x *exchange) osvBody(v any) bool {
	raw, err := io.ReadAll(io.LimitReader(x.r.Body, maxAdminBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if json.Unmarshal(raw, v) != nil {
		x.osvRefuse(http.StatusBadRequest, 3, "Invalid JSON")
		return false
	}
	return true
}

// osvPage answers one question, as what is listed for each record.
func (x *exchange) osvPage(q osvQuery, show func(*osvRecord) any) (map[string]any, bool) {
	if wrong := q.read(x.server.quirks.OSVQualifiers); wrong != "" {
		x.osvRefuse(http.StatusBadRequest, 3, wrong)
		return nil, false
	}
	list, next, ok := q.answer(x.server)
	if !ok {
		x.osvRefuse(http.StatusBadRequest, 3, "Invalid page token.")
		return nil, false
	}
	page := map[string]any{} // which is all, if there is nothing
	var vulns []any
	for _, o := range list {
		vulns = append(vulns, show(o))
	}
	if len(vulns) > 0 {
		page["vulns"] = vulns
	}
	if next != "" {
		page["next_page_token"] = next
	}
	return page, true
}

func (x *exchange) osvQuery() {
	var q osvQuery
	if !x.osvBody(&q) {
		return
	}
	if page, ok := x.osvPage(q, func(o *osvRecord) any { return json.RawMessage(o.raw) }); ok {
		x.answerOSV(http.StatusOK, page)
	}
}

// osvBatch answers many questions, each with ids alone.
func (x *exchange) osvBatch() {
	var body struct {
		Queries []osvQuery `json:"queries"`
	}
	if !x.osvBody(&body) {
		return
	}
	if len(body.Queries) > maxQueries {
		x.osvRefuse(http.StatusBadRequest, 3, "Too many queries.")
		return
	}
	results := []any{}
	for _, q := range body.Queries {
		page, ok := x.osvPage(q, func(o *osvRecord) any { return map[string]string{"id": o.ID, "modified": o.Modified} })
		if !ok {
			return
		}
		results = append(results, page)
	}
	x.answerOSV(http.StatusOK, map[string]any{"results": results})
}

func (x *exchange) osvRecord() {
	x.server.store.mu.RLock()
	o := x.server.store.security.osv[x.ref]
	x.server.store.mu.RUnlock()
	if o == nil {
		x.osvRefuse(http.StatusNotFound, 5, "Bug not found.")
		return
	}
	x.answerOSV(http.StatusOK, json.RawMessage(o.raw))
}

// routeOSV finds the route of a path of OSV's API.
func (x *exchange) routeOSV(method, path string) {
	x.role = RoleOSV
	x.handle = func() { x.osvRefuse(http.StatusNotFound, 5, "Not Found") }
	id, record := strings.CutPrefix(path, "/v1/vulns/")
	switch {
	case path == "/v1/query" && method == http.MethodPost:
		x.route, x.handle = RouteOSVQuery, x.osvQuery
	case path == "/v1/querybatch" && method == http.MethodPost:
		x.route, x.handle = RouteOSVBatch, x.osvBatch
	case record && id != "" && (method == http.MethodGet || method == http.MethodHead):
		x.route, x.ref, x.handle = RouteOSVRecord, id, x.osvRecord
	}
}
