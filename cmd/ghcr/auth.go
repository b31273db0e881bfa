package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// loginState is one login of ghcr auth status, or a place that has none.
type loginState struct {
	Source  string   `json:"source"`
	State   string   `json:"state"`
	User    *string  `json:"user"`    // that is stored with it
	Kind    *string  `json:"kind"`    // of token
	Account *string  `json:"account"` // whose it is, by GitHub; null for one that is nobody's
	Scopes  []string `json:"scopes"`  // null where they are not known, or there is no such thing
	Problem string   `json:"problem"`
}

// The states of a login.
const (
	loginInUse      = "in use"
	loginRefused    = "refused"    // in use, and GitHub does not take it
	loginUnchecked  = "unchecked"  // in use, and nobody was asked
	loginUnused     = "unused"     // another comes before it
	loginNone       = "none"       // there is no login in this place
	loginUnreadable = "unreadable" // and in use, since nothing after it is looked at
)

func (a *app) authCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "auth",
		Short: "Show, keep and remove logins",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.authStatusCommand(), a.authLoginCommand(), a.authLogoutCommand(), a.authTokenCommand())
	return cmd
}

func (a *app) authStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [HOST]",
		Short: "Show every place where a login is looked for, and which counts",
		Long: `Show every place where a login for a registry is looked for, in the order in which
they count, what kind of token is there, and what GitHub says of the one in use: whose
it is, and its scopes. No token is shown. Exit code 4 says that there is no login, or
that GitHub refuses it.`,
		Example: "  ghcr auth status\n  ghcr auth status --json=source,state,scopes",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			host, _, err := a.loginHost(given)
			if err != nil {
				return err
			}
			list, checkErr := a.loginStates(cmd.Context(), host)
			r := result{data: list, head: []string{"SOURCE", "STATE", "KIND", "ACCOUNT", "SCOPES"}}
			for _, s := range list {
				if s.State != loginNone {
					r.ids = append(r.ids, s.Source)
				}
				row := []string{s.Source, s.State, text(s.Kind), text(s.Account), cmp.Or(strings.Join(s.Scopes, " "), s.Problem)}
				r.rows = append(r.rows, row)
			}
			return errors.Join(a.print(r), checkErr)
		},
	}
}

// text is a string that may not be known.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// loginHost returns the host that a command on logins is about, and whether it is a
// registry of GitHub's.
func (a *app) loginHost(given []string) (host string, github bool, err error) {
	opts, err := a.options()
	if err != nil {
		return "", false, err
	}
	host = cmp.Or(opts.Registry, oci.DefaultRegistry)
	if len(given) == 0 {
		return host, true, nil
	}
	if transport.KindOf(transport.NewSecret(given[0])) != transport.OtherToken {
		return "", false, usage("that is a token, and now in the history of the shell: revoke it, and give the next one on stdin")
	}
	if strings.ContainsAny(given[0], "/@ ") || given[0] == "" {
		return "", false, usage("%q is no host of a registry", given[0])
	}
	return given[0], given[0] == host || given[0] == oci.DefaultRegistry, nil
}

// loginStates looks at all places, and asks GitHub about the login in use. The list is
// there beside an error.
func (a *app) loginStates(ctx context.Context, host string) ([]loginState, error) {
	list := []loginState{}
	inUse := false
	for _, place := range a.logins.Places(ctx, host) {
		s := loginState{Source: place.Name, State: loginNone}
		if place.Err != nil {
			s.Problem = place.Err.Error()
			if s.State = loginUnused; !inUse {
				s.State, inUse = loginUnreadable, true
			}
		}
		if len(place.Logins) == 0 {
			list = append(list, s)
			continue
		}
		for _, login := range place.Logins {
			s := loginState{Source: login.Source, State: loginUnused, User: &login.Username, Kind: kindName(login)}
			if !inUse {
				s.State = loginUnchecked
			}
			list = append(list, s)
		}
		inUse = true
	}
	if !inUse {
		return list, fmt.Errorf("there is no login for %s: set GHCR_TOKEN or run ghcr auth login: %w", host, ghcr.ErrUnauthorized)
	}
	opts, err := a.options()
	if err != nil {
		return list, err
	}
	if host != cmp.Or(opts.Registry, oci.DefaultRegistry) {
		return list, nil
	}
	states, err := a.inspect(ctx)
	if err != nil {
		return list, err
	}
	var refused error
	for i := range list {
		at := slices.IndexFunc(states, func(t packages.TokenState) bool { return t.Source == list[i].Source })
		if at < 0 || list[i].State != loginUnchecked {
			continue
		}
		list[i].learn(states[at])
		refused = cmp.Or(refused, states[at].Refused)
	}
	return list, refused
}

// learn adds what GitHub says.
func (s *loginState) learn(t packages.TokenState) {
	s.State = loginInUse
	if t.Refused != nil {
		s.State, s.Problem = loginRefused, t.Refused.Error()
		return
	}
	if t.Known {
		s.Scopes = slices.Clone(t.Scopes)
	}
	if t.Account.Login != "" {
		s.Account = &t.Account.Login
	}
}

func kindName(c transport.Credential) *string {
	secret := c.Password
	if secret.IsZero() {
		secret = c.Bearer
	}
	kind := string(transport.KindOf(secret))
	return &kind
}

// inspect asks GitHub about the tokens in use.
func (a *app) inspect(ctx context.Context) ([]packages.TokenState, error) {
	api, err := a.packages()
	if err != nil {
		return nil, err
	}
	return api.Inspect(ctx)
}

func (a *app) authTokenCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "token [HOST]",
		Short: "Print the token in use, for another program",
		Long: `Print the token that counts for a registry, for another program to read from a pipe.
On a terminal it is refused unless --show is given.`,
		Example: "  ghcr auth token | docker login ghcr.io -u x --password-stdin",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			host, _, err := a.loginHost(given)
			if err != nil {
				return err
			}
			switch {
			case a.flags.json.set || a.flags.jq != "" || a.flags.template != "":
				return usage("auth token prints the token alone, and no JSON")
			case a.isTerminal(a.stdout) && !show:
				return usage("auth token: stdout is a terminal, which others may see; --show prints it all the same")
			}
			login, err := a.logins.Credential(cmd.Context(), host)
			if err != nil {
				return err
			}
			if login.IsZero() {
				return fmt.Errorf("there is no login for %s: %w", host, ghcr.ErrUnauthorized)
			}
			secret := login.Password
			if secret.IsZero() {
				secret = login.Bearer
			}
			_, err = fmt.Fprintln(a.stdout, secret.Reveal())
			return err
		},
	}
	cmd.Flags().BoolVar(&show, "show", false, "print it on a terminal too")
	return cmd
}
