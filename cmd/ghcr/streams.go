package main

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/term"
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

// failed is why not all of the results arrived; [syscall.EPIPE] if whoever was to read them
// has gone, as head does when it has seen enough.
func (r *results) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// notices is stderr, to which whatever goes on at once has something to say.
type notices struct {
	mu  sync.Mutex
	out io.Writer
}

// Write implements [io.Writer].
func (n *notices) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.out.Write(p)
}

// unwrapped is the stream that was given to the command.
func unwrapped(w io.Writer) io.Writer {
	for {
		switch outer := w.(type) {
		case *results:
			w = outer.out
		case *notices:
			w = outer.out
		default:
			return w
		}
	}
}

// input is stdin. A read of it ends when the command is to end, of which a terminal or a
// pipe knows nothing.
type input struct {
	ctx context.Context
	in  io.Reader
	buf []byte
}

// Read implements [io.Reader].
func (i *input) Read(p []byte) (int, error) {
	if len(i.buf) < len(p) {
		i.buf = make([]byte, len(p))
	}
	n, err := await(i.ctx, func() (int, error) { return i.in.Read(i.buf[:len(p)]) })
	return copy(p, i.buf[:n]), err
}

// await returns what f does, or the context's error if that comes first. Then f goes on, and
// nobody looks at what it does any more.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	if err := ctx.Err(); err != nil {
		return *new(T), err
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := f()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return *new(T), ctx.Err()
	}
}

// terminal is the terminal that somebody types at; nil if it is none.
func terminal(r io.Reader) *os.File {
	if i, ok := r.(*input); ok {
		r = i.in
	}
	if f, ok := r.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
