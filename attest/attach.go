package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Content is a document to attach.
type Content struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string // of its layer
}

// Attach attaches documents to a manifest: an artifact whose subject it is, of
// which each document is a layer. It returns the artifact's descriptor. Whoever
// looks for referrers finds it, and cosign from version 3 on reads a bundle that is
// attached in this way; the tags of cosign 2 are not written, since two writers of
// one such tag lose each other's signatures.
//
// An empty artifactType is the media type of the first document. A Sigstore bundle,
// an envelope or a statement must be about the manifest, and is annotated with its
// predicate type. Nothing else is added, no time either: attaching the same again
// stores nothing new.
//
// Where the registry has no referrers API the artifact is listed in an index under a
// tag (docs/quirks.md#referrers), which a registry can't change in one step. So that
// writers in other processes do not undo the entry, it is looked at again one to two
// seconds later, and written again until it has stayed. A writer that takes longer
// from reading the index to writing it can still take it away.
//
// Errors: [oci.ErrInvalid] for no document, one over [MaxDocumentSize], one without a
// media type, or a bundle with others beside it; [ErrWrongSubject] and
// [ErrMalformed] for what can't be attached to this manifest; [oci.ErrNotFound] if
// there is no such manifest; those of the target; an error if other writers keep
// taking the entry away.
func Attach(ctx context.Context, target Target, subject oci.Digest, artifactType string, contents []Content, annotations map[string]string) (oci.Descriptor, error) {
	if _, err := oci.ParseDigest(subject.String()); err != nil {
		return oci.Descriptor{}, err
	}
	about, err := target.Resolve(ctx, subject.String())
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("attach to %s: %w", subject, err)
	}
	m, err := artifact(about, artifactType, contents, annotations)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("attach to %s: %w", subject, err)
	}
	blobs := []Content{{Data: []byte("{}")}}
	for _, c := range append(blobs, contents...) {
		d := oci.Descriptor{MediaType: c.MediaType, Digest: digest.FromBytes(c.Data), Size: int64(len(c.Data))}
		open := func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c.Data[offset:])), nil
		}
		if _, err := target.PutBlob(ctx, d, nil, open); err != nil {
			return oci.Descriptor{}, fmt.Errorf("attach to %s: %w", subject, err)
		}
	}
	if err := put(ctx, target, about.Digest, m); err != nil {
		return oci.Descriptor{}, fmt.Errorf("attach to %s: %w", subject, err)
	}
	return m.Descriptor(), nil
}

// artifact makes the manifest that carries the documents.
func artifact(about oci.Descriptor, artifactType string, contents []Content, annotations map[string]string) (*oci.Manifest, error) {
	if len(contents) == 0 {
		return nil, oci.Invalid("there is no document")
	}
	if artifactType == "" {
		artifactType = contents[0].MediaType
	}
	notes := maps.Clone(annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	var layers []oci.Descriptor
	for _, c := range contents {
		switch {
		case c.MediaType == "":
			return nil, oci.Invalid("a document has no media type")
		case len(c.Data) > MaxDocumentSize:
			return nil, oci.Invalid("a document is %d bytes; readers take at most %d: %w", len(c.Data), MaxDocumentSize, ErrLimit)
		case layoutOf(artifactType, c.MediaType) == LayoutBundle && len(contents) > 1:
			return nil, oci.Invalid("a bundle is attached by itself, not with %d others", len(contents)-1)
		}
		layer := oci.Descriptor{MediaType: c.MediaType, Digest: digest.FromBytes(c.Data), Size: int64(len(c.Data)), Annotations: c.Annotations}
		own, err := describe(about.Digest, artifactType, layer, c.Data)
		if err != nil {
			return nil, oci.Invalid("%s: %w", layer.Digest, err)
		}
		if len(contents) == 1 {
			maps.Copy(own, notes)
			notes = own
		} else if len(own) > 0 {
			maps.Copy(own, c.Annotations)
			layer.Annotations = own
		}
		layers = append(layers, layer)
	}
	raw, err := json.Marshal(struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        oci.Descriptor    `json:"config"`
		Layers        []oci.Descriptor  `json:"layers"`
		Subject       oci.Descriptor    `json:"subject"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{
		2, oci.MediaTypeOCIManifest, artifactType,
		oci.Descriptor{MediaType: oci.MediaTypeEmpty, Digest: digest.FromString("{}"), Size: 2},
		layers,
		oci.Descriptor{MediaType: about.MediaType, Digest: about.Digest, Size: about.Size},
		notes,
	})
	if err != nil {
		return nil, err
	}
	return oci.ParseManifest(oci.MediaTypeOCIManifest, raw)
}

// describe reads what is to be attached, checks what it is about, and returns the
// annotations that tell others what it is without reading it.
func describe(about oci.Digest, artifactType string, layer oci.Descriptor, data []byte) (map[string]string, error) {
	// What a bundle that signs the image's bytes signs is left to whoever verifies it.
	d, err := Parse(context.Background(), nil, Attachment{
		Subject: about, Layer: layer, Layout: layoutOf(artifactType, layer.MediaType), Annotations: layer.Annotations,
	}, data)
	if err != nil {
		return nil, err
	}
	if err := d.About(); err != nil {
		return nil, err
	}
	notes := map[string]string{}
	switch {
	case d.Attachment.Layout == LayoutBundle && d.Statement != nil:
		notes[contentNote], notes[bundlePredNote] = "dsse-envelope", d.PredicateType
	case d.Attachment.Layout == LayoutBundle:
		notes[contentNote] = "message-signature"
	case d.Statement != nil:
		notes[predicateNote] = d.PredicateType
	}
	return notes, nil
}

// settleTries bounds how often an entry is written again that other writers undid.
const settleTries = 8

// put stores the artifact's manifest and sees to it that it stays listed.
func put(ctx context.Context, target Target, subject oci.Digest, m *oci.Manifest) error {
	for try := range settleTries {
		if err := target.PutManifest(ctx, m.Digest().String(), m); err != nil {
			return err
		}
		_, err := target.Resolve(ctx, oci.DigestTag(subject))
		if errors.Is(err, oci.ErrNotFound) {
			return nil // the registry itself keeps track of referrers
		}
		if err != nil {
			return fmt.Errorf("look at the list of referrers: %w", err)
		}
		// Another writer that read the list before this entry was in it will have written it
		// by then. Writers that undo each other part, since no two wait equally long.
		wait := time.Second + rand.N(time.Second<<min(try, 3))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		list, err := target.Referrers(ctx, subject)
		if err != nil {
			return fmt.Errorf("look at the list of referrers: %w", err)
		}
		if slices.ContainsFunc(list, func(d oci.Descriptor) bool { return d.Digest == m.Digest() }) {
			return nil
		}
	}
	return fmt.Errorf("%s is stored, but other writers have taken it %d times from the list of referrers of %s; attach it again when they are done",
		m.Digest(), settleTries, subject)
}
