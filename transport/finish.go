package transport

import (
	"context"
	"time"
)

// Finishing returns a context for a change that must not be cut off once it was sent.
// What is on its way when ctx ends has so much more time, and so have looks at what came
// of it. What only waits ends with ctx all the same: for a limit, or before it is sent
// again. What was turned away by a limit, or waited for one and was not sent, then fails
// with the cause of ctx and no [*Error]; so does what is on its way when the time is over,
// which finishing is done by then. Call release once it has ended.
func Finishing(ctx context.Context, more time.Duration) (finishing context.Context, release func()) {
	inner, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), waitsKey{}, Waits(ctx)))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(more)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(context.Cause(ctx))
		case <-inner.Done():
		}
	})
	return inner, func() { stop(); cancel(nil) }
}

type waitsKey struct{}

// Waits returns the context that bounds waits: ctx itself or, within [Finishing], the one
// that it outlives.
func Waits(ctx context.Context) context.Context {
	if outer, ok := ctx.Value(waitsKey{}).(context.Context); ok {
		return outer
	}
	return ctx
}
