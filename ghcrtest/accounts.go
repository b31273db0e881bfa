package ghcrtest

import (
	"cmp"
	"crypto/subtle"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Account is a login and what it may do. What kind of token it has shows in how the
// token begins, as with GitHub's: ghp_ is a classic one, gho_ that of an OAuth
// application, github_pat_ a fine-grained one, ghu_ that of an App for a user, and
// ghs_ that of a workflow, or of an App.
type Account struct {
	Login string
	// Token is what it logs in with.
	Token string
	// Scopes of the token: "read:packages", "write:packages", which holds the first,
	// "delete:packages", and any others. Empty is all of them. For a workflow they are
	// its permissions, and "write:packages" is enough to delete. Those of security are of
	// a classic token "security_events", "repo" or "public_repo", and of the others
	// permissions such as "attestations:read" or "security_events:write".
	Scopes []string
	// Owners whose private packages it sees, besides its own; empty is everybody's.
	Owners []string
	// Role is what it may do to the packages of Owners: "read", "write" or "admin",
	// which deleting takes. Empty is "admin". Its own it may do anything to.
	Role string
	// Repository is where the workflow of a ghs_ token runs, "owner/repository". It may
	// do what [Package] says, and nothing by Owners. Empty is an App's token, which
	// does as much in the registry as Owners and Role say, and nothing in the Packages
	// API.
	Repository string
}

// Owner is an organization or a user that has packages.
type Owner struct {
	Login string
	// ID is the number that GitHub knows it by; 0 is one that follows from the login.
	ID int64
	// Kind is "Organization" or "User"; empty is a user if there is an account of that
	// login, and else an organization.
	Kind string
	// Forbids is "classic" for an organization whose Packages API refuses personal
	// access tokens (classic), and "unauthorized" for one that takes them when they are
	// authorized for its single sign-on, which here none is. Empty is neither.
	Forbids string
}

// What an organization forbids.
const (
	forbidsClassic      = "classic"
	forbidsUnauthorized = "unauthorized"
)

// Kinds of owners, as the API names them.
const (
	kindOrganization = "Organization"
	kindUser         = "User"
)

// check refuses what would look as if it did nothing.
func (o Options) check() error {
	for _, a := range o.Accounts {
		if !slices.Contains(roles, a.Role) {
			return oci.Invalid("role %q of the account %q: want read, write or admin", a.Role, a.Login)
		}
		if a.Token == "" {
			return oci.Invalid("the account %q has no token", a.Login)
		}
		if a.Repository != "" && a.kind() != workflow {
			return oci.Invalid("the account %q has a repository, but its token is not a workflow's: that begins with ghs_", a.Login)
		}
	}
	for _, owner := range o.Owners {
		if !slices.Contains([]string{"", kindOrganization, kindUser}, owner.Kind) {
			return oci.Invalid("kind %q of the owner %q: want Organization or User", owner.Kind, owner.Login)
		}
		if !slices.Contains([]string{"", forbidsClassic, forbidsUnauthorized}, owner.Forbids) {
			return oci.Invalid("the owner %q forbids %q: want classic or unauthorized", owner.Login, owner.Forbids)
		}
	}
	return nil
}

// tokenKind is what a token is for. GitHub's refusals go by it.
type tokenKind int

const (
	classic     tokenKind = iota
	fineGrained           // and those of Apps for users
	workflow
	app
)

func (a *Account) kind() tokenKind {
	switch {
	case strings.HasPrefix(a.Token, "github_pat_"), strings.HasPrefix(a.Token, "ghu_"):
		return fineGrained
	case !strings.HasPrefix(a.Token, "ghs_"):
		return classic
	case a.Repository == "":
		return app
	}
	return workflow
}

// allScopes are those of a token that names none, as GitHub shows them: without what
// another holds already.
var allScopes = []string{"delete:packages", "repo", "write:packages"}

// scopes lists the token's scopes as GitHub shows them.
func (a *Account) scopes() []string {
	if len(a.Scopes) == 0 {
		return allScopes
	}
	list := slices.Sorted(slices.Values(a.Scopes))
	if slices.Contains(list, "write:packages") {
		list = slices.DeleteFunc(list, func(s string) bool { return s == "read:packages" })
	}
	return slices.Compact(list)
}

// scoped tells whether the account's token has a scope.
func (a *Account) scoped(scope string) bool {
	list := a.scopes()
	return slices.Contains(list, scope) ||
		scope == "read:packages" && slices.Contains(list, "write:packages") ||
		scope == "delete:packages" && a.kind() == workflow && slices.Contains(list, "write:packages")
}

// role is what an account may do to a package, whatever its token is for.
func (s *Server) role(a *Account, repo string) string {
	owner, _, _ := strings.Cut(repo, "/")
	is := func(login string) bool { return strings.EqualFold(login, owner) }
	switch {
	case a.kind() == workflow:
		return s.store.role(repo, a.Repository)
	case is(a.Login):
		return roleAdmin
	case len(a.Owners) == 0 || slices.ContainsFunc(a.Owners, is):
		return cmp.Or(a.Role, roleAdmin)
	}
	return ""
}

// atLeast compares roles.
func atLeast(role, needed string) bool {
	return slices.Index(roles, role) >= slices.Index(roles, needed)
}

// account finds who logs in with a token.
func (s *Server) account(token string) *Account {
	var found *Account
	for i := range s.accounts {
		if subtle.ConstantTimeCompare([]byte(s.accounts[i].Token), []byte(token)) == 1 {
			found = &s.accounts[i]
		}
	}
	return found
}

// workflow returns the repository whose workflow it is, or nothing.
func (who identity) workflow() string {
	if who.account == nil || who.account.kind() != workflow {
		return ""
	}
	return strings.ToLower(who.account.Repository)
}

// allows tells whether the identity may do something to a repository of the
// registry: "pull", "push" or "delete".
func (s *Server) allows(who identity, repo, action string) bool {
	if action == "pull" && s.store.public(repo) {
		return true
	}
	if who.account == nil || who.scoped != nil && !who.covers(repo, action) {
		return false
	}
	needs := map[string]struct{ scope, role string }{
		"pull": {"read:packages", roleRead}, "push": {"write:packages", roleWrite}, "delete": {"delete:packages", roleAdmin},
	}[action]
	return who.account.scoped(needs.scope) && atLeast(s.role(who.account, repo), needs.role)
}

// owner finds an owner by login. Any exists.
func (s *Server) owner(login string) Owner {
	o := Owner{Login: login}
	if i := slices.IndexFunc(s.owners, func(o Owner) bool { return strings.EqualFold(o.Login, login) }); i >= 0 {
		o = s.owners[i]
	}
	if o.Kind == "" {
		o.Kind = kindOrganization
		if slices.ContainsFunc(s.accounts, func(a Account) bool {
			return strings.EqualFold(a.Login, login) && !strings.HasPrefix(a.Token, "ghs_")
		}) {
			o.Kind = kindUser
		}
	}
	if o.ID == 0 {
		o.ID = number(login)
	}
	return o
}

// number makes an id of a name that has none.
func number(name string) int64 {
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(name)))
	return 1_000_000 + int64(h.Sum32()>>4)
}

// ownerByID finds an owner that a Link names by number.
func (s *Server) ownerByID(id int64) (Owner, bool) {
	var logins []string
	for _, o := range s.owners {
		logins = append(logins, o.Login)
	}
	for _, a := range s.accounts {
		logins = append(logins, a.Login)
	}
	s.store.mu.RLock()
	logins = slices.AppendSeq(logins, maps.Keys(s.store.owners))
	s.store.mu.RUnlock()
	for _, login := range logins {
		if o := s.owner(login); o.ID == id {
			return o, true
		}
	}
	return Owner{}, false
}
