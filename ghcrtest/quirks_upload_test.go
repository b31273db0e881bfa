package ghcrtest_test

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

var uploadQuirks = map[string]quirkTest{
	"SingularUploadPath": {
		set: func(q *ghcrtest.Quirks) { q.SingularUploadPath = false },
		ghcr: func(w *wire) {
			if l := w.session(); !strings.HasPrefix(l, "/v2/acme/app/blobs/upload/") {
				w.t.Errorf("got %s", l)
			}
		},
		other: func(w *wire) {
			if l := w.session(); !strings.HasPrefix(l, "/v2/acme/app/blobs/uploads/") {
				w.t.Errorf("got %s", l)
			}
		},
	},
	"ChunkCap": {
		set: func(q *ghcrtest.Quirks) { q.ChunkCap = 0 },
		ghcr: func(w *wire) {
			w.want(w.chunk(w.session(), 4<<20), 202)
			w.want(w.chunk(w.session(), 4<<20+1), 416, "REQUESTED_RANGE_NOT_SATISFIABLE", "limit of 4.00MiB")
		},
		other: func(w *wire) { w.want(w.chunk(w.session(), 4<<20+1), 202) },
	},
	"ChunkCapTrigger": {
		set: func(q *ghcrtest.Quirks) { q.ChunkCapTrigger = "length" },
		ghcr: func(w *wire) {
			w.want(w.do("PATCH", w.session(), strings.Repeat("x", 4<<20+1)), 202)
		},
		other: func(w *wire) { w.want(w.do("PATCH", w.session(), strings.Repeat("x", 4<<20+1)), 416) },
	},
	"UploadStatus": {
		set: func(q *ghcrtest.Quirks) { q.UploadStatus = 404 },
		ghcr: func(w *wire) {
			l := w.session()
			w.want(w.chunk(l, 10), 202)
			a := w.do("GET", l, "")
			w.want(a, 204)
			if a.header.Get("Range") != "0-9" {
				w.t.Errorf("Range %q", a.header.Get("Range"))
			}
		},
		other: func(w *wire) { w.want(w.do("GET", w.session(), ""), 404) },
	},
	"UploadDelete": {
		set:   func(q *ghcrtest.Quirks) { q.UploadDelete = 204 },
		ghcr:  func(w *wire) { w.want(w.do("DELETE", w.session(), ""), 405, "UNSUPPORTED") },
		other: func(w *wire) { l := w.session(); w.want(w.do("DELETE", l, ""), 204); w.want(w.do("GET", l, ""), 404) },
	},
	"UploadUnknownCode": {
		set:   func(q *ghcrtest.Quirks) { q.UploadUnknownCode = "BLOB_UPLOAD_INVALID" },
		ghcr:  func(w *wire) { w.want(w.do("GET", "/v2/acme/app/blobs/upload/none", ""), 404, "BLOB_UPLOAD_UNKNOWN") },
		other: func(w *wire) { w.want(w.do("GET", "/v2/acme/app/blobs/upload/none", ""), 404, "BLOB_UPLOAD_INVALID") },
	},
	"CommitDelay": {
		set:  func(q *ghcrtest.Quirks) { q.CommitDelay = 10 * time.Second },
		ghcr: func(w *wire) { w.took(0, func() { w.want(w.upload("a"), 201) }) },
		other: func(w *wire) {
			l := w.session()
			w.took(10*time.Second, func() { w.want(w.commit(l, "a"), 201) })
			w.want(w.commit(l, "a"), 404, "BLOB_UPLOAD_UNKNOWN") // GHCR knows the session no more
		},
	},
	"CommitLossRate": {
		set:  func(q *ghcrtest.Quirks) { q.CommitLossRate = 1 },
		ghcr: func(w *wire) { w.want(w.upload("a"), 201) },
		other: func(w *wire) {
			req, _ := http.NewRequest("PUT", "https://ghcr.io"+w.session()+"?digest="+digest.FromString("a").String(), strings.NewReader("a"))
			req.Header.Set("Authorization", "Bearer "+w.bearer)
			if _, err := w.server.Transport().RoundTrip(req); err == nil {
				w.t.Error("the commit was answered")
			}
			w.want(w.do("HEAD", "/v2/acme/app/blobs/"+digest.FromString("a").String(), ""), 404)
		},
	},
	"BlobDelete": {
		set:   func(q *ghcrtest.Quirks) { q.BlobDelete = 202 },
		ghcr:  func(w *wire) { w.want(w.do("DELETE", w.layer(), ""), 405, "UNSUPPORTED") },
		other: func(w *wire) { l := w.layer(); w.want(w.do("DELETE", l, ""), 202); w.want(w.do("HEAD", l, ""), 404) },
	},
	"EmptyBlob": {
		set: func(q *ghcrtest.Quirks) { q.EmptyBlob = "normal" },
		ghcr: func(w *wire) {
			w.want(w.do("HEAD", "/v2/acme/app/blobs/"+digest.FromString("").String(), ""), 200)
			w.want(w.upload(""), 404)
			w.want(w.do("GET", "/v2/acme/app/blobs/"+digest.FromString("").String(), ""), 404)
		},
		other: func(w *wire) { w.want(w.upload(""), 201) },
	},
	"UnreferencedBlobs": {
		set: func(q *ghcrtest.Quirks) { q.UnreferencedBlobs = false },
		ghcr: func(w *wire) {
			w.want(w.upload("a"), 201)
			w.want(w.do("GET", "/v2/acme/app/blobs/"+digest.FromString("a").String(), ""), 307)
		},
		other: func(w *wire) {
			w.want(w.upload("a"), 201)
			w.want(w.do("GET", "/v2/acme/app/blobs/"+digest.FromString("a").String(), ""), 404)
			w.want(w.do("GET", w.layer(), ""), 307)
		},
	},
	"MountSelf": {
		set:  func(q *ghcrtest.Quirks) { q.MountSelf = false },
		ghcr: func(w *wire) { w.want(w.mount("acme/app", "acme/app"), 201) },
		other: func(w *wire) {
			w.want(w.mount("acme/app", "acme/app"), 202)
			w.want(w.mount("acme/app", "acme/two"), 201)
		},
	},
	"MountAnonymous": {
		set: func(q *ghcrtest.Quirks) { q.MountAnonymous = true },
		ghcr: func(w *wire) {
			w.want(w.mount("", "acme/two"), 202)
		},
		other: func(w *wire) {
			w.want(w.mount("", "acme/two"), 201)
			w.want(w.as(encoded("ghp_stranger")).mount("", "elsewhere/x"), 202) // it may not read acme/app
		},
	},
	"MountInvisible": {
		set: func(q *ghcrtest.Quirks) { q.MountInvisible = 403 },
		ghcr: func(w *wire) {
			w.want(w.as(encoded("ghp_stranger")).mount("acme/app", "elsewhere/x"), 202)
		},
		other: func(w *wire) { w.want(w.as(encoded("ghp_stranger")).mount("acme/app", "elsewhere/x"), 403) },
	},
	"BlobRedirect": {
		set: func(q *ghcrtest.Quirks) { q.BlobRedirect = false },
		ghcr: func(w *wire) {
			a := w.do("GET", w.layer(), "")
			w.want(a, 307)
			if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Host != ghcrtest.CDNHost {
				w.t.Errorf("Location %s", a.header.Get("Location"))
			}
			w.want(w.as("").do("GET", a.header.Get("Location"), "", "Range", "bytes=10-19"), 206)
		},
		other: func(w *wire) { w.want(w.do("GET", w.layer(), ""), 200) },
	},
	"CDNRejectsAuth": {
		set:   func(q *ghcrtest.Quirks) { q.CDNRejectsAuth = 0 },
		ghcr:  func(w *wire) { w.want(w.do("GET", w.signed(), ""), 400, "<Code>") },
		other: func(w *wire) { w.want(w.do("GET", w.signed(), ""), 200) },
	},
	"CDNHead": {
		set:   func(q *ghcrtest.Quirks) { q.CDNHead = 200 },
		ghcr:  func(w *wire) { w.want(w.as("").do("HEAD", w.signed(), ""), 403) },
		other: func(w *wire) { w.want(w.as("").do("HEAD", w.signed(), ""), 200) },
	},
	"SignedURLTTL": {
		set: func(q *ghcrtest.Quirks) { q.SignedURLTTL = time.Hour },
		ghcr: func(w *wire) {
			u := w.signed()
			time.Sleep(5 * time.Minute)
			w.want(w.as("").do("GET", u, ""), 403, "AuthenticationFailed")
		},
		other: func(w *wire) { u := w.signed(); time.Sleep(5 * time.Minute); w.want(w.as("").do("GET", u, ""), 200) },
	},
	"OmitAcceptRanges": {
		set: func(q *ghcrtest.Quirks) { q.OmitAcceptRanges = false },
		ghcr: func(w *wire) {
			if got := w.as("").do("GET", w.signed(), "").header.Get("Accept-Ranges"); got != "" {
				w.t.Errorf("got %q", got)
			}
		},
		other: func(w *wire) {
			if got := w.as("").do("GET", w.signed(), "").header.Get("Accept-Ranges"); got != "bytes" {
				w.t.Errorf("got %q", got)
			}
		},
	},
	"MaxLayer": {
		set:   func(q *ghcrtest.Quirks) { q.MaxLayer = 10 },
		ghcr:  func(w *wire) { w.want(w.upload("more than ten"), 201) },
		other: func(w *wire) { w.want(w.upload("more than ten"), 413, "SIZE_INVALID") },
	},
	"UploadTimeout": {
		set:   func(q *ghcrtest.Quirks) { q.UploadTimeout = 0 },
		ghcr:  func(w *wire) { l := w.session(); time.Sleep(11 * time.Minute); w.want(w.commit(l, "a"), 404) },
		other: func(w *wire) { l := w.session(); time.Sleep(11 * time.Minute); w.want(w.commit(l, "a"), 201) },
	},
	"MissingBlobDetails": {
		set: func(q *ghcrtest.Quirks) { q.MissingBlobDetails = "first" },
		ghcr: func(w *wire) {
			img := ghcrtest.NewImage("linux/amd64", []byte("one"), []byte("two"))
			w.want(w.put("v1", img), 400, "MANIFEST_BLOB_UNKNOWN", img.Manifest.Layers[0].Digest.String(), img.Manifest.Layers[1].Digest.String(), img.Manifest.Config.Digest.String())
		},
		other: func(w *wire) {
			a := w.put("v1", ghcrtest.NewImage("linux/amd64", []byte("one"), []byte("two")))
			w.want(a, 400)
			if n := strings.Count(a.body, "MANIFEST_BLOB_UNKNOWN"); n != 1 {
				w.t.Errorf("%d are named", n)
			}
		},
	},
	"ManifestConditional": {
		set: func(q *ghcrtest.Quirks) { q.ManifestConditional = true },
		ghcr: func(w *wire) {
			img := w.image()
			w.want(w.do("GET", "/v2/acme/app/manifests/v1", "", "If-None-Match", `"`+img.Digest().String()+`"`), 200)
		},
		other: func(w *wire) {
			img := w.image()
			w.want(w.do("GET", "/v2/acme/app/manifests/v1", "", "If-None-Match", `"`+img.Digest().String()+`"`), 304)
		},
	},
}
