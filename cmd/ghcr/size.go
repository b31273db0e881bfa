package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
)

// sized is what ghcr size prints. Of an image it has the platforms, and of a package
// the images.
type sized struct {
	Schema    string         `json:"schema"`
	Ref       string         `json:"ref"`
	Digest    *oci.Digest    `json:"digest"` // null of a package
	Total     int64          `json:"total"`  // of all blobs, each once
	Shared    int64          `json:"shared"` // of blobs that more than one part has
	Platforms []platformSize `json:"platforms"`
	Images    []imageSize    `json:"images"`
	Unread    int            `json:"unread"` // manifests of a package that could not be read, and are not counted
	Blobs     []blobSize     `json:"blobs"`
}

type platformSize struct {
	Platform   string `json:"platform"`
	Compressed int64  `json:"compressed"`
	Unique     int64  `json:"unique"` // of blobs that no other platform has
	Layers     int    `json:"layers"`
}

type imageSize struct {
	Name       string     `json:"name"` // a tag of it, else its digest
	Digest     oci.Digest `json:"digest"`
	Compressed int64      `json:"compressed"`
	Unique     int64      `json:"unique"` // of blobs that no other image of the package has
	Layers     int        `json:"layers"`
}

type blobSize struct {
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Size      int64      `json:"size"`
	Platforms int        `json:"platforms"` // or images, that have it
}

func (a *app) sizeCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "size REF | PKG",
		Short: "Show how large an image or a package is, by part and by layer",
		Long: `Show the compressed size of an image for each platform: what a pull moves, and how
much of that no other platform has. Of a package, named without tag, show each image,
and how much of it no other image has: what is unique goes when the image is deleted.`,
		Example: "  ghcr size acme/app:v1\n  ghcr size acme/app:v1 --by layer\n  ghcr size acme/app",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if by != "platform" && by != "layer" {
				return usage("--by %q: want platform or layer", by)
			}
			ref, err := a.image(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			s, err := a.size(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if s.Unread > 0 {
				fmt.Fprintf(a.stderr, "ghcr: note: %s could not be read and is not counted\n", plural(s.Unread, "manifest"))
			}
			return a.printSize(s, by)
		},
	}
	cmd.Flags().StringVar(&by, "by", "platform", "platform or layer")
	choices(cmd, "by", "platform", "layer")
	return cmd
}

func (a *app) size(ctx context.Context, ref oci.ImageRef) (sized, error) {
	s := sized{Schema: schema, Ref: ref.String(), Platforms: []platformSize{}, Images: []imageSize{}, Blobs: []blobSize{}}
	client, err := a.client()
	if err != nil {
		return s, err
	}
	if ref.Reference.IsZero() {
		inv, err := client.Inventory(ctx, ref)
		if err != nil {
			return s, err
		}
		of := inv.Size()
		s.add(of)
		s.Unread = len(inv.Unreadable())
		for _, p := range of.Parts {
			s.Images = append(s.Images, imageSize{p.Name, p.Digest, p.Compressed, p.Unique, p.Layers})
		}
		return s, nil
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return s, err
	}
	d, err := repo.Resolve(ctx, ref.Reference.String())
	if err != nil {
		return s, err
	}
	s.Digest = &d.Digest
	of, err := client.Size(ctx, ref.With(oci.Reference{Digest: d.Digest}))
	if err != nil {
		return s, err
	}
	s.add(of)
	for _, p := range of.Parts {
		s.Platforms = append(s.Platforms, platformSize{p.Name, p.Compressed, p.Unique, p.Layers})
	}
	return s, nil
}

func (s *sized) add(of ghcr.Size) {
	s.Total, s.Shared = of.Total, of.Shared
	for _, b := range of.Blobs {
		s.Blobs = append(s.Blobs, blobSize{b.Digest, b.MediaType, b.Size, b.Parts})
	}
}

func (a *app) printSize(s sized, by string) error {
	r := result{data: s, ids: []string{fmt.Sprint(s.Total)}, foot: fmt.Sprintf("%s in all, %s of it shared", size(s.Total), size(s.Shared))}
	add := func(name string, compressed, unique int64, layers int) {
		short := name
		if d, err := oci.ParseDigest(name); err == nil {
			short = shortDigest(d) // an image without a tag
		}
		r.rows = append(r.rows, []string{short, size(compressed), size(unique), fmt.Sprint(layers)})
		r.plain = append(r.plain, []string{name, fmt.Sprint(compressed), fmt.Sprint(unique), fmt.Sprint(layers)})
	}
	switch {
	case by == "layer":
		r.head = []string{"DIGEST", "SIZE", "PARTS", "TYPE"}
		for _, b := range s.Blobs {
			r.rows = append(r.rows, []string{shortDigest(b.Digest), size(b.Size), fmt.Sprint(b.Platforms), b.MediaType})
			r.plain = append(r.plain, []string{b.Digest.String(), fmt.Sprint(b.Size), fmt.Sprint(b.Platforms), b.MediaType})
		}
	case s.Digest == nil:
		r.head = []string{"IMAGE", "COMPRESSED", "UNIQUE", "LAYERS"}
		for _, p := range s.Images {
			add(p.Name, p.Compressed, p.Unique, p.Layers)
		}
	default:
		r.head = []string{"PLATFORM", "COMPRESSED", "UNIQUE", "LAYERS"}
		for _, p := range s.Platforms {
			add(p.Platform, p.Compressed, p.Unique, p.Layers)
		}
	}
	return a.print(r)
}
