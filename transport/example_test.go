package transport_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transport"
)

// A request of one's own to the registry gets a token, is sent again where that may help,
// and waits for limits. How it failed is a class of error.
func ExampleClient_Do() {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client, err := transport.New(transport.Options{
		Base: server.Transport(), // without it: the network
		Credentials: transport.Static(map[string]transport.Credential{
			"ghcr.io": {Username: "anybody", Password: transport.NewSecret(ghcrtest.Token), Source: "the example"},
		}),
		Observer: transport.ObserverFunc(func(e transport.Exchange) { fmt.Println(e.Method, e.Path, e.Status) }),
	})
	if err != nil {
		log.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, "https://ghcr.io/v2/acme/app/tags/list", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req, transport.Call{
		Op: "list tags", Target: "ghcr.io/acme/app",
		Scopes: []transport.Scope{{Repository: "acme/app", Actions: []string{"pull"}}},
	})
	if errors.Is(err, transport.ErrNotFound) {
		fmt.Println("there is no such image")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	// Output:
	// GET /v2/acme/app/tags/list 401
	// GET /token 200
	// GET /v2/acme/app/tags/list 404
	// there is no such image
}
