package ghcrtest_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// inDir runs a test on a server that keeps its state in a directory, as one of
// several processes would that come one after the other.
func inDir(t *testing.T, dir string, opts ghcrtest.Options, test func(w *wire)) {
	t.Helper()
	opts.Dir = dir
	server, err := ghcrtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	test(&wire{t: t, server: server, bearer: encoded(ghcrtest.Token)})
}

func TestDirectoryOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		quirks := ghcrtest.GHCR()
		quirks.ManifestDelete = 202
		opts := ghcrtest.Options{Quirks: &quirks}
		img := ghcrtest.Attested(ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 3<<20)))
		inDir(t, dir, opts, func(w *wire) {
			for _, tag := range []string{"old", "new", "gone"} {
				if err := w.server.Add("acme/app", tag, img); err != nil {
					t.Fatal(err)
				}
			}
			w.public()
			w.want(w.do("DELETE", "/v2/acme/app/manifests/gone", ""), 202)
			other := ghcrtest.NewImage("linux/arm64")
			if err := w.server.Add("acme/app", "old", other); err != nil {
				t.Fatal(err)
			}
			w.want(w.do("DELETE", "/v2/acme/app/manifests/"+other.Digest().String(), ""), 202)
		})
		inDir(t, dir, opts, func(w *wire) {
			if err := w.server.Holds("acme/app", "new", img); err != nil {
				t.Error(err)
			}
			w.listed("", "new")
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", ""), 200) // it is public still
		})
	})
}

func TestUploadGoesOnInTheNextProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var location string
		inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
			location = w.session()
			w.want(w.do("PATCH", location, "01234", "Content-Range", "0-4"), 202)
		})
		inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
			if got := w.do("GET", location, "").header.Get("Range"); got != "0-4" {
				t.Errorf("it stands at %s", got)
			}
			w.want(w.commitRest(location, "56789", "0123456789"), 201)
		})
		inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
			w.want(w.do("GET", location, ""), 404)
			w.want(w.do("HEAD", "/v2/acme/app/blobs/"+digest.FromString("0123456789").String(), ""), 200)
		})
	})
}

// commitRest ends an upload of content whose last part is rest.
func (w *wire) commitRest(location, rest, content string) answer {
	w.t.Helper()
	return w.do("PUT", location+"?digest="+digest.FromString(content).String(), rest)
}

// TestDiskFails: content that could not be kept is not taken for uploaded.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
			one, two := w.session(), w.session()
			uploads := filepath.Join(dir, "uploads")
			if err := errors.Join(os.RemoveAll(uploads), os.WriteFile(uploads, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			w.want(w.commit(one, "a"), 500)
			w.want(w.chunk(two, 10), 500)
			w.want(w.do("HEAD", "/v2/acme/app/blobs/"+digest.FromString("a").String(), ""), 404)
		})
	})
}

func TestDirectoryIsSwept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	uploads := filepath.Join(dir, "uploads")
	if err := os.Mkdir(uploads, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"spool-1": 0, "fresh": time.Hour, "abandoned": 25 * time.Hour} {
		path := filepath.Join(uploads, name)
		then := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o644), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	inDir(t, dir, ghcrtest.Options{}, func(*wire) {})
	entries, err := os.ReadDir(uploads)
	if err != nil || len(entries) != 1 || entries[0].Name() != "fresh" {
		t.Errorf("left are %v %v", entries, err)
	}
}

func TestDirectoryIsForOneProcessAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inDir(t, dir, ghcrtest.Options{}, func(*wire) {
			began := time.Now()
			_, err := ghcrtest.New(ghcrtest.Options{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), "another process is using it") {
				t.Errorf("got %v", err)
			}
			if time.Since(began) < time.Second {
				t.Error("it did not wait for a short command to end")
			}
		})
	})
}

func TestTornJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		img := ghcrtest.NewImage("linux/amd64")
		add := func(tag string) func(w *wire) {
			return func(w *wire) {
				if err := w.server.Add("acme/app", tag, img); err != nil {
					t.Error(err)
				}
			}
		}
		inDir(t, dir, ghcrtest.Options{}, add("one"))
		journal := filepath.Join(dir, "journal.ndjson")
		f, err := os.OpenFile(journal, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(`{"op":"manif`) // the process was killed here
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		inDir(t, dir, ghcrtest.Options{}, add("two"))
		inDir(t, dir, ghcrtest.Options{}, func(w *wire) { w.listed("", "one", "two") })

		raw, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(journal, bytes.Replace(raw, []byte(`{"op"`), []byte(`?"op"`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ghcrtest.New(ghcrtest.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "journal.ndjson line 1") {
			t.Errorf("a damaged journal: got %v", err)
		}
	})
}

// TestDirectoryOfSomethingElse: an image layout, say, is not taken for state, and nothing is
// put into it.
func TestDirectoryOfSomethingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := ghcrtest.NewImage("linux/amd64").WriteLayout(dir, "v1"); err != nil {
		t.Fatal(err)
	}
	_, err := ghcrtest.New(ghcrtest.Options{Dir: dir})
	if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "index.json") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"lock", "journal.ndjson", "uploads"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s was put into the layout: %v", name, err)
		}
	}
}

// TestDigests: blobs and manifests are kept under the digest that was asked for.
func TestDigests(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, size := range []int{10, 1 << 20, 3 << 20} {
			synctest.Test(t, func(t *testing.T) {
				spec := ghcrtest.Spec()
				server, err := ghcrtest.New(ghcrtest.Options{Quirks: &spec, Open: true})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				w := &wire{t: t, server: server}
				content := string(ghcrtest.RandomLayer(3, size))
				d := algorithm.FromString(content)
				w.want(w.do("POST", "/v2/acme/app/blobs/uploads/?digest="+d.String(), content), 201)
				w.want(w.do("POST", "/v2/acme/app/blobs/uploads/?digest="+d.String(), content+"x"), 400, "DIGEST_INVALID")
				if got := w.do("GET", "/v2/acme/app/blobs/"+d.String(), ""); got.body != content {
					t.Errorf("%s of %d bytes: got %d", algorithm, size, len(got.body))
				}
				index := ghcrtest.NewIndex()
				ref := algorithm.FromBytes(index.Manifest.Bytes()).String()
				a := w.put(ref, index)
				w.want(a, 201)
				if got := a.header.Get("Docker-Content-Digest"); got != ref {
					t.Errorf("stored as %s", got)
				}
				if got := w.do("GET", "/v2/acme/app/manifests/"+ref, ""); got.body != string(index.Manifest.Bytes()) {
					t.Errorf("got %d %s", got.status, got.body)
				}
			})
		}
	}
}

// TestSeed: the same requests have the same answers, to the last token.
func TestSeed(t *testing.T) {
	t.Parallel()
	script := func(seed uint64) string {
		var all strings.Builder
		synctest.Test(t, func(t *testing.T) {
			server, err := ghcrtest.New(ghcrtest.Options{Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			w := &wire{t: t, server: server, bearer: encoded(ghcrtest.Token)}
			for _, a := range []answer{
				w.do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("u:"+ghcrtest.Token)),
				w.start(),
				w.do("GET", w.layer(), ""),
			} {
				if err := a.header.Write(&all); err != nil {
					t.Error(err)
				}
				all.WriteString(a.body)
			}
		})
		return all.String()
	}
	first := script(1)
	if again := script(1); again != first {
		t.Error("the same seed gives two answers")
	}
	if script(2) == first {
		t.Error("two seeds give the same tokens")
	}
}

func TestCloseLeavesNoFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	server, err := ghcrtest.New(ghcrtest.Options{Open: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, server: server}
	big := string(ghcrtest.RandomLayer(1, 2<<20))
	w.want(w.upload(big), 201)
	w.want(w.do("PATCH", w.session(), big), 202) // and is never finished
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v %v", entries, err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestRandomContent(t *testing.T) {
	t.Parallel()
	first, err := io.ReadAll(ghcrtest.RandomContent(1, 100_000))
	if err != nil || !bytes.Equal(first, ghcrtest.RandomLayer(1, 100_000)) {
		t.Errorf("a stream and a slice differ: %v", err)
	}
	if bytes.Equal(first, ghcrtest.RandomLayer(2, 100_000)) {
		t.Error("two seeds give the same")
	}
}

// TestFixtures: each is what a client would have pushed, so a server that checks
// everything takes it.
func TestFixtures(t *testing.T) {
	t.Parallel()
	layer := ghcrtest.Layer(map[string]string{"etc/": "", "etc/motd": "hello\n"})
	amd64 := ghcrtest.NewImage("linux/amd64", layer)
	signed := ghcrtest.NewImage("linux/arm64/v8", layer)
	ghcrtest.Sign(signed)
	ghcrtest.Refer(signed, "application/vnd.example.sbom", `{"packages":[]}`)
	odd := amd64.WithBytes(func(raw []byte) []byte { return append([]byte(" \n"), raw...) })
	for name, img := range map[string]*ghcrtest.Image{
		"image":         amd64,
		"index":         ghcrtest.NewIndex(amd64, signed),
		"nested":        ghcrtest.NewIndex(ghcrtest.NewIndex(amd64), signed),
		"attested":      ghcrtest.Attested(amd64, signed),
		"docker":        ghcrtest.NewDockerImage("linux/amd64", layer),
		"docker list":   ghcrtest.NewDockerList(ghcrtest.NewDockerImage("linux/amd64", layer)),
		"odd bytes":     odd,
		"unknown type":  ghcrtest.Raw("application/vnd.example.thing", []byte("not JSON")),
		"key order":     ghcrtest.Raw(oci.MediaTypeOCIIndex, []byte(`{"manifests" : [], "schemaVersion": 2}`)),
		"signed, alone": signed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				quirks.CheckIndexChildren = true
				server, err := ghcrtest.New(ghcrtest.Options{Quirks: &quirks, Open: true})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				w := &wire{t: t, server: server}
				w.push("acme/app", "v1", img)
				if err := server.Holds("acme/app", "v1", img); err != nil {
					t.Error(err)
				}
				if err := server.Add("acme/added", "v1", img); err != nil {
					t.Error(err)
				}
				if err := server.Holds("acme/added", "v1", img); err != nil {
					t.Error(err)
				}
				dir := t.TempDir()
				if err := img.WriteLayout(dir, "v1"); err != nil {
					t.Error(err)
				}
				raw, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", img.Digest().Encoded()))
				if err != nil || !bytes.Equal(raw, img.Manifest.Bytes()) {
					t.Errorf("the layout's manifest: %v", err)
				}
			})
		})
	}
}

// push puts an image with what it lists, as a client does.
func (w *wire) push(repo, ref string, img *ghcrtest.Image) {
	w.t.Helper()
	for d, data := range img.Blobs {
		w.want(w.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), string(data)), http.StatusCreated)
	}
	for _, other := range append(img.Children, img.Referrers...) {
		w.push(repo, other.Digest().String(), other)
	}
	w.want(w.do("PUT", "/v2/"+repo+"/manifests/"+ref, string(img.Manifest.Bytes()), "Content-Type", img.Manifest.MediaType), http.StatusCreated)
}

// TestFallbackTag: where there is no referrers API, added images have the index
// that clients maintain instead.
func TestFallbackTag(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := ghcrtest.NewImage("linux/amd64")
		sbom := ghcrtest.Refer(img, "application/vnd.example.sbom", "{}")
		ghcrtest.Sign(img)
		if err := w.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		a := w.do("GET", "/v2/acme/app/manifests/"+oci.DigestTag(img.Digest()), "", "Accept", oci.MediaTypeOCIIndex)
		w.want(a, 200, sbom.Digest().String(), "application/vnd.example.sbom")
		w.want(w.do("HEAD", "/v2/acme/app/manifests/"+oci.DigestTag(img.Digest())+".sig", ""), 200)
	})
}
