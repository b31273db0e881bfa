package cassette

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// names knows what stands for what servers make up anew each time: upload
// sessions, tokens and signatures. Recording and replaying use it alike, so that
// what is taken out of a request is taken out on both sides.
type names struct {
	secrets *secrets
	headers map[string]bool // that may be written, of answers
	query   map[string]bool // parameters whose values may be written

	mu      sync.Mutex
	tokens  map[string]string // what each token is for
	signed  map[string]bool   // parameters, with their values, that answers brought
	uploads map[string]*upload
	last    int // upload
}

// upload is an upload session, by whatever ids the server gives it.
type upload struct {
	n      int
	node   *node // how far it got; of a replay
	minted bool  // no server knows it
}

func newNames(s *secrets, headers, query []string) *names {
	n := &names{
		secrets: s, headers: maps.Clone(safeHeaders), query: maps.Clone(safeQuery),
		tokens: map[string]string{}, signed: map[string]bool{}, uploads: map[string]*upload{},
	}
	for _, h := range headers {
		n.headers[http.CanonicalHeaderKey(h)] = true
	}
	for _, q := range query {
		n.query[q] = true
	}
	return n
}

func set(list ...string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

// What may be written. Whatever is not listed is not.
var (
	safeHeaders = func() map[string]bool {
		m := map[string]bool{}
		for _, h := range []string{
			"Accept-Ranges", "Allow", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type",
			"Date", "Deprecation", "Docker-Content-Digest", "Docker-Distribution-Api-Version", "Docker-Upload-UUID", "ETag",
			"Last-Modified", "Link", "Location", "OCI-Chunk-Min-Length", "OCI-Filters-Applied", "OCI-Subject", "Range",
			"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "Sunset", "Vary", "WWW-Authenticate", "Warning",
			"X-Accepted-OAuth-Scopes", "X-GitHub-Api-Version-Selected", "X-GitHub-Media-Type", "X-GitHub-Request-Id", "X-OAuth-Scopes",
			"X-Poll-Interval", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Resource", "X-RateLimit-Used",
		} {
			m[http.CanonicalHeaderKey(h)] = true
		}
		return m
	}()
	safeQuery = set("digest", "mount", "from", "n", "last", "ns", "scope", "service", "client_id", "offline_token", "artifactType",
		"page", "per_page", "before", "after", "since", "until", "sort", "direction", "state", "type", "package_type", "visibility",
		"q", "grant_type", "access_type")
	// matchedHeaders decide what is answered. Any other may differ.
	matchedHeaders = []string{"Accept", "Content-Range", "Content-Type", "If-Match", "If-None-Match", "Range"}
)

const (
	signedPlaceholder   = "{signed}"   // it was in a URL that an answer brought
	redactedPlaceholder = "{redacted}" // only that it was there is kept
	tokenPlaceholder    = "{token}"
)

func uploadPlaceholder(n int) string { return "{upload:" + strconv.Itoa(n) + "}" }

var uploadForm = pattern(`\{upload:([0-9]{1,9})\}`)

// request returns what is written of a request, but for its body, and the upload
// session that it is of.
func (n *names) request(req *http.Request) (Request, *upload) {
	u := req.URL
	r := routeOf(u)
	n.learnSecrets(req)
	q := Request{
		Method: strings.ToUpper(req.Method), Role: r.role, Route: r.name,
		Scheme: strings.ToLower(u.Scheme), Host: hostOf(u), Body: Body{Mode: BodyEmpty},
	}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	var up *upload
	if r.name == routeUpload {
		up = n.uploadOf(r.ref)
	}
	q.Path = n.path(u, r, up)
	q.Query = n.queryOf(u.Query(), false)
	q.Auth = n.auth(req)
	for _, name := range matchedHeaders {
		if values := req.Header.Values(name); len(values) > 0 {
			if q.Header == nil {
				q.Header = http.Header{}
			}
			q.Header[name] = []string{n.secrets.redact(strings.Join(values, ", "))}
		}
	}
	return q, up
}

// hostOf leaves out the port that the scheme implies.
func hostOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		return strings.TrimSuffix(host, ":443")
	case "http":
		return strings.TrimSuffix(host, ":80")
	}
	return host
}

func (n *names) uploadOf(id string) *upload {
	n.mu.Lock()
	defer n.mu.Unlock()
	up := n.uploads[id]
	if up == nil {
		n.last++
		up = &upload{n: n.last}
		n.uploads[id] = up
	}
	return up
}

func (n *names) path(u *url.URL, r route, up *upload) string {
	p := u.EscapedPath()
	if p == "" {
		p = "/"
	}
	if up == nil {
		return n.secrets.redact(p)
	}
	p = strings.TrimSuffix(u.Path, r.ref)
	return n.secrets.redact((&url.URL{Path: p}).EscapedPath()) + uploadPlaceholder(up.n)
}

// queryOf writes a query in one order. In a URL that an answer brought, values
// that may not be written are learned; in one that is asked for, they are
// recognised.
func (n *names) queryOf(query url.Values, brought bool) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(query)) {
		for _, v := range query[key] {
			switch {
			case n.query[key]:
				v = url.QueryEscape(n.secrets.redact(v))
			case v == "":
			case n.isSigned(key, v, brought):
				v = signedPlaceholder
			default:
				v = redactedPlaceholder
			}
			parts = append(parts, n.secrets.redact(url.QueryEscape(key))+"="+v)
		}
	}
	return strings.Join(parts, "&")
}

func (n *names) isSigned(key, v string, learn bool) bool {
	if _, err := time.Parse(time.RFC3339, v); learn && len(v) >= 16 && err != nil { // until when it is good is no secret
		n.secrets.add(v)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if learn {
		n.signed[key+"="+v] = true
	}
	return v == mintedSigned || n.signed[key+"="+v]
}

// auth says how a request is authorized.
func (n *names) auth(req *http.Request) string {
	header := req.Header.Get("Authorization")
	if header == "" {
		if req.URL.User == nil {
			return ""
		}
		password, _ := req.URL.User.Password()
		return withKind("basic", ":"+password)
	}
	scheme, value, _ := strings.Cut(header, " ")
	n.mu.Lock()
	defer n.mu.Unlock()
	if use, ok := n.tokens[value]; ok {
		return use
	}
	scheme = strings.ToLower(scheme)
	if !authScheme().MatchString(scheme) {
		return "other"
	}
	if scheme == "token" {
		scheme = "bearer" // GitHub's API has two names for one thing
	}
	return withKind(scheme, value)
}

var authScheme = pattern(`^[a-z0-9-]{1,20}$`)

// learnSecrets makes known what a request authorizes itself with, in whatever place,
// so that it is found wherever it comes up again.
func (n *names) learnSecrets(req *http.Request) {
	if req.URL.User != nil {
		if password, ok := req.URL.User.Password(); ok {
			n.secrets.add(password)
		}
	}
	for name, values := range req.URL.Query() {
		if secretName().MatchString(name) && !n.query[name] {
			for _, v := range values {
				n.secrets.add(v)
			}
		}
	}
	for _, cookie := range req.Cookies() {
		n.secrets.add(cookie.Value)
	}
	for name, values := range req.Header {
		if !secretHeader().MatchString(name) {
			continue
		}
		for _, v := range values {
			scheme, value, ok := strings.Cut(v, " ")
			if !ok {
				value = scheme
			}
			n.secrets.add(value)
			if plain, err := base64.StdEncoding.DecodeString(value); err == nil && strings.EqualFold(scheme, "basic") {
				if _, password, ok := strings.Cut(string(plain), ":"); ok {
					n.secrets.add(password)
				}
			}
		}
	}
}

var secretHeader = pattern(`(?i)auth|cookie|token|secret|api-?key|password`)

// response returns what is written of an answer's header, and what it brings.
// up is the upload session that the request was of.
func (n *names) response(req *http.Request, resp *http.Response, up *upload) (http.Header, []Capture) {
	h := http.Header{}
	var captures []Capture
	location := func(value string) string {
		text, brought, isSigned := n.location(req.URL, value, up)
		if brought != nil {
			up = brought
			captures = append(captures, Capture{Var: "upload:" + strconv.Itoa(up.n), In: "Location"})
		}
		if isSigned {
			captures = append(captures, Capture{Var: "signed", In: "Location"})
		}
		return text
	}
	for _, cookie := range resp.Cookies() {
		n.secrets.add(cookie.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		if !n.headers[name] {
			continue
		}
		for _, v := range resp.Header[name] {
			switch name {
			case "Location":
				v = location(v)
			case "Link":
				v = linkTarget().ReplaceAllStringFunc(v, func(target string) string {
					text, _, _ := n.location(req.URL, target[1:len(target)-1], nil)
					return "<" + text + ">"
				})
			case "Docker-Upload-Uuid":
				if up == nil {
					continue
				}
				v = uploadPlaceholder(up.n)
			default:
				v = n.secrets.redact(v)
			}
			if printable(v) {
				h[name] = append(h[name], v)
			}
		}
	}
	return h, captures
}

var linkTarget = pattern(`<[^>]*>`)

// location rewrites a URL that an answer brought.
func (n *names) location(base *url.URL, value string, up *upload) (text string, brought *upload, isSigned bool) {
	u, err := url.Parse(value)
	if err != nil {
		return redactedPlaceholder, nil, false
	}
	u.User = nil
	r := routeOf(base.ResolveReference(u))
	switch {
	case r.name == routeUpload && up != nil:
		n.mu.Lock()
		if n.uploads[r.ref] == nil {
			n.uploads[r.ref] = up // it goes on under another id
		}
		n.mu.Unlock()
		brought = up
	case r.name == routeUpload:
		brought = n.uploadOf(r.ref)
	}
	query := n.queryOf(u.Query(), true)
	text = n.path(u, r, brought)
	if u.Host != "" {
		origin := url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
		text = origin.String() + text
	}
	if query != "" {
		text += "?" + query
	}
	return text, brought, strings.Contains(query, signedPlaceholder)
}

// urlInText finds the URLs in JSON, where an & may be escaped.
var urlInText = pattern(`https?://(?:[^\s"'<>\\{}]|\\u0026)+`)

// text takes the signatures out of the URLs that a text brings, as GitHub's lists of
// attestations do, and whatever else is secret.
func (n *names) text(base *url.URL, body []byte) (text string, isSigned bool) {
	text = urlInText().ReplaceAllStringFunc(string(body), func(found string) string {
		plain := strings.ReplaceAll(found, `\u0026`, "&")
		u, err := url.Parse(plain)
		if err != nil || !slices.ContainsFunc(signatures, u.Query().Has) {
			return found
		}
		isSigned = true
		text, _, _ := n.location(base, plain, nil)
		return text
	})
	return n.secrets.redact(text), isSigned
}

// tokenUse is what a token is for, in the words of the request for it.
func tokenUse(q *Request, form url.Values) string {
	query, _ := url.ParseQuery(q.Query)
	scopes := slices.Concat(query["scope"], form["scope"])
	slices.Sort(scopes)
	login, _ := kindOf(q.Auth)
	if login == "" && form.Has("grant_type") {
		login = form.Get("grant_type")
	}
	if login == "" {
		login = "anonymous"
	}
	return strings.TrimSpace("token (" + login + ") " + strings.Join(scopes, " "))
}

// tokenFields are what an answer may call a token. When it was issued is left out,
// since to a later reader it would have expired.
var (
	tokenFields = set("token", "access_token", "refresh_token", "identity_token", "id_token")
	tokenFacts  = set("expires_in", "scope", "token_type")
)

// tokenBody takes the tokens out of the answer of a token service. Of other fields
// only those are kept that are known to hold no secret. It is not ok for what is
// no JSON object.
func (n *names) tokenBody(body []byte, use string) (text string, captures []Capture, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return "", nil, false
	}
	for name, raw := range fields {
		var value string
		switch {
		case tokenFields[name] && json.Unmarshal(raw, &value) == nil && value != "":
			n.mu.Lock()
			n.tokens[value] = use
			n.mu.Unlock()
			n.secrets.add(value)
			fields[name] = json.RawMessage(`"` + tokenPlaceholder + `"`)
			captures = []Capture{{Var: use, In: "body"}}
		case !tokenFacts[name]:
			delete(fields, name)
		}
	}
	data, err := json.Marshal(fields)
	return n.secrets.redact(string(data)), captures, err == nil
}

// tokenForm takes the secrets out of a request to a token service.
func (n *names) tokenForm(body []byte) (text string, form url.Values) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return redactedPlaceholder, nil
	}
	for _, name := range []string{"password", "refresh_token", "access_token", "assertion", "client_secret", "subject_token"} {
		for _, v := range form[name] {
			n.secrets.add(v)
		}
	}
	return n.queryOf(form, false), form
}
