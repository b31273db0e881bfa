package ghcrtest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// mayCall tells whether the operation is allowed, and answers if not. What may not
// be seen, or done, is as good as not there.
func (x *exchange) mayCall() bool {
	s, q, op := x.server, x.server.quirks, x.api.operation
	a := x.who.account
	if a == nil && !s.open {
		x.refuseAPI(http.StatusUnauthorized, "Requires authentication")
		return false
	}
	if a != nil && q.RESTCredentialRules && !x.mayKind(a) {
		return false
	}
	for _, scope := range op.scopes {
		if a != nil && !a.scoped(scope) {
			x.refuseAPI(http.StatusForbidden, "You need at least "+scope+" scope to "+op.verb+".")
			return false
		}
	}
	if a != nil && x.forbidden(a) {
		return false
	}
	organization := x.api.owner.Kind == kindOrganization
	switch form := x.api.form; {
	case (form == "orgs" || form == "organizations") && !organization, form == "users" && organization && !q.RESTUsersForOrgs:
		x.refuseAPI(http.StatusNotFound, "Not Found")
		return false
	case x.api.kind == "":
		return true
	case x.api.kind != "container":
		x.packageNotFound()
		return false
	}
	p, found := s.store.packageRow(x.repo)
	switch {
	case s.open:
		return true
	case op.role == roleAdmin && s.admin(x.who, x.repo):
		return true
	case !found || !s.reads(x.who, p):
		x.packageNotFound()
		return false
	case op.role != roleAdmin:
		return true
	case q.RESTMaskForbidden:
		x.packageNotFound()
		return false
	}
	x.refuseAPI(http.StatusForbidden, "You need admin permission to "+op.verb+".")
	return false
}

// mayKind tells whether a token of this kind may do the operation at all. Only
// classic ones may do all of them.
func (x *exchange) mayKind(a *Account) bool {
	kind := a.kind()
	switch {
	case kind == classic:
		return true
	case (kind == workflow || kind == app) && x.api.form == "user":
		x.refuseAPI(http.StatusForbidden, "Resource not accessible by integration")
	case x.api.kind == "":
		x.invalidArgument()
	case kind == workflow && slices.ContainsFunc(x.api.scopes, func(scope string) bool { return !a.scoped(scope) }):
		x.refuseAPI(http.StatusForbidden, "Resource not accessible by integration")
	case kind == workflow && x.route != RoutePackageRestore:
		return true
	case kind == fineGrained && x.server.quirks.RESTFineGrainedReads && x.api.role == roleRead && x.linked():
		return true
	default:
		x.packageNotFound()
	}
	return false
}

// forbidden answers a token that the organization does not want.
func (x *exchange) forbidden(a *Account) bool {
	owner := x.api.owner
	if owner.Forbids == "" || !strings.HasPrefix(a.Token, "ghp_") {
		return false
	}
	message := "`" + owner.Login + "` forbids access via a personal access token (classic). Please use a GitHub App, OAuth App, or a personal access token with fine-grained permissions."
	if owner.Forbids == forbidsUnauthorized {
		x.w.Header().Set("X-GitHub-SSO", "required; url=https://"+WebHost+"/orgs/"+url.PathEscape(owner.Login)+"/sso")
		message = "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization."
	}
	x.refuseAPI(http.StatusForbidden, message)
	return true
}

// linked tells whether the package is linked to a repository.
func (x *exchange) linked() bool {
	p, _ := x.server.store.packageRow(x.repo)
	return p.repository != ""
}

// reads tells whether the identity may see a package.
func (s *Server) reads(who identity, p packageRow) bool {
	switch a := who.account; {
	case s.open || p.visibility == Public:
		return true
	case a == nil:
		return false
	case a.kind() == workflow && s.quirks.RESTCredentialRules:
		return s.admin(who, p.name)
	default:
		return atLeast(s.role(a, p.name), roleRead)
	}
}

func (s *Server) admin(who identity, repo string) bool {
	return who.account != nil && s.role(who.account, repo) == roleAdmin
}
