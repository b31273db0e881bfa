package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// copyBuffers holds buffers of a size at which system calls cost next to nothing.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Stage is a blob that is being written. It lies beside its final name, under a
// name that is no blob's, together with a note of what of it is there; so a later
// process goes on where this one ended. Only [Stage.Commit] gives it its name, and
// only if size and digest are right. Whoever got it closes it.
//
// It is safe for concurrent use, as long as ranges that are written at the same
// time do not overlap. Until it is closed, nobody else can write the same blob to
// the same place: they wait.
type Stage struct {
	final   string
	desc    oci.Descriptor
	file    stageFile
	release func() // gives up the lock
	resumed bool   // an earlier run left some of it

	mu       sync.Mutex
	have     []Span // in order, not touching; what it names is never written again
	noted    time.Time
	finished bool

	hashing sync.Mutex // held by whoever hashes; writers do not wait for it
	hash    hash.Hash
	hashed  int64 // the hash covers [0, hashed)
}

// stageFile is what a stage writes to: a file, or in tests one that fails.
type stageFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
}

// openStageFile is replaced by tests of full disks.
var openStageFile = func(path string) (stageFile, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
}

func partialPath(final string) string {
	return filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".partial")
}

// isThere tells whether a file of the descriptor's size has its name. Names are
// only given to what was checked, so its digest is not looked at again.
func isThere(final string, d oci.Descriptor) bool {
	info, err := os.Stat(final)
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size
}

// openStage begins to write the blob that final will be, or goes on with it, once
// nobody else does. It returns nil if the blob is there.
func openStage(ctx context.Context, final string, d oci.Descriptor) (*Stage, error) {
	if d.Size < 0 {
		return nil, oci.Invalid("blob %s has the negative size %d", d.Digest, d.Size)
	}
	if isThere(final, d) {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return nil, err
	}
	path := partialPath(final)
	release, err := acquireLock(ctx, path+".lock")
	if err != nil {
		return nil, err
	}
	// It may have been finished while this run waited for the lock.
	if isThere(final, d) {
		release()
		return nil, nil
	}
	file, err := openStageFile(path)
	if err != nil {
		release()
		return nil, err
	}
	s := &Stage{final: final, desc: d, file: file, release: release, hash: d.Digest.Algorithm().Hash(), noted: time.Now()}
	s.have = readNote(path, d.Size)
	s.resumed = len(s.have) > 0
	return s, nil
}

// Missing returns what is still to be written, in order.
func (s *Stage) Missing() []Span { return s.gaps(Span{0, s.desc.Size}) }

func (s *Stage) gaps(within Span) []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return gaps(s.have, within)
}

// WriteAt writes a piece of the blob. What is there already is not written again,
// so that what was hashed is what the file holds. What arrives in order is hashed
// on the way; the rest out of the page cache, as the gaps before it close.
func (s *Stage) WriteAt(p []byte, offset int64) (int, error) {
	if offset < 0 || int64(len(p)) > s.desc.Size-offset {
		return 0, fmt.Errorf("write %d bytes at %d of blob %s: outside of its %d bytes", len(p), offset, s.desc.Digest, s.desc.Size)
	}
	for _, gap := range s.gaps(Span{offset, int64(len(p))}) {
		from := gap.Offset - offset
		part := p[from : from+gap.Length]
		n, err := s.file.WriteAt(part, gap.Offset)
		if n > 0 {
			s.wrote(Span{gap.Offset, int64(n)})
			s.follow(part[:n], gap.Offset)
		}
		if err != nil {
			return int(from) + n, err
		}
	}
	return len(p), nil
}

// wrote enters what was written, and from time to time notes it for later runs.
func (s *Stage) wrote(span Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = addSpan(s.have, span)
	if time.Since(s.noted) > noteInterval {
		s.noted = time.Now()
		writeNote(s.file.Name(), s.have)
	}
}

// hashStep bounds how much one write of a piece may have to hash of others', so
// that no connection stands still for long. It is several times the size of a
// write: the hash catches up.
const hashStep = 4 << 20

// follow hashes what has just been written, if it is next, and some of what
// follows it. If somebody else is hashing, it is left to later writes.
func (s *Stage) follow(p []byte, at int64) {
	if !s.hashing.TryLock() {
		return
	}
	defer s.hashing.Unlock()
	if s.hashed == at {
		s.hash.Write(p)
		s.hashed += int64(len(p))
	}
	// What cannot be read back now cannot be at Commit either, which says so.
	_ = s.hashUpTo(s.hashed + hashStep)
}

// hashUpTo hashes what is there without a gap, but not past limit. The caller
// holds the lock.
func (s *Stage) hashUpTo(limit int64) error {
	s.mu.Lock()
	if len(s.have) == 0 || s.have[0].Offset > 0 {
		limit = 0
	} else {
		limit = min(limit, s.have[0].Length)
	}
	s.mu.Unlock()
	if s.hashed >= limit {
		return nil
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for s.hashed < limit {
		n, err := s.file.ReadAt((*buf)[:min(int64(len(*buf)), limit-s.hashed)], s.hashed)
		s.hash.Write((*buf)[:n])
		s.hashed += int64(n)
		if err != nil && s.hashed < limit {
			return fmt.Errorf("read back %s: %w", s.file.Name(), err)
		}
	}
	return nil
}

// Commit gives the blob its name if all of it is there and its digest holds. After
// an error other than [oci.ErrIntegrity] what was written stays for a later run.
//
// Errors: [oci.ErrIntegrity]; what was written is then thrown away, since nobody
// can tell which part of it is wrong.
func (s *Stage) Commit() error {
	s.hashing.Lock()
	defer s.hashing.Unlock()
	s.mu.Lock()
	finished := s.finished
	s.mu.Unlock()
	if finished {
		return fmt.Errorf("commit blob %s: %w", s.desc.Digest, fs.ErrClosed)
	}
	if err := s.hashUpTo(s.desc.Size); err != nil {
		return err
	}
	if s.hashed != s.desc.Size {
		return fmt.Errorf("commit blob %s: the first gap is at byte %d of %d", s.desc.Digest, s.hashed, s.desc.Size)
	}
	if got := digest.NewDigest(s.desc.Digest.Algorithm(), s.hash); got != s.desc.Digest {
		what := "blob as received"
		if s.resumed {
			what = "blob as received, in part by an earlier run,"
		}
		err := &oci.IntegrityError{What: what, Want: s.desc.Digest, Got: got}
		return errors.Join(err, s.finish(func() error { return s.discard() }))
	}
	return s.finish(func() error {
		if err := os.Rename(s.file.Name(), s.final); err != nil {
			writeNote(s.file.Name(), s.have)
			return err
		}
		return removeNote(s.file.Name())
	})
}

// Close ends the writing. Without a commit, what was written stays for a later
// run. It may be called again.
func (s *Stage) Close() error {
	return s.finish(func() error {
		if len(s.have) == 0 {
			return s.discard()
		}
		writeNote(s.file.Name(), s.have)
		return nil
	})
}

func (s *Stage) discard() error {
	return errors.Join(os.Remove(s.file.Name()), removeNote(s.file.Name()))
}

// finish closes the file, does what is to become of it, and gives up the lock. Only
// the first call does anything.
func (s *Stage) finish(end func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return nil
	}
	s.finished = true
	defer s.release()
	if err := s.file.Close(); err != nil {
		return errors.Join(err, s.discard()) // nobody knows what reached the disk
	}
	return end()
}
