package packages

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// container is the type of package that this is about, as it stands in paths.
const container = "container"

// Owner returns the account of that login. It is asked for once and remembered.
//
// Errors: [*Error] with reason [Absent] where there is no such account.
func (c *Client) Owner(ctx context.Context, login string) (Owner, error) {
	key := strings.ToLower(login)
	if key == "" || key == "." || key == ".." || strings.ContainsAny(key, "/ ") {
		return Owner{}, oci.Invalid("malformed owner %q: it is the login of a user or an organization", login)
	}
	owner, err := c.once(ctx, c.owners, key, request{url: c.url("users", login), op: "find the owner", target: login})
	if err != nil {
		return Owner{}, explain(err, subject{owner: login})
	}
	return owner, nil
}

// once asks for an account, unless it is known. However many want to know, one
// request is sent.
func (c *Client) once(ctx context.Context, known map[string]Owner, key string, q request) (Owner, error) {
	lookup := func() (Owner, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		owner, ok := known[key]
		return owner, ok
	}
	if owner, ok := lookup(); ok {
		return owner, nil
	}
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return Owner{}, context.Cause(ctx)
	}
	owner, ok := lookup()
	if ok {
		return owner, nil
	}
	if err := c.getJSON(ctx, q, &owner); err != nil {
		return Owner{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known[key] = owner
	return owner, nil
}

// WhoAmI returns the account of the credential in use, the first where there are
// several: the zero Owner for a token that is no user's, as GITHUB_TOKEN is not. It
// is asked for once and remembered.
//
// Errors: [*Error] with reason [Unauthenticated].
func (c *Client) WhoAmI(ctx context.Context) (Owner, error) {
	tokens, err := c.transport.Tokens(ctx, c.Host())
	if err != nil {
		return Owner{}, err
	}
	if len(tokens) == 0 {
		return c.accountOf(ctx, transport.Token{})
	}
	return c.accountOf(ctx, tokens[0])
}

func (c *Client) accountOf(ctx context.Context, t transport.Token) (Owner, error) {
	if t.Kind == transport.InstallationToken {
		return Owner{}, nil
	}
	owner, err := c.once(ctx, c.accounts, t.ID, request{url: c.url("user"), op: "find out whose the token is", token: t.ID})
	if errors.Is(err, transport.ErrDenied) && !t.Kind.IsUsers() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.accounts[t.ID] = Owner{} // it is no user's
		return Owner{}, nil
	}
	return owner, explain(err, subject{})
}

// place is where the packages of an owner are for the login at hand.
type place struct {
	url   string
	token string // must be used, since with another it is another place; any if empty
}

// place returns the address of an owner's packages, in the form that fits the owner
// and the login: an organization's, a user's, or one's own, since only that one
// shows private packages of a user (docs/quirks.md#rest-owner-forms).
//
// One's own does not name the owner, and with the token of another it means other
// packages. So it takes the token of this owner.
func (c *Client) place(ctx context.Context, login string, rest ...string) (place, error) {
	owner, err := c.Owner(ctx, login)
	if err != nil {
		return place{}, err
	}
	if owner.Kind == Organization {
		return place{url: c.url(slices.Concat([]string{"orgs", login, "packages"}, rest)...)}, nil
	}
	tokens, err := c.transport.Tokens(ctx, c.Host())
	if err != nil {
		return place{}, err
	}
	for _, t := range tokens {
		account, err := c.accountOf(ctx, t)
		if err != nil && (len(tokens) == 1 || !errors.Is(err, transport.ErrUnauthorized)) {
			return place{}, err
		}
		if err == nil && account.ID != 0 && account.ID == owner.ID {
			return place{url: c.url(slices.Concat([]string{"user", "packages"}, rest)...), token: t.ID}, nil
		}
	}
	return place{url: c.url(slices.Concat([]string{"users", login, "packages"}, rest)...)}, nil
}
