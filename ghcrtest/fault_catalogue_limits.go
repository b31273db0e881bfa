package ghcrtest

import (
	"net/http"
	"time"
)

const (
	oneMinute = time.Minute
	oneHour   = time.Hour
)

const rateLimitDocs = "https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api"

// limitFaults are refusals for the time being, and failures that pass.
func limitFaults() []Entry {
	limited := func(h http.Header) []Fault {
		return []Fault{registryError(Fault{Role: RoleRegistry, Header: h}, 429, "TOOMANYREQUESTS", "retry-after: 6.565868ms, allowed: 2000/minute")}
	}
	primary := func(status int) []Fault {
		return []Fault{apiError(Fault{Role: RoleAPI, Header: header(
			"X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Used", "5000", "X-RateLimit-Reset", "{unix+60s}", "X-RateLimit-Resource", "core",
		)}, status, "API rate limit exceeded.")}
	}
	secondary := func(status int, h http.Header) []Fault {
		return []Fault{apiError(Fault{Role: RoleAPI, Header: h}, status, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")}
	}
	failing := func(status, times int) []Fault { return []Fault{{Status: status, Times: times}} }
	busy := Fault{
		Role: RoleCDN, Status: 503, Header: header("Content-Type", "application/xml"),
		Body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>ServerBusy</Code><Message>Egress is over the account limit.</Message></Error>`,
	}
	resumed := busy
	resumed.FromByte = 1
	const (
		mustLimit   = "wait as it says, to be given up by the context, and have all requests wait with it"
		mustPrimary = "wait until the reset, or fail at once and say when that is"
		mustRetry   = "send again what is idempotent, and stop at a limit"
	)
	limits, github, images := []string{"chainguard-images/images#173"}, []string{rateLimitDocs}, []string{"gardenlinux/gardenlinux#2585"}
	return []Entry{
		{"F1a", "429 of the registry, the time to wait in the body alone", mustLimit, limits, limited(nil)},
		{"F1b", "429 with Retry-After in seconds", mustLimit, []string{"falcosecurity/plugins#1069"}, limited(header("Retry-After", "30"))},
		{"F1b.date", "429 with Retry-After as a date", mustLimit, []string{"falcosecurity/plugins#1069"}, limited(header("Retry-After", "{date+25s}"))},
		{"F2a", "the hour's requests are used up: 403 and when it ends", mustPrimary, github, primary(403)},
		{"F2a.429", "the hour's requests are used up: 429 and when it ends", mustPrimary, github, primary(429)},
		{"F2b", "secondary limit: 403 with Retry-After", "wait as told", github, secondary(403, header("Retry-After", "60"))},
		{"F2b.429", "secondary limit: 429 with Retry-After", "wait as told", github, secondary(429, header("Retry-After", "60"))},
		{"F2b.silent", "secondary limit: 403 that names no time", "wait a minute or more", github, secondary(403, nil)},
		{"F3a", "503 once", mustRetry, images, failing(503, 1)},
		{"F3a.500", "500 once", mustRetry, images, failing(500, 1)},
		{"F3a.502", "502 twice", mustRetry, images, failing(502, 2)},
		{"F3a.504", "504 three times", mustRetry, images, failing(504, 3)},
		{"F3a.forever", "503 for ever", mustRetry, images, failing(503, always)},
		{"F3b", "503 of the storage host, in XML: ServerBusy", "try again", []string{"scaleapi/mcp-atlas#15", "metal3-io/ironic-standalone-operator#561"}, []Fault{busy}},
		{"F3b.range", "a download is cut off, and the storage host is busy when it goes on", "try again from the same byte", []string{"scaleapi/mcp-atlas#15"},
			[]Fault{{Route: RouteSigned, ResponseBytes: early, Break: true}, resumed}},
	}
}

// loginFaults are those of tokens and permissions.
func loginFaults() []Entry {
	const challenge = `Bearer realm="{base}/token",service="ghcr.io"`
	return []Entry{
		{"F11a", "the token expires between two requests of a transfer", "one new login for all that wait for it", []string{"moby/moby#33558"},
			[]Fault{{Role: RoleRegistry, Route: RouteBlob, Action: ActionExpireTokens}}},
		{"F11a.once", "401 for a token that is good", "one new login, and no loop", []string{"moby/moby#33558"},
			[]Fault{registryError(Fault{Role: RoleRegistry, Header: header("WWW-Authenticate", challenge+`,scope="repository:{repo}:pull,push"`)}, 401, "UNAUTHORIZED", "authentication required")}},
		{"F11b", "403 DENIED without a challenge", "one exchange with the scope that is needed, and no loop", []string{"renovatebot/renovate#11446"},
			[]Fault{registryError(Fault{Role: RoleRegistry}, 403, "DENIED", "denied")}},
		{"F11b.forever", "403 DENIED without a challenge, each time", "a typed error after one exchange", []string{"renovatebot/renovate#11446"},
			[]Fault{registryError(Fault{Role: RoleRegistry, Times: always}, 403, "DENIED", "denied")}},
		{"F11b.scope", "the token is for another repository", "see it refused, and ask for the right one again", []string{"renovatebot/renovate#11446"},
			[]Fault{{Role: RoleToken, AsQuery: "scope=repository:other/other:pull"}}},
		{"F11b.placeholder", "the challenge names the scope repository:user/image:pull", "use a scope of its own", []string{"renovatebot/renovate#11446"},
			[]Fault{registryError(Fault{Role: RoleRegistry, Header: header("WWW-Authenticate", challenge+`,scope="repository:user/image:pull"`)}, 401, "UNAUTHORIZED", "authentication required")}},
		{"F11c", "the token service fails, twice", "try again within the limit", nil, []Fault{{Role: RoleToken, Status: 502, Times: 2}}},
		{"F11c.forever", "the token service fails", "a typed error within the limit of attempts", nil, []Fault{{Role: RoleToken, Status: 502, Times: always}}},
	}
}
