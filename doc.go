// Package ghcr works with GitHub Container Registry, which is two services that
// disagree: an OCI registry, and the GitHub Packages API. This package hides that
// there are two.
//
// A client is made once and used from everywhere:
//
//	client, err := ghcr.New(ghcr.Options{Credentials: &ghcr.Logins{}})
//	src, err := client.ParseEnd("oci:build")
//	dst, err := client.ParseEnd("acme/app:v1")
//	result, err := client.Copy(ctx, src, dst, transfer.Options{})
//
// What needs only the registry is done with [Client.Repository], whose methods
// are those of package registry, and what needs only the API with
// [Client.Packages]. What needs both is here: [Client.Inventory], [Client.Delete],
// [Client.Untag], [Client.Restore], [Client.PlanPrune], [Client.Vulnerabilities].
//
//	oci        references, manifests, platforms, graph edges; no I/O
//	transport  the chain under every request: retry, auth, pace, observe
//	registry   the OCI distribution protocol for one host
//	packages   GitHub's Packages API: packages and their versions
//	transfer   copying between registries, OCI layouts and docker-archives
//	retain     what a retention policy means, and why its plan is safe
//	vuln       what is known of an image's vulnerabilities, and what is not
//	security   GitHub's attestations, code scanning, Dependabot and advisories
//	attest     what is attached to an image, and whether its signatures hold
//	cassette   recording traffic without its secrets, and replaying it
//	ghcrtest   a GitHub Container Registry of your own, for tests
//
// Where GHCR departs from what its specification says, docs/quirks.md has the
// fact, the code that copes and the switch of the emulator that imitates it.
// Start reading at client.go.
package ghcr
