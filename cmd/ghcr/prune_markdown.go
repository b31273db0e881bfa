package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	ghcr "github.com/llm-dev-ops/ghcr"
)

// maxMarkdown bounds what --markdown prints, which ends up in comments and pages.
const maxMarkdown = 8 << 20

// markdown is the report for people who read it on GitHub: the verdict, a table of
// totals, and for each package what becomes of its images. It says so if it was cut.
func (r *pruneReport) markdown(limit int) string {
	var b strings.Builder
	t := &r.Totals
	title := "Prune plan"
	if r.Applied {
		title = "Prune"
	}
	fmt.Fprintf(&b, "### %s: %s\n\n", title, r.verdict())
	b.WriteString("| package | versions | delete | untag | keep | blocked | frees up to |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range r.list {
		one := newPruneReport(&planSet{list: []*planned{p}}).Totals
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s |\n", cell(p.name()), one.Versions, one.Delete, one.Untag, one.Kept, one.Held, size(one.UniqueBytes))
	}
	if len(r.list) > 1 {
		fmt.Fprintf(&b, "| all | %d | %d | %d | %d | %d | %s |\n", t.Versions, t.Delete, t.Untag, t.Kept, t.Held, size(t.UniqueBytes))
	}
	fmt.Fprintf(&b, "\nPlan `%s`: %s.\n\n", r.Digest, t.takes())
	for _, p := range r.list {
		for _, refusal := range p.plan.Refused {
			fmt.Fprintf(&b, "> **Refused** %s: %s\n\n", cell(p.name()), cell(refusal.Text))
		}
	}
	for _, u := range r.Unplanned {
		fmt.Fprintf(&b, "> **Not planned** %s: %s\n\n", cell(u.Package), cell(u.Why))
	}
	for _, name := range r.Journals {
		if t.Outcomes[string(ghcr.Done)] == 0 {
			break
		}
		fmt.Fprintf(&b, "To take it back, for 30 days: ghcr restore --from %s (a file of this machine; keep it)\n\n", cell(shellWord(name)))
	}
	cut := 0
	section := func(title string, head []string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		var s strings.Builder
		fmt.Fprintf(&s, "<details><summary>%s</summary>\n\n", title)
		writeCells(&s, head)
		s.WriteString(strings.Repeat("|---", len(head)) + "|\n")
		for i, row := range rows {
			if b.Len()+s.Len() > limit-1000 {
				cut += len(rows) - i
				break
			}
			writeCells(&s, row)
		}
		s.WriteString("\n</details>\n\n")
		b.WriteString(s.String())
	}
	var bad [][]string
	for _, x := range r.Results {
		if !isDone(x.Outcome) {
			bad = append(bad, []string{string(x.Outcome), string(x.Do), imageName(x.Tags, x.Digest), printable(x.Why)})
		}
	}
	section(plural(len(bad), "action")+" not done", []string{"outcome", "do", "image", "why"}, bad)
	for _, p := range r.list {
		// The most serious first, for the end may be cut off.
		name := cell(p.name())
		held := p.keptRows(false)
		for i := range held {
			held[i] = []string{held[i][1], held[i][len(held[i])-1]}
		}
		kept := p.keptGroups(false)
		for i := range kept {
			kept[i] = kept[i][1:]
		}
		section(name+": blocked", []string{"image", "why"}, held)
		section(name+": what goes", []string{"do", "image", "what", "with it", "size", "why"}, p.table(0))
		section(name+": what stays", []string{"versions", "why", "newest"}, kept)
	}
	if cut > 0 {
		fmt.Fprintf(&b, "%s left out, for there is not room for more.\n\n", plural(cut, "row"))
	}
	return b.String()
}

// verdict is the first line: what would be done, or what was.
func (r *pruneReport) verdict() string {
	text := r.planVerdict()
	if n := len(r.Unplanned); n > 0 {
		text += "; " + plural(n, "package") + " could not be planned"
	}
	return text
}

func (r *pruneReport) planVerdict() string {
	t := &r.Totals
	switch {
	case t.Refused > 0 && !r.Applied:
		return "refused, for it goes beyond a limit (" + t.imperative() + ")"
	case !r.Applied && t.actions() == 0:
		return t.imperative()
	case !r.Applied:
		return t.imperative() + "; nothing was changed"
	}
	text := plural(t.Deleted, "version") + " deleted"
	for _, name := range slices.Sorted(maps.Keys(t.Outcomes)) {
		if name != string(ghcr.Done) {
			text += fmt.Sprintf(", %d %s", t.Outcomes[name], name)
		}
	}
	if n, known := r.freed(); known && n > 0 {
		text += ", " + size(n) + " freed"
	}
	return text
}

func writeCells(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| " + cell(c) + " ")
	}
	b.WriteString("|\n")
}
