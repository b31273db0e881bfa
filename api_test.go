package ghcr_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// TestLoginOfTheRegistryServesItsAPI: people log in to the registry. The API of that
// registry, and no other host, gets the same token, as it is.
func TestLoginOfTheRegistryServesItsAPI(t *testing.T) {
	for _, test := range []struct{ registry, api, host string }{
		{"", "", "api.github.com"},
		{"containers.github.example.com", "", "github.example.com"},
		{"containers.acme.ghe.com", "", "api.acme.ghe.com"},
		{"registry.example.com", "https://api.example.com/v3", "api.example.com"},
	} {
		registry := test.registry
		if registry == "" {
			registry = "ghcr.io"
		}
		var sent []string
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r.URL.Host+" "+r.Header.Get("Authorization"))
			return nil, errors.New("enough")
		})
		for name, source := range map[string]transport.CredentialSource{
			"one":  transport.Static(map[string]transport.Credential{registry: {Password: transport.NewSecret("ghp_token"), Source: "x"}}),
			"pool": transport.Pool{registry: {{Password: transport.NewSecret("ghp_token"), Source: "x"}}},
		} {
			synctest.Test(t, func(t *testing.T) {
				sent = nil
				client, err := ghcr.New(ghcr.Options{Registry: test.registry, API: test.api, Base: base, Credentials: source})
				if err != nil {
					t.Fatal(err)
				}
				api, err := client.Packages()
				if err != nil {
					t.Fatal(err)
				}
				api.Owner(t.Context(), "acme")
				if len(sent) == 0 || sent[0] != test.host+" Bearer ghp_token" {
					t.Errorf("%s, %s: sent %q", registry, name, sent)
				}
			})
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRegistryTokenIsNotForTheAPI: what a registry issued is nothing to the API, and
// a login of the API's own goes before the registry's.
func TestRegistryTokenIsNotForTheAPI(t *testing.T) {
	for name, test := range map[string]struct {
		logins map[string]transport.Credential
		want   string
	}{
		"a registry's token": {map[string]transport.Credential{"ghcr.io": {Bearer: transport.NewSecret("djE6")}}, ""},
		"one of its own": {map[string]transport.Credential{
			"ghcr.io": {Password: transport.NewSecret("ghp_registry")}, "api.github.com": {Password: transport.NewSecret("ghp_api")},
		}, "Bearer ghp_api"},
		"another registry's": {map[string]transport.Credential{"docker.io": {Password: transport.NewSecret("ghp_other")}}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got string
			client, err := ghcr.New(ghcr.Options{Credentials: transport.Static(test.logins), Base: roundTripper(func(r *http.Request) (*http.Response, error) {
				got = r.Header.Get("Authorization")
				return &http.Response{StatusCode: 404, Body: http.NoBody, Request: r}, nil
			})})
			if err != nil {
				t.Fatal(err)
			}
			api, err := client.Packages()
			if err != nil {
				t.Fatal(err)
			}
			if api.Owner(context.Background(), "acme"); got != test.want {
				t.Errorf("%s: sent %q", name, got)
			}
		})
	}
}

// TestNoAPIIsKnown: a registry that is no GitHub's has no API, until one is named.
func TestNoAPIIsKnown(t *testing.T) {
	client, err := ghcr.New(ghcr.Options{Registry: "registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Packages(); !errors.Is(err, ghcr.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	for _, address := range []string{"http://api.example.com", "://"} {
		if _, err := ghcr.New(ghcr.Options{API: address}); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("%s: got %v", address, err)
		}
	}
}

// TestPackagesOnLoopback: an emulator on a socket has its API at the same address.
func TestPackagesOnLoopback(t *testing.T) {
	server := ghcrtest.Start(t, ghcrtest.Options{})
	if err := server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	client, err := ghcr.New(ghcr.Options{Registry: server.Host(), PlainHTTP: true, Credentials: login})
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.Packages()
	if err != nil {
		t.Fatal(err)
	}
	all, err := api.AllVersions(t.Context(), "acme", "app", packages.Active)
	if err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}
