package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
)

// sized is what ghcr size prints.
type sized struct {
	Schema    string         `json:"schema"`
	Ref       string         `json:"ref"`
	Digest    oci.Digest     `json:"digest"`
	Total     int64          `json:"total"`  // of all blobs, each once
	Shared    int64          `json:"shared"` // of blobs that more than one platform has
	Platforms []platformSize `json:"platforms"`
	Blobs     []blobSize     `json:"blobs"`
}

type platformSize struct {
	Platform   string `json:"platform"`
	Compressed int64  `json:"compressed"`
	Unique     int64  `json:"unique"` // of blobs that no other platform has
	Layers     int    `json:"layers"`
}

type blobSize struct {
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Size      int64      `json:"size"`
	Platforms int        `json:"platforms"` // that have it
}

func (a *app) sizeCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "size REF",
		Short: "Show how large an image is, by platform and by layer",
		Long: `Show the compressed size of an image for each platform: what a pull moves, and how
much of that no other platform has.`,
		Example: "  ghcr size acme/app:v1\n  ghcr size acme/app:v1 --by layer",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if by != "platform" && by != "layer" {
				return usage("--by %q: want platform or layer", by)
			}
			repo, ref, err := a.repository(given[0], false)
			if err != nil {
				return err
			}
			root, err := repo.Resolve(cmd.Context(), ref.Reference.String())
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			found, err := client.Size(cmd.Context(), ref.With(oci.Reference{Digest: root.Digest}))
			if err != nil {
				return err
			}
			s := sized{schema, ref.String(), root.Digest, found.Total, found.Shared, []platformSize{}, []blobSize{}}
			for _, p := range found.Parts {
				s.Platforms = append(s.Platforms, platformSize{p.Name, p.Compressed, p.Unique, p.Layers})
			}
			for _, b := range found.Blobs {
				s.Blobs = append(s.Blobs, blobSize{b.Digest, b.MediaType, b.Size, b.Parts})
			}
			return a.printSize(s, by)
		},
	}
	cmd.Flags().StringVar(&by, "by", "platform", "platform or layer")
	return cmd
}

func (a *app) printSize(s sized, by string) error {
	r := result{data: s, ids: []string{fmt.Sprint(s.Total)}, foot: fmt.Sprintf("%s in all, %s of it shared", size(s.Total), size(s.Shared))}
	if by == "layer" {
		r.head = []string{"DIGEST", "SIZE", "PLATFORMS", "TYPE"}
		for _, b := range s.Blobs {
			r.rows = append(r.rows, []string{shortDigest(b.Digest), size(b.Size), fmt.Sprint(b.Platforms), b.MediaType})
			r.plain = append(r.plain, []string{b.Digest.String(), fmt.Sprint(b.Size), fmt.Sprint(b.Platforms), b.MediaType})
		}
		return a.print(r)
	}
	r.head = []string{"PLATFORM", "COMPRESSED", "UNIQUE", "LAYERS"}
	for _, p := range s.Platforms {
		r.rows = append(r.rows, []string{p.Platform, size(p.Compressed), size(p.Unique), fmt.Sprint(p.Layers)})
		r.plain = append(r.plain, []string{p.Platform, fmt.Sprint(p.Compressed), fmt.Sprint(p.Unique), fmt.Sprint(p.Layers)})
	}
	return a.print(r)
}
