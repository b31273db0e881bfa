package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// diagnosis is one line of ghcr doctor.
type diagnosis struct {
	Check  string `json:"check"`
	Status health `json:"status"`
	Found  string `json:"found"`
	Do     string `json:"do"`
}

// health is how a check came out.
type health string

const (
	healthOK      health = "ok"
	healthNo      health = "no" // this login may not do it, which need not be wrong
	healthWarning health = "warning"
	healthProblem health = "problem"
	healthUnknown health = "unknown"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [PKG | OWNER]",
		Short: "Find out what the login can do, and what is in its way",
		Long: `Look at the login, the kind and scopes of its token, the clock and the limits; and for a
package, whether it can be read, pulled, pulled without a login, pushed to and deleted
from. Nothing is changed: what cannot be known without trying it is said to be unknown.
Each line says what to do. Exit code 8 says that something is wrong.`,
		Example: "  ghcr doctor\n  ghcr doctor acme/app --jq '.[].status'",
		Args:    args(cobra.MaximumNArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			d := &doctor{app: a, ctx: cmd.Context()}
			if err := d.examine(given); err != nil {
				return err
			}
			if cmd.Context().Err() != nil {
				return context.Cause(cmd.Context())
			}
			r := result{data: d.list, head: []string{"CHECK", "STATUS", "FOUND", "WHAT TO DO"}}
			problems := 0
			for _, one := range d.list {
				if one.Status == healthProblem {
					problems++
				}
				r.ids = append(r.ids, one.Check)
				r.rows = append(r.rows, []string{one.Check, string(one.Status), one.Found, one.Do})
			}
			err := a.print(r)
			if problems > 0 {
				err = errors.Join(err, fmt.Errorf("doctor: %s: %w", plural(problems, "problem"), errFindings))
			}
			return err
		},
	}
}

// doctor writes down what it finds.
type doctor struct {
	*app
	ctx    context.Context
	client *ghcr.Client
	api    *packages.Client
	token  *packages.TokenState // of the API; nil if it could not be asked
	list   []diagnosis
}

func (d *doctor) say(check string, status health, found, do string) {
	d.list = append(d.list, diagnosis{check, status, found, strings.ReplaceAll(do, "\n", " ")})
}

// fail says what an error means for a check.
func (d *doctor) fail(check string, status health, err error) {
	d.say(check, status, err.Error(), ghcr.Hint(err))
}

func (d *doctor) examine(given []string) error {
	var ref oci.ImageRef
	owner := ""
	if len(given) > 0 && strings.Contains(given[0], "/") {
		var err error
		if _, ref, err = d.repository(given[0], true); err != nil {
			return err
		}
		owner, _, _ = strings.Cut(ref.Name, "/")
	} else if len(given) > 0 {
		owner = given[0]
	}
	var err error
	if d.client, err = d.app.client(); err != nil {
		return err
	}
	if d.api, err = d.client.Packages(); err != nil {
		return err
	}
	home := d.client.Registry()
	if ref.Name != "" && ref.Registry != home {
		return usage("doctor %s: it is not on %s; --registry says where else GitHub's registry is", given[0], home)
	}
	d.lookAtLogin(home)
	d.lookAtTokens()
	if owner != "" {
		d.lookAtOwner(owner)
	}
	if ref.Name != "" {
		d.lookAtPackage(ref)
	}
	d.say("registry limit", healthUnknown, "the registry does not tell until it refuses", "")
	return nil
}

// lookAtLogin finds out which login is in use.
func (d *doctor) lookAtLogin(host string) {
	var found *transport.Credential
	for _, place := range d.logins.Places(d.ctx, host) {
		if place.Err != nil {
			d.say("login", healthProblem, place.Err.Error(), "repair or remove it: what comes after it is not looked at")
			return
		}
		if len(place.Logins) > 0 {
			found = &place.Logins[0]
			break
		}
	}
	if found == nil {
		d.say("login", healthWarning, "none: you are anonymous, which pulls public images and no more", "set GHCR_TOKEN, or: ghcr auth login")
		return
	}
	d.say("login", healthOK, "from "+found.Source, "")
	// The API has the registry's login, unless it has one of its own.
	for _, place := range d.logins.Places(d.ctx, d.api.Host()) {
		if d.api.Host() != host && len(place.Logins) > 0 {
			d.say("logins", healthWarning, fmt.Sprintf("the registry uses that from %s, and the API that from %s", found.Source, place.Logins[0].Source),
				"ghcr auth logout "+d.api.Host())
			return
		}
	}
}

// lookAtTokens asks GitHub about the tokens.
func (d *doctor) lookAtTokens() {
	states, err := d.api.Inspect(d.ctx)
	if err != nil {
		d.fail("api", healthProblem, err)
		return
	}
	d.token = &states[0]
	for _, t := range states {
		if t.Kind == transport.Anonymous {
			d.lookAtClock(t)
			d.lookAtLimit(t)
			continue
		}
		if t.Refused != nil {
			d.fail("token", healthProblem, t.Refused)
			continue
		}
		d.lookAtKind(t)
		if t.Kind.HasScopes() {
			d.lookAtScopes(t)
		}
		d.lookAtClock(t)
		d.lookAtLimit(t)
	}
}

const tokenPage = "https://github.com/settings/tokens/new?scopes=read:packages,write:packages,delete:packages"

func (d *doctor) lookAtKind(t packages.TokenState) {
	found := t.Kind.Phrase()
	if t.Account.Login != "" {
		found += " of " + t.Account.Login
	}
	switch t.Kind {
	case transport.ClassicToken, transport.OAuthToken:
		d.say("token", healthOK, found, "")
	case transport.InstallationToken:
		d.say("token", healthWarning, found+", which lists no packages, and works on those that give its repository access",
			"the package's settings page: Manage Actions access; or use a classic token: "+tokenPage)
	case transport.FineGrainedToken, transport.UserToken:
		d.say("token", healthProblem, found+", which GitHub Packages does not take for most packages", "use a classic token: "+tokenPage)
	default:
		d.say("token", healthUnknown, found, "")
	}
}

func (d *doctor) lookAtScopes(t packages.TokenState) {
	if !t.Known {
		d.say("scopes", healthUnknown, "GitHub does not tell them", "")
		return
	}
	has := cmp.Or(strings.Join(t.Scopes, ", "), "none")
	missing := t.Lacks(transport.ScopeRead, transport.ScopeWrite, transport.ScopeDelete)
	switch {
	case len(missing) == 0:
		d.say("scopes", healthOK, has, "")
	case slices.Contains(missing, transport.ScopeRead):
		d.say("scopes", healthProblem, has+": without read:packages only public images can be pulled", tokenPage)
	default:
		d.say("scopes", healthWarning, has+"; not "+strings.Join(missing, ", "), "to push or delete, make one that has it: "+tokenPage)
	}
}

// clockSkew is how far clocks may be apart before signed addresses and the ends of
// limits suffer.
const clockSkew = 30 * time.Second

func (d *doctor) lookAtClock(t packages.TokenState) {
	switch {
	case t.Ahead.Abs() <= clockSkew:
		d.say("clock", healthOK, "agrees with GitHub's", "")
	case t.Ahead > 0:
		d.say("clock", healthWarning, fmt.Sprintf("%s ahead of GitHub's", t.Ahead), "set it by a time server")
	default:
		d.say("clock", healthWarning, fmt.Sprintf("%s behind GitHub's", -t.Ahead), "set it by a time server")
	}
}

func (d *doctor) lookAtLimit(t packages.TokenState) {
	for _, l := range t.Limits {
		if l.Resource != "core" {
			continue
		}
		found := fmt.Sprintf("%d of %d requests are left until %s", l.Remaining, l.Limit, l.Reset.Local().Format(time.TimeOnly))
		switch {
		case l.Remaining == 0:
			d.say("api limit", healthProblem, found, "wait until then, or use another token; --max-wait says how long to be patient")
		case l.Remaining < l.Limit/5:
			d.say("api limit", healthWarning, found, "what is left is spread over the time until then; several tokens in GHCR_TOKEN share the work")
		default:
			d.say("api limit", healthOK, found, "")
		}
		return
	}
	d.say("api limit", healthUnknown, "this server has none, or does not tell", "")
}

// lookAtOwner tries whether packages can be listed, with one row.
func (d *doctor) lookAtOwner(login string) {
	owner, err := d.api.Owner(d.ctx, login)
	if err != nil {
		d.fail("owner", d.severity(err), err)
		return
	}
	kind := "a user"
	if owner.Kind == packages.Organization {
		kind = "an organization"
	}
	d.say("owner", healthOK, owner.Login+" is "+kind, "")
	path := "users/" + url.PathEscape(login)
	switch {
	case owner.Kind == packages.Organization:
		path = "orgs/" + url.PathEscape(login)
	case d.token != nil && d.token.Account.ID == owner.ID && owner.ID != 0:
		path = "user"
	}
	resp, err := d.api.Call(d.ctx, http.MethodGet, path+"/packages?package_type=container&per_page=1", nil)
	if err != nil {
		d.fail("list", d.severity(err), err)
		return
	}
	resp.Body.Close()
	d.say("list", healthOK, "packages can be listed", "")
}

// severity tells what this login may not do from what is broken.
func (d *doctor) severity(err error) health {
	for _, no := range []error{ghcr.ErrDenied, ghcr.ErrUnauthorized, ghcr.ErrNotFound} {
		if errors.Is(err, no) {
			return healthNo
		}
	}
	return healthProblem
}

// lookAtPackage finds out what the login can do to a package.
func (d *doctor) lookAtPackage(ref oci.ImageRef) {
	owner, name, _ := strings.Cut(ref.Name, "/")
	p, apiErr := d.api.Get(d.ctx, owner, name)
	if apiErr != nil {
		d.fail("read", d.severity(apiErr), apiErr)
	} else {
		d.say("read", healthOK, fmt.Sprintf("the API has it: %s, %s", p.Visibility, plural(p.VersionCount, "version")), "")
		if p.Repository == "" {
			d.say("link", healthWarning, "linked to no repository, so no workflow has access by itself", "connect one on "+p.HTMLURL)
		} else {
			d.say("link", healthOK, "linked to "+p.Repository, "")
		}
	}
	d.lookAtPulls(ref, p)
	repo, err := d.client.Repository(ref)
	if err != nil {
		d.fail("push", healthProblem, err)
		return
	}
	if err := repo.CheckPush(d.ctx); err != nil {
		d.fail("push", d.severity(err), err)
	} else {
		d.say("push", healthOK, "an upload can be begun", "")
	}
	d.lookAtDeletion(owner, apiErr)
}

func (d *doctor) lookAtPulls(ref oci.ImageRef, p packages.Package) {
	anonymous, err := d.client.AnonymousPull(d.ctx, ref)
	if err != nil {
		d.fail("pull", d.severity(err), err)
		return
	}
	d.say("pull", healthOK, "it can be pulled", "")
	switch {
	case anonymous && (p.Visibility == packages.Private || p.Visibility == packages.Internal):
		d.say("anonymous pull", healthWarning, fmt.Sprintf("yes, although its settings say %s", p.Visibility), "")
	case anonymous:
		d.say("anonymous pull", healthOK, "yes: anybody can pull it", "")
	case p.Visibility == packages.Public:
		d.say("anonymous pull", healthProblem, "no, although its settings say public", "GitHub may be late, or the organization forbids it: try again, then ask an owner")
	default:
		d.say("anonymous pull", healthNo, "only who is logged in can pull it", "ghcr visibility "+ref.Repository()+" --open")
	}
}

// lookAtDeletion says what is known without trying.
func (d *doctor) lookAtDeletion(owner string, apiErr error) {
	const settings = "it takes the role Admin on the package: its settings page, Manage access"
	t := d.token
	switch {
	case t == nil:
		d.say("delete", healthUnknown, "the API could not be asked about the token", "")
	case t.Refused != nil:
		d.say("delete", healthNo, "GitHub does not take the token", ghcr.Hint(t.Refused))
	case t.Kind == transport.Anonymous:
		d.say("delete", healthNo, "nothing can be deleted without a login", "set GHCR_TOKEN, or: ghcr auth login")
	case t.Kind == transport.FineGrainedToken, t.Kind == transport.UserToken:
		d.say("delete", healthNo, t.Kind.Phrase()+" cannot delete versions", "use a classic token: "+tokenPage)
	case len(t.Lacks(transport.ScopeDelete)) > 0:
		d.say("delete", healthNo, "the token lacks delete:packages", tokenPage)
	case apiErr != nil && d.severity(apiErr) == healthNo:
		d.say("delete", healthNo, "what the API does not show cannot be deleted", ghcr.Hint(apiErr))
	case strings.EqualFold(t.Account.Login, owner) && t.Kind.HasScopes():
		d.say("delete", healthOK, "it is "+owner+"'s own, and the token has the scope", "")
	case t.Kind == transport.InstallationToken:
		d.say("delete", healthUnknown, "whether the package gives this workflow the role Admin shows when it is tried", "the package's settings page: Manage Actions access, role Admin")
	default:
		d.say("delete", healthUnknown, "the token has the scope; whether the account has the role shows when it is tried", settings)
	}
}
