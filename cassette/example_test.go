package cassette_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// The same program runs twice: once against a registry, and once without one.
func Example() {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	if err := server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("a layer"))); err != nil {
		fmt.Println(err)
		return
	}
	program := func(base http.RoundTripper) error {
		client, err := ghcr.New(ghcr.Options{Base: base, Credentials: login})
		if err != nil {
			return err
		}
		ref, err := client.ParseRef("acme/app:v1")
		if err != nil {
			return err
		}
		repo, err := client.Repository(ref)
		if err != nil {
			return err
		}
		d, err := repo.Resolve(context.Background(), "v1")
		fmt.Println(d.MediaType)
		return err
	}
	dir, err := os.MkdirTemp("", "cassette-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for range 2 {
		tape, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeOnce, Base: server.Transport(), Origin: "emulator"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(tape.Mode())
		if err := program(tape); err != nil {
			fmt.Println(err)
		}
		if err := tape.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// record
	// application/vnd.oci.image.manifest.v1+json
	// replay
	// application/vnd.oci.image.manifest.v1+json
}
