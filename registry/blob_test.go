package registry_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/llm-dev-ops/ghcr/registry"
)

// closing is a body that is cut off after some bytes and tells of its Close.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	return nil
}

// TestCloseWhileABlobIsOpenedAgain: an upload that is broken off closes its content
// while it is read. A read that had just been cut off ends, and what it opens after
// that is closed too.
func TestCloseWhileABlobIsOpenedAgain(t *testing.T) {
	for name, late := range map[string]bool{"the answer comes after that": true, "no answer comes": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data := bytes.Repeat([]byte("x"), 1000)
				d, _ := content(data)
				var bodies []*closing
				closed := make(chan struct{})
				repo := repositoryOn(t, network(func(r *http.Request) (*http.Response, error) {
					resp := &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{}, Request: r}
					body := &closing{Reader: io.MultiReader(bytes.NewReader(data[:100]), iotest.ErrReader(io.ErrUnexpectedEOF))}
					if len(bodies) > 0 {
						if late {
							<-closed
						} else {
							<-r.Context().Done()
							return nil, r.Context().Err()
						}
						resp.StatusCode = http.StatusPartialContent
						resp.Header.Set("Content-Range", "bytes 100-999/"+strconv.Itoa(len(data)))
						body.Reader = bytes.NewReader(data[100:])
					}
					bodies = append(bodies, body)
					resp.Body = body
					return resp, nil
				}))
				blob, err := repo.Blob(t.Context(), d, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error)
				go func() {
					_, err := io.Copy(io.Discard, blob)
					ended <- err
				}()
				synctest.Wait() // it waits for the second answer
				if err := blob.Close(); err != nil {
					t.Error(err)
				}
				close(closed)
				if err := <-ended; !errors.Is(err, fs.ErrClosed) {
					t.Errorf("the read ended with %v", err)
				}
				for i, body := range bodies {
					if !body.closed.Load() {
						t.Errorf("the body of answer %d is open", i+1)
					}
				}
				if err := blob.Close(); err != nil {
					t.Errorf("closed again: %v", err)
				}
			})
		})
	}
}

// TestChunkIsReadUntilItsAnswer: a registry may answer before it has read a chunk. What
// still reads it then does not get the next one, which takes its place in memory.
func TestChunkIsReadUntilItsAnswer(t *testing.T) {
	data := append(bytes.Repeat([]byte("a"), registry.DefaultChunkSize), "b"...)
	var late io.Reader
	repo := repositoryOn(t, network(func(r *http.Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: http.StatusAccepted, Header: http.Header{}, Body: http.NoBody, Request: r}
		switch r.Method {
		case http.MethodPost:
			resp.Header.Set("Location", "/v2/acme/app/blobs/uploads/1")
		case http.MethodPatch:
			if late != nil {
				if n, err := late.Read(make([]byte, 10)); n > 0 || !errors.Is(err, fs.ErrClosed) {
					t.Errorf("%d bytes of the first chunk were read after its answer: %v", n, err)
				}
			}
			late = r.Body
		case http.MethodPut:
			resp.StatusCode = http.StatusCreated
		}
		return resp, nil
	}))
	if _, err := repo.PutStream(t.Context(), "application/octet-stream", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}
