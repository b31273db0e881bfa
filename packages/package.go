package packages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// ListOptions choose packages. The zero value is all that can be seen.
type ListOptions struct {
	Visibility Visibility // empty for any
	Repository string     // linked to this repository: "app" or "acme/app"; empty for any
}

// List returns the container packages of an owner, as far as the login may see
// them. A list that moved while it was read, which shows in rows that come twice or
// pages that are short, is read again, until it agrees with itself.
//
// Errors: [*Error] with reason [WrongToken] where the kind of token can list none
// (docs/quirks.md#rest-credential-rules), [TooMany], and the other reasons;
// [*MovingError], beside the rows seen last, for a list that did not come to rest;
// [oci.ErrInvalid] for what is no visibility.
func (c *Client) List(ctx context.Context, owner string, opts ListOptions) ([]Package, error) {
	if opts.Visibility != "" {
		if err := opts.Visibility.check(); err != nil {
			return nil, err
		}
	}
	at, err := c.place(ctx, owner)
	if err != nil {
		return nil, err
	}
	list, err := c.list(ctx, owner, at, opts.Visibility)
	if errors.Is(err, TooMany) && opts.Visibility == "" {
		list = nil
		for _, v := range []Visibility{Public, Private, Internal} {
			some, err := c.list(ctx, owner, at, v)
			if err != nil {
				return nil, err
			}
			list = append(list, some...)
		}
		err = nil
	}
	return linkedTo(list, owner, opts.Repository), err
}

// listWindow is how many rows of a list GitHub gives.
const listWindow = 10000

func (c *Client) list(ctx context.Context, owner string, at place, v Visibility) ([]Package, error) {
	query := url.Values{"package_type": {container}, "per_page": {strconv.Itoa(pageSize)}}
	if v != "" {
		query.Set("visibility", string(v))
	}
	s := subject{owner: owner}
	q := request{op: "list packages of", target: owner, url: at.url + "?" + query.Encode(), token: at.token, needs: readScopes}
	var before []Package
	for round := 0; ; round++ {
		pages, err := fetchAll[Package](ctx, c, q, listWindow/pageSize)
		if errors.Is(err, TooMany) {
			return nil, &Error{Reason: TooMany, Op: q.op, Owner: owner}
		} else if err != nil {
			return nil, explain(err, s)
		}
		rows, fit := join(pages, Package.number)
		switch {
		case len(rows) >= listWindow:
			return nil, &Error{Reason: TooMany, Op: q.op, Owner: owner} // or there are just so many
		case fit, round > 0 && sameRows(before, rows, Package.number):
			return rows, nil
		case round == rounds-1:
			return rows, &MovingError{Op: q.op, Target: q.target, Rows: len(rows), Count: -1}
		}
		before = rows
		if err := pause(ctx, round); err != nil {
			return nil, err
		}
	}
}

func (p Package) number() int64 { return p.ID }

func linkedTo(list []Package, owner, repository string) []Package {
	if repository == "" {
		return list
	}
	if !strings.Contains(repository, "/") {
		repository = owner + "/" + repository
	}
	var linked []Package
	for _, p := range list {
		if strings.EqualFold(p.Repository, repository) {
			linked = append(linked, p)
		}
	}
	return linked
}

// Get returns one package.
//
// Errors: [*Error] with reason [Absent] for one that does not exist or may not be
// seen, and the other reasons.
func (c *Client) Get(ctx context.Context, owner, name string) (Package, error) {
	var p Package
	s := subject{owner: owner, name: name}
	at, err := c.packagePlace(ctx, s)
	if err != nil {
		return p, err
	}
	q := request{op: "get package", target: s.String(), url: at.url, token: at.token, needs: readScopes}
	if err := c.getJSON(ctx, q, &p); err != nil {
		return p, explain(err, s)
	}
	c.saw(s)
	return p, nil
}

func (c *Client) packagePlace(ctx context.Context, s subject, rest ...string) (place, error) {
	if err := oci.CheckName(strings.ToLower(s.owner + "/" + s.name)); err != nil {
		return place{}, err
	}
	return c.place(ctx, s.owner, append([]string{container, s.name}, rest...)...)
}

// Delete deletes a package with all its versions. GitHub keeps it for 30 days
// ([Client.Restore]). Its name is free at once, so after a failure that leaves it
// open what became of it, the package is looked at, and what has its name by then
// is not touched if it is another.
//
// Errors: [*Error] with reason [Gone], [NoPermission], [TooManyDownloads] and the
// other reasons.
func (c *Client) Delete(ctx context.Context, owner, name string) error {
	s := subject{owner: owner, name: name}
	at, err := c.packagePlace(ctx, s)
	if err != nil {
		return err
	}
	p, err := c.Get(ctx, owner, name)
	if err != nil {
		return err
	}
	q := request{method: http.MethodDelete, op: "delete package", target: s.String(), url: at.url, token: at.token, needs: deleteScopes}
	return c.change(ctx, s, q, func() (bool, error) {
		now, err := c.Get(ctx, owner, name)
		return isGone(err) || err == nil && now.ID != p.ID, ignoreGone(err)
	})
}

// Restore brings a deleted package back, with its versions, visibility and access.
//
// Errors: [*Error] with reason [NotDeleted], [NameTaken], [NoPermission] and the
// other reasons. One that is there already is no error.
func (c *Client) Restore(ctx context.Context, owner, name string) error {
	s := subject{owner: owner, name: name}
	at, err := c.packagePlace(ctx, s, "restore")
	if err != nil {
		return err
	}
	q := request{method: http.MethodPost, op: "restore package", target: s.String(), url: at.url, token: at.token, needs: writeScopes}
	return c.change(ctx, s, q, func() (bool, error) {
		_, err := c.Get(ctx, owner, name)
		return err == nil, ignoreGone(err)
	})
}

// SetVisibility asks GitHub to change who may see a package. GitHub has no such
// call (docs/quirks.md#rest-no-patch). It is tried all the same, so that the
// day it is there it works; until then the answer says on which page it is done.
//
// Errors: [*Error] with reason [NotInAPI], which is [transport.ErrUnsupported], and
// the other reasons; [oci.ErrInvalid] for what is no visibility.
func (c *Client) SetVisibility(ctx context.Context, owner, name string, v Visibility) error {
	if err := v.check(); err != nil {
		return err
	}
	s := subject{owner: owner, name: name}
	at, err := c.packagePlace(ctx, s)
	if err != nil {
		return err
	}
	p, err := c.Get(ctx, owner, name)
	if err != nil || p.Visibility == v {
		return err
	}
	q := request{
		method: http.MethodPatch, op: "set visibility of", target: s.String(), url: at.url, token: at.token, once: true, needs: writeScopes,
		body: []byte(`{"visibility":"` + string(v) + `"}`),
	}
	resp, err := c.do(ctx, q)
	if err == nil {
		resp.Body.Close()
		if p, err = c.Get(ctx, owner, name); err != nil || p.Visibility == v {
			return err
		}
	} else if e, ok := asExchange(err); !ok || e.Status != http.StatusNotFound && e.Status != http.StatusMethodNotAllowed {
		return explain(err, s)
	}
	page, pageErr := c.SettingsURL(ctx, owner, name)
	if pageErr != nil {
		return pageErr
	}
	e, _ := asExchange(err)
	return &Error{Reason: NotInAPI, Op: q.op, Owner: owner, Package: name, Page: page, Answer: e}
}

// SettingsURL returns the page on which the settings of a package are changed by
// hand.
//
// Errors: as for [Client.Owner].
func (c *Client) SettingsURL(ctx context.Context, owner, name string) (string, error) {
	o, err := c.Owner(ctx, owner)
	if err != nil {
		return "", err
	}
	kind := "users"
	if o.Kind == Organization {
		kind = "orgs"
	}
	return c.web.JoinPath(kind, owner, "packages", "container", url.PathEscape(name), "settings").String(), nil
}
