package cassette

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What a client meets on its way to a login depends on chance and on the clock: how
// many of its first requests go out before one is refused, which of its tokens allows
// more than a request needs, how long the last one is good for. So a replay does not
// hold a client to it. It gives refusals and tokens as often as they are asked for,
// and wants them asked for at least once. That the login is the right one is seen
// from all other requests, which have it in their keys. [OrderStrict] allows none of
// this.

// tokenKinds are the kinds of GitHub's tokens and how each begins. What GitHub allows
// depends on the kind, and with it what a client tries.
var tokenKinds = []struct{ name, prefix string }{
	{"classic", "ghp_"}, {"fine-grained", "github_pat_"}, {"installation", "ghs_"}, {"oauth", "gho_"}, {"user", "ghu_"},
}

// anonymousToken is what GHCR takes from whoever has no login: base64 of "A"
// (docs/quirks.md#direct-bearer).
const (
	anonymousToken = "QQ=="
	anonymousKind  = "anonymous"
)

// withKind adds to the scheme of an Authorization the kind of its token, where that
// is known.
func withKind(scheme, value string) string {
	if value == anonymousToken && scheme == "bearer" {
		return scheme + " (" + anonymousKind + ")"
	}
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil {
		value = string(plain)
	}
	if _, password, ok := strings.Cut(value, ":"); ok && scheme == "basic" {
		value = password
	}
	for _, k := range tokenKinds {
		if strings.HasPrefix(value, k.prefix) {
			return scheme + " (" + k.name + ")"
		}
	}
	return scheme
}

// kindOf is the reverse of withKind. A token that an answer brought has no kind.
func kindOf(auth string) (scheme, kind string) {
	scheme, kind, ok := strings.Cut(strings.TrimSuffix(auth, ")"), " (")
	known := slices.ContainsFunc(tokenKinds, func(k struct{ name, prefix string }) bool { return k.name == kind })
	if !ok || scheme == "token" || !known && kind != anonymousKind {
		return auth, ""
	}
	return scheme, kind
}

// login is what Auth is compared by. The kind of a token is no part of it, so that a
// recording is good for whoever replays it, nor what a token allows beyond what the
// request needs.
func (r *Request) login() string {
	scheme, kind := kindOf(r.Auth)
	if kind == anonymousKind {
		return r.Auth
	}
	who, scopes, ok := strings.Cut(scheme, ") ")
	if !ok || !strings.HasPrefix(who, "token (") || r.Role != roleRegistry {
		return scheme
	}
	needed, ok := r.needs()
	held := strings.Fields(scopes)
	for _, n := range needed {
		ok = ok && slices.ContainsFunc(held, n.in)
	}
	if !ok {
		return scheme
	}
	return who + ") for it"
}

// permission is what a token must allow.
type permission struct{ repo, action string }

// in tells whether a scope such as "repository:acme/app:pull,push" has it.
func (p permission) in(scope string) bool {
	rest, ok := strings.CutPrefix(scope, "repository:"+p.repo+":")
	return ok && slices.Contains(strings.Split(rest, ","), p.action)
}

// needs lists what a token must allow for a request to a registry. It is not ok where
// registries do not agree on it.
func (r *Request) needs() (list []permission, ok bool) {
	p, err := url.PathUnescape(strings.TrimPrefix(r.Path, "/v2/"))
	if err != nil {
		return nil, false
	}
	repo := registryRoute(p).repo
	switch {
	case repo == "", r.Method == http.MethodDelete:
		return nil, false
	case isSafe(r.Method):
		return []permission{{repo, "pull"}}, true
	}
	list = []permission{{repo, "pull"}, {repo, "push"}}
	if query, err := url.ParseQuery(r.Query); err == nil && query.Has("from") {
		list = append(list, permission{query.Get("from"), "pull"})
	}
	return list, true
}

// logins finds the steps of a login among what was recorded.
type logins struct {
	others   map[string][]*item // requests, by all that they are but their login
	refusals map[string][]*item
	tokens   map[string][]*item
	met      map[string]bool // by where and as whom, what was asked for of the two
}

func newLogins() logins {
	return logins{others: map[string][]*item{}, refusals: map[string][]*item{}, tokens: map[string][]*item{}, met: map[string]bool{}}
}

func (r *Request) refusalKey() string { return r.Scheme + "://" + r.Host + " " + r.login() }

func (r *Request) tokenKey() string { return r.Scheme + "://" + r.Host + r.Path + " " + r.login() }

func (g *logins) add(it *item) {
	r := &it.Request
	switch {
	case r.Role == roleToken:
		g.tokens[r.tokenKey()] = append(g.tokens[r.tokenKey()], it)
	case r.Role == roleRegistry:
		g.others[r.keyWithout("auth")] = append(g.others[r.keyWithout("auth")], it)
		if isRefusal(it.Response.Status) {
			g.refusals[r.refusalKey()] = append(g.refusals[r.refusalKey()], it)
		}
	}
}

func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// took notes that an answer was given.
func (g *logins) took(it *item) {
	switch {
	case it.Request.Role == roleToken:
		g.met[it.Request.tokenKey()] = true
	case isRefusal(it.Response.Status):
		g.met[it.Request.refusalKey()] = true
	}
}

// again returns the answer to a step of a login that was not recorded just so, or nil.
func (g *logins) again(r *Request) *item {
	switch r.Role {
	case roleToken:
		return g.token(r)
	case roleRegistry:
		return g.refusal(r)
	}
	return nil
}

// refusal finds one for a request that was recorded with another login, or was refused
// with this one: that of a request that is most like it.
func (g *logins) refusal(r *Request) *item {
	if !slices.ContainsFunc(g.others[r.keyWithout("auth")], func(it *item) bool {
		return it.Request.login() != r.login() || isRefusal(it.Response.Status)
	}) {
		return nil
	}
	var found *item
	best := -1
	for _, it := range g.refusals[r.refusalKey()] {
		likeness := 0
		switch {
		case it.Request.Method == r.Method:
			likeness += 2
		case it.Request.Method == http.MethodHead && it.Response.Status != http.StatusUnauthorized:
			continue // it has no body to say why in
		}
		if sameRepository(&it.Request, r) {
			likeness++
		}
		if likeness > best {
			found, best = it, likeness
		}
	}
	if found != nil && r.Method == http.MethodHead && found.Request.Method != http.MethodHead {
		bare := *found.Interaction
		bare.Response.Body = Body{Mode: BodyEmpty}
		found = &item{Interaction: &bare, place: found.place, used: true}
	}
	return found
}

func sameRepository(a, b *Request) bool {
	return registryRoute(strings.TrimPrefix(a.Path, "/v2/")).repo == registryRoute(strings.TrimPrefix(b.Path, "/v2/")).repo
}

// token finds the answer to a request for a token that allows less than one that was
// recorded: which of the two is asked for first is chance.
func (g *logins) token(r *Request) *item {
	asked, err := url.ParseQuery(r.Query)
	if err != nil || r.Method != http.MethodGet {
		return nil
	}
	for _, it := range g.tokens[r.tokenKey()] {
		given, err := url.ParseQuery(it.Request.Query)
		if err != nil || it.Response.Status != http.StatusOK || given.Get("service") != asked.Get("service") || len(asked["scope"]) == 0 {
			continue
		}
		if !slices.ContainsFunc(asked["scope"], func(scope string) bool { return !allows(given["scope"], scope) }) {
			narrow := *it.Interaction
			narrow.Captures = []Capture{{Var: tokenUse(r, nil), In: "body"}}
			return &item{Interaction: &narrow, place: it.place, used: true}
		}
	}
	return nil
}

func allows(held []string, scope string) bool {
	i := strings.LastIndexByte(scope, ':')
	for action := range strings.SplitSeq(scope[i+1:], ",") {
		if !slices.ContainsFunc(held, permission{strings.TrimPrefix(scope[:max(i, 0)], "repository:"), action}.in) {
			return false
		}
	}
	return true
}

// excused tells whether an answer need not have been asked for, since it is a step of
// a login of which others were.
func (g *logins) excused(it *item) bool {
	r := &it.Request
	switch {
	case r.Role == roleToken:
		return g.met[r.tokenKey()]
	case r.Role == roleRegistry && isRefusal(it.Response.Status):
		return g.met[r.refusalKey()] && slices.ContainsFunc(g.others[r.keyWithout("auth")], func(other *item) bool {
			return other.used && other.Request.login() != r.login()
		})
	}
	return false
}

// StandIn returns a login for a host that takes the place of the one that was used
// when the recording was made, so that a program replays it on a machine where nobody
// is logged in: it authorizes the same requests in the same way, and to no real
// server anything. The password begins as the token did. Both are empty where no login
// was used, and in any mode but [ModeReplay].
func (c *Cassette) StandIn(host string) (username, password string) {
	if c.mode != ModeReplay {
		return "", ""
	}
	used, kind, exchanged := false, "", ""
	for _, e := range c.play.tape.entries {
		scheme, k := kindOf(e.Request.Auth)
		if e.Request.Role == roleToken && k != "" {
			exchanged = k
		}
		same := strings.EqualFold(e.Request.Host, host) || isLoopback(host) && isLoopback(e.Request.Host)
		if !same || scheme == "" || k == anonymousKind || strings.HasPrefix(scheme, "token (anonymous)") {
			continue
		}
		used = true
		if kind == "" {
			kind = k
		}
	}
	if !used {
		return "", ""
	}
	if kind == "" {
		kind = exchanged
	}
	for _, k := range tokenKinds {
		if k.name == kind {
			return standIn, k.prefix + standIn
		}
	}
	return standIn, standIn
}

// standIn is too short behind a prefix to be taken for a token.
const standIn = "cassette"
