package ghcrtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestVirtualTime: hours of waiting cost nothing, and the bubble ends clean.
func TestVirtualTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(ghcrtest.Options{Open: true})
		if err != nil {
			t.Fatal(err)
		}
		server.Inject(
			ghcrtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3600"}}, Times: 2},
			ghcrtest.Fault{Delay: 10 * time.Minute},
		)
		began := time.Now()
		client := &http.Client{Transport: server.Transport()}
		for range 3 {
			resp, err := client.Get("https://ghcr.io/v2/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == 429 {
				time.Sleep(time.Hour)
			}
		}
		if took := time.Since(began); took != 2*time.Hour+10*time.Minute {
			t.Errorf("took %s", took)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := client.Get("https://ghcr.io/v2/"); err == nil {
			t.Error("a closed server answers")
		}
	})
}

// TestCloseWhileAnswering: a server that stands still in the middle of an answer
// ends all the same, at once and without a trace.
func TestCloseWhileAnswering(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(ghcrtest.Options{Open: true, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		server.Inject(ghcrtest.Fault{Delay: time.Hour})
		w := &wire{t: t, server: server}
		began := time.Now()
		go func() {
			req, err := http.NewRequest("POST", "https://ghcr.io/v2/acme/app/blobs/uploads/?digest="+digest.FromString("a").String(), strings.NewReader("a"))
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := w.server.Transport().RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		}()
		synctest.Wait()
		if err := errors.Join(server.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s", took)
		}
	})
}

// TestManyClients: what is pushed in parallel is all there. Run with -race it shows
// that the rows are guarded.
func TestManyClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, err := ghcrtest.New(ghcrtest.Options{Open: true})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		w := &wire{t: t, server: server}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(uint64(i%4), 10_000))
				w.push("acme/app", "v"+string(rune('0'+i)), img)
				w.do("GET", "/v2/acme/app/tags/list", "")
				server.Requests()
				if err := server.Holds("acme/app", "v"+string(rune('0'+i)), img); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

// TestSockets: over plain HTTP and over TLS a stock client pulls a blob through the
// redirect, and leaves its credential behind on the way.
func TestSockets(t *testing.T) {
	t.Parallel()
	content := string(ghcrtest.RandomLayer(5, 2<<20))
	d := digest.FromString(content)
	for _, secure := range []bool{false, true} {
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		img := ghcrtest.NewImage("linux/amd64", []byte(content))
		if err := server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		l, err := server.Listen("127.0.0.1:0", secure)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		if roots.AppendCertsFromPEM(l.CA()) != secure {
			t.Errorf("TLS %t: CA %q", secure, l.CA())
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		req, err := http.NewRequest("GET", l.URL()+"/v2/acme/app/blobs/"+d.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+encoded(ghcrtest.Token))
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != content {
			t.Errorf("TLS %t: got %d, %d bytes, %v", secure, resp.StatusCode, len(body), err)
		}
		transport.CloseIdleConnections()
		if err := errors.Join(l.Close(), server.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	server := ghcrtest.Start(t, ghcrtest.Options{})
	resp, err := http.Get(server.URL() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("WWW-Authenticate"); !strings.Contains(got, `realm="http://`+server.Host()+`/token"`) {
		t.Errorf("challenge %s", got)
	}
}

// TestBrokenRequest: a body that breaks off is not answered as if it were whole.
func TestBrokenRequest(t *testing.T) {
	t.Parallel()
	server := ghcrtest.Start(t, ghcrtest.Options{Open: true})
	resp, err := http.Post(server.URL()+"/v2/acme/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, request := range []string{
		"PATCH " + resp.Header.Get("Location"),
		"PUT " + resp.Header.Get("Location") + "?digest=" + digest.FromString("ab").String(),
		"PUT /v2/acme/app/manifests/v1",
	} {
		conn, err := net.Dial("tcp", server.Host())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nnonsense\r\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || len(got) != 0 {
			t.Errorf("%s: got %q, %v", request, got, err)
		}
		conn.Close()
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "nonsense"} {
		if l, err := server.Listen(addr, false); err == nil {
			l.Close()
			t.Errorf("it serves on %s", addr)
		}
	}
}

// TestRequests: the log says of a pull what a test would want to know, and no
// secret.
func TestRequests(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		layer := img.Manifest.Layers[0].Digest.String()
		token := w.token("ghp_owner", "repository:acme/app:pull,push")["token"].(string)
		w.as(token).do("GET", "/v2/acme/app/manifests/v1", "")
		location := w.as(token).do("GET", "/v2/acme/app/blobs/"+layer, "").header.Get("Location")
		w.as("").do("GET", location, "", "Range", "bytes=10-19")
		w.as(token).do("GET", "/v2/acme/app/nothing", "")
		upload := w.as(token).session()
		w.as(token).do("PATCH", upload, "0123", "Content-Range", "0-3")
		synctest.Wait()
		got := w.server.Requests()
		want := []ghcrtest.Request{
			{Role: "token", Route: "token", Method: "GET", Status: 200, Credential: "basic"},
			{Role: "registry", Route: "manifest", Method: "GET", Repo: "acme/app", Ref: "v1", Status: 200, Credential: "bearer", Sent: int64(len(img.Manifest.Bytes()))},
			{Role: "registry", Route: "blob", Method: "GET", Repo: "acme/app", Ref: layer, Status: 307, Credential: "bearer"},
			{Role: "cdn", Route: "signed-blob", Method: "GET", Ref: layer, Status: 206, Credential: "none", Sent: 10, Range: "bytes=10-19"},
			{Role: "registry", Route: "unknown", Method: "GET", Status: 303, Credential: "bearer"},
			{Role: "registry", Route: "upload-start", Method: "POST", Repo: "acme/app", Status: 202, Credential: "bearer"},
			{Role: "registry", Route: "upload-chunk", Method: "PATCH", Repo: "acme/app", Ref: upload[strings.LastIndex(upload, "/")+1:], Status: 202, Credential: "bearer", Received: 4, ContentRange: "0-3"},
		}
		if len(got) != len(want) {
			w.t.Fatalf("%d requests, want %d", len(got), len(want))
		}
		signed, err := url.Parse(location)
		if err != nil {
			w.t.Fatal(err)
		}
		for i := range want {
			if strings.Contains(got[i].Query, signed.Query().Get("sig")) {
				w.t.Errorf("a signature is in the log: %s", got[i].Query)
			}
			got[i].Path, got[i].Query = "", ""
			if i == 0 {
				got[i].Sent = 0
			}
			if got[i] != want[i] {
				w.t.Errorf("request %d:\n got %+v\nwant %+v", i, got[i], want[i])
			}
		}
		w.server.ResetRequests()
		if left := w.server.Requests(); len(left) != 0 {
			w.t.Errorf("%d requests are left", len(left))
		}
	})
}

// FuzzRequest: whatever a client sends, the answer is one of the protocol's, and no
// request may do what its credential does not allow.
func FuzzRequest(f *testing.F) {
	d := digest.FromString("a").String()
	for _, seed := range [][5]string{
		{"GET", "/v2/acme/app/blobs/" + d, "", "bytes=0-0", ""},
		{"GET", "/v2/acme/app/blobs/" + d, "Bearer QQ==", "bytes=-5,1-", ""},
		{"PATCH", "/v2/acme/app/blobs/upload/x", "Basic dTpw", "", "0-99999999999999999999"},
		{"PUT", "/v2/acme/app/blobs/uploads/x?digest=" + d, "Bearer", "", "5-1"},
		{"POST", "/v2/acme/app/blobs/uploads/?mount=" + d + "&from=a/b", "bearer  ", "", "bytes 0-3/4"},
		{"GET", "/token?scope=repository:a/b:pull,push&scope=repository:a:b:c:pull", "Basic " + encoded("u:"), "", "-"},
		{"GET", "/token?scope=repository::&scope=x", "", "", ""},
		{"GET", "/v2/_catalog?n=-1&last=", "", "", ""},
		{"DELETE", "/v2/a/manifests/manifests/blobs/x", "Bearer " + encoded("ghp_wrong"), "", ""},
		{"HEAD", "/ghcr1/blobs/" + d + "?se=2026&sig=%00", "", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	f.Fuzz(func(t *testing.T, method, target, authorization, ranges, contentRange string) {
		if u, err := url.ParseRequestURI(target); err != nil || u.Host != "" || !strings.HasPrefix(target, "/") || strings.ContainsAny(method, " \r\n") || method == "" {
			return
		}
		server, err := ghcrtest.New(ghcrtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if err := server.Add("acme/app", "v1", ghcrtest.NewImage("linux/amd64")); err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: method, Host: "ghcr.io", Body: io.NopCloser(strings.NewReader("a")), ContentLength: 1,
			Header: http.Header{"Authorization": {authorization}, "Range": {ranges}, "Content-Range": {contentRange}}}
		if r.URL, err = url.ParseRequestURI(target); err != nil {
			return
		}
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 200 || w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		if strings.HasPrefix(target, "/v2/acme/app/") && w.Code < 300 && !strings.Contains(authorization, encoded(ghcrtest.Token)) {
			t.Errorf("%s %s with %q: %d", method, target, authorization, w.Code)
		}
	})
}

// FuzzContentRange: a chunk is taken in exactly if it says that it is the next.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"", "0-3", "4-7", "0-7", "bytes 4-7/8", "-", "4-", "-7", "7-4", "4-7-9", "04-07", "4 - 7", "99999999999999999999-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, contentRange string) {
		quirks := ghcrtest.GHCR()
		server, err := ghcrtest.New(ghcrtest.Options{Open: true, Quirks: &quirks})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		send := func(method, target, contentRange string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, target, strings.NewReader("0123"))
			r.Header.Set("Content-Range", contentRange)
			w := httptest.NewRecorder()
			server.Handler().ServeHTTP(w, r)
			return w
		}
		location := send("POST", "/v2/acme/app/blobs/uploads/", "").Header().Get("Location")
		if w := send("PATCH", location, "0-3"); w.Code != 202 {
			t.Fatalf("the first chunk: %d %s", w.Code, w.Body)
		}
		w := send("PATCH", location, contentRange)
		stands := send("GET", location, "").Header().Get("Range")
		switch w.Code {
		case 202:
			if stands != "0-7" {
				t.Errorf("%q was accepted, and the session stands at %s", contentRange, stands)
			}
		case 400, 416:
			if stands != "0-3" {
				t.Errorf("%q was refused, and the session stands at %s", contentRange, stands)
			}
			if contentRange == "4-7" || contentRange == "" {
				t.Errorf("%q: %d %s", contentRange, w.Code, w.Body)
			}
		default:
			t.Errorf("%q: %d %s", contentRange, w.Code, w.Body)
		}
	})
}
