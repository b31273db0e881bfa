package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// serveConfig is the file of ghcr serve --config.
type serveConfig struct {
	Accounts []struct {
		Login      string   `json:"login"`
		Token      string   `json:"token"`
		Scopes     []string `json:"scopes"`
		Owners     []string `json:"owners"`
		Role       string   `json:"role"`
		Repository string   `json:"repository"`
	} `json:"accounts"`
	Owners []struct {
		Login   string `json:"login"`
		ID      int64  `json:"id"`
		Kind    string `json:"kind"`
		Forbids string `json:"forbids"`
	} `json:"owners"`
	Packages []struct {
		Name       string              `json:"name"`
		Visibility ghcrtest.Visibility `json:"visibility"`
		Repository string              `json:"repository"`
		Access     map[string]string   `json:"access"`
		Downloads  int64               `json:"downloads"`
	} `json:"packages"`
	// Repositories of source code, with what GitHub knows of their security.
	Repositories []ghcrtest.Repository `json:"repositories"`
	Public       []string              `json:"public"` // repositories that anybody may read
	Ahead        string                `json:"ahead"`  // of the clock, as Go writes durations
	Quirks       json.RawMessage       `json:"quirks"` // single switches, by name
}

func (a *app) serveCommand() *cobra.Command {
	var addr, profile, data, config, faultFile string
	var tls, admin bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve an emulated GHCR on a loopback port",
		Long: `Serve an emulated GHCR for tests: registry, token service, the host that blobs come
from, and the GitHub Packages API, at / and /api/v3. Prints one line when it is
ready, and serves until it is interrupted. Any owner exists, and the token
` + ghcrtest.Token + ` may do everything. With --profile spec it is a plain registry without
logins. --data keeps the state in a directory, the one that --sim uses.

A --config file is JSON, all of it optional:
  {"accounts": [{"login", "token", "scopes", "owners", "role", "repository"}],
   "owners": [{"login", "id", "kind": "Organization" or "User",
               "forbids": "classic" tokens, or those that are "unauthorized"}],
   "packages": [{"name": OWNER/NAME, "visibility": "private", "public" or "internal",
                 "repository": that it is linked to, "downloads": of each version,
                 "access": {REPOSITORY: "read", "write" or "admin", for its workflows}}],
   "repositories": [{"name": OWNER/NAME, "private", "fork", "defaultBranch", and "on" or "off":
                     "codeScanning", "dependencyGraph", "dependabot"}],
   "public": [OWNER/NAME], "ahead": of the clock, "720h" say, "quirks": {NAME: VALUE}}
The kind of a token shows in how it begins: ghp_, gho_, github_pat_, or ghs_, with
"repository" for a workflow's. docs/quirks.md has the names of quirks; their durations
are written "300s".

A --faults file says what goes wrong, as a JSON list of rules: match says with which
requests, do what happens to them, and use names one that is known of GHCR, F1a to F18:
  [{"use": "F8b", "match": {"repo": "acme/app"}},
   {"name": "slow layers", "match": {"route": "signed-blob", "every": 3},
    "do": {"delay": "200ms", "jitter": "50ms", "bytesPerSecond": 65536}, "times": -1}]

--admin serves the emulator's own API at /_sim/: to put content in, take and restore
snapshots, move the clock, change the faults, and read the logs of requests and of
faults. Only this machine can reach it, and no web page. docs/emulator.md has the rules,
the known faults and that API.`,
		Example: "  ghcr serve --addr 127.0.0.1:5000 --data ./box\n  ghcr serve --faults faults.json --admin",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data != "" && a.flags.sim != "" {
				return usage("--data and --sim name the same thing: leave one out")
			}
			opts, err := serveOptions(profile, config)
			if err != nil {
				return err
			}
			faults, err := readFaults(faultFile)
			if err != nil {
				return err
			}
			opts.Admin, opts.NoLog = admin, !admin
			opts.Dir = data
			if opts.Dir == "" {
				opts.Dir = a.flags.sim
			}
			server, err := ghcrtest.New(opts)
			if err != nil {
				return usage("serve: %w", err)
			}
			server.Inject(faults...)
			l, err := server.Listen(addr, tls)
			if err != nil {
				return errors.Join(usage("serve: %w", err), server.Close())
			}
			login := ", token " + ghcrtest.Token
			if opts.Open {
				login = ", no login needed"
			} else if len(opts.Accounts) > 0 {
				login = ""
			}
			if admin {
				login += ", admin API at /_sim/"
			}
			if tls {
				ca, err := writeCA(l.CA())
				if err != nil {
					return errors.Join(err, l.Close(), server.Close())
				}
				login += ", trust " + ca
				defer os.Remove(ca)
			}
			fmt.Fprintf(a.stdout, "serving %s at %s (profile %s%s)\n", l.Addr(), l.URL(), profile, login)
			<-cmd.Context().Done()
			return errors.Join(l.Close(), server.Close())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&addr, "addr", "127.0.0.1:5000", "loopback `HOST:PORT` to serve on; port 0 is any that is free")
	flags.StringVar(&profile, "profile", "ghcr", "ghcr: as GHCR answers; spec: a plain registry")
	choices(cmd, "profile", "ghcr", "spec")
	flags.StringVar(&data, "data", "", "keep the state in `DIR`")
	flags.StringVar(&config, "config", "", "JSON `FILE` of accounts, owners, packages and quirks")
	flags.StringVar(&faultFile, "faults", "", "JSON `FILE` of what goes wrong")
	flags.BoolVar(&admin, "admin", false, "serve the emulator's own API at /_sim/")
	flags.BoolVar(&tls, "tls", false, "speak HTTPS with a certificate of its own")
	return cmd
}

func serveOptions(profile, config string) (ghcrtest.Options, error) {
	quirks := ghcrtest.GHCR()
	opts := ghcrtest.Options{Quirks: &quirks}
	switch profile {
	case "ghcr":
	case "spec":
		quirks = ghcrtest.Spec()
		opts.Open = true
	default:
		return opts, usage("--profile %q: want ghcr or spec", profile)
	}
	if config == "" {
		return opts, nil
	}
	raw, err := os.ReadFile(config)
	if err != nil {
		return opts, usage("--config: %w", err)
	}
	var c serveConfig
	if err := decodeStrict(raw, &c); err != nil {
		return opts, usage("--config %s: %w", config, err)
	}
	if c.Quirks != nil {
		if err := decodeStrict(c.Quirks, &quirks); err != nil {
			return opts, usage("--config %s: quirks: %w", config, err)
		}
	}
	for _, account := range c.Accounts {
		opts.Accounts = append(opts.Accounts, ghcrtest.Account(account))
		opts.Open = false
	}
	for _, owner := range c.Owners {
		opts.Owners = append(opts.Owners, ghcrtest.Owner(owner))
	}
	for _, p := range c.Packages {
		opts.Packages = append(opts.Packages, ghcrtest.Package(p))
	}
	opts.Public, opts.Repositories = c.Public, c.Repositories
	if c.Ahead != "" {
		if opts.Ahead, err = time.ParseDuration(c.Ahead); err != nil {
			return opts, usage("--config %s: ahead: %w", config, err)
		}
	}
	return opts, nil
}

func readFaults(file string) ([]ghcrtest.Fault, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, usage("--faults: %w", err)
	}
	faults, err := ghcrtest.ParseFaults(raw)
	if err != nil {
		return nil, usage("--faults %s: %w", file, err)
	}
	return faults, nil
}

// decodeStrict refuses fields that do not exist: a switch that is misspelt would
// look as if it did nothing.
func decodeStrict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

func writeCA(pem []byte) (string, error) {
	f, err := os.CreateTemp("", "ghcr-ca-*.pem")
	if err != nil {
		return "", err
	}
	_, err = f.Write(pem)
	return f.Name(), errors.Join(err, f.Close())
}
