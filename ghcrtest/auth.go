package ghcrtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// identity is who asks. The zero value is anybody.
type identity struct {
	account *Account
	// scoped limits the identity to what its token was issued for; nil is no limit.
	scoped []scope
	direct bool // a GitHub token that was not exchanged
}

type scope struct {
	repo    string
	actions []string
}

// grant is a token that was issued.
type grant struct {
	identity
	expires time.Time
}

// parseScope reads "repository:<name>:<action>,…".
func parseScope(s string) (scope, bool) {
	kind, rest, _ := strings.Cut(s, ":")
	i := strings.LastIndexByte(rest, ':')
	if kind != "repository" || i <= 0 {
		return scope{}, false
	}
	return scope{repo: rest[:i], actions: strings.Split(rest[i+1:], ",")}, true
}

// authorize finds out who asks and whether they may, and answers if not.
func (x *exchange) authorize(action string) bool {
	if x.server.open {
		return true
	}
	who, ok := x.identify()
	if !ok {
		return false
	}
	x.who = who
	if x.server.allows(who, x.repo, action) {
		if action != "pull" && who.direct && !x.server.quirks.DirectBearerWrites {
			x.deny("denied")
			return false
		}
		return true
	}
	switch {
	case action == "pull" && who.account != nil && who.scoped == nil, action == "pull" && who.account != nil && who.covers(x.repo, action):
		// What may not be seen is as good as not there.
		x.manifestUnknown()
	case action == "pull":
		x.deny("denied")
	default:
		x.deny(x.denial(action))
	}
	return false
}

// denial is what GHCR says of a write that is refused, by the kind of credential.
func (x *exchange) denial(action string) string {
	who := x.who
	switch {
	case !x.server.quirks.DenialTexts, who.account == nil:
		return "requested access to the resource is denied"
	case !who.direct && !who.covers(x.repo, action):
		return "requested access to the resource is denied"
	case strings.HasPrefix(who.account.Token, "ghs_") && !x.server.store.exists(x.repo):
		return "installation not allowed to Create organization package"
	case strings.HasPrefix(who.account.Token, "ghs_"):
		return "installation not allowed to Write organization package"
	case !who.account.scoped("write:packages"):
		return "permission_denied: The token provided does not match expected scopes."
	}
	return "permission_denied: write_package"
}

func (who identity) covers(repo, action string) bool {
	return slices.ContainsFunc(who.scoped, func(sc scope) bool { return sc.repo == repo && slices.Contains(sc.actions, action) })
}

// deny is GHCR's refusal of a credential: 403 and no challenge, so that a client
// that waits for a 401 is stuck.
func (x *exchange) deny(message string) {
	x.fail(http.StatusForbidden, "DENIED", message)
}

// challenge asks for a login.
func (x *exchange) challenge() {
	action := "pull"
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		action = "pull,push"
	}
	sc := "repository:" + x.repo + ":" + action
	if x.repo == "" {
		sc = ""
		if x.server.quirks.PingPlaceholderScope {
			sc = "repository:user/image:pull"
		}
	}
	h := fmt.Sprintf(`Bearer realm="%s://%s/token",service="%s"`, scheme(x.r), x.r.Host, RegistryHost)
	if sc != "" {
		h += fmt.Sprintf(`,scope="%s"`, sc)
	}
	x.w.Header().Set("WWW-Authenticate", h)
	x.fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}

// refuse answers a credential that is not good.
func (x *exchange) refuse(message string) {
	if x.server.quirks.DeniedWithoutChallenge {
		x.deny(message)
		return
	}
	x.challenge()
}

// identify reads the Authorization header, and answers what it does not accept.
func (x *exchange) identify() (identity, bool) {
	header := x.r.Header.Get("Authorization")
	kind, value, _ := strings.Cut(header, " ")
	value = strings.TrimSpace(value)
	switch {
	case header == "":
		x.challenge()
		return identity{}, false
	case strings.EqualFold(kind, "Bearer") && value == "":
		x.fail(http.StatusUnauthorized, "UNAUTHORIZED", "authentication token not provided")
		return identity{}, false
	case !strings.EqualFold(kind, "Bearer"):
		x.refuse("invalid token")
		return identity{}, false
	}
	s := x.server
	s.mu.Lock()
	g := s.tokens[value]
	expired := g != nil && !s.now().Before(g.expires)
	s.mu.Unlock()
	switch {
	case expired:
		x.challenge()
		return identity{}, false
	case g != nil:
		return g.identity, true
	case s.account(value) != nil:
		if s.quirks.RawBearerStatus == http.StatusUnauthorized {
			x.challenge()
		} else {
			x.deny("invalid token")
		}
		return identity{}, false
	case value == "QQ==" && s.quirks.AnonymousBearer:
		return identity{}, true
	}
	if s.quirks.DirectBearer {
		if decoded, err := base64.StdEncoding.DecodeString(value); err == nil {
			token := string(decoded)
			if _, password, ok := strings.Cut(token, ":"); ok {
				token = password
			}
			if a := s.account(token); a != nil {
				return identity{account: a, direct: true}, true
			}
		}
	}
	x.refuse("invalid token")
	return identity{}, false
}

// ping answers GET /v2/. GHCR does not look at the credential there.
func (x *exchange) ping() {
	if x.server.open {
		x.pong()
		return
	}
	kind, value, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	if x.server.quirks.PingAcceptsAnyBearer && strings.EqualFold(kind, "Bearer") && value != "" {
		if _, err := base64.StdEncoding.DecodeString(value); err == nil {
			x.pong()
			return
		}
	}
	if _, ok := x.identify(); ok {
		x.pong()
	}
}

func (x *exchange) pong() {
	x.apiVersion()
	x.w.Header().Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusOK)
}

// token answers GET /token.
func (x *exchange) token() {
	q := x.server.quirks
	if x.r.Method != http.MethodGet {
		x.fail(q.TokenPostStatus, "UNSUPPORTED", "The operation is unsupported.")
		return
	}
	var scopes []scope
	for _, value := range x.r.URL.Query()["scope"] {
		for _, one := range strings.Fields(value) {
			if sc, ok := parseScope(one); ok && (len(scopes) == 0 || q.TokenMultiScope) {
				scopes = append(scopes, sc)
			}
		}
	}
	user, password, given := x.r.BasicAuth()
	var who identity
	if given && (password != "" || !x.server.open) {
		who.account = x.server.account(password)
		if who.account != nil && !q.TokenUserIgnored && user != who.account.Login {
			who.account = nil
		}
		if who.account == nil && !x.server.open {
			if q.TokenNoAnonFallback {
				x.deny("denied")
				return
			}
			given = false
		}
	}
	if who.account == nil && !x.server.open && !x.anonymousMay(scopes) {
		return
	}
	if who.account != nil && !q.LateWriteDenial {
		scopes = x.server.permitted(who, scopes)
	}
	who.scoped = append([]scope{}, scopes...)
	x.issue(who, scopes)
}

// anonymousMay answers an anonymous request that is not for public images alone.
func (x *exchange) anonymousMay(scopes []scope) bool {
	q := x.server.quirks
	for _, sc := range scopes {
		status := q.TokenPrivateStatus
		if !x.server.store.exists(sc.repo) {
			status = q.TokenMissingStatus
		}
		if x.server.store.public(sc.repo) {
			if !slices.ContainsFunc(sc.actions, func(a string) bool { return a != "pull" }) {
				continue
			}
			status = q.TokenMissingStatus
		}
		if status == http.StatusUnauthorized {
			x.fail(status, "UNAUTHORIZED", "authentication required")
		} else {
			x.deny("requested access to the resource is denied")
		}
		return false
	}
	return true
}

func (s *Server) permitted(who identity, scopes []scope) []scope {
	var list []scope
	for _, sc := range scopes {
		granted := scope{repo: sc.repo}
		for _, action := range sc.actions {
			if s.allows(who, sc.repo, action) {
				granted.actions = append(granted.actions, action)
			}
		}
		list = append(list, granted)
	}
	return list
}

func (x *exchange) issue(who identity, scopes []scope) {
	s := x.server
	value := base64.StdEncoding.EncodeToString([]byte(s.randomHex(48)))
	now := s.now()
	if who.account == nil && s.quirks.TokenFormatV1 && len(scopes) > 0 {
		// The instant alone would come twice in virtual time.
		value = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "v1:%s:%d%s", scopes[0].repo, now.UnixNano(), s.randomDigits()))
	}
	s.keepToken(value, &grant{identity: who, expires: now.Add(s.quirks.TokenTTL)})
	answer := map[string]any{"token": value}
	if !s.quirks.TokenMinimal {
		answer["access_token"] = value
		answer["expires_in"] = int(s.quirks.TokenTTL / time.Second)
		answer["issued_at"] = now.UTC().Format(time.RFC3339)
	}
	x.w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(x.w).Encode(answer)
}

// manyTokens is from how many tokens on the server forgets old ones. An expired
// token is told from an unknown one for an hour.
const manyTokens = 1 << 12

func (s *Server) keepToken(value string, g *grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= s.sweepTokens {
		forget := s.now().Add(-time.Hour)
		maps.DeleteFunc(s.tokens, func(_ string, old *grant) bool { return old.expires.Before(forget) })
		s.sweepTokens = max(manyTokens, 2*len(s.tokens))
	}
	s.tokens[value] = g
}

func (s *Server) randomDigits() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%03d", s.rand.IntN(1000))
}
