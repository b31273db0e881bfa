package ghcrtest_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

const (
	packagesPath = "/orgs/acme/packages?package_type=container"
	packagePath  = "/orgs/acme/packages/container/app"
	versionsPath = packagePath + "/versions"
	indexType    = oci.MediaTypeOCIIndex
)

// version is one as the API shows it.
type version struct {
	ID        int64
	Name      string
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`
	Metadata  struct{ Container struct{ Tags []string } }
}

func (v version) tags() []string { return v.Metadata.Container.Tags }

// api asks GitHub's API.
func (w *wire) api(token, method, path string, headers ...string) answer {
	w.t.Helper()
	return w.as(token).do(method, "https://"+ghcrtest.APIHost+path, "", headers...)
}

// versions lists all versions of acme/app on one page, deleted ones by
// "state=deleted".
func (w *wire) versions(query string) []version {
	w.t.Helper()
	a := w.api("ghp_owner", "GET", versionsPath+"?per_page=100&"+query)
	w.want(a, 200)
	var list []version
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// id finds the id of a version in the list, by tag or digest.
func (w *wire) id(ref string) string {
	w.t.Helper()
	for _, v := range w.versions("") {
		if v.Name == ref || slices.Contains(v.tags(), ref) {
			return strconv.FormatInt(v.ID, 10)
		}
	}
	w.t.Fatalf("there is no version %s", ref)
	return ""
}

var linkPattern = regexp.MustCompile(`<([^>]*)>; rel="([^"]*)"`)

// link returns the URL of another page.
func link(a answer, rel string) string {
	for _, m := range linkPattern.FindAllStringSubmatch(a.header.Get("Link"), -1) {
		if m[2] == rel {
			return m[1]
		}
	}
	return ""
}

func (w *wire) linked(a answer, rel string, words ...string) {
	w.t.Helper()
	got := link(a, rel)
	for _, word := range words {
		if !strings.Contains(got, word) {
			w.t.Errorf("the %s page is %q, want %s", rel, got, word)
		}
	}
	if got != "" {
		w.want(w.as("ghp_owner").do("GET", got, ""), 200)
	}
}

// set changes the settings of a package: acme/app, if it says no other.
func (w *wire) set(p ghcrtest.Package) {
	w.t.Helper()
	if p.Name == "" {
		p.Name = "acme/app"
	}
	if err := w.server.SetPackage(p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) downloaded(tag string, n int64) {
	w.t.Helper()
	if err := w.server.SetDownloads("acme/app", tag, n); err != nil {
		w.t.Fatal(err)
	}
}

// add puts an image of its own for each platform into acme/app.
func (w *wire) add(tag, platform string) *ghcrtest.Image {
	w.t.Helper()
	img := ghcrtest.NewImage(platform)
	if err := w.server.Add("acme/app", tag, img); err != nil {
		w.t.Fatal(err)
	}
	return img
}

// untagged puts a version without a tag and returns its digest.
func (w *wire) untagged() string {
	w.t.Helper()
	return w.add("", "linux/s390x").Digest().String()
}

// ownPackage makes a user's package that the workflows of a repository administer,
// and returns its path.
func (w *wire) ownPackage() string {
	w.t.Helper()
	if err := w.server.Add("owner/app", "v1", ghcrtest.NewIndex()); err != nil {
		w.t.Fatal(err)
	}
	w.set(ghcrtest.Package{Name: "owner/app", Access: map[string]string{"owner/source": "admin"}})
	return "/users/owner/packages/container/app"
}

// repushed deletes a version and pushes it again.
func (w *wire) repushed() (first, second string) {
	w.t.Helper()
	w.tagged("v1")
	w.add("v2", "linux/arm64")
	first = w.id("v1")
	w.want(w.api("ghp_owner", "DELETE", versionsPath+"/"+first), 204)
	w.tagged("v1")
	return first, w.id("v1")
}

// deletedWithTags makes a version with these tags, and another, deletes it and returns
// its path.
func (w *wire) deletedWithTags(tags ...string) string {
	w.t.Helper()
	for _, tag := range tags {
		w.add(tag, "linux/amd64")
	}
	w.add("v2", "linux/arm64")
	path := versionsPath + "/" + w.id(tags[0])
	w.want(w.api("ghp_owner", "DELETE", path), 204)
	return path
}

// twoVersions makes two versions, a second apart.
func (w *wire) twoVersions() (newest, oldest version) {
	w.t.Helper()
	w.add("v1", "linux/amd64")
	time.Sleep(time.Second)
	w.add("v2", "linux/arm64")
	list := w.versions("")
	if len(list) != 2 || !slices.Equal(list[0].tags(), []string{"v2"}) {
		w.t.Fatalf("got %v", list)
	}
	return list[0], list[1]
}

func (w *wire) wantLimit(token, limit string) {
	w.t.Helper()
	if got := w.api(token, "GET", "/orgs/acme").header.Get("X-RateLimit-Limit"); got != limit {
		w.t.Errorf("%s may ask %s times, want %s", token, got, limit)
	}
}

// slow has so many requests of ghp_owner be answered for the next minute.
func (w *wire) slow(n int) {
	w.t.Helper()
	w.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Times: n, Delay: time.Minute})
	for range n {
		go w.api("ghp_owner", "GET", "/orgs/acme")
	}
	synctest.Wait()
}
