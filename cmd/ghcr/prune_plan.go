package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/retain"
)

// planned is the plan of one package, and what it was made on.
type planned struct {
	plan  *retain.Plan
	inv   *retain.Inventory
	names map[oci.Digest]string // made when first needed
}

func (p *planned) name() string { return p.plan.Host + "/" + p.plan.Owner + "/" + p.plan.Package }

func (p *planned) ref(d oci.Digest) string { return p.name() + "@" + d.String() }

// planSet are the plans of one run.
type planSet struct {
	list   []*planned
	failed []unplanned
	wide   bool // a glob has chosen packages
}

// unplanned is a package of several that no plan could be made for.
type unplanned struct {
	Package string `json:"package"`
	Why     string `json:"why"`

	err error
}

// failure is the error of the packages that have no plan.
func (s *planSet) failure() error {
	var all []error
	for _, u := range s.failed {
		all = append(all, u.err)
	}
	return partly(len(s.list), all)
}

// acting are the plans that have something to do.
func (s *planSet) acting() []*planned {
	return slices.DeleteFunc(slices.Clone(s.list), func(p *planned) bool { return len(p.plan.Actions) == 0 })
}

// plans makes the plans that the flags ask for, or reads them.
func (a *app) plans(ctx context.Context, given []string, f pruneFlags) (*planSet, error) {
	if f.plan != "" {
		return readPlans(f.plan)
	}
	policy, err := f.policyOf()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if f.at != "" {
		if now, err = when(f.at, now); err != nil {
			return nil, err
		}
	}
	var facts *factFiles
	if policy != nil {
		if facts, err = readFacts(policy, filepath.Dir(f.policy), f.inUse); err != nil {
			return nil, err
		}
	}
	if len(f.snapshot) > 0 {
		return a.offline(policy, facts, f.snapshot, now)
	}
	refs, wide, err := a.pruneTargets(ctx, given, policy)
	if err != nil {
		return nil, err
	}
	if f.saveSnapshot != "" && len(refs) > 1 {
		return nil, usage("--save-snapshot: one file is for one package, and these are %d", len(refs))
	}
	set := &planSet{wide: wide}
	for _, ref := range refs {
		p, err := a.planOne(ctx, ref, policy, facts, now)
		if err == nil && f.saveSnapshot != "" {
			err = writeNew(f.saveSnapshot, p.inv.Write)
		}
		switch {
		case err != nil && ctx.Err() != nil, err != nil && len(refs) == 1:
			return nil, err
		case err != nil:
			set.failed = append(set.failed, unplanned{ref.Repository(), err.Error(), steady(err)})
		case p.plan != nil:
			set.list = append(set.list, p)
			if f.isQuick {
				a.note(unmatched(policy, p))
			}
		default:
			fmt.Fprintf(a.stderr, "ghcr: %s with %s of %s written\n", f.saveSnapshot, plural(len(p.inv.Versions), "version"), ref.Repository())
		}
	}
	return set, nil
}

// planOne plans for one package. Without a policy it reads all of it.
func (a *app) planOne(ctx context.Context, ref oci.ImageRef, policy *retain.Policy, files *factFiles, now time.Time) (*planned, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	if policy == nil {
		inv, err := client.Snapshot(ctx, ref, ghcr.SnapshotOptions{Manifests: true, Labels: true})
		return &planned{inv: inv}, err
	}
	owner, name, _ := strings.Cut(ref.Name, "/")
	facts, notes, err := files.of(ref.Registry, owner, name)
	if err != nil {
		return nil, err
	}
	a.note(notes)
	plan, inv, err := client.PlanPrune(ctx, ref, policy, ghcr.PruneOptions{Facts: facts, Now: now})
	return &planned{plan: plan, inv: inv}, err
}

// unmatched says which patterns match no tag. A policy may have such, for what comes; what
// is typed for one run is more likely mistyped.
func unmatched(policy *retain.Policy, p *planned) []string {
	var notes []string
	for _, f := range retain.Lint(policy, p.inv) {
		if f.Code == retain.FindNoMatch {
			notes = append(notes, p.name()+": "+printable(f.Text))
		}
	}
	return notes
}

func (a *app) note(notes []string) {
	if a.flags.quiet {
		return
	}
	for _, n := range notes {
		fmt.Fprintf(a.stderr, "ghcr: note: %s\n", n)
	}
}

// offline plans on snapshots.
func (a *app) offline(policy *retain.Policy, files *factFiles, names []string, now time.Time) (*planSet, error) {
	set := &planSet{}
	for _, name := range names {
		inv, err := readSnapshot(name)
		if err != nil {
			return nil, err
		}
		if !policy.Covers(inv.Owner + "/" + inv.Package) {
			return nil, usage("the policy is not for %s/%s, of which %s is", inv.Owner, inv.Package, name)
		}
		facts, notes, err := files.of(inv.Host, inv.Owner, inv.Package)
		if err != nil {
			return nil, err
		}
		a.note(notes)
		plan, err := retain.Make(policy, inv, facts, now)
		if err != nil {
			return nil, fmt.Errorf("plan on %s: %w", name, err)
		}
		if n := len(plan.Needs) + len(plan.NeedsLabels); n > 0 {
			return nil, usage("%s lacks %s that this policy needs: a snapshot that is saved without rules has all (ghcr prune %s/%s --save-snapshot FILE)",
				name, plural(n, "manifest or config"), inv.Owner, inv.Package)
		}
		plan.Tool = "ghcr/" + version()
		if err := plan.Seal(); err != nil {
			return nil, err
		}
		set.list = append(set.list, &planned{plan: plan, inv: inv})
	}
	return set, nil
}

func readSnapshot(name string) (*retain.Inventory, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("--snapshot: %w", err)
	}
	defer f.Close()
	inv, err := retain.ReadInventory(f)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", name, err)
	}
	return inv, nil
}

// readPlans reads plans of a file. What they were made on is not at hand; of each
// version they tell enough to explain it.
func readPlans(name string) (*planSet, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("--plan: %w", err)
	}
	defer f.Close()
	plans, err := retain.ReadPlans(f)
	if errors.Is(err, ghcr.ErrIntegrity) {
		err = &ghcr.PlanError{Fault: ghcr.PlanAltered, Cause: err}
	}
	if err != nil {
		return nil, fmt.Errorf("--plan %s: %w", name, err)
	}
	set := &planSet{}
	for _, plan := range plans {
		inv := &retain.Inventory{Host: plan.Host, Owner: plan.Owner, OwnerID: plan.OwnerID, Package: plan.Package, PackageID: plan.PackageID}
		for _, x := range plan.Actions {
			inv.Versions = append(inv.Versions, retain.Version{ID: x.Version, Digest: x.Digest, Tags: x.Tags})
		}
		for _, d := range plan.Kept {
			inv.Versions = append(inv.Versions, retain.Version{ID: d.Version, Digest: d.Digest, Tags: d.Tags})
		}
		set.list = append(set.list, &planned{plan: plan, inv: inv})
	}
	return set, nil
}

// save writes the plans, one file for all packages.
func (s *planSet) save(name string) error {
	if name == "" {
		return nil
	}
	return writeNew(name, func(w io.Writer) error {
		plans := make([]*retain.Plan, len(s.list))
		for i, p := range s.list {
			plans[i] = p.plan
		}
		return retain.WritePlans(w, plans...)
	})
}

// pruneTargets are the packages that the arguments name, or else the policy: by name,
// by glob, or all of an owner, without those behind a "!". It tells whether any were
// chosen from a list.
func (a *app) pruneTargets(ctx context.Context, given []string, policy *retain.Policy) (refs []oci.ImageRef, wide bool, err error) {
	covers := func(string) bool { return true }
	if policy != nil {
		covers = policy.Covers
		if len(given) == 0 {
			given = policy.Packages
		}
	}
	if len(given) == 0 {
		return nil, false, usage("prune: name a package, an owner or a glob such as 'acme/*', or have the policy name them")
	}
	client, err := a.client()
	if err != nil {
		return nil, false, err
	}
	home, err := client.ParseRef("x/x")
	if err != nil {
		return nil, false, err
	}
	choice := retain.Policy{}
	exact := map[string]bool{}
	owners := map[string]bool{}
	for _, s := range given {
		not, pattern := "", strings.ToLower(strings.TrimPrefix(s, home.Registry+"/"))
		if rest, ok := strings.CutPrefix(pattern, "!"); ok {
			not, pattern = "!", strings.TrimPrefix(rest, home.Registry+"/")
		}
		owner, name, slash := strings.Cut(pattern, "/")
		switch {
		case not == "" && !slash:
			name = "*"
		case not == "" && !strings.ContainsAny(pattern, "*?"):
			ref, id, err := a.named(s)
			if err != nil {
				return nil, false, err
			}
			if id != 0 || !ref.Reference.IsZero() {
				return nil, false, usage("prune %s: name the package alone; which of its versions go, the rules say", s)
			}
			if ref.Registry != home.Registry {
				return nil, false, usage("prune %s: only packages of %s have versions that can be pruned", s, home.Registry)
			}
			exact[ref.Name] = true
			choice.Packages = append(choice.Packages, ref.Name)
			continue
		case !slash:
			return nil, false, usage("prune %s: want '!OWNER/GLOB'", s)
		}
		if strings.ContainsAny(owner, "*?") || owner == "" {
			return nil, false, usage("prune %s: an owner is needed, without * and ?", s)
		}
		if _, err := client.ParseRef(owner + "/x"); err != nil {
			return nil, false, usage("prune %s: %q is no owner", s, owner)
		}
		choice.Packages = append(choice.Packages, not+owner+"/"+name)
		owners[owner] = owners[owner] || not == ""
	}
	names := map[string]bool{}
	for name := range exact {
		if !covers(name) {
			return nil, false, usage("prune %s: the policy is for %s", name, strings.Join(policy.Packages, ", "))
		}
		names[name] = choice.Covers(name)
	}
	for owner, list := range owners {
		if !list {
			continue
		}
		found, err := a.ownedBy(ctx, owner)
		if err != nil {
			return nil, false, err
		}
		for _, name := range found {
			if !names[name] && choice.Covers(name) && covers(name) {
				names[name], wide = true, true
			}
		}
	}
	for _, pattern := range choice.Packages {
		one := retain.Policy{Packages: []string{pattern}}
		if !strings.HasPrefix(pattern, "!") && !slices.ContainsFunc(slices.Collect(maps.Keys(names)), one.Covers) && !a.flags.quiet {
			fmt.Fprintf(a.stderr, "ghcr: note: no package is %s\n", pattern)
		}
	}
	for name, is := range names {
		if is {
			refs = append(refs, oci.ImageRef{Registry: home.Registry, Name: name})
		}
	}
	if len(refs) == 0 {
		return nil, false, fmt.Errorf("prune: no package is %s: %w", strings.Join(given, " "), ghcr.ErrNotFound)
	}
	slices.SortFunc(refs, func(x, y oci.ImageRef) int { return strings.Compare(x.Name, y.Name) })
	return refs, wide, nil
}

// ownedBy lists an owner's packages, OWNER/NAME each.
func (a *app) ownedBy(ctx context.Context, owner string) ([]string, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	api, err := client.Packages()
	if err != nil {
		return nil, err
	}
	all, err := api.List(ctx, owner, packages.ListOptions{})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = strings.ToLower(owner + "/" + p.Name)
	}
	return names, nil
}

func isMoving(err error) bool {
	var moving *packages.MovingError
	return errors.As(err, &moving)
}

// writeNew writes a file that must not be there.
func writeNew(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write %s: %w: it may be needed", name, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
