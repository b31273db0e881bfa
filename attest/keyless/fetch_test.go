package keyless_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
	"github.com/llm-dev-ops/ghcr/oci"
)

func published() *sigstoretest.TUF {
	return sigstoretest.NewTUF(public.TrustedRoot(true), time.Now().Add(time.Hour))
}

// fetch fetches from a repository, whose root is given so that it may be another's.
func fetch(t *testing.T, r http.Handler, root []byte, dir string) ([]byte, error) {
	t.Helper()
	server := httptest.NewServer(r)
	defer server.Close()
	return keyless.Fetch(t.Context(), keyless.FetchOptions{URL: server.URL, Root: root, Dir: dir})
}

// TestFetch: what is published is what verifies afterwards, with a cache and without.
func TestFetch(t *testing.T) {
	dir := t.TempDir()
	for _, dir := range []string{"", dir, dir} {
		r := published()
		data, err := fetch(t, r, r.Root(), dir)
		if err != nil || !bytes.Equal(data, r.Content) {
			t.Fatalf("got %d bytes, %v", len(data), err)
		}
		if _, err := keyless.ReadRoots(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
	}
}

// TestFetchRefuses what is not as its owner signed it.
func TestFetchRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*sigstoretest.TUF)
		want   error
	}{
		"other content": {func(r *sigstoretest.TUF) {
			r.Served = bytes.Replace(r.Content, []byte("public"), []byte("poblic"), 1)
		}, oci.ErrIntegrity},
		"more content":       {func(r *sigstoretest.TUF) { r.Served = append(bytes.Clone(r.Content), ' ') }, oci.ErrIntegrity},
		"less content":       {func(r *sigstoretest.TUF) { r.Served = r.Content[:10] }, oci.ErrIntegrity},
		"another's key":      {func(r *sigstoretest.TUF) { r.Signer = published() }, oci.ErrIntegrity},
		"expired":            {func(r *sigstoretest.TUF) { r.Expires = time.Now().Add(-time.Second) }, oci.ErrIntegrity},
		"no trusted root":    {func(r *sigstoretest.TUF) { r.Content = []byte("{}") }, oci.ErrInvalid},
		"nobody to trust":    {func(r *sigstoretest.TUF) { r.Content = nil }, oci.ErrInvalid},
		"larger than may be": {func(r *sigstoretest.TUF) { r.Content = bytes.Repeat([]byte(" "), 9<<20) }, oci.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			r := published()
			test.change(r)
			if data, err := fetch(t, r, r.Root(), ""); !errors.Is(err, test.want) {
				t.Errorf("got %d bytes, %v; want %v", len(data), err, test.want)
			}
		})
	}
	t.Run("another's root", func(t *testing.T) {
		if _, err := fetch(t, published(), published().Root(), ""); !errors.Is(err, oci.ErrIntegrity) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing of that name", func(t *testing.T) {
		r := published()
		r.Target = "other.json"
		if _, err := fetch(t, r, r.Root(), ""); err == nil || !strings.Contains(err.Error(), "trusted_root.json not found") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no repository", func(t *testing.T) {
		if _, err := fetch(t, http.NotFoundHandler(), published().Root(), ""); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("broken server", func(t *testing.T) {
		broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		if _, err := fetch(t, broken, published().Root(), ""); err == nil || errors.Is(err, oci.ErrIntegrity) || errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "502") {
			t.Errorf("got %v", err)
		}
	})
}

// TestFetchIsNotRolledBack: an older version than was seen before is refused, by who
// remembers.
func TestFetchIsNotRolledBack(t *testing.T) {
	r := published()
	server := httptest.NewServer(r)
	defer server.Close()
	opts := keyless.FetchOptions{URL: server.URL, Root: r.Root(), Dir: t.TempDir()}
	for _, version := range []int{2, 3} {
		r.Version = version
		if _, err := keyless.Fetch(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
	}
	r.Version, r.Content = 2, private.TrustedRoot(true)
	if _, err := keyless.Fetch(t.Context(), opts); !errors.Is(err, oci.ErrIntegrity) {
		t.Errorf("got %v", err)
	}
	opts.Dir = ""
	if _, err := keyless.Fetch(t.Context(), opts); err != nil {
		t.Errorf("without a memory: %v", err)
	}
}

// TestFetchEnds with its context.
func TestFetchEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	}))
	defer server.Close()
	if _, err := keyless.Fetch(ctx, keyless.FetchOptions{URL: server.URL, Root: published().Root()}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestFetchOptions that cannot be.
func TestFetchOptions(t *testing.T) {
	for name, opts := range map[string]keyless.FetchOptions{
		"a URL alone":  {URL: "https://tuf.example.com"},
		"a root alone": {Root: published().Root()},
		"no root":      {URL: "https://tuf.example.com", Root: []byte("{}")},
		"no URL":       {URL: "tuf.example.com", Root: published().Root()},
		"another kind": {URL: "file:///etc", Root: published().Root()},
	} {
		if _, err := keyless.Fetch(t.Context(), opts); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestPublicInstanceRoot: the root that is built in is one.
func TestPublicInstanceRoot(t *testing.T) {
	asked := ""
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return nil, errors.New("no network")
	})}
	_, err := keyless.Fetch(t.Context(), keyless.FetchOptions{Client: client})
	if err == nil || !strings.HasPrefix(asked, keyless.PublicInstance+"/") || errors.Is(err, oci.ErrIntegrity) {
		t.Errorf("asked %s: %v", asked, err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
