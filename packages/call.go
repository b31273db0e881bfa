package packages

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Call sends a request of the caller's own to the API, with the login, limits and
// retries of all others. The path is as GitHub documents it, "/orgs/acme/packages?page=2",
// or a whole address of this API. A body is JSON, and nil is none. What changes
// something is sent once, unless a limit turned it away. The caller closes the
// answer's body. [Client.NextPage] leads through lists.
//
// Errors: [*Error] with the reason of a refusal, and [oci.ErrInvalid] for an address
// that is not of this API.
func (c *Client) Call(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	at := c.address(path)
	// A query may hold what is not to be shown.
	what, _, _ := strings.Cut(path, "?")
	q := request{method: method, op: method, target: what, body: body, once: method != http.MethodGet && method != http.MethodHead}
	for hops := 0; ; hops++ {
		address, err := c.sameHost(c.base.String(), at)
		if err != nil {
			return nil, oci.Invalid("%s is no address of %s", what, c.base.Host)
		}
		q.url = address
		resp, err := c.do(ctx, q)
		if err != nil {
			return nil, explain(err, subject{owner: what})
		}
		if resp.StatusCode < 300 {
			return resp, nil
		}
		resp.Body.Close()
		// A name that was changed leads on, but what changes something is not sent on.
		if at = resp.Header.Get("Location"); at == "" || q.once || hops == maxRedirects {
			return nil, fmt.Errorf("%s %s: %s answered %d, which is not followed", method, what, c.base.Host, resp.StatusCode)
		}
	}
}

// Read reads a page of the API of the caller's own whole, from what is kept where
// GitHub says that it is still so, which costs nothing. The path is as for
// [Client.Call]; accept is the media type that is wanted, and GitHub's own if empty.
// next is the address of the page that follows, empty on the last.
//
// Errors: as for [Client.Call]; a page that follows on another host.
func (c *Client) Read(ctx context.Context, path, accept string) (body []byte, next string, err error) {
	q, err := c.ownRequest(path, http.MethodGet)
	if err != nil {
		return nil, "", err
	}
	q.accept = accept
	a, err := c.get(ctx, q)
	if err != nil {
		return nil, "", explain(err, subject{owner: q.target})
	}
	if next = parseLinks(a.link)["next"]; next != "" {
		next, err = c.sameHost(q.url, next)
	}
	return a.body, next, err
}

// Query reads the answer to a question that is too long for an address: a POST that
// changes nothing, and so may be sent again. The path and the body are as for
// [Client.Call].
//
// Errors: as for [Client.Call].
func (c *Client) Query(ctx context.Context, path string, body []byte) ([]byte, error) {
	q, err := c.ownRequest(path, http.MethodPost)
	if err != nil {
		return nil, err
	}
	q.body = body
	resp, answer, err := c.read(ctx, q)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %s answered %d, which is not followed", q.op, q.target, c.base.Host, resp.StatusCode)
	}
	return answer, explain(err, subject{owner: q.target})
}

// ownRequest is a request of the caller's own.
func (c *Client) ownRequest(path, method string) (request, error) {
	what, _, _ := strings.Cut(path, "?")
	address, err := c.sameHost(c.base.String(), c.address(path))
	if err != nil {
		return request{}, oci.Invalid("%s is no address of %s", what, c.base.Host)
	}
	return request{method: method, op: method, target: what, url: address}, nil
}

// address is that of a path, which may be one already.
func (c *Client) address(path string) string {
	if strings.Contains(path, "://") {
		return path
	}
	return c.base.String() + "/" + strings.TrimPrefix(path, "/")
}

// NextPage returns the address of the page that follows an answer of [Client.Call];
// empty on the last.
//
// Errors: a page on another host.
func (c *Client) NextPage(resp *http.Response) (string, error) {
	next := parseLinks(resp.Header.Get("Link"))["next"]
	if next == "" {
		return "", nil
	}
	return c.sameHost(c.base.String(), next)
}
