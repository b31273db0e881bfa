package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// SnapshotOptions say how much of a package to read. The zero value lists its versions
// and reads none of them.
type SnapshotOptions struct {
	Manifests bool // read all manifests
	Labels    bool // and the labels of all images
}

// Snapshot lists a package as it is now, for [retain.Make]: one listing that has come
// to rest, and no manifest unless it is asked for. [Client.PlanPrune] reads what its
// policy needs. Tag and digest of the reference are not looked at.
//
// Errors: those of [Client.Inventory]. A manifest that can't be read is none, and
// marked.
func (c *Client) Snapshot(ctx context.Context, image oci.ImageRef, opts SnapshotOptions) (*retain.Inventory, error) {
	s, err := c.subject(image)
	if err != nil {
		return nil, err
	}
	if s.api == nil {
		return nil, s.noAPI("take a snapshot of")
	}
	inv, err := s.snapshot(ctx)
	if err == nil && (opts.Manifests || opts.Labels) {
		err = s.read(ctx, inv, digestsOf(inv))
	}
	if err == nil && opts.Labels {
		err = s.readLabels(ctx, inv, digestsOf(inv))
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", s.image.Repository(), err)
	}
	return inv, nil
}

func digestsOf(inv *retain.Inventory) []oci.Digest {
	list := make([]oci.Digest, len(inv.Versions))
	for i, v := range inv.Versions {
		list[i] = v.Digest
	}
	return list
}

func (s *subject) snapshot(ctx context.Context) (*retain.Inventory, error) {
	taken := time.Now().UTC()
	p, rows, err := s.api.Contents(ctx, s.owner, s.name)
	if err != nil {
		return nil, err
	}
	owner, err := s.api.Owner(ctx, s.owner) // is known by now
	if err != nil {
		return nil, err
	}
	inv := &retain.Inventory{
		Host: s.image.Registry, Owner: s.owner, OwnerID: owner.ID, Package: s.name, PackageID: p.ID,
		Taken: taken, Versions: make([]retain.Version, len(rows)),
	}
	for i, row := range rows {
		tags := slices.Clone(row.Tags)
		slices.Sort(tags)
		inv.Versions[i] = retain.Version{ID: row.ID, Digest: row.Digest(), Tags: tags, Created: row.CreatedAt, Updated: row.UpdatedAt}
	}
	return inv, s.dropTwins(ctx, inv)
}

// dropTwins takes out what is listed still although it is gone, where it shows: the
// same manifest was pushed again and is another version by now
// (docs/quirks.md#rest-new-id-on-repush).
func (s *subject) dropTwins(ctx context.Context, inv *retain.Inventory) error {
	gone := map[int64]bool{}
	for _, places := range byDigest(inv) {
		for _, i := range places {
			if len(places) == 1 {
				break
			}
			_, err := s.api.Version(ctx, s.owner, s.name, inv.Versions[i].ID)
			if ignoreNotFound(err) != nil {
				return err
			}
			gone[inv.Versions[i].ID] = err != nil
		}
	}
	inv.Versions = slices.DeleteFunc(inv.Versions, func(v retain.Version) bool { return gone[v.ID] })
	return nil
}

// byDigest finds the places of versions. While a list is late, what was deleted and
// pushed again has two.
func byDigest(inv *retain.Inventory) map[oci.Digest][]int {
	at := make(map[oci.Digest][]int, len(inv.Versions))
	for i, v := range inv.Versions {
		at[v.Digest] = append(at[v.Digest], i)
	}
	return at
}

// read fills in manifests. What is only listed still is taken out.
func (s *subject) read(ctx context.Context, inv *retain.Inventory, digests []oci.Digest) error {
	at := byDigest(inv)
	gone := make([]bool, len(inv.Versions))
	err := each(ctx, len(digests), func(ctx context.Context, n int) error {
		m, err := s.manifest(ctx, digests[n])
		if err != nil && !ofOneManifest(err) {
			return err
		}
		for _, i := range at[digests[n]] {
			v := &inv.Versions[i]
			if v.Manifest = m; err == nil {
				continue
			}
			if errors.Is(err, ErrNotFound) {
				_, apiErr := s.api.Version(ctx, s.owner, s.name, v.ID)
				gone[i] = errors.Is(apiErr, ErrNotFound)
			}
			v.Unreadable = err.Error()
		}
		return nil
	})
	if err != nil {
		return err
	}
	kept := inv.Versions[:0]
	for i, v := range inv.Versions {
		if !gone[i] {
			kept = append(kept, v)
		}
	}
	inv.Versions = kept
	return nil
}

// readLabels fills in the labels of images. What is no image has none; an image whose
// config can't be read counts as unreadable itself.
func (s *subject) readLabels(ctx context.Context, inv *retain.Inventory, digests []oci.Digest) error {
	at := byDigest(inv)
	return each(ctx, len(digests), func(ctx context.Context, n int) error {
		places := at[digests[n]]
		if len(places) == 0 || inv.Versions[places[0]].Manifest == nil {
			return nil
		}
		config, err := s.config(ctx, inv.Versions[places[0]].Manifest)
		if err != nil && !ofOneManifest(err) {
			return err
		}
		for _, i := range places {
			if inv.Versions[i].Labels = config.labels(); err != nil {
				inv.Versions[i].Labels = nil
				inv.Versions[i].Unreadable = "its config: " + err.Error()
			}
		}
		return nil
	})
}

// PruneOptions say what a plan goes by besides its policy.
type PruneOptions struct {
	// Facts are what the files say that the policy names, and what is in use.
	Facts retain.Facts
	// Now is the time that ages are counted to; the present if zero.
	Now time.Time
}

// PlanPrune works out what a policy does to a package, and changes nothing: see
// [Client.ApplyPrune]. It lists the versions once, and reads those manifests and
// configs that the policy needs, as [retain.Make] states them; a manifest is fetched
// once ever as long as Options.CacheDir is kept. The list may be late
// (docs/quirks.md#rest-staleness): the tags are looked at when the plan is carried out.
// The inventory is what it was made on, for [retain.Explain].
//
// Errors: those of [Client.Snapshot] and [retain.Make].
func (c *Client) PlanPrune(ctx context.Context, image oci.ImageRef, policy *retain.Policy, opts PruneOptions) (*retain.Plan, *retain.Inventory, error) {
	s, err := c.subject(image)
	if err != nil {
		return nil, nil, err
	}
	if s.api == nil {
		return nil, nil, s.noAPI("plan a prune of")
	}
	plan, inv, err := s.planPrune(ctx, policy, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("plan a prune of %s: %w", s.image.Repository(), err)
	}
	return plan, inv, nil
}

func (s *subject) planPrune(ctx context.Context, policy *retain.Policy, opts PruneOptions) (*retain.Plan, *retain.Inventory, error) {
	inv, err := s.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	now := opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	fetched := s.client.manifests.fetched()
	for {
		plan, err := retain.Make(policy, inv, opts.Facts, now)
		switch {
		case err != nil:
			return nil, nil, err
		case len(plan.Needs) > 0:
			err = s.read(ctx, inv, plan.Needs)
		case len(plan.NeedsLabels) > 0:
			err = s.readLabels(ctx, inv, plan.NeedsLabels)
		default:
			plan.Tool = cmp.Or(s.client.opts.UserAgent, "ghcr")
			plan.Cost.Downloads = int(s.client.manifests.fetched() - fetched)
			return plan, inv, plan.Seal()
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
