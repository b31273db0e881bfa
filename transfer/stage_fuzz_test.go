package transfer_test

import (
	"fmt"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func FuzzStage(f *testing.F) {
	f.Add([]byte{0, 10, 5, 20, 0, 200, 255, 255})
	f.Add([]byte{100, 100, 0, 100, 200, 56})
	data := ghcrtest.RandomLayer(11, 256)
	d := describe(data, digest.SHA256)
	f.Fuzz(func(t *testing.T, writes []byte) {
		l, dir := newLayout(t)
		s := mustStage(t, l, d)
		covered := make([]bool, len(data))
		for ; len(writes) >= 2; writes = writes[2:] {
			if writes[1] == 0 {
				s.Close()
				s = mustStage(t, l, d)
				continue
			}
			from, to := int(writes[0]), min(int(writes[0])+int(writes[1]), len(data))
			mustWrite(t, s, data, transfer.Span{Offset: int64(from), Length: int64(to - from)})
			for i := from; i < to; i++ {
				covered[i] = true
			}
		}
		at := int64(0)
		for _, gap := range s.Missing() {
			for i := at; i < gap.Offset+gap.Length; i++ {
				if covered[i] != (i < gap.Offset) {
					t.Fatalf("byte %d: written %v, missing %v", i, covered[i], s.Missing())
				}
			}
			at = gap.Offset + gap.Length
		}
		mustWrite(t, s, data, s.Missing()...)
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, dir, d, data)
	})
}

func BenchmarkStage(b *testing.B) {
	data := ghcrtest.RandomLayer(12, 64<<20)
	d := describe(data, digest.SHA256)
	const buffer = 256 << 10
	write := func(b *testing.B, s *transfer.Stage, piece transfer.Span) {
		for _, span := range cut(piece.Length, buffer) {
			span.Offset += piece.Offset
			mustWrite(b, s, data, span)
		}
	}
	for _, streams := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			b.SetBytes(d.Size)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				l, _ := newLayout(b)
				b.StartTimer()
				s := mustStage(b, l, d)
				pieces := make(chan transfer.Span)
				var wg sync.WaitGroup
				for range streams {
					wg.Go(func() {
						for piece := range pieces {
							write(b, s, piece)
						}
					})
				}
				for _, piece := range cut(d.Size, 8<<20) {
					pieces <- piece
				}
				close(pieces)
				wg.Wait()
				if err := s.Commit(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
