package ghcr

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
)

// documentCache keeps documents that never change by a key: what is attached to
// images, by digest, and what GitHub and OSV keep, by where it is. Files are packed,
// which also shows damage; what is wrong is as good as absent. Several processes may use
// one directory. It implements [security.Store].
type documentCache struct {
	dir string // empty keeps documents in memory

	mu      sync.Mutex
	memory  map[string][]byte
	bytes   int64 // in memory
	written int64 // to the directory since it was last measured
	swept   bool
}

// fetching has what never changes fetched by one at a time, and others find it kept: so
// how often it is fetched does not depend on how many want it at once.
type fetching struct {
	mu   sync.Mutex
	keys map[string]chan struct{}
}

// begin waits until nobody fetches what has this key. The caller then does, unless it is
// kept by now, and calls done.
func (f *fetching) begin(ctx context.Context, key string) (done func(), err error) {
	for {
		f.mu.Lock()
		other, busy := f.keys[key]
		if !busy {
			mine := make(chan struct{})
			if f.keys == nil {
				f.keys = map[string]chan struct{}{}
			}
			f.keys[key] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.keys, key)
				f.mu.Unlock()
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Bounds of what is kept, in bytes: of one document, in memory, and on disk.
const (
	maxKeptDocument    = 20 << 20
	maxMemoryDocuments = 64 << 20
	maxDiskDocuments   = 256 << 20
)

func openDocuments(dir string) *documentCache {
	return &documentCache{dir: dir, memory: map[string][]byte{}}
}

// Get implements [security.Store].
func (c *documentCache) Get(key string) ([]byte, bool) {
	if c.dir == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		content, ok := c.memory[key]
		return content, ok
	}
	f, err := os.Open(c.path(key))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(z, maxKeptDocument+int64(len(key))+2)) // checks the sum at its end
	line, content, ok := bytes.Cut(data, []byte("\n"))
	return content, err == nil && ok && string(line) == key && len(content) <= maxKeptDocument
}

// Put implements [security.Store]. That a document can't be kept is no error: it is
// fetched again.
func (c *documentCache) Put(key string, content []byte) {
	if len(content) > maxKeptDocument || bytes.ContainsRune([]byte(key), '\n') {
		return
	}
	if c.dir == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bytes += int64(len(content)); c.bytes > maxMemoryDocuments {
			clear(c.memory)
			c.bytes = int64(len(content))
		}
		c.memory[key] = content
		return
	}
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	io.WriteString(z, key+"\n")
	z.Write(content)
	if z.Close() != nil || os.MkdirAll(c.dir, 0o700) != nil {
		return
	}
	atomicfile.Write(c.path(key), packed.Bytes(), 0o600, false)
	c.mu.Lock()
	c.written += int64(packed.Len())
	due := !c.swept || c.written > maxDiskDocuments/8
	if due {
		c.swept, c.written = true, 0
	}
	c.mu.Unlock()
	if due {
		c.sweep()
	}
}

func (c *documentCache) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:])+".gz")
}

// sweep removes the oldest files until the rest is well below the bound.
func (c *documentCache) sweep() {
	entries, _ := os.ReadDir(c.dir)
	var files []os.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && filepath.Ext(e.Name()) == ".gz" {
			files = append(files, info)
			total += info.Size()
		}
	}
	if total <= maxDiskDocuments {
		return
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= maxDiskDocuments*3/4 {
			return
		}
		os.Remove(filepath.Join(c.dir, f.Name()))
		total -= f.Size()
	}
}
