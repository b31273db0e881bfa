// Package transport hides what happens to a request on its way to a registry:
// that it is sent again when that may help, how it gets a credential, when it has
// to wait, and what is told of it. GHCR's own ways of saying no are read here.
//
// Begin with [New] and [Client.Do]. The layers, outermost first:
//
//	retry    again, with growing waits, what can be replayed   retry.go
//	auth     401 and GHCR's bare 403: a token, one resend      auth.go, token.go;
//	         for the REST API the token that has most left     api.go
//	pace     a gate that a refusal closes for everyone         pace.go, budget.go
//	observe  each physical attempt, secrets removed            observe.go
//	base     the network, or whatever Options.Base is          base.go
//
// Redirects are not followed: who follows one decides what goes along.
package transport

import (
	"cmp"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Options configure a [Client]. The zero value speaks to the network without
// credentials.
type Options struct {
	// Base carries requests; nil is the network, where calls that move content go
	// over HTTP/1.1 and several connections, and the rest over HTTP/2.
	Base http.RoundTripper
	// Bulk carries calls that move content; nil is Base.
	Bulk http.RoundTripper
	// Credentials finds the login for a host; nil is anonymous.
	Credentials CredentialSource
	// Rules says what is known of a host before it is asked; nil is nothing.
	Rules func(host string) HostRules
	// PlainHTTP allows http URLs, to loopback hosts only.
	PlainHTTP bool
	// UserAgent is sent with each request; "ghcr" if empty.
	UserAgent string
	// Logger gets a line at debug level for each physical attempt; nil logs nothing.
	Logger *slog.Logger
	// Observer is told of each physical attempt; nil is told nothing.
	Observer Observer
	// Timeout bounds the time from sending a request to the header of its answer;
	// 30 s if zero.
	Timeout time.Duration
	// UploadTimeout bounds the time from the last byte of an upload to the header
	// of its answer: GHCR takes many seconds to store a large blob. 5 min if zero.
	UploadTimeout time.Duration
	// StallTimeout is for how long a body that is sent or received may stand
	// still; 60 s if zero. There is no limit on how long a body may take.
	StallTimeout time.Duration
	// MaxWait bounds each single wait that a server asks for; 5 min if zero. What
	// would have to wait longer fails with [ErrRateLimited], and says until when.
	MaxWait time.Duration
}

// HostRules are what is known of a registry host before it is asked.
type HostRules struct {
	// Realm is the address of the token service, so that no challenge is needed.
	Realm string
	// Service is what the token service calls the registry.
	Service string
	// DirectBearer says that the host takes a GitHub token as it is, in base64,
	// without an exchange (docs/quirks.md#direct-bearer).
	DirectBearer bool
}

// Scope is what a call needs to be allowed: actions on one repository.
type Scope struct {
	Repository string
	Actions    []string // "pull", "push", "delete"
}

// Call is what the layers must know about a request besides the request.
type Call struct {
	Op     string  // what is done, for errors: "put blob"
	Target string  // what it is done to, for errors: "ghcr.io/acme/app@sha256:…"
	Scopes []Scope // what a token must allow; the first is the repository of the request
	Bulk   bool    // it moves content, or comes just before what does: one connection for both
	Upload bool    // its body is content, and the answer may take long
	NoAuth bool    // the URL itself is the permission; never send a credential
	// API says that it is for GitHub's REST API, which takes a GitHub token as it is,
	// and tells and has limits of its own kind.
	API bool
	// Needs are the OAuth scopes that the token must have, if it is of a kind that
	// has any. Where it is known to lack one, the call is not made.
	Needs []string
	// Token is the ID of the [Token] to use where there are several; any if empty.
	Token string
	// Resource names the limit of an API that the call counts on; "core" if empty.
	Resource string
	// Free says that the call counts on no limit, and need not wait for one.
	Free bool
	// NoRetry is for a part of an upload: only the caller can find out what
	// became of it.
	NoRetry bool
	// Once is for what must not happen twice unseen, such as the deletion of a name
	// that may be taken again: it is sent again only when a limit turned it away.
	Once bool

	token bool // it gets a token for another call
}

// Client sends requests. It is safe for concurrent use.
type Client struct {
	opts  Options
	auth  authenticator
	gates gates
	base  http.RoundTripper
	bulk  http.RoundTripper
	// shared says that requests without TLS all go over bulk: there is no HTTP/2
	// without, and a connection that was opened for the one is good for the other.
	shared bool

	salt      [16]byte // of the ids of tokens
	scopes    sync.Map // []string by credential
	refused   sync.Map // credentials of a pool that are not taken
	lastToken sync.Map // the credential of the last call to an API, by host
	choosing  sync.Mutex
}

// New returns a client.
//
// Errors: [oci.ErrInvalid] for a negative time-out.
func New(opts Options) (*Client, error) {
	for _, d := range []time.Duration{opts.Timeout, opts.UploadTimeout, opts.StallTimeout, opts.MaxWait} {
		if d < 0 {
			return nil, oci.Invalid("negative time-out %s", d)
		}
	}
	opts.Timeout = cmp.Or(opts.Timeout, 30*time.Second)
	opts.UploadTimeout = cmp.Or(opts.UploadTimeout, 5*time.Minute)
	opts.StallTimeout = cmp.Or(opts.StallTimeout, time.Minute)
	opts.MaxWait = cmp.Or(opts.MaxWait, 5*time.Minute)
	opts.UserAgent = cmp.Or(opts.UserAgent, "ghcr")
	if opts.Credentials == nil {
		opts.Credentials = CredentialFunc(nil)
	}
	if opts.Rules == nil {
		opts.Rules = func(string) HostRules { return HostRules{} }
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{opts: opts, base: opts.Base, bulk: opts.Bulk}
	if c.base == nil {
		c.base = controlTransport()
		if c.bulk == nil {
			c.bulk, c.shared = bulkTransport(), true
		}
	}
	if c.bulk == nil {
		c.bulk = c.base
	}
	c.auth.client = c
	rand.Read(c.salt[:])
	return c, nil
}

// Do sends a request through all layers. An answer below 400 is returned; the
// caller closes its body, whose reads fail when it stalls. Any other answer, and
// none, is a [*Error], whose body has been read. The request's body is closed.
// To be sent more than once, a request with a body needs GetBody. The request itself
// is not changed, and an Authorization that it has is not sent.
//
// Errors: [*Error] of a class listed there; [oci.ErrInvalid] for http to a host
// that is not loopback; the context's.
func (c *Client) Do(req *http.Request, call Call) (*http.Response, error) {
	if err := c.checkURL(req.URL); err != nil {
		closeBody(req)
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Header.Del("Authorization")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", c.opts.UserAgent)
	}
	return c.retry(req, call, func(req *http.Request, attempt int) (*http.Response, error) {
		if call.API {
			return c.callAPI(req, call, attempt)
		}
		return c.authenticate(req, call, attempt)
	})
}

func (c *Client) checkURL(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return oci.Invalid("cannot speak %q: use https", u.Scheme)
	case !IsLoopback(u.Host):
		return oci.Invalid("plain HTTP to %s: only a loopback host may be spoken to without TLS; use https", u.Host)
	case !c.opts.PlainHTTP:
		return oci.Invalid("plain HTTP to %s must be allowed by --plain-http (Options.PlainHTTP)", u.Host)
	}
	return nil
}

// IsLoopback tells whether a host, with or without a port, is this machine:
// localhost, 127.0.0.0/8 or ::1.
func IsLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// replayable tells whether the request can be sent again.
func replayable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// again returns the request with a fresh body.
func again(req *http.Request) (*http.Request, error) {
	next := req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		next.Body = body
	}
	return next, nil
}
