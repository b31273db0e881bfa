//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// emulator measures how fast ghcr serve answers a load from this process, on the
// same cores.
func (b *bench) emulator(ctx context.Context) (text string, err error) {
	scratch := filepath.Join(b.dir, "scratch")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	host, stop, err := b.startEmulator(ctx, "emulator", "spec")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	h, err := b.newHome(ctx, "ghcr", nil)
	if err != nil {
		return "", err
	}
	if _, err := b.measure(ctx, h, b.command("ghcr", push, b.layout(large), host+"/acme/large:v1")); err != nil {
		return "", err
	}
	if _, err := b.measure(ctx, h, b.command("ghcr", push, b.layout(index), host+"/acme/app:v1")); err != nil {
		return "", err
	}
	gets, err := load(ctx, 2*time.Second, 64, func(client *http.Client) (int64, error) {
		return fetch(ctx, client, "http://"+host+"/v2/acme/app/manifests/v1")
	})
	if err != nil {
		return "", err
	}
	c, err := b.measure(ctx, h, b.command("ghcr", pull, host+"/acme/large:v1", filepath.Join(scratch, "pulled")))
	if err != nil {
		return "", err
	}
	rate := 4 * 512 * mib / c.Wall
	return fmt.Sprintf("| what | goal | measured | reached |\n|---|---|---|---|\n"+
		"| manifest GETs, 64 connections | 8000/s | %.0f/s | %s |\n"+
		"| pull of 2 GiB with ghcr, written to files and verified | 0.5 GB/s | %.2f GB/s | %s |\n",
		gets, yes(gets >= 8000), rate/1e9, yes(rate >= 0.5e9)), nil
}

// load has so many connections do something for a while, and returns how often a
// second it was done.
func load(ctx context.Context, long time.Duration, connections int, do func(*http.Client) (int64, error)) (float64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	began := time.Now()
	counts := make([]int, connections)
	group, ctx := errgroup.WithContext(ctx)
	for i := range connections {
		group.Go(func() error {
			for ctx.Err() == nil && time.Since(began) < long {
				if _, err := do(client); err != nil {
					return err
				}
				counts[i]++
			}
			return ctx.Err()
		})
	}
	err := group.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(began).Seconds(), err
}

func fetch(ctx context.Context, client *http.Client, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}
