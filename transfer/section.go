package transfer

import (
	"context"
	"io"
	"os"
	"sync"
	"syscall"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// section is a part of a file as the body of a request. On a connection without
// TLS the kernel sends it straight from the page cache, which it can do only if
// net/http sees a file's SyscallConn and nothing is wrapped around it.
//
// The kernel sends from the descriptor's own offset, so each section has the file
// opened for itself. *os.File is not embedded: net/http would find its WriteTo,
// which does not stop at the section's end.
type section struct {
	file       *os.File
	start, end int64

	mu     sync.Mutex
	at     int64 // the last known offset
	closed bool
}

// openSection opens a part of a blob that begins at base in the file. A negative
// length means to the blob's end.
func openSection(path string, base int64, d oci.Descriptor, offset, length int64) (*section, error) {
	if length < 0 {
		length = d.Size - offset
	}
	// In an archive, what follows a blob is another one.
	if offset < 0 || length < 0 || length > d.Size-offset {
		return nil, oci.Invalid("blob %s: bytes %d to %d are outside of its %d", d.Digest, offset, offset+length, d.Size)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	start := base + offset
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return &section{file: f, start: start, end: start + length, at: start}, nil
}

// Read returns [io.ErrUnexpectedEOF] if the file ends before the section.
func (s *section) Read(p []byte) (int, error) {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= s.end {
		return 0, io.EOF
	}
	n, err := s.file.Read(p[:min(int64(len(p)), s.end-at)])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// SyscallConn lets the kernel send the file.
func (s *section) SyscallConn() (syscall.RawConn, error) { return s.file.SyscallConn() }

// Position returns how many bytes of the section were taken, whoever took them. It
// may be asked while the section is sent, and after it was closed.
func (s *section) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	return min(s.at, s.end) - s.start
}

func (s *section) look() {
	if s.closed {
		return
	}
	if at, err := s.file.Seek(0, io.SeekCurrent); err == nil {
		s.at = at
	}
}

// Close may be called again.
func (s *section) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.look()
	s.closed = true
	return s.file.Close()
}

// digestOf reads a body to its end and returns the digest that its bytes have.
func digestOf(ctx context.Context, body io.Reader, algorithm digest.Algorithm) (oci.Digest, error) {
	hash := algorithm.Digester()
	_, err := copyBody(ctx, hash.Hash(), body)
	return hash.Digest(), err
}

// copyBody is [io.Copy] with a large buffer that can be cancelled.
func copyBody(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	total := int64(0)
	for {
		if ctx.Err() != nil {
			return total, context.Cause(ctx)
		}
		n, err := src.Read(*buf)
		if n > 0 {
			m, err := dst.Write((*buf)[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
