package transfer

import (
	"io"
	"os"
	"sync"
	"syscall"
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

	mu   sync.Mutex
	at   int64 // the last known offset
	done bool
}

func openSection(path string, offset, length int64) (*section, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return &section{file: f, start: offset, end: offset + length, at: offset}, nil
}

func (s *section) Read(p []byte) (int, error) {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= s.end {
		return 0, io.EOF
	}
	n, err := s.file.Read(p[:min(int64(len(p)), s.end-at)])
	if err == io.EOF && at+int64(n) < s.end {
		err = io.ErrUnexpectedEOF // the file shrank
	}
	return n, err
}

// SyscallConn lets the kernel send the file.
func (s *section) SyscallConn() (syscall.RawConn, error) { return s.file.SyscallConn() }

// Position returns how many bytes of the section were taken, whoever took them.
func (s *section) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		if at, err := s.file.Seek(0, io.SeekCurrent); err == nil {
			s.at = at
		}
	}
	return min(s.at, s.end) - s.start
}

func (s *section) Close() error {
	s.Position()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	return s.file.Close()
}
