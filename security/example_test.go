package security_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// What a scanner found, as a workflow attested it, from GitHub's attestations API. Package
// ghcr asks all sources at once.
func Example() {
	server, image := attestedImage()
	defer server.Close()

	chain, err := transport.New(transport.Options{
		Base: server.Transport(), // without it: the network
		Credentials: transport.Static(map[string]transport.Credential{
			"api.github.com": {Password: transport.NewSecret(ghcrtest.Token)},
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	api, err := packages.New(chain, packages.Options{})
	if err != nil {
		log.Fatal(err)
	}
	client, err := security.New(security.Options{API: api, Transport: chain})
	if err != nil {
		log.Fatal(err)
	}
	ref, err := oci.ParseRef("acme/app:v1")
	if err != nil {
		log.Fatal(err)
	}
	look := client.Look()
	sources := []vuln.Source{look.Attestations("acme", security.Verification{})}
	report, err := vuln.Collect(context.Background(), sources, vuln.Target{Ref: ref, Digest: image}, vuln.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.State)
	for _, v := range report.Vulnerabilities {
		fmt.Println(v.Severity, v.ID, v.Package.Name, "fixed in", v.FixedIn)
	}
	// Output:
	// complete
	// high CVE-2026-1001 zlib1g fixed in 1.3
}

func attestedImage() (*ghcrtest.Server, oci.Digest) {
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	image := ghcrtest.NewImage("linux/amd64", []byte("a layer"))
	report := ghcrtest.TrivyReport("acme/app", image, ghcrtest.Finding{ID: "CVE-2026-1001", Severity: "HIGH", Package: "zlib1g", Version: "1.2", Fixed: "1.3"})
	scan := ghcrtest.CosignVuln("pkg:github/aquasecurity/trivy@0.67.0", report, time.Now())
	bundle := ghcrtest.Bundle(ghcrtest.Statement(ghcrtest.CosignVulnType, scan, image))
	if err := server.AddAttestation("acme/app", bundle); err != nil {
		log.Fatal(err)
	}
	return server, image.Digest()
}
