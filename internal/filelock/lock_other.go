//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package filelock

import "sync"

var heldLocks sync.Map

// Try locks within this process only, where the system has no flock: two processes can
// hold one lock.
//
// Errors: [ErrHeld].
func Try(path string) (release func(), err error) {
	if _, taken := heldLocks.LoadOrStore(path, true); taken {
		return nil, ErrHeld
	}
	return func() { heldLocks.Delete(path) }, nil
}
