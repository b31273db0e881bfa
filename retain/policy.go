package retain

import (
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Policy is what to keep and what may go. The zero value deletes nothing.
type Policy struct {
	Packages []string // names and globs; "!" before one excludes
	Rails    Rails
	Protect  Protect
	Rules    []Rule // in order: the first that claims an image decides what becomes of it
	Tests    []Test // that the policy brings along, for [RunTests]; they change no plan
}

// Rails stop a plan that does more than was meant. They are the policy's defaults:
// its version 1 calls them so.
type Rails struct {
	// Grace is the age below which an untagged version stays: it may be part of an image
	// whose index is not pushed yet.
	Grace time.Duration
	// MaxDelete and MaxDeletePercent refuse a plan that deletes more versions. Zero is
	// none may go, below zero is no limit.
	MaxDelete        int
	MaxDeletePercent int
	// MinRemaining refuses a plan that leaves fewer images.
	MinRemaining int
	// AllowMatchAll agrees to a pattern that matches every tag.
	AllowMatchAll bool
}

// DefaultRails are those of a policy that says nothing of them.
func DefaultRails() Rails {
	return Rails{Grace: 2 * time.Hour, MaxDelete: 200, MaxDeletePercent: 30, MinRemaining: 1}
}

// Protect is what stays whatever the rules say, with all that it reaches.
type Protect struct {
	Tags    []Pattern
	Digests []oci.Digest
	// InUseFrom are globs of files that are searched for digests and references of
	// images. See [InUse].
	InUseFrom []string
}

// Rule says what becomes of the images that it matches. A rule with Keep and Delete
// keeps what Keep names, and offers the rest of its matches to Delete.
type Rule struct {
	Name   string // unique; it is printed as the reason
	Match  Match
	Keep   *Keep
	Delete *When
	Untag  *When  // takes the matching tags off and leaves the image
	Retag  string // gives an untagged image this tag before it is lost; {digest} and {id} are filled in
	Report bool   // only names what matches
}

// Match says which images a rule is about. All of what is set must hold; nothing set
// matches nothing.
type Match struct {
	Tags     []Pattern // any of them
	TagsFrom string    // a file of literal tags
	Except   []Pattern // tags that do not match after all
	// Semver is a range of versions. A tag that is no version does not match.
	Semver     Range
	Prerelease *bool // with Semver: false leaves pre-releases out, true takes only them, nil both
	// Calver reads dates from tags: a regular expression with the groups year, month,
	// day, and perhaps hour and minute.
	Calver Pattern
	// Any has one matching tag of an image be enough. Otherwise all must match, for an
	// image goes with all its tags.
	Any bool

	Digests       []oci.Digest
	Untagged      bool // has no tag, and nothing that stays needs it
	Roles         []oci.Role
	Health        []Health
	MediaTypes    []string
	ArtifactTypes []string
	Annotations   map[string]Pattern
	Labels        map[string]Pattern
	Platforms     []string // "linux/amd64"
	LargerThan    int64    // bytes of all it reaches
	SmallerThan   int64
	OlderThan     time.Duration
	YoungerThan   time.Duration
	By            Order // what those two ages go by; empty is ByCreated
}

// Keep says which of the matches of a rule stay. They are added up: what any part
// names, stays. Each count is of images; referrers, parts, and indexes of which nothing
// is left are not counted. Days begin at midnight UTC, and weeks on Monday.
type Keep struct {
	All    bool
	Last   int // the newest
	Within time.Duration
	// The newest of each of so many last days, weeks, months and years that have any.
	Days, Weeks, Months, Years int
	// AtLeast stay, however old.
	AtLeast int
	// Whole counts only images all of whose tags match. Otherwise one is enough to be
	// counted, and an image that another tag keeps anyway takes a place.
	Whole bool
	// Per counts in each group on its own: the name of a group of a regular expression,
	// or "major", "minor", "channel" or "platform".
	Per string
	// Order is what newest means; empty is by creation, or by version for a rule with
	// Semver.
	Order Order
}

// Order is what makes an image newer than another. Equal ones are ordered by number.
type Order string

// The orders.
const (
	ByCreated Order = "created"
	ByUpdated Order = "updated" // when a tag last came to it
	BySemver  Order = "semver"
	ByTagDate Order = "tag-date" // what Calver read
)

// When says which images an action is for, of those that a rule matches and does not
// keep. The zero value is for all of them.
type When struct {
	OlderThan time.Duration
	By        Order  // what age goes by; empty is ByCreated
	NotIn     string // a file: what Key says is not a line of it
	Key       string // the group of a regular expression; empty is the whole tag
	// Expired goes by this annotation, a date or a duration from the creation.
	Expired string
}

// Health is what is wrong with a version.
type Health string

// What can be wrong.
const (
	Ghost      Health = "ghost"      // an index none of whose manifests are there
	Partial    Health = "partial"    // an index some of whose manifests are not there
	Orphan     Health = "orphan"     // a referrer whose subject is not there
	Dangling   Health = "dangling"   // a list of referrers with entries that are not there
	Unreadable Health = "unreadable" // listed, but not readable
)
