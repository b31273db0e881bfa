package packages

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Visibility says who may see a package.
type Visibility string

// The visibilities that GitHub has. Internal, which its own schema leaves out, is
// for the members of an enterprise (docs/quirks.md#rest-visibility-internal).
const (
	Public   Visibility = "public"
	Private  Visibility = "private"
	Internal Visibility = "internal"
)

func (v Visibility) check() error {
	switch v {
	case Public, Private, Internal:
		return nil
	}
	return oci.Invalid("%q is no visibility: it is public, private or internal", string(v))
}

// OwnerKind is what an owner of packages is.
type OwnerKind string

// The kinds of owner.
const (
	User         OwnerKind = "User"
	Organization OwnerKind = "Organization"
)

// Owner is the account that packages belong to.
type Owner struct {
	Login string // as its owner writes it
	ID    int64
	Kind  OwnerKind
}

// Package is one container package. An image repository of GHCR is a package.
type Package struct {
	ID           int64
	Name         string // without its owner: "tools/lint"
	Owner        Owner
	Visibility   Visibility
	VersionCount int    // of active versions, as GitHub counts
	Repository   string // "acme/app" that it is linked to; empty if to none
	URL          string // in the API
	HTMLURL      string // for people
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// PackageVersion is one manifest of a package, with the tags that point to it.
type PackageVersion struct {
	ID          int64  // by which it is deleted
	Name        string // the digest of the manifest
	URL         string // in the API
	HTMLURL     string // for people
	PackageURL  string // of the package, for people
	Description string // from the image's labels; mostly empty
	License     string
	CreatedAt   time.Time
	UpdatedAt   time.Time // changes when a tag comes
	DeletedAt   time.Time // zero unless it is deleted
	Metadata    PackageMetadata
	Tags        []string // the same as in Metadata; empty if it is untagged
}

// RestoreWindow is for how long GitHub keeps what was deleted
// (docs/quirks.md#rest-restore-window).
const RestoreWindow = 30 * 24 * time.Hour

// RestorableUntil returns when a deleted version can't be restored any more; zero for one
// that is not deleted.
func (v PackageVersion) RestorableUntil() time.Time {
	if v.DeletedAt.IsZero() {
		return time.Time{}
	}
	return v.DeletedAt.Add(RestoreWindow)
}

// Digest returns the digest of the version's manifest.
func (v PackageVersion) Digest() oci.Digest { return v.Metadata.Container.ManifestDigest }

// PackageMetadata is what a version says of its package.
type PackageMetadata struct {
	PackageType string // "container"
	Container   ContainerMetadata
	// Visibility is the package's. GitHub does not say it of a version: it is filled
	// in by [Client.AllVersions], and empty elsewhere.
	Visibility Visibility
}

// ContainerMetadata is the part of the metadata that containers have.
type ContainerMetadata struct {
	Tags           []string
	ManifestDigest oci.Digest
}

// Compare orders versions by age, the newest first, as GitHub lists them. Those of
// one second are ordered by their number.
func (v PackageVersion) Compare(other PackageVersion) int {
	if n := other.CreatedAt.Compare(v.CreatedAt); n != 0 {
		return n
	}
	return cmp.Compare(other.ID, v.ID)
}

// UnmarshalJSON reads the form that the API has.
func (p *Package) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID           int64     `json:"id"`
		Name         string    `json:"name"`
		Visibility   string    `json:"visibility"`
		VersionCount int       `json:"version_count"`
		URL          string    `json:"url"`
		HTMLURL      string    `json:"html_url"`
		CreatedAt    time.Time `json:"created_at"`
		UpdatedAt    time.Time `json:"updated_at"`
		Owner        *Owner    `json:"owner"`
		Repository   *struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*p = Package{
		ID: wire.ID, Name: wire.Name, Visibility: Visibility(wire.Visibility), VersionCount: wire.VersionCount,
		URL: wire.URL, HTMLURL: wire.HTMLURL, CreatedAt: wire.CreatedAt, UpdatedAt: wire.UpdatedAt,
	}
	if wire.Owner != nil {
		p.Owner = *wire.Owner
	}
	if wire.Repository != nil {
		p.Repository = wire.Repository.FullName
	}
	return nil
}

// UnmarshalJSON reads the form that the API has.
func (o *Owner) UnmarshalJSON(data []byte) error {
	var wire struct {
		Login string `json:"login"`
		ID    int64  `json:"id"`
		Type  string `json:"type"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*o = Owner{Login: wire.Login, ID: wire.ID, Kind: OwnerKind(wire.Type)}
	return nil
}

// UnmarshalJSON reads the form that the API has.
func (v *PackageVersion) UnmarshalJSON(data []byte) error {
	var wire struct {
		ID             int64     `json:"id"`
		Name           string    `json:"name"`
		URL            string    `json:"url"`
		HTMLURL        string    `json:"html_url"`
		PackageHTMLURL string    `json:"package_html_url"`
		Description    string    `json:"description"`
		License        string    `json:"license"`
		CreatedAt      time.Time `json:"created_at"`
		UpdatedAt      time.Time `json:"updated_at"`
		DeletedAt      time.Time `json:"deleted_at"`
		Metadata       struct {
			PackageType string `json:"package_type"`
			Container   struct {
				Tags []string `json:"tags"`
			} `json:"container"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	*v = PackageVersion{
		ID: wire.ID, Name: wire.Name, URL: wire.URL, HTMLURL: wire.HTMLURL, PackageURL: wire.PackageHTMLURL,
		Description: wire.Description, License: wire.License,
		CreatedAt: wire.CreatedAt, UpdatedAt: wire.UpdatedAt, DeletedAt: wire.DeletedAt,
		Metadata: PackageMetadata{
			PackageType: wire.Metadata.PackageType,
			Container:   ContainerMetadata{Tags: wire.Metadata.Container.Tags, ManifestDigest: oci.Digest(wire.Name)},
		},
		Tags: wire.Metadata.Container.Tags,
	}
	return nil
}
