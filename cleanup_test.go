package ghcr_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// The tests here are of what went wrong with other tools that clean up on GHCR.

// as has the sandbox go on with another token.
func (s *sandbox) as(token string) {
	s.t.Helper()
	client, err := ghcr.New(ghcr.Options{
		Base: s.server.Transport(), CacheDir: s.t.TempDir(),
		Credentials: transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
			return transport.Credential{Username: "anybody", Password: transport.NewSecret(token), Source: "the test"}, nil
		}),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = client
}

func (s *sandbox) untag(refs ...string) (*ghcr.Untagging, error) {
	s.t.Helper()
	return s.client.Untag(s.t.Context(), ghcr.UntagOptions{}, s.refs(refs...)...)
}

// writes are the requests that changed something, or tried to.
func (s *sandbox) writes() (list []ghcrtest.Request) {
	for _, r := range s.log() {
		if r.Method != "GET" && r.Method != "HEAD" {
			list = append(list, r)
		}
	}
	return list
}

func late(d time.Duration) *ghcrtest.Quirks {
	q := ghcrtest.GHCR()
	q.RESTStaleness = d
	return &q
}

// TestTaggedChildSurvivesItsIndex: a child that has a tag of its own was deleted with
// its index, although it was excluded.
func TestTaggedChildSurvivesItsIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child := image(1, 1)
		s.add("acme/app", "v1", ghcrtest.NewIndex(child, image(2, 1)))
		s.add("acme/app", "v1-amd64", child)
		plan, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app:v1"))
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Kept) != 1 || plan.Kept[0].Digest != child.Digest() || plan.Kept[0].Why != "has the tag v1-amd64" {
			t.Errorf("kept %+v", plan.Kept)
		}
		if _, err := plan.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "v1-amd64", child)
	})
}

// TestUntagDoesNotLookForTheTag: with a list that comes late, the version that has the
// tag is still the image. It was deleted, with all its tags.
func TestUntagDoesNotLookForTheTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(10 * time.Second)})
		img := image(1, 1)
		s.add("acme/app", "prod", img)
		s.add("acme/app", "pr-1", img)
		time.Sleep(time.Minute)
		if _, err := s.untag("acme/app:pr-1"); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "prod", img)
		if d := s.resolves("acme/app", "pr-1"); d != "" {
			t.Errorf("pr-1 is on %s", d)
		}
		time.Sleep(time.Minute)
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
	})
}

// TestUntagBatchSharesOneWait: many tags are no more waits than one.
func TestUntagBatchSharesOneWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(5 * time.Second)})
		s.add("acme/app", "stays", image(1, 1))
		var refs []string
		for _, tag := range []string{"a", "b", "c", "d", "e", "f"} {
			s.add("acme/app", tag, image(1, 1))
			refs = append(refs, "acme/app:"+tag)
		}
		time.Sleep(time.Minute)
		s.server.ResetRequests()
		begun := time.Now()
		if _, err := s.untag(refs...); err != nil {
			t.Fatal(err)
		}
		lists := 0
		for _, r := range s.log() {
			if r.Route == ghcrtest.RouteVersions {
				lists++
			}
		}
		if took := time.Since(begun); took > 20*time.Second || lists > 6 {
			t.Errorf("took %s and %d lists", took, lists)
		}
	})
}

// TestUntagThatIsNotShownInTime leaves the image as it was, and the next run ends it.
func TestUntagThatIsNotShownInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(5 * time.Minute)})
		img := image(1, 1)
		s.add("acme/app", "prod", img)
		s.add("acme/app", "pr-1", img)
		time.Sleep(time.Hour)
		undo := t.TempDir() + "/undo"
		result, err := s.client.Untag(t.Context(), ghcr.UntagOptions{Undo: undo}, s.ref("acme/app:pr-1"))
		var pending *ghcr.PendingError
		if !errors.As(err, &pending) || result.Items[0].Outcome != ghcr.Pending || !strings.Contains(ghcr.Hint(err), "again") {
			t.Fatalf("%+v: %v", result, err)
		}
		s.holds("acme/app", "prod", img)
		s.holds("acme/app", "", img)
		time.Sleep(time.Hour)
		if _, err := s.untag("acme/app:pr-1"); err != nil {
			t.Fatal(err)
		}
		if d := s.resolves("acme/app", "pr-1"); d != "" {
			t.Errorf("pr-1 is on %s", d)
		}
		s.holds("acme/app", "prod", img)
		time.Sleep(time.Hour)
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
		u, err := ghcr.ReadUndo(undo)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.Restore(t.Context(), s.ref("acme/app"), ghcr.RestoreOptions{Undo: u}); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "pr-1", img)
	})
}

// TestUntagPutsTheTagBack where the deletion is refused: a run that ends half-way
// leaves the tag on an empty manifest.
func TestUntagPutsTheTagBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", img)
		s.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", Status: 400, Body: `{"message":"You cannot delete the last tagged version of a package. You must delete the package instead."}`})
		result, err := s.untag("acme/app:v2")
		if !errors.Is(err, packages.LastTagged) || result.Items[0].Outcome != ghcr.Blocked {
			t.Errorf("%+v: %v", result, err)
		}
		s.holds("acme/app", "v2", img)
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
	})
}

// TestUntagWithoutTheScope begins nothing that it can't end.
func TestUntagWithoutTheScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: "ghp_dev", Scopes: []string{"write:packages"}}}})
		s.as("ghp_dev")
		img := image(1, 1)
		s.add("dev/app", "v1", img)
		s.add("dev/app", "v2", img)
		_, err := s.untag("dev/app:v2")
		if !errors.Is(err, packages.MissingScope) || !strings.Contains(ghcr.Hint(err), "delete:packages") {
			t.Errorf("%v, hint %q", err, ghcr.Hint(err))
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
		s.holds("dev/app", "v2", img)
	})
}

// TestUntagWithoutTheRole shows only when it is tried, as a 404. The tag is then on its
// image again.
func TestUntagWithoutTheRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Role: "write"}}})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", img)
		s.as("ghp_dev")
		result, err := s.untag("acme/app:v2")
		if !errors.Is(err, packages.NoPermission) || !strings.Contains(err.Error(), "was put back") {
			t.Errorf("%+v: %v", result, err)
		}
		s.holds("acme/app", "v2", img)
	})
}

// TestNestedIndexes: the leaf of an inner index was taken for unused.
func TestNestedIndexes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		leaf := image(1, 1)
		inner := ghcrtest.NewIndex(leaf)
		outer := ghcrtest.NewIndex(ghcrtest.NewIndex(inner), image(2, 1))
		s.add("acme/app", "v1", outer)
		s.add("acme/app", "old", ghcrtest.NewIndex(leaf, image(3, 1)))
		s.add("acme/app", "stays", image(4, 1))
		for _, d := range []oci.Digest{leaf.Digest(), inner.Digest()} {
			_, err := s.delete(ghcr.DeleteOptions{}, "acme/app@"+d.String())
			var needed *ghcr.NeededError
			if !errors.As(err, &needed) || len(needed.Indexes) == 0 {
				t.Errorf("%s: %v", d, err)
			}
		}
		if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app:old"); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "v1", outer)
		if result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil || len(result.Items) != 5 {
			t.Errorf("deleted %+v, %v", result, err)
		}
	})
}

// TestSignaturesOfSignatures go with what they are about, however far away.
func TestSignaturesOfSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child := image(1, 1)
		index := ghcrtest.NewIndex(child)
		sbom := ghcrtest.Refer(child, "application/spdx+json", "{}")
		signature := ghcrtest.Sign(ghcrtest.Sign(sbom))
		s.add("acme/app", "v1", index)
		s.add("acme/app", "v2", image(2, 1))
		if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil {
			t.Fatal(err)
		}
		for _, img := range []*ghcrtest.Image{child, index, sbom, signature} {
			if s.resolves("acme/app", img.Digest().String()) != "" {
				t.Errorf("%s is left", img.Digest())
			}
		}
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			t.Errorf("%d versions are left", n)
		}
	})
}

// TestKeepReferrers leaves what refers to an image.
func TestKeepReferrers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		signature := ghcrtest.Sign(img)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", image(2, 1))
		if result, err := s.delete(ghcr.DeleteOptions{KeepReferrers: true}, "acme/app:v1"); err != nil || len(result.Items) != 1 {
			t.Errorf("deleted %+v, %v", result, err)
		}
		s.holds("acme/app", "", signature)
	})
}

// TestPlansChangeNothing: a preview deleted.
func TestPlansChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", ghcrtest.NewIndex(image(1, 1)))
		s.add("acme/app", "v2", image(2, 1))
		if _, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{AllTags: true}, s.ref("acme/app:v1")); err != nil {
			t.Error(err)
		}
		plan, err := s.client.PlanUntag(t.Context(), ghcr.UntagOptions{}, s.ref("acme/app:v1"))
		if err != nil || plan.Items[0].Digest != s.resolves("acme/app", "v1") {
			t.Errorf("%+v, %v", plan, err)
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
	})
}

// TestUnreadableManifestListsAnything: "manifest unknown" was taken for "no children",
// and the children of an index deleted.
func TestUnreadableManifestListsAnything(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"absent":  {Status: http.StatusNotFound, Body: `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`},
		"corrupt": {Corrupt: true, ResponseBytes: 20},
		"500":     {Status: http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				child := image(1, 1)
				index := ghcrtest.NewIndex(child)
				s.add("acme/app", "", index) // no tag leads to it
				s.add("acme/app", "child", child)
				s.add("acme/app", "v2", image(2, 1))
				fault.Route, fault.Method, fault.Ref, fault.Times = ghcrtest.RouteManifest, "GET", index.Digest().String(), -1
				s.server.Inject(fault)
				inv := s.inventory("acme/app")
				if u := inv.Unreadable(); len(u) != 1 || u[0].Digest() != index.Digest() || u[0].Unreadable == nil {
					t.Errorf("unreadable %+v", u)
				}
				if reach := inv.Version(index.Digest()).Node.Reach; reach != oci.ReachUnknown {
					t.Errorf("its use is said to be %s", reach)
				}
				_, err := s.delete(ghcr.DeleteOptions{}, "acme/app:child")
				var needed *ghcr.NeededError
				if !errors.As(err, &needed) || !slices.Equal(needed.Unread, []oci.Digest{index.Digest()}) {
					t.Errorf("error %v", err)
				}
				s.holds("acme/app", "child", child)
				// Named together with it, it is known not to stay.
				if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app:child", "acme/app@"+index.Digest().String()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestLastTagged: the refusal failed a whole run. It is known before.
func TestLastTagged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "", image(2, 1))
		_, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
		if !errors.Is(err, packages.LastTagged) || ghcr.Hint(err) == "" {
			t.Errorf("error %v", err)
		}
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
	})
}

// TestBlockedItemsDoNotEndTheRun: a version with too many downloads, or what GitHub
// takes for the last tagged, failed everything after it.
func TestBlockedItemsDoNotEndTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Public: []string{"acme/app"}})
		popular := ghcrtest.NewIndex(image(1, 1))
		ghcrtest.Sign(popular)
		s.add("acme/app", "v1", popular)
		s.add("acme/app", "v2", image(2, 1))
		s.add("acme/app", "v3", image(3, 1))
		if err := s.server.SetDownloads("acme/app", "v1", 5001); err != nil {
			t.Fatal(err)
		}
		result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1", "acme/app:v2")
		var partial *ghcr.PartialError
		if !errors.As(err, &partial) || !errors.Is(err, packages.TooManyDownloads) || partial.Done != 1 {
			t.Fatalf("error %v", err)
		}
		for _, item := range result.Items {
			want := ghcr.Skipped // its child and signature stay with it
			switch {
			case item.Digest == popular.Digest():
				want = ghcr.Blocked
			case slices.Contains(item.Tags, "v2"):
				want = ghcr.Done
			}
			if item.Outcome != want {
				t.Errorf("%s %v: %s, want %s", item.Role, item.Tags, item.Outcome, want)
			}
		}
		s.holds("acme/app", "v1", popular)
	})
}

// TestMissingPermissionIsNotSuccess: the 404 of a token that may not delete was
// counted as a deletion.
func TestMissingPermissionIsNotSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "dev", Token: "ghp_dev", Owners: []string{"acme"}, Role: "write"}}})
		img := ghcrtest.NewIndex(image(1, 1))
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", image(2, 1))
		s.as("ghp_dev")
		result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
		if !errors.Is(err, packages.NoPermission) || errors.Is(err, ghcr.ErrNotFound) {
			t.Fatalf("error %v", err)
		}
		if result.Items[0].Outcome != ghcr.Failed || result.Items[1].Outcome != ghcr.Skipped {
			t.Errorf("%+v", result.Items)
		}
		if w := s.writes(); len(w) != 1 {
			t.Errorf("the run went on: %+v", w)
		}
		s.holds("acme/app", "v1", img)
	})
}

// TestDeletionThatWasAnswered500 is asked about, not counted as failed or done again.
func TestDeletionThatWasAnswered500(t *testing.T) {
	for _, served := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			s.add("acme/app", "v1", image(1, 1))
			s.add("acme/app", "v2", image(2, 1))
			s.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: "DELETE", Times: 1, Served: served, Status: 500})
			if result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil || result.Items[0].Outcome != ghcr.Done {
				t.Errorf("%+v: %v", result, err)
			}
		})
	}
}

// TestAlreadyGone: what somebody else deleted after it was planned is no failure, and
// what was only its part goes on.
func TestAlreadyGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(time.Minute)})
		index := ghcrtest.NewIndex(image(1, 1))
		s.add("acme/app", "v1", index)
		s.add("acme/app", "v2", image(2, 1))
		time.Sleep(time.Hour)
		plan, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app:v1"))
		if err != nil {
			t.Fatal(err)
		}
		api, _ := s.client.Packages()
		if err := api.DeleteVersion(t.Context(), "acme", "app", plan.Items[0].Version); err != nil {
			t.Fatal(err)
		}
		result, err := plan.Apply(t.Context())
		if err != nil || result.Items[0].Outcome != ghcr.AlreadyGone || result.Items[1].Outcome != ghcr.Done {
			t.Errorf("%+v: %v", result, err)
		}
	})
}

// TestChangedSincePlanned: a tag that moved, a tag that came, and a parent that came
// between the plan and its execution leave everything as it is.
func TestChangedSincePlanned(t *testing.T) {
	img := ghcrtest.NewIndex(image(1, 1), image(2, 1))
	for name, change := range map[string]func(s *sandbox){
		"tag moved":         func(s *sandbox) { s.add("acme/app", "v1", image(7, 1)) },
		"tag came":          func(s *sandbox) { s.add("acme/app", "prod", img) },
		"parent came":       func(s *sandbox) { s.add("acme/app", "all", ghcrtest.NewIndex(img)) },
		"parent of a child": func(s *sandbox) { s.add("acme/app", "all", ghcrtest.NewIndex(img.Children[0])) },
		"parent by a move":  func(s *sandbox) { s.add("acme/app", "v2", ghcrtest.NewIndex(img.Children[0])) },
		"child tagged":      func(s *sandbox) { s.add("acme/app", "part", img.Children[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{Quirks: late(time.Minute)})
				s.add("acme/app", "v1", img)
				s.add("acme/app", "v2", image(3, 1))
				s.add("acme/app", "stays", image(4, 1))
				time.Sleep(time.Hour)
				plan, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app:v1"))
				if err != nil {
					t.Fatal(err)
				}
				change(s)
				if _, err := plan.Apply(t.Context()); !errors.Is(err, ghcr.ErrConflict) {
					t.Errorf("error %v", err)
				}
				if w := s.writes(); len(w) != 0 {
					t.Errorf("sent %+v", w)
				}
				s.holds("acme/app", "", img)
			})
		})
	}
}

// TestStagingTagsOfAReleasedImage: deleting a staging tag took the release along.
func TestStagingTagsOfAReleasedImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(time.Minute)})
		img := ghcrtest.NewIndex(image(1, 1))
		s.add("acme/app", "v3.2.2-unsigned", img)
		s.add("acme/app", "other", image(2, 1))
		time.Sleep(time.Hour)
		s.add("acme/app", "v3.2.2", img) // the list does not show it yet
		_, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v3.2.2-unsigned")
		var tags *ghcr.TagsError
		if !errors.As(err, &tags) || !slices.Equal(tags.Tags, []string{"v3.2.2"}) {
			t.Fatalf("error %v", err)
		}
		if _, err := s.untag("acme/app:v3.2.2-unsigned"); err != nil {
			t.Error(err)
		}
		s.holds("acme/app", "v3.2.2", img)
	})
}

// TestNamesWithSlashes are one segment of the API's paths.
func TestNamesWithSlashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/tools/go/lint", "v1", image(1, 1))
		s.add("acme/tools/go/lint", "v2", image(2, 1))
		s.add("acme/tools/go/lint", "v3", image(2, 1))
		if _, err := s.delete(ghcr.DeleteOptions{}, "Acme/Tools/go/lint:v1"); err != nil {
			t.Error(err)
		}
		if _, err := s.untag("acme/tools/go/lint:v3"); err != nil {
			t.Error(err)
		}
		s.holds("acme/tools/go/lint", "v2", image(2, 1))
	})
}

// TestDeleteWhatWasJustPushed waits for the list to show it.
func TestDeleteWhatWasJustPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Quirks: late(10 * time.Second)})
		s.add("acme/app", "stays", image(1, 1))
		time.Sleep(time.Hour)
		s.add("acme/app", "v1", ghcrtest.NewIndex(image(2, 1)))
		if result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil || len(result.Items) != 2 {
			t.Errorf("%+v: %v", result, err)
		}
		s.add("acme/app", "v2", image(3, 1))
		_, err := s.delete(ghcr.DeleteOptions{Wait: time.Second}, "acme/app:v2")
		var unlisted *ghcr.UnlistedError
		if !errors.As(err, &unlisted) {
			t.Errorf("error %v", err)
		}
	})
}

// TestUnreadableIndexSaysWhatIsLeft: an index that could not be read was deleted by its
// digest, and nothing said that its parts were left.
func TestUnreadableIndexSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child, tagged, used := image(1, 1), image(2, 1), image(4, 1)
		broken := ghcrtest.NewIndex(child, tagged, used)
		s.add("acme/app", "", broken)
		s.add("acme/app", "tagged", tagged)
		s.add("acme/app", "v2", ghcrtest.NewIndex(used, image(3, 1)))
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Method: "GET", Ref: broken.Digest().String(), Status: 404, Times: -1})
		plan, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app@"+broken.Digest().String()))
		if err != nil || plan.Err() != nil {
			t.Fatal(err, plan.Err())
		}
		if len(plan.Items) != 1 || !errors.Is(plan.Items[0].Unread, ghcr.ErrNotFound) || !slices.Equal(plan.Orphaned, []oci.Digest{child.Digest()}) {
			t.Errorf("plan %+v, orphaned %v, want %s", plan.Items, plan.Orphaned, child.Digest())
		}
		if result, err := plan.Apply(t.Context()); err != nil || result.Items[0].Unread == nil {
			t.Errorf("%+v: %v", result, err)
		}
		s.holds("acme/app", "", child)
		whole, err := s.client.PlanDelete(t.Context(), ghcr.DeleteOptions{}, s.ref("acme/app:v2"))
		if err != nil || len(whole.Orphaned) != 0 || whole.Items[0].Unread != nil {
			t.Errorf("of what was read: %+v, %v", whole, err)
		}
	})
}
