package cassette_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// loginServer wants a token of its token service for everything.
func loginServer() http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		s := &script{}
		switch {
		case strings.HasSuffix(req.URL.Path, "/token"):
			s.answers = []answer{{status: 200, body: `{"token":"of ` + strings.Join(req.URL.Query()["scope"], " ") + `"}`}}
		case strings.HasPrefix(req.Header.Get("Authorization"), "Bearer of "):
			s.answers = []answer{{status: 200, body: "for " + req.URL.Path}}
		default:
			s.answers = []answer{{status: 401, header: http.Header{"Www-Authenticate": {`Bearer realm="https://ghcr.io/token",service="ghcr.io"`}}}}
		}
		return s.RoundTrip(req)
	})
}

const (
	aTags = host + "/v2/acme/app/tags/list"
	bTags = host + "/v2/acme/app/referrers/x"
)

// asker logs in step by step.
type asker struct {
	t     *testing.T
	rt    http.RoundTripper
	token string
}

func (a *asker) login(scopes ...string) {
	query := url.Values{"service": {"ghcr.io"}, "scope": scopes}
	text := ask(a.t, a.rt, "GET", host+"/token?"+query.Encode(), "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+"ghp_anything")))
	a.token = strings.TrimSuffix(strings.TrimPrefix(text, `200 {"token":"`), `"}`)
}

func (a *asker) refused(url string) {
	a.t.Helper()
	if got := ask(a.t, a.rt, "GET", url, ""); got != "401 " {
		a.t.Errorf("%s without a token: %s", url, got)
	}
}

func (a *asker) get(u string) {
	a.t.Helper()
	parsed, _ := url.Parse(u)
	if got := ask(a.t, a.rt, "GET", u, "", "Authorization", "Bearer "+a.token); got != "200 for "+parsed.Path {
		a.t.Errorf("%s: %s", u, got)
	}
}

// TestLoginByChance: how often a client is refused before it has a token, and which
// of its tokens it takes, may differ from the recording; what it then asks for may
// not.
func TestLoginByChance(t *testing.T) {
	const pull, other = "repository:acme/app:pull", "repository:acme/base:pull"
	steps := map[string]func(*asker){
		"one after the other": func(a *asker) { a.refused(aTags); a.login(pull); a.get(aTags); a.get(bTags) },
		"both at once":        func(a *asker) { a.refused(aTags); a.refused(bTags); a.login(pull); a.get(aTags); a.get(bTags) },
		"the other first":     func(a *asker) { a.refused(bTags); a.login(pull); a.get(bTags); a.get(aTags) },
		"two tokens":          func(a *asker) { a.refused(aTags); a.login(pull); a.get(aTags); a.login(pull); a.get(bTags) },
		"one wide token":      func(a *asker) { a.refused(aTags); a.login(pull, other); a.get(aTags); a.get(bTags) },
	}
	for recorded, first := range steps {
		dir := record(t, cassette.Options{}, loginServer(), func(rt http.RoundTripper) { first(&asker{t: t, rt: rt}) })
		for replayed, then := range steps {
			if replayed == "one wide token" && recorded != replayed {
				continue // nobody knows what the service would say to that
			}
			t.Run(recorded+", then "+replayed, func(t *testing.T) {
				replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { then(&asker{t: t, rt: rt}) })
			})
		}
		c, err := cassette.Open(dir, cassette.Options{Order: cassette.OrderStrict})
		if err != nil {
			t.Fatal(err)
		}
		first(&asker{t: t, rt: c})
		if err := c.Close(); err != nil {
			t.Errorf("%s, strictly: %v", recorded, err)
		}
	}
	dir := record(t, cassette.Options{}, loginServer(), func(rt http.RoundTripper) { steps["both at once"](&asker{t: t, rt: rt}) })
	for name, do := range map[string]func(*asker){
		"never refused":    func(a *asker) { a.login(pull); a.get(aTags); a.get(bTags) },
		"asks for less":    func(a *asker) { a.refused(aTags); a.login(pull); a.get(aTags) },
		"refused the rest": func(a *asker) { a.refused(aTags); a.refused(bTags) },
	} {
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		do(&asker{t: t, rt: c})
		if unused, ok := errors.AsType[*cassette.UnusedError](c.Close()); !ok || len(unused.Interactions) == 0 {
			t.Errorf("%s: nothing is missed", name)
		}
	}
	c, err := cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{host + "/v2/acme/secret/tags/list", host + "/token?service=ghcr.io&scope=repository:acme/app:pull,push"} {
		if _, err := tryAsk(t, c, "GET", u, "", "Authorization", "Basic eDp5"); !errors.Is(err, cassette.ErrNotRecorded) {
			t.Errorf("%s: got %v", u, err)
		}
	}
	c.Close()
}

// TestReplaysParallelLogins: a copy whose requests meet refusals, get tokens, and
// mount from elsewhere with wider ones is replayed at any concurrency.
func TestReplaysParallelLogins(t *testing.T) {
	t.Parallel()
	src := layout(t, image(3, 12))
	quirks := ghcrtest.GHCR()
	quirks.DirectBearer = false
	dir := t.TempDir()
	do := func(t *testing.T, jobs int) func(http.RoundTripper) {
		return func(rt http.RoundTripper) {
			copyImage(t, rt, src, "acme/app:v1", transfer.Options{Jobs: jobs})
			copyImage(t, rt, "acme/app:v1", "acme/prod:v1", transfer.Options{Jobs: jobs})
		}
	}
	times := 300
	if testing.Short() || raceEnabled {
		times = 30
	}
	for _, recorded := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			recordTo(t, dir, cassette.Options{}, emulator(t, &quirks).Transport(), do(t, recorded))
		})
		for i := range times {
			synctest.Test(t, func(t *testing.T) {
				replay(t, cassette.Options{}, dir, do(t, []int{1, 3, 12}[i%3]))
			})
			if t.Failed() {
				return
			}
		}
	}
}

// TestStandIn: a client with the login that the cassette makes up does what the
// recorded one did, and the login shows only the kind of the token.
func TestStandIn(t *testing.T) {
	t.Parallel()
	for token, prefix := range map[string]string{ghcrtest.Token: "ghp_", "github_pat_11ABCDEFG0123456789": "github_pat_", "ghs_0123456789abcdef": "ghs_", "of no kind": "cassette"} {
		dir := record(t, cassette.Options{}, loginServer(), func(rt http.RoundTripper) { tags(t, rt, "me", token) })
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		user, password := c.StandIn("ghcr.io")
		if !strings.HasPrefix(password, prefix) || strings.Contains(password, token) {
			t.Errorf("%s: got %s", prefix, password)
		}
		tags(t, c, user, password)
		if err := c.Close(); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
		if _, other := c.StandIn("registry.example.com"); other != "" {
			t.Error("a login for a host that was not spoken to")
		}
	}
	dir := record(t, cassette.Options{}, loginServer(), func(rt http.RoundTripper) { tags(t, rt, "", "") })
	replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
		if _, password := rt.(*cassette.Cassette).StandIn("ghcr.io"); password != "" {
			t.Errorf("a login where nobody was logged in: %s", password)
		}
		tags(t, rt, "", "")
	})
}

// tags lists tags with our client, which will not like what it gets.
func tags(t *testing.T, rt http.RoundTripper, user, password string) {
	c, err := ghcr.New(ghcr.Options{Base: rt, Credentials: transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
		return transport.Credential{Username: user, Password: transport.NewSecret(password)}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := c.ParseRef("acme/app")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := c.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.TagNames(t.Context()); err != nil && errors.Is(err, cassette.ErrNotRecorded) {
		t.Error(err)
	}
}

// TestSeed: a program that makes things up makes up the same at a replay.
func TestSeed(t *testing.T) {
	var seeds [][32]byte
	note := func(rt http.RoundTripper) {
		seeds = append(seeds, rt.(*cassette.Cassette).Seed())
		ask(t, rt, "GET", host+"/a", "")
	}
	for range 2 {
		dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200}}}, note)
		replay(t, cassette.Options{}, dir, note)
	}
	if seeds[0] != seeds[1] || seeds[2] != seeds[3] || seeds[0] == seeds[2] || slices.Contains(seeds, [32]byte{}) {
		t.Errorf("got %x", seeds)
	}
}

// TestMissIsPermanent: nobody tries again what a cassette does not have.
func TestMissIsPermanent(t *testing.T) {
	dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", host+"/a", "") })
	c, err := cassette.Open(dir, cassette.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tryAsk(t, c, "GET", host+"/b", "")
	if !transport.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
	if closed := c.Close(); !errors.Is(closed, cassette.ErrNotRecorded) {
		t.Errorf("closed with %v", closed)
	}
}
