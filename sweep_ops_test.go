package ghcr_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// operation is one thing that a client does, as the sweep disturbs it.
type operation struct {
	name   string
	quirks func(*ghcrtest.Quirks)
	chunk  int64          // [ghcr.Options.ChunkSize]
	cached bool           // with a CacheDir
	prep   func(s *scene) // what is there before; not disturbed
	do     func(s *scene) (any, error)
	passes []string // tags that may be on something else for a while
	looks  int      // how often it looks again at what it changed, at most
	// aside says that several things are asked about side by side: what one of them could
	// not learn another asks again, and a success lets those that were refused go on.
	aside bool
	open  bool // what it returns is read as it comes, and checked by whoever reads it
	// undo takes back what a run did that failed, where doing it again would not end it.
	undo func(s *scene) error
}

var (
	small  = ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 5000), ghcrtest.RandomLayer(2, 5001))
	broken = image(6, 1) // may lack something
	other  = ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(3, 5000))
	family = ghcrtest.NewIndex(image(4, 1), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(5, 5000)))
)

func init() { ghcrtest.Sign(ghcrtest.Refer(family, "application/spdx+json", "{}")) }

// withSmall, and the like, are what most operations find in acme/app.
func withSmall(s *scene) { s.add("acme/app", "v1", small) }

func withTwo(s *scene) {
	s.add("acme/app", "v1", small)
	s.add("acme/app", "v2", other)
}

func withFamily(s *scene) {
	s.add("acme/app", "v1", family)
	s.add("acme/app", "v2", other)
}

func spec(q *ghcrtest.Quirks) { *q = ghcrtest.Spec() }

// twoByTwo makes pages of tags small enough for a test to have several.
func twoByTwo(q *ghcrtest.Quirks) { q.TagPageMax = 2 }

// laid has an image in a layout.
func laid(img *ghcrtest.Image) func(*scene) {
	return func(s *scene) { s.path = s.layout(img) }
}

// copying copies between two ends; PATH is the scene's layout, and DIR its directory.
func copying(src, dst string, opts transfer.Options) func(*scene) (any, error) {
	return func(s *scene) (any, error) {
		if strings.Contains(dst, "DIR") && s.dir == "" {
			s.dir = s.t.TempDir()
		}
		fill := strings.NewReplacer("PATH", s.path, "DIR", s.dir).Replace
		from, err := s.client.ParseEnd(fill(src))
		if err != nil {
			return nil, err
		}
		to, err := s.client.ParseEnd(fill(dst))
		if err != nil {
			return nil, err
		}
		result, err := s.client.Copy(s.ctx, from, to, opts)
		return result.Descriptor.Digest, err
	}
}

// inRepo does something with the repository acme/app.
func inRepo[T any](do func(s *scene, repo *registry.Repository) (T, error)) func(*scene) (any, error) {
	return func(s *scene) (any, error) {
		repo, err := s.client.Repository(s.ref("acme/app"))
		if err != nil {
			return nil, err
		}
		return do(s, repo)
	}
}

// atAPI does something with the Packages API.
func atAPI[T any](do func(s *scene, api *packages.Client) (T, error)) func(*scene) (any, error) {
	return func(s *scene) (any, error) {
		api, err := s.client.Packages()
		if err != nil {
			return nil, err
		}
		return do(s, api)
	}
}

// nothing is for what only returns an error.
func nothing(err error) (string, error) { return "", err }

func content(body io.ReadCloser, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

// versionOf finds the number that a digest has, past all faults.
func (s *scene) versionOf(d oci.Digest) int64 {
	s.t.Helper()
	v := s.inventory("acme/app").Version(d)
	if v == nil {
		s.t.Fatalf("no version %s", d)
	}
	return v.ID
}

// deleted is what became of each item.
func deleted(d *ghcr.Deletion, err error) (any, error) {
	var list []string
	if d != nil {
		for _, item := range d.Items {
			list = append(list, fmt.Sprint(item.Digest, item.Outcome, item.Tags))
		}
	}
	slices.Sort(list)
	return list, err
}

// withKnown has something of an image everywhere where something may be.
func withKnown(s *scene) {
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(11, 5000))
	sbom := ghcrtest.SPDX("acme/app", openssl, ghcrtest.Finding{Package: "lodash", Version: "4.17.20", PURL: "pkg:npm/lodash@4.17.20"})
	ghcrtest.CosignBundle(img, ghcrtest.Bundle(ghcrtest.Statement(attest.PredicateSPDX, json.RawMessage(sbom), img)))
	s.add("acme/app", "v1", img)
	s.repository(ghcrtest.Repository{Name: "acme/app"})
	s.attestAtGitHub("acme/app", ghcrtest.Bundle(trivyStatement(img, zlib)))
	s.upload("acme/app", "", ghcrtest.TrivySARIF("acme/app", img, openssl))
	s.advise(lodashAdvisory, lodashRecord)
	if err := s.server.AddDependabotAlert("acme/app", fmt.Appendf(nil, lodashAlert, "open")); err != nil {
		s.t.Fatal(err)
	}
}

var everySource = ghcr.VulnOptions{Enrich: []vuln.SourceName{vuln.SourceGHSA, vuln.SourceOSV}}

// known is what reports say. One that says that it does not know everything, as it must if
// a source failed, counts as an error.
func known(reports []*vuln.VulnerabilityReport, err error) (any, error) {
	var list []string
	for _, r := range reports {
		for _, from := range r.Sources {
			if from.Status.Harms() {
				return nil, fmt.Errorf("vulnerabilities of acme/app: %s: %s: %s: %w", from.Name, from.Status, from.Reason, ghcr.ErrConflict)
			}
		}
		for _, w := range r.Warnings {
			if strings.Contains(w, "not known") {
				return nil, fmt.Errorf("vulnerabilities of acme/app: %s: %w", w, ghcr.ErrConflict)
			}
		}
		list = append(list, string(r.State))
		for _, v := range r.Vulnerabilities {
			for _, p := range v.Provenance {
				list = append(list, fmt.Sprint(v.ID, p.Source, p.Link))
			}
		}
	}
	return list, err
}

// operations are all that a client does, by way of every route.
var operations = []operation{
	{name: "push", prep: laid(small), do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push with a fetched token", quirks: noDirect, prep: laid(small), do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push unchanged", prep: func(s *scene) { laid(small)(s); withSmall(s) }, do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push what moves a tag", prep: func(s *scene) { laid(small)(s); s.add("acme/app", "v1", other) }, do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push an index with referrers", prep: laid(family), do: copying("PATH", "acme/app:v1", transfer.Options{Recursive: true}),
		passes: []string{oci.DigestTag(family.Digest())}},
	{name: "push with referrers to a registry that tracks them", quirks: spec, prep: laid(family), do: copying("PATH", "acme/app:v1", transfer.Options{Recursive: true})},
	{name: "push in chunks", chunk: 2000, prep: laid(small), do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push content of unknown size", chunk: 2000, do: inRepo(func(s *scene, repo *registry.Repository) (oci.Descriptor, error) {
		return repo.PutStream(s.ctx, "application/octet-stream", bytes.NewReader(ghcrtest.RandomLayer(1, 5000)))
	})},
	{name: "push that goes on where another was ended", cached: true, looks: 4, prep: endedPush, do: copying("PATH", "acme/app:v1", transfer.Options{})},

	{name: "pull", prep: withSmall, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull with a fetched token", quirks: noDirect, prep: withSmall, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull an index with referrers", prep: withFamily, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{Recursive: true})},
	{name: "pull to an archive", prep: withSmall, do: copying("acme/app:v1", "docker-archive:DIR/image.tar", transfer.Options{})},
	{name: "copy within a registry", prep: withSmall, do: copying("acme/app:v1", "acme/prod:v1", transfer.Options{})},
	{name: "copy between registries", quirks: func(q *ghcrtest.Quirks) { q.MountSelf = false }, prep: withSmall,
		do: copying("acme/app:v1", "mirror.example.com/acme/mirror:v1", transfer.Options{})},

	{name: "resolve", prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (oci.Descriptor, error) { return repo.Resolve(s.ctx, "v1") })},
	{name: "platform", prep: withFamily, do: inRepo(func(s *scene, repo *registry.Repository) (oci.Digest, error) {
		m, err := repo.PlatformManifest(s.ctx, "v1", oci.Platform{OS: "linux", Architecture: "arm64"})
		if err != nil {
			return "", err
		}
		return m.Digest(), nil
	})},
	{name: "list tags", quirks: twoByTwo, prep: func(s *scene) {
		for i := range 5 {
			s.add("acme/app", fmt.Sprint("v", i), small)
		}
	}, do: inRepo(func(s *scene, repo *registry.Repository) ([]string, error) { return repo.TagNames(s.ctx) })},
	{name: "list referrers", prep: withFamily, do: inRepo(listReferrers)},
	{name: "list referrers by the API", quirks: spec, prep: withFamily, do: inRepo(listReferrers)},
	{name: "list referrers where the API leads away", quirks: func(q *ghcrtest.Quirks) { q.Referrers = "303" }, prep: withFamily, do: inRepo(listReferrers)},
	{name: "read a blob", prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
		return content(repo.GetBlob(s.ctx, oci.Descriptor{Digest: small.Manifest.Layers[0].Digest}))
	})},
	{name: "read a blob that is not elsewhere", quirks: spec, prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
		return content(repo.GetBlob(s.ctx, small.Manifest.Layers[0]))
	})},
	{name: "read a part of a blob", open: true, prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
		return content(repo.Blob(s.ctx, small.Manifest.Layers[0], 1000, 2000))
	})},
	{name: "delete a blob", quirks: spec, prep: func(s *scene) { s.add("acme/app", "v1", broken) }, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) {
		return nothing(repo.DeleteBlob(s.ctx, broken.Manifest.Layers[0].Digest))
	})},
	{name: "check push", quirks: spec, prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (string, error) { return nothing(repo.CheckPush(s.ctx)) })},

	{name: "vulnerabilities", aside: true, prep: withKnown, do: func(s *scene) (any, error) {
		r, err := s.client.Vulnerabilities(s.ctx, s.ref("acme/app:v1"), everySource)
		if err != nil {
			return nil, err
		}
		return known([]*vuln.VulnerabilityReport{r}, nil)
	}},
	{name: "vulnerabilities of a package", aside: true, prep: func(s *scene) { withTwo(s); withKnown(s); s.add("acme/app", "v3", broken) }, do: func(s *scene) (any, error) {
		var list []*vuln.VulnerabilityReport
		for v, err := range s.client.PackageVulnerabilities(s.ctx, s.ref("acme/app"), ghcr.SweepOptions{}) {
			if err != nil {
				return nil, err
			}
			list = append(list, v.Report)
		}
		return known(list, nil)
	}},
	{name: "SBOM", aside: true, prep: withKnown, do: func(s *scene) (any, error) {
		found, err := s.client.SBOM(s.ctx, s.ref("acme/app:v1"), ghcr.SBOMOptions{Repository: true})
		if err != nil {
			return nil, err
		}
		var list []string
		for _, sbom := range found.List {
			list = append(list, fmt.Sprint(sbom.Source, sbom.Format, len(sbom.Packages)))
		}
		return list, errors.Join(found.Problems...)
	}},

	{name: "exists", prep: withSmall, do: func(s *scene) (any, error) { return s.client.Exists(s.ctx, s.ref("acme/app:v1")) }},
	{name: "size", prep: withFamily, do: func(s *scene) (any, error) { return s.client.Size(s.ctx, s.ref("acme/app:v1")) }},
	{name: "retag", prep: withTwo, do: func(s *scene) (any, error) {
		r, err := s.client.Retag(s.ctx, s.ref("acme/app:v1"), "v2")
		return r.Digest, err
	}},
	{name: "promote", prep: withFamily, do: func(s *scene) (any, error) {
		r, err := s.client.Promote(s.ctx, s.ref("acme/app:v1"), s.ref("acme/prod:v1"), transfer.Options{Recursive: true})
		return r.Descriptor.Digest, err
	}, passes: []string{oci.DigestTag(family.Digest())}},
	{name: "visibility", prep: withSmall, do: func(s *scene) (any, error) { return s.client.Visibility(s.ctx, s.ref("acme/app")) }},
	{name: "inventory", cached: true, prep: withFamily, do: listInventory},
	{name: "inventory again", cached: true, prep: func(s *scene) { withFamily(s); s.inventory("acme/app") }, do: listInventory},

	{name: "delete", prep: withFamily, do: deleteV1("acme/app:v1", 6), undo: restoreIt, looks: 5},
	{name: "delete where the registry can", quirks: spec, prep: withFamily, do: deleteV1("mirror.example.com/acme/app:v1", 5), undo: restoreIt, looks: 5},
	{name: "untag", prep: func(s *scene) { withTwo(s); s.add("acme/app", "old", small) }, do: untagOld("acme/app:old"), passes: []string{"old"}, looks: 5},
	{name: "untag where the registry can", quirks: spec, prep: func(s *scene) { withTwo(s); s.add("acme/app", "old", small) }, do: untagOld("mirror.example.com/acme/app:old")},
	{name: "move a tag", prep: withTwo, do: func(s *scene) (any, error) {
		_, err := s.client.Untag(s.ctx, ghcr.UntagOptions{To: oci.Reference{Digest: small.Digest()}}, s.ref("acme/app:v2"))
		return "", err
	}},
	{name: "restore", prep: func(s *scene) { withFamily(s); s.deletedV1() }, do: func(s *scene) (any, error) {
		_, err := s.client.Restore(s.ctx, s.ref("acme/app"), ghcr.RestoreOptions{Undo: s.undo(s.path)})
		return "", err
	}, passes: []string{"v1"}},

	{name: "list packages", cached: true, prep: withSmall, do: atAPI(func(s *scene, api *packages.Client) ([]string, error) {
		list, err := api.List(s.ctx, "acme", packages.ListOptions{})
		var names []string
		for _, p := range list {
			names = append(names, p.Name)
		}
		return names, err
	})},
	{name: "get a version", prep: func(s *scene) { withSmall(s); s.id = s.versionOf(small.Digest()) }, do: atAPI(func(s *scene, api *packages.Client) (oci.Digest, error) {
		v, err := api.Version(s.ctx, "acme", "app", s.id)
		return v.Digest(), err
	})},
	{name: "delete a package", looks: 1, prep: withSmall, do: atAPI(func(s *scene, api *packages.Client) (string, error) { return nothing(api.Delete(s.ctx, "acme", "app")) })},
	{name: "restore a package", prep: func(s *scene) {
		withSmall(s)
		s.mustAPI(func(api *packages.Client) error { return api.Delete(s.t.Context(), "acme", "app") })
	}, do: atAPI(func(s *scene, api *packages.Client) (string, error) {
		return nothing(api.Restore(s.ctx, "acme", "app"))
	})},
	{name: "who am I", do: atAPI(func(s *scene, api *packages.Client) (string, error) {
		me, err := api.WhoAmI(s.ctx)
		if err != nil {
			return "", err
		}
		page, err := api.SettingsURL(s.ctx, "acme", "app")
		return me.Login + " " + page, err
	})},
	{name: "rate limits", do: atAPI(func(s *scene, api *packages.Client) (int, error) {
		list, err := api.RateLimits(s.ctx)
		return len(list), err
	})},
	{name: "inspect the token", do: atAPI(func(s *scene, api *packages.Client) (int, error) {
		list, err := api.Inspect(s.ctx)
		return len(list), err
	})},
	{name: "a call of one's own", open: true, do: atAPI(func(s *scene, api *packages.Client) (string, error) {
		resp, err := api.Call(s.ctx, http.MethodGet, "/orgs/acme/docker/conflicts", nil)
		if err != nil {
			return "", err
		}
		return content(resp.Body, nil)
	})},
}

func listReferrers(s *scene, repo *registry.Repository) (int, error) {
	list, err := repo.Referrers(s.ctx, family.Digest())
	return len(list), err
}

func listInventory(s *scene) (any, error) {
	inv, err := s.client.Inventory(s.ctx, s.ref("acme/app"))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, v := range inv.Versions {
		if v.Unreadable != nil {
			return nil, v.Unreadable // it is said, and nothing is taken for unused
		}
		list = append(list, fmt.Sprint(v.Digest(), v.Tags, v.Node.Role(), v.Node.Reach))
	}
	slices.Sort(list)
	return list, nil
}

// deleteV1 deletes an image by a plan that is as expected: what could not be read stays,
// and so does what it lists.
func deleteV1(ref string, items int) func(*scene) (any, error) {
	return func(s *scene) (any, error) {
		s.path = filepath.Join(s.t.TempDir(), "undo")
		plan, err := s.client.PlanDelete(s.ctx, ghcr.DeleteOptions{Undo: s.path}, s.ref(ref))
		if err != nil {
			return nil, err
		}
		if len(plan.Items) != items {
			return nil, fmt.Errorf("%s: the plan is of %d: %w", ref, len(plan.Items), ghcr.ErrConflict)
		}
		return deleted(plan.Apply(s.ctx))
	}
}

// restoreIt brings back what a deletion took that was broken off.
func restoreIt(s *scene) error {
	u, err := ghcr.ReadUndo(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it had not begun
	}
	if err == nil {
		_, err = s.client.Restore(s.ctx, s.ref(u.Image), ghcr.RestoreOptions{Undo: u})
	}
	return err
}

// untagOld may find that an earlier run has done it.
func untagOld(ref string) func(*scene) (any, error) {
	return func(s *scene) (any, error) {
		_, err := s.client.Untag(s.ctx, ghcr.UntagOptions{IgnoreMissing: s.again}, s.ref(ref))
		return "", err
	}
}

// deletedV1 deletes v1 and keeps what undoes it.
func (s *scene) deletedV1() {
	s.path = filepath.Join(s.t.TempDir(), "undo")
	if _, err := s.delete(ghcr.DeleteOptions{Undo: s.path}, "acme/app:v1"); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) mustAPI(do func(*packages.Client) error) {
	api, err := s.client.Packages()
	if err == nil {
		err = do(api)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// endedPush leaves the upload of a layer half done, in the journal of the next client.
func endedPush(s *scene) {
	laid(small)(s)
	repo, err := s.client.Repository(s.ref("acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 3000},
		ghcrtest.Fault{Route: ghcrtest.RouteUploadStatus, Do: func(*ghcrtest.Server) { cancel() }, Delay: time.Minute})
	layer := ghcrtest.RandomLayer(1, 5000)
	if _, err := repo.PutBlob(ctx, small.Manifest.Layers[0], nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layer[offset:])), nil
	}); err == nil {
		s.t.Fatal("the push was not ended")
	}
}
