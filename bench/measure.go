//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cost is what one run of a command took.
type cost struct {
	Wall, CPU float64 // seconds
	Peak      float64 // MB resident
	Failed    string
}

// measureHere runs a command and prints its cost. It is a process of its own,
// because a child begins with the resident memory of its parent on its account,
// and that of a benchmark is larger than that of what is measured.
func measureHere(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	var words strings.Builder
	cmd.Stderr = &words
	began := time.Now()
	err := cmd.Run()
	c := cost{Wall: time.Since(began).Seconds()}
	if cmd.ProcessState == nil {
		return err
	}
	if err != nil {
		c.Failed = err.Error() + ": " + words.String()
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return fmt.Errorf("the system does not tell what a process used")
	}
	c.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	c.Peak = float64(usage.Maxrss) * 1024 / 1e6
	return json.NewEncoder(os.Stdout).Encode(c)
}

// measure runs a client once.
func (b *bench) measure(ctx context.Context, h home, args []string) (cost, error) {
	cmd := exec.CommandContext(ctx, b.self, append([]string{"measure"}, args...)...)
	cmd.Env = h.environment()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	var c cost
	if err := json.Unmarshal(out, &c); err != nil {
		return cost{}, err
	}
	if c.Failed != "" {
		return c, fmt.Errorf("%s: %s", strings.Join(args, " "), c.Failed)
	}
	return c, nil
}

// figures are the costs of a client's counted runs.
type figures struct {
	client   string
	runs     []cost
	requests int64
}

func (f figures) median(of func(cost) float64) float64 {
	values := make([]float64, len(f.runs))
	for i, c := range f.runs {
		values[i] = of(c)
	}
	return median(values)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func (f figures) wall() float64 { return f.median(func(c cost) float64 { return c.Wall }) }
func (f figures) cpu() float64  { return f.median(func(c cost) float64 { return c.CPU }) }
func (f figures) peak() float64 { return f.median(func(c cost) float64 { return c.Peak }) }

// table is a row measured in one place.
type table struct {
	row     row
	where   place
	figures []figures
}

// ours and best find the figures that the targets compare.
func (t table) ours() *figures { return t.find(func(f figures) bool { return f.client == "ghcr" }) }

func (t table) best() *figures {
	var best *figures
	for i, f := range t.figures {
		if f.client == "ghcr" {
			continue
		}
		if best == nil || f.wall() < best.wall() {
			best = &t.figures[i]
		}
	}
	return best
}

func (t table) find(is func(figures) bool) *figures {
	if i := slices.IndexFunc(t.figures, is); i >= 0 {
		return &t.figures[i]
	}
	return nil
}

// print shows the table on a terminal.
func (t table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s (%s)\n", t.row.name, t.where.name, t.row.verdict(t))
	best := t.best()
	for _, f := range t.figures {
		ratio := ""
		if best != nil {
			ratio = fmt.Sprintf("%6.2f of best", f.wall()/best.wall())
		}
		low, high := f.runs[0].Wall, f.runs[0].Wall
		for _, c := range f.runs {
			low, high = min(low, c.Wall), max(high, c.Wall)
		}
		fmt.Fprintf(w, "  %-7s %8.3f s [%.3f-%.3f] %s  cpu %6.3f s  peak %5.1f MB  %d requests\n",
			f.client, f.wall(), low, high, ratio, f.cpu(), f.peak(), f.requests)
	}
}
