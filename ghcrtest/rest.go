package ghcrtest

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// operation is one that GitHub's API knows.
type operation struct {
	method   string
	path     string // below that of the owner; {…} is any one segment
	route    string
	role     string // that it takes; none for what is not about packages
	scopes   []string
	verb     string // what it does, as refusals have it
	doc      string // the anchor of its description, up to the form of the owner; with a slash, all of its address
	resource string // whose limit it counts against; empty is "core"
	run      func(*exchange)
}

// Scopes that operations take.
var (
	readScopes    = []string{"read:packages"}
	deleteScopes  = []string{"delete:packages", "read:packages"}
	restoreScopes = []string{"read:packages", "write:packages"}
)

// operations on an owner's packages. There is none that changes a package.
var operations = []operation{
	{"GET", "", RouteOwner, "", nil, "", "", "", (*exchange).getOwner},
	{"GET", "packages", RoutePackages, roleRead, readScopes, "list packages", "list-packages", "", (*exchange).listPackages},
	{"GET", "docker/conflicts", RouteConflicts, roleRead, readScopes, "list packages", "get-list-of-conflicting-packages-during-docker-migration", "", (*exchange).listConflicts},
	{"GET", "packages/{type}/{name}", RoutePackage, roleRead, readScopes, "get a package", "get-a-package", "", (*exchange).getPackage},
	{"DELETE", "packages/{type}/{name}", RoutePackage, roleAdmin, deleteScopes, "delete a package", "delete-a-package", "", (*exchange).deletePackage},
	{"POST", "packages/{type}/{name}/restore", RoutePackageRestore, roleAdmin, restoreScopes, "restore a package", "restore-a-package", "", (*exchange).restorePackage},
	{"GET", "packages/{type}/{name}/versions", RouteVersions, roleRead, readScopes, "get a package's versions", "list-package-versions-for-a-package-owned-by", "", (*exchange).listVersions},
	{"GET", "packages/{type}/{name}/versions/{id}", RouteVersion, roleRead, readScopes, "get a package version", "get-a-package-version", "", (*exchange).getVersion},
	{"DELETE", "packages/{type}/{name}/versions/{id}", RouteVersion, roleAdmin, deleteScopes, "delete a package version", "delete-package-version", "", (*exchange).deleteVersion},
	{"POST", "packages/{type}/{name}/versions/{id}/restore", RouteVersionRestore, roleAdmin, restoreScopes, "restore a package version", "restore-package-version", "", (*exchange).restoreVersion},
}

// call is a request to the API.
type call struct {
	operation
	base       string // of URLs in the answer: scheme, host and prefix
	path       string // escaped
	below      string // what of it follows the owner
	form       string // how the path names the owner: "orgs", "users", "user" or "organizations"; or "repos"
	repository string // of source code, that "repos" names
	owner      Owner
	kind       string // "container", and others that have no packages here
	rejected   bool   // its credential is not one
	quota      *quota
	allowance  *allowance // of the quota, that the request counts against
	crowded    bool       // too many requests at a time
}

const enterprisePrefix = "/api/v3"

// isAPI tells whether a path is one of GitHub's API, where one address has all roles.
func isAPI(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return path == enterprisePrefix || strings.HasPrefix(path, enterprisePrefix+"/") ||
		slices.Contains([]string{"orgs", "users", "user", "organizations", "rate_limit", "repos", "repositories", "advisories"}, first)
}

// routeAPI finds the operation. A name is one segment, its slashes escaped.
func (s *Server) routeAPI(x *exchange, r *http.Request) {
	path := r.URL.EscapedPath()
	x.role, x.handle = RoleAPI, x.serveAPI
	x.api.base = scheme(r) + "://" + r.Host
	if rest, ok := strings.CutPrefix(path, enterprisePrefix); ok {
		path, x.api.base = rest, x.api.base+enterprisePrefix
	}
	x.api.path = path
	x.who, x.api.rejected = s.caller(r)
	x.api.run = (*exchange).noRoute
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	escaped := slices.Clone(segments)
	for i, segment := range segments {
		var err error
		if segments[i], err = url.PathUnescape(segment); err != nil || segment == "" {
			return
		}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if path == "/rate_limit" && method == http.MethodGet {
		x.route, x.api.run = RouteRateLimit, (*exchange).rateLimit
		return
	}
	if segments[0] == "advisories" && len(segments) <= 2 && method == http.MethodGet {
		x.route, x.api.run, x.api.doc = RouteAdvisories, (*exchange).listAdvisories, advisoryDocs+"list-global-security-advisories"
		if len(segments) == 2 {
			x.route, x.ref, x.api.run, x.api.doc = RouteAdvisory, segments[1], (*exchange).getAdvisory, advisoryDocs+"get-a-global-security-advisory"
		}
		x.api.below = strings.TrimPrefix(path, "/")
		return
	}
	rest, ok := s.routeOwner(x, segments)
	if !ok {
		return
	}
	x.api.below = strings.Join(escaped[len(escaped)-len(rest):], "/")
	table := [][]operation{operations, ownerSecurity}
	if x.api.form == "repos" {
		table = [][]operation{repositorySecurity}
	}
	for _, op := range slices.Concat(table...) {
		if op.method == method && op.matches(rest) {
			x.api.operation, x.route = op, op.route
		}
	}
	switch {
	case x.route == RouteUnknown:
		return
	case len(rest) >= 3 && rest[0] == "packages":
		x.api.kind, x.repo = rest[1], strings.ToLower(x.api.owner.Login+"/"+rest[2])
		if len(rest) >= 5 {
			x.ref = rest[4]
		}
	case x.api.form == "repos":
		x.repo, x.ref = x.api.repository, x.api.parameter(rest)
	case x.api.role == "" && len(rest) > 1:
		x.repo, x.ref = strings.ToLower(x.api.owner.Login), x.api.parameter(rest)
	default:
		x.repo = strings.ToLower(x.api.owner.Login)
	}
}

// routeOwner finds whose packages a path is about, and returns what follows.
func (s *Server) routeOwner(x *exchange, segments []string) (rest []string, ok bool) {
	x.api.form = segments[0]
	n := 1
	if len(segments) > 1 {
		n = 2
	}
	id := int64(-1)
	if n == 2 {
		if number, err := strconv.ParseInt(segments[1], 10, 64); err == nil {
			id = number
		}
	}
	switch form := segments[0]; {
	case form == "repos" && len(segments) > 2:
		x.api.owner, x.api.repository = s.owner(segments[1]), strings.ToLower(segments[1]+"/"+segments[2])
		return segments[3:], true
	case form == "repositories" && id >= 0:
		x.api.form = "repos"
		if x.api.repository, ok = s.store.repositoryByID(id); ok {
			login, _, _ := strings.Cut(x.api.repository, "/")
			x.api.owner = s.owner(login)
		}
		return segments[n:], ok
	case (form == "orgs" || form == "users") && n == 2:
		x.api.owner = s.owner(segments[1])
	case (form == "organizations" || form == "user") && id >= 0:
		if x.api.owner, ok = s.ownerByID(id); !ok {
			return nil, false
		}
		if form == "user" {
			x.api.form = "users"
		}
	case form == "user":
		if a := s.self(x.who); a != nil {
			x.api.owner = s.owner(a.Login)
		}
		return segments[1:], true
	default:
		return nil, false
	}
	return segments[n:], true
}

func (op operation) matches(segments []string) bool {
	var pattern []string
	if op.path != "" {
		pattern = strings.Split(op.path, "/")
	}
	return slices.EqualFunc(pattern, segments, func(p, s string) bool { return p == s || p[0] == '{' })
}

// parameter is what stands where the path leaves a segment open.
func (op operation) parameter(segments []string) string {
	for i, p := range strings.Split(op.path, "/") {
		if strings.HasPrefix(p, "{") {
			return segments[i]
		}
	}
	return ""
}

// self is the account that the paths of /user mean.
func (s *Server) self(who identity) *Account {
	if who.account == nil && s.open {
		return &s.accounts[0]
	}
	return who.account
}

// caller reads the Authorization header, and tells whether it is one that GitHub
// rejects.
func (s *Server) caller(r *http.Request) (who identity, rejected bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return identity{}, false
	}
	kind, token, _ := strings.Cut(header, " ")
	if strings.EqualFold(kind, "Basic") {
		decoded, err := base64.StdEncoding.DecodeString(token)
		_, password, ok := strings.Cut(string(decoded), ":")
		if err != nil || !ok {
			return identity{}, true
		}
		token = password
	}
	who.account = s.account(token)
	return who, who.account == nil && !s.open
}

// apiVersions are those that GitHub has, the default first.
var apiVersions = []string{"2022-11-28", "2026-03-10"}

// version is the one that the request is for.
func (c *call) version(r *http.Request) string {
	if v := r.Header.Get("X-GitHub-Api-Version"); v != "" {
		return v
	}
	return apiVersions[0]
}

// serveAPI answers a request to the API.
func (x *exchange) serveAPI() {
	h := x.w.Header()
	version := x.api.version(x.r)
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
	h.Set("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, Accept, X-Requested-With")
	if a := x.who.account; a != nil && a.kind() == classic {
		h.Set("X-OAuth-Scopes", strings.Join(a.scopes(), ", "))
		h.Set("X-Accepted-OAuth-Scopes", strings.Join(x.api.scopes, ", "))
	}
	if !x.charge() {
		return
	}
	switch {
	case x.api.rejected:
		x.refuseAPI(http.StatusUnauthorized, "Bad credentials")
	case !slices.Contains(apiVersions, version):
		x.refuseAPI(http.StatusBadRequest, strconv.Quote(version)+" is not a supported version of the API: "+strings.Join(apiVersions, ", "))
	default:
		h.Set("X-GitHub-Api-Version-Selected", version)
		if x.api.role == "" || x.mayCall() {
			x.api.run(x)
		}
	}
}
