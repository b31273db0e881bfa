package ghcrtest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// wire speaks to a server as a client without any cleverness would.
type wire struct {
	t      *testing.T
	server *ghcrtest.Server
	bearer string
}

// answer is what came back, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// withQuirks runs a test on a GHCR with some quirks changed, in virtual time.
func withQuirks(t *testing.T, change func(*ghcrtest.Quirks), test func(w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := ghcrtest.GHCR()
		if change != nil {
			change(&q)
		}
		server, err := ghcrtest.New(ghcrtest.Options{Quirks: &q, Accounts: []ghcrtest.Account{
			{Login: "owner", Token: "ghp_owner"},
			{Login: "reader", Token: "ghp_reader", Scopes: []string{"read:packages"}},
			{Login: "stranger", Token: "ghp_stranger", Owners: []string{"elsewhere"}},
			{Login: "workflow", Token: "ghs_stranger", Owners: []string{"elsewhere"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		test(&wire{t: t, server: server, bearer: encoded("ghp_owner")})
	})
}

func encoded(token string) string { return base64.StdEncoding.EncodeToString([]byte(token)) }

// as is the same wire with another credential.
func (w *wire) as(bearer string) *wire {
	other := *w
	other.bearer = bearer
	return &other
}

func (w *wire) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = "https://ghcr.io" + path
	}
	req, err := http.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+w.bearer)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	resp, err := w.server.Transport().RoundTrip(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func (w *wire) want(got answer, status int, words ...string) {
	w.t.Helper()
	if got.status != status {
		w.t.Errorf("got %d, want %d: %s", got.status, status, got.body)
	}
	for _, word := range words {
		if !strings.Contains(got.body, word) {
			w.t.Errorf("%q does not say %q", got.body, word)
		}
	}
}

// image puts an image into acme/app and returns it.
func (w *wire) image() *ghcrtest.Image {
	w.t.Helper()
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 5000))
	if err := w.server.Add("acme/app", "v1", img); err != nil {
		w.t.Fatal(err)
	}
	return img
}

func (w *wire) start() answer {
	w.t.Helper()
	return w.do("POST", "/v2/acme/app/blobs/uploads/", "")
}

func (w *wire) session() string {
	w.t.Helper()
	a := w.start()
	w.want(a, 202)
	return a.header.Get("Location")
}

// quirkTests has a test for each field of Quirks, named after it. Switches that
// are on in the GHCR profile are turned off for the second.
var quirkTests = map[string]struct {
	set   func(q *ghcrtest.Quirks) // the other value than GHCR's
	ghcr  func(w *wire)            // what GHCR does
	other func(w *wire)            // what is done with the other value
}{
	"PingPlaceholderScope": {
		set: func(q *ghcrtest.Quirks) { q.PingPlaceholderScope = false },
		ghcr: func(w *wire) {
			w.challenge(w.as("").do("GET", "/v2/", ""), `scope="repository:user/image:pull"`)
		},
		other: func(w *wire) { w.challenge(w.as("").do("GET", "/v2/", ""), `service="ghcr.io"`) },
	},
	"PingAcceptsAnyBearer": {
		set:   func(q *ghcrtest.Quirks) { q.PingAcceptsAnyBearer = false },
		ghcr:  func(w *wire) { w.want(w.as("Zm9v").do("GET", "/v2/", ""), 200) },
		other: func(w *wire) { w.want(w.as("Zm9v").do("GET", "/v2/", ""), 403) },
	},
	"DeniedWithoutChallenge": {
		set: func(q *ghcrtest.Quirks) { q.DeniedWithoutChallenge = false },
		ghcr: func(w *wire) {
			a := w.as("Zm9v").do("GET", "/v2/acme/app/tags/list", "")
			w.want(a, 403, "DENIED", "invalid token")
			if a.header.Get("WWW-Authenticate") != "" {
				w.t.Error("it has a challenge")
			}
		},
		other: func(w *wire) {
			w.challenge(w.as("Zm9v").do("GET", "/v2/acme/app/tags/list", ""), "repository:acme/app:pull")
		},
	},
	"RawBearerStatus": {
		set:   func(q *ghcrtest.Quirks) { q.RawBearerStatus = 401 },
		ghcr:  func(w *wire) { w.want(w.as("ghp_owner").do("GET", "/v2/acme/app/tags/list", ""), 403, "DENIED") },
		other: func(w *wire) { w.want(w.as("ghp_owner").do("GET", "/v2/acme/app/tags/list", ""), 401) },
	},
	"DirectBearer": {
		set:   func(q *ghcrtest.Quirks) { q.DirectBearer = false },
		ghcr:  func(w *wire) { w.image(); w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 200, "v1") },
		other: func(w *wire) { w.image(); w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 403) },
	},
	"DirectBearerWrites": {
		set:   func(q *ghcrtest.Quirks) { q.DirectBearerWrites = false },
		ghcr:  func(w *wire) { w.session() },
		other: func(w *wire) { w.want(w.do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "DENIED") },
	},
	"AnonymousBearer": {
		set: func(q *ghcrtest.Quirks) { q.AnonymousBearer = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 200)
		},
		other: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 403)
		},
	},
	"TokenMinimal": {
		set: func(q *ghcrtest.Quirks) { q.TokenMinimal = false },
		ghcr: func(w *wire) {
			if got := w.token("ghp_owner", "repository:acme/app:pull"); len(got) != 1 || got["token"] == nil {
				w.t.Errorf("got %v, want a token and nothing else", got)
			}
		},
		other: func(w *wire) {
			if got := w.token("ghp_owner", "repository:acme/app:pull"); got["expires_in"] == nil || got["access_token"] == nil {
				w.t.Errorf("got %v", got)
			}
		},
	},
	"TokenFormatV1": {
		set: func(q *ghcrtest.Quirks) { q.TokenFormatV1 = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			raw, _ := base64.StdEncoding.DecodeString(fmt.Sprint(w.token("", "repository:acme/app:pull")["token"]))
			if !strings.HasPrefix(string(raw), "v1:acme/app:") {
				w.t.Errorf("got %q", raw)
			}
		},
		other: func(w *wire) {
			w.image()
			w.public()
			raw, _ := base64.StdEncoding.DecodeString(fmt.Sprint(w.token("", "repository:acme/app:pull")["token"]))
			if strings.HasPrefix(string(raw), "v1:") {
				w.t.Errorf("got %q", raw)
			}
		},
	},
	"TokenPrivateStatus": {
		set:  func(q *ghcrtest.Quirks) { q.TokenPrivateStatus = 403 },
		ghcr: func(w *wire) { w.image(); w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", ""), 401) },
		other: func(w *wire) {
			w.image()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", ""), 403, "DENIED")
		},
	},
	"TokenMissingStatus": {
		set: func(q *ghcrtest.Quirks) { q.TokenMissingStatus = 401 },
		ghcr: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:no/such:pull", ""), 403, "requested access to the resource is denied")
		},
		other: func(w *wire) { w.want(w.as("").do("GET", "/token?scope=repository:no/such:pull", ""), 401) },
	},
	"TokenNoAnonFallback": {
		set: func(q *ghcrtest.Quirks) { q.TokenNoAnonFallback = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("u:expired")), 403, "denied")
		},
		other: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("u:expired")), 200)
		},
	},
	"TokenMultiScope": {
		set: func(q *ghcrtest.Quirks) { q.TokenMultiScope = false },
		ghcr: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:other/x:pull", "repository:acme/app:pull")["token"])
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 200)
		},
		other: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:other/x:pull", "repository:acme/app:pull")["token"])
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 403)
		},
	},
	"TokenTTL": {
		set: func(q *ghcrtest.Quirks) { q.TokenTTL = time.Hour },
		ghcr: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:acme/app:pull")["token"])
			time.Sleep(6 * time.Minute)
			w.challenge(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), "acme/app")
		},
		other: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:acme/app:pull")["token"])
			time.Sleep(6 * time.Minute)
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 200)
		},
	},
	"LateWriteDenial": {
		set: func(q *ghcrtest.Quirks) { q.LateWriteDenial = false },
		ghcr: func(w *wire) {
			token := fmt.Sprint(w.token("ghp_reader", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "permission_denied: The token provided does not match expected scopes.")
			token = fmt.Sprint(w.token("ghp_stranger", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "permission_denied: write_package")
		},
		other: func(w *wire) {
			token := fmt.Sprint(w.token("ghp_stranger", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "requested access")
		},
	},

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
	"FirstPushPrivate": {
		set:   func(q *ghcrtest.Quirks) { q.FirstPushPrivate = false },
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
	"TokenPostStatus": {
		set:   func(q *ghcrtest.Quirks) { q.TokenPostStatus = 404 },
		ghcr:  func(w *wire) { w.want(w.as("").do("POST", "/token", "grant_type=password"), 405, "UNSUPPORTED") },
		other: func(w *wire) { w.want(w.as("").do("POST", "/token", "grant_type=password"), 404) },
	},
	"DenialTexts": {
		set: func(q *ghcrtest.Quirks) { q.DenialTexts = false },
		ghcr: func(w *wire) {
			app, reader := w.as(encoded("ghs_stranger")), w.as(encoded("ghp_reader"))
			w.want(app.start(), 403, "installation not allowed to Create organization package")
			w.want(reader.start(), 403, "permission_denied: The token provided does not match expected scopes.")
			w.image()
			w.want(app.start(), 403, "installation not allowed to Write organization package")
			w.want(w.as(encoded("ghp_stranger")).start(), 403, "permission_denied: write_package")
		},
		other: func(w *wire) {
			w.want(w.as(encoded("ghs_stranger")).start(), 403, "requested access to the resource is denied")
		},
	},
	"LowercaseOnly": {
		set: func(q *ghcrtest.Quirks) { q.LowercaseOnly = false },
		ghcr: func(w *wire) {
			w.image()
			w.want(w.do("GET", "/v2/Acme/App/manifests/v1", ""), 400, "NAME_INVALID")
		},
		other: func(w *wire) { w.image(); w.want(w.do("GET", "/v2/Acme/App/manifests/v1", ""), 200) },
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
	"TokenUserIgnored": {
		set: func(q *ghcrtest.Quirks) { q.TokenUserIgnored = false },
		ghcr: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("whoever:ghp_owner")), 200)
		},
		other: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("whoever:ghp_owner")), 403)
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("owner:ghp_owner")), 200)
		},
	},
}

func TestQuirk(t *testing.T) {
	for i := range reflect.TypeFor[ghcrtest.Quirks]().NumField() {
		name := reflect.TypeFor[ghcrtest.Quirks]().Field(i).Name
		test, ok := quirkTests[name]
		if !ok {
			t.Errorf("the quirk %s has no test", name)
			continue
		}
		t.Run(name, func(t *testing.T) { withQuirks(t, nil, test.ghcr) })
		t.Run(name+", other value", func(t *testing.T) { withQuirks(t, test.set, test.other) })
	}
}

func (w *wire) challenge(a answer, words ...string) {
	w.t.Helper()
	w.want(a, 401, "UNAUTHORIZED")
	for _, word := range words {
		if !strings.Contains(a.header.Get("WWW-Authenticate"), word) {
			w.t.Errorf("challenge %q does not say %s", a.header.Get("WWW-Authenticate"), word)
		}
	}
}

func (w *wire) public() {
	if err := w.server.SetPrivate("acme/app", false); err != nil {
		w.t.Fatal(err)
	}
}

// token asks the token service.
func (w *wire) token(password string, scopes ...string) map[string]any {
	w.t.Helper()
	var headers []string
	if password != "" {
		headers = []string{"Authorization", "Basic " + encoded("owner:"+password)}
	}
	a := w.as("").do("GET", "/token?"+url.Values{"scope": scopes, "service": {"ghcr.io"}}.Encode(), "", headers...)
	w.want(a, 200)
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *wire) chunk(location string, size int) answer {
	w.t.Helper()
	return w.do("PATCH", location, string(bytes.Repeat([]byte("x"), size)), "Content-Range", fmt.Sprintf("0-%d", size-1))
}

func (w *wire) commit(location, content string) answer {
	w.t.Helper()
	return w.do("PUT", location+"?digest="+digest.FromString(content).String(), content)
}

func (w *wire) upload(content string) answer {
	w.t.Helper()
	return w.commit(w.session(), content)
}

func (w *wire) took(want time.Duration, do func()) {
	w.t.Helper()
	began := time.Now()
	do()
	if got := time.Since(began); got != want {
		w.t.Errorf("took %s, want %s", got, want)
	}
}

// layer puts an image and returns the path of its layer.
func (w *wire) layer() string {
	w.t.Helper()
	return "/v2/acme/app/blobs/" + w.image().Manifest.Layers[0].Digest.String()
}

// signed puts an image and returns the signed URL of its layer.
func (w *wire) signed() string {
	w.t.Helper()
	a := w.do("GET", w.layer(), "")
	w.want(a, 307)
	return a.header.Get("Location")
}

func (w *wire) mount(from, to string) answer {
	w.t.Helper()
	d := w.image().Manifest.Layers[0].Digest
	return w.do("POST", "/v2/"+to+"/blobs/uploads/?"+url.Values{"mount": {d.String()}, "from": {from}}.Encode(), "")
}

func (w *wire) put(ref string, img *ghcrtest.Image) answer {
	w.t.Helper()
	return w.do("PUT", "/v2/acme/app/manifests/"+ref, string(img.Manifest.Bytes()), "Content-Type", img.Manifest.MediaType)
}

// putNew puts a manifest under a tag that should not be there yet.
func (w *wire) putNew(tag string) answer {
	w.t.Helper()
	img := ghcrtest.NewIndex()
	return w.do("PUT", "/v2/acme/app/manifests/"+tag, string(img.Manifest.Bytes()), "Content-Type", img.Manifest.MediaType, "If-None-Match", "*")
}

func (w *wire) putReferrer() answer {
	w.t.Helper()
	r := ghcrtest.Refer(w.image(), "x/y", "z")
	if err := w.server.Add("acme/app", "", r); err != nil {
		w.t.Fatal(err)
	}
	a := w.put(r.Digest().String(), r)
	w.want(a, 201)
	return a
}

func (w *wire) index() {
	w.t.Helper()
	if err := w.server.Add("acme/app", "multi", ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64"))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) tagged(tags ...string) {
	w.t.Helper()
	for _, tag := range tags {
		w.want(w.put(tag, ghcrtest.NewIndex()), 201)
	}
}

func (w *wire) listed(query string, want ...string) {
	w.t.Helper()
	a := w.do("GET", "/v2/acme/app/tags/list"+query, "")
	var page struct{ Tags []string }
	if err := json.Unmarshal([]byte(a.body), &page); err != nil || !slices.Equal(page.Tags, want) {
		w.t.Errorf("got %d %s, want %v", a.status, a.body, want)
	}
}
