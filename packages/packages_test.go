package packages_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// api answers requests of a client, in virtual time, and notes them.
type api struct {
	handler func(w *reply, r *http.Request)

	mu   sync.Mutex
	seen []string // "GET /users/acme?query"
}

type reply struct {
	status int
	header http.Header
	body   strings.Builder
	cut    bool // the answer ends before its end
}

func (w *reply) json(status int, format string, args ...any) {
	w.status = status
	fmt.Fprintf(&w.body, format, args...)
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.seen = append(a.seen, r.Method+" "+r.URL.RequestURI())
	a.mu.Unlock()
	w := &reply{status: 200, header: http.Header{}}
	a.handler(w, r)
	if w.status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	var body io.Reader = strings.NewReader(w.body.String())
	if w.cut {
		body = io.MultiReader(strings.NewReader(w.body.String()[:5]), iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	return &http.Response{
		StatusCode: w.status, Header: w.header, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(body), ContentLength: -1,
	}, nil
}

// count is how many requests had this beginning.
func (a *api) count(prefix string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, s := range a.seen {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

const token = "ghp_CanaryCanaryCanaryCanaryCanary0000"

// with runs a test with a client whose requests handler answers. What it does not
// answer for is an organization acme.
func with(t *testing.T, handler func(w *reply, r *http.Request) bool, test func(t *testing.T, ctx context.Context, a *api, c *packages.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &api{handler: func(w *reply, r *http.Request) {
			switch {
			case handler(w, r):
			case strings.EqualFold(r.URL.Path, "/users/acme"):
				w.json(200, `{"login":"Acme","id":42,"type":"Organization"}`)
			default:
				w.json(404, `{"message":"Not Found","status":"404"}`)
			}
		}}
		tc, err := transport.New(transport.Options{Base: a, Credentials: transport.Static(map[string]transport.Credential{
			"api.github.com": {Password: transport.NewSecret(token), Source: "GH_TOKEN"},
		})})
		if err != nil {
			t.Fatal(err)
		}
		c, err := packages.New(tc, packages.Options{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, t.Context(), a, c)
	})
}

func version(id int, tags ...string) string {
	list := ""
	if len(tags) > 0 {
		list = `"` + strings.Join(tags, `","`) + `"`
	}
	created := time.Date(2026, 1, 1, 0, 0, id, 0, time.UTC).Format(time.RFC3339)
	return fmt.Sprintf(`{"id":%d,"name":"sha256:%064x","created_at":%q,"updated_at":%q,"metadata":{"package_type":"container","container":{"tags":[%s]}}}`,
		id, id, created, created, list)
}

// list answers with a page of these versions, as GitHub does.
func list(w *reply, r *http.Request, ids []int) {
	listOf(w, r, "/organizations/42/packages/container/app/versions?per_page=100", ids, func(id int) string { return version(id) })
}

func listOf(w *reply, r *http.Request, at string, ids []int, row func(int) string) {
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	page = max(page, 1)
	from, to := min((page-1)*100, len(ids)), min(page*100, len(ids))
	rows := make([]string, 0, 100)
	for _, id := range ids[from:to] {
		rows = append(rows, row(id))
	}
	link := func(n int, rel string) string {
		return fmt.Sprintf(`<https://api.github.com%s&page=%d>; rel="%s"`, at, n, rel)
	}
	if last := (len(ids) + 99) / 100; page < last {
		w.header.Set("Link", link(page+1, "next")+", "+link(last, "last"))
	}
	w.json(200, "[%s]", strings.Join(rows, ","))
}

func down(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = n - i
	}
	return ids
}

func TestAllVersions(t *testing.T) {
	ids := down(950)
	handler := func(w *reply, r *http.Request) bool {
		switch r.URL.Path {
		case "/orgs/acme/packages/container/app":
			w.json(200, `{"id":7,"name":"app","visibility":"internal","version_count":%d}`, len(ids))
		case "/orgs/acme/packages/container/app/versions", "/organizations/42/packages/container/app/versions":
			list(w, r, ids)
		default:
			return false
		}
		return true
	}
	with(t, handler, func(t *testing.T, ctx context.Context, a *api, c *packages.Client) {
		all, err := c.AllVersions(ctx, "acme", "app", packages.Active)
		if err != nil || len(all) != 950 || len(a.seen) != 12 {
			t.Fatalf("%d versions in %d requests: %v", len(all), len(a.seen), err)
		}
		if v := all[0]; v.ID != 950 || v.Metadata.Visibility != packages.Internal || v.Digest() == "" {
			t.Errorf("the first is %+v", v)
		}
	})
}

func unzipped(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return string(data)
}
