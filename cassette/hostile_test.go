package cassette_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestHostileCassettesAreRefused, with a reason, and nothing outside of the
// directory is read.
func TestHostileCassettesAreRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	body := oci.Digest(digestOf("0123456789"))
	index := func(dir string) string { return filepath.Join(dir, "index.json") }
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// line changes the first line of the journal, whose chain then begins anew.
	line := func(old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			first, _, _ := bytes.Cut(journalOf(t, dir), []byte("\n"))
			changed := bytes.Replace(first, []byte(old), []byte(new), 1)
			if bytes.Equal(changed, first) {
				t.Fatalf("%s has no %s", first, old)
			}
			forge(t, dir, append(changed, '\n'))
		}
	}
	rewrite := func(name, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			must(t, err)
			changed := bytes.Replace(data, []byte(old), []byte(new), 1)
			if bytes.Equal(changed, data) {
				t.Fatalf("%s has no %s", data, old)
			}
			must(t, os.WriteFile(path, changed, 0o644))
		}
	}
	type hostile = func(*testing.T, string)
	for name, test := range map[string]struct {
		change hostile
		want   string // in the error
	}{
		"no layout":          {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "oci-layout"))) }, "no file oci-layout"},
		"another layout":     {rewrite("oci-layout", "1.0.0", "2.0.0"), "it is not"},
		"no index":           {func(t *testing.T, dir string) { must(t, os.Remove(index(dir))) }, "index.json"},
		"index is no JSON":   {rewrite("index.json", "{", "["), "index.json"},
		"index is large":     {func(t *testing.T, dir string) { must(t, os.WriteFile(index(dir), make([]byte, 2<<20), 0o644)) }, "at most"},
		"index with two":     {rewrite("index.json", `"manifests":[`, `"manifests":[{},`), "lists 2"},
		"index of an image":  {rewrite("index.json", cassette.ArtifactType, "application/vnd.example"), "no cassette"},
		"index with a path":  {rewrite("index.json", `"digest":"sha256:`, `"digest":"sha256:../../`), "malformed digest"},
		"index with sha512":  {rewrite("index.json", `"digest":"sha256:`, `"digest":"sha512:`), "malformed digest"},
		"index in capitals":  {rewrite("index.json", `"digest"`, `"Digest"`), `"Digest"`},
		"index with a field": {rewrite("index.json", `"schemaVersion"`, `"subject":{},"schemaVersion"`), `"subject"`},
		"oci-layout is a directory": {func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "oci-layout")))
			must(t, os.Mkdir(filepath.Join(dir, "oci-layout"), 0o755))
		}, "not a file"},
		"manifest is another": {func(t *testing.T, dir string) {
			must(t, os.WriteFile(blobPath(dir, pinOf(t, dir)), []byte("{}"), 0o644))
		}, "digest"},
		"journal is cut": {func(t *testing.T, dir string) {
			j := journalOf(t, dir)
			forge(t, dir, j[:len(j)-2])
		}, "cut off"},
		"journal without an end": {func(t *testing.T, dir string) { forge(t, dir, bytes.Repeat([]byte("x"), 2<<20)) }, "cut off"},
		"line too long":          {func(t *testing.T, dir string) { forge(t, dir, append(bytes.Repeat([]byte(" "), 2<<20), '\n')) }, "more than is read"},
		"line is no JSON":        {func(t *testing.T, dir string) { forge(t, dir, []byte("null?\n")) }, "line 1"},
		"line is null":           {func(t *testing.T, dir string) { forge(t, dir, []byte("null\n")) }, "version"},
		"deeply nested": {func(t *testing.T, dir string) {
			forge(t, dir, []byte(`{"v":1,"cap":`+strings.Repeat("[", 100_000)+"\n"))
		}, "line 1"},
		"white space":           {line(`{"v":1,`, `{"v":1, `), "not written"},
		"field twice":           {line(`{"v":1,`, `{"v":1,"v":1,`), "not written"},
		"unknown field":         {line(`{"v":1,`, `{"v":1,"x":1,`), "unknown field"},
		"another version":       {line(`{"v":1,`, `{"v":2,`), "version 2"},
		"negative time":         {line(`"start":`, `"start":-`), "times"},
		"endless":               {line(`"dur":`, `"dur":9000000000000`), "times"},
		"negative epoch":        {line(`"epoch":0`, `"epoch":-1`), "negative"},
		"method":                {line(`"m":"GET"`, `"m":"GET /x"`), "method"},
		"scheme":                {line(`"scheme":"https"`, `"scheme":"file"`), "scheme"},
		"host":                  {line(`"host":"ghcr.io"`, `"host":"ghcr.io/../x"`), "host"},
		"path":                  {line(`"path":"/v2`, `"path":"v2`), "URL"},
		"broken path":           {line(`"path":"/v2`, `"path":"/%zz/v2`), "path"},
		"line break in a query": {line(`"path":`, `"query":"a\nb","path":`), ""},
		"status":                {line(`"status":200`, `"status":99`), "status"},
		"switching protocols":   {line(`"status":200`, `"status":101`), "status"},
		"length":                {line(`"len":15`, `"len":-2`), "length"},
		"header name":           {line(`"Content-Type":`, `"Content-Type\r\nX":`), "header"},
		"header not canonical":  {line(`"Content-Type":`, `"content-type":`), "header"},
		"header value":          {line(`"application/json"`, `"application/json\r\nX: y"`), "header"},
		"many headers":          {line(`["application/json"]`, `["x"`+strings.Repeat(`,"x"`, 1000)+`]`), "header"},
		"body kept nowhere":     {line(`"mode":"inline"`, `"mode":"floppy"`), "floppy"},
		"body of another size":  {line(`"size":15`, `"size":16`), "size"},
		"body of negative size": {line(`"size":15`, `"size":-15`), "size"},
		"body of other text":    {line(`{\"tags\":[\"v1\"]}`, `{\"tags\":[\"v2\"]}`), "digest"},
		"body by path":          {line(`"digest":"sha256:`, `"digest":"sha256:../../../`), "malformed digest"},
		"slice of nothing":      {line(`"mode":"inline"`, `"mode":"slice"`), "body"},
		"huge generated":        {line(`"mode":"empty"`, `"mode":"generated"`), "body"},
		"failure":               {line(`"len":15`, `"err":{"class":"panic","text":""},"len":15`), ""},
		"body is missing":       {func(t *testing.T, dir string) { must(t, os.Remove(blobPath(dir, body))) }, "missing"},
		"body is a link": {func(t *testing.T, dir string) {
			must(t, os.Remove(blobPath(dir, body)))
			must(t, os.Symlink(outside, blobPath(dir, body)))
		}, "not a file"},
		"blobs is a link": {func(t *testing.T, dir string) {
			away := filepath.Join(t.TempDir(), "away")
			must(t, os.Rename(filepath.Join(dir, "blobs"), away))
			must(t, os.Symlink(away, filepath.Join(dir, "blobs")))
		}, "escapes"},
		"body is longer": {func(t *testing.T, dir string) {
			must(t, os.Truncate(blobPath(dir, body), 1<<40))
		}, "got 1099511627776 bytes"},
		"body is a directory": {func(t *testing.T, dir string) {
			must(t, os.Remove(blobPath(dir, body)))
			must(t, os.Mkdir(blobPath(dir, body), 0o755))
		}, "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(name, "link") {
				t.Skip("links need a privilege")
			}
			dir := small(t)
			test.change(t, dir)
			_, err := cassette.Verify(t.Context(), dir, cassette.Options{})
			if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("verified with %v, want %q", err, test.want)
			}
			c, err := cassette.Open(dir, cassette.Options{})
			if err != nil {
				if !errors.Is(err, oci.ErrInvalid) {
					t.Errorf("opened with %v", err)
				}
				return
			}
			// What is wrong with a body shows when it is read.
			text, err := tryAsk(t, c, "GET", host+"/v2/a/b/blobs/"+string(body), "", "Range", "bytes=0-5")
			if err == nil {
				t.Errorf("replayed %q", text)
			}
			c.Close()
		})
	}
}

// FuzzJournal: whatever a journal says, opening, replaying and verifying it ends,
// and without a panic; what is accepted is written back as it was read.
func FuzzJournal(f *testing.F) {
	dir := small(f)
	journal := journalOf(f, dir)
	f.Add(journal)
	for line := range bytes.Lines(journal) {
		f.Add(line)
	}
	f.Add([]byte(`{"v":1,"seq":1,"prev":"","t":{"start":0,"ttfb":0,"dur":0},"epoch":0,"req":{"m":"GET","role":"cdn","route":"x","scheme":"https","host":"a","path":"/{upload:1}","body":{"mode":"empty"}},"res":{"status":200,"len":0,"body":{"mode":"empty"}},"cap":[{"var":"upload:99999999999","in":"Location"}]}` + "\n"))
	f.Fuzz(func(t *testing.T, journal []byte) {
		forged := t.TempDir()
		if err := os.CopyFS(forged, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		forge(t, forged, journal)
		cassette.Verify(t.Context(), forged, cassette.Options{})
		c, err := cassette.Open(forged, cassette.Options{AllowWrongDigests: true})
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("opened with %v", err)
			}
			return
		}
		defer c.Close()
		for e := range c.Interactions() {
			req, err := http.NewRequestWithContext(t.Context(), e.Request.Method, e.Request.URL(), nil)
			if err != nil {
				continue
			}
			for name, values := range e.Request.Header {
				req.Header[name] = values
			}
			if e.Response.Error != nil && e.Response.Error.Class == "gave-up" {
				continue // it waits for the end of the request
			}
			if resp, err := c.RoundTrip(req); err == nil {
				io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
				resp.Body.Close()
			}
		}
	})
}

// FuzzFiles: whatever the other files say.
func FuzzFiles(f *testing.F) {
	dir := small(f)
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		f.Fatal(err)
	}
	manifest, err := os.ReadFile(blobPath(dir, pinOf(f, dir)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(index, manifest)
	f.Fuzz(func(t *testing.T, index, manifest []byte) {
		forged := t.TempDir()
		if err := os.CopyFS(forged, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		// The manifest is found, so that what it says is looked at.
		d := digest.FromBytes(manifest)
		index = bytes.ReplaceAll(index, []byte(pinOf(t, dir)), []byte(d))
		for path, data := range map[string][]byte{blobPath(forged, d): manifest, filepath.Join(forged, "index.json"): index} {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := cassette.Verify(t.Context(), forged, cassette.Options{}); err != nil && !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("verified with %v", err)
		}
	})
}

// FuzzRequest: whatever is asked of a replay, and recorded of a program, is answered
// or refused.
func FuzzRequest(f *testing.F) {
	dir := small(f)
	f.Add("GET", "/v2/a/b/tags/list", "n=1", "Basic eDp5", "x")
	f.Add("POST", "/token", "scope=repository:a:b", "Bearer x", "grant_type=password&password=secret%zz")
	f.Add("PUT", "/v2/a/blobs/uploads/x/y", "digest=sha256:x&_state=%7Bsigned%7D", "", "x")
	f.Add("GET", "/v2/{upload:1}/blobs/upload/{upload:2}", "{signed}", "token {token}", "")
	f.Fuzz(func(t *testing.T, method, path, query, auth, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, host, strings.NewReader(body))
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		req.URL.Path, req.URL.RawQuery = path, query
		if _, err := http.NewRequestWithContext(t.Context(), method, req.URL.String(), nil); err != nil {
			return // no client would send it
		}
		req.Header.Set("Authorization", auth)
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		c.Close()

		fresh := t.TempDir()
		c, err = cassette.Open(fresh, cassette.Options{Mode: cassette.ModeRecord, Base: &script{answers: []answer{{
			status: 202, body: body, header: http.Header{"Location": {path + "?" + query}, "Link": {"<" + path + ">"}, "Etag": {auth}},
		}}}, AllowWrongDigests: true})
		if err != nil {
			t.Fatal(err)
		}
		req.Body = io.NopCloser(strings.NewReader(body))
		if resp, err := c.RoundTrip(req); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if c.Close() != nil {
			return
		}
		if _, err := cassette.Verify(t.Context(), fresh, cassette.Options{}); err != nil {
			t.Errorf("what was sealed is refused: %v", err)
		}
	})
}
