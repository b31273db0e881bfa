package ghcrtest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

func (x *exchange) listVersions() {
	s := x.server
	state := x.r.URL.Query().Get("state")
	if state != "" && state != "active" && state != "deleted" {
		x.invalidArgument()
		return
	}
	a, status := x.who.account, s.quirks.RESTWorkflowUserVersions
	if a != nil && a.kind() == workflow && x.api.owner.Kind == kindUser && status != http.StatusOK && !s.store.public(x.repo) {
		x.refuseAPI(status, "Resource not accessible by integration")
		return
	}
	page := x.page()
	rows, total := s.store.versionPage(x.repo, state == "deleted", page.first(), page.size)
	x.links(page, total)
	list := []versionJSON{}
	for _, r := range rows {
		list = append(list, x.versionJSON(r))
	}
	x.answerJSON(http.StatusOK, list)
}

// versionID reads the id of the path; one that is no number is answered.
func (x *exchange) versionID() (int64, bool) {
	id, err := strconv.ParseInt(x.ref, 10, 64)
	if err != nil {
		x.refuseAPI(http.StatusBadRequest, "The version_id parameter must be an integer.")
		return 0, false
	}
	return id, true
}

func (x *exchange) getVersion() {
	id, ok := x.versionID()
	if !ok {
		return
	}
	r, ok := x.server.store.versionRow(x.repo, id)
	if !ok {
		x.versionNotFound()
		return
	}
	x.answerJSON(http.StatusOK, x.versionJSON(r))
}

func (x *exchange) deleteVersion() {
	id, ok := x.versionID()
	if !ok {
		return
	}
	switch err := x.server.store.deleteVersion(x.repo, id); {
	case errors.Is(err, errLastTagged):
		x.refuseAPI(http.StatusBadRequest, "You cannot delete the last tagged version of a package. You must delete the package instead.")
	case errors.Is(err, errLastVersion):
		x.refuseAPI(http.StatusBadRequest, "You cannot delete the last version of a package. You must delete the package instead.")
	case errors.Is(err, errManyDownloads):
		x.refuseWith(http.StatusBadRequest, fmt.Sprintf("Publicly visible package versions with more than %d downloads cannot be deleted. Contact GitHub support for further assistance.", x.server.quirks.RESTDownloadLimit),
			restDocs+"/packages/packages#delete-package-version-for-an-organization")
	default:
		x.changed(err, x.versionNotFound)
	}
}

func (x *exchange) restoreVersion() {
	if id, ok := x.versionID(); ok {
		x.changed(x.server.store.restoreVersion(x.repo, id), x.versionNotFound)
	}
}

// versionJSON is a version as the API shows it: not what it is, nor how large.
type versionJSON struct {
	ID             int64  `json:"id"`
	Name           string `json:"name"`
	URL            string `json:"url"`
	PackageHTMLURL string `json:"package_html_url"`
	License        string `json:"license,omitempty"`
	Description    string `json:"description,omitempty"`
	CreatedAt      string `json:"created_at"`
	UpdatedAt      string `json:"updated_at"`
	DeletedAt      string `json:"deleted_at,omitempty"`
	HTMLURL        string `json:"html_url"`
	Metadata       struct {
		PackageType string `json:"package_type"`
		Container   struct {
			Tags []string `json:"tags"`
		} `json:"container"`
	} `json:"metadata"`
}

func (x *exchange) versionJSON(r row) versionJSON {
	id := strconv.FormatInt(r.id, 10)
	path := x.packagePath(x.repo)
	v := versionJSON{
		ID: r.id, Name: r.digest.String(), URL: x.api.base + path + "/versions/" + id, PackageHTMLURL: x.packageHTML(x.repo),
		License: r.labels.License, Description: r.labels.Description,
		CreatedAt: x.createdAt(r.created), UpdatedAt: timestamp(r.updated),
		HTMLURL: "https://" + WebHost + path + "/" + id,
	}
	if !r.deleted.IsZero() {
		v.DeletedAt = timestamp(r.deleted)
	}
	v.Metadata.PackageType = "container"
	v.Metadata.Container.Tags = append([]string{}, r.tags...)
	return v
}
