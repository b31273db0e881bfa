package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// fileBody is what is expected of a body that the kernel can send.
type fileBody interface {
	io.ReadCloser
	syscall.Conn
	Position() int64
}

// store puts a blob into a layout as a file.
func store(t testing.TB, dir string, data []byte) oci.Descriptor {
	t.Helper()
	d := describe(data, digest.SHA256)
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

func openBody(t testing.TB, src transfer.Source, d oci.Descriptor, offset, length int64) fileBody {
	t.Helper()
	body, err := src.Blob(t.Context(), d, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { body.Close() })
	file, ok := body.(fileBody)
	if !ok {
		t.Fatalf("%T is no file's section", body)
	}
	if _, ok := body.(io.WriterTo); ok {
		t.Errorf("%T has a WriteTo, which would run past its end", body)
	}
	return file
}

func TestSectionReadsItsPart(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(20, 100_000)
	l, dir := newLayout(t)
	d := store(t, dir, data)
	for _, c := range []struct{ offset, length, end int64 }{
		{0, -1, 100_000}, {0, 100_000, 100_000}, {99_999, -1, 100_000}, {100_000, -1, 100_000},
		{100_000, 0, 100_000}, {10, 20, 30}, {0, 0, 0}, {40_000, 50_000, 90_000},
	} {
		body := openBody(t, l, d, c.offset, c.length)
		got, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(got, data[c.offset:c.end]) {
			t.Errorf("%v: %d bytes, %v", c, len(got), err)
		}
		if n := body.Position(); n != c.end-c.offset {
			t.Errorf("%v: position %d at the end", c, n)
		}
		if err := errors.Join(body.Close(), body.Close()); err != nil {
			t.Errorf("%v: close: %v", c, err)
		}
		if n := body.Position(); n != c.end-c.offset {
			t.Errorf("%v: position %d after close", c, n)
		}
		if _, err := body.Read(make([]byte, 1)); err == nil {
			t.Errorf("%v: a read after close succeeded", c)
		}
	}
	for _, c := range [][2]int64{{-1, 5}, {100_001, -1}, {100_001, 0}, {0, 100_001}, {1 << 62, 1 << 62}, {-1 << 63, -1}} {
		if body, err := l.Blob(t.Context(), d, c[0], c[1]); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("blob from %d, %d bytes: %v, %v", c[0], c[1], body, err)
		}
	}
}

func TestSectionOfAFileThatShrank(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(21, 1000)
	l, dir := newLayout(t)
	d := store(t, dir, data)
	body := openBody(t, l, d, 0, -1)
	if err := os.Truncate(filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), 600); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); len(got) != 600 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestSectionsAreSent sends parts of one blob over several connections, as net/http
// does it: by the kernel, and draining what is left of the body afterwards.
func TestSectionsAreSent(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(22, 4<<20)
	l, dir := newLayout(t)
	d := store(t, dir, data)
	var mu sync.Mutex
	got := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = body
	}))
	defer server.Close()
	var wg sync.WaitGroup
	for i, part := range cut(d.Size, 1<<20) {
		body := openBody(t, l, d, part.Offset, part.Length)
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/"+fmt.Sprint(i), body)
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = part.Length
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		wg.Go(func() {
			for last := int64(0); ; {
				n := body.Position()
				if n < last || n > part.Length {
					t.Errorf("position went from %d to %d of %d", last, n, part.Length)
					return
				}
				last = n
				select {
				case <-done:
					if n := body.Position(); n != part.Length {
						t.Errorf("position %d after %d bytes were sent", n, part.Length)
					}
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	for i, part := range cut(d.Size, 1<<20) {
		if !bytes.Equal(got[fmt.Sprint("/", i)], data[part.Offset:part.Offset+part.Length]) {
			t.Errorf("part %d arrived wrong", i)
		}
	}
}
