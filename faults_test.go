package ghcr_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// blobSize is enough for a fault to have a middle.
const blobSize = 300_000

// bigImage is an image with one layer worth interrupting.
func bigImage() *ghcrtest.Image {
	return ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(7, blobSize))
}

// onlyWholeBlobs checks that whatever has its final name in a layout is what the
// name says.
func onlyWholeBlobs(t *testing.T, dir string) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(blobs, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != e.Name() {
			t.Errorf("%s has its name and %d bytes of something else", e.Name(), len(data))
		}
	}
}

// limitBody is what GHCR says of its rate limit.
const limitBody = `{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 6.565868ms, allowed: 2000/minute"}]}`

const secondaryBody = `{"errors":[{"code":"DENIED","message":"permission_denied: Error from intermediary with HTTP status code 403 \"Forbidden\" - with-body: {\"message\":\"You have exceeded a secondary rate limit.\"}"}]}`

const egressBody = `<?xml version="1.0"?><Error><Code>ServerBusy</Code><Message>Egress is over the account limit.</Message></Error>`

// TestSurvives: each of these happens to a push or a pull, and the image arrives
// whole all the same.
func TestSurvives(t *testing.T) {
	put, get := ghcrtest.RouteUploadCommit, ghcrtest.RouteSigned
	layer := bigImage().Manifest.Layers[0].Digest.String()
	expire := func(s *ghcrtest.Server) { s.ExpireTokens() }
	for _, test := range []struct {
		name   string
		faults []ghcrtest.Fault
		quirks func(*ghcrtest.Quirks)
		pull   bool
		least  time.Duration // virtual time that it must take
	}{
		{name: "push: token expires before the body is sent", quirks: noDirect, faults: []ghcrtest.Fault{{Route: put, Do: expire}}},
		{name: "push: 401 after the body was read", faults: []ghcrtest.Fault{{Route: put, Served: true, Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer realm="https://ghcr.io/token",service="ghcr.io"`}}, Body: "{}"}}},
		{name: "push: reset before the answer", faults: []ghcrtest.Fault{{Route: put, Break: true, Reset: true}}},
		{name: "push: connection closed before the answer", faults: []ghcrtest.Fault{{Route: put, Break: true}}},
		{name: "push: 503 at the start of an upload", faults: []ghcrtest.Fault{{Route: ghcrtest.RouteUploadStart, Status: 503, Times: 2}}, least: 700 * time.Millisecond},
		{name: "push: 503 at the commit", faults: []ghcrtest.Fault{{Route: put, Status: 503}}},
		{name: "push: 503 at the manifest", faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Method: "PUT", Status: 503, Times: 3}}, least: 5 * time.Second},
		{name: "push: reset at the manifest", faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Method: "PUT", Break: true, Reset: true}}},
		{name: "push: 429 as GHCR says it", faults: []ghcrtest.Fault{{Route: ghcrtest.RouteUploadStart, Status: 429, Body: limitBody}}},
		{name: "push: 429 at the commit", faults: []ghcrtest.Fault{{Route: put, Status: 429, Body: limitBody}}},
		{name: "push: 429 with Retry-After in seconds", least: 29 * time.Second, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteUploadStart, Status: 429, Header: http.Header{"Retry-After": {"30"}}}}},
		{name: "push: secondary limit in a 403", least: time.Minute, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteUploadStart, Status: 403, Body: secondaryBody}}},
		{name: "push: commit stored, answer lost", faults: []ghcrtest.Fault{{Route: put, Served: true, Break: true}}},
		{name: "push: commit stored, answer too late", least: 5 * time.Minute, quirks: func(q *ghcrtest.Quirks) { q.CommitDelay = 20 * time.Minute }},
		{name: "push: commit stored, then 404", faults: []ghcrtest.Fault{{Route: put, Served: true, Status: 404, Body: `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`}}},
		{name: "push: commit lost", faults: []ghcrtest.Fault{{Route: put, Do: func(s *ghcrtest.Server) { s.DropSessions() }}}},
		{name: "push: manifest refused although the blob is there", faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Method: "PUT", Status: 400,
			Body: `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry","detail":"` + layer + `"}]}`}}},
		{name: "push: stalls before the answer", least: 59 * time.Second, faults: []ghcrtest.Fault{{Route: put, Delay: time.Hour}}},

		{name: "pull: token expires", pull: true, quirks: noDirect, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteBlob, Do: expire}}},
		{name: "pull: signed URL expires in mid-download", pull: true, faults: []ghcrtest.Fault{
			{Route: get, Ref: layer, ResponseBytes: blobSize / 2, Break: true},
			{Route: get, Ref: layer, Status: 403, Body: "<Error><Code>AuthenticationFailed</Code></Error>"}}},
		{name: "pull: 503 from the storage host", pull: true, least: 2 * time.Second, faults: []ghcrtest.Fault{{Route: get, Ref: layer, Status: 503, Body: egressBody, Times: 2}}},
		{name: "pull: 429 as GHCR says it", pull: true, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Status: 429, Body: limitBody}}},
		{name: "pull: 429 without an allowance", pull: true, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteBlob, Status: 429, Body: `{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 333.939671ms"}]}`}}},
		{name: "pull: 429 with Retry-After as a date", pull: true, least: 20 * time.Second, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Status: 429,
			// The bubble's clock begins here.
			Header: http.Header{"Retry-After": {time.Date(2000, 1, 1, 0, 0, 25, 0, time.UTC).Format(http.TimeFormat)}}}}},
		{name: "pull: secondary limit in a 403", pull: true, least: time.Minute, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, Status: 403, Body: secondaryBody}}},
		{name: "pull: reset before the answer", pull: true, faults: []ghcrtest.Fault{{Route: get, Break: true, Reset: true}}},
		{name: "pull: stalls in mid-body", pull: true, least: time.Minute, faults: []ghcrtest.Fault{{Route: get, Ref: layer, ResponseBytes: 1000, Stall: time.Hour}}},
		{name: "pull: manifest cut off", pull: true, faults: []ghcrtest.Fault{{Route: ghcrtest.RouteManifest, ResponseBytes: 10, Break: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				if test.quirks != nil {
					test.quirks(&quirks)
				}
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
				img := bigImage()
				if test.pull {
					if err := s.server.Add("acme/app", "v1", img); err != nil {
						t.Fatal(err)
					}
				}
				s.server.Inject(test.faults...)
				began := time.Now()
				if test.pull {
					dir := t.TempDir()
					s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
					onlyWholeBlobs(t, dir)
					s.mustCopy("oci:"+dir+":v1", "acme/back:v1", transfer.Options{})
					s.holds("acme/back", "v1", img)
				} else {
					s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
					s.holds("acme/app", "v1", img)
				}
				if took := time.Since(began); took < test.least {
					t.Errorf("took %s, must wait at least %s", took, test.least)
				}
				if len(s.server.Faults()) < len(test.faults) {
					t.Errorf("%d of %d faults happened", len(s.server.Faults()), len(test.faults))
				}
			})
		})
	}
}

func noDirect(q *ghcrtest.Quirks) { q.DirectBearer = false }

// TestSurvivesCutAtAnyOffset breaks the connection at every kind of place in a
// body, in both directions.
func TestSurvivesCutAtAnyOffset(t *testing.T) {
	layer := bigImage().Manifest.Layers[0].Digest.String()
	for _, at := range []int64{1, 100, blobSize / 2, blobSize - 1} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("pull, byte %d, reset %v", at, reset), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSandbox(t, ghcrtest.Options{})
					img := bigImage()
					if err := s.server.Add("acme/app", "v1", img); err != nil {
						t.Fatal(err)
					}
					s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: at, Break: true, Reset: reset})
					dir := t.TempDir()
					s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
					onlyWholeBlobs(t, dir)
					if len(s.server.Faults()) == 0 {
						t.Error("nothing was broken")
					}
					var again []string
					for _, r := range s.log() {
						if r.Range != "" {
							again = append(again, r.Range)
						}
					}
					if len(again) != 1 {
						t.Errorf("went on with ranges %v, want one", again)
					}
				})
			})
			t.Run(fmt.Sprintf("push, byte %d, reset %v", at, reset), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSandbox(t, ghcrtest.Options{})
					img := bigImage()
					s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, After: 0, RequestBytes: at, Reset: reset, Repo: "acme/app"})
					s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
					s.holds("acme/app", "v1", img)
					if len(s.server.Faults()) == 0 {
						t.Error("nothing was broken")
					}
				})
			})
		}
	}
}

// TestUploadGoesOnFromAcknowledgedByte: what the registry has is not sent again.
func TestUploadGoesOnFromAcknowledgedByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := bigImage()
		// The layer is the larger of two blobs, and so begun first; but the order of
		// arrival is open, so the fault waits for a body that is long enough.
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 200_000, Times: 1},
			ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 200_000, Times: 1})
		s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", img)
		var sent int64
		var chunks []string
		for _, r := range s.log() {
			sent += r.Received
			if r.Route == ghcrtest.RouteUploadChunk {
				chunks = append(chunks, r.ContentRange)
			}
		}
		if want := fmt.Sprintf("200000-%d", blobSize-1); len(chunks) != 1 || chunks[0] != want {
			t.Errorf("chunks %v, want %s", chunks, want)
		}
		if sent > blobSize+10_000 {
			t.Errorf("sent %d bytes for %d", sent, blobSize)
		}
	})
}

// TestChunkCap416: GHCR refuses a chunk over 4 MiB; the limit is learned from its
// words.
func TestChunkCap416(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.ChunkCap = 1 << 20
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		var err error
		s.client, err = ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, ChunkSize: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(3, 3<<20))
		s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", img)
		refused := 0
		for _, r := range s.log() {
			if r.Status == http.StatusRequestedRangeNotSatisfiable {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d chunks were refused, want 1: the limit is in the refusal", refused)
		}
	})
}

// TestShorterRangeAcknowledged: the registry took less of a chunk than was sent.
func TestShorterRangeAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		var err error
		s.client, err = ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, ChunkSize: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteUploadChunk, AcceptBytes: 40_000, After: 1})
		img := bigImage()
		s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", img)
		if len(s.server.Faults()) != 1 {
			t.Error("the chunk was taken whole")
		}
	})
}

// TestWrongBytesOfRightLength: nothing gets a name that it does not deserve, and
// the next run succeeds.
func TestWrongBytesOfRightLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := bigImage()
		if err := s.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: img.Manifest.Layers[0].Digest.String(), ResponseBytes: blobSize / 3, Corrupt: true})
		dir := t.TempDir()
		_, err := s.copy("acme/app:v1", "oci:"+dir, transfer.Options{})
		if !errors.Is(err, ghcr.ErrIntegrity) {
			t.Errorf("got %v, want ErrIntegrity", err)
		}
		onlyWholeBlobs(t, dir)
		s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
		onlyWholeBlobs(t, dir)
	})
}

// TestWrongManifestBytes: the manifest under a tag is checked against the digest
// that the registry states.
func TestWrongManifestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		if err := s.server.Add("acme/app", "v1", bigImage()); err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, ResponseBytes: 40, Corrupt: true})
		dir := t.TempDir()
		if _, err := s.copy("acme/app:v1", "oci:"+dir, transfer.Options{}); !errors.Is(err, ghcr.ErrIntegrity) && !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("got %v", err)
		}
		onlyWholeBlobs(t, dir)
	})
}

// TestWrongBytesCopiedBetweenRegistries: the source's fault does not reach the
// target.
func TestWrongBytesCopiedBetweenRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.MountSelf = false
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		img := bigImage()
		if err := s.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: img.Manifest.Layers[0].Digest.String(), ResponseBytes: blobSize / 3, Corrupt: true, Times: -1})
		// The same emulator under another name is another registry to the client.
		_, err := s.copy("acme/app:v1", "mirror.example.com/acme/app:v1", transfer.Options{})
		if !errors.Is(err, ghcr.ErrIntegrity) || !strings.Contains(err.Error(), "source's blob") {
			t.Errorf("got %v, want ErrIntegrity that names the source", err)
		}
	})
}

// TestWrongBytesOnTheWayBetweenRegistries: where the source is right when it is
// asked again, it is not said to be wrong.
func TestWrongBytesOnTheWayBetweenRegistries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.MountSelf = false
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		img := bigImage()
		if err := s.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: img.Manifest.Layers[0].Digest.String(), ResponseBytes: blobSize / 3, Corrupt: true})
		_, err := s.copy("acme/app:v1", "mirror.example.com/acme/app:v1", transfer.Options{})
		if !errors.Is(err, ghcr.ErrIntegrity) || !strings.Contains(err.Error(), "changed on the way") {
			t.Errorf("got %v, want ErrIntegrity that blames the way", err)
		}
		if _, err := s.copy("acme/app:v1", "mirror.example.com/acme/app:v1", transfer.Options{}); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// TestWrongBytesPulledAreReadOnce: what was hashed as it came is not fetched again to
// find out whose fault it is.
func TestWrongBytesPulledAreReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := bigImage()
		if err := s.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		layer := img.Manifest.Layers[0].Digest.String()
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: blobSize / 3, Corrupt: true, Times: -1})
		if _, err := s.copy("acme/app:v1", "oci:"+t.TempDir(), transfer.Options{}); !errors.Is(err, ghcr.ErrIntegrity) {
			t.Errorf("got %v, want ErrIntegrity", err)
		}
		reads := 0
		for _, r := range s.log() {
			if r.Route == ghcrtest.RouteSigned && r.Ref == layer {
				reads++
			}
		}
		if reads != 1 {
			t.Errorf("the layer was read %d times", reads)
		}
	})
}

// TestTagMovesDuringPull: what is pulled is one image, not a mixture of two.
func TestTagMovesDuringPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		old, next := ghcrtest.NewIndex(image(1, 2)), ghcrtest.NewIndex(image(2, 2))
		if err := s.server.Add("acme/app", "v1", old); err != nil {
			t.Fatal(err)
		}
		s.server.Inject(ghcrtest.Fault{Route: ghcrtest.RouteManifest, After: 1, Do: func(server *ghcrtest.Server) {
			if err := server.Add("acme/app", "v1", next); err != nil {
				t.Error(err)
			}
		}})
		dir := t.TempDir()
		result := s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
		if result.Descriptor.Digest != old.Digest() {
			t.Errorf("got %s, want the image that the tag named at first", result.Descriptor.Digest)
		}
		onlyWholeBlobs(t, dir)
	})
}

// TestCancelAtAnyPoint ends a transfer at each of its requests. Nothing is half
// done under a final name, the tag is not there before all else is, and a second
// run finishes.
func TestCancelAtAnyPoint(t *testing.T) {
	for k := range 12 {
		t.Run(fmt.Sprint("pull, request ", k), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				img := bigImage()
				if err := s.server.Add("acme/app", "v1", img); err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				s.cancelAt(k, "acme/app:v1", "oci:"+dir)
				onlyWholeBlobs(t, dir)
				s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
				onlyWholeBlobs(t, dir)
			})
		})
		t.Run(fmt.Sprint("push, request ", k), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				img := bigImage()
				layout := s.layout(img)
				if s.cancelAt(k, layout, "acme/app:v1") {
					if err := s.server.Holds("acme/app", "v1", img); err == nil && k < 4 {
						t.Error("the tag is there although the push was cut off before its manifest")
					}
				}
				s.mustCopy(layout, "acme/app:v1", transfer.Options{})
				s.holds("acme/app", "v1", img)
			})
		})
	}
}

// cancelAt copies and cancels when the k-th request arrives. It tells whether the
// copy got that far.
func (s *sandbox) cancelAt(k int, src, dst string) bool {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.server.Inject(ghcrtest.Fault{After: k, Do: func(*ghcrtest.Server) { cancel() }, Delay: time.Minute})
	from, err := s.client.ParseEnd(src)
	if err != nil {
		s.t.Fatal(err)
	}
	to, err := s.client.ParseEnd(dst)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.client.Copy(ctx, from, to, transfer.Options{})
	if len(s.server.Faults()) == 0 {
		return false
	}
	if !errors.Is(err, context.Canceled) {
		s.t.Errorf("got %v, want context.Canceled", err)
	}
	return true
}

// TestSecondRunPicksUp: a pull that failed half way does not fetch again what it
// has.
func TestSecondRunPicksUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := bigImage()
		if err := s.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		layer := img.Manifest.Layers[0].Digest.String()
		s.server.Inject(
			ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: 200_000, Break: true},
			ghcrtest.Fault{Route: ghcrtest.RouteSigned, Ref: layer, Break: true, Times: 20},
		)
		dir := t.TempDir()
		if _, err := s.copy("acme/app:v1", "oci:"+dir, transfer.Options{}); err == nil {
			t.Fatal("the first run succeeded")
		}
		onlyWholeBlobs(t, dir)
		s.server.Inject() // the faults are used up only in part; a new server has none
		fresh := newSandbox(t, ghcrtest.Options{})
		if err := fresh.server.Add("acme/app", "v1", img); err != nil {
			t.Fatal(err)
		}
		fresh.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
		onlyWholeBlobs(t, dir)
		for _, r := range fresh.log() {
			if r.Route == ghcrtest.RouteSigned && r.Ref == layer && r.Sent > blobSize-200_000 {
				t.Errorf("fetched %d bytes (%s), although 200000 of %d were there", r.Sent, r.Range, blobSize)
			}
		}
	})
}

// TestLargeBlobInPieces: where the way is long, a large blob comes in ranges over
// several connections; where ranges do not work, whole.
func TestLargeBlobInPieces(t *testing.T) {
	const size = 30 << 20
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(11, size))
	layer := img.Manifest.Layers[0].Digest.String()
	far := ghcrtest.Fault{Route: ghcrtest.RouteManifest, Delay: 50 * time.Millisecond}
	for name, test := range map[string]struct {
		faults []ghcrtest.Fault
		ranges bool
	}{
		"all goes well": {nil, true},
		"pieces break off": {[]ghcrtest.Fault{
			{Route: ghcrtest.RouteSigned, Ref: layer, ResponseBytes: 1 << 20, Break: true, Times: 3},
			{Route: ghcrtest.RouteSigned, Ref: layer, Status: 503, Times: 2, After: 4}}, true},
		"the address expires": {[]ghcrtest.Fault{{Route: ghcrtest.RouteSigned, Ref: layer, After: 1, Do: func(s *ghcrtest.Server) { s.ExpireSignedURLs() }}}, true},
		"ranges are ignored":  {[]ghcrtest.Fault{{Route: ghcrtest.RouteSigned, Ref: layer, IgnoreRange: true, Times: -1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				if err := s.server.Add("acme/app", "v1", img); err != nil {
					t.Fatal(err)
				}
				s.server.Inject(append([]ghcrtest.Fault{far}, test.faults...)...)
				dir := t.TempDir()
				s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
				onlyWholeBlobs(t, dir)
				pieces := 0
				for _, r := range s.log() {
					if r.Ref == layer && r.Range != "" && r.Status == http.StatusPartialContent {
						pieces++
					}
				}
				if test.ranges != (pieces > 1) {
					t.Errorf("%d pieces", pieces)
				}
			})
		})
	}
}
