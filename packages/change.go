package packages

import (
	"context"
	"fmt"
	"net/http"

	"github.com/llm-dev-ops/ghcr/transport"
)

// The scopes that calls need, the smallest that do.
var (
	readScopes   = []string{transport.ScopeRead}
	writeScopes  = []string{transport.ScopeRead, transport.ScopeWrite}
	deleteScopes = []string{transport.ScopeRead, transport.ScopeDelete}
)

// change sends a request that changes something. When it stays open whether that
// was done, done looks.
func (c *Client) change(ctx context.Context, s subject, q request, done func() (bool, error)) error {
	q.once = true
	open := false // an earlier try may have done it
	for try := 0; ; try++ {
		resp, err := c.do(ctx, q)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode >= 300 {
				return fmt.Errorf("%s %s: %s answered %d, which is not followed", q.op, q.target, c.base.Host, resp.StatusCode)
			}
			return nil
		}
		if !ambiguous(err) && !(open && isNotFound(err)) {
			return c.explainChange(ctx, err, s, q)
		}
		if ctx.Err() != nil {
			return err
		}
		open = true
		isDone, lookErr := done()
		if lookErr == nil && isDone {
			return nil
		}
		if try == cutOff || lookErr != nil || isNotFound(err) {
			return c.explainChange(ctx, err, s, q)
		}
		if ended := pause(ctx, try); ended != nil {
			return fmt.Errorf("%w (%w)", err, ended)
		}
	}
}

func isNotFound(err error) bool {
	e, ok := asExchange(err)
	return ok && e.Status == http.StatusNotFound
}

// ambiguous tells whether a failure leaves it open whether the request was carried
// out.
func ambiguous(err error) bool {
	e, ok := asExchange(err)
	return ok && (e.Status == 0 || e.Status >= 500)
}
