package ghcr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/oci"
)

// Undo is what it takes to take a deletion or an untagging back. It is written to a
// file before the first change, and holds no secret.
type Undo struct {
	Schema string     `json:"schema"` // [UndoSchema]
	Op     string     `json:"op"`     // "delete", "untag" or "prune"
	Image  string     `json:"image"`  // the repository: "ghcr.io/acme/app"
	Time   time.Time  `json:"time"`
	Items  []UndoItem `json:"items"`
}

// UndoSchema is the format of undo files. Within it, fields are added and never
// changed.
const UndoSchema = "ghcr-undo/1"

// UndoItem is one manifest, in the order in which they went.
type UndoItem struct {
	Version int64      `json:"version,omitempty"` // by which GitHub restores it
	Digest  oci.Digest `json:"digest"`
	Tags    []string   `json:"tags,omitempty"` // that it had and lost
	// Needs are the manifests of this file that must be back before it: those that it
	// lists, and what it is about.
	Needs []oci.Digest `json:"needs,omitempty"`
	// MediaType and Manifest are what a registry that restores nothing is given again.
	MediaType string `json:"mediaType,omitempty"`
	Manifest  []byte `json:"manifest,omitempty"`
}

// maxUndo is far above what a run may delete.
const maxUndo = 256 << 20

// ReadUndo reads a file that a deletion or an untagging wrote, the journal of a prune,
// or a file with its plan alone. A journal tells what was done, and a plan only what was
// meant to be: see [UndoOf]. Tags that a prune gave stay.
//
// Errors: [ErrInvalid] for what is no such file; [ErrIntegrity] for a journal or plan
// that was altered; that it can't be read.
func ReadUndo(path string) (*Undo, error) {
	data, err := readUndoFile(path)
	if err != nil {
		return nil, err
	}
	var u *Undo
	switch schema := schemaOf(data); {
	case schema == JournalSchema:
		u, err = journalUndo(data)
	case strings.HasPrefix(schema, "ghcr-plans/"):
		u, err = filedUndo(data)
	default:
		if u, err = parseUndo(data); err != nil {
			err = oci.Invalid("%w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("undo file %s: %w", path, err)
	}
	return u, nil
}

// readUndoFile reads a file, and of one that is too large a byte more than may be.
func readUndoFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxUndo+1))
}

func parseUndo(data []byte) (*Undo, error) {
	if len(data) > maxUndo {
		return nil, fmt.Errorf("it is over the limit of %d bytes", maxUndo)
	}
	u := &Undo{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(u); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if u.Schema != UndoSchema {
		return nil, fmt.Errorf("its schema is %q; want %s", u.Schema, UndoSchema)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is something behind its end")
	}
	return u, u.check()
}

func (u *Undo) check() error {
	if ref, err := oci.ParseRef(u.Image); err != nil || !ref.Reference.IsZero() {
		return fmt.Errorf("%q is no repository", u.Image)
	}
	for _, item := range u.Items {
		if _, err := oci.ParseDigest(string(item.Digest)); err != nil {
			return err
		}
		for _, tag := range item.Tags {
			if err := oci.CheckTag(tag); err != nil {
				return err
			}
		}
		if item.Version < 0 {
			return fmt.Errorf("%d is no version", item.Version)
		}
	}
	return nil
}

// undo is what takes the plan back.
func (p *DeletePlan) undo() *Undo {
	u := &Undo{Op: "delete"}
	going := map[oci.Digest]bool{}
	for _, item := range p.Items {
		going[item.Digest] = true
	}
	for _, item := range p.Items {
		back := UndoItem{Version: item.Version, Digest: item.Digest, Tags: item.Tags}
		for _, n := range slices.Concat(item.node.Children, item.node.Subjects) {
			if going[n.Digest] && !slices.Contains(back.Needs, n.Digest) {
				back.Needs = append(back.Needs, n.Digest)
			}
		}
		if m := item.node.Manifest; item.Version == 0 && m != nil {
			back.MediaType, back.Manifest = m.MediaType, m.Bytes()
		}
		u.Items = append(u.Items, back)
	}
	return u
}

// undoLife is after how long an undo file can't help any more: GitHub restores what
// was deleted for thirty days (docs/quirks.md#rest-restore-window).
const undoLife = 31 * 24 * time.Hour

// writeUndo writes an undo file and returns where it is. With no path it gets a name
// of its own in the directory of caches, where old ones are cleared away.
func (s *subject) writeUndo(path string, u *Undo) (string, error) {
	u.Schema, u.Image, u.Time = UndoSchema, s.image.Repository(), time.Now().UTC()
	data, err := json.MarshalIndent(u, "", " ")
	if err != nil {
		return "", err
	}
	if path == "" {
		if path, err = s.undoPath("json", u.Time); path == "" {
			return "", err
		}
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("write %s: %w: it may be needed", path, fs.ErrExist)
	}
	return path, atomicfile.Write(path, append(data, '\n'), 0o600, true)
}

// undoPath is where a new file goes that is to be kept as long as it can help; empty if
// there is no place for it.
func (s *subject) undoPath(kind string, now time.Time) (string, error) {
	dir := s.client.opts.UndoDir
	if dir == "" && s.client.opts.CacheDir == "" {
		return "", nil
	}
	if dir == "" {
		dir = filepath.Join(s.client.opts.CacheDir, "undo")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	clearOld(dir, now.Add(-undoLife))
	return filepath.Join(dir, fmt.Sprintf("%s-%s-%09d.%s", undoName(s.image.Name), now.Format("20060102-150405"), now.Nanosecond(), kind)), nil
}

// undoFile is how the files are called that [subject.undoPath] names. Others in the
// directory may be somebody else's.
var undoFile = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`-\d{8}-\d{6}-\d{9}\.(json|journal)(\.lock)?$`) })

func clearOld(dir string, before time.Time) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !undoFile().MatchString(e.Name()) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.ModTime().Before(before) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// undoName is a repository's name as a part of a file's, which a system lets be no
// longer than 255 bytes.
func undoName(name string) string {
	name = strings.ReplaceAll(name, "/", "-")
	return name[:min(len(name), 100)]
}
