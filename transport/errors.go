package transport

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/llm-dev-ops/ghcr/oci"
)

// The classes of failed exchanges, for [errors.Is].
var (
	ErrNotFound     = oci.ErrNotFound
	ErrUnauthorized = errors.New("unauthorized")
	ErrDenied       = errors.New("denied")
	ErrRateLimited  = errors.New("rate limited")
	ErrUnsupported  = errors.New("unsupported")
	ErrConflict     = errors.New("conflict")
)

// Error is an exchange that failed: the server answered 400 or above, there was no
// answer, or it did not come to its end. It holds no secret: tokens and the queries of
// URLs are removed.
type Error struct {
	Op     string // what was done: "put blob"
	Target string // to what
	Method string
	URL    string // without query
	Status int    // zero if there was no answer
	// Code and Message are the first of the error list of a registry, or what else
	// the body says.
	Code, Message string
	Details       []Detail // all entries of a registry's error list
	RequestID     string   // by which GitHub's support finds the request
	RetryAfter    time.Duration
	Credential    string // where the credential in use was found, or "anonymous"
	Kind          TokenKind
	Err           error // why there was no answer, or not all of it

	challenges []challenge
	scopes     []string      // of the token, where the answer told; else nil
	limit      RateLimitInfo // zero if nothing was told
	paced      bool          // the gate is closed until it may be tried again
	final      bool          // it was not sent, for it would have to wait too long
	unrefused  bool          // of these, one for which no answer is the reason
	token      bool          // a token for the call could not be got; the call itself was not made
}

// Detail is one entry of a registry's list of errors.
type Detail struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail"`
}

// maxShown is how much of a message is shown. All of it is kept, since GHCR puts a
// rate limit at the end of a long one.
const maxShown = 500

// Error says what was done to what, who refused it, and in which words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(e.Op + " " + e.Target))
	b.WriteString(": ")
	if e.token && e.Op != getToken {
		b.WriteString(getToken + ": ")
	}
	if e.Status == 0 {
		fmt.Fprintf(&b, "no answer from %s: %s", hostOf(e.URL), redact(rootCause(e.Err)))
		return b.String()
	}
	if e.BrokenOff() {
		fmt.Fprintf(&b, "%s answered %d, but not to the end: %s", hostOf(e.URL), e.Status, redact(rootCause(e.Err)))
		return b.String()
	}
	if e.unrefused {
		fmt.Fprintf(&b, "not sent to %s: %s", hostOf(e.URL), e.Message)
		return b.String()
	}
	fmt.Fprintf(&b, "%s answered %d", hostOf(e.URL), e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		message := e.Message
		if len(message) > maxShown {
			message = strings.ToValidUTF8(message[:maxShown], "") + "…"
		}
		b.WriteString(": " + message)
	}
	if e.RequestID != "" {
		b.WriteString(" (request id " + e.RequestID + ")")
	}
	return b.String()
}

// rootCause leaves out the method and URL that net/http puts before a cause.
func rootCause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err == nil {
		return "unknown"
	}
	return err.Error()
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "the server"
	}
	return u.Host
}

// BrokenOff tells whether an answer began and did not come to its end, so that asking
// again may help.
func (e *Error) BrokenOff() bool { return e.Err != nil && e.Status > 0 }

// NotSent tells whether the request itself never went out: no token was to be had for it,
// or it would have had to wait too long. What there was to try, was tried.
func (e *Error) NotSent() bool { return e.token || e.final }

// Unwrap returns why there was no answer, or not all of it; nil if there was one.
func (e *Error) Unwrap() error { return e.Err }

// Is tells which of the classes the error is of.
func (e *Error) Is(target error) bool {
	limited := e.rateLimited()
	switch target {
	case ErrRateLimited:
		return limited
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized
	case ErrDenied:
		return e.Status == http.StatusForbidden && !limited
	case ErrNotFound:
		// What the token service does not know says nothing of what the call is for.
		return !e.token && e.Status == http.StatusNotFound
	case ErrUnsupported:
		return e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented || e.Code == "UNSUPPORTED"
	case ErrConflict:
		return e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed
	}
	return false
}

// rateLimited tells a limit from a missing permission. GHCR wraps GitHub's
// secondary limit in a 403 that says permission_denied
// (docs/quirks.md#secondary-limit-403).
func (e *Error) rateLimited() bool {
	text := strings.ToLower(e.Message)
	return e.Status == http.StatusTooManyRequests ||
		e.Status == http.StatusForbidden && (strings.Contains(text, "rate limit") || strings.Contains(text, "abuse detection"))
}

// maxErrorBody is how much of the body of a refusal is read.
const maxErrorBody = 64 << 10

// decodeError reads a refusal and closes its body.
func decodeError(req *http.Request, call Call, resp *http.Response) *Error {
	defer resp.Body.Close()
	// Without all of it, it may not be known what the refusal means.
	body, cutOff := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e := newError(req, call, rootOf(cutOff))
	e.Status = resp.StatusCode
	e.RequestID = resp.Header.Get("X-GitHub-Request-Id")
	e.readBody(body)
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), e.Message, time.Now())
	return e
}

// rootOf is why an answer broke off, without what it was an answer to.
func rootOf(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func newError(req *http.Request, call Call, err error) *Error {
	u := url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: req.URL.Path}
	return &Error{Op: call.Op, Target: call.Target, token: call.token, Method: req.Method, URL: u.String(), Err: err}
}

// readBody reads what the four kinds of server say: registries, GitHub's REST API,
// the storage behind GHCR in XML, and proxies in text.
func (e *Error) readBody(body []byte) {
	var list struct {
		Errors  []Detail `json:"errors"`
		Message string   `json:"message"`
		Details string   `json:"details"`
	}
	var storage struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	text := strings.TrimSpace(string(body))
	switch {
	case json.Unmarshal(body, &list) == nil && len(list.Errors) > 0:
		e.Details = list.Errors
		for i := range e.Details {
			d := &e.Details[i]
			d.Code, d.Message = redact(d.Code), redact(d.Message)
			d.Detail = json.RawMessage(redact(string(d.Detail)))
		}
		e.Code, e.Message = e.Details[0].Code, e.Details[0].Message
	case list.Message != "":
		e.Message = redact(list.Message)
	case strings.HasPrefix(text, "<") && xml.Unmarshal(body, &storage) == nil && storage.Code != "":
		e.Code, e.Message = redact(storage.Code), redact(storage.Message)
	case text != "" && !strings.HasPrefix(text, "<") && !strings.HasPrefix(text, "{"):
		line, _, _ := strings.Cut(text, "\n")
		e.Message = redact(line)
	}
}

// pattern is a regular expression that is compiled when it is first needed, which
// for most requests is never.
func pattern(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

// secretPattern finds GitHub's tokens, some of which have dots in them, bearer and
// basic credentials, and the signatures of URLs in text that a server or library
// made.
var secretPattern = pattern(`(?i)\b(?:gh[pousr]_[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_-]+)*|github_pat_[A-Za-z0-9_]+)|Z2(?-i:h[wv1zy]X|l0aHViX3BhdF)[A-Za-z0-9+/=_-]+|token\\?"\s*:\s*\\?"[^"\\]+|\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}|\b(sig|hmac|signature|token|x-amz-[a-z-]+)=[^&\s"']+`)

// redact also takes away what would steer a terminal.
func redact(s string) string {
	s = secretPattern().ReplaceAllString(s, placeholder)
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// conceal removes what was sent to log in, for servers that repeat it.
func (e *Error) conceal(authorization string) {
	_, secret, _ := strings.Cut(authorization, " ")
	if len(secret) < 8 {
		return
	}
	hide := func(s string) string { return strings.ReplaceAll(s, secret, placeholder) }
	e.Code, e.Message = hide(e.Code), hide(e.Message)
	for i := range e.Details {
		d := &e.Details[i]
		d.Code, d.Message, d.Detail = hide(d.Code), hide(d.Message), json.RawMessage(hide(string(d.Detail)))
	}
}
