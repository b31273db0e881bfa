package transport_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
)

// TestTokenThatIsGone: a call that must be made with a token that is there no more is
// not made with another, nor without one, nor again and again.
func TestTokenThatIsGone(t *testing.T) {
	limited(t, transport.Options{}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"": true}
		time.AfterFunc(time.Minute, func() { g.setBad(nil) }) // or a failure would last for ever
		err := ask(t.Context(), c, "DELETE", transport.Call{Token: "0123"})
		if !errors.Is(err, transport.ErrUnauthorized) || !strings.Contains(fmt.Sprint(err), "acme/app") {
			t.Errorf("got %v", err)
		}
		if len(g.seen) != 0 {
			t.Errorf("sent %d requests, the first with %q", len(g.seen), g.seen[0])
		}
	})
}

// TestSameTokenTwice: a token that is in a pool twice is one token.
func TestSameTokenTwice(t *testing.T) {
	limited(t, transport.Options{Credentials: tokens("a", "a")}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"ghp_a": true, "": true}
		time.AfterFunc(time.Minute, func() { g.setBad(nil) })
		if err := ask(t.Context(), c, "GET", transport.Call{}); !errors.Is(err, transport.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
		if len(g.seen) != 1 {
			t.Errorf("sent %q", g.seen)
		}
	})
}

// TestBearersAreToldApart: tokens that are sent as they are differ as passwords do.
func TestBearersAreToldApart(t *testing.T) {
	pool := transport.Pool{"api.github.com": {
		{Bearer: transport.NewSecret("ghp_old")}, {Bearer: transport.NewSecret("ghp_new")},
	}}
	limited(t, transport.Options{Credentials: pool}, func(t *testing.T, g *github, c *transport.Client) {
		g.bad = map[string]bool{"ghp_old": true}
		if err := ask(t.Context(), c, "GET", transport.Call{}); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(g.seen) != "[ghp_old ghp_new]" {
			t.Errorf("sent %q", g.seen)
		}
	})
}
