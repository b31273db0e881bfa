package transfer_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// One platform of an image goes from one layout to another. A [*registry.Repository] may
// take the place of either.
func ExampleCopy() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	image := ghcrtest.NewIndex(ghcrtest.NewImage("linux/amd64", []byte("a layer")), ghcrtest.NewImage("linux/arm64", []byte("another")))
	if err := image.WriteLayout(filepath.Join(dir, "build"), "v1"); err != nil {
		log.Fatal(err)
	}

	src, err := transfer.OpenLayout(filepath.Join(dir, "build"))
	if err != nil {
		log.Fatal(err)
	}
	dst, err := transfer.CreateLayout(filepath.Join(dir, "arm"))
	if err != nil {
		log.Fatal(err)
	}
	result, err := transfer.Copy(context.Background(), src, "v1", dst, "v1", transfer.Options{
		Platforms: []oci.Platform{{OS: "linux", Architecture: "arm64"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Uploaded, "blobs,", result.Descriptor.Digest == image.Children[1].Digest())
	// Output: 2 blobs, true
}
