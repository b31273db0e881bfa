package ghcrtest

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// exchange is one request being answered.
type exchange struct {
	server *Server
	w      *responseWriter
	r      *http.Request
	body   *countedReader
	role   string
	route  string
	repo   string
	ref    string // tag, digest or session id
	handle func()
	done   bool
	fault  *Fault        // that is for this request
	delay  time.Duration // of the fault
	place  int           // among all requests, for the log of faults
	noted  bool          // the fault is in the log
	who    identity
	entry  *Request
	api    call // of the Packages API
}

// Roles and routes, as the log and faults name them.
const (
	RoleRegistry = "registry"
	RoleToken    = "token"
	RoleCDN      = "cdn"
	RoleAPI      = "api"
	RoleWeb      = "web"
	RoleOSV      = "osv"

	RoutePing         = "ping"
	RouteManifest     = "manifest"
	RouteBlob         = "blob"
	RouteUploadStart  = "upload-start"
	RouteUploadChunk  = "upload-chunk"
	RouteUploadCommit = "upload-commit"
	RouteUploadStatus = "upload-status"
	RouteUploadCancel = "upload-cancel"
	RouteTags         = "tags"
	RouteReferrers    = "referrers"
	RouteCatalog      = "catalog"
	RouteToken        = "token"
	RouteSigned       = "signed-blob"
	RouteUnknown      = "unknown"

	RoutePackages       = "packages"
	RoutePackage        = "package"
	RoutePackageRestore = "package-restore"
	RouteVersions       = "versions"
	RouteVersion        = "version"
	RouteVersionRestore = "version-restore"
	RouteConflicts      = "conflicts"
	RouteOwner          = "owner"
	RouteRateLimit      = "rate-limit"
)

// Routes of what GitHub knows of security.
const (
	RouteRepository          = "repository"
	RouteAttestations        = "attestations"
	RouteAttestationsBulk    = "attestations-bulk"
	RouteAttestationsSources = "attestations-repositories"
	RouteAttestationUpload   = "attestation-upload"
	RouteAttestationDelete   = "attestation-delete"
	RouteBundle              = "attestation-bundle"
	RouteCodeAlerts          = "code-scanning-alerts"
	RouteCodeAlert           = "code-scanning-alert"
	RouteCodeInstances       = "code-scanning-instances"
	RouteAnalyses            = "code-scanning-analyses"
	RouteAnalysis            = "code-scanning-analysis"
	RouteSARIFUpload         = "sarif-upload"
	RouteSARIFStatus         = "sarif-status"
	RouteDependabotAlerts    = "dependabot-alerts"
	RouteDependabotAlert     = "dependabot-alert"
	RouteDependencySnapshot  = "dependency-snapshot"
	RouteDependencySBOM      = "dependency-sbom"
	RouteVulnerabilities     = "vulnerabilities"
	RouteAdvisories          = "advisories"
	RouteAdvisory            = "advisory"
	RouteOSVQuery            = "osv-query"
	RouteOSVBatch            = "osv-querybatch"
	RouteOSVRecord           = "osv-record"
)

func (s *Server) route(r *http.Request) *exchange {
	path := r.URL.Path
	x := &exchange{role: RoleRegistry, route: RouteUnknown}
	x.handle = x.unknownRoute
	host, _, _ := strings.Cut(r.Host, ":")
	switch {
	case host == CDNHost || strings.HasPrefix(path, storagePrefix):
		x.role, x.route, x.handle = RoleCDN, RouteSigned, x.signedBlob
		path = strings.TrimPrefix(path, storagePrefix)
		if id, ok := strings.CutPrefix(path, attestationPath); ok {
			x.route, x.ref, x.handle = RouteBundle, id, x.signedBundle
		} else {
			x.ref = strings.TrimPrefix(path, blobPath)
		}
		return x
	case host == WebHost || strings.HasPrefix(path, "/-/"):
		x.role, x.handle = RoleWeb, x.web
		return x
	case host == APIHost || host != RegistryHost && isAPI(path):
		s.routeAPI(x, r)
		return x
	case host == OSVHost || host != RegistryHost && strings.HasPrefix(path, "/v1/"):
		x.routeOSV(r.Method, path)
		return x
	case path == "/token":
		x.role, x.route, x.handle = RoleToken, RouteToken, x.token
		return x
	case path == "/v2/" || path == "/v2":
		x.route, x.handle = RoutePing, x.ping
		return x
	case path == "/v2/_catalog":
		x.route, x.handle = RouteCatalog, x.catalog
		return x
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return x
	}
	x.routeRepository(r.Method, rest)
	if x.repo != "" && strings.ToLower(x.repo) != x.repo {
		if s.quirks.LowercaseOnly {
			x.handle = func() { x.nameOK() }
		} else {
			x.repo = strings.ToLower(x.repo)
		}
	}
	return x
}

// routeRepository finds the route of a path below /v2/. A repository's name may
// itself hold any of the words, so the last one counts.
func (x *exchange) routeRepository(method, path string) {
	if repo, ok := strings.CutSuffix(path, "/tags/list"); ok {
		x.repo, x.route, x.handle = repo, RouteTags, x.tags
		return
	}
	for _, session := range []string{"/blobs/uploads/", "/blobs/upload/"} {
		i := strings.LastIndex(path, session)
		if i < 0 {
			continue
		}
		x.repo, x.ref = path[:i], path[i+len(session):]
		switch {
		case x.ref == "" && method == http.MethodPost:
			x.route, x.handle = RouteUploadStart, x.startUpload
		case x.ref == "":
		case method == http.MethodPatch:
			x.route, x.handle = RouteUploadChunk, x.uploadChunk
		case method == http.MethodPut:
			x.route, x.handle = RouteUploadCommit, x.commitUpload
		case method == http.MethodGet:
			x.route, x.handle = RouteUploadStatus, x.uploadStatus
		case method == http.MethodDelete:
			x.route, x.handle = RouteUploadCancel, x.cancelUpload
		}
		return
	}
	if repo, ok := strings.CutSuffix(path, "/blobs/uploads"); ok && method == http.MethodPost {
		x.repo, x.route, x.handle = repo, RouteUploadStart, x.startUpload
		return
	}
	for _, kind := range []struct {
		word, route string
		handle      func()
	}{
		{"/manifests/", RouteManifest, x.manifest},
		{"/blobs/", RouteBlob, x.blob},
		{"/referrers/", RouteReferrers, x.referrers},
	} {
		i := strings.LastIndex(path, kind.word)
		if i < 0 || strings.Contains(path[i+len(kind.word):], "/") {
			continue
		}
		x.repo, x.ref = path[:i], path[i+len(kind.word):]
		x.route, x.handle = kind.route, kind.handle
		return
	}
}

// unknownRoute answers what GHCR does not know. It hands such requests to GitHub's
// web pages.
func (x *exchange) unknownRoute() {
	if x.server.quirks.UnmatchedRoute == http.StatusSeeOther {
		x.seeOther()
		return
	}
	x.fail(http.StatusNotFound, "NOT_FOUND", "page not found")
}

func (x *exchange) seeOther() {
	// GitHub's page for the package, were the rest of the path a part of its name.
	name, _, _ := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/v2/"), ":")
	base := x.server.otherHost(x.r, WebHost)
	x.w.Header().Set("Location", base+"/-/v2/packages/container/package/"+url.PathEscape(name))
	x.w.WriteHeader(http.StatusSeeOther)
}

// web stands for GitHub's web pages, of which a client wants none.
func (x *exchange) web() {
	x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	x.w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(x.w, "<!DOCTYPE html><title>Page not found</title>")
}

// otherHost returns scheme and host of another role. On sockets that is the same
// server under another name of this machine: a client that goes by the host's name
// must see that it is another.
func (s *Server) otherHost(r *http.Request, host string) string {
	name, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if _, pipe := connOf(r.Context()).(*pipeConn); pipe || name == RegistryHost || name == CDNHost || name == APIHost || name == WebHost {
		return "https://" + host
	}
	other := "localhost"
	if name == "localhost" {
		other = "127.0.0.1"
	}
	if port != "" {
		other += ":" + port
	}
	return scheme(r) + "://" + other
}

// scheme is what clients see: over a pipe all is taken to be TLS.
func scheme(r *http.Request) string {
	if _, pipe := connOf(r.Context()).(*pipeConn); pipe || r.TLS != nil {
		return "https"
	}
	return "http"
}
