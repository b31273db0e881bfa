package retain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Test is a package that is made up, and what the policy is to do with it.
type Test struct {
	Name   string // unique
	Images []TestImage
	Lists  map[string][]string // stands in for [Facts.Lists]
}

// TestImage is one image of a [Test].
type TestImage struct {
	Tags        []string // none is an untagged image
	Age         time.Duration
	Annotations map[string]string
	Labels      map[string]string
	// Want is "keep", or what an action does: "delete", "untag" or "retag".
	Want string
	// Rule is the one that must have decided; empty is any.
	Rule string
}

// TestResult is what the policy did with one image of a test.
type TestResult struct {
	Test   string // its name
	Image  TestImage
	Got    string // as Image.Want
	Rule   string // that decided; empty if none did
	Reason Reason
	Passed bool
}

// kept is what a test says of images that stay.
const kept = "keep"

// RunTests plans on the packages of the policy's tests, and returns the result of each
// image, in the order of the file. The images of one test are in one package; of those
// with the same age the first is the newest. Of the rails only the grace holds, for so
// few images say nothing of the others.
//
// Errors: those of [Make].
func RunTests(policy *Policy, now time.Time) ([]TestResult, error) {
	bare := *policy
	bare.Rails = Rails{Grace: policy.Rails.Grace, MaxDelete: -1, MaxDeletePercent: -1, AllowMatchAll: true}
	var results []TestResult
	for _, test := range policy.Tests {
		inv, other, err := test.inventory(now)
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", test.Name, err)
		}
		bare.Protect.Digests = append(slices.Clone(policy.Protect.Digests), other)
		plan, err := Make(&bare, inv, Facts{Lists: test.Lists}, now)
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", test.Name, err)
		}
		for i, image := range test.Images {
			r := TestResult{Test: test.Name, Image: image, Got: kept}
			r.read(plan, inv.Versions[i].ID)
			r.Passed = r.Got == image.Want && (image.Rule == "" || r.Rule == image.Rule)
			results = append(results, r)
		}
	}
	return results, nil
}

// read finds what the plan does with a version.
func (r *TestResult) read(plan *Plan, id int64) {
	for _, a := range plan.Actions {
		if a.Version == id {
			r.Got, r.Rule, r.Reason = string(a.Do), a.Rule, a.Reason
			return
		}
	}
	for _, d := range plan.Kept {
		if d.Version == id {
			r.Rule, r.Reason = d.Rule, d.Reason
			return
		}
	}
}

// String says what became of the image, and what was wanted if it is something else.
func (r TestResult) String() string {
	name := strings.Join(r.Image.Tags, " ")
	if name == "" {
		name = "untagged"
	}
	name += ", " + FormatAge(r.Image.Age) + " old"
	got := fmt.Sprintf("%s (%s)", r.Got, r.Reason)
	if r.Rule != "" {
		got = fmt.Sprintf("%s (%s, rule %s)", r.Got, r.Reason, r.Rule)
	}
	if r.Passed {
		return fmt.Sprintf("%s: %s: %s", r.Test, name, got)
	}
	want := r.Image.Want
	if r.Image.Rule != "" {
		want += " by rule " + r.Image.Rule
	}
	return fmt.Sprintf("%s: %s: %s; want %s", r.Test, name, got, want)
}

// inventory makes the package up. It has one version more, whose digest is returned:
// GitHub would not delete the last one with a tag, and that is not what a test is
// about. It is the signature of something else, so that no rule counts it.
func (t Test) inventory(now time.Time) (*Inventory, oci.Digest, error) {
	inv := &Inventory{Host: oci.DefaultRegistry, Owner: "test", Package: "test", Taken: now}
	add := func(image TestImage) error {
		n := len(inv.Versions)
		m, err := imageManifest(n, image.Annotations)
		if err != nil {
			return err
		}
		labels := image.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		made := now.Add(-image.Age)
		inv.Versions = append(inv.Versions, Version{
			ID: int64(len(t.Images) + 1 - n), Digest: m.Digest(), Tags: image.Tags, Created: made, Updated: made, Manifest: m, Labels: labels,
		})
		return nil
	}
	for _, image := range t.Images {
		if err := add(image); err != nil {
			return nil, "", err
		}
	}
	nothing := oci.DigestTag(bytesDigest(nil)) + ".test"
	if err := add(TestImage{Tags: []string{nothing}, Age: maxAge}); err != nil {
		return nil, "", err
	}
	return inv, inv.Versions[len(t.Images)].Digest, nil
}

// imageManifest makes the manifest of an image that differs from others by its number.
func imageManifest(n int, annotations map[string]string) (*oci.Manifest, error) {
	blob := func(mediaType, content string) oci.Descriptor {
		return oci.Descriptor{MediaType: mediaType, Digest: bytesDigest([]byte(content)), Size: int64(len(content))}
	}
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     oci.MediaTypeOCIManifest,
		"config":        blob("application/vnd.oci.image.config.v1+json", fmt.Sprintf(`{"n":%d}`, n)),
		"layers":        []oci.Descriptor{blob("application/vnd.oci.image.layer.v1.tar+gzip", fmt.Sprint(n))},
		"annotations":   annotations,
	})
	if err != nil {
		return nil, err
	}
	return oci.ParseManifest(oci.MediaTypeOCIManifest, raw)
}
