package retain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// today is when tests plan. Images are made on the days before it.
var today = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

const (
	emptyConfig = oci.Digest("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
	imageConfig = "application/vnd.oci.image.config.v1+json"
)

// pkg is a package in the making. Each version is a day younger than the one before,
// and all are past any grace.
type pkg struct {
	t   testing.TB
	inv Inventory
}

func (p *pkg) next() int64 {
	if n := len(p.inv.Versions); n > 0 {
		return p.inv.Versions[n-1].ID + 1
	}
	return 1
}

func newPkg(t testing.TB) *pkg {
	return &pkg{t: t, inv: Inventory{Host: "ghcr.io", Owner: "acme", OwnerID: 7, Package: "app", PackageID: 9, Taken: today}}
}

// manifest parses what the fields say.
func manifest(t testing.TB, mediaType string, fields map[string]any) *oci.Manifest {
	t.Helper()
	fields["schemaVersion"], fields["mediaType"] = 2, mediaType
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(mediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func layer(name string, size int64) oci.Descriptor {
	return oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: bytesDigest([]byte(name)), Size: size}
}

// imageOf makes an image that differs from others by its name.
func imageOf(t testing.TB, name string, change func(fields map[string]any)) *oci.Manifest {
	fields := map[string]any{
		"config":      oci.Descriptor{MediaType: imageConfig, Digest: emptyConfig, Size: 2},
		"layers":      []oci.Descriptor{layer("base", 1000), layer(name, 100)},
		"annotations": map[string]string{"name": name},
	}
	if change != nil {
		change(fields)
	}
	return manifest(t, oci.MediaTypeOCIManifest, fields)
}

// add lists a manifest as a version and returns its number.
func (p *pkg) add(m *oci.Manifest, tags ...string) *Version {
	id := p.next()
	made := today.AddDate(0, 0, int(id)-1000)
	p.inv.Versions = append(p.inv.Versions, Version{ID: id, Digest: m.Digest(), Tags: tags, Created: made, Updated: made, Manifest: m})
	// Only its copy is kept; the slice may move.
	return &Version{ID: id, Digest: m.Digest(), Manifest: m}
}

func (p *pkg) image(name string, tags ...string) *Version {
	return p.add(imageOf(p.t, name, nil), tags...)
}

// about adds a referrer by its subject field.
func (p *pkg) about(subject *Version, name string, tags ...string) *Version {
	return p.add(imageOf(p.t, name, func(f map[string]any) {
		f["artifactType"] = "application/vnd.example.sbom"
		f["subject"] = subject.Manifest.Descriptor()
	}), tags...)
}

// sig adds a signature as cosign tags it.
func (p *pkg) sig(subject *Version) *Version {
	return p.image("signature of "+subject.Digest.String(), oci.DigestTag(subject.Digest)+".sig")
}

func (p *pkg) index(children []*Version, tags ...string) *Version {
	return p.add(indexOf(p.t, children), tags...)
}

// indexOf lists images, for one platform after the other.
func indexOf(t testing.TB, children []*Version) *oci.Manifest {
	var entries []oci.Descriptor
	for i, c := range children {
		d := c.Manifest.Descriptor()
		d.Platform = &oci.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "s390x", "riscv64"}[i%4]}
		entries = append(entries, d)
	}
	return manifest(t, oci.MediaTypeOCIIndex, map[string]any{"manifests": entries})
}

// withAttestations adds an index over images and an attestation for each, as BuildKit does.
func (p *pkg) withAttestations(children []*Version, tags ...string) *Version {
	var entries []oci.Descriptor
	for _, c := range children {
		d := c.Manifest.Descriptor()
		d.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}
		entries = append(entries, d)
	}
	for _, c := range children {
		a := p.image("attestation for " + c.Digest.String())
		d := a.Manifest.Descriptor()
		d.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": c.Digest.String()}
		entries = append(entries, d)
	}
	return p.add(manifest(p.t, oci.MediaTypeOCIIndex, map[string]any{"manifests": entries}), tags...)
}

// at returns the version as it is listed, to be changed.
func (p *pkg) at(v *Version) *Version {
	return &p.inv.Versions[slices.IndexFunc(p.inv.Versions, func(o Version) bool { return o.ID == v.ID })]
}

// lose drops versions from the list, as if somebody had deleted them.
func (p *pkg) lose(gone ...*Version) {
	p.inv.Versions = slices.DeleteFunc(p.inv.Versions, func(v Version) bool {
		return slices.ContainsFunc(gone, func(g *Version) bool { return g.ID == v.ID })
	})
}

// loose are rails that are in no test's way.
func loose() Rails { return Rails{MaxDelete: -1, MaxDeletePercent: -1, AllowMatchAll: true} }

func rules(rules ...Rule) *Policy {
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = fmt.Sprintf("rule%d", i+1)
		}
	}
	return &Policy{Rails: loose(), Rules: rules}
}

func patterns(t testing.TB, texts ...string) []Pattern {
	t.Helper()
	var list []Pattern
	for _, text := range texts {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func (p *pkg) tags(texts ...string) Match { return Match{Tags: patterns(p.t, texts...)} }

// plan makes a plan of all that is there, and checks that it is safe and that reading
// no more than is needed makes the same.
func (p *pkg) plan(policy *Policy) *Plan { return p.planWith(policy, Facts{}) }

func (p *pkg) planWith(policy *Policy, facts Facts) *Plan {
	p.t.Helper()
	plan, err := Make(policy, &p.inv, facts, today)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(plan.Needs)+len(plan.NeedsLabels) > 0 {
		p.t.Fatalf("needs %v, and labels %v", plan.Needs, plan.NeedsLabels)
	}
	checkSafe(p.t, plan, &p.inv, &p.inv, policy.Rails.Grace)
	lazy, _ := readAsNeeded(p.t, policy, &p.inv, facts)
	if got, want := actionsOf(p.t, lazy), actionsOf(p.t, plan); got != want {
		p.t.Errorf("with what is needed read the actions are\n%s\nand with all read\n%s", got, want)
	}
	return plan
}

func actionsOf(t testing.TB, plan *Plan) string {
	data, err := json.Marshal(plan.Actions)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// readAsNeeded plans with no manifests at first, and has those read that are asked for.
func readAsNeeded(t testing.TB, policy *Policy, inv *Inventory, facts Facts) (plan *Plan, reads int) {
	t.Helper()
	bare := *inv
	bare.Versions = slices.Clone(inv.Versions)
	at := map[oci.Digest]int{}
	for i := range bare.Versions {
		bare.Versions[i].Manifest, bare.Versions[i].Labels = nil, nil
		if inv.Versions[i].Manifest != nil {
			bare.Versions[i].Unreadable = ""
		}
		at[bare.Versions[i].Digest] = i
	}
	for range 100 {
		plan, err := Make(policy, &bare, facts, today)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Needs)+len(plan.NeedsLabels) == 0 {
			return plan, reads
		}
		if len(plan.Actions)+len(plan.Kept) > 0 {
			t.Fatal("a plan was made although something must be read")
		}
		for _, d := range plan.Needs {
			v, of := &bare.Versions[at[d]], inv.Versions[at[d]]
			if v.Manifest != nil || v.Unreadable != "" {
				t.Fatalf("%s is needed again", d)
			}
			v.Manifest, v.Unreadable = of.Manifest, of.Unreadable
			reads++
		}
		for _, d := range plan.NeedsLabels {
			v, of := &bare.Versions[at[d]], inv.Versions[at[d]]
			v.Labels, v.Unreadable = of.Labels, of.Unreadable
		}
	}
	t.Fatal("more and more must be read")
	return nil, 0
}

// left names what stays: by tags, and by number what has none.
func (p *pkg) left(plan *Plan) string {
	var names []string
	for i := range p.inv.Versions {
		v := &p.inv.Versions[i]
		tags := slices.Clone(v.Tags)
		gone := false
		for _, a := range plan.Actions {
			if a.Version == v.ID {
				gone = gone || a.Do == Delete
				tags = slices.DeleteFunc(tags, func(tag string) bool { return slices.Contains(a.Off, tag) })
				if a.On != "" {
					tags = append(tags, a.On)
				}
			}
		}
		switch {
		case gone:
		case len(tags) == 0:
			names = append(names, fmt.Sprint("#", v.ID))
		default:
			names = append(names, tags...)
		}
	}
	return strings.Join(names, " ")
}

// wantLeft compares what stays with tags, numbers written #7, and versions.
func (p *pkg) wantLeft(plan *Plan, want string) {
	p.t.Helper()
	if got := p.left(plan); got != want {
		p.t.Errorf("left: %s\nwant: %s\n%s", got, want, actionsOf(p.t, plan))
	}
}

// kept returns the decision on a version that stays.
func (p *pkg) kept(plan *Plan, v *Version) Decision {
	p.t.Helper()
	for _, d := range plan.Kept {
		if d.Version == v.ID {
			return d
		}
	}
	p.t.Fatalf("version %d is not kept", v.ID)
	return Decision{}
}

func (p *pkg) wantKept(plan *Plan, v *Version, why Reason, blocked string) {
	p.t.Helper()
	if d := p.kept(plan, v); d.Reason != why || d.Blocked != blocked {
		p.t.Errorf("version %d stays because %s, blocked %q; want %s, %q", v.ID, d.Reason, d.Blocked, why, blocked)
	}
}
