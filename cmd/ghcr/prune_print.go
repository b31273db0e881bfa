package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/retain"
)

// printPlans prints the plans in the form that was asked for.
func (a *app) printPlans(r *pruneReport, f pruneFlags) error {
	if f.stats {
		r.Stats = a.count.byKind()
	}
	err := a.writeActions(r)
	switch {
	case f.ndjson:
		enc := json.NewEncoder(a.stdout)
		for _, p := range r.list {
			err = errors.Join(err, enc.Encode(struct {
				Type string       `json:"type"`
				Plan *retain.Plan `json:"plan"`
			}{"plan", p.plan}), p.encodeBlocked(enc))
		}
		return err
	case f.markdown:
		return errors.Join(err, a.print(result{data: r, ids: r.ids(), text: r.markdown(maxMarkdown)}))
	}
	out := result{data: r, ids: r.ids()}
	limit := maxShown
	if f.all {
		limit = 0
	}
	if a.tables || a.isTerminal(a.stdout) {
		var b bytes.Buffer
		for _, p := range r.list {
			if len(r.list) > 1 {
				fmt.Fprintf(&b, "%s\n", a.bold(p.name()))
			}
			rows := slices.Concat(p.table(limit), p.keptRows(f.all))
			if len(rows) > 0 {
				printColumns(&b, append([][]string{{"DO", "IMAGE", "WHAT", "WITH IT", "SIZE", "WHY"}}, rows...))
			}
			printColumns(&b, p.keptGroups(f.all))
		}
		out.text = b.String()
	} else {
		out.head = []string{""}
		for _, p := range r.list {
			out.rows = append(out.rows, p.plain(f.all)...)
		}
	}
	err = errors.Join(err, a.print(out))
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: %s\n", r.summary())
		for _, p := range r.list {
			a.note(p.health())
		}
	}
	return err
}

// ids are the versions that something becomes of.
func (r *pruneReport) ids() []string {
	var ids []string
	for _, p := range r.list {
		for _, x := range p.plan.Actions {
			ids = append(ids, p.ref(x.Digest))
		}
	}
	return ids
}

// maxShown is how many images of a rule a table has, unless all are asked for.
const maxShown = 10

// table has a row for each image that something becomes of, by rule, with what goes
// along counted; zero is no limit.
func (p *planned) table(limit int) [][]string {
	type sum struct {
		versions int
		bytes    int64
	}
	along := map[oci.Digest]sum{}
	byRule := map[string][]retain.Action{}
	var rules []string
	for _, x := range p.plan.Actions {
		if x.Do == retain.Delete && x.Because != "" {
			w := along[x.Because]
			along[x.Because] = sum{w.versions + 1, w.bytes + x.Size}
			continue
		}
		rule := x.Rule + " " + string(x.Do)
		if byRule[rule] == nil {
			rules = append(rules, rule)
		}
		byRule[rule] = append(byRule[rule], x)
	}
	var rows [][]string
	for _, rule := range rules {
		list := byRule[rule]
		var more sum
		cut := limit > 0 && len(list) > limit+1
		for i, x := range list {
			w := along[x.Digest]
			if cut && i >= limit {
				more = sum{more.versions + w.versions, more.bytes + w.bytes + x.Size}
				continue
			}
			row := []string{string(x.Do), imageName(x.Tags, x.Digest), string(x.Role), "", "", p.actionWhy(x)}
			if x.Do == retain.Delete {
				row[3], row[4] = withIt(w.versions), size(x.Size+w.bytes)
			}
			rows = append(rows, row)
		}
		if cut {
			row := []string{string(list[0].Do), fmt.Sprintf("and %d more", len(list)-limit), "", "", "", "rule " + printable(list[0].Rule)}
			if list[0].Do == retain.Delete {
				row[3], row[4] = withIt(more.versions), size(more.bytes)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// withIt is how many go along.
func withIt(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "version")
}

// actionWhy says why something is done.
func (p *planned) actionWhy(x retain.Action) string {
	why := "rule " + printable(x.Rule)
	switch x.Do {
	case retain.Untag:
		why += ": takes off " + shownTags(x.Off)
		if x.Because != "" {
			why += ", and stays for " + p.nameOf(x.Because)
		}
	case retain.Retag:
		why += ": gets the tag " + printable(x.On)
	}
	return why
}

// nameOf is a version by a tag, or else by its digest.
func (p *planned) nameOf(d oci.Digest) string {
	if p.names == nil {
		p.names = map[oci.Digest]string{}
		for _, x := range p.plan.Actions {
			p.names[x.Digest] = imageName(x.Tags, x.Digest)
		}
		for _, k := range p.plan.Kept {
			p.names[k.Digest] = imageName(k.Tags, k.Digest)
		}
	}
	if name, ok := p.names[d]; ok {
		return name
	}
	return shortDigest(d)
}

// plain has a line for each action, and for each version that a rule would delete and
// that stays, or for each at all.
func (p *planned) plain(all bool) [][]string {
	var rows [][]string
	for _, x := range p.plan.Actions {
		change := shownTags(x.Off)
		if x.On != "" {
			change = printable(x.On)
		}
		rows = append(rows, []string{string(x.Do), p.ref(x.Digest), shownTags(x.Tags), string(x.Role), string(x.Reason), printable(x.Rule), change, x.Because.String(), fmt.Sprint(x.Size)})
	}
	for _, d := range p.plan.Kept {
		do, rule, because := "keep", d.Rule, ""
		if isHeld(d) {
			do, rule = "blocked", d.Blocked
		} else if !all {
			continue
		}
		if len(d.Path) > 1 {
			because = d.Path[0].String()
		}
		rows = append(rows, []string{do, p.ref(d.Digest), shownTags(d.Tags), string(d.Role), string(d.Reason), printable(rule), "", because, ""})
	}
	return rows
}

// health says what is wrong in the package, and what that holds back.
func (p *planned) health() []string {
	count := map[retain.Health]int{}
	var notes []string
	for _, h := range p.plan.Health {
		if h.Health != retain.Unreadable {
			count[h.Health]++
			continue
		}
		text := fmt.Sprintf("%s: %s can't be read, and is kept with all that it may list", p.name(), h.Digest)
		if h.Holds > 0 {
			text += ", " + plural(h.Holds, "version")
		}
		if len(notes) < 10 {
			notes = append(notes, text)
		}
	}
	var found []string
	for _, kind := range []retain.Health{retain.Ghost, retain.Partial, retain.Orphan, retain.Dangling} {
		if n := count[kind]; n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if len(found) > 0 {
		notes = append(notes, fmt.Sprintf("not all is well in %s (%s): ghcr check %s/%s says more", p.name(), strings.Join(found, ", "), p.plan.Owner, p.plan.Package))
	}
	return notes
}

// imageName is how people know a version: by its first tags, or else its digest.
func imageName(tags []string, d oci.Digest) string {
	if len(tags) == 0 {
		return shortDigest(d)
	}
	more := ""
	if len(tags) > 3 {
		more = fmt.Sprintf(" +%d", len(tags)-3)
	}
	return shortTags(tags[:min(len(tags), 3)]) + more
}

func shownTags(tags []string) string {
	list := make([]string, len(tags))
	for i, tag := range tags {
		list[i] = printable(tag)
	}
	return strings.Join(list, " ")
}
