package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// taping is the cassette that all requests of a run go through, or of the commands
// that it runs in turn.
type taping struct {
	*cassette.Cassette
	where string // the cassette's directory
	// dir has what the run would else find in caches and login files: what an earlier
	// run has learned would change which requests are made.
	dir string
	old bool // there was a cassette before

	mu   sync.Mutex
	base http.RoundTripper // of what is recorded; nil is the network
	// random is where the commands make up what they send.
	random *rand.ChaCha8
}

// tapeWish is which cassette is asked for, by flags or by the environment.
type tapeWish struct {
	dir  string
	mode cassette.Mode // empty for none
	pin  oci.Digest
	name string // of the flag or variable, for errors
}

// tapeWish reads --record and --replay, and GHCR_CASSETTE where neither is given.
func (a *app) tapeWish() (tapeWish, error) {
	w := tapeWish{}
	switch {
	case a.flags.record != "" && a.flags.replay != "":
		return w, usage("--record and --replay exclude each other")
	case a.flags.record != "":
		w = tapeWish{dir: a.flags.record, mode: cassette.ModeRecord, name: "--record"}
	case a.flags.replay != "":
		w = tapeWish{dir: a.flags.replay, mode: cassette.ModeReplay, name: "--replay"}
	case a.getenv(cassette.EnvDir) != "" && !a.untaped:
		w = tapeWish{dir: a.getenv(cassette.EnvDir), mode: cassette.ModeFromEnv(a.getenv), name: cassette.EnvDir}
	default:
		return w, nil
	}
	if dir, pin, ok := strings.Cut(w.dir, "@sha256:"); ok && w.mode != cassette.ModeRecord {
		w.dir, w.pin = dir, oci.Digest("sha256:"+pin)
	}
	replays := a.flags.replay != "" || a.getenv(cassette.EnvMode) == string(cassette.ModeReplay)
	if a.flags.sim != "" && w.mode == cassette.ModeReplay && replays {
		return w, usage("--sim and %s exclude each other: a replay needs no emulator", w.name)
	}
	return w, nil
}

// checkTape refuses what cannot be before anything is done.
func (a *app) checkTape(cmd *cobra.Command) error {
	w, err := a.tapeWish()
	if err == nil && w.mode != "" && w.name != cassette.EnvDir && cmd.Name() == "serve" {
		err = usage("%s: serve sends no requests; give %[1]s to the client whose requests they are", w.name)
	}
	return err
}

// openTape opens the cassette that is asked for; there need be none.
func (a *app) openTape() error {
	w, err := a.tapeWish()
	if err != nil || w.mode == "" || a.tape != nil {
		return err
	}
	if info, err := os.Stat(w.dir); err == nil && !info.IsDir() {
		return usage("%s: %s is no directory", w.name, w.dir)
	}
	t := &taping{where: w.dir, old: exists(filepath.Join(w.dir, "index.json"))}
	opts := cassette.Options{Mode: w.mode, Base: t.live(), Pin: w.pin}
	if a.flags.sim != "" || a.emulated {
		opts.Origin = "emulator"
	}
	if t.Cassette, err = cassette.Open(w.dir, opts); err != nil {
		return fmt.Errorf("%s: %w", w.name, damaged(err))
	}
	t.random = rand.NewChaCha8(t.Seed())
	if t.dir, err = os.MkdirTemp("", "ghcr-tape-*"); err != nil {
		return errors.Join(err, t.Close())
	}
	a.tape = t
	return nil
}

// live sends to what the command would speak to without a cassette.
func (t *taping) live() http.RoundTripper {
	network := sync.OnceValue(func() http.RoundTripper {
		base := http.DefaultTransport.(*http.Transport).Clone()
		base.DisableCompression = true // a digest is over the bytes as they are
		return base
	})
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		t.mu.Lock()
		base := t.base
		t.mu.Unlock()
		if base == nil {
			base = network()
		}
		return base.RoundTrip(req)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// replays tells whether answers come from a cassette alone.
func (a *app) replays() bool { return a.tape != nil && a.tape.Mode() == cassette.ModeReplay }

// through puts the cassette in place of what the options speak to.
func (a *app) through(opts *ghcr.Options) {
	t := a.tape
	if t == nil || t.Mode() == cassette.ModeOff {
		return
	}
	t.mu.Lock()
	t.base = opts.Base
	t.mu.Unlock()
	opts.Base, opts.Random = t.Cassette, t.random
	// What it takes to undo a deletion must outlive the recording of it.
	if opts.CacheDir != "" && !a.replays() {
		opts.UndoDir = filepath.Join(opts.CacheDir, "undo")
	}
	opts.CacheDir = filepath.Join(t.dir, "cache")
	if !a.replays() {
		return
	}
	stand := standIn{t.Cassette}
	a.logins = &ghcr.Logins{
		Registry: opts.Registry,
		Getenv: func(name string) string {
			return map[string]string{"DOCKER_CONFIG": filepath.Join(t.dir, "login")}[name]
		},
		Last: stand,
	}
}

// standIn has for each host a login in place of the one of the recording, so that a
// replay needs none.
type standIn struct{ *cassette.Cassette }

// Credential implements [transport.CredentialSource].
func (s standIn) Credential(_ context.Context, host string) (transport.Credential, error) {
	user, password := s.StandIn(host)
	if password == "" {
		return transport.Credential{}, nil
	}
	return transport.Credential{Username: user, Password: transport.NewSecret(password), Source: "the cassette"}, nil
}

// closeTape ends the replay or seals the recording. err is what the command ended
// with, which explains most of what a replay lacks.
func (a *app) closeTape(ctx context.Context, err error) error {
	if a.tape == nil || a.lent {
		w, _ := a.tapeWish()
		if err == nil && a.ran && !a.lent && (w.name == "--record" || w.name == "--replay") {
			return usage("%s: the command sent no requests, so there is no use in a cassette", w.name)
		}
		return err
	}
	if ctx.Err() != nil {
		return errors.Join(err, a.breakTape(), os.RemoveAll(a.tape.dir))
	}
	closed := a.tape.Close()
	removed := os.RemoveAll(a.tape.dir)
	var unused *cassette.UnusedError
	switch {
	case errors.Is(err, cassette.ErrNotRecorded), err != nil && errors.Is(closed, cassette.ErrEmpty):
		closed = nil
	case err != nil && !errors.Is(err, errFindings) && errors.As(closed, &unused):
		// A failure that was recorded, or one that keeps the rest from being asked for.
		fmt.Fprintf(a.stderr, "ghcr: note: %d of the recorded requests were not made\n", len(unused.Interactions))
		closed = nil
	}
	return errors.Join(err, closed, removed)
}

// breakTape ends a replay or recording that was interrupted. A part of a recording is
// worth keeping, but not in place of a whole one.
func (a *app) breakTape() error {
	t := a.tape
	switch {
	case a.replays():
		t.Close() // what was not asked for says nothing
		return nil
	case t.old:
		fmt.Fprintf(a.stderr, "ghcr: note: %s is as it was: the recording was broken off\n", t.where)
		return t.Discard()
	}
	err := t.Close()
	switch {
	case errors.Is(err, cassette.ErrEmpty):
		return nil
	case err == nil:
		fmt.Fprintf(a.stderr, "ghcr: note: %s has what was recorded until then\n", t.where)
	}
	return err
}

// tapeError tells what a cassette found wrong, as this command speaks of it. It is
// not ok for other errors.
func (a *app) tapeError(err error) (text, hint string, ok bool) {
	var miss *cassette.MissError
	var unused *cassette.UnusedError
	var leak *cassette.LeakError
	var damage *damageError
	var found *leakFound
	switch {
	case errors.As(err, &miss):
		return miss.Error(), "the command does what it did not do when it was recorded: give the same arguments and flags, or record again with --record", true
	case errors.As(err, &unused):
		var b strings.Builder
		were := "were"
		if len(unused.Interactions) == 1 {
			were = "was"
		}
		fmt.Fprintf(&b, "%s %s not made again:", plural(len(unused.Interactions), "recorded request"), were)
		for n, i := range unused.Interactions {
			if n == 10 {
				fmt.Fprintf(&b, "\n  and %d more", len(unused.Interactions)-n)
				break
			}
			fmt.Fprintf(&b, "\n  %d: %s %s", i.Seq, i.Request.Method, i.Request.URL())
		}
		return b.String(), "the command does less than when it was recorded: give the same arguments and flags, or record again with --record", true
	case a.replays() && errors.Is(err, ghcr.ErrIntegrity):
		return err.Error(), "the cassette is damaged: ghcr tape verify " + a.tape.where + " says how", true
	case errors.As(err, &damage):
		return err.Error(), "record it again, or pull it again from where it was pushed", true
	case errors.As(err, &found):
		return err.Error(), "ghcr tape redact takes it out of texts, with --secrets if it has no known form", true
	case errors.As(err, &leak):
		return fmt.Sprintf("%s holds %s: nothing was kept of the recording", leak.Where, leak.What), "keep the secret out of what is sent and received: a layer that holds one should not be in a registry either", true
	}
	return "", "", false
}
