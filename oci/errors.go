package oci

import (
	"errors"
	"fmt"
	"strings"
)

// The classes of failure that every package of this module shares. Test for
// them with [errors.Is]; the root package re-exports the same values.
var (
	// ErrInvalid says that what the caller gave cannot be right, whatever any
	// server answers: a malformed reference, a broken layout, an absent platform.
	ErrInvalid = errors.New("invalid input")
	// ErrIntegrity says that bytes are not those that their digest names.
	ErrIntegrity = errors.New("content does not match its digest")
	// ErrNotFound says that the content or name does not exist, or that this
	// credential may not see it: GHCR answers both alike.
	ErrNotFound = errors.New("not found")
	// ErrNoRanges says that a server cannot send a piece of a blob, so that it must
	// be read whole, from its first byte.
	ErrNoRanges = errors.New("the server does not send the range that was asked for")
)

// Invalid returns an error that is [ErrInvalid] and reads as the given text.
// A %w in the format is kept in the chain.
func Invalid(format string, args ...any) error {
	return &invalidError{fmt.Errorf(format, args...)}
}

type invalidError struct{ err error }

func (e *invalidError) Error() string        { return e.err.Error() }
func (e *invalidError) Unwrap() error        { return e.err }
func (e *invalidError) Is(target error) bool { return target == ErrInvalid }

// MissingBlobsError is a target's refusal of a manifest because it lacks content
// that the manifest names. Put these blobs, then the manifest again.
type MissingBlobsError struct {
	// Digests are those that the target named; empty if it named none.
	Digests []Digest
	// Err is the answer it was read from.
	Err error
}

// Error names what is missing, after the answer that said so.
func (e *MissingBlobsError) Error() string {
	if len(e.Digests) == 0 {
		return e.Err.Error()
	}
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	return fmt.Sprintf("%v (missing %s)", e.Err, strings.Join(names, ", "))
}

// Unwrap returns the answer that said so.
func (e *MissingBlobsError) Unwrap() error { return e.Err }

// IntegrityError is [ErrIntegrity] with what was expected and what was found.
type IntegrityError struct {
	What string // the content and the side it came from
	Want Digest
	Got  Digest // empty if only the size was wrong
	// WantSize and GotSize are in bytes, and zero when the size was not at fault.
	WantSize, GotSize int64
}

// Error says what was expected and what was found.
func (e *IntegrityError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("%s: got %d bytes, want %d for %s", e.What, e.GotSize, e.WantSize, e.Want)
	}
	return fmt.Sprintf("%s: content has digest %s, want %s", e.What, e.Got, e.Want)
}

// Is makes every IntegrityError an [ErrIntegrity].
func (e *IntegrityError) Is(target error) bool { return target == ErrIntegrity }
