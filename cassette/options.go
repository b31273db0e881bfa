package cassette

import (
	"net/http"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Mode says what becomes of a request.
type Mode string

// The modes. The zero value is [ModeReplay].
const (
	// ModeReplay answers from the cassette. The network is never used.
	ModeReplay Mode = "replay"
	// ModeRecord sends everything on and makes a new cassette of it, which takes the
	// place of an old one when it is closed.
	ModeRecord Mode = "record"
	// ModeOnce is ModeReplay where there is a cassette and ModeRecord where there is
	// none.
	ModeOnce Mode = "once"
	// ModeAppend answers from the cassette, and sends on and adds what it does not
	// have.
	ModeAppend Mode = "append"
	// ModeDrift sends on what only reads, and compares the answer with the recorded
	// one. What would write is answered from the cassette. [Cassette.Close] reports
	// the differences.
	ModeDrift Mode = "drift"
	// ModePassthrough sends everything on, and checks the digests of what comes back,
	// but keeps nothing.
	ModePassthrough Mode = "passthrough"
	// ModeOff sends everything on and looks at nothing.
	ModeOff Mode = "off"
)

var modes = []Mode{ModeReplay, ModeRecord, ModeOnce, ModeAppend, ModeDrift, ModePassthrough, ModeOff}

// Order says in which order answers are given.
type Order int

// The orders. Requests that differ may come in any order, except with
// [OrderStrict], and only that holds a program to what depends on chance and time: the
// steps of its login, the pieces in which it reads a blob, and how often it looks. The
// others give refusals and tokens as often as they are asked for, and a blob in any
// pieces, but no more of it than was read; and of equal reads some may be left out.
const (
	// OrderPerKey gives the answers to equal requests in the order in which they were
	// recorded, and takes requests of one upload session in their order. It holds
	// under concurrency.
	OrderPerKey Order = iota
	// OrderNone does not look at writes in between, nor at the order within a session.
	OrderNone
	// OrderStrict takes requests only in the order in which they were begun.
	OrderStrict
)

// Repeat says which answers may be given again once all of their kind were.
type Repeat int

// The kinds of answers that may be repeated.
const (
	RepeatNone Repeat = iota
	RepeatSafe        // to GET, HEAD and OPTIONS
	RepeatAny
)

// Options configure a [Cassette]. The zero value replays.
type Options struct {
	// Mode says what becomes of requests; empty is [ModeReplay].
	Mode Mode
	// Base carries what is sent on; nil is the network.
	Base http.RoundTripper
	// Pin is the digest that the cassette must have; empty is any. See
	// [Cassette.Digest].
	Pin oci.Digest
	// Order and Repeat say how strict a replay is.
	Order  Order
	Repeat Repeat
	// Latency is how much of the recorded time a replay takes: zero answers at once, 1
	// as slowly as it was. Waits end with the request's context. Recording never waits.
	Latency float64
	// AllowUnused has [Cassette.Close] not report what was not asked for. Set it for a
	// program that fails while it does several things at once: how far the others have got
	// by then is chance.
	AllowUnused bool
	// AllowWrongDigests records and replays answers that are not what their digest
	// says, as broken servers give.
	AllowWrongDigests bool
	// StoreRequestBodies keeps what was sent. Otherwise its digest and size are kept,
	// which is enough to prove that the same is sent again.
	StoreRequestBodies bool
	// ElideOver is the size in bytes above which only the digest of a body is kept;
	// zero keeps all. To replay it, Blobs must have it.
	ElideOver int64
	// Blobs is an OCI image layout that has the bodies that were not kept.
	Blobs string
	// Generated is content that a recording keeps as its seed.
	Generated []Generated
	// Origin is kept with a recording: "live" if empty. Say "emulator" of one.
	Origin string
	// Secrets are values that must not be written, besides the credentials that go by
	// and those in the environment. Shorter ones than 8 bytes are not looked for.
	Secrets []string
	// Headers and Query are names of headers of answers, and of parameters of URLs,
	// that hold no secret and may be written besides those that are known.
	Headers, Query []string
}

func (o *Options) check(mode Mode) error {
	switch {
	case !slices.Contains(modes, mode):
		return oci.Invalid("cassette: the mode %q is none of %v", mode, modes)
	case o.Latency < 0 || o.Latency > 1000 || o.ElideOver < 0:
		return oci.Invalid("cassette: a negative option, or a latency over 1000 times what it was")
	case o.Order < OrderPerKey || o.Order > OrderStrict || o.Repeat < RepeatNone || o.Repeat > RepeatAny:
		return oci.Invalid("cassette: unknown order or repeat")
	}
	for _, g := range o.Generated {
		if g.Size <= 0 || g.Size > maxBody {
			return oci.Invalid("cassette: generated content of %d bytes", g.Size)
		}
	}
	if o.Pin != "" {
		return checkDigest(o.Pin)
	}
	return nil
}
