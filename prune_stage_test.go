package ghcr_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// The scenarios here and in the files that use them are those of docs/retention.md. Each
// goes the whole path, from the text of a policy to the versions that are left, and is
// told by the names of what is left: "index=v1,latest child" are an index with two tags
// and a manifest with none.

// scenario is a package, what a policy does to it, and what is left of it.
type scenario struct {
	name  string
	opts  ghcrtest.Options
	seed  func(s *stage)
	rules string // where digest(a) is the digest of a
	facts func(s *stage) retain.Facts
	left  string
	// refused is the class of the error that applying the plan comes to, with some of it
	// done; nil is that all of it is.
	refused error
	more    func(s *stage, run *pruned) // looks at what else must be so
}

// stage is a package in which each version has a name.
type stage struct {
	*sandbox
	repo   string
	images map[string]*ghcrtest.Image
	names  map[oci.Digest]string
	seeds  uint64
}

func newStage(t *testing.T, opts ghcrtest.Options) *stage {
	return &stage{sandbox: newSandbox(t, opts), repo: "acme/app", images: map[string]*ghcrtest.Image{}, names: map[oci.Digest]string{}}
}

// play runs scenarios, each as a test of its name.
func play(t *testing.T, scenarios []scenario) {
	for _, tt := range scenarios {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, tt.opts)
				tt.seed(s)
				time.Sleep(age)
				run := s.enact(tt)
				if got := s.state(); got != order(tt.left) {
					t.Errorf("left are\n%s\nwant\n%s", got, order(tt.left))
				}
				if tt.more != nil {
					tt.more(s, run)
				}
				if t.Failed() {
					s.describe(run.report, run.err)
					t.Logf("kept %+v", run.plan.Kept)
				}
			})
		})
	}
}

// pruned is a plan, and what came of it.
type pruned struct {
	plan           *retain.Plan
	inventory      *retain.Inventory
	report         *ghcr.PruneReport
	err            error
	planned, spent spent // requests for the plan, and for its application
}

// enact plans and applies, and checks what must be so of every package and every policy:
// each version is spoken of once, nothing is asked for twice, the report's numbers are
// those of the emulator, what could be pulled still can be unless it was to go, and
// nothing is left to do.
func (s *stage) enact(tt scenario) *pruned {
	t := s.t
	t.Helper()
	before, whole := s.versions(), s.pullable()
	var facts retain.Facts
	if tt.facts != nil {
		facts = tt.facts(s)
	}
	policy := s.policy(s.rules(tt.rules))
	run := &pruned{}
	var err error
	s.server.ResetRequests()
	run.plan, run.inventory, err = s.client.PlanPrune(t.Context(), s.ref(s.repo), policy, ghcr.PruneOptions{Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	if w := s.writes(); len(w) != 0 {
		t.Errorf("planning sent %+v", w)
	}
	run.planned = s.spent()
	pages := (len(before) + 99) / 100
	calm := len(s.server.Faults()) == 0
	if n := run.planned; calm && (n.pages != pages || n.calls > 2 || n.manifests > len(before) || n.manifests != run.plan.Cost.Downloads || n.heads+n.tags != 0) {
		t.Errorf("the plan of %d versions took %+v", len(before), n)
	}
	deletes, off, on := 0, 0, 0
	told := map[int64]bool{}
	for _, k := range run.plan.Kept {
		told[k.Version] = true
	}
	for _, a := range run.plan.Actions {
		told[a.Version] = true
		switch a.Do {
		case retain.Delete:
			deletes++
		case retain.Untag:
			off += len(a.Off)
		case retain.Retag:
			on++
		}
	}
	if len(told) != len(before) || len(run.plan.Kept)+len(run.plan.Actions) != len(before) {
		t.Errorf("%d kept and %d actions of %d versions", len(run.plan.Kept), len(run.plan.Actions), len(before))
	}
	run.report, run.err = s.client.ApplyPrune(t.Context(), run.plan, ghcr.ApplyOptions{Journal: t.TempDir() + "/journal"})
	puts := 0
	for _, w := range s.writes() {
		if w.Method == "PUT" {
			puts++
		}
	}
	run.spent = s.spent()
	if run.report == nil {
		t.Fatal(run.err)
	}
	time.Sleep(time.Hour) // lists come to rest
	s.truthful(s.repo, run.report)
	if !errors.Is(run.err, tt.refused) {
		t.Errorf("error %v, want %v", run.err, tt.refused)
	}
	after := s.versions()
	if gone := run.report.Count(ghcr.Done) - (len(run.plan.Actions) - deletes); tt.refused == nil && (gone != deletes || len(before)-len(after) != deletes) {
		t.Errorf("%d deletions of %d are said to be done; there were %d versions, and %d are left", gone, deletes, len(before), len(after))
	}
	if n := run.spent; calm && tt.refused == nil && (n.deletes != deletes+off || puts != off+on || n.manifests > off+on || len(run.plan.Actions) > 0 && off == 0 && n.pages != pages) {
		t.Errorf("%d deletions and %d tags took %+v and %d manifests pushed", deletes, off, n, puts)
	}
	if tags := len(tagsOf(before)) - len(tagsOf(after)); tt.refused == nil && tags != lostTags(run.plan)-on {
		t.Errorf("%d tags are gone, and the plan has %d", tags, lostTags(run.plan)-on)
	}
	pulls := s.pullable()
	for tag := range tagsOf(after) {
		if whole[tag] && !pulls[tag] {
			t.Errorf("%s can't be pulled any more", tag)
		}
	}
	if tt.refused == nil {
		again, _, err := s.client.PlanPrune(t.Context(), s.ref(s.repo), policy, ghcr.PruneOptions{Facts: facts})
		if err != nil || len(again.Actions) != 0 {
			t.Errorf("then there is still to do: %+v, %v", again.Actions, err)
		}
	}
	s.server.ResetRequests()
	return run
}

func lostTags(plan *retain.Plan) (n int) {
	for _, a := range plan.Actions {
		if a.Do == retain.Delete {
			n += len(a.Tags)
		}
		n += len(a.Off)
	}
	return n
}

// versions lists what the Packages API has.
func (s *stage) versions() []packages.PackageVersion {
	s.t.Helper()
	api, err := s.client.Packages()
	if err != nil {
		s.t.Fatal(err)
	}
	owner, name, _ := strings.Cut(s.repo, "/")
	list, err := api.AllVersions(s.t.Context(), owner, name, packages.Active)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func tagsOf(versions []packages.PackageVersion) map[string]oci.Digest {
	tags := map[string]oci.Digest{}
	for _, v := range versions {
		for _, tag := range v.Tags {
			tags[tag] = v.Digest()
		}
	}
	return tags
}

// state names all versions with their tags. A tag that is a digest is written as
// "~subject.sig". Both services must agree on them.
func (s *stage) state() string {
	s.t.Helper()
	var list []string
	versions := s.versions()
	for _, v := range versions {
		text := s.called(v.Digest())
		if s.resolves(s.repo, v.Digest().String()) == "" {
			s.t.Errorf("%s is listed, and not there", text)
		}
		tags := slices.Sorted(slices.Values(v.Tags))
		for i, tag := range tags {
			if d, rest, ok := oci.ParseDigestTag(tag); ok {
				tags[i] = "~" + s.called(d) + rest
			}
		}
		if len(tags) > 0 {
			text += "=" + strings.Join(tags, ",")
		}
		list = append(list, text)
	}
	repo, err := s.client.Repository(s.ref(s.repo))
	if err != nil {
		s.t.Fatal(err)
	}
	names, err := repo.TagNames(s.t.Context())
	if err != nil && !errors.Is(err, ghcr.ErrNotFound) {
		s.t.Fatal(err)
	}
	if listed := tagsOf(versions); len(names) != len(listed) {
		s.t.Errorf("the registry has the tags %v, the API %v", names, listed)
	}
	return order(strings.Join(list, " "))
}

func (s *stage) called(d oci.Digest) string {
	if name := s.names[d]; name != "" {
		return name
	}
	return d.String()
}

// order sorts words.
func order(text string) string {
	return strings.Join(slices.Sorted(strings.FieldsSeq(text)), " ")
}

// pullable tells which tags lead to images that can be pulled whole, by doing so.
func (s *stage) pullable() map[string]bool {
	s.t.Helper()
	repo, err := s.client.Repository(s.ref(s.repo))
	if err != nil {
		s.t.Fatal(err)
	}
	var pull func(ref string) error
	pull = func(ref string) error {
		m, err := repo.Manifest(s.t.Context(), ref)
		if err != nil {
			return err
		}
		for e := range m.Edges() {
			switch {
			case e.Kind == oci.EdgeChild && oci.IsManifestType(e.Descriptor.MediaType):
				err = pull(e.Descriptor.Digest.String())
			case !m.IsIndex() && (e.Kind == oci.EdgeConfig || e.Kind == oci.EdgeLayer):
				var body io.ReadCloser
				if body, err = repo.GetBlob(s.t.Context(), e.Descriptor); err == nil {
					_, err = io.Copy(io.Discard, body)
					body.Close()
				}
			}
			if err != nil {
				return fmt.Errorf("%s of %s: %w", e.Descriptor.Digest, ref, err)
			}
		}
		return nil
	}
	whole := map[string]bool{}
	for tag := range tagsOf(s.versions()) {
		whole[tag] = pull(tag) == nil
	}
	return whole
}

// push adds one version and nothing that belongs to it.
func (s *stage) push(name string, img *ghcrtest.Image, tags ...string) *ghcrtest.Image {
	s.t.Helper()
	alone := &ghcrtest.Image{Manifest: img.Manifest, Blobs: img.Blobs, Tags: img.Tags}
	s.images[name], s.names[img.Digest()] = img, name
	s.add(s.repo, "", alone)
	for _, tag := range tags {
		s.add(s.repo, tag, alone)
	}
	return img
}

// image adds an image that is unlike all others.
func (s *stage) image(name string, tags ...string) *ghcrtest.Image {
	s.seeds++
	return s.push(name, image(s.seeds, 1), tags...)
}

// parts are the images of these names; those that are not there are added.
func (s *stage) parts(names string) (list []*ghcrtest.Image) {
	for name := range strings.FieldsSeq(names) {
		if s.images[name] == nil {
			s.image(name)
		}
		list = append(list, s.images[name])
	}
	return list
}

// many adds so many images without a tag, that are not left if their names are not.
func (s *stage) many(prefix string, n int) {
	s.seeds++
	base := image(s.seeds, 1)
	for i := range n {
		s.push(fmt.Sprint(prefix, i), base.WithBytes(func(raw []byte) []byte {
			for bit := range 18 {
				raw = append(raw, " \n"[i>>bit&1])
			}
			return raw
		}))
	}
}

// index adds an index of images.
func (s *stage) index(name, parts string, tags ...string) *ghcrtest.Image {
	return s.push(name, ghcrtest.NewIndex(s.parts(parts)...), tags...)
}

// attested adds an index of images with an attestation for each, "a.att" for a.
func (s *stage) attested(name, parts string, tags ...string) *ghcrtest.Image {
	list := s.parts(parts)
	index := ghcrtest.Attested(list...)
	for i, part := range list {
		s.push(s.called(part.Digest())+".att", index.Children[len(list)+i])
	}
	return s.push(name, index, tags...)
}

// sign adds a signature under the tag of cosign, "a.sig" for a.
func (s *stage) sign(subject string) *ghcrtest.Image {
	return s.push(subject+".sig", ghcrtest.Sign(s.images[subject]))
}

// refer adds an artifact that names its subject and that nothing else leads to.
func (s *stage) refer(name, subject string) *ghcrtest.Image {
	return s.push(name, ghcrtest.Refer(s.images[subject], "application/spdx+json", name))
}

// list adds the list of all that refers to an image, "a.list" for a.
func (s *stage) list(subject string) *ghcrtest.Image {
	var of []*ghcrtest.Image
	for _, r := range s.images[subject].Referrers {
		if r.Manifest.Subject != nil {
			of = append(of, r)
		}
	}
	return s.push(subject+".list", ghcrtest.NewIndex(of...), oci.DigestTag(s.images[subject].Digest()))
}

// lose takes a version away, as others did.
func (s *stage) lose(name string) {
	s.t.Helper()
	api, err := s.client.Packages()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, v := range s.versions() {
		if v.Digest() == s.images[name].Digest() {
			owner, repo, _ := strings.Cut(s.repo, "/")
			if err := api.DeleteVersion(s.t.Context(), owner, repo, v.ID); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	time.Sleep(time.Hour)
}

// rules puts digests into a policy.
func (s *stage) rules(text string) string {
	for name, img := range s.images {
		text = strings.ReplaceAll(text, "digest("+name+")", img.Digest().String())
	}
	return text
}

func (s *stage) digest(name string) oci.Digest { return s.images[name].Digest() }
