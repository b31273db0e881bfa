package ghcrtest

import "net/http"

// redirectFaults are those of the way from the registry to the storage host.
func redirectFaults() []Entry {
	get := Fault{Route: RouteBlob, Method: http.MethodGet, Status: 307}
	to := func(location string, times int) Fault {
		f := get
		f.Header, f.Times = header("Location", location), times
		return f
	}
	refused := Fault{
		Role: RoleCDN, Credential: "some", Status: 400, Times: always, Header: header("Content-Type", "application/xml"),
		Body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>InvalidAuthenticationInfo</Code></Error>`,
	}
	head := Fault{Route: RouteBlob, Method: http.MethodHead, Status: 307, Header: header("Location", "{signed}")}
	cut := Fault{Route: RouteSigned, ResponseBytes: early, Break: true}
	return []Entry{
		{"F12a", "307 to a host that refuses every credential", "leave the credential behind", nil, []Fault{to("{signed}", 1), refused}},
		{"F12b", "HEAD of a blob is sent on to the storage host, which refuses HEAD", "HEAD at the registry alone", []string{"containerd/stargz-snapshotter#167"},
			[]Fault{head, {Role: RoleCDN, Method: http.MethodHead, Status: 403, Times: always}}},
		{"F12c", "the signed URL expires in the middle of a download", "ask for another and go on by Range", []string{"edgelesssys/contrast#516"}, []Fault{
			{Route: RouteSigned, ResponseBytes: early, Break: true, Set: "expired"},
			{Route: RouteSigned, If: "expired", Action: ActionExpireSignedURLs},
		}},
		{"F12d", "Location is relative", "resolve it", nil, []Fault{to("{path}?again=1", 1)}},
		{"F12d.loop", "Location leads back, for ever", "give up after some hops", nil, []Fault{to("{url}", always)}},
		{"F12d.http", "Location leads from https to http", "refuse", nil, []Fault{to("http://"+CDNHost+"/ghcr1/blobs/{ref}", always)}},
		{"F13", "a download is cut off, and then Range is ignored", "begin at the first byte again, and check the digest", nil,
			[]Fault{cut, {Route: RouteSigned, FromByte: 1, IgnoreRange: true, Times: always}}},
		{"F13.range", "a download is cut off, and then Content-Range is wrong", "not take it for what was asked", nil,
			[]Fault{cut, {Route: RouteSigned, FromByte: 1, Header: header("Content-Range", "bytes 0-9/*")}}},
		{"F13.416", "a download is cut off, and then 416", "begin at the first byte again, or fail with a typed error", nil,
			[]Fault{cut, {Route: RouteSigned, FromByte: 1, Status: 416}}},
	}
}

// listFaults are those of lists: of tags, of versions, of referrers.
func listFaults() []Entry {
	referrers := Fault{Route: RouteReferrers, Times: always}
	elsewhere := referrers
	elsewhere.Status, elsewhere.Header = 303, header("Location", "{web}/-/v2/packages/container/package/{repo}")
	web := Fault{Role: RoleWeb, Times: always}
	busy := webPage(web, 429)
	paged := Fault{Route: RouteTags, AsQuery: "n=2", Times: always}
	with := func(f Fault, change func(*Fault)) Fault { change(&f); return f }
	const (
		mustFallBack = "go by the tag sha256-<hex>, and follow nothing"
		mustFollow   = "follow Link, and not ask the same page twice"
		mustDedupe   = "each name once, in no order that is relied on"
	)
	hub, cd, renovate := []string{"artifacthub/hub#4785"}, []string{"argoproj-labs/argocd-image-updater#1660"}, []string{"renovatebot/renovate#36103"}
	return []Entry{
		{"F14", "the referrers API is not there: 404", mustFallBack, hub, []Fault{registryError(referrers, 404, "NOT_FOUND", "page not found")}},
		{"F14.redirect", "the referrers API is a 303 to a web page", mustFallBack, hub, []Fault{elsewhere, webPage(web, 200)}},
		{"F14.html", "the referrers API answers 200 with a web page", mustFallBack, hub, []Fault{webPage(referrers, 200)}},
		{"F14.limit", "the referrers API is a 303 to a web page that is limited", mustFallBack, hub, []Fault{elsewhere, busy}},
		{"F15a", "pages of tags are shorter than was asked", mustFollow, cd, []Fault{paged}},
		{"F15a.default", "n is not looked at, and Link says n=0", mustFollow, cd, []Fault{with(paged, func(f *Fault) { f.AsQuery = "n=" })}},
		{"F15a.missing", "Link is missing although there is more", "ask for more after a full page", cd, []Fault{{Route: RouteTags, Header: http.Header{"Link": nil}}}},
		{"F15a.loop", "Link leads back to the same page", "ask no page twice, and say that the list may not be complete", cd, []Fault{with(paged, func(f *Fault) { f.Header = header("Link", `<{url}>; rel="next"`) })}},
		{"F15a.api", "pages of versions are shorter than was asked", mustFollow, cd, []Fault{{Route: RouteVersions, AsQuery: "per_page=2", Times: always}}},
		{"F15b", "tags come while pages are read", mustDedupe, renovate, []Fault{with(paged, func(f *Fault) { f.Action, f.Times = ActionAddVersion, 2 }), paged}},
		{"F15b.deleted", "tags go while pages are read", mustDedupe, renovate,
			[]Fault{with(paged, func(f *Fault) { f.Action, f.Times, f.After = ActionDeleteVersion, 1, 1 }), paged}},
		{"F15b.api", "versions come while pages are read", mustDedupe, renovate, []Fault{{Route: RouteVersions, Action: ActionAddVersion}}},
	}
}

// packageFaults are those of the Packages API.
func packageFaults() []Entry {
	remove := Fault{Route: RouteVersion, Method: http.MethodDelete}
	later := remove
	later.After, later.Status = 1, 502
	forever := later
	forever.Times = always
	cleanup := []string{"dataaxiom/ghcr-cleanup-action#74"}
	const mustGoOn = "a typed error for that one, and go on with the rest"
	return []Entry{
		{"F16a", "lists show a change half a minute late", "look again", cleanup, []Fault{{Role: RoleAPI, Stale: oneMinute / 2}}},
		{"F16a.masked", "404 of a deletion that is not permitted", "tell it from a version that is gone", cleanup, []Fault{apiError(remove, 404, "Package not found.")}},
		{"F16a.304", "304 to who has nothing to compare", "not take it for an empty list", cleanup, []Fault{{Route: RouteVersions, Status: 304}}},
		{"F16b", "400: the last tagged version cannot be deleted", mustGoOn, []string{"kairos-io/kairos#4723"},
			[]Fault{apiError(remove, 400, "You cannot delete the last tagged version of a package. You must delete the package instead.")}},
		{"F16b.downloads", "400: a version with more than 5000 downloads cannot be deleted", mustGoOn, []string{"Chizkiyahu/delete-untagged-ghcr-action#40"},
			[]Fault{apiError(remove, 400, "Publicly visible package versions with more than 5000 downloads cannot be deleted. Contact GitHub support for further assistance.")}},
		{"F16b.conflict", "400: what is to be restored is there anew", mustGoOn, []string{"kairos-io/kairos#4723"},
			[]Fault{apiError(Fault{Route: RouteVersionRestore}, 400, "The name is used by another package or version. Delete that one first.")}},
		{"F16c", "502 in the middle of deleting many", "find out what became of it, and go on", cleanup, []Fault{later}},
		{"F16c.forever", "502 from the middle of deleting many on", "a result that says what was done, from which the next run goes on", cleanup, []Fault{forever}},
	}
}
