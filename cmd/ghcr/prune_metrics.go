package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/retain"
)

// pruneOutcomes are all that may become of an action that is tried. A series that is not
// there can't be told from one that was never written, so there is one for each.
var pruneOutcomes = []ghcr.Outcome{ghcr.Done, ghcr.AlreadyGone, ghcr.Blocked, ghcr.Changed, ghcr.Pending, ghcr.Unknown, ghcr.Failed}

// writeMetrics writes what a run came to for node_exporter's textfile collector. Without a
// report, nothing came of it but its exit code.
func (a *app) writeMetrics(ctx context.Context, name string, r *pruneReport, began time.Time, runErr error) error {
	if r == nil {
		r = newPruneReport(&planSet{})
	}
	var b bytes.Buffer
	r.metrics(&b, began, time.Now(), a.exitCode(ctx, runErr))
	if err := replaceFile(name, b.Bytes()); err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	return nil
}

// metrics prints figures in Prometheus' text format. The labels are the package and the
// outcome alone: there are few of these, and they last.
func (r *pruneReport) metrics(w io.Writer, began, ended time.Time, code int) {
	m := exposition{w}
	m.gauge("last_run_timestamp_seconds", "When the last run ended.", sample{value: float64(ended.UnixMilli()) / 1000})
	m.gauge("duration_seconds", "How long the last run took.", sample{value: ended.Sub(began).Seconds()})
	m.gauge("exit_code", "The exit code of the last run; ghcr help exit-codes explains it.", sample{value: float64(code)})
	m.gauge("applied", "1 if the last run carried plans out, 0 if it only planned.", sample{value: number(r.Applied)})

	packages := func(of func(p *planned) float64) (list []sample) {
		for _, p := range r.list {
			list = append(list, sample{p.name(), "", of(p)})
		}
		return list
	}
	looked := packages(func(*planned) float64 { return 1 })
	for _, u := range r.Unplanned {
		looked = append(looked, sample{pkg: u.Package})
	}
	m.gauge("package_planned", "1 if a plan could be made for the package, 0 if not: then no other figure speaks of it.", looked...)
	totals := map[*planned]pruneTotals{}
	for _, p := range r.list {
		totals[p] = newPruneReport(&planSet{list: []*planned{p}}).Totals
	}
	m.gauge("plan_refused", "1 if a limit refuses the plan.", packages(func(p *planned) float64 { return number(totals[p].Refused > 0) })...)
	m.gauge("versions", "Versions in the package when it was planned.", packages(func(p *planned) float64 { return float64(totals[p].Versions) })...)
	m.gauge("versions_to_delete", "Versions that the plan deletes.", packages(func(p *planned) float64 { return float64(totals[p].Delete) })...)
	m.gauge("tags_to_untag", "Tags that the plan takes off.", packages(func(p *planned) float64 { return float64(totals[p].Untag) })...)
	m.gauge("versions_kept", "Versions that the plan keeps.", packages(func(p *planned) float64 { return float64(totals[p].Kept) })...)
	m.gauge("versions_blocked", "Of those kept, versions that a rule would delete.", packages(func(p *planned) float64 { return float64(totals[p].Held) })...)
	m.gauge("versions_unreadable", "Versions whose manifests could not be read.", packages(func(p *planned) float64 {
		return float64(countOf(p.plan.Health, func(h retain.Ailment) bool { return h.Health == retain.Unreadable }))
	})...)
	m.gauge("reclaimable_bytes", "Bytes that nothing needs any more once the plan is carried out, at most.", packages(func(p *planned) float64 { return float64(totals[p].UniqueBytes) })...)
	if !r.Applied {
		return
	}
	m.gauge("versions_deleted", "Versions that the last run, or the one that it went on from, deleted.", packages(func(p *planned) float64 {
		return float64(countOf(r.Results, func(x pruneResult) bool {
			return r.of(x, p) && x.Do == retain.Delete && x.Outcome == ghcr.Done
		}))
	})...)
	var actions []sample
	for _, p := range r.list {
		left := len(p.plan.Actions) // of a package that was not begun, there are no results
		for _, outcome := range pruneOutcomes {
			n := countOf(r.Results, func(x pruneResult) bool { return r.of(x, p) && x.Outcome == outcome })
			actions = append(actions, sample{p.name(), string(outcome), float64(n)})
			left -= n
		}
		actions = append(actions, sample{p.name(), string(ghcr.Skipped), float64(left)})
	}
	m.gauge("actions", "What became of the actions of the last run, by outcome.", actions...)
}

func (r *pruneReport) of(x pruneResult, p *planned) bool {
	return strings.HasPrefix(x.Ref, p.name()+"@")
}

func countOf[T any](list []T, is func(T) bool) (n int) {
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// sample is one value. Labels that are empty are left out.
type sample struct {
	pkg, outcome string
	value        float64
}

// exposition writes Prometheus' text format.
type exposition struct{ w io.Writer }

// gauge writes one metric with all its samples; without any, none.
func (m exposition) gauge(name, help string, samples ...sample) {
	if len(samples) == 0 {
		return
	}
	name = "ghcr_prune_" + name
	fmt.Fprintf(m.w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
	for _, s := range samples {
		var labels []string
		for _, l := range [][2]string{{"package", s.pkg}, {"outcome", s.outcome}} {
			if l[1] != "" {
				labels = append(labels, l[0]+`="`+labelEscaper.Replace(l[1])+`"`)
			}
		}
		text := ""
		if len(labels) > 0 {
			text = "{" + strings.Join(labels, ",") + "}"
		}
		fmt.Fprintf(m.w, "%s%s %s\n", name, text, strconv.FormatFloat(s.value, 'f', -1, 64))
	}
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// replaceFile writes a file that others read, aside and then in one step, so that nobody
// sees half of it. The collector, which is mostly another user, must be able to read it.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
