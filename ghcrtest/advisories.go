package ghcrtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// advisory is what is read of an advisory of GitHub, and all that it says.
type advisory struct {
	GHSA            string          `json:"ghsa_id"`
	CVE             string          `json:"cve_id"`
	Type            string          `json:"type"`
	Severity        string          `json:"severity"`
	Published       string          `json:"published_at"`
	Updated         string          `json:"updated_at"`
	Withdrawn       string          `json:"withdrawn_at"`
	Vulnerabilities []affectedRange `json:"vulnerabilities"`
	CWEs            []struct {
		ID string `json:"cwe_id"`
	} `json:"cwes"`

	fields map[string]json.RawMessage
}

// affectedRange are the versions of a package that an advisory is about.
type affectedRange struct {
	Package packageName `json:"package"`
	Range   string      `json:"vulnerable_version_range"`
	Patched string      `json:"first_patched_version"`
}

// packageName is a package as advisories name it.
type packageName struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"name"`
}

// AddAdvisory puts an advisory into a database: a JSON object in the shape of GitHub's API
// into that of GET /advisories, one in that of OSV into that of api.osv.dev. Fields that
// GitHub fills in itself may be left out. One with the same id is replaced.
//
// Errors: [oci.ErrInvalid] for what is neither; a directory that cannot be written.
func (s *Server) AddAdvisory(record []byte) error {
	if _, _, err := readAdvisory(record); err != nil {
		return err
	}
	return s.store.secure(securityRow{Advisory: compact(record)})
}

// readAdvisory reads one of the two shapes.
func readAdvisory(record []byte) (*advisory, *osvRecord, error) {
	a := &advisory{}
	if err := json.Unmarshal(record, a); err != nil {
		return nil, nil, oci.Invalid("advisory: %w", err)
	}
	if a.GHSA != "" {
		a.Type = cmp.Or(a.Type, "reviewed")
		return a, nil, object("advisory "+a.GHSA, record, &a.fields)
	}
	o := &osvRecord{raw: record}
	if err := object("advisory", record, o); err != nil {
		return nil, nil, err
	}
	if o.ID == "" {
		return nil, nil, oci.Invalid("advisory: it has neither a ghsa_id, as GitHub's have, nor an id, as OSV's have")
	}
	return nil, o, nil
}

func (s *security) putAdvisory(record []byte) {
	a, o, err := readAdvisory(record)
	switch {
	case err != nil:
	case a != nil:
		s.advisories[a.GHSA] = a
	default:
		s.osv[o.ID] = o
	}
}

// affects tells whether it is about a package, or one version of it: "lodash" or
// "lodash@4.17.20".
func (a *advisory) affects(spec, ecosystem string) bool {
	name, version := spec, ""
	if i := strings.LastIndex(spec, "@"); i > 0 {
		name, version = spec[:i], spec[i+1:]
	}
	for _, v := range a.Vulnerabilities {
		if v.Package.Name == name && (ecosystem == "" || v.Package.Ecosystem == ecosystem) && (version == "" || inRange(version, v.Range)) {
			return true
		}
	}
	return false
}

// inRange reads GitHub's ranges, such as ">= 1.0, < 2.3.4".
func inRange(version, text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		operator, bound, _ := strings.Cut(strings.TrimSpace(part), " ")
		order := compareVersions(version, strings.TrimSpace(bound))
		switch operator {
		case "=":
			if order != 0 {
				return false
			}
		case "<":
			if order >= 0 {
				return false
			}
		case "<=":
			if order > 0 {
				return false
			}
		case ">":
			if order <= 0 {
				return false
			}
		case ">=":
			if order < 0 {
				return false
			}
		}
	}
	return true
}

// compareVersions goes by the order of semantic versions, of any number of fields. A
// database whose packages have another order names its versions one by one.
func compareVersions(a, b string) int {
	split := func(v string) (numbers, pre []string) {
		v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
		core, rest, found := strings.Cut(v, "-")
		if found {
			pre = strings.Split(rest, ".")
		}
		return strings.Split(core, "."), pre
	}
	aNumbers, aPre := split(a)
	bNumbers, bPre := split(b)
	for i := range max(len(aNumbers), len(bNumbers)) {
		if order := compareFields(field(aNumbers, i, "0"), field(bNumbers, i, "0")); order != 0 {
			return order
		}
	}
	if len(aPre) == 0 || len(bPre) == 0 {
		return cmp.Compare(len(bPre), len(aPre)) // a version is after what leads up to it
	}
	return slices.CompareFunc(aPre, bPre, compareFields)
}

func field(list []string, i int, none string) string {
	if i < len(list) {
		return list[i]
	}
	return none
}

func compareFields(a, b string) int {
	x, xErr := strconv.Atoi(a)
	y, yErr := strconv.Atoi(b)
	switch {
	case xErr == nil && yErr == nil:
		return cmp.Compare(x, y)
	case xErr == nil:
		return -1
	case yErr == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// Limits of GET /advisories.
const (
	maxAffects = 1000
	maxQuery   = 8 << 10 // of any request
)

var ecosystems = []string{"", "rubygems", "npm", "pip", "maven", "nuget", "composer", "go", "rust", "erlang", "actions", "pub", "other", "swift"}

func (x *exchange) listAdvisories() {
	query := x.r.URL.Query()
	list := func(name string) (values []string) {
		for _, value := range append(query[name], query[name+"[]"]...) {
			values = append(values, strings.Split(value, ",")...)
		}
		return values
	}
	affects, cwes := list("affects"), list("cwes")
	kind, ecosystem, severity := query.Get("type"), query.Get("ecosystem"), query.Get("severity")
	switch {
	case len(x.r.URL.RawQuery) > maxQuery:
		x.refuseAPI(http.StatusRequestURITooLong, "URI Too Long")
		return
	case len(affects) > maxAffects:
		x.unprocessable("Validation Failed: affects has more than 1000 packages")
		return
	case !slices.Contains(ecosystems, ecosystem):
		x.unprocessable("Validation Failed: " + ecosystem + " is not an ecosystem")
		return
	case !slices.Contains([]string{"", "reviewed", "malware", "unreviewed"}, kind), !slices.Contains([]string{"", "unknown", "low", "medium", "high", "critical"}, severity):
		x.unprocessable("Validation Failed")
		return
	}
	is := func(name, value string) bool {
		return query.Get(name) == "" || strings.EqualFold(query.Get(name), value)
	}
	var found []*advisory
	x.server.store.mu.RLock()
	for _, a := range x.server.store.security.advisories {
		asked := kind
		if asked == "" && query.Get("ghsa_id") == "" {
			asked = "reviewed"
		}
		withdrawn := query.Get("is_withdrawn")
		if is("ghsa_id", a.GHSA) && is("cve_id", a.CVE) && is("severity", a.Severity) && (asked == "" || a.Type == asked) &&
			(withdrawn == "" || withdrawn == strconv.FormatBool(a.Withdrawn != "")) &&
			(ecosystem == "" || slices.ContainsFunc(a.Vulnerabilities, func(v affectedRange) bool { return v.Package.Ecosystem == ecosystem })) &&
			(len(affects) == 0 || slices.ContainsFunc(affects, func(spec string) bool { return a.affects(spec, ecosystem) })) &&
			(len(cwes) == 0 || slices.ContainsFunc(cwes, a.weak)) {
			found = append(found, a)
		}
	}
	x.server.store.mu.RUnlock()
	x.sortAdvisories(found)
	found, c, ok := cursorPage(x, found, func(a *advisory) int64 { return number(a.GHSA) })
	if !ok {
		return
	}
	shown := []map[string]json.RawMessage{}
	for _, a := range found {
		shown = append(shown, x.advisoryJSON(a))
	}
	x.linkCursors(c)
	x.answerJSON(http.StatusOK, shown)
}

// weak tells whether it has a weakness: "CWE-79", or "79".
func (a *advisory) weak(cwe string) bool {
	for _, c := range a.CWEs {
		if c.ID == cwe || c.ID == "CWE-"+cwe {
			return true
		}
	}
	return false
}

func (x *exchange) sortAdvisories(list []*advisory) {
	query := x.r.URL.Query()
	slices.SortFunc(list, func(a, b *advisory) int {
		order := strings.Compare(b.Published, a.Published)
		if query.Get("sort") == "updated" {
			order = strings.Compare(b.Updated, a.Updated)
		}
		if order = cmp.Or(order, strings.Compare(a.GHSA, b.GHSA)); query.Get("direction") == "asc" {
			return -order
		}
		return order
	})
}

func (x *exchange) getAdvisory() {
	x.server.store.mu.RLock()
	a := x.server.store.security.advisories[x.ref]
	x.server.store.mu.RUnlock()
	if a == nil {
		x.noRoute()
		return
	}
	x.answerJSON(http.StatusOK, x.advisoryJSON(a))
}

// advisoryDefaults are the fields that every advisory has.
var advisoryDefaults = map[string]string{
	"cve_id": "null", "repository_advisory_url": "null", "summary": `""`, "description": "null", "severity": `"unknown"`, "source_code_location": `""`,
	"identifiers": "[]", "references": "[]", "published_at": `"2026-01-01T00:00:00Z"`, "updated_at": `"2026-01-01T00:00:00Z"`, "github_reviewed_at": "null",
	"nvd_published_at": "null", "withdrawn_at": "null", "vulnerabilities": "[]", "cvss": `{"vector_string":null,"score":null}`,
	"cvss_severities": `{"cvss_v3":{"vector_string":null,"score":0},"cvss_v4":{"vector_string":null,"score":0}}`, "cwes": "[]", "credits": "[]",
}

func (x *exchange) advisoryJSON(a *advisory) map[string]json.RawMessage {
	shown := map[string]json.RawMessage{}
	for name, value := range advisoryDefaults {
		shown[name] = json.RawMessage(value)
	}
	for name, value := range a.fields {
		shown[name] = value
	}
	shown["type"] = marshal(a.Type)
	shown["url"] = marshal(x.api.base + "/advisories/" + url.PathEscape(a.GHSA))
	shown["html_url"] = marshal("https://" + WebHost + "/advisories/" + url.PathEscape(a.GHSA))
	if x.api.version(x.r) != apiVersions[0] {
		delete(shown, "cvss") // cvss_severities has it
	}
	return shown
}
