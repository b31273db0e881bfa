package retain_test

import (
	"fmt"
	"log"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The images of pull requests go after a month, but for the newest. An inventory comes from
// [ghcr.Client.Snapshot], and [ghcr.Client.ApplyPrune] carries the plan out.
func Example() {
	policy, err := retain.Parse("policy.yaml", []byte(`
version: 1
defaults: {max_delete_percent: 60}
rules:
  - name: pull requests
    match: {tags: ["pr-*"]}
    keep: {last: 1}
    delete: {older_than: 30d}
`))
	if err != nil {
		log.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	inventory := &retain.Inventory{Host: "ghcr.io", Owner: "acme", Package: "app", Taken: now}
	for i, tag := range []string{"v1.0", "pr-7", "pr-8", "pr-9"} {
		inventory.Versions = append(inventory.Versions, retain.Version{
			ID: int64(i + 1), Tags: []string{tag}, Created: now.AddDate(0, i-4, 0), Manifest: image(tag), Digest: image(tag).Digest(),
		})
	}
	plan, err := retain.Make(policy, inventory, retain.Facts{}, now)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range plan.Actions {
		fmt.Println(a.Do, a.Tags, a.Rule)
	}
	for _, k := range plan.Kept {
		fmt.Println("keep", k.Tags, k.Reason)
	}
	fmt.Println(plan.Err()) // whether it goes beyond what the policy allows
	// Output:
	// delete [pr-7] pull requests
	// delete [pr-8] pull requests
	// keep [v1.0] unmatched
	// keep [pr-9] keep-rule
	// <nil>
}

func image(name string) *oci.Manifest {
	m, err := oci.ParseManifest(oci.MediaTypeOCIManifest, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"annotations":{"name":%q},
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`,
		oci.MediaTypeOCIManifest, name))
	if err != nil {
		log.Fatal(err)
	}
	return m
}
