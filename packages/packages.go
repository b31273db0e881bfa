// Package packages hides GitHub's Packages REST API: that a package is reached in
// three ways depending on who owns it, how its lists are paged and how they move
// while they are read, and what its answers mean, since a missing permission, a
// version that is gone and a package that never was are one and the same 404.
//
// Begin with [New], then [Client.Versions] and [Client.DeleteVersion]. A package is
// named by its owner's login and its name without the owner: for
// ghcr.io/acme/tools/lint these are "acme" and "tools/lint". A version is a
// manifest, and its name is the manifest's digest; only its number can be deleted.
//
// Besides what a method lists as its errors, each may fail with [oci.ErrInvalid] for what
// can't be an owner, a package or a number, with [transport.ErrRateLimited], without an
// answer, and with the context's error.
//
// All packages here are container packages.
package packages

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// DefaultBaseURL is the API of github.com.
const DefaultBaseURL = "https://api.github.com"

// apiVersion is the version of the API whose answers are read here. All versions
// have the same operations on packages.
const apiVersion = "2022-11-28"

const mediaType = "application/vnd.github+json"

// Options configure a [Client]. The zero value is the API of github.com with
// nothing kept on disk.
type Options struct {
	// BaseURL is where the API is: [DefaultBaseURL] if empty, or
	// "https://HOST/api/v3" of a GitHub Enterprise Server. Plain http is for
	// loopback hosts only.
	BaseURL string
	// WebURL is where the settings of a package are seen: derived from BaseURL if
	// empty.
	WebURL string
	// CacheDir is where answers are kept, so that asking again for what has not changed
	// costs nothing of GitHub's limits. What is in it is private to the user, and kept
	// apart by login; no token is in it. Empty keeps nothing.
	CacheDir string
	// CacheSize bounds the directory, in bytes and not to the byte: 64 MiB if zero.
	CacheSize int64
}

// Client speaks to the Packages API. It is safe for concurrent use; there is
// nothing to close.
type Client struct {
	transport *transport.Client
	base      *url.URL // without a slash at its end
	web       *url.URL

	cache  *cache
	asking chan struct{} // held while an account is asked for

	mu       sync.Mutex
	owners   map[string]Owner // by login in lower case
	accounts map[string]Owner // by token
	seen     map[string]bool  // packages that were seen with this login
}

// New returns a client that sends its requests through t, with the login that t has
// for the host of the API.
//
// Errors: [oci.ErrInvalid] for a malformed address, or one of plain http that is
// not loopback.
func New(t *transport.Client, opts Options) (*Client, error) {
	if opts.BaseURL == "" {
		opts.BaseURL = DefaultBaseURL
	}
	base, err := parseBase(opts.BaseURL)
	if err != nil {
		return nil, err
	}
	web := webOf(base)
	if opts.WebURL != "" {
		if web, err = parseBase(opts.WebURL); err != nil {
			return nil, err
		}
	}
	return &Client{
		transport: t, base: base, web: web, cache: openCache(opts.CacheDir, opts.CacheSize), asking: make(chan struct{}, 1),
		owners: map[string]Owner{}, accounts: map[string]Owner{}, seen: map[string]bool{},
	}, nil
}

func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case strings.Contains(s, "@"):
		// Not shown, since it may be a secret.
		return nil, oci.Invalid("the address of an API has no login in it: leave out what is before the @")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, oci.Invalid("malformed address of an API: %q", s)
	case u.Scheme == "https", u.Scheme == "http" && transport.IsLoopback(u.Host):
		return u, nil
	}
	return nil, oci.Invalid("%q: an API is spoken to over https", s)
}

// webOf is where people see what the API at base serves.
func webOf(base *url.URL) *url.URL {
	return &url.URL{Scheme: base.Scheme, Host: strings.TrimPrefix(base.Host, "api.")}
}

// Host returns the host of the API, with its port if it has one. Credentials and
// limits are by host.
func (c *Client) Host() string { return c.base.Host }

// request is one exchange with the API.
type request struct {
	method string
	url    string
	op     string // "list versions"
	target string // "acme/app"
	body   []byte // JSON
	once   bool   // must not be sent again unseen
	free   bool   // counts on no limit
	token  string // the one to use; any if empty
	needs  []string
	accept string   // the media type that is wanted; GitHub's own if empty
	etags  []string // of what is known of the answer
}

func (q request) mediaType() string { return cmp.Or(q.accept, mediaType) }

// answer is a whole answer of the API.
type answer struct {
	body []byte
	link string // the Link header
}

// maxAnswer is far above the size of a page of a hundred rows.
const maxAnswer = 16 << 20

// maxRedirects bounds how often a name that was changed leads on.
const maxRedirects = 3

// get reads an answer whole, from the cache where GitHub says that it is the same.
func (c *Client) get(ctx context.Context, q request) (answer, error) {
	q.method = http.MethodGet
	for hops := 0; ; hops++ {
		kept, known := c.recall(ctx, q)
		q.etags = kept.etags
		resp, body, err := c.read(ctx, q)
		switch {
		case err != nil:
			return answer{}, err
		case resp.StatusCode == http.StatusNotModified && known:
			c.cache.used(kept)
			return kept.answer, nil
		case resp.StatusCode < 300:
			a := answer{body: body, link: resp.Header.Get("Link")}
			c.keep(kept, a, resp.Header.Get("ETag"))
			return a, nil
		}
		next, err := c.sameHost(q.url, resp.Header.Get("Location"))
		if err != nil || hops == maxRedirects {
			return answer{}, fmt.Errorf("%s %s: %s answered %d, which leads nowhere", q.op, q.target, c.base.Host, resp.StatusCode)
		}
		q.url = next
	}
}

// cutOff is how often an answer is asked for again that ends before its end, which
// the layers below cannot do.
const cutOff = 3

func (c *Client) read(ctx context.Context, q request) (*http.Response, []byte, error) {
	for try := 0; ; try++ {
		resp, err := c.do(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		resp.Body.Close()
		switch {
		case len(body) > maxAnswer:
			return nil, nil, fmt.Errorf("%s %s: the answer is over the limit of %d bytes", q.op, q.target, maxAnswer)
		case err == nil && (resp.StatusCode >= 300 || !strings.Contains(resp.Header.Get("Content-Type"), "json") || json.Valid(body)):
			return resp, body, nil
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case try == cutOff && err == nil:
			// It ended early without a word, which is as if it had been cut off.
			return nil, nil, &transport.Error{
				Op: q.op, Target: q.target, Method: q.method, URL: c.base.String(), Status: resp.StatusCode,
				Err: fmt.Errorf("it is not whole JSON: %w", io.ErrUnexpectedEOF),
			}
		case try == cutOff:
			return nil, nil, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, nil, err
		}
	}
}

func (c *Client) do(ctx context.Context, q request) (*http.Response, error) {
	var content io.Reader
	if q.body != nil {
		content = bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, content)
	if err != nil {
		return nil, oci.Invalid("%s %s: %w", q.op, q.target, err)
	}
	req.Header.Set("Accept", q.mediaType())
	req.Header.Set("X-GitHub-Api-Version", apiVersion)
	if len(q.etags) > 0 {
		req.Header.Set("If-None-Match", strings.Join(q.etags, ", "))
	}
	return c.transport.Do(req, transport.Call{Op: q.op, Target: q.target, Once: q.once, Token: q.token, Needs: q.needs, Free: q.free, API: true})
}

// getJSON reads an answer into v.
func (c *Client) getJSON(ctx context.Context, q request, v any) error {
	a, err := c.get(ctx, q)
	if err != nil {
		return err
	}
	return decode(q, a.body, v)
}

func decode(q request, body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s %s: the answer is not what GitHub's API gives: %w", q.op, q.target, err)
	}
	return nil
}

// sameHost resolves an address that an answer gave. It must not lead a credential
// to another host.
func (c *Client) sameHost(from, to string) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(to)
	if err != nil || to == "" {
		return "", fmt.Errorf("%s leads to no address", c.base.Host)
	}
	if u.Scheme != c.base.Scheme || !strings.EqualFold(u.Host, c.base.Host) {
		// The rest of it may be a secret.
		return "", fmt.Errorf("%s leads to %q, which is not its own", c.base.Host, u.Scheme+"://"+u.Host)
	}
	return u.String(), nil
}

// url joins path segments, each escaped whole: the slash in a package's name is
// part of the name (docs/quirks.md#rest-name-escaping).
func (c *Client) url(segments ...string) string {
	var b strings.Builder
	b.WriteString(c.base.String())
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// pause waits before the next try, twice as long after each.
func pause(ctx context.Context, try int) error {
	ctx = transport.Waits(ctx)
	t := time.NewTimer(time.Second << try)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
