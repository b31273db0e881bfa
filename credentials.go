package ghcr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Logins finds credentials where people and CI systems keep them. For GitHub's
// registry, and only for it, the environment comes first:
//
//	GHCR_TOKEN, GH_TOKEN, GITHUB_TOKEN, with GHCR_USERNAME or GITHUB_ACTOR
//
// of which each may hold several tokens with commas between them. The first is
// used for the registry; calls to the API use that of which most is left;
//
// then, for every host, the login files of docker and of the containers tools,
// with their credential helpers:
//
//	$REGISTRY_AUTH_FILE
//	$DOCKER_CONFIG/config.json
//	$XDG_RUNTIME_DIR/containers/auth.json
//	~/.config/containers/auth.json
//	~/.docker/config.json
//
// and last, for GitHub's registry, what "gh auth token" prints. Nothing found is
// anonymous. The zero value reads the process's environment. It is safe for
// concurrent use and asks once for each host.
type Logins struct {
	// Registry is GitHub's registry: ghcr.io if empty.
	Registry string
	// Getenv reads the environment; [os.Getenv] if nil.
	Getenv func(string) string
	// Last is asked in place of gh, for GitHub's registry; nil is gh.
	Last transport.CredentialSource

	mu    sync.Mutex
	found map[string][]transport.Credential
}

// Credential implements [transport.CredentialSource].
//
// Errors: a login file that is there and cannot be read, or a credential helper
// that fails: to go on without it would look like a missing permission.
func (l *Logins) Credential(ctx context.Context, host string) (transport.Credential, error) {
	list, err := l.Credentials(ctx, host)
	if err != nil || len(list) == 0 {
		return transport.Credential{}, err
	}
	return list[0], nil
}

// Credentials implements [transport.CredentialPool].
//
// Errors: as for Credential.
func (l *Logins) Credentials(ctx context.Context, host string) ([]transport.Credential, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list, ok := l.found[host]; ok {
		return list, nil
	}
	list, err := l.find(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("find the login for %s: %w", host, err)
	}
	if l.found == nil {
		l.found = map[string][]transport.Credential{}
	}
	l.found[host] = list
	return list, nil
}

// registryLogins lets the login of GitHub's registry serve its API too: it is one
// account, and people log in to the registry.
type registryLogins struct {
	transport.CredentialSource
	api, registry string // hosts
}

// Credential implements [transport.CredentialSource].
func (l registryLogins) Credential(ctx context.Context, host string) (transport.Credential, error) {
	if host == l.api {
		list, err := l.Credentials(ctx, host)
		if err != nil || len(list) == 0 {
			return transport.Credential{}, err
		}
		return list[0], nil
	}
	return l.CredentialSource.Credential(ctx, host)
}

// Credentials implements [transport.CredentialPool].
func (l registryLogins) Credentials(ctx context.Context, host string) ([]transport.Credential, error) {
	list, err := l.all(ctx, host)
	if err != nil || len(list) > 0 || host != l.api {
		return list, err
	}
	list, err = l.all(ctx, l.registry)
	// A registry's own token is nothing to the API.
	return slices.DeleteFunc(list, func(c transport.Credential) bool { return c.Password.IsZero() }), err
}

func (l registryLogins) all(ctx context.Context, host string) ([]transport.Credential, error) {
	if pool, ok := l.CredentialSource.(transport.CredentialPool); ok {
		list, err := pool.Credentials(ctx, host)
		return slices.Clone(list), err
	}
	c, err := l.CredentialSource.Credential(ctx, host)
	if err != nil || c.IsZero() {
		return nil, err
	}
	return []transport.Credential{c}, nil
}

func (l *Logins) find(ctx context.Context, host string) ([]transport.Credential, error) {
	for _, place := range l.places(host) {
		list, err := place.look(ctx)
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
	return nil, nil
}

// place is where a login may be.
type place struct {
	name string
	look func(context.Context) ([]transport.Credential, error)
}

// places are those for a host, in the order in which they count.
func (l *Logins) places(host string) []place {
	var list []place
	github := host == oci.DefaultRegistry || host == l.Registry
	if github {
		for _, name := range []string{"GHCR_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"} {
			list = append(list, place{name, func(context.Context) ([]transport.Credential, error) { return l.fromEnv(name), nil }})
		}
	}
	for _, file := range l.files() {
		list = append(list, place{file, func(ctx context.Context) ([]transport.Credential, error) {
			return one(fromFile(ctx, file, host))
		}})
	}
	switch {
	case github && l.Last != nil:
		list = append(list, place{"the last resort", func(ctx context.Context) ([]transport.Credential, error) {
			return one(l.Last.Credential(ctx, host))
		}})
	case host == oci.DefaultRegistry && l.Last == nil:
		list = append(list, place{ghSource, func(ctx context.Context) ([]transport.Credential, error) { return one(fromGH(ctx), nil) }})
	}
	return list
}

func one(c transport.Credential, err error) ([]transport.Credential, error) {
	if err != nil || c.IsZero() {
		return nil, err
	}
	return []transport.Credential{c}, nil
}

// LoginPlace is a place where a login for a host is looked for.
type LoginPlace struct {
	Name   string                 // "GHCR_TOKEN", the path of a file, "gh auth token"
	Logins []transport.Credential // what is there; several where an environment variable has several
	Err    error                  // why it could not be read
}

// Places looks everywhere for the logins for a host. The first place that has one, or
// cannot be read, is the one that counts.
func (l *Logins) Places(ctx context.Context, host string) []LoginPlace {
	var list []LoginPlace
	for _, place := range l.places(host) {
		p := LoginPlace{Name: place.name}
		if p.Logins, p.Err = place.look(ctx); len(p.Logins) > 0 {
			p.Name = p.Logins[0].Source
		}
		list = append(list, p)
	}
	return list
}

func (l *Logins) env(name string) string {
	if l.Getenv != nil {
		return l.Getenv(name)
	}
	return os.Getenv(name)
}

// anyUser is sent as the user name where none is known. GHCR looks at the token
// alone (docs/quirks.md#token-user-ignored).
const anyUser = "x-access-token"

func (l *Logins) fromEnv(name string) []transport.Credential {
	user := cmp.Or(l.env("GHCR_USERNAME"), l.env("GITHUB_ACTOR"), anyUser)
	var list []transport.Credential
	for token := range strings.SplitSeq(l.env(name), ",") {
		if token = strings.TrimSpace(token); token == "" {
			continue
		}
		source := name
		if len(list) > 0 {
			source = fmt.Sprintf("%s, number %d", name, len(list)+1)
		}
		list = append(list, transport.Credential{Username: user, Password: transport.NewSecret(token), Source: source})
	}
	return list
}

// files lists the login files that may be there, the first to be asked first.
// $DOCKER_CONFIG stands in place of ~/.docker, not beside it.
func (l *Logins) files() []string {
	var list []string
	add := func(dir string, rest ...string) {
		if dir != "" {
			list = append(list, filepath.Join(append([]string{dir}, rest...)...))
		}
	}
	add(l.env("REGISTRY_AUTH_FILE"))
	add(l.env("DOCKER_CONFIG"), "config.json")
	add(l.env("XDG_RUNTIME_DIR"), "containers", "auth.json")
	home := l.home()
	if config := l.env("XDG_CONFIG_HOME"); config != "" {
		add(config, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	if l.env("DOCKER_CONFIG") == "" {
		add(home, ".docker", "config.json")
	}
	return list
}

func (l *Logins) home() string { return cmp.Or(l.env("HOME"), l.env("USERPROFILE")) }

func fromFile(ctx context.Context, file, host string) (transport.Credential, error) {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return transport.Credential{}, nil
	}
	store, err := credentials.NewStore(file, credentials.StoreOptions{})
	if err != nil {
		return transport.Credential{}, oci.Invalid("login file %s: %w", file, err)
	}
	c, err := store.Get(ctx, credentials.ServerAddressFromRegistry(host))
	if err != nil {
		return transport.Credential{}, fmt.Errorf("login file %s: %w", file, err)
	}
	if c == auth.EmptyCredential {
		return transport.Credential{}, nil
	}
	found := transport.Credential{Username: c.Username, Source: file}
	switch {
	case c.AccessToken != "":
		found.Bearer = transport.NewSecret(c.AccessToken)
	case c.Password != "":
		found.Password = transport.NewSecret(c.Password)
	default:
		// GHCR issues no identity tokens; where others do, they serve as a password.
		found.Password = transport.NewSecret(c.RefreshToken)
	}
	return found, nil
}

// ghSource is what the login of the gh command is called.
const ghSource = "gh auth token"

// ghPatience is how long the gh command may take; it may unlock a keyring.
const ghPatience = 10 * time.Second

// fromGH asks the gh command, if there is one and somebody has logged in with it.
func fromGH(ctx context.Context) transport.Credential {
	path, err := exec.LookPath("gh")
	if err != nil {
		return transport.Credential{}
	}
	ctx, cancel := context.WithTimeout(ctx, ghPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "auth", "token", "--hostname", "github.com").Output()
	token := strings.TrimSpace(string(out))
	if err != nil || token == "" {
		return transport.Credential{}
	}
	return transport.Credential{Username: anyUser, Password: transport.NewSecret(token), Source: ghSource}
}
