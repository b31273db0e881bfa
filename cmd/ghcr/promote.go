package main

import (
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
)

func (a *app) promoteCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "promote SRC DST",
		Short: "Copy an image by digest to another name, and look that it is there",
		Long: `Copy the very image that SRC names now to DST: the tag is read once, its digest is what
is copied, and in the end DST is looked at, so that nothing else can have come between.
Within a registry no layer is moved. With --recursive its signatures go along, and with
--verify it goes only if it is signed by whom you name.`,
		Example: "  ghcr promote acme/app:v1.2.3 acme/prod:stable --recursive",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			opts, err := f.options()
			if err != nil {
				return err
			}
			for _, s := range given {
				if isLocal(s) {
					return usage("promote: %s is not in a registry; ghcr push and ghcr cp copy from and to files", s)
				}
			}
			_, src, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			_, dst, err := a.repository(given[1], false)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			policy, err := f.verify.policy(a)
			if err != nil {
				return err
			}
			from, err := a.verified(cmd.Context(), ghcr.End{Kind: ghcr.EndRegistry, Ref: src}, policy)
			if err != nil {
				return err
			}
			show := a.newReporter()
			opts.Progress = show.listen
			began := time.Now()
			done, err := client.Promote(cmd.Context(), from.Ref, dst, opts)
			show.end()
			if err != nil {
				return err
			}
			a.tellSummary(done, time.Since(began), opts.DryRun)
			m := newMoved(ghcr.End{Kind: ghcr.EndRegistry, Ref: dst}, done, opts.DryRun)
			return a.print(result{data: m, ids: []string{m.Digest.String()}, text: m.Ref + "\n"})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "with referrers and digest tags: signatures, SBOMs, attestations")
	flags.BoolVar(&f.noClobber, "no-clobber", false, "fail rather than move a tag that is there")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be moved, and move nothing")
	flags.IntVarP(&f.jobs, "jobs", "j", 0, "blobs, or pieces of one, at once")
	f.verify.add(flags)
	return cmd
}
