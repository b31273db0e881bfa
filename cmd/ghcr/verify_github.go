package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// hold holds an image to a policy. What the registry lacks may be in GitHub's
// attestations API, where actions/attest keeps it unless it is told to push it as well; so
// that is asked if the registry is not enough.
func (a *app) hold(ctx context.Context, image attested, policy attest.Policy) (*attest.Result, error) {
	result, err := attest.Verify(ctx, image.src, image.digest, policy)
	var unmet *attest.PolicyError
	if !errors.As(err, &unmet) || !a.onGitHub(image.end) {
		return result, err
	}
	also, unread := a.githubDocuments(ctx, image, policy)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(also) > 0 {
		policy.Also = also
		result, err = attest.Verify(ctx, image.src, image.digest, policy)
	}
	if errors.As(err, &unmet) && unread != nil {
		// It may be there, so this is no answer.
		unmet.Unmet[0].Err = errors.Join(unmet.Unmet[0].Err, fmt.Errorf("what GitHub attests could not be read: %w", unread))
	}
	return result, err
}

// onGitHub tells whether GitHub's API may know the image.
func (a *app) onGitHub(end ghcr.End) bool {
	client, err := a.client()
	return err == nil && end.Kind == ghcr.EndRegistry && client.Registry() == end.Ref.Registry
}

// githubDocuments reads what GitHub attests of the images that a policy is about. What
// could be read is there beside an error.
func (a *app) githubDocuments(ctx context.Context, image attested, policy attest.Policy) ([]*attest.Document, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	security, err := client.Security()
	if err != nil {
		return nil, err
	}
	digests := []oci.Digest{image.digest}
	if slices.ContainsFunc(policy.Require, func(r attest.Requirement) bool { return cmp.Or(r.Scope, attest.ScopeDigest) != attest.ScopeDigest }) {
		m, err := image.src.Manifest(ctx, image.digest.String())
		if err != nil {
			return nil, err
		}
		for _, d := range m.Manifests {
			if _, attests := oci.AttestationOf(d); !attests {
				digests = append(digests, d.Digest)
			}
		}
	}
	owner, _, _ := strings.Cut(image.end.Ref.Name, "/")
	var list []*attest.Document
	var errs []error
	err = security.Look().Documents(ctx, owner, digests, func(e vuln.Evidence, err error) error {
		if err == nil {
			var doc *attest.Document
			doc, err = attest.Parse(ctx, image.src, attest.Attachment{
				Subject: e.Subject, Place: attest.PlaceGitHub, Signed: true, Annotations: e.Annotations,
				Layer: oci.Descriptor{MediaType: e.MediaType, Digest: digest.FromBytes(e.Content), Size: int64(len(e.Content))},
			}, e.Content)
			if err == nil {
				list = append(list, doc)
				return nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.ID, err))
		return nil
	})
	return list, errors.Join(append(errs, err)...)
}
