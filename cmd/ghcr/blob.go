package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
)

func (a *app) blobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blob",
		Short: "Get, put, look for and mount blobs",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.blobGetCommand(), a.blobPutCommand(), a.blobStatCommand(), a.blobMountCommand())
	return cmd
}

// blob reads a reference that names a blob.
func (a *app) blob(s string) (*registry.Repository, oci.ImageRef, error) {
	repo, ref, err := a.repository(s, true)
	if err == nil && ref.Reference.Digest == "" {
		err = usage("%s: name a blob by its digest, %s@sha256:…", ref, ref.Repository())
	}
	return repo, ref, err
}

func (a *app) blobGetCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "get REPOSITORY@DIGEST",
		Short: "Print a blob, or write it to a file",
		Long: `Print a blob. With --output it is written aside and renamed when its digest holds; on
stdout a wrong digest shows in the exit code, 7.`,
		Example: "  ghcr blob get acme/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 -o layer.tar.gz",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.blob(given[0])
			if err != nil {
				return err
			}
			body, err := repo.GetBlob(cmd.Context(), oci.Descriptor{Digest: ref.Reference.Digest})
			if err != nil {
				return err
			}
			defer body.Close()
			if output == "" || output == "-" {
				_, err := io.Copy(a.stdout, body)
				return err
			}
			return writeAside(output, body)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this `FILE`")
	return cmd
}

// writeAside writes a file that has its name only when all of it is there. A device or a
// pipe is written to as it is: a file in its place would be the end of it.
func writeAside(name string, r io.Reader) error {
	switch info, err := os.Stat(name); {
	case err == nil && info.IsDir():
		return usage("%s is a directory", name)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return usage("%w", err)
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return usage("%w", err)
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (a *app) blobPutCommand() *cobra.Command {
	var mediaType, want, chunk string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "put REPOSITORY FILE",
		Short: "Upload a blob",
		Long: `Upload a file as a blob, or stdin with "-", and print its digest. A file that is there
already is not sent; an upload that was cut off goes on where it ended.`,
		Example: "  ghcr blob put acme/app layer.tar.gz",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			f := copyFlags{chunkSize: chunk}
			if a.chunkSize, err = f.chunk(); err != nil {
				return err
			}
			return a.putBlob(cmd.Context(), given[0], given[1], mediaType, want, dryRun)
		},
	}
	cmd.Flags().StringVar(&mediaType, "media-type", "application/octet-stream", "media `TYPE` to report")
	cmd.Flags().StringVar(&want, "digest", "", "fail unless the content has this `DIGEST`")
	cmd.Flags().StringVar(&chunk, "chunk-size", "", "upload in chunks of this `SIZE`, such as 5MiB")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the digest and upload nothing")
	return cmd
}

func (a *app) putBlob(ctx context.Context, name, file, mediaType, want string, dryRun bool) error {
	repo, ref, err := a.repository(name, true)
	if err != nil {
		return err
	}
	if want != "" {
		if _, err := oci.ParseDigest(want); err != nil {
			return err
		}
	}
	var d oci.Descriptor
	if file == "-" {
		if dryRun || want != "" {
			return usage("blob put -: what comes from stdin is not known before it is sent; use a file")
		}
		d, err = repo.PutStream(ctx, mediaType, a.stdin)
	} else {
		d, err = describeFile(file, mediaType)
		if err == nil && want != "" && want != d.Digest.String() {
			return usage("blob put %s: it has the digest %s, not %s", file, d.Digest, want)
		}
		if err == nil && !dryRun {
			_, err = repo.PutBlob(ctx, d, nil, func(_ context.Context, offset int64) (io.ReadCloser, error) { return openAt(file, offset) })
		}
	}
	if err != nil {
		return err
	}
	ref.Reference = oci.Reference{Digest: d.Digest}
	return a.printDigest(ref, d)
}

func describeFile(name, mediaType string) (oci.Descriptor, error) {
	f, err := os.Open(name)
	if err != nil {
		return oci.Descriptor{}, usage("%w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return oci.Descriptor{}, err
	} else if !info.Mode().IsRegular() {
		return oci.Descriptor{}, usage("%s is no regular file", name)
	} else if info.Size() > oci.MaxLayerSize {
		return oci.Descriptor{}, usage("%s is %d bytes; a registry takes at most %d in one layer", name, info.Size(), int64(oci.MaxLayerSize))
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, h), Size: n}, nil
}

func openAt(name string, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{f, f}, nil
}

func (a *app) blobStatCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stat REPOSITORY@DIGEST",
		Short:   "Print the size of a blob; exit code 5 if it is not there",
		Example: "  ghcr blob stat acme/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.blob(given[0])
			if err != nil {
				return err
			}
			d, err := repo.ResolveBlob(cmd.Context(), ref.Reference.Digest)
			if err != nil {
				return err
			}
			return a.print(result{
				data: struct {
					Schema string     `json:"schema"`
					Digest oci.Digest `json:"digest"`
					Size   int64      `json:"size"`
				}{schema, d.Digest, d.Size},
				ids: []string{d.Digest.String()}, text: fmt.Sprintf("%d\n", d.Size),
			})
		},
	}
}

func (a *app) blobMountCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "mount REPOSITORY@DIGEST TO",
		Short:   "Have another repository of the same registry take a blob over",
		Long:    "Mount a blob into another repository of the same registry. No bytes are moved;\nwhere the registry does not mount, the blob is copied.",
		Example: "  ghcr blob mount acme/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 acme/other",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			from, ref, err := a.blob(given[0])
			if err != nil {
				return err
			}
			to, dst, err := a.repository(given[1], true)
			if err != nil {
				return err
			}
			if dst.Registry != ref.Registry {
				return usage("blob mount: %s and %s are different registries", ref.Registry, dst.Registry)
			}
			d, err := from.ResolveBlob(cmd.Context(), ref.Reference.Digest)
			if err != nil {
				return err
			}
			stored := oci.StoredMount
			if !dryRun {
				stored, err = to.PutBlob(cmd.Context(), d, []string{ref.Name}, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
					return from.Blob(ctx, d, offset, -1)
				})
				if err != nil {
					return err
				}
			}
			return a.print(result{
				data: struct {
					Schema string     `json:"schema"`
					Digest oci.Digest `json:"digest"`
					Stored oci.Stored `json:"stored"`
				}{schema, d.Digest, stored},
				ids: []string{d.Digest.String()}, text: string(stored) + "\n",
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "look whether the blob is there, and mount nothing")
	return cmd
}
