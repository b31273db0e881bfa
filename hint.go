package ghcr

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// Hint says what to do about an error, in one or two lines, or nothing if it has
// nothing to add to the error's own words. GHCR's answers to a missing login, a
// missing permission and a missing image are much alike; a hint says what they
// may mean together.
func Hint(err error) string {
	var refusal *packages.Error
	var scope *transport.ScopeError
	var moving *packages.MovingError
	switch {
	case errors.As(err, &refusal):
		return packagesHint(refusal)
	case errors.As(err, &scope):
		return packagesHint(&packages.Error{Reason: packages.MissingScope, Scope: scope.Missing[0], Source: scope.Credential})
	case errors.As(err, &moving):
		return "somebody pushes or deletes just now: run it again when that is over"
	}
	if hint := refusalHint(err); hint != "" {
		return hint
	}
	var e *transport.Error
	if errors.As(err, &e) {
		return exchangeHint(e)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "make room and run it again: it goes on where it ended"
	case errors.Is(err, transfer.ErrTagExists):
		return "leave out --no-clobber to move the tag"
	case errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrInvalid):
		return "nothing was stored under the wrong digest; a proxy between here and the registry may change content"
	}
	return ""
}

// refusalHint is for what the client itself refuses or leaves open.
func refusalHint(err error) string {
	var tags *TagsError
	var needed *NeededError
	var pending *PendingError
	var unlisted *UnlistedError
	var changed *ChangedError
	var plan *PlanError
	var stopped *StoppedError
	switch {
	case errors.As(err, &plan):
		return planHint(plan.Fault)
	case errors.As(err, &stopped) && stopped.Journal != "":
		return "go on with the journal, what is done is not done again: ghcr prune --resume " + stopped.Journal + " --apply"
	case errors.As(err, &tags):
		return "to delete the image with all its tags add --all-tags; to take off the one tag alone: ghcr untag"
	case errors.As(err, &needed) && len(needed.Indexes) > 0:
		return "to take a tag off it: ghcr untag; to delete it, delete what lists it too"
	case errors.As(err, &needed):
		return "name what could not be read too, if it may go, or try again later"
	case errors.As(err, &pending):
		return "run the same ghcr untag again; or to get the tag back: ghcr restore with the undo file"
	case errors.As(err, &unlisted):
		return "it was pushed just now: try again in a minute"
	case errors.As(err, &changed):
		return "look at it again, and decide anew"
	}
	return ""
}

func planHint(f PlanFault) string {
	switch f {
	case PlanRefused:
		return "nothing was done: narrow the rules, or let the policy allow more (its defaults; --max-deletes, --max-percent, --min-remaining)"
	case PlanEarly:
		return "nothing was done: plan without --at, for today other images are old enough"
	case PlanMalformed, PlanForeign:
		return "nothing was done: make the plan with this program, for this package"
	}
	return "make the plan anew: nothing was done"
}

func exchangeHint(e *transport.Error) string {
	text := strings.ToLower(e.Message)
	switch {
	case e.Status == 0 && e.Err != nil && isPlain(e.Err):
		return "it speaks plain HTTP: for a registry on this machine add --plain-http"
	case errors.Is(e, ErrRateLimited):
		if e.RetryAfter > 0 {
			return fmt.Sprintf("it asks to wait %s; --max-wait says how long to be patient", e.RetryAfter.Round(time.Second))
		}
		return "GitHub limits requests; wait some minutes, or let --max-wait be longer"
	case strings.Contains(text, "write_package"), strings.Contains(text, "installation not allowed"):
		// docs/quirks.md#denial-texts
		return "in a workflow: permissions: packages: write. Then the package's settings page: Manage Actions access, add the repository with role Write.\n" +
			"If the package is new, the organization must allow its creation"
	case strings.Contains(text, "expected scopes"):
		return "the token lacks a scope: a classic token needs write:packages to push and read:packages to pull"
	case strings.Contains(text, "cannot be authenticated"):
		return fmt.Sprintf("the token from %s is expired or revoked", origin(e))
	case (errors.Is(e, ErrUnauthorized) || errors.Is(e, ErrDenied)) && isWrite(e):
		return fmt.Sprintf("to push takes a classic token with write:packages and, where the package is there already, the role Write on it. You are %s", who(e))
	case errors.Is(e, ErrUnauthorized), errors.Is(e, ErrDenied):
		return fmt.Sprintf("it does not exist, or it is private and this login can't see it. You are %s", who(e))
	case errors.Is(e, ErrNotFound) && e.Method != http.MethodDelete:
		return fmt.Sprintf("not found, or private and this login can't see it. You are %s", who(e))
	case errors.Is(e, ErrUnsupported) && e.Method == http.MethodDelete:
		// docs/quirks.md#manifest-delete
		return "ghcr.io deletes through the Packages API: ghcr rm, or ghcr untag for a tag alone"
	}
	return ""
}

// isWrite tells whether a push was refused, or a token for one.
func isWrite(e *transport.Error) bool {
	return strings.HasPrefix(e.Op, "put ") || e.Op == "start upload" || e.Op == "end upload"
}

func origin(e *transport.Error) string {
	if e.Credential == "" {
		return "this login"
	}
	return e.Credential
}

// isPlain tells whether a server did not speak TLS, whichever way it was noticed.
func isPlain(err error) bool {
	text := err.Error()
	return strings.Contains(text, "HTTP response to HTTPS client") || strings.Contains(text, "does not look like a TLS handshake")
}

func who(e *transport.Error) string {
	if e.Credential == "" || e.Credential == "anonymous" {
		// The token of the environment is for GitHub's registry alone.
		host, _, _ := strings.Cut(e.Target, "/")
		if strings.ContainsAny(host, ".:") && host != oci.DefaultRegistry && !strings.HasPrefix(host, "containers.") {
			return "anonymous: log in with ghcr auth login " + host
		}
		return "anonymous: set GHCR_TOKEN, or log in with ghcr auth login"
	}
	return "logged in with the token from " + e.Credential
}
