package transport

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// CredentialPool is a [CredentialSource] that has several logins for a host, whose
// limits count apart. Calls to an API use the one that has to wait least, and of
// several that need not wait the one of which most is left. Other calls use the
// login that [CredentialSource] gives.
type CredentialPool interface {
	CredentialSource
	// Credentials returns the logins for a host, the preferred one first.
	Credentials(ctx context.Context, host string) ([]Credential, error)
}

// Pool is a [CredentialPool] of fixed logins by host.
type Pool map[string][]Credential

// Credential returns the first login for the host.
func (p Pool) Credential(_ context.Context, host string) (Credential, error) {
	if list := p[host]; len(list) > 0 {
		return list[0], nil
	}
	return Credential{}, nil
}

// Credentials implements [CredentialPool].
func (p Pool) Credentials(_ context.Context, host string) ([]Credential, error) { return p[host], nil }

// The OAuth scopes that packages need (docs/quirks.md#rest-credential-rules).
const (
	ScopeRead   = "read:packages"
	ScopeWrite  = "write:packages" // includes ScopeRead
	ScopeDelete = "delete:packages"
)

// ScopeError is a call that was not made because no token has the OAuth scopes for
// it. It is [ErrDenied].
type ScopeError struct {
	Op, Target string
	Missing    []string
	Has        []string // what GitHub says the token has
	Kind       TokenKind
	Credential string // where the token was found
}

// Error says which scope is missing, and which are there.
func (e *ScopeError) Error() string {
	has := "no scope at all"
	if len(e.Has) > 0 {
		has = strings.Join(e.Has, ", ")
	}
	return fmt.Sprintf("%s: the token from %s lacks %s (it has %s)",
		strings.TrimSpace(e.Op+" "+e.Target), e.Credential, strings.Join(e.Missing, " and "), has)
}

// Is makes every ScopeError an [ErrDenied].
func (e *ScopeError) Is(target error) bool { return target == ErrDenied }

// Token is what is known of a credential, without its secret.
type Token struct {
	// ID tells it from others, in this process only. It says nothing of the secret.
	ID     string
	Source string
	Kind   TokenKind
	// Scopes are the OAuth scopes that GitHub said the token has. They mean
	// something only if Known: before the first answer, and for kinds of token that
	// have none, nothing is known.
	Scopes []string
	Known  bool
}

// Lacks returns which of the scopes the token is known to lack.
func (t Token) Lacks(scopes ...string) []string {
	if !t.Known {
		return nil
	}
	var missing []string
	for _, s := range scopes {
		if !slices.Contains(t.Scopes, s) && !(s == ScopeRead && slices.Contains(t.Scopes, ScopeWrite)) {
			missing = append(missing, s)
		}
	}
	return missing
}

// Tokens returns what is known of the credentials for the API on a host: nothing
// for an anonymous client. It sends no request.
//
// Errors: the credential source's.
func (c *Client) Tokens(ctx context.Context, host string) ([]Token, error) {
	list, err := c.credentials(ctx, host)
	if err != nil {
		return nil, err
	}
	var tokens []Token
	for _, cred := range list {
		if !cred.IsZero() {
			tokens = append(tokens, c.token(cred))
		}
	}
	return tokens, nil
}

func (c *Client) token(cred Credential) Token {
	t := Token{ID: keyedHash(c.salt[:], credentialKey(cred)), Source: credentialLabel(cred), Kind: kindOf(cred)}
	if scopes, ok := c.scopes.Load(credentialKey(cred)); ok {
		t.Scopes, t.Known = scopes.([]string), true
	}
	return t
}

// Identity returns a hash of the credentials for the API on a host, by which what
// was read with them can be kept apart. Without the salt it says nothing, and with
// it not what they are. It is the same for the same credentials and salt. With the
// ID of a token it is about that one alone.
//
// Errors: the credential source's.
func (c *Client) Identity(ctx context.Context, host, token string, salt []byte) (string, error) {
	list, err := c.credentials(ctx, host)
	if err != nil {
		return "", err
	}
	var secrets []string
	for _, cred := range list {
		if token == "" || c.token(cred).ID == token {
			secrets = append(secrets, secretOf(cred).Reveal())
		}
	}
	slices.Sort(secrets)
	return keyedHash(salt, strings.Join(secrets, "\n")), nil
}

func keyedHash(key []byte, s string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// secretOf is what a credential sends to an API.
func secretOf(cred Credential) Secret {
	if !cred.Password.IsZero() {
		return cred.Password
	}
	return cred.Bearer
}

func (c *Client) credentials(ctx context.Context, host string) ([]Credential, error) {
	if pool, ok := c.opts.Credentials.(CredentialPool); ok {
		list, err := pool.Credentials(ctx, host)
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
	cred, err := c.opts.Credentials.Credential(ctx, host)
	return []Credential{cred}, err
}

// callAPI is the layer of auth for GitHub's API: the token goes as it is, and where
// there are several the best one. One that is not taken is not tried again.
func (c *Client) callAPI(req *http.Request, call Call, attempt int) (*http.Response, error) {
	list, err := c.credentials(req.Context(), req.URL.Host)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if call.Token != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(cred Credential) bool { return c.token(cred).ID != call.Token })
		if len(list) == 0 {
			closeBody(req)
			return nil, fmt.Errorf("%s: the token to use is no longer among the credentials for %s: %w",
				strings.TrimSpace(call.Op+" "+call.Target), req.URL.Host, ErrUnauthorized)
		}
	}
	for {
		cred, place, err := c.chooseToken(req, call, list)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		how := login{kind: loginNone, label: credentialLabel(cred), key: credentialKey(cred), sort: kindOf(cred), place: place}
		if !cred.IsZero() {
			how.kind, how.header = loginRaw, "Bearer "+secretOf(cred).Reveal()
		}
		resp, err := c.sendAs(req, call, how, attempt)
		c.learnScopes(how, resp, err)
		if !errors.Is(err, ErrUnauthorized) || !replayable(req) {
			return resp, err
		}
		list = slices.DeleteFunc(slices.Clone(list), func(other Credential) bool { return credentialKey(other) == how.key })
		if len(list) == 0 {
			return resp, err
		}
		c.refused.Store(how.key, true)
		next, bodyErr := again(req)
		if bodyErr != nil {
			return nil, errors.Join(err, bodyErr)
		}
		req = next
	}
}

// stickiness keeps the token that was used last while no other has this much more
// left, in percent of its limit: answers are cached by token.
const stickiness = 10

// chooseToken picks the token to send a call with, of one or more. A call that need
// not wait is let through at once: else all that are choosing at this moment might
// go for the last place behind one gate, and those who miss it would wait there
// although there is room behind another.
func (c *Client) chooseToken(req *http.Request, call Call, list []Credential) (Credential, *ticket, error) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	var best Credential
	var bestGate *gate
	var lacking *ScopeError
	bestWait, bestLeft, found := time.Duration(0), 0, false
	last, _ := c.lastToken.Load(req.URL.Host)
	for _, cred := range list {
		token := c.token(cred)
		if missing := token.Lacks(call.Needs...); len(missing) > 0 {
			if lacking == nil {
				lacking = &ScopeError{
					Op: call.Op, Target: call.Target, Missing: missing, Has: token.Scopes, Kind: token.Kind, Credential: token.Source,
				}
			}
			continue
		}
		key := credentialKey(cred)
		if _, refused := c.refused.Load(key); refused && len(list) > 1 {
			continue
		}
		g := c.gates.of(keyOf(req, call, login{key: key}), credentialLabel(cred))
		wait, left := g.outlook(call, pointsOf(req.Method), c.opts.MaxWait)
		if key == last {
			left += stickiness
		}
		if !found || wait < bestWait || wait == bestWait && left > bestLeft {
			best, bestGate, bestWait, bestLeft, found = cred, g, wait, left, true
		}
	}
	switch {
	case found:
		c.lastToken.Store(req.URL.Host, credentialKey(best))
		if len(list) == 1 || call.Free {
			return best, nil, nil
		}
		return best, bestGate.pass(req, call, c.opts.MaxWait), nil
	case lacking != nil:
		return Credential{}, nil, lacking
	}
	return list[0], nil, nil // all were refused: the answer says so again
}

// pass lets a request through if it need not wait, and nobody does.
func (g *gate) pass(req *http.Request, call Call, patience time.Duration) *ticket {
	select {
	case g.turn <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-g.turn }()
	now := time.Now()
	t := ticket{points: pointsOf(req.Method), resource: resourceOf(call)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait, _ := g.budget.delay(now, t.resource, t.points, patience); wait > 0 {
		return nil
	}
	t.number = g.budget.send(now, t.resource, t.points)
	return &t
}

// learnScopes keeps what an answer says of the scopes of its token.
func (c *Client) learnScopes(how login, resp *http.Response, err error) {
	if how.kind == loginNone || !how.sort.HasScopes() {
		return
	}
	var scopes []string
	var e *Error
	if resp != nil {
		scopes = readScopes(resp.Header)
	} else if errors.As(err, &e) && e.Status != http.StatusUnauthorized {
		scopes = e.scopes
	}
	if scopes != nil {
		c.scopes.Store(how.key, scopes)
	}
}

// readScopes reads what scopes a token has (docs/quirks.md#rest-scopes). It is nil
// if the answer does not tell, and empty if there are none.
func readScopes(h http.Header) []string {
	values := h.Values("X-OAuth-Scopes")
	if values == nil {
		return nil
	}
	scopes := strings.FieldsFunc(strings.Join(values, ","), func(r rune) bool { return r == ',' || r == ' ' })
	return append([]string{}, scopes...)
}

// outlook tells how long a request would wait here, behind those that do already, and
// what is left in percent.
func (g *gate) outlook(call Call, points int, patience time.Duration) (wait time.Duration, left int) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	resource := resourceOf(call)
	wait, _ = g.budget.delay(now, resource, g.queued+points, patience)
	left = 100
	if w := g.budget.windows[resource]; w != nil && now.Before(w.Reset) {
		left = w.Remaining * 100 / w.Limit
	}
	return wait, left
}
