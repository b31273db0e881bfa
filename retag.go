package ghcr

import (
	"context"
	"errors"
	"fmt"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Retagged is what [Client.Retag] did.
type Retagged struct {
	Digest oci.Digest // that the tag has now
	Before oci.Digest // that it had; empty if there was no such tag
}

// Retag gives an image one more tag, or moves the tag there: the same bytes are put
// under it, so that it is the same image, and the tag it is named by stays. Afterwards
// both the tag and the image are looked at. An image that loses the tag is still there
// by its digest, which is Before.
//
// Errors: [ErrNotFound], [ErrDenied], [ErrIntegrity], [ErrInvalid] for a malformed
// tag, [*ChangedError] if somebody else has moved the tag by then.
func (c *Client) Retag(ctx context.Context, image oci.ImageRef, tag string) (Retagged, error) {
	result, err := c.retag(ctx, image, tag)
	if err != nil {
		return result, fmt.Errorf("tag %s as %s: %w", image, tag, err)
	}
	return result, nil
}

func (c *Client) retag(ctx context.Context, image oci.ImageRef, tag string) (Retagged, error) {
	s, err := c.oneRegistry(image)
	if err != nil {
		return Retagged{}, err
	}
	if err := oci.CheckTag(tag); err != nil {
		return Retagged{}, err
	}
	d, err := s.digest(ctx, image.Reference)
	if err != nil {
		return Retagged{}, err
	}
	return s.point(ctx, tag, d)
}

// oneRegistry is the repository of an image, for what needs no API.
func (c *Client) oneRegistry(image oci.ImageRef) (*subject, error) {
	if image.Reference.IsZero() {
		return nil, oci.Invalid("%s names a whole repository: add a tag or digest", image)
	}
	repo, err := c.Repository(image)
	if err != nil {
		return nil, err
	}
	return &subject{client: c, image: image.With(oci.Reference{}), repo: repo}, nil
}

// digest asks the registry which manifest is meant. A tag beside a digest must point
// to it.
func (s *subject) digest(ctx context.Context, ref oci.Reference) (oci.Digest, error) {
	name := ref.Tag
	if name == "" {
		name = ref.Digest.String()
	}
	d, err := s.repo.Resolve(ctx, name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" && d.Digest != ref.Digest {
		return "", &ChangedError{s.image.With(ref), fmt.Sprintf("the tag points to %s", d.Digest)}
	}
	return d.Digest, nil
}

// point has a tag name a manifest of the repository, and looks that it does.
func (s *subject) point(ctx context.Context, tag string, d oci.Digest) (Retagged, error) {
	result := Retagged{Digest: d}
	switch before, err := s.repo.Resolve(ctx, tag); {
	case err == nil:
		result.Before = before.Digest
	case !errors.Is(err, ErrNotFound):
		return Retagged{}, brokenOff(ctx, err)
	}
	sent, release := transport.Finishing(ctx, finishWait)
	defer release()
	if result.Before != d {
		m, err := s.manifest(ctx, d)
		if err != nil {
			return Retagged{}, brokenOff(ctx, err)
		}
		if err := s.put(ctx, sent, tag, m); err != nil {
			return Retagged{}, err
		}
	}
	for _, name := range []string{tag, d.String()} {
		now, err := s.repo.Resolve(sent, name)
		if err != nil {
			return result, unknown(ctx, s.image.With(oci.Reference{Tag: tag}), fmt.Errorf("look at %s afterwards: %w", name, err))
		}
		if now.Digest != d {
			return result, &ChangedError{s.image.With(oci.Reference{Tag: tag}), fmt.Sprintf("somebody else has moved it to %s", now.Digest)}
		}
	}
	return result, nil
}

// put has a tag name a manifest, and finds out what came of it where that is open: once
// it was sent it goes on, within sent, when ctx is done.
func (s *subject) put(ctx, sent context.Context, tag string, m *oci.Manifest) error {
	if ctx.Err() != nil {
		return &untried{context.Cause(ctx)}
	}
	err := s.repo.PutManifest(sent, tag, m)
	if err == nil || !leavesOpen(err) && ctx.Err() == nil {
		return err
	}
	// A wait before it is sent again may have ended, so it may have been sent in any case.
	switch now, lookErr := s.repo.Resolve(sent, tag); {
	case lookErr == nil && now.Digest == m.Digest():
		return nil
	case ignoreNotFound(lookErr) != nil:
		return unknown(ctx, s.image.With(oci.Reference{Tag: tag}), err)
	}
	return notSent(ctx, sent, err)
}

// Promote copies an image to another name, mostly a tag of another repository, such
// that it is the very image that the source named when it began: the tag is resolved
// once, what is copied is the digest, and at the end the new tag is looked at. With
// opts.Recursive its signatures go along.
//
// Errors: those of [Client.Copy], and [*ChangedError] if somebody else has moved the
// new tag by then.
func (c *Client) Promote(ctx context.Context, src, dst oci.ImageRef, opts transfer.Options) (transfer.Result, error) {
	result, err := c.promote(ctx, src, dst, opts)
	if err != nil {
		return result, fmt.Errorf("promote %s to %s: %w", src, dst, err)
	}
	return result, nil
}

func (c *Client) promote(ctx context.Context, src, dst oci.ImageRef, opts transfer.Options) (transfer.Result, error) {
	from, err := c.oneRegistry(src)
	if err != nil {
		return transfer.Result{}, err
	}
	to, err := c.oneRegistry(dst)
	if err != nil {
		return transfer.Result{}, err
	}
	d, err := from.digest(ctx, src.Reference)
	if err != nil {
		return transfer.Result{}, err
	}
	if dst.Reference.Digest != "" && dst.Reference.Digest != d {
		return transfer.Result{}, &ChangedError{src, fmt.Sprintf("it is %s", d)}
	}
	result, err := c.Copy(ctx,
		End{Kind: EndRegistry, Ref: src.With(oci.Reference{Digest: d})},
		End{Kind: EndRegistry, Ref: dst}, opts)
	if err != nil || opts.DryRun {
		return result, err
	}
	if result.Descriptor.Digest == d || len(opts.Platforms) == 0 {
		_, err = to.digest(ctx, oci.Reference{Tag: dst.Reference.Tag, Digest: d})
	}
	return result, err
}

// Exists tells whether the registry has an image. GHCR refuses who asks for what does
// not exist much as who may not see it (docs/quirks.md#token-missing-status), and then
// it is not known: that is an error, not a no.
//
// Errors: [ErrUnauthorized], [ErrDenied] and others where it is not known.
func (c *Client) Exists(ctx context.Context, image oci.ImageRef) (bool, error) {
	s, err := c.oneRegistry(image)
	if err != nil {
		return false, err
	}
	_, err = s.digest(ctx, image.Reference)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
