package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// probeSize is from which size on asking whether a blob is there costs less than
// sending it in vain.
const probeSize = 4 << 20

// probeTime is for how long an upload that could begin waits for that answer. It
// must not be held up by one that is rate limited, say.
const probeTime = time.Second

// uploadTries is how often a blob is begun anew after its session was lost.
const uploadTries = 4

// PutBlob stores a blob. One request finds out whether it is there or can be
// mounted from one of the repositories given, best first, and opens an upload
// session if not; one more sends it. An upload that is cut off goes on from the
// byte that the registry acknowledged, and with a [Journal] does so in a later
// process too. After an error the blob itself is asked for first, because GHCR
// stores what it then fails to confirm (docs/quirks.md#commit-delay).
//
// d.Size and d.Digest must be those of the content; the registry checks them.
// The registry's own repository need not be in mount.
//
// Errors: [oci.ErrInvalid] for content over [oci.MaxLayerSize],
// [oci.ErrIntegrity] if open gave other bytes, [transport.ErrDenied],
// [transport.ErrUnauthorized], [transport.ErrRateLimited].
func (r *Repository) PutBlob(ctx context.Context, d oci.Descriptor, mount []string, open oci.Opener) (oci.Stored, error) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return "", err
	}
	target := r.target(d.Digest.String())
	if d.Size > oci.MaxLayerSize {
		return "", oci.Invalid("put blob %s: it is %d bytes; a registry takes at most %d in one layer: split it", target, d.Size, int64(oci.MaxLayerSize))
	}
	if d.Size == 0 && r.host.opts.Rules.GhostEmptyBlob {
		if _, err := r.ResolveBlob(ctx, d.Digest); err == nil {
			return oci.StoredExisting, nil
		}
	}
	u := &upload{repo: r, desc: d, open: open, target: target}
	stored, err := u.resumeFromJournal(ctx)
	if stored != "" || err != nil {
		return stored, err
	}
	for try := 0; ; try++ {
		stored, err := u.attempt(ctx, mount)
		if err == nil {
			r.host.opts.Journal.forget(u)
			return stored, nil
		}
		// Only content that is certainly not there is sent again.
		if u.sent && ctx.Err() == nil && !errors.Is(err, oci.ErrIntegrity) {
			if _, there := r.ResolveBlob(ctx, d.Digest); there == nil {
				r.host.opts.Journal.forget(u)
				return oci.StoredUpload, nil
			}
		}
		// What never went out was tried as often as any other request, and so was a part.
		if try+1 == uploadTries || u.session == nil || u.spent || !transient(err) && !errors.Is(err, errSessionLost) {
			return "", err
		}
		mount = nil // it was tried
		if err := pause(ctx, try); err != nil {
			return "", err
		}
	}
}

// upload is one blob on its way into a repository.
type upload struct {
	repo    *Repository
	desc    oci.Descriptor
	open    oci.Opener
	target  string
	session *url.URL // where the next part goes; nil without a session
	sent    bool     // some of the content went out, so it may be stored
	spent   bool     // a part was tried as often as it may be
}

// errSessionLost says that the registry no longer knows the upload session.
var errSessionLost = errors.New("the registry lost the upload session")

// attempt mounts or uploads the blob in a new session.
func (u *upload) attempt(ctx context.Context, mount []string) (oci.Stored, error) {
	u.session = nil
	stored, err := u.start(ctx, mount)
	if stored != "" || err != nil {
		return stored, err
	}
	u.repo.host.opts.Journal.remember(u)
	if size := u.repo.host.opts.ChunkSize; size > 0 && u.desc.Size > size {
		return oci.StoredUpload, u.sendChunks(ctx, 0)
	}
	err = u.sendWhole(ctx)
	if err == nil {
		return oci.StoredUpload, nil
	}
	if status(err) == http.StatusRequestEntityTooLarge || status(err) == http.StatusRequestedRangeNotSatisfiable {
		u.repo.host.learnMaxChunk(err)
		return oci.StoredUpload, u.sendChunks(ctx, 0)
	}
	return u.takeUp(ctx, err)
}

// start opens an upload session, unless the registry has the blob or takes it
// over from another repository.
func (u *upload) start(ctx context.Context, mount []string) (oci.Stored, error) {
	// Mounting a repository's blob into itself asks whether it is there, in the
	// request that opens the session if it is not (docs/quirks.md#mount-invisible).
	from := u.repo.name
	if len(mount) > 0 {
		from = mount[0]
	}
	scopes := u.repo.push()
	if from != u.repo.name {
		scopes = append(scopes, transport.Scope{Repository: from, Actions: []string{"pull"}})
	}
	q := request{
		method: http.MethodPost, url: u.repo.url("blobs", "uploads/"),
		header: http.Header{"Content-Length": {"0"}},
		call:   transport.Call{Op: "start upload", Target: u.target, Scopes: scopes, Bulk: from == u.repo.name},
	}
	q.url.RawQuery = url.Values{"mount": {u.desc.Digest.String()}, "from": {from}}.Encode()
	there := func() bool { return false }
	if from == u.repo.name && u.desc.Size >= probeSize {
		there = u.probe(ctx)
	}
	resp, err := u.repo.host.do(ctx, q)
	found := there()
	if err != nil && mountRefused(err) {
		// Not every registry answers a mount that it cannot do with a session.
		q.url.RawQuery = ""
		q.call.Scopes = u.repo.push()
		resp, err = u.repo.host.do(ctx, q)
	}
	if err != nil {
		return "", err
	}
	discard(resp)
	if resp.StatusCode == http.StatusCreated {
		if from == u.repo.name {
			return oci.StoredExisting, nil
		}
		return oci.StoredMount, nil
	}
	if err := onlyStatus(resp, "start upload", u.target, http.StatusAccepted); err != nil {
		return "", err
	}
	u.session, err = sessionURL(q.url, resp)
	if err != nil {
		return "", fmt.Errorf("start upload %s: %w", u.target, err)
	}
	if found {
		return oci.StoredExisting, nil
	}
	return "", nil
}

// probe asks whether a large blob is there, beside the request that opens the
// session, so that it takes no time. Registries differ in what a mount into the
// blob's own repository tells, and one small request may save sending much. The
// function that it returns waits for the answer, and must be called.
//
// It is asked and waited for whatever the other answer is, so that which requests are
// sent does not depend on which of the two answers comes first: a recording of a push
// would be of no use otherwise.
func (u *upload) probe(ctx context.Context) (there func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	answer := make(chan bool, 1)
	go func() {
		// With the token of the upload, so that there is one for both.
		_, err := u.repo.resolveBlob(ctx, u.desc.Digest, u.repo.push())
		answer <- err == nil
	}()
	return func() bool {
		defer cancel()
		select {
		case there := <-answer:
			return there
		case <-time.After(probeTime):
			return false
		}
	}
}

// mountRefused tells a refusal of the mount from a refusal of the upload. The
// credential may well push here and not see the other repository.
func mountRefused(err error) bool {
	switch status(err) {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return !errors.Is(err, transport.ErrRateLimited)
	}
	return false
}

// sendWhole sends the content in the one request that also ends the session.
func (u *upload) sendWhole(ctx context.Context) error {
	resp, err := u.put(ctx, "put blob", func(ctx context.Context) (io.ReadCloser, error) { return u.open(ctx, 0) }, u.desc.Size, nil)
	if err != nil {
		return u.explain(err)
	}
	return u.committed(resp)
}

// put sends the request that ends the session.
func (u *upload) put(ctx context.Context, op string, body func(context.Context) (io.ReadCloser, error), size int64, header http.Header) (*http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/octet-stream")
	end := *u.session
	// The Location may have a query of its own.
	query := end.Query()
	query.Set("digest", u.desc.Digest.String())
	end.RawQuery = query.Encode()
	return u.exchange(ctx, request{method: http.MethodPut, url: &end, header: header, size: size, call: transport.Call{Op: op}}, body)
}

// exchange sends a part of the content. It is not retried below, because only the
// registry knows how much of it arrived.
func (u *upload) exchange(ctx context.Context, q request, body func(context.Context) (io.ReadCloser, error)) (*http.Response, error) {
	q.call.Target, q.call.Scopes = u.target, u.repo.push()
	q.call.Upload, q.call.NoRetry, q.call.Bulk = true, true, true
	if body != nil && q.size > 0 {
		first, err := body(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", q.call.Op, u.target, &contentError{err})
		}
		q.body = first
		q.again = func() (io.ReadCloser, error) { return body(ctx) }
	}
	u.sent = true
	return u.repo.host.do(ctx, q)
}

func (u *upload) committed(resp *http.Response) error {
	discard(resp)
	if err := onlyStatus(resp, "put blob", u.target, http.StatusCreated, http.StatusNoContent, http.StatusOK); err != nil {
		return err
	}
	if got := statedDigest(resp); got != "" && got != u.desc.Digest && got.Algorithm() == u.desc.Digest.Algorithm() {
		return fmt.Errorf("put blob %s: registry stored something else: %w", u.target, &oci.IntegrityError{What: "registry's answer", Want: u.desc.Digest, Got: got})
	}
	return nil
}

// explain gives the errors of a lost session and of wrong content their class.
func (u *upload) explain(err error) error {
	var e *transport.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == "DIGEST_INVALID" || e.Code == "SIZE_INVALID":
		return fmt.Errorf("%w: %w", oci.ErrIntegrity, err)
	case e.Status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", errSessionLost, err)
	}
	return err
}

// takeUp goes on with a session after cause ended a request, or returns cause if
// the session cannot go on.
func (u *upload) takeUp(ctx context.Context, cause error) (oci.Stored, error) {
	if ctx.Err() != nil || !transient(cause) {
		return "", cause
	}
	offset, err := u.acknowledged(ctx)
	if err != nil || offset <= 0 || offset >= u.desc.Size {
		return "", cause
	}
	return oci.StoredUpload, u.sendChunks(ctx, offset)
}

// resumeFromJournal takes up a session that an earlier process left behind.
func (u *upload) resumeFromJournal(ctx context.Context) (oci.Stored, error) {
	u.session = u.repo.host.opts.Journal.recall(u)
	if u.session == nil {
		return "", nil
	}
	offset, err := u.acknowledged(ctx)
	if err == nil && offset > 0 && offset < u.desc.Size {
		if err = u.sendChunks(ctx, offset); err == nil {
			u.repo.host.opts.Journal.forget(u)
			return oci.StoredUpload, nil
		}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	u.repo.host.opts.Journal.forget(u)
	return "", nil // as if it had not been there
}

// sessionURL reads where the next part of an upload goes. It is never made up:
// GHCR's differ from the specification's (docs/quirks.md#singular-upload-path).
func sessionURL(from *url.URL, resp *http.Response) (*url.URL, error) {
	next, err := redirectTarget(from, resp)
	if err != nil {
		return nil, err
	}
	if !sameHost(next, from) && !strings.EqualFold(next.Hostname(), from.Hostname()) {
		return nil, fmt.Errorf("registry opened the session on another host, %s; refused, because the credential would go there", next.Host)
	}
	if !sameHost(next, from) {
		// Behind a proxy some registries name the scheme or port that they see.
		next.Scheme, next.Host = from.Scheme, from.Host
	}
	return next, nil
}

func status(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}
