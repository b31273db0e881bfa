package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
)

func (a *app) catCommand() *cobra.Command {
	platform := "linux/" + runtime.GOARCH
	cmd := &cobra.Command{
		Use:   "cat REF PATH",
		Short: "Print a file out of an image",
		Long: `Print a file as a container of the image would see it: from the uppermost layer that
has it, symbolic links followed. Layers are read only as far as needed. In an artifact,
as oras push makes one, the files are its layers, and PATH is the title of one.`,
		Example: "  ghcr cat acme/app:v1 /etc/os-release",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeAt(0),
		RunE: func(cmd *cobra.Command, given []string) error {
			repo, ref, err := a.source(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			p, err := oci.ParsePlatform(platform)
			if err != nil {
				return err
			}
			m, err := repo.Manifest(cmd.Context(), ref.Reference.String())
			if err == nil && (m.IsIndex() || cmd.Flags().Changed("platform")) {
				m, err = repo.PlatformManifest(cmd.Context(), m.Digest().String(), p)
			}
			if err != nil {
				return err
			}
			if titles := titled(m); len(titles) > 0 {
				return a.catTitled(cmd.Context(), repo, ref, given[1], titles)
			}
			name := path.Clean("/" + given[1])[1:]
			if name == "" {
				return usage("cat: %q is a directory", given[1])
			}
			// A link may lead to a link; so many hops are more than any file system allows.
			for range 40 {
				target, err := catFile(cmd.Context(), repo, m, name, a.stdout)
				if err != nil {
					return fmt.Errorf("cat %s %s: %w", ref, given[1], err)
				}
				if target == "" {
					return nil
				}
				name = target
			}
			return fmt.Errorf("cat %s %s: too many symbolic links", ref, given[1])
		},
	}
	cmd.Flags().StringVarP(&platform, "platform", "p", platform, "of the image for this `OS/ARCH`")
	return cmd
}

// titled returns the files of an artifact by their titles. An image has none, whatever its
// layers are called.
func titled(m *oci.Manifest) map[string]oci.Descriptor {
	files := map[string]oci.Descriptor{}
	for _, layer := range m.Layers {
		if title := layer.Annotations["org.opencontainers.image.title"]; title != "" && m.Kind() == oci.KindArtifact {
			files[title] = layer
		}
	}
	return files
}

func (a *app) catTitled(ctx context.Context, repo *registry.Repository, ref oci.ImageRef, title string, files map[string]oci.Descriptor) error {
	file, ok := files[title]
	if !ok {
		return fmt.Errorf("cat %s %s: the artifact has no file of that title; there are %s: %w", ref, title, sortedList(slices.Collect(maps.Keys(files))), oci.ErrNotFound)
	}
	body, err := repo.GetBlob(ctx, file)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(a.stdout, body)
	return err
}

// catFile prints a file, or returns the path that it is a link to.
func catFile(ctx context.Context, repo *registry.Repository, m *oci.Manifest, name string, out io.Writer) (link string, err error) {
	for _, layer := range slices.Backward(m.Layers) {
		found, link, err := catLayer(ctx, repo, layer, name, out)
		if found || err != nil {
			return link, err
		}
	}
	return "", fmt.Errorf("there is no such file in its %d layers: %w", len(m.Layers), oci.ErrNotFound)
}

// errGone says that an upper layer deletes the file.
var errGone = errors.New("an upper layer deletes it")

// catLayer looks for a file in one layer. A file or directory on the way to it
// that is a link sends the search there.
func catLayer(ctx context.Context, repo *registry.Repository, layer oci.Descriptor, name string, out io.Writer) (found bool, link string, err error) {
	body, err := repo.Blob(ctx, layer, 0, -1)
	if err != nil {
		return false, "", err
	}
	defer body.Close()
	plain, closer, err := decompress(body)
	if err != nil {
		return false, "", fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	defer closer()
	gone := false
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			if gone {
				return true, "", fmt.Errorf("%w: %w", errGone, oci.ErrNotFound)
			}
			return false, "", nil
		}
		if err != nil {
			return false, "", fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		entry := path.Clean("/" + h.Name)[1:]
		dir, base := path.Split(entry)
		switch {
		case base == ".wh..wh..opq" && strings.HasPrefix(name, dir),
			strings.HasPrefix(base, ".wh.") && under(name, dir+strings.TrimPrefix(base, ".wh.")):
			gone = true // unless this layer itself has it
		case h.Typeflag == tar.TypeSymlink && under(name, entry):
			target := h.Linkname
			if !path.IsAbs(target) {
				target = path.Join("/", dir, target)
			}
			return true, path.Join(target, strings.TrimPrefix(name, entry))[1:], nil
		case entry != name:
		case h.Typeflag == tar.TypeLink:
			return true, path.Clean("/" + h.Linkname)[1:], nil
		case h.Typeflag == tar.TypeReg:
			_, err := io.Copy(out, tr)
			return true, "", err
		case h.Typeflag == tar.TypeDir:
			return true, "", usage("it is a directory")
		default:
			return true, "", usage("it is no regular file")
		}
	}
}

// under tells whether name is entry, or below it.
func under(name, entry string) bool { return name == entry || strings.HasPrefix(name, entry+"/") }

func decompress(r io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	head, _ := buffered.Peek(4)
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case len(head) == 4 && head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f && head[3] == 0xfd:
		z, err := zstd.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return buffered, func() {}, nil
}
