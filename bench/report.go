//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what a whole run found.
type report struct {
	machine  string
	tables   []table
	latency  string
	emulator string
	took     time.Duration
}

// verdict compares a table with the row's goal.
func (r row) verdict(t table) string {
	ours, best := t.ours(), t.best()
	if ours == nil || best == nil {
		return "nothing to compare"
	}
	text := fmt.Sprintf("%.2f times as fast as %s", best.wall()/ours.wall(), best.client)
	g, ok := r.goals[t.where.name]
	if !ok {
		return text
	}
	var missed []string
	if best.wall()/ours.wall() < g.faster {
		missed = append(missed, "the time")
	}
	if g.cpu && ours.cpu() > leastCPU(t)/notSlower {
		missed = append(missed, "the CPU time")
	}
	if g.requests > 0 && ours.requests > int64(g.requests) {
		missed = append(missed, "the requests")
	}
	if ours.peak() > maxPeak {
		missed = append(missed, "the memory")
	}
	if len(missed) > 0 {
		return text + ", goal " + g.String() + " missed in " + strings.Join(missed, " and ")
	}
	return text + ", goal " + g.String() + " reached"
}

// maxPeak is the memory that no row may need more of, in MB.
const maxPeak = 64

func leastCPU(t table) float64 {
	least := 0.0
	for _, f := range t.figures {
		if f.client != "ghcr" && (least == 0 || f.cpu() < least) {
			least = f.cpu()
		}
	}
	return least
}

func (g goal) String() string {
	text := fmt.Sprintf("%g", g.faster)
	if g.faster == notSlower {
		text = "not slower"
	}
	if g.requests > 0 {
		text += fmt.Sprintf(" in %d request", g.requests)
	}
	if g.cpu {
		text += ", no more CPU"
	}
	return text
}

// describeMachine says what the figures were measured on.
func describeMachine(ctx context.Context, b *bench) string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if _, name, ok := strings.Cut(line, "model name"); ok {
				model = strings.Trim(name, " \t:\n")
				break
			}
		}
	}
	skopeo, err := exec.CommandContext(ctx, "skopeo", "--version").Output()
	if err != nil {
		skopeo = []byte("skopeo, version unknown")
	}
	versions := []string{strings.Replace(strings.TrimSpace(string(skopeo)), " version", "", 1)}
	for name, module := range modules {
		versions = append(versions, name+" "+module[strings.LastIndex(module, "@v")+2:])
	}
	slices.Sort(versions)
	return fmt.Sprintf("%d cores (%s), %s, data in %s. %s (the CNCF distribution).",
		runtime.NumCPU(), model, runtime.Version(), scratchKind(b.dir), strings.Join(versions, ", "))
}

func scratchKind(dir string) string {
	if strings.HasPrefix(dir, "/dev/shm/") {
		return "memory"
	}
	return "a disk"
}

// The generated part of the document lies between these lines.
const (
	beginMark = "<!-- written by go run ./bench: begin -->"
	endMark   = "<!-- written by go run ./bench: end -->"
)

// writeInto replaces the generated part of a document.
func (r report) writeInto(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n"+r.markdown()+endMark+after), 0o644)
}

func (r report) markdown() string {
	var w strings.Builder
	fmt.Fprintf(&w, "\nMeasured on %s, in one run of %s. %s\n", time.Now().UTC().Format(time.DateOnly), r.took, r.machine)
	for _, where := range places {
		fmt.Fprintf(&w, "\n### %s\n\n", where.title)
		r.summary(&w, where)
		for _, t := range r.tables {
			if t.where.name == where.name {
				t.markdown(&w)
			}
		}
	}
	fmt.Fprintf(&w, "\n### The specification's own numbers\n\n%s", r.latency)
	fmt.Fprintf(&w, "\n### The emulator\n\n%s\n", r.emulator)
	return w.String()
}

func (r report) summary(w *strings.Builder, where place) {
	fmt.Fprintf(w, "| work | times as fast as the best peer | goal | reached |\n|---|---|---|---|\n")
	for _, t := range r.tables {
		ours, best := t.ours(), t.best()
		if t.where.name != where.name || ours == nil || best == nil {
			continue
		}
		wanted, reached := "", ""
		if g, ok := t.row.goals[where.name]; ok {
			wanted, reached = g.String(), "yes"
			if strings.Contains(t.row.verdict(t), "missed") {
				reached = "**no**"
			}
		}
		fmt.Fprintf(w, "| %s | %.2f (%s) | %s | %s |\n", t.row.name, best.wall()/ours.wall(), best.client, wanted, reached)
	}
}

func (t table) markdown(w *strings.Builder) {
	fmt.Fprintf(w, "\n**%s** (%d runs)\n\n| client | wall, s | of the best peer | CPU, s | peak, MB | requests |\n|---|---|---|---|---|---|\n", t.row.name, len(t.figures[0].runs))
	best := t.best()
	for _, f := range t.figures {
		requests := ""
		if f.requests > 0 {
			requests = fmt.Sprint(f.requests)
		}
		fmt.Fprintf(w, "| %s | %.3f | %.2f | %.2f | %.0f | %s |\n", f.client, f.wall(), f.wall()/best.wall(), f.cpu(), f.peak(), requests)
	}
}
