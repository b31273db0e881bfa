package ghcr

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/oci"
)

// manifestCache keeps manifests by digest, since what a digest names never changes
// and each fetch counts as a download (docs/quirks.md#count-downloads), of which a
// public version may have only so many before it can't be deleted. What is read from
// disk is checked against its digest; what is wrong there is as good as absent.
// Several processes may use one directory.
type manifestCache struct {
	dir string // empty keeps manifests in memory

	mu     sync.Mutex
	memory map[oci.Digest]*oci.Manifest
	bytes  int64          // in memory
	counts map[string]int // files in each directory that was written to
	puts   int64
}

// Bounds of what is kept: bytes in memory, and files in each of the 256 directories
// on disk.
const (
	maxMemoryManifests = 64 << 20
	maxManifestFiles   = 512
)

func openManifests(dir string) *manifestCache {
	return &manifestCache{dir: dir, memory: map[oci.Digest]*oci.Manifest{}, counts: map[string]int{}}
}

// get returns a manifest that is kept, or nil.
func (c *manifestCache) get(d oci.Digest) *oci.Manifest {
	if c.dir == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.memory[d]
	}
	path := c.path(d)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	// The first line is the media type, which is part of what a manifest means and not
	// always in it.
	mediaType, raw, _ := bytes.Cut(data, []byte("\n"))
	m, err := oci.ParseManifest(string(mediaType), raw)
	if err != nil || m.Verify(d) != nil {
		os.Remove(path)
		return nil
	}
	return m
}

// put keeps a manifest under a digest that it was checked against. That it can't be
// kept is no error: it is fetched again.
func (c *manifestCache) put(d oci.Digest, m *oci.Manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	if c.dir == "" {
		if c.bytes += int64(len(m.Bytes())); c.bytes > maxMemoryManifests {
			clear(c.memory)
			c.bytes = int64(len(m.Bytes()))
		}
		c.memory[d] = m
		return
	}
	path := c.path(d)
	c.makeRoom(filepath.Dir(path))
	atomicfile.Write(path, append([]byte(m.MediaType+"\n"), m.Bytes()...), 0o600, false)
}

// fetched tells how many manifests were put, and so how many downloads were counted.
func (c *manifestCache) fetched() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.puts
}

func (c *manifestCache) path(d oci.Digest) string {
	hex := d.Encoded()
	return filepath.Join(c.dir, hex[:2], d.Algorithm().String()+"-"+hex)
}

// makeRoom makes a directory, and removes the older half of what is in it once it
// is full.
func (c *manifestCache) makeRoom(dir string) {
	n, counted := c.counts[dir]
	if !counted || n >= maxManifestFiles {
		os.MkdirAll(dir, 0o700)
		entries, _ := os.ReadDir(dir)
		if n = len(entries); n >= maxManifestFiles {
			infos := map[string]fs.FileInfo{}
			for _, e := range entries {
				if info, err := e.Info(); err == nil {
					infos[e.Name()] = info
				}
			}
			entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return infos[e.Name()] == nil })
			slices.SortFunc(entries, func(a, b fs.DirEntry) int {
				return cmp.Compare(infos[a.Name()].ModTime().UnixNano(), infos[b.Name()].ModTime().UnixNano())
			})
			for _, e := range entries[:len(entries)/2] {
				os.Remove(filepath.Join(dir, e.Name()))
			}
			n -= len(entries) / 2
		}
	}
	c.counts[dir] = n + 1
}
