package ghcrtest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// permission is what a call to security data takes.
type permission struct {
	name   string   // of fine-grained tokens, Apps and workflows
	scopes []string // of classic tokens, each of which does
	write  bool
	open   bool // of a public repository all may read
}

var (
	readAttestations  = permission{name: "attestations", scopes: []string{"repo"}, open: true}
	writeAttestations = permission{name: "attestations", scopes: []string{"repo"}, write: true}
	readAlerts        = permission{name: "security_events", scopes: []string{"security_events", "repo"}}
	writeAlerts       = permission{name: "security_events", scopes: []string{"security_events", "repo"}, write: true}
	readDependabot    = permission{name: "vulnerability_alerts", scopes: []string{"security_events", "repo"}}
	readGraph         = permission{name: "contents", scopes: []string{"repo"}, open: true}
	writeGraph        = permission{name: "contents", scopes: []string{"repo"}, write: true}
	readMetadata      = permission{name: "metadata", scopes: []string{"repo"}, open: true}
)

// repositoryRole is what an account may do to a repository of source code.
func (s *Server) repositoryRole(a *Account, name string) string {
	switch {
	case a.kind() != workflow:
		return s.role(a, name)
	case strings.EqualFold(a.Repository, name):
		return roleWrite
	}
	return ""
}

// sees tells whether the caller knows that the repository is there.
func (s *Server) sees(who identity, r Repository) bool {
	return s.open || !r.Private || who.account != nil && atLeast(s.repositoryRole(who.account, r.Name), roleRead)
}

// permits tells whether the caller may do something to a repository that it sees.
func (s *Server) permits(who identity, r Repository, p permission) bool {
	a := who.account
	switch {
	case s.open || p.open && !r.Private:
		return true
	case a == nil:
		return false
	}
	role := roleRead
	if p.write || !p.open {
		role = roleWrite // alerts are for those who can mend what they are about
	}
	return atLeast(s.repositoryRole(a, r.Name), role) && a.permitted(p, r)
}

// permitted tells whether the account's token is for that.
func (a *Account) permitted(p permission, r Repository) bool {
	if a.kind() == classic {
		return slices.ContainsFunc(p.scopes, a.scoped) || !r.Private && a.scoped("public_repo")
	}
	return len(a.Scopes) == 0 || slices.Contains(a.Scopes, p.name+":write") || !p.write && slices.Contains(a.Scopes, p.name+":read")
}

// repository finds the one that a call is about, and answers if it may not be made.
func (x *exchange) repository(p permission) (Repository, bool) {
	s, a := x.server, x.who.account
	if a != nil && x.forbidden(a) {
		return Repository{}, false
	}
	r, found := s.store.repository(x.repo)
	switch {
	case !found || !s.sees(x.who, r):
		x.noRoute()
	case s.permits(x.who, r, p):
		return r, true
	default:
		x.notPermitted()
	}
	return r, false
}

// notPermitted answers who may not do what it asks to a repository that it sees.
func (x *exchange) notPermitted() {
	a := x.who.account
	switch {
	case a == nil:
		x.refuseAPI(http.StatusUnauthorized, "Requires authentication")
	case x.server.quirks.SecurityForbidden == http.StatusNotFound:
		x.noRoute()
	case a.kind() == workflow || a.kind() == app:
		x.refuseAPI(x.server.quirks.SecurityForbidden, "Resource not accessible by integration")
	case a.kind() == fineGrained:
		x.refuseAPI(x.server.quirks.SecurityForbidden, "Resource not accessible by personal access token")
	default:
		x.refuseAPI(x.server.quirks.SecurityForbidden, "You are not authorized to perform this operation.")
	}
}

// ownerCall checks a call to what all repositories of an owner have, and answers if it
// may not be made.
func (x *exchange) ownerCall() bool {
	organization := x.api.owner.Kind == kindOrganization
	switch a := x.who.account; {
	case a != nil && x.forbidden(a):
	case x.api.form == "orgs" && !organization, x.api.form == "users" && organization, x.api.form != "orgs" && x.api.form != "users" && x.api.form != "organizations":
		x.noRoute()
	default:
		return true
	}
	return false
}

// organizationCall is ownerCall where users have no such thing.
func (x *exchange) organizationCall() bool {
	if x.api.form == "users" {
		x.noRoute()
		return false
	}
	return x.ownerCall()
}

// permittedOf is a filter: whether the caller may do something to a repository.
func (x *exchange) permittedOf(p permission) func(repository string) bool {
	known := map[string]bool{}
	return func(name string) bool {
		allowed, ok := known[name]
		if !ok {
			r, found := x.server.store.repository(name)
			allowed = found && x.server.sees(x.who, r) && x.server.permits(x.who, r, p)
			known[name] = allowed
		}
		return allowed
	}
}

func (x *exchange) unprocessable(message string) {
	x.refuseAPI(http.StatusUnprocessableEntity, message)
}

// cursors are where the pages beside one begin.
type cursors struct{ previous, next string }

// cursorPage is the part of a list that before and after ask for. A cursor holds both the
// row that it is at and its place, so that the rest of the list is found when that row is
// gone. It answers if a cursor is none.
func cursorPage[T any](x *exchange, list []T, id func(T) int64) (part []T, c cursors, ok bool) {
	query := x.r.URL.Query()
	size := x.page().size
	at := func(cursor string, beyond int) (int, bool) {
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
		var key int64
		var place int
		if n, scanErr := fmt.Sscanf(string(raw), "v1:%d:%d", &key, &place); err != nil || scanErr != nil || n != 2 || place < 0 {
			return 0, false
		}
		if i := slices.IndexFunc(list, func(row T) bool { return id(row) == key }); i >= 0 {
			return i + beyond, true
		}
		return min(place, len(list)), true
	}
	first, last := 0, min(size, len(list))
	if after := query.Get("after"); after != "" {
		if first, ok = at(after, 1); !ok {
			x.unprocessable("Invalid cursor")
			return nil, c, false
		}
		last = min(first+size, len(list))
	} else if before := query.Get("before"); before != "" {
		if last, ok = at(before, 0); !ok {
			x.unprocessable("Invalid cursor")
			return nil, c, false
		}
		first = max(last-size, 0)
	}
	cursor := func(i int) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "v1:%d:%d", id(list[i]), i))
	}
	if first > 0 && first < len(list) {
		c.previous = cursor(first)
	}
	if last < len(list) && last > 0 {
		c.next = cursor(last - 1)
	}
	return list[first:last], c, true
}

// linkCursors names the pages beside one.
func (x *exchange) linkCursors(c cursors) {
	var list []string
	for _, to := range []struct{ rel, parameter, cursor string }{{"prev", "before", c.previous}, {"next", "after", c.next}} {
		if to.cursor == "" {
			continue
		}
		query := x.r.URL.Query()
		query.Del("before")
		query.Del("after")
		query.Set(to.parameter, to.cursor)
		list = append(list, "<"+x.api.base+x.listPath()+"?"+query.Encode()+`>; rel="`+to.rel+`"`)
	}
	if len(list) > 0 {
		x.w.Header().Set("Link", strings.Join(list, ", "))
	}
}

// sourceJSON is a repository as the API shows it beside an alert.
func (x *exchange) sourceJSON(r Repository) *repositoryJSON {
	login, name, _ := strings.Cut(r.Name, "/")
	return &repositoryJSON{
		ID: number(r.Name), NodeID: nodeID("R", number(r.Name)), Name: name, FullName: r.Name, Private: r.Private,
		Owner: x.ownerJSON(x.server.owner(login)), Fork: r.Fork,
		HTMLURL: "https://" + WebHost + "/" + r.Name, URL: x.repositoryURL(r.Name),
	}
}

func (x *exchange) repositoryURL(name string) string {
	owner, name, _ := strings.Cut(name, "/")
	return x.api.base + "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)
}

// getRepository answers what a repository is.
func (x *exchange) getRepository() {
	r, ok := x.repository(readMetadata)
	if !ok {
		return
	}
	x.answerJSON(http.StatusOK, struct {
		*repositoryJSON
		DefaultBranch string `json:"default_branch"`
		Visibility    string `json:"visibility"`
	}{x.sourceJSON(r), cmp.Or(r.DefaultBranch, "main"), map[bool]string{true: "private", false: "public"}[r.Private]})
}

// pathID reads the number at a place of the path, and answers if it is none.
func (x *exchange) pathID(text string) (int64, bool) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		x.noRoute()
	}
	return id, err == nil
}
