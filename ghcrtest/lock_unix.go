//go:build unix

package ghcrtest

import (
	"os"
	"syscall"
	"time"
)

// lockPatience is how long to wait for another process to be done with a
// directory: commands with --sim are short.
const lockPatience = 20 * time.Second

// lockFile takes a lock that ends with the process, however that ends.
func lockFile(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
