package ghcrtest_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// quirkTest shows a switch at work: named after it, so that none is without.
type quirkTest struct {
	set   func(q *ghcrtest.Quirks) // the other value than GHCR's
	ghcr  func(w *wire)            // what GHCR does
	other func(w *wire)            // what is done with the other value
}

func TestQuirk(t *testing.T) {
	quirkTests := maps.Clone(loginQuirks)
	maps.Copy(quirkTests, uploadQuirks)
	maps.Copy(quirkTests, manifestQuirks)
	maps.Copy(quirkTests, restQuirks)
	maps.Copy(quirkTests, limitQuirks)
	maps.Copy(quirkTests, attestationQuirks)
	maps.Copy(quirkTests, scanningQuirks)
	maps.Copy(quirkTests, advisoryQuirks)
	maps.Copy(quirkTests, dependencyQuirks)
	for i := range reflect.TypeFor[ghcrtest.Quirks]().NumField() {
		name := reflect.TypeFor[ghcrtest.Quirks]().Field(i).Name
		test, ok := quirkTests[name]
		if !ok {
			t.Errorf("the quirk %s has no test", name)
			continue
		}
		t.Run(name, func(t *testing.T) { withQuirks(t, nil, test.ghcr) })
		t.Run(name+", other value", func(t *testing.T) { withQuirks(t, test.set, test.other) })
	}
}

var loginQuirks = map[string]quirkTest{
	"PingPlaceholderScope": {
		set: func(q *ghcrtest.Quirks) { q.PingPlaceholderScope = false },
		ghcr: func(w *wire) {
			w.challenge(w.as("").do("GET", "/v2/", ""), `scope="repository:user/image:pull"`)
		},
		other: func(w *wire) { w.challenge(w.as("").do("GET", "/v2/", ""), `service="ghcr.io"`) },
	},
	"PingAcceptsAnyBearer": {
		set:   func(q *ghcrtest.Quirks) { q.PingAcceptsAnyBearer = false },
		ghcr:  func(w *wire) { w.want(w.as("Zm9v").do("GET", "/v2/", ""), 200) },
		other: func(w *wire) { w.want(w.as("Zm9v").do("GET", "/v2/", ""), 403) },
	},
	"DeniedWithoutChallenge": {
		set: func(q *ghcrtest.Quirks) { q.DeniedWithoutChallenge = false },
		ghcr: func(w *wire) {
			a := w.as("Zm9v").do("GET", "/v2/acme/app/tags/list", "")
			w.want(a, 403, "DENIED", "invalid token")
			if a.header.Get("WWW-Authenticate") != "" {
				w.t.Error("it has a challenge")
			}
		},
		other: func(w *wire) {
			w.challenge(w.as("Zm9v").do("GET", "/v2/acme/app/tags/list", ""), "repository:acme/app:pull")
		},
	},
	"RawBearerStatus": {
		set:   func(q *ghcrtest.Quirks) { q.RawBearerStatus = 401 },
		ghcr:  func(w *wire) { w.want(w.as("ghp_owner").do("GET", "/v2/acme/app/tags/list", ""), 403, "DENIED") },
		other: func(w *wire) { w.want(w.as("ghp_owner").do("GET", "/v2/acme/app/tags/list", ""), 401) },
	},
	"DirectBearer": {
		set:   func(q *ghcrtest.Quirks) { q.DirectBearer = false },
		ghcr:  func(w *wire) { w.image(); w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 200, "v1") },
		other: func(w *wire) { w.image(); w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 403) },
	},
	"DirectBearerWrites": {
		set:   func(q *ghcrtest.Quirks) { q.DirectBearerWrites = false },
		ghcr:  func(w *wire) { w.session() },
		other: func(w *wire) { w.want(w.do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "DENIED") },
	},
	"AnonymousBearer": {
		set: func(q *ghcrtest.Quirks) { q.AnonymousBearer = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 200)
		},
		other: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("QQ==").do("GET", "/v2/acme/app/manifests/v1", ""), 403)
		},
	},
	"TokenMinimal": {
		set: func(q *ghcrtest.Quirks) { q.TokenMinimal = false },
		ghcr: func(w *wire) {
			if got := w.token("ghp_owner", "repository:acme/app:pull"); len(got) != 1 || got["token"] == nil {
				w.t.Errorf("got %v, want a token and nothing else", got)
			}
		},
		other: func(w *wire) {
			if got := w.token("ghp_owner", "repository:acme/app:pull"); got["expires_in"] == nil || got["access_token"] == nil {
				w.t.Errorf("got %v", got)
			}
		},
	},
	"TokenFormatV1": {
		set: func(q *ghcrtest.Quirks) { q.TokenFormatV1 = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			raw, _ := base64.StdEncoding.DecodeString(fmt.Sprint(w.token("", "repository:acme/app:pull")["token"]))
			if !strings.HasPrefix(string(raw), "v1:acme/app:") {
				w.t.Errorf("got %q", raw)
			}
		},
		other: func(w *wire) {
			w.image()
			w.public()
			raw, _ := base64.StdEncoding.DecodeString(fmt.Sprint(w.token("", "repository:acme/app:pull")["token"]))
			if strings.HasPrefix(string(raw), "v1:") {
				w.t.Errorf("got %q", raw)
			}
		},
	},
	"TokenPrivateStatus": {
		set:  func(q *ghcrtest.Quirks) { q.TokenPrivateStatus = 403 },
		ghcr: func(w *wire) { w.image(); w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", ""), 401) },
		other: func(w *wire) {
			w.image()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", ""), 403, "DENIED")
		},
	},
	"TokenMissingStatus": {
		set: func(q *ghcrtest.Quirks) { q.TokenMissingStatus = 401 },
		ghcr: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:no/such:pull", ""), 403, "requested access to the resource is denied")
		},
		other: func(w *wire) { w.want(w.as("").do("GET", "/token?scope=repository:no/such:pull", ""), 401) },
	},
	"TokenNoAnonFallback": {
		set: func(q *ghcrtest.Quirks) { q.TokenNoAnonFallback = false },
		ghcr: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("u:expired")), 403, "denied")
		},
		other: func(w *wire) {
			w.image()
			w.public()
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("u:expired")), 200)
		},
	},
	"TokenUserIgnored": {
		set: func(q *ghcrtest.Quirks) { q.TokenUserIgnored = false },
		ghcr: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("whoever:ghp_owner")), 200)
		},
		other: func(w *wire) {
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("whoever:ghp_owner")), 403)
			w.want(w.as("").do("GET", "/token?scope=repository:acme/app:pull", "", "Authorization", "Basic "+encoded("owner:ghp_owner")), 200)
		},
	},
	"TokenPostStatus": {
		set:   func(q *ghcrtest.Quirks) { q.TokenPostStatus = 404 },
		ghcr:  func(w *wire) { w.want(w.as("").do("POST", "/token", "grant_type=password"), 405, "UNSUPPORTED") },
		other: func(w *wire) { w.want(w.as("").do("POST", "/token", "grant_type=password"), 404) },
	},
	"TokenMultiScope": {
		set: func(q *ghcrtest.Quirks) { q.TokenMultiScope = false },
		ghcr: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:other/x:pull", "repository:acme/app:pull")["token"])
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 200)
		},
		other: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:other/x:pull", "repository:acme/app:pull")["token"])
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 403)
		},
	},
	"TokenTTL": {
		set: func(q *ghcrtest.Quirks) { q.TokenTTL = time.Hour },
		ghcr: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:acme/app:pull")["token"])
			time.Sleep(6 * time.Minute)
			w.challenge(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), "acme/app")
		},
		other: func(w *wire) {
			w.image()
			token := fmt.Sprint(w.token("ghp_owner", "repository:acme/app:pull")["token"])
			time.Sleep(6 * time.Minute)
			w.want(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), 200)
		},
	},
	"LateWriteDenial": {
		set: func(q *ghcrtest.Quirks) { q.LateWriteDenial = false },
		ghcr: func(w *wire) {
			token := fmt.Sprint(w.token("ghp_reader", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "permission_denied: The token provided does not match expected scopes.")
			token = fmt.Sprint(w.token("ghp_stranger", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "permission_denied: write_package")
		},
		other: func(w *wire) {
			token := fmt.Sprint(w.token("ghp_stranger", "repository:acme/app:pull,push")["token"])
			w.want(w.as(token).do("POST", "/v2/acme/app/blobs/uploads/", ""), 403, "requested access")
		},
	},
	"DenialTexts": {
		set: func(q *ghcrtest.Quirks) { q.DenialTexts = false },
		ghcr: func(w *wire) {
			app, reader := w.as(encoded("ghs_stranger")), w.as(encoded("ghp_reader"))
			w.want(app.start(), 403, "installation not allowed to Create organization package")
			w.want(reader.start(), 403, "permission_denied: The token provided does not match expected scopes.")
			w.image()
			w.want(app.start(), 403, "installation not allowed to Write organization package")
			w.want(w.as(encoded("ghp_stranger")).start(), 403, "permission_denied: write_package")
		},
		other: func(w *wire) {
			w.want(w.as(encoded("ghs_stranger")).start(), 403, "requested access to the resource is denied")
		},
	},
	"LowercaseOnly": {
		set: func(q *ghcrtest.Quirks) { q.LowercaseOnly = false },
		ghcr: func(w *wire) {
			w.image()
			w.want(w.do("GET", "/v2/Acme/App/manifests/v1", ""), 400, "NAME_INVALID")
		},
		other: func(w *wire) { w.image(); w.want(w.do("GET", "/v2/Acme/App/manifests/v1", ""), 200) },
	},
}
