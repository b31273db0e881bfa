package transfer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func createArchive(t testing.TB, file, name string) *transfer.ArchiveWriter {
	t.Helper()
	a, err := transfer.CreateArchive(file, name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// onlyFile checks that nothing but the archive is left in its directory.
func onlyFile(t testing.TB, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(file) {
		t.Errorf("left beside the archive: %v, %v", entries, err)
	}
}

// untar returns the members of a tar file in order, and what they hold.
func untar(t testing.TB, file string) (names []string, contents map[string][]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	contents = map[string][]byte{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s carries a time or owner: %v", h.Name, h)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		contents[h.Name] = data
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	t.Parallel()
	amd, arm := image(1), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 3000))
	attested := ghcrtest.Attested(arm, amd)
	nested := ghcrtest.NewIndex(ghcrtest.NewIndex(amd))
	docker := ghcrtest.NewDockerImage("linux/amd64", ghcrtest.RandomLayer(3, 3000))
	artifact := ghcrtest.Refer(image(9), "application/spdx+json", "an artifact")
	for _, c := range []struct {
		name  string
		image *ghcrtest.Image
		tag   string
		full  string
		loads []string // the names of the images that docker load finds, in order
	}{
		{"image with tag", amd, "v1", "", []string{""}},
		{"image with name", amd, "v1", "ghcr.io/acme/app:v1", []string{"ghcr.io/acme/app:v1"}},
		{"image by digest", amd, "", "", []string{""}},
		{"image by digest with name", amd, "", "ghcr.io/acme/app:v1", []string{"ghcr.io/acme/app:v1"}},
		{"docker's manifest", docker, "v1", "acme/app:v1", []string{"acme/app:v1"}},
		{"several platforms", attested, "v1", "acme/app:v1", []string{"", "acme/app:v1"}},
		{"nested index", nested, "v1", "acme/app:v1", []string{"acme/app:v1"}},
		{"no image", artifact, "v1", "acme/app:v1", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "image.tar")
			w := createArchive(t, file, c.full)
			put(t, w, c.image, c.tag)
			if _, err := os.Stat(file); err == nil {
				t.Error("the file is there before it is whole")
			}
			if err := w.Commit(t.Context(), c.image.Digest()); err != nil {
				t.Fatal(err)
			}
			onlyFile(t, file)

			src := openArchive(t, file)
			refs := []string{"", c.image.Digest().String()}
			if c.tag != "" {
				refs = append(refs, c.tag)
			}
			if c.full != "" {
				refs = append(refs, c.full)
			}
			for _, ref := range refs {
				holds(t, src, ref, c.image)
			}

			names, contents := untar(t, file)
			if want := []string{"oci-layout", "index.json", "manifest.json"}; !slices.Equal(names[:3], want) || !slices.IsSorted(names[3:]) {
				t.Errorf("members %v", names)
			}
			var list []saved
			if err := json.Unmarshal(contents["manifest.json"], &list); err != nil || list == nil {
				t.Fatalf("manifest.json: %v: %s", err, contents["manifest.json"])
			}
			var loads []string
			for _, i := range list {
				loads = append(loads, strings.Join(i.RepoTags, ","))
				for _, member := range append(i.Layers, i.Config) {
					data, ok := contents[member]
					if !ok || digest.FromBytes(data).Encoded() != filepath.Base(member) {
						t.Errorf("manifest.json names %s: there %v, %d bytes", member, ok, len(data))
					}
				}
			}
			if !slices.Equal(loads, c.loads) {
				t.Errorf("docker load finds %q, want %q", loads, c.loads)
			}
		})
	}
}

// TestArchiveIsReproducible: the same image makes the same file, in whatever order
// its content arrives and whatever was left beside it.
func TestArchiveIsReproducible(t *testing.T) {
	t.Parallel()
	i := ghcrtest.NewIndex(image(1), image(2))
	sbom := ghcrtest.Refer(i, "application/spdx+json", "sbom")
	var made [2][]byte
	for n := range made {
		file := filepath.Join(t.TempDir(), "image.tar")
		if n == 1 { // an earlier run for another image was cut off
			put(t, createArchive(t, file, ""), image(7), "old")
			sbom.Children, i.Children = nil, slices.Clone(i.Children)
			slices.Reverse(i.Children)
		}
		w := createArchive(t, file, "acme/app:v1")
		if n == 0 {
			put(t, w, sbom, "")
		}
		put(t, w, i, "v1")
		put(t, w, sbom, "")
		if err := w.Commit(t.Context(), i.Digest()); err != nil {
			t.Fatal(err)
		}
		onlyFile(t, file)
		var err error
		if made[n], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		src := openArchive(t, file)
		holds(t, src, "", i)
		list, err := src.Referrers(t.Context(), i.Digest())
		if err != nil || len(list) != 1 || list[0].Digest != sbom.Digest() {
			t.Errorf("referrers %v, %v", list, err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("two archives of one image differ")
	}
}

func TestArchiveOfPlatformsThatAreThere(t *testing.T) {
	t.Parallel()
	amd, arm := image(1), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 100))
	both := ghcrtest.NewIndex(amd, arm)
	both.Children = []*ghcrtest.Image{arm}
	file := filepath.Join(t.TempDir(), "image.tar")
	w := createArchive(t, file, "acme/app:v1")
	put(t, w, both, "v1")
	if err := w.Commit(t.Context(), both.Digest()); err != nil {
		t.Fatal(err)
	}
	_, contents := untar(t, file)
	var list []saved
	if err := json.Unmarshal(contents["manifest.json"], &list); err != nil || len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"acme/app:v1"}) {
		t.Errorf("manifest.json: %v: %s", err, contents["manifest.json"])
	}
	src := openArchive(t, file)
	holds(t, src, arm.Digest().String(), arm)
	if _, err := src.Manifest(t.Context(), amd.Digest().String()); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "one platform of several") {
		t.Errorf("a platform that is not there: %v", err)
	}
}

func TestArchiveGoesOn(t *testing.T) {
	t.Parallel()
	i := image(1)
	big := i.Manifest.Layers[1]
	file := filepath.Join(t.TempDir(), "image.tar")
	first := createArchive(t, file, "")
	if _, err := first.PutBlob(t.Context(), *i.Manifest.Config, nil, openerOf(i.Blobs[i.Manifest.Config.Digest])); err != nil {
		t.Fatal(err)
	}
	s := mustStage(t, first, big)
	mustWrite(t, s, i.Blobs[big.Digest], transfer.Span{Offset: 0, Length: 2000})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	later := createArchive(t, file, "")
	s = mustStage(t, later, big)
	if want := []transfer.Span{{Offset: 2000, Length: big.Size - 2000}}; !slices.Equal(s.Missing(), want) {
		t.Errorf("missing %v, want %v", s.Missing(), want)
	}
	s.Close()
	put(t, later, i, "v1")
	if stored, err := later.PutBlob(t.Context(), big, nil, nil); stored != oci.StoredExisting || err != nil {
		t.Errorf("put again: %v, %v", stored, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := later.Commit(ctx, i.Digest()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), file) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a commit that failed left a file")
	}
	if err := later.Commit(t.Context(), digest.FromString("x")); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("commit of another image: %v", err)
	}
	if err := later.Commit(t.Context(), i.Digest()); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, file)
	holds(t, openArchive(t, file), "v1", i)
}

func TestCreateArchiveSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for file, want := range map[string]string{dir: "it is a directory", os.DevNull: "a device or a pipe", filepath.Join(dir, "none", "x.tar"): "there is no directory"} {
		if _, err := transfer.CreateArchive(file, ""); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestArchiveIsReplaced: the old file is there until the new one is whole.
func TestArchiveIsReplaced(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "image.tar")
	for _, i := range []*ghcrtest.Image{image(1), image(2)} {
		w := createArchive(t, file, "")
		put(t, w, i, "v1")
		if err := w.Commit(t.Context(), i.Digest()); err != nil {
			t.Fatal(err)
		}
		holds(t, openArchive(t, file), "", i)
		onlyFile(t, file)
	}
}

func BenchmarkArchive(b *testing.B) {
	i := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 32<<20), ghcrtest.RandomLayer(2, 32<<20))
	var size int64
	for _, d := range i.Manifest.Blobs() {
		size += d.Size
	}
	b.Run("write", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			b.StopTimer()
			w := createArchive(b, filepath.Join(b.TempDir(), "image.tar"), "")
			put(b, w, i, "v1")
			b.StartTimer()
			if err := w.Commit(b.Context(), i.Digest()); err != nil {
				b.Fatal(err)
			}
		}
	})
	layer := layerTar(b, strings.Repeat("some text that compresses well, as most of a layer does\n", 1<<18))
	data := tarOf(b, entry{name: "c.json", data: configOf(b, layer, layer+"\x00")}, entry{name: "1.tar", data: layer}, entry{name: "2.tar", data: layer + "\x00"},
		entry{name: "manifest.json", data: jsonOf(b, []saved{{"c.json", nil, []string{"1.tar", "2.tar"}}})})
	file := saveFile(b, data)
	b.Run("compress", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := openArchive(b, file).Manifest(b.Context(), ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
