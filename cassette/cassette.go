// Package cassette hides how HTTP traffic with a registry is recorded, kept
// without secrets, and replayed: the format, the matching, the redaction and the
// proof that nothing was changed.
//
// A [Cassette] is an [http.RoundTripper] to put below a client of any kind. Begin
// with [T] in a test, or with [Open]:
//
//	func TestPull(t *testing.T) {
//		tape := cassette.T(t, "testdata/pull", cassette.Options{})
//		client, err := ghcr.New(ghcr.Options{Base: tape})
//		…
//	}
//
// The first run records what the network answers, and later ones replay it. Bodies
// of any size stream through; what is kept of them is named by its digest and
// checked whenever it is read. A cassette is a directory that is an OCI image
// layout, so that any tool that copies images can copy, push or sign it, and its
// digest stands for all of it.
//
// Start reading at cassette.go; record.go and replay.go are the two ways through,
// names.go is what both share, match.go finds the answer to a request, and login.go
// says what of a login is left to chance.
package cassette

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Cassette records or replays. It is safe for concurrent use. Close it.
type Cassette struct {
	opts Options
	dir  string
	mode Mode
	base http.RoundTripper

	store *store
	names *names
	seed  [32]byte
	rec   *recorder
	play  *player
	drift *drifting

	closed atomic.Bool
	close  func() error
}

// Open opens the cassette in a directory, which for a replay must be there and is
// made otherwise. One process at a time may record into it.
//
// Errors: [oci.ErrInvalid] for options that cannot be, or a directory that is no
// cassette or a damaged one; [oci.ErrIntegrity] with it for content that was
// changed, and for another digest than that of Pin.
func Open(dir string, opts Options) (*Cassette, error) {
	c := &Cassette{opts: opts, dir: dir, mode: opts.Mode, base: opts.Base}
	if c.mode == "" {
		c.mode = ModeReplay
	}
	if err := opts.check(c.mode); err != nil {
		return nil, err
	}
	if c.base == nil {
		base := http.DefaultTransport.(*http.Transport).Clone()
		base.DisableCompression = true // a digest is over the bytes as they are
		c.base = base
	}
	c.close = sync.OnceValue(c.finish)
	known := newSecrets(opts.Secrets)
	known.environment()
	c.names = newNames(known, opts.Headers, opts.Query)
	rand.Read(c.seed[:])
	if err := c.start(); err != nil {
		if c.store != nil {
			err = errors.Join(err, c.store.close())
		}
		return nil, err
	}
	return c, nil
}

func (c *Cassette) start() error {
	switch c.mode {
	case ModeOff:
		return nil
	case ModePassthrough:
		c.rec = newRecorder(c.opts, c.base, nil, c.names)
		return nil
	}
	var err error
	if c.store, err = openStore(c.dir); err != nil || !c.store.sealed() {
		switch {
		case c.mode == ModeReplay || c.mode == ModeDrift:
			if err == nil && c.store.unsealed() {
				return c.store.broken("its recording did not end well; recover it (cassette.Recover, ghcr tape recover) or record again")
			}
			if err == nil {
				_, err = c.store.find()
			}
			if errors.Is(err, oci.ErrInvalid) {
				return err
			}
			return oci.Invalid("cassette %s: %w", c.dir, err)
		case c.store != nil:
			c.store.close()
		}
		if c.store, err = createStore(c.dir); err != nil {
			return err
		}
		if c.mode == ModeOnce && c.store.unsealed() {
			return c.store.broken("its recording did not end well; recover it (cassette.Recover, ghcr tape recover) or record again")
		}
		c.mode = map[Mode]Mode{ModeOnce: ModeRecord, ModeAppend: ModeRecord, ModeRecord: ModeRecord}[c.mode]
	} else if c.mode == ModeOnce {
		c.mode = ModeReplay
	} else if c.mode == ModeRecord {
		if err := c.store.replaceable(); err != nil {
			return err
		}
	}
	if c.mode != ModeRecord {
		t, err := c.load()
		if err != nil {
			return err
		}
		seed, _ := hex.DecodeString(t.manifest.Annotations[AnnotationSeed])
		c.seed = [32]byte{}
		copy(c.seed[:], seed)
		if c.play, err = newPlayer(c.opts, c.store, t, c.names); err != nil {
			return err
		}
	}
	switch c.mode {
	case ModeReplay:
		return nil
	case ModeDrift:
		c.rec = newRecorder(c.opts, c.base, nil, c.names)
		c.drift = &drifting{}
		return nil
	}
	c.rec = newRecorder(c.opts, c.base, c.store, c.names)
	c.rec.seed = c.seed
	if c.play != nil {
		c.rec.epochs = c.play.epochs
		for _, e := range c.play.tape.entries {
			c.rec.before = max(c.rec.before, e.Time.Start+e.Time.Duration)
		}
	}
	return c.rec.start()
}

func (c *Cassette) load() (*tape, error) {
	t, err := c.store.load(c.opts.Pin)
	if err != nil || c.opts.AllowWrongDigests {
		return t, err
	}
	for _, e := range t.entries {
		if err := checkContent(e); err != nil {
			return nil, c.store.broken("interaction %d: %w", e.Seq, err)
		}
	}
	return t, nil
}

// RoundTrip implements [http.RoundTripper].
//
// Errors: [*MissError] for what was not recorded; the recorded error, which is of
// the same class as the original; [oci.ErrIntegrity], also from reading the body,
// for content that was changed; and those of Options.Base.
func (c *Cassette) RoundTrip(req *http.Request) (*http.Response, error) {
	if c.mode == ModeOff {
		return c.base.RoundTrip(req)
	}
	if c.closed.Load() {
		closeBody(req)
		return nil, fmt.Errorf("cassette %s: %s %s after it was closed", c.dir, req.Method, c.names.secrets.redact(req.URL.Path))
	}
	switch c.mode {
	case ModeReplay:
		return c.play.roundTrip(req)
	case ModeAppend:
		return c.appendTrip(req)
	case ModeDrift:
		return c.driftTrip(req)
	}
	return c.rec.roundTrip(req, nil)
}

// CloseIdleConnections closes those of Options.Base, for [http.Client].
func (c *Cassette) CloseIdleConnections() {
	if base, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// Close ends the replay or seals the recording. Close it after all answers have
// been read: what is still being read is recorded as cut off there. Closing again
// returns the same.
//
// Errors: all [*MissError] that there were, and [*UnusedError]; [*LeakError] and
// [oci.ErrIntegrity] for a recording that was not kept because of what is in it;
// [ErrEmpty]; [*DriftError].
func (c *Cassette) Close() error {
	c.closed.Store(true)
	return c.close()
}

// Discard is [Cassette.Close] for a recording that is not to be kept: the cassette
// that was there before stays, and there is none where there was none.
//
// Errors: those of Close that are not about what was recorded.
func (c *Cassette) Discard() error {
	if c.rec != nil {
		c.rec.fail(errDiscarded)
	}
	if err := c.Close(); !errors.Is(err, errDiscarded) {
		return err
	}
	return nil
}

var errDiscarded = errors.New("the recording was discarded")

func (c *Cassette) finish() error {
	var errs []error
	if c.rec != nil {
		var before []*Interaction
		if c.play != nil {
			before = c.play.tape.entries
		}
		errs = append(errs, c.rec.finish(context.Background(), before))
	}
	if c.play != nil && c.mode != ModeAppend {
		errs = append(errs, c.play.misses...)
		if unused := c.play.index.unused(); len(unused) > 0 && !c.opts.AllowUnused {
			errs = append(errs, &UnusedError{unused})
		}
	}
	if c.drift != nil {
		errs = append(errs, c.drift.err())
	}
	if c.play != nil {
		errs = append(errs, c.play.close())
	}
	if c.store != nil {
		errs = append(errs, c.store.close())
	}
	return errors.Join(errs...)
}

// Mode returns what becomes of requests: never [ModeOnce], which is recording or
// replaying.
func (c *Cassette) Mode() Mode { return c.mode }

// Digest returns the digest of the cassette that is replayed, for Options.Pin. It
// is empty otherwise.
func (c *Cassette) Digest() oci.Digest {
	if c.play == nil {
		return ""
	}
	return c.play.tape.descriptor.Digest
}

// Seed returns what is random in a recording and the same in its replays, for a
// program that makes up what it sends: let it take that from
// rand.NewChaCha8(c.Seed()) of math/rand/v2. It is no secret. Of a recording that was
// recovered it is zero.
func (c *Cassette) Seed() [32]byte { return c.seed }

// Annotations returns those of the manifest of the cassette that is replayed.
func (c *Cassette) Annotations() map[string]string {
	if c.play == nil {
		return nil
	}
	return c.play.tape.manifest.Annotations
}

// Interactions returns what is replayed, in the order of completion. They must not
// be changed.
func (c *Cassette) Interactions() iter.Seq[*Interaction] {
	if c.play == nil {
		return func(func(*Interaction) bool) {}
	}
	return slices.Values(c.play.tape.entries)
}

// OpenBody opens a body of one of the [Cassette.Interactions]. The caller closes
// it; reading it checks it.
//
// Errors: [oci.ErrInvalid] for a body that is not kept; [oci.ErrIntegrity].
func (c *Cassette) OpenBody(b *Body) (io.ReadCloser, error) {
	if c.play == nil {
		return nil, fmt.Errorf("cassette %s: it is not being replayed", c.dir)
	}
	return c.store.openBody(b, c.play.elsewhere)
}
