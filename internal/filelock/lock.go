// Package filelock has locks that files stand for: against other processes, and against
// goroutines of this one. A lock ends with its process, however that ends.
package filelock

import "errors"

// ErrHeld says that somebody else holds a lock.
var ErrHeld = errors.New("locked by another")
