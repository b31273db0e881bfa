package ghcrtest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// stateName is the entry of a snapshot that has the rows. It comes first.
const stateName = "state.json"

// maxState bounds the rows of a snapshot.
const maxState = 256 << 20

// Snapshot writes what the server holds as a tar file: packages, versions, tags,
// downloads, what was deleted, what is known of security, and all content by digest. What is under way is not
// part of it, nor are logins, quirks and the clock.
//
// Errors: those of w; content that cannot be read.
func (s *Server) Snapshot(w io.Writer) error {
	s.whole.RLock()
	defer s.whole.RUnlock()
	st := s.store.state()
	rows, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	tw := tar.NewWriter(w)
	write := func(name string, size int64, r io.Reader) error {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		if _, err := io.Copy(tw, r); err != nil {
			return fmt.Errorf("snapshot: %s: %w", name, err)
		}
		return nil
	}
	if err := write(stateName, int64(len(rows)), bytes.NewReader(rows)); err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(st.digests())) {
		f, err := s.contents.open(d)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err == nil {
			err = write(path.Join("blobs", d.Algorithm().String(), d.Encoded()), size, f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// Restore replaces what the server holds by a [Server.Snapshot], of this server or of
// another. All content is checked against its digest. Uploads that are under way are
// dropped, and what is pushed meanwhile may be lost. The clock stays: what was deleted
// long ago by now cannot be restored any more.
//
// Errors: [oci.ErrInvalid] for what is no snapshot, or one that lacks something; a
// directory that cannot be written. The server then holds what it held.
func (s *Server) Restore(r io.Reader) (err error) {
	s.whole.Lock()
	defer s.whole.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.store.dropUnnamed())
		}
	}()
	tr := tar.NewReader(r)
	h, err := tr.Next()
	if err != nil {
		return oci.Invalid("restore: not a snapshot: %w", err)
	}
	if h.Name != stateName || h.Size > maxState || !isWhole(h) {
		return oci.Invalid("restore: a snapshot begins with %s, this with %q of %d bytes", stateName, h.Name, h.Size)
	}
	var st state
	dec := json.NewDecoder(tr)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		return oci.Invalid("restore: %s: %w", stateName, err)
	}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return oci.Invalid("restore: %w", err)
		}
		d, ok := blobName(h.Name)
		if !ok || !isWhole(h) {
			return oci.Invalid("restore: a snapshot has no %q", h.Name)
		}
		if err := s.contents.take(d, tr); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if err := s.store.restoreState(&st); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	s.DropSessions()
	return nil
}

// Reset has the server hold nothing but the packages and repositories of its Options, as if it were
// new: no content, no uploads, no faults, no logs, and the clock as Options have it.
//
// Errors: a directory that cannot be written.
func (s *Server) Reset() error {
	s.whole.Lock()
	defer s.whole.Unlock()
	if err := s.store.restoreState(&state{}); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	s.DropSessions()
	s.ClearFaults()
	s.ResetFaultLog()
	s.ResetRequests()
	s.ahead.Store(int64(s.aheadAtFirst))
	s.mu.Lock()
	s.windows, s.quotas, s.requests = map[string]*window{}, map[string]*quota{}, 0
	s.mu.Unlock()
	for _, p := range s.atFirst {
		if err := s.SetPackage(p); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	for _, r := range s.sourcesAtFirst {
		if err := s.SetRepository(r); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	return nil
}

// restoreState replaces all rows, and the journal by one that begins with them, and
// drops the content that they do not name. No row can come in between: commit looks
// whether its content is there.
func (s *store) restoreState(st *state) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, err := s.read(st)
	if err == nil {
		err = s.journal.begin(event{Op: opState, Time: s.now().UTC().Round(0), State: st})
	}
	if err != nil {
		return err
	}
	s.adopt(fresh)
	return s.contents.retain(st.digests())
}

// dropUnnamed drops the content that no row names.
func (s *store) dropUnnamed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.contents.retain(s.rows().digests())
}

// isWhole tells a file whose bytes are all there. One with holes could be of any size.
func isWhole(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return false
		}
	}
	return h.Typeflag == tar.TypeReg
}

// blobName reads the name that content has in a layout, and in a snapshot.
func blobName(name string) (oci.Digest, bool) {
	algorithm, hex, ok := strings.Cut(strings.TrimPrefix(name, "blobs/"), "/")
	if !ok || !strings.HasPrefix(name, "blobs/") {
		return "", false
	}
	d, err := oci.ParseDigest(algorithm + ":" + hex)
	return d, err == nil
}
