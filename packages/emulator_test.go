package packages_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// The accounts of the emulator, by their tokens.
var accounts = []ghcrtest.Account{
	{Login: "alice", Token: "ghp_alice"},
	{Login: "bob", Token: "ghp_bob", Role: "read"},
	{Login: "alice", Token: "ghp_reader", Scopes: []string{"read:packages"}},
	{Login: "alice", Token: "ghp_none", Scopes: []string{"repo"}},
	{Login: "carol", Token: "ghp_stranger", Owners: []string{"carol"}},
	{Login: "alice", Token: "github_pat_alice"},
	{Login: "ci", Token: "ghs_ci", Scopes: []string{"write:packages"}, Repository: "acme/source"},
	{Login: "app", Token: "ghs_app"},
}

// world is an emulated GitHub and a client of it.
type world struct {
	t   *testing.T
	ctx context.Context
	*ghcrtest.Server
	base http.RoundTripper
	dir  string
	opts transport.Options
}

// simulate runs a test in virtual time with an emulator that has these accounts.
func simulate(t *testing.T, change func(*ghcrtest.Quirks), test func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		if change != nil {
			change(&quirks)
		}
		s, err := ghcrtest.New(ghcrtest.Options{
			Quirks: &quirks, Accounts: accounts, Seed: 1, Owners: []ghcrtest.Owner{
				{Login: "acme", Kind: "Organization"}, {Login: "strict", Forbids: "classic"}, {Login: "secure", Forbids: "unauthorized"},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(&world{t: t, ctx: t.Context(), Server: s, base: s.Transport(), dir: dir})
	})
}

// client returns a client with these tokens.
func (w *world) client(tokens ...string) *packages.Client {
	w.t.Helper()
	var list []transport.Credential
	for _, token := range tokens {
		list = append(list, transport.Credential{Password: transport.NewSecret(token), Source: "TOKEN"})
	}
	opts := w.opts
	opts.Base, opts.Credentials = w.base, transport.Pool{"api.github.com": list}
	tc, err := transport.New(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := packages.New(tc, packages.Options{CacheDir: w.dir})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// add puts images under tags; an empty tag is an untagged one.
func (w *world) add(repo string, tags ...string) {
	w.t.Helper()
	for i, tag := range tags {
		image := ghcrtest.NewImage("linux/amd64", []byte(repo+tag+fmt.Sprint(i)))
		if err := w.Add(repo, tag, image); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
}

func (w *world) set(p ghcrtest.Package) {
	w.t.Helper()
	if err := w.SetPackage(p); err != nil {
		w.t.Fatal(err)
	}
}

// version finds a version by its tag.
func (w *world) version(owner, name, tag string) packages.PackageVersion {
	w.t.Helper()
	for v, err := range w.client("ghp_alice").Versions(w.ctx, owner, name, packages.Active) {
		if err != nil {
			w.t.Fatal(err)
		}
		if slices.Contains(v.Tags, tag) {
			return v
		}
	}
	w.t.Fatalf("no version of %s/%s has the tag %s", owner, name, tag)
	return packages.PackageVersion{}
}

// wantReason checks why something was refused.
func (w *world) wantReason(what string, err error, reason packages.Reason, class error) {
	w.t.Helper()
	var e *packages.Error
	if !errors.As(err, &e) || e.Reason != reason || !errors.Is(err, reason) || !errors.Is(err, class) {
		w.t.Errorf("%s: got %v, want %q", what, err, reason)
		return
	}
	for _, other := range []error{oci.ErrNotFound, transport.ErrDenied, transport.ErrUnauthorized, transport.ErrConflict, transport.ErrRateLimited, transport.ErrUnsupported} {
		if other != class && errors.Is(err, other) {
			w.t.Errorf("%s: %v is %v too", what, err, other)
		}
	}
	for _, a := range accounts {
		if strings.Contains(err.Error(), a.Token) {
			w.t.Errorf("%s: %v shows a token", what, err)
		}
	}
}

// TestLifeOfAVersion: list, get, delete, find out that it is gone, restore.
func TestLifeOfAVersion(t *testing.T) {
	simulate(t, nil, func(w *world) {
		for _, of := range []struct{ repo, owner, name string }{
			{"acme/app", "acme", "app"},
			{"acme/tools/lint", "Acme", "tools/lint"}, // a name of two segments
			{"alice/own", "alice", "own"},             // one's own, private
			{"bob/shared", "bob", "shared"},           // another user's
		} {
			w.add(of.repo, "v1", "v2", "v3")
			c := w.client("ghp_alice")
			all, err := c.AllVersions(w.ctx, of.owner, of.name, packages.Active)
			if err != nil || len(all) != 3 || !slices.Equal(all[0].Tags, []string{"v3"}) || all[0].Metadata.Visibility != packages.Private {
				t.Fatalf("%s: %+v, %v", of.repo, all, err)
			}
			id := all[2].ID
			v, err := c.Version(w.ctx, of.owner, of.name, id)
			if err != nil || v.Digest() != all[2].Digest() || v.Digest().Validate() != nil {
				t.Errorf("%s: %+v, %v", of.repo, v, err)
			}
			if err := c.DeleteVersion(w.ctx, of.owner, of.name, id); err != nil {
				t.Errorf("%s: %v", of.repo, err)
			}
			w.wantReason("delete again", c.DeleteVersion(w.ctx, of.owner, of.name, id), packages.Gone, oci.ErrNotFound)
			deleted, err := c.AllVersions(w.ctx, of.owner, of.name, packages.Deleted)
			if err != nil || len(deleted) != 1 || deleted[0].ID != id || deleted[0].DeletedAt.IsZero() {
				t.Errorf("%s: deleted %+v, %v", of.repo, deleted, err)
			}
			for range 2 { // the second finds it there
				if err := c.RestoreVersion(w.ctx, of.owner, of.name, id); err != nil {
					t.Errorf("%s: %v", of.repo, err)
				}
			}
			w.wantReason("restore what never was", c.RestoreVersion(w.ctx, of.owner, of.name, 987654321), packages.NotDeleted, oci.ErrNotFound)
			if v, err := c.Version(w.ctx, of.owner, of.name, id); err != nil || !slices.Equal(v.Tags, []string{"v1"}) {
				t.Errorf("%s: restored %+v, %v", of.repo, v, err)
			}
		}
	})
}

func TestLifeOfAPackage(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "v1")
		w.add("acme/other", "v1")
		w.set(ghcrtest.Package{Name: "acme/other", Visibility: ghcrtest.Internal, Repository: "acme/source"})
		c := w.client("ghp_alice")
		list, err := c.List(w.ctx, "acme", packages.ListOptions{})
		if err != nil || len(list) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		for opts, want := range map[packages.ListOptions]string{
			{Visibility: packages.Internal}: "other", {Visibility: packages.Private}: "app",
			{Repository: "source"}: "other", {Repository: "Acme/Source"}: "other",
		} {
			if list, err := c.List(w.ctx, "acme", opts); err != nil || len(list) != 1 || list[0].Name != want {
				t.Errorf("%+v: %+v, %v", opts, list, err)
			}
		}
		before, err := c.Get(w.ctx, "acme", "app")
		if err != nil || before.Owner.Kind != packages.Organization || before.VersionCount != 1 {
			t.Errorf("%+v, %v", before, err)
		}
		if err := c.Delete(w.ctx, "acme", "app"); err != nil {
			t.Fatal(err)
		}
		w.wantReason("delete again", c.Delete(w.ctx, "acme", "app"), packages.Absent, oci.ErrNotFound)
		if err := c.Restore(w.ctx, "acme", "app"); err != nil {
			t.Fatal(err)
		}
		if after, err := c.Get(w.ctx, "acme", "app"); err != nil || after.ID != before.ID {
			t.Errorf("%+v, %v", after, err)
		}
		w.wantReason("restore what never was", c.Restore(w.ctx, "acme", "never"), packages.NotDeleted, oci.ErrNotFound)
	})
}

// TestRESTRestoreConflict: a name that is taken again cannot be restored, whatever
// status says so.
func TestRESTRestoreConflict(t *testing.T) {
	for _, status := range []int{400, 409, 422} {
		simulate(t, func(q *ghcrtest.Quirks) { q.RESTRestoreConflict = status }, func(w *world) {
			w.add("acme/app", "v1", "v2")
			c := w.client("ghp_alice")
			if err := c.Delete(w.ctx, "acme", "app"); err != nil {
				t.Fatal(err)
			}
			w.add("acme/app", "v3", "v4")
			// It is there, but it is another.
			id := w.version("acme", "app", "v3")
			if err := c.DeleteVersion(w.ctx, "acme", "app", id.ID); err != nil {
				t.Fatal(err)
			}
			if err := w.Add("acme/app", "v3", ghcrtest.NewImage("linux/amd64", []byte("acme/appv30"))); err != nil {
				t.Fatal(err)
			}
			w.wantReason("restore version", c.RestoreVersion(w.ctx, "acme", "app", id.ID), packages.NameTaken, transport.ErrConflict)
		})
	}
}

// TestRefusals: each way in which GitHub refuses has a reason of its own.
func TestRefusals(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "v1", "v2")
		w.add("acme/open", "v1", "v2")
		w.set(ghcrtest.Package{Name: "acme/open", Visibility: ghcrtest.Public, Downloads: 5001, Repository: "acme/source"})
		w.add("alice/own", "v1", "v2")
		app, open := w.version("acme", "app", "v1").ID, w.version("acme", "open", "v1").ID
		list := func(token string) error {
			_, err := w.client(token).List(w.ctx, "acme", packages.ListOptions{})
			return err
		}
		get := func(token string) error {
			_, err := w.client(token).Get(w.ctx, "acme", "app")
			return err
		}
		remove := func(token string, id int64) error {
			name := map[int64]string{app: "app", open: "open"}[id]
			return w.client(token).DeleteVersion(w.ctx, "acme", name, id)
		}
		w.wantReason("anonymous", func() error { _, err := w.client().Get(w.ctx, "acme", "open"); return err }(), packages.Unauthenticated, transport.ErrUnauthorized)
		w.wantReason("expired token", get("ghp_expired"), packages.Unauthenticated, transport.ErrUnauthorized)
		w.wantReason("no such package", func() error { _, err := w.client("ghp_alice").Get(w.ctx, "acme", "none"); return err }(), packages.Absent, oci.ErrNotFound)
		w.wantReason("private, of others", get("ghp_stranger"), packages.Absent, oci.ErrNotFound)
		w.wantReason("delete, private, of others", remove("ghp_stranger", app), packages.Absent, oci.ErrNotFound)
		w.wantReason("may only read", remove("ghp_bob", app), packages.NoPermission, transport.ErrDenied)
		w.wantReason("may only read, package", w.client("ghp_bob").Delete(w.ctx, "acme", "app"), packages.NoPermission, transport.ErrDenied)
		w.wantReason("list without scope", list("ghp_none"), packages.MissingScope, transport.ErrDenied)
		w.wantReason("delete without scope", remove("ghp_reader", app), packages.MissingScope, transport.ErrDenied)
		w.wantReason("list of a workflow", list("ghs_ci"), packages.WrongToken, transport.ErrDenied)
		w.wantReason("list of an app", list("ghs_app"), packages.WrongToken, transport.ErrDenied)
		w.wantReason("list, fine-grained", list("github_pat_alice"), packages.WrongToken, transport.ErrDenied)
		w.wantReason("get, fine-grained", get("github_pat_alice"), packages.Absent, oci.ErrNotFound)
		w.wantReason("package that is not linked", get("ghs_ci"), packages.Absent, oci.ErrNotFound)
		w.wantReason("workflow with too small a role", remove("ghs_ci", open), packages.NotLinked, transport.ErrDenied)
		w.wantReason("over 5000 downloads", remove("ghp_alice", open), packages.TooManyDownloads, transport.ErrConflict)
		w.wantReason("package with over 5000 downloads", w.client("ghp_alice").Delete(w.ctx, "acme", "open"), packages.TooManyDownloads, transport.ErrConflict)
		for owner, reason := range map[string]packages.Reason{"strict": packages.Forbidden, "secure": packages.SingleSignOn} {
			w.add(owner+"/app", "v1")
			_, err := w.client("ghp_alice").Get(w.ctx, owner, "app")
			w.wantReason("rules of "+owner, err, reason, transport.ErrDenied)
		}
		if err := remove("ghp_alice", app); err != nil {
			t.Fatal(err)
		}
		last := w.version("acme", "app", "v2").ID
		w.wantReason("last tagged", w.client("ghp_alice").DeleteVersion(w.ctx, "acme", "app", last), packages.LastTagged, transport.ErrConflict)
		w.wantReason("restore without permission", w.client("ghp_bob").RestoreVersion(w.ctx, "acme", "app", app), packages.NoPermission, transport.ErrDenied)
		w.wantReason("visibility", w.client("ghp_alice").SetVisibility(w.ctx, "acme", "app", packages.Public), packages.NotInAPI, transport.ErrUnsupported)
	})
}

// TestMissingScopeIsKnownBeforeASecondRequest: the answer to the first question,
// what the owner is, tells the scopes; nothing more is sent.
func TestMissingScopeIsKnownBeforeASecondRequest(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "v1", "v2")
		id := w.version("acme", "app", "v1").ID
		w.ResetRequests()
		err := w.client("ghp_reader").DeleteVersion(w.ctx, "acme", "app", id)
		var e *packages.Error
		if !errors.As(err, &e) || e.Scope != "delete:packages" || e.Answer != nil || len(w.Requests()) != 1 {
			t.Errorf("%v after %d requests", err, len(w.Requests()))
		}
	})
}

// TestRequire: scopes are checked before an operation begins, at no cost.
func TestRequire(t *testing.T) {
	simulate(t, nil, func(w *world) {
		for token, want := range map[string]packages.Reason{
			"ghp_alice": "", "ghs_ci": "", "github_pat_alice": "", "ghp_reader": packages.MissingScope, "ghp_expired": packages.Unauthenticated, "": packages.Unauthenticated,
		} {
			c := w.client()
			if token != "" {
				c = w.client(token)
			}
			for range 2 {
				err := c.Require(w.ctx, transport.ScopeRead, transport.ScopeDelete)
				if want == "" && err != nil || want != "" && !errors.Is(err, want) {
					t.Errorf("%q: got %v, want %q", token, err, want)
				}
			}
		}
		if err := w.client("ghp_reader", "ghp_alice").Require(w.ctx, transport.ScopeDelete); err != nil {
			t.Errorf("one of two may: %v", err)
		}
		for _, r := range w.Requests() {
			if r.Path != "/rate_limit" {
				t.Errorf("asked for %s", r.Path)
			}
		}
	})
}

// TestRateLimits: what GitHub says is left, and what its answers told, are the same.
func TestRateLimits(t *testing.T) {
	simulate(t, nil, func(w *world) {
		c := w.client("ghp_alice")
		for range 7 {
			c.Get(w.ctx, "acme", "none")
		}
		list, err := c.RateLimits(w.ctx)
		i := slices.IndexFunc(list, func(l transport.RateLimitInfo) bool { return l.Resource == "core" })
		if err != nil || i < 0 || list[i].Limit != 5000 || list[i].Used != 8 || list[i].Remaining != 4992 || list[i].Reset.Before(time.Now()) {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestSetVisibility: the settings page is named, for each kind of owner.
func TestSetVisibility(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/tools/lint", "v1")
		w.add("alice/own", "v1")
		c := w.client("ghp_alice")
		for name, page := range map[[2]string]string{
			{"acme", "tools/lint"}: "https://github.com/orgs/acme/packages/container/tools%2Flint/settings",
			{"alice", "own"}:       "https://github.com/users/alice/packages/container/own/settings",
		} {
			var e *packages.Error
			if err := c.SetVisibility(w.ctx, name[0], name[1], packages.Public); !errors.As(err, &e) || e.Page != page {
				t.Errorf("%v: %v", name, err)
			}
			if err := c.SetVisibility(w.ctx, name[0], name[1], packages.Private); err != nil {
				t.Errorf("it is private already: %v", err)
			}
		}
		if err := c.SetVisibility(w.ctx, "acme", "tools/lint", "secret"); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// TestWorkflowTokenWorksByName: GITHUB_TOKEN asks nothing about its user, lists no
// packages, and deletes versions of packages that give it the role.
func TestWorkflowTokenWorksByName(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "v1", "v2")
		w.set(ghcrtest.Package{Name: "acme/app", Access: map[string]string{"acme/source": "admin"}})
		id := w.version("acme", "app", "v1").ID
		c := w.client("ghs_ci")
		if who, err := c.WhoAmI(w.ctx); err != nil || who != (packages.Owner{}) {
			t.Errorf("%+v, %v", who, err)
		}
		if err := c.DeleteVersion(w.ctx, "acme", "app", id); err != nil {
			t.Error(err)
		}
	})
}

// TestTokensOfTwoUsers: /user means other packages with the token of another, so
// one's own packages are only asked for with the token of their owner.
func TestTokensOfTwoUsers(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("alice/app", "v1", "v2")
		w.add("bob/app", "v1", "v2", "v3")
		c := w.client("ghp_alice", "ghp_bob")
		for owner, n := range map[string]int{"alice": 2, "bob": 3} {
			for range 5 {
				if all, err := c.AllVersions(w.ctx, owner, "app", packages.Active); err != nil || len(all) != n {
					t.Fatalf("%s: %d versions, %v", owner, len(all), err)
				}
			}
		}
		if err := c.Delete(w.ctx, "alice", "app"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.client("ghp_bob").Get(w.ctx, "bob", "app"); err != nil {
			t.Errorf("the other's is gone too: %v", err)
		}
	})
}

// TestUnchangedListCostsNothing: a list that has not changed is answered with 304
// for each page, also to a later process, and not to another login.
func TestUnchangedListCostsNothing(t *testing.T) {
	simulate(t, nil, func(w *world) {
		const versions = 250
		for i := range versions {
			w.add("acme/app", fmt.Sprint("v", i))
		}
		list := func(c *packages.Client) (n int, unchanged int) {
			w.ResetRequests()
			all, err := c.AllVersions(w.ctx, "acme", "app", packages.Active)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range w.Requests() {
				if r.Status == 304 {
					unchanged++
				}
			}
			if sent := len(w.Requests()); unchanged > 0 && unchanged != sent {
				t.Errorf("%d of %d requests were answered with 304", unchanged, sent)
			}
			return len(all), unchanged
		}
		first := w.client("ghp_alice")
		n, unchanged := list(first)
		if n != versions || unchanged != 0 {
			t.Fatalf("%d versions, %d unchanged", n, unchanged)
		}
		if again, unchanged := list(first); again != n || unchanged == 0 {
			t.Errorf("same client: %d versions, %d unchanged", again, unchanged)
		}
		if again, unchanged := list(w.client("ghp_alice")); again != n || unchanged == 0 {
			t.Errorf("next process: %d versions, %d unchanged", again, unchanged)
		}
		if again, unchanged := list(w.client("ghp_bob")); again != n || unchanged != 0 {
			t.Errorf("another login: %d versions, %d unchanged", again, unchanged)
		}
		w.private()
	})
}

// private checks that the cache is the user's alone and holds no token.
func (w *world) private() {
	w.t.Helper()
	if info, err := os.Stat(w.dir); err != nil || info.Mode().Perm() != 0o700 {
		w.t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) < 3 {
		w.t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o600 {
			w.t.Errorf("%s has mode %v, %v", f, info.Mode(), err)
		}
		data := unzipped(w.t, f)
		for _, a := range accounts {
			if strings.Contains(data, a.Token) {
				w.t.Errorf("%s holds a token", f)
			}
		}
	}
}

// TestRESTStaleness: a deleted version that is still listed is known to be gone by
// its number.
func TestRESTStaleness(t *testing.T) {
	simulate(t, func(q *ghcrtest.Quirks) { q.RESTStaleness = 2 * time.Second }, func(w *world) {
		w.add("acme/app", "v1", "v2", "v3", "v4")
		time.Sleep(time.Minute)
		c := w.client("ghp_alice")
		id := w.version("acme", "app", "v1").ID
		if err := c.DeleteVersion(w.ctx, "acme", "app", id); err != nil {
			t.Fatal(err)
		}
		if w.version("acme", "app", "v1").ID != id {
			t.Fatal("it is not listed any more")
		}
		w.wantReason("deleted, still listed", c.DeleteVersion(w.ctx, "acme", "app", id), packages.Gone, oci.ErrNotFound)
	})
}

// TestDeletionIsLookedAtAfterAFailure: a 500 may or may not have deleted. It is not
// sent again blindly.
func TestDeletionIsLookedAtAfterAFailure(t *testing.T) {
	for _, carriedOut := range []bool{true, false} {
		simulate(t, nil, func(w *world) {
			w.add("acme/app", "v1", "v2")
			id := w.version("acme", "app", "v1").ID
			n := 0
			inner := w.base
			w.base = roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.Method != http.MethodDelete {
					return inner.RoundTrip(r)
				}
				n++
				if n > 1 {
					return inner.RoundTrip(r)
				}
				if carriedOut {
					resp, err := inner.RoundTrip(r)
					if err != nil || resp.StatusCode != 204 {
						t.Fatalf("%v %v", resp, err)
					}
					resp.Body.Close()
				}
				return &http.Response{StatusCode: 500, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
			})
			if err := w.client("ghp_alice").DeleteVersion(w.ctx, "acme", "app", id); err != nil {
				t.Errorf("carried out %v: %v", carriedOut, err)
			}
			if want := map[bool]int{true: 1, false: 2}[carriedOut]; n != want {
				t.Errorf("carried out %v: sent %d times", carriedOut, n)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNameTakenAgainIsNotDeleted: a package was deleted although the answer failed,
// and somebody pushed another of its name. That one is left alone.
func TestNameTakenAgainIsNotDeleted(t *testing.T) {
	simulate(t, nil, func(w *world) {
		w.add("acme/app", "v1")
		inner := w.base
		w.base = roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := inner.RoundTrip(r)
			if r.Method != http.MethodDelete || err != nil {
				return resp, err
			}
			resp.Body.Close()
			w.add("acme/app", "v2")
			return &http.Response{StatusCode: 502, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
		})
		if err := w.client("ghp_alice").Delete(w.ctx, "acme", "app"); err != nil {
			t.Error(err)
		}
		w.version("acme", "app", "v2")
	})
}

// deletions makes a package with so many versions, and returns all but the last.
func (w *world) deletions(n int) []packages.PackageVersion {
	w.t.Helper()
	for i := range n + 1 {
		if err := w.Add("acme/app", fmt.Sprint("t", i), ghcrtest.NewImage("linux/amd64", []byte(fmt.Sprint(i)))); err != nil {
			w.t.Fatal(err)
		}
	}
	all, err := w.client("ghp_alice").AllVersions(w.ctx, "acme", "app", packages.Active)
	if err != nil || len(all) != n+1 {
		w.t.Fatalf("%d versions, %v", len(all), err)
	}
	time.Sleep(2 * time.Minute)
	w.ResetRequests()
	return all[1:]
}

// delete deletes versions with a client of its own, as another process would.
func (w *world) delete(versions []packages.PackageVersion) {
	c := w.client("ghp_alice")
	work := make(chan int64)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for id := range work {
				if err := c.DeleteVersion(w.ctx, "acme", "app", id); err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	for _, v := range versions {
		work <- v.ID
	}
	close(work)
	wg.Wait()
}

// refused counts requests that met a limit.
func (w *world) refused() (n int) {
	for _, r := range w.Requests() {
		if r.Status == 403 || r.Status == 429 {
			n++
		}
	}
	return n
}

// TestTwoThousandDeletions: under GitHub's limits, in virtual time. Nothing is
// refused, and it takes no longer than 900 points a minute make it.
func TestTwoThousandDeletions(t *testing.T) {
	simulate(t, nil, func(w *world) {
		versions := w.deletions(2000)
		began := time.Now()
		w.delete(versions)
		if took := time.Since(began); w.refused() > 0 || took > 12*time.Minute {
			t.Errorf("%d of %d requests were refused, in %s", w.refused(), len(w.Requests()), took)
		}
	})
}

// TestTwoProcessesShareAToken: neither knows of the other but by refusals, which
// cannot be foreseen. Both finish; what is refused is what was on its way when the
// limit was met, and then one or two at a time.
func TestTwoProcessesShareAToken(t *testing.T) {
	for _, retryAfter := range []bool{true, false} {
		simulate(t, func(q *ghcrtest.Quirks) { q.RESTRetryAfter = retryAfter }, func(w *world) {
			w.opts.MaxWait = time.Hour
			versions := w.deletions(2000)
			began := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() { w.delete(versions[:1000]) })
			wg.Go(func() { w.delete(versions[1000:]) })
			wg.Wait()
			took := time.Since(began)
			if most := 32 + int(took/time.Minute); w.refused() > most || took > 40*time.Minute {
				t.Errorf("with a time to wait %v: %d refused, want %d at most; took %s", retryAfter, w.refused(), most, took)
			}
			if left, err := w.client("ghp_alice").AllVersions(w.ctx, "acme", "app", packages.Active); err != nil || len(left) != 1 {
				t.Errorf("%d versions are left, %v", len(left), err)
			}
		})
	}
}
