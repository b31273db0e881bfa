package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
)

func (a *app) manifestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Get and put manifests as they are",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.manifestGetCommand(), a.manifestPutCommand())
	return cmd
}

func (a *app) manifestGetCommand() *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:     "get REF",
		Short:   "Print a manifest byte for byte",
		Long:    "Print a manifest byte for byte, or what --jq, --template and --json=a,b make of it.",
		Example: "  ghcr manifest get acme/app:v1\n  ghcr manifest get acme/app:v1 --jq '.manifests[].digest'",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			var m *oci.Manifest
			if platform == "" {
				m, err = repo.Manifest(cmd.Context(), ref.Reference.String())
			} else {
				var p oci.Platform
				if p, err = oci.ParsePlatform(platform); err != nil {
					return err
				}
				m, err = repo.PlatformManifest(cmd.Context(), ref.Reference.String(), p)
			}
			if err != nil {
				return err
			}
			if a.flags.jq != "" || a.flags.template != "" || a.flags.json.fields != nil {
				return a.printJSON(json.RawMessage(m.Bytes()))
			}
			// Not a byte more: what is printed has the digest.
			_, err = a.stdout.Write(m.Bytes())
			return err
		},
	}
	cmd.Flags().StringVarP(&platform, "platform", "p", "", "the manifest for this `OS/ARCH`")
	return cmd
}

func (a *app) manifestPutCommand() *cobra.Command {
	var mediaType string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "put REF FILE",
		Short: "Put a manifest byte for byte",
		Long: `Put a manifest from a file, or from stdin with "-", under a tag or its digest. The
content that it names must be in the repository.`,
		Example: "  ghcr manifest put acme/app:v2 manifest.json",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.repository(given[0], false)
			if err != nil {
				return err
			}
			raw, err := a.readFile(given[1], oci.MaxManifestSize)
			if err != nil {
				return err
			}
			m, err := oci.ParseManifest(mediaType, raw)
			if err != nil {
				return fmt.Errorf("manifest put %s: %w", given[1], err)
			}
			if want := ref.Reference.Digest; want != "" {
				if err := m.Verify(want); err != nil {
					return usage("manifest put %s: %w", ref, err)
				}
			}
			name := ref.Reference.Tag
			if name == "" {
				name = ref.Reference.Digest.String()
			}
			if !dryRun {
				if err := repo.PutManifest(cmd.Context(), name, m); err != nil {
					return err
				}
			}
			ref.Reference.Digest = m.Digest()
			return a.print(result{
				data: struct {
					Schema string     `json:"schema"`
					Ref    string     `json:"ref"`
					Digest oci.Digest `json:"digest"`
				}{schema, ref.String(), m.Digest()},
				ids: []string{m.Digest().String()}, text: ref.String() + "\n",
			})
		},
	}
	cmd.Flags().StringVar(&mediaType, "media-type", "", "media `TYPE`, if the manifest does not say")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check and put nothing")
	return cmd
}

// readFile reads a file, or stdin for "-", of at most so many bytes.
func (a *app) readFile(name string, limit int64) ([]byte, error) {
	r := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usage("%w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, usage("%s is a directory", name)
		}
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = usage("%s is over the limit of %d bytes", name, limit)
	}
	return data, err
}
