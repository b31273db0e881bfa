package transfer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/oci"
)

// Stage implements [Stager].
func (l *Layout) Stage(ctx context.Context, d oci.Descriptor) (*Stage, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return nil, err
	}
	stage, err := openStage(ctx, l.blobPath(d.Digest), d)
	if err != nil {
		return nil, l.in(err)
	}
	return stage, nil
}

// PutBlob implements [Target]. There is nothing to mount from.
func (l *Layout) PutBlob(ctx context.Context, d oci.Descriptor, _ []string, open oci.Opener) (oci.Stored, error) {
	stage, err := l.Stage(ctx, d)
	if err != nil {
		return "", err
	}
	if stage == nil {
		return oci.StoredExisting, nil
	}
	for _, span := range stage.Missing() {
		if err := fillSpan(ctx, stage, span, open); err != nil {
			return "", errors.Join(l.in(err), stage.Close())
		}
	}
	if err := stage.Commit(); err != nil {
		return "", errors.Join(l.in(err), stage.Close())
	}
	return oci.StoredUpload, stage.Close()
}

func fillSpan(ctx context.Context, stage *Stage, s Span, open oci.Opener) error {
	body, err := open(ctx, s.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	return copySpan(ctx, stage, s, body, nil)
}

// PutManifest implements [Target]. A manifest that is put by its digest is listed
// without a name, until an index arrives that lists it: then it is reached through
// that.
//
// Errors: [oci.ErrInvalid] for a ref that is neither tag nor digest, with
// [oci.ErrIntegrity] for the digest of other bytes.
func (l *Layout) PutManifest(ctx context.Context, ref string, m *oci.Manifest) error {
	r, err := oci.ParseReference(ref)
	if err != nil {
		return l.in(err)
	}
	d := m.Descriptor()
	if r.Digest != "" {
		if err := m.Verify(r.Digest); err != nil {
			return l.broken("%w", err)
		}
		d.Digest = r.Digest
	}
	path := l.blobPath(d.Digest)
	if there, err := readRegular(path, oci.MaxManifestSize); err != nil || !bytes.Equal(there, m.Bytes()) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return l.in(err)
		}
		if err := atomicfile.Write(path, m.Bytes(), 0o644, true); err != nil {
			return l.in(err)
		}
	}
	release, err := l.lock(ctx)
	if err != nil {
		return l.in(err)
	}
	defer release()
	index, err := l.read()
	if err != nil {
		return err
	}
	if changed := index.with(d, r.Tag, m.Manifests); changed != nil {
		return l.write(changed)
	}
	return nil
}

// with returns the index with a manifest listed: under a tag, which it takes from
// any other, or without one. The manifest's children need no entries any more. It
// returns nil if nothing is to change.
func (index *layoutIndex) with(d oci.Descriptor, tag string, children []oci.Descriptor) *layoutIndex {
	child := map[oci.Digest]bool{}
	for _, c := range children {
		child[c.Digest] = true
	}
	listed := false
	entries := slices.DeleteFunc(slices.Clone(index.entries), func(e indexEntry) bool {
		tagged := tag != "" && e.Annotations[v1.AnnotationRefName] == tag
		if e.Digest != d.Digest {
			return tagged || child[e.Digest] && e.isPlain()
		}
		if tag != "" && e.isPlain() {
			return true // the entry with the tag says more
		}
		listed = listed || tag == "" || tagged
		return false
	})
	if listed && len(entries) == len(index.entries) {
		return nil
	}
	if !listed {
		if tag != "" {
			d.Annotations = map[string]string{v1.AnnotationRefName: tag}
		}
		entries = append(entries, indexEntry{Descriptor: d})
	}
	return &layoutIndex{fields: index.fields, entries: entries}
}

// isPlain tells whether an entry says no more than that its manifest is there.
func (e indexEntry) isPlain() bool { return len(e.Annotations) == 0 && e.Platform == nil }
