package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
)

// refersTo is something that refers to an image.
type refersTo struct {
	Digest       oci.Digest `json:"digest"`
	MediaType    string     `json:"mediaType"`
	ArtifactType string     `json:"artifactType"`
	Size         int64      `json:"size"`
	Tag          string     `json:"tag"` // by which it is found; empty for a referrer proper
}

// label says what it is, in a word where that is known.
func (r refersTo) label() string {
	if r.Tag != "" {
		return cmp.Or(tagLabel(r.Tag), "tag "+r.Tag)
	}
	return cmp.Or(r.ArtifactType, r.MediaType)
}

// tagLabel says what a tag that is named after a digest is for, where that is known.
func tagLabel(tag string) string {
	_, suffix, _ := oci.ParseDigestTag(tag)
	return map[string]string{".sig": "signature", ".att": "attestation", ".sbom": "SBOM"}[suffix]
}

// shortTags prints tags for a person: those named after a digest are too long.
func shortTags(tags []string) string {
	short := make([]string, len(tags))
	for i, tag := range tags {
		short[i] = printable(tag)
		if d, suffix, ok := oci.ParseDigestTag(tag); ok {
			short[i] = "sha256-" + shortDigest(d) + "…" + suffix
		}
	}
	return strings.Join(short, " ")
}

// referrersOf lists the referrers of a manifest and the digest tags that name it.
func referrersOf(ctx context.Context, repo *registry.Repository, d oci.Digest) ([]refersTo, error) {
	list := []refersTo{}
	found, err := repo.Referrers(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		list = append(list, refersTo{Digest: r.Digest, MediaType: r.MediaType, ArtifactType: r.ArtifactType, Size: r.Size})
	}
	for tag, err := range repo.Tags(ctx, registry.TagOptions{Match: oci.DigestTag(d) + ".*"}) {
		if err != nil {
			return nil, err
		}
		t, err := repo.Resolve(ctx, tag)
		if err != nil {
			return nil, err
		}
		list = append(list, refersTo{Digest: t.Digest, MediaType: t.MediaType, Size: t.Size, Tag: tag})
	}
	return list, nil
}

func (a *app) referrersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "referrers REF",
		Short: "List what refers to an image",
		Long: `List the referrers of an image, and the tags that are named after its digest: its
signatures, SBOMs and attestations.`,
		Example: "  ghcr referrers acme/app:v1",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			d, err := repo.Resolve(cmd.Context(), ref.Reference.String())
			if err != nil {
				return err
			}
			list, err := referrersOf(cmd.Context(), repo, d.Digest)
			if err != nil {
				return err
			}
			r := result{data: list, head: []string{"DIGEST", "TYPE", "SIZE"}, foot: fmt.Sprintf("%s of %s", plural(len(list), "referrer"), d.Digest)}
			for _, one := range list {
				r.ids = append(r.ids, one.Digest.String())
				r.rows = append(r.rows, []string{shortDigest(one.Digest), one.label(), size(one.Size)})
				r.plain = append(r.plain, []string{one.Digest.String(), one.label(), fmt.Sprint(one.Size)})
			}
			return a.print(r)
		},
	}
}
