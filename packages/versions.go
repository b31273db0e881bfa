package packages

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"

	"github.com/llm-dev-ops/ghcr/oci"
)

// VersionState tells versions that are there from those that were deleted and can
// still be restored.
type VersionState string

// The states of a version. The zero value means Active.
const (
	Active  VersionState = "active"
	Deleted VersionState = "deleted"
)

// Versions yields the versions of a package page by page, the newest first, each
// once. Who stops early saves the rest of the requests. While it is read, versions
// that are deleted elsewhere make others slip by unseen: use it to find what is
// there, and [Client.AllVersions] to know what is not. An error comes last and
// ends the list.
//
// Errors: [*Error] with the reason of the refusal.
func (c *Client) Versions(ctx context.Context, owner, name string, state VersionState) iter.Seq2[PackageVersion, error] {
	return func(yield func(PackageVersion, error) bool) {
		s := subject{owner: owner, name: name}
		q, err := c.versionsRequest(ctx, owner, name, state)
		if err != nil {
			yield(PackageVersion{}, err)
			return
		}
		seen := map[int64]bool{}
		asked := map[string]bool{}
		for q.url != "" && !asked[q.url] {
			if len(asked) == maxPages {
				yield(PackageVersion{}, errNoEnd(q))
				return
			}
			asked[q.url] = true
			p, err := fetchPage[PackageVersion](ctx, c, q)
			if err != nil {
				yield(PackageVersion{}, explain(err, s))
				return
			}
			c.saw(s)
			for _, v := range p.rows {
				if seen[v.ID] {
					continue
				}
				seen[v.ID] = true
				if !yield(v, nil) {
					return
				}
			}
			q.url = p.next
		}
	}
}

func (c *Client) versionsRequest(ctx context.Context, owner, name string, state VersionState) (request, error) {
	at, err := c.packagePlace(ctx, subject{owner: owner, name: name}, "versions")
	if err != nil {
		return request{}, err
	}
	q := request{op: "list versions", target: owner + "/" + name, url: at.url + "?per_page=" + strconv.Itoa(pageSize), token: at.token, needs: readScopes}
	if state == Deleted {
		q.op, q.url = "list deleted versions", q.url+"&state=deleted"
	}
	return q, nil
}

// rounds is how often a list that moves is read before it is given up on.
const rounds = 4

// AllVersions returns all versions of a package, the newest first. Pages are
// fetched side by side. A list that moved meanwhile, which shows in rows that come
// twice, pages that are short, or a number of rows that is not GitHub's count of
// versions, is read again, until it agrees with the count or with itself.
//
// Errors: [*Error] with the reason of the refusal; [*MovingError], beside the rows
// seen last, for a list that did not come to rest.
func (c *Client) AllVersions(ctx context.Context, owner, name string, state VersionState) ([]PackageVersion, error) {
	_, rows, err := c.allVersions(ctx, owner, name, state)
	return rows, err
}

// Contents returns a package and all its active versions, as [Client.AllVersions]
// does, for who must know that both belong together: a name that is free again may be
// another package's.
//
// Errors: those of [Client.AllVersions].
func (c *Client) Contents(ctx context.Context, owner, name string) (Package, []PackageVersion, error) {
	return c.allVersions(ctx, owner, name, Active)
}

func (c *Client) allVersions(ctx context.Context, owner, name string, state VersionState) (p Package, rows []PackageVersion, err error) {
	s := subject{owner: owner, name: name}
	q, err := c.versionsRequest(ctx, owner, name, state)
	if err != nil {
		return p, nil, err
	}
	var before []PackageVersion
	for round := 0; ; round++ {
		if p, err = c.Get(ctx, owner, name); err != nil {
			return p, nil, err
		}
		pages, err := fetchAll[PackageVersion](ctx, c, q, maxPages)
		if errors.Is(err, TooMany) {
			return p, nil, errNoEnd(q)
		} else if err != nil {
			return p, nil, explain(err, s)
		}
		rows, fit := join(pages, PackageVersion.number)
		counted := state != Deleted && len(rows) == p.VersionCount
		agreed := round > 0 && sameRows(before, rows, PackageVersion.number)
		if fit && (counted || agreed || state == Deleted) || agreed && (counted || state == Deleted) {
			for i := range rows {
				rows[i].Metadata.Visibility = p.Visibility
			}
			slices.SortStableFunc(rows, PackageVersion.Compare)
			return p, rows, nil
		}
		if round == rounds-1 {
			return p, rows, &MovingError{Op: q.op, Target: q.target, Rows: len(rows), Count: p.VersionCount}
		}
		before = rows
		if err := pause(ctx, round); err != nil {
			return p, nil, err
		}
	}
}

func errNoEnd(q request) error {
	return fmt.Errorf("%s %s: the list goes on after %d pages of %d", q.op, q.target, maxPages, pageSize)
}

func (v PackageVersion) number() int64 { return v.ID }

// Version returns one version. One that is deleted is not found.
//
// Errors: [*Error] with the reason of the refusal.
func (c *Client) Version(ctx context.Context, owner, name string, id int64) (PackageVersion, error) {
	var v PackageVersion
	s := subject{owner: owner, name: name, version: id}
	at, err := c.versionPlace(ctx, s)
	if err != nil {
		return v, err
	}
	q := request{op: "get version", target: s.String(), url: at.url, token: at.token, needs: readScopes}
	if err := c.getJSON(ctx, q, &v); err != nil {
		return v, explain(err, s)
	}
	c.saw(s)
	return v, nil
}

// Vulnerabilities asks for the vulnerabilities of a version in the form of the
// product's specification, and returns the answer as it is. GitHub has no such call
// (docs/quirks.md#vulnerability-endpoint): it is asked all the same, so that the
// day it is there it works.
//
// Errors: [*Error] with reason [Absent], which is what is to be expected, and the
// other reasons.
func (c *Client) Vulnerabilities(ctx context.Context, owner, name string, id int64) ([]byte, error) {
	s := subject{owner: owner, name: name, version: id}
	at, err := c.versionPlace(ctx, s, "vulnerabilities")
	if err != nil {
		return nil, err
	}
	a, err := c.get(ctx, request{op: "get vulnerabilities of", target: s.String(), url: at.url, token: at.token, needs: readScopes})
	return a.body, explain(err, s)
}

func (c *Client) versionPlace(ctx context.Context, s subject, rest ...string) (place, error) {
	if s.version <= 0 {
		return place{}, oci.Invalid("%d is no number of a version", s.version)
	}
	return c.packagePlace(ctx, s, append([]string{"versions", strconv.FormatInt(s.version, 10)}, rest...)...)
}

// DeleteVersion deletes a version with all its tags. What it refers to stays, and
// so do images that refer to it, broken. GitHub keeps a deleted version for 30 days
// ([Client.RestoreVersion]). After a failure that leaves it open what became of
// the version, the version is looked at before it is tried again.
//
// Errors: [*Error] with reason [Gone] where somebody else deleted it before, which
// is neither success nor failure; [NoPermission], [LastTagged],
// [TooManyDownloads] and the other reasons.
func (c *Client) DeleteVersion(ctx context.Context, owner, name string, id int64) error {
	s := subject{owner: owner, name: name, version: id}
	at, err := c.versionPlace(ctx, s)
	if err != nil {
		return err
	}
	q := request{method: http.MethodDelete, op: "delete version", target: s.String(), url: at.url, token: at.token, needs: deleteScopes}
	return c.change(ctx, s, q, func() (bool, error) {
		_, err := c.Version(ctx, owner, name, id)
		return isGone(err), ignoreGone(err)
	})
}

// RestoreVersion brings a deleted version back, with its number and tags as far as
// these are free.
//
// Errors: [*Error] with reason [NotDeleted], [NameTaken], [NoPermission] and the
// other reasons. One that is there already is no error.
func (c *Client) RestoreVersion(ctx context.Context, owner, name string, id int64) error {
	s := subject{owner: owner, name: name, version: id}
	at, err := c.versionPlace(ctx, s, "restore")
	if err != nil {
		return err
	}
	q := request{method: http.MethodPost, op: "restore version", target: s.String(), url: at.url, token: at.token, needs: writeScopes}
	return c.change(ctx, s, q, func() (bool, error) {
		_, err := c.Version(ctx, owner, name, id)
		return err == nil, ignoreGone(err)
	})
}
