// Package registry hides the OCI distribution protocol: upload sessions and how
// they are taken up again, ranged reads behind signed URLs, paging, and what
// stands in for the referrers API where a registry has none.
//
// Begin with [New], which speaks to one registry host, and [Host.Repository],
// whose methods do the work. A [*Repository] is a source and a target of package
// transfer, which copies whole images.
//
// Besides what a method lists as its errors, each may fail with [oci.ErrInvalid] for a
// malformed tag or digest, and as any exchange may: [transport.ErrUnauthorized],
// [transport.ErrDenied], [transport.ErrRateLimited], no answer, the context's error.
//
// GHCR departs from the specification in many ways; docs/quirks.md lists them,
// and every rule here that exists for its sake points there.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Rules are what is known about a registry before it is asked. The zero value
// suits any registry that follows the specification.
type Rules struct {
	// MaxChunk is the largest chunk of an upload that the registry accepts, in
	// bytes. Zero means no known limit. A smaller one is learned from a 416.
	MaxChunk int64
	// ValidatesManifests says that a manifest is refused while content that it
	// names is absent, so that it may be put first to learn what is missing.
	ValidatesManifests bool
	// GhostEmptyBlob says that the blob of zero bytes cannot be uploaded or read,
	// although it is reported as present.
	GhostEmptyBlob bool
}

// GHCR is what is known of ghcr.io.
var GHCR = Rules{
	MaxChunk:           4 << 20, // docs/quirks.md#chunk-cap
	ValidatesManifests: true,    // docs/quirks.md#missing-blob-details
	GhostEmptyBlob:     true,    // docs/quirks.md#empty-blob
}

// DefaultChunkSize is the size of the chunks of an upload in bytes where neither
// the caller nor the registry says otherwise.
const DefaultChunkSize = 5 << 20

// Options configure a [Host]. The zero value is useful.
type Options struct {
	Rules Rules
	// PlainHTTP speaks HTTP without TLS. The client must allow it too, and does so
	// for loopback hosts only.
	PlainHTTP bool
	// ChunkSize, if above zero, has every larger blob uploaded in chunks of so
	// many bytes. Zero uploads in one request and uses chunks only to resume, for
	// content of unknown size, and where one request is refused as too large.
	ChunkSize int64
	// Journal remembers upload sessions, so that a later process goes on where
	// this one was ended. Nil forgets them.
	Journal *Journal
}

// Host is one registry. It is safe for concurrent use.
type Host struct {
	client *transport.Client
	name   string
	base   url.URL
	opts   Options

	maxChunk    atomic.Int64 // the rule, or less if a 416 said so
	noReferrers atomic.Bool  // the API was asked and is not there
	fallback    keyedMutex   // one writer at a time of each referrers tag

	signedMu sync.Mutex
	signed   map[string]signedURL
}

// New returns a client for the registry on host, which may carry a port.
//
// Errors: [oci.ErrInvalid] for a malformed host, or for PlainHTTP with a host
// that is not loopback.
func New(client *transport.Client, host string, opts Options) (*Host, error) {
	if host == "" || strings.ContainsAny(host, "/?#@ ") {
		return nil, oci.Invalid("malformed registry host %q", host)
	}
	h := &Host{
		client: client, name: host, opts: opts,
		base:   url.URL{Scheme: "https", Host: host, Path: "/v2/"},
		signed: map[string]signedURL{},
	}
	if opts.PlainHTTP {
		if !transport.IsLoopback(host) {
			return nil, oci.Invalid("plain HTTP to %s: only a loopback host may be spoken to without TLS; use https", host)
		}
		h.base.Scheme = "http"
	}
	h.maxChunk.Store(opts.Rules.MaxChunk)
	return h, nil
}

// Name returns the host, with its port if it has one.
func (h *Host) Name() string { return h.name }

// Repository returns the repository of that name, which is not checked to exist.
//
// Errors: [oci.ErrInvalid] for a malformed name.
func (h *Host) Repository(name string) (*Repository, error) {
	if err := oci.CheckName(name); err != nil {
		return nil, err
	}
	return &Repository{host: h, name: name}, nil
}

// Repository is one repository of a registry. It is safe for concurrent use.
type Repository struct {
	host *Host
	name string
}

// Host returns the registry that the repository is in.
func (r *Repository) Host() *Host { return r.host }

// Name returns the repository's name without the host.
func (r *Repository) Name() string { return r.name }

// String returns host and name.
func (r *Repository) String() string { return r.host.name + "/" + r.name }

// Location returns host and name apart, by which package transfer knows which
// blobs can be mounted.
func (r *Repository) Location() (host, repository string) { return r.host.name, r.name }

// ValidatesManifests tells whether the registry is known to refuse a manifest
// while its content is absent.
func (r *Repository) ValidatesManifests() bool { return r.host.opts.Rules.ValidatesManifests }

func (r *Repository) url(parts ...string) *url.URL {
	u := r.host.base
	u.Path += r.name + "/" + strings.Join(parts, "/")
	return &u
}

func (r *Repository) target(ref string) string {
	if ref == "" {
		return r.String()
	}
	if strings.Contains(ref, ":") {
		return r.String() + "@" + ref
	}
	return r.String() + ":" + ref
}

func (r *Repository) pull() []transport.Scope {
	return []transport.Scope{{Repository: r.name, Actions: []string{"pull"}}}
}

func (r *Repository) push() []transport.Scope {
	return []transport.Scope{{Repository: r.name, Actions: []string{"pull", "push"}}}
}

// request is one exchange with the registry.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   io.ReadCloser
	// again makes body anew for a resend; nil if there is none.
	again func() (io.ReadCloser, error)
	size  int64
	// list says that the answer has no digest to tell by whether it is whole, and is
	// JSON, which shows that mostly.
	list bool
	call transport.Call
}

// errNotWhole is what is wrong with an answer that ended early without a word: it is
// the same as if it had been cut off.
var errNotWhole = fmt.Errorf("it is not whole JSON: %w", io.ErrUnexpectedEOF)

func (h *Host) do(ctx context.Context, q request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url.String(), nil)
	if err != nil {
		return nil, oci.Invalid("%s %s: %w", q.call.Op, q.call.Target, err)
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if q.body != nil {
		req.Body, req.GetBody, req.ContentLength = q.body, q.again, q.size
	}
	return h.client.Do(req, q.call)
}

// read sends a read and returns a short answer whole. What the chain below cannot
// do again is done again here: an answer that is cut off after its header.
func (r *Repository) read(ctx context.Context, limit int64, q request) (*http.Response, []byte, error) {
	for try := 0; ; try++ {
		resp, err := r.follow(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		resp.Body.Close()
		if int64(len(body)) > limit {
			return nil, nil, oci.Invalid("%s %s: the answer is over the limit of %d bytes", q.call.Op, q.call.Target, limit)
		}
		if err == nil && (!q.list || !strings.Contains(resp.Header.Get("Content-Type"), "json") || json.Valid(body)) {
			return resp, body, nil
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if try == resumes || hopeless(err) {
			if err == nil {
				err = &transport.Error{
					Op: q.call.Op, Target: q.call.Target, Method: q.method, URL: q.url.Scheme + "://" + q.url.Host + q.url.Path,
					Status: resp.StatusCode, Err: errNotWhole,
				}
			}
			return nil, nil, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, nil, err
		}
	}
}

// remove sends a deletion. Where it stays open whether an earlier try was carried out,
// what is not found by now was deleted by that.
func (h *Host) remove(ctx context.Context, q request) error {
	q.method, q.call.Once = http.MethodDelete, true
	for try := 0; ; try++ {
		resp, err := h.do(ctx, q)
		switch {
		case err == nil:
			discard(resp)
			return onlyStatus(resp, q.call.Op, q.call.Target, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
		case try > 0 && errors.Is(err, oci.ErrNotFound):
			return nil
		case try == removals || ctx.Err() != nil || errors.Is(err, transport.ErrRateLimited) || !transient(err):
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// removals is how often a deletion is tried again.
const removals = 3

// discard reads what is left of a short answer so that the connection can serve
// again, and closes it.
func discard(resp *http.Response) {
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
}

// keyedMutex is a mutex for each key.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (k *keyedMutex) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		other, taken := k.held[key]
		if !taken {
			done := make(chan struct{})
			k.held[key] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
