package ghcr_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
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
