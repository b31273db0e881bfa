package ghcrtest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

const (
	manifestPath = "/v2/acme/app/manifests/"
	pullScope    = "/token?scope=repository:acme/app:pull"
)

// TestDeleteVersion: what the API deletes is gone for the registry, with all its
// tags, and nothing else is.
func TestDeleteVersion(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := ghcrtest.Attested(ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 100)))
		for _, tag := range []string{"v1", "latest"} {
			if err := w.server.Add("acme/app", tag, img); err != nil {
				t.Fatal(err)
			}
		}
		w.add("v2", "linux/arm64")
		child := img.Children[0]
		digest := img.Digest().String()

		// A child goes without a word, though its index names it.
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id(child.Digest().String())), 204)
		w.want(w.do("GET", manifestPath+child.Digest().String(), ""), 404)
		w.want(w.do("GET", manifestPath+digest, "", "Accept", indexType), 200)

		id := w.id("v1")
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+id), 204)
		for _, ref := range []string{"v1", "latest", digest} {
			w.want(w.do("GET", manifestPath+ref, "", "Accept", indexType), 404)
		}
		w.listed("", "v2")
		w.want(w.api("ghp_owner", "GET", versionsPath+"/"+id), 404, "Package version not found.")
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+id), 404, "Package version not found.")
		if list := w.versions("state=deleted"); len(list) != 2 || list[0].Name != digest || len(list[0].tags()) != 2 {
			t.Errorf("deleted are %v", list)
		}

		w.want(w.api("ghp_owner", "POST", versionsPath+"/"+id+"/restore"), 204)
		w.want(w.do("GET", manifestPath+"latest", "", "Accept", indexType), 200, child.Digest().String())
		w.want(w.api("ghp_owner", "POST", versionsPath+"/"+id+"/restore"), 404)
		if list := w.versions("state=deleted"); len(list) != 1 || list[0].Name != child.Digest().String() {
			t.Errorf("deleted are %v", list)
		}
		// It is pushed again, which is another way to have it back.
		w.push("acme/app", child.Digest().String(), child)
		if err := w.server.Holds("acme/app", "v1", img); err != nil {
			t.Error(err)
		}
	})
}

// TestMovedTag: the version that loses a tag stays, and the one that gets it is
// updated.
func TestMovedTag(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		old := w.add("v1", "linux/amd64")
		w.add("v2", "linux/arm64")
		time.Sleep(time.Minute)
		w.add("v1", "linux/arm64")
		list := w.versions("")
		if len(list) != 2 || strings.Join(list[0].tags(), " ") != "v2 v1" || len(list[1].tags()) != 0 || list[1].Name != old.Digest().String() {
			t.Errorf("got %v", list)
		}
		if list[0].UpdatedAt != "2000-01-01T00:01:00Z" || list[0].CreatedAt != "2000-01-01T00:00:00Z" {
			t.Errorf("the version that got the tag: %v", list[0])
		}
		w.want(w.do("GET", manifestPath+old.Digest().String(), ""), 200)
	})
}

func TestDeletePackage(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		layer := "/v2/acme/app/blobs/" + img.Manifest.Layers[0].Digest.String()
		w.add("v2", "linux/arm64")
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v2")), 204)
		w.public()
		w.set(ghcrtest.Package{Access: map[string]string{"acme/source": "admin"}})
		w.want(w.api("ghp_owner", "DELETE", packagePath), 204)

		w.want(w.do("GET", manifestPath+"v1", ""), 404)
		w.want(w.do("HEAD", layer, ""), 404)
		w.want(w.as("").do("GET", pullScope, ""), 403) // as of one that never was
		w.want(w.api("ghp_owner", "GET", packagePath), 404, "Package not found.")
		w.want(w.api("ghp_owner", "GET", versionsPath), 404)
		w.want(w.api("ghp_owner", "DELETE", packagePath), 404)
		if a := w.api("ghp_owner", "GET", packagesPath); a.body != "[]" {
			t.Errorf("got %s", a.body)
		}

		w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 204)
		if err := w.server.Holds("acme/app", "v1", img); err != nil {
			t.Error(err)
		}
		w.want(w.as("").do("GET", pullScope, ""), 200) // it is public again
		w.want(w.api("ghs_ci", "GET", packagePath), 200, `"version_count":1`)
		if list := w.versions("state=deleted"); len(list) != 1 {
			t.Errorf("what was deleted before is %v", list)
		}
	})
}

// TestReusedName: a push to the name of a deleted package makes another, with
// nothing of the first, which can come back when that is gone.
func TestReusedName(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		w.public()
		w.set(ghcrtest.Package{Access: map[string]string{"acme/source": "admin"}})
		var first, second struct{ ID int64 }
		w.decode(w.api("ghp_owner", "GET", packagePath), &first)
		w.want(w.api("ghp_owner", "DELETE", packagePath), 204)

		w.want(w.upload("something"), 201)
		w.tagged("new")
		w.decode(w.api("ghp_owner", "GET", packagePath), &second)
		if first.ID == second.ID {
			t.Errorf("both are %d", first.ID)
		}
		w.want(w.as("").do("GET", pullScope, ""), 401) // private
		w.want(w.api("ghs_ci", "GET", packagePath), 404)
		w.listed("", "new")
		w.want(w.do("HEAD", "/v2/acme/app/blobs/"+img.Manifest.Layers[0].Digest.String(), ""), 404)
		w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 400, "Delete that one first.")

		w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
		w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 204) // the latest
		w.listed("", "new")
		w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
	})
}

// TestLastVersion: the last of all stays too, tagged or not.
func TestLastVersion(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id(w.untagged())), 400, "You cannot delete the last version of a package.")
		w.want(w.api("ghp_owner", "DELETE", packagePath), 204)
	})
}

// TestDownloadsOfPackage: those that are set for all count with those of each.
func TestDownloadsOfPackage(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.set(ghcrtest.Package{Visibility: ghcrtest.Public, Downloads: 5000})
		w.add("v1", "linux/amd64")
		w.add("v2", "linux/arm64")
		w.want(w.do("GET", manifestPath+"v1", ""), 200)
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v1")), 400, "more than 5000 downloads")
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v2")), 204)
		if n := w.server.Downloads("acme/app", "v1"); n != 5001 {
			t.Errorf("got %d", n)
		}
		if err := w.server.SetDownloads("acme/app", "v2", 1); err == nil {
			t.Error("a deleted version has downloads")
		}
	})
}

// TestPackagesOutliveTheProcess: ids, deletions, restores, settings and downloads.
func TestPackagesOutliveTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		opts := ghcrtest.Options{Accounts: []ghcrtest.Account{
			{Login: "owner", Token: "ghp_owner"}, {Login: "ci", Token: "ghs_ci", Repository: "acme/source"},
		}}
		var before []string
		look := func(w *wire) (bodies []string) {
			for _, path := range []string{packagesPath, packagePath, versionsPath, versionsPath + "?state=deleted"} {
				bodies = append(bodies, w.api("ghp_owner", "GET", path).body)
			}
			return append(bodies, w.api("ghs_ci", "GET", packagePath).body)
		}
		inDir(t, dir, opts, func(w *wire) {
			w.bearer = encoded("ghp_owner")
			v1 := w.deletedWithTags("v1", "latest")
			w.want(w.api("ghp_owner", "POST", v1+"/restore"), 204)
			w.add("v3", "linux/s390x")
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v3")), 204)
			w.want(w.put("labels", labelled()), 201)
			w.add("v3", "linux/s390x")
			w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+w.id("v3")), 204)
			w.set(ghcrtest.Package{Visibility: ghcrtest.Internal, Repository: "acme/source", Access: map[string]string{"acme/source": "admin"}, Downloads: 7})
			w.want(w.do("GET", manifestPath+"v1", ""), 200)
			w.downloaded("v2", 40)
			w.want(w.do("GET", manifestPath+"v2", ""), 200)
			for _, name := range []string{"gone", "back"} {
				if err := w.server.Add("acme/"+name, "v1", ghcrtest.NewIndex()); err != nil {
					t.Fatal(err)
				}
				w.want(w.api("ghp_owner", "DELETE", "/orgs/acme/packages/container/"+name), 204)
			}
			w.want(w.api("ghp_owner", "POST", "/orgs/acme/packages/container/back/restore"), 204)
			before = look(w)
		})
		time.Sleep(time.Hour)
		inDir(t, dir, opts, func(w *wire) {
			w.bearer = encoded("ghp_owner")
			w.equal(look(w), before)
			if v1, v2 := w.server.Downloads("acme/app", "v1"), w.server.Downloads("acme/app", "v2"); v1 != 8 || v2 != 48 {
				t.Errorf("downloads are %d and %d", v1, v2)
			}
			w.want(w.api("ghp_owner", "POST", "/orgs/acme/packages/container/gone/restore"), 204)
			w.add("v4", "linux/riscv64") // has an id of its own
			seen := map[int64]bool{}
			for _, v := range append(w.versions(""), w.versions("state=deleted")...) {
				if seen[v.ID] {
					t.Errorf("two versions are %d", v.ID)
				}
				seen[v.ID] = true
			}
		})
	})
}

// TestOldJournal: what the first release wrote is read, and means what it meant.
func TestOldJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		index := ghcrtest.NewIndex()
		digest := index.Digest()
		blobs := filepath.Join(dir, "blobs", "sha256")
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(blobs, digest.Encoded()), index.Manifest.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, line := range []string{
			`{"op":"package","time":"1999-12-31T23:00:00Z","repo":"acme/app","private":true}`,
			`{"op":"manifest","time":"1999-12-31T23:00:01Z","repo":"acme/app","digest":"DIGEST","mediaType":"` + indexType + `","tag":"v1"}`,
			`{"op":"manifest","time":"1999-12-31T23:00:02Z","repo":"acme/app","digest":"DIGEST","mediaType":"` + indexType + `","tag":"v2"}`,
			`{"op":"untag","time":"1999-12-31T23:00:03Z","repo":"acme/app","tag":"v1"}`,
			`{"op":"package","time":"1999-12-31T23:00:04Z","repo":"acme/open"}`,
			`{"op":"manifest","time":"1999-12-31T23:00:05Z","repo":"acme/open","digest":"DIGEST","mediaType":"` + indexType + `"}`,
			`{"op":"delete","time":"1999-12-31T23:00:06Z","repo":"acme/open","digest":"DIGEST"}`,
		} {
			lines = append(lines, strings.ReplaceAll(line, "DIGEST", digest.String())+"\n")
		}
		if err := os.WriteFile(filepath.Join(dir, "journal.ndjson"), []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		opts := ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "owner", Token: "ghp_owner"}}}
		for range 2 {
			inDir(t, dir, opts, func(w *wire) {
				w.want(w.api("ghp_owner", "GET", packagePath), 200, `"visibility":"private"`, `"version_count":1`, `"id":1001`)
				w.want(w.api("ghp_owner", "GET", versionsPath), 200, `"id":100001`, `"tags":["v2"]`, `"created_at":"1999-12-31T23:00:01Z"`)
				w.want(w.api("ghp_owner", "GET", "/orgs/acme/packages/container/open"), 200, `"visibility":"public"`, `"version_count":0`)
				w.want(w.api("ghp_owner", "GET", "/orgs/acme/packages/container/open/versions?state=deleted"), 200, `"id":100002`)
			})
		}
		inDir(t, dir, opts, func(w *wire) {
			w.want(w.api("ghp_owner", "POST", "/orgs/acme/packages/container/open/versions/100002/restore"), 204)
		})
		inDir(t, dir, opts, func(w *wire) {
			w.want(w.api("ghp_owner", "GET", "/orgs/acme/packages/container/open/versions"), 200, `"id":100002`)
		})
	})
}

// TestSetUpLeavesDeleted: what a configuration names is not made anew when it was
// deleted, or it could not be restored.
func TestSetUpLeavesDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		opts := ghcrtest.Options{Public: []string{"acme/app"}, Packages: []ghcrtest.Package{{Name: "acme/app", Downloads: 3}}}
		remove := func(w *wire) { w.want(w.api(ghcrtest.Token, "DELETE", packagePath), 204) }
		inDir(t, dir, opts, remove)
		inDir(t, dir, opts, func(w *wire) {
			w.want(w.api(ghcrtest.Token, "GET", packagePath), 404)
			w.want(w.api(ghcrtest.Token, "POST", packagePath+"/restore"), 204)
			w.want(w.api(ghcrtest.Token, "GET", packagePath), 200, "public")
		})
	})
}

// TestConfigurationThatMakesNoSense is refused, and not taken for something else.
func TestConfigurationThatMakesNoSense(t *testing.T) {
	t.Parallel()
	for word, opts := range map[string]ghcrtest.Options{
		"visibility":  {Packages: []ghcrtest.Package{{Name: "acme/app", Visibility: "secret"}}},
		"role":        {Packages: []ghcrtest.Package{{Name: "acme/app", Access: map[string]string{"acme/app": "owner"}}}},
		"Acme":        {Packages: []ghcrtest.Package{{Name: "Acme/App"}}},
		"the account": {Accounts: []ghcrtest.Account{{Login: "a", Token: "ghp_a", Role: "owner"}}},
		"no token":    {Accounts: []ghcrtest.Account{{Login: "a"}}},
		"workflow":    {Accounts: []ghcrtest.Account{{Login: "a", Token: "ghp_a", Repository: "acme/app"}}},
		"kind":        {Owners: []ghcrtest.Owner{{Login: "a", Kind: "Enterprise"}}},
		"forbids":     {Owners: []ghcrtest.Owner{{Login: "a", Forbids: "everything"}}},
	} {
		server, err := ghcrtest.New(opts)
		if err == nil {
			server.Close()
			t.Errorf("%s: it is taken", word)
		} else if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// TestFaultsInTheAPI: requests to it are logged as others are, and faults happen to
// them.
func TestFaultsInTheAPI(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.add("v1", "linux/amd64")
		w.add("v2", "linux/arm64")
		id := w.id("v1")
		w.server.ResetRequests()
		w.server.Inject(
			ghcrtest.Fault{Role: ghcrtest.RoleAPI, Route: ghcrtest.RouteVersion, Method: http.MethodDelete, Repo: "acme/app", Ref: id, Served: true, Status: 500, Body: `{"message":"Server Error"}`},
			ghcrtest.Fault{Route: ghcrtest.RoutePackages, Repo: "acme", Status: 503},
		)
		// It is deleted all the same, so that a second try finds nothing.
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+id), 500, "Server Error")
		w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+id), 404)
		w.want(w.api("ghp_owner", "GET", packagesPath), 503)
		w.want(w.api("ghp_owner", "GET", packagesPath), 200)
		a := w.api("ghp_owner", "GET", "/user")
		w.want(w.api("ghp_owner", "GET", "/user", "If-None-Match", a.header.Get("ETag")), 304)
		if n := len(w.server.Faults()); n != 2 {
			t.Errorf("%d faults happened", n)
		}
		var got []string
		for _, r := range w.server.Requests() {
			if r.Role != ghcrtest.RoleAPI || r.Credential != "bearer" {
				t.Errorf("got %+v", r)
			}
			got = append(got, strings.Join([]string{r.Method, r.Route, r.Repo, r.Ref, http.StatusText(r.Status)}, "|"))
		}
		w.equal(got, []string{
			"DELETE|version|acme/app|" + id + "|Internal Server Error",
			"DELETE|version|acme/app|" + id + "|Not Found",
			"GET|packages|acme||Service Unavailable",
			"GET|packages|acme||OK",
			"GET|owner|owner||OK",
			"GET|owner|owner||Not Modified",
		})
	})
}

// TestClock: everything goes by the server's clock.
func TestClock(t *testing.T) {
	t.Parallel()
	withServer(t, ghcrtest.Options{Ahead: 24 * time.Hour, Accounts: []ghcrtest.Account{{Login: "owner", Token: "ghp_owner"}}}, func(w *wire) {
		w.add("v1", "linux/amd64")
		if list := w.versions(""); list[0].CreatedAt != "2000-01-02T00:00:00Z" {
			t.Errorf("it was made at %s", list[0].CreatedAt)
		}
		token, _ := w.token("ghp_owner", "repository:acme/app:pull")["token"].(string)
		location := w.session()
		signed := w.signed()
		w.want(w.as("").do("GET", signed, ""), 200)
		used := w.api("ghp_owner", "GET", packagePath).header.Get("X-RateLimit-Used")

		w.server.Advance(time.Hour)
		w.challenge(w.as(token).do("GET", "/v2/acme/app/tags/list", ""))
		w.want(w.do("GET", location, ""), 404)
		w.want(w.as("").do("GET", signed, ""), 403)
		a := w.api("ghp_owner", "GET", packagePath)
		if now := a.header.Get("X-RateLimit-Used"); used == "1" || now != "1" {
			t.Errorf("used are %s, then %s", used, now)
		}
		if got := a.header.Get("Date"); got != "Sun, 02 Jan 2000 01:00:00 GMT" {
			t.Errorf("the answer is of %s", got)
		}
	})
}
