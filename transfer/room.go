package transfer

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/llm-dev-ops/ghcr/oci"
)

// room bounds what moves at once. What is small takes less of it: its time goes by
// in waiting for answers, so many must be under way to use a long link, while a few
// large blobs fill any.
type room struct {
	units  *semaphore.Weighted
	strict bool // everything takes all of a job's room
}

const (
	defaultJobs = 16
	jobUnits    = 4 // of a large blob
	maxJobs     = 1 << 20
)

// newRoom has room for so many jobs of any size, or for the default.
func newRoom(jobs int) *room {
	if jobs > 0 {
		return &room{semaphore.NewWeighted(int64(min(jobs, maxJobs)) * jobUnits), true}
	}
	return &room{semaphore.NewWeighted(defaultJobs * jobUnits), false}
}

// acquire waits until there is room to move so many bytes.
func (r *room) acquire(ctx context.Context, size int64) (release func(), err error) {
	n := int64(jobUnits)
	switch {
	case r.strict:
	case size < minPiece:
		n = 1
	case size < 3*minPiece:
		n = 2
	}
	if err := r.units.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { r.units.Release(n) }, nil
}

// Pieces of a blob are worth a request each where the way to the registry is long.
// On a short way one stream is as fast and costs less.
const (
	minPiece     = 2 << 20
	maxPiece     = 8 << 20
	manyPieces   = 32
	farRoundTrip = 8e6 // nanoseconds
)

// pieceSize is the size of pieces with which all blobs of an image together use the
// room there is, so that none is left with a large one at the end.
func pieceSize(blobs []oci.Descriptor) int64 {
	var total int64
	for _, d := range blobs {
		total += d.Size
	}
	return min(max(total/manyPieces, minPiece), maxPiece)
}

// pieces cuts what is missing into ranges of the size given, or somewhat more.
func (c *copier) pieces(missing []Span, size int64) []Span {
	if c.srcHost == "" || c.roundTrip < farRoundTrip {
		return missing
	}
	var out []Span
	for _, s := range missing {
		for n := max(s.Length/size, 1); n > 0; n-- {
			length := (s.Length + n - 1) / n
			out = append(out, Span{Offset: s.Offset, Length: length})
			s.Offset, s.Length = s.Offset+length, s.Length-length
		}
	}
	return out
}
