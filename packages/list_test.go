package packages_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

const (
	packagePath  = "/orgs/acme/packages/container/app"
	versionsPath = packagePath + "/versions"
	numericPath  = "/organizations/42/packages/container/app/versions"
)

// moving answers with a list that rows tells anew for each request, and count as
// the number of versions.
func moving(rows func(page string) []int, count func() int) func(w *reply, r *http.Request) bool {
	return func(w *reply, r *http.Request) bool {
		switch r.URL.Path {
		case packagePath:
			w.json(200, `{"id":7,"name":"app","visibility":"private","version_count":%d}`, count())
		case versionsPath, numericPath:
			list(w, r, rows(r.URL.Query().Get("page")))
		default:
			return false
		}
		return true
	}
}

// TestListThatMoves: rows that come or go while a list is read are noticed, and it
// is read again.
func TestListThatMoves(t *testing.T) {
	before, after := down(250), down(251)
	for name, test := range map[string]struct {
		rows  func(a *api) []int
		count [2]int // of versions, before the first page and after it
		want  int
		lists int // times that the first page was asked for
	}{
		"a row comes after the first page": {
			func(a *api) []int {
				if a.count("GET "+versionsPath) == 1 && a.count("GET "+numericPath) == 0 {
					return before
				}
				return after
			}, [2]int{250, 251}, 251, 2,
		},
		"a row goes after the first page": {
			func(a *api) []int {
				if a.count("GET "+versionsPath) == 1 && a.count("GET "+numericPath) == 0 {
					return after
				}
				return slices.Delete(slices.Clone(after), 50, 51)
			}, [2]int{251, 250}, 250, 2,
		},
		"the count is of another kind": {func(*api) []int { return before }, [2]int{260, 260}, 250, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var server *api
			handler := moving(func(string) []int { return test.rows(server) }, func() int { return test.count[min(server.count("GET "+versionsPath), 1)] })
			with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
				server = a
				all, err := c.AllVersions(ctx, "acme", "app", packages.Active)
				if err != nil || len(all) != test.want || a.count("GET "+versionsPath) != test.lists {
					t.Errorf("%d versions after %d lists, %v", len(all), a.count("GET "+versionsPath), err)
				}
				ids := map[int64]bool{}
				for _, v := range all {
					ids[v.ID] = true
				}
				if len(ids) != len(all) {
					t.Error("a version came twice")
				}
			})
		})
	}
}

// TestListThatNeverRests: it is given up on, which is told, beside what was seen.
func TestListThatNeverRests(t *testing.T) {
	n := 150
	handler := moving(func(page string) []int {
		if page == "" {
			n++
		}
		return down(n)
	}, func() int { return 7 })
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		all, err := c.AllVersions(ctx, "acme", "app", packages.Active)
		var e *packages.MovingError
		if !errors.As(err, &e) || !errors.Is(err, transport.ErrConflict) || e.Count != 7 || e.Rows != len(all) || len(all) < 150 {
			t.Errorf("%d versions, %v", len(all), err)
		}
	})
}

// TestPagesThatAreAlwaysShort: a page that is short each time, or a last one that is
// empty, does not move. What was read twice the same is the list, if there are as many as
// GitHub counts.
func TestPagesThatAreAlwaysShort(t *testing.T) {
	for _, state := range []packages.VersionState{packages.Active, packages.Deleted} {
		for _, pages := range [][2]int{{99, 51}, {100, 0}} {
			rows := pages[0] + pages[1]
			for count, want := range map[int]bool{rows: true, rows + 1: state == packages.Deleted} {
				handler := func(w *reply, r *http.Request) bool {
					switch r.URL.Path {
					case packagePath:
						w.json(200, `{"id":7,"name":"app","version_count":%d}`, count)
					case versionsPath, numericPath:
						ids := down(rows)
						if list(w, r, ids[:pages[0]]); r.URL.Query().Get("page") == "" {
							w.header.Set("Link", `<https://api.github.com`+numericPath+`?page=2>; rel="next", <https://api.github.com`+numericPath+`?page=2>; rel="last"`)
							break
						}
						w.body.Reset()
						r.URL.RawQuery = ""
						list(w, r, ids[pages[0]:])
					default:
						return false
					}
					return true
				}
				with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
					all, err := c.AllVersions(ctx, "acme", "app", state)
					if (err == nil) != want || len(all) != rows {
						t.Errorf("%s, %v rows, %d counted: %d versions, %v", state, pages, count, len(all), err)
					}
				})
			}
		}
	}
}

// TestListWithoutEnd: a server that always knows of a next page is not asked for ever.
func TestListWithoutEnd(t *testing.T) {
	page := 1
	handler := func(w *reply, r *http.Request) bool {
		switch r.URL.Path {
		case packagePath:
			w.json(200, `{"id":7,"name":"app","version_count":1}`)
		case versionsPath, numericPath:
			if page++; page < 20000 {
				w.header.Set("Link", fmt.Sprintf(`<https://api.github.com%s?page=%d>; rel="next"`, numericPath, page))
			} else {
				w.header.Set("Link", fmt.Sprintf(`<https://api.github.com%s?page=%d>; rel="last"`, numericPath, page))
			}
			w.json(200, "[%s]", version(1))
		default:
			return false
		}
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		var last error
		for _, err := range c.Versions(ctx, "acme", "app", packages.Active) {
			last = err
		}
		if last == nil || len(a.seen) > 11000 {
			t.Errorf("%d requests, %v", len(a.seen), last)
		}
		page = 19999 // and one that begins with its last
		if _, err := c.AllVersions(ctx, "acme", "app", packages.Active); err == nil || errors.Is(err, packages.TooMany) {
			t.Errorf("got %v", err)
		}
	})
}

// TestVersionsStopEarly: who has found what it looked for asks for no more pages.
func TestVersionsStopEarly(t *testing.T) {
	ids := down(950)
	handler := moving(func(string) []int { return ids }, func() int { return 950 })
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		n := 0
		for v, err := range c.Versions(ctx, "acme", "app", packages.Active) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; v.ID == 801 {
				break
			}
		}
		if n != 150 || len(a.seen) != 3 {
			t.Errorf("%d versions in %q", n, a.seen)
		}
		n = 0
		for _, err := range c.Versions(ctx, "acme", "app", "") {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if n != 950 {
			t.Errorf("%d versions", n)
		}
	})
}

// TestLinksStayOnTheHost: a link or redirect to another host would take the token
// there.
func TestLinksStayOnTheHost(t *testing.T) {
	for name, header := range map[string][2]string{
		"link":     {"Link", `<https://evil.example/versions?sig=canary&page=2>; rel="next", <https://evil.example/versions?sig=canary&page=3>; rel="last"`},
		"redirect": {"Location", "https://evil.example/versions"},
	} {
		t.Run(name, func(t *testing.T) {
			handler := func(w *reply, r *http.Request) bool {
				if r.URL.Host != "api.github.com" {
					t.Errorf("%s was sent to %s", r.Header.Get("Authorization"), r.URL.Host)
				}
				switch r.URL.Path {
				case packagePath:
					w.json(200, `{"id":7,"version_count":1}`)
				case versionsPath:
					w.header.Set(header[0], header[1])
					w.json(map[string]int{"Link": 200, "Location": 301}[header[0]], "[%s]", version(1))
				default:
					return false
				}
				return true
			}
			with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
				if _, err := c.AllVersions(ctx, "acme", "app", packages.Active); err == nil || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestRedirectOfARenamedOwner: GETs follow it on the same host, changes do not.
func TestRedirectOfARenamedOwner(t *testing.T) {
	handler := func(w *reply, r *http.Request) bool {
		switch r.URL.Path {
		case packagePath, packagePath + "/versions/1":
			w.header.Set("Location", "/organizations/42/packages/container/app")
			w.json(301, `{"message":"Moved Permanently"}`)
		case "/organizations/42/packages/container/app":
			w.json(200, `{"id":7,"name":"app"}`)
		default:
			return false
		}
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		if p, err := c.Get(ctx, "acme", "app"); err != nil || p.ID != 7 {
			t.Errorf("%+v, %v", p, err)
		}
		if err := c.DeleteVersion(ctx, "acme", "app", 1); err == nil {
			t.Error("a DELETE was followed, or taken for done")
		}
	})
}

// TestCutOffAnswer: a page that ends before its end is asked for again.
func TestCutOffAnswer(t *testing.T) {
	n := 0
	handler := func(w *reply, r *http.Request) bool {
		if r.URL.Path != packagePath {
			return false
		}
		w.json(200, `{"id":7,"name":"app"}`)
		if n++; n < 3 {
			w.cut = true
		}
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		if p, err := c.Get(ctx, "acme", "app"); err != nil || p.ID != 7 || n != 3 {
			t.Errorf("%+v after %d, %v", p, n, err)
		}
	})
}

// TestRESTWindow: more packages than GitHub lists at once are listed by visibility.
func TestRESTWindow(t *testing.T) {
	rows := map[string]int{"": 10049, "public": 9999, "private": 50}
	handler := func(w *reply, r *http.Request) bool {
		if r.URL.Path != "/orgs/acme/packages" && r.URL.Path != "/organizations/42/packages" {
			return false
		}
		q := r.URL.Query()
		listOf(w, r, "/organizations/42/packages?visibility="+q.Get("visibility"), down(rows[q.Get("visibility")]), func(id int) string {
			return fmt.Sprintf(`{"id":%d,"name":"p%d"}`, id, id)
		})
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		list, err := c.List(ctx, "acme", packages.ListOptions{})
		if err != nil || len(list) != 10049 {
			t.Errorf("%d packages, %v", len(list), err)
		}
		for _, n := range []int{10000, 10001} { // the former may be all that GitHub gives
			rows["public"] = n
			if _, err := c.List(ctx, "acme", packages.ListOptions{}); !errors.Is(err, packages.TooMany) || !errors.Is(err, transport.ErrUnsupported) {
				t.Errorf("%d: got %v", n, err)
			}
		}
	})
}

// TestNamesAreOneSegment: a package's name has its slashes escaped, and a name that
// cannot be one is not sent.
func TestNamesAreOneSegment(t *testing.T) {
	with(t, func(*reply, *http.Request) bool { return false }, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		c.Get(ctx, "acme", "tools/lint/go")
		if a.count("GET /orgs/acme/packages/container/tools%2Flint%2Fgo") != 1 {
			t.Errorf("sent %q", a.seen)
		}
		sent := len(a.seen)
		for _, name := range []string{"", "..", "a/../b", "a//b", "a?b", "a b", "/a"} {
			if err := c.Delete(ctx, "acme", name); err == nil {
				t.Errorf("%q was taken for a name", name)
			}
		}
		if err := c.DeleteVersion(ctx, "acme", "app", 0); err == nil {
			t.Error("0 was taken for a number")
		}
		if len(a.seen) != sent {
			t.Errorf("sent %q", a.seen[sent:])
		}
	})
}

// TestOwnersThatAreNoLogin: they would lead to another path.
func TestOwnersThatAreNoLogin(t *testing.T) {
	with(t, func(*reply, *http.Request) bool { return false }, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		for _, owner := range []string{"", ".", "..", "a/b", "a b"} {
			if _, err := c.List(ctx, owner, packages.ListOptions{}); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%q: got %v", owner, err)
			}
		}
		if len(a.seen) > 0 {
			t.Errorf("asked for %q", a.seen)
		}
	})
}

// TestOwnerIsAskedForOnce: whatever is done afterwards.
func TestOwnerIsAskedForOnce(t *testing.T) {
	with(t, func(*reply, *http.Request) bool { return false }, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { c.Get(ctx, "Acme", "app") })
			wg.Go(func() { c.Get(ctx, "acme", "app") })
		}
		wg.Wait()
		if n := a.count("GET /users/"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestErrorTexts: what was tried on what, why it was refused, in GitHub's words.
func TestErrorTexts(t *testing.T) {
	handler := func(w *reply, r *http.Request) bool {
		switch {
		case r.Method == "DELETE" && strings.HasSuffix(r.URL.Path, "/1"):
			w.json(400, `{"message":"You cannot delete the last tagged version of a package. You must delete the package instead."}`)
		case r.Method == "DELETE" && strings.HasSuffix(r.URL.Path, "/2"):
			w.json(403, `{"message":"Resource protected by organization SAML enforcement. You must grant your token access."}`)
		case r.Method == "DELETE" && strings.HasSuffix(r.URL.Path, "/3"):
			w.json(403, "{\"message\":\"`acme` forbids access via a personal access token (classic). Please use the organization's app.\"}")
		case r.URL.Path == packagePath:
			w.json(200, `{"id":7,"name":"app"}`)
		default:
			return false
		}
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		for id, want := range map[int64]string{
			1: "delete version acme/app version 1: it is the last tagged version of its package (GitHub answered 400: You cannot delete the last tagged version of a package. You must delete the package instead.)",
			2: "delete version acme/app version 2: the token is not authorized for the organization's single sign-on (GitHub answered 403: Resource protected by organization SAML enforcement. You must grant your token access.)",
			3: "delete version acme/app version 3: the organization forbids it (GitHub answered 403: `acme` forbids access via a personal access token (classic). Please use the organization's app.)",
			4: "delete version acme/app version 4: it is already deleted (GitHub answered 404: Not Found)",
		} {
			if err := c.DeleteVersion(ctx, "acme", "app", id); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
	})
}

// TestLimitIsNoRefusal: a limit is not taken for a missing permission.
func TestLimitIsNoRefusal(t *testing.T) {
	n := 0
	handler := func(w *reply, r *http.Request) bool {
		if r.Method != "DELETE" {
			return false
		}
		if n++; n == 1 {
			w.header.Set("Retry-After", "90")
			w.json(403, `{"message":"You have exceeded a secondary rate limit."}`)
			return true
		}
		w.json(204, "")
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		began := time.Now()
		if err := c.DeleteVersion(ctx, "acme", "app", 1); err != nil || time.Since(began) < 90*time.Second || n != 2 {
			t.Errorf("%v after %s and %d requests", err, time.Since(began), n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	tc, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"http://api.example.com", "ftp://x", "https://", "https://u:p@x", "x", "https://x/?q=1"} {
		if _, err := packages.New(tc, packages.Options{BaseURL: address}); err == nil {
			t.Errorf("%s was taken", address)
		}
	}
	for _, address := range []string{"https://github.example.com/api/v3/", "http://127.0.0.1:5000/api/v3", "https://api.acme.ghe.com"} {
		if _, err := packages.New(tc, packages.Options{BaseURL: address}); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
