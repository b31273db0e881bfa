package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	ghcr "github.com/llm-dev-ops/ghcr"
)

// GitHub shows ten annotations of a kind for a step, and takes summaries up to 1 MiB.
const (
	maxAnnotations = 10
	maxSummary     = 900 << 10
)

// writeActions tells GitHub Actions of a prune: the summary of the step, its outputs,
// and annotations. Elsewhere it does nothing.
func (a *app) writeActions(r *pruneReport) error {
	if !a.inActions() {
		return nil
	}
	r.annotate(a.stderr)
	return errors.Join(
		appendTo(a.getenv("GITHUB_STEP_SUMMARY"), r.markdown(maxSummary)),
		appendTo(a.getenv("GITHUB_OUTPUT"), r.outputs()),
	)
}

// outputs are those of the step: counts, and names of files, which have no line breaks.
func (r *pruneReport) outputs() string {
	t := &r.Totals
	freed := ""
	if n, known := r.freed(); known {
		freed = fmt.Sprint(n)
	}
	failed := t.notDone() + t.Outcomes[string(ghcr.Changed)]
	var b strings.Builder
	for _, out := range []struct{ name, value string }{
		{"to-delete", fmt.Sprint(t.Delete)},
		{"deleted", fmt.Sprint(t.Deleted)},
		{"failed", fmt.Sprint(failed)},
		{"blocked", fmt.Sprint(t.Held + t.Outcomes[string(ghcr.Blocked)])},
		{"kept", fmt.Sprint(t.Kept)},
		{"left", fmt.Sprint(t.Left)},
		{"unplanned", fmt.Sprint(len(r.Unplanned))},
		{"plan-digest", r.Digest.String()},
		{"frees-bytes", fmt.Sprint(t.UniqueBytes)},
		{"freed-bytes", freed},
		{"journal", strings.Join(r.Journals, " ")},
	} {
		fmt.Fprintf(&b, "%s=%s\n", out.name, strings.NewReplacer("\r", "", "\n", " ").Replace(out.value))
	}
	return b.String()
}

// annotate writes workflow commands: errors for what failed, and warnings for what is
// blocked.
func (r *pruneReport) annotate(w io.Writer) {
	var failed, blocked []string
	for _, p := range r.list {
		for _, refusal := range p.plan.Refused {
			failed = append(failed, p.name()+": "+refusal.Text)
		}
		for _, d := range p.plan.Kept {
			if isHeld(d) {
				blocked = append(blocked, fmt.Sprintf("%s %s: rule %s would delete it, but %s", p.name(), imageName(d.Tags, d.Digest), printable(d.Blocked), p.keptWhy(d)))
			}
		}
	}
	for _, x := range r.Results {
		text := fmt.Sprintf("%s %s: %s", x.Ref, shownTags(x.Tags), x.Why)
		switch x.Outcome {
		case ghcr.Blocked:
			blocked = append(blocked, text)
		case ghcr.Failed, ghcr.Changed, ghcr.Pending, ghcr.Unknown:
			failed = append(failed, text)
		}
	}
	annotations(w, "error", failed)
	annotations(w, "warning", blocked)
}

func annotations(w io.Writer, kind string, texts []string) {
	for i, text := range texts {
		if i == maxAnnotations-1 && len(texts) > maxAnnotations {
			text = fmt.Sprintf("and %d more; the summary of the step has them", len(texts)-i)
		}
		if i == maxAnnotations {
			return
		}
		fmt.Fprintf(w, "::%s title=ghcr prune::%s\n", kind, escapeCommand(text))
	}
}
