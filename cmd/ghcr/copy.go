package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// copyFlags are those of push, pull and cp.
type copyFlags struct {
	platforms []string
	recursive bool
	noClobber bool
	dryRun    bool
	allTags   bool
	match     string
	jobs      int
	chunkSize string
	verify    verifyFlags
}

func (f *copyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.platforms, "platform", "p", nil, "only this `OS/ARCH` of an index; may be repeated")
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "with referrers and digest tags: signatures, SBOMs, attestations")
	flags.BoolVar(&f.noClobber, "no-clobber", false, "fail rather than move a tag that is there")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be moved, and move nothing")
	flags.IntVarP(&f.jobs, "jobs", "j", 0, "blobs, or pieces of one, at once (default 16 large or 64 small ones)")
	flags.StringVar(&f.chunkSize, "chunk-size", "", "upload blobs above this `SIZE`, such as 5MiB, in chunks")
	f.verify.add(flags)
}

func (f *copyFlags) options() (transfer.Options, error) {
	opts := transfer.Options{Recursive: f.recursive, NoClobber: f.noClobber, DryRun: f.dryRun, Jobs: f.jobs}
	if f.jobs < 0 {
		return opts, usage("--jobs %d: must not be negative", f.jobs)
	}
	for _, s := range f.platforms {
		p, err := oci.ParsePlatform(s)
		if err != nil {
			return opts, err
		}
		opts.Platforms = append(opts.Platforms, p)
	}
	return opts, nil
}

func (f *copyFlags) chunk() (int64, error) {
	if f.chunkSize == "" {
		return 0, nil
	}
	n, err := parseSize(f.chunkSize)
	if err != nil || n < 1 {
		return 0, usage("--chunk-size %q: want a size such as 5MiB", f.chunkSize)
	}
	return n, nil
}

// parseSize reads "5MiB", "64k" or a number of bytes.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGTiBb")
	unit := map[string]float64{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
	scale, ok := unit[strings.ToLower(s[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || n*scale > math.MaxInt64/2 {
		return 0, fmt.Errorf("malformed size %q", s)
	}
	return int64(n * scale), nil
}

func (a *app) pushCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "push SRC REF",
		Short: "Push an OCI layout or docker-archive to a registry",
		Long: `Push an image from an OCI image layout (oci:DIR[:TAG]) or an archive of docker save
(docker-archive:FILE, or - for stdin) to a registry. Prints the image with its digest.
What the registry has is not sent again, and a push that was cut off goes on where it
ended.`,
		Example: "  ghcr push oci:build acme/app:v1\n  ghcr push docker-archive:app.tar acme/app:v1 --no-clobber\n  docker save app | ghcr push - acme/app:v1",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeAt(1),
		RunE: func(cmd *cobra.Command, given []string) error {
			if !isLocal(given[0]) {
				return usage("push: %q is no oci:DIR or docker-archive:FILE; between registries use ghcr cp", given[0])
			}
			if isLocal(given[1]) {
				return usage("push: %q is no reference in a registry; to write files use ghcr pull or ghcr cp", given[1])
			}
			return a.copy(cmd, given[0], given[1], f)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) pullCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "pull REF DST",
		Short: "Pull an image into an OCI layout or docker-archive",
		Long: `Pull an image from a registry into an OCI image layout (oci:DIR[:TAG]), which keeps
every digest, or into a file that docker load reads (docker-archive:FILE, or - for
stdout). Prints the image with its digest. Nothing has its name before its digest holds,
and a pull that was cut off goes on where it ended.`,
		Example: "  ghcr pull acme/app:v1 oci:build\n  ghcr pull acme/app:v1 docker-archive:app.tar -p linux/arm64\n  ghcr pull acme/app:v1 - | docker load",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeAt(0),
		RunE: func(cmd *cobra.Command, given []string) error {
			if isLocal(given[0]) {
				return usage("pull: %q is no reference in a registry; between files use ghcr cp", given[0])
			}
			if !isLocal(given[1]) {
				return usage("pull: %q is no oci:DIR or docker-archive:FILE; between registries use ghcr cp", given[1])
			}
			return a.copy(cmd, given[0], given[1], f)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) copyCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use: "cp SRC DST", Aliases: []string{"copy"},
		Short: "Copy an image between any two places",
		Long: `Copy an image between registries, OCI image layouts and docker-archives. Within a
registry no bytes are moved: blobs are mounted. With --all-tags SRC and DST are
repositories, and every tag is copied.`,
		Example: "  ghcr cp acme/app:v1 acme/prod:v1 --recursive\n  ghcr cp --all-tags --match 'v*' acme/app registry.example.com/mirror/app",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			if f.allTags {
				return a.copyAll(cmd, given[0], given[1], f)
			}
			if f.match != "" {
				return usage("--match chooses tags for --all-tags")
			}
			return a.copy(cmd, given[0], given[1], f)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.allTags, "all-tags", false, "copy every tag of a repository")
	cmd.Flags().StringVar(&f.match, "match", "", "with --all-tags, only tags that match this `GLOB`")
	return cmd
}

func isLocal(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return s == "-" || ok && slices.Contains([]string{"oci", "docker-archive", "tar"}, scheme)
}

// moved is what push, pull and cp print.
type moved struct {
	Schema    string     `json:"schema"`
	Ref       string     `json:"ref"`
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Unchanged bool       `json:"unchanged"`
	DryRun    bool       `json:"dryRun"`
	Manifests int        `json:"manifests"`
	Uploaded  int        `json:"uploaded"`
	Mounted   int        `json:"mounted"`
	Existing  int        `json:"existing"`
	Bytes     int64      `json:"bytes"`
	Referrers int        `json:"referrers"`
}

func newMoved(dst ghcr.End, r transfer.Result, dryRun bool) moved {
	return moved{
		schema, placed(dst, r.Descriptor.Digest), r.Descriptor.Digest, r.Descriptor.MediaType, r.Unchanged, dryRun,
		r.Manifests, r.Uploaded, r.Mounted, r.Existing, r.Bytes, r.Referrers,
	}
}

// placed names the image where it now is, so that commands chain.
func placed(dst ghcr.End, d oci.Digest) string {
	if dst.Kind == ghcr.EndRegistry {
		dst.Ref.Reference.Digest = d
		return dst.Ref.String()
	}
	return string(dst.Kind) + ":" + dst.Path + "@" + d.String()
}

func (a *app) copy(cmd *cobra.Command, from, to string, f copyFlags) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	if a.chunkSize, err = f.chunk(); err != nil {
		return err
	}
	src, err := a.sourceEnd(cmd.Context(), from)
	if err != nil {
		return err
	}
	dst, err := a.end(to)
	if err != nil {
		return err
	}
	policy, err := f.verify.policy(a)
	if err != nil {
		return err
	}
	named := dst
	through, err := a.pipe(&src, &dst, f.dryRun)
	if err != nil {
		return err
	}
	done, err := a.transfer(cmd, src, dst, opts, policy)
	if err = errors.Join(err, through.close(err == nil)); err != nil {
		return err
	}
	if through.out != nil {
		if a.flags.quiet {
			return nil
		}
		fmt.Fprintf(a.stderr, "ghcr: %s\n", done.Digest)
		return nil
	}
	done.Ref = placed(named, done.Digest)
	return a.print(result{data: done, ids: []string{done.Digest.String()}, text: done.Ref + "\n"})
}

// transfer copies one image, if it meets the policy, and tells on stderr how it got on.
func (a *app) transfer(cmd *cobra.Command, src, dst ghcr.End, opts transfer.Options, policy *attest.Policy) (moved, error) {
	client, err := a.client()
	if err != nil {
		return moved{}, err
	}
	if src.Kind == ghcr.EndLayout && dst.Kind != ghcr.EndRegistry && dst.Tag == "" {
		dst.Tag = src.Tag // which the verified end no longer names
	}
	if src, err = a.verified(cmd.Context(), src, policy); err != nil {
		return moved{}, err
	}
	show := a.newReporter()
	opts.Progress = show.listen
	began := time.Now()
	done, err := client.Copy(cmd.Context(), src, dst, opts)
	show.end()
	if err != nil {
		return moved{}, err
	}
	a.tellSummary(done, time.Since(began), opts.DryRun)
	return newMoved(dst, done, opts.DryRun), nil
}

// tellSummary says on stderr what a copy came to, or would have.
func (a *app) tellSummary(done transfer.Result, took time.Duration, dryRun bool) {
	if a.flags.quiet || a.flags.progress == "none" || a.flags.progress == "json" {
		return
	}
	prefix := "ghcr: "
	if dryRun {
		prefix = "ghcr: would be: "
	}
	fmt.Fprintln(a.stderr, prefix+summary(done, took))
}

// copyAll copies every tag. What fails is told at the end; the rest goes on.
func (a *app) copyAll(cmd *cobra.Command, from, to string, f copyFlags) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	if a.chunkSize, err = f.chunk(); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	if isLocal(from) || isLocal(to) {
		return usage("--all-tags copies between repositories of registries")
	}
	repo, ref, err := a.repository(from, true)
	if err != nil {
		return err
	}
	dstRef, err := client.ParseRef(to)
	if err != nil {
		return err
	}
	if !ref.Reference.IsZero() || !dstRef.Reference.IsZero() {
		return usage("--all-tags copies whole repositories: leave out the tags")
	}
	policy, err := f.verify.policy(a)
	if err != nil {
		return err
	}
	all := []moved{}
	var failed []error
	for tag, err := range repo.Tags(cmd.Context(), registry.TagOptions{Match: f.match}) {
		if err != nil {
			return err
		}
		if _, _, isDigestTag := oci.ParseDigestTag(tag); isDigestTag {
			continue // --recursive brings those that belong to an image
		}
		src := ghcr.End{Kind: ghcr.EndRegistry, Ref: ref.With(oci.Reference{Tag: tag})}
		dst := ghcr.End{Kind: ghcr.EndRegistry, Ref: dstRef.With(oci.Reference{Tag: tag})}
		done, err := a.transfer(cmd, src, dst, opts, policy)
		if err != nil {
			if cmd.Context().Err() != nil {
				return err
			}
			failed = append(failed, err)
			continue
		}
		all = append(all, done)
	}
	r := result{data: all}
	for _, m := range all {
		r.ids = append(r.ids, m.Digest.String())
		r.text += m.Ref + "\n"
	}
	if err := a.print(r); err != nil {
		return err
	}
	if len(all)+len(failed) == 0 {
		fmt.Fprintln(a.stderr, "ghcr: note: there is no such tag, so nothing was copied")
	}
	if len(failed) > 0 {
		return errors.Join(append([]error{fmt.Errorf("%s of %d not copied: %w", plural(len(failed), "tag"), len(failed)+len(all), errPartly)}, failed...)...)
	}
	return nil
}

func (a *app) tagCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "tag REF TAG...",
		Short: "Add tags to an image",
		Long: `Put further tags on an image, in the same repository. The manifest is put again byte
for byte, so the digest stays what it is.`,
		Example: "  ghcr tag acme/app:v1.2.3 v1.2 v1 latest",
		Args:    args(cobra.MinimumNArgs(2)), ValidArgsFunction: a.completeAt(0),
		RunE: func(cmd *cobra.Command, given []string) error {
			src, err := a.sourceEnd(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if src.Kind != ghcr.EndRegistry {
				return usage("tag: %q is not in a registry; ghcr cp copies under another tag", given[0])
			}
			for _, tag := range given[1:] {
				if err := oci.CheckTag(tag); err != nil {
					return err
				}
			}
			dst := ghcr.End{Kind: ghcr.EndRegistry, Ref: src.Ref.With(oci.Reference{Tag: given[1]})}
			client, err := a.client()
			if err != nil {
				return err
			}
			done, err := client.Copy(cmd.Context(), src, dst, transfer.Options{Tags: given[2:], NoClobber: f.noClobber, DryRun: f.dryRun})
			if err != nil {
				return err
			}
			var all []moved
			r := result{}
			for _, tag := range given[1:] {
				dst.Ref.Reference = oci.Reference{Tag: tag}
				m := newMoved(dst, done, f.dryRun)
				m.Manifests = 1
				all = append(all, m)
				r.ids = append(r.ids, m.Digest.String())
				r.text += m.Ref + "\n"
			}
			r.data = all
			return a.print(r)
		},
	}
	cmd.Flags().BoolVar(&f.noClobber, "no-clobber", false, "fail rather than move a tag that is there")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "put nothing")
	return cmd
}
