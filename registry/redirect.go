package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// maxHops bounds a chain of redirects.
const maxHops = 5

// follow sends a read and follows redirects, which GHCR uses for blobs
// (docs/quirks.md#blob-redirect). No credential goes to another host, nothing
// goes from https to http, and nothing from a public host to a loopback one.
func (r *Repository) follow(ctx context.Context, q request) (*http.Response, error) {
	bulk := q.call.Bulk
	for hop := 0; ; hop++ {
		resp, err := r.host.do(ctx, q)
		if err != nil || resp.StatusCode < 300 {
			return resp, err
		}
		discard(resp)
		if hop == maxHops {
			return nil, fmt.Errorf("%s %s: gave up after %d redirects", q.call.Op, q.call.Target, maxHops)
		}
		next, err := redirectTarget(q.url, resp)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.call.Op, q.call.Target, err)
		}
		if !sameHost(next, &r.host.base) {
			if see := resp.StatusCode; !bulk && see != http.StatusTemporaryRedirect && see != http.StatusPermanentRedirect {
				// GHCR sends requests that it does not know to GitHub's web pages with a 303
				// (docs/quirks.md#unmatched-route). Only 307 and 308 mean the same request.
				return nil, fmt.Errorf("%s %s: registry sent us to %s: %w", q.call.Op, q.call.Target, next.Host, oci.ErrNotFound)
			}
			q.call.NoAuth, q.call.Scopes = true, nil
			if d, ok := digestOf(q.call.Target); ok && bulk {
				r.host.rememberSigned(r.name, d, next)
			}
		}
		q.url = next
	}
}

func digestOf(target string) (oci.Digest, bool) {
	_, s, ok := strings.Cut(target, "@")
	return oci.Digest(s), ok
}

func redirectTarget(from *url.URL, resp *http.Response) (*url.URL, error) {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil, fmt.Errorf("registry answered %d without a Location", resp.StatusCode)
	}
	next, err := from.Parse(location)
	if err != nil {
		return nil, errors.New("registry answered with a malformed Location")
	}
	switch {
	case next.Scheme != "https" && next.Scheme != "http":
		return nil, fmt.Errorf("registry sent us to a %s URL", next.Scheme)
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, errors.New("registry sent us from https to http; refused")
	case transport.IsLoopback(next.Host) && !transport.IsLoopback(from.Host):
		return nil, errors.New("registry sent us to this machine; refused")
	}
	next.User = nil
	return next, nil
}

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// signedURL is where a blob's bytes are for a while. It is as good as a
// credential for that blob: kept in memory only and never logged.
type signedURL struct {
	url *url.URL
	at  time.Time
}

// A signed URL is asked for again after this long, and at once when it is refused.
const signedURLLife = 4 * time.Minute

// maxSigned bounds how many signed URLs are kept.
const maxSigned = 256

func (h *Host) signedURL(repo string, d oci.Digest) *url.URL {
	h.signedMu.Lock()
	defer h.signedMu.Unlock()
	s, ok := h.signed[repo+"@"+d.String()]
	if !ok || time.Since(s.at) > signedURLLife {
		return nil
	}
	return s.url
}

func (h *Host) rememberSigned(repo string, d oci.Digest, u *url.URL) {
	h.signedMu.Lock()
	defer h.signedMu.Unlock()
	if len(h.signed) >= maxSigned {
		clear(h.signed)
	}
	h.signed[repo+"@"+d.String()] = signedURL{u, time.Now()}
}

func (h *Host) forgetSigned(repo string, d oci.Digest) {
	h.signedMu.Lock()
	defer h.signedMu.Unlock()
	delete(h.signed, repo+"@"+d.String())
}
