//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// An operation is what a row has each client do.
type operation int

const (
	push operation = iota
	pull
	copyImage
	list
	resolve
)

// command is the command line of a client. A push's source and a pull's target are
// layouts; everything else is HOST/NAME:TAG.
func (b *bench) command(client string, op operation, src, dst string) []string {
	bin := b.bin[client]
	var args []string
	switch client {
	case "ghcr":
		args = map[operation][]string{
			push: {"push", "oci:" + src + ":v1", dst}, pull: {"pull", src, "oci:" + dst + ":v1"}, copyImage: {"cp", src, dst},
			list: {"ls", src}, resolve: {"digest", src},
		}[op]
		args = append(args, "--plain-http", "-q")
	case "crane":
		args = map[operation][]string{
			push: {"push", src, dst}, pull: {"pull", "--format", "oci", src, dst}, copyImage: {"copy", src, dst},
			list: {"ls", src}, resolve: {"digest", src},
		}[op]
		args = append(args, "--insecure")
	case "oras":
		args = map[operation][]string{
			push:      {"cp", "--from-oci-layout", src + ":v1", "--to-plain-http", dst},
			pull:      {"cp", "--from-plain-http", src, "--to-oci-layout", dst + ":v1"},
			copyImage: {"cp", "--from-plain-http", "--to-plain-http", src, dst},
			list:      {"repo", "tags", "--plain-http", src}, resolve: {"resolve", "--plain-http", src},
		}[op]
	case "regctl":
		args = map[operation][]string{
			push:      {"image", "copy", "ocidir://" + src + ":v1", dst},
			pull:      {"image", "copy", src, "ocidir://" + dst + ":v1"},
			copyImage: {"image", "copy", src, dst},
			list:      {"tag", "ls", src}, resolve: {"image", "digest", src},
		}[op]
	case "skopeo":
		plainSrc, plainDst := "--src-tls-verify=false", "--dest-tls-verify=false"
		args = map[operation][]string{
			push:      {"copy", "-q", "--all", "--preserve-digests", plainDst, "oci:" + src + ":v1", "docker://" + dst},
			pull:      {"copy", "-q", "--all", "--preserve-digests", plainSrc, "docker://" + src, "oci:" + dst + ":v1"},
			copyImage: {"copy", "-q", "--all", "--preserve-digests", plainSrc, plainDst, "docker://" + src, "docker://" + dst},
			list:      {"list-tags", "--tls-verify=false", "docker://" + src},
			resolve:   {"inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}", "docker://" + src},
		}[op]
		args = append([]string{"--insecure-policy"}, args...)
	}
	return append([]string{bin}, args...)
}

// home is where a client keeps what it remembers between runs. A row begins
// without memory, unless it is about what a client remembers.
type home struct{ dir string }

// newHome makes a home in which the client is logged in to the hosts.
func (b *bench) newHome(ctx context.Context, client string, hosts []string) (home, error) {
	h := home{filepath.Join(b.dir, "scratch", "home-"+client)}
	if err := h.forget(); err != nil {
		return h, err
	}
	if err := h.login(hosts); err != nil || client != "regctl" {
		return h, err
	}
	for _, host := range hosts {
		cmd := exec.CommandContext(ctx, b.bin[client], "registry", "set", host, "--tls", "disabled", "--skip-check")
		cmd.Env = h.environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			return h, fmt.Errorf("regctl registry set: %w: %s", err, out)
		}
	}
	return h, nil
}

func (h home) environment() []string {
	return append(os.Environ(), "HOME="+h.dir, "XDG_CACHE_HOME="+h.dir+"/cache", "XDG_CONFIG_HOME="+h.dir+"/config",
		"DOCKER_CONFIG="+h.dir+"/docker",
		"XDG_DATA_HOME="+h.dir+"/data", "_CONTAINERS_ROOTLESS_UID=1000", // or skopeo would remember in the system's own place
		"REGISTRY_AUTH_FILE="+h.dir+"/auth.json", "GHCR_TOKEN=", "GITHUB_TOKEN=", "GH_TOKEN=")
}

func (h home) forget() error {
	return errors.Join(os.RemoveAll(h.dir), os.MkdirAll(h.dir, 0o755))
}

// login writes the file of logins that all clients read. A registry that asks for
// none is not told of it.
func (h home) login(hosts []string) error {
	logins := map[string]map[string]string{}
	for _, host := range hosts {
		logins[host] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("anybody:" + ghcrtest.Token))}
	}
	raw, err := json.Marshal(map[string]any{"auths": logins})
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(filepath.Join(h.dir, "docker"), 0o700),
		os.WriteFile(filepath.Join(h.dir, "docker", "config.json"), raw, 0o600),
		os.WriteFile(filepath.Join(h.dir, "auth.json"), raw, 0o600),
	)
}

// save keeps what the client remembers now, and returns how to go back to it.
func (h home) save() (restore func() error, err error) {
	saved := h.dir + ".saved"
	err = os.RemoveAll(saved)
	if err == nil {
		err = os.CopyFS(saved, os.DirFS(h.dir))
	}
	return func() error {
		if err := os.RemoveAll(h.dir); err != nil {
			return err
		}
		return os.CopyFS(h.dir, os.DirFS(saved))
	}, err
}
