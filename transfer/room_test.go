package transfer

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/llm-dev-ops/ghcr/oci"
)

// TestPiecesFitTheRoom: the pieces of a blob cover it, are none too small, and where
// there is one wave of them all find room at once.
func TestPiecesFitTheRoom(t *testing.T) {
	c := &copier{srcHost: "registry.example.com", roundTrip: farRoundTrip}
	for _, mib := range []int64{1, 3, 10, 30, 64, 90, 100, 128, 140, 160, 191, 200, 300, 2048, 10240} {
		size := mib << 20
		pieces := c.pieces([]Span{{0, size}}, pieceSize([]oci.Descriptor{{Size: size}}))
		var at int64
		for _, s := range pieces {
			if s.Offset != at || s.Length <= 0 || len(pieces) > 1 && s.Length < minPiece {
				t.Errorf("%d MiB: a piece %+v after byte %d", mib, s, at)
			}
			at += s.Length
		}
		if at != size {
			t.Errorf("%d MiB: pieces end at byte %d", mib, at)
		}
		if size >= minPiece*2 && size < maxPiece*16 && len(pieces) <= manyPieces {
			if n := fits(t, pieces[0].Length); n < len(pieces) {
				t.Errorf("%d MiB: there is room for %d of %d pieces of %d bytes", mib, n, len(pieces), pieces[0].Length)
			}
		}
	}
}

// fits counts how many of a size the default room holds.
func fits(t *testing.T, size int64) int {
	t.Helper()
	n := 0
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := newRoom(0)
		got := make(chan struct{}, 1000)
		for range cap(got) {
			go func() {
				if _, err := r.acquire(ctx, size); err == nil {
					got <- struct{}{}
				}
			}()
		}
		synctest.Wait()
		n = len(got)
	})
	return n
}

// TestRoom: many small blobs, or few large ones, and as many of either as were asked
// for.
func TestRoom(t *testing.T) {
	if small, large := fits(t, 1_000_000), fits(t, 1<<30); small != 64 || large != 16 {
		t.Errorf("room for %d small and %d large ones", small, large)
	}
	r := newRoom(1)
	release, err := r.acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.units.TryAcquire(1) {
		t.Error("one job, and room for another")
	}
	release()
	if _, err := newRoom(1<<62).acquire(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
