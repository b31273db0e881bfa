package ghcr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Save keeps a login for a host where docker login does: with the credential helper
// that docker's config names, or the platform's where there is no config yet, and
// else in the config itself, readable by the user alone. With plain no helper is
// looked for, but one that is configured is used all the same. It returns where the
// login is now: the name of the file, or that of the helper.
//
// Errors: [ErrInvalid] for a login without a password or for no place to keep it in;
// the helper's.
func (l *Logins) Save(ctx context.Context, host string, c transport.Credential, plain bool) (string, error) {
	file := l.dockerConfig()
	switch {
	case c.Password.IsZero():
		return "", oci.Invalid("save the login for %s: there is no token", host)
	case file == "":
		return "", oci.Invalid("save the login for %s: neither HOME nor DOCKER_CONFIG says where", host)
	}
	store, err := credentials.NewStore(file, credentials.StoreOptions{AllowPlaintextPut: true, DetectDefaultNativeStore: !plain})
	if err != nil {
		return "", oci.Invalid("login file %s: %w", file, err)
	}
	address := credentials.ServerAddressFromRegistry(host)
	login := auth.Credential{Username: cmp.Or(c.Username, anyUser), Password: c.Password.Reveal()}
	if err := store.Put(ctx, address, login); err != nil {
		return "", fmt.Errorf("save the login for %s: %w", host, err)
	}
	l.forget(host)
	if helper := helperOf(file, address); helper != "" {
		return "docker-credential-" + helper, nil
	}
	return file, nil
}

// Remove takes the login for a host out of every login file, and out of the helpers
// that these name, and returns the files that had one. What is in the environment, or
// is gh's, stays.
//
// Errors: a file or helper that fails; the others are done all the same.
func (l *Logins) Remove(ctx context.Context, host string) ([]string, error) {
	var removed []string
	var failed []error
	address := credentials.ServerAddressFromRegistry(host)
	for _, file := range l.files() {
		c, err := fromFile(ctx, file, host)
		if err == nil && c.IsZero() {
			continue
		}
		if err == nil {
			var store *credentials.DynamicStore
			if store, err = credentials.NewStore(file, credentials.StoreOptions{}); err == nil {
				err = store.Delete(ctx, address)
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("remove the login for %s from %s: %w", host, file, err))
			continue
		}
		removed = append(removed, file)
	}
	l.forget(host)
	return removed, errors.Join(failed...)
}

func (l *Logins) forget(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.found, host)
}

// dockerConfig is the file that docker login writes; empty where there is no home.
func (l *Logins) dockerConfig() string {
	if dir := l.env("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home := l.home(); home != "" {
		return filepath.Join(home, ".docker", "config.json")
	}
	return ""
}

// helperOf reads which credential helper a file names for an address.
func helperOf(file, address string) string {
	var config struct {
		Store   string            `json:"credsStore"`
		Helpers map[string]string `json:"credHelpers"`
	}
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &config) != nil {
		return ""
	}
	return cmp.Or(config.Helpers[address], config.Store)
}
