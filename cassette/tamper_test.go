package cassette_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// small is a cassette of few bytes, with each kind of body.
func small(t testing.TB) string {
	blob := "0123456789"
	url := host + "/v2/a/b/blobs/" + digestOf(blob)
	server := &script{answers: []answer{
		{status: 200, body: `{"tags":["v1"]}`, header: http.Header{"Content-Type": {"application/json"}}},
		{status: 206, body: blob[:6], header: http.Header{"Content-Range": {"bytes 0-5/10"}}},
		{status: 206, body: blob[6:], header: http.Header{"Content-Range": {"bytes 6-9/10"}}},
		{status: 404},
	}}
	return record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/a/b/tags/list", "")
		ask(t, rt, "GET", url, "", "Range", "bytes=0-5")
		ask(t, rt, "GET", url, "", "Range", "bytes=6-9")
		ask(t, rt, "HEAD", host+"/v2/a/b/manifests/v1", "")
	})
}

func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		all[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// changes are what may happen to a byte of a file; nil where it makes no difference.
var changes = map[string]func(data []byte, i int) []byte{
	"flipped": func(data []byte, i int) []byte {
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		return changed
	},
	"in another case": func(data []byte, i int) []byte {
		changed := bytes.Clone(data)
		changed[i] ^= 0x20
		return changed
	},
	"taken out": func(data []byte, i int) []byte { return slices.Delete(bytes.Clone(data), i, i+1) },
	"doubled":   func(data []byte, i int) []byte { return slices.Insert(bytes.Clone(data), i, data[i]) },
	"exchanged": func(data []byte, i int) []byte {
		if i == 0 || data[i] == data[i-1] {
			return nil
		}
		changed := bytes.Clone(data)
		changed[i-1], changed[i] = changed[i], changed[i-1]
		return changed
	},
}

// TestEveryChangeIsFound tries each byte of each file.
func TestEveryChangeIsFound(t *testing.T) {
	sealed := small(t)
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the disk
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(sealed)); err != nil {
				t.Fatal(err)
			}
			for path, data := range files(t, dir) {
				// The two files that point to the manifest are written by other tools too, each
				// with its own white space. Whatever else says the same is no change.
				pointer := filepath.Dir(path) == dir
				for i := range data {
					changed := change(data, i)
					if changed == nil {
						continue
					}
					if err := os.WriteFile(path, changed, 0o644); err != nil {
						t.Fatal(err)
					}
					if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err == nil && !(pointer && sameJSON(data, changed)) {
						t.Errorf("%s: byte %d: not found", filepath.Base(path), i)
					}
				}
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestEveryFileCounts: one that is missing, one that is longer, and one too many.
func TestEveryFileCounts(t *testing.T) {
	dir := small(t)
	for path, data := range files(t, dir) {
		for what, change := range map[string]func() error{
			"taken out": func() error { return os.Remove(path) },
			"longer":    func() error { return os.WriteFile(path, append(bytes.Clone(data), 'x'), 0o644) },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%s %s: %v", filepath.Base(path), what, err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	stray := filepath.Join(dir, "blobs", "sha256", strings.Repeat("0", 64))
	if err := os.WriteFile(stray, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); !errors.Is(err, oci.ErrIntegrity) {
		t.Errorf("an added file: %v", err)
	}
	os.Remove(stray)
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// TestEveryChangedEntryIsFound: whoever changes the journal can make its digest
// right, and that of the manifest. The chain, the numbers and the digests in it
// still do not agree, and the digest of the cassette is another.
func TestEveryChangedEntryIsFound(t *testing.T) {
	dir := small(t)
	pin := pinOf(t, dir)
	lines := bytes.SplitAfter(journalOf(t, dir), []byte("\n"))
	lines = lines[:len(lines)-1]
	try := func(what string, changed [][]byte) {
		t.Helper()
		forged := t.TempDir()
		if err := os.CopyFS(forged, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		forge(t, forged, bytes.Join(changed, nil))
		if _, err := cassette.Verify(t.Context(), forged, cassette.Options{}); err == nil {
			t.Errorf("%s: not found", what)
		}
		if _, err := cassette.Open(forged, cassette.Options{Pin: pin}); !errors.Is(err, oci.ErrIntegrity) {
			t.Errorf("%s: with a pin: %v", what, err)
		}
	}
	for i := range lines {
		without := append(append([][]byte{}, lines[:i]...), lines[i+1:]...)
		if i < len(lines)-1 { // the last is what the pin is for
			try("an entry taken out", without)
		}
		for j := range len(without) + 1 {
			moved := append(append(append([][]byte{}, without[:j]...), lines[i]), without[j:]...)
			if j != i {
				try("an entry moved", moved)
			}
			doubled := append(append(append([][]byte{}, lines[:j]...), lines[i]), lines[j:]...)
			try("an entry added", doubled)
		}
		if i < len(lines)-1 {
			changed := append([][]byte{}, lines...)
			changed[i] = bytes.Replace(lines[i], []byte(`"epoch":0`), []byte(`"epoch":1`), 1)
			try("an entry changed", changed)
		}
	}
}

type rawManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        oci.Descriptor    `json:"config"`
	Layers        []oci.Descriptor  `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
}

func pinOf(t testing.TB, dir string) oci.Digest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []oci.Descriptor }
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	return index.Manifests[0].Digest
}

func blobPath(dir string, d oci.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

func manifestOf(t testing.TB, dir string) rawManifest {
	t.Helper()
	data, err := os.ReadFile(blobPath(dir, pinOf(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	var m rawManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func journalOf(t testing.TB, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(blobPath(dir, manifestOf(t, dir).Layers[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// forge puts another journal into a cassette, with all digests to match.
func forge(t testing.TB, dir string, journal []byte) {
	t.Helper()
	m := manifestOf(t, dir)
	os.Remove(blobPath(dir, m.Layers[0].Digest))
	os.Remove(blobPath(dir, pinOf(t, dir)))
	write := func(data []byte) oci.Digest {
		d := digest.FromBytes(data)
		if err := os.WriteFile(blobPath(dir, d), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	m.Layers[0].Digest, m.Layers[0].Size = write(journal), int64(len(journal))
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex,
		"manifests": []oci.Descriptor{{MediaType: oci.MediaTypeOCIManifest, Digest: write(raw), Size: int64(len(raw))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestChangedBodyFailsBeforeItsEnd: not even who reads exactly as many bytes as
// were announced gets all of a body that was changed.
func TestChangedBodyFailsBeforeItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := emulator(t, nil)
		img := image(9, 1)
		if err := server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		pull := func(rt http.RoundTripper) error {
			c := client(t, rt)
			from, err := c.ParseEnd("acme/app:v1")
			if err != nil {
				t.Fatal(err)
			}
			to, err := c.ParseEnd("oci:" + t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Copy(t.Context(), from, to, transfer.Options{Jobs: 1})
			return err
		}
		dir := record(t, cassette.Options{}, server.Transport(), func(rt http.RoundTripper) {
			if err := pull(rt); err != nil {
				t.Fatal(err)
			}
		})
		layer := img.Manifest.Layers[0]
		path := blobPath(dir, layer.Digest)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := cassette.Open(dir, cassette.Options{Repeat: cassette.RepeatAny})
		if err != nil {
			t.Fatal(err)
		}
		if err := pull(c); err == nil {
			t.Error("a changed layer was pulled")
		}
		for e := range c.Interactions() {
			if e.Response.Body.Digest != layer.Digest {
				continue
			}
			body, err := c.OpenBody(&e.Response.Body)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			n, err := io.ReadFull(body, make([]byte, layer.Size))
			if !errors.Is(err, oci.ErrIntegrity) || int64(n) == layer.Size {
				t.Errorf("read %d of %d bytes, then %v", n, layer.Size, err)
			}
		}
	})
}

// TestPiecesAreKeptWhole: what was read in ranges is one blob, if they have all of
// it.
func TestPiecesAreKeptWhole(t *testing.T) {
	dir := small(t)
	c, err := cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pieces := 0
	for e := range c.Interactions() {
		if b := e.Response.Body; b.Mode == cassette.BodySlice {
			pieces++
			if string(b.Of) != digestOf("0123456789") {
				t.Errorf("a slice of %s", b.Of)
			}
		}
	}
	if pieces != 2 {
		t.Errorf("%d slices, want 2", pieces)
	}
	url := host + "/v2/a/b/blobs/" + digestOf("0123456789")
	if got := ask(t, c, "GET", url, "", "Range", "bytes=6-9"); got != "206 6789" {
		t.Errorf("got %q", got)
	}
	if s, err := cassette.Verify(t.Context(), dir, cassette.Options{Pin: c.Digest()}); err != nil || s.Bodies != 1 || s.Interactions != 4 {
		t.Errorf("got %+v, %v", s, err)
	}
}
