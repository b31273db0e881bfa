package main

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// results is stdout. It keeps the first error of writing, since a result that did not
// arrive is a failure whoever printed it, and calls gone when nobody reads any more.
type results struct {
	gone func()

	mu  sync.Mutex
	out io.Writer
	err error
}

// Write implements [io.Writer]. After an error nothing more is written.
func (r *results) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.out.Write(p)
	if r.err = err; errors.Is(err, syscall.EPIPE) {
		r.gone()
	}
	return n, err
}

// unread tells whether whoever was to read the results has gone, as head does when it has
// seen enough.
func (r *results) unread() bool { return errors.Is(r.err, syscall.EPIPE) }
