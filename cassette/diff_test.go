package cassette_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func open(t *testing.T, dir string) *cassette.Cassette {
	t.Helper()
	c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestDiff: what servers make up makes no difference, and everything else does.
func TestDiff(t *testing.T) {
	type exchange struct{ method, url, body, answer string }
	make := func(port string, list ...exchange) *cassette.Cassette {
		n := 0
		server := roundTripper(func(req *http.Request) (*http.Response, error) {
			a := answer{status: 200, header: http.Header{"Date": {fmt.Sprint("now ", port)}, "Location": {"http://127.0.0.1:" + port + "/next"}}, body: list[n].answer}
			if strings.HasPrefix(a.body, "404") {
				a.status = 404
			}
			n++
			return (&script{answers: []answer{a}}).RoundTrip(req)
		})
		return open(t, record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
			for _, x := range list {
				ask(t, rt, x.method, "http://127.0.0.1:"+port+x.url, x.body)
			}
		}))
	}
	a := exchange{"GET", "/user", "", `{"id":1,"at":"2026-01-01T00:00:00Z","list":[1,2],"url":"http://127.0.0.1:1111/x"}`}
	b := exchange{"PUT", "/b", "sent", "stored"}
	for name, test := range map[string]struct {
		then, now []exchange
		want      []string
	}{
		"the same":         {[]exchange{a, b}, []exchange{a, b}, nil},
		"in another order": {[]exchange{a, b}, []exchange{b, a}, nil},
		"another time":     {[]exchange{a}, []exchange{{"GET", "/user", "", `{"at":"2027-02-03T00:00:00Z","id":1,"list":[1,2],"url":"http://127.0.0.1:2222/x"}`}}, nil},
		"a field":          {[]exchange{a}, []exchange{{"GET", "/user", "", `{"id":2,"at":"2026-01-01T00:00:00Z","list":[1,3],"more":"x","url":"http://127.0.0.1:1111/x"}`}}, []string{"~/user body.id: 1 2 body.list[1]: 2 3 body.more: null \"x\""}},
		"the status":       {[]exchange{a}, []exchange{{"GET", "/user", "", "404"}}, []string{"~/user status: 200 404 body: "}},
		"what was sent":    {[]exchange{b}, []exchange{{"PUT", "/b", "other", "stored"}}, []string{"~/b request's body: "}},
		"one more":         {[]exchange{a}, []exchange{a, a, b}, []string{"+/user", "+/b"}},
		"one less":         {[]exchange{b, a, b}, []exchange{b}, []string{"-/user", "-/b"}},
	} {
		changes, err := cassette.Diff(make("1111", test.then...), make("2222", test.now...))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range changes {
			switch {
			case c.A == nil:
				got = append(got, "+"+c.B.Request.Path)
			case c.B == nil:
				got = append(got, "-"+c.A.Request.Path)
			default:
				text := "~" + c.A.Request.Path
				for _, d := range c.Differences {
					if strings.HasSuffix(d.Field, "body") {
						text += " " + d.Field + ": "
						continue
					}
					text += fmt.Sprintf(" %s: %s %s", d.Field, d.Recorded, d.Live)
				}
				got = append(got, text)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestDiffOfPushes: two recordings of one parallel push are the same, whatever came
// first, and however the client was logged in.
func TestDiffOfPushes(t *testing.T) {
	src := layout(t, image(5, 10))
	quirks := ghcrtest.GHCR()
	quirks.DirectBearer = false
	var tapes []*cassette.Cassette
	for _, jobs := range []int{1, 8} {
		tapes = append(tapes, open(t, record(t, cassette.Options{}, emulator(t, &quirks).Transport(), func(rt http.RoundTripper) {
			copyImage(t, rt, src, "acme/app:v1", transfer.Options{Jobs: jobs})
		})))
	}
	changes, err := cassette.Diff(tapes[0], tapes[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		t.Errorf("%+v", c)
	}
}

// TestContents: what was read whole is there with its tags, and what was not is known.
func TestContents(t *testing.T) {
	img := image(7, 3)
	src := layout(t, img)
	server := emulator(t, nil)
	copyImage(t, server.Transport(), src, "acme/app:v1", transfer.Options{})
	copyImage(t, server.Transport(), src, "acme/app:v2", transfer.Options{})
	back := t.TempDir()
	dir := record(t, cassette.Options{}, server.Transport(), func(rt http.RoundTripper) {
		copyImage(t, rt, "acme/app:v1", "oci:"+back+":v1", transfer.Options{})
		copyImage(t, rt, "acme/app:v2", "oci:"+back+":v2", transfer.Options{})
		copyImage(t, rt, src, "acme/new:v1", transfer.Options{})
	})
	c := open(t, dir)
	repos := map[string]int{}
	for _, content := range c.Contents() {
		repos[content.Repository]++
		if content.Manifest && content.Repository == "acme/app" && (content.Digest != img.Digest() || !slices.Equal(content.Tags, []string{"v1", "v2"}) || content.MediaType == "") {
			t.Errorf("got %+v", content)
		}
		if content.Body == nil {
			t.Errorf("%s: it was read, and is not there", content.Digest)
			continue
		}
		r, err := c.OpenBody(content.Body)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil || digestOf(string(data)) != content.Digest.String() {
			t.Errorf("%s: %v", content.Digest, err)
		}
	}
	if repos["acme/app"] != 5 || repos["acme/new"] != 5 {
		t.Errorf("got %v", repos)
	}
	pushed := open(t, record(t, cassette.Options{}, server.Transport(), func(rt http.RoundTripper) {
		copyImage(t, rt, layout(t, image(8, 1)), "acme/only:v1", transfer.Options{})
	}))
	list := pushed.Contents()
	if len(list) != 3 {
		t.Errorf("of a push: %+v", list)
	}
	for _, content := range list {
		if content.Body != nil {
			t.Errorf("what was sent is not kept: %+v", content)
		}
	}
}
