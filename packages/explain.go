package packages

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// explain gives a refusal its reason, as far as the answer and the kind of token
// tell. What is no refusal, a limit for example, stays as it is.
func explain(err error, s subject) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	var scopes *transport.ScopeError
	if errors.As(err, &scopes) {
		return &Error{
			Reason: MissingScope, Op: scopes.Op, Owner: s.owner, Package: s.name, Version: s.version,
			Scope: scopes.Missing[0], Token: scopes.Kind, Source: scopes.Credential,
		}
	}
	e, ok := asExchange(err)
	if !ok || errors.Is(e, transport.ErrRateLimited) {
		return err
	}
	reason, scope := reasonOf(e)
	if reason == "" {
		return err
	}
	told := refusal(e, s, reason)
	told.Scope = scope
	return told
}

func refusal(e *transport.Error, s subject, reason Reason) *Error {
	return &Error{Reason: reason, Op: e.Op, Owner: s.owner, Package: s.name, Version: s.version, Token: e.Kind, Source: e.Credential, Answer: e}
}

var namedScope = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(read|write|delete):packages`) })

// reasonOf reads what an answer says by itself. It is empty where that is not known.
func reasonOf(e *transport.Error) (reason Reason, scope string) {
	text := strings.ToLower(e.Message)
	switch e.Status {
	case http.StatusUnauthorized:
		return Unauthenticated, ""
	case http.StatusNotFound:
		return Absent, ""
	case http.StatusForbidden:
		return forbidden(e.Kind, text)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		switch {
		case strings.Contains(text, "last tagged version"), strings.Contains(text, "last version of a package"):
			return LastTagged, ""
		case strings.Contains(text, "downloads cannot be deleted"):
			return TooManyDownloads, ""
		case strings.Contains(text, "invalid argument") && !e.Kind.HasScopes():
			// docs/quirks.md#rest-credential-rules
			return WrongToken, ""
		}
	}
	return "", ""
}

// forbidden tells what a 403 is about (docs/quirks.md#rest-organization-forbids).
func forbidden(kind transport.TokenKind, text string) (reason Reason, scope string) {
	switch {
	case strings.Contains(text, "scope"):
		return MissingScope, namedScope().FindString(text)
	case strings.Contains(text, "saml"), strings.Contains(text, "single sign-on"):
		return SingleSignOn, ""
	case strings.Contains(text, "not accessible by integration") && kind == transport.InstallationToken:
		return NotLinked, ""
	case strings.Contains(text, "not accessible by"):
		return WrongToken, ""
	case strings.Contains(text, "forbids access"), strings.Contains(text, "organization"), strings.Contains(text, "enterprise"), strings.Contains(text, "ip allow list"):
		return Forbidden, ""
	}
	return NoPermission, ""
}

// missingPermission is the reason where a thing can be seen and not changed.
func missingPermission(kind transport.TokenKind) Reason {
	switch kind {
	case transport.InstallationToken:
		return NotLinked
	case transport.FineGrainedToken, transport.UserToken:
		return WrongToken
	}
	return NoPermission
}

// explainChange finds out why a change was refused. GitHub answers 404 to who may
// not, to what is gone, and to what never was; what can still be seen tells them
// apart (docs/quirks.md#rest-mask-forbidden).
func (c *Client) explainChange(ctx context.Context, err error, s subject, q request) error {
	e, ok := asExchange(err)
	if !ok {
		return explain(err, s)
	}
	restore := q.method == http.MethodPost
	switch {
	case restore && (e.Status == http.StatusConflict || e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity):
		// docs/quirks.md#rest-restore-conflict
		if reason, _ := reasonOf(e); reason != WrongToken {
			return refusal(e, s, NameTaken)
		}
		return explain(err, s)
	case e.Status != http.StatusNotFound:
		return explain(err, s)
	case restore:
		return c.explainRestore(ctx, e, s)
	}
	lookErr := c.look(ctx, s)
	switch {
	case lookErr == nil:
		return refusal(e, s, missingPermission(e.Kind))
	case !isGone(lookErr):
		return refusal(e, s, Absent) // no better than what GitHub said
	case s.version == 0 || c.visible(ctx, s):
		return refusal(e, s, Gone)
	}
	return refusal(e, s, Absent)
}

func (c *Client) explainRestore(ctx context.Context, e *transport.Error, s subject) error {
	switch {
	case c.look(ctx, s) == nil:
		return nil // it is there already
	case s.version == 0:
		return refusal(e, s, NotDeleted)
	case !c.visible(ctx, s):
		return refusal(e, s, Absent)
	}
	for v, err := range c.Versions(ctx, s.owner, s.name, Deleted) {
		switch {
		case err != nil:
			return refusal(e, s, Absent)
		case v.ID == s.version:
			return refusal(e, s, missingPermission(e.Kind))
		}
	}
	return refusal(e, s, NotDeleted)
}

// look asks for what a request was about.
func (c *Client) look(ctx context.Context, s subject) error {
	if s.version == 0 {
		_, err := c.Get(ctx, s.owner, s.name)
		return err
	}
	_, err := c.Version(ctx, s.owner, s.name, s.version)
	return err
}

// visible tells whether the login can see the package, now or at an earlier time.
func (c *Client) visible(ctx context.Context, s subject) bool {
	c.mu.Lock()
	seen := c.seen[strings.ToLower(s.owner+"/"+s.name)]
	c.mu.Unlock()
	if seen {
		return true
	}
	_, err := c.Get(ctx, s.owner, s.name)
	return err == nil
}

// saw notes that the login can see a package.
func (c *Client) saw(s subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[strings.ToLower(s.owner+"/"+s.name)] = true
}

func isGone(err error) bool { return errors.Is(err, oci.ErrNotFound) }

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}
