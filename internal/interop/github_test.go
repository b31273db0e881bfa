package interop

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-github/v88/github"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestGoGitHub: the client that most Go programs use for GitHub's API works with the
// emulator's, and takes its refusals for what they are.
func TestGoGitHub(t *testing.T) {
	server := ghcrtest.Start(t, ghcrtest.Options{Accounts: []ghcrtest.Account{
		{Login: "octocat", Token: "ghp_octocat"}, {Login: "fine", Token: "github_pat_fine"},
	}})
	for i := range 5 {
		if err := server.Add("acme/deep/app", fmt.Sprint("v", i), ghcrtest.NewImage("linux/amd64", []byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Add("octocat/own", "v1", ghcrtest.NewIndex()); err != nil {
		t.Fatal(err)
	}
	const org, kind, name = "acme", "container", "deep/app"
	ctx, client := t.Context(), connect(t, server, "ghp_octocat")
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}

	packages, _, err := client.Organizations.ListPackages(ctx, org, &github.PackageListOptions{PackageType: github.Ptr(kind)})
	check("list packages", err)
	if len(packages) != 1 || packages[0].GetName() != name || packages[0].GetVersionCount() != 5 || packages[0].GetOwner().GetType() != "Organization" {
		t.Errorf("got %v", packages)
	}
	packages, _, err = client.Users.ListPackages(ctx, "", &github.PackageListOptions{PackageType: github.Ptr(kind)})
	check("list one's own packages", err)
	if len(packages) != 1 || packages[0].GetName() != "own" {
		t.Errorf("got %v", packages)
	}

	// All pages.
	var versions []*github.PackageVersion
	opts := &github.PackageListOptions{ListOptions: github.ListOptions{PerPage: 2}}
	for {
		page, resp, err := client.Organizations.PackageGetAllVersions(ctx, org, kind, name, opts)
		check("list versions", err)
		versions = append(versions, page...)
		if resp.NextPage == 0 {
			break
		}
		if resp.LastPage != 3 || resp.Rate.Limit != 5000 {
			t.Errorf("got %+v", resp)
		}
		opts.Page = resp.NextPage
	}
	if len(versions) != 5 {
		t.Fatalf("got %v", versions)
	}
	id := versions[0].GetID()
	version, _, err := client.Organizations.PackageGetVersion(ctx, org, kind, name, id)
	check("get a version", err)
	if metadata, ok := version.GetMetadata(); !ok || metadata.GetContainer().Tags[0] != "v4" || version.GetCreatedAt().Before(time.Now().Add(-time.Hour)) {
		t.Errorf("got %v", version)
	}

	// Deletion and restore.
	_, err = client.Organizations.PackageDeleteVersion(ctx, org, kind, name, id)
	check("delete a version", err)
	_, resp, err := client.Organizations.PackageGetVersion(ctx, org, kind, name, id)
	if err == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
	deleted, _, err := client.Organizations.PackageGetAllVersions(ctx, org, kind, name, &github.PackageListOptions{State: github.Ptr("deleted")})
	check("list deleted versions", err)
	if len(deleted) != 1 || deleted[0].GetID() != id {
		t.Errorf("got %v", deleted)
	}
	_, err = client.Organizations.PackageRestoreVersion(ctx, org, kind, name, id)
	check("restore a version", err)
	_, err = client.Organizations.DeletePackage(ctx, org, kind, name)
	check("delete a package", err)
	_, err = client.Organizations.RestorePackage(ctx, org, kind, name)
	check("restore a package", err)

	// Refusals.
	var refusal *github.ErrorResponse
	own, _, err := client.Users.ListPackageVersions(ctx, kind, "own", nil)
	check("list versions of one's own", err)
	_, err = client.Users.PackageDeleteVersion(ctx, "", kind, "own", own[0].GetID())
	if !errors.As(err, &refusal) || refusal.Message != "You cannot delete the last tagged version of a package. You must delete the package instead." {
		t.Errorf("got %v", err)
	}
	if _, _, err = connect(t, server, "github_pat_fine").Organizations.ListPackages(ctx, org, nil); !errors.As(err, &refusal) || refusal.Message != "Invalid argument." {
		t.Errorf("got %v", err)
	}
	user, _, err := client.Users.Get(ctx, "")
	check("who am I", err)
	if user.GetLogin() != "octocat" {
		t.Errorf("got %v", user)
	}
	limits, _, err := client.RateLimit.Get(ctx)
	check("limits", err)
	if core := limits.GetCore(); core.Limit != 5000 || core.Remaining > 4990 {
		t.Errorf("got %v", core)
	}
}

func connect(t *testing.T, server *ghcrtest.Running, token string) *github.Client {
	t.Helper()
	// It would not even ask when it knows of a limit.
	client, err := github.NewClient(github.WithAuthToken(token), github.WithEnterpriseURLs(server.URL(), server.URL()), github.WithDisableRateLimitCheck())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestGoGitHubKnowsTheLimits tells one kind of limit from the other, in both forms.
func TestGoGitHubKnowsTheLimits(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusTooManyRequests} {
		quirks := ghcrtest.GHCR()
		quirks.RESTLimitStatus, quirks.RESTHourly = status, 1
		client := connect(t, ghcrtest.Start(t, ghcrtest.Options{Quirks: &quirks}), ghcrtest.Token)
		client.Users.Get(t.Context(), "")
		var limit *github.RateLimitError
		if _, _, err := client.Users.Get(t.Context(), ""); !errors.As(err, &limit) || time.Until(limit.Rate.Reset.Time) > time.Hour {
			t.Errorf("%d: got %v", status, err)
		}

		quirks.RESTHourly, quirks.RESTPoints = 5000, 1
		client = connect(t, ghcrtest.Start(t, ghcrtest.Options{Quirks: &quirks}), ghcrtest.Token)
		client.Users.Get(t.Context(), "")
		var secondary *github.AbuseRateLimitError
		if _, _, err := client.Users.Get(t.Context(), ""); !errors.As(err, &secondary) || secondary.GetRetryAfter() > time.Minute {
			t.Errorf("%d: got %v", status, err)
		}
	}
}
