package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
)

// node is one thing in the tree of an image.
type node struct {
	What      string     `json:"what"` // "index", "linux/amd64", "attestation for …", "layer", "signature"
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Size      int64      `json:"size"`
	Children  []node     `json:"children,omitempty"`
}

func (a *app) treeCommand() *cobra.Command {
	var layers bool
	cmd := &cobra.Command{
		Use:   "tree REF",
		Short: "Show an image as a tree of what it is made of",
		Long: `Show an index with its platforms, each with its attestation, and what refers to
them. With --layers configs and layers are shown too.`,
		Example: "  ghcr tree acme/app:v1 --layers",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			m, err := repo.Manifest(cmd.Context(), ref.Reference.String())
			if err != nil {
				return err
			}
			root, err := treeOf(cmd.Context(), repo, m, string(m.Kind()), layers)
			if err != nil {
				return err
			}
			var b strings.Builder
			fmt.Fprintf(&b, "%s\n", a.bold(ref.String()))
			drawTree(&b, []node{root}, "")
			return a.print(result{data: root, ids: []string{m.Digest().String()}, text: b.String()})
		},
	}
	cmd.Flags().BoolVar(&layers, "layers", false, "with configs and layers")
	return cmd
}

// treeOf reads what hangs on a manifest.
func treeOf(ctx context.Context, repo *registry.Repository, m *oci.Manifest, what string, layers bool) (node, error) {
	n := node{What: what, Digest: m.Digest(), MediaType: m.MediaType, Size: int64(len(m.Bytes()))}
	platforms := map[oci.Digest]string{}
	for _, d := range m.Manifests {
		if oci.HasPlatform(d) {
			platforms[d.Digest] = oci.FormatPlatform(*d.Platform)
		}
	}
	for e := range m.Edges() {
		d := e.Descriptor
		leaf := node{What: string(e.Kind), Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}
		switch e.Kind {
		case oci.EdgeConfig, oci.EdgeLayer:
			if layers {
				n.Children = append(n.Children, leaf)
			}
		case oci.EdgeChild:
			child, err := repo.Manifest(ctx, d.Digest.String())
			if err != nil {
				return n, fmt.Errorf("read what the index lists: %w", err)
			}
			sub, err := treeOf(ctx, repo, child, entryName(d, child, platforms), layers)
			if err != nil {
				return n, err
			}
			n.Children = append(n.Children, sub)
		}
	}
	refers, err := referrersOf(ctx, repo, m.Digest())
	if err != nil {
		return n, err
	}
	for _, r := range refers {
		n.Children = append(n.Children, node{What: r.label(), Digest: r.Digest, MediaType: r.MediaType, Size: r.Size})
	}
	return n, nil
}

// entryName says what an entry of an index is. BuildKit's attestations pass for
// images of an unknown platform.
func entryName(d oci.Descriptor, m *oci.Manifest, platforms map[oci.Digest]string) string {
	if about, ok := oci.AttestationOf(d); ok {
		if p := platforms[about]; p != "" {
			return "attestation for " + p
		}
		return "attestation for " + shortDigest(about)
	}
	if p := platforms[d.Digest]; p != "" {
		return p
	}
	return string(m.Kind())
}

func drawTree(b *strings.Builder, nodes []node, indent string) {
	for i, n := range nodes {
		branch, below := "├── ", "│   "
		if i == len(nodes)-1 {
			branch, below = "└── ", "    "
		}
		fmt.Fprintf(b, "%s%s%s  %s  %s\n", indent, branch, n.What, shortDigest(n.Digest), size(n.Size))
		drawTree(b, n.Children, indent+below)
	}
}
