//go:build linux

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// hotPackages have benchmarks of what runs for every byte, request or manifest.
var hotPackages = []string{"./oci", "./transport", "./registry", "./transfer"}

// keptFigures are those of the last release.
const keptFigures = "bench/release.txt"

// hot runs the Go benchmarks and compares them with the kept figures.
func hot(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench hot", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "keep these figures as those of the release in "+keptFigures)
	count := flags.Int("count", 6, "runs of each benchmark")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "0.5s", "-count", fmt.Sprint(*count)}, hotPackages...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.Bytes())
	}
	if *keep {
		return os.WriteFile(keptFigures, out.Bytes(), 0o644)
	}
	fresh, err := os.CreateTemp("", "ghcr-bench-*.txt")
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	if _, err := fresh.Write(out.Bytes()); err != nil {
		return err
	}
	if err := fresh.Close(); err != nil {
		return err
	}
	compare := exec.CommandContext(ctx, "go", "run", "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da", "kept="+keptFigures, "now="+fresh.Name())
	compare.Stdout, compare.Stderr = os.Stdout, os.Stderr
	return compare.Run()
}
