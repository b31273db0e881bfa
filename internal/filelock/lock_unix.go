//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package filelock

import (
	"errors"
	"os"
	"syscall"
)

// Try takes the lock that a file stands for, which exists while the lock is held.
//
// Errors: [ErrHeld], and that the file can't be opened.
func Try(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		f.Close()
		return nil, ErrHeld
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOLCK):
		// Some network file systems have no locks. Digests are checked all the same.
	case err != nil:
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	// Whoever had the lock removed the file on giving it up: the lock counts only on
	// the file that others will find.
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, ErrHeld
	}
	return func() { os.Remove(path); f.Close() }, nil
}
