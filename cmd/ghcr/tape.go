package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func (a *app) tapeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tape",
		Short: "Look at, check, change and share recordings",
		Long: `Work on cassettes: what --record makes and --replay answers from. A cassette is a
directory that is an OCI image layout of one artifact, so that it can be pushed,
pulled, signed, and pinned by its digest.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.tapeShowCommand(), a.tapeVerifyCommand(), a.tapeRecoverCommand(), a.tapePushCommand(), a.tapePullCommand(),
		a.tapeDiffCommand(), a.tapeRedactCommand(), a.tapeExportCommand(), a.tapeImportCommand(), a.tapeSeedCommand(),
	)
	return cmd
}

// readTape opens a cassette to look at it.
func readTape(dir string) (*cassette.Cassette, error) {
	c, err := cassette.Open(dir, cassette.Options{AllowUnused: true, AllowWrongDigests: true})
	if err != nil {
		return nil, damaged(err)
	}
	return c, nil
}

// damaged makes what was found changed a failure of integrity, which among bad input
// it would be lost in.
func damaged(err error) error {
	if errors.Is(err, oci.ErrIntegrity) {
		return &damageError{err}
	}
	return err
}

type damageError struct{ err error }

func (e *damageError) Error() string        { return e.err.Error() }
func (e *damageError) Is(target error) bool { return target == oci.ErrIntegrity }

// completeDirs offers directories for the first argument.
func completeDirs(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// tapeSummary is what tape verify prints, and what makes a new cassette does.
type tapeSummary struct {
	Schema       string     `json:"schema"`
	Digest       oci.Digest `json:"digest"`
	Interactions int        `json:"interactions"`
	Bodies       int        `json:"bodies"`
	Size         int64      `json:"size"`
	Elided       int        `json:"elided"`
	Created      *time.Time `json:"created"`
	Origin       string     `json:"origin"`
	Hosts        string     `json:"hosts"`
}

func newTapeSummary(s cassette.Summary) tapeSummary {
	t := tapeSummary{
		Schema: schema, Digest: s.Digest, Interactions: s.Interactions, Bodies: s.Bodies, Size: s.Size, Elided: s.Elided,
		Origin: s.Annotations[cassette.AnnotationOrigin], Hosts: s.Annotations[cassette.AnnotationHosts],
	}
	if created, err := time.Parse(time.RFC3339, s.Annotations[cassette.AnnotationCreated]); err == nil {
		t.Created = &created
	}
	return t
}

// verifyTape checks all of a cassette.
func (a *app) verifyTape(cmd *cobra.Command, dir string, opts cassette.Options) (tapeSummary, error) {
	sum, err := cassette.Verify(cmd.Context(), dir, opts)
	var leak *cassette.LeakError
	switch {
	case errors.As(err, &leak):
		return tapeSummary{}, &leakFound{leak}
	case errors.Is(err, fs.ErrNotExist) && exists(filepath.Join(dir, "index.json")):
		return tapeSummary{}, &damageError{err} // a file of it
	case err != nil:
		return tapeSummary{}, damaged(err)
	}
	return newTapeSummary(sum), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// leakFound is a secret in a cassette that is there.
type leakFound struct{ *cassette.LeakError }

func (e *leakFound) Error() string { return e.Where + " holds " + e.What }

func (e *leakFound) Is(target error) bool { return target == errFindings }

// printTape prints the digest of a cassette, and on stderr what it holds.
func (a *app) printTape(t tapeSummary) error {
	if !a.flags.quiet && !a.flags.json.set {
		text := fmt.Sprintf("%s, %s (%s)", plural(t.Interactions, "interaction"), plural(t.Bodies, "file"), size(t.Size))
		if t.Elided > 0 {
			text += fmt.Sprintf(", %d more by digest alone", t.Elided)
		}
		if t.Created != nil {
			text += ", recorded " + t.Created.Format(time.RFC3339)
		}
		fmt.Fprintf(a.stderr, "ghcr: %s, %s: %s\n", text, t.Origin, t.Hosts)
	}
	return a.print(result{data: t, ids: []string{t.Digest.String()}, text: t.Digest.String() + "\n"})
}

func (a *app) tapeVerifyCommand() *cobra.Command {
	var pin, blobs string
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check all of a cassette without a network",
		Long: `Check the chain of a cassette's interactions, each body, that the digests in what was
recorded agree, that nothing in it looks like a secret, and that no file is there
that it does not name. Prints its digest, to pin it by. Damage is exit code 7, and a
secret 8.`,
		Example: "  ghcr tape verify tape\n  ghcr tape verify tape -q",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			opts := cassette.Options{Pin: oci.Digest(pin), Blobs: blobs}
			if pin != "" {
				if _, err := oci.ParseDigest(pin); err != nil {
					return usage("--pin: %w", err)
				}
			}
			sum, err := a.verifyTape(cmd, given[0], opts)
			if err != nil {
				return err
			}
			return a.printTape(sum)
		},
	}
	cmd.Flags().StringVar(&pin, "pin", "", "the `DIGEST` that it must have")
	cmd.Flags().StringVar(&blobs, "blobs", "", "OCI layout `DIR` that has the bodies of which the cassette has only the digest")
	return cmd
}

func (a *app) tapeRecoverCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "recover DIR",
		Short: "Seal a recording that was broken off",
		Long: `Make a cassette of a recording whose program ended before it could: all that was
written whole is kept. Prints its digest.`,
		Example: "  ghcr tape recover crashed",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := cassette.Recover(given[0]); err != nil {
				return damaged(err)
			}
			sum, err := a.verifyTape(cmd, given[0], cassette.Options{AllowWrongDigests: true})
			if err != nil {
				return err
			}
			return a.printTape(sum)
		},
	}
}

func (a *app) tapePushCommand() *cobra.Command {
	var noClobber bool
	cmd := &cobra.Command{
		Use:   "push DIR REF",
		Short: "Push a cassette to a registry",
		Long: `Check a cassette, and push it to a registry as the OCI artifact that it is. Prints it
with its digest, which stands for all of it.`,
		Example: "  ghcr tape push tape acme/tapes:pull",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: completeDirs,
		RunE: func(cmd *cobra.Command, given []string) error {
			sum, err := a.verifyTape(cmd, given[0], cassette.Options{AllowWrongDigests: true})
			if err != nil {
				return err
			}
			dst, err := a.tapeRef(given[1])
			if err != nil {
				return err
			}
			src := ghcr.End{Kind: ghcr.EndLayout, Path: given[0], Tag: sum.Digest.String()}
			done, err := a.transfer(cmd, src, dst, transfer.Options{NoClobber: noClobber}, nil)
			if err != nil {
				return err
			}
			return a.print(result{data: done, ids: []string{done.Digest.String()}, text: done.Ref + "\n"})
		},
	}
	cmd.Flags().BoolVar(&noClobber, "no-clobber", false, "fail rather than move a tag that is there")
	return cmd
}

// tapeRef reads where in a registry a cassette is, or is to be.
func (a *app) tapeRef(s string) (ghcr.End, error) {
	end, err := a.end(s)
	if err == nil && end.Kind != ghcr.EndRegistry {
		err = usage("%q is no reference in a registry; a cassette that is a directory can be copied like any other", s)
	}
	return end, err
}

func (a *app) tapePullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pull REF DIR",
		Short: "Pull a cassette from a registry, and check it",
		Long: `Pull a cassette into a directory that is not there yet, and check all of it. With
REF@DIGEST it is that cassette or none. Prints its digest.`,
		Example: "  ghcr tape pull acme/tapes:pull pulled",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			src, err := a.tapeRef(given[0])
			if err != nil {
				return err
			}
			return a.besideTape(given[1], func(aside string) (tapeSummary, error) { return a.pullTape(cmd, src, aside) })
		},
	}
}

func (a *app) pullTape(cmd *cobra.Command, src ghcr.End, dir string) (tapeSummary, error) {
	client, err := a.client()
	if err != nil {
		return tapeSummary{}, err
	}
	repo, err := client.Repository(src.Ref)
	if err != nil {
		return tapeSummary{}, err
	}
	m, err := repo.Manifest(cmd.Context(), src.Ref.Reference.String())
	if err != nil {
		return tapeSummary{}, err
	}
	if m.ArtifactType != cassette.ArtifactType {
		return tapeSummary{}, usage("%s is no cassette: its type is %q", src.Ref, m.Kind())
	}
	src.Ref = src.Ref.With(oci.Reference{Digest: m.Digest()})
	if _, err := a.transfer(cmd, src, ghcr.End{Kind: ghcr.EndLayout, Path: dir}, transfer.Options{}, nil); err != nil {
		return tapeSummary{}, err
	}
	return a.verifyTape(cmd, dir, cassette.Options{Pin: m.Digest(), AllowWrongDigests: true})
}

// besideTape has a cassette made in a directory of its own, and gives it its name
// when it is whole. A directory that is there must be empty.
func (a *app) besideTape(dir string, fill func(aside string) (tapeSummary, error)) (err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usage("%s is there and not empty; choose another directory", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usage("%w", err)
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	if err := os.Chmod(aside, 0o755); err != nil {
		return err
	}
	sum, err := fill(aside)
	if err != nil {
		return err
	}
	os.Remove(dir) // which is empty, or not there
	if err := os.Rename(aside, dir); err != nil {
		return err
	}
	return a.printTape(sum)
}
