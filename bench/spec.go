//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// callers is how many use the registry at once when latencies are measured.
const callers = 16

// specification measures NFR-PERF-001 to 003 over the far link, with the library
// as a program would use it.
func (b *bench) specification(ctx context.Context) (text string, err error) {
	direct, stop, err := b.startRegistry(ctx, "specification")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	way, stopLink, err := farLink.open(direct)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stopLink()) }()
	client, err := ghcr.New(ghcr.Options{PlainHTTP: true})
	if err != nil {
		return "", err
	}
	repo := func(name string) (*registry.Repository, error) {
		ref, err := client.ParseRef(way + "/" + name)
		if err != nil {
			return nil, err
		}
		return client.Repository(ref)
	}
	app, err := repo("acme/app")
	if err != nil {
		return "", err
	}
	layout, err := transfer.OpenLayout(b.layout(many))
	if err != nil {
		return "", err
	}
	if _, err := transfer.Copy(ctx, layout, "v1", app, "v1", transfer.Options{}); err != nil {
		return "", err
	}
	m, err := app.Manifest(ctx, "v1")
	if err != nil {
		return "", err
	}
	for i := range 100 {
		if err := app.PutManifest(ctx, fmt.Sprintf("tag-%03d", i), m); err != nil {
			return "", err
		}
	}
	get, err := latencies(ctx, 100, func(ctx context.Context) error {
		_, err := app.Manifest(ctx, "v1")
		return err
	})
	if err != nil {
		return "", err
	}
	tags, err := latencies(ctx, 100, func(ctx context.Context) error {
		_, err := app.TagNames(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	rate, err := b.uploadRate(ctx, repo)
	if err != nil {
		return "", err
	}
	var w strings.Builder
	fmt.Fprintf(&w, "With %d callers at once, over the link.\n\n| id | what | limit | median | p99 | reached |\n|---|---|---|---|---|---|\n", callers)
	line := func(id, what string, limit time.Duration, all []time.Duration) {
		p99 := all[len(all)*99/100]
		fmt.Fprintf(&w, "| %s | %s | %s | %s | %s | %s |\n", id, what, limit, all[len(all)/2].Round(time.Millisecond/10), p99.Round(time.Millisecond/10), yes(p99 < limit))
	}
	line("NFR-PERF-001", fmt.Sprintf("manifest get, %d times", len(get)), 500*time.Millisecond, get)
	line("NFR-PERF-002", fmt.Sprintf("tag list of 101 tags, %d times", len(tags)), time.Second, tags)
	fmt.Fprintf(&w, "| NFR-PERF-003 | upload, %d blobs of 32 MiB | over 50 MB/s | %.0f MB/s | | %s |\n", callers, rate/1e6, yes(rate > 50e6))
	return w.String(), nil
}

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// latencies has each caller do something so many times, and returns how long each
// took, in order.
func latencies(ctx context.Context, times int, do func(context.Context) error) ([]time.Duration, error) {
	all := make([]time.Duration, callers*times)
	group, ctx := errgroup.WithContext(ctx)
	for i := range callers {
		group.Go(func() error {
			for j := range times {
				began := time.Now()
				if err := do(ctx); err != nil {
					return err
				}
				all[i*times+j] = time.Since(began)
			}
			return nil
		})
	}
	err := group.Wait()
	slices.Sort(all)
	return all, err
}

// uploadRate is how many bytes a second all callers upload together.
func (b *bench) uploadRate(ctx context.Context, repo func(string) (*registry.Repository, error)) (float64, error) {
	layout := &layoutMaker{dir: filepath.Join(b.dir, "scratch", "upload")}
	blobs := make([]oci.Descriptor, callers)
	for i := range blobs {
		var err error
		if blobs[i], err = layout.randomLayer('u', 32*mib); err != nil {
			return 0, err
		}
	}
	if err := layout.finish(blobs[0]); err != nil {
		return 0, err
	}
	source, err := transfer.OpenLayout(layout.dir)
	if err != nil {
		return 0, err
	}
	target, err := repo("acme/upload")
	if err != nil {
		return 0, err
	}
	var total int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range blobs {
		total += d.Size
		group.Go(func() error {
			_, err := target.PutBlob(ctx, d, nil, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
				return source.Blob(ctx, d, offset, -1)
			})
			return err
		})
	}
	err = group.Wait()
	return float64(total) / time.Since(began).Seconds(), err
}
