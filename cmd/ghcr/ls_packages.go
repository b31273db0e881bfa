package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
)

// listedPackage is one package of ghcr ls OWNER.
type listedPackage struct {
	Package    string              `json:"package"` // "acme/app"
	Visibility packages.Visibility `json:"visibility"`
	Versions   int                 `json:"versions"`
	Repository *string             `json:"repository"` // of source; null if it is linked to none
	Created    time.Time           `json:"created"`
	Updated    time.Time           `json:"updated"`
	URL        string              `json:"url"` // for people
}

// listPackages lists what an owner has.
func (a *app) listPackages(ctx context.Context, owner string, opts registry.TagOptions, f listFlags) error {
	if !slices.Contains([]string{"", "name", "created"}, f.sort) {
		return usage("--sort %s: packages are sorted by name or created", f.sort)
	}
	api, err := a.packages()
	if err != nil {
		return err
	}
	rows, err := api.List(ctx, owner, packages.ListOptions{Visibility: packages.Visibility(f.visibility), Repository: f.linked})
	if err != nil {
		return err
	}
	list := []listedPackage{}
	for _, p := range rows {
		if !opts.Wants(p.Name) {
			continue
		}
		one := listedPackage{owner + "/" + p.Name, p.Visibility, p.VersionCount, nil, p.CreatedAt.UTC(), p.UpdatedAt.UTC(), p.HTMLURL}
		if p.Repository != "" {
			one.Repository = &p.Repository
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(x, y listedPackage) int {
		if f.sort == "created" {
			return y.Created.Compare(x.Created)
		}
		return cmp.Compare(x.Package, y.Package)
	})
	total := len(list)
	if f.limit > 0 && total > f.limit {
		list = list[:f.limit]
	}
	r := result{data: list, head: []string{"PACKAGE", "VISIBILITY", "VERSIONS", "LINKED TO", "UPDATED"}, foot: plural(total, "package")}
	if len(list) < total {
		r.foot = fmt.Sprintf("%d of %s", len(list), r.foot)
	}
	now := time.Now()
	for _, p := range list {
		r.ids = append(r.ids, p.Package)
		linked, versions := text(p.Repository), fmt.Sprint(p.Versions)
		r.rows = append(r.rows, []string{p.Package, string(p.Visibility), versions, cmp.Or(linked, "-"), ago(p.Updated, now)})
		r.plain = append(r.plain, []string{p.Package, string(p.Visibility), versions, linked, p.Updated.Format(time.RFC3339)})
	}
	return a.print(r)
}
