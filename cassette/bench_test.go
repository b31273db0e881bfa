package cassette_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// peak watches how much memory the program holds at most, until it is told to stop.
func peak() (stop func() int64) {
	runtime.GC()
	held := func() int64 {
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(samples)
		return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
	}
	var most atomic.Int64
	done, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			most.Store(max(most.Load(), held()))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		return most.Load()
	}
}

// BenchmarkLarge records and replays a push and a pull of 1 GiB. All of it must take
// less than 32 MB of memory.
func BenchmarkLarge(b *testing.B) {
	const size, limit = 1 << 30, 32 << 20
	h := digest.SHA256.Digester()
	if _, err := io.Copy(h.Hash(), ghcrtest.RandomContent(1, size)); err != nil {
		b.Fatal(err)
	}
	d := h.Digest().String()
	server := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: 202, Proto: "HTTP/1.1", Header: http.Header{}, Body: http.NoBody, Request: req}
		if req.Body != nil {
			io.Copy(io.Discard, req.Body)
			req.Body.Close()
		}
		switch req.Method {
		case http.MethodPost:
			resp.Header.Set("Location", "/v2/acme/app/blobs/upload/1")
		case http.MethodPut:
			resp.StatusCode = 201
		case http.MethodGet:
			resp.StatusCode, resp.ContentLength = 200, size
			resp.Body = io.NopCloser(ghcrtest.RandomContent(1, size))
		}
		return resp, nil
	})
	send := func(rt http.RoundTripper, method, url string, body io.Reader) *http.Response {
		req, err := http.NewRequestWithContext(b.Context(), method, url, body)
		if err != nil {
			b.Fatal(err)
		}
		if body != nil {
			req.ContentLength = size
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || method == "GET" && n != size {
			b.Fatalf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
		return resp
	}
	push := func(rt http.RoundTripper) {
		opened := send(rt, "POST", host+"/v2/acme/app/blobs/uploads/", nil)
		send(rt, "PUT", host+opened.Header.Get("Location")+"?digest="+d, ghcrtest.RandomContent(1, size))
	}
	pull := func(rt http.RoundTripper) { send(rt, "GET", host+"/v2/acme/app/blobs/"+d, nil) }
	dir := b.TempDir()
	for _, step := range []struct {
		name string
		opts cassette.Options
		do   func(http.RoundTripper)
	}{
		{"record", cassette.Options{Mode: cassette.ModeRecord, Base: server}, func(rt http.RoundTripper) { push(rt); pull(rt) }},
		{"replay push", cassette.Options{AllowUnused: true}, push},
		{"replay pull", cassette.Options{AllowUnused: true}, pull},
	} {
		b.Run(step.name, func(b *testing.B) {
			b.SetBytes(size)
			stop := peak()
			for b.Loop() {
				c, err := cassette.Open(dir, step.opts)
				if err != nil {
					b.Fatal(err)
				}
				step.do(c)
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
			most := stop()
			b.ReportMetric(float64(most)/(1<<20), "peak-MiB")
			if most > limit {
				b.Errorf("held %d bytes at most, want less than %d", most, limit)
			}
		})
	}
}

// BenchmarkReplay is what an interaction of a large cassette takes, opening and
// closing included.
func BenchmarkReplay(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			urls := make([]string, n)
			for i := range urls {
				urls[i] = fmt.Sprintf("%s/v2/acme/app/manifests/v%d", host, i)
			}
			all := func(rt http.RoundTripper) {
				for _, u := range urls {
					ask(b, rt, "HEAD", u, "")
				}
			}
			dir := record(b, cassette.Options{}, &script{answers: []answer{{status: 200, header: http.Header{"Docker-Content-Digest": {"sha256:" + strings.Repeat("a", 64)}}}}}, all)
			for b.Loop() {
				replay(b, cassette.Options{}, dir, all)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/interaction")
		})
	}
}

// BenchmarkRecord is what looking for secrets, hashing and writing cost for each
// byte of an answer.
func BenchmarkRecord(b *testing.B) {
	const size = 64 << 20
	h := digest.SHA256.Digester()
	if _, err := io.Copy(h.Hash(), ghcrtest.RandomContent(2, size)); err != nil {
		b.Fatal(err)
	}
	server := roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: size, Body: io.NopCloser(ghcrtest.RandomContent(2, size)), Request: req}, nil
	})
	dir := b.TempDir()
	b.SetBytes(size)
	for b.Loop() {
		c, err := cassette.Open(dir, cassette.Options{Mode: cassette.ModeRecord, Base: server})
		if err != nil {
			b.Fatal(err)
		}
		req, err := http.NewRequestWithContext(b.Context(), "GET", host+"/v2/acme/app/blobs/"+h.Digest().String(), nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
