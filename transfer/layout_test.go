package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func image(seed uint64) *ghcrtest.Image {
	return ghcrtest.NewImage("linux/amd64", ghcrtest.Layer(map[string]string{"seed": fmt.Sprint(seed)}), ghcrtest.RandomLayer(seed, 5000))
}

// write makes a directory with files; a name with a slash makes directories.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	header     = `{"imageLayoutVersion":"1.0.0"}`
	emptyIndex = `{"schemaVersion":2,"manifests":[]}`
)

func TestOpenLayoutSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no header":     {map[string]string{"index.json": emptyIndex}, "no file oci-layout"},
		"no index":      {map[string]string{"oci-layout": header}, "no index.json"},
		"bad header":    {map[string]string{"oci-layout": "x", "index.json": emptyIndex}, "oci-layout is not readable"},
		"other version": {map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`, "index.json": emptyIndex}, `version is "2.0.0"; only 1.0.0`},
		"bad index":     {map[string]string{"oci-layout": header, "index.json": "{"}, "index.json is not readable"},
		"index is list": {map[string]string{"oci-layout": header, "index.json": "[]"}, "index.json is not readable"},
		"bad entries":   {map[string]string{"oci-layout": header, "index.json": `{"manifests":{}}`}, "index.json is not readable"},
		"bad digest": {map[string]string{"oci-layout": header, "index.json": `{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}`},
			"malformed digest"},
		"index is directory": {map[string]string{"oci-layout": header, "index.json/x": ""}, "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, c.files)
			_, err := transfer.OpenLayout(dir)
			if !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q and the directory's name", err, c.want)
			}
		})
	}
	if _, err := transfer.OpenLayout(filepath.Join(t.TempDir(), "none")); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(write(t, map[string]string{"f.tar": ""}), "f.tar")
	if _, err := transfer.OpenLayout(file); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "docker-archive:") {
		t.Errorf("a file: %v", err)
	}
	if _, err := transfer.CreateLayout(write(t, map[string]string{"notes.txt": ""})); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "notes.txt") {
		t.Errorf("create over other things: %v", err)
	}
}

// index reads the entries of index.json.
func index(t testing.TB, dir string) []oci.Descriptor {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Manifests []oci.Descriptor }
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v.Manifests
}

// writeIndex replaces the entries of index.json.
func writeIndex(t testing.TB, dir string, entries ...any) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": entries})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func annotated(i *ghcrtest.Image, kv ...string) oci.Descriptor {
	d := i.Descriptor()
	d.Annotations = map[string]string{}
	for j := 0; j < len(kv); j += 2 {
		d.Annotations[kv[j]] = kv[j+1]
	}
	return d
}

const (
	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
)

func TestLayoutFindsImages(t *testing.T) {
	t.Parallel()
	a, b, signed := image(1), image(2), image(3)
	signature, sbom := ghcrtest.Sign(signed), ghcrtest.Refer(signed, "application/spdx+json", "sbom")
	sigTag := oci.DigestTag(signed.Digest()) + ".sig"
	both := []any{annotated(a, refName, "v1", containerdName, "docker.io/library/app:v1"), annotated(b, refName, "v1", containerdName, "ghcr.io/acme/b:v1")}
	cases := []struct {
		name    string
		entries []any
		ref     string
		want    *ghcrtest.Image
		is      error  // of those that fail
		says    string // part of the error's text
	}{
		{"tag", []any{annotated(a, refName, "v1"), annotated(b, refName, "v2")}, "v2", b, nil, ""},
		{"whole name as tag", []any{annotated(a, refName, "ghcr.io/acme/a:v1"), annotated(b, refName, "v2")}, "v1", a, nil, ""},
		{"containerd's name", both, "ghcr.io/acme/b:v1", b, nil, ""},
		{"docker's short name", both, "app:v1", a, nil, ""},
		{"ambiguous tag", both, "v1", nil, oci.ErrInvalid, "2 images are tagged"},
		{"one image, two names", []any{annotated(a, refName, "v1"), annotated(a, refName, "v2")}, "", a, nil, ""},
		{"the only one, without a name", []any{a.Descriptor()}, "", a, nil, ""},
		{"the only one that is no signature", []any{annotated(signed, refName, "v1"), annotated(signature, refName, sigTag)}, "", signed, nil, ""},
		{"the only one that refers to nothing", []any{signed.Descriptor(), sbom.Descriptor()}, "", signed, nil, ""},
		{"several", []any{annotated(a, refName, "v1"), annotated(b, refName, "v2")}, "", nil, oci.ErrInvalid, "there are v1, v2"},
		{"none", nil, "", nil, oci.ErrNotFound, "no image"},
		{"no such tag", []any{annotated(a, refName, "v1"), annotated(signature, refName, sigTag)}, "v9", nil, oci.ErrNotFound, `tagged "v9"; there are v1: not found`},
		{"no such name", both, "acme/c:v1", nil, oci.ErrNotFound, "there are docker.io/library/app:v1, ghcr.io/acme/b:v1"},
		{"no names at all", []any{a.Descriptor()}, "v1", nil, oci.ErrNotFound, "there are " + a.Digest().String()},
		{"digest", []any{annotated(a, refName, "v1")}, a.Digest().String(), a, nil, ""},
		{"digest that is not listed", nil, a.Digest().String(), a, nil, ""},
		{"digest that is not there", nil, digest.FromString("x").String(), nil, oci.ErrNotFound, ""},
		{"broken digest", nil, "sha256:../../../etc/passwd", nil, oci.ErrNotFound, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, i := range []*ghcrtest.Image{a, b, signed} {
				if err := i.WriteLayout(dir, ""); err != nil {
					t.Fatal(err)
				}
			}
			writeIndex(t, dir, c.entries...)
			l, err := transfer.OpenLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			m, err := l.Manifest(t.Context(), c.ref)
			d, resolveErr := l.Resolve(t.Context(), c.ref)
			if c.want != nil {
				if err != nil || resolveErr != nil || m.Digest() != c.want.Digest() || d.Digest != c.want.Digest() || d.MediaType != m.MediaType {
					t.Errorf("got %v, %v; resolved %v, %v", m, err, d, resolveErr)
				}
				return
			}
			for _, err := range []error{err, resolveErr} {
				// A layout is what the caller gave: what it lacks is bad input too.
				if !errors.Is(err, c.is) || !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %v saying %q", err, c.is, c.says)
				}
			}
		})
	}
}

func openerOf(data []byte) oci.Opener {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	}
}

// put stores an image as the copy engine does: content, children, then itself.
func put(t testing.TB, dst transfer.Target, i *ghcrtest.Image, ref string) {
	t.Helper()
	for _, d := range i.Manifest.Blobs() {
		if _, err := dst.PutBlob(t.Context(), d, nil, openerOf(i.Blobs[d.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	for _, child := range i.Children {
		put(t, dst, child, "")
	}
	if ref == "" {
		ref = i.Digest().String()
	}
	if err := dst.PutManifest(t.Context(), ref, i.Manifest); err != nil {
		t.Fatal(err)
	}
}

// holds checks that a source has an image whole under a reference.
func holds(t testing.TB, src transfer.Source, ref string, i *ghcrtest.Image) {
	t.Helper()
	m, err := src.Manifest(t.Context(), ref)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(m.Bytes(), i.Manifest.Bytes()) {
		t.Errorf("%q is %s, want %s", ref, m.Digest(), i.Digest())
	}
	for _, d := range i.Manifest.Blobs() {
		body, err := src.Blob(t.Context(), d, 0, -1)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || !bytes.Equal(got, i.Blobs[d.Digest]) {
			t.Errorf("blob %s: %d bytes, %v", d.Digest, len(got), err)
		}
	}
	for _, child := range i.Children {
		holds(t, src, child.Digest().String(), child)
	}
}

func TestLayoutListsWhatIsPut(t *testing.T) {
	t.Parallel()
	l, dir := newLayout(t)
	a, b := image(1), image(2)
	both := ghcrtest.NewIndex(a, b)
	entries := func(want ...string) {
		t.Helper()
		var got []string
		for _, d := range index(t, dir) {
			got = append(got, d.Annotations[refName]+"="+d.Digest.Encoded()[:6])
		}
		if !slices.Equal(got, want) {
			t.Errorf("index.json lists %v, want %v", got, want)
		}
	}
	short := func(i *ghcrtest.Image) string { return i.Digest().Encoded()[:6] }

	put(t, l, both, "")
	entries("=" + short(both)) // and not its children
	holds(t, l, "", both)
	put(t, l, both, "v1")
	entries("v1=" + short(both))
	put(t, l, both, "")
	entries("v1=" + short(both))
	put(t, l, a, "")
	entries("v1="+short(both), "="+short(a))
	put(t, l, a, "a")
	entries("v1="+short(both), "a="+short(a))
	put(t, l, a, "b")
	entries("v1="+short(both), "a="+short(a), "b="+short(a))
	put(t, l, b, "a") // the tag moves
	entries("v1="+short(both), "b="+short(a), "a="+short(b))
	put(t, l, both, "v1") // and what has a name keeps it
	entries("v1="+short(both), "b="+short(a), "a="+short(b))
	holds(t, l, "a", b)
	holds(t, l, "b", a)

	tags, err := l.TagNames(t.Context())
	if want := []string{"v1", "b", "a"}; err != nil || !slices.Equal(tags, want) {
		t.Errorf("tags %v, %v; want %v", tags, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left in the layout: %v", left)
	}
}

func TestLayoutKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	l, dir := newLayout(t)
	foreign := map[string]any{
		"mediaType": "application/vnd.example.thing", "digest": digest.FromString("thing"), "size": 5,
		"annotations": map[string]string{"org.example": "x"}, "futureField": map[string]any{"a": []any{1.0}},
	}
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "annotations": map[string]string{"k": "v"}, "other": true, "manifests": []any{foreign}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, l, image(1), "v1")
	put(t, l, image(2), "v1")
	data, err = os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"futureField":{"a":[1]}`, `"other":true`, `"annotations":{"k":"v"}`, `"annotations":{"org.example":"x"}`, `"schemaVersion":2`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s is lost from %s", want, data)
		}
	}
	if n := len(index(t, dir)); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
	if list, err := l.Referrers(t.Context(), digest.FromString("x")); len(list) > 0 || err != nil {
		t.Errorf("referrers: %v, %v", list, err)
	}
}

func TestLayoutRefusesWrongManifests(t *testing.T) {
	t.Parallel()
	l, dir := newLayout(t)
	a := image(1)
	wrong := digest.FromString("other")
	err := l.PutManifest(t.Context(), wrong.String(), a.Manifest)
	if !errors.Is(err, oci.ErrIntegrity) {
		t.Errorf("put under another digest: %v", err)
	}
	for _, ref := range []string{"", "../x", "a b", "sha256:../../../x"} {
		if err := l.PutManifest(t.Context(), ref, a.Manifest); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("put as %q: %v", ref, err)
		}
	}
	if n := len(index(t, dir)); n != 0 {
		t.Errorf("%d entries after refusals", n)
	}
	sha512 := digest.SHA512.FromBytes(a.Manifest.Bytes())
	put(t, l, a, sha512.String())
	m, err := l.Manifest(t.Context(), sha512.String())
	if err != nil || !m.Equal(a.Manifest) {
		t.Errorf("by sha512: %v, %v", m, err)
	}
	holds(t, l, "", a)
}

// TestLayoutCorrupted: what is broken is found before, or while, it is read, and
// the error says where.
func TestLayoutCorrupted(t *testing.T) {
	t.Parallel()
	a := image(1)
	layer := a.Manifest.Layers[1]
	manifest := a.Manifest.Descriptor()
	flip := func(data []byte) []byte { data[len(data)/2] ^= 1; return data }
	for name, c := range map[string]struct {
		blob   oci.Descriptor
		change func([]byte) []byte // nil removes it
		also   error
	}{
		"manifest":            {manifest, flip, oci.ErrIntegrity},
		"manifest is no JSON": {manifest, func([]byte) []byte { return []byte("x") }, oci.ErrIntegrity},
		"manifest too long":   {manifest, func([]byte) []byte { return make([]byte, oci.MaxManifestSize+1) }, oci.ErrInvalid},
		"manifest gone":       {manifest, nil, oci.ErrNotFound},
		"blob":                {layer, flip, oci.ErrIntegrity},
		"blob cut":            {layer, func(b []byte) []byte { return b[:10] }, oci.ErrIntegrity},
		"blob longer":         {layer, func(b []byte) []byte { return append(b, 0) }, oci.ErrIntegrity},
		"blob gone":           {layer, nil, oci.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := a.WriteLayout(dir, "v1"); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "blobs", "sha256", c.blob.Digest.Encoded())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err = os.Remove(path); err == nil && c.change != nil {
				err = os.WriteFile(path, c.change(data), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := transfer.OpenLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			if c.blob.Digest == manifest.Digest {
				_, err = l.Manifest(t.Context(), "v1")
			} else {
				err = l.VerifyBlob(t.Context(), c.blob)
			}
			if !errors.Is(err, oci.ErrInvalid) || !errors.Is(err, c.also) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v", err)
			}
			if c.blob.Digest == layer.Digest && name != "blob" {
				if err := l.CheckBlob(t.Context(), layer); !errors.Is(err, oci.ErrInvalid) || !errors.Is(err, c.also) {
					t.Errorf("check: %v", err)
				}
				if _, err := l.Blob(t.Context(), layer, 0, -1); !errors.Is(err, oci.ErrInvalid) || !errors.Is(err, c.also) {
					t.Errorf("open: %v", err)
				}
			}
		})
	}
}

// TestLayoutMendsBrokenContent: content of the wrong length is written again.
func TestLayoutMendsBrokenContent(t *testing.T) {
	t.Parallel()
	a := image(1)
	dir := t.TempDir()
	if err := a.WriteLayout(dir, "v1"); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(a.Manifest.Blobs(), a.Manifest.Descriptor()) {
		if err := os.Truncate(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), 3); err != nil {
			t.Fatal(err)
		}
	}
	l, err := transfer.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, a, "v1")
	holds(t, l, "v1", a)
}

func TestLayoutPutBlobFailures(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(30, 10_000)
	d := describe(data, digest.SHA256)
	broken := errors.New("the line is cut")
	for name, c := range map[string]struct {
		open oci.Opener
		want error
	}{
		"not to be opened": {func(context.Context, int64) (io.ReadCloser, error) { return nil, broken }, broken},
		"short":            {openerOf(data[:9000]), io.ErrUnexpectedEOF},
		"wrong":            {openerOf(make([]byte, len(data))), oci.ErrIntegrity},
		"cut off": {func(context.Context, int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[:500]), iotestErr{broken})), nil
		}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dir := newLayout(t)
			if _, err := l.PutBlob(t.Context(), d, nil, c.open); !errors.Is(err, c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %v in %s", err, c.want, dir)
			}
			if err := l.CheckBlob(t.Context(), d); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("afterwards: %v", err)
			}
			if stored, err := l.PutBlob(t.Context(), d, nil, openerOf(data)); stored != oci.StoredUpload || err != nil {
				t.Errorf("second try: %v, %v", stored, err)
			}
			wantBlob(t, dir, d, data)
		})
	}
	l, _ := newLayout(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.PutBlob(ctx, d, nil, openerOf(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }

func TestLayoutReferrers(t *testing.T) {
	t.Parallel()
	a := image(1)
	sbom := ghcrtest.Refer(a, "application/spdx+json", "sbom")
	signature := ghcrtest.Refer(sbom, "application/vnd.example.signature", "signature")
	nested := ghcrtest.NewIndex(signature) // found inside an index as well
	l, _ := newLayout(t)
	put(t, l, a, "v1")
	put(t, l, nested, "extra")
	if list, err := l.Referrers(t.Context(), a.Digest()); len(list) > 0 || err != nil {
		t.Errorf("before there is one: %v, %v", list, err)
	}
	put(t, l, sbom, "")
	list, err := l.Referrers(t.Context(), a.Digest())
	if err != nil || len(list) != 1 || list[0].Digest != sbom.Digest() || list[0].ArtifactType != "application/spdx+json" {
		t.Errorf("of the image: %v, %v", list, err)
	}
	list, err = l.Referrers(t.Context(), sbom.Digest())
	if err != nil || len(list) != 1 || list[0].Digest != signature.Digest() {
		t.Errorf("of the SBOM, inside an index: %v, %v", list, err)
	}
	if m, err := l.Manifest(t.Context(), "v1"); err != nil || m.Digest() != a.Digest() {
		t.Errorf("the image: %v, %v", m, err)
	}
}

// TestLayoutTakesManyWriters: several processes, each with its own view of the
// layout, put images at once.
func TestLayoutTakesManyWriters(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	want := map[string]oci.Digest{}
	var wg sync.WaitGroup
	for n := range 12 {
		i := image(uint64(n % 3))
		tag := fmt.Sprint("v", n)
		want[tag] = i.Digest()
		wg.Go(func() {
			l, err := transfer.CreateLayout(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for _, d := range i.Manifest.Blobs() {
				if _, err := l.PutBlob(t.Context(), d, nil, openerOf(i.Blobs[d.Digest])); err != nil {
					t.Error(err)
				}
			}
			if err := l.PutManifest(t.Context(), tag, i.Manifest); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := map[string]oci.Digest{}
	for _, d := range index(t, dir) {
		got[d.Annotations[refName]] = d.Digest
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzLayoutIndex(f *testing.F) {
	f.Add([]byte(emptyIndex), "v1")
	f.Add([]byte(`{"manifests":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), "")
	f.Add([]byte(`{"manifests":null,"x":1}`), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f.Fuzz(func(t *testing.T, data []byte, ref string) {
		dir := write(t, map[string]string{"oci-layout": header, "index.json": string(data)})
		l, err := transfer.OpenLayout(dir)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("open: %v", err)
			}
			return
		}
		// There are no blobs, so nothing can be found, whatever is listed.
		if _, err := l.Manifest(t.Context(), ref); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("manifest %q: %v", ref, err)
		}
		l.TagNames(t.Context())
		if _, err := l.Referrers(t.Context(), digest.FromString("x")); err != nil {
			t.Errorf("referrers: %v", err)
		}
		a := image(1)
		if err := l.PutManifest(t.Context(), "put", a.Manifest); err != nil {
			t.Fatalf("put: %v", err)
		}
		if m, err := l.Manifest(t.Context(), "put"); err != nil || m.Digest() != a.Digest() {
			t.Errorf("after put: %v", err)
		}
	})
}
