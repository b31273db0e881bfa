package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Options say what to copy and how. The zero value copies the image with
// everything that its manifest lists.
type Options struct {
	// Platforms restricts an index. One platform copies that platform's manifest
	// as it is; several make a new index of them, with their attestations, which
	// has a digest of its own. Nil copies the index whole.
	Platforms []oci.Platform
	// Recursive also copies what refers to the copied manifests: referrers and
	// their referrers, and the tags named after digests (cosign's signatures).
	Recursive bool
	// Tags are further tags to put at the target.
	Tags []string
	// NoClobber fails with [ErrTagExists] rather than move a tag of the target.
	// Registries cannot do this atomically: a tag that is made meanwhile is moved.
	NoClobber bool
	// DryRun reads manifests and counts what would be moved, and moves nothing.
	DryRun bool
	// Jobs is how many blobs, or pieces of one, move at once. Zero means 16 large
	// ones, or up to 64 small ones, which wait for answers more than they move.
	Jobs int
	// Progress is told what happens, from several goroutines. It must not block.
	Progress func(Event)
	// Memory is what is known of registries from earlier copies. Nil knows nothing.
	Memory *Memory
}

// ErrTagExists says that a tag is taken and [Options.NoClobber] keeps it.
var ErrTagExists = errors.New("the tag names another image")

// Result says what a copy did, also where it failed half way.
type Result struct {
	Descriptor oci.Descriptor // of the manifest that has the tag now
	Unchanged  bool           // the target had the image under this tag already
	Manifests  int            // manifests that were put
	Uploaded   int            // blobs whose bytes were moved
	Mounted    int            // blobs that the registry took over from another repository
	Existing   int            // blobs that were there
	Bytes      int64          // bytes that were moved, manifests not counted
	Referrers  int            // referrers and digest tags that were copied
}

// Copy copies the image that srcRef names to dstRef, both a tag or a digest; an
// empty dstRef stores it under its digest alone. Manifests travel byte for byte.
// Content goes before what refers to it and the tag comes last, so that the
// target never shows an image that is not whole. What is at the target already is
// not moved; a second run picks up where a first one was ended.
//
// The error says which side failed. On failure the result says what was done.
//
// Errors: [oci.ErrNotFound], [oci.ErrInvalid], [oci.ErrIntegrity],
// [ErrTagExists], and those of both ends.
func Copy(ctx context.Context, src Source, srcRef string, dst Target, dstRef string, opts Options) (Result, error) {
	c := newCopier(src, dst, opts)
	began := time.Now()
	root, err := src.Manifest(ctx, srcRef)
	if err != nil {
		return Result{}, err
	}
	// What one small read took decides whether more connections will pay.
	c.roundTrip = time.Since(began)
	if root, err = c.choosePlatforms(ctx, root); err != nil {
		return Result{}, err
	}
	err = c.copyRoot(ctx, root, dstRef)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Descriptor = root.Descriptor()
	return c.result, err
}

// copier is one copy under way.
type copier struct {
	src  Source
	dst  Target
	opts Options

	srcHost, srcRepo string // empty if the source is not in a registry
	dstHost, dstRepo string
	validates        bool
	roundTrip        time.Duration
	room             *room

	mu     sync.Mutex
	result Result
	nodes  map[oci.Digest]*task // manifests
	blobs  map[oci.Digest]*task
	chosen *oci.Manifest // a restricted index that the source does not have
}

// task is something that is done once, however many ask for it.
type task struct {
	done chan struct{}
	err  error
}

func newCopier(src Source, dst Target, opts Options) *copier {
	c := &copier{
		src: src, dst: dst, opts: opts, room: newRoom(opts.Jobs),
		nodes: map[oci.Digest]*task{}, blobs: map[oci.Digest]*task{},
	}
	if l, ok := src.(Locator); ok {
		c.srcHost, c.srcRepo = l.Location()
	}
	if l, ok := dst.(Locator); ok {
		c.dstHost, c.dstRepo = l.Location()
	}
	if v, ok := dst.(Validator); ok {
		c.validates = v.ValidatesManifests()
	}
	return c
}

// once runs do for a digest the first time it is asked for, and waits for that run
// at every later time.
func (c *copier) once(ctx context.Context, tasks map[oci.Digest]*task, d oci.Digest, do func() error) error {
	c.mu.Lock()
	t, running := tasks[d]
	if !running {
		t = &task{done: make(chan struct{})}
		tasks[d] = t
	}
	c.mu.Unlock()
	if !running {
		t.err = do()
		close(t.done)
		return t.err
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *copier) emit(e Event) {
	if c.opts.Progress != nil {
		c.opts.Progress(e)
	}
}

func (c *copier) count(add func(*Result)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.result)
}

// sameRepository tells whether both ends are one repository: then all content is
// there and only tags are put.
func (c *copier) sameRepository() bool {
	return c.dstRepo != "" && c.srcHost == c.dstHost && c.srcRepo == c.dstRepo
}

func (c *copier) copyRoot(ctx context.Context, root *oci.Manifest, dstRef string) error {
	if dstRef == "" {
		dstRef = root.Digest().String()
	}
	refs := append([]string{dstRef}, c.opts.Tags...)
	if c.opts.NoClobber {
		for _, ref := range refs {
			if err := c.keepsTag(ctx, ref, root.Digest()); err != nil {
				return err
			}
		}
	}
	there := c.sameRepository() && c.chosen == nil
	if !there && !c.opts.DryRun {
		unchanged, err := c.unchanged(ctx, root, dstRef)
		if err != nil {
			return err
		}
		if unchanged {
			// Everything that hangs on the image was put before its tag.
			there, refs = true, refs[1:]
			c.count(func(r *Result) { r.Unchanged = len(refs) == 0 })
		}
	}
	if !there {
		if err := c.content(ctx, root); err != nil {
			return err
		}
	}
	if c.opts.Recursive && !c.sameRepository() {
		if err := c.copyReferrers(ctx, root); err != nil {
			return err
		}
	}
	for _, ref := range refs {
		if err := c.putManifest(ctx, ref, root); err != nil {
			return err
		}
	}
	return nil
}

// unchanged tells whether the target has the image under this reference. It asks
// only if an earlier copy says that it may: for an image that is new, the question
// would be one more round trip.
func (c *copier) unchanged(ctx context.Context, root *oci.Manifest, dstRef string) (bool, error) {
	if c.dstRepo == "" || !c.opts.Memory.holds(c.dstHost, c.dstRepo, root.Digest()) {
		return false, nil
	}
	d, err := c.dst.Resolve(ctx, dstRef)
	if errors.Is(err, oci.ErrNotFound) {
		return false, nil
	}
	if err != nil || d.Digest != root.Digest() {
		return false, err
	}
	return c.hasChildren(ctx, root)
}

// hasChildren tells whether the target has all manifests that an index lists. A
// broken index must not pass for an unchanged one: pushing it again is how it is
// mended.
func (c *copier) hasChildren(ctx context.Context, m *oci.Manifest) (bool, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range m.Manifests {
		if !oci.IsManifestType(d.MediaType) {
			continue
		}
		group.Go(func() error {
			if _, err := c.dst.Resolve(ctx, d.Digest.String()); err != nil || !oci.IsIndexType(d.MediaType) {
				return err
			}
			child, err := c.src.Manifest(ctx, d.Digest.String())
			if err != nil {
				return err
			}
			if whole, err := c.hasChildren(ctx, child); err != nil || !whole {
				return errors.Join(err, oci.ErrNotFound)
			}
			return nil
		})
	}
	err := group.Wait()
	if errors.Is(err, oci.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// keepsTag fails if the reference names something else at the target.
func (c *copier) keepsTag(ctx context.Context, ref string, d oci.Digest) error {
	there, err := c.dst.Resolve(ctx, ref)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return nil
	case err != nil:
		return err
	case there.Digest != d:
		return fmt.Errorf("tag %s: it names %s and would be moved to %s: %w", ref, there.Digest, d, ErrTagExists)
	}
	return nil
}

// content copies all that a manifest lists: blobs, and manifests with their own
// content, but not the manifest itself.
func (c *copier) content(ctx context.Context, m *oci.Manifest) error {
	if err := checkSizes(m); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// The longest first: what is begun last should not be what is waited for.
	blobs := m.Blobs()
	for _, d := range m.Manifests {
		if !oci.IsManifestType(d.MediaType) {
			blobs = append(blobs, d) // the layers of a BuildKit cache
		}
	}
	slices.SortStableFunc(blobs, func(a, b oci.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	piece := pieceSize(blobs)
	for _, d := range blobs {
		group.Go(func() error { return c.blob(ctx, d, piece) })
	}
	for _, d := range m.Manifests {
		if oci.IsManifestType(d.MediaType) {
			group.Go(func() error { return c.child(ctx, d) })
		}
	}
	return group.Wait()
}

// checkSizes refuses what no registry takes before anything is moved.
func checkSizes(m *oci.Manifest) error {
	for e := range m.Edges() {
		switch d := e.Descriptor; {
		case e.Kind == oci.EdgeChild && d.Size > oci.MaxManifestSize:
			return oci.Invalid("manifest %s is %d bytes; the limit is %d", d.Digest, d.Size, oci.MaxManifestSize)
		case e.Kind == oci.EdgeLayer && d.Size > oci.MaxLayerSize:
			return oci.Invalid("layer %s is %d bytes; the limit is %d: split it", d.Digest, d.Size, int64(oci.MaxLayerSize))
		}
	}
	return nil
}

// child copies a manifest that an index lists, with its content.
func (c *copier) child(ctx context.Context, d oci.Descriptor) error {
	return c.once(ctx, c.nodes, d.Digest, func() error {
		// What is remembered does not count here: registries that check a manifest's
		// blobs do not check an index's entries (docs/quirks.md#check-index-children),
		// and people delete those as "untagged".
		m, err := c.src.Manifest(ctx, d.Digest.String())
		if err != nil {
			return fmt.Errorf("copy %s that the index lists: %w", d.Digest, err)
		}
		if err := c.content(ctx, m); err != nil {
			return err
		}
		return c.putManifest(ctx, d.Digest.String(), m)
	})
}

// trusts tells whether the target may be taken to have a blob: an earlier copy put
// it there, and the target will say so if that is no longer true.
func (c *copier) trusts(d oci.Digest) bool {
	return c.validates && !c.opts.DryRun && c.opts.Memory.holds(c.dstHost, c.dstRepo, d)
}

// putTries bounds how often a manifest is put again after content that the target
// missed was supplied.
const putTries = 3

// putManifest puts a manifest whose content was copied. What the target then says
// that it lacks is asked for anew, whatever was remembered
// (docs/quirks.md#stale-blob-after-head).
func (c *copier) putManifest(ctx context.Context, ref string, m *oci.Manifest) error {
	if c.opts.DryRun {
		c.count(func(r *Result) { r.Manifests++ })
		return nil
	}
	for try := 1; ; try++ {
		err := c.dst.PutManifest(ctx, ref, m)
		if err == nil {
			break
		}
		var missing *oci.MissingBlobsError
		if !errors.As(err, &missing) || try == putTries {
			return err
		}
		if err := c.supply(ctx, m, missing.Digests); err != nil {
			return err
		}
	}
	c.opts.Memory.note(c.dstHost, c.dstRepo, m.Digest())
	c.count(func(r *Result) { r.Manifests++ })
	c.emit(Event{Kind: EventManifest, Descriptor: m.Descriptor(), Ref: ref})
	return nil
}

// supply copies the content of m that the target lacks, all of it if the target
// named none.
func (c *copier) supply(ctx context.Context, m *oci.Manifest, digests []oci.Digest) error {
	group, ctx := errgroup.WithContext(ctx)
	for e := range m.Edges() {
		d := e.Descriptor
		if e.Kind == oci.EdgeSubject || e.Kind == oci.EdgeAttests || len(digests) > 0 && !slices.Contains(digests, d.Digest) {
			continue
		}
		c.opts.Memory.forget(c.dstHost, c.dstRepo, d.Digest)
		c.mu.Lock()
		delete(c.nodes, d.Digest)
		delete(c.blobs, d.Digest)
		c.mu.Unlock()
		if e.Kind == oci.EdgeChild {
			group.Go(func() error { return c.child(ctx, d) })
		} else {
			group.Go(func() error { return c.blob(ctx, d, maxPiece) })
		}
	}
	return group.Wait()
}
