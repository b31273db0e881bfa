package retain

import (
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// PlanSchema is the format of plans. Within it, fields are added and never changed.
const PlanSchema = "ghcr-plan/1"

// Plan is what becomes of each version of a package, and why. It is data: carrying it
// out evaluates no policy again.
type Plan struct {
	Schema    string     `json:"schema"`
	Tool      string     `json:"tool"` // and version, that made it
	Host      string     `json:"host"`
	Owner     string     `json:"owner"`
	OwnerID   int64      `json:"ownerId"`
	Package   string     `json:"package"`
	PackageID int64      `json:"packageId"`
	Policy    oci.Digest `json:"policy"`    // of the policy's canonical form
	Inventory oci.Digest `json:"inventory"` // of what it was made on
	Created   time.Time  `json:"created"`
	Expires   time.Time  `json:"expires"`
	// Actions are in the order in which they are carried out, which may be broken off
	// anywhere: tags first, an index before what it lists, an image before its referrers.
	Actions []Action   `json:"actions"`
	Kept    []Decision `json:"kept"`    // what no action is about, by number
	Refused []Refusal  `json:"refused"` // by rails: while there are any the plan may not be carried out
	Reports []Decision `json:"reports,omitempty"`
	Health  []Ailment  `json:"health,omitempty"`
	Cost    Cost       `json:"cost"`
	// Digest is that of the plan's canonical JSON without this field.
	Digest oci.Digest `json:"digest,omitempty"`

	// Needs are the versions whose manifests must be read first. While there are any, or
	// NeedsLabels, nothing is planned: read them and call [Make] again. What they list
	// may make more necessary.
	Needs []oci.Digest `json:"-"`
	// NeedsLabels are images whose configs must be read.
	NeedsLabels []oci.Digest `json:"-"`
}

// Verb is what an action does.
type Verb string

// What actions do.
const (
	Delete Verb = "delete"
	Untag  Verb = "untag"
	Retag  Verb = "retag"
)

// Action is one thing to do, and what must still be so when it is done.
type Action struct {
	Do      Verb         `json:"do"`
	Version int64        `json:"version"`
	Digest  oci.Digest   `json:"digest"`
	Tags    []string     `json:"tags,omitempty"` // all that it has, sorted; for Untag see Off
	Off     []string     `json:"off,omitempty"`  // those that are taken off
	On      string       `json:"on,omitempty"`   // the one that Retag gives
	Role    oci.Role     `json:"role"`
	Created time.Time    `json:"created,omitzero"`
	Updated time.Time    `json:"updated,omitzero"`
	Parents []oci.Digest `json:"parents,omitempty"` // indexes that list it; all of them go before it
	Rule    string       `json:"rule,omitempty"`    // that claimed it, or whose action takes it along
	Reason  Reason       `json:"reason"`
	// Because is the version that it goes along with, or for Untag in place of Delete
	// the one that needs it; empty if it was claimed itself.
	Because oci.Digest `json:"because,omitempty"`
	Size    int64      `json:"size,omitempty"` // bytes of its manifest and of the blobs that it lists
}

// Decision is a version that stays, and why.
type Decision struct {
	Version int64      `json:"version"`
	Digest  oci.Digest `json:"digest"`
	Tags    []string   `json:"tags,omitempty"`
	Role    oci.Role   `json:"role"`
	Reason  Reason     `json:"reason"`
	Rule    string     `json:"rule,omitempty"`
	// Blocked is the rule that would have it go, were it not for Reason.
	Blocked string `json:"blocked,omitempty"`
	// Path leads from what keeps it: a kept image first, the version itself last. Of more
	// than 20 the ones behind the first are left out.
	Path []oci.Digest `json:"path,omitempty"`
	// Unread says that it is not known by itself: an index lists it as an image, and was
	// believed. Who carries the plan out asks the registry what it is.
	Unread bool `json:"unread,omitempty"`
}

// Reason is why a version goes or stays. The codes are stable.
type Reason string

// Why versions go.
const (
	ReasonRule     Reason = "rule"     // a rule claimed it
	ReasonPart     Reason = "part"     // only what goes lists it
	ReasonReferrer Reason = "referrer" // it is about what goes
)

// Why versions stay.
const (
	ReasonUnmatched     Reason = "unmatched"      // no rule is about it
	ReasonKeepRule      Reason = "keep-rule"      // a rule keeps it
	ReasonProtected     Reason = "protected"      // the policy protects it
	ReasonInUse         Reason = "in-use"         // something outside uses it
	ReasonCondition     Reason = "condition"      // a rule matches, and its condition does not hold: too young, still listed
	ReasonSomeTags      Reason = "some-tags"      // a rule matches some of its tags and not all
	ReasonNeededByKept  Reason = "needed-by-kept" // an index that stays lists it
	ReasonAboutKept     Reason = "about-kept"     // it is about something that stays
	ReasonGrace         Reason = "grace"          // untagged and younger than the grace period
	ReasonNoDate        Reason = "no-date"        // its age is not known
	ReasonUnclear       Reason = "unclear"        // what a rule asks of it or of its parts is not known
	ReasonUnreadable    Reason = "unreadable"     // its manifest could not be read
	ReasonUnknownParent Reason = "unknown-parent" // what could not be read may list it
	ReasonLastTagged    Reason = "last-tagged"    // GitHub refuses to delete the last version with a tag
	ReasonTagTaken      Reason = "tag-taken"      // the tag that it was to be given is another version's
	ReasonReportOnly    Reason = "report"         // the rule only reports
)

// Refusal is a rail that stopped the plan.
type Refusal struct {
	Rail string `json:"rail"` // "max-delete", "max-delete-percent", "min-remaining", "empty", "match-all"
	Text string `json:"text"` // what it found, and what to do
}

// Ailment is something that is wrong with a version.
type Ailment struct {
	Version int64        `json:"version"`
	Digest  oci.Digest   `json:"digest"`
	Tags    []string     `json:"tags,omitempty"`
	Health  Health       `json:"health"`
	Missing []oci.Digest `json:"missing,omitempty"` // what it points at and is not there
	Holds   int          `json:"holds,omitempty"`   // versions that stay because it could not be read
}

// Cost is what carrying the plan out takes, and what it frees.
type Cost struct {
	Requests int `json:"requests"` // to the API, and those to the registry that change or fetch something
	Points   int `json:"points"`   // of GitHub's limit of 900 a minute
	// Looks are HEADs at the registry: where each tag points, and whether what was deleted
	// is gone. They count on no limit of the API, and are no downloads.
	Looks       int   `json:"looks"`
	UniqueBytes int64 `json:"uniqueBytes"` // of blobs that nothing else in the package has
	SharedBytes int64 `json:"sharedBytes"` // of blobs that something which stays has too
	Downloads   int   `json:"downloads"`   // that making the plan added to versions; its caller knows
	// Unread counts versions that stay and did not have to be read, as the parts of
	// indexes. What they share with what goes is not known, so UniqueBytes is a limit.
	Unread int `json:"unread,omitempty"`
}
