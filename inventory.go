package ghcr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Inventory is a package as both services see it: the versions that the Packages API
// numbers, joined with the manifests that the registry has.
type Inventory struct {
	Image      oci.ImageRef // the repository, without tag or digest
	Visibility packages.Visibility
	Versions   []*Version // the newest first
	Graph      *oci.Graph // the same manifests, by what they point at
}

// Version is a version of a package and its manifest.
type Version struct {
	packages.PackageVersion
	Node *oci.Node // its place in the graph
	// Unreadable is why the manifest could not be read; nil if it was. What such a
	// version lists is not known, so nothing may be taken for unused because of it.
	Unreadable error
}

// Version returns the version with that digest, or nil.
func (v *Inventory) Version(d oci.Digest) *Version {
	for _, version := range v.Versions {
		if version.Digest() == d {
			return version
		}
	}
	return nil
}

// Tagged returns the versions that have a tag which match says yes to, the newest
// first.
func (v *Inventory) Tagged(match func(tag string) bool) []*Version {
	var list []*Version
	for _, version := range v.Versions {
		if slices.ContainsFunc(version.Tags, match) {
			list = append(list, version)
		}
	}
	return list
}

// Unreadable returns the versions whose manifests could not be read.
func (v *Inventory) Unreadable() []*Version {
	var list []*Version
	for _, version := range v.Versions {
		if version.Unreadable != nil {
			list = append(list, version)
		}
	}
	return list
}

// Inventory reads all versions of a package and their manifests. Tag and digest of
// the reference are not looked at. It takes a request to the API for each hundred
// versions, which costs no quota where nothing changed, and fetches each manifest
// once ever as long as Options.CacheDir is kept. A manifest that can't be read is no
// error, but marked.
//
// Errors: [ErrUnsupported] for a registry that is not GitHub's,
// [*packages.Error] with the reason of a refusal, [*packages.MovingError] for a list
// that did not come to rest, and what stops all reading: [ErrUnauthorized],
// [ErrDenied], [ErrRateLimited], no answer.
func (c *Client) Inventory(ctx context.Context, image oci.ImageRef) (*Inventory, error) {
	s, err := c.subject(image)
	if err != nil {
		return nil, err
	}
	if s.api == nil {
		return nil, s.noAPI("take an inventory of")
	}
	inv, err := s.inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory of %s: %w", s.image.Repository(), err)
	}
	return inv, nil
}

// subject is one repository as both services know it.
type subject struct {
	client *Client
	image  oci.ImageRef // without tag or digest
	repo   *registry.Repository
	api    *packages.Client // nil for a registry that is not GitHub's
	owner  string
	name   string
}

func (c *Client) subject(image oci.ImageRef) (*subject, error) {
	repo, err := c.Repository(image)
	if err != nil {
		return nil, err
	}
	s := &subject{client: c, image: image.With(oci.Reference{}), repo: repo}
	if c.isGHCR(image.Registry) {
		if image.Registry != c.opts.Registry {
			return nil, oci.Invalid("%s is not the registry of this client, which is %s: its API can't be asked", image.Registry, c.opts.Registry)
		}
		if s.api, err = c.Packages(); err != nil {
			return nil, err
		}
		s.owner, s.name, _ = strings.Cut(image.Name, "/")
	}
	return s, nil
}

func (s *subject) noAPI(op string) error {
	return &unsupportedError{fmt.Sprintf("%s %s: only GitHub's registries have an API that lists versions", op, s.image.Repository())}
}

type unsupportedError struct{ text string }

func (e *unsupportedError) Error() string        { return e.text }
func (e *unsupportedError) Is(target error) bool { return target == ErrUnsupported }

func (s *subject) inventory(ctx context.Context) (*Inventory, error) {
	rows, err := s.api.AllVersions(ctx, s.owner, s.name, packages.Active)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{Image: s.image}
	for _, row := range rows {
		inv.Visibility = row.Metadata.Visibility
		inv.Versions = append(inv.Versions, &Version{PackageVersion: row})
	}
	nodes := make([]*oci.Node, len(rows))
	gone := make([]bool, len(rows))
	err = each(ctx, len(rows), func(ctx context.Context, i int) error {
		v := inv.Versions[i]
		m, err := s.manifest(ctx, v.Digest())
		if errors.Is(err, ErrNotFound) {
			// A version that was deleted stays in the list for a while
			// (docs/quirks.md#rest-staleness).
			_, apiErr := s.api.Version(ctx, s.owner, s.name, v.ID)
			if gone[i] = errors.Is(apiErr, ErrNotFound); gone[i] {
				return nil
			}
		}
		if err != nil && !ofOneManifest(err) {
			return err
		}
		v.Unreadable = err
		v.Node = &oci.Node{Digest: v.Digest(), Tags: v.Tags, Manifest: m}
		nodes[i] = v.Node
		return nil
	})
	if err != nil {
		return nil, err
	}
	inv.keep(func(i int) bool { return !gone[i] })
	return inv, nil
}

// keep drops versions and joins the rest anew.
func (v *Inventory) keep(wanted func(i int) bool) {
	versions, nodes := v.Versions[:0], []*oci.Node{}
	for i, version := range v.Versions {
		if wanted(i) {
			versions = append(versions, version)
			nodes = append(nodes, version.Node)
		}
	}
	v.Versions, v.Graph = versions, oci.NewGraph(nodes)
}

// manifest returns a manifest by its digest, fetched if it is not kept.
func (s *subject) manifest(ctx context.Context, d oci.Digest) (*oci.Manifest, error) {
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, err
	}
	if m := s.client.manifests.get(d); m != nil {
		return m, nil
	}
	done, err := s.client.fetching.begin(ctx, "manifest "+d.String())
	if err != nil {
		return nil, err
	}
	defer done()
	if m := s.client.manifests.get(d); m != nil {
		return m, nil
	}
	m, err := s.repo.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	s.client.manifests.put(d, m)
	return m, nil
}

// ofOneManifest tells an error that may well be of one manifest from one that will
// meet all others too.
func ofOneManifest(err error) bool {
	var e *transport.Error
	if !errors.As(err, &e) {
		return errors.Is(err, ErrIntegrity) || errors.Is(err, ErrInvalid)
	}
	switch {
	case e.Status == 0, errors.Is(e, ErrRateLimited), e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return false
	}
	return true
}

// parallelReads is how many short requests to a registry are under way at once.
const parallelReads = 16

// each calls do for 0 to n-1, several at a time. The first error ends the others.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for i := range n {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return do(inner, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// resolveTags asks the registry which digest each tag has now. A tag that it does not
// have is left out.
func (s *subject) resolveTags(ctx context.Context, tags []string) (map[string]oci.Digest, error) {
	var mu sync.Mutex
	have := map[string]oci.Digest{}
	err := each(ctx, len(tags), func(ctx context.Context, i int) error {
		d, err := s.repo.Resolve(ctx, tags[i])
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		have[tags[i]] = d.Digest
		return nil
	})
	return have, err
}
