package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/filelock"
)

// lockPoll is how often a lock that is taken is tried again. Waiting inside the
// system call could not be cancelled.
const lockPoll = 25 * time.Millisecond

// acquireLock waits for the lock that the file at path stands for.
func acquireLock(ctx context.Context, path string) (release func(), err error) {
	for {
		release, err := filelock.Try(path)
		if err == nil {
			return release, nil
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s, which another run holds: %w", path, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}
