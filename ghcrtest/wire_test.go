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
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
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
			{Login: "member", Token: "ghp_member", Role: "write"},
			{Login: "cleaner", Token: "ghp_cleaner", Scopes: []string{"read:packages", "delete:packages"}},
			{Login: "fine", Token: "github_pat_fine"},
			{Login: "ci", Token: "ghs_ci", Repository: "acme/source"},
			{Login: "ci", Token: "ghs_own", Repository: "owner/source"},
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
	if err := w.server.SetPackage(ghcrtest.Package{Name: "acme/app", Visibility: ghcrtest.Public}); err != nil {
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
