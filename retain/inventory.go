// Package retain hides what a retention policy means, and why its plan is safe. It
// is pure: no clock, no network and no files, so the same input gives the same plan,
// byte for byte.
//
// Begin with [Parse], which reads a policy, and [Make], which plans what it asks for
// on an [Inventory]. A [Plan] is data: it says of each version whether it goes and
// why, and can be kept, read, compared and carried out later by the root package.
//
// Three rules stand above all others. What no rule matches is kept. What is kept
// keeps all that it reaches. What is not known keeps all that it may reach.
package retain

import (
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Inventory is what is known of one package at one time: the versions that the
// Packages API lists, joined with the manifests of the registry.
type Inventory struct {
	Host      string    `json:"host"` // of the registry: "ghcr.io"
	Owner     string    `json:"owner"`
	OwnerID   int64     `json:"ownerId"`
	Package   string    `json:"package"` // without its owner
	PackageID int64     `json:"packageId"`
	Taken     time.Time `json:"taken"`
	Versions  []Version `json:"versions"` // in any order
}

// Version is one version of the package.
type Version struct {
	ID      int64      `json:"id"`
	Digest  oci.Digest `json:"digest"`
	Tags    []string   `json:"tags,omitempty"`
	Created time.Time  `json:"created,omitzero"` // zero if it is not known
	Updated time.Time  `json:"updated,omitzero"`
	// Manifest is nil until it is read; [Plan.Needs] says whether it must be.
	Manifest *oci.Manifest `json:"-"`
	// Unreadable is why the manifest can't be had; empty if it was not tried or was read.
	Unreadable string `json:"unreadable,omitempty"`
	// Labels are those of the image's config; nil until they are read, which only
	// policies with [Match.Labels] ask for; empty if it has none. If the config can't be
	// had, they stay nil and Unreadable says why, although Manifest is there.
	Labels map[string]string `json:"labels,omitempty"`
}

// Facts are what a policy's files and its caller's hand say of the world outside. The
// files that a policy names, [Policy.Files] lists; they are read by whoever calls.
type Facts struct {
	// InUse are digests that something outside uses, and where that was read.
	InUse map[oci.Digest]string
	// InUseTags are the tags of this package that something outside uses.
	InUseTags map[string]string
	// Lists are the files of [When.NotIn] and [Match.TagsFrom] by the name that the
	// policy has for them, one entry for each line.
	Lists map[string][]string
}
