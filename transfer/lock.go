package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked by another")

// lockPoll is how often a lock that is taken is tried again. Waiting inside the
// system call could not be cancelled.
const lockPoll = 25 * time.Millisecond

// acquireLock waits for the lock that the file at path stands for: against other
// processes, and against goroutines of this one. The file exists while the lock
// is held, and the lock ends with the process, however that ends.
func acquireLock(ctx context.Context, path string) (release func(), err error) {
	for {
		release, err := tryLock(path)
		if err == nil {
			return release, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which another run holds: %w", path, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}
