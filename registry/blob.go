package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// ResolveBlob returns size and digest of a blob if the repository has it.
//
// Errors: [oci.ErrNotFound].
func (r *Repository) ResolveBlob(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return oci.Descriptor{}, err
	}
	return r.resolveBlob(ctx, d, r.pull())
}

func (r *Repository) resolveBlob(ctx context.Context, d oci.Digest, scopes []transport.Scope) (oci.Descriptor, error) {
	q := request{
		method: http.MethodHead, url: r.url("blobs", d.String()),
		call: transport.Call{Op: "resolve blob", Target: r.target(d.String()), Scopes: scopes},
	}
	resp, err := r.host.do(ctx, q)
	if err != nil {
		return oci.Descriptor{}, err
	}
	resp.Body.Close()
	// A redirect says that the blob is there, and is not followed: the storage
	// behind GHCR refuses HEAD (docs/quirks.md#cdn-head).
	desc := oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: resp.ContentLength}
	if resp.StatusCode >= 300 || desc.Size < 0 {
		if desc.Size, err = r.sizeByRange(ctx, d); err != nil {
			return oci.Descriptor{}, err
		}
	}
	return desc, nil
}

// sizeByRange learns a blob's size from the answer to a read of its first byte.
func (r *Repository) sizeByRange(ctx context.Context, d oci.Digest) (int64, error) {
	resp, err := r.getRange(ctx, d, 0, 1)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.ContentLength, nil
	}
	_, _, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	return total, err
}

// GetBlob opens a whole blob. Reading it to the end fails with [oci.ErrIntegrity]
// if the bytes are not those of the digest; closing it before is fine. A read
// that is cut off goes on by itself, up to four times without progress. With a
// size of zero in d, the size is the one that the registry states.
//
// Errors: [oci.ErrNotFound], [transport.ErrUnauthorized], [transport.ErrDenied].
func (r *Repository) GetBlob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return nil, err
	}
	if d.Size == 0 && d.Digest != d.Digest.Algorithm().FromBytes(nil) {
		stated, err := r.ResolveBlob(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		d.Size = stated.Size
	}
	body, err := r.Blob(ctx, d, 0, -1)
	if err != nil {
		return nil, err
	}
	return newVerifyingReader(body, d, "get blob "+r.target(d.Digest.String())), nil
}

// Blob opens length bytes of a blob from an offset; a negative length means to
// the end. d.Size must be the blob's. The bytes are not checked against the
// digest: use [Repository.GetBlob] for that. A read that is cut off goes on by
// itself, from the byte that it had reached, with a new token or a new signed URL
// where the old one has expired.
//
// Errors: [oci.ErrNotFound]; [oci.ErrNoRanges] if the registry cannot read from
// the middle, so that the blob must be read whole.
func (r *Repository) Blob(ctx context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return nil, err
	}
	end := d.Size
	if length >= 0 && offset+length < end {
		end = offset + length
	}
	if offset < 0 || offset > d.Size {
		return nil, oci.Invalid("get blob %s: offset %d is outside of its %d bytes", r.target(d.Digest.String()), offset, d.Size)
	}
	if offset == end {
		// Nothing to read; GHCR answers 404 for the empty blob (docs/quirks.md#empty-blob).
		return http.NoBody, nil
	}
	b := &blobReader{repo: r, desc: d, offset: offset, end: end}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	if err := b.open(); err != nil {
		b.cancel(nil)
		return nil, err
	}
	return b, nil
}

// DeleteBlob deletes a blob where the registry allows it; GHCR does not
// (docs/quirks.md#blob-delete).
//
// Errors: [transport.ErrUnsupported], [oci.ErrNotFound].
func (r *Repository) DeleteBlob(ctx context.Context, d oci.Digest) error {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	return r.host.remove(ctx, request{
		url:  r.url("blobs", d.String()),
		call: transport.Call{Op: "delete blob", Target: r.target(d.String()), Scopes: r.delete()},
	})
}

// blobReader reads [offset, end) of a blob and opens it again where a connection
// ends too early. Like the bodies of net/http, it may be closed while it is read:
// that is how an upload of it is broken off.
type blobReader struct {
	ctx    context.Context
	cancel context.CancelCauseFunc // with it, nothing more is opened
	repo   *Repository
	desc   oci.Descriptor
	offset int64 // of the next byte
	end    int64
	failed int // times in a row without a byte of progress

	mu   sync.Mutex
	body io.ReadCloser
}

// errBlobClosed is what a read finds that was under way when its blob was closed.
var errBlobClosed = fmt.Errorf("blob: %w", fs.ErrClosed)

// resumes is how often a read is taken up again without having got further.
const resumes = 4

func (b *blobReader) open() error {
	length := b.end - b.offset
	whole := b.offset == 0 && b.end == b.desc.Size
	if whole {
		length = -1 // an unranged request suits every registry
	}
	resp, err := b.repo.getRange(b.ctx, b.desc.Digest, b.offset, length)
	if err != nil {
		return err
	}
	if err := checkRange(resp, b.offset, b.end, b.desc.Size, whole); err != nil {
		resp.Body.Close()
		return fmt.Errorf("get blob %s: %w", b.repo.target(b.desc.Digest.String()), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		resp.Body.Close()
		return context.Cause(b.ctx)
	}
	b.body = resp.Body
	return nil
}

func (b *blobReader) current() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body
}

// checkRange makes sure that the answer is the piece that was asked for. Some
// servers ignore Range, and some answer with another piece.
func checkRange(resp *http.Response, offset, end, size int64, whole bool) error {
	if resp.StatusCode == http.StatusOK {
		if !whole {
			return oci.ErrNoRanges
		}
		if resp.ContentLength >= 0 && resp.ContentLength != size {
			return sizeMismatch(resp.ContentLength, size)
		}
		return nil
	}
	first, last, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return err
	}
	if total >= 0 && total != size {
		return sizeMismatch(total, size)
	}
	if first != offset || last != end-1 {
		return fmt.Errorf("asked for bytes %d-%d and was sent %d-%d: %w", offset, end-1, first, last, oci.ErrNoRanges)
	}
	return nil
}

func sizeMismatch(got, want int64) error {
	return fmt.Errorf("the registry holds %d bytes, the manifest says %d: %w", got, want, oci.ErrIntegrity)
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if b.offset == b.end {
			return 0, io.EOF
		}
		if int64(len(p)) > b.end-b.offset {
			p = p[:b.end-b.offset]
		}
		n, err := b.current().Read(p)
		b.offset += int64(n)
		if n > 0 {
			b.failed = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // a body may end early without a word
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// resume opens the blob again at the byte that was reached.
func (b *blobReader) resume(cause error) error {
	b.current().Close()
	if hopeless(cause) {
		return fmt.Errorf("get blob %s: %w", b.repo.target(b.desc.Digest.String()), cause)
	}
	for {
		if err := b.ctx.Err(); err != nil {
			return context.Cause(b.ctx)
		}
		if b.failed == resumes {
			return fmt.Errorf("get blob %s: cut off at byte %d of %d, and again %d times: %w",
				b.repo.target(b.desc.Digest.String()), b.offset, b.desc.Size, resumes, cause)
		}
		b.failed++
		if b.failed > 1 {
			if err := pause(b.ctx, b.failed-2); err != nil {
				return err
			}
		}
		err := b.open()
		if err == nil {
			return nil
		}
		if !transient(err) {
			return err
		}
		cause = err
	}
}

// Close ends a read that is under way, and may be called again.
func (b *blobReader) Close() error {
	b.cancel(errBlobClosed)
	return b.current().Close()
}

// getRange asks for a piece of a blob, following the redirect to where the bytes
// are. A length below zero means to the end; the whole blob is asked for without
// a Range.
func (r *Repository) getRange(ctx context.Context, d oci.Digest, offset, length int64) (*http.Response, error) {
	header := http.Header{}
	switch {
	case length >= 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	call := transport.Call{Op: "get blob", Target: r.target(d.String()), Bulk: true}
	if u := r.host.signedURL(r.name, d); u != nil {
		call.NoAuth = true
		resp, err := r.host.do(ctx, request{method: http.MethodGet, url: u, header: header, call: call})
		if err == nil && resp.StatusCode < 300 {
			return resp, nil
		}
		if err == nil {
			discard(resp)
		} else if !r.expired(err) {
			return nil, err
		}
		call.NoAuth = false
	}
	call.Scopes = r.pull()
	q := request{method: http.MethodGet, url: r.url("blobs", d.String()), header: header, call: call}
	for try := 0; ; try++ {
		r.host.forgetSigned(r.name, d)
		resp, err := r.follow(ctx, q)
		if err == nil || try > 0 || !r.expired(err) {
			return resp, err
		}
	}
}

// expired tells a signed URL that is no longer good, as happens in the middle of
// long downloads (docs/quirks.md#signed-url-ttl), from a refusal by the registry.
// The registry signs another.
func (r *Repository) expired(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusTooManyRequests &&
		!strings.HasPrefix(e.URL, r.host.base.String())
}

// parseContentRange reads "bytes 0-9/100"; an unknown total, "*", is -1.
func parseContentRange(s string) (first, last, total int64, err error) {
	bad := func() (int64, int64, int64, error) {
		return 0, 0, 0, fmt.Errorf("malformed Content-Range %q", s)
	}
	span, all, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return bad()
	}
	if first, err = strconv.ParseInt(from, 10, 64); err != nil {
		return bad()
	}
	if last, err = strconv.ParseInt(to, 10, 64); err != nil || last < first {
		return bad()
	}
	if all == "*" {
		return first, last, -1, nil
	}
	if total, err = strconv.ParseInt(all, 10, 64); err != nil || last >= total {
		return bad()
	}
	return first, last, total, nil
}
