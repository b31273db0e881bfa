package ghcr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Outcome is what became of one thing that was to be changed.
type Outcome string

// The outcomes. Done is said of what was looked at afterwards.
const (
	Done        Outcome = "done"
	AlreadyGone Outcome = "already-gone" // somebody else deleted it before
	Blocked     Outcome = "blocked"      // GitHub does not allow it, whoever asks
	Changed     Outcome = "changed"      // it is not what it was when it was planned; it was left alone
	Pending     Outcome = "pending"      // begun; it is to be done again later
	Skipped     Outcome = "skipped"      // it was not tried, because of another's outcome or since the run was broken off
	Unknown     Outcome = "unknown"      // it was sent, and what came of it could not be found out
	Failed      Outcome = "failed"
)

// good tells whether what was asked for is so.
func (o Outcome) good() bool { return o == Done || o == AlreadyGone }

// PartialError says that part of what was asked for was done. It is of the classes
// of its causes.
type PartialError struct {
	Op          string // "delete ghcr.io/acme/app"
	Done, Total int
	Causes      []error // one for each thing that was not done
}

// Error counts, and names the causes.
func (e *PartialError) Error() string {
	texts := make([]string, len(e.Causes))
	for i, err := range e.Causes {
		texts[i] = err.Error()
	}
	return fmt.Sprintf("%s: %d of %d done: %s", e.Op, e.Done, e.Total, strings.Join(texts, "; "))
}

// Unwrap returns the causes.
func (e *PartialError) Unwrap() []error { return e.Causes }

// sumUp is the error of a run: nil, the cause where nothing was done, or a
// PartialError.
func sumUp(op string, done, total int, causes []error) error {
	switch {
	case len(causes) == 0:
		return nil
	case done == 0 && len(causes) == 1:
		return fmt.Errorf("%s: %w", op, causes[0])
	case done == 0:
		return fmt.Errorf("%s: %w", op, errors.Join(causes...))
	}
	return &PartialError{op, done, total, causes}
}

// outcomeOf reads what a refused change comes to.
func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, packages.Gone):
		return AlreadyGone
	case errors.Is(err, packages.LastTagged), errors.Is(err, packages.TooManyDownloads):
		return Blocked
	}
	var changed *ChangedError
	var pending *PendingError
	var unknown *UnknownError
	var not *untried
	switch {
	case errors.As(err, &changed):
		return Changed
	case errors.As(err, &pending):
		return Pending
	case errors.As(err, &unknown):
		return Unknown
	case errors.As(err, &not):
		return Skipped
	}
	return Failed
}

// untried is why something was not done and nothing was sent for it: the run was broken
// off.
type untried struct{ error }

func (u *untried) Unwrap() error { return u.error }

// brokenOff is the error of a look that comes before a change: once ctx is done, it failed
// for that.
func brokenOff(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && outcomeOf(err) == Failed {
		return &untried{context.Cause(ctx)}
	}
	return err
}

// notSent is the error of a request that changes something, within sent, which is
// [transport.Finishing] of ctx. Without an exchange, it was not sent.
func notSent(ctx, sent context.Context, err error) error {
	var e *transport.Error
	if ctx.Err() != nil && sent.Err() == nil && !errors.As(err, &e) {
		return &untried{context.Cause(ctx)}
	}
	return err
}

// hopeless tells whether an error will meet whatever is tried next.
func hopeless(err error) bool {
	return errors.Is(err, ErrDenied) || errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrRateLimited)
}

// ChangedError says that something is not what it was when it was looked at, so that
// it was left alone. It is [ErrConflict].
type ChangedError struct {
	Image oci.ImageRef
	What  string // what is different: "tag v1 points to sha256:…"
}

// Error says what changed, and that nothing was done to it.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s: %s: it was left alone", e.Image, e.What)
}

// Is makes every ChangedError an [ErrConflict].
func (e *ChangedError) Is(target error) bool { return target == ErrConflict }

// TagsError is the refusal to delete an image with tags that were not named. It is
// [ErrConflict].
type TagsError struct {
	Image oci.ImageRef // by digest
	Tags  []string     // that would go too
}

// Error names the tags.
func (e *TagsError) Error() string {
	return fmt.Sprintf("%s has other tags, which would go too: %s", e.Image, strings.Join(e.Tags, ", "))
}

// Is makes every TagsError an [ErrConflict].
func (e *TagsError) Is(target error) bool { return target == ErrConflict }

// NeededError is the refusal to delete what an index that stays lists, or may list.
// It is [ErrConflict].
type NeededError struct {
	Image   oci.ImageRef // by digest
	Indexes []string     // that list it, by a tag where they have one
	// Unread are digests that could not be read, and so may list it. An image is safe
	// to delete once they are gone, or are deleted with it.
	Unread []oci.Digest
}

// Error names what needs the image.
func (e *NeededError) Error() string {
	if len(e.Indexes) > 0 {
		return fmt.Sprintf("%s is part of %s, which stays", e.Image, strings.Join(e.Indexes, ", "))
	}
	return fmt.Sprintf("%s may be part of %s, which could not be read", e.Image, joinDigests(e.Unread))
}

// Is makes every NeededError an [ErrConflict].
func (e *NeededError) Is(target error) bool { return target == ErrConflict }

func joinDigests(list []oci.Digest) string {
	texts := make([]string, len(list))
	for i, d := range list {
		texts[i] = d.String()
	}
	return strings.Join(texts, ", ")
}

// UnlistedError says that the registry has a manifest that the Packages API did not
// list in time (docs/quirks.md#rest-staleness), so that it can't be deleted yet. It
// is [ErrConflict].
type UnlistedError struct{ Image oci.ImageRef }

// Error says that it is a matter of time.
func (e *UnlistedError) Error() string {
	return fmt.Sprintf("%s: the Packages API does not list it yet", e.Image)
}

// Is makes every UnlistedError an [ErrConflict].
func (e *UnlistedError) Is(target error) bool { return target == ErrConflict }

// PendingError says that a tag was taken from its image, and that what it was given
// to instead could not be deleted in time, since the Packages API does not show it yet
// (docs/quirks.md#rest-staleness). The image is as it was. Untagging again finishes
// it; restoring gives the tag back. It is [ErrConflict].
type PendingError struct {
	Image     oci.ImageRef // by tag
	Throwaway oci.Digest   // the empty manifest that the tag points to for now
}

// Error says where it stands.
func (e *PendingError) Error() string {
	return fmt.Sprintf("%s: the tag is off its image and on the empty manifest %s, which the Packages API does not show yet: untag it again in a while", e.Image, e.Throwaway)
}

// Is makes every PendingError an [ErrConflict].
func (e *PendingError) Is(target error) bool { return target == ErrConflict }

// unknown is the error of a change that was sent. If the run was broken off, it says so.
func unknown(ctx context.Context, image oci.ImageRef, cause error) error {
	if ctx.Err() != nil && !errors.Is(cause, context.Cause(ctx)) {
		cause = fmt.Errorf("%w (%w)", cause, context.Cause(ctx))
	}
	return &UnknownError{image, cause}
}

// UnknownError says that a change was sent, and that it could not be found out what came
// of it: it may be done, or may still be. Who looks later knows.
type UnknownError struct {
	Image oci.ImageRef
	Cause error
}

// Error says what stood in the way.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("%s: it is not known what came of it: %v", e.Image, e.Cause)
}

// Unwrap returns the cause.
func (e *UnknownError) Unwrap() error { return e.Cause }
