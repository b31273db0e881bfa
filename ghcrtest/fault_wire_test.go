package ghcrtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// TestFaultOfFraming: answers that net/http would refuse to give, in the process and
// over a socket.
func TestFaultOfFraming(t *testing.T) {
	whole := string(ghcrtest.RandomLayer(1, layerSize))
	for _, test := range []struct {
		name  string
		fault ghcrtest.Fault
		body  string
		says  string // in the error; empty is none
		took  time.Duration
	}{
		{name: "Content-Length too small", fault: ghcrtest.Fault{Header: http.Header{"Content-Length": {"7"}}}, body: whole[:7]},
		{name: "Content-Length too large", fault: ghcrtest.Fault{Header: http.Header{"Content-Length": {"6000"}}}, body: whole, says: "unexpected EOF"},
		{name: "Content-Length of another answer", fault: ghcrtest.Fault{Status: 200, Body: "short", Header: http.Header{"Content-Length": {"3"}}}, body: "sho"},
		{name: "malformed chunk", fault: ghcrtest.Fault{Malformed: true, ResponseBytes: 100}, body: whole[:100], says: "invalid byte in chunk length"},
		{name: "malformed first chunk", fault: ghcrtest.Fault{Malformed: true}, says: "invalid byte in chunk length"},
		{name: "before the last byte", fault: ghcrtest.Fault{Break: true, ResponseBytes: -1}, body: whole[:layerSize-1], says: "unexpected EOF"},
		{name: "header by the byte", fault: ghcrtest.Fault{Dribble: time.Second}, body: whole, took: 4 * time.Minute},
		{name: "a pace", fault: ghcrtest.Fault{BytesPerSecond: 100}, body: whole, took: layerSize / 100 * time.Second},
		{name: "a pace of less than a piece", fault: ghcrtest.Fault{BytesPerSecond: 5, Status: 200, Body: "1234567890"}, body: "1234567890", took: 2 * time.Second},
		{name: "another answer that breaks", fault: ghcrtest.Fault{Status: 503, Body: "busy, busy", Break: true, ResponseBytes: 4}, body: "busy", says: "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			withQuirks(t, nil, func(w *wire) {
				target := w.signed()
				test.fault.Role = ghcrtest.RoleCDN
				w.server.Inject(test.fault)
				began := time.Now()
				_, body, err := w.read(target)
				if body != test.body {
					t.Errorf("%d bytes, want %d", len(body), len(test.body))
				}
				if (err != nil) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, want %q", err, test.says)
				}
				if took := time.Since(began); took < test.took || test.took == 0 && took > 0 || took > 2*test.took {
					t.Errorf("took %s, want about %s", took, test.took)
				}
				if fired := w.server.Faults(); len(fired) != 1 {
					t.Errorf("the fault log says %+v", fired)
				}
				if _, body, err := w.read(w.signed()); err != nil || body != whole {
					t.Errorf("the fault happened again: %v", err)
				}
			})
		})
		if test.took > 0 {
			continue
		}
		t.Run(test.name+", socket", func(t *testing.T) {
			server := ghcrtest.Start(t, ghcrtest.Options{Open: true})
			img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, layerSize))
			if err := server.Add("acme/app", "v1", img); err != nil {
				t.Fatal(err)
			}
			test.fault.Role = ghcrtest.RoleCDN
			server.Inject(test.fault)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := client.Get(server.URL() + "/v2/acme/app/blobs/" + img.Manifest.Layers[0].Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if string(body) != test.body || (err != nil) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%d bytes, %v", len(body), err)
			}
		})
	}
}

// TestFaultOfFramingEndsWithTheServer: a connection that was taken from net/http does
// not keep the server from ending.
func TestFaultOfFramingEndsWithTheServer(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		target := w.signed()
		w.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleCDN, Header: http.Header{"Content-Length": {"6000"}}, BytesPerSecond: 1})
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.server.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		w.took(0, func() {
			if err := w.server.Close(); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestFaultPacesUploads too.
func TestFaultPacesUploads(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		content := strings.Repeat("x", 1000)
		location := w.session()
		w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, BytesPerSecond: 100})
		w.took(10*time.Second, func() { w.want(w.commit(location, content), 201) })
	})
}

// TestFaultReadsTheBodyForNothing: what was drained is not stored.
func TestFaultReadsTheBodyForNothing(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		location := w.session()
		w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Drain: true, Status: 500})
		w.want(w.commit(location, "content"), 500)
		synctest.Wait()
		if log := w.server.Requests(); log[len(log)-1].Received != 7 {
			t.Errorf("received %d", log[len(log)-1].Received)
		}
		w.want(w.commit(location, "content"), 201)
	})
}

// TestFaultClosesAfterwards: the next request comes over another connection, so that
// Go's client does not send again by itself what breaks there.
func TestFaultClosesAfterwards(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		w.image()
		target := "https://ghcr.io/v2/acme/app/manifests/v1"
		tell := func() error { _, _, err := w.read(target, "Authorization", "Bearer "+w.bearer); return err }
		w.server.Inject(ghcrtest.Fault{Close: true}, ghcrtest.Fault{Break: true})
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if err := tell(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the break", err)
		}
		if n := len(w.server.Requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestFaultByChance: the same seed chooses the same requests, however they come.
func TestFaultByChance(t *testing.T) {
	draw := func(seed uint64, at int) string {
		got := make([]byte, 40)
		withQuirks(t, nil, func(w *wire) {
			w.image()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Probability: 0.25, Seed: seed, Times: -1, Status: 500})
			for i := 0; i < len(got); i += at {
				done := make(chan answer, at)
				for range at {
					go func() { done <- w.do("GET", "/v2/acme/app/manifests/v1", "") }()
				}
				for k := range at {
					got[i+k] = '.'
					if (<-done).status == 500 {
						got[i+k] = 'x'
					}
				}
			}
		})
		return string(got)
	}
	alone := draw(1, 1)
	if n := strings.Count(alone, "x"); n < 4 || n > 18 {
		t.Errorf("%d of 40: %s", n, alone)
	}
	if again := draw(1, 1); again != alone {
		t.Errorf("%s, and then %s", alone, again)
	}
	if other := draw(2, 1); other == alone {
		t.Errorf("another seed draws the same: %s", other)
	}
	if together := draw(1, 8); strings.Count(together, "x") != strings.Count(alone, "x") {
		t.Errorf("eight at a time: %s, want as many as in %s", together, alone)
	}
}

func TestFaultJitters(t *testing.T) {
	wait := func() (list []time.Duration) {
		withQuirks(t, nil, func(w *wire) {
			w.image()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, Delay: time.Second, Jitter: time.Second, Times: -1, Seed: 7})
			for range 5 {
				began := time.Now()
				w.do("GET", "/v2/acme/app/manifests/v1", "")
				list = append(list, time.Since(began))
			}
		})
		return list
	}
	got := wait()
	if slices.Min(got) < time.Second || slices.Max(got) >= 2*time.Second || len(slices.Compact(slices.Sorted(slices.Values(got)))) < 4 {
		t.Errorf("waited %v", got)
	}
	if again := wait(); !slices.Equal(got, again) {
		t.Errorf("%v, and then %v", got, again)
	}
}

// TestFaultStates: faults of one name are a sequence.
func TestFaultStates(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		w.image()
		w.server.Inject(
			ghcrtest.Fault{Name: "story", Method: "GET", If: "start", Status: 500, Set: "ill"},
			ghcrtest.Fault{Name: "story", Method: "GET", If: "ill", Status: 503, Times: -1},
			ghcrtest.Fault{Name: "story", Method: "HEAD", If: "ill", Set: "well", Times: 1},
			ghcrtest.Fault{Name: "other", If: "ill", Status: 400, Times: -1},
		)
		path := "/v2/acme/app/manifests/v1"
		for _, step := range []struct {
			method string
			status int
		}{{"HEAD", 200}, {"GET", 500}, {"GET", 503}, {"GET", 503}, {"HEAD", 200}, {"GET", 200}} {
			w.want(w.do(step.method, path, ""), step.status)
		}
		log := w.server.Faults()
		if len(log) != 4 || log[0].Name != "story" || log[0].What != "status 500" || log[0].Method != "GET" || !log[0].Time.Equal(time.Now()) {
			t.Errorf("the log says %+v", log)
		}
		w.server.ClearFaults()
		w.want(w.do("GET", path, ""), 200)
		if len(w.server.Faults()) != 4 {
			t.Error("the log went with the faults")
		}
		w.server.ResetFaultLog()
		if len(w.server.Faults()) != 0 {
			t.Error("the log is still there")
		}
	})
}

// TestFaultMatches what else a request has.
func TestFaultMatches(t *testing.T) {
	blob := digest.FromString("content")
	for name, test := range map[string]struct {
		fault ghcrtest.Fault
		send  func(w *wire) answer
		want  bool
	}{
		"digest in the path":      {ghcrtest.Fault{Digest: blob.String()}, func(w *wire) answer { return w.do("GET", "/v2/acme/app/blobs/"+blob.String(), "") }, true},
		"digest of a commit":      {ghcrtest.Fault{Digest: blob.String()}, func(w *wire) answer { return w.commit("/v2/acme/app/blobs/upload/none", "content") }, true},
		"digest of another":       {ghcrtest.Fault{Digest: blob.String()}, func(w *wire) answer { return w.commit("/v2/acme/app/blobs/upload/none", "other") }, false},
		"parameter":               {ghcrtest.Fault{Query: "n=5"}, func(w *wire) answer { return w.do("GET", "/v2/acme/app/tags/list?last=x&n=5", "") }, true},
		"parameter of any value":  {ghcrtest.Fault{Query: "n"}, func(w *wire) answer { return w.do("GET", "/v2/acme/app/tags/list?n=6", "") }, true},
		"other parameter":         {ghcrtest.Fault{Query: "n=5"}, func(w *wire) answer { return w.do("GET", "/v2/acme/app/tags/list?n=6", "") }, false},
		"credential":              {ghcrtest.Fault{Credential: "some"}, func(w *wire) answer { return w.do("GET", "/v2/", "") }, true},
		"no credential":           {ghcrtest.Fault{Credential: "none"}, func(w *wire) answer { return w.do("GET", "/v2/", "") }, false},
		"long body":               {ghcrtest.Fault{Over: 3}, func(w *wire) answer { return w.do("PUT", "/v2/acme/app/manifests/v1", "1234") }, true},
		"short body":              {ghcrtest.Fault{Over: 4}, func(w *wire) answer { return w.do("PUT", "/v2/acme/app/manifests/v1", "1234") }, false},
		"late range":              {ghcrtest.Fault{FromByte: 10}, func(w *wire) answer { return w.do("GET", "/v2/", "", "Range", "bytes=10-") }, true},
		"early range":             {ghcrtest.Fault{FromByte: 10}, func(w *wire) answer { return w.do("GET", "/v2/", "", "Range", "bytes=9-20") }, false},
		"no range":                {ghcrtest.Fault{FromByte: 10}, func(w *wire) answer { return w.do("GET", "/v2/", "") }, false},
		"role and route together": {ghcrtest.Fault{Role: ghcrtest.RoleRegistry, Route: ghcrtest.RoutePing}, func(w *wire) answer { return w.do("GET", "/v2/", "") }, true},
	} {
		withQuirks(t, nil, func(w *wire) {
			test.fault.Status = 418
			w.server.Inject(test.fault)
			if got := test.send(w).status == 418; got != test.want {
				t.Errorf("%s: happened: %t", name, got)
			}
		})
	}
}

// TestFaultFillsIn what stands in braces.
func TestFaultFillsIn(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		layer := w.layer()
		w.server.Inject(ghcrtest.Fault{Status: 307, Body: "{repo} {ref} {unix+90s} {neither}", Header: http.Header{
			"Location": {"{signed}"}, "X-Url": {"{url}"}, "X-Base": {"{base}{path}"}, "Retry-After": {"{date+1h}"}, "X-Hosts": {"{cdn} {web}"},
		}})
		a := w.do("GET", layer+"?a=b", "")
		ref := layer[strings.LastIndex(layer, "/")+1:]
		if want := "acme/app " + ref + " 946684890 {neither}"; a.body != want {
			t.Errorf("body %q, want %q", a.body, want)
		}
		for name, want := range map[string]string{
			"X-Url": "https://ghcr.io" + layer + "?a=b", "X-Base": "https://ghcr.io" + layer,
			"Retry-After": "Sat, 01 Jan 2000 01:00:00 GMT", "X-Hosts": "https://pkg-containers.githubusercontent.com https://github.com",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		w.want(w.as("").do("GET", a.header.Get("Location"), ""), 200)
	})
}

// TestFaultActs on what the server has.
func TestFaultActs(t *testing.T) {
	path := "/v2/acme/app/manifests/v1"
	for action, look := range map[ghcrtest.Action]func(w *wire, img *ghcrtest.Image){
		ghcrtest.ActionMoveTag: func(w *wire, img *ghcrtest.Image) {
			if got := w.do("HEAD", path, "").header.Get("Docker-Content-Digest"); got == img.Digest().String() {
				t.Error("the tag is where it was")
			}
		},
		ghcrtest.ActionAddVersion:       func(w *wire, _ *ghcrtest.Image) { w.listed("", "v1", "fault-1") },
		ghcrtest.ActionDeleteVersion:    func(w *wire, _ *ghcrtest.Image) { w.want(w.do("GET", path, ""), 404) },
		ghcrtest.ActionLoseBlobs:        func(w *wire, img *ghcrtest.Image) { w.want(w.put("v2", img), 400, "MANIFEST_BLOB_UNKNOWN") },
		ghcrtest.ActionDropSessions:     func(w *wire, _ *ghcrtest.Image) {},
		ghcrtest.ActionExpireTokens:     func(w *wire, _ *ghcrtest.Image) {},
		ghcrtest.ActionExpireSignedURLs: func(w *wire, _ *ghcrtest.Image) {},
	} {
		withQuirks(t, nil, func(w *wire) {
			img := w.image()
			w.server.Inject(ghcrtest.Fault{Action: action})
			w.do("GET", path, "")
			look(w, img)
		})
	}
	withQuirks(t, nil, func(w *wire) {
		w.image()
		w.server.Inject(ghcrtest.Fault{Advance: time.Hour, AsQuery: "n=1"}, ghcrtest.Fault{AsQuery: "n=&last=", Stale: time.Hour})
		w.tagged("v2")
		w.listed("?last=v2&n=1", "v1", "v2")
		if got := w.do("GET", "/v2/acme/app/tags/list", "").header.Get("Date"); got != "Sat, 01 Jan 2000 01:00:00 GMT" {
			t.Errorf("the clock shows %s", got)
		}
	})
}

// TestStaleListsEnd with the faults.
func TestStaleListsEnd(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		w.image()
		rows := func() int {
			a := w.do("GET", "https://api.github.com/orgs/acme/packages/container/app/versions", "", "Authorization", "Bearer ghp_owner")
			return strings.Count(a.body, `"package_html_url"`)
		}
		w.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Stale: time.Hour})
		if n := rows(); n != 1 {
			t.Fatalf("%d rows", n)
		}
		w.tagged("v2")
		if n := rows(); n != 1 {
			t.Errorf("%d rows at once", n)
		}
		w.server.ClearFaults()
		if n := rows(); n != 2 {
			t.Errorf("%d rows when the fault is gone", n)
		}
	})
}

// TestFaultOfFramingOverHTTP2, which has no such framing: it does not happen, and the
// log does not say that it did.
func TestFaultOfFramingOverHTTP2(t *testing.T) {
	server, err := ghcrtest.New(ghcrtest.Options{Open: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l, err := server.Listen("127.0.0.1:0", true)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.CA())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	server.Inject(ghcrtest.Fault{Status: 200, Body: "whole", Malformed: true}, ghcrtest.Fault{Dribble: time.Hour})
	for range 2 {
		resp, err := (&http.Client{Transport: transport}).Get(l.URL() + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.ProtoMajor != 2 {
			t.Errorf("%s: %v", resp.Proto, err)
		}
		resp.Body.Close()
	}
	if log := server.Faults(); len(log) != 0 {
		t.Errorf("the log says %+v", log)
	}
}

// TestFaultLogIsTrue: what is answered is in the log and counted, and what changed
// nothing is not.
func TestFaultLogIsTrue(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		w.image()
		w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteTags, Status: 503, Stall: time.Minute})
		w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 503)
		w.want(w.do("GET", "/v2/acme/app/tags/list", ""), 200)
		if n := len(w.server.Faults()); n != 1 {
			t.Errorf("an answer without a body happened %d times, by the log", n)
		}
		for _, action := range []ghcrtest.Action{
			ghcrtest.ActionExpireTokens, ghcrtest.ActionDropSessions, ghcrtest.ActionLoseBlobs, ghcrtest.ActionMoveTag,
			ghcrtest.ActionAddVersion, ghcrtest.ActionDeleteVersion,
		} {
			w.server.ClearFaults()
			w.server.ResetFaultLog()
			w.server.Inject(ghcrtest.Fault{Action: action})
			w.do("GET", "/v2/acme/none/manifests/v1", "")
			if log := w.server.Faults(); len(log) != 0 {
				t.Errorf("%s: there was nothing to change, and the log says %+v", action, log)
			}
		}
	})
	if _, err := ghcrtest.ParseFaults([]byte(`[{"do": {"status": 503, "stall": "1s"}}]`)); err == nil || !strings.Contains(err.Error(), "do.body") {
		t.Errorf("got %v", err)
	}
}
