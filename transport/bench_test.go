package transport_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/transport"
)

// answering is a network of no distance.
type answering struct{}

func (answering) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: 2,
		Body: io.NopCloser(strings.NewReader("{}")), Request: req,
	}, nil
}

// BenchmarkChain is what all layers together cost a request.
func BenchmarkChain(b *testing.B) {
	client, err := transport.New(transport.Options{Base: answering{}})
	if err != nil {
		b.Fatal(err)
	}
	call := transport.Call{Op: "get manifest", Target: "ghcr.io/acme/app:v1", Scopes: []transport.Scope{{Repository: "acme/app", Actions: []string{"pull"}}}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://ghcr.io/v2/acme/app/manifests/v1", nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := client.Do(req, call)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}
