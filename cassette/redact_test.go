package cassette_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
)

const inside = "internal-host-name.corp" // what somebody does not want to publish

// recordInside makes a cassette that has it everywhere.
func recordInside(t *testing.T) (dir, layer string) {
	t.Helper()
	layer = "a layer that knows " + inside
	coded := base64.StdEncoding.EncodeToString([]byte("xx" + inside + "xx"))
	long := strings.Repeat("text ", 2000) + inside
	server := &script{answers: []answer{
		{status: 200, header: http.Header{"X-Github-Request-Id": {"1:2:3"}, "Warning": {"299 - at " + inside}}, body: `{"a":"` + inside + `","b":"` + coded + `"}`},
		{status: 200, header: http.Header{"Content-Type": {"text/plain"}}, body: long},
		{status: 200, body: layer},
		{status: 404, body: "nothing at " + inside},
		{err: errors.New("dial " + inside)},
		{status: 200, body: "harmless"},
	}}
	dir = record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/acme/app/tags/list?last="+inside+"&n=5", "")
		ask(t, rt, "GET", host+"/"+inside+"/text", "")
		ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digestOf(layer), "")
		ask(t, rt, "GET", host+"/v2/acme/app/manifests/none", "")
		tryAsk(t, rt, "GET", host+"/fails", "")
		ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digestOf("harmless"), "")
	})
	return dir, layer
}

// contains tells in which files of a directory a text is.
func contains(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRedact takes a value out of every place that it may be in, by its value or by a
// pattern, and leaves a cassette that is sound and replays the rest.
func TestRedact(t *testing.T) {
	from, layer := recordInside(t)
	for name, r := range map[string]cassette.Redaction{
		"value":   {Secrets: []string{inside}, Headers: []string{"x-github-request-id"}, Query: []string{"n"}},
		"pattern": {Patterns: []*regexp.Regexp{regexp.MustCompile(`internal-[a-z-]+\.corp`)}, Headers: []string{"X-GitHub-Request-Id"}, Query: []string{"n"}},
	} {
		to := filepath.Join(t.TempDir(), "new")
		done, err := cassette.Redact(t.Context(), from, to, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if done.Changed != 5 || done.Elided != 1 {
			t.Errorf("%s: %+v", name, done)
		}
		for _, text := range []string{inside, "1:2:3", "n=5"} {
			if names := contains(t, to, text); len(names) > 0 {
				t.Errorf("%s: %s is in %v", name, text, names)
			}
		}
		if name == "value" {
			if names := contains(t, to, base64.StdEncoding.EncodeToString([]byte("xxinternal-"))[3:10]); len(names) > 0 {
				t.Errorf("%s: it is in base64 in %v", name, names)
			}
		}
		sum, err := cassette.Verify(t.Context(), to, cassette.Options{Secrets: r.Secrets})
		if err != nil || sum.Elided != 1 || sum.Interactions != 6 {
			t.Fatalf("%s: %+v, %v", name, sum, err)
		}
		c, err := cassette.Open(to, cassette.Options{AllowUnused: true, Secrets: r.Secrets})
		if err != nil {
			t.Fatal(err)
		}
		before, err := cassette.Open(from, cassette.Options{AllowUnused: true})
		if err != nil {
			t.Fatal(err)
		}
		if c.Seed() != before.Seed() || c.Annotations()[cassette.AnnotationCreated] != before.Annotations()[cassette.AnnotationCreated] || c.Annotations()[cassette.AnnotationOrigin] != "emulator" {
			t.Errorf("%s: it is another recording: %v", name, c.Annotations())
		}
		if got := ask(t, c, "GET", host+"/v2/acme/app/blobs/"+digestOf("harmless"), ""); got != "200 harmless" {
			t.Errorf("%s: %s", name, got)
		}
		if got := ask(t, c, "GET", host+"/v2/acme/app/manifests/none", ""); got != "404 nothing at {secret}" {
			t.Errorf("%s: %s", name, got)
		}
		if name == "value" { // with the secret, requests that have it match
			if got := ask(t, c, "GET", host+"/"+inside+"/text", ""); !strings.HasSuffix(got, "text {secret}") {
				t.Errorf("%s: %s", name, got)
			}
		}
		if _, err := tryAsk(t, c, "GET", host+"/v2/acme/app/blobs/"+digestOf(layer), ""); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "only the digest is kept") {
			t.Errorf("%s: the layer: %v", name, err)
		}
		c.Close()
		before.Close()
	}
}

// TestRedactRefuses leaves nothing behind of what it does not make.
func TestRedactRefuses(t *testing.T) {
	from, _ := recordInside(t)
	for name, test := range map[string]struct {
		r    cassette.Redaction
		from string
	}{
		"a short secret":    {cassette.Redaction{Secrets: []string{"corp"}}, from},
		"all of a path":     {cassette.Redaction{Patterns: []*regexp.Regexp{regexp.MustCompile(`.+`)}}, from},
		"what is not there": {cassette.Redaction{}, filepath.Join(t.TempDir(), "none")},
		"no cassette":       {cassette.Redaction{}, t.TempDir()},
	} {
		to := filepath.Join(t.TempDir(), "new")
		if _, err := cassette.Redact(t.Context(), test.from, to, test.r); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(to, "index.json")); err == nil {
			t.Errorf("%s: there is a cassette", name)
		}
	}
	if _, err := cassette.Redact(t.Context(), from, from, cassette.Redaction{}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("onto itself: got %v", err)
	}
	if _, err := cassette.Verify(t.Context(), from, cassette.Options{}); err != nil {
		t.Errorf("it was changed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cassette.Redact(ctx, from, t.TempDir(), cassette.Redaction{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestHAR: the archive says what was recorded, in the form that others read.
func TestHAR(t *testing.T) {
	binary := "\x00\xff\xfe binary"
	server := &script{answers: []answer{
		{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: `{"a":"</script>"}`},
		{status: 200, body: binary},
		{err: errors.New("no route")},
		{status: 200, body: strings.Repeat("large", 100)},
	}}
	dir := record(t, cassette.Options{StoreRequestBodies: true}, server, func(rt http.RoundTripper) {
		ask(t, rt, "POST", host+"/orgs/acme?page=2&x=secret", `{"q":1}`, "Content-Type", "application/json", "Authorization", "Bearer ghp_0123456789abcdef0123")
		ask(t, rt, "GET", host+"/b", "")
		tryAsk(t, rt, "GET", host+"/c", "")
		ask(t, rt, "GET", host+"/d", "")
	})
	c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out strings.Builder
	if err := c.WriteHAR(&out, 100); err != nil {
		t.Fatal(err)
	}
	type pair struct{ Name, Value string }
	var har struct {
		Log struct {
			Version string
			Creator struct{ Name, Version string }
			Entries []struct {
				StartedDateTime time.Time
				Time            float64
				Request         struct {
					Method, URL, HTTPVersion string
					Cookies, Headers         []pair
					QueryString              []pair
					PostData                 *struct{ MimeType, Text string }
					HeadersSize, BodySize    int
				}
				Response struct {
					Status     int
					StatusText string
					Headers    []pair
					Content    struct {
						Size                              int
						MimeType, Text, Encoding, Comment string
					}
					RedirectURL *string
					Error       string `json:"_error"`
				}
				Cache   *struct{}
				Timings struct{ Send, Wait, Receive *float64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(out.String()), &har); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	entries := har.Log.Entries
	if har.Log.Version != "1.2" || len(entries) != 4 {
		t.Fatalf("got %+v", har)
	}
	for _, e := range entries {
		if e.StartedDateTime.IsZero() || e.Cache == nil || e.Timings.Send == nil || e.Timings.Wait == nil || e.Timings.Receive == nil || e.Response.RedirectURL == nil || e.Request.Cookies == nil || e.Request.QueryString == nil {
			t.Errorf("a field that must be there is not: %+v", e)
		}
	}
	first := entries[0]
	if first.Request.PostData == nil || first.Request.PostData.Text != `{"q":1}` || first.Response.Content.Text != `{"a":"</script>"}` || first.Response.Content.MimeType != "application/json" {
		t.Errorf("got %+v", first)
	}
	if q := first.Request.QueryString; len(q) != 2 || q[0] != (pair{"page", "2"}) || q[1] != (pair{"x", "{redacted}"}) {
		t.Errorf("query: %+v", q)
	}
	if b := entries[1].Response.Content; b.Encoding != "base64" || b.Text != base64.StdEncoding.EncodeToString([]byte(binary)) {
		t.Errorf("binary: %+v", b)
	}
	if r := entries[2].Response; r.Status != 0 || r.Error == "" {
		t.Errorf("failed: %+v", r)
	}
	if b := entries[3].Response.Content; b.Text != "" || b.Size != 500 || !strings.Contains(b.Comment, digestOf(strings.Repeat("large", 100))) {
		t.Errorf("large: %+v", b)
	}
	if strings.Contains(out.String(), "ghp_0123") || strings.Contains(out.String(), "secret") {
		t.Errorf("it has a secret:\n%s", out.String())
	}
}

// TestRedactLooksEverywhere: what a pattern finds is not kept in a part of a file that
// another answer gave the rest of, nor in large files or in the name of a host.
func TestRedactLooksEverywhere(t *testing.T) {
	find := func(p string) cassette.Redaction {
		return cassette.Redaction{Patterns: []*regexp.Regexp{regexp.MustCompile(p)}}
	}
	blob := "here is " + inside + " and more"
	pieces := []answer{
		{status: 206, body: blob[:35], header: http.Header{"Content-Range": {fmt.Sprintf("bytes 0-34/%d", len(blob))}}},
		{status: 206, body: blob[35:], header: http.Header{"Content-Range": {fmt.Sprintf("bytes 35-%d/%d", len(blob)-1, len(blob))}}},
	}
	inPieces := record(t, cassette.Options{}, &script{answers: pieces}, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digestOf(blob), "", "Range", "bytes=0-34")
		ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digestOf(blob), "", "Range", fmt.Sprintf("bytes=35-%d", len(blob)-1))
	})
	large := strings.Repeat("x", 2<<20) + inside
	inLarge := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: large}, {status: 200, body: large}}}, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digestOf(large), "")
		ask(t, rt, "GET", host+"/text", "")
	})
	for dir, pattern := range map[string]string{inPieces: `internal-[a-z-]+\.corp`, inLarge: `internal-[a-z-]+\.corp`} {
		to := filepath.Join(t.TempDir(), "new")
		done, err := cassette.Redact(t.Context(), dir, to, find(pattern))
		if err != nil || done.Elided != 2 {
			t.Errorf("%s: %+v, %v", pattern, done, err)
		}
		if names := contains(t, to, inside); len(names) > 0 {
			t.Errorf("it is in %v", names)
		}
	}
	to := filepath.Join(t.TempDir(), "new")
	if _, err := cassette.Redact(t.Context(), inPieces, to, find(`ghcr\.`)); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "the host ghcr.io") {
		t.Errorf("in the name of a host: %v", err)
	}
}
