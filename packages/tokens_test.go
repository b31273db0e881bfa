package packages_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// TestInspect: GitHub tells whose a token is, its scopes, and what is left; a token
// that it does not take is marked, and the others are looked at all the same.
func TestInspect(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.Advance(-time.Minute)
		states, err := w.client("ghp_reader", "ghp_wrong", "ghs_ci").Inspect(w.ctx)
		if err != nil || len(states) != 3 {
			t.Fatalf("got %d states, %v", len(states), err)
		}
		reader, wrong, workflow := states[0], states[1], states[2]
		if reader.Account.Login != "alice" || !reader.Known || len(reader.Lacks(transport.ScopeDelete)) == 0 || len(reader.Lacks(transport.ScopeRead)) > 0 || len(reader.Limits) == 0 {
			t.Errorf("a classic token: %+v", reader)
		}
		if reader.Ahead != time.Minute {
			t.Errorf("the clock is ahead by %s, want a minute", reader.Ahead)
		}
		if !errors.Is(wrong.Refused, packages.Unauthenticated) {
			t.Errorf("a wrong token: %+v", wrong)
		}
		if workflow.Kind != transport.InstallationToken || workflow.Account.Login != "" || workflow.Refused != nil || workflow.Known {
			t.Errorf("a workflow's token: %+v", workflow)
		}
		states, err = w.client().Inspect(w.ctx)
		if err != nil || len(states) != 1 || states[0].Kind != transport.Anonymous || states[0].Refused != nil || states[0].Limits[0].Limit >= reader.Limits[0].Limit {
			t.Errorf("anonymous: %+v, %v", states, err)
		}
	})
}

// TestCall: any request goes with the login, pages are led through, and nothing goes
// to another host.
func TestCall(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "a", "b", "c")
		c := w.client("ghp_alice")
		rows := 0
		for next := "/orgs/acme/packages/container/app/versions?per_page=1"; next != ""; rows++ {
			resp, err := c.Call(w.ctx, http.MethodGet, next, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(body), `"sha256:`) {
				t.Errorf("page %d: %s, %v", rows, body, err)
			}
			if next, err = c.NextPage(resp); err != nil {
				t.Fatal(err)
			}
		}
		if rows != 3 {
			t.Errorf("got %d pages", rows)
		}
		_, err := c.Call(w.ctx, http.MethodGet, "/orgs/acme/packages/container/none", nil)
		w.wantReason("a package that is not there", err, packages.Absent, oci.ErrNotFound)
		if !strings.Contains(err.Error(), "GET /orgs/acme/packages/container/none") {
			t.Errorf("the error does not say what was asked: %v", err)
		}
		before := len(w.Requests())
		for _, elsewhere := range []string{"https://example.com/user", "http://api.github.com/user", "https://api.github.com:444/user"} {
			if _, err := c.Call(w.ctx, http.MethodGet, elsewhere, nil); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%s: got %v", elsewhere, err)
			}
		}
		if n := len(w.Requests()) - before; n > 0 {
			t.Errorf("%d requests went out", n)
		}
	})
}
