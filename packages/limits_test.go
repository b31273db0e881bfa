package packages_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// shrinking is a pool whose last token is gone once it was used.
type shrinking struct {
	transport.Pool
	asked int
}

func (p *shrinking) Credentials(ctx context.Context, host string) ([]transport.Credential, error) {
	list, err := p.Pool.Credentials(ctx, host)
	if p.asked++; p.asked > 4 {
		list = list[:1]
	}
	return list, err
}

// TestRequireWhileTokensChange: a source may have other tokens by the time GitHub
// has told of one.
func TestRequireWhileTokensChange(t *testing.T) {
	pool := &shrinking{Pool: transport.Pool{"api.github.com": {
		{Password: transport.NewSecret("ghp_one"), Source: "one"}, {Password: transport.NewSecret("ghp_two"), Source: "two"},
	}}}
	server := &api{handler: func(w *reply, _ *http.Request) {
		w.header.Set("X-OAuth-Scopes", "read:packages")
		w.json(200, `{}`)
	}}
	tc, err := transport.New(transport.Options{Base: server, Credentials: pool})
	if err != nil {
		t.Fatal(err)
	}
	c, err := packages.New(tc, packages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Require(t.Context(), transport.ScopeDelete); !errors.Is(err, packages.MissingScope) {
		t.Errorf("got %v", err)
	}
}
