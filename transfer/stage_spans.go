package transfer

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"
)

// Span is a range of bytes of a blob.
type Span struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

func (s Span) end() int64 { return s.Offset + s.Length }

// addSpan adds a span to an ordered list, joining what touches.
func addSpan(list []Span, add Span) []Span {
	out := make([]Span, 0, len(list)+1)
	placed := false
	for _, s := range list {
		switch {
		case s.end() < add.Offset:
			out = append(out, s)
		case add.end() < s.Offset:
			if !placed {
				out, placed = append(out, add), true
			}
			out = append(out, s)
		default:
			end := max(s.end(), add.end())
			add.Offset = min(s.Offset, add.Offset)
			add.Length = end - add.Offset
		}
	}
	if !placed {
		out = append(out, add)
	}
	return out
}

// gaps returns the parts of a span that an ordered list leaves open.
func gaps(list []Span, within Span) []Span {
	var out []Span
	at := within.Offset
	for _, s := range list {
		if s.end() <= at {
			continue
		}
		if s.Offset >= within.end() {
			break
		}
		if s.Offset > at {
			out = append(out, Span{at, s.Offset - at})
		}
		at = s.end()
	}
	if at < within.end() {
		out = append(out, Span{at, within.end() - at})
	}
	return out
}

// noteInterval is how often what is there is written down. What arrived since the
// last time is fetched again after a crash.
const noteInterval = 2 * time.Second

// The note of what is there of an unfinished file lies beside it.
func notePath(partial string) string { return partial + ".json" }

// readNote returns what an earlier run noted as there; without a note that fits
// the file, nothing.
func readNote(partial string, size int64) []Span {
	info, err := os.Stat(partial)
	if err != nil {
		return nil
	}
	data, err := readRegular(notePath(partial), maxNoteSize)
	if err != nil {
		return nil
	}
	var spans []Span
	if json.Unmarshal(data, &spans) != nil {
		return nil
	}
	at, limit := int64(0), min(size, info.Size())
	for _, s := range spans {
		if s.Offset < at || s.Length <= 0 || s.Length > limit-s.Offset {
			return nil
		}
		at = s.end() + 1 // spans that touch would have been joined
	}
	return spans
}

const maxNoteSize = 1 << 20

// writeNote notes what is there. A note that cannot be written costs a later run
// time, and nothing else.
func writeNote(partial string, have []Span) {
	data, err := json.Marshal(have)
	if err != nil {
		return
	}
	aside := notePath(partial) + ".new"
	err = os.WriteFile(aside, data, 0o644)
	if err == nil {
		err = os.Rename(aside, notePath(partial))
	}
	if err != nil {
		os.Remove(aside)
	}
}

func removeNote(partial string) error {
	if err := os.Remove(notePath(partial)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
