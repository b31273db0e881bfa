package retain

import (
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Range is a range of semantic versions, such as ">=1.0.0 <2", "~1.4" or "1.x || 3.x".
// Make one with [ParseRange]; the zero value has no version in it.
type Range struct {
	Text        string // as the policy has it
	constraints *semver.Constraints
}

// ParseRange reads a range.
//
// Errors: [oci.ErrInvalid].
func ParseRange(text string) (Range, error) {
	if strings.TrimSpace(text) != text || text == "" {
		return Range{}, oci.Invalid("range of versions %q: empty, or whitespace around it", text)
	}
	c, err := semver.NewConstraint(text)
	if err != nil {
		return Range{}, oci.Invalid("range of versions %q: %v; write for example >=1.0.0 <2", text, err)
	}
	// Whether pre-releases count is said apart, by Match.Prerelease.
	c.IncludePrerelease = true
	return Range{Text: text, constraints: c}, nil
}

// Match tells whether the tag is a version of the range. A pre-release is in a range
// if it is by its precedence: 2.0.0-rc.1 is below 2.0.0.
func (r Range) Match(tag string) bool {
	v := versionOf(tag)
	return r.constraints != nil && v != nil && r.constraints.Check(v)
}

// versionOf reads a tag as a semantic version, or returns nil: a "v" and one to three
// numbers, as in v1 and v1.2, or two or three numbers without it. A lone number is no
// version, for it may be a build, a pull request or the begin of a commit.
func versionOf(tag string) *semver.Version {
	core, _, _ := strings.Cut(tag, "-")
	if !strings.HasPrefix(tag, "v") && !strings.Contains(core, ".") {
		return nil
	}
	v, err := semver.NewVersion(tag)
	if err != nil {
		return nil
	}
	return v
}
