package packages_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// What has no tag is deleted by its number. It may be part of an image: what may go, and
// what may not, [ghcr.Client.PlanPrune] works out.
func Example() {
	server := twoVersions()
	defer server.Close()

	client, err := transport.New(transport.Options{
		Base: server.Transport(), // without it: the network
		Credentials: transport.Static(map[string]transport.Credential{
			"api.github.com": {Password: transport.NewSecret(ghcrtest.Token)},
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	api, err := packages.New(client, packages.Options{})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	for v, err := range api.Versions(ctx, "acme", "app", packages.Active) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(v.Name, v.Tags) // the digest, and the tags
		if len(v.Tags) > 0 {
			continue
		}
		switch err := api.DeleteVersion(ctx, "acme", "app", v.ID); {
		case err == nil:
			fmt.Println("deleted; for 30 days it can be restored")
		case errors.Is(err, packages.Gone):
			fmt.Println("somebody else was faster")
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// sha256:630e67f7ec7d46771c2306fb699106af0bcdc877e1d0610c0852037c65196bce []
	// deleted; for 30 days it can be restored
	// sha256:74c789287e68c0303cb9c36c329fa07cc89b00369748808e8747e3be1bc2661f [v1]
}

func twoVersions() *ghcrtest.Server {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, tag := range []string{"v1", ""} {
		if err := server.Add("acme/app", tag, ghcrtest.NewImage("linux/amd64", []byte("layer of "+tag))); err != nil {
			log.Fatal(err)
		}
	}
	return server
}
