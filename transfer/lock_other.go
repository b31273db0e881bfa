//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package transfer

import "sync"

var heldLocks sync.Map

// tryLock locks within this process only, where the system has no flock. Two
// processes that write one layout at once may then do work twice, and the later
// one's entry in index.json may replace the earlier one's.
func tryLock(path string) (release func(), err error) {
	if _, taken := heldLocks.LoadOrStore(path, true); taken {
		return nil, errLocked
	}
	return func() { heldLocks.Delete(path) }, nil
}
