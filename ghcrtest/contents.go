package ghcrtest

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// spillSize is from which size on content is kept in a file, so that memory does
// not grow with what is pushed.
const spillSize = 1 << 20

// contents holds bytes by digest: small ones in memory, the rest, and with a
// directory all, in files.
type contents struct {
	dir   string // of files; made when first needed
	keep  bool   // dir outlives the server, so everything goes there
	mu    sync.RWMutex
	small map[oci.Digest][]byte
}

func (c *contents) path(d oci.Digest) string {
	return filepath.Join(c.dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// ensure makes a directory below the contents' own.
func (c *contents) ensure(sub ...string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "ghcrtest-*")
		if err != nil {
			return "", err
		}
		c.dir = dir
	}
	dir := filepath.Join(append([]string{c.dir}, sub...)...)
	return dir, os.MkdirAll(dir, 0o755)
}

// abandonedAfter is how long another process's upload may rest before it is given
// up.
const abandonedAfter = 24 * time.Hour

// sweep removes what earlier processes left unfinished in the directory: what they
// wrote under a name of their own when they were killed, and old uploads.
func (c *contents) sweep() error {
	dir, err := c.ensure("uploads")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), "spool-") || time.Since(info.ModTime()) > abandonedAfter {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUploads removes what was uploaded in part, by earlier processes too, or it
// would be taken up again. What is being written under a name of its own stays.
func (c *contents) dropUploads() {
	if !c.keep {
		return
	}
	files, _ := filepath.Glob(filepath.Join(c.dir, "uploads", "*"))
	for _, file := range files {
		if !strings.HasPrefix(filepath.Base(file), "spool-") {
			os.Remove(file)
		}
	}
}

func (c *contents) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keep || c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// retain drops all content but this.
func (c *contents) retain(these map[oci.Digest]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.small, func(d oci.Digest, _ []byte) bool { return !these[d] })
	if c.dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(c.dir, "blobs", "*", "*"))
	for _, file := range files {
		algorithm := filepath.Base(filepath.Dir(file))
		if !these[oci.Digest(algorithm+":"+filepath.Base(file))] {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

type smallContent struct{ *bytes.Reader }

func (smallContent) Close() error { return nil }

func (c *contents) open(d oci.Digest) (io.ReadSeekCloser, error) {
	c.mu.RLock()
	data, ok := c.small[d]
	dir := c.dir
	c.mu.RUnlock()
	if ok {
		return smallContent{bytes.NewReader(data)}, nil
	}
	if dir == "" {
		return nil, os.ErrNotExist
	}
	return os.Open(c.path(d))
}

func (c *contents) read(d oci.Digest) ([]byte, error) {
	f, err := c.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// put stores small content whole, unless it is there.
func (c *contents) put(d oci.Digest, data []byte) error {
	if f, err := c.open(d); err == nil {
		return f.Close()
	}
	s := &spool{contents: c}
	defer s.discard()
	if _, err := s.Write(data); err != nil {
		return err
	}
	return s.commit(d)
}

var errWrongDigest = errors.New("the content does not match the digest")

// spool takes in content whose digest is not checked yet.
type spool struct {
	contents *contents
	path     string // of the file; chosen by the caller or made up
	size     int64
	buf      []byte
	file     *os.File
	hash     hash.Hash // sha256 of what was written; nil if that is not known
	started  bool
}

func (s *spool) Write(p []byte) (int, error) {
	if !s.started {
		s.started = true
		if s.hash == nil && s.size == 0 {
			s.hash = digest.Canonical.Hash()
		}
		if s.contents.keep || s.path != "" {
			if err := s.spill(); err != nil {
				return 0, err
			}
		}
	}
	if s.file == nil && len(s.buf)+len(p) > spillSize {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.hash != nil {
		s.hash.Write(p)
	}
	if s.file == nil {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// spill moves to a file.
func (s *spool) spill() error {
	dir, err := s.contents.ensure("uploads")
	if err != nil {
		return err
	}
	if s.path == "" {
		s.file, err = os.CreateTemp(dir, "spool-*")
	} else {
		s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	}
	if err != nil {
		return err
	}
	_, err = s.file.Write(s.buf)
	s.buf = nil
	return err
}

// digest returns the digest of what was written.
func (s *spool) digest(a digest.Algorithm) (oci.Digest, error) {
	if s.hash != nil && a == digest.Canonical {
		return digest.NewDigest(a, s.hash), nil
	}
	h := a.Hash()
	switch {
	case s.file != nil:
		if _, err := io.Copy(h, io.NewSectionReader(s.file, 0, s.size)); err != nil {
			return "", err
		}
	case s.path != "" && s.size > 0:
		f, err := os.Open(s.path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
	default:
		h.Write(s.buf)
	}
	return digest.NewDigest(a, h), nil
}

// commit gives what was written its name, if that is right.
func (s *spool) commit(d oci.Digest) error {
	got, err := s.digest(d.Algorithm())
	if err != nil {
		return err
	}
	if got != d {
		return fmt.Errorf("%w: got %s", errWrongDigest, got)
	}
	c := s.contents
	if !c.keep && s.file == nil && s.path == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.small == nil {
			c.small = map[oci.Digest][]byte{}
		}
		c.small[d] = bytes.Clone(s.buf)
		return nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return err
		}
	}
	name := s.file.Name()
	if err := s.file.Close(); err != nil {
		return err
	}
	s.file, s.path = nil, ""
	if _, err := c.ensure("blobs", d.Algorithm().String()); err != nil {
		return err
	}
	return os.Rename(name, c.path(d))
}

// close leaves what was written where a later process finds it.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// discard forgets what was written, unless it was committed.
func (s *spool) discard() {
	if s.file != nil {
		name := s.file.Name()
		s.close()
		os.Remove(name)
	} else if s.path != "" {
		os.Remove(s.path)
	}
	s.buf = nil
}
