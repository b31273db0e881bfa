package ghcr

import (
	"context"
	"fmt"
	"io"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// archive copies what an action is about to delete, with the parts of it that go too,
// parts before what lists them: half of an image is no archive. What can't be copied
// stays.
func (p *pruning) archive(ctx context.Context, k int) error {
	a := p.plan.Actions[k]
	if err, tried := p.archived[a.Digest]; tried {
		return err
	}
	p.archived[a.Digest] = nil // a plan may say that something is a part of itself
	var err error
	for _, part := range p.parts[a.Digest] {
		if err == nil && !p.results[part].Outcome.good() {
			err = p.archive(ctx, part)
		}
	}
	if err == nil {
		if err = p.archiveOne(ctx, a); err != nil {
			err = fmt.Errorf("%s could not be archived, and stays: %w", p.byDigest(a.Digest), err)
		}
	}
	p.archived[a.Digest] = err
	return err
}

func (p *pruning) archiveOne(ctx context.Context, a retain.Action) error {
	names := a.Tags
	if len(names) == 0 {
		names = []string{a.Digest.String()}
	}
	earlier, err := p.archivedAs(ctx, a)
	if err != nil {
		return err
	}
	if p.opts.ArchiveBlobs {
		_, err = transfer.Copy(ctx, archived{p.subject}, a.Digest.String(), p.layout, names[0], transfer.Options{Tags: names[1:]})
	} else {
		err = p.archiveManifest(ctx, a.Digest, names)
	}
	for _, m := range earlier {
		if err == nil {
			err = p.layout.PutManifest(ctx, m.Digest().String(), m)
		}
	}
	return err
}

func (p *pruning) archiveManifest(ctx context.Context, d oci.Digest, names []string) error {
	m, err := p.subject.manifest(ctx, d)
	for _, name := range names {
		if err == nil {
			err = p.layout.PutManifest(ctx, name, m)
		}
	}
	return err
}

// archivedAs returns what an archive has under the tags of what comes to it. A tag
// leaves it, and it must stay in the list of what is there.
func (p *pruning) archivedAs(ctx context.Context, a retain.Action) (list []*oci.Manifest, err error) {
	for _, tag := range a.Tags {
		m, err := p.layout.Manifest(ctx, tag)
		switch {
		case ignoreNotFound(err) != nil:
			return nil, err
		case err == nil && m.Digest() != a.Digest:
			list = append(list, m)
		}
	}
	return list, nil
}

// archived is a repository as a source that fetches no manifest a second time, since
// each fetch counts as a download (docs/quirks.md#count-downloads).
type archived struct{ subject *subject }

// Manifest implements [transfer.Source].
func (a archived) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	d, err := oci.ParseDigest(ref)
	if err != nil {
		return nil, err
	}
	return a.subject.manifest(ctx, d)
}

// Blob implements [transfer.Source].
func (a archived) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	return a.subject.repo.Blob(ctx, d, offset, length)
}
