package keyless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/llm-dev-ops/ghcr/oci"
)

// PublicInstance is where Sigstore publishes the trusted root of its public instance,
// as a repository of The Update Framework (TUF).
const PublicInstance = tuf.DefaultMirror

// FetchOptions say where a trusted root is published. The zero value is Sigstore's
// public instance.
type FetchOptions struct {
	// URL is the repository; empty is [PublicInstance].
	URL string
	// Root is the repository's root metadata, from which each later one is proved: what
	// is fetched is trusted for its sake. It is needed with a URL, and without one it
	// is that which comes with this program.
	Root []byte
	// Dir keeps the metadata that was seen last, so that older ones are refused. Empty
	// keeps none.
	Dir string
	// Client sends the requests; nil is [http.DefaultClient]. It decides whether
	// anything but HTTPS is spoken.
	Client *http.Client
}

// trustedRoot is the name that clients of Sigstore look for in a repository.
const trustedRoot = "trusted_root.json"

// Fetch returns a trusted root for [ReadRoots], whose signatures, digest and age are
// those that the repository's own metadata ask for. Nothing is retried.
//
// Errors: [oci.ErrIntegrity] if what is published is not signed as it must be, is
// not what was signed, is older than what was seen before, or has expired;
// [oci.ErrNotFound] if there is no repository; [oci.ErrInvalid] for options that
// cannot be, and if what is published is no trusted root.
func Fetch(ctx context.Context, opts FetchOptions) ([]byte, error) {
	if (opts.URL == "") != (opts.Root == nil) {
		return nil, oci.Invalid("fetch a trusted root: a repository's URL and its root metadata go together")
	}
	if opts.URL == "" {
		opts.URL, opts.Root = PublicInstance, tuf.DefaultRoot()
	}
	if u, err := url.Parse(opts.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, oci.Invalid("fetch a trusted root: %q is no URL", opts.URL)
	}
	if opts.Client == nil {
		opts.Client = http.DefaultClient
	}
	if _, err := new(metadata.Metadata[metadata.RootType]).FromBytes(opts.Root); err != nil {
		return nil, oci.Invalid("fetch a trusted root: the root metadata: %w", err)
	}
	data, err := target(ctx, opts)
	if err == nil {
		_, err = ReadRoots(bytes.NewReader(data))
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch a trusted root from %s: %w", opts.URL, classify(err))
	}
	return data, nil
}

func target(ctx context.Context, opts FetchOptions) ([]byte, error) {
	client, err := tuf.New(&tuf.Options{
		RepositoryBaseURL: opts.URL,
		Root:              opts.Root,
		CachePath:         opts.Dir,
		DisableLocalCache: opts.Dir == "",
		Fetcher:           &download{ctx, opts.Client},
	})
	if err != nil {
		return nil, err
	}
	return client.GetTarget(trustedRoot)
}

// download fetches files for the TUF client, which has no contexts.
type download struct {
	ctx    context.Context
	client *http.Client
}

// DownloadFile implements go-tuf's fetcher.Fetcher.
func (d *download) DownloadFile(address string, most int64, _ time.Duration) ([]byte, error) {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: resp.StatusCode, URL: address}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s has more than %d bytes", address, most)}
	}
	return data, nil
}

// classify gives an error of the TUF client the class that a caller can test for.
func classify(err error) error {
	var status *metadata.ErrDownloadHTTP
	switch {
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", oci.ErrNotFound, err)
	case errors.Is(err, &metadata.ErrRepository{}), errors.Is(err, &metadata.ErrDownloadLengthMismatch{}):
		return fmt.Errorf("%w: %w", oci.ErrIntegrity, err)
	}
	return err
}
