package packages

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// TokenState is what GitHub says of one token of the login. An anonymous login has
// one too, whose Token is the zero value.
type TokenState struct {
	transport.Token
	Account Owner                     // whose it is; the zero Owner for one that is no user's
	Limits  []transport.RateLimitInfo // none on a server that has them turned off
	// Ahead is how far this machine's clock is ahead of GitHub's, to a second or two;
	// negative if it is behind.
	Ahead time.Duration
	// Refused is why GitHub does not take the token; nil if it does.
	Refused error
}

// Inspect asks GitHub about each token of the login: whether it is good, whose it is,
// its scopes and limits. It counts on no limit, but for a request for each account
// that is not known yet. A token that is refused is no error, but marked.
//
// Errors: no answer, and the credential source's.
func (c *Client) Inspect(ctx context.Context) ([]TokenState, error) {
	tokens, err := c.transport.Tokens(ctx, c.Host())
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		tokens = []transport.Token{{Source: "anonymous", Kind: transport.Anonymous}}
	}
	states := make([]TokenState, len(tokens))
	for i, t := range tokens {
		if states[i], err = c.inspect(ctx, t); err != nil {
			return nil, err
		}
		if t.ID == "" {
			continue
		}
		if known, err := c.transport.Tokens(ctx, c.Host()); err == nil && i < len(known) {
			states[i].Token = known[i]
		}
	}
	return states, nil
}

func (c *Client) inspect(ctx context.Context, t transport.Token) (TokenState, error) {
	state := TokenState{Token: t}
	limits, header, err := c.limits(ctx, t.ID)
	switch {
	case err == nil:
		state.Limits = limits
		if date, err := http.ParseTime(header.Get("Date")); err == nil {
			state.Ahead = time.Since(date).Round(time.Second)
			for i := range limits {
				limits[i].Reset = limits[i].Reset.Add(state.Ahead)
			}
		}
	case errors.Is(err, transport.ErrUnauthorized), errors.Is(err, transport.ErrDenied):
		state.Refused = err
		return state, nil
	case !errors.Is(err, Absent):
		return state, err
	}
	if t.ID == "" {
		return state, nil
	}
	state.Account, err = c.accountOf(ctx, t)
	if errors.Is(err, transport.ErrUnauthorized) {
		state.Refused, err = err, nil
	}
	return state, err
}
