package ghcr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// attached is what is attached to the images of one repository. It is listed once
// for each digest and index.
type attached struct {
	source attest.Source
	// unread is what could not be read and may be attached to anything; nil if all was.
	unread error

	mu     sync.Mutex
	listed map[attachedAt]*attest.Listing
}

// attachedAt is an image as an index lists it, which may list attestations beside it that
// another does not; without an index, an image that stands alone.
type attachedAt struct{ digest, index oci.Digest }

// list returns what is attached to a digest. An index that lists it is where BuildKit
// keeps what it attests.
func (a *attached) list(ctx context.Context, d, index oci.Digest) (*attest.Listing, error) {
	if index == d {
		index = ""
	}
	at := attachedAt{d, index}
	a.mu.Lock()
	listing := a.listed[at]
	a.mu.Unlock()
	if listing != nil {
		return listing, nil
	}
	listing, err := attest.List(ctx, a.source, d, attest.ListOptions{Index: index})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listed == nil {
		a.listed = map[attachedAt]*attest.Listing{}
	}
	a.listed[at] = listing
	return listing, nil
}

// attachedDocuments is the source of what is attached to an image in the registry.
type attachedDocuments struct {
	attached     *attached
	verification security.Verification
}

// Name implements [vuln.Source].
func (*attachedDocuments) Name() vuln.SourceName { return vuln.SourceAttestation }

// Fetch implements [vuln.Source].
func (s *attachedDocuments) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	r := &vuln.Reader{Source: vuln.SourceAttestation, Target: t, Verifier: s.verification.Verifier, RequireSigned: s.verification.Required}
	err := s.attached.documents(ctx, t, func(a attest.Attachment, doc *attest.Document, err error) error {
		if err != nil {
			r.Fail(string(a.Layer.Digest), err)
			return nil
		}
		return r.Read(ctx, vuln.Evidence{
			ID: string(a.Layer.Digest), MediaType: a.Layer.MediaType, Annotations: a.Annotations, Content: doc.Raw, Subject: a.Subject,
		})
	})
	if s.attached.unread != nil {
		r.Fail("the repository", s.attached.unread)
	}
	return r.Report(), refusedByRegistry(err)
}

// documents gives what is attached to the target's digests to use, those that can't be
// read with an error. Signatures of the image itself say nothing of what is in it, and
// are left out. The first error of use but [vuln.ErrTooMany] ends it.
func (a *attached) documents(ctx context.Context, t vuln.Target, use func(attest.Attachment, *attest.Document, error) error) error {
	index := t.Digest
	if t.Parent != "" {
		index = t.Parent
	}
	for _, d := range t.Digests() {
		listing, err := a.list(ctx, d, indexOf(t, index))
		if err != nil {
			return err
		}
		for _, w := range listing.Warnings {
			if err := use(attest.Attachment{Subject: d, Layer: oci.Descriptor{Digest: w.Digest}}, nil, w.Err); err != nil {
				return err
			}
		}
		for _, attachment := range listing.Attachments {
			if !mayTell(attachment) {
				continue
			}
			doc, err := attest.Read(ctx, a.source, attachment)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err = use(attachment, doc, err); errors.Is(err, vuln.ErrTooMany) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// indexOf is the index that the target's images are listed in; none of an image that
// stands alone.
func indexOf(t vuln.Target, d oci.Digest) oci.Digest {
	if t.Parent == "" && len(t.Platforms) == 1 && t.Platforms[0].Digest == t.Digest {
		return ""
	}
	return d
}

// mayTell tells whether a document may say something of vulnerabilities, as far as its
// surroundings say. What they leave open is read.
func mayTell(a attest.Attachment) bool {
	switch a.Layout {
	case attest.LayoutSimpleSigning, attest.LayoutNotation:
		return false
	}
	return !strings.HasPrefix(a.PredicateType, attest.PredicateSignature)
}

// keptSource reads a repository, and what never changes of it only once.
type keptSource struct{ *subject }

// Manifest implements [attest.Source]. A tag is resolved first, which is no download
// (docs/quirks.md#count-downloads).
func (s *keptSource) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	if _, err := oci.ParseDigest(ref); err == nil {
		return s.manifest(ctx, oci.Digest(ref))
	}
	d, err := s.repo.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.manifest(ctx, d.Digest)
}

// Blob implements [attest.Source].
func (s *keptSource) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if offset != 0 || length >= 0 || d.Size > maxKeptDocument {
		return s.repo.Blob(ctx, d, offset, length)
	}
	key := "blob " + d.Digest.String()
	done, err := s.client.fetching.begin(ctx, key)
	if err != nil {
		return nil, err
	}
	defer done()
	if kept, ok := s.client.documents.Get(key); ok && int64(len(kept)) == d.Size && d.Digest.Algorithm().FromBytes(kept) == d.Digest {
		return io.NopCloser(bytes.NewReader(kept)), nil
	}
	body, err := s.repo.GetBlob(ctx, d) // which goes on where an answer breaks off
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content, err := io.ReadAll(io.LimitReader(body, d.Size+1))
	if err != nil {
		return nil, fmt.Errorf("read %s@%s: %w", s.image.Repository(), d.Digest, err)
	}
	if d.Digest.Algorithm().FromBytes(content) == d.Digest {
		s.client.documents.Put(key, content)
	}
	return io.NopCloser(bytes.NewReader(content)), nil // who asked checks it too
}

// Referrers implements [attest.Source].
func (s *keptSource) Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	return s.repo.Referrers(ctx, d)
}

// inventorySource reads a repository that an inventory was taken of, which knows all
// tags and referrers: only documents are fetched.
type inventorySource struct {
	keptSource
	inventory *Inventory
	tags      map[string]*Version
	referrers map[oci.Digest][]oci.Descriptor
}

func newInventorySource(s *subject, inv *Inventory) *inventorySource {
	source := &inventorySource{keptSource: keptSource{s}, inventory: inv, tags: map[string]*Version{}, referrers: map[oci.Digest][]oci.Descriptor{}}
	for _, v := range inv.Versions {
		for _, tag := range v.Tags {
			source.tags[tag] = v
		}
		if m := v.Node.Manifest; m != nil && m.Subject != nil {
			source.referrers[m.Subject.Digest] = append(source.referrers[m.Subject.Digest], m.Descriptor())
		}
	}
	return source
}

// Manifest implements [attest.Source].
func (s *inventorySource) Manifest(ctx context.Context, ref string) (*oci.Manifest, error) {
	d := oci.Digest(ref)
	if _, err := oci.ParseDigest(ref); err != nil {
		v := s.tags[ref]
		if v == nil {
			return nil, fmt.Errorf("%s:%s: %w", s.image.Repository(), ref, ErrNotFound)
		}
		d = v.Digest()
	}
	if n := s.inventory.Graph.Node(d); n != nil && n.Manifest != nil {
		return n.Manifest, nil
	}
	return s.manifest(ctx, d)
}

// Referrers implements [attest.Source].
func (s *inventorySource) Referrers(_ context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	list := append([]oci.Descriptor(nil), s.referrers[d]...)
	if v := s.tags[oci.DigestTag(d)]; v != nil && v.Node.Manifest != nil && v.Node.Manifest.IsIndex() && v.Digest() != d {
		list = append(list, v.Node.Manifest.Manifests...)
	}
	return list, nil
}
