package cassette_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// away is a network on which each request takes a while.
type away struct {
	http.RoundTripper
	by time.Duration
}

func (a away) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(a.by)
	return a.RoundTripper.RoundTrip(r)
}

// TestPulledFromAnotherDistance: a pull takes a blob in pieces where the registry is
// far away, and whole where it is near. Recorded at one distance it is replayed at
// the other.
func TestPulledFromAnotherDistance(t *testing.T) {
	distances := []time.Duration{0, 40 * time.Millisecond}
	for _, recorded := range distances {
		for _, replayed := range distances {
			for _, redirects := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s to %s, redirects %v", recorded, replayed, redirects), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						quirks := ghcrtest.GHCR()
						quirks.BlobRedirect = redirects
						server := emulator(t, &quirks)
						img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 7<<20), ghcrtest.RandomLayer(2, 100))
						copyImage(t, server.Transport(), layout(t, img), "acme/app:v1", transfer.Options{})
						pull := func(rt http.RoundTripper) {
							copyImage(t, rt, "acme/app:v1", "oci:"+t.TempDir(), transfer.Options{})
						}
						dir := record(t, cassette.Options{}, away{server.Transport(), recorded}, pull)
						replay(t, cassette.Options{}, dir, func(rt http.RoundTripper) { pull(away{rt, replayed}) })
					})
				})
			}
		}
	}
}

// TestLargeBlobsPushedAgain: whether a large blob is there is asked in two ways at
// once, and both are in the recording whichever answer comes first.
func TestLargeBlobsPushedAgain(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			server := emulator(t, nil)
			layers := [][]byte{ghcrtest.RandomLayer(seed, 5<<20), ghcrtest.RandomLayer(100+seed, 4<<20)}
			src := layout(t, ghcrtest.NewImage("linux/arm64", layers...))
			copyImage(t, server.Transport(), layout(t, ghcrtest.NewImage("linux/amd64", layers...)), "acme/app:v1", transfer.Options{})
			push := func(rt http.RoundTripper) { copyImage(t, rt, src, "acme/app:v2", transfer.Options{}) }
			dir := record(t, cassette.Options{}, server.Transport(), push)
			replay(t, cassette.Options{}, dir, push)
		})
	}
}

// TestReadsOfOneBlob: no byte is given that was not read then, none twice that was
// read once, and what was not read again is reported.
func TestReadsOfOneBlob(t *testing.T) {
	const blob = "0123456789"
	url := host + "/v2/acme/app/blobs/" + digestOf(blob)
	ranges := func(first, last int) answer {
		return answer{status: 206, body: blob[first : last+1], header: http.Header{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/10", first, last)}, "Content-Length": {fmt.Sprint(last + 1 - first)}, "Etag": {`"e"`},
		}}
	}
	whole := answer{status: 200, body: blob}
	for name, test := range map[string]struct {
		recorded map[string]answer
		asked    []string
		want     []string // empty for a miss
		unused   bool
		opts     cassette.Options
	}{
		"pieces, read whole": {
			recorded: map[string]answer{"bytes=0-4": ranges(0, 4), "bytes=5-": ranges(5, 9)},
			asked:    []string{""}, want: []string{"200 " + blob},
		},
		"whole, read in pieces": {
			recorded: map[string]answer{"": whole},
			asked:    []string{"bytes=7-", "bytes=0-2", "bytes=3-6"}, want: []string{"206 789", "206 012", "206 3456"},
		},
		"pieces, read in others": {
			recorded: map[string]answer{"bytes=0-4": ranges(0, 4), "bytes=5-": ranges(5, 9)},
			asked:    []string{"bytes=0-1", "bytes=2-99"}, want: []string{"206 01", "206 23456789"},
		},
		"more than was read": {
			recorded: map[string]answer{"": whole},
			asked:    []string{"bytes=0-4", "bytes=5-", "bytes=0-1"}, want: []string{"206 01234", "206 56789", ""},
		},
		"again": {
			recorded: map[string]answer{"bytes=0-4": ranges(0, 4), "bytes=5-": ranges(5, 9)},
			asked:    []string{"", ""}, want: []string{"200 " + blob, ""},
		},
		"less than was read": {
			recorded: map[string]answer{"": whole},
			asked:    []string{"bytes=0-4"}, want: []string{"206 01234"}, unused: true,
		},
		"bytes that were not read": {
			recorded: map[string]answer{"bytes=0-4": ranges(0, 4)},
			asked:    []string{"bytes=0-6", "bytes=0-1"}, want: []string{"", ""}, unused: true,
		},
		"a server that ignores ranges": {
			recorded: map[string]answer{"bytes=5-": whole},
			asked:    []string{"bytes=7-"}, want: []string{"200 " + blob},
		},
		"ranges that make no sense": {
			recorded: map[string]answer{"": whole},
			asked:    []string{"bytes=10-", "bytes=5-4", "bytes=-3", "bytes=0-1,4-5", "lines=1-2"}, want: []string{"", "", "", "", ""}, unused: true,
		},
		"refused": {
			recorded: map[string]answer{"bytes=0-4": {status: 404}},
			asked:    []string{"", ""}, want: []string{"404 ", "404 "},
		},
		"in strict order": {
			recorded: map[string]answer{"": whole},
			asked:    []string{"bytes=0-4"}, want: []string{""}, unused: true, opts: cassette.Options{Order: cassette.OrderStrict},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := &script{}
			for _, a := range test.recorded {
				server.answers = append(server.answers, a)
			}
			get := func(rt http.RoundTripper, span string) (string, error) {
				if span == "" {
					return tryAsk(t, rt, "GET", url, "")
				}
				return tryAsk(t, rt, "GET", url, "", "Range", span)
			}
			dir := record(t, cassette.Options{}, server, func(rt http.RoundTripper) {
				for span, a := range test.recorded {
					server.answers = []answer{a}
					if _, err := get(rt, span); err != nil {
						t.Fatal(err)
					}
				}
			})
			c, err := cassette.Open(dir, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			for i, span := range test.asked {
				got, err := get(c, span)
				if test.want[i] == "" {
					if !errors.Is(err, cassette.ErrNotRecorded) {
						t.Errorf("%q: got %q, %v; want a miss", span, got, err)
					}
				} else if err != nil || got != test.want[i] {
					t.Errorf("%q: got %q, %v; want %q", span, got, err, test.want[i])
				}
			}
			var unused *cassette.UnusedError
			if err := c.Close(); errors.As(err, &unused) != test.unused {
				t.Errorf("closed with %v", err)
			}
		})
	}
}

// TestOtherPiecesOfAChangedBlob: what was not read in these pieces is checked too.
func TestOtherPiecesOfAChangedBlob(t *testing.T) {
	blob := strings.Repeat("0123456789", 1000)
	url := host + "/v2/acme/app/blobs/" + digestOf(blob)
	dir := record(t, cassette.Options{}, &script{answers: []answer{{status: 200, body: blob}}}, func(rt http.RoundTripper) {
		ask(t, rt, "GET", url, "")
	})
	file := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digestOf(blob), "sha256:"))
	changed := []byte(blob)
	changed[9000] ^= 1
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cassette.Open(dir, cassette.Options{AllowUnused: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, span := range []string{"bytes=0-9", "bytes=8995-9004"} {
		if got, err := tryAsk(t, c, "GET", url, "", "Range", span); !errors.Is(err, oci.ErrIntegrity) {
			t.Errorf("%s: got %q, %v", span, got, err)
		}
	}
}
