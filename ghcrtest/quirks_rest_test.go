package ghcrtest_test

import (
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

const day = 24 * time.Hour

var restQuirks = map[string]quirkTest{
	"RESTNumericLinks": {
		set: func(q *ghcrtest.Quirks) { q.RESTNumericLinks = false },
		ghcr: func(w *wire) {
			w.twoVersions()
			w.linked(w.api("ghp_owner", "GET", versionsPath+"?per_page=1"), "next", "https://api.github.com/organizations/", "/packages/container/app/versions?page=2&per_page=1")
			w.linked(w.api("ghp_owner", "GET", versionsPath+"?per_page=1&page=2"), "first", "page=1")
		},
		other: func(w *wire) {
			w.twoVersions()
			w.linked(w.api("ghp_owner", "GET", versionsPath+"?per_page=1"), "next", "https://api.github.com"+versionsPath+"?page=2&per_page=1")
		},
	},
	"RESTWindow": {
		set: func(q *ghcrtest.Quirks) { q.RESTWindow = 0 },
		ghcr: func(w *wire) {
			w.want(w.api("ghp_owner", "GET", packagesPath+"&per_page=100&page=100"), 200)
			w.want(w.api("ghp_owner", "GET", packagesPath+"&per_page=100&page=101"), 400, "Invalid argument.")
			w.image()
			w.want(w.api("ghp_owner", "GET", versionsPath+"?per_page=100&page=101"), 200) // it is about packages alone
		},
		other: func(w *wire) { w.want(w.api("ghp_owner", "GET", packagesPath+"&per_page=100&page=101"), 200) },
	},
	"RESTUsersForOrgs": {
		set: func(q *ghcrtest.Quirks) { q.RESTUsersForOrgs = false },
		ghcr: func(w *wire) {
			w.image()
			w.want(w.api("ghp_owner", "GET", "/users/acme/packages?package_type=container"), 200, `"name":"app"`)
			w.want(w.api("ghp_owner", "GET", "/orgs/owner/packages?package_type=container"), 404, "Not Found")
		},
		other: func(w *wire) {
			w.image()
			w.want(w.api("ghp_owner", "GET", "/users/acme/packages?package_type=container"), 404, "Not Found")
		},
	},
	"RESTCredentialRules": {
		set: func(q *ghcrtest.Quirks) { q.RESTCredentialRules = false },
		ghcr: func(w *wire) {
			w.image()
			for _, token := range []string{"ghs_ci", "ghs_stranger", "github_pat_fine"} {
				w.want(w.api(token, "GET", packagesPath), 400, "Invalid argument.", "#list-packages-for-an-organization")
			}
			w.want(w.api("github_pat_fine", "GET", packagePath), 404, "Package not found.")
			w.want(w.api("ghs_stranger", "GET", packagePath), 404, "Package not found.")
			w.want(w.api("ghs_ci", "GET", "/user/packages?package_type=container"), 403, "Resource not accessible by integration")
		},
		other: func(w *wire) {
			w.image()
			w.want(w.api("github_pat_fine", "GET", packagesPath), 200, `"name":"app"`)
			w.want(w.api("github_pat_fine", "GET", packagePath), 200)
			w.want(w.api("ghs_ci", "GET", packagesPath), 200)
		},
	},
	"RESTFineGrainedReads": {
		set: func(q *ghcrtest.Quirks) { q.RESTFineGrainedReads = true },
		ghcr: func(w *wire) {
			w.image()
			w.set(ghcrtest.Package{Repository: "acme/source"})
			w.want(w.api("github_pat_fine", "GET", versionsPath), 404)
		},
		other: func(w *wire) {
			w.tagged("v1")
			w.want(w.api("github_pat_fine", "GET", versionsPath), 404)
			w.set(ghcrtest.Package{Repository: "acme/source"})
			w.want(w.api("github_pat_fine", "GET", versionsPath), 200, "v1")
			w.want(w.api("github_pat_fine", "DELETE", packagePath), 404)
			w.want(w.api("github_pat_fine", "GET", packagesPath), 400)
		},
	},
	"RESTWorkflowUserVersions": {
		set: func(q *ghcrtest.Quirks) { q.RESTWorkflowUserVersions = 200 },
		ghcr: func(w *wire) {
			path := w.ownPackage()
			w.want(w.api("ghs_own", "GET", path+"/versions"), 403, "Resource not accessible by integration")
			w.want(w.api("ghs_own", "GET", path), 200)
			w.set(ghcrtest.Package{Name: "owner/app", Visibility: ghcrtest.Public})
			w.want(w.api("ghs_own", "GET", path+"/versions"), 200)
		},
		other: func(w *wire) { w.want(w.api("ghs_own", "GET", w.ownPackage()+"/versions"), 200) },
	},
	"RESTMaskForbidden": {
		set: func(q *ghcrtest.Quirks) { q.RESTMaskForbidden = false },
		ghcr: func(w *wire) {
			w.tagged("v1", "v2")
			path := versionsPath + "/" + w.id("v1")
			w.want(w.api("ghp_member", "GET", path), 200)
			w.want(w.api("ghp_member", "DELETE", path), 404, "Package not found.")
			w.want(w.api("ghp_owner", "GET", path), 200) // by which one knows why
		},
		other: func(w *wire) {
			w.tagged("v1", "v2")
			w.want(w.api("ghp_member", "DELETE", versionsPath+"/"+w.id("v1")), 403)
			w.want(w.api("ghp_stranger", "DELETE", packagePath), 404) // it cannot even see it
		},
	},
	"RESTLastTagged": {
		set: func(q *ghcrtest.Quirks) { q.RESTLastTagged = false },
		ghcr: func(w *wire) {
			index := w.untagged()
			w.tagged("v1")
			w.put("also-v1", ghcrtest.NewIndex())
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v1")), 400, "You cannot delete the last tagged version of a package. You must delete the package instead.", `"status":"400"`)
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id(index)), 204)
			w.add("v2", "linux/arm64")
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v1")), 204)
		},
		other: func(w *wire) {
			w.tagged("v1")
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v1")), 204)
		},
	},
	"RESTDownloadLimit": {
		set: func(q *ghcrtest.Quirks) { q.RESTDownloadLimit = 10 },
		ghcr: func(w *wire) {
			w.tagged("v1")
			w.add("v2", "linux/arm64")
			w.public()
			v1 := versionsPath + "/" + w.id("v1")
			w.downloaded("v1", 5001)
			w.want(w.api("ghp_owner", "DELETE", v1), 400, "more than 5000 downloads", "/rest/packages/packages#delete-package-version-for-an-organization")
			w.want(w.api("ghp_owner", "DELETE", packagePath), 400, "Publicly visible packages with a version with more than 5000 downloads cannot be deleted")
			w.set(ghcrtest.Package{Visibility: ghcrtest.Private})
			w.want(w.api("ghp_owner", "DELETE", v1), 204)
			w.public()
			w.downloaded("v2", 5000)
			w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
		},
		other: func(w *wire) {
			w.tagged("v1", "v2")
			w.public()
			for range 11 {
				w.want(w.do("GET", "/v2/acme/app/manifests/v1", "", "Accept", indexType), 200)
			}
			w.want(w.api("ghp_owner", "DELETE", packagePath), 400, "more than 10 downloads")
		},
	},
	"RESTRestoreWindow": {
		set: func(q *ghcrtest.Quirks) { q.RESTRestoreWindow = time.Hour },
		ghcr: func(w *wire) {
			w.tagged("v1")
			w.add("v2", "linux/arm64")
			v1 := versionsPath + "/" + w.id("v1")
			w.want(w.api("ghp_owner", "DELETE", v1), 204)
			w.server.Advance(30*day - time.Second)
			w.want(w.api("ghp_owner", "GET", versionsPath+"?state=deleted"), 200, `"deleted_at":"2000-01-01T00:00:00Z"`)
			w.want(w.api("ghp_owner", "POST", v1+"/restore"), 204)
			w.want(w.api("ghp_owner", "DELETE", v1), 204)
			w.server.Advance(30 * day)
			w.want(w.api("ghp_owner", "POST", v1+"/restore"), 404, "Package version not found.")
			if a := w.api("ghp_owner", "GET", versionsPath+"?state=deleted"); a.body != "[]" {
				w.t.Errorf("what is lost for good is listed: %s", a.body)
			}
			w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
			w.server.Advance(30 * day)
			w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 404, "Package not found.")
		},
		other: func(w *wire) {
			w.image()
			w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
			time.Sleep(time.Hour)
			w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 404)
		},
	},
	"RESTRestoreConflict": {
		set: func(q *ghcrtest.Quirks) { q.RESTRestoreConflict = 409 },
		ghcr: func(w *wire) {
			w.image()
			w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
			w.image()
			w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 400, "Delete that one first.")
		},
		other: func(w *wire) {
			w.image()
			w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
			w.image()
			w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 409)
		},
	},
	"RESTRestoreTags": {
		set: func(q *ghcrtest.Quirks) { q.RESTRestoreTags = false },
		ghcr: func(w *wire) {
			v1 := w.deletedWithTags("v1", "latest")
			w.add("latest", "linux/s390x") // has got one of its tags since
			w.want(w.api("ghp_owner", "POST", v1+"/restore"), 204)
			w.want(w.api("ghp_owner", "GET", v1), 200, `"tags":["v1"]`)
			w.listed("", "v2", "latest", "v1")
		},
		other: func(w *wire) {
			v1 := w.deletedWithTags("v1")
			w.want(w.api("ghp_owner", "POST", v1+"/restore"), 204)
			w.want(w.api("ghp_owner", "GET", v1), 200, `"tags":[]`)
		},
	},
	"RESTNewIDOnRepush": {
		set: func(q *ghcrtest.Quirks) { q.RESTNewIDOnRepush = false },
		ghcr: func(w *wire) {
			first, second := w.repushed()
			if first == second {
				w.t.Errorf("it is %s again", first)
			}
			w.want(w.api("ghp_owner", "GET", versionsPath+"?state=deleted"), 200, first)
			w.want(w.api("ghp_owner", "POST", versionsPath+"/"+first+"/restore"), 400)
		},
		other: func(w *wire) {
			first, second := w.repushed()
			if first != second {
				w.t.Errorf("it was %s and is %s", first, second)
			}
			if a := w.api("ghp_owner", "GET", versionsPath+"?state=deleted"); a.body != "[]" {
				w.t.Errorf("it is deleted too: %s", a.body)
			}
		},
	},
	"RESTSameTimestamp": {
		set: func(q *ghcrtest.Quirks) { q.RESTSameTimestamp = true },
		ghcr: func(w *wire) {
			if first, second := w.twoVersions(); first.CreatedAt == second.CreatedAt {
				w.t.Errorf("both were made at %s", first.CreatedAt)
			}
		},
		other: func(w *wire) {
			first, second := w.twoVersions()
			if first.CreatedAt != second.CreatedAt || first.ID <= second.ID {
				w.t.Errorf("got %v and %v", first, second)
			}
		},
	},
	"RESTStaleness": {
		set: func(q *ghcrtest.Quirks) { q.RESTStaleness = 2 * time.Second },
		ghcr: func(w *wire) {
			w.tagged("v1")
			w.want(w.api("ghp_owner", "GET", versionsPath), 200, "v1")
			w.want(w.api("ghp_owner", "GET", packagesPath), 200, `"name":"app"`)
		},
		other: func(w *wire) { w.staleness() },
	},
}

// staleness: deleted rows stay listed, new ones and moved tags come late; what is
// asked for by its id is up to date.
func (w *wire) staleness() {
	w.t.Helper()
	w.tagged("v1")
	if a := w.api("ghp_owner", "GET", versionsPath); a.body != "[]" {
		w.t.Errorf("listed at once: %s", a.body)
	}
	if a := w.api("ghp_owner", "GET", packagesPath); a.body != "[]" {
		w.t.Errorf("listed at once: %s", a.body)
	}
	w.want(w.api("ghp_owner", "GET", packagePath), 200, `"version_count":1`)
	time.Sleep(2 * time.Second)
	w.want(w.api("ghp_owner", "GET", packagesPath), 200, `"name":"app"`)
	v1 := w.id("v1")
	w.add("v1", "linux/arm64") // takes the tag
	w.want(w.api("ghp_owner", "GET", versionsPath+"/"+v1), 200, `"tags":[]`)
	if w.id("v1") != v1 {
		w.t.Error("the list shows at once that the tag moved")
	}
	time.Sleep(2 * time.Second)
	if w.id("v1") == v1 {
		w.t.Error("the list never shows that the tag moved")
	}
	w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+v1), 204)
	w.want(w.api("ghp_owner", "GET", versionsPath+"/"+v1), 404)
	w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+v1), 404)
	w.want(w.api("ghp_owner", "GET", versionsPath), 200, v1)
	time.Sleep(2 * time.Second)
	if a := w.api("ghp_owner", "GET", versionsPath); strings.Contains(a.body, v1) {
		w.t.Errorf("it is listed still: %s", a.body)
	}
	w.want(w.api("ghp_owner", "GET", versionsPath+"?state=deleted"), 200, v1)
	w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
	w.want(w.api("ghp_owner", "GET", packagesPath), 200, `"name":"app"`)
	time.Sleep(2 * time.Second)
	if a := w.api("ghp_owner", "GET", packagesPath); a.body != "[]" {
		w.t.Errorf("it is listed still: %s", a.body)
	}
}
