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
	at := path
	if !strings.Contains(path, "://") {
		at = c.base.String() + "/" + strings.TrimPrefix(path, "/")
	}
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
