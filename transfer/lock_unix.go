//go:build unix

package transfer

import (
	"os"
	"syscall"
)

// lockFile waits for a lock that ends with the process, however that ends.
func lockFile(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}
