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
	jobUnits    = 4       // of a large blob
	unitSize    = 2 << 20 // of what one more unit is for
)

// newRoom has room for so many jobs of any size, or for the default.
func newRoom(jobs int) *room {
	if jobs > 0 {
		return &room{semaphore.NewWeighted(int64(jobs) * jobUnits), true}
	}
	return &room{semaphore.NewWeighted(defaultJobs * jobUnits), false}
}

// acquire waits until there is room to move so many bytes.
func (r *room) acquire(ctx context.Context, size int64) (release func(), err error) {
	n := min(1+size/unitSize, jobUnits)
	if r.strict {
		n = jobUnits
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
// connections there are, so that none is left with a large one at the end.
func pieceSize(blobs []oci.Descriptor) int64 {
	var total int64
	for _, d := range blobs {
		total += d.Size
	}
	return min(max(total/manyPieces, minPiece), maxPiece)
}

// pieces cuts what is missing into ranges of about the size given.
func (c *copier) pieces(missing []Span, size int64) []Span {
	if c.srcHost == "" || c.roundTrip < farRoundTrip {
		return missing
	}
	var out []Span
	for _, s := range missing {
		for n := max((s.Length+size/2)/size, 1); n > 0; n-- {
			length := (s.Length + n - 1) / n
			out = append(out, Span{Offset: s.Offset, Length: length})
			s.Offset, s.Length = s.Offset+length, s.Length-length
		}
	}
	return out
}
