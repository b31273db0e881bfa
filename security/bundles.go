package security

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// inHand is how many documents of one digest are in memory at once.
const inHand = 4

// documentsOf gives the documents of one digest to use, in their order.
func (f *fetch) documentsOf(ctx context.Context, owner string, d oci.Digest, list []vuln.Attestation, use func(vuln.Evidence, error) error) error {
	seen := map[string]int{}
	for _, a := range list {
		seen[bundleID(a, d, 0)]++
	}
	n := 0
	for part := range slices.Chunk(list, inHand) {
		contents := make([][]byte, len(part))
		errs := make([]error, len(part))
		each(ctx, len(part), func(i int) {
			// What only a permission tells apart can't be kept by where it is.
			alone := seen[bundleID(part[i], d, 0)] == 1
			contents[i], errs[i] = f.bundle(ctx, owner, d, part[i], alone)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i, a := range part {
			e := vuln.Evidence{ID: bundleID(a, d, n), MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Subject: d, Content: contents[i]}
			n++
			if err := use(e, errs[i]); errors.Is(err, vuln.ErrTooMany) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// bundleID names an attestation: by where it is kept, without what is a permission.
func bundleID(a vuln.Attestation, d oci.Digest, n int) string {
	if u, err := url.Parse(a.BundleURL); err == nil && u.Host != "" {
		u.RawQuery, u.User, u.Fragment = "", nil, ""
		return u.String()
	}
	return fmt.Sprintf("attestation %d of %s", n+1, d)
}

// bundle returns an attestation, from the list or from where it is kept. It is
// remembered by where that is only if no other is there.
func (f *fetch) bundle(ctx context.Context, owner string, d oci.Digest, a vuln.Attestation, alone bool) ([]byte, error) {
	switch {
	case a.Inline():
		return a.Bundle, nil
	case a.BundleURL == "":
		return nil, errors.New("GitHub lists an attestation and says neither what it is nor where")
	}
	if !alone {
		return f.download(ctx, a, d)
	}
	key := "attestation " + d.String() + " " + bundleID(a, d, 0)
	if kept, ok := f.client.opts.Store.Get(key); ok {
		return kept, nil
	}
	// Several images may share what it is about.
	return f.bundles.get(ctx, key, func() ([]byte, error) {
		content, err := f.download(ctx, a, d)
		if gone(err) {
			// The address is good for a short time, and this list may be old.
			a, err = f.relist(ctx, owner, d, a, err)
			if err == nil {
				content, err = f.download(ctx, a, d)
			}
		}
		if err == nil {
			f.client.opts.Store.Put(key, content)
		}
		return content, err
	})
}

func (f *fetch) download(ctx context.Context, a vuln.Attestation, d oci.Digest) ([]byte, error) {
	var content []byte
	_, err := f.elsewhere(ctx, errand{
		op: "get attestation of", target: d.String(), method: http.MethodGet, address: a.BundleURL, limit: vuln.MaxBundleSize,
		whole: func(packed []byte) (err error) {
			if content, err = vuln.Unpack(packed); err == nil {
				err = isJSON(content)
			}
			return err
		},
	})
	return content, err
}

// relist asks for the address of an attestation anew.
func (f *fetch) relist(ctx context.Context, owner string, d oci.Digest, a vuln.Attestation, cause error) (vuln.Attestation, error) {
	at, err := f.ownerPath(ctx, owner)
	if err != nil {
		return a, err
	}
	now := f.listOne(ctx, at, d)
	for _, other := range now.attestations {
		if bundleID(other, d, 0) == bundleID(a, d, 0) && other.BundleURL != a.BundleURL {
			return other, nil
		}
	}
	return a, cause
}
