package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

func (a *app) demoPruneCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Show what retention does to a package of 300 versions",
		Long: `Fill a package of an emulated GHCR with 300 versions: releases for two platforms with
attestations, signatures and SBOMs, some of which share images; nested indexes, nightly
builds, builds of pull requests, build caches, and what interrupted pushes and careless
deletions leave behind. Then plan by a policy, explain three decisions, carry the plan
out, look whether all is well, undo it, and look again. Every image that is to stay is
compared, byte for byte, after each change.`,
		Example: "  ghcr demo prune",
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demoPrune(cmd.Context()) },
	}
}

// demoFiles are what the policy of the demo is made of.
var demoFiles = map[string]string{
	"policy.yaml": `version: 1
packages: [acme/app]
defaults: {max_delete_percent: 60, min_remaining: 10}
protect:
  tags: [latest]
  digests_from: ["deploy/*.yaml"]      # in use, however old
rules:
  - name: releases
    match: {semver: ">=1.0.0"}
    keep: {last: 6, order: semver}
    delete: {older_than: 30d}
  - name: nightlies
    match: {tags: "nightly-*"}
    keep: {days: 40, weeks: 10}
    delete: all
  - name: pull requests
    match: {regex: "pr-(?P<n>\\d+)"}
    delete: {when_not_in: open-prs.txt, key: n}
  - name: left behind
    match: {health: [orphan, ghost]}
    delete: {older_than: 1d}
  - name: untagged
    match: {untagged: true}
    delete: {older_than: 7d}
tests:
  - name: the newest releases stay, and those of today whatever their number
    lists: {open-prs.txt: []}
    images:
      - {tags: [v1.9.0], age: 1d, want: keep, rule: releases}
      - {tags: [v0.9.0], age: 900d, want: keep}
  - name: a pull request goes with its branch
    lists: {open-prs.txt: ["7"]}
    images:
      - {tags: [pr-7], age: 90d, want: keep}
      - {tags: [pr-8], age: 1d, want: delete, rule: pull requests}
`,
	"open-prs.txt":     "# gh pr list --json number --jq '.[].number'\n31\n32\n33\n34\n",
	"deploy/prod.yaml": "spec:\n  containers:\n    - image: ghcr.io/acme/app:v1.2.0\n",
}

// demoVersions is how many versions the package of the demo has.
const demoVersions = 300

// demoPackage is a package in the making: images by the tag that they are under.
type demoPackage struct {
	server   *ghcrtest.Server
	tagged   map[string]*ghcrtest.Image
	versions map[oci.Digest]bool
	seed     uint64
	age      time.Duration // how long ago it is for the server
}

func newDemoPackage(server *ghcrtest.Server) *demoPackage {
	return &demoPackage{server: server, tagged: map[string]*ghcrtest.Image{}, versions: map[oci.Digest]bool{}}
}

const demoRepo = "acme/app"

// add puts an image into the package as it was pushed so long ago.
func (d *demoPackage) add(age time.Duration, tag string, image *ghcrtest.Image) error {
	d.server.Advance(d.age - age)
	d.age = age
	if tag != "" {
		d.tagged[tag] = image
	}
	d.count(image)
	return d.server.Add(demoRepo, tag, image)
}

func (d *demoPackage) count(image *ghcrtest.Image) {
	d.versions[image.Digest()] = true
	list := false
	for _, other := range slices.Concat(image.Children, image.Referrers) {
		d.count(other)
		list = list || other.Manifest.Subject != nil
	}
	if list { // the index under the tag that stands in for the referrers API
		var about []*ghcrtest.Image
		for _, r := range image.Referrers {
			if r.Manifest.Subject != nil {
				about = append(about, r)
			}
		}
		d.versions[ghcrtest.NewIndex(about...).Digest()] = true
	}
}

// image is one that nothing else is like, but for the layer of its base.
func (d *demoPackage) image(platform string) *ghcrtest.Image {
	d.seed++
	return ghcrtest.NewImage(platform, ghcrtest.RandomLayer(1, 60_000), ghcrtest.RandomLayer(1000+d.seed, 4000))
}

// cache is one as BuildKit keeps it: an index that lists layers, and no manifest.
func (d *demoPackage) cache() *ghcrtest.Image {
	d.seed++
	entry := func(mediaType, content string) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": digest.FromString(content), "size": len(content)}
	}
	raw, _ := json.Marshal(map[string]any{ // of plain data
		"schemaVersion": 2, "mediaType": oci.MediaTypeOCIIndex, "manifests": []any{
			entry("application/vnd.oci.image.layer.v1.tar+gzip", fmt.Sprint("layer", d.seed)),
			entry("application/vnd.buildkit.cacheconfig.v0", fmt.Sprint("config", d.seed)),
		},
	})
	return ghcrtest.Raw(oci.MediaTypeOCIIndex, raw)
}

const day = 24 * time.Hour

// fill makes the package, from the oldest to the newest.
func (d *demoPackage) fill() error {
	type push struct {
		age   time.Duration
		tag   string
		image *ghcrtest.Image
	}
	var pushes []push
	var arm *ghcrtest.Image
	var releases []*ghcrtest.Image
	for n := range 20 {
		amd := d.image("linux/amd64")
		if n%3 != 1 { // every third release was built anew for one platform only
			arm = d.image("linux/arm64")
		}
		release := ghcrtest.Attested(amd, arm)
		ghcrtest.Sign(release)
		if n%2 == 0 {
			ghcrtest.Refer(release, "application/spdx+json", fmt.Sprintf(`{"spdxVersion":"SPDX-2.3","name":"v1.%d.0"}`, n))
		}
		if n%5 == 0 {
			ghcrtest.Sign(amd)
		}
		releases = append(releases, release)
		pushes = append(pushes, push{time.Duration(200-10*n) * day, fmt.Sprintf("v1.%d.0", n), release})
	}
	pushes = append(pushes, push{9 * day, "latest", releases[19]})
	for n := range 4 { // a bundle keeps the releases in it
		pushes = append(pushes, push{time.Duration(40-10*n) * day, fmt.Sprintf("bundle-%d", n), ghcrtest.NewIndex(releases[4*n], d.image("linux/s390x"))})
	}
	for n := range 34 {
		image := d.image("linux/amd64")
		if n%2 == 0 {
			image = ghcrtest.Attested(image)
		}
		pushes = append(pushes, push{time.Duration(70-2*n)*day + time.Hour, fmt.Sprintf("pr-%d", n+1), image})
	}
	for n, name := range []string{"main", "arm64", "release"} {
		pushes = append(pushes, push{time.Duration(n+1) * time.Hour, "buildcache-" + name, d.cache()})
	}
	for n := range 12 { // the tag has moved on
		pushes = append(pushes, push{time.Duration(100-8*n)*day + 2*time.Hour, "", d.image("linux/amd64")})
	}
	for n := range 2 { // deleted by hand, without what was about it and in it
		gone := d.image("linux/amd64")
		pushes = append(pushes, push{time.Duration(50+n) * day, "", ghcrtest.Sign(gone)})
		ghost := ghcrtest.NewIndex(d.image("linux/amd64"))
		pushes = append(pushes, push{time.Duration(60+n) * day, fmt.Sprintf("broken-%d", n), ghcrtest.Raw(ghost.Manifest.MediaType, ghost.Manifest.Bytes())})
	}
	pushes = append(pushes, push{time.Minute, "", d.image("linux/amd64")}) // its index is on the way
	slices.SortStableFunc(pushes, func(x, y push) int { return int((y.age - x.age) / time.Second) })
	for _, p := range pushes {
		d.count(p.image)
	}
	for n := demoVersions - len(d.versions); n > 0; n-- {
		age := time.Duration(n)*day + 12*time.Hour
		tag := "nightly-" + time.Now().Add(-age).UTC().Format("20060102")
		at := slices.IndexFunc(pushes, func(p push) bool { return p.age < age })
		pushes = slices.Insert(pushes, at, push{age, tag, d.image("linux/amd64")})
	}
	for _, p := range pushes {
		if err := d.add(p.age, p.tag, p.image); err != nil {
			return err
		}
	}
	d.server.Advance(d.age)
	if len(d.versions) != demoVersions {
		return fmt.Errorf("demo: the package has %d versions", len(d.versions))
	}
	return d.server.SetPackage(ghcrtest.Package{Name: demoRepo, Repository: "acme/app"})
}

func (a *app) demoPrune(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "ghcr-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a.emulated = true
	if err := a.openTape(); err != nil {
		return err
	}
	for name, text := range demoFiles {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	server, err := ghcrtest.New(ghcrtest.Options{Dir: filepath.Join(dir, "sim"), NoLog: true})
	if err != nil {
		return err
	}
	d := newDemoPackage(server)
	if err := errors.Join(d.fill(), server.Close()); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "A package of %d versions, %d of them with a tag, on an emulated GHCR. This is its policy:\n\n%s", len(d.versions), len(d.tagged), demoFiles["policy.yaml"])
	shared := d.tagged["v1.16.0"].Children[1].Digest()
	for _, step := range []demoStep{
		{why: "Does the policy do what it is meant to?", args: []string{"policy", "test", "policy.yaml"}},
		{why: "What is wrong in the package?", args: []string{"check", demoRepo}, code: exitFindings},
		{why: "What may go? Nothing is changed; the plan is kept.", args: []string{"prune", demoRepo, "--policy", "policy.yaml", "--save-plan", "plan.json"}},
		{why: "Why does an image go, why does an old one stay, and what of an image that two releases share?",
			args: []string{"prune", "--plan", "plan.json", "--explain", "v1.1.0", "--explain", "v1.2.0", "--explain", shared.String()}},
		{why: "Carry the plan out. What is done goes into a journal before.", args: []string{"prune", "--plan", "plan.json", "--apply", "--yes", "--journal", "prune.journal", "--stats"}},
		{why: "Is all well now?", args: []string{"check", demoRepo}},
	} {
		if err := a.demoRun(ctx, dir, step); err != nil {
			return err
		}
	}
	plans, err := readPlans(filepath.Join(dir, "plan.json"))
	if err != nil {
		return err
	}
	if err := a.demoCompare(dir, d, plans.list[0].plan); err != nil {
		return err
	}
	for _, step := range []demoStep{
		{why: "Take it back, all of it.", args: []string{"restore", "--from", "prune.journal", "--jq", `"\(map(select(.outcome == "done")) | length) versions are back"`}},
		{why: "And it is as it was, with what was wrong.", args: []string{"check", demoRepo}, code: exitFindings},
	} {
		if err := a.demoRun(ctx, dir, step); err != nil {
			return err
		}
	}
	return a.demoCompare(dir, d, &retain.Plan{})
}

// demoCompare compares every image that the plan keeps with what was pushed, and looks
// that those which it deletes are gone.
func (a *app) demoCompare(dir string, d *demoPackage, plan *retain.Plan) (err error) {
	if a.replays() {
		return nil // there is no package to look at
	}
	server, err := ghcrtest.New(ghcrtest.Options{Dir: filepath.Join(dir, "sim"), NoLog: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	gone := map[oci.Digest]bool{}
	for _, x := range plan.Actions {
		gone[x.Digest] = gone[x.Digest] || x.Do == retain.Delete
	}
	kept, deleted := 0, 0
	for tag, image := range d.tagged {
		switch err := server.Holds(demoRepo, tag, image); {
		case gone[image.Digest()] && err == nil:
			return fmt.Errorf("demo: %s is still there", tag)
		case gone[image.Digest()]:
			deleted++
		case err != nil && !strings.HasPrefix(tag, "broken-"):
			return fmt.Errorf("demo: what was to stay is not as it was: %w", err)
		default:
			kept++
		}
	}
	fmt.Fprintf(a.stdout, "\nEvery image that stays was compared with what was pushed, bit for bit, with its parts: %d tags, all the same", kept)
	if deleted > 0 {
		fmt.Fprintf(a.stdout, "; %d are gone", deleted)
	}
	fmt.Fprintln(a.stdout, ".")
	return nil
}
