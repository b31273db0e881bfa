package packages

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// RateLimits asks GitHub how much is left of each of its limits, for the token that
// would be used next. It counts on none of them. What was told with the answers so
// far is in [transport.Client.RateLimits].
//
// Errors: [*Error] with reason [Absent] on a GitHub Enterprise Server that has
// limits turned off.
func (c *Client) RateLimits(ctx context.Context) ([]transport.RateLimitInfo, error) {
	list, _, err := c.limits(ctx, "")
	return list, err
}

// limits asks for the limits of one token, or of any if it is empty.
func (c *Client) limits(ctx context.Context, token string) ([]transport.RateLimitInfo, http.Header, error) {
	var answer struct {
		Resources map[string]struct {
			Limit     int   `json:"limit"`
			Used      int   `json:"used"`
			Remaining int   `json:"remaining"`
			Reset     int64 `json:"reset"`
		} `json:"resources"`
	}
	q := request{method: http.MethodGet, url: c.url("rate_limit"), op: "get the limits of", target: c.Host(), free: true, token: token}
	resp, body, err := c.read(ctx, q) // never from the cache
	if err == nil {
		err = decode(q, body, &answer)
	}
	if err != nil {
		return nil, nil, explain(err, subject{owner: c.Host()})
	}
	var list []transport.RateLimitInfo
	for name, r := range answer.Resources {
		list = append(list, transport.RateLimitInfo{
			Host: c.Host(), Resource: name, Limit: r.Limit, Used: r.Used, Remaining: r.Remaining, Reset: time.Unix(r.Reset, 0),
		})
	}
	slices.SortFunc(list, func(a, b transport.RateLimitInfo) int { return cmp.Compare(a.Resource, b.Resource) })
	return list, resp.Header, nil
}

// Require tells whether the login may be able to do something, before it begins: it
// fails where every token is known to lack one of these OAuth scopes
// ([transport.ScopeDelete] and the others). Where nothing is known of a token yet,
// GitHub is asked, at no cost. Of a kind of token that has no scopes nothing can be
// known before it is tried.
//
// Errors: [*Error] with reason [MissingScope] or [Unauthenticated].
func (c *Client) Require(ctx context.Context, scopes ...string) error {
	const op = "check the scopes of the token"
	tokens, err := c.transport.Tokens(ctx, c.Host())
	if err != nil {
		return err
	}
	var lacking error
	for _, t := range tokens {
		if t.Kind.HasScopes() && !t.Known {
			q := request{method: http.MethodGet, url: c.url("rate_limit"), op: op, free: true, token: t.ID}
			// A server without limits has no such page, and tells the scopes all the same.
			if _, _, err := c.read(ctx, q); err != nil && !isNotFound(err) {
				lacking = cmp.Or(lacking, explain(err, subject{}))
				continue
			}
			now, err := c.transport.Tokens(ctx, c.Host())
			if err != nil {
				return err
			}
			i := slices.IndexFunc(now, func(other transport.Token) bool { return other.ID == t.ID })
			if i < 0 {
				continue // it is in use no more
			}
			t = now[i]
		}
		missing := t.Lacks(scopes...)
		if len(missing) == 0 {
			return nil
		}
		lacking = cmp.Or[error](lacking, &Error{Reason: MissingScope, Op: op, Scope: missing[0], Token: t.Kind, Source: t.Source})
	}
	return cmp.Or[error](lacking, &Error{Reason: Unauthenticated, Op: op, Source: "anonymous"})
}
