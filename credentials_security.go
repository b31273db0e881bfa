package ghcr

import (
	"context"
	"os"
	"strings"

	"github.com/llm-dev-ops/ghcr/transport"
)

// securityVariable holds the tokens for security data.
const securityVariable = "GHCR_SECURITY_TOKEN"

// SecurityLogin is the login for [Options.Security] from the environment:
// GHCR_SECURITY_TOKEN, which may hold several tokens with commas between them. It is nil
// where that is not set, which means the login for packages. A nil getenv is
// [os.Getenv].
func SecurityLogin(getenv func(string) string) transport.CredentialSource {
	if getenv == nil {
		getenv = os.Getenv
	}
	logins := &Logins{Getenv: getenv}
	list := logins.fromEnv(securityVariable)
	if len(list) == 0 {
		return nil
	}
	return tokens(list)
}

// tokens is a pool for the one host that it is asked for.
type tokens []transport.Credential

// Credential implements [transport.CredentialSource].
func (t tokens) Credential(context.Context, string) (transport.Credential, error) { return t[0], nil }

// Credentials implements [transport.CredentialPool].
func (t tokens) Credentials(context.Context, string) ([]transport.Credential, error) { return t, nil }

// loginOf keeps a login for one host: for any other it is anonymous.
type loginOf struct {
	transport.CredentialSource
	host string
}

// Credential implements [transport.CredentialSource].
func (l loginOf) Credential(ctx context.Context, host string) (transport.Credential, error) {
	if !strings.EqualFold(host, l.host) {
		return transport.Credential{}, nil
	}
	return l.CredentialSource.Credential(ctx, host)
}

// Credentials implements [transport.CredentialPool].
func (l loginOf) Credentials(ctx context.Context, host string) ([]transport.Credential, error) {
	if !strings.EqualFold(host, l.host) {
		return nil, nil
	}
	return registryLogins{CredentialSource: l.CredentialSource}.all(ctx, host)
}
