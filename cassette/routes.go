package cassette

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
)

// The roles that hosts play.
const (
	roleRegistry = "registry"
	roleToken    = "token"
	roleCDN      = "cdn"
	roleAPI      = "api"
	roleOther    = "other"
)

const (
	routePing      = "ping"
	routeManifest  = "manifest"
	routeBlob      = "blob"
	routeStart     = "upload-start"
	routeUpload    = "upload"
	routeTags      = "tags"
	routeReferrers = "referrers"
	routeToken     = "token"
	routeSigned    = "signed-blob"
	routeNone      = "other"
)

// route is what a URL is for.
type route struct {
	role, name string
	repo       string // of the API, a package without its owner
	ref        string // tag, digest or upload session
}

// routeOf tells what a request is for from its URL alone, so that a recording and
// its replay agree.
func routeOf(u *url.URL) route {
	p := u.Path
	if isTokenService(u) {
		return route{role: roleToken, name: routeToken}
	}
	if rest, ok := strings.CutPrefix(p, "/v2/"); ok || p == "/v2" {
		return registryRoute(rest)
	}
	// GitHub lists what attests a digest under an address that ends with it.
	if d := oci.Digest(path.Base(p)); strings.Contains(string(d), ":") && d.Validate() == nil && path.Base(path.Dir(p)) != "attestations" {
		return route{role: roleCDN, name: routeSigned, ref: string(d)}
	}
	for _, prefix := range []string{"/api/v3/", "/"} {
		rest, ok := strings.CutPrefix(p, prefix)
		first, _, _ := strings.Cut(rest, "/")
		if ok && (first == "orgs" || first == "users" || first == "user" || first == "rate_limit" || first == "repos") {
			return route{role: roleAPI, name: routeNone, repo: packageIn(u)}
		}
	}
	return route{role: roleOther, name: routeNone}
}

// packageIn returns the name of the package that an address of the Packages API is of.
// The slashes in it are escaped there.
func packageIn(u *url.URL) string {
	_, rest, _ := strings.Cut(u.EscapedPath(), "/packages/container/")
	name, _, _ := strings.Cut(rest, "/")
	name, _ = url.PathUnescape(name)
	return name
}

// isTokenService goes by the names that token services have, and by the scope that
// only they are asked for.
func isTokenService(u *url.URL) bool {
	switch path.Base(u.Path) {
	case "token", "exchange":
		return !strings.Contains(u.Path, "/manifests/")
	}
	return strings.Contains(u.RawQuery, "scope=repository") || strings.Contains(u.RawQuery, "scope=registry")
}

// registryRoute reads a path below /v2/. A repository's name may hold any of the
// words, so the last one counts.
func registryRoute(p string) route {
	r := route{role: roleRegistry, name: routeNone}
	if p == "" {
		r.name = routePing
		return r
	}
	if repo, ok := strings.CutSuffix(p, "/tags/list"); ok {
		r.name, r.repo = routeTags, repo
		return r
	}
	for _, word := range []string{"/blobs/uploads/", "/blobs/upload/"} {
		if i := strings.LastIndex(p+"/", word); i >= 0 {
			r.name, r.repo = routeStart, p[:i]
			if rest := p[min(i+len(word), len(p)):]; rest != "" {
				r.name, r.ref = routeUpload, rest
			}
			return r
		}
	}
	for _, kind := range []struct{ word, name string }{
		{"/manifests/", routeManifest}, {"/blobs/", routeBlob}, {"/referrers/", routeReferrers},
	} {
		if i := strings.LastIndex(p, kind.word); i >= 0 && !strings.Contains(p[i+len(kind.word):], "/") {
			r.name, r.repo, r.ref = kind.name, p[:i], p[i+len(kind.word):]
			return r
		}
	}
	return r
}

// isSafe tells whether a method only reads.
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// dependsOn names what the answer to a request depends on, as touches does for
// what a request changes. Counting the writes to that and no more makes the count
// the same however many other things go on at once.
func dependsOn(r *route, query url.Values) []string {
	_, name, _ := strings.Cut(r.repo, "/")
	switch r.name {
	case routeBlob:
		return []string{"blob " + r.repo + " " + r.ref}
	case routeStart:
		return []string{"blob " + r.repo + " " + query.Get("mount") + query.Get("digest")}
	case routeManifest:
		return []string{"manifest " + r.repo + " " + r.ref, "package " + name}
	case routeTags, routeReferrers:
		return []string{"manifests " + r.repo, "package " + name}
	}
	if r.role == roleAPI {
		return []string{roleAPI}
	}
	return nil
}

// epochs counts the writes that were answered, by what they touch.
type epochs struct {
	mu    sync.Mutex
	count map[string]int
}

func newEpochs() *epochs { return &epochs{count: map[string]int{}} }

func (e *epochs) of(what []string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range what {
		n += e.count[one]
	}
	return n
}

func (e *epochs) add(touched []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, what := range touched {
		e.count[what]++
	}
}

func touches(r *route, method string, query url.Values, status int, body oci.Digest) []string {
	if isSafe(method) || isRefusal(status) {
		return nil
	}
	switch r.name {
	case routeStart:
		if status == http.StatusCreated {
			return []string{"blob " + r.repo + " " + query.Get("mount") + query.Get("digest")}
		}
	case routeUpload:
		if d := query.Get("digest"); d != "" {
			return []string{"blob " + r.repo + " " + d}
		}
	case routeBlob:
		return []string{"blob " + r.repo + " " + r.ref}
	case routeManifest:
		list := []string{"manifest " + r.repo + " " + r.ref, "manifests " + r.repo, roleAPI}
		if body != "" && string(body) != r.ref {
			list = append(list, "manifest "+r.repo+" "+string(body))
		}
		return list
	}
	if r.role == roleAPI {
		// What it deletes or restores, the registry has no more or again.
		return []string{roleAPI, "package " + r.repo}
	}
	return nil
}
