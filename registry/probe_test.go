package registry_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// network answers requests by a function.
type network func(*http.Request) (*http.Response, error)

func (f network) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// uploads is a registry that takes uploads, and answers a HEAD by a function.
func uploads(head func(*http.Request, *http.Response) error) network {
	return func(r *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: http.NoBody, Request: r}
		switch r.Method {
		case http.MethodHead:
			return resp, head(r, resp)
		case http.MethodPost:
			resp.Header.Set("Location", "/v2/acme/app/blobs/uploads/1")
		case http.MethodPut:
			resp.StatusCode = http.StatusCreated
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
		}
		return resp, nil
	}
}

// repositoryOn is a repository of a registry that a function plays.
func repositoryOn(t *testing.T, base http.RoundTripper) *registry.Repository {
	t.Helper()
	client, err := transport.New(transport.Options{
		Base:        base,
		Credentials: transport.Static(map[string]transport.Credential{"registry.example.com": {Username: "u", Password: transport.NewSecret("p"), Source: "test"}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	host, err := registry.New(client, "registry.example.com", registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	repo, err := host.Repository("acme/app")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func pushTo(t *testing.T, base http.RoundTripper, size int) (oci.Stored, error) {
	t.Helper()
	d, open := content(bytes.Repeat([]byte("x"), size))
	return repositoryOn(t, base).PutBlob(t.Context(), d, nil, open)
}

// TestUploadIsNotHeldUpByTheProbe: whatever becomes of the question whether a large
// blob is there, an upload that may begin does so.
func TestUploadIsNotHeldUpByTheProbe(t *testing.T) {
	for name, head := range map[string]func(*http.Request, *http.Response) error{
		"rate limited": func(_ *http.Request, resp *http.Response) error {
			resp.StatusCode = http.StatusTooManyRequests
			resp.Header.Set("Retry-After", "200")
			return nil
		},
		"broken": func(_ *http.Request, resp *http.Response) error {
			resp.StatusCode = http.StatusInternalServerError
			return nil
		},
		"silent": func(r *http.Request, _ *http.Response) error {
			<-r.Context().Done()
			return r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				stored, err := pushTo(t, uploads(head), 5<<20)
				if err != nil || stored != oci.StoredUpload {
					t.Errorf("got %q, %v", stored, err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestProbeFindsTheBlob: what the probe finds is not sent.
func TestProbeFindsTheBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored, err := pushTo(t, uploads(func(_ *http.Request, resp *http.Response) error {
			resp.StatusCode, resp.ContentLength = http.StatusOK, 5<<20
			return nil
		}), 5<<20)
		if err != nil || stored != oci.StoredExisting {
			t.Errorf("got %q, %v", stored, err)
		}
	})
}

// TestProbeSharesTheToken: the question and the upload, asked at once, get one token.
func TestProbeSharesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tokens atomic.Int64
		registry := uploads(func(_ *http.Request, resp *http.Response) error {
			resp.StatusCode = http.StatusNotFound
			return nil
		})
		_, err := pushTo(t, network(func(r *http.Request) (*http.Response, error) {
			time.Sleep(40 * time.Millisecond)
			resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
			switch {
			case r.URL.Path == "/token":
				tokens.Add(1)
				resp.Body = io.NopCloser(strings.NewReader(`{"token":"t"}`))
				return resp, nil
			case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer"):
				resp.StatusCode = http.StatusUnauthorized
				resp.Header.Set("WWW-Authenticate", `Bearer realm="https://registry.example.com/token",service="x"`)
				return resp, nil
			}
			return registry(r)
		}), 5<<20)
		if err != nil || tokens.Load() != 1 {
			t.Errorf("%d tokens, %v", tokens.Load(), err)
		}
	})
}

// TestProbeDoesNotDependOnTheMount: which requests are sent for a large blob does not
// depend on what is answered first, nor on what was answered before.
func TestProbeDoesNotDependOnTheMount(t *testing.T) {
	run(t, func(q *ghcrtest.Quirks) { q.MountSelf = true }, registry.Options{}, func(s *sandbox) {
		large := ghcrtest.RandomLayer(4, 5<<20)
		s.put(large)
		for range 20 {
			s.server.ResetRequests()
			if stored := s.put(large); stored != oci.StoredExisting {
				s.Errorf("it was stored as %s", stored)
			}
			var asked []string
			for _, r := range s.log() {
				if strings.HasPrefix(r.Path, "/v2/") {
					asked = append(asked, r.Method)
				}
			}
			if slices.Sort(asked); !slices.Equal(asked, []string{http.MethodHead, http.MethodPost}) {
				s.Errorf("asked by %v", asked)
			}
		}
	})
}

// TestCheckPush: who may push and who may not is found out, and no repository comes
// of it.
func TestCheckPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(ghcrtest.Options{Accounts: []ghcrtest.Account{
			{Login: "writer", Token: "ghp_writer"}, {Login: "reader", Token: "ghp_reader", Scopes: []string{"read:packages"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for token, want := range map[string]error{"ghp_writer": nil, "ghp_reader": transport.ErrDenied} {
			client, err := transport.New(transport.Options{
				Base: server.Transport(), Credentials: transport.Static(map[string]transport.Credential{"ghcr.io": {Username: "u", Password: transport.NewSecret(token), Source: "test"}}),
			})
			if err != nil {
				t.Fatal(err)
			}
			host, err := registry.New(client, "ghcr.io", registry.Options{Rules: registry.GHCR})
			if err != nil {
				t.Fatal(err)
			}
			repo, err := host.Repository("acme/new")
			if err != nil {
				t.Fatal(err)
			}
			if err := repo.CheckPush(t.Context()); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", token, err, want)
			}
			if names, err := repo.TagNames(t.Context()); err == nil {
				t.Errorf("there is a repository with tags %v", names)
			}
		}
	})
}
