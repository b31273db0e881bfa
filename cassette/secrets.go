package cassette

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
)

// secrets knows what must not be written: what looks like a credential, and each
// credential that went by, raw, in base64, URL-encoded and as JSON writes it.
type secrets struct {
	mu      sync.RWMutex
	known   map[string]bool
	matcher *matcher
}

// leastSecret is the length below which a value is too likely to be found by
// chance. Shorter ones are kept out by never writing the places they are sent in.
const leastSecret = 8

func newSecrets(given []string) *secrets {
	s := &secrets{known: map[string]bool{}, matcher: shapes().clone()}
	for _, v := range given {
		s.add(v)
	}
	return s
}

// environment adds what the environment says is secret, which a server or a layer
// might repeat.
func (s *secrets) environment() {
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		if len(value) >= 12 && secretName().MatchString(name) && !strings.ContainsAny(value[:1], `/\.`) {
			s.add(value)
		}
	}
}

var secretName = pattern(`(?i)token|secret|passw|passphrase|api_?key|private_?key|credential|_pat$`)

// pattern is a regular expression that is compiled when it is first needed: most
// commands need none of them.
func pattern(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

// add makes a value known as secret, and what it is base64 of.
func (s *secrets) add(value string) {
	value = strings.TrimSpace(value)
	if len(value) < leastSecret {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[value] {
		return
	}
	s.known[value] = true
	for form := range forms(value) {
		s.matcher.add(literal(form))
	}
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil && len(plain) >= leastSecret && printable(string(plain)) {
		for form := range forms(string(plain)) {
			s.matcher.add(literal(form))
		}
	}
}

// forms are the ways in which a value may be written.
func forms(value string) map[string]bool {
	all := set(value, url.QueryEscape(value), url.PathEscape(value))
	if quoted, err := json.Marshal(value); err == nil {
		all[string(quoted[1:len(quoted)-1])] = true
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			core := base64Core(enc, shift, value)
			all[core], all[url.QueryEscape(core)] = true, true
		}
	}
	return all
}

// base64Core is the part of the base64 of some bytes and then value that does not
// depend on those bytes, nor on what follows.
func base64Core(enc *base64.Encoding, shift int, value string) string {
	coded := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + value))
	first, whole := (shift*8+5)/6, (shift+len(value))*8/6
	return coded[first:whole]
}

// redact replaces secrets in text.
func (s *secrets) redact(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.matcher
	var out strings.Builder
	done := 0
	for i := 0; i+prefixSize <= len(text); {
		n, _ := m.at([]byte(text[i:min(i+maxWindow, len(text))]))
		if n == 0 {
			i++
			continue
		}
		out.WriteString(text[done:i])
		out.WriteString(secretPlaceholder)
		i += n
		done = i
	}
	out.WriteString(text[done:])
	if !strings.ContainsAny(out.String(), " \t\n") {
		return out.String()
	}
	return loginText().ReplaceAllString(out.String(), "${1} "+secretPlaceholder)
}

// loginText finds what servers repeat of a header in words.
var loginText = pattern(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{16,}`)

const secretPlaceholder = "{secret}"

// A LeakError says that a recording would have held a secret. It does not say
// which.
type LeakError struct {
	Where string // "the answer's body of GET https://…"
	What  string // "a GitHub token"
}

// Error says where a secret of which kind was found, and what to do.
func (e *LeakError) Error() string {
	return fmt.Sprintf("%s holds %s: nothing was kept of the recording. Keep the secret out of what is sent and received, or let Options.ElideOver keep the body as a digest", e.Where, e.What)
}

const (
	prefixSize = 4
	maxWindow  = 512 // of what is looked at after a prefix
)

// rule finds one kind of secret: a prefix, and how long the secret is that begins
// with it, which is zero where it is none.
type rule struct {
	prefix string
	what   string
	length func(window []byte) int
}

// matcher finds secrets in one pass, by their first four bytes.
type matcher struct {
	filter [1 << (filterBits - 6)]uint64
	rules  map[uint32][]rule
}

// filterBits makes a filter that stays in the cache, and stays sparse with the
// signatures of ten thousand URLs.
const filterBits = 20

func hash4(x uint32) uint32 { return x * 0x9e3779b1 >> (32 - filterBits) }

func (m *matcher) add(r rule) {
	if len(r.prefix) < prefixSize {
		return
	}
	x := binary.LittleEndian.Uint32([]byte(r.prefix))
	h := hash4(x)
	m.filter[h>>6] |= 1 << (h & 63)
	m.rules[x] = append(m.rules[x][:len(m.rules[x]):len(m.rules[x])], r)
}

func (m *matcher) clone() *matcher {
	next := &matcher{filter: m.filter, rules: make(map[uint32][]rule, len(m.rules))}
	for k, v := range m.rules {
		next.rules[k] = v
	}
	return next
}

// at returns the length and kind of the secret that window begins with.
func (m *matcher) at(window []byte) (int, string) {
	x := binary.LittleEndian.Uint32(window)
	h := hash4(x)
	if m.filter[h>>6]&(1<<(h&63)) == 0 {
		return 0, ""
	}
	for _, r := range m.rules[x] {
		if len(window) >= len(r.prefix) && string(window[:len(r.prefix)]) == r.prefix {
			if n := r.length(window); n > 0 {
				return n, r.what
			}
		}
	}
	return 0, ""
}

// literal finds a value, of which the beginning is enough.
func literal(value string) rule {
	head := value[:min(len(value), 64)]
	return rule{prefix: head, what: "a credential that was used or is in the environment", length: func(w []byte) int {
		n := len(head)
		for n < len(value) && n < len(w) && w[n] == value[n] {
			n++
		}
		return n
	}}
}

// signatures are parameters that make a URL a permission.
var signatures = []string{"sig", "hmac", "Signature", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Credential", "X-Goog-Signature"}

// shapes are what credentials look like.
var shapes = sync.OnceValue(func() *matcher {
	m := &matcher{rules: map[uint32][]rule{}}
	shaped := func(what, prefix, rest string) {
		re := regexp.MustCompile(`^` + rest)
		m.add(rule{prefix: prefix, what: what, length: func(w []byte) int {
			if loc := re.FindIndex(w[len(prefix):]); loc != nil {
				return len(prefix) + loc[1]
			}
			return 0
		}})
		// In base64, the first byte may share a character with the byte before.
		for shift := range 3 {
			core := base64Core(base64.RawStdEncoding, shift, prefix)
			m.add(rule{prefix: core, what: what + " in base64", length: func(w []byte) int {
				run := base64Run().Find(w)
				plain := decodeRun(strings.Repeat("A", (shift*8+5)/6) + string(run))
				if len(plain) < shift+len(prefix) || string(plain[shift+1:shift+len(prefix)]) != prefix[1:] || !re.Match(plain[shift+len(prefix):]) {
					return 0
				}
				return len(run)
			}})
		}
	}
	for _, kind := range "pousr" {
		shaped("a GitHub token", "gh"+string(kind)+"_", `[A-Za-z0-9_]{16,}`)
	}
	shaped("a GitHub token", "github_pat_", `[A-Za-z0-9_]{16,}`)
	for _, header := range []string{`{"alg`, `{"typ`, `{"kid`, `{"cty`, `{"x5`, `{"jwk`, `{"enc`} {
		shaped("a JSON web token", base64.RawURLEncoding.EncodeToString([]byte(header))[:len(header)*8/6], `[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`)
	}
	for _, name := range signatures {
		shaped("the signature of a URL", name+"=", `[A-Za-z0-9%+/_=-]{16,}`)
		shaped("the signature of a URL", name+"%3D", `[A-Za-z0-9%+/_=-]{16,}`)
	}
	return m
})

var base64Run = pattern(`^[A-Za-z0-9+/_-]+`)

func decodeRun(run string) []byte {
	run = strings.NewReplacer("-", "+", "_", "/").Replace(run)
	run = run[:len(run)-len(run)%4]
	plain, _ := base64.StdEncoding.DecodeString(run)
	return plain
}

// scanner looks for secrets in what is written to it, wherever it is cut.
type scanner struct {
	secrets *secrets
	buf     []byte
	found   string // the kind of the first
}

func (s *scanner) Write(p []byte) (int, error) {
	s.buf = append(s.buf, p...)
	s.scan(len(s.buf) - maxWindow + 1)
	return len(p), nil
}

// finish looks at the rest, and returns the kind of secret that was found, if any.
func (s *scanner) finish() string {
	s.scan(len(s.buf) - prefixSize + 1)
	return s.found
}

func (s *scanner) scan(to int) {
	if to <= 0 {
		return
	}
	s.secrets.mu.RLock()
	defer s.secrets.mu.RUnlock()
	m := s.secrets.matcher
	for i := 0; i < to && s.found == ""; i++ {
		x := binary.LittleEndian.Uint32(s.buf[i:])
		if h := hash4(x); m.filter[h>>6]&(1<<(h&63)) != 0 {
			_, s.found = m.at(s.buf[i:min(i+maxWindow, len(s.buf))])
		}
	}
	s.buf = s.buf[:copy(s.buf, s.buf[to:])]
}
