package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// defaultTokenLife is for how long a token is taken to be good whose life is not
// stated. GHCR states none (docs/quirks.md#token-minimal).
const defaultTokenLife = time.Minute

// maxTokenLife bounds what a service may state.
const maxTokenLife = 24 * time.Hour

// maxTokens bounds the tokens kept for one host.
const maxTokens = 64

type cachedToken struct {
	credential string
	scopes     []Scope
	value      Secret
	renew      time.Time // half way through its life
	label      string
	standsFor  string // the wider scopes that were refused; "" if none were
}

// flight is a token on its way. Whoever waits for it shares a refusal.
type flight struct {
	done    chan struct{}
	failure error
}

const getToken = "get token"

// tokenLogin returns a login with a token that allows what the call needs: one from
// the cache, whose scopes may be wider, or a new one. However many ask for the
// same, one request is sent.
func (h *hostAuth) tokenLogin(ctx context.Context, call Call, cred Credential) (login, error) {
	key := credentialKey(cred) + "\n" + scopeKey(call.Scopes)
	for {
		h.mu.Lock()
		if t, ok := h.cachedLocked(credentialKey(cred), call.Scopes); ok {
			h.mu.Unlock()
			return tokenHeader(t, false), nil
		}
		other, taken := h.fetching[key]
		if !taken {
			fetch := &flight{done: make(chan struct{})}
			h.fetching[key] = fetch
			h.mu.Unlock()
			t, err := h.fetch(ctx, call.Scopes, cred)
			h.mu.Lock()
			delete(h.fetching, key)
			if err != nil && ctx.Err() == nil {
				fetch.failure = err
			}
			close(fetch.done)
			if err == nil {
				h.tokens = append(h.tokens, t)
				if len(h.tokens) > maxTokens {
					h.tokens = slices.Delete(h.tokens, 0, len(h.tokens)-maxTokens)
				}
			}
			h.mu.Unlock()
			if err != nil {
				return login{}, err
			}
			return tokenHeader(t, true), nil
		}
		h.mu.Unlock()
		select {
		case <-other.done: // it is in the cache now, or there is none, or it is our turn
			if other.failure != nil {
				return login{}, other.failure
			}
		case <-ctx.Done():
			return login{}, ended(ctx)
		}
	}
}

func tokenHeader(t cachedToken, fresh bool) login {
	value := t.value.Reveal()
	return login{kind: loginToken, header: "Bearer " + value, token: value, fresh: fresh, label: t.label}
}

func (h *hostAuth) cachedLocked(credential string, scopes []Scope) (cachedToken, bool) {
	now := time.Now()
	for _, t := range slices.Backward(h.tokens) {
		if t.credential == credential && now.Before(t.renew) && (covers(t.scopes, scopes) || t.standsFor != "" && t.standsFor == scopeKey(scopes)) {
			return t, true
		}
	}
	return cachedToken{}, false
}

func (h *hostAuth) dropLocked(value string) {
	h.tokens = slices.DeleteFunc(h.tokens, func(t cachedToken) bool { return t.value.Reveal() == value })
}

// covers tells whether all that is needed is among what is held.
func covers(held, needed []Scope) bool {
	for _, n := range needed {
		for _, action := range n.Actions {
			if !slices.ContainsFunc(held, func(h Scope) bool { return h.Repository == n.Repository && slices.Contains(h.Actions, action) }) {
				return false
			}
		}
	}
	return len(needed) > 0 || len(held) == 0
}

func scopeKey(scopes []Scope) string {
	list := make([]string, len(scopes))
	for i, s := range scopes {
		list[i] = s.String()
	}
	return strings.Join(list, " ")
}

// String writes the scope as token services read it.
func (s Scope) String() string {
	return "repository:" + s.Repository + ":" + strings.Join(s.Actions, ",")
}

// fetch gets a token. What is refused with a credential is tried with less: with
// the first scope alone, since a mount's source may be out of reach, and for
// reading with no credential at all, since GHCR refuses an expired one for public
// images too (docs/quirks.md#token-no-anon-fallback).
func (h *hostAuth) fetch(ctx context.Context, scopes []Scope, cred Credential) (cachedToken, error) {
	t, err := h.fetchOnce(ctx, scopes, cred)
	if err != nil && len(scopes) > 1 && refused(err) {
		if t, narrow := h.fetchOnce(ctx, scopes[:1], cred); narrow == nil {
			// It stands in for the wider one, so that the refusal is met once.
			t.standsFor = scopeKey(scopes)
			return t, nil
		}
	}
	if err != nil && !cred.IsZero() && pullOnly(scopes) && refused(err) {
		if t, bare := h.fetchOnce(ctx, scopes, Credential{}); bare == nil {
			t.credential = credentialKey(cred)
			t.label = anonymous + ", because the login from " + credentialLabel(cred) + " was refused"
			return t, nil
		}
	}
	return t, err
}

func refused(err error) bool {
	return errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrDenied)
}

// maxToken is far above the size of any token.
const maxToken = 1 << 20

func (h *hostAuth) fetchOnce(ctx context.Context, scopes []Scope, cred Credential) (cachedToken, error) {
	h.mu.Lock()
	realm, service := h.realm, h.service
	h.mu.Unlock()
	u, err := url.Parse(realm)
	if err != nil {
		return cachedToken{}, err
	}
	query := u.Query()
	if service != "" {
		query.Set("service", service)
	}
	for _, s := range scopes {
		query.Add("scope", s.String())
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return cachedToken{}, err
	}
	req.Header.Set("User-Agent", h.client.opts.UserAgent)
	if !cred.IsZero() {
		req.Header.Set("Authorization", "Basic "+basic(cred))
	}
	call := Call{Op: getToken, Target: scopeKey(scopes), token: true}
	label := credentialLabel(cred)
	began := time.Now()
	var body []byte
	resp, err := h.client.retry(req, call, func(req *http.Request, attempt int) (*http.Response, error) {
		resp, err := h.client.pace(req, call, login{label: label, sort: kindOf(cred)}, attempt)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(io.LimitReader(resp.Body, maxToken)); err != nil {
			return nil, err
		}
		return resp, nil
	})
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Credential = label
		}
		return cachedToken{}, err
	}
	var answer struct {
		Token       string      `json:"token"`
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"` // some services quote it
	}
	unreadable := json.Unmarshal(body, &answer)
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if unreadable != nil || answer.Token == "" {
		e := newError(req, call, nil)
		e.Status, e.Message, e.Credential = resp.StatusCode, "the token service gave no token", label
		return cachedToken{}, e
	}
	life := defaultTokenLife
	if seconds, err := answer.ExpiresIn.Float64(); err == nil && seconds > 0 {
		life = time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
	}
	return cachedToken{
		credential: credentialKey(cred), scopes: scopes, value: NewSecret(answer.Token),
		renew: began.Add(life / 2), label: label,
	}, nil
}
