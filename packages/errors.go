package packages

import (
	"errors"
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Reason is why the API refused, worked out from its answer, the kind of token, and
// where needed a second look. Each is an error, so that it can be tested for with
// [errors.Is]; details are in [*Error].
type Reason string

// The reasons, with the class of error that each is of.
const (
	// Gone: the version or package was there and is deleted. [oci.ErrNotFound].
	Gone Reason = "it is already deleted"
	// Absent: it does not exist, or this login may not see it; GitHub does not tell
	// which (docs/quirks.md#rest-mask-forbidden). [oci.ErrNotFound].
	Absent Reason = "it does not exist, or this login may not see it"
	// NotDeleted: there is nothing to restore: it was not deleted in the last 30 days
	// (docs/quirks.md#rest-restore-window). [oci.ErrNotFound].
	NotDeleted Reason = "nothing of that name was deleted in the last 30 days"
	// Unauthenticated: there is no token, or one that GitHub does not take: the API
	// wants one for public packages too. [transport.ErrUnauthorized].
	Unauthenticated Reason = "the Packages API wants a valid token, for public packages too"
	// NoPermission: it can be seen, and this login may not change it, which GitHub
	// says with a 404 (docs/quirks.md#rest-mask-forbidden). [transport.ErrDenied].
	NoPermission Reason = "this login may not do that"
	// WrongToken: tokens of this kind cannot do it, whoever's they are
	// (docs/quirks.md#rest-credential-rules). [transport.ErrDenied].
	WrongToken Reason = "this kind of token cannot do that"
	// MissingScope: the token lacks a scope (docs/quirks.md#rest-scopes).
	// [transport.ErrDenied].
	MissingScope Reason = "the token lacks a scope"
	// SingleSignOn: the token is not authorized for the organization's single sign-on.
	// [transport.ErrDenied].
	SingleSignOn Reason = "the token is not authorized for the organization's single sign-on"
	// Forbidden: the organization's rules forbid it. [transport.ErrDenied].
	Forbidden Reason = "the organization forbids it"
	// NotLinked: the token is a workflow's, and the package or the workflow does not
	// give it what it needs. [transport.ErrDenied].
	NotLinked Reason = "the package gives this workflow no right to do that"
	// LastTagged: it is the last version with a tag (docs/quirks.md#rest-last-tagged).
	// [transport.ErrConflict].
	LastTagged Reason = "it is the last tagged version of its package"
	// TooManyDownloads: it is public and was downloaded more often than GitHub lets
	// anybody delete (docs/quirks.md#rest-download-limit). [transport.ErrConflict].
	TooManyDownloads Reason = "it is public and has more than 5000 downloads"
	// NameTaken: something else has its name by now
	// (docs/quirks.md#rest-restore-conflict). [transport.ErrConflict].
	NameTaken Reason = "its name is taken by another"
	// TooMany: there are more packages than GitHub lists
	// (docs/quirks.md#rest-window). [transport.ErrUnsupported].
	TooMany Reason = "GitHub lists no more than 10000 packages of one visibility"
	// NotInAPI: GitHub has no call for it, only a page for people
	// (docs/quirks.md#rest-no-patch). [transport.ErrUnsupported].
	NotInAPI Reason = "GitHub's API cannot change it"
)

// Error says what the reason is.
func (r Reason) Error() string { return string(r) }

// Is tells which class of errors the reason is of.
func (r Reason) Is(target error) bool {
	switch r {
	case Gone, Absent, NotDeleted:
		return target == oci.ErrNotFound
	case Unauthenticated:
		return target == transport.ErrUnauthorized
	case NoPermission, WrongToken, MissingScope, SingleSignOn, Forbidden, NotLinked:
		return target == transport.ErrDenied
	case LastTagged, TooManyDownloads, NameTaken:
		return target == transport.ErrConflict
	case TooMany, NotInAPI:
		return target == transport.ErrUnsupported
	}
	return false
}

// Error is a refusal whose reason is known. For [errors.Is] it is its [Reason], and
// of that reason's class, whatever status the answer had.
type Error struct {
	Reason  Reason
	Op      string // what was tried: "delete version"
	Owner   string
	Package string // empty if it is about an owner
	Version int64  // zero if it is about a package
	Scope   string // what is missing, where the reason is MissingScope
	Token   transport.TokenKind
	Source  string // where the credential was found
	// Page is where a person can do it: the settings of the package, where the
	// reason is NotInAPI.
	Page string
	// Answer is what GitHub said; nil where it was not asked.
	Answer *transport.Error
}

// Error says what was tried, the reason, and GitHub's words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(e.Op+" "+subject{e.Owner, e.Package, e.Version}.String()) + ": ")
	switch {
	case e.Reason == WrongToken && e.Token != transport.Anonymous:
		fmt.Fprintf(&b, "%s cannot do that", e.Token.Phrase())
	case e.Reason == MissingScope && e.Scope != "":
		b.WriteString("the token from " + e.Source + " lacks the scope " + e.Scope)
	default:
		b.WriteString(string(e.Reason))
	}
	if e.Answer != nil {
		fmt.Fprintf(&b, " (GitHub answered %d", e.Answer.Status)
		if e.Answer.Message != "" {
			b.WriteString(": " + e.Answer.Message)
		}
		b.WriteString(")")
	}
	if e.Page != "" {
		b.WriteString(": " + e.Page)
	}
	return b.String()
}

// Is tells whether target is the reason or its class. The class of the answer's
// status does not count: a 404 that hides a missing permission is not a 404.
func (e *Error) Is(target error) bool { return target == e.Reason || e.Reason.Is(target) }

// As gives the answer to who asks for it.
func (e *Error) As(target any) bool {
	if t, ok := target.(**transport.Error); ok && e.Answer != nil {
		*t = e.Answer
		return true
	}
	return false
}

// MovingError is a list that changed each time it was read. It is
// [transport.ErrConflict].
type MovingError struct {
	Op, Target string
	Rows       int // that were read the last time
	Count      int // that there should be; negative if it is not known
}

// Error says how far apart rows and count are.
func (e *MovingError) Error() string {
	text := fmt.Sprintf("%s %s: the list changed each of %d times it was read; the last time it had %d rows", e.Op, e.Target, rounds, e.Rows)
	if e.Count >= 0 {
		text += fmt.Sprintf(" where GitHub counts %d", e.Count)
	}
	return text
}

// Is makes every MovingError a [transport.ErrConflict].
func (e *MovingError) Is(target error) bool { return target == transport.ErrConflict }

// subject is what a request is about.
type subject struct {
	owner, name string
	version     int64
}

func (s subject) String() string {
	text := s.owner
	if s.name != "" {
		text += "/" + s.name
	}
	if s.version != 0 {
		text += fmt.Sprintf(" version %d", s.version)
	}
	return text
}

func asExchange(err error) (*transport.Error, bool) {
	var e *transport.Error
	ok := errors.As(err, &e)
	return e, ok
}
