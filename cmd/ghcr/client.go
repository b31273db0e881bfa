package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// client makes the client that the flags ask for.
func (a *app) client() (*ghcr.Client, error) {
	if a.made != nil {
		return a.made, nil
	}
	opts, err := a.options()
	if err != nil {
		return nil, err
	}
	client, err := ghcr.New(opts)
	a.made = client
	return client, err
}

// packages is the client of the Packages API that goes with the registry.
func (a *app) packages() (*packages.Client, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	return client.Packages()
}

// options are those that the flags ask for.
func (a *app) options() (ghcr.Options, error) {
	host := cmp.Or(a.flags.registry, a.getenv("GHCR_REGISTRY"))
	if strings.ContainsAny(host, "/@") { // not shown, since it may have a secret in it
		return ghcr.Options{}, usage("--registry, GHCR_REGISTRY: want HOST or HOST:PORT, without https://, path and login")
	}
	opts := ghcr.Options{
		Registry:  host,
		API:       cmp.Or(a.flags.api, a.getenv("GHCR_API_URL")),
		PlainHTTP: a.flags.plainHTTP,
		ChunkSize: a.chunkSize,
		UserAgent: "ghcr/" + version(),
		CacheDir:  a.cacheDir(),
		Base:      a.network,
		MaxWait:   a.flags.maxWait,
		Observer:  waitTeller{a},
	}
	if err := a.openTape(); err != nil {
		return opts, err
	}
	if a.logins == nil {
		a.logins = &ghcr.Logins{Registry: host, Getenv: a.getenv}
	}
	if a.flags.debug {
		opts.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if a.flags.sim != "" && !a.replays() {
		if a.flags.plainHTTP || host != "" || opts.API != "" {
			return opts, usage("--sim excludes --registry, --api and --plain-http: the emulator is no host")
		}
		if err := a.simulate(&opts); err != nil {
			return opts, err
		}
	}
	if a.flags.plainHTTP && host != "" && !transport.IsLoopback(host) {
		return opts, usage("--plain-http with %s: only a loopback host may be spoken to without TLS; use https", host)
	}
	a.through(&opts)
	opts.Credentials = a.logins
	switch {
	case a.replays():
		opts.Credentials = standIn{a.tape.Cassette}
	case a.flags.sim == "":
		opts.Security = ghcr.SecurityLogin(a.getenv)
	}
	return opts, nil
}

// simulate puts the emulator in place of the network. No login of the machine is
// looked for: those of the emulator are beside its state.
func (a *app) simulate(opts *ghcr.Options) error {
	if a.sim == nil {
		server, err := ghcrtest.New(ghcrtest.Options{Dir: a.flags.sim, NoLog: true})
		if err != nil {
			return usage("--sim: %w", err)
		}
		a.sim = server
	}
	opts.Base = a.sim.Transport()
	opts.CacheDir = filepath.Join(a.flags.sim, "cache")
	a.logins = &ghcr.Logins{
		Getenv: func(name string) string {
			return map[string]string{"DOCKER_CONFIG": filepath.Join(a.flags.sim, "login")}[name]
		},
		Last: transport.Static(map[string]transport.Credential{
			oci.DefaultRegistry: {Username: "simulated", Password: transport.NewSecret(ghcrtest.Token), Source: "--sim"},
		}),
	}
	return nil
}

// waitTeller tells of waits for limits, so that nobody takes one for a hang.
type waitTeller struct{ *app }

// Exchange implements [transport.Observer].
func (t waitTeller) Exchange(e transport.Exchange) { t.count.add(e) }

// Wait implements [transport.WaitObserver].
func (t waitTeller) Wait(w transport.Wait) {
	if t.flags.quiet || t.flags.progress == "none" {
		return
	}
	until := "until others are done"
	if !w.Until.IsZero() {
		until = fmt.Sprintf("until %s, %s from now", w.Until.Local().Format(time.TimeOnly), time.Until(w.Until).Round(time.Second))
	}
	fmt.Fprintf(t.stderr, "ghcr: waiting for %s (%s) %s: %s\n", w.Host, w.Credential, until, w.Reason)
}

func (a *app) close() error {
	if a.sim == nil {
		return nil
	}
	return a.sim.Close()
}

// cacheDir is where is remembered what saves work; empty if there is no place for
// it.
func (a *app) cacheDir() string {
	if dir := a.getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "ghcr")
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "ghcr")
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "ghcr")
	}
	return ""
}

// checkHost refuses --plain-http for a host that is not this machine, whatever the
// host turns out to need.
func (a *app) checkHost(host string) error {
	if a.flags.plainHTTP && !transport.IsLoopback(host) && host != oci.DefaultRegistry {
		return usage("--plain-http with %s: only a loopback host may be spoken to without TLS; use https", host)
	}
	return nil
}

// repository reads a reference and returns its repository. A reference without tag
// and digest gets the default tag, unless the whole repository is meant.
func (a *app) repository(s string, whole bool) (*registry.Repository, oci.ImageRef, error) {
	client, err := a.client()
	if err != nil {
		return nil, oci.ImageRef{}, err
	}
	ref, err := client.ParseRef(s)
	if err != nil && isLocal(s) {
		err = usage("%q is a place for files; here an image in a registry is wanted", s)
	}
	if err != nil {
		return nil, ref, err
	}
	if err := a.checkHost(ref.Registry); err != nil {
		return nil, ref, err
	}
	a.noteFolding(s, ref)
	if ref.Reference.IsZero() && !whole {
		ref.Reference.Tag = ghcr.DefaultTag
	}
	repo, err := client.Repository(ref)
	return repo, ref, err
}

// source is repository for an image that is read, which may be named by the number of its
// version.
func (a *app) source(ctx context.Context, s string) (*registry.Repository, oci.ImageRef, error) {
	if !strings.Contains(s, "#") {
		return a.repository(s, false)
	}
	ref, err := a.image(ctx, s)
	if err != nil {
		return nil, ref, err
	}
	client, err := a.client()
	if err != nil {
		return nil, ref, err
	}
	repo, err := client.Repository(ref)
	return repo, ref, err
}

// noteFolding tells when upper case was changed.
func (a *app) noteFolding(s string, ref oci.ImageRef) {
	name, _, _ := strings.Cut(s, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	if name != strings.ToLower(name) && !strings.HasPrefix(s, "http") {
		fmt.Fprintf(a.stderr, "ghcr: note: names are lower case: %s\n", ref.Repository())
	}
}

// sourceEnd reads the end of a copy that is read.
func (a *app) sourceEnd(ctx context.Context, s string) (ghcr.End, error) {
	if isLocal(s) || !strings.Contains(s, "#") {
		return a.end(s)
	}
	ref, err := a.image(ctx, s)
	return ghcr.End{Kind: ghcr.EndRegistry, Ref: ref}, err
}

// end reads one end of a copy.
func (a *app) end(s string) (ghcr.End, error) {
	client, err := a.client()
	if err != nil {
		return ghcr.End{}, err
	}
	if s == "-" {
		s = "docker-archive:-"
	}
	e, err := client.ParseEnd(s)
	if err != nil {
		return e, err
	}
	if e.Kind == ghcr.EndRegistry {
		if err := a.checkHost(e.Ref.Registry); err != nil {
			return e, err
		}
		a.noteFolding(s, e.Ref)
	}
	return e, nil
}
