package registry_test

import (
	"context"
	"fmt"
	"log"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Tags and the manifest for one platform, of a public image.
func Example() {
	server := publicImage()
	defer server.Close()

	client, err := transport.New(transport.Options{Base: server.Transport()}) // without Base: the network
	if err != nil {
		log.Fatal(err)
	}
	host, err := registry.New(client, "ghcr.io", registry.Options{Rules: registry.GHCR})
	if err != nil {
		log.Fatal(err)
	}
	repo, err := host.Repository("acme/app")
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	for tag, err := range repo.Tags(ctx, registry.TagOptions{Match: "v1.*"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(tag)
	}
	m, err := repo.PlatformManifest(ctx, "v1.1", oci.Platform{OS: "linux", Architecture: "arm64"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Kind(), "of", len(m.Layers), "layer:", m.Digest())
	// Output:
	// v1.0
	// v1.1
	// image of 1 layer: sha256:9f1b551b81add7864332ebe8d3d37d6646b11a6553e12eb4610f7fba0c89a9ca
}

func publicImage() *ghcrtest.Server {
	server, err := ghcrtest.New(ghcrtest.Options{Public: []string{"acme/app"}})
	if err != nil {
		log.Fatal(err)
	}
	image := ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64", []byte("one layer")), ghcrtest.NewImage("linux/arm64", []byte("another")))
	for _, tag := range []string{"v1.0", "v1.1", "v2.0"} {
		if err := server.Add("acme/app", tag, image); err != nil {
			log.Fatal(err)
		}
	}
	return server
}
