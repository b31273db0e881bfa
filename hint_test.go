package ghcr_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transport"
)

// TestHintOfEachRefusal: what the client itself refuses comes with what to do instead.
func TestHintOfEachRefusal(t *testing.T) {
	ref, err := oci.ParseRef("acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	for err, want := range map[error]string{
		&ghcr.TagsError{Image: ref, Tags: []string{"v2"}}:                    "--all-tags",
		&ghcr.NeededError{Image: ref, Indexes: []string{"v2"}}:               "ghcr untag",
		&ghcr.NeededError{Image: ref, Unread: []oci.Digest{"sha256:00"}}:     "could not be read",
		&ghcr.PendingError{Image: ref, Throwaway: "sha256:00"}:               "again",
		&ghcr.UnlistedError{Image: ref}:                                      "in a minute",
		&ghcr.ChangedError{Image: ref, What: "the tag points to sha256:00"}:  "decide anew",
		&ghcr.PartialError{Causes: []error{&ghcr.UnlistedError{Image: ref}}}: "in a minute",
		&ghcr.PlanError{Fault: ghcr.PlanExpired}:                             "make the plan anew",
		&ghcr.PlanError{Fault: ghcr.PlanRefused}:                             "narrow the rules",
	} {
		if hint := ghcr.Hint(fmt.Errorf("delete: %w", err)); !strings.Contains(hint, want) {
			t.Errorf("%v: hint %q, want %q in it", err, hint, want)
		}
		if !errors.Is(err, ghcr.ErrConflict) {
			t.Errorf("%v is no conflict", err)
		}
	}
}

// TestHintOfARefusedPush: whoever may not push is told what it takes, and not that there is
// nothing to see.
func TestHintOfARefusedPush(t *testing.T) {
	t.Parallel()
	for op, want := range map[string]string{
		"start upload": "write:packages", "put manifest": "write:packages", "put chunk": "write:packages", "end upload": "write:packages",
		"get manifest": "can't see it", "list tags": "can't see it",
	} {
		hint := ghcr.Hint(&transport.Error{Op: op, Status: http.StatusForbidden})
		if !strings.Contains(hint, want) || !strings.Contains(hint, "ghcr auth login") {
			t.Errorf("%s: hint %q, want %q and how to log in", op, hint, want)
		}
	}
}

// TestHintNamesTheHost: the token of the environment is for GitHub's registry alone, so that
// setting it is no advice for another.
func TestHintNamesTheHost(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"ghcr.io/acme/app:v1":                "set GHCR_TOKEN, or log in with ghcr auth login",
		"containers.example.com/acme/app:v1": "set GHCR_TOKEN, or log in with ghcr auth login",
		"registry.example.com/acme/app:v1":   "log in with ghcr auth login registry.example.com",
		"localhost:5000/acme/app:v1":         "log in with ghcr auth login localhost:5000",
		"acme/app":                           "set GHCR_TOKEN, or log in with ghcr auth login",
	} {
		hint := ghcr.Hint(&transport.Error{Op: "get manifest", Target: target, Status: http.StatusUnauthorized, Credential: "anonymous"})
		if !strings.HasSuffix(hint, "You are anonymous: "+want) {
			t.Errorf("%s: hint %q, want %q at its end", target, hint, want)
		}
	}
}

// TestHintOfPlainHTTP: a server without TLS shows itself in one of two ways.
func TestHintOfPlainHTTP(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"http: server gave HTTP response to HTTPS client", "tls: first record does not look like a TLS handshake"} {
		if hint := ghcr.Hint(&transport.Error{Op: "get manifest", Err: errors.New(text)}); !strings.Contains(hint, "--plain-http") {
			t.Errorf("%s: hint %q", text, hint)
		}
	}
}
