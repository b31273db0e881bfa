package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/transport"
)

func (a *app) trustedRootCommand() *cobra.Command {
	var address, rootFile string
	cmd := &cobra.Command{
		Use:   "trusted-root",
		Short: "Fetch whom to trust for certificates of Sigstore",
		Long: `Fetch whom to trust for certificates: the trusted root of Sigstore's public instance,
which signs for public repositories. It comes by The Update Framework: the root that is
built in proves what is fetched, and what is older than was seen before is refused. It
is printed, and kept where verify and --verify look for it, which use no network
themselves. A trusted root changes a few times a year.

Private repositories sign by GitHub's own instance: gh attestation trusted-root prints
both. Another instance is named by its repository and that one's root metadata.`,
		Example: "  ghcr trusted-root > roots.jsonl\n  ghcr trusted-root --tuf-url https://tuf.example.com --tuf-root root.json > roots.jsonl",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.flags.sim != "" {
				return usage("--sim: the emulator publishes no trusted root")
			}
			if (address == "") != (rootFile == "") {
				return usage("--tuf-url and --tuf-root go together: the root proves what the URL has")
			}
			opts, err := a.options()
			if err != nil {
				return err
			}
			fetch := keyless.FetchOptions{URL: address, Client: a.tufClient(opts.Base)}
			if opts.CacheDir != "" {
				fetch.Dir = filepath.Join(opts.CacheDir, "tuf")
			}
			if u, err := url.Parse(address); address != "" && (err != nil || !a.mayFetch(u)) {
				return usage("--tuf-url %s: HTTPS only, but for loopback with --plain-http", address)
			}
			if rootFile != "" {
				if fetch.Root, err = os.ReadFile(rootFile); err != nil {
					return usage("--tuf-root: %w", err)
				}
			}
			data, err := keyless.Fetch(cmd.Context(), fetch)
			if err != nil {
				return err
			}
			if address == "" {
				if err := keepRoot(opts.CacheDir, data); err != nil {
					return fmt.Errorf("keep the trusted root: %w", err)
				}
			}
			var line bytes.Buffer
			if err := json.Compact(&line, data); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, line.String())
			return err
		},
	}
	cmd.Flags().StringVar(&address, "tuf-url", "", "`URL` of another instance's TUF repository")
	cmd.Flags().StringVar(&rootFile, "tuf-root", "", "`FILE` with its root metadata")
	return cmd
}

// keptRoot is the file in the cache that verify looks for.
const keptRoot = "trusted_root.json"

func keepRoot(cache string, data []byte) error {
	if cache == "" {
		return nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	return writeAside(filepath.Join(cache, keptRoot), bytes.NewReader(data))
}

// tufTime bounds one of the small files.
const tufTime = time.Minute

// tufClient sends requests without any login, and follows no redirect to where they
// would not be sent themselves.
func (a *app) tufClient(base http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: base, Timeout: tufTime,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if !a.mayFetch(req.URL) {
				return fmt.Errorf("redirected to %s://%s; refused", req.URL.Scheme, req.URL.Host)
			}
			if len(via) == 5 {
				return errors.New("redirected too often")
			}
			return nil
		},
	}
}

func (a *app) mayFetch(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && a.flags.plainHTTP && transport.IsLoopback(u.Host)
}
