package cassette

import (
	"context"
	"errors"
	"io/fs"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Recover seals a recording whose program ended before it was closed: all that was
// written whole is kept. What cannot be known any more is which secrets were used,
// so that they are looked for by their shape and in the environment alone.
//
// Errors: [oci.ErrInvalid] where there is no such recording; [*LeakError].
func Recover(dir string) error {
	s, err := openStore(dir)
	if err != nil {
		return oci.Invalid("cassette %s: %w", dir, err)
	}
	defer s.close()
	info, err := s.root.Lstat(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.broken("it has no recording to recover")
	}
	if err != nil {
		return err
	}
	data, err := s.read(journalFile, maxJournal)
	if err != nil {
		return err
	}
	ctx := context.Background()
	entries, _, _ := parseJournal(data) // up to what is not whole
	for n, e := range entries {
		if !s.hasBodies(ctx, e) {
			entries = entries[:n] // a file that the system had not written yet
			break
		}
	}
	if len(entries) == 0 {
		return s.broken("the recording has no interaction that is whole; record again")
	}
	known := newSecrets(nil)
	known.environment()
	seal := sealing{store: s, secrets: known, entries: entries}
	return seal.seal(ctx, "recovered", info.ModTime())
}

func (s *store) hasBodies(ctx context.Context, e *Interaction) bool {
	for _, b := range []*Body{&e.Request.Body, &e.Response.Body} {
		if b.file() == "" {
			continue
		}
		r, err := s.openBody(b, nil)
		if err != nil {
			return false
		}
		_, n, err := digestOf(ctx, r, nil)
		r.Close()
		if err != nil || n != b.Size {
			return false
		}
	}
	return true
}
