package attest_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// An image, here in an OCI layout, may be used if a key that is trusted signed it.
func ExampleVerify() {
	img := image(1)
	tagged(img, ".sig", sig(alice, img.Digest())) // as "cosign sign --key" does
	dir, err := os.MkdirTemp("", "layout-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := img.WriteLayout(dir, "v1"); err != nil {
		panic(err)
	}
	repo, err := transfer.OpenLayout(dir) // or a *registry.Repository
	if err != nil {
		panic(err)
	}

	for _, pem := range [][]byte{alice.pem(), mallory.pem()} {
		keys, err := attest.ParseKeys(pem)
		if err != nil {
			panic(err)
		}
		policy := attest.Policy{Require: []attest.Requirement{{By: []attest.Verifier{keys}}}}
		_, err = attest.Verify(context.Background(), repo, img.Digest(), policy)
		switch {
		case err == nil:
			fmt.Println("signed")
		case errors.Is(err, attest.ErrNoSignature):
			fmt.Println("nobody signed it")
		case errors.Is(err, attest.ErrBadSignature):
			fmt.Println("not signed with this key")
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// signed
	// not signed with this key
}
