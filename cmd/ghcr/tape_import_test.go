package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/cassette"
)

// vcrText writes a file of go-vcr with one interaction.
func vcrText(url, header, value, body string, code int) string {
	return fmt.Sprintf("version: 2\ninteractions:\n  - request: {method: GET, url: %q, headers: {%q: [%q]}}\n    response: {code: %d, body: %q, content_length: %d}\n", url, header, value, code, body, len(body))
}

// TestImportRefuses: what is no file of go-vcr, or a hostile one, is told so in little
// time and memory.
func TestImportRefuses(t *testing.T) {
	ok := vcrText("https://ghcr.io/v2/", "Accept", "*/*", "", 200)
	if _, err := parseVCR([]byte(ok)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":          {"", "no version"},
		"no YAML":          {"{", "no YAML"},
		"a list":           {"- version: 2", "no version"},
		"a later version":  {"version: 3", "version 3 of go-vcr"},
		"version of words": {"version: two", "no version"},
		"deep":             {"version: 2\ninteractions: " + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "no YAML"},
		"an alias":         {"version: 2\ninteractions: &a [*a]", "alias"},
		"a merge":          {"version: 2\ninteractions:\n  - request: {<<: {url: x}}\n", "alias"},
		"words for a list": {"version: 2\ninteractions: many", "no file of go-vcr"},
		"a file's URL":     {vcrText("file:///etc/passwd", "A", "b", "", 200), "none of a server"},
		"a broken URL":     {vcrText("https://ghp_x:%zz@ghcr.io/", "A", "b", "", 200), "malformed"},
		"code 0":           {vcrText("https://ghcr.io/", "A", "b", "", 0), "the code 0"},
		"code 101":         {vcrText("https://ghcr.io/", "A", "b", "", 101), "the code 101"},
		"header with LF":   {vcrText("https://ghcr.io/", "A", "b\nC: d", "", 200), "malformed header"},
		"a bad method":     {strings.Replace(ok, "method: GET", "method: 'G T'", 1), "malformed"},
	} {
		_, err := parseVCR([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "ghp_x") {
			t.Errorf("%s: the error shows what may be secret: %v", name, err)
		}
	}
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxVCR+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readVCR(large); err == nil || !strings.Contains(err.Error(), "more than 67 MB") {
		t.Errorf("a large file: got %v", err)
	}
	if _, err := readVCR(t.TempDir()); err == nil {
		t.Error("a directory is a file")
	}
}

const importCanary = "ghp_CANARY0123456789abcdefghij"

// TestImportLeaksNothing: a token that go-vcr has kept, wherever that is, is not in the
// cassette, and what cannot be kept without it is refused.
func TestImportLeaksNothing(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + importCanary))
	for name, text := range map[string]string{
		"bearer":   vcrText("https://ghcr.io/v2/acme/app/tags/list", "Authorization", "Bearer "+importCanary, `{"tags":[]}`, 200),
		"basic":    vcrText("https://ghcr.io/token?scope=repository:acme/app:pull&service=ghcr.io", "Authorization", "Basic "+basic, `{"token":"`+importCanary+`"}`, 200),
		"direct":   vcrText("https://ghcr.io/v2/acme/app/tags/list", "Authorization", "Bearer "+base64.StdEncoding.EncodeToString([]byte(importCanary)), `{"tags":[]}`, 200),
		"URL":      vcrText("https://ghcr.io/v2/acme/app/tags/list?access_token="+importCanary, "A", "b", "no", 401),
		"user":     vcrText("https://me:"+importCanary+"@ghcr.io/v2/", "A", "b", "no", 401),
		"header":   vcrText("https://ghcr.io/v2/", "X-Custom", importCanary, "no", 401),
		"accept":   vcrText("https://ghcr.io/v2/", "Accept", importCanary, "no", 401),
		"body":     vcrText("https://ghcr.io/v2/", "A", "b", "you sent "+importCanary, 401),
		"manifest": vcrText("https://ghcr.io/v2/acme/app/manifests/v1", "A", "b", `{"x":"`+importCanary+`"}`, 200),
	} {
		list, err := parseVCR([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dir := filepath.Join(t.TempDir(), "tape")
		err = importVCR(dir, list, cassette.Options{})
		if (err != nil) != (name == "manifest") {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), importCanary) {
			t.Errorf("%s: the error shows it", name)
		}
		noCanary(t, name, dir)
	}
	if _, err := parseVCR([]byte("version: 2\ninteractions: [{response: {code: ghp_short}}]\n")); err == nil || strings.Contains(err.Error(), "ghp_") {
		t.Errorf("the error shows what is in the file: %v", err)
	}
}

func noCanary(t *testing.T, name, dir string) {
	t.Helper()
	forms := []string{importCanary, url.QueryEscape(importCanary)}
	for shift := range 3 {
		coded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + importCanary))
		forms = append(forms, coded[4:len(coded)-4])
	}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		for _, form := range forms {
			if bytes.Contains(data, []byte(form)) {
				t.Errorf("%s: it is in %s", name, path)
			}
		}
		return nil
	})
}

// FuzzImport: whatever is imported is refused, or becomes a cassette that is sound and
// holds no token.
func FuzzImport(f *testing.F) {
	f.Add([]byte(vcrText("https://ghcr.io/v2/acme/app/manifests/v1", "Authorization", "Bearer "+importCanary, "{}", 200)))
	f.Add([]byte(vcrText("https://ghcr.io/v2/acme/app/blobs/uploads/", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("a:"+importCanary)), importCanary, 202)))
	f.Add([]byte("version: 2\ninteractions:\n  - request: {method: PUT, url: 'https://ghcr.io/v2/a/b/blobs/upload/x?digest=sha256:00', body: abc}\n    response: {code: 201, headers: {Location: [/v2/a/b/blobs/upload/y]}, body: !!binary AAEC, content_length: -1}\n"))
	f.Add([]byte("version: 2\ninteractions: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		list, err := parseVCR(data)
		if err != nil {
			return
		}
		dir := filepath.Join(t.TempDir(), "tape")
		opts := cassette.Options{AllowWrongDigests: true}
		if err := importVCR(dir, list, opts); err == nil {
			if _, err := cassette.Verify(t.Context(), dir, opts); err != nil {
				t.Errorf("it is not sound: %v\n%s", err, data)
			}
		}
		noCanary(t, "fuzzed", dir)
	})
}
