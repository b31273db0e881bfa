package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// blob copies one blob, once however many manifests name it. Where it pays to fetch
// it in pieces, they are of about the size given.
func (c *copier) blob(ctx context.Context, d oci.Descriptor, piece int64) error {
	if oci.IsForeign(d) {
		return nil // it is fetched from the URLs that it names
	}
	return c.once(ctx, c.blobs, d.Digest, func() error {
		if c.trusts(d.Digest) {
			c.count(func(r *Result) { r.Existing++ })
			c.emit(Event{Kind: EventExisting, Descriptor: d, Bytes: d.Size})
			return nil
		}
		if c.opts.DryRun {
			c.count(func(r *Result) { r.Uploaded++; r.Bytes += d.Size })
			return nil
		}
		stored, bytes, err := c.move(ctx, d, piece)
		if err != nil {
			return err
		}
		c.opts.Memory.note(c.dstHost, c.dstRepo, d.Digest)
		c.opts.Memory.note(c.srcHost, c.srcRepo, d.Digest)
		kind := EventDone
		c.count(func(r *Result) {
			switch stored {
			case oci.StoredMount:
				kind = EventMounted
				r.Mounted++
			case oci.StoredExisting:
				kind = EventExisting
				r.Existing++
			default:
				r.Uploaded++
				r.Bytes += bytes
			}
		})
		c.emit(Event{Kind: kind, Descriptor: d, Bytes: d.Size})
		return nil
	})
}

// move brings a blob to the target and returns how, and how many bytes that took.
func (c *copier) move(ctx context.Context, d oci.Descriptor, piece int64) (oci.Stored, int64, error) {
	if stager, ok := c.dst.(Stager); ok {
		return c.download(ctx, stager, d, piece)
	}
	release, err := c.room.acquire(ctx, d.Size)
	if err != nil {
		return "", 0, err
	}
	defer release()
	if check, ok := c.src.(Checker); ok {
		if err := check.CheckBlob(ctx, d); err != nil {
			return "", 0, err
		}
	}
	var m *meter
	defer func() {
		if m != nil {
			m.end()
		}
	}()
	stored, err := c.dst.PutBlob(ctx, d, c.mountable(d.Digest), func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		body, err := c.src.Blob(ctx, d, offset, -1)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = startMeter(c.opts.Progress, d)
		}
		// The target checks what it gets, and it need not be done twice: a file goes
		// out untouched, so that the kernel can send it, and what comes from another
		// registry is not hashed on its way through.
		return m.watch(body, offset), nil
	})
	if errors.Is(err, oci.ErrIntegrity) {
		err = c.blame(ctx, d, err)
	}
	return stored, d.Size, err
}

// blame finds out whether a refusal of wrong bytes is the fault of the source, whose
// bytes were sent unread.
func (c *copier) blame(ctx context.Context, d oci.Descriptor, refusal error) error {
	verify := c.verifySource
	if local, ok := c.src.(Checker); ok {
		verify = local.VerifyBlob
	}
	switch err := verify(ctx, d); {
	case errors.Is(err, oci.ErrIntegrity):
		return err
	case err == nil:
		return fmt.Errorf("%w (the source's bytes are right when they are read again, so they were changed on the way)", refusal)
	}
	return refusal
}

func (c *copier) verifySource(ctx context.Context, d oci.Descriptor) error {
	body, err := c.src.Blob(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	checked := newCheckedBody(body, d)
	defer checked.Close()
	_, err = copyBody(ctx, io.Discard, checked)
	return err
}

// mountable lists repositories of the target's host that may have the blob: the
// source itself, then those known from earlier copies.
func (c *copier) mountable(d oci.Digest) []string {
	var repos []string
	if c.dstRepo == "" {
		return nil
	}
	if c.srcHost == c.dstHost && c.srcRepo != c.dstRepo {
		repos = append(repos, c.srcRepo)
	}
	for _, repo := range c.opts.Memory.where(c.dstHost, d) {
		if repo == c.dstRepo {
			return nil // it should be there: ask the repository itself
		}
		if repo != c.srcRepo || c.srcHost != c.dstHost {
			repos = append(repos, repo)
		}
	}
	return repos
}

// checkedBody keeps back the end of a body whose bytes are wrong, so that a
// request that sends it cannot complete.
type checkedBody struct {
	io.ReadCloser
	d    oci.Descriptor
	hash hash.Hash
	n    int64
}

func newCheckedBody(body io.ReadCloser, d oci.Descriptor) *checkedBody {
	return &checkedBody{ReadCloser: body, d: d, hash: d.Digest.Algorithm().Hash()}
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	b.n += int64(n)
	switch {
	case b.n > b.d.Size, err == io.EOF && b.n < b.d.Size:
		return 0, &oci.IntegrityError{What: "source's blob", Want: b.d.Digest, WantSize: b.d.Size, GotSize: b.n}
	case b.n == b.d.Size:
		if got := digest.NewDigest(b.d.Digest.Algorithm(), b.hash); got != b.d.Digest {
			return 0, &oci.IntegrityError{What: "source's blob", Want: b.d.Digest, Got: got}
		}
	}
	return n, err
}

// readBlob reads a small blob whole and checks it.
func readBlob(ctx context.Context, src Source, d oci.Descriptor) ([]byte, error) {
	body, err := src.Blob(ctx, d, 0, -1)
	if err != nil {
		return nil, err
	}
	checked := newCheckedBody(body, d)
	defer checked.Close()
	if d.Size == 0 {
		return nil, nil
	}
	return io.ReadAll(checked)
}

// download copies a blob into a stage, piece by piece where that pays.
func (c *copier) download(ctx context.Context, stager Stager, d oci.Descriptor, piece int64) (oci.Stored, int64, error) {
	stage, err := stager.Stage(ctx, d)
	if err != nil {
		return "", 0, err
	}
	if stage == nil {
		return oci.StoredExisting, 0, nil
	}
	m := startMeter(c.opts.Progress, d)
	defer m.end()
	missing := stage.Missing()
	m.moved.Store(d.Size - total(missing))
	err = c.fill(ctx, stage, d, c.pieces(missing, piece), m)
	if errors.Is(err, oci.ErrNoRanges) {
		err = c.fill(ctx, stage, d, []Span{{Offset: 0, Length: d.Size}}, m)
	}
	if err == nil {
		err = stage.Commit()
	}
	if local, ok := c.src.(Checker); ok && errors.Is(err, oci.ErrIntegrity) {
		// What came from a network was wrong as it came; a file may be asked again.
		if wrong := local.VerifyBlob(ctx, d); errors.Is(wrong, oci.ErrIntegrity) {
			err = wrong
		}
	}
	if err != nil {
		// What arrived stays, and the next run goes on from there.
		return "", 0, errors.Join(fmt.Errorf("pull blob %s: %w", d.Digest, err), stage.Close())
	}
	return oci.StoredUpload, total(missing), stage.Close()
}

func total(spans []Span) int64 {
	var n int64
	for _, s := range spans {
		n += s.Length
	}
	return n
}

// fill fetches spans into the stage, several at a time. The spans are taken in
// order, so that what arrives stays close together and can be hashed early.
func (c *copier) fill(ctx context.Context, stage *Stage, d oci.Descriptor, spans []Span, m *meter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	failed := make(chan error, len(spans))
	started := 0
	for _, s := range spans {
		release, err := c.room.acquire(ctx, s.Length)
		if err != nil {
			failed <- err
			started++
			break
		}
		started++
		go func() {
			defer release()
			err := c.fetch(ctx, stage, d, s, m)
			if err != nil {
				cancel(err)
			}
			failed <- err
		}()
	}
	var first error
	for range started {
		if err := <-failed; err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// fetch copies one span.
func (c *copier) fetch(ctx context.Context, stage *Stage, d oci.Descriptor, s Span, m *meter) error {
	length := s.Length
	if s.Offset+s.Length == d.Size {
		length = -1
	}
	body, err := c.src.Blob(ctx, d, s.Offset, length)
	if err != nil {
		return err
	}
	defer body.Close()
	return copySpan(ctx, stage, s, body, m)
}

// copySpan writes a span from a body that begins with it, and tells m, unless that
// is nil, how it gets on.
func copySpan(ctx context.Context, stage *Stage, s Span, body io.Reader, m *meter) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for at := s.Offset; at < s.Offset+s.Length; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// A connection gives little at a time, with TLS at most 16 KiB; a file is
		// written in larger steps.
		n, err := io.ReadFull(body, (*buf)[:min(int64(len(*buf)), s.Offset+s.Length-at)])
		if n > 0 {
			if _, err := stage.WriteAt((*buf)[:n], at); err != nil {
				return err
			}
			at += int64(n)
			if m != nil {
				m.moved.Add(int64(n))
			}
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return nil
}
