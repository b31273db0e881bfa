package ghcr

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestManifestCacheIsBounded: what was kept first goes first, on disk and in memory.
func TestManifestCacheIsBounded(t *testing.T) {
	c := openManifests(t.TempDir())
	dir := filepath.Join(c.dir, "ab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxManifestFiles {
		path := filepath.Join(dir, fmt.Sprint(i))
		at := time.Now().Add(time.Duration(i-maxManifestFiles) * time.Hour)
		if os.WriteFile(path, nil, 0o600) != nil || os.Chtimes(path, at, at) != nil {
			t.Fatal("no place for files")
		}
	}
	c.makeRoom(dir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != maxManifestFiles/2 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprint(maxManifestFiles-1))); err != nil {
		t.Error("the newest is gone")
	}

	c = openManifests("")
	for i := range 40 {
		raw := append([]byte(`{"schemaVersion":2,"manifests":[]}`), make([]byte, 3<<20)...)
		for j := range raw[34:] {
			raw[34+j] = " \n"[i>>(j%6)&1]
		}
		m, err := oci.ParseManifest(oci.MediaTypeOCIIndex, raw)
		if err != nil {
			t.Fatal(err)
		}
		c.put(m.Digest(), m)
		if c.bytes > maxMemoryManifests || c.get(m.Digest()) != m {
			t.Fatalf("%d bytes are kept", c.bytes)
		}
	}
}
