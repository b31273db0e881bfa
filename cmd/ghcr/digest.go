package main

import (
	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
)

func (a *app) digestCommand() *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "digest REF",
		Short: "Print the digest of an image",
		Long: `Print the digest that a tag names. Takes one request. Exit code 5 says that there is
no such image, or none that this login can see.`,
		Example: "  ghcr digest acme/app:v1\n  ghcr digest acme/app:v1 -p linux/arm64",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			var d oci.Descriptor
			if platform == "" {
				d, err = repo.Resolve(cmd.Context(), ref.Reference.String())
			} else {
				var p oci.Platform
				if p, err = oci.ParsePlatform(platform); err != nil {
					return err
				}
				var m *oci.Manifest
				if m, err = repo.PlatformManifest(cmd.Context(), ref.Reference.String(), p); err == nil {
					d = m.Descriptor()
				}
			}
			if err != nil {
				return err
			}
			return a.printDigest(ref, d)
		},
	}
	cmd.Flags().StringVarP(&platform, "platform", "p", "", "of the manifest for this `OS/ARCH`")
	return cmd
}

// printDigest prints the digest of what a reference names, and in JSON what else is known
// of it.
func (a *app) printDigest(ref oci.ImageRef, d oci.Descriptor) error {
	return a.print(result{
		data: struct {
			Schema    string     `json:"schema"`
			Ref       string     `json:"ref"`
			Digest    oci.Digest `json:"digest"`
			MediaType string     `json:"mediaType"`
			Size      int64      `json:"size"`
		}{schema, ref.String(), d.Digest, d.MediaType, d.Size},
		ids: []string{d.Digest.String()}, text: d.Digest.String() + "\n",
	})
}
