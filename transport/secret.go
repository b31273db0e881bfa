package transport

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// Secret holds a token or password and does not print it: every verb of fmt, JSON,
// text encoding and slog show a placeholder. Only [Secret.Reveal] gives it away.
// The zero value is no secret. Copies share what they hold.
type Secret struct{ held *held }

type held struct {
	mu sync.Mutex
	b  []byte
}

const placeholder = "[redacted]"

// NewSecret returns a secret that holds s.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&held{b: []byte(s)}}
}

// Reveal returns what is held. Go strings cannot be wiped, so keep it for as short
// as can be.
func (s Secret) Reveal() string {
	if s.held == nil {
		return ""
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return string(s.held.b)
}

// IsZero tells whether nothing is held, or no longer.
func (s Secret) IsZero() bool {
	if s.held == nil {
		return true
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return len(s.held.b) == 0
}

// Zero overwrites what is held, in all copies of the secret. What was revealed
// before is out of reach.
func (s Secret) Zero() {
	if s.held == nil {
		return
	}
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	clear(s.held.b)
	s.held.b = nil
}

// Format prints a placeholder whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, placeholder) }

// String returns a placeholder.
func (s Secret) String() string { return placeholder }

// MarshalText returns a placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(placeholder) }

// Credential is a login to one host. The zero value is anonymous.
type Credential struct {
	Username string
	Password Secret // a GitHub token, or a password
	Bearer   Secret // a registry token that is sent as it is
	Source   string // where it was found, to be shown: "GH_TOKEN"
}

// IsZero tells whether the credential is anonymous.
func (c Credential) IsZero() bool { return c.Password.IsZero() && c.Bearer.IsZero() }

// CredentialSource finds the login for a registry host, which may carry a port.
// Implementations are safe for concurrent use.
type CredentialSource interface {
	// Credential returns the login, or the zero Credential if there is none.
	Credential(ctx context.Context, host string) (Credential, error)
}

// CredentialFunc is a function as a [CredentialSource]. Nil is always anonymous.
type CredentialFunc func(ctx context.Context, host string) (Credential, error)

// Credential implements [CredentialSource].
func (f CredentialFunc) Credential(ctx context.Context, host string) (Credential, error) {
	if f == nil {
		return Credential{}, nil
	}
	return f(ctx, host)
}

// Static is a [CredentialSource] of fixed logins by host.
func Static(logins map[string]Credential) CredentialSource {
	return CredentialFunc(func(_ context.Context, host string) (Credential, error) { return logins[host], nil })
}
