package transfer

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// EventKind says what happened to a piece of content.
type EventKind string

// What may happen.
const (
	EventStart    EventKind = "start"    // its bytes begin to move
	EventProgress EventKind = "progress" // Event.Bytes of it are through
	EventDone     EventKind = "done"     // it is there, its digest checked
	EventMounted  EventKind = "mounted"  // the registry took it over from another repository
	EventExisting EventKind = "existing" // it was there before
	EventManifest EventKind = "manifest" // a manifest was put
)

// Event tells of one piece of content. Every blob has one of done, mounted or
// existing as its last event, unless the copy fails.
type Event struct {
	Kind       EventKind
	Descriptor oci.Descriptor
	Bytes      int64  // of the content that are through, counted from its first byte
	Ref        string // the tag or digest that a manifest was put under
}

// progressInterval is how often a blob on its way is told about.
const progressInterval = 200 * time.Millisecond

// positioner is a body that knows how much of it was taken, though nobody called
// its Read: the kernel sends files by itself.
type positioner interface{ Position() int64 }

// meter tells of one blob's progress. A blob may be on its way in several pieces.
type meter struct {
	emit func(Event)
	d    oci.Descriptor

	moved atomic.Int64 // bytes of finished and wrapped bodies
	mu    sync.Mutex
	file  positioner // the body that is polled, if any
	base  int64
	stop  chan struct{}
	done  sync.WaitGroup
}

// startMeter begins to tell; nothing is told without a listener.
func startMeter(emit func(Event), d oci.Descriptor) *meter {
	m := &meter{emit: emit, d: d, stop: make(chan struct{})}
	if emit == nil {
		return m
	}
	emit(Event{Kind: EventStart, Descriptor: d})
	m.done.Add(1)
	go m.run()
	return m
}

func (m *meter) run() {
	defer m.done.Done()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	last := int64(0)
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		if n := m.bytes(); n != last {
			last = n
			m.emit(Event{Kind: EventProgress, Descriptor: m.d, Bytes: n})
		}
	}
}

func (m *meter) bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != nil {
		return m.base + m.file.Position()
	}
	return m.moved.Load()
}

// watch counts a body that begins at offset. A file is left as it is, so that the
// kernel may send it.
func (m *meter) watch(body io.ReadCloser, offset int64) io.ReadCloser {
	if m.emit == nil {
		return body
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if file, ok := body.(positioner); ok {
		m.file, m.base = file, offset
		return body
	}
	m.file = nil
	m.moved.Store(offset)
	return &countedBody{ReadCloser: body, n: &m.moved}
}

// end stops telling. It returns once nothing more will be told.
func (m *meter) end() {
	close(m.stop)
	m.done.Wait()
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
