package keyless_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// An image may be used if one workflow of GitHub Actions signed it, and nobody else's.
func Example() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	repo, err := transfer.CreateLayout(filepath.Join(dir, "image")) // or a *registry.Repository
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := repo.PutManifest(ctx, "v1", subject); err != nil {
		log.Fatal(err)
	}
	bundle, _ := public.Sign(sigstoretest.Bundle03, statement(subject.Digest()), sigstoretest.Good())
	document := attest.Content{MediaType: sigstoretest.Bundle03.MediaType(), Data: bundle}
	if _, err := attest.Attach(ctx, repo, subject.Digest(), "", []attest.Content{document}, nil); err != nil {
		log.Fatal(err)
	}

	roots, err := keyless.ReadRoots(bytes.NewReader(public.TrustedRoot(true))) // from the file trusted_root.json
	if err != nil {
		log.Fatal(err)
	}
	for _, workflow := range []string{"release.yml", "test.yml"} {
		verifier, err := keyless.New(roots, keyless.Identity{
			Issuer:  keyless.GitHubActions,
			Subject: "https://github.com/acme/app/.github/workflows/" + workflow + "@refs/heads/main",
		})
		if err != nil {
			log.Fatal(err)
		}
		_, err = attest.Verify(ctx, repo, subject.Digest(), attest.Policy{Require: []attest.Requirement{
			{PredicateType: attest.PredicateProvenance, By: []attest.Verifier{verifier}},
		}})
		fmt.Println(workflow, err == nil, errors.Is(err, attest.ErrWrongIdentity))
	}
	// Output:
	// release.yml true false
	// test.yml false true
}
