package ghcrtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// start serves a plain registry, without limits or logins, over a socket.
func start(b *testing.B, dir string) (*ghcrtest.Running, *http.Client) {
	b.Helper()
	spec := ghcrtest.Spec()
	server := ghcrtest.Start(b, ghcrtest.Options{Quirks: &spec, Open: true, NoLog: true, Dir: dir})
	transport := &http.Transport{MaxIdleConnsPerHost: 64, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	b.Cleanup(transport.CloseIdleConnections)
	return server, &http.Client{Transport: transport}
}

func exchange(b *testing.B, client *http.Client, method, url string, body io.Reader, size int64) *http.Response {
	b.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		b.Fatal(err)
	}
	req.ContentLength = size
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		b.Fatalf("%s %s: %s", method, url, resp.Status)
	}
	return resp
}

func BenchmarkManifestGet(b *testing.B) {
	server, client := start(b, "")
	for i := range 1000 {
		if err := server.Add("acme/app", fmt.Sprint("v", i), ghcrtest.NewIndex()); err != nil {
			b.Fatal(err)
		}
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			exchange(b, client, "GET", server.URL()+"/v2/acme/app/manifests/v500", nil, 0)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "GET/s")
}

func BenchmarkManifestPut(b *testing.B) {
	for _, place := range []string{"memory", "directory"} {
		b.Run(place, func(b *testing.B) {
			dir := ""
			if place == "directory" {
				dir = b.TempDir()
			}
			server, client := start(b, dir)
			manifest := string(ghcrtest.NewIndex().Manifest.Bytes())
			for i := 0; b.Loop(); i++ {
				exchange(b, client, "PUT", fmt.Sprint(server.URL(), "/v2/acme/app/manifests/v", i), strings.NewReader(manifest), int64(len(manifest)))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "PUT/s")
		})
	}
}

// blobSizes are of a small and of a large layer; the large one shows that memory
// does not grow with it.
var blobSizes = []int64{1 << 10, 256 << 20}

func BenchmarkBlobPush(b *testing.B) {
	for _, size := range blobSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			server, client := start(b, "")
			h := digest.SHA256.Digester()
			if _, err := io.Copy(h.Hash(), ghcrtest.RandomContent(1, size)); err != nil {
				b.Fatal(err)
			}
			url := server.URL() + "/v2/acme/app/blobs/uploads/?digest=" + h.Digest().String()
			b.SetBytes(size)
			for b.Loop() {
				exchange(b, client, "POST", url, ghcrtest.RandomContent(1, size), size)
			}
		})
	}
}

func BenchmarkBlobPull(b *testing.B) {
	for _, size := range blobSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			server, client := start(b, "")
			h := digest.SHA256.Digester()
			if _, err := io.Copy(h.Hash(), ghcrtest.RandomContent(1, size)); err != nil {
				b.Fatal(err)
			}
			exchange(b, client, "POST", server.URL()+"/v2/acme/app/blobs/uploads/?digest="+h.Digest().String(), ghcrtest.RandomContent(1, size), size)
			b.SetBytes(size)
			for b.Loop() {
				exchange(b, client, "GET", server.URL()+"/v2/acme/app/blobs/"+h.Digest().String(), nil, 0)
			}
		})
	}
}
