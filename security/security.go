package security

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Options configure a [Client]. API and Transport are needed; the rest is not.
type Options struct {
	// API is GitHub's API with the login for security data.
	API *packages.Client
	// Public is the same API without a login, for what is public and was refused to the
	// login: single sign-on refuses a token what it gives to anybody
	// (docs/quirks.md#attestations-single-sign-on). Nil does not ask a second time.
	Public *packages.Client
	// Transport carries what does not go to the API. It needs no login, and none is sent.
	Transport *transport.Client
	// Store keeps what never changes. Nil keeps nothing.
	Store Store
	// OSV is where OSV's API is: [DefaultOSV] if empty.
	OSV string
}

// Store keeps documents that never change, by a key, such as attestations by where
// they are. It may forget. Implementations are safe for concurrent use.
type Store interface {
	// Get returns what was put under a key. The caller does not change it.
	Get(key string) ([]byte, bool)
	// Put keeps content, which the caller does not change afterwards.
	Put(key string, content []byte)
}

// Client reads GitHub's security data. It is safe for concurrent use; there is
// nothing to close.
type Client struct {
	opts Options
}

// New returns a client.
//
// Errors: [oci.ErrInvalid] without an API or a transport.
func New(opts Options) (*Client, error) {
	if opts.API == nil || opts.Transport == nil {
		return nil, oci.Invalid("security data: neither API nor transport may be nil")
	}
	if opts.Store == nil {
		opts.Store = forgetful{}
	}
	if opts.OSV == "" {
		opts.OSV = DefaultOSV
	}
	opts.OSV = strings.TrimRight(opts.OSV, "/")
	return &Client{opts: opts}, nil
}

type forgetful struct{}

func (forgetful) Get(string) ([]byte, bool) { return nil, false }
func (forgetful) Put(string, []byte)        {}

// Look is one look at what is there now. It asks no question twice, so one Look over
// all images of a package or an owner asks about each repository once and about all
// digests together. It is safe for concurrent use.
type Look struct {
	client *Client

	owners       memo[packages.Owner]
	repositories memo[Repository]
	attested     attestedDigests
	scanning     memo[scanning]
	dependabot   memo[alerts]
	advisories   memo[[]byte]
	bundles      memo[[]byte]
}

// Look begins to look.
func (c *Client) Look() *Look { return &Look{client: c} }

// fetch is what one source does on behalf of one report, and counts its requests.
type fetch struct {
	*Look
	requests atomic.Int64
}

// parallel bounds the requests that one source has under way at once.
const parallel = 8

// answer is an answer of the API.
type answer struct {
	body []byte
	next string // address of the page that follows, empty on the last
	// refused is set on what everybody may see, and is why the login got no answer: in
	// a list there may be more, so that it does not show that something is not there.
	refused error
}

// read reads a page of the API. What is refused to the login is asked for once more
// without, if it may be public.
func (f *fetch) read(ctx context.Context, path, accept string, public bool) (answer, error) {
	return f.ask(public, func(api *packages.Client) (a answer, err error) {
		a.body, a.next, err = api.Read(ctx, path, accept)
		return a, err
	})
}

// query asks a question that needs a body, as read does.
func (f *fetch) query(ctx context.Context, path string, question []byte) (answer, error) {
	return f.ask(true, func(api *packages.Client) (a answer, err error) {
		a.body, err = api.Query(ctx, path, question)
		return a, err
	})
}

func (f *fetch) ask(public bool, ask func(*packages.Client) (answer, error)) (answer, error) {
	f.requests.Add(1)
	a, err := ask(f.client.opts.API)
	if again := f.anonymous(public, err); again != nil {
		f.requests.Add(1)
		if shown, publicErr := ask(again); publicErr == nil {
			shown.refused = err
			return shown, nil
		}
	}
	return a, err
}

func (f *fetch) anonymous(public bool, err error) *packages.Client {
	if public && errors.Is(err, transport.ErrDenied) {
		return f.client.opts.Public
	}
	return nil
}

// errand is a request to a host that is not the API.
type errand struct {
	op, target string
	method     string
	address    string
	question   []byte // JSON; nil is none
	limit      int64  // of the answer, in bytes
	// whole tells what is wrong with an answer that ended early without a word.
	whole func(body []byte) error
}

// cutOff is how often an answer is asked for again that ends before its end.
const cutOff = 3

// elsewhere goes on an errand without a credential.
func (f *fetch) elsewhere(ctx context.Context, e errand) ([]byte, error) {
	for try := 0; ; try++ {
		body, again, err := f.attempt(ctx, e)
		if err == nil || !again || try == cutOff {
			return body, err
		}
		t := time.NewTimer(time.Second << try)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

// attempt sends the request and reads the answer. again is set if that broke off, which
// the layers below cannot mend.
func (f *fetch) attempt(ctx context.Context, e errand) (body []byte, again bool, err error) {
	f.requests.Add(1)
	var content io.Reader
	if e.question != nil {
		content = bytes.NewReader(e.question)
	}
	req, err := http.NewRequestWithContext(ctx, e.method, e.address, content)
	if err != nil {
		// The error would show the address, whose query is a permission.
		return nil, false, oci.Invalid("%s %s: malformed address", e.op, e.target)
	}
	if e.question != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.client.opts.Transport.Do(req, transport.Call{Op: e.op, Target: e.target, NoAuth: true})
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, false, fmt.Errorf("%s %s: %s answered %d, which is not followed", e.op, e.target, req.URL.Host, resp.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, e.limit+1))
	switch {
	case err != nil:
		return nil, ctx.Err() == nil, fmt.Errorf("%s %s: %w", e.op, e.target, err)
	case int64(len(body)) > e.limit:
		return nil, false, fmt.Errorf("%s %s: the answer is over the limit of %d bytes", e.op, e.target, e.limit)
	}
	if err := e.whole(body); err != nil {
		return nil, true, fmt.Errorf("%s %s: %w", e.op, e.target, err)
	}
	return body, false, nil
}

// isJSON refuses what is no JSON, or not all of it.
func isJSON(body []byte) error {
	if !json.Valid(body) {
		return oci.Invalid("the answer is not whole JSON")
	}
	return nil
}

// errCircle says that a list has no end, so that what was read of it is not all.
var errCircle = errors.New("the pages of the list lead in a circle")

// pages reads a list page by page, and gives each to add. A list of more pages than
// most is an error after these.
func (f *fetch) pages(ctx context.Context, path string, most int, add func(page []byte) error) error {
	asked := map[string]bool{}
	for path != "" {
		switch {
		case asked[path]:
			return errCircle
		case len(asked) == most:
			return fmt.Errorf("%w: the list goes on after %d pages", errTooMany, most)
		}
		asked[path] = true
		page, err := f.read(ctx, path, "", false)
		if err != nil {
			return err
		}
		if err := add(page.body); err != nil {
			return err
		}
		path = page.next
	}
	return nil
}

// each calls do for 0 to n-1, a few at once, and returns when all are done or the
// context ends.
func each(ctx context.Context, n int, do func(i int)) {
	gate := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range n {
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-gate }()
			do(i)
		})
	}
	wg.Wait()
}

// memo remembers answers by their question. However many ask, one request is made;
// what the end of a context cut off is asked for again.
type memo[T any] struct {
	mu      sync.Mutex
	answers map[string]*memory[T]
}

type memory[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func (m *memo[T]) get(ctx context.Context, key string, ask func() (T, error)) (T, error) {
	for {
		m.mu.Lock()
		a, known := m.answers[key]
		if !known {
			a = &memory[T]{done: make(chan struct{})}
			if m.answers == nil {
				m.answers = map[string]*memory[T]{}
			}
			m.answers[key] = a
		}
		m.mu.Unlock()
		if !known {
			a.value, a.err = ask()
			if ctx.Err() != nil {
				m.mu.Lock()
				delete(m.answers, key)
				m.mu.Unlock()
			}
			close(a.done)
			return a.value, a.err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
		m.mu.Lock()
		kept := m.answers[key] == a
		m.mu.Unlock()
		if kept {
			return a.value, a.err
		}
	}
}
