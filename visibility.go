package ghcr

import (
	"context"
	"errors"
	"fmt"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Visibility is who may see a package, by what GitHub says and by what it does.
type Visibility struct {
	Stated    packages.Visibility // in the package's settings
	Anonymous bool                // whether a pull without a login was possible just now
	Settings  string              // the page on which a person changes it
}

// Visibility asks the Packages API who may see an image's package, and then the
// registry, without a login, whether that is so. To change it there is
// [packages.Client.SetVisibility], and on GitHub only a page
// (docs/quirks.md#rest-no-patch).
//
// Errors: [ErrUnsupported] for a registry that is not GitHub's, [*packages.Error] with
// the reason of a refusal, and those of [Client.AnonymousPull].
func (c *Client) Visibility(ctx context.Context, image oci.ImageRef) (Visibility, error) {
	s, err := c.subject(image)
	if err != nil {
		return Visibility{}, err
	}
	if s.api == nil {
		return Visibility{}, s.noAPI("read the visibility of")
	}
	p, err := s.api.Get(ctx, s.owner, s.name)
	if err != nil {
		return Visibility{}, err
	}
	v := Visibility{Stated: p.Visibility}
	if v.Settings, err = s.api.SettingsURL(ctx, s.owner, s.name); err != nil {
		return v, err
	}
	v.Anonymous, err = c.AnonymousPull(ctx, image)
	return v, err
}

// AnonymousPull tells whether an image can be pulled without a login, by asking the
// registry without one: for the manifest, or without tag and digest for the
// repository's tags. Nothing is downloaded. If the answer is no, the image is looked
// for with the login, so that what does not exist is not called private.
//
// Errors: [ErrNotFound] for what the login does not see either, and whatever leaves
// the question open.
func (c *Client) AnonymousPull(ctx context.Context, image oci.ImageRef) (bool, error) {
	outside, err := c.anonymous(image)
	if err != nil {
		return false, err
	}
	inside, err := c.Repository(image)
	if err != nil {
		return false, err
	}
	err = probe(ctx, outside, image.Reference)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, ErrUnauthorized) && !errors.Is(err, ErrDenied) && !errors.Is(err, ErrNotFound) {
		return false, fmt.Errorf("pull %s without a login: %w", image, err)
	}
	if err := probe(ctx, inside, image.Reference); err != nil {
		return false, fmt.Errorf("pull %s: %w", image, err)
	}
	return false, nil
}

// anonymous returns a repository as strangers see it.
func (c *Client) anonymous(image oci.ImageRef) (*registry.Repository, error) {
	t, err := transport.New(transport.Options{
		Base: c.opts.Base, Rules: c.authRules, PlainHTTP: c.opts.PlainHTTP, UserAgent: c.opts.UserAgent,
		Logger: c.opts.Logger, Observer: c.opts.Observer, MaxWait: c.opts.MaxWait,
	})
	if err != nil {
		return nil, err
	}
	host, err := registry.New(t, image.Registry, c.registryOptions(image.Registry))
	if err != nil {
		return nil, err
	}
	return host.Repository(image.Name)
}

// probe does what a pull begins with.
func probe(ctx context.Context, as *registry.Repository, ref oci.Reference) error {
	if ref.IsZero() {
		for _, err := range as.Tags(ctx, registry.TagOptions{}) {
			return err
		}
		return nil
	}
	_, err := as.Resolve(ctx, ref.String())
	return err
}
