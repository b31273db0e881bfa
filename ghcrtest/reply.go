package ghcrtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// wireError is an entry of the error list of the protocol.
type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

func (x *exchange) failAll(status int, list ...wireError) {
	body, err := json.Marshal(map[string]any{"errors": list})
	if err != nil {
		panic(err) // the details are strings
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write(body)
	}
}

func (x *exchange) fail(status int, code, message string) {
	x.failAll(status, wireError{Code: code, Message: message})
}

// GHCR's own words, by which clients and their users know what happened.
func (x *exchange) unsupported() {
	x.fail(http.StatusMethodNotAllowed, "UNSUPPORTED", "The operation is unsupported.")
}

func (x *exchange) manifestUnknown() {
	x.fail(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
}

func (x *exchange) blobUnknown() {
	x.fail(http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
}

func (x *exchange) digestInvalid(err error) {
	x.fail(http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content: "+err.Error())
}

func (x *exchange) internal(err error) {
	x.fail(http.StatusInternalServerError, "UNKNOWN", err.Error())
}

// digest reads a digest of the path or query; a malformed one is answered.
func (x *exchange) digest(s string) (oci.Digest, bool) {
	d, err := oci.ParseDigest(s)
	if err != nil {
		x.fail(http.StatusBadRequest, "DIGEST_INVALID", "invalid digest "+strconv.Quote(s))
		return "", false
	}
	return d, true
}

func (x *exchange) apiVersion() {
	x.w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
}

// window counts the requests of one minute.
type window struct {
	minute time.Time
	count  int
}

// limited answers 429 when a minute's allowance is used up. GHCR says so in the
// body alone, and how long to wait as Go prints durations.
func (x *exchange) limited() bool {
	if x.role != RoleRegistry {
		return false
	}
	kind, allowed := "read", x.server.quirks.RegistryReadLimit
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		kind, allowed = "write", x.server.quirks.RegistryWriteLimit
	}
	if allowed == 0 {
		return false
	}
	s := x.server
	now := s.now()
	s.mu.Lock()
	w := s.windows[kind]
	if w == nil || now.Sub(w.minute) >= time.Minute {
		w = &window{minute: now}
		s.windows[kind] = w
	}
	w.count++
	over := w.count > allowed
	left := w.minute.Add(time.Minute).Sub(now)
	s.mu.Unlock()
	if over {
		x.throttle(left, allowed)
	}
	return over
}

func (x *exchange) throttle(wait time.Duration, allowed int) {
	text := "retry-after: " + wait.String()
	if !x.server.quirks.LimitOmitAllowed {
		text += fmt.Sprintf(", allowed: %d/minute", allowed)
	}
	if x.server.quirks.LimitRetryAfterHeader {
		x.w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	x.fail(http.StatusTooManyRequests, "TOOMANYREQUESTS", text)
}

// countedReader counts what is read of a request, and lets a fault end it.
type countedReader struct {
	r   io.ReadCloser
	n   int64
	err error // that ended it before its end
	// What a fault does to it; the exchange is nil without one.
	exchange *exchange
	limit    int64 // bytes after which it ends; 0 is none
	pace     int64 // bytes a second; 0 is no limit
}

func (c *countedReader) Read(p []byte) (int, error) {
	if c.limit > 0 && c.n >= c.limit {
		c.limit = 0
		if x := c.exchange; x.happens() {
			x.abort(x.fault.Reset)
		}
	} else if c.limit > 0 {
		p = p[:min(int64(len(p)), c.limit-c.n)]
	}
	if c.pace > 0 {
		p = p[:min(len(p), piece(c.pace))]
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.pace > 0 && n > 0 {
		c.exchange.standStill(paced(n, c.pace))
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (c *countedReader) Close() error { return c.r.Close() }
