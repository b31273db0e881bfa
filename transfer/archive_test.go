package transfer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// entry is a member of a tar file made by a test: a file, or a link.
type entry struct {
	name, data string
	kind       byte // zero is a file
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Typeflag: e.kind, ModTime: time.Unix(1, 0)}
		switch e.kind {
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.data))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.data
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == 0 {
			if _, err := io.WriteString(tw, e.data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

func saveFile(t testing.TB, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func openArchive(t testing.TB, file string) *transfer.Archive {
	t.Helper()
	a, err := transfer.OpenArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// layerTar is an uncompressed layer.
func layerTar(t testing.TB, content string) string {
	return string(tarOf(t, entry{name: "hello", data: content}))
}

// configOf is an image config for uncompressed layers.
func configOf(t testing.TB, layers ...string) string {
	ids := []digest.Digest{}
	for _, l := range layers {
		ids = append(ids, digest.FromString(l))
	}
	return jsonOf(t, map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
}

type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// modernSave is what docker save writes since version 25, for images by tag.
func modernSave(t testing.TB, names map[string]*ghcrtest.Image) []entry {
	entries := []entry{{name: "blobs/", kind: tar.TypeDir}, {name: "blobs/sha256/", kind: tar.TypeDir}}
	var manifests []oci.Descriptor
	var list []saved
	for name, i := range names {
		for d, data := range i.Blobs {
			entries = append(entries, entry{name: "blobs/sha256/" + d.Encoded(), data: string(data)})
		}
		entries = append(entries, entry{name: "blobs/sha256/" + i.Digest().Encoded(), data: string(i.Manifest.Bytes())})
		manifests = append(manifests, annotated(i, containerdName, "docker.io/library/"+name, refName, name[strings.IndexByte(name, ':')+1:]))
		s := saved{Config: "blobs/sha256/" + i.Manifest.Config.Digest.Encoded(), RepoTags: []string{name}}
		for _, l := range i.Manifest.Layers {
			s.Layers = append(s.Layers, "blobs/sha256/"+l.Digest.Encoded())
		}
		list = append(list, s)
	}
	return append(entries,
		entry{name: "index.json", data: jsonOf(t, map[string]any{"schemaVersion": 2, "manifests": manifests})},
		entry{name: "manifest.json", data: jsonOf(t, list)},
		entry{name: "oci-layout", data: header},
		entry{name: "repositories", data: "{}"},
	)
}

func TestArchiveOfLayoutKeepsDigests(t *testing.T) {
	t.Parallel()
	a, b := image(1), image(2)
	plain := tarOf(t, modernSave(t, map[string]*ghcrtest.Image{"app:v1": a, "other:v2": b})...)
	for name, data := range map[string][]byte{"plain": plain, "gzip": gzipped(t, plain), "zstd": zstded(t, plain)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := openArchive(t, saveFile(t, data))
			for _, ref := range []string{"app:v1", "v1", "docker.io/library/app:v1", a.Digest().String()} {
				holds(t, src, ref, a)
			}
			holds(t, src, "other:v2", b)
			if _, err := src.Manifest(t.Context(), ""); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "docker.io/library/app:v1, docker.io/library/other:v2") {
				t.Errorf("without a name: %v", err)
			}
			if _, err := src.Manifest(t.Context(), "app:v9"); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("another name: %v", err)
			}
			if err := src.VerifyBlob(t.Context(), a.Manifest.Layers[0]); err != nil {
				t.Error(err)
			}
			tags, err := src.TagNames(t.Context())
			slices.Sort(tags)
			if err != nil || !slices.Equal(tags, []string{"v1", "v2"}) {
				t.Errorf("tags %v, %v", tags, err)
			}
		})
	}
}

// legacySaves are archives of one image with the layers base, top, base again.
func legacySaves(t testing.TB) (config string, layers []string, saves map[string][]entry) {
	base, top := layerTar(t, "base"), layerTar(t, "top")
	layers = []string{base, top, base}
	config = configOf(t, layers...)
	baseHex, topHex := digest.FromString(base).Encoded(), digest.FromString(top).Encoded()
	manifest := func(config string, layers ...string) entry {
		return entry{name: "manifest.json", data: jsonOf(t, []saved{{config, []string{"acme/app:v1"}, layers}})}
	}
	return config, layers, map[string][]entry{
		"docker": {
			{name: "one/", kind: tar.TypeDir}, {name: "one/VERSION", data: "1.0"}, {name: "one/json", data: "{}"}, {name: "one/layer.tar", data: base},
			{name: "two/layer.tar", data: top},
			{name: "three/layer.tar", data: "../one/layer.tar", kind: tar.TypeSymlink},
			{name: "0123.json", data: config},
			manifest("0123.json", "one/layer.tar", "two/layer.tar", "three/layer.tar"),
			{name: "repositories", data: `{"acme/app":{"v1":"two"}}`},
		},
		"podman": {
			{name: baseHex + ".tar", data: base}, {name: topHex + ".tar", data: top},
			{name: "id1/layer.tar", data: "../" + baseHex + ".tar", kind: tar.TypeSymlink},
			{name: "id2/layer.tar", data: "../" + topHex + ".tar", kind: tar.TypeSymlink},
			{name: "config.json", data: config},
			manifest("config.json", baseHex+".tar", topHex+".tar", baseHex+".tar"),
		},
		"links to links": {
			{name: "./a.tar", data: "b.tar", kind: tar.TypeLink}, {name: "./b.tar", data: "c.tar", kind: tar.TypeSymlink}, {name: "./c.tar", data: base},
			{name: "./top.tar", data: top}, {name: "./config.json", data: config},
			manifest("config.json", "a.tar", "top.tar", "c.tar"),
		},
		"crane": {
			{name: "sha256:0123", data: config},
			{name: baseHex + ".tar.gz", data: string(gzipped(t, []byte(base)))}, {name: topHex + ".tar.gz", data: string(gzipped(t, []byte(top)))},
			manifest("sha256:0123", baseHex+".tar.gz", topHex+".tar.gz", baseHex+".tar.gz"),
		},
		"zstd": {
			{name: "config.json", data: config},
			{name: "base", data: string(zstded(t, []byte(base)))}, {name: "top", data: string(zstded(t, []byte(top)))},
			manifest("config.json", "base", "top", "base"),
		},
		"index without oci-layout": {
			{name: "index.json", data: emptyIndex}, {name: "config.json", data: config}, {name: "base", data: base}, {name: "top", data: top},
			manifest("config.json", "base", "top", "base"),
		},
	}
}

// unpack returns what a layer's blob holds when it is decompressed.
func unpack(t testing.TB, d oci.Descriptor, data []byte) string {
	t.Helper()
	var r io.Reader
	var err error
	if strings.HasSuffix(d.MediaType, "gzip") {
		r, err = gzip.NewReader(bytes.NewReader(data))
	} else {
		r, err = zstd.NewReader(bytes.NewReader(data))
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestArchiveWithoutManifestGetsOne(t *testing.T) {
	t.Parallel()
	config, layers, saves := legacySaves(t)
	for name, entries := range saves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := tarOf(t, entries...)
			src := openArchive(t, saveFile(t, data))
			m, err := src.Manifest(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if m.Kind() != oci.KindImage || m.MediaType != oci.MediaTypeDockerManifest || m.Config.Digest != digest.FromString(config) || len(m.Layers) != len(layers) {
				t.Fatalf("made %s", m.Bytes())
			}
			for i, d := range append([]oci.Descriptor{*m.Config}, m.Layers...) {
				body, err := src.Blob(t.Context(), d, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(body)
				body.Close()
				if err != nil || digest.FromBytes(got) != d.Digest || int64(len(got)) != d.Size {
					t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
				}
				if i > 0 && unpack(t, d, got) != layers[i-1] {
					t.Errorf("layer %d is another", i-1)
				}
				if err := src.VerifyBlob(t.Context(), d); err != nil {
					t.Error(err)
				}
			}
			for _, ref := range []string{"acme/app:v1", "docker.io/acme/app:v1", "v1", m.Digest().String()} {
				again, err := openArchive(t, saveFile(t, data)).Manifest(t.Context(), ref)
				if err != nil || again.Digest() != m.Digest() {
					t.Errorf("again by %q: %v, %v", ref, again, err)
				}
			}
			if tags, err := src.TagNames(t.Context()); err != nil || !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("tags %v, %v", tags, err)
			}
			for _, ref := range []string{"v9", "acme/app:v9", digest.FromString("x").String()} {
				if _, err := src.Manifest(t.Context(), ref); !errors.Is(err, oci.ErrNotFound) || !errors.Is(err, oci.ErrInvalid) {
					t.Errorf("%q: %v", ref, err)
				}
			}
			if err := src.CheckBlob(t.Context(), describe([]byte("x"), digest.SHA256)); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("another blob: %v", err)
			}
			if list, err := src.Referrers(t.Context(), m.Digest()); len(list) > 0 || err != nil {
				t.Errorf("referrers %v, %v", list, err)
			}
		})
	}
}

func TestArchiveOfSeveralImages(t *testing.T) {
	t.Parallel()
	one, two := layerTar(t, "one"), layerTar(t, "two")
	src := openArchive(t, saveFile(t, tarOf(t,
		entry{name: "1.json", data: configOf(t, one)}, entry{name: "2.json", data: configOf(t, two)},
		entry{name: "1.tar", data: one}, entry{name: "2.tar", data: two},
		entry{name: "manifest.json", data: jsonOf(t, []saved{
			{"1.json", []string{"acme/a:v1", "acme/a:latest"}, []string{"1.tar"}}, {"2.json", []string{"acme/b:v1"}, []string{"2.tar"}},
		})},
	)))
	var wg sync.WaitGroup // the images are made while others are asked for
	for ref, config := range map[string]string{"acme/a:v1": configOf(t, one), "latest": configOf(t, one), "acme/b:v1": configOf(t, two)} {
		wg.Go(func() {
			m, err := src.Manifest(t.Context(), ref)
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				return
			}
			if m.Config.Digest != digest.FromString(config) {
				t.Errorf("%s is the other image", ref)
			}
			if err := src.VerifyBlob(t.Context(), m.Layers[0]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for ref, want := range map[string]string{"": "2 images: choose one", "v1": `2 images are tagged "v1"`} {
		if _, err := src.Manifest(t.Context(), ref); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "acme/a:latest, acme/a:v1, acme/b:v1") {
			t.Errorf("%q: %v", ref, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := openArchive(t, saveFile(t, tarOf(t, entry{name: "1.json", data: configOf(t, one)}, entry{name: "1.tar", data: one},
		entry{name: "manifest.json", data: jsonOf(t, []saved{{"1.json", nil, []string{"1.tar"}}})})))
	if _, err := fresh.Manifest(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := fresh.Manifest(t.Context(), ""); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestArchiveSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	layer := layerTar(t, "x")
	config := entry{name: "c.json", data: configOf(t, layer)}
	file := entry{name: "l.tar", data: layer}
	list := func(config string, layers ...string) entry {
		return entry{name: "manifest.json", data: jsonOf(t, []saved{{config, nil, layers}})}
	}
	a := image(1)
	modern := modernSave(t, map[string]*ghcrtest.Image{"app:v1": a})
	without := func(name string) []entry {
		return slices.DeleteFunc(slices.Clone(modern), func(e entry) bool { return strings.HasSuffix(e.name, name) })
	}
	with := func(e entry) []entry { return append(without(e.name), e) }
	sparse := func() []byte {
		pax := ""
		for _, record := range []string{"major=1", "minor=0", "name=l.tar", "realsize=512"} {
			pax += fmt.Sprintf("%d GNU.sparse.%s\n", len(record)+len("00 GNU.sparse.\n"), record)
		}
		data := tarOf(t, entry{name: "x", data: pax}, entry{name: "l.tar", data: "0\n" + strings.Repeat("\x00", 510)})
		data[156] = tar.TypeXHeader
		return rechecksum(data)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
		also error // besides ErrInvalid
	}{
		"empty":                  {nil, "no tar file", nil},
		"text":                   {[]byte(strings.Repeat("this is no tar file ", 100)), "not readable as tar", nil},
		"no members":             {tarOf(t), "no tar file", nil},
		"other things":           {tarOf(t, entry{name: "a"}), "docker save did not write it", nil},
		"bad gzip":               {[]byte{0x1f, 0x8b, 1, 2, 3}, "gzip", nil},
		"cut gzip":               {gzipped(t, tarOf(t, config, file))[:100], "decompress", nil},
		"cut zstd":               {zstded(t, tarOf(t, config, file))[:100], "decompress", nil},
		"bad list":               {tarOf(t, entry{name: "manifest.json", data: "{"}), "manifest.json is not readable", nil},
		"empty list":             {tarOf(t, entry{name: "manifest.json", data: "[]"}), "no image", oci.ErrNotFound},
		"layer missing":          {tarOf(t, config, list("c.json", "gone.tar")), `"gone.tar", which is missing`, nil},
		"config missing":         {tarOf(t, file, list("../../etc/passwd", "l.tar")), "which is missing", nil},
		"link out":               {tarOf(t, config, entry{name: "l.tar", data: "../../etc/passwd", kind: tar.TypeSymlink}, list("c.json", "l.tar")), "which is missing", nil},
		"ring of links":          {tarOf(t, config, entry{name: "l.tar", data: "m.tar", kind: tar.TypeSymlink}, entry{name: "m.tar", data: "l.tar", kind: tar.TypeSymlink}, list("c.json", "l.tar")), "which is missing", nil},
		"config is no JSON":      {tarOf(t, file, entry{name: "c.json", data: "x"}, list("c.json", "l.tar")), "config c.json is not readable", nil},
		"config of other layers": {tarOf(t, config, file, list("c.json", "l.tar", "l.tar")), "is of 1 layers, but manifest.json lists 2", nil},
		"config of bad digest":   {tarOf(t, file, entry{name: "c.json", data: `{"rootfs":{"diff_ids":["sha256:x"]}}`}, list("c.json", "l.tar")), "malformed digest", nil},
		"config too long":        {tarOf(t, file, entry{name: "c.json", data: strings.Repeat(" ", oci.MaxManifestSize+1)}, list("c.json", "l.tar")), "the limit is", nil},
		"no end of layers":       {tarOf(t, config, file, list("c.json", slices.Repeat([]string{"l.tar"}, 1<<14+1)...)), "the limit is 16384", nil},
		"another layer":          {tarOf(t, config, entry{name: "l.tar", data: layerTar(t, "y")}, list("c.json", "l.tar")), "content has digest", oci.ErrIntegrity},
		"one file, two layers":   {tarOf(t, file, entry{name: "c.json", data: configOf(t, layer, "other")}, list("c.json", "l.tar", "l.tar")), "two different layers", nil},
		"holes":                  {sparse(), "--sparse", nil},
		"bad header":             {tarOf(t, with(entry{name: "oci-layout", data: `{"imageLayoutVersion":"9"}`})...), `version is "9"`, nil},
		"bad index":              {tarOf(t, with(entry{name: "index.json", data: `[`})...), "index.json is not readable", nil},
		"bad digest":             {tarOf(t, with(entry{name: "index.json", data: `{"manifests":[{"digest":"sha256:../x"}]}`})...), "malformed digest", nil},
		"no images":              {tarOf(t, with(entry{name: "index.json", data: `{}`})...), "no image", oci.ErrNotFound},
		"manifest missing":       {tarOf(t, without(a.Digest().Encoded())...), "manifest " + a.Digest().String() + " is missing", oci.ErrNotFound},
		"manifest broken":        {tarOf(t, with(entry{name: "blobs/sha256/" + a.Digest().Encoded(), data: "{}"})...), "content has digest", oci.ErrIntegrity},
		"blob missing":           {tarOf(t, without(a.Manifest.Layers[0].Digest.Encoded())...), "is missing", oci.ErrNotFound},
		"blob too long":          {tarOf(t, with(entry{name: "blobs/sha256/" + a.Manifest.Layers[0].Digest.Encoded(), data: strings.Repeat("x", 9999)})...), "got 9999 bytes", oci.ErrIntegrity},
		"blob broken":            {tarOf(t, with(entry{name: "blobs/sha256/" + a.Manifest.Layers[0].Digest.Encoded(), data: strings.Repeat("x", int(a.Manifest.Layers[0].Size))})...), "content has digest", oci.ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := saveFile(t, c.data)
			err := readAll(t, file)
			if !errors.Is(err, oci.ErrInvalid) || c.also != nil && !errors.Is(err, c.also) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want %q and the file's name", err, c.want)
			}
		})
	}
	if _, err := transfer.OpenArchive(filepath.Join(t.TempDir(), "none.tar")); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	if _, err := transfer.OpenArchive(os.DevNull); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a device: %v", err)
	}
	if _, err := transfer.OpenArchive(t.TempDir()); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), "oci:") {
		t.Errorf("a directory: %v", err)
	}
}

// rechecksum mends the checksum of the first header of a tar file.
func rechecksum(data []byte) []byte {
	copy(data[148:156], "        ")
	sum := 0
	for _, b := range data[:512] {
		sum += int(b)
	}
	copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// readAll reads the only image of an archive with all its blobs.
func readAll(t testing.TB, file string) error {
	a, err := transfer.OpenArchive(file)
	if err != nil {
		return err
	}
	defer a.Close()
	m, err := a.Manifest(t.Context(), "")
	if err != nil {
		return err
	}
	for e := range m.Edges() {
		if e.Kind == oci.EdgeSubject {
			continue
		}
		if err := a.VerifyBlob(t.Context(), e.Descriptor); err != nil {
			return err
		}
	}
	return nil
}

// TestArchiveCutAnywhere: an archive that was not copied whole is refused, wherever
// it ends.
func TestArchiveCutAnywhere(t *testing.T) {
	t.Parallel()
	_, _, saves := legacySaves(t)
	for name, entries := range map[string][]entry{"layout": modernSave(t, map[string]*ghcrtest.Image{"app:v1": image(1)}), "older": saves["docker"]} {
		// What is needed comes last; the zeros at the end are not.
		entries = slices.DeleteFunc(entries, func(e entry) bool {
			return e.name == "repositories" || name == "layout" && e.name == "manifest.json"
		})
		data := tarOf(t, entries...)
		whole := len(bytes.TrimRight(data, "\x00"))
		for at := 0; at < whole; at += 211 {
			if err := readAll(t, saveFile(t, data[:at])); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%s, cut at %d of %d: %v", name, at, len(data), err)
			}
		}
		if err := readAll(t, saveFile(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArchiveLeavesNoTemporaryFiles(t *testing.T) {
	temp := t.TempDir()
	_, _, saves := legacySaves(t)
	good := saveFile(t, gzipped(t, tarOf(t, saves["docker"]...)))
	bad := saveFile(t, gzipped(t, []byte("no tar")))
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp)
	a := openArchive(t, good)
	if _, err := a.Manifest(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := transfer.OpenArchive(bad); err == nil {
		t.Error("a bad archive was opened")
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzArchive(f *testing.F) {
	_, _, saves := legacySaves(f)
	for _, entries := range saves {
		f.Add(tarOf(f, entries...))
	}
	f.Add(tarOf(f, modernSave(f, map[string]*ghcrtest.Image{"app:v1": ghcrtest.NewImage("linux/amd64", []byte("x"))})...))
	f.Add(gzipped(f, tarOf(f, entry{name: "manifest.json", data: "[]"})))
	f.Add(zstded(f, tarOf(f, entry{name: "manifest.json", data: "[]"})))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := readAll(t, saveFile(t, data)); err != nil && !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("an error that is not about the input: %v", err)
		}
	})
}
