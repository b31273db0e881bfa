package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Span is a range of bytes of a blob.
type Span struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// copyBuffers holds buffers of a size at which system calls cost next to nothing.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 512<<10); return &b }}

// Stage is a blob that is being written. It lies beside its final name, under a
// name that is no blob's, together with a note of what of it is there; so a later
// process goes on where this one ended. Only [Stage.Commit] gives it its name, and
// only if size and digest are right. It is safe for concurrent use.
type Stage struct {
	final string
	desc  oci.Descriptor
	file  stageFile
	lock  *os.File

	mu       sync.Mutex
	have     []Span // in order, not touching
	hash     hash.Hash
	hashed   int64 // the hash covers [0, hashed)
	noted    time.Time
	finished bool
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

// noteInterval is how often what is there is written down. What arrived since the
// last time is fetched again after a crash.
const noteInterval = 2 * time.Second

func partialPath(final string) string {
	return filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".partial")
}

// openStage begins to write the blob that final will be, or goes on with it. It
// returns nil if the blob is there.
func openStage(final string, d oci.Descriptor) (*Stage, error) {
	if info, err := os.Stat(final); err == nil && info.Size() == d.Size {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return nil, err
	}
	path := partialPath(final)
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: another process is writing this blob: %w", path, err)
	}
	// It may have been finished while this process waited for the lock.
	if info, err := os.Stat(final); err == nil && info.Size() == d.Size {
		return nil, errors.Join(os.Remove(lock.Name()), lock.Close())
	}
	file, err := openStageFile(path)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s := &Stage{final: final, desc: d, file: file, lock: lock, hash: d.Digest.Algorithm().Hash(), noted: time.Now()}
	s.have = s.readNote()
	return s, nil
}

// readNote returns what an earlier process noted as there; without a good note,
// nothing.
func (s *Stage) readNote() []Span {
	data, err := os.ReadFile(s.file.Name() + ".json")
	if err != nil {
		return nil
	}
	var spans []Span
	info, statErr := os.Stat(s.file.Name())
	if json.Unmarshal(data, &spans) != nil || statErr != nil {
		return nil
	}
	at := int64(0)
	for _, span := range spans {
		if span.Offset < at || span.Length <= 0 || span.Offset+span.Length > min(s.desc.Size, info.Size()) {
			return nil
		}
		at = span.Offset + span.Length
	}
	return spans
}

// writeNote notes what is there. A note that cannot be written costs a later
// process time, and nothing else.
func (s *Stage) writeNote() {
	data, err := json.Marshal(s.have)
	if err != nil {
		return
	}
	path := s.file.Name() + ".json"
	if os.WriteFile(path+".new", data, 0o644) == nil {
		os.Rename(path+".new", path)
	}
}

// Missing returns what is still to be written, in order.
func (s *Stage) Missing() []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []Span
	at := int64(0)
	for _, span := range s.have {
		if span.Offset > at {
			missing = append(missing, Span{at, span.Offset - at})
		}
		at = span.Offset + span.Length
	}
	if at < s.desc.Size {
		missing = append(missing, Span{at, s.desc.Size - at})
	}
	return missing
}

// WriteAt writes a piece of the blob. What arrives in order is hashed on the way;
// the rest when the gap before it is closed, out of the page cache.
func (s *Stage) WriteAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset+int64(len(p)) > s.desc.Size {
		return 0, fmt.Errorf("write %d bytes at %d: outside of the blob's %d", len(p), offset, s.desc.Size)
	}
	n, err := s.file.WriteAt(p, offset)
	if n > 0 {
		s.mu.Lock()
		if s.hashed == offset {
			s.hash.Write(p[:n])
			s.hashed += int64(n)
		}
		s.have = addSpan(s.have, Span{offset, int64(n)})
		if time.Since(s.noted) > noteInterval {
			s.noted = time.Now()
			s.writeNote()
		}
		s.mu.Unlock()
	}
	return n, err
}

// addSpan adds a span to an ordered list, joining what touches.
func addSpan(list []Span, add Span) []Span {
	var out []Span
	placed := false
	for _, s := range list {
		switch {
		case s.Offset+s.Length < add.Offset:
			out = append(out, s)
		case add.Offset+add.Length < s.Offset:
			if !placed {
				out, placed = append(out, add), true
			}
			out = append(out, s)
		default:
			end := max(s.Offset+s.Length, add.Offset+add.Length)
			add.Offset = min(s.Offset, add.Offset)
			add.Length = end - add.Offset
		}
	}
	if !placed {
		out = append(out, add)
	}
	return out
}

// hashOn hashes what is there but not hashed, up to the first gap.
func (s *Stage) hashOn() error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for len(s.have) > 0 && s.have[0].Offset == 0 && s.hashed < s.have[0].Length {
		n, err := s.file.ReadAt((*buf)[:min(int64(len(*buf)), s.have[0].Length-s.hashed)], s.hashed)
		if n == 0 {
			return err
		}
		s.hash.Write((*buf)[:n])
		s.hashed += int64(n)
	}
	return nil
}

// Commit gives the blob its name if all of it is there and its digest holds.
//
// Errors: [oci.ErrIntegrity]; what was written is then thrown away, since nobody
// can tell which part of it is wrong.
func (s *Stage) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.hashOn(); err != nil {
		return fmt.Errorf("read back %s: %w", s.file.Name(), err)
	}
	if s.hashed != s.desc.Size {
		return fmt.Errorf("commit %s: %d of %d bytes are there", s.desc.Digest, s.hashed, s.desc.Size)
	}
	if got := digest.NewDigest(s.desc.Digest.Algorithm(), s.hash); got != s.desc.Digest {
		s.discard()
		return &oci.IntegrityError{What: "blob as received", Want: s.desc.Digest, Got: got}
	}
	if err := s.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(s.file.Name(), s.final); err != nil {
		return err
	}
	s.finished = true
	os.Remove(s.file.Name() + ".json")
	return s.unlock()
}

func (s *Stage) discard() {
	s.finished = true
	s.file.Close()
	os.Remove(s.file.Name())
	os.Remove(s.file.Name() + ".json")
	s.unlock()
}

func (s *Stage) unlock() error {
	os.Remove(s.lock.Name())
	return s.lock.Close()
}

// Close ends the writing. Without a commit, what was written stays for a later
// run. It may be called again.
func (s *Stage) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return nil
	}
	s.finished = true
	s.writeNote()
	err := s.file.Close()
	if len(s.have) == 0 {
		os.Remove(s.file.Name())
		os.Remove(s.file.Name() + ".json")
	}
	return errors.Join(err, s.unlock())
}
