package attest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ListOptions say how far [List] looks. The zero value looks at what is attached
// to the one digest.
type ListOptions struct {
	// Children looks at the manifests that an index lists as well, and at what BuildKit
	// put beside them.
	Children bool
	// Nested looks at what is attached to attachments as well: a signature of an
	// SBOM, say.
	Nested bool
	// Index is the index that lists the digest, if one is known. Only there BuildKit's
	// attestations of a platform are found.
	Index oci.Digest
}

// Listing is what is attached.
type Listing struct {
	// Images are the digest that was asked for and, with [ListOptions.Children], the
	// manifests below it, attestations left out.
	Images []Image
	// Attachments stand in the order in which they were found: by subject, and for each
	// first referrers, then tags, then entries of the index.
	Attachments []Attachment
	// Warnings are what was passed over. While there are any, the list may lack
	// something.
	Warnings []*Warning
}

// Image is a manifest that things may be attached to.
type Image struct {
	Digest oci.Digest
	Index  bool // it lists other images
}

// List finds what is attached to a manifest: its referrers, what stands under the
// tags sha256-<hex>.sig, .att and .sbom, and what BuildKit lists in its index. Each
// carrying manifest is opened, since what an index says of it may be wrong. That
// takes four or five requests for each digest and one for each manifest, up to eight
// at once.
//
// At most [MaxAttachments] are listed for each digest.
//
// Errors: those of the source, when it can't be asked; [oci.ErrInvalid] for a
// malformed digest. A manifest that can't be read or is not what it should be is a
// warning in the listing.
func List(ctx context.Context, src Source, d oci.Digest, opts ListOptions) (*Listing, error) {
	if _, err := oci.ParseDigest(d.String()); err != nil {
		return nil, err
	}
	l := &lister{src: src, counts: map[oci.Digest]int{}, manifests: map[oci.Digest]*oci.Manifest{}}
	images := []Image{{Digest: d}}
	var beside []beside
	if opts.Children {
		m, err := l.manifest(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("look at what %s lists: %w", d, err)
		}
		if images, beside, err = l.under(ctx, m, 0); err != nil {
			return nil, err
		}
	}
	if opts.Index != "" {
		m, err := l.manifest(ctx, opts.Index)
		if err != nil {
			return nil, fmt.Errorf("look for attestations of %s in the index %s: %w", d, opts.Index, err)
		}
		beside = append(beside, besideOf(m)...)
	}
	l.Images = images
	var subjects []oci.Digest
	for _, i := range images {
		subjects = append(subjects, i.Digest)
	}
	if err := l.attached(ctx, subjects, beside); err != nil {
		return nil, err
	}
	if opts.Nested {
		if err := l.nested(ctx); err != nil {
			return nil, err
		}
	}
	return &l.Listing, nil
}

type lister struct {
	Listing
	src    Source
	counts map[oci.Digest]int // documents attached to each digest

	mu        sync.Mutex
	manifests map[oci.Digest]*oci.Manifest
}

// beside is an entry of an index that BuildKit made about another entry.
type beside struct{ digest, about oci.Digest }

func besideOf(m *oci.Manifest) []beside {
	var list []beside
	for _, d := range m.Manifests {
		if about, ok := oci.AttestationOf(d); ok {
			list = append(list, beside{d.Digest, about})
		}
	}
	return list
}

// under returns a manifest and all that it lists, and what BuildKit put beside them.
func (l *lister) under(ctx context.Context, m *oci.Manifest, depth int) ([]Image, []beside, error) {
	images := []Image{{m.Digest(), m.IsIndex()}}
	all := besideOf(m)
	for _, d := range m.Manifests {
		_, attests := oci.AttestationOf(d)
		known := slices.ContainsFunc(images, func(i Image) bool { return i.Digest == d.Digest })
		if attests || known || !oci.IsManifestType(d.MediaType) {
			continue
		}
		if len(images) >= maxManifests || depth >= maxDepth {
			return nil, nil, oci.Invalid("%s lists more than %d images, or indexes deeper than %d", m.Digest(), maxManifests, maxDepth)
		}
		if oci.IsIndexType(d.MediaType) {
			child, err := l.manifest(ctx, d.Digest)
			if err == nil {
				below, more, err := l.under(ctx, child, depth+1)
				if err != nil {
					return nil, nil, err
				}
				images, all = append(images, below...), append(all, more...)
				continue
			}
			if ctx.Err() != nil {
				return nil, nil, err
			}
			l.Warnings = append(l.Warnings, &Warning{d.Digest, err})
			// What it lists is unknown, so it counts as an image itself: a policy for all
			// images then asks something of it.
		}
		images = append(images, Image{Digest: d.Digest})
	}
	return images, all, nil
}

// tagSuffixes are the tags that cosign up to version 2 puts things under.
var tagSuffixes = []string{".sig", ".att", ".sbom"}

// maxTag is the longest tag that a registry takes; the tag of a SHA-512 digest is
// longer, so nothing is under it.
const maxTag = 128

// lookups bounds how many requests are under way at once.
const lookups = 8

// finding is what one look at one place found.
type finding struct {
	about    oci.Digest
	place    Place
	carriers []*oci.Manifest
	warnings []*Warning
}

// attached lists what is attached to each subject. The places are looked at side by
// side, and what is found is put in order afterwards.
func (l *lister) attached(ctx context.Context, subjects []oci.Digest, beside []beside) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var looks []func() (finding, error)
	for _, about := range subjects {
		looks = append(looks, func() (finding, error) { return l.referrers(ctx, about) })
		for _, suffix := range tagSuffixes {
			looks = append(looks, func() (finding, error) { return l.tag(ctx, about, suffix) })
		}
		looks = append(looks, func() (finding, error) { return l.beside(ctx, about, beside) })
	}
	findings := make([]finding, len(looks))
	slots := make(chan struct{}, lookups)
	var wg sync.WaitGroup
	for n, look := range looks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			var err error
			if findings[n], err = look(); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	listed := map[[2]oci.Digest]bool{}
	for _, f := range findings {
		l.Warnings = append(l.Warnings, f.warnings...)
		for _, m := range f.carriers {
			if key := [2]oci.Digest{f.about, m.Digest()}; !listed[key] {
				listed[key] = true
				l.add(m, f.about, f.place)
			}
		}
	}
	return nil
}

// referrers looks at the manifests that have the subject. Which those are, only they
// themselves say.
func (l *lister) referrers(ctx context.Context, about oci.Digest) (finding, error) {
	f := finding{about: about, place: PlaceReferrer}
	list, err := l.src.Referrers(ctx, about)
	if err != nil {
		return f, fmt.Errorf("look for what is attached to %s: %w", about, err)
	}
	var digests []oci.Digest
	for _, d := range list {
		digests = append(digests, d.Digest)
	}
	if err := l.open(ctx, &f, digests); err != nil {
		return f, err
	}
	f.carriers = slices.DeleteFunc(f.carriers, func(m *oci.Manifest) bool {
		foreign := m.Subject == nil || m.Subject.Digest != about
		if foreign {
			f.warnings = append(f.warnings, &Warning{m.Digest(), fmt.Errorf("%w: it is listed as a referrer of %s, which it does not name as its subject", ErrWrongSubject, about)})
		}
		return foreign
	})
	return f, nil
}

// tag looks at what stands under one of cosign's tags.
func (l *lister) tag(ctx context.Context, about oci.Digest, suffix string) (finding, error) {
	f := finding{about: about, place: PlaceTag}
	tag := oci.DigestTag(about) + suffix
	if len(tag) > maxTag {
		return f, nil
	}
	m, err := l.src.Manifest(ctx, tag)
	switch {
	case errors.Is(err, oci.ErrNotFound):
	case errors.Is(err, oci.ErrInvalid), errors.Is(err, oci.ErrIntegrity):
		f.warnings = append(f.warnings, &Warning{about, fmt.Errorf("what stands under the tag %s: %w", tag, err)})
	case err != nil:
		return f, fmt.Errorf("look for what is attached to %s: %w", about, err)
	case m.Digest() != about:
		f.carriers = append(f.carriers, m)
	}
	return f, nil
}

// beside looks at what BuildKit put into an index about the subject.
func (l *lister) beside(ctx context.Context, about oci.Digest, all []beside) (finding, error) {
	f := finding{about: about, place: PlaceIndex}
	var digests []oci.Digest
	for _, b := range all {
		if b.about == about {
			digests = append(digests, b.digest)
		}
	}
	return f, l.open(ctx, &f, digests)
}

// open fetches manifests that carry documents. One that can't be read is passed over,
// unless the whole call has ended.
func (l *lister) open(ctx context.Context, f *finding, digests []oci.Digest) error {
	seen := map[oci.Digest]bool{}
	for _, d := range digests {
		if seen[d] {
			continue
		}
		if len(seen) == MaxAttachments {
			f.warnings = append(f.warnings, &Warning{f.about, fmt.Errorf("%w: more than %d manifests are attached", ErrLimit, MaxAttachments)})
			return nil
		}
		seen[d] = true
		m, err := l.manifest(ctx, d)
		if err == nil {
			f.carriers = append(f.carriers, m)
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		f.warnings = append(f.warnings, &Warning{d, err})
	}
	return nil
}

// manifest fetches a manifest once.
func (l *lister) manifest(ctx context.Context, d oci.Digest) (*oci.Manifest, error) {
	l.mu.Lock()
	m := l.manifests[d]
	l.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := l.src.Manifest(ctx, d.String())
	if err == nil {
		l.mu.Lock()
		l.manifests[d] = m
		l.mu.Unlock()
	}
	return m, err
}

// nested lists what is attached to attachments, and what to that.
func (l *lister) nested(ctx context.Context) error {
	done := map[oci.Digest]bool{}
	for _, i := range l.Images {
		done[i.Digest] = true
	}
	begin := 0
	for depth := 0; begin < len(l.Attachments); depth++ {
		var level []oci.Digest
		for _, a := range l.Attachments[begin:] {
			if d := a.Manifest.Digest; !done[d] {
				done[d] = true
				level = append(level, d)
			}
		}
		begin = len(l.Attachments)
		if len(level) > 0 && (depth == maxDepth || len(done) > maxManifests) {
			l.Warnings = append(l.Warnings, &Warning{level[0], fmt.Errorf("%w: attachments of attachments, deeper than %d or more than %d", ErrLimit, maxDepth, maxManifests)})
			return nil
		}
		if err := l.attached(ctx, level, nil); err != nil {
			return err
		}
	}
	return nil
}

// add lists the documents in a carrying manifest.
func (l *lister) add(m *oci.Manifest, about oci.Digest, place Place) {
	artifactType := m.ArtifactType
	if artifactType == "" && m.Config != nil {
		artifactType = m.Config.MediaType
	}
	if strings.HasPrefix(artifactType, bundleType) && len(m.Layers) != 1 {
		l.Warnings = append(l.Warnings, &Warning{m.Digest(), fmt.Errorf("%w: a bundle is one layer, this has %d", ErrMalformed, len(m.Layers))})
		return
	}
	for _, layer := range m.Layers {
		if layer.MediaType == oci.MediaTypeEmpty {
			continue
		}
		if l.counts[about]++; l.counts[about] > MaxAttachments {
			l.Warnings = append(l.Warnings, &Warning{about, fmt.Errorf("%w: more than %d documents are attached", ErrLimit, MaxAttachments)})
			return
		}
		a := Attachment{
			Subject: about, Manifest: m.Descriptor(), Layer: layer, Place: place, ArtifactType: artifactType,
			Layout: layoutOf(artifactType, layer.MediaType), Annotations: map[string]string{},
		}
		maps.Copy(a.Annotations, m.Annotations)
		maps.Copy(a.Annotations, layer.Annotations)
		a.Created, _ = time.Parse(time.RFC3339, a.Annotations[createdNote])
		a.PredicateType = cmp.Or(a.Annotations[predicateNote], a.Annotations[bundlePredNote], a.Annotations["predicateType"], predicateOf(layer.MediaType))
		switch a.Layout {
		case LayoutBundle, LayoutDSSE, LayoutSimpleSigning, LayoutNotation:
			a.Signed = true
		}
		l.Attachments = append(l.Attachments, a)
	}
}
