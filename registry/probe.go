package registry

import (
	"context"
	"net/http"

	"github.com/llm-dev-ops/ghcr/transport"
)

// CheckPush finds out whether the login may push to the repository, which GHCR tells
// only when something is written (docs/quirks.md#late-write-denial): it opens an
// upload session and sends nothing. That makes no repository and leaves nothing
// that anybody sees. The session is ended where the registry can do that, and else
// it expires (docs/quirks.md#upload-delete).
//
// Errors: [transport.ErrDenied] and [transport.ErrUnauthorized] for who may not push.
func (r *Repository) CheckPush(ctx context.Context) error {
	u := &upload{repo: r, target: r.String()}
	if err := u.startUnnamed(ctx); err != nil {
		return err
	}
	resp, err := r.host.do(ctx, request{
		method: http.MethodDelete, url: u.session,
		call: transport.Call{Op: "end upload", Target: u.target, Scopes: r.push(), NoRetry: true},
	})
	if err == nil {
		discard(resp)
	}
	return nil
}
