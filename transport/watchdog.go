package transport

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// watchdog calls a function when it has not been reset for a time.
type watchdog struct {
	timer *time.Timer
	fired atomic.Bool
	poll  chan struct{} // ends a poll; nil without one

	mu      sync.Mutex
	stopped bool
}

func startWatchdog(after time.Duration, bark func()) *watchdog {
	w := &watchdog{}
	w.timer = time.AfterFunc(after, func() {
		w.fired.Store(true)
		bark()
	})
	return w
}

func (w *watchdog) reset(after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped && !w.fired.Load() {
		w.timer.Reset(after)
	}
}

// pause ends the watch until the next reset.
func (w *watchdog) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

// stop ends the watch for good: a body may still be read after its answer came.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	if !w.stopped && w.poll != nil {
		close(w.poll)
	}
	w.stopped = true
}

// startPoll watches a body that is sent without anybody calling its Read. While
// its position moves all is well; once all of it is taken, the answer has the time
// of an upload.
func startPoll(opts Options, size int64, position func() int64, cancel context.CancelCauseFunc) *watchdog {
	w := startWatchdog(opts.StallTimeout, func() { cancel(errStalled) })
	done := make(chan struct{})
	w.poll = done
	go func() {
		tick := time.NewTicker(opts.StallTimeout / 8)
		defer tick.Stop()
		for last := int64(0); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			at := position()
			switch {
			case at >= size && size > 0:
				w.reset(opts.UploadTimeout)
				return
			case at != last:
				last = at
				w.reset(opts.StallTimeout)
			}
		}
	}()
	return w
}
