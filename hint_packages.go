package ghcr

import (
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// newToken is where a classic token is made, with the scopes chosen. Other GitHubs
// have the page too, under their own address.
const newToken = "https://github.com/settings/tokens/new?scopes="

// packagesHint says what to do about a refusal of the Packages API.
func packagesHint(e *packages.Error) string {
	switch e.Reason {
	case packages.Gone:
		return "somebody deleted it before; there is nothing left to do"
	case packages.Absent:
		return absentHint(e)
	case packages.NotDeleted:
		return "what was deleted can be restored for 30 days; the list of deleted versions has what there is"
	case packages.Unauthenticated:
		if e.Token == transport.Anonymous {
			return "set GHCR_TOKEN to a classic token: " + newToken + transport.ScopeRead
		}
		return fmt.Sprintf("the token from %s is expired or revoked", e.Source)
	case packages.MissingScope:
		scopes := e.Scope
		if scopes != transport.ScopeRead {
			scopes = transport.ScopeRead + "," + scopes
		}
		return fmt.Sprintf("make a token that has it: %s%s\nor, if it is gh's own: gh auth refresh -s %s", newToken, scopes, scopes)
	case packages.WrongToken:
		return wrongTokenHint(e)
	case packages.NotLinked:
		return "in the workflow: permissions: packages: write. Then the package's settings page: Manage Actions access,\n" +
			"add the repository, with role Admin to delete or restore"
	case packages.NoPermission:
		return "this takes the role Admin on the package: its settings page, Manage access; or ask an owner of the organization"
	case packages.SingleSignOn:
		return "https://github.com/settings/tokens: Configure SSO beside the token, and authorize it for the organization"
	case packages.Forbidden:
		return "an owner of the organization can allow it, in its settings for packages and for personal access tokens"
	case packages.LastTagged:
		return fmt.Sprintf("tag another version first, or delete the whole package: ghcr rm --package %s/%s", e.Owner, e.Package)
	case packages.TooManyDownloads:
		return "only GitHub's support can delete it; of a private package it can be deleted"
	case packages.NameTaken:
		return "delete what has its name now, and restore it then"
	case packages.TooMany:
		return "choose by visibility, or name the packages"
	case packages.NotInAPI:
		return "it is changed by hand on that page"
	}
	return ""
}

// absentHint says what an absence may mean, which GitHub leaves open.
func absentHint(e *packages.Error) string {
	hint := fmt.Sprintf("not found, or private and this login can't see it. You are logged in with the token from %s", e.Source)
	switch e.Token {
	case transport.FineGrainedToken, transport.UserToken:
		hint += ",\na " + string(e.Token) + ", which sees no packages: use a classic one, " + newToken + transport.ScopeRead
	case transport.InstallationToken:
		hint += ",\nwhich sees packages that give its repository access: on the package's settings page, Manage Actions access"
	}
	return hint
}

func wrongTokenHint(e *packages.Error) string {
	if e.Token == transport.InstallationToken && strings.HasPrefix(e.Op, "list packages") {
		return "GITHUB_TOKEN and the tokens of apps cannot list packages, but work on those that are named; or use a classic token: " + newToken + transport.ScopeRead
	}
	return "GitHub Packages takes classic tokens: " + newToken + strings.Join([]string{transport.ScopeRead, transport.ScopeWrite, transport.ScopeDelete}, ",")
}
