package ghcr_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// mirror is a repository of the emulator that the client takes for another registry's.
const mirror = "mirror.example.com/acme/app"

func newMirror(t *testing.T) *sandbox {
	q := ghcrtest.Spec()
	return newSandbox(t, ghcrtest.Options{Quirks: &q, Open: true})
}

// TestDeleteOnOtherRegistries, which delete by digest and list no versions.
func TestDeleteOnOtherRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMirror(t)
		shared, own := image(1, 1), image(2, 1)
		doomed, kept := ghcrtest.NewIndex(shared, own), ghcrtest.NewIndex(shared)
		sbom := ghcrtest.Refer(doomed, "application/spdx+json", "{}")
		s.add("acme/app", "v1", doomed)
		s.add("acme/app", "latest", doomed)
		s.add("acme/app", "v2", kept)
		var tags *ghcr.TagsError
		if _, err := s.delete(ghcr.DeleteOptions{}, mirror+":v1"); !errors.As(err, &tags) {
			t.Fatalf("error %v", err)
		}
		undo := t.TempDir() + "/undo"
		result, err := s.delete(ghcr.DeleteOptions{AllTags: true, Undo: undo}, mirror+":v1")
		if err != nil {
			t.Fatal(err)
		}
		for _, img := range []*ghcrtest.Image{doomed, own, sbom} {
			if s.resolves(mirror, img.Digest().String()) != "" {
				t.Errorf("%s is left", img.Digest())
			}
		}
		s.holds("acme/app", "v2", kept)
		for _, r := range s.log() {
			if r.Role == ghcrtest.RoleAPI {
				t.Errorf("asked the API: %s", r.Path)
			}
		}
		back, err := s.client.Restore(t.Context(), s.ref(mirror), ghcr.RestoreOptions{Undo: s.undo(undo)})
		if err != nil || len(back) != len(result.Items) {
			t.Errorf("%+v: %v", back, err)
		}
		s.holds("acme/app", "v1", doomed)
		s.holds("acme/app", "latest", doomed)
		if _, err := s.client.Inventory(t.Context(), s.ref(mirror)); !errors.Is(err, ghcr.ErrUnsupported) {
			t.Errorf("inventory: %v", err)
		}
	})
}

// TestUntagOnOtherRegistries is one DELETE.
func TestUntagOnOtherRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMirror(t)
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", img)
		if _, err := s.untag(mirror + ":v2"); err != nil {
			t.Fatal(err)
		}
		if w := s.writes(); len(w) != 1 || w[0].Method != "DELETE" {
			t.Errorf("sent %+v", w)
		}
		s.holds("acme/app", "v1", img)
		if _, err := s.untag(mirror + ":v1"); err != nil {
			t.Errorf("the last tag: %v", err)
		}
		s.holds("acme/app", "", img)
	})
}

// TestUntagByMoving puts the tag on an image that the user names.
func TestUntagByMoving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		bad, good := image(1, 1), image(2, 1)
		s.add("acme/app", "latest", bad)
		s.add("acme/app", "v1", good)
		to := oci.Reference{Tag: "v1"}
		if _, err := s.client.Untag(t.Context(), ghcr.UntagOptions{To: to}, s.ref("acme/app:latest")); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "latest", good)
		s.holds("acme/app", "", bad)
	})
}

// TestRetag is the same image under one more name, and tells what had it.
func TestRetag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		old, new := image(1, 1), image(2, 1)
		s.add("acme/app", "prod", old)
		s.add("acme/app", "v2", new)
		result, err := s.client.Retag(t.Context(), s.ref("acme/app:v2"), "prod")
		if err != nil || result != (ghcr.Retagged{Digest: new.Digest(), Before: old.Digest()}) {
			t.Errorf("%+v, %v", result, err)
		}
		for _, tag := range []string{"prod", "v2"} {
			s.holds("acme/app", tag, new)
		}
		s.holds("acme/app", "", old)
		if n := len(s.inventory("acme/app").Versions); n != 2 {
			t.Errorf("%d versions", n)
		}
		if _, err := s.client.Retag(t.Context(), s.ref("acme/app:v3"), "prod"); !errors.Is(err, ghcr.ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		s.holds("acme/app", "prod", new)
		// Somebody else moves the tag right after it was put.
		s.server.Inject(
			ghcrtest.Fault{Method: "HEAD", Ref: "prod", After: 1, Do: func(*ghcrtest.Server) { s.add("acme/app", "prod", image(3, 1)) }})
		var changed *ghcr.ChangedError
		if _, err := s.client.Retag(t.Context(), s.ref("acme/app@"+old.Digest().String()), "prod"); !errors.As(err, &changed) {
			t.Errorf("moved by another: %v", err)
		}
	})
}

// TestPromote copies what the tag named when it began, though it moves meanwhile.
func TestPromote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		tested := ghcrtest.NewIndex(image(1, 1), image(2, 1))
		signature := ghcrtest.Sign(tested)
		s.add("acme/staging", "v1", tested)
		s.server.Inject(ghcrtest.Fault{Method: "GET", Do: func(*ghcrtest.Server) { s.add("acme/staging", "v1", image(9, 1)) }})
		result, err := s.client.Promote(t.Context(), s.ref("acme/staging:v1"), s.ref("acme/prod:v1"), transfer.Options{Recursive: true})
		if err != nil || result.Descriptor.Digest != tested.Digest() {
			t.Errorf("%+v, %v", result, err)
		}
		if len(s.server.Faults()) != 1 {
			t.Error("the tag did not move meanwhile")
		}
		s.holds("acme/prod", "v1", tested)
		s.holds("acme/prod", "", signature)
		_, err = s.client.Promote(t.Context(), s.ref("acme/staging:v1@"+tested.Digest().String()), s.ref("acme/prod:v2"), transfer.Options{})
		if !errors.Is(err, ghcr.ErrConflict) || s.resolves("acme/prod", "v2") != "" {
			t.Errorf("a tag that moved before: %v", err)
		}
	})
}

// TestExists: no is only what is known to be no.
func TestExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{
			{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}}, {Login: "stranger", Token: "ghp_stranger", Owners: []string{"stranger"}},
		}})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.as("ghp_dev")
		for ref, want := range map[string]bool{"acme/app:v1": true, "acme/app:v2": false, "acme/app@" + img.Digest().String(): true} {
			if got, err := s.client.Exists(t.Context(), s.ref(ref)); got != want || err != nil {
				t.Errorf("%s: %v, %v", ref, got, err)
			}
		}
		s.server.Inject(ghcrtest.Fault{Status: 403, Body: `{"errors":[{"code":"DENIED","message":"denied"}]}`, Times: -1})
		if got, err := s.client.Exists(t.Context(), s.ref("acme/app:v1")); got || !errors.Is(err, ghcr.ErrDenied) {
			t.Errorf("not known: %v, %v", got, err)
		}
	})
}

// TestVisibility is what GitHub says and what a stranger can do.
func TestVisibility(t *testing.T) {
	for visibility, anonymous := range map[ghcrtest.Visibility]bool{ghcrtest.Public: true, ghcrtest.Private: false, ghcrtest.Internal: false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			s.add("acme/app", "v1", image(1, 1))
			if err := s.server.SetPackage(ghcrtest.Package{Name: "acme/app", Visibility: visibility}); err != nil {
				t.Fatal(err)
			}
			v, err := s.client.Visibility(t.Context(), s.ref("acme/app"))
			if err != nil || string(v.Stated) != string(visibility) || v.Anonymous != anonymous || v.Settings != "https://github.com/orgs/acme/packages/container/app/settings" {
				t.Errorf("%+v, %v", v, err)
			}
			for ref, want := range map[string]bool{"acme/app:v1": anonymous, "acme/app": anonymous} {
				s.server.ResetRequests()
				if got, err := s.client.AnonymousPull(t.Context(), s.ref(ref)); got != want || err != nil {
					t.Errorf("%s: %v, %v", ref, got, err)
				}
				if log := s.log(); log[0].Credential == "token" || log[0].Credential == "basic" {
					t.Errorf("asked with a login: %+v", log[0])
				}
			}
			if _, err := s.client.AnonymousPull(t.Context(), s.ref("acme/app:none")); !errors.Is(err, ghcr.ErrNotFound) {
				t.Errorf("of nothing: %v", err)
			}
			s.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleRegistry, Status: 503, Times: -1})
			if _, err := s.client.AnonymousPull(t.Context(), s.ref("acme/app:v1")); err == nil {
				t.Error("what is not known was reported")
			}
			api, err := s.client.Packages()
			if err != nil {
				t.Fatal(err)
			}
			if err := api.SetVisibility(t.Context(), "acme", "app", "public"); visibility != ghcrtest.Public && !(errors.Is(err, packages.NotInAPI) && errors.Is(err, ghcr.ErrUnsupported)) {
				t.Errorf("set: %v", err)
			}
		})
	}
}

// TestSize counts what is shared once.
func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		base := ghcrtest.RandomLayer(1, 10_000)
		amd, arm := ghcrtest.NewImage("linux/amd64", base, ghcrtest.RandomLayer(2, 2000)), ghcrtest.NewImage("linux/arm64", base, ghcrtest.RandomLayer(3, 3000))
		s.add("acme/app", "v1", ghcrtest.Attested(amd, arm))
		s.add("acme/app", "v2", ghcrtest.NewImage("linux/amd64", base))
		size, err := s.client.Size(t.Context(), s.ref("acme/app:v1"))
		if err != nil {
			t.Fatal(err)
		}
		if size.Shared < 10_000 || size.Shared >= 11_000 || len(size.Parts) != 4 || size.Parts[0].Name != "linux/amd64" || size.Blobs[0].Parts != 2 {
			t.Errorf("%+v", size)
		}
		var unique int64
		for _, p := range size.Parts {
			unique += p.Unique
		}
		if unique+size.Shared != size.Total {
			t.Errorf("%d unique and %d shared are not %d", unique, size.Shared, size.Total)
		}
		whole := s.inventory("acme/app").Size()
		if len(whole.Parts) != 2 || whole.Blobs[0].Parts != 2 || whole.Total <= size.Total {
			t.Errorf("the package: %+v", whole)
		}
	})
}

// TestManifestCacheIsNotTrusted: what is kept is checked whenever it is read.
func TestManifestCacheIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := ghcrtest.NewIndex(image(1, 1))
		s.add("acme/app", "v1", img)
		cache := t.TempDir()
		s.client = s.newClient(cache)
		s.inventory("acme/app")
		files, _ := filepath.Glob(filepath.Join(cache, "manifests", "*", "*"))
		if len(files) != 2 {
			t.Fatalf("kept %q", files)
		}
		for _, file := range files {
			if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s", file, info.Mode())
			}
			if err := os.WriteFile(file, []byte("application/vnd.oci.image.index.v1+json\n{\"schemaVersion\":2,\"manifests\":[]}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.client = s.newClient(cache)
		s.server.ResetRequests()
		inv := s.inventory("acme/app")
		if v := inv.Version(img.Digest()); len(v.Node.Children) != 1 {
			t.Error("the false index was believed")
		}
		if _, _, _, manifests := counts(s.log()); manifests != 2 {
			t.Errorf("%d manifests were fetched again", manifests)
		}
	})
}
