package cassette_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/cassette"
)

// TestLooksGoByTheClock: a program that looks again while it deletes, every minute say,
// looks less often in a replay, and finds what was there after as many deletions. One
// that does not look at all is another program.
func TestLooksGoByTheClock(t *testing.T) {
	const version = "https://api.github.com/orgs/acme/packages/container/app/versions/"
	script := &script{answers: []answer{
		{status: 200, body: "a b c"}, {status: 204}, {status: 200, body: "b c"}, {status: 204}, {status: 200, body: "c"}, {status: 204}, {status: 200, body: "none"},
	}}
	dir := record(t, cassette.Options{}, script, func(rt http.RoundTripper) {
		ask(t, rt, "GET", tagsURL, "")
		for _, id := range []string{"1", "2", "3"} {
			ask(t, rt, "DELETE", version+id, "")
			ask(t, rt, "GET", tagsURL, "")
		}
	})
	for name, test := range map[string]struct {
		looks  map[int]string // by the number of deletions before
		unused bool
	}{
		"as often":    {map[int]string{0: "a b c", 1: "b c", 2: "c", 3: "none"}, false},
		"less often":  {map[int]string{0: "a b c", 3: "none"}, false},
		"between":     {map[int]string{1: "b c"}, false},
		"in between":  {map[int]string{0: "a b c", 2: "c", 3: "none"}, false},
		"not at all":  {nil, true},
		"at the last": {map[int]string{3: "none"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := cassette.Open(dir, cassette.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for n := range 4 {
				if n > 0 {
					ask(t, c, "DELETE", version+string(rune('0'+n)), "")
				}
				if want, looks := test.looks[n]; looks {
					if got := ask(t, c, "GET", tagsURL, ""); got != "200 "+want {
						t.Errorf("after %d deletions: %s, want %s", n, got, want)
					}
				}
			}
			var unused *cassette.UnusedError
			if err := c.Close(); errors.As(err, &unused) != test.unused {
				t.Errorf("closed with %v", err)
			}
		})
	}
}

// TestRefusalOfWhoeverComesFirst: of two requests that go out at once, chance has it which
// one is told that it needs a token. The other then has one, in the recording or in the
// replay.
func TestRefusalOfWhoeverComesFirst(t *testing.T) {
	blob := host + "/v2/acme/app/blobs/" + digestOf("x")
	first := func(a *asker, method, u string) {
		if got, err := tryAsk(a.t, a.rt, method, u, ""); err != nil || got != "401 " {
			a.t.Errorf("%s without a token: %s, %v", method, got, err)
		}
	}
	then := func(a *asker, method, u string) {
		if got, err := tryAsk(a.t, a.rt, method, u, "", "Authorization", "Bearer "+a.token); err != nil || !strings.HasPrefix(got, "200 ") {
			a.t.Errorf("%s with a token: %s, %v", method, got, err)
		}
	}
	const pull = "repository:acme/app:pull"
	orders := []func(*asker){
		func(a *asker) { first(a, "HEAD", blob); a.login(pull); then(a, "HEAD", blob); then(a, "GET", aTags) },
		func(a *asker) { first(a, "GET", aTags); a.login(pull); then(a, "HEAD", blob); then(a, "GET", aTags) },
		func(a *asker) {
			first(a, "HEAD", blob)
			first(a, "GET", aTags)
			a.login(pull)
			then(a, "HEAD", blob)
			then(a, "GET", aTags)
		},
	}
	for _, recorded := range orders {
		dir := record(t, cassette.Options{}, loginServer(), func(rt http.RoundTripper) { recorded(&asker{t: t, rt: rt}) })
		for _, replayed := range orders {
			replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { replayed(&asker{t: t, rt: rt}) })
		}
	}
}

// TestGivenUpByChance: where one of several requests fails, the program gives the others
// up, and whether these went out before is chance.
func TestGivenUpByChance(t *testing.T) {
	const other = host + "/v2/acme/app/tags/list?n=2"
	given := func(t *testing.T, rt http.RoundTripper, url string) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		_, err := rt.RoundTrip(req)
		return err
	}
	silence := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.RawQuery != "" {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return (&script{answers: []answer{{status: 404}}}).RoundTrip(req)
	})
	for name, sent := range map[string]bool{"recorded": true, "not recorded": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := record(t, cassette.Options{}, silence, func(rt http.RoundTripper) {
					if sent {
						given(t, rt, other)
					}
					ask(t, rt, "GET", tagsURL, "")
				})
				replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { ask(t, rt, "GET", tagsURL, "") })
				replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
					if err := given(t, rt, other); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v", err)
					}
					ask(t, rt, "GET", tagsURL, "")
				})
				if sent {
					return
				}
				c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tryAsk(t, c, "GET", other, ""); !errors.Is(err, cassette.ErrNotRecorded) {
					t.Errorf("got %v, which the program waits for", err)
				}
				if err := c.Close(); !errors.Is(err, cassette.ErrNotRecorded) {
					t.Errorf("closed with %v", err)
				}
			})
		})
	}
}

// TestMissAtOnce: where nothing failed, a miss is told without a pause.
func TestMissAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200}}}, func(rt http.RoundTripper) { ask(t, rt, "GET", tagsURL, "") })
		c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := tryAsk(t, c, "GET", tagsURL+"?n=2", ""); !errors.Is(err, cassette.ErrNotRecorded) || time.Since(began) > 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		c.Close()
	})
}

// TestSignaturesInTexts: a list that brings URLs which are a permission, as GitHub's of
// attestations does, is kept without the signatures, and what the URLs lead to is replayed.
func TestSignaturesInTexts(t *testing.T) {
	const signature = "d92db54474621c244d3c9ffca9e016d66614e4019239c4db"
	list := "https://api.github.com/orgs/acme/attestations/" + digestOf("x") + "?per_page=100"
	for name, and := range map[string]string{"plain": "&", "escaped": `\u0026`} {
		t.Run(name, func(t *testing.T) {
			body := `{"bundle_url":"https://cdn.example.com/5001.json.sn?se=2000-01-01T00%3A05%3A00Z` + and + `sig=` + signature + and + `sp=r","page":"https://github.com/acme?tab=packages` + and + `x=1","at":"2000-01-01T00:05:00Z"}`
			bring := func(rt http.RoundTripper) string {
				text := ask(t, rt, "GET", list, "")
				_, rest, _ := strings.Cut(text, `"bundle_url":"`)
				u, rest, _ := strings.Cut(rest, `"`)
				if got := ask(t, rt, "GET", strings.ReplaceAll(u, `\u0026`, "&"), ""); got != "200 bundle" {
					t.Error(got)
				}
				return rest
			}
			var recorded string
			dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: body}, {status: 200, body: "bundle"}}}, func(rt http.RoundTripper) { recorded = bring(rt) })
			replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
				if got := bring(rt); got != recorded {
					t.Errorf("got %s, recorded %s", got, recorded)
				}
			})
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				if strings.Contains(string(data), signature) {
					t.Errorf("%s has the signature", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
