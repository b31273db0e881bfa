package ghcrtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestPackageJSON: what the API shows is what GitHub documents, and no more.
func TestPackageJSON(t *testing.T) {
	t.Parallel()
	withServer(t, ghcrtest.Options{
		Owners:   []ghcrtest.Owner{{Login: "Acme", ID: 9919}},
		Accounts: []ghcrtest.Account{{Login: "owner", Token: "ghp_owner"}},
	}, func(w *wire) {
		img := ghcrtest.NewImage("linux/amd64")
		for _, repo := range []string{"acme/deep/app", "owner/app"} {
			if err := w.server.Add(repo, "v1", img); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if err := w.server.Add("acme/deep/app", "v2", img); err != nil {
			t.Fatal(err)
		}
		w.set(ghcrtest.Package{Name: "acme/deep/app", Visibility: ghcrtest.Internal, Repository: "Acme/app"})
		const name = "/orgs/Acme/packages/container/deep%2Fapp"
		var got map[string]any
		w.decode(w.api("ghp_owner", "GET", "/orgs/acme/packages/container/deep%2Fapp"), &got)
		owner, repository := got["owner"].(map[string]any), got["repository"].(map[string]any)
		delete(got, "owner")
		delete(got, "repository")
		w.equal(got, map[string]any{
			"id": 1001.0, "name": "deep/app", "package_type": "container", "visibility": "internal", "version_count": 1.0,
			"url": "https://api.github.com" + name, "html_url": "https://github.com/orgs/Acme/packages/container/package/deep%2Fapp",
			"created_at": "2000-01-01T00:00:00Z", "updated_at": "2000-01-01T00:01:00Z",
		})
		if owner["login"] != "Acme" || owner["id"] != 9919.0 || owner["type"] != "Organization" {
			t.Errorf("owner %v", owner)
		}
		if repository["full_name"] != "acme/app" || repository["name"] != "app" {
			t.Errorf("repository %v", repository)
		}

		var list []map[string]any
		w.decode(w.api("ghp_owner", "GET", "/orgs/acme/packages/container/deep%2Fapp/versions"), &list)
		w.equal(list, []map[string]any{{
			"id": 100001.0, "name": img.Digest().String(),
			"url": "https://api.github.com" + name + "/versions/100001", "html_url": "https://github.com" + name + "/100001",
			"package_html_url": "https://github.com/orgs/Acme/packages/container/package/deep%2Fapp",
			"created_at":       "2000-01-01T00:00:00Z", "updated_at": "2000-01-01T00:01:00Z",
			"metadata": map[string]any{"package_type": "container", "container": map[string]any{"tags": []any{"v1", "v2"}}},
		}})

		// A user's, by the three paths that lead to it.
		for _, form := range []string{"/user", "/users/owner", "/users/Owner"} {
			got = nil
			w.decode(w.api("ghp_owner", "GET", form+"/packages/container/app"), &got)
			if want := "https://api.github.com/users/owner/packages/container/app"; !strings.EqualFold(fmt.Sprint(got["url"]), want) {
				t.Errorf("%s: url %v, want %s", form, got["url"], want)
			}
			if want := "https://github.com/users/owner/packages/container/package/app"; !strings.EqualFold(fmt.Sprint(got["html_url"]), want) {
				t.Errorf("%s: html_url %v, want %s", form, got["html_url"], want)
			}
			if got["repository"] != nil {
				t.Errorf("%s: it is linked to %v, which is another owner's", form, got["repository"])
			}
		}
	})
}

// labelled makes an index that says what GitHub reads from it.
func labelled() *ghcrtest.Image {
	return ghcrtest.Raw(indexType, []byte(`{"schemaVersion":2,"mediaType":"`+indexType+`","manifests":[],"annotations":{
		"org.opencontainers.image.licenses":"MIT","org.opencontainers.image.description":"an app",
		"org.opencontainers.image.source":"https://github.com/Acme/App.git"}}`))
}

func TestVersionLabels(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.want(w.put("v1", labelled()), 201)
		w.want(w.api("ghp_owner", "GET", versionsPath), 200, `"license":"MIT"`, `"description":"an app"`)
		w.want(w.api("ghp_owner", "GET", packagePath), 200, `"full_name":"acme/app"`)
		w.image() // whose source is another repository's: the link stays
		w.want(w.api("ghp_owner", "GET", packagePath), 200, `"full_name":"acme/app"`)
	})
}

func TestOwners(t *testing.T) {
	t.Parallel()
	withServer(t, ghcrtest.Options{
		Owners: []ghcrtest.Owner{{Login: "Octocat", ID: 583231, Kind: "User"}, {Login: "acme", ID: 9919}},
		Accounts: []ghcrtest.Account{
			{Login: "owner", Token: "ghp_owner"}, {Login: "ci", Token: "ghs_ci", Repository: "acme/app"}, {Login: "fine", Token: "github_pat_fine"},
		},
	}, func(w *wire) {
		for _, test := range []struct {
			token, path string
			status      int
			word        string
		}{
			{"ghp_owner", "/users/octocat", 200, `"login":"Octocat","id":583231`},
			{"ghp_owner", "/users/octocat", 200, `"type":"User"`},
			{"ghp_owner", "/users/acme", 200, `"type":"Organization"`},
			{"ghp_owner", "/orgs/acme", 200, `"id":9919`},
			{"ghp_owner", "/orgs/octocat", 404, "Not Found"},
			{"ghp_owner", "/organizations/9919", 200, `"login":"acme"`},
			{"ghp_owner", "/user/583231", 200, `"login":"Octocat"`},
			{"ghp_owner", "/organizations/1", 404, "Not Found"},
			{"ghp_owner", "/users/whoever", 200, `"type":"Organization"`},
			{"ghp_owner", "/users/owner", 200, `"type":"User"`},
			{"ghp_owner", "/user", 200, `"login":"owner"`},
			{"github_pat_fine", "/user", 200, `"login":"fine"`},
			{"ghs_ci", "/user", 403, "Resource not accessible by integration"},
			{"ghs_ci", "/users/acme", 200, `"login":"acme"`},
			{"", "/user", 401, "Requires authentication"},
			{"", "/users/acme", 200, `"login":"acme"`},
			{"", packagesPath, 401, "Requires authentication"},
			{"ghp_wrong", "/users/acme", 401, "Bad credentials"},
			{"ghp_wrong", packagesPath, 401, "Bad credentials"},
		} {
			a := w.api(test.token, "GET", test.path)
			if a.status != test.status || !strings.Contains(a.body, test.word) {
				t.Errorf("%s by %q: got %d %s, want %d %s", test.path, test.token, a.status, a.body, test.status, test.word)
			}
			if scopes, ok := a.header["X-Oauth-Scopes"]; ok != (test.token == "ghp_owner") {
				t.Errorf("%s by %q: scopes %q", test.path, test.token, scopes)
			}
		}
	})
}

// TestOwnerIDsOutliveTheProcess: an owner that nobody configured has the same id in
// every process.
func TestOwnerIDsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	var bodies []string
	for range 2 {
		withQuirks(t, nil, func(w *wire) { bodies = append(bodies, w.api("ghp_owner", "GET", "/users/whoever").body) })
	}
	if bodies[0] != bodies[1] {
		t.Errorf("got %s and %s", bodies[0], bodies[1])
	}
}

func TestAPIRoutes(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.image()
		if err := w.server.Add("acme/deep/app", "v1", ghcrtest.NewIndex()); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			method, path string
			status       int
			word         string
		}{
			{"GET", "/orgs/acme/packages/container/deep%2Fapp", 200, `"name":"deep/app"`},
			{"GET", "/orgs/ACME/packages/container/Deep%2fApp", 200, `"name":"deep/app"`},
			{"GET", "/orgs/acme/packages/container/deep/app", 404, "Not Found"},
			{"GET", "/orgs/acme/packages/container/deep/app/versions", 404, "Not Found"},
			{"GET", "/orgs/acme/packages/container/none", 404, "Package not found."},
			{"GET", "/orgs/acme/packages/npm/app", 404, "Package not found."},
			{"GET", "/orgs/acme/packages", 400, "Invalid argument."},
			{"GET", "/orgs/acme/packages?package_type=wheel", 400, "Invalid argument."},
			{"GET", "/orgs/acme/packages?package_type=npm", 200, "[]"},
			{"GET", packagesPath + "&visibility=secret", 400, "Invalid argument."},
			{"GET", packagesPath + "&visibility=public", 200, "[]"},
			{"GET", packagesPath + "&visibility=private&per_page=1", 200, `"name":"deep/app"`},
			{"GET", versionsPath + "?state=gone", 400, "Invalid argument."},
			{"GET", versionsPath + "/latest", 400, "The version_id parameter must be an integer."},
			{"DELETE", versionsPath + "/sha256:0", 400, "The version_id parameter must be an integer."},
			{"POST", versionsPath + "/v1/restore", 400, "The version_id parameter must be an integer."},
			{"GET", versionsPath + "/1", 404, "Package version not found."},
			{"POST", versionsPath + "/1/restore", 404, "Package version not found."},
			{"POST", versionsPath + "/100001/restore", 404, "Package version not found."}, // it lives
			{"POST", packagePath + "/restore", 404, "Package not found."},                 // and so does this
			{"PATCH", packagePath, 404, "Not Found"},
			{"PUT", packagePath, 404, "Not Found"},
			{"POST", packagesPath, 404, "Not Found"},
			{"GET", packagePath + "/", 404, "Not Found"},
			{"GET", versionsPath + "/100001/vulnerabilities", 404, "Not Found"},
			{"GET", "/orgs/acme/docker/conflicts", 200, "[]"},
			{"GET", "/orgs", 404, "Not Found"},
			{"GET", "/v2/acme/app/manifests/v1", 404, "Not Found"},
			{"GET", "/", 404, "Not Found"},
			{"HEAD", packagePath, 200, ""},
		} {
			a := w.api("ghp_owner", test.method, test.path)
			if a.status != test.status || !strings.Contains(a.body, test.word) {
				t.Errorf("%s %s: got %d %s, want %d %s", test.method, test.path, a.status, a.body, test.status, test.word)
			}
		}
		w.want(w.do("GET", "/orgs/acme/packages", ""), 303) // the registry's host has no API
	})
}

func TestAPIVersions(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.want(w.api("ghp_owner", "GET", "/rate_limit", "X-GitHub-Api-Version", "2022-11-28"), 200, `"rate"`)
		a := w.api("ghp_owner", "GET", "/rate_limit", "X-GitHub-Api-Version", "2026-03-10")
		w.want(a, 200, `"resources"`)
		if strings.Contains(a.body, `"rate"`) || a.header.Get("X-GitHub-Api-Version-Selected") != "2026-03-10" {
			t.Errorf("got %v %s", a.header, a.body)
		}
		w.want(w.api("ghp_owner", "GET", "/rate_limit", "X-GitHub-Api-Version", "2021-01-01"), 400, "2022-11-28")
		if got := w.api("ghp_owner", "GET", "/rate_limit").header.Get("X-GitHub-Api-Version-Selected"); got != "2022-11-28" {
			t.Errorf("the default is %q", got)
		}
	})
}

// TestOpenServerHasAnAPI: where nobody logs in, everybody may do everything.
func TestOpenServerHasAnAPI(t *testing.T) {
	t.Parallel()
	spec := ghcrtest.Spec()
	withServer(t, ghcrtest.Options{Open: true, Quirks: &spec}, func(w *wire) {
		w.tagged("v1")
		for _, token := range []string{"", "ghp_whatever"} {
			w.want(w.api(token, "GET", packagesPath), 200, `"visibility":"public"`)
			w.want(w.api(token, "GET", "/user"), 200, `"login":"simulated"`)
		}
		w.want(w.api("", "DELETE", packagePath), 204)
		w.want(w.api("", "POST", packagePath+"/restore"), 204)
	})
}

// TestAPIOverSocket: at / and at /api/v3 of the address that the registry has, with
// URLs that lead there.
func TestAPIOverSocket(t *testing.T) {
	t.Parallel()
	server := ghcrtest.Start(t, ghcrtest.Options{})
	for _, tag := range []string{"v1", "v2"} {
		if err := server.Add("acme/app", tag, ghcrtest.NewImage("linux/amd64", []byte(tag))); err != nil {
			t.Fatal(err)
		}
	}
	get := func(url string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("whoever", ghcrtest.Token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", url, resp.StatusCode, body, err)
		}
		return resp, string(body)
	}
	for _, prefix := range []string{"", "/api/v3"} {
		resp, body := get(server.URL() + prefix + versionsPath + "?per_page=1")
		if want := `"url":"` + server.URL() + prefix + versionsPath + "/100002\""; !strings.Contains(body, want) {
			t.Errorf("got %s, want %s", body, want)
		}
		next := link(answer{header: resp.Header}, "next")
		if !strings.HasPrefix(next, server.URL()+prefix+"/organizations/") {
			t.Errorf("the next page is %s", next)
		}
		if _, body := get(next); !strings.Contains(body, "/versions/100001") {
			t.Errorf("%s: got %s", next, body)
		}
	}
}

// withServer runs a test on a server in virtual time.
func withServer(t *testing.T, opts ghcrtest.Options, test func(w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		test(&wire{t: t, server: server, bearer: encoded("ghp_owner")})
	})
}

func (w *wire) decode(a answer, v any) {
	w.t.Helper()
	w.want(a, 200)
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		w.t.Fatalf("%v: %s", err, a.body)
	}
}

func (w *wire) equal(got, want any) {
	w.t.Helper()
	if !reflect.DeepEqual(got, want) {
		w.t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestConcurrentDeletions: however many try at once, one version keeps a tag, and
// the views agree on which.
func TestConcurrentDeletions(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		const n = 30
		for i := range n {
			w.add(fmt.Sprint("v", i), fmt.Sprint("linux/a", i))
		}
		statuses := make([]int, n)
		var workers sync.WaitGroup
		for i := range n {
			workers.Go(func() {
				statuses[i] = w.api("ghp_owner", "DELETE", fmt.Sprint(versionsPath, "/", 100001+i)).status
				w.api("ghp_owner", "GET", versionsPath)
				w.do("GET", "/v2/acme/app/tags/list", "")
			})
		}
		workers.Wait()
		slices.Sort(statuses)
		if statuses[n-2] != 204 || statuses[n-1] != 400 {
			t.Errorf("got %v", statuses)
		}
		list := w.versions("")
		if len(list) != 1 {
			t.Fatalf("left are %v", list)
		}
		w.listed("", list[0].tags()...)
	})
}

// FuzzAPIPath: whatever the path is, the answer is one of the API's.
func FuzzAPIPath(f *testing.F) {
	for _, path := range []string{packagesPath, packagePath, versionsPath + "/100001", "/user/%2F/", "/organizations/1/packages/container/a%2Fb", "/api/v3/api/v3/user", "/orgs//packages", "/user/packages/x/y/versions/1/restore"} {
		for _, method := range []string{"GET", "POST", "DELETE", "HEAD"} {
			f.Add(method, path)
		}
	}
	quirks := ghcrtest.GHCR()
	quirks.RESTLimits = false
	server, err := ghcrtest.New(ghcrtest.Options{Quirks: &quirks, NoLog: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Close() })
	f.Fuzz(func(t *testing.T, method, path string) {
		target, err := url.ParseRequestURI("https://" + ghcrtest.APIHost + "/" + strings.TrimPrefix(path, "/"))
		if err != nil || target.Host != ghcrtest.APIHost {
			return
		}
		req := &http.Request{Method: method, URL: target, Host: target.Host, Header: http.Header{"Authorization": {"Bearer " + ghcrtest.Token}}, Body: http.NoBody}
		answer := httptest.NewRecorder()
		server.Handler().ServeHTTP(answer, req)
		switch answer.Code {
		case 200, 204, 400, 404:
		default:
			t.Errorf("%s %s: got %d %s", method, path, answer.Code, answer.Body)
		}
	})
}
