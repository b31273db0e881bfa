package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// minChunk is the smallest chunk that a refusal makes us send.
const minChunk = 64 << 10

func (h *Host) chunkSize() int64 {
	size := h.opts.ChunkSize
	if size <= 0 {
		size = DefaultChunkSize
	}
	if limit := h.maxChunk.Load(); limit > 0 && size > limit {
		size = limit
	}
	return size
}

var statedLimit = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`limit of ([0-9.]+) ?(B|KiB|MiB|GiB|kB|MB|GB)\b`) })

// learnMaxChunk reads the limit from a refusal such as GHCR's "exceeds the maximum
// permissible limit of 4.00MiB", or else halves what was sent. It tells whether
// chunks are smaller now.
func (h *Host) learnMaxChunk(err error) bool {
	before := h.chunkSize()
	limit := before / 2
	var e *transport.Error
	if errors.As(err, &e) {
		if m := statedLimit().FindStringSubmatch(e.Message); m != nil {
			n, _ := strconv.ParseFloat(m[1], 64)
			unit := map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9}[m[2]]
			if stated := int64(n * unit); stated > 0 && stated < before {
				limit = stated
			}
		}
	}
	h.maxChunk.Store(max(limit, minChunk))
	return h.chunkSize() < before
}

// sendChunks sends the content from offset on, in chunks, and ends the session.
// Where the registry acknowledges less than was sent, or a request fails, it goes
// on from the byte that the registry has.
func (u *upload) sendChunks(ctx context.Context, offset int64) error {
	failed := 0
	for offset < u.desc.Size {
		size := min(u.repo.host.chunkSize(), u.desc.Size-offset)
		next, err := u.patch(ctx, offset, size, func(ctx context.Context) (io.ReadCloser, error) {
			body, err := u.open(ctx, offset)
			if err != nil {
				return nil, err
			}
			return limitBody(body, size), nil
		})
		if err == nil {
			if next <= offset {
				failed++
			} else {
				failed = 0
			}
			if failed > resumes {
				return fmt.Errorf("put blob %s: registry acknowledges no byte after %d", u.target, offset)
			}
			offset = next
			continue
		}
		if offset, err = u.recover(ctx, offset, err, &failed); err != nil {
			return u.explain(err)
		}
	}
	resp, err := u.put(ctx, "commit blob", nil, 0, nil)
	if err != nil {
		return u.explain(err)
	}
	return u.committed(resp)
}

// recover finds the offset to go on from after a chunk failed.
func (u *upload) recover(ctx context.Context, offset int64, cause error, failed *int) (int64, error) {
	code := status(cause)
	refused := code == http.StatusRequestedRangeNotSatisfiable || code == http.StatusRequestEntityTooLarge
	if !refused && !transient(cause) {
		return 0, cause
	}
	if *failed++; *failed > resumes {
		u.spent = true
		return 0, cause
	}
	if refused && tooLarge(cause) {
		// docs/quirks.md#chunk-cap
		if !u.repo.host.learnMaxChunk(cause) {
			return 0, cause
		}
	} else if !refused {
		if err := pause(ctx, *failed-1); err != nil {
			return 0, err
		}
	}
	reached, err := u.acknowledged(ctx)
	if err != nil {
		if refused && tooLarge(cause) {
			return offset, nil // nothing of it was taken
		}
		return 0, cause
	}
	if reached > offset {
		*failed = 0
	}
	if refused && !tooLarge(cause) && offset == 0 && reached == 0 {
		return 1, nil // "0-0" is said of one byte too, and that it has it, it has just shown
	}
	return reached, nil
}

// tooLarge tells a chunk that is too large from one at the wrong offset: both are
// answered with 416.
func tooLarge(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && (e.Status == http.StatusRequestEntityTooLarge ||
		e.Code == "REQUESTED_RANGE_NOT_SATISFIABLE" || strings.Contains(e.Message, "too large"))
}

// patch sends one chunk and returns the offset of the first byte that the registry
// does not have yet.
func (u *upload) patch(ctx context.Context, offset, size int64, body func(context.Context) (io.ReadCloser, error)) (int64, error) {
	resp, err := u.exchange(ctx, request{
		method: http.MethodPatch, url: u.session, size: size,
		header: http.Header{
			"Content-Type":  {"application/octet-stream"},
			"Content-Range": {fmt.Sprintf("%d-%d", offset, offset+size-1)},
		},
		call: transport.Call{Op: "put chunk"},
	}, body)
	if err != nil {
		return 0, err
	}
	discard(resp)
	if err := onlyStatus(resp, "put chunk", u.target, http.StatusAccepted, http.StatusNoContent, http.StatusCreated); err != nil {
		return 0, err
	}
	if next, err := sessionURL(u.session, resp); err == nil {
		u.session = next
	}
	next, err := parseAcknowledged(resp.Header.Get("Range"))
	if err != nil || next > offset+size || next == 0 && offset+size == 1 {
		return offset + size, nil // it says nothing usable: the commit decides
	}
	return next, nil
}

// acknowledged asks how many bytes of the session the registry has.
func (u *upload) acknowledged(ctx context.Context) (int64, error) {
	resp, err := u.repo.host.do(ctx, request{
		method: http.MethodGet, url: u.session,
		call: transport.Call{Op: "ask about upload", Target: u.target, Scopes: u.repo.push()},
	})
	if err != nil {
		return 0, err
	}
	discard(resp)
	if err := onlyStatus(resp, "ask about upload", u.target, http.StatusNoContent, http.StatusAccepted, http.StatusOK); err != nil {
		return 0, err
	}
	if next, err := sessionURL(u.session, resp); err == nil {
		u.session = next
	}
	return parseAcknowledged(resp.Header.Get("Range"))
}

// parseAcknowledged reads "0-<last>" and returns the number of bytes. "0-0" is
// what a registry says of a session that is still empty, and of one with a single
// byte: taking it for empty sends that byte again at the worst.
func parseAcknowledged(s string) (int64, error) {
	first, last, ok := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || first != "0" || n < -1 {
		return 0, fmt.Errorf("malformed Range %q of an upload", s)
	}
	if n == 0 {
		return 0, nil
	}
	return n + 1, nil
}

// PutStream stores content of unknown size and digest, and returns both. It holds
// one chunk in memory, so that a chunk can be sent again.
//
// Errors: as for [Repository.PutBlob], and those of content.
func (r *Repository) PutStream(ctx context.Context, mediaType string, content io.Reader) (oci.Descriptor, error) {
	u := &upload{repo: r, target: r.String()}
	if err := u.startUnnamed(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	hash := digest.Canonical.Digester()
	buf := make([]byte, r.host.chunkSize())
	var offset int64
	for {
		n, err := io.ReadFull(content, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return oci.Descriptor{}, fmt.Errorf("put blob %s: read the content: %w", u.target, err)
		}
		hash.Hash().Write(buf[:n])
		if sendErr := u.sendBuffer(ctx, offset, buf[:n]); sendErr != nil {
			return oci.Descriptor{}, u.explain(sendErr)
		}
		offset += int64(n)
		if offset > oci.MaxLayerSize {
			return oci.Descriptor{}, oci.Invalid("put blob %s: the content is over %d bytes, the most that a registry takes in one layer", u.target, int64(oci.MaxLayerSize))
		}
		if err != nil {
			break
		}
	}
	u.desc = oci.Descriptor{MediaType: mediaType, Digest: hash.Digest(), Size: offset}
	u.target = r.target(u.desc.Digest.String())
	if err := u.commit(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	return u.desc, nil
}

// commit ends a session that has all of the content, which can't be sent a second time.
func (u *upload) commit(ctx context.Context) error {
	for try := 0; ; try++ {
		resp, err := u.put(ctx, "commit blob", nil, 0, nil)
		if err == nil {
			err = u.committed(resp)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, there := u.repo.ResolveBlob(ctx, u.desc.Digest); there == nil {
			return nil
		}
		if try+1 == uploadTries || !transient(err) {
			return u.explain(err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (u *upload) startUnnamed(ctx context.Context) error {
	q := request{
		method: http.MethodPost, url: u.repo.url("blobs", "uploads/"),
		header: http.Header{"Content-Length": {"0"}},
		call:   transport.Call{Op: "start upload", Target: u.target, Scopes: u.repo.push()},
	}
	resp, err := u.repo.host.do(ctx, q)
	if err != nil {
		return err
	}
	discard(resp)
	if err := onlyStatus(resp, "start upload", u.target, http.StatusAccepted); err != nil {
		return err
	}
	u.session, err = sessionURL(q.url, resp)
	return err
}

// sendBuffer sends what is held in memory as one or more chunks at base.
func (u *upload) sendBuffer(ctx context.Context, base int64, data []byte) error {
	failed := 0
	for sent := int64(0); sent < int64(len(data)); {
		size := min(u.repo.host.chunkSize(), int64(len(data))-sent)
		part := data[sent : sent+size]
		var bodies []io.Closer
		next, err := u.patch(ctx, base+sent, size, func(context.Context) (io.ReadCloser, error) {
			body := &lentBody{rest: part}
			bodies = append(bodies, body)
			return body, nil
		})
		for _, body := range bodies {
			body.Close()
		}
		if err != nil {
			if next, err = u.recover(ctx, base+sent, err, &failed); err != nil {
				return err
			}
		}
		if next < base {
			return fmt.Errorf("%w: it has %d bytes and had %d", errSessionLost, next, base)
		}
		sent = next - base
	}
	return nil
}

// lentBody reads from memory that is to be used again. A registry may answer before it
// has read a chunk, and then net/http goes on reading it: once it is closed, nothing is
// read of it any more, not even by who is doing so.
type lentBody struct {
	mu     sync.Mutex
	rest   []byte
	closed bool
}

func (b *lentBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, errBlobClosed
	case len(b.rest) == 0:
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *lentBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// limitBody cuts a body short without hiding that it is a file.
func limitBody(body io.ReadCloser, n int64) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, n), body}
}
