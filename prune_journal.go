package ghcr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/filelock"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// JournalSchema is the format of journals. Within it, fields are added and never
// changed.
const JournalSchema = "ghcr-journal/1"

// Journal is what a run of a plan wrote down: one line of JSON for the plan, and one
// before and one after each action, each on the disk before the run goes on. It holds
// no secret.
type Journal struct {
	Path  string
	Plan  *retain.Plan
	Begun time.Time
	Steps []JournalStep // by the actions of the plan

	size int64 // up to the end of the last whole line
}

// JournalStep is what a journal says of an action.
type JournalStep struct {
	// Begun tells that the action was tried. With no outcome, the run ended meanwhile.
	Begun   bool
	Outcome Outcome // of the last try; empty if there was none, or it did not end
	Reason  string  // of the outcome; empty if it is done
	// Restored tells that the version was deleted and is back: an index had begun to need
	// it, or somebody has restored it.
	Restored bool
}

// journalHead is the first line.
type journalHead struct {
	Schema string       `json:"schema"`
	Time   time.Time    `json:"time"`
	Plan   *retain.Plan `json:"plan"`
}

// journalLine is each other line.
type journalLine struct {
	Time    time.Time    `json:"time"`
	Step    int          `json:"step"` // the action, from 0
	State   journalState `json:"state"`
	Outcome Outcome      `json:"outcome,omitempty"`
	Reason  string       `json:"reason,omitempty"`
}

type journalState string

const (
	stepBegun    journalState = "begun"
	stepEnded    journalState = "ended"
	stepRestored journalState = "restored"
)

// ReadJournal reads what a run wrote down. A last line that is not whole, as one that
// was killed leaves it, does not count.
//
// Errors: [ErrInvalid] for what is no journal; [ErrIntegrity] for one that is damaged;
// that it can't be read.
func ReadJournal(path string) (*Journal, error) {
	data, err := readUndoFile(path)
	if err != nil {
		return nil, err
	}
	j, err := parseJournal(data)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	j.Path = path
	return j, nil
}

func parseJournal(data []byte) (*Journal, error) {
	if len(data) > maxUndo {
		return nil, oci.Invalid("it is over the limit of %d bytes", maxUndo)
	}
	first, rest, whole := bytes.Cut(data, []byte("\n"))
	var head journalHead
	if err := json.Unmarshal(first, &head); err != nil || !whole {
		return nil, oci.Invalid("its first line is no plan, so nothing was done: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if head.Schema != JournalSchema || head.Plan == nil {
		return nil, oci.Invalid("its schema is %q; want %s", head.Schema, JournalSchema)
	}
	j := &Journal{Plan: head.Plan, Begun: head.Time, Steps: make([]JournalStep, len(head.Plan.Actions)), size: int64(len(first)) + 1}
	for number := 2; len(rest) > 0; number++ {
		var line []byte
		if line, rest, whole = bytes.Cut(rest, []byte("\n")); !whole {
			break
		}
		if err := j.add(line); err != nil {
			if len(rest) == 0 {
				break // the disk may have more of a line than was written of it
			}
			return nil, fmt.Errorf("line %d: %w: %w", number, ErrIntegrity, err)
		}
		j.size += int64(len(line)) + 1
	}
	return j, nil
}

func (j *Journal) add(data []byte) error {
	var line journalLine
	if err := json.Unmarshal(data, &line); err != nil {
		return err
	}
	if line.Step < 0 || line.Step >= len(j.Steps) {
		return fmt.Errorf("the plan has no action %d", line.Step)
	}
	step := &j.Steps[line.Step]
	switch line.State {
	case stepBegun:
		*step = JournalStep{Begun: true}
	case stepEnded:
		if line.Outcome == Done && !step.Begun {
			return fmt.Errorf("action %d is done, and was not begun", line.Step)
		}
		step.Outcome, step.Reason = line.Outcome, line.Reason
	case stepRestored:
		step.Outcome, step.Reason, step.Restored = line.Outcome, line.Reason, line.Outcome != Failed
	default:
		return fmt.Errorf("%q is nothing that happens to an action", line.State)
	}
	return nil
}

// lockJournal keeps other runs off a journal.
func lockJournal(path string) (release func(), err error) {
	release, err = filelock.Try(path + ".lock")
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("journal %s: %w: another run goes by it", path, ErrConflict)
	}
	return release, err
}

// journal is a file that is being written. A nil one writes nothing.
type journal struct {
	file    *os.File
	release func() // the lock
	failed  error  // why nothing more is written: behind half a line it could not be read
}

// newJournal begins a journal with its plan. With no path it gets a name of its own
// beside the undo files.
func (s *subject) newJournal(path string, plan *retain.Plan) (*journal, error) {
	now := time.Now().UTC()
	if path == "" {
		var err error
		if path, err = s.undoPath("journal", now); path == "" {
			return nil, err
		}
	}
	release, err := lockJournal(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		release()
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("write %s: %w: it may be needed", path, fs.ErrExist)
		}
		return nil, err
	}
	j := &journal{file: f, release: release}
	err = j.write(journalHead{JournalSchema, now, plan})
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path) // nothing was done
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

// reopen goes on with a journal behind its last whole line. Its lock is the caller's.
func (j *Journal) reopen() (*journal, error) {
	f, err := os.OpenFile(j.Path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(j.size)
	if err == nil {
		_, err = f.Seek(j.size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{file: f, release: func() {}}, nil
}

// begin writes down what is about to be done.
func (j *journal) begin(step int) error {
	return j.write(journalLine{Time: time.Now().UTC(), Step: step, State: stepBegun})
}

// ended writes down what came of it.
func (j *journal) ended(step int, outcome Outcome, err error) error {
	return j.write(journalLine{time.Now().UTC(), step, stepEnded, outcome, reasonText(err)})
}

// restored writes down that it was taken back.
func (j *journal) restored(step int, outcome Outcome, err error) error {
	return j.write(journalLine{time.Now().UTC(), step, stepRestored, outcome, reasonText(err)})
}

func reasonText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// write adds a line, and returns when it outlives a crash of the machine.
func (j *journal) write(line any) error {
	if j == nil {
		return nil
	}
	if j.failed != nil {
		return j.failed
	}
	data, err := json.Marshal(line)
	if err == nil {
		_, err = j.file.Write(append(data, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	j.failed = err
	return err
}

func (j *journal) path() string {
	if j == nil {
		return ""
	}
	return j.file.Name()
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	err := j.file.Close()
	j.release()
	return err
}

// syncDir has a new file's name outlive a crash, where the system can do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	d.Sync()
	return nil
}
