package ghcrtest_test

import (
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

func TestAPICredentials(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.image()
		for header, status := range map[string]int{
			"Bearer ghp_owner": 200, "token ghp_owner": 200, "Basic " + encoded("whoever:ghp_owner"): 200,
			"Bearer " + encoded("ghp_owner"): 401, "Basic " + encoded("ghp_owner"): 401, "Basic ?": 401, "Bearer": 401,
		} {
			w.want(w.api("", "GET", packagePath, "Authorization", header), status)
		}
	})
}

// TestScopes: a refusal names the scope, and the header has what the token has.
func TestScopes(t *testing.T) {
	t.Parallel()
	withServer(t, ghcrtest.Options{Accounts: []ghcrtest.Account{
		{Login: "all", Token: "ghp_all"},
		{Login: "none", Token: "ghp_none", Scopes: []string{"gist"}},
		{Login: "reader", Token: "gho_reader", Scopes: []string{"read:packages"}},
		{Login: "writer", Token: "ghp_writer", Scopes: []string{"write:packages", "read:packages"}},
		{Login: "deleter", Token: "ghp_deleter", Scopes: []string{"delete:packages"}},
		{Login: "cleaner", Token: "ghp_cleaner", Scopes: []string{"read:packages", "delete:packages"}},
	}}, func(w *wire) {
		w.add("v1", "linux/amd64")
		w.add("v2", "linux/arm64")
		for _, test := range []struct {
			token, method, path, lacks string
		}{
			{"ghp_none", "GET", packagesPath, "You need at least read:packages scope to list packages."},
			{"ghp_none", "GET", packagePath, "You need at least read:packages scope to get a package."},
			{"ghp_none", "GET", versionsPath, "You need at least read:packages scope to get a package's versions."},
			{"ghp_none", "GET", versionsPath + "/100001", "You need at least read:packages scope"},
			{"ghp_none", "GET", "/user", ""},
			{"ghp_none", "GET", "/users/acme", ""},
			{"gho_reader", "GET", packagesPath, ""},
			{"gho_reader", "GET", versionsPath, ""},
			{"gho_reader", "DELETE", versionsPath + "/100001", "You need at least delete:packages scope to delete a package version."},
			{"gho_reader", "POST", packagePath + "/restore", "You need at least write:packages scope to restore a package."},
			{"ghp_writer", "GET", versionsPath, ""},
			{"ghp_writer", "DELETE", packagePath, "You need at least delete:packages scope to delete a package."},
			{"ghp_deleter", "DELETE", versionsPath + "/100001", "You need at least read:packages scope to delete a package version."},
			{"ghp_cleaner", "DELETE", versionsPath + "/100001", ""},
			{"ghp_cleaner", "POST", versionsPath + "/100001/restore", "You need at least write:packages scope to restore a package version."},
			{"ghp_writer", "POST", versionsPath + "/100001/restore", ""},
		} {
			a := w.api(test.token, test.method, test.path)
			if test.lacks != "" {
				w.want(a, 403, test.lacks)
			} else if a.status >= 300 {
				t.Errorf("%s %s by %s: got %d %s", test.method, test.path, test.token, a.status, a.body)
			}
		}
		for token, want := range map[string]string{
			"ghp_all": "delete:packages, repo, write:packages", "ghp_none": "gist", "gho_reader": "read:packages",
			"ghp_writer": "write:packages", "ghp_cleaner": "delete:packages, read:packages",
		} {
			if got := w.api(token, "GET", packagesPath).header.Get("X-OAuth-Scopes"); got != want {
				t.Errorf("%s has the scopes %q, want %q", token, got, want)
			}
		}
		for path, want := range map[string]string{"DELETE " + versionsPath + "/1": "delete:packages, read:packages", "GET " + packagesPath: "read:packages", "GET /user": ""} {
			method, path, _ := strings.Cut(path, " ")
			got, ok := w.api("ghp_all", method, path).header["X-Accepted-Oauth-Scopes"]
			if !ok || got[0] != want {
				t.Errorf("%s %s accepts %q, want %q", method, path, got, want)
			}
		}
	})
}

// TestWorkflow: what a workflow may do goes by its repository's role.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		w.add("v1", "linux/amd64")
		w.add("v2", "linux/arm64")
		ci := w.as(encoded("ghs_ci"))
		v1 := versionsPath + "/" + w.id("v1")

		// Neither linked nor named.
		w.want(ci.do("GET", "/v2/acme/app/manifests/v1", ""), 404)
		w.want(ci.start(), 403, "installation not allowed to Write organization package")
		w.want(w.api("ghs_ci", "GET", packagePath), 404, "Package not found.")

		// A link lets it write in the registry.
		w.set(ghcrtest.Package{Repository: "acme/source"})
		w.want(ci.do("GET", "/v2/acme/app/manifests/v1", ""), 200)
		w.want(ci.start(), 202)
		w.want(w.api("ghs_ci", "GET", v1), 404)
		w.want(w.api("ghs_ci", "DELETE", v1), 404)

		// The role Admin opens the API, but for lists of packages.
		w.set(ghcrtest.Package{Access: map[string]string{"Acme/Source": "admin"}})
		w.want(w.api("ghs_ci", "GET", packagePath), 200)
		w.want(w.api("ghs_ci", "GET", versionsPath), 200, "v1")
		w.want(w.api("ghs_ci", "GET", packagesPath), 400, "Invalid argument.")
		w.want(w.api("ghs_ci", "DELETE", v1), 204)
		w.want(w.api("ghs_ci", "GET", v1), 404)
		w.want(w.api("ghs_ci", "POST", v1+"/restore"), 204)

		// A role that is named goes before the link.
		w.set(ghcrtest.Package{Access: map[string]string{"acme/source": "read"}})
		w.want(ci.do("GET", "/v2/acme/app/manifests/v1", ""), 200)
		w.want(ci.start(), 403)
		w.want(w.api("ghs_ci", "DELETE", v1), 404)
		w.set(ghcrtest.Package{Access: map[string]string{"acme/source": ""}})
		w.want(ci.do("GET", "/v2/acme/app/manifests/v1", ""), 404)

		// What is public it may read.
		w.public()
		w.want(w.api("ghs_ci", "GET", v1), 200)
		w.want(w.api("ghs_ci", "DELETE", v1), 404)
	})
}

// TestWorkflowMakesPackage: a package that a workflow makes is linked to its
// repository, which is its administrator.
func TestWorkflowMakesPackage(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		ci := w.as(encoded("ghs_ci"))
		ci.tagged("v1")
		w.want(w.api("ghs_ci", "GET", packagePath), 200, `"full_name":"acme/source"`, `"visibility":"private"`)
		w.want(w.api("ghs_ci", "DELETE", packagePath), 204)
		w.want(w.api("ghs_ci", "POST", packagePath+"/restore"), 404)
		w.want(w.api("ghp_owner", "POST", packagePath+"/restore"), 204)
		w.want(w.as(encoded("ghs_own")).start(), 403) // another owner's
	})
}

// TestRoles: what a member may do who is no administrator, in both views.
func TestRoles(t *testing.T) {
	t.Parallel()
	for role, may := range map[string]struct{ read, push, remove int }{
		"read": {200, 403, 404}, "write": {200, 202, 404}, "admin": {200, 202, 204}, "": {200, 202, 204},
	} {
		withServer(t, ghcrtest.Options{Accounts: []ghcrtest.Account{
			{Login: "member", Token: "ghp_member", Owners: []string{"Acme"}, Role: role},
			{Login: "owner", Token: "ghp_owner", Owners: []string{"elsewhere"}},
		}}, func(w *wire) {
			w.add("v1", "linux/amd64")
			w.add("v2", "linux/arm64")
			w.want(w.api("ghp_member", "GET", packagePath), may.read)
			w.want(w.as(encoded("ghp_member")).start(), may.push)
			w.want(w.api("ghp_member", "DELETE", versionsPath+"/100001"), may.remove)
			w.want(w.api("ghp_owner", "GET", packagePath), 404)
			if a := w.api("ghp_owner", "GET", packagesPath); a.body != "[]" {
				t.Errorf("a stranger sees %s", a.body)
			}
			// Everybody is administrator of their own.
			if err := w.server.Add("member/app", "v1", ghcrtest.NewIndex()); err != nil {
				t.Fatal(err)
			}
			w.want(w.api("ghp_member", "DELETE", "/user/packages/container/app"), 204)
		})
	}
}

// TestOrganizationForbids: some take no classic tokens, or those alone that were
// authorized for their single sign-on.
func TestOrganizationForbids(t *testing.T) {
	t.Parallel()
	for forbids, words := range map[string]string{
		"classic":      "`acme` forbids access via a personal access token (classic).",
		"unauthorized": "Resource protected by organization SAML enforcement.",
	} {
		withServer(t, ghcrtest.Options{
			Owners:   []ghcrtest.Owner{{Login: "acme", Forbids: forbids}},
			Accounts: []ghcrtest.Account{{Login: "owner", Token: "ghp_owner"}, {Login: "owner", Token: "gho_owner"}},
		}, func(w *wire) {
			w.image()
			a := w.api("ghp_owner", "GET", packagePath)
			w.want(a, 403, words)
			if sso := a.header.Get("X-GitHub-SSO"); (sso != "") != (forbids == "unauthorized") {
				t.Errorf("%s: X-GitHub-SSO is %q", forbids, sso)
			}
			w.want(w.api("gho_owner", "GET", packagePath), 200)
			w.want(w.api("ghp_owner", "GET", "/orgs/acme"), 200)
			w.want(w.api("ghp_owner", "GET", "/user/packages?package_type=container"), 200)
		})
	}
}
