package packages

import (
	"context"
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
// them.
//
// Errors: [*Error] with the reason of the refusal, [WrongToken] where the kind of
// token can list none (docs/quirks.md#rest-credential-rules).
func (c *Client) List(ctx context.Context, owner string, opts ListOptions) ([]Package, error) {
	s := subject{owner: owner}
	at, err := c.packages(ctx, owner)
	if err != nil {
		return nil, err
	}
	query := url.Values{"package_type": {container}, "per_page": {strconv.Itoa(pageSize)}}
	if opts.Visibility != "" {
		if _, err := ParseVisibility(string(opts.Visibility)); err != nil {
			return nil, err
		}
		query.Set("visibility", string(opts.Visibility))
	}
	q := request{op: "list packages", target: owner, url: at + "?" + query.Encode()}
	var before []Package
	for round := 0; ; round++ {
		pages, err := fetchAll[Package](ctx, c, q)
		if err != nil {
			return nil, c.explain(ctx, err, s)
		}
		rows, fit := join(pages, Package.number)
		if fit || round > 0 && sameRows(before, rows, Package.number) {
			return linkedTo(rows, owner, opts.Repository), nil
		}
		if round == rounds-1 {
			return linkedTo(rows, owner, opts.Repository), &MovingError{Op: q.op, Target: q.target, Rows: len(rows), Count: -1}
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
	at, err := c.packageURL(ctx, s)
	if err != nil {
		return p, err
	}
	if err := c.getJSON(ctx, request{op: "get package", target: s.String(), url: at}, &p); err != nil {
		return p, c.explain(ctx, err, s)
	}
	return p, nil
}

func (c *Client) packageURL(ctx context.Context, s subject, rest ...string) (string, error) {
	if err := oci.CheckName(strings.ToLower(s.owner + "/" + s.name)); err != nil {
		return "", err
	}
	return c.packages(ctx, s.owner, append([]string{container, s.name}, rest...)...)
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
	at, err := c.packageURL(ctx, s)
	if err != nil {
		return err
	}
	p, err := c.Get(ctx, owner, name)
	if err != nil {
		return err
	}
	return c.change(ctx, s, request{method: http.MethodDelete, op: "delete package", target: s.String(), url: at}, func() (bool, error) {
		now, err := c.Get(ctx, owner, name)
		return isGone(err) || err == nil && now.ID != p.ID, ignoreGone(err)
	})
}

// Restore brings a deleted package back, with its versions, visibility and access.
//
// Errors: [*Error] with reason [Absent] for one that was not deleted in the last
// 30 days, [NameTaken] where another has its name by now, and the other reasons.
func (c *Client) Restore(ctx context.Context, owner, name string) error {
	s := subject{owner: owner, name: name}
	at, err := c.packageURL(ctx, s, "restore")
	if err != nil {
		return err
	}
	return c.change(ctx, s, request{method: http.MethodPost, op: "restore package", target: s.String(), url: at}, func() (bool, error) {
		_, err := c.Get(ctx, owner, name)
		return err == nil, ignoreGone(err)
	})
}

// SetVisibility asks GitHub to change who may see a package. GitHub has no such
// call (docs/quirks.md#rest-no-visibility). It is tried all the same, so that the
// day it is there it works; until then the answer says on which page it is done.
//
// Errors: [*Error] with reason [NotInAPI], which is [transport.ErrUnsupported], and
// the other reasons; [oci.ErrInvalid] for what is no visibility.
func (c *Client) SetVisibility(ctx context.Context, owner, name string, v Visibility) error {
	if _, err := ParseVisibility(string(v)); err != nil {
		return err
	}
	s := subject{owner: owner, name: name}
	at, err := c.packageURL(ctx, s)
	if err != nil {
		return err
	}
	p, err := c.Get(ctx, owner, name)
	if err != nil || p.Visibility == v {
		return err
	}
	q := request{
		method: http.MethodPatch, op: "set visibility of", target: s.String(), url: at, once: true,
		body: []byte(`{"visibility":"` + string(v) + `"}`),
	}
	resp, err := c.do(ctx, q)
	if err == nil {
		resp.Body.Close()
		if p, err = c.Get(ctx, owner, name); err != nil || p.Visibility == v {
			return err
		}
	} else if e, ok := asExchange(err); !ok || e.Status != http.StatusNotFound && e.Status != http.StatusMethodNotAllowed {
		return c.explain(ctx, err, s)
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
