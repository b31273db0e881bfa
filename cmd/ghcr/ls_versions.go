package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
)

// listedVersion is one version of ghcr ls --versions. What is said of its part comes
// from the manifests; of a deleted version there is none.
type listedVersion struct {
	ID       int64      `json:"id"`
	Digest   oci.Digest `json:"digest"`
	Tags     []string   `json:"tags"`
	Role     oci.Role   `json:"role"`
	Reach    oci.Reach  `json:"reach"`    // whether a tag leads to it
	Platform *string    `json:"platform"` // that an index lists it for
	PartOf   []string   `json:"partOf"`   // digests of the indexes that list it
	About    []string   `json:"about"`    // digests that it is a signature, SBOM or attestation of
	Problem  string     `json:"problem"`  // why its manifest could not be read
	Created  time.Time  `json:"created"`
	Updated  time.Time  `json:"updated"`
	Deleted  *time.Time `json:"deleted"`
	// RestorableUntil is null unless it is deleted.
	RestorableUntil *time.Time `json:"restorableUntil"`
	URL             string     `json:"url"` // for people
}

// listVersions lists the manifests of a package.
func (a *app) listVersions(ctx context.Context, ref oci.ImageRef, opts registry.TagOptions, f listFlags) error {
	switch {
	case !ref.Reference.IsZero():
		return usage("ls %s: it lists the versions of a package; for one image use ghcr show", ref)
	case f.sort != "" && f.sort != "created":
		return usage("--sort %s: versions are listed by created, the newest first", f.sort)
	case f.deleted && (f.untagged || f.versions):
		return usage("--deleted lists other versions than --versions and --untagged")
	}
	list, err := a.versionRows(ctx, ref, f.deleted)
	if err != nil {
		return err
	}
	foot := versionFoot(list, f.deleted)
	list = slices.DeleteFunc(list, func(v listedVersion) bool {
		named := slices.ContainsFunc(v.Tags, func(tag string) bool { return opts.Wants(tag) })
		return f.untagged && len(v.Tags) > 0 || !f.untagged && (opts.Match != "" || opts.Regex != nil) && !named
	})
	if f.limit > 0 && len(list) > f.limit {
		list = list[:f.limit]
	}
	r := result{data: list, head: []string{"ID", "DIGEST", "WHAT", "TAGS", "CREATED"}, foot: foot}
	now := time.Now()
	for _, v := range list {
		r.ids = append(r.ids, fmt.Sprint(v.ID))
		tags := strings.Join(v.Tags, " ")
		at := v.Created
		if v.Deleted != nil {
			at = *v.Deleted
		}
		r.rows = append(r.rows, []string{fmt.Sprint(v.ID), shortDigest(v.Digest), v.what(), shortTags(v.Tags), ago(at, now)})
		r.plain = append(r.plain, []string{fmt.Sprint(v.ID), v.Digest.String(), v.what(), tags, at.Format(time.RFC3339)})
		if until := v.RestorableUntil; until != nil {
			last := len(r.rows) - 1
			r.rows[last] = append(r.rows[last], countdown(until.Sub(now)))
			r.plain[last] = append(r.plain[last], until.Format(time.RFC3339))
		}
	}
	if f.deleted {
		r.head = append(r.head[:4], "DELETED", "RESTORABLE")
	}
	return a.print(r)
}

// countdown says how much time is left.
func countdown(left time.Duration) string {
	switch {
	case left <= 0:
		return "no longer"
	case left < 24*time.Hour:
		return "for " + plural(int(left/time.Hour)+1, "hour") + " at most"
	}
	return "for " + plural(int(left/(24*time.Hour)), "day")
}

// versionRows reads the versions, and joins those that are there with their manifests.
func (a *app) versionRows(ctx context.Context, ref oci.ImageRef, deleted bool) ([]listedVersion, error) {
	list := []listedVersion{}
	if deleted {
		api, owner, name, err := a.packageOf(ref)
		if err != nil {
			return nil, err
		}
		rows, err := api.AllVersions(ctx, owner, name, packages.Deleted)
		for _, v := range rows {
			list = append(list, newListedVersion(v))
		}
		return list, err
	}
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	inv, err := client.Inventory(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, v := range inv.Versions {
		list = append(list, joined(v))
	}
	return list, nil
}

func newListedVersion(v packages.PackageVersion) listedVersion {
	return listedVersion{
		ID: v.ID, Digest: v.Digest(), Tags: append([]string{}, v.Tags...), Role: oci.RoleUnknown, Reach: oci.ReachUnknown,
		PartOf: []string{}, About: []string{}, Created: v.CreatedAt.UTC(), Updated: v.UpdatedAt.UTC(), Deleted: stated(v.DeletedAt.UTC()),
		RestorableUntil: stated(v.RestorableUntil().UTC()), URL: v.HTMLURL,
	}
}

func joined(v *ghcr.Version) listedVersion {
	row := newListedVersion(v.PackageVersion)
	row.Role, row.Reach = v.Node.Role(), v.Node.Reach
	if v.Unreadable != nil {
		row.Problem = v.Unreadable.Error()
	}
	if v.Node.Platform != nil {
		name := oci.FormatPlatform(*v.Node.Platform)
		row.Platform = &name
	}
	for _, parent := range v.Node.Parents {
		row.PartOf = append(row.PartOf, parent.Digest.String())
	}
	for _, d := range v.Node.About {
		row.About = append(row.About, d.String())
	}
	if v.Node.Attests != nil {
		row.About = append(row.About, v.Node.Attests.Digest.String())
	}
	return row
}

// what says in a few words what a version is to the others.
func (v listedVersion) what() string {
	switch {
	case v.Deleted != nil:
		return "deleted"
	case v.Problem != "":
		return "unreadable"
	}
	what := string(v.Role)
	if v.Platform != nil {
		what = *v.Platform
	}
	for _, tag := range v.Tags {
		if label := tagLabel(tag); label != "" && v.Role == oci.RoleReferrer {
			what = label
		}
	}
	if v.Reach == oci.Unreached {
		what += ", in no use"
	}
	return what
}

// versionFoot sums up: untagged is not unused.
func versionFoot(list []listedVersion, deleted bool) string {
	if deleted {
		return plural(len(list), "deleted version")
	}
	tags, tagged, parts, orphans := 0, 0, 0, 0
	for _, v := range list {
		tags += len(v.Tags)
		switch {
		case len(v.Tags) > 0:
			tagged++
		case v.Reach == oci.Reached:
			parts++
		case v.Reach == oci.Unreached:
			orphans++
		}
	}
	foot := fmt.Sprintf("%s on %s · %d untagged (%d parts of tagged images, %s)", plural(tags, "tag"), plural(tagged, "version"), len(list)-tagged, parts, plural(orphans, "orphan"))
	if unknown := len(list) - tagged - parts - orphans; unknown > 0 {
		foot += fmt.Sprintf(" · %d of which it is not known, since not all could be read", unknown)
	}
	return foot
}
