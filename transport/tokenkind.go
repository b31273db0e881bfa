package transport

import (
	"strings"
)

// TokenKind is what sort of GitHub token a secret is, as far as its first letters
// tell. What GitHub allows depends on it as much as on scopes
// (docs/quirks.md#rest-credential-rules).
type TokenKind string

// The kinds of token. Anonymous is none at all; OtherToken is one of no form that
// is known, such as the password of another registry.
const (
	Anonymous         TokenKind = ""
	ClassicToken      TokenKind = "classic personal access token"
	FineGrainedToken  TokenKind = "fine-grained personal access token"
	InstallationToken TokenKind = "GITHUB_TOKEN or app installation token"
	OAuthToken        TokenKind = "OAuth token"
	UserToken         TokenKind = "app user token"
	OtherToken        TokenKind = "token of unknown kind"
)

// oldToken is the form that classic tokens had before they got a prefix.
var oldToken = pattern(`^[0-9a-f]{40}$`)

// KindOf tells what kind of token a secret is. It looks at the secret alone.
func KindOf(s Secret) TokenKind {
	token := s.Reveal()
	switch {
	case token == "":
		return Anonymous
	case strings.HasPrefix(token, "ghp_"), oldToken().MatchString(token):
		return ClassicToken
	case strings.HasPrefix(token, "github_pat_"):
		return FineGrainedToken
	case strings.HasPrefix(token, "ghs_"):
		return InstallationToken
	case strings.HasPrefix(token, "gho_"):
		return OAuthToken
	case strings.HasPrefix(token, "ghu_"):
		return UserToken
	}
	return OtherToken
}

// Phrase is the kind with its article, for sentences: "an OAuth token".
func (k TokenKind) Phrase() string {
	switch k {
	case Anonymous:
		return "no token"
	case OAuthToken, UserToken:
		return "an " + string(k)
	}
	return "a " + string(k)
}

// HasScopes tells whether tokens of this kind carry OAuth scopes, which GitHub
// names in its answers. The others have permissions, which it does not tell.
func (k TokenKind) HasScopes() bool { return k == ClassicToken || k == OAuthToken }

// IsUsers tells whether a token of this kind is certainly a user's.
func (k TokenKind) IsUsers() bool {
	return k == ClassicToken || k == FineGrainedToken || k == OAuthToken || k == UserToken
}

func kindOf(cred Credential) TokenKind { return KindOf(secretOf(cred)) }
