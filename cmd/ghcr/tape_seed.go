package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// seeded is what tape seed prints of a manifest.
type seeded struct {
	Repository string     `json:"repository"`
	Digest     oci.Digest `json:"digest"`
	Tags       []string   `json:"tags"`
	Outcome    string     `json:"outcome"` // done, skipped, failed
	Why        string     `json:"why"`
}

func (a *app) tapeSeedCommand() *cobra.Command {
	var blobs string
	cmd := &cobra.Command{
		Use:   "seed DIR",
		Short: "Put what a cassette recorded into an emulator",
		Long: `Push the images that a cassette has whole into an emulator, under the repositories and
tags that they had: with --sim, or a registry on this machine. What was only sent, or
only read in part, is not there to be pushed, and is listed as skipped.`,
		Example: "  ghcr --sim ./box tape seed tape",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			host := cmp.Or(a.flags.registry, a.getenv("GHCR_REGISTRY"))
			if a.flags.sim == "" && !transport.IsLoopback(host) {
				return usage("seed pushes what a recording made up for the real thing: give --sim DIR, or --registry of this machine")
			}
			c, err := cassette.Open(given[0], cassette.Options{AllowUnused: true, AllowWrongDigests: true, Blobs: blobs})
			if err != nil {
				return damaged(err)
			}
			defer c.Close()
			list, err := a.seed(cmd.Context(), c, cmp.Or(host, oci.DefaultRegistry))
			if err != nil {
				return err
			}
			return a.printSeeded(list)
		},
	}
	cmd.Flags().StringVar(&blobs, "blobs", "", "OCI layout `DIR` that has the bodies of which the cassette has only the digest")
	return cmd
}

// seed pushes to one host, whatever the names in the cassette look like.
func (a *app) seed(ctx context.Context, c *cassette.Cassette, host string) ([]seeded, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	sources := map[string]*tapeSource{} // by repository, on whatever host it was
	for _, content := range c.Contents() {
		s := sources[content.Repository]
		if s == nil {
			s = &tapeSource{c: c, found: map[oci.Digest]cassette.Content{}}
			sources[content.Repository] = s
		}
		s.found[content.Digest] = content
	}
	// A blob is read from a host that does not say of which repository.
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	var list []seeded
	for _, name := range names {
		ref := oci.ImageRef{Registry: host, Name: name}
		repo, err := client.Repository(ref)
		if err != nil {
			return nil, err
		}
		for _, content := range sources[name].manifests() {
			done := seeded{Repository: ref.Repository(), Digest: content.Digest, Tags: append([]string{}, content.Tags...), Outcome: "done"}
			if content.Body == nil {
				done.Outcome, done.Why = "skipped", "the cassette does not have the manifest whole"
				list = append(list, done)
				continue
			}
			first, more := "", []string(nil)
			if len(content.Tags) > 0 {
				first, more = content.Tags[0], content.Tags[1:]
			}
			_, err := transfer.Copy(ctx, sources[name], content.Digest.String(), repo, first, transfer.Options{Tags: more})
			if ctx.Err() != nil {
				return nil, err
			}
			if err != nil {
				done.Outcome, done.Why = "skipped", err.Error()
			}
			list = append(list, done)
		}
	}
	return list, nil
}

func (a *app) printSeeded(list []seeded) error {
	r := result{data: list, head: []string{"OUTCOME", "REPOSITORY", "DIGEST", "TAGS", "WHY"}}
	if list == nil {
		r.data = []seeded{}
	}
	skipped := 0
	for _, s := range list {
		if s.Outcome != "done" {
			skipped++
		} else {
			r.ids = append(r.ids, s.Digest.String())
		}
		tags := strings.Join(s.Tags, " ")
		r.rows = append(r.rows, []string{s.Outcome, s.Repository, shortDigest(s.Digest), tags, s.Why})
		r.plain = append(r.plain, []string{s.Outcome, s.Repository, s.Digest.String(), tags, s.Why})
	}
	if err := a.print(r); err != nil {
		return err
	}
	switch {
	case len(list) == 0:
		return fmt.Errorf("the cassette has no manifest: %w", oci.ErrNotFound)
	case skipped > 0:
		return fmt.Errorf("%d of %s could not be put there: %w", skipped, plural(len(list), "manifest"), errPartly)
	}
	return nil
}

// tapeSource is a repository as a cassette knows it.
type tapeSource struct {
	c     *cassette.Cassette
	found map[oci.Digest]cassette.Content
}

// manifests lists them with those first that others may be made of: an index can be
// put only where its parts are.
func (s *tapeSource) manifests() []cassette.Content {
	var list []cassette.Content
	for _, content := range s.found {
		if content.Manifest {
			list = append(list, content)
		}
	}
	slices.SortFunc(list, func(a, b cassette.Content) int {
		if x, y := oci.IsIndexType(a.MediaType), oci.IsIndexType(b.MediaType); x != y {
			if x {
				return 1
			}
			return -1
		}
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	return list
}

func (s *tapeSource) missing(d oci.Digest) error {
	return fmt.Errorf("the cassette does not have %s whole: %w", d, oci.ErrNotFound)
}

// Manifest implements [transfer.Source].
func (s *tapeSource) Manifest(_ context.Context, ref string) (*oci.Manifest, error) {
	content := s.found[oci.Digest(ref)]
	if content.Body == nil {
		return nil, s.missing(oci.Digest(ref))
	}
	r, err := s.c.OpenBody(content.Body)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, oci.MaxManifestSize+1))
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(content.MediaType, raw)
	if err == nil {
		err = m.Verify(content.Digest)
	}
	return m, err
}

// Blob implements [transfer.Source].
func (s *tapeSource) Blob(_ context.Context, d oci.Descriptor, offset, length int64) (io.ReadCloser, error) {
	content := s.found[d.Digest]
	if content.Body == nil {
		return nil, s.missing(d.Digest)
	}
	r, err := s.c.OpenBody(content.Body)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, offset); err != nil {
		r.Close()
		return nil, fmt.Errorf("the cassette's body of %s: %w", d.Digest, err)
	}
	if length < 0 {
		return r, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, length), r}, nil
}

// CheckBlob implements [transfer.Checker].
func (s *tapeSource) CheckBlob(_ context.Context, d oci.Descriptor) error {
	if b := s.found[d.Digest].Body; b == nil || b.Size != d.Size {
		return s.missing(d.Digest)
	}
	return nil
}

// VerifyBlob implements [transfer.Checker].
func (s *tapeSource) VerifyBlob(ctx context.Context, d oci.Descriptor) error {
	r, err := s.Blob(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r) // which checks it
	return err
}
