package ghcrtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// event is one change of the store's rows. A directory's journal is the list of
// all of them, one JSON object a line.
type event struct {
	Op         string       `json:"op"`
	Time       time.Time    `json:"time"`
	Repo       string       `json:"repo,omitempty"`
	ID         int64        `json:"id,omitempty"` // of the package or version that is made, or meant
	Visibility Visibility   `json:"visibility,omitempty"`
	Private    bool         `json:"private,omitempty"` // in its place, in journals of the first release
	Digest     oci.Digest   `json:"digest,omitempty"`
	MediaType  string       `json:"mediaType,omitempty"`
	Tag        string       `json:"tag,omitempty"`
	Tags       []string     `json:"tags,omitempty"`       // that a restored version gets back
	Repository string       `json:"repository,omitempty"` // of source code
	Role       string       `json:"role,omitempty"`       // of its workflows
	Count      int64        `json:"count,omitempty"`      // of downloads
	State      *state       `json:"state,omitempty"`      // all rows, in the place of what was before
	Security   *securityRow `json:"security,omitempty"`
	labels

	manifest *oci.Manifest // saves reading it back
	create   bool          // fail if the tag is there
	workflow string        // the repository whose workflow pushes
}

// visibility of a package that is made or changed.
func (e event) visibility() Visibility {
	switch {
	case e.Visibility != "":
		return e.Visibility
	case e.Private:
		return Private
	}
	return Public
}

const (
	opPackage        = "package"
	opAccess         = "access"
	opDownloads      = "downloads"
	opBlob           = "blob"
	opUnlinkBlob     = "unlink-blob"
	opManifest       = "manifest"
	opUntag          = "untag"
	opDelete         = "delete"
	opRestore        = "restore"
	opDeletePackage  = "delete-package"
	opRestorePackage = "restore-package"
	opSecurity       = "security"
	opState          = "state"
)

// journal is the file in a directory that keeps the rows. A nil journal keeps
// nothing.
type journal struct {
	file *os.File
	lock *os.File
}

// journalFile is the journal's name in its directory.
const journalFile = "journal.ndjson"

// openJournal locks a directory for this process and reads what is there.
func openJournal(dir string, replay func(event) error) (*journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("emulator state in %s: another process is using it: %w", dir, err)
	}
	j := &journal{lock: lock}
	path := filepath.Join(dir, journalFile)
	whole, err := readJournal(path, replay)
	if err == nil {
		j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	}
	if err == nil {
		// What a process that was killed did not finish writing never happened.
		err = j.file.Truncate(whole)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("emulator state in %s: %w", dir, err)
	}
	return j, nil
}

// checkDir refuses a directory that holds something else: an image layout, say, whose
// name was given in the place of the emulator's.
func checkDir(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, journalFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// What another process that begins just now has made, and what programs keep beside.
		if !slices.Contains([]string{"lock", "blobs", "uploads", "cache", "login"}, e.Name()) {
			return oci.Invalid("the directory %s holds other things, such as %s; choose an empty one", dir, e.Name())
		}
	}
	return nil
}

// readJournal returns the length of the part that is whole.
func readJournal(path string, replay func(event) error) (whole int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for line := 1; ; line++ {
		text, err := r.ReadBytes('\n')
		if err != nil {
			return whole, nil
		}
		var e event
		if err := json.Unmarshal(text, &e); err != nil {
			return 0, fmt.Errorf("journal.ndjson line %d is damaged: %w", line, err)
		}
		if err := replay(e); err != nil {
			return 0, fmt.Errorf("journal.ndjson line %d: %w", line, err)
		}
		whole += int64(len(text))
	}
}

func (j *journal) append(e event) error {
	if j == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// begin replaces the journal by one that has a single change. Until it has its name,
// the old one is there.
func (j *journal) begin(e event) error {
	if j == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(j.lock.Name()), journalFile)
	if err := os.WriteFile(path+".new", append(line, '\n'), 0o644); err != nil {
		os.Remove(path + ".new")
		return err
	}
	err = errors.Join(j.file.Close(), os.Rename(path+".new", path))
	file, openErr := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o644)
	if openErr == nil {
		j.file = file
	}
	return errors.Join(err, openErr)
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.file.Close(), j.lock.Close())
}
