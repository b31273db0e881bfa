package cassette_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

const tagsURL = host + "/v2/acme/app/tags/list"

// TestOnce records where there is nothing, and then replays.
func TestOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	server := &script{answers: []answer{{status: 200, body: "first"}, {status: 200, body: "second"}}}
	for i, want := range []cassette.Mode{cassette.ModeRecord, cassette.ModeReplay, cassette.ModeReplay} {
		c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeOnce, Base: server})
		if err != nil {
			t.Fatal(err)
		}
		if c.Mode() != want {
			t.Errorf("run %d: mode %s", i, c.Mode())
		}
		if got := ask(t, c, "GET", tagsURL, ""); got != "200 first" {
			t.Errorf("run %d: %q", i, got)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRecordAgain replaces the old cassette when the new one is sealed, and not
// before or if it cannot be.
func TestRecordAgain(t *testing.T) {
	blob := host + "/v2/acme/app/blobs/"
	dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: "old"}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", blob+digestOf("old"), "") })
	pin := pinOf(t, dir)
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: &script{answers: []answer{{status: 200, body: "not what it says"}}}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "GET", blob+digestOf("new"), "")
	if pinOf(t, dir) != pin {
		t.Error("the old one went before the new one was there")
	}
	if err := c.Close(); err == nil {
		t.Error("a broken recording was kept")
	}
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{Pin: pin}); err != nil {
		t.Errorf("the old one after a failure: %v", err)
	}
	recordTo(t, dir, cassette.Options{}, &script{answers: []answer{{status: 200, body: "new"}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", blob+digestOf("new"), "") })
	if s, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil || s.Bodies != 1 || s.Digest == pin {
		t.Errorf("the new one: %+v, %v", s, err)
	}
}

// TestRecordsOverNothingElse: an image layout, which looks like a cassette from the
// outside, is not replaced by one, and a cassette that is damaged is.
func TestRecordsOverNothingElse(t *testing.T) {
	opts := cassette.Options{Mode: cassette.ModeRecord, Base: &script{answers: []answer{{status: 204}}}}
	images := t.TempDir()
	if err := image(1, 2).WriteLayout(images, "v1"); err != nil {
		t.Fatal(err)
	}
	before := files(t, images)
	unread := t.TempDir()
	if err := os.WriteFile(filepath.Join(unread, "index.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	among := small(t)
	if err := os.WriteFile(filepath.Join(among, "notes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{images, unread, among} {
		if _, err := cassette.Open(dir, opts); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
	if after := files(t, images); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("the images were changed")
	}
	damaged := small(t)
	for path := range files(t, damaged) {
		if strings.Contains(path, "blobs") {
			if err := os.WriteFile(path, []byte("damage"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	recordTo(t, damaged, cassette.Options{}, &script{answers: []answer{{status: 204}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", tagsURL, "") })
}

// TestSealedStays: a cassette that is whole is not taken away again because what is
// left over of the old one cannot be removed.
func TestSealedStays(t *testing.T) {
	blob := host + "/v2/acme/app/blobs/"
	dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: "old"}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", blob+digestOf("old"), "") })
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256/other/full"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: &script{answers: []answer{{status: 200, body: "new"}}}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "GET", blob+digestOf("new"), "")
	if err := c.Close(); err == nil {
		t.Error("what cannot be removed was not told of")
	}
	replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
		if got := ask(t, rt, "GET", blob+digestOf("new"), ""); got != "200 new" {
			t.Error(got)
		}
	})
}

// TestDiscard leaves what was there before, and nothing where there was nothing.
func TestDiscard(t *testing.T) {
	blob := host + "/v2/acme/app/blobs/"
	dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: "old"}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", blob+digestOf("old"), "") })
	pin, fresh := pinOf(t, dir), filepath.Join(t.TempDir(), "fresh")
	for _, at := range []string{dir, fresh} {
		for _, mode := range []cassette.Mode{cassette.ModeRecord, cassette.ModeAppend} {
			c, err := cassette.Open(at, cassette.Options{Mode: mode, Base: &script{answers: []answer{{status: 200, body: "new"}}}})
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c, "GET", blob+digestOf("new"), "")
			if err := c.Discard(); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			if err := c.Discard(); err != nil {
				t.Errorf("%s, again: %v", mode, err)
			}
		}
	}
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{Pin: pin}); err != nil {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a cassette was made")
	}
}

// TestUnusedFails, unless it is allowed.
func TestUnusedFails(t *testing.T) {
	dir := small(t)
	c, err := cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "GET", host+"/v2/a/b/tags/list", "")
	var unused *cassette.UnusedError
	if err := c.Close(); !errors.As(err, &unused) || len(unused.Interactions) != 3 {
		t.Errorf("closed with %v", err)
	}
	replay(t, cassette.Options{AllowUnused: true}, dir, func(http.RoundTripper) {})
}

// TestAppend asks the network for what the cassette does not have, and then has it.
// A token that the replay made up is exchanged for a real one first.
func TestAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.DirectBearer = false
		server := emulator(t, &quirks)
		for i, tag := range []string{"v1", "v2"} {
			if err := server.Add("acme/app", tag, image(uint64(i), 1)); err != nil {
				t.Fatal(err)
			}
		}
		resolve := func(rt http.RoundTripper, tags ...string) {
			t.Helper()
			c := client(t, rt)
			ref, err := c.ParseRef("acme/app")
			if err != nil {
				t.Fatal(err)
			}
			repo, err := c.Repository(ref)
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range tags {
				if _, err := repo.Resolve(t.Context(), tag); err != nil {
					t.Errorf("%s: %v", tag, err)
				}
			}
		}
		dir := record(t, cassette.Options{}, server.Transport(), func(rt http.RoundTripper) { resolve(rt, "v1") })
		server.ResetRequests()
		c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeAppend, Base: server.Transport()})
		if err != nil {
			t.Fatal(err)
		}
		resolve(c, "v1", "v2")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, r := range server.Requests() {
			if r.Ref == "v1" {
				t.Errorf("what is recorded was asked for again: %+v", r)
			}
		}
		if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil {
			t.Error(err)
		}
		replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { resolve(rt, "v1", "v2") })
	})
}

// TestDrift tells what the server answers otherwise than it did, and what it makes
// up anew each time is no difference.
func TestDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.DirectBearer = false
		server := emulator(t, &quirks)
		img := image(1, 1)
		if err := server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		pull := func(rt http.RoundTripper) {
			copyImage(t, rt, "acme/app:v1", "oci:"+t.TempDir(), transfer.Options{Jobs: 1})
		}
		dir := record(t, cassette.Options{}, server.Transport(), pull)
		drift := func(do func(http.RoundTripper)) error {
			c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeDrift, Base: server.Transport(), AllowUnused: true})
			if err != nil {
				t.Fatal(err)
			}
			do(c)
			return c.Close()
		}
		if err := drift(pull); err != nil {
			t.Errorf("nothing has changed: %v", err)
		}
		if err := server.Add("acme/app", "v1", image(2, 1)); err != nil {
			t.Fatal(err)
		}
		server.ResetRequests()
		err := drift(func(rt http.RoundTripper) {
			pull(rt)
			if _, err := tryAsk(t, rt, "PUT", host+"/v2/acme/app/manifests/v1", "{}"); !errors.Is(err, cassette.ErrNotRecorded) {
				t.Errorf("a write: %v", err)
			}
		})
		var drifted *cassette.DriftError
		if !errors.As(err, &drifted) || !strings.Contains(err.Error(), "/v2/acme/app/manifests/v1\n    ") || !strings.Contains(err.Error(), img.Digest().String()) {
			t.Errorf("the tag has moved: %v", err)
		}
		synctest.Wait()
		for _, r := range server.Requests() {
			if r.Method != "GET" && r.Method != "HEAD" {
				t.Errorf("%s %s went out", r.Method, r.Path)
			}
		}
	})
}

// TestPassthroughAndOff keep nothing; the one still checks what comes back.
func TestPassthroughAndOff(t *testing.T) {
	dir := t.TempDir()
	for mode, wrong := range map[cassette.Mode]bool{cassette.ModePassthrough: true, cassette.ModeOff: false} {
		server := &script{answers: []answer{{status: 200, body: "x"}}}
		c, err := cassette.Open(dir, cassette.Options{Mode: mode, Base: server})
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, c, "GET", host+"/v2/acme/app/blobs/"+digestOf("y"), ""); got != "200 x" {
			t.Errorf("%s: %q", mode, got)
		}
		if err := c.Close(); errors.Is(err, oci.ErrIntegrity) != wrong {
			t.Errorf("%s: closed with %v", mode, err)
		}
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%d files were left", len(left))
	}
}

// TestRecover: a recording whose program was killed is kept up to there.
func TestRecover(t *testing.T) {
	dir := t.TempDir()
	server := &script{answers: []answer{{status: 200, body: "blob"}, {status: 200, body: "tags"}, {status: 200, body: "more"}}}
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: server})
	if err != nil {
		t.Fatal(err)
	}
	blobURL := host + "/v2/acme/app/blobs/" + digestOf("blob")
	ask(t, c, "GET", blobURL, "")
	ask(t, c, "GET", tagsURL, "")
	ask(t, c, "GET", tagsURL, "")
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(killed, "interactions.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if cut%37 != 0 && cut < len(whole)-3 {
			continue
		}
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(killed)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "interactions.ndjson"), whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := cassette.Open(dir, cassette.Options{}); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "recover") {
			t.Errorf("cut at %d: opened with %v", cut, err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n"))
		if err := cassette.Recover(dir); (err == nil) != (lines > 0) {
			t.Errorf("cut at %d, after %d lines: recovered with %v", cut, lines, err)
		}
		if lines == 0 {
			continue
		}
		s, err := cassette.Verify(t.Context(), dir, cassette.Options{})
		if err != nil || s.Interactions != lines {
			t.Errorf("cut at %d: %+v, %v", cut, s, err)
		}
		replay(t, cassette.Options{AllowUnused: true}, dir, func(rt http.RoundTripper) {
			if got := ask(t, rt, "GET", blobURL, ""); got != "200 blob" {
				t.Errorf("cut at %d: %q", cut, got)
			}
		})
	}
	if err := cassette.Recover(small(t)); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("nothing to recover: %v", err)
	}
}

// TestElided keeps the digest of a large body, and replays it from elsewhere.
func TestElided(t *testing.T) {
	large := strings.Repeat("large ", 10_000)
	other := strings.Repeat("other ", 10_000)
	blobURL := host + "/v2/acme/app/blobs/" + digestOf(large)
	get := func(rt http.RoundTripper) { ask(t, rt, "GET", blobURL, "") }
	dir := record(t, cassette.Options{ElideOver: 1000}, &script{answers: []answer{{status: 200, body: large}}}, get)
	if s, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil || s.Elided != 1 || s.Bodies != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	blobs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(blobs, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryAsk(t, c, "GET", blobURL, ""); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "Options.Blobs") {
		t.Errorf("without: %v", err)
	}
	c.Close()
	for content, want := range map[string]error{large: nil, other: oci.ErrIntegrity} {
		if err := os.WriteFile(blobPath(blobs, oci.Digest(digestOf(large))), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := cassette.Open(dir, cassette.Options{Blobs: blobs})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tryAsk(t, c, "GET", blobURL, ""); !errors.Is(err, want) || err == nil && got != "200 "+large {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		c.Close()
	}
}

// TestGenerated keeps the seed of content, and bytes where it turns out to be other
// content.
func TestGenerated(t *testing.T) {
	g := cassette.Generated{Seed: [32]byte{1, 2, 3}, Size: 200_000}
	data, err := io.ReadAll(g.Open())
	if err != nil {
		t.Fatal(err)
	}
	nearly := bytes.Clone(data)
	nearly[150_000] ^= 1
	for i, content := range [][]byte{data, nearly} {
		do := func(rt http.RoundTripper) {
			if got := ask(t, rt, "GET", host+"/v2/acme/app/blobs/"+digest.FromBytes(content).String(), ""); got != "200 "+string(content) {
				t.Errorf("got %d other bytes", len(got))
			}
		}
		dir := record(t, cassette.Options{Generated: []cassette.Generated{g}}, &script{answers: []answer{{status: 200, body: string(content)}}}, do)
		if s, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil || s.Bodies != i {
			t.Errorf("%d bodies, want %d: %v", s.Bodies, i, err)
		}
		replay(t, cassette.Options{}, dir, do)
	}
}

// TestStoresRequestBodies where that is asked for, and only their digest otherwise.
func TestStoresRequestBodies(t *testing.T) {
	manifest := `{"schemaVersion":2}`
	put := func(rt http.RoundTripper) { ask(t, rt, "PUT", host+"/v2/acme/app/manifests/v1", manifest) }
	for store, bodies := range map[bool]int{false: 0, true: 1} {
		dir := record(t, cassette.Options{StoreRequestBodies: store}, &script{answers: []answer{{status: 201}}}, put)
		if s, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil || s.Bodies != bodies {
			t.Errorf("%v: %+v, %v", store, s, err)
		}
		replay(t, cassette.Options{}, dir, put)
	}
}

// TestPin holds the cassette to a digest.
func TestPin(t *testing.T) {
	dir := small(t)
	replay(t, cassette.Options{Pin: pinOf(t, dir), AllowUnused: true}, dir, func(http.RoundTripper) {})
	if _, err := cassette.Open(dir, cassette.Options{Pin: oci.Digest(digestOf("another"))}); !errors.Is(err, oci.ErrIntegrity) {
		t.Errorf("another pin: %v", err)
	}
}

// TestInvalidOptions says what is wrong with them.
func TestInvalidOptions(t *testing.T) {
	for name, opts := range map[string]cassette.Options{
		"mode": {Mode: "rewind"}, "latency": {Latency: -1}, "order": {Order: 9}, "repeat": {Repeat: -1}, "pin": {Pin: "latest"},
		"size": {ElideOver: -1}, "generated": {Generated: []cassette.Generated{{Size: -1}}}, "missing": {},
	} {
		if _, err := cassette.Open(filepath.Join(t.TempDir(), "missing"), opts); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	busy := t.TempDir()
	if err := os.WriteFile(filepath.Join(busy, "main.go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cassette.Open(busy, cassette.Options{Mode: cassette.ModeRecord}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a directory with other things: %v", err)
	}
	c, err := cassette.Open(t.TempDir(), cassette.Options{Mode: cassette.ModeRecord})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err == nil {
		t.Error("an empty recording was sealed")
	}
}

// tb is a test within a test.
type tb struct {
	testing.TB
	failed  bool
	told    []string
	cleanup []func()
}

func (t *tb) Helper()       {}
func (t *tb) Skipped() bool { return false }
func (t *tb) Failed() bool  { return t.failed }
func (t *tb) Errorf(format string, args ...any) {
	t.failed = true
	t.told = append(t.told, fmt.Sprintf(format, args...))
}
func (t *tb) Logf(string, ...any) {}
func (t *tb) Cleanup(f func())    { t.cleanup = append(t.cleanup, f) }
func (t *tb) end() {
	for _, f := range t.cleanup {
		f()
	}
}

// TestT records the first time, never in CI, and fails a test for what is unused,
// but does not hide why it failed.
func TestT(t *testing.T) {
	server := &script{answers: []answer{{status: 200, body: "x"}}}
	dir := filepath.Join(t.TempDir(), "tape")
	t.Setenv("CI", "")
	first := &tb{TB: t}
	ask(t, cassette.T(first, dir, cassette.Options{Base: server}), "GET", tagsURL, "")
	first.end()
	if first.failed {
		t.Fatalf("recording: %v", first.told)
	}
	t.Setenv("CI", "1")
	for name, test := range map[string]struct {
		ask, failed, want bool
		url               string
	}{
		"all is used":       {ask: true, url: tagsURL},
		"unused":            {want: true},
		"unused and failed": {failed: true, want: false},
		"missed":            {ask: true, url: host + "/other", want: true},
	} {
		second := &tb{TB: t, failed: test.failed}
		c := cassette.T(second, dir, cassette.Options{Base: noNetwork{t}})
		if c.Mode() != cassette.ModeReplay {
			t.Errorf("%s: mode %s", name, c.Mode())
		}
		if test.ask {
			tryAsk(t, c, "GET", test.url, "")
		}
		second.end()
		if (len(second.told) > 0) != test.want {
			t.Errorf("%s: told %v", name, second.told)
		}
	}
	t.Setenv(cassette.EnvMode, "record")
	third := &tb{TB: t}
	c := cassette.T(third, dir, cassette.Options{Base: server})
	if c.Mode() != cassette.ModeRecord {
		t.Errorf("GHCR_CASSETTE_MODE: mode %s", c.Mode())
	}
	ask(t, c, "GET", tagsURL, "")
	third.end()
}

// TestFromEnv is out of the way where no cassette is named.
func TestFromEnv(t *testing.T) {
	server := &script{answers: []answer{{status: 200, body: "x"}}}
	dir := filepath.Join(t.TempDir(), "tape")
	for _, test := range []struct {
		dir, mode string
		want      cassette.Mode
	}{{"", "", cassette.ModeOff}, {dir, "record", cassette.ModeRecord}, {dir, "replay", cassette.ModeReplay}, {dir, "off", cassette.ModeOff}} {
		t.Setenv(cassette.EnvDir, test.dir)
		t.Setenv(cassette.EnvMode, test.mode)
		c, err := cassette.FromEnv(cassette.Options{Base: server})
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, c, "GET", tagsURL, ""); got != "200 x" || c.Mode() != test.want {
			t.Errorf("%+v: %q in mode %s", test, got, c.Mode())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTokenByPOST: Docker's clients ask for tokens with a form that holds a
// password. It is not kept, not even as a digest, and another one matches.
func TestTokenByPOST(t *testing.T) {
	form := func(password, scope string) string {
		return url.Values{"grant_type": {"password"}, "username": {"me"}, "password": {password}, "service": {"ghcr.io"}, "scope": {scope}}.Encode()
	}
	server := &script{answers: []answer{{status: 200, body: `{"access_token":"a token of the recording"}`}}}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "POST", host+"/token", form("secret one", "repository:acme/app:pull"))
	})
	replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
		if got := ask(t, rt, "POST", host+"/token", form("secret two", "repository:acme/app:pull")); !strings.Contains(got, "cassette-token-") {
			t.Errorf("got %q", got)
		}
	})
	c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryAsk(t, c, "POST", host+"/token", form("secret one", "repository:acme/app:push")); !errors.Is(err, cassette.ErrNotRecorded) {
		t.Errorf("another scope: %v", err)
	}
	c.Close()
}

// TestSecretsInRequestBodies come out on both sides: a replay with another token
// matches, and one with another text does not.
func TestSecretsInRequestBodies(t *testing.T) {
	for _, store := range []bool{false, true} {
		post := func(rt http.RoundTripper, token, note string) error {
			_, err := tryAsk(t, rt, "POST", "https://api.github.com/orgs/acme/hooks", `{"secret":"`+token+`","note":"`+note+`"}`, "Content-Type", "application/json")
			return err
		}
		dir := record(t, cassette.Options{StoreRequestBodies: store}, &script{answers: []answer{{status: 201}}}, func(rt http.RoundTripper) {
			if err := post(rt, "ghp_0123456789abcdefghijklmnop", "x"); err != nil {
				t.Fatal(err)
			}
		})
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := post(c, "ghp_ponmlkjihgfedcba9876543210", "y"); !errors.Is(err, cassette.ErrNotRecorded) {
			t.Errorf("another note: %v", err)
		}
		if err := post(c, "ghp_ponmlkjihgfedcba9876543210", "x"); err != nil {
			t.Errorf("another token: %v", err)
		}
		c.Close()
	}
}

// TestClosedWhileRead: what is being read when the recording is sealed is recorded
// as cut off there, and what comes after is refused.
func TestClosedWhileRead(t *testing.T) {
	dir := t.TempDir()
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: &script{answers: []answer{{status: 200, body: "0123456789"}}}})
	if err != nil {
		t.Fatal(err)
	}
	get := func(rt http.RoundTripper) io.ReadCloser {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", tagsURL, nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	body := get(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "456789" {
		t.Errorf("the program read %q, %v", rest, err)
	}
	if _, err := tryAsk(t, c, "GET", tagsURL, ""); err == nil {
		t.Error("a closed cassette records on")
	}
	c, err = cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(get(c)); len(rest) != 0 || !errors.Is(err, cassette.ErrNotRecorded) {
		t.Errorf("beyond what was recorded: %q, %v", rest, err)
	}
	if err := c.Close(); !errors.Is(err, cassette.ErrNotRecorded) {
		t.Errorf("closed with %v", err)
	}
}

// TestAppendNothing leaves the cassette as it is.
func TestAppendNothing(t *testing.T) {
	dir := small(t)
	pin := pinOf(t, dir)
	c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeAppend, Base: noNetwork{t}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, "GET", host+"/v2/a/b/tags/list", "")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{Pin: pin}); err != nil {
		t.Error(err)
	}
}
