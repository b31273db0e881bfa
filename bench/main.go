//go:build linux

// Command bench measures ghcr beside crane, oras, regctl and skopeo: the same work,
// in turn, within one run, on loopback and over a link with latency and limited
// bandwidth. It installs the other clients, makes the images, starts the
// registries, and writes docs/performance.md.
//
//	go run ./bench                      everything, about half an hour
//	go run ./bench -rows 'push' -runs 3 some of it, printed only
//	go run ./bench hot                  the Go benchmarks against the kept figures
//
// Begin reading with [run]; rows.go holds what is measured and what it must reach.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "measure":
		err = measureHere(os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == "hot":
		err = hot(ctx, os.Args[2:])
	default:
		err = run(ctx, os.Args[1:])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what a run was asked for.
type settings struct {
	runs    int
	rows    *regexp.Regexp
	clients []string
	dir     string
	out     string
	ghcr    string
}

func parseSettings(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.runs, "runs", 5, "counted runs of each client; large images over the link get 2")
	rows := flags.String("rows", "", "only rows whose name matches this `REGEXP`; then nothing is written")
	clients := flags.String("clients", strings.Join(allClients, ","), "clients to measure")
	flags.StringVar(&s.dir, "dir", defaultDir(), "`DIR` for tools and images, which are kept, and for scratch data")
	flags.StringVar(&s.out, "out", "docs/performance.md", "`FILE` whose tables are replaced, after a whole run")
	flags.StringVar(&s.ghcr, "ghcr", "", "measure this `BINARY` instead of building one")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	var err error
	if s.rows, err = regexp.Compile(*rows); err != nil {
		return s, fmt.Errorf("-rows: %w", err)
	}
	s.clients = strings.Split(*clients, ",")
	for _, name := range s.clients {
		if !slices.Contains(allClients, name) {
			return s, fmt.Errorf("-clients: there is no %q; the clients are %s", name, strings.Join(allClients, ", "))
		}
	}
	if s.runs < 1 {
		return s, fmt.Errorf("-runs %d: want 1 or more", s.runs)
	}
	if *rows != "" || len(s.clients) != len(allClients) || s.ghcr != "" {
		s.out = ""
	}
	s.dir, err = filepath.Abs(s.dir)
	return s, err
}

// defaultDir is in memory where there is much of it, so that no disk is measured.
func defaultDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm/ghcr-bench"
	}
	return filepath.Join(os.TempDir(), "ghcr-bench")
}

func run(ctx context.Context, args []string) error {
	s, err := parseSettings(args)
	if err != nil {
		return err
	}
	began := time.Now()
	b := &bench{settings: s, log: os.Stderr}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	var rep report
	rep.machine = describeMachine(ctx, b)
	for _, r := range rows {
		for _, where := range places {
			if !b.chosen(r, where) {
				continue
			}
			t, err := b.measureRow(ctx, r, where)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", r.name, where.name, err)
			}
			rep.tables = append(rep.tables, t)
			t.print(os.Stdout)
		}
	}
	if s.rows.MatchString(specificationWork) {
		if rep.latency, err = b.specification(ctx); err != nil {
			return err
		}
		fmt.Println(rep.latency)
	}
	if s.rows.MatchString(emulatorWork) {
		if rep.emulator, err = b.emulator(ctx); err != nil {
			return err
		}
		fmt.Println(rep.emulator)
	}
	rep.took = time.Since(began).Round(time.Minute)
	if s.out == "" {
		return nil
	}
	return rep.writeInto(s.out)
}

// What is measured besides the rows goes by these names.
const (
	specificationWork = "the specification's numbers"
	emulatorWork      = "the emulator"
)

// chosen tells whether a row is to be measured in a place.
func (b *bench) chosen(r row, where place) bool {
	return r.measuredAt(where) && b.rows.MatchString(r.name+" "+where.name)
}

// bench is one run: what was set up, and what is to be taken down.
type bench struct {
	settings
	log  io.Writer
	self string            // this program, to measure with
	bin  map[string]string // the clients' binaries
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.log, "bench: "+format+"\n", args...) }
