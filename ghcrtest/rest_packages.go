package ghcrtest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// packageTypes are the kinds of packages that GitHub keeps. Here are containers
// alone.
var packageTypes = []string{"npm", "maven", "rubygems", "docker", "nuget", "container"}

func (x *exchange) listPackages() {
	q := x.server.quirks
	query := x.r.URL.Query()
	visibility := Visibility(query.Get("visibility"))
	page := x.page()
	if !slices.Contains(packageTypes, query.Get("package_type")) ||
		!slices.Contains([]Visibility{"", Private, Public, Internal}, visibility) ||
		q.RESTWindow > 0 && page.number*page.size > q.RESTWindow {
		x.invalidArgument()
		return
	}
	var rows []packageRow
	if query.Get("package_type") == "container" {
		rows = x.server.store.packagesOf(strings.ToLower(x.api.owner.Login))
	}
	rows = slices.DeleteFunc(rows, func(p packageRow) bool {
		return visibility != "" && p.visibility != visibility || !x.server.reads(x.who, p)
	})
	x.links(page, len(rows))
	first := min(page.first(), len(rows))
	list := []packageJSON{}
	for _, p := range rows[first:min(first+page.size, len(rows))] {
		list = append(list, x.packageJSON(p))
	}
	x.answerJSON(http.StatusOK, list)
}

// listConflicts lists what could not be moved from GitHub's older registry: nothing.
func (x *exchange) listConflicts() { x.answerJSON(http.StatusOK, []packageJSON{}) }

func (x *exchange) getPackage() {
	p, ok := x.server.store.packageRow(x.repo)
	if !ok {
		x.packageNotFound()
		return
	}
	x.answerJSON(http.StatusOK, x.packageJSON(p))
}

func (x *exchange) deletePackage() {
	switch err := x.server.store.deletePackage(x.repo); {
	case errors.Is(err, errManyDownloads):
		x.refuseAPI(http.StatusBadRequest, fmt.Sprintf("Publicly visible packages with a version with more than %d downloads cannot be deleted. Contact GitHub support for further assistance.", x.server.quirks.RESTDownloadLimit))
	default:
		x.changed(err, x.packageNotFound)
	}
}

func (x *exchange) restorePackage() {
	x.changed(x.server.store.restorePackage(x.repo), x.packageNotFound)
}

// changed answers a deletion or a restore.
func (x *exchange) changed(err error, notFound func()) {
	switch {
	case err == nil:
		x.w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, errNotThere):
		notFound()
	case errors.Is(err, errNameInUse):
		x.refuseAPI(x.server.quirks.RESTRestoreConflict, "The name is used by another package or version. Delete that one first.")
	default:
		x.internalAPI(err)
	}
}

// packageJSON is a package as the API shows it.
type packageJSON struct {
	ID           int64           `json:"id"`
	Name         string          `json:"name"`
	PackageType  string          `json:"package_type"`
	Owner        ownerJSON       `json:"owner"`
	VersionCount int             `json:"version_count"`
	Visibility   Visibility      `json:"visibility"`
	URL          string          `json:"url"`
	CreatedAt    string          `json:"created_at"`
	UpdatedAt    string          `json:"updated_at"`
	Repository   *repositoryJSON `json:"repository,omitempty"`
	HTMLURL      string          `json:"html_url"`
}

func (x *exchange) packageJSON(p packageRow) packageJSON {
	_, name, _ := strings.Cut(p.name, "/")
	return packageJSON{
		ID: p.id, Name: name, PackageType: "container", Owner: x.ownerJSON(x.api.owner), VersionCount: p.versions,
		Visibility: p.visibility, URL: x.api.base + x.packagePath(p.name), CreatedAt: x.createdAt(p.created), UpdatedAt: timestamp(p.updated),
		Repository: x.repositoryJSON(p), HTMLURL: x.packageHTML(p.name),
	}
}

// packagePath is a package's in the API. Its name is one segment.
func (x *exchange) packagePath(repo string) string {
	_, name, _ := strings.Cut(repo, "/")
	return x.ownerPath() + "/packages/container/" + url.PathEscape(name)
}

func (x *exchange) packageHTML(repo string) string {
	_, name, _ := strings.Cut(repo, "/")
	return "https://" + WebHost + x.ownerPath() + "/packages/container/package/" + url.PathEscape(name)
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (x *exchange) createdAt(t time.Time) string {
	if x.server.quirks.RESTSameTimestamp {
		t = t.Truncate(time.Minute)
	}
	return timestamp(t)
}

// repositoryJSON is the repository that a package is linked to, if it is.
type repositoryJSON struct {
	ID       int64     `json:"id"`
	NodeID   string    `json:"node_id"`
	Name     string    `json:"name"`
	FullName string    `json:"full_name"`
	Private  bool      `json:"private"`
	Owner    ownerJSON `json:"owner"`
	HTMLURL  string    `json:"html_url"`
	Fork     bool      `json:"fork"`
	URL      string    `json:"url"`
}

func (x *exchange) repositoryJSON(p packageRow) *repositoryJSON {
	if p.repository == "" {
		return nil
	}
	login, name, _ := strings.Cut(p.repository, "/")
	return &repositoryJSON{
		ID: number(p.repository), NodeID: nodeID("R", number(p.repository)), Name: name, FullName: p.repository, Private: p.visibility != Public,
		Owner:   x.ownerJSON(x.server.owner(login)),
		HTMLURL: "https://" + WebHost + "/" + p.repository, URL: x.api.base + "/repos/" + p.repository,
	}
}
