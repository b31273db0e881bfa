package ghcrtest_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

var manifestQuirks = map[string]quirkTest{
	"StrictIndexAccept": {
		set: func(q *ghcrtest.Quirks) { q.StrictIndexAccept = false },
		ghcr: func(w *wire) {
			w.index()
			w.want(w.do("GET", "/v2/acme/app/manifests/multi", ""), 404, "OCI index found, but Accept header does not support OCI indexes")
			w.want(w.do("GET", "/v2/acme/app/manifests/multi", "", "Accept", "*/*"), 404)
			w.want(w.do("GET", "/v2/acme/app/manifests/multi", "", "Accept", oci.MediaTypeOCIIndex+", x/y"), 200)
			w.image()
			w.want(w.do("GET", "/v2/acme/app/manifests/v1", "", "Accept", oci.MediaTypeOCIIndex), 200)
		},
		other: func(w *wire) { w.index(); w.want(w.do("GET", "/v2/acme/app/manifests/multi", ""), 200) },
	},
	"ManifestDelete": {
		set: func(q *ghcrtest.Quirks) { q.ManifestDelete = 202 },
		ghcr: func(w *wire) {
			img := w.image()
			w.want(w.do("DELETE", "/v2/acme/app/manifests/v1", ""), 405, "The operation is unsupported.")
			w.want(w.do("DELETE", "/v2/acme/app/manifests/"+img.Digest().String(), ""), 405)
		},
		other: func(w *wire) {
			img := w.image()
			w.want(w.do("DELETE", "/v2/acme/app/manifests/v1", ""), 202)
			w.want(w.do("GET", "/v2/acme/app/manifests/v1", ""), 404)
			w.want(w.do("DELETE", "/v2/acme/app/manifests/"+img.Digest().String(), ""), 202)
			w.want(w.do("GET", "/v2/acme/app/manifests/"+img.Digest().String(), ""), 404)
		},
	},
	"OmitOCISubject": {
		set: func(q *ghcrtest.Quirks) { q.OmitOCISubject = false },
		ghcr: func(w *wire) {
			if got := w.putReferrer().header.Get("OCI-Subject"); got != "" {
				w.t.Errorf("got %q", got)
			}
		},
		other: func(w *wire) {
			if got := w.putReferrer().header.Get("OCI-Subject"); !strings.HasPrefix(got, "sha256:") {
				w.t.Errorf("got %q", got)
			}
		},
	},
	"Referrers": {
		set: func(q *ghcrtest.Quirks) { q.Referrers = "303" },
		ghcr: func(w *wire) {
			img := w.image()
			w.want(w.do("GET", "/v2/acme/app/referrers/"+img.Digest().String(), ""), 404, "MANIFEST_UNKNOWN")
		},
		other: func(w *wire) {
			img := w.image()
			a := w.do("GET", "/v2/acme/app/referrers/"+img.Digest().String(), "")
			w.want(a, 303)
			if got := a.header.Get("Location"); got != "https://github.com/-/v2/packages/container/package/acme%2Fapp%2Freferrers%2Fsha256" {
				w.t.Errorf("Location %s", got)
			}
			w.want(w.as("").do("GET", a.header.Get("Location"), ""), 404, "<!DOCTYPE html>")
		},
	},
	"CheckIndexChildren": {
		set:  func(q *ghcrtest.Quirks) { q.CheckIndexChildren = true },
		ghcr: func(w *wire) { w.want(w.put("v1", ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64"))), 201) },
		other: func(w *wire) {
			w.want(w.put("v1", ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64"))), 400, "MANIFEST_BLOB_UNKNOWN")
		},
	},
	"IgnoreIfNoneMatch": {
		set: func(q *ghcrtest.Quirks) { q.IgnoreIfNoneMatch = false },
		ghcr: func(w *wire) {
			w.tagged("a")
			w.want(w.putNew("a"), 201)
		},
		other: func(w *wire) {
			w.want(w.putNew("a"), 201)
			w.want(w.putNew("a"), 412)
		},
	},
	"CountDownloads": {
		set: func(q *ghcrtest.Quirks) { q.CountDownloads = false },
		ghcr: func(w *wire) {
			w.image()
			w.do("GET", "/v2/acme/app/manifests/v1", "")
			w.do("HEAD", "/v2/acme/app/manifests/v1", "")
			if got := w.server.Downloads("acme/app", "v1"); got != 1 {
				w.t.Errorf("%d downloads", got)
			}
		},
		other: func(w *wire) {
			w.image()
			w.do("GET", "/v2/acme/app/manifests/v1", "")
			if got := w.server.Downloads("acme/app", "v1"); got != 0 {
				w.t.Errorf("%d downloads", got)
			}
		},
	},
	"MaxManifest": {
		set:  func(q *ghcrtest.Quirks) { q.MaxManifest = 100 },
		ghcr: func(w *wire) { w.want(w.put("v1", ghcrtest.NewIndex()), 201) },
		other: func(w *wire) {
			w.want(w.put("v1", ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64"))), 413, "SIZE_INVALID")
		},
	},
	"TagOrder": {
		set:   func(q *ghcrtest.Quirks) { q.TagOrder = "lexical" },
		ghcr:  func(w *wire) { w.tagged("b", "a", "c"); w.listed("", "b", "a", "c"); w.listed("?last=b&n=1", "a") },
		other: func(w *wire) { w.tagged("b", "a", "c"); w.listed("", "a", "b", "c"); w.listed("?last=aa&n=1", "b") },
	},
	"TagPageDefault": {
		set:   func(q *ghcrtest.Quirks) { q.TagPageDefault = 2 },
		ghcr:  func(w *wire) { w.tagged("a", "b", "c"); w.listed("", "a", "b", "c") },
		other: func(w *wire) { w.tagged("a", "b", "c"); w.listed("", "a", "b") },
	},
	"TagPageMax": {
		set:   func(q *ghcrtest.Quirks) { q.TagPageMax = 2 },
		ghcr:  func(w *wire) { w.tagged("a", "b", "c"); w.listed("?n=10000", "a", "b", "c") },
		other: func(w *wire) { w.tagged("a", "b", "c"); w.listed("?n=10000", "a", "b") },
	},
	"TagLinkN0": {
		set: func(q *ghcrtest.Quirks) { q.TagLinkN0 = false; q.TagPageDefault = 1 },
		ghcr: func(w *wire) {
			var many []string
			for i := range 101 {
				many = append(many, fmt.Sprint("t", i))
			}
			w.tagged(many...)
			if got := w.do("GET", "/v2/acme/app/tags/list", "").header.Get("Link"); got != `</v2/acme/app/tags/list?last=t99&n=0>; rel="next"` {
				w.t.Errorf("got %s", got)
			}
			w.listed("?last=t99&n=0", "t100")
		},
		other: func(w *wire) {
			w.tagged("a", "b")
			if got := w.do("GET", "/v2/acme/app/tags/list", "").header.Get("Link"); !strings.Contains(got, "n=1") {
				w.t.Errorf("got %s", got)
			}
		},
	},
	"TagLinkMissingAtMax": {
		set: func(q *ghcrtest.Quirks) { q.TagLinkMissingAtMax, q.TagPageMax = true, 2 },
		ghcr: func(w *wire) {
			w.tagged("a", "b", "c")
			if got := w.do("GET", "/v2/acme/app/tags/list?n=2", "").header.Get("Link"); got == "" {
				w.t.Error("there is no Link")
			}
		},
		other: func(w *wire) {
			w.tagged("a", "b", "c")
			if got := w.do("GET", "/v2/acme/app/tags/list?n=2", "").header.Get("Link"); got != "" {
				w.t.Errorf("got %s", got)
			}
		},
	},
	"Catalog": {
		set:   func(q *ghcrtest.Quirks) { q.Catalog = true },
		ghcr:  func(w *wire) { w.image(); w.want(w.do("GET", "/v2/_catalog", ""), 401) },
		other: func(w *wire) { w.image(); w.want(w.do("GET", "/v2/_catalog", ""), 200, "acme/app") },
	},
	"UnmatchedRoute": {
		set: func(q *ghcrtest.Quirks) { q.UnmatchedRoute = 404 },
		ghcr: func(w *wire) {
			a := w.do("GET", "/v2/acme/app/nothing", "")
			w.want(a, 303)
			if !strings.HasPrefix(a.header.Get("Location"), "https://github.com/") {
				w.t.Errorf("Location %s", a.header.Get("Location"))
			}
		},
		other: func(w *wire) { w.want(w.do("GET", "/v2/acme/app/nothing", ""), 404) },
	},
	"FirstPushVisibility": {
		set:   func(q *ghcrtest.Quirks) { q.FirstPushVisibility = ghcrtest.Public },
		ghcr:  func(w *wire) { w.image(); w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 403) },
		other: func(w *wire) { w.image(); w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 200) },
	},
	"RegistryReadLimit": {
		set:  func(q *ghcrtest.Quirks) { q.RegistryReadLimit = 1 },
		ghcr: func(w *wire) { w.image(); w.tagged("a"); w.listed("", "v1", "a"); w.listed("", "v1", "a") },
		other: func(w *wire) {
			w.image()
			w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 200)
			a := w.do("GET", "/v2/acme/app/tags/list", "")
			w.want(a, 429, "TOOMANYREQUESTS", "retry-after: ", "allowed: 1/minute")
			if a.header.Get("Retry-After") != "" {
				w.t.Error("GHCR says it in the body alone")
			}
			time.Sleep(time.Minute)
			w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 200)
		},
	},
	"RegistryWriteLimit": {
		set:  func(q *ghcrtest.Quirks) { q.RegistryWriteLimit = 1 },
		ghcr: func(w *wire) { w.session(); w.session() },
		other: func(w *wire) {
			w.session()
			w.want(w.do("POST", "/v2/acme/app/blobs/uploads/", ""), 429, "allowed: 1/minute")
		},
	},
	"LimitOmitAllowed": {
		set:  func(q *ghcrtest.Quirks) { q.LimitOmitAllowed, q.RegistryWriteLimit = true, 1 },
		ghcr: func(w *wire) { w.session() },
		other: func(w *wire) {
			w.session()
			if a := w.do("POST", "/v2/acme/app/blobs/uploads/", ""); strings.Contains(a.body, "allowed") {
				w.t.Errorf("got %s", a.body)
			}
		},
	},
	"LimitRetryAfterHeader": {
		set:  func(q *ghcrtest.Quirks) { q.LimitRetryAfterHeader, q.RegistryWriteLimit = true, 1 },
		ghcr: func(w *wire) { w.session() },
		other: func(w *wire) {
			w.session()
			if a := w.do("POST", "/v2/acme/app/blobs/uploads/", ""); a.header.Get("Retry-After") != "60" {
				w.t.Errorf("got %q", a.header.Get("Retry-After"))
			}
		},
	},
}
