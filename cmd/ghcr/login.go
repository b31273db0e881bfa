package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// loggedIn is what ghcr auth login prints.
type loggedIn struct {
	Schema  string   `json:"schema"`
	Host    string   `json:"host"`
	Account *string  `json:"account"`
	Kind    string   `json:"kind"`
	Scopes  []string `json:"scopes"`
	Checked bool     `json:"checked"`
	Stored  string   `json:"stored"` // the file, or the helper
}

func (a *app) authLoginCommand() *cobra.Command {
	var user string
	var plain bool
	cmd := &cobra.Command{
		Use:   "login [HOST]",
		Short: "Check a token and keep it where docker login does",
		Long: `Read a token from stdin, ask GitHub whether it is good, and keep it where docker login
does: with a credential helper, or in docker's config.json, readable by you alone. A
token that is refused is not kept. docker and the tools that read its config are
logged in by it too. For the registry of somebody else the token is kept unchecked.`,
		Example: "  ghcr auth login < token.txt\n  ghcr auth login registry.example.com -u me < password.txt",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			host, github, err := a.loginHost(given)
			if err != nil {
				return err
			}
			secret, err := a.readToken(cmd.Context(), host)
			if err != nil {
				return err
			}
			login := transport.Credential{Username: user, Password: secret, Source: "stdin"}
			done := loggedIn{Schema: schema, Host: host, Kind: string(transport.KindOf(secret))}
			if github {
				t, err := a.checkToken(cmd.Context(), host, login)
				if err != nil {
					return err
				}
				done.Checked = true
				if t.Known {
					done.Scopes = t.Scopes
				}
				if t.Account.Login != "" {
					done.Account = &t.Account.Login
					login.Username = cmp.Or(user, t.Account.Login)
				}
				a.noteKind(t)
			} else if user == "" {
				return usage("auth login %s: --username says whose password it is", host)
			}
			if done.Stored, err = a.logins.Save(cmd.Context(), host, login, plain || a.flags.sim != "" || a.replays()); err != nil {
				return err
			}
			a.noteOther(cmd.Context(), host, secret)
			who := cmp.Or(text(done.Account), login.Username, "nobody's account")
			return a.print(result{data: done, ids: []string{done.Stored}, text: fmt.Sprintf("%s: logged in as %s, kept in %s\n", host, who, done.Stored)})
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "`NAME` to keep with it; GitHub does not look at it")
	cmd.Flags().BoolVar(&plain, "insecure-storage", false, "keep it in the file although the machine has a credential helper")
	return cmd
}

// maxToken is far above what any registry gives out.
const maxToken = 64 << 10

// readToken reads the token: unseen from a terminal, else the first line.
func (a *app) readToken(ctx context.Context, host string) (transport.Secret, error) {
	var line string
	if f := terminal(a.stdin); f != nil {
		fmt.Fprintf(a.stderr, "token for %s: ", host)
		fd := int(f.Fd())
		visible, err := term.GetState(fd)
		if err != nil {
			return transport.Secret{}, err
		}
		typed, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
		fmt.Fprintln(a.stderr)
		if err != nil {
			return transport.Secret{}, errors.Join(err, term.Restore(fd, visible))
		}
		line = string(typed)
	} else {
		var err error
		if line, err = bufio.NewReader(io.LimitReader(a.stdin, maxToken)).ReadString('\n'); err != nil && err != io.EOF {
			return transport.Secret{}, err
		}
	}
	if line = strings.TrimSpace(line); line == "" {
		return transport.Secret{}, usage("auth login: no token on stdin")
	}
	return transport.NewSecret(line), nil
}

// checkToken asks GitHub about a token that is not kept yet.
func (a *app) checkToken(ctx context.Context, host string, login transport.Credential) (packages.TokenState, error) {
	opts, err := a.options()
	if err != nil {
		return packages.TokenState{}, err
	}
	if host != cmp.Or(opts.Registry, oci.DefaultRegistry) {
		opts.Registry, opts.API = host, ""
	}
	opts.Credentials = transport.Static(map[string]transport.Credential{host: login})
	client, err := ghcr.New(opts)
	if err != nil {
		return packages.TokenState{}, err
	}
	api, err := client.Packages()
	if err != nil {
		return packages.TokenState{}, err
	}
	states, err := api.Inspect(ctx)
	if err != nil {
		return packages.TokenState{}, fmt.Errorf("check the token: %w", err)
	}
	if states[0].Refused != nil {
		return states[0], fmt.Errorf("it was not kept: %w", states[0].Refused)
	}
	return states[0], nil
}

// noteKind tells what the token will not be good for.
func (a *app) noteKind(t packages.TokenState) {
	note := ""
	switch {
	case !t.Kind.HasScopes() && t.Kind != transport.OtherToken:
		note = fmt.Sprintf("a %s is refused for most packages: a classic one is taken for all", t.Kind)
	case len(t.Lacks(transport.ScopeRead)) > 0:
		note = "it lacks read:packages, so it is good for public images only"
	case len(t.Lacks(transport.ScopeWrite)) > 0:
		note = "it lacks write:packages, so it can pull and not push"
	}
	if note != "" {
		fmt.Fprintf(a.stderr, "ghcr: note: %s\n", note)
	}
}

// noteOther tells when another login counts than the one that was kept.
func (a *app) noteOther(ctx context.Context, host string, secret transport.Secret) {
	login, err := a.logins.Credential(ctx, host)
	if err == nil && !login.IsZero() && login.Password.Reveal() != secret.Reveal() {
		fmt.Fprintf(a.stderr, "ghcr: note: the login from %s comes before it\n", login.Source)
	}
}

func (a *app) authLogoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout [HOST]",
		Short: "Remove a login from every login file and helper",
		Long: `Remove the login for a registry from docker's config, those of the containers tools,
and the credential helpers that they name. Prints the files that had it. A token is not
revoked by that, and those in the environment, or gh's, stay: which counts then is told.`,
		Example: "  ghcr auth logout",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			host, _, err := a.loginHost(given)
			if err != nil {
				return err
			}
			removed, err := a.logins.Remove(cmd.Context(), host)
			if err != nil {
				return err
			}
			if len(removed) == 0 {
				fmt.Fprintf(a.stderr, "ghcr: note: no login file has a login for %s\n", host)
			}
			if left, err := a.logins.Credential(cmd.Context(), host); err == nil && !left.IsZero() {
				fmt.Fprintf(a.stderr, "ghcr: note: the login from %s is there still\n", left.Source)
			}
			r := result{data: struct {
				Schema  string   `json:"schema"`
				Host    string   `json:"host"`
				Removed []string `json:"removed"`
			}{schema, host, append([]string{}, removed...)}, ids: removed}
			for _, file := range slices.Compact(removed) {
				r.text += file + "\n"
			}
			return a.print(r)
		},
	}
}
