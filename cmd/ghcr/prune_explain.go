package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/retain"
)

// explained is one version of ghcr prune --explain.
type explained struct {
	Ref     string `json:"ref"`
	Package string `json:"package"`
	*retain.Explanation
}

// explain says why versions stay or go. A name may be one in several packages.
func (a *app) explain(set *planSet, names []string) error {
	list := []explained{}
	var missing []error
	for _, name := range names {
		found := false
		for _, p := range set.list {
			ref, ok := a.within(p, name)
			if !ok {
				continue
			}
			e, err := retain.Explain(p.plan, p.inv, ref)
			if errors.Is(err, ghcr.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("explain %s: %w", printable(name), err)
			}
			found = true
			list = append(list, explained{p.ref(e.Digest), p.name(), e})
		}
		if !found {
			missing = append(missing, fmt.Errorf("explain %s: no version has that tag, digest or number: %w", printable(name), ghcr.ErrNotFound))
		}
	}
	r := result{data: list}
	var b strings.Builder
	for _, e := range list {
		r.ids = append(r.ids, e.Ref)
		fmt.Fprintf(&b, "%s (%s, version %d)\n", imageName(e.Tags, e.Digest), e.Role, e.Version)
		fmt.Fprintf(&b, "  %s\n  %s\n", e.Ref, e.Text)
		if e.Change != "" {
			other := "go"
			if e.Do == retain.Delete {
				other = "stay"
			}
			fmt.Fprintf(&b, "  to have it %s: %s\n", other, e.Change)
		}
	}
	r.text = b.String()
	if len(list) == 0 {
		return errors.Join(missing...)
	}
	return errors.Join(a.print(r), errors.Join(missing...))
}

// within is what a name is within a package: acme/app:v1, acme/app@DIGEST and
// acme/app#NUMBER name the package too. It is not ok if that is another one.
func (a *app) within(p *planned, name string) (string, bool) {
	if !strings.ContainsAny(name, "/#") {
		return name, true
	}
	name = strings.TrimPrefix(name, p.plan.Host+"/")
	rest, ok := strings.CutPrefix(name, p.plan.Owner+"/"+p.plan.Package)
	if !ok || rest == "" {
		return "", false
	}
	if rest[0] != ':' && rest[0] != '@' && rest[0] != '#' {
		return "", false
	}
	if tag, digest, ok := strings.Cut(rest[1:], "@"); ok && rest[0] == ':' && tag != "" {
		return digest, true
	}
	return rest[1:], true
}

// differs is one version of ghcr prune --diff.
type differs struct {
	Ref string `json:"ref"`
	retain.Difference
}

// diffPlans compares two files of plans, or two snapshots.
func (a *app) diffPlans(before, after string, f pruneFlags) error {
	x, err := readComparable(before)
	if err != nil {
		return err
	}
	y, err := readComparable(after)
	if err != nil {
		return err
	}
	list := []differs{}
	r := result{head: []string{"IMAGE", "BEFORE", "AFTER"}}
	compare := func(p, q *planned) error {
		found, err := retain.Diff(p.plan, q.plan)
		if err != nil {
			return err
		}
		for _, d := range found {
			ref := p.ref(d.Digest)
			list = append(list, differs{ref, d})
			tags := d.After.Tags
			if !d.After.Listed {
				tags = d.Before.Tags
			}
			r.ids = append(r.ids, ref)
			r.rows = append(r.rows, []string{imageName(tags, d.Digest), stateText(d.Before), stateText(d.After)})
			r.plain = append(r.plain, []string{ref, shownTags(tags), stateText(d.Before), stateText(d.After)})
		}
		return nil
	}
	for _, p := range x.list {
		q := y.of(p)
		if q == nil {
			q = p.empty()
		}
		if err := compare(p, q); err != nil {
			return err
		}
	}
	for _, q := range y.list {
		if x.of(q) == nil {
			if err := compare(q.empty(), q); err != nil {
				return err
			}
		}
	}
	r.data = list
	r.foot = plural(len(list), "difference")
	err = a.print(r)
	if f.exitCode && len(list) > 0 {
		err = errors.Join(err, fmt.Errorf("prune: %s: %w", plural(len(list), "difference"), errFindings))
	}
	return err
}

// readComparable reads a file of plans, or a snapshot as a plan that changes nothing.
func readComparable(name string) (*planSet, error) {
	set, err := readPlans(name)
	if err == nil || errors.Is(err, ghcr.ErrIntegrity) || errors.Is(err, os.ErrNotExist) {
		return set, err
	}
	inv, snapshotErr := readSnapshot(name)
	if snapshotErr != nil {
		return nil, usage("%s is neither a file of plans nor a snapshot:\n%w\n%w", name, err, snapshotErr)
	}
	plan, err := retain.Make(&retain.Policy{}, inv, retain.Facts{}, time.Now())
	if err != nil {
		return nil, err
	}
	return &planSet{list: []*planned{{plan: plan, inv: inv}}}, nil
}

// of finds the plan for the same package.
func (s *planSet) of(p *planned) *planned {
	for _, q := range s.list {
		if q.name() == p.name() {
			return q
		}
	}
	return nil
}

// empty is a plan for the same package in which nothing is listed.
func (p *planned) empty() *planned {
	return &planned{plan: &retain.Plan{Host: p.plan.Host, Owner: p.plan.Owner, Package: p.plan.Package}}
}

func stateText(s retain.State) string {
	switch {
	case !s.Listed:
		return "not there"
	case s.Do == "" && s.Reason == retain.ReasonUnmatched:
		return "keep " + shownTags(s.Tags)
	case s.Do == "":
		return "keep: " + reasonText(s.Reason, s.Rule)
	}
	text := string(s.Do)
	if s.Change != "" {
		text += printable(s.Change)
	}
	return text + ": rule " + printable(s.Rule)
}
