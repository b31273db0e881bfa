package ghcrtest

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// responseWriter counts what is answered, and is where faults in an answer happen.
type responseWriter struct {
	http.ResponseWriter
	status     int
	n          int64
	hideRanges bool        // leave out Accept-Ranges
	mute       bool        // answer nothing
	lies       http.Header // in place of the real ones

	exchange *exchange     // that a fault happens to; nil without one
	fault    *Fault        // that is for a byte still to come, or nil
	at       int64         // that byte's place
	lied     bool          // about Content-Length
	dribble  time.Duration // between bytes of the header
	pace     int64         // bytes of the body a second; 0 is no limit
	raw      *rawAnswer    // takes the place of net/http's; nil without a fault that needs it
}

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	if w.mute {
		return
	}
	if w.hideRanges {
		w.Header().Del("Accept-Ranges")
	}
	for k, v := range w.lies {
		w.Header()[k] = v
		w.lied = w.lied || k == "Content-Length"
	}
	if w.fault != nil {
		w.place()
	}
	if w.exchange != nil && w.needsRaw() && w.takeOver() {
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// place finds where in the body the fault is. Of a body whose length is not known
// there is no end to count from, and the fault waits for another.
func (w *responseWriter) place() {
	w.at = w.fault.ResponseBytes
	if w.at < 0 {
		length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
		if w.at += length; err != nil || w.at < 0 {
			w.fault = nil
			return
		}
	}
	if w.fault.Short {
		w.Header().Del("Content-Length")
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.mute {
		return len(p), nil
	}
	if w.fault != nil {
		return w.writeFaulty(p)
	}
	return w.put(p)
}

// put sends bytes, past all faults but those of pace and framing.
func (w *responseWriter) put(p []byte) (int, error) {
	if w.pace > 0 {
		return w.putSlowly(p)
	}
	return w.putNow(p)
}

func (w *responseWriter) putNow(p []byte) (n int, err error) {
	if w.raw != nil {
		n, err = w.raw.Write(p)
	} else {
		n, err = w.ResponseWriter.Write(p)
	}
	w.n += int64(n)
	return n, err
}

// flush sends what net/http holds back.
func (w *responseWriter) flush() {
	if w.raw == nil {
		http.NewResponseController(w.ResponseWriter).Flush()
	}
}

// ReadFrom lets the kernel send files where no fault wants to look at the bytes.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	from, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok || w.mute || w.fault != nil || w.pace > 0 || w.raw != nil {
		return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 64<<10))
	}
	n, err := from.ReadFrom(r)
	w.n += n
	return n, err
}

// writeFaulty passes on the bytes up to where the fault is, and then lets it
// happen.
func (w *responseWriter) writeFaulty(p []byte) (int, error) {
	f := w.fault
	left := max(w.at-w.n, 0)
	if int64(len(p)) <= left {
		return w.put(p)
	}
	n, err := w.put(p[:left])
	if err != nil {
		return n, err
	}
	rest := p[left:]
	w.fault = nil
	switch {
	case !w.exchange.happens():
	case f.Short:
		// Flushed, or net/http would count the few bytes itself.
		w.flush()
		w.mute = true
	case f.Malformed:
		w.raw.garble()
		w.mute = true
	case f.Break:
		w.flush()
		w.exchange.abort(f.Reset)
	case f.Stall > 0:
		w.flush()
		w.exchange.standStill(f.Stall)
	case f.Corrupt:
		rest = slices.Clone(rest)
		rest[0] ^= 1
	}
	m, err := w.Write(rest)
	return n + m, err
}
