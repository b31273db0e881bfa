package cassette

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// wait waits until so long after the start as it was recorded, scaled.
func (p *player) wait(ctx context.Context, began time.Time, after time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d := time.Duration(float64(after)*p.opts.Latency) - time.Since(began)
	if p.opts.Latency == 0 || d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replayedBody is the body of an answer, which comes as fast and ends as it did.
type replayedBody struct {
	io.ReadCloser
	p      *player
	ctx    context.Context
	it     *item
	began  time.Time
	n      int64
	closed atomic.Bool // it may be closed while it is read, as those of net/http
}

func (b *replayedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	e := b.it.Interaction
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	at := e.Time.Duration
	if size := e.Response.Body.Size; size > 0 && err != io.EOF {
		at = e.Time.FirstByte + time.Duration(float64(e.Time.Duration-e.Time.FirstByte)*min(1, float64(b.n)/float64(size)))
	}
	if waitErr := b.p.wait(b.ctx, b.began, at); waitErr != nil {
		return 0, waitErr
	}
	if err != io.EOF || !e.Response.Body.Partial {
		return n, err
	}
	switch f := e.Response.Error; {
	case f == nil:
		err = b.p.hold(b.ctx)
		if err == nil && b.closed.Load() {
			err = http.ErrBodyReadAfterClose
		}
		if err == nil {
			err = &endedError{e}
			b.p.note(err)
		}
	case f.Class == gaveUp:
		<-b.ctx.Done()
		err = b.ctx.Err()
	default:
		err = f.err()
	}
	return n, err
}

func (b *replayedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// endedError is a read beyond what was recorded.
type endedError struct{ e *Interaction }

func (e *endedError) Error() string {
	return fmt.Sprintf("cassette: of the answer to %s %s only the first %d bytes were recorded: the program did not read on then", e.e.Request.Method, e.e.Request.URL(), e.e.Response.Body.Size)
}

func (e *endedError) Is(target error) bool { return target == ErrNotRecorded }
