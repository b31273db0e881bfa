package ghcrtest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
)

// getOwner answers who an owner, or the caller, is.
func (x *exchange) getOwner() {
	own := x.api.form == "user"
	a := x.server.self(x.who)
	switch {
	case own && a == nil:
		x.refuseAPI(http.StatusUnauthorized, "Requires authentication")
	case own && x.server.quirks.RESTCredentialRules && (a.kind() == workflow || a.kind() == app):
		x.refuseAPI(http.StatusForbidden, "Resource not accessible by integration")
	case (x.api.form == "orgs" || x.api.form == "organizations") && x.api.owner.Kind != kindOrganization:
		x.noRoute()
	default:
		x.answerJSON(http.StatusOK, x.ownerJSON(x.api.owner))
	}
}

// ownerJSON is a user or an organization as the API shows it.
type ownerJSON struct {
	Login     string `json:"login"`
	ID        int64  `json:"id"`
	NodeID    string `json:"node_id"`
	AvatarURL string `json:"avatar_url"`
	URL       string `json:"url"`
	HTMLURL   string `json:"html_url"`
	ReposURL  string `json:"repos_url"`
	Type      string `json:"type"`
	SiteAdmin bool   `json:"site_admin"`
}

func (x *exchange) ownerJSON(o Owner) ownerJSON {
	login := url.PathEscape(o.Login)
	api := x.api.base + "/users/" + login
	return ownerJSON{
		Login: o.Login, ID: o.ID, NodeID: nodeID("U", o.ID), AvatarURL: fmt.Sprintf("https://avatars.githubusercontent.com/u/%d?v=4", o.ID),
		URL: api, HTMLURL: "https://" + WebHost + "/" + login, ReposURL: api + "/repos", Type: o.Kind,
	}
}

// nodeID is the id of the other API, which clients keep as they get it.
func nodeID(kind string, id int64) string {
	return kind + "_" + base64.RawURLEncoding.EncodeToString(fmt.Append(nil, id))
}
