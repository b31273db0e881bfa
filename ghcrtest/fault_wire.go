package ghcrtest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"time"
)

// piece is how many bytes go at once at a pace: a tenth of a second's, so that
// whoever looks sees them move.
func piece(perSecond int64) int { return int(max(perSecond/10, 1)) }

// paced is how long so many bytes take.
func paced(n int, perSecond int64) time.Duration {
	return time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
}

func (w *responseWriter) putSlowly(p []byte) (sent int, err error) {
	for len(p) > 0 && err == nil && w.exchange.r.Context().Err() == nil {
		next := p[:min(len(p), piece(w.pace))]
		w.exchange.standStill(paced(len(next), w.pace))
		var n int
		n, err = w.putNow(next)
		w.flush()
		sent, p = sent+n, p[n:]
	}
	if err == nil {
		err = w.exchange.r.Context().Err()
	}
	return sent, err
}

// rawAnswer is an answer that net/http would refuse to send, or not send this way:
// it is written to the connection, which then ends.
type rawAnswer struct {
	conn    net.Conn
	head    bool // there is no body
	chunked bool
	done    chan struct{}
}

// needsRaw tells whether a fault is one of framing.
func (w *responseWriter) needsRaw() bool {
	noBody := w.exchange.r.Method == http.MethodHead || w.status == http.StatusNoContent || w.status == http.StatusNotModified
	return w.dribble > 0 || !noBody && (w.lied || w.fault != nil && w.fault.Malformed)
}

// takeOver takes the connection from net/http and sends the header. It tells whether
// that could be done: over HTTP/2 there is no such connection, and the fault does
// not happen.
func (w *responseWriter) takeOver() bool {
	x := w.exchange
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		w.fault = nil
		return false
	}
	raw := &rawAnswer{conn: conn, head: x.r.Method == http.MethodHead, done: make(chan struct{})}
	w.raw = raw
	// net/http no longer ends the connection when the server is closed.
	go func() {
		select {
		case <-x.server.closing:
			conn.Close()
		case <-raw.done:
		}
	}()
	h := w.Header().Clone()
	h.Set("Connection", "close")
	if w.fault != nil && w.fault.Malformed {
		raw.chunked = true
		h.Del("Content-Length")
		h.Set("Transfer-Encoding", "chunked")
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "HTTP/1.1 %d %s\r\n", w.status, http.StatusText(w.status))
	h.Write(&text)
	text.WriteString("\r\n")
	if w.dribble == 0 {
		conn.Write(text.Bytes())
		return true
	}
	apart := w.dribble
	if !x.happens() {
		apart = 0
	}
	for _, b := range text.Bytes() {
		x.standStill(apart)
		if _, err := conn.Write([]byte{b}); err != nil {
			break // nobody waits for the rest
		}
	}
	return true
}

func (a *rawAnswer) Write(p []byte) (int, error) {
	if a.head || len(p) == 0 {
		return len(p), nil
	}
	if !a.chunked {
		return a.conn.Write(p)
	}
	if _, err := fmt.Fprintf(a.conn, "%x\r\n%s\r\n", len(p), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// garble sends a chunk that is none.
func (a *rawAnswer) garble() {
	a.chunked = false
	a.conn.Write([]byte("no length\r\n"))
}

// end closes a connection that net/http does not look after any more.
func (w *responseWriter) end() {
	if w.raw == nil {
		return
	}
	if w.raw.chunked {
		w.raw.conn.Write([]byte("0\r\n\r\n"))
	}
	close(w.raw.done)
	w.raw.conn.Close()
}
