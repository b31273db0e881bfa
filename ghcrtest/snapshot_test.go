package ghcrtest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// lived is a server with a past: versions that were tagged anew, deleted and restored, a
// package that was deleted and made anew, downloads, and content that is large.
func lived(t *testing.T) *ghcrtest.Server {
	t.Helper()
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	add := func(repo, tag string, img *ghcrtest.Image) {
		if err := server.Add(repo, tag, img); err != nil {
			t.Fatal(err)
		}
	}
	api := func(method, path string, status int) {
		t.Helper()
		w := &wire{t: t, server: server}
		w.want(w.do(method, "https://api.github.com/orgs/acme/packages/container/"+path, "", "Authorization", "Bearer "+ghcrtest.Token), status)
	}
	big := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 2<<20))
	ghcrtest.Refer(big, "application/spdx+json", "{}")
	add("acme/app", "v1", big)
	add("acme/app", "v2", ghcrtest.NewIndex(ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 100))))
	add("acme/app", "latest", big)
	add("acme/app", "latest", ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(3, 100)))
	api("DELETE", "app/versions/100004", 204)
	api("DELETE", "app/versions/100005", 204)
	api("POST", "app/versions/100005/restore", 204)
	add("acme/gone", "v1", big)
	api("DELETE", "gone", 204)
	add("acme/gone", "v1", ghcrtest.NewIndex())
	add("acme/lost", "v1", ghcrtest.NewIndex())
	api("DELETE", "lost", 204)
	if err := errors.Join(server.SetDownloads("acme/app", "v1", 7), server.SetPackage(ghcrtest.Package{
		Name: "acme/app", Visibility: ghcrtest.Public, Repository: "acme/source", Access: map[string]string{"acme/other": "read"}, Downloads: 3,
	})); err != nil {
		t.Fatal(err)
	}
	return server
}

func snapshotOf(t *testing.T, s *ghcrtest.Server) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Snapshot(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestSnapshot: what is restored is what was, whether it is kept in memory or in a
// directory, and for the next process too.
func TestSnapshot(t *testing.T) {
	was := snapshotOf(t, lived(t))
	dir := t.TempDir()
	for _, opts := range []ghcrtest.Options{{}, {Dir: dir}, {Dir: dir}} {
		server, err := ghcrtest.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if again := snapshotOf(t, server); !bytes.Equal(again, was) {
			// The second process on the directory has it already.
			if err := server.Add("acme/before", "v1", ghcrtest.NewIndex()); err != nil {
				t.Fatal(err)
			}
			if err := server.Restore(bytes.NewReader(was)); err != nil {
				t.Fatal(err)
			}
			if got := snapshotOf(t, server); !bytes.Equal(got, was) {
				t.Errorf("Dir %q: what was restored differs", opts.Dir)
			}
		}
		w := &wire{t: t, server: server, bearer: encoded(ghcrtest.Token)}
		w.want(w.do("GET", "/v2/acme/before/manifests/v1", ""), 404)
		w.listed("", "v1", "sha256-"+w.do("HEAD", "/v2/acme/app/manifests/v1", "").header.Get("Docker-Content-Digest")[7:], "latest", "v2")
		if n := server.Downloads("acme/app", "v1"); n != 10 {
			t.Errorf("%d downloads", n)
		}
		api := func(method, path string, status int) {
			t.Helper()
			w.want(w.do(method, "https://api.github.com/orgs/acme/packages/container/"+path, "", "Authorization", "Bearer "+ghcrtest.Token), status)
		}
		if opts.Dir == "" {
			// What was deleted can be restored, and new numbers are new.
			api("POST", "lost/restore", 204)
			if err := server.Holds("acme/lost", "v1", ghcrtest.NewIndex()); err != nil {
				t.Error(err)
			}
			if err := server.Add("acme/app", "v9", ghcrtest.Refer(ghcrtest.NewIndex(), "a/b", "c")); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256")); err != nil || len(left) != strings.Count(names(t, was), "blobs/") {
		t.Errorf("%d files of content in the directory: %v", len(left), err)
	}
}

func names(t *testing.T, archive []byte) string {
	var list []string
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(list, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Name)
	}
}

// changed is a snapshot with its entries changed: no content drops one.
func changed(t testing.TB, archive []byte, change func(name string, data []byte) []byte) []byte {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if data = change(h.Name, data); data == nil {
			continue
		}
		h.Size = int64(len(data))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRestoreRefuses what is no snapshot, and then holds what it held.
func TestRestoreRefuses(t *testing.T) {
	was := snapshotOf(t, lived(t))
	rows := func(old, new string) []byte {
		return changed(t, was, func(name string, data []byte) []byte {
			if name == "state.json" {
				if !bytes.Contains(data, []byte(old)) {
					t.Fatalf("no %s in %s", old, data)
				}
				return bytes.Replace(data, []byte(old), []byte(new), 1)
			}
			return data
		})
	}
	seen := 0
	for name, archive := range map[string][]byte{
		"nothing":           {},
		"no tar":            []byte(strings.Repeat("x", 2000)),
		"cut off":           was[:len(was)/2],
		"no rows":           changed(t, was, func(name string, data []byte) []byte { return map[bool][]byte{false: data}[name == "state.json"] }),
		"a blob is missing": changed(t, was, func(_ string, data []byte) []byte { seen++; return map[bool][]byte{false: data}[seen == 3] }),
		"a bit is wrong": changed(t, was, func(name string, data []byte) []byte {
			if name != "state.json" {
				data[0] ^= 1
			}
			return data
		}),
		"unknown field":   rows(`"lastPackage"`, `"lastParcel"`),
		"bad name":        rows(`"acme/app"`, `"../app"`),
		"bad visibility":  rows(`"public"`, `"secret"`),
		"a tag of nobody": rows(`"name":"v1"`, `"name":"v7"`),
		"same number":     rows(`"id":100002`, `"id":100001`),
		"same package":    rows(`"id":1002`, `"id":1001`),
	} {
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Add("acme/before", "v1", ghcrtest.NewIndex()); err != nil {
			t.Fatal(err)
		}
		if err := server.Restore(bytes.NewReader(archive)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := server.Holds("acme/before", "v1", ghcrtest.NewIndex()); err != nil {
			t.Errorf("%s: what was there is lost: %v", name, err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReset(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		server, err := ghcrtest.New(ghcrtest.Options{Dir: dir, Public: []string{"acme/open"}})
		if err != nil {
			t.Fatal(err)
		}
		empty := snapshotOf(t, server)
		if err := server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 100))); err != nil {
			t.Fatal(err)
		}
		server.Inject(ghcrtest.Fault{Status: 500, Times: -1})
		w := &wire{t: t, server: server, bearer: encoded(ghcrtest.Token)}
		w.want(w.do("GET", "/v2/", ""), 500)
		if err := server.Reset(); err != nil {
			t.Fatal(err)
		}
		if len(server.Requests()) != 0 || len(server.Faults()) != 0 {
			t.Error("the logs are still there")
		}
		w.want(w.do("GET", "/v2/acme/app/manifests/v1", ""), 404)
		w.want(w.do("GET", "https://api.github.com/orgs/acme/packages/container/open", "", "Authorization", "Bearer "+ghcrtest.Token), 200)
		if again := snapshotOf(t, server); len(again) != len(empty) {
			t.Errorf("it holds %s", names(t, again))
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}

// layoutTar is an image as a layout in a tar file, as docker and others write it.
func layoutTar(t testing.TB, img *ghcrtest.Image, tag string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := img.WriteLayout(dir, tag); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAddLayout(t *testing.T) {
	img := ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 2<<20)), ghcrtest.NewImage("linux/arm64"))
	ghcrtest.Sign(img)
	sbom := ghcrtest.Refer(img, "application/spdx+json", "{}")
	archive := layoutTar(t, img, "v1")
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, tag := range []string{"", "other"} {
		if err := server.AddLayout("acme/app", tag, bytes.NewReader(archive)); err != nil {
			t.Fatal(err)
		}
		for ref, want := range map[string]*ghcrtest.Image{map[string]string{"": "v1"}[tag] + tag: img, "": sbom, oci.DigestTag(img.Digest()) + ".sig": img.Referrers[0]} {
			if err := server.Holds("acme/app", ref, want); err != nil {
				t.Error(err)
			}
		}
	}
	seen := 0
	for name, test := range map[string]struct {
		repo, tag string
		archive   []byte
	}{
		"bad name":          {"Acme/app", "", archive},
		"bad tag":           {"acme/app", "a b", archive},
		"no tar":            {"acme/app", "", []byte(strings.Repeat("x", 2000))},
		"empty":             {"acme/app", "", nil},
		"cut off":           {"acme/app", "", archive[:len(archive)/2]},
		"no index":          {"acme/app", "", changed(t, archive, func(name string, data []byte) []byte { return map[bool][]byte{false: data}[name == "index.json"] })},
		"a blob is missing": {"acme/new", "", changed(t, layoutTar(t, ghcrtest.NewImage("linux/s390x"), ""), func(_ string, data []byte) []byte { seen++; return map[bool][]byte{false: data}[seen == 1] })},
		"a bit is wrong": {"acme/app", "", changed(t, layoutTar(t, ghcrtest.NewImage("linux/ppc64le"), ""), func(name string, data []byte) []byte {
			if strings.HasPrefix(name, "blobs/") {
				data[0] ^= 1
			}
			return data
		})},
	} {
		if err := server.AddLayout(test.repo, test.tag, bytes.NewReader(test.archive)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzRestore: rows of any kind are refused or hold together.
func FuzzRestore(f *testing.F) {
	source, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer source.Close()
	img := ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64", []byte("layer")))
	if err := errors.Join(source.Add("acme/app", "v1", img), source.Add("acme/app", "v2", ghcrtest.NewIndex())); err != nil {
		f.Fatal(err)
	}
	var whole bytes.Buffer
	if err := source.Snapshot(&whole); err != nil {
		f.Fatal(err)
	}
	changed(f, whole.Bytes(), func(name string, data []byte) []byte {
		if name == "state.json" {
			f.Add(data)
			f.Add(bytes.ReplaceAll(data, []byte(`"tags":["v1"]`), []byte(`"tags":["v1"],"deleted":"2026-01-01T00:00:00Z"`)))
		}
		return data
	})
	f.Fuzz(func(t *testing.T, rows []byte) {
		archive := changed(t, whole.Bytes(), func(name string, data []byte) []byte {
			if name == "state.json" {
				return append([]byte{}, rows...)
			}
			return data
		})
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if err := server.Restore(bytes.NewReader(archive)); err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%v is not ErrInvalid", err)
			}
			return
		}
		once := snapshotOf(t, server)
		if err := server.Restore(bytes.NewReader(once)); err != nil {
			t.Fatalf("its own snapshot: %v", err)
		}
		if again := snapshotOf(t, server); !bytes.Equal(once, again) {
			t.Error("its own snapshot differs")
		}
		// Changes find rows that fit together.
		for i := range 3 {
			if err := server.Add("acme/app", fmt.Sprint("v", i), ghcrtest.NewIndex()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// sparseTar is a file of a terabyte that takes a few bytes.
func sparseTar(t *testing.T, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	record := func(s string) string { // "<length> <s>\n"
		n := len(s) + 3
		for len(fmt.Sprint(n))+len(s)+2 != n {
			n++
		}
		return fmt.Sprintf("%d %s\n", n, s)
	}
	pax := record("GNU.sparse.major=1") + record("GNU.sparse.minor=0") + record("GNU.sparse.name="+name) + record("GNU.sparse.realsize=1099511627776")
	entry := func(typeflag byte, name, content string) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", len(content)))
		copy(h[136:], "00000000000\x00")
		copy(h[148:], "        ")
		h[156] = typeflag
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, b := range h {
			sum += int(b)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		out.Write(h)
		out.WriteString(content + strings.Repeat("\x00", (512-len(content)%512)%512))
	}
	entry('x', "pax", pax)
	entry('0', "GNUSparseFile.0/x", "1\n1099511627776\n0\n"+strings.Repeat("\x00", 512-len("1\n1099511627776\n0\n")))
	out.Write(make([]byte, 1024))
	return out.Bytes()
}

// TestTarBombs: files with holes are refused before they fill a disk, and indexes that
// name one another many times are looked into once.
func TestTarBombs(t *testing.T) {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	blob := "blobs/sha256/" + strings.Repeat("0", 64)
	holes := sparseTar(t, blob)
	if h, err := tar.NewReader(bytes.NewReader(holes)).Next(); err != nil || h.Size != 1<<40 || h.Name != blob {
		t.Fatalf("the fixture: %+v, %v", h, err)
	}
	if err := server.AddLayout("acme/app", "v1", bytes.NewReader(holes)); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "holes") {
		t.Errorf("a layout with holes: %v", err)
	}
	state, rest := snapshotOf(t, server), holes
	state = state[:len(state)-1024] // without its end
	if err := server.Restore(io.MultiReader(bytes.NewReader(state), bytes.NewReader(rest))); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a snapshot with holes: %v", err)
	}
	var layout bytes.Buffer
	tw := tar.NewWriter(&layout)
	put := func(name string, data []byte) {
		tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))})
		tw.Write(data)
	}
	named := ""
	for range 40 {
		raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeOCIIndex + `","manifests":[` + named + `]}`)
		d := digest.FromBytes(raw)
		put("blobs/sha256/"+d.Encoded(), raw)
		named = fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":%d}`, oci.MediaTypeOCIIndex, d, len(raw))
		put("index.json", []byte(`{"schemaVersion":2,"manifests":[`+named+`]}`))
		named += "," + named
	}
	put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if err := errors.Join(tw.Close(), server.AddLayout("acme/app", "v1", &layout)); err != nil {
		t.Error(err)
	}
}

// TestRestoreThatCannotBeKept leaves the server with what it held, and a directory
// that the next process can read.
func TestRestoreThatCannotBeKept(t *testing.T) {
	was := snapshotOf(t, lived(t))
	dir := t.TempDir()
	server, err := ghcrtest.New(ghcrtest.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Add("acme/before", "v1", ghcrtest.NewIndex()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "journal.ndjson.new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "journal.ndjson.new", "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := snapshotOf(t, server)
	if err := server.Restore(bytes.NewReader(was)); err == nil {
		t.Fatal("it was restored")
	}
	if err := server.Restore(bytes.NewReader(was[:len(was)-2000])); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("what is cut off: %v", err)
	}
	if !bytes.Equal(snapshotOf(t, server), before) {
		t.Error("it holds something else")
	}
	if blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*")); err != nil || len(blobs) != 1 {
		t.Errorf("what is left of them: %v, %v", blobs, err)
	}
	if err := server.Add("acme/before", "v2", ghcrtest.NewIndex()); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if server, err = ghcrtest.New(ghcrtest.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.Holds("acme/before", "v2", ghcrtest.NewIndex()); err != nil {
		t.Error(err)
	}
}

// TestResetDropsUploadsOfAnEarlierProcess: what a directory has of them is not taken
// up again.
func TestResetDropsUploadsOfAnEarlierProcess(t *testing.T) {
	dir := t.TempDir()
	server, err := ghcrtest.New(ghcrtest.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, server: server, bearer: encoded(ghcrtest.Token)}
	location := w.do("POST", "/v2/acme/app/blobs/uploads/", "").header.Get("Location")
	w.want(w.do("PATCH", location, "some of it"), 202)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if w.server, err = ghcrtest.New(ghcrtest.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer w.server.Close()
	if err := w.server.Reset(); err != nil {
		t.Fatal(err)
	}
	w.want(w.do("PATCH", location, "the rest"), 404)
}

// TestRestoreWhileOthersPushAndReset: each of them sees a server that is whole, and
// so does the next process.
func TestRestoreWhileOthersPushAndReset(t *testing.T) {
	dir := t.TempDir()
	server, err := ghcrtest.New(ghcrtest.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Add("acme/app", "v1", ghcrtest.NewIndex()); err != nil {
		t.Fatal(err)
	}
	snapshot := snapshotOf(t, server)
	var wg sync.WaitGroup
	for _, do := range []func(n int) error{
		func(int) error { return server.Restore(bytes.NewReader(snapshot)) },
		func(int) error { return server.Reset() },
		func(int) error { return server.Snapshot(io.Discard) },
		func(n int) error {
			server.Add("acme/app", "v2", ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(n), 10))) // which may be lost
			return nil
		},
	} {
		wg.Go(func() {
			for n := range 100 {
				if err := do(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if server, err = ghcrtest.New(ghcrtest.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}
