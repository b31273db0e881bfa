package ghcrtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// read is a GET with what went wrong, if something did.
func (w *wire) read(target string, headers ...string) (*http.Response, string, error) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.server.Transport().RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// flipped is a string with one bit changed.
func flipped(s string, at int) string {
	b := []byte(s)
	b[at] ^= 1
	return string(b)
}

const layerSize = 5000 // of the fixture of wire.image

// TestFaultInAnAnswer: what a client sees of a blob when each of these happens to it.
func TestFaultInAnAnswer(t *testing.T) {
	whole := string(ghcrtest.RandomLayer(1, layerSize))
	for _, test := range []struct {
		name  string
		fault ghcrtest.Fault
		err   error // that the client sees
		body  string
		took  time.Duration
		look  func(t *testing.T, resp *http.Response)
	}{
		{name: "closed before the answer", fault: ghcrtest.Fault{Break: true}, err: io.EOF},
		{name: "reset before the answer", fault: ghcrtest.Fault{Break: true, Reset: true}, err: syscall.ECONNRESET},
		{name: "closed in the body", fault: ghcrtest.Fault{Break: true, ResponseBytes: 100}, err: io.ErrUnexpectedEOF, body: whole[:100]},
		{name: "closed before the last byte", fault: ghcrtest.Fault{Break: true, ResponseBytes: layerSize - 1}, err: io.ErrUnexpectedEOF, body: whole[:layerSize-1]},
		{name: "reset in the body", fault: ghcrtest.Fault{Break: true, Reset: true, ResponseBytes: 100}, err: syscall.ECONNRESET, body: whole[:100]},
		{name: "short", fault: ghcrtest.Fault{Short: true, ResponseBytes: 100}, body: whole[:100], look: func(t *testing.T, resp *http.Response) {
			if resp.ContentLength != -1 {
				t.Errorf("Content-Length %d", resp.ContentLength)
			}
		}},
		{name: "stalls", fault: ghcrtest.Fault{Stall: time.Hour, ResponseBytes: 100}, body: whole, took: time.Hour},
		{name: "late", fault: ghcrtest.Fault{Delay: time.Minute}, body: whole, took: time.Minute},
		{name: "corrupt", fault: ghcrtest.Fault{Corrupt: true, ResponseBytes: 100}, body: flipped(whole, 100)},
		{name: "corrupt in the first byte", fault: ghcrtest.Fault{Corrupt: true}, body: flipped(whole, 0)},
		{name: "another answer", fault: ghcrtest.Fault{Status: 503, Body: "busy", Header: http.Header{"Retry-After": {"7"}}}, body: "busy", look: func(t *testing.T, resp *http.Response) {
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "7" {
				t.Errorf("got %d %v", resp.StatusCode, resp.Header)
			}
		}},
		{name: "a header that lies", fault: ghcrtest.Fault{Header: http.Header{"Etag": {`"sha256:other"`}}}, body: whole, look: func(t *testing.T, resp *http.Response) {
			if resp.StatusCode != 200 || resp.Header.Get("ETag") != `"sha256:other"` {
				t.Errorf("got %d %v", resp.StatusCode, resp.Header)
			}
		}},
		{name: "a length that lies", fault: ghcrtest.Fault{Header: http.Header{"Content-Length": {"6000"}}}, err: io.ErrUnexpectedEOF, body: whole},
	} {
		t.Run(test.name, func(t *testing.T) {
			withQuirks(t, nil, func(w *wire) {
				target := w.signed()
				test.fault.Role = ghcrtest.RoleCDN
				w.server.Inject(test.fault)
				began := time.Now()
				resp, body, err := w.read(target)
				if !errors.Is(err, test.err) || err != nil && test.err == nil {
					t.Errorf("error %v, want %v", err, test.err)
				}
				if body != test.body {
					t.Errorf("%d bytes, want %d", len(body), len(test.body))
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				if test.look != nil && resp != nil {
					test.look(t, resp)
				}
				if fired := w.server.Faults(); len(fired) != 1 || fired[0].Request != 2 {
					t.Errorf("the fault log says %+v", fired)
				}
				if _, body, err := w.read(w.signed()); err != nil || body != whole {
					t.Errorf("the fault happened again: %v", err)
				}
			})
		})
	}
}

func TestFaultIgnoresRange(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		target := w.signed()
		w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, IgnoreRange: true})
		resp, body, err := w.read(target, "Range", "bytes=10-19")
		if err != nil || resp.StatusCode != 200 || len(body) != layerSize {
			t.Errorf("got %v, %d bytes, %v", resp, len(body), err)
		}
		if resp, body, err = w.read(target, "Range", "bytes=10-19"); err != nil || resp.StatusCode != 206 || len(body) != 10 {
			t.Errorf("got %v, %d bytes, %v", resp, len(body), err)
		}
	})
}

// TestFaultGoesByOrder: After, Every and Times choose among the requests that match.
func TestFaultGoesByOrder(t *testing.T) {
	for _, test := range []struct {
		fault ghcrtest.Fault
		want  string // of eight requests, which fail
	}{
		{ghcrtest.Fault{}, "x......."},
		{ghcrtest.Fault{After: 2}, "..x....."},
		{ghcrtest.Fault{Times: 3}, "xxx....."},
		{ghcrtest.Fault{Times: -1}, "xxxxxxxx"},
		{ghcrtest.Fault{After: 1, Every: 3, Times: -1}, ".x..x..x"},
		{ghcrtest.Fault{Every: 2, Times: 2}, "x.x....."},
		{ghcrtest.Fault{Times: -1, Repo: "acme/other"}, "........"},
		{ghcrtest.Fault{Times: -1, Method: "PUT"}, "........"},
		{ghcrtest.Fault{Times: -1, Ref: "v2"}, "........"},
		{ghcrtest.Fault{Times: -1, Role: ghcrtest.RoleCDN}, "........"},
	} {
		withQuirks(t, nil, func(w *wire) {
			w.image()
			test.fault.Status = 500
			w.server.Inject(test.fault)
			got := ""
			for range 8 {
				if w.do("GET", "/v2/acme/app/manifests/v1", "").status == 500 {
					got += "x"
				} else {
					got += "."
				}
			}
			if got != test.want || len(w.server.Faults()) != strings.Count(test.want, "x") {
				t.Errorf("%+v: %s, want %s", test.fault, got, test.want)
			}
		})
	}
}

// TestFaultInAnUpload: what is there afterwards counts.
func TestFaultInAnUpload(t *testing.T) {
	const content = "0123456789"
	blob := "/v2/acme/app/blobs/" + digest.FromString(content).String()
	send := func(w *wire, location string) error {
		req, err := http.NewRequest("PUT", "https://ghcr.io"+location+"?digest="+digest.FromString(content).String(), strings.NewReader(content))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+w.bearer)
		resp, err := w.server.Transport().RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	t.Run("stored, and the answer lost", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Served: true, Break: true, Reset: true})
			if err := send(w, location); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v", err)
			}
			w.want(w.do("HEAD", blob, ""), 200)
			w.want(w.commit(location, content), 404, "BLOB_UPLOAD_UNKNOWN")
		})
	})
	t.Run("stored, and the answer too late", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Served: true, Stall: time.Hour})
			w.took(time.Hour, func() {
				if err := send(w, location); !errors.Is(err, io.EOF) {
					t.Errorf("got %v", err)
				}
			})
			w.want(w.do("HEAD", blob, ""), 200)
		})
	})
	t.Run("stored, and another answer", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Served: true, Status: 404, Body: "{}"})
			w.want(w.commit(location, content), 404)
			w.want(w.do("HEAD", blob, ""), 200)
		})
	})
	t.Run("reset while it is read", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 4, Reset: true})
			if err := send(w, location); err == nil {
				t.Error("it was answered")
			}
			synctest.Wait()
			if got := w.do("GET", location, "").header.Get("Range"); got != "0-3" {
				t.Errorf("the session stands at %s", got)
			}
			w.want(w.do("HEAD", blob, ""), 404)
		})
	})
	t.Run("less of a chunk taken in than was sent", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadChunk, AcceptBytes: 4})
			a := w.do("PATCH", location, content, "Content-Range", "0-9")
			w.want(a, 202)
			if got := a.header.Get("Range"); got != "0-3" {
				t.Errorf("Range %s", got)
			}
			w.want(w.do("PATCH", location, content[6:], "Content-Range", "6-9"), 416)
			w.want(w.do("PATCH", location, content[4:], "Content-Range", "4-9"), 202)
			w.want(w.commit(location, "x"), 400, "DIGEST_INVALID")
		})
	})
	t.Run("the session lost", func(t *testing.T) {
		withQuirks(t, nil, func(w *wire) {
			location := w.session()
			w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, Do: (*ghcrtest.Server).DropSessions})
			w.want(w.commit(location, content), 404, "BLOB_UPLOAD_UNKNOWN")
		})
	})
}

// TestFaultThatCannotHappen: a test must not take it for survived. It waits for a
// body that has the byte.
func TestFaultThatCannotHappen(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		w.server.Inject(
			ghcrtest.Fault{Route: ghcrtest.RouteSigned, ResponseBytes: layerSize, Break: true},
			ghcrtest.Fault{Route: ghcrtest.RouteUploadStart, RequestBytes: 1},
		)
		w.want(w.as("").do("GET", w.signed(), ""), 200)
		w.session()
		if fired := w.server.Faults(); len(fired) != 0 {
			t.Errorf("the log says %+v", fired)
		}
		long := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(2, layerSize+1))
		if err := w.server.Add("acme/app", "v2", long); err != nil {
			t.Fatal(err)
		}
		target := w.do("GET", "/v2/acme/app/blobs/"+long.Manifest.Layers[0].Digest.String(), "").header.Get("Location")
		if _, _, err := w.read(target); !errors.Is(err, io.ErrUnexpectedEOF) || len(w.server.Faults()) != 1 {
			t.Errorf("got %v, and the log says %+v", err, w.server.Faults())
		}
	})
}

// TestFaultMovesTheTag: HEAD and GET of one tag need not be about the same image.
func TestFaultMovesTheTag(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		old := w.image()
		other := ghcrtest.NewImage("linux/arm64")
		w.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, After: 1, Do: func(s *ghcrtest.Server) {
			if err := s.Add("acme/app", "v1", other); err != nil {
				t.Error(err)
			}
		}})
		for i, want := range []*ghcrtest.Image{old, other} {
			if got := w.do("GET", "/v2/acme/app/manifests/v1", "").header.Get("Docker-Content-Digest"); got != want.Digest().String() {
				t.Errorf("request %d: got %s", i, got)
			}
		}
		w.want(w.do("GET", "/v2/acme/app/manifests/"+old.Digest().String(), ""), 200)
	})
}

func TestExpiry(t *testing.T) {
	withQuirks(t, nil, func(w *wire) {
		target := w.signed()
		token := w.token("ghp_owner", "repository:acme/app:pull")["token"].(string)
		w.server.ExpireSignedURLs()
		w.server.ExpireTokens()
		w.want(w.as("").do("GET", target, ""), 403, "AuthenticationFailed")
		w.challenge(w.as(token).do("GET", "/v2/acme/app/tags/list", ""), `scope="repository:acme/app:pull"`)
	})
}

// TestResetOnSockets: over TCP and TLS a reset is a reset too.
func TestResetOnSockets(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		server, err := ghcrtest.New(ghcrtest.Options{Open: true})
		if err != nil {
			t.Fatal(err)
		}
		l, err := server.Listen("127.0.0.1:0", secure)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(l.CA())
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		client := &http.Client{Transport: transport}
		server.Inject(ghcrtest.Fault{Break: true, Reset: true})
		if _, err := client.Get(l.URL() + "/v2/"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("TLS %t: got %v, want a reset", secure, err)
		}
		resp, err := client.Get(l.URL() + "/v2/")
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("TLS %t: got %v %v", secure, resp, err)
		} else {
			resp.Body.Close()
		}
		transport.CloseIdleConnections()
		if err := errors.Join(l.Close(), server.Close()); err != nil {
			t.Error(err)
		}
	}
}
