package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/registry"
)

// finding is one thing that is not as it should be.
type finding struct {
	Package string      `json:"package"`
	Kind    findingKind `json:"kind"`
	Digest  *oci.Digest `json:"digest"` // null where it is about the package
	Tags    []string    `json:"tags"`
	Found   string      `json:"found"`
	Do      string      `json:"do"`
}

// findingKind is what a finding is about.
type findingKind string

const (
	findGhost      findingKind = "ghost"           // an index lists nothing that is there
	findPartial    findingKind = "partial"         // an index lists something that is not there
	findDangling   findingKind = "dangling"        // a list of referrers has some that are not there
	findOrphan     findingKind = "orphan-referrer" // a signature or the like of what is not there
	findUnreadable findingKind = "unreadable"
	findUnlinked   findingKind = "unlinked"
	findNotPublic  findingKind = "not-public"
)

func (a *app) checkCommand() *cobra.Command {
	var expectPublic bool
	cmd := &cobra.Command{
		Use:   "check REF | PKG | OWNER",
		Short: "Look for broken indexes, orphan signatures and wrong visibility",
		Long: `Look whether an image, all images of a package, or all packages of an owner are as they
should be. It finds indexes of which all or some is gone (ghosts and partial images), lists
of referrers that are gone (dangling), signatures, SBOMs and attestations
of what is not there, manifests that cannot be read, and packages that are linked to no
repository. With --expect-public it also tries whether a pull without a login is possible.
Exit code 8 says that something was found; what could not be looked at is an error, and
never taken for well.`,
		Example: "  ghcr check acme/app\n  ghcr check acme/app:v1",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			list, looked, err := a.check(cmd.Context(), given[0], expectPublic)
			if list == nil && err != nil {
				return err
			}
			r := result{data: list, head: []string{"PACKAGE", "FOUND", "DIGEST", "TAGS", "WHAT TO DO"}}
			for _, f := range list {
				short, whole := "", ""
				if f.Digest != nil {
					short, whole = shortDigest(*f.Digest), f.Digest.String()
				}
				r.ids = append(r.ids, cmp.Or(whole, f.Package))
				r.rows = append(r.rows, []string{f.Package, printable(f.Found), short, shortTags(f.Tags), f.Do})
				r.plain = append(r.plain, []string{f.Package, string(f.Kind), whole, shownTags(f.Tags), printable(f.Found), f.Do})
			}
			r.foot = fmt.Sprintf("%s looked at, %s", looked, plural(len(list), "finding"))
			if len(list) > 0 {
				err = errors.Join(err, fmt.Errorf("check %s: %s: %w", given[0], plural(len(list), "finding"), errFindings))
			}
			return errors.Join(a.print(r), err)
		},
	}
	cmd.Flags().BoolVar(&expectPublic, "expect-public", false, "it must be possible to pull without a login")
	return cmd
}

// check looks at what is named. The findings are there beside an error about part of it.
func (a *app) check(ctx context.Context, what string, expectPublic bool) (list []finding, looked string, err error) {
	if !strings.Contains(what, "/") {
		return a.checkOwner(ctx, what, expectPublic)
	}
	ref, err := a.image(ctx, what)
	if err != nil {
		return nil, "", err
	}
	client, err := a.client()
	if err != nil {
		return nil, "", err
	}
	if ref.Reference.IsZero() {
		list, n, err := checkPackage(ctx, client, ref, expectPublic)
		return list, plural(n, "version"), err
	}
	list, err = a.checkImage(ctx, client, ref, expectPublic)
	return list, "1 image", err
}

// checkOwner looks at every package. One that cannot be looked at does not end it.
func (a *app) checkOwner(ctx context.Context, owner string, expectPublic bool) ([]finding, string, error) {
	client, err := a.client()
	if err != nil {
		return nil, "", err
	}
	api, err := client.Packages()
	if err != nil {
		return nil, "", err
	}
	all, err := api.List(ctx, owner, packages.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(all, func(a, b packages.Package) int { return strings.Compare(a.Name, b.Name) })
	list := []finding{}
	var failed []error
	for _, p := range all {
		ref, err := client.ParseRef(strings.ToLower(owner + "/" + p.Name))
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found, _, err := checkPackage(ctx, client, ref, expectPublic)
		list = append(list, found...)
		if err != nil {
			if ctx.Err() != nil {
				return list, "", err
			}
			failed = append(failed, fmt.Errorf("check %s: %w", ref.Repository(), err))
		}
	}
	return list, plural(len(all), "package"), partly(len(all)-len(failed), failed)
}

// checkPackage looks at all versions of a package, and at the package.
func checkPackage(ctx context.Context, client *ghcr.Client, ref oci.ImageRef, expectPublic bool) ([]finding, int, error) {
	inv, err := client.Inventory(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	list := []finding{}
	for _, v := range inv.Versions {
		if v.Unreadable != nil {
			list = append(list, about(ref, findUnreadable, v.Node, "it could not be read: "+v.Unreadable.Error(), "push it again; nothing may be deleted around it"))
		}
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return list, 0, err
	}
	for _, n := range inv.Graph.Nodes() {
		found, err := checkNode(ctx, repo, ref, n)
		list = append(list, found...)
		if err != nil {
			return list, 0, err
		}
	}
	more, err := checkAccess(ctx, client, ref, expectPublic)
	return append(list, more...), len(inv.Versions), err
}

// checkNode looks at what a manifest points at. What was not listed is asked for by
// itself: lists come late.
func checkNode(ctx context.Context, repo *registry.Repository, ref oci.ImageRef, n *oci.Node) ([]finding, error) {
	var list []finding
	var missing []string
	for _, d := range n.Missing {
		there, err := isThere(ctx, repo, d.Digest)
		if err != nil {
			return list, err
		}
		if there {
			continue
		}
		what := d.Digest.String()
		if oci.HasPlatform(d) {
			what = oci.FormatPlatform(*d.Platform) + ", " + what
		}
		missing = append(missing, what)
	}
	if len(missing) > 0 {
		list = append(list, broken(ref, n, missing))
	}
	if len(n.About) == 0 || len(n.Subjects) > 0 {
		return list, nil
	}
	if there, err := isThere(ctx, repo, n.About...); err != nil || there {
		return list, err
	}
	return append(list, about(ref, findOrphan, n, fmt.Sprintf("a %s of what is not there: %s", n.Role(), n.About[0]), "ghcr rm "+ref.With(oci.Reference{Digest: n.Digest}).String())), nil
}

// broken says what is wrong with an index that lists what is not there.
func broken(ref oci.ImageRef, n *oci.Node, missing []string) finding {
	lost := strings.Join(missing, "; ")
	switch {
	case n.Role() == oci.RoleReferrers:
		return about(ref, findDangling, n, "a list of referrers that are not there: "+lost, "nothing, unless they are missed: ghcr ls --deleted")
	case len(n.Children) == 0 && len(missing) == len(n.Missing):
		return about(ref, findGhost, n, "nothing that it lists is there: "+lost, "restore it (ghcr ls --deleted), or delete what is left")
	}
	return about(ref, findPartial, n, "it lists what is not there: "+lost, "restore it (ghcr ls --deleted), or push the image again")
}

// isThere tells whether a repository has one of these manifests.
func isThere(ctx context.Context, repo *registry.Repository, digests ...oci.Digest) (bool, error) {
	for _, d := range digests {
		_, err := repo.Resolve(ctx, d.String())
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, ghcr.ErrNotFound) {
			return false, err
		}
	}
	return false, nil
}

func about(ref oci.ImageRef, kind findingKind, n *oci.Node, found, do string) finding {
	return finding{ref.Repository(), kind, &n.Digest, append([]string{}, n.Tags...), found, do}
}

// checkAccess looks at who may see a package, and what it is linked to.
func checkAccess(ctx context.Context, client *ghcr.Client, ref oci.ImageRef, expectPublic bool) ([]finding, error) {
	api, err := client.Packages()
	if err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(ref.Name, "/")
	p, err := api.Get(ctx, owner, name)
	if err != nil {
		return nil, err
	}
	var list []finding
	if p.Repository == "" {
		list = append(list, finding{
			ref.Repository(), findUnlinked, nil, []string{}, "it is linked to no repository, so no workflow has access by itself",
			"label the image org.opencontainers.image.source, or connect a repository on the package's page",
		})
	}
	if !expectPublic {
		return list, nil
	}
	v, err := client.Visibility(ctx, ref)
	if err == nil && !v.Anonymous {
		list = append(list, finding{
			ref.Repository(), findNotPublic, nil, []string{}, fmt.Sprintf("it cannot be pulled without a login; its settings say %s", v.Stated),
			"change visibility on " + v.Settings,
		})
	}
	return list, err
}

// checkImage looks at one image: all that it lists must be there.
func (a *app) checkImage(ctx context.Context, client *ghcr.Client, ref oci.ImageRef, expectPublic bool) ([]finding, error) {
	repo, err := client.Repository(ref)
	if err != nil {
		return nil, err
	}
	root, err := repo.Manifest(ctx, ref.Reference.String())
	if err != nil {
		return nil, err
	}
	list := []finding{}
	graph := oci.NewGraph([]*oci.Node{{Digest: root.Digest(), Manifest: root}})
	for again := true; again; {
		again = false
		nodes := []*oci.Node{}
		for _, n := range graph.Nodes() {
			nodes = append(nodes, &oci.Node{Digest: n.Digest, Manifest: n.Manifest})
			for _, d := range n.Missing {
				if slices.ContainsFunc(nodes, func(other *oci.Node) bool { return other.Digest == d.Digest }) {
					continue
				}
				m, err := repo.Manifest(ctx, d.Digest.String())
				switch {
				case errors.Is(err, ghcr.ErrNotFound):
				case err != nil:
					return list, err
				default:
					nodes = append(nodes, &oci.Node{Digest: d.Digest, Manifest: m})
					again = true
				}
			}
		}
		graph = oci.NewGraph(nodes)
	}
	for _, n := range graph.Nodes() {
		found, err := checkNode(ctx, repo, ref, n)
		list = append(list, found...)
		if err != nil {
			return list, err
		}
	}
	if !expectPublic {
		return list, nil
	}
	public, err := client.AnonymousPull(ctx, ref)
	if err == nil && !public {
		list = append(list, finding{ref.Repository(), findNotPublic, nil, []string{}, "it cannot be pulled without a login", "ghcr visibility " + ref.Repository() + " --open"})
	}
	return list, err
}
