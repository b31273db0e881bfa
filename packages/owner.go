package packages

import (
	"context"
	"errors"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Owner returns the account of that login. It is asked for once and remembered.
//
// Errors: [*Error] with reason [Absent] where there is no such account.
func (c *Client) Owner(ctx context.Context, login string) (Owner, error) {
	key := strings.ToLower(login)
	if key == "" || strings.ContainsAny(key, "/ ") {
		return Owner{}, oci.Invalid("malformed owner %q: it is the login of a user or an organization", login)
	}
	c.mu.Lock()
	owner, known := c.owners[key]
	c.mu.Unlock()
	if known {
		return owner, nil
	}
	q := request{url: c.url("users", login), op: "find the owner", target: login}
	if err := c.getJSON(ctx, q, &owner); err != nil {
		return Owner{}, explain(err, subject{owner: login})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owners[key] = owner
	return owner, nil
}

// WhoAmI returns the account of the credential in use: the zero Owner for a token
// that is no user's, as GITHUB_TOKEN is not. It is asked for once and remembered.
//
// Errors: [*Error] with reason [Unauthenticated].
func (c *Client) WhoAmI(ctx context.Context) (Owner, error) {
	c.mu.Lock()
	self := c.self
	c.mu.Unlock()
	if self != nil {
		return *self, nil
	}
	var owner Owner
	err := c.getJSON(ctx, request{url: c.url("user"), op: "find out whose the token is"}, &owner)
	var e *transport.Error
	if err != nil && !(errors.Is(err, transport.ErrDenied) && errors.As(err, &e) && e.Kind == transport.InstallationToken) {
		return Owner{}, explain(err, subject{})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.self = &owner
	return owner, nil
}

// packages returns the address of an owner's packages, in the form that fits the
// owner and the credential: an organization's, a user's, or one's own, since only
// that one shows private packages of a user (docs/quirks.md#rest-owner-forms).
func (c *Client) packages(ctx context.Context, login string, rest ...string) (string, error) {
	owner, err := c.Owner(ctx, login)
	if err != nil {
		return "", err
	}
	if owner.Kind == Organization {
		return c.url(append([]string{"orgs", login, "packages"}, rest...)...), nil
	}
	self, err := c.WhoAmI(ctx)
	if err != nil {
		return "", err
	}
	if self.ID != 0 && self.ID == owner.ID {
		return c.url(append([]string{"user", "packages"}, rest...)...), nil
	}
	return c.url(append([]string{"users", login, "packages"}, rest...)...), nil
}

// container is the type of package that this is about, as it stands in paths.
const container = "container"
