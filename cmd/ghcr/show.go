package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// shown is what ghcr show prints.
type shown struct {
	Schema      string            `json:"schema"`
	Ref         string            `json:"ref"`
	Digest      oci.Digest        `json:"digest"`
	MediaType   string            `json:"mediaType"`
	Kind        oci.Kind          `json:"kind"`
	Platforms   []string          `json:"platforms"`
	Size        int64             `json:"size"`
	Created     *time.Time        `json:"created"`
	Layers      int               `json:"layers"`
	Annotations map[string]string `json:"annotations"`
	Labels      map[string]string `json:"labels"`
	Entrypoint  []string          `json:"entrypoint"`
	Cmd         []string          `json:"cmd"`
	User        string            `json:"user"`
	Referrers   []refersTo        `json:"referrers"`
	Package     *inPackage        `json:"package"` // null where the Packages API does not tell
}

// inPackage is what the Packages API knows of an image.
type inPackage struct {
	Version    int64               `json:"version"`
	Tags       []string            `json:"tags"`
	Visibility packages.Visibility `json:"visibility"`
	Repository *string             `json:"repository"` // of source; null if it is linked to none
	Pushed     time.Time           `json:"pushed"`
	Updated    time.Time           `json:"updated"` // when it last got a tag
	URL        string              `json:"url"`     // for people
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Aliases: []string{"inspect"},
		Short: "Show what an image is, on one page",
		Long: `Show digest, platforms, size, labels and what refers to an image: signatures, SBOMs,
attestations; and what GitHub's Packages API knows of it: the number of its version, all
its tags, and who may see it.`,
		Example: "  ghcr show acme/app:v1\n  ghcr show acme/app:v1 --jq .digest",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			ref, err := a.image(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if ref.Reference.IsZero() {
				ref.Reference.Tag = ghcr.DefaultTag
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			repo, err := client.Repository(ref)
			if err != nil {
				return err
			}
			f, err := facts(cmd.Context(), repo, ref.Reference.String())
			if err != nil {
				return err
			}
			refers, err := referrersOf(cmd.Context(), repo, f.manifest.Digest())
			if err != nil {
				return err
			}
			s := shown{
				Schema: schema, Ref: ref.String(), Digest: f.manifest.Digest(), MediaType: f.manifest.MediaType, Kind: f.manifest.Kind(),
				Platforms: f.platforms, Size: f.size, Created: stated(f.created), Layers: len(f.manifest.Layers),
				Annotations: f.manifest.Annotations, Labels: f.config.Config.Labels,
				Entrypoint: f.config.Config.Entrypoint, Cmd: f.config.Config.Cmd, User: f.config.Config.User,
				Referrers: refers,
			}
			if s.Package, err = a.inPackage(cmd.Context(), ref, s.Digest); err != nil && !errors.Is(err, ghcr.ErrUnsupported) {
				if cmd.Context().Err() != nil {
					return err
				}
				fmt.Fprintf(a.stderr, "ghcr: note: what the Packages API knows is left out: %v\n", err)
			}
			return a.print(result{data: s, ids: []string{s.Digest.String()}, text: a.showText(s)})
		},
	}
}

// inPackage finds the version that an image is.
func (a *app) inPackage(ctx context.Context, ref oci.ImageRef, d oci.Digest) (*inPackage, error) {
	api, owner, name, err := a.packageOf(ref)
	if err != nil {
		return nil, err
	}
	p, err := api.Get(ctx, owner, name)
	if err != nil {
		return nil, err
	}
	for v, err := range api.Versions(ctx, owner, name, packages.Active) {
		if err != nil {
			return nil, err
		}
		if v.Digest() != d {
			continue
		}
		found := &inPackage{v.ID, append([]string{}, v.Tags...), p.Visibility, nil, v.CreatedAt.UTC(), v.UpdatedAt.UTC(), v.HTMLURL}
		if p.Repository != "" {
			found.Repository = &p.Repository
		}
		return found, nil
	}
	return nil, fmt.Errorf("it does not list %s yet", d)
}

func (a *app) showText(s shown) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("image", a.bold(s.Ref))
	line("digest", s.Digest.String())
	line("type", fmt.Sprintf("%s (%s)", s.Kind, s.MediaType))
	line("platforms", strings.Join(s.Platforms, " "))
	line("size", fmt.Sprintf("%s compressed", size(s.Size)))
	if s.Layers > 0 {
		line("layers", fmt.Sprint(s.Layers))
	}
	if s.Created != nil {
		line("created", fmt.Sprintf("%s (%s)", s.Created.UTC().Format(time.RFC3339), ago(*s.Created, time.Now())))
	}
	line("source", cmp.Or(s.Annotations["org.opencontainers.image.source"], s.Labels["org.opencontainers.image.source"]))
	line("entrypoint", strings.Join(s.Entrypoint, " "))
	line("command", strings.Join(s.Cmd, " "))
	line("user", s.User)
	for _, set := range []struct {
		name   string
		values map[string]string
	}{{"annotation", s.Annotations}, {"label", s.Labels}} {
		for _, k := range slices.Sorted(maps.Keys(set.values)) {
			line(set.name, k+"="+set.values[k])
		}
	}
	if p := s.Package; p != nil {
		line("version", fmt.Sprint(p.Version))
		line("tags", shortTags(p.Tags))
		line("visibility", string(p.Visibility))
		line("linked to", text(p.Repository))
		line("pushed", fmt.Sprintf("%s (%s)", p.Pushed.Format(time.RFC3339), ago(p.Pushed, time.Now())))
		line("page", p.URL)
	}
	if len(s.Referrers) == 0 {
		line("referrers", "none")
	}
	for _, r := range s.Referrers {
		line("referrer", r.label()+"  "+r.Digest.String())
	}
	w.Flush()
	return b.String()
}
