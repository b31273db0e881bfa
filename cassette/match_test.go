package cassette_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// script is a server that answers each request with the next of its answers.
type script struct {
	mu      sync.Mutex
	answers []answer
	asked   []string
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error
	// bodyErr ends the body in place of its end.
	bodyErr error
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req.Method+" "+req.URL.Path)
	if len(s.answers) == 0 {
		return nil, errors.New("the script is at its end")
	}
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if a.err != nil {
		return nil, a.err
	}
	h := a.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	body := io.Reader(strings.NewReader(a.body))
	length := int64(len(a.body))
	if a.bodyErr != nil {
		body = io.MultiReader(body, failing{a.bodyErr})
		length += 1000
	}
	if req.Method == http.MethodHead {
		body, length = http.NoBody, -1
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		ContentLength: length, Body: io.NopCloser(body), Request: req,
	}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// ask sends a request and returns what came back, in a word.
func ask(t testing.TB, rt http.RoundTripper, method, url, body string, header ...string) string {
	t.Helper()
	text, err := tryAsk(t, rt, method, url, body, header...)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
	}
	return text
}

func tryAsk(t testing.TB, rt http.RoundTripper, method, url, body string, header ...string) (string, error) {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, text), err
}

const host = "https://ghcr.io"

func digestOf(s string) string { return digest.FromString(s).String() }

// TestReplaysParallelPushAtAnyConcurrency: forty layers recorded at one
// concurrency are replayed at others.
func TestReplaysParallelPushAtAnyConcurrency(t *testing.T) {
	t.Parallel()
	img := image(1, 40)
	src := layout(t, img)
	push := func(t *testing.T, jobs int) func(http.RoundTripper) {
		return func(rt http.RoundTripper) { copyImage(t, rt, src, "acme/app:v1", transfer.Options{Jobs: jobs}) }
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		recordTo(t, dir, cassette.Options{}, emulator(t, nil).Transport(), push(t, 6))
	})
	times := 1000
	if testing.Short() || raceEnabled {
		times = 60
	}
	for i := range times {
		synctest.Test(t, func(t *testing.T) {
			replay(t, cassette.Options{}, dir, push(t, []int{1, 3, 40}[i%3]))
		})
		if t.Failed() {
			break
		}
	}
}

// uploads sends contents in sessions that all begin alike: with the same POST and
// the same first chunk.
func uploads(t testing.TB, rt http.RoundTripper, contents []string, jobs int) {
	limit := make(chan bool, jobs)
	var wg sync.WaitGroup
	for _, content := range contents {
		wg.Go(func() {
			limit <- true
			defer func() { <-limit }()
			send := func(method, url, body string, header ...string) *http.Response {
				req, _ := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
				req.Header.Set("Authorization", "Bearer "+directToken)
				for i := 0; i < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Errorf("%s %s: %v", method, url, err)
					return nil
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return resp
			}
			resp := send("POST", host+"/v2/acme/app/blobs/uploads/", "")
			if resp == nil {
				return
			}
			session := host + resp.Header.Get("Location")
			half := len(content) / 2
			for at := 0; at < len(content); at += half {
				if send("PATCH", session, content[at:at+half], "Content-Range", fmt.Sprintf("%d-%d", at, at+half-1)) == nil {
					return
				}
			}
			if resp := send("PUT", session+"?digest="+digestOf(content), ""); resp != nil && resp.StatusCode != 201 {
				t.Errorf("commit: %s", resp.Status)
			}
		})
	}
	wg.Wait()
}

// directToken is what GHCR takes as it is: the GitHub token in base64.
const directToken = "Z2hwX3NpbXVsYXRlZA=="

// TestLazySessionBinding: which of several sessions that began alike a live one is
// shows only when they part.
func TestLazySessionBinding(t *testing.T) {
	var contents []string
	for i := range 20 {
		contents = append(contents, strings.Repeat("the same beginning ", 5)+fmt.Sprintf("and another end %9d, so long that halves meet here%s", i, strings.Repeat(".", 29)))
	}
	synctest.Test(t, func(t *testing.T) {
		dir := record(t, cassette.Options{}, emulator(t, nil).Transport(), func(rt http.RoundTripper) { uploads(t, rt, contents, 20) })
		for _, jobs := range []int{1, 2, 20} {
			for range 20 {
				replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { uploads(t, rt, contents, jobs) })
			}
		}
		// The bytes that are sent are part of what is asked.
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Repeat("x", 100)
		resp, err := tryAsk(t, c, "POST", host+"/v2/acme/app/blobs/uploads/", "", "Authorization", "Bearer "+directToken)
		if err != nil || !strings.HasPrefix(resp, "202") {
			t.Fatal(resp, err)
		}
		_, err = tryAsk(t, c, "PATCH", host+"/v2/acme/app/blobs/upload/cassette-upload-1", other, "Authorization", "Bearer "+directToken, "Content-Range", "0-99")
		if !errors.Is(err, cassette.ErrNotRecorded) {
			t.Errorf("other content: got %v", err)
		}
	})
}

// TestOrderUnderConcurrency: what changes by a write is told apart by the write,
// not by who comes first.
func TestOrderUnderConcurrency(t *testing.T) {
	blob := "some content"
	url := host + "/v2/acme/app/blobs/" + digestOf(blob)
	server := &script{answers: []answer{
		{status: 404}, {status: 404}, {status: 202, header: http.Header{"Location": {"/v2/acme/app/blobs/upload/1"}}}, {status: 201}, {status: 200},
	}}
	put := func(rt http.RoundTripper, session string) {
		ask(t, rt, "PUT", host+session+"?digest="+digestOf(blob), blob)
	}
	open := func(rt http.RoundTripper) string {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", host+"/v2/acme/app/blobs/uploads/", nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Get("Location")
	}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "HEAD", url, "")
		ask(t, rt, "HEAD", url, "")
		put(rt, open(rt))
		ask(t, rt, "HEAD", url, "")
	})
	// One of the two that asked before now asks after.
	replay(t, cassette.Options{AllowUnused: true}, dir, func(rt http.RoundTripper) {
		if got := ask(t, rt, "HEAD", url, ""); got != "404 " {
			t.Errorf("before the upload: %q", got)
		}
		put(rt, open(rt))
		if got := ask(t, rt, "HEAD", url, ""); got != "200 " {
			t.Errorf("after the upload: %q", got)
		}
	})
}

// TestSameRequestOtherAnswer: a limit, and then what was asked for.
func TestSameRequestOtherAnswer(t *testing.T) {
	server := &script{answers: []answer{{status: 429, header: http.Header{"Retry-After": {"1"}}}, {status: 200, body: "a"}, {status: 200, body: "b"}}}
	url := host + "/v2/acme/app/tags/list"
	three := func(rt http.RoundTripper) string {
		return ask(t, rt, "GET", url, "") + ask(t, rt, "GET", url, "") + ask(t, rt, "GET", url, "")
	}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) { three(rt) })
	replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) {
		if got := three(rt); got != "429 200 a200 b" {
			t.Errorf("got %q", got)
		}
	})
}

func TestRepeat(t *testing.T) {
	server := &script{answers: []answer{{status: 200, body: "a"}, {status: 201}}}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/acme/app/tags/list", "")
		ask(t, rt, "PUT", host+"/v2/acme/app/manifests/v1", "{}")
	})
	for repeat, again := range map[cassette.Repeat][2]bool{
		cassette.RepeatNone: {false, false}, cassette.RepeatSafe: {true, false}, cassette.RepeatAny: {true, true},
	} {
		c, err := cassette.Open(dir, cassette.Options{Repeat: repeat})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range [][2]bool{{true, true}, again} {
			_, getErr := tryAsk(t, c, "GET", host+"/v2/acme/app/tags/list", "")
			_, putErr := tryAsk(t, c, "PUT", host+"/v2/acme/app/manifests/v1", "{}")
			if got := [2]bool{getErr == nil, putErr == nil}; got != want {
				t.Errorf("%v: GET and PUT answered: %v, want %v", repeat, got, want)
			}
		}
		c.Close()
	}
}

func TestOrderStrict(t *testing.T) {
	server := &script{answers: []answer{{status: 200, body: "x"}}}
	two := func(rt http.RoundTripper, a, b string) error {
		_, err1 := tryAsk(t, rt, "GET", host+a, "")
		_, err2 := tryAsk(t, rt, "GET", host+b, "")
		return errors.Join(err1, err2)
	}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) { two(rt, "/a", "/b") })
	for order, want := range map[cassette.Order]bool{cassette.OrderPerKey: true, cassette.OrderNone: true, cassette.OrderStrict: false} {
		c, err := cassette.Open(dir, cassette.Options{Order: order})
		if err != nil {
			t.Fatal(err)
		}
		if err := two(c, "/b", "/a"); (err == nil) != want {
			t.Errorf("%v, the other way round: %v", order, err)
		}
		c.Close()
	}
	replay(t, cassette.Options{Order: cassette.OrderStrict}, dir, func(rt http.RoundTripper) {
		if err := two(rt, "/a", "/b"); err != nil {
			t.Error(err)
		}
	})
}

// TestMissNamesWhatDiffers: what is nearest, and in which fields it is not the same.
func TestMissNamesWhatDiffers(t *testing.T) {
	server := &script{answers: []answer{{status: 200, body: "x"}}}
	dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
		ask(t, rt, "GET", host+"/v2/acme/app/manifests/v1", "", "Accept", "application/json")
		ask(t, rt, "GET", host+"/v2/acme/app/tags/list?n=100", "")
		ask(t, rt, "PUT", host+"/v2/acme/app/manifests/v1", "{}")
	})
	for _, test := range []struct {
		method, url, body string
		header            []string
		want              []string
	}{
		{"GET", "/v2/acme/app/manifests/v2", "", []string{"Accept", "application/json"}, []string{`path: recorded "/v2/acme/app/manifests/v1", now "/v2/acme/app/manifests/v2"`}},
		{"GET", "/v2/acme/app/manifests/v1", "", []string{"Accept", "text/plain"}, []string{`Accept: recorded "application/json", now "text/plain"`}},
		{"GET", "/v2/acme/app/tags/list?n=50", "", nil, []string{`query: recorded "n=100", now "n=50"`}},
		{"PUT", "/v2/acme/app/manifests/v1", "{ }", nil, []string{"body: recorded", digestOf("{}"), digestOf("{ }")}},
		{"GET", "/v2/acme/app/manifests/v1", "", []string{"Accept", "application/json", "Authorization", "Basic eDp5"}, []string{`auth: recorded "", now "basic"`}},
		{"GET", "/elsewhere", "", nil, []string{"nothing like it"}},
	} {
		c, err := cassette.Open(dir, cassette.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tryAsk(t, c, test.method, host+test.url, test.body, test.header...)
		var miss *cassette.MissError
		if !errors.As(err, &miss) || !errors.Is(err, cassette.ErrNotRecorded) {
			t.Errorf("%s %s: got %v", test.method, test.url, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %v\ndoes not say %s", test.method, test.url, err, want)
			}
		}
		// The program may have swallowed it; the end of the test does not.
		if err := c.Close(); !errors.As(err, &miss) {
			t.Errorf("closed with %v", err)
		}
	}
}

// TestLoopbackPortsDiffer: the emulator has another port each time, and its storage
// host another name.
func TestLoopbackPortsDiffer(t *testing.T) {
	img := image(3, 2)
	src := layout(t, img)
	do := func(server string) func(http.RoundTripper) {
		return func(rt http.RoundTripper) {
			c := plainClient(t, rt)
			for _, step := range [][2]string{{src, server + "/acme/app:v1"}, {server + "/acme/app:v1", "oci:" + t.TempDir()}} {
				from, err := c.ParseEnd(step[0])
				if err != nil {
					t.Fatal(err)
				}
				to, err := c.ParseEnd(step[1])
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Copy(t.Context(), from, to, transfer.Options{Jobs: 1}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	quirks := ghcrtest.GHCR()
	server := ghcrtest.Start(t, ghcrtest.Options{Quirks: &quirks, Open: true})
	dir := record(t, cassette.Options{}, http.DefaultTransport, do(server.Host()))
	replay(t, cassette.Options{}, dir, do("127.0.0.1:9"))
}

// TestClientWithoutOurs: any client can be put above, and what it sends again is
// recorded as it was sent.
func TestClientWithoutOurs(t *testing.T) {
	server := ghcrtest.Start(t, ghcrtest.Options{Open: true})
	img := image(4, 1)
	if err := server.Add("acme/app", "v1", img); err != nil {
		t.Fatal(err)
	}
	layer := img.Manifest.Layers[0]
	get := func(rt http.RoundTripper) {
		resp, err := (&http.Client{Transport: rt}).Get(server.URL() + "/v2/acme/app/blobs/" + layer.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(data, img.Blobs[layer.Digest]) {
			t.Errorf("got %d bytes, %v", len(data), err)
		}
	}
	dir := record(t, cassette.Options{}, http.DefaultTransport, get)
	replay(t, cassette.Options{}, dir, get)
}
