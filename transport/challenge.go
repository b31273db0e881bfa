package transport

import (
	"net"
	"strings"
)

// challenge is one way to log in that a server offers.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads WWW-Authenticate headers: each may hold several challenges,
// and commas separate both challenges and their parameters. What cannot be read
// ends a header.
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, header := range headers {
		rest := header
		for {
			rest = strings.TrimLeft(rest, " \t,")
			scheme, after := readToken(rest)
			if scheme == "" {
				break
			}
			ch := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
			rest = ch.readParams(after)
			list = append(list, ch)
		}
	}
	return list
}

// readParams reads name=value pairs up to the next challenge and returns the rest.
func (ch *challenge) readParams(s string) string {
	for {
		s = strings.TrimLeft(s, " \t,")
		name, after := readToken(s)
		after = strings.TrimLeft(after, " \t")
		if name == "" || !strings.HasPrefix(after, "=") {
			return s // the scheme of another challenge, or the end
		}
		value, rest, ok := readValue(strings.TrimLeft(after[1:], " \t"))
		if !ok {
			return ""
		}
		ch.params[strings.ToLower(name)] = value
		s = rest
	}
}

func readToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && isTokenByte(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func isTokenByte(b byte) bool {
	return b > ' ' && b < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?={}`, rune(b))
}

func readValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// isPrivate tells a host that is an address inside of a private network or of this
// machine. Names are not resolved.
func isPrivate(host string) bool {
	host, _, _ = strings.Cut(strings.TrimSuffix(strings.ToLower(host), "."), "%")
	if IsLoopback(host) || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	if last := host[strings.LastIndexByte(host, '.')+1:]; ip == nil && last != "" && last[0] >= '0' && last[0] <= '9' {
		return true // an address in a form that only some resolvers read
	}
	return ip != nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}
