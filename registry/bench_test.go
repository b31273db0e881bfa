package registry_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// serving is a registry of no distance that has one blob.
type serving []byte

func (blob serving) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(blob)),
		Body: io.NopCloser(bytes.NewReader(blob)), Request: req,
	}, nil
}

// BenchmarkGetBlob is what it takes to read a blob and check its digest, without a
// network.
func BenchmarkGetBlob(b *testing.B) {
	blob := make(serving, 16<<20)
	d := oci.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	client, err := transport.New(transport.Options{Base: blob})
	if err != nil {
		b.Fatal(err)
	}
	host, err := registry.New(client, "registry.example.com", registry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	repo, err := host.Repository("acme/app")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	b.SetBytes(d.Size)
	b.ReportAllocs()
	for b.Loop() {
		body, err := repo.GetBlob(b.Context(), d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{body}, buf); err != nil {
			b.Fatal(err)
		}
		body.Close()
	}
}
