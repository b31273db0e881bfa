package ghcrtest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dependabotRow is an alert of Dependabot: what the API shows, but for what it fills in.
type dependabotRow struct {
	Repository string                     `json:"repository"`
	Number     int64                      `json:"number"`
	Fields     map[string]json.RawMessage `json:"fields"`
	Snapshot   string                     `json:"snapshot,omitempty"` // the job and detector that submitted the package
	Created    time.Time                  `json:"created"`
	Updated    time.Time                  `json:"updated"`
}

// AddDependabotAlert puts an alert into a repository: a JSON object in the shape of
// GitHub's API. Its number, addresses and times are filled in, and its state is "open" if
// it has none. A repository that is not there is made, and is public. Alerts also come from
// packages that are submitted to the dependency graph, as far as an advisory of
// [Server.AddAdvisory] is about them.
//
// Errors: [oci.ErrInvalid] for a malformed name, or what is no object; a directory that
// cannot be written.
func (s *Server) AddDependabotAlert(repository string, alert []byte) error {
	row := &dependabotRow{}
	if err := object("Dependabot alert", alert, &row.Fields); err != nil {
		return err
	}
	var err error
	if row.Repository, err = s.seedRepository(repository); err != nil {
		return err
	}
	return s.store.secure(securityRow{Alert: row})
}

// dependabotAlert is what filters read of an alert.
type dependabotAlert struct {
	State      string `json:"state"`
	Dependency struct {
		Package      packageName `json:"package"`
		Manifest     string      `json:"manifest_path"`
		Scope        string      `json:"scope"`
		Relationship string      `json:"relationship"`
	} `json:"dependency"`
	Advisory struct {
		GHSA           string `json:"ghsa_id"`
		Severity       string `json:"severity"`
		Classification string `json:"classification"`
		EPSS           struct {
			Percentage float64 `json:"percentage"`
		} `json:"epss"`
	} `json:"security_advisory"`
	Vulnerability struct {
		Patched *struct {
			Identifier string `json:"identifier"`
		} `json:"first_patched_version"`
	} `json:"security_vulnerability"`
}

func (row *dependabotRow) read() (a dependabotAlert) {
	json.Unmarshal(marshal(row.Fields), &a) // what is of another type matches no filter
	a.State = cmp.Or(a.State, "open")
	a.Advisory.Classification = cmp.Or(a.Advisory.Classification, "general")
	return a
}

// dependabotFilter reads what alerts are asked for, and answers what makes no sense.
func (x *exchange) dependabotFilter() (matches func(*dependabotRow) bool, ok bool) {
	query := x.r.URL.Query()
	epss, ok := epssFilter(query.Get("epss_percentage"))
	if !ok {
		x.unprocessable("Invalid epss_percentage: " + query.Get("epss_percentage"))
		return nil, false
	}
	for _, state := range strings.Split(query.Get("state"), ",") {
		if !slices.Contains([]string{"", "auto_dismissed", "dismissed", "fixed", "open"}, state) {
			x.unprocessable("Invalid state: " + state)
			return nil, false
		}
	}
	return func(row *dependabotRow) bool {
		a := row.read()
		for name, value := range map[string]string{
			"state": a.State, "severity": a.Advisory.Severity, "ecosystem": a.Dependency.Package.Ecosystem, "package": a.Dependency.Package.Name,
			"manifest": a.Dependency.Manifest, "scope": a.Dependency.Scope, "relationship": a.Dependency.Relationship, "classification": a.Advisory.Classification,
		} {
			if asked := query.Get(name); asked != "" && !slices.Contains(strings.Split(asked, ","), value) {
				return false
			}
		}
		patched := a.Vulnerability.Patched != nil && a.Vulnerability.Patched.Identifier != ""
		return (query.Get("has") != "patch" || patched) && epss(a.Advisory.EPSS.Percentage)
	}, true
}

// epssFilter reads "n", ">n", "<=n" and the like, or "n..m".
func epssFilter(text string) (matches func(float64) bool, ok bool) {
	if text == "" {
		return func(float64) bool { return true }, true
	}
	if from, to, found := strings.Cut(text, ".."); found {
		low, lowErr := strconv.ParseFloat(from, 64)
		high, highErr := strconv.ParseFloat(to, 64)
		return func(p float64) bool { return low <= p && p <= high }, lowErr == nil && highErr == nil
	}
	digits := strings.TrimLeft(text, "<>=")
	n, err := strconv.ParseFloat(digits, 64)
	operator := strings.TrimSuffix(text, digits)
	return func(p float64) bool {
		switch operator {
		case ">":
			return p > n
		case "<":
			return p < n
		case ">=":
			return p >= n
		case "<=":
			return p <= n
		}
		return p == n
	}, err == nil && slices.Contains([]string{"", ">", "<", ">=", "<="}, operator)
}

// dependabot finds the repository of a call, and answers if it may not be made, or alerts
// are off.
func (x *exchange) dependabot() (Repository, bool) {
	r, ok := x.repository(readDependabot)
	if ok && !r.dependabot() {
		x.refuseAPI(http.StatusForbidden, "Dependabot alerts are disabled for this repository.")
		return r, false
	}
	return r, ok
}

func (x *exchange) listDependabot() {
	if r, ok := x.dependabot(); ok {
		x.answerDependabot(false, r)
	}
}

// listOwnerDependabot lists those of all repositories that the caller may read them of. A
// registry keeps those that a package of it is linked to.
func (x *exchange) listOwnerDependabot() {
	if !x.organizationCall() {
		return
	}
	registry := x.r.URL.Query().Get("artifact_registry_url")
	list := slices.DeleteFunc(x.ownerRepositories(readDependabot), func(r Repository) bool {
		return !r.dependabot() || registry != "" && (strings.TrimPrefix(registry, "https://") != RegistryHost || !x.server.store.linksTo(r.Name))
	})
	x.answerDependabot(true, list...)
}

// linksTo tells whether a package is linked to a repository.
func (s *store) linksTo(repository string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.packages {
		if p.repository == repository {
			return true
		}
	}
	return false
}

// answerDependabot answers a page of the alerts of repositories.
func (x *exchange) answerDependabot(named bool, repositories ...Repository) {
	matches, ok := x.dependabotFilter()
	if !ok {
		return
	}
	byName := map[string]Repository{}
	var rows []*dependabotRow
	x.server.store.mu.RLock()
	for _, r := range repositories {
		byName[r.Name] = r
		rows = append(rows, x.server.store.security.dependabot[r.Name]...)
	}
	x.server.store.mu.RUnlock()
	rows = slices.DeleteFunc(rows, func(row *dependabotRow) bool { return !matches(row) })
	query := x.r.URL.Query()
	slices.SortStableFunc(rows, func(a, b *dependabotRow) int {
		order := b.Created.Compare(a.Created)
		switch query.Get("sort") {
		case "updated":
			order = b.Updated.Compare(a.Updated)
		case "epss_percentage":
			order = cmp.Compare(b.read().Advisory.EPSS.Percentage, a.read().Advisory.EPSS.Percentage)
		}
		if order = cmp.Or(order, cmp.Compare(b.Number, a.Number)); query.Get("direction") == "asc" {
			return -order
		}
		return order
	})
	rows, c, ok := cursorPage(x, rows, func(row *dependabotRow) int64 { return number(row.Repository)<<24 | row.Number })
	if !ok {
		return
	}
	list := []map[string]json.RawMessage{}
	for _, row := range rows {
		shown := x.dependabotJSON(row)
		if named {
			shown["repository"] = marshal(x.sourceJSON(byName[row.Repository]))
		}
		list = append(list, shown)
	}
	x.linkCursors(c)
	x.answerJSON(http.StatusOK, list)
}

func (x *exchange) getDependabot() {
	r, ok := x.dependabot()
	if !ok {
		return
	}
	n, ok := x.pathID(x.ref)
	if !ok {
		return
	}
	x.server.store.mu.RLock()
	rows := x.server.store.security.dependabot[r.Name]
	x.server.store.mu.RUnlock()
	if i := slices.IndexFunc(rows, func(row *dependabotRow) bool { return row.Number == n }); i >= 0 {
		x.answerJSON(http.StatusOK, x.dependabotJSON(rows[i]))
		return
	}
	x.refuseAPI(http.StatusNotFound, "No alert found for alert number "+x.ref)
}

func (x *exchange) dependabotJSON(row *dependabotRow) map[string]json.RawMessage {
	n := strconv.FormatInt(row.Number, 10)
	shown := map[string]json.RawMessage{"state": json.RawMessage(`"open"`), "assignees": json.RawMessage("[]")}
	for _, name := range []string{"dismissed_at", "dismissed_by", "dismissed_reason", "dismissed_comment", "fixed_at", "auto_dismissed_at", "dismissal_request"} {
		shown[name] = json.RawMessage("null")
	}
	shown["created_at"], shown["updated_at"] = marshal(timestamp(row.Created)), marshal(timestamp(row.Updated))
	maps.Copy(shown, row.Fields)
	shown["number"] = marshal(row.Number)
	shown["url"] = marshal(x.repositoryURL(row.Repository) + "/dependabot/alerts/" + n)
	shown["html_url"] = marshal("https://" + WebHost + "/" + row.Repository + "/security/dependabot/" + n)
	return shown
}

// alertOf makes what Dependabot says of a package that an advisory is about. The
// advisory has another shape there than in the database.
func (a *advisory) alertOf(v affectedRange, dependency map[string]any) map[string]json.RawMessage {
	said := maps.Clone(a.fields)
	for _, name := range []string{"type", "url", "html_url", "credits"} {
		delete(said, name)
	}
	classification := "general"
	if a.Type == "malware" {
		classification = a.Type
	}
	said["classification"] = marshal(classification)
	var links []string
	json.Unmarshal(a.fields["references"], &links)
	references := []map[string]string{}
	for _, link := range links {
		references = append(references, map[string]string{"url": link})
	}
	said["references"] = marshal(references)
	ranges := []map[string]any{}
	for _, other := range a.Vulnerabilities {
		ranges = append(ranges, other.alertJSON(a.Severity))
	}
	said["vulnerabilities"] = marshal(ranges)
	return map[string]json.RawMessage{
		"dependency": marshal(dependency), "security_advisory": marshal(said), "security_vulnerability": marshal(v.alertJSON(a.Severity)),
	}
}

func (v affectedRange) alertJSON(severity string) map[string]any {
	shown := map[string]any{"package": v.Package, "severity": severity, "vulnerable_version_range": v.Range, "first_patched_version": nil}
	if v.Patched != "" {
		shown["first_patched_version"] = map[string]string{"identifier": v.Patched}
	}
	return shown
}
