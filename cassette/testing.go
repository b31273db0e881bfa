package cassette

import (
	"errors"
	"os"
	"testing"
)

// The environment variables that [FromEnv] and [T] read.
const (
	// EnvDir is the directory of the cassette that [FromEnv] opens.
	EnvDir = "GHCR_CASSETTE"
	// EnvMode is the [Mode] where the program does not set one: GHCR_CASSETTE_MODE=record
	// records the tests anew.
	EnvMode = "GHCR_CASSETTE_MODE"
)

// FromEnv opens the cassette that GHCR_CASSETTE names, in the mode of [ModeFromEnv]
// if opts has none. Where GHCR_CASSETTE is empty, it returns one that sends everything on to
// opts.Base, so that a program can always have one in its chain.
//
// Errors: those of [Open].
func FromEnv(opts Options) (*Cassette, error) {
	dir := os.Getenv(EnvDir)
	if dir == "" {
		opts.Mode = ModeOff
		return Open("", opts)
	}
	if opts.Mode == "" {
		opts.Mode = ModeFromEnv(os.Getenv)
	}
	return Open(dir, opts)
}

// ModeFromEnv returns the mode that the environment asks for: that of
// GHCR_CASSETTE_MODE, or if that is empty [ModeReplay] where CI is set, and
// [ModeOnce] elsewhere. A test that nobody watches must not go to the network, nor
// pass by recording what it should be held to.
func ModeFromEnv(getenv func(string) string) Mode {
	if mode := getenv(EnvMode); mode != "" {
		return Mode(mode)
	}
	if ci := getenv("CI"); ci != "" && ci != "false" && ci != "0" {
		return ModeReplay
	}
	return ModeOnce
}

// T opens a cassette for a test, and closes it at the test's end: then what was not
// recorded, not asked for or not as it was fails the test. What was not asked for
// is left unsaid if the test has failed already, since that hides why. The mode is
// as with [FromEnv] if opts has none.
func T(t testing.TB, dir string, opts Options) *Cassette {
	t.Helper()
	if opts.Mode == "" {
		opts.Mode = ModeFromEnv(os.Getenv)
	}
	c, err := Open(dir, opts)
	if err != nil {
		t.Fatalf("open the cassette: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		err := c.Close()
		var unused *UnusedError
		if errors.As(err, &unused) && (t.Failed() || t.Skipped()) {
			t.Logf("close the cassette: %v", err)
			return
		}
		if err != nil {
			t.Errorf("close the cassette: %v", err)
		}
	})
	return c
}
