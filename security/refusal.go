package security

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// errTooMany says that a list was left before its end.
var errTooMany = vuln.ErrTooMany

// refused gives an error the status that it is for a source, and says what to do
// about it. subject is the repository or owner that was asked about.
func refused(source vuln.SourceName, subject string, err error) error {
	var known *vuln.SourceError
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &known) {
		return err
	}
	var e *transport.Error
	errors.As(err, &e)
	var status vuln.Status
	switch {
	case errors.Is(err, transport.ErrRateLimited):
		remedy := "run it again later, or with a token of its own"
		if e != nil && e.RetryAfter > 0 {
			remedy = "run it again after " + time.Now().Add(e.RetryAfter).UTC().Format(time.RFC3339)
		}
		return &vuln.SourceError{Status: vuln.StatusRateLimited, Remedy: remedy, Err: err}
	case errors.As(err, new(*transport.ScopeError)), errors.Is(err, transport.ErrUnauthorized):
		status = vuln.StatusForbidden
	case e == nil || e.Status == 0, source == vuln.SourceOSV:
		return err
	default:
		status = meaningOf(source, e)
	}
	return &vuln.SourceError{Status: status, Remedy: remedyOf(source, status, subject), Err: err}
}

// meaningOf tells switched off, not allowed and not there from one another, which GitHub
// says by the words of a 403 or 404 only. They differ by product and host, so parts of
// them are looked for.
func meaningOf(source vuln.SourceName, e *transport.Error) vuln.Status {
	message := strings.ToLower(e.Message)
	says := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(message, part) })
	}
	switch e.Status {
	case http.StatusForbidden:
		if says("code security must be enabled", "advanced security must be enabled",
			"dependabot alerts are disabled", "dependency graph", "code scanning is not enabled") {
			return vuln.StatusFeatureDisabled
		}
		return vuln.StatusForbidden
	case http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity, http.StatusNotImplemented:
		switch {
		case source == vuln.SourceGitHubAttestation:
			return vuln.StatusEmpty
		case e.Status != http.StatusNotFound:
			return vuln.StatusError
		case says("no analysis found"):
			return vuln.StatusEmpty
		}
		return vuln.StatusForbidden // GitHub hides a missing permission behind a 404
	}
	return vuln.StatusError
}

// isNone tells an answer that says that there is nothing.
func isNone(source vuln.SourceName, err error) bool {
	var failed *vuln.SourceError
	return errors.As(refused(source, "", err), &failed) && failed.Status == vuln.StatusEmpty
}

// permissions are what a token needs for a source: the scope of a classic one, and the
// permission of others.
var permissions = map[vuln.SourceName]string{
	vuln.SourceGitHubAttestation: `a classic token with "repo", or another with "attestations: read"`,
	vuln.SourceCodeScanning:      `a classic token with "security_events", or another with "code scanning alerts: read"`,
	vuln.SourceDependabot:        `a classic token with "security_events", or another with "Dependabot alerts: read"`,
	vuln.SourceGHSA:              "no token, or one that is valid",
}

var features = map[vuln.SourceName]string{
	vuln.SourceCodeScanning: "code scanning",
	vuln.SourceDependabot:   "Dependabot alerts",
}

func remedyOf(source vuln.SourceName, status vuln.Status, subject string) string {
	switch {
	case status == vuln.StatusForbidden && permissions[source] != "":
		return fmt.Sprintf("%s needs %s, of somebody who may see it: set GHCR_SECURITY_TOKEN", subject, permissions[source])
	case status == vuln.StatusFeatureDisabled && features[source] != "":
		return fmt.Sprintf("switch %s on in the settings of %s, or leave this source out", features[source], subject)
	}
	return ""
}

// statusOf is the status of an answer that was no success, or 0.
func statusOf(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// gone tells whether an address that was signed for a short time is no longer good.
func gone(err error) bool {
	status := statusOf(err)
	return status == http.StatusForbidden || status == http.StatusUnauthorized || status == http.StatusNotFound
}
