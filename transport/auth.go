package transport

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// authenticator keeps what was learned about the logins of each host.
type authenticator struct {
	client *Client
	mu     sync.Mutex
	hosts  map[string]*hostAuth // by scheme and host, so that no credential changes either
}

// hostAuth is what was learned of one host. Its token cache is in token.go.
type hostAuth struct {
	client *Client
	origin *url.URL
	rules  HostRules

	mu            sync.Mutex
	scheme        string // "bearer" or "basic" once a challenge or rule said so
	realm         string
	service       string
	directRefused map[string]bool // by credential and kind of access
	tokens        []cachedToken
	fetching      map[string]*flight
}

func (a *authenticator) host(u *url.URL) *hostAuth {
	a.mu.Lock()
	defer a.mu.Unlock()
	origin := &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	key := origin.String()
	if h := a.hosts[key]; h != nil {
		return h
	}
	if a.hosts == nil {
		a.hosts = map[string]*hostAuth{}
	}
	rules := a.client.opts.Rules(origin.Host)
	h := &hostAuth{
		client: a.client, origin: origin, rules: rules, realm: rules.Realm, service: rules.Service,
		directRefused: map[string]bool{}, fetching: map[string]*flight{},
	}
	if rules.Realm != "" {
		h.scheme = "bearer"
	}
	a.hosts[key] = h
	return h
}

// login is how a request was authorized.
type login struct {
	kind   loginKind
	header string // value of Authorization; empty for none
	token  string // the exchanged token, to drop it when it is refused
	fresh  bool   // the token was fetched for this very call
	label  string // where the credential came from, to be shown
	key    string // tells credentials of one source apart; holds no secret
	sort   TokenKind
	place  *ticket // what it was let through with already; nil if it has to queue
}

type loginKind int

const (
	loginNone loginKind = iota
	loginDirect
	loginBasic
	loginRaw
	loginToken
)

const anonymous = "anonymous"

// authenticate is the layer that owns the 401 and GHCR's bare 403: the request is
// sent with the best login that is known, and when that is refused with a
// recognisable need for another, again with that.
func (c *Client) authenticate(req *http.Request, call Call, attempt int) (*http.Response, error) {
	if call.NoAuth {
		return c.pace(req, call, login{}, attempt)
	}
	cred, err := c.opts.Credentials.Credential(req.Context(), req.URL.Host)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	h := c.auth.host(req.URL)
	how, err := h.choose(req, call, cred)
	if err != nil {
		closeBody(req)
		return nil, forCall(err, call)
	}
	for sends := 1; ; sends++ {
		how.sort = kindOf(cred)
		resp, err := c.sendAs(req, call, how, attempt)
		if err == nil || !h.learn(err, cred, call, how) || sends == maxSends || !replayable(req) {
			return resp, err
		}
		better, tokenErr := h.choose(req, call, cred)
		if tokenErr != nil {
			return nil, forCall(tokenErr, call)
		}
		if better.header == how.header {
			return nil, err // there is nothing else to try
		}
		next, bodyErr := again(req)
		if bodyErr != nil {
			return nil, errors.Join(err, bodyErr)
		}
		req, how = next, better
	}
}

// maxSends is how often a request goes out at most: as it is thought right; without
// a credential, to be told what is right; and with that.
const maxSends = 3

func (c *Client) sendAs(req *http.Request, call Call, how login, attempt int) (*http.Response, error) {
	if how.header != "" {
		req.Header.Set("Authorization", how.header)
	} else {
		req.Header.Del("Authorization")
	}
	resp, err := c.pace(req, call, how, attempt)
	var e *Error
	if errors.As(err, &e) {
		e.Credential, e.Kind = how.label, how.sort
	}
	return resp, err
}

// forCall makes the failure to get a token the failure of what it was for.
func forCall(err error, call Call) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	told.Op, told.Target = call.Op, call.Target
	return &told
}

// choose picks the login for a request, and gets a token where one is needed.
func (h *hostAuth) choose(req *http.Request, call Call, cred Credential) (login, error) {
	label := credentialLabel(cred)
	if !cred.Bearer.IsZero() {
		return login{kind: loginRaw, header: "Bearer " + cred.Bearer.Reveal(), label: label}, nil
	}
	h.mu.Lock()
	scheme, refused := h.scheme, h.directRefused[directKey(cred, call)]
	h.mu.Unlock()
	if h.rules.DirectBearer && !refused {
		return login{kind: loginDirect, header: "Bearer " + directToken(cred), label: label}, nil
	}
	switch scheme {
	case "bearer":
		return h.tokenLogin(req.Context(), call, cred)
	case "basic":
		if !cred.IsZero() {
			return login{kind: loginBasic, header: "Basic " + basic(cred), label: label}, nil
		}
	}
	return login{kind: loginNone, label: label}, nil
}

// learn takes from a refusal what it tells about how to log in. It tells whether
// another login is worth a try.
func (h *hostAuth) learn(err error, cred Credential, call Call, how login) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	// The answer to a HEAD has no body to say DENIED in.
	bare := e.Status == http.StatusForbidden && len(e.challenges) == 0 && !e.rateLimited() &&
		(e.Code == "DENIED" || e.Method == http.MethodHead)
	if e.Status != http.StatusUnauthorized && !bare {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range e.challenges {
		switch {
		case ch.scheme == "bearer" && h.acceptRealm(ch.params["realm"]):
			h.scheme = "bearer"
			h.realm, h.service = ch.params["realm"], ch.params["service"]
		case ch.scheme == "basic" && h.scheme == "":
			h.scheme = "basic"
		}
	}
	switch how.kind {
	case loginDirect:
		// docs/quirks.md#denied-without-challenge
		h.directRefused[directKey(cred, call)] = true
		return true
	case loginToken:
		h.dropLocked(how.token)
		// A token that is minutes old may have expired; a new one that is refused
		// shows that the permission is missing.
		return !how.fresh
	case loginNone:
		return h.scheme == "bearer" || h.scheme == "basic" && !cred.IsZero()
	}
	return false
}

// acceptRealm tells whether credentials may be sent to a token service. The
// registry names it, so a registry must not be able to name just anything.
func (h *hostAuth) acceptRealm(realm string) bool {
	u, err := url.Parse(realm)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	if h.rules.Realm != "" {
		known, err := url.Parse(h.rules.Realm)
		return err == nil && u.Scheme == known.Scheme && strings.EqualFold(u.Host, known.Host)
	}
	loopback := IsLoopback(h.origin.Host)
	switch {
	case u.Scheme == "http":
		return h.origin.Scheme == "http" && loopback && IsLoopback(u.Host)
	case u.Scheme != "https":
		return false
	}
	return loopback || strings.EqualFold(u.Hostname(), h.origin.Hostname()) || !isPrivate(u.Hostname())
}

// directToken is what GHCR takes in place of an exchanged token: the GitHub token
// in base64, or the best known public token, which is base64 of "A".
func directToken(cred Credential) string {
	if cred.Password.IsZero() {
		return "QQ=="
	}
	return base64.StdEncoding.EncodeToString([]byte(cred.Password.Reveal()))
}

func basic(cred Credential) string {
	return base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password.Reveal()))
}

func credentialLabel(cred Credential) string {
	switch {
	case cred.IsZero():
		return anonymous
	case cred.Source == "":
		return "the given credential"
	}
	return cred.Source
}

func credentialKey(cred Credential) string {
	if cred.IsZero() {
		return anonymous
	}
	secret := sha256.Sum256([]byte(cred.Password.Reveal() + "\n" + cred.Bearer.Reveal())) // so that a new one is another
	return cred.Source + "\n" + cred.Username + "\n" + string(secret[:])
}

func directKey(cred Credential, call Call) string {
	if pullOnly(call.Scopes) {
		return "pull\n" + credentialKey(cred)
	}
	return "push\n" + credentialKey(cred)
}

func pullOnly(scopes []Scope) bool {
	for _, s := range scopes {
		for _, action := range s.Actions {
			if action != "pull" {
				return false
			}
		}
	}
	return true
}
