package main

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/retain"
)

// pruneFlags are those of ghcr prune.
type pruneFlags struct {
	policy   string
	quick    retain.Quick
	isQuick  bool // one of the flags of quick was given
	rails    railFlags
	inUse    []string
	at       string
	snapshot []string
	plan     string
	resume   []string
	diff     bool
	lint     bool

	explain      []string
	savePlan     string
	saveSnapshot string
	all          bool
	markdown     bool
	ndjson       bool
	stats        bool
	metrics      string
	exitCode     bool

	apply, yes, dryRun bool
	confirm            string
	journal            string
	budget             ghcr.ApplyOptions // its limits alone
	archive            string
	archiveBlobs       bool
	wait               time.Duration
}

// quickNames are the flags that make a policy of their own.
var quickNames = []string{"tags", "except", "keep", "keep-last", "keep-versions", "per", "keep-within", "older-than", "untagged", "orphans", "broken"}

func addQuick(flags *pflag.FlagSet, q *retain.Quick) {
	flags.StringArrayVar(&q.Tags, "tags", nil, "tags that may go: `PATTERNS` with * and ?, or re:EXPRESSION")
	flags.StringArrayVar(&q.Except, "except", nil, "but not tags of these `PATTERNS`")
	flags.StringArrayVar(&q.Keep, "keep", nil, "tags of these `PATTERNS` stay, whatever else is said")
	flags.IntVar(&q.KeepLast, "keep-last", 0, "the newest `N` images stay")
	flags.IntVar(&q.KeepVersions, "keep-versions", 0, "the newest `N` by semantic version stay; other tags are not touched")
	flags.StringVar(&q.Per, "per", "", "`GROUP` in which versions are counted: major, minor or channel")
	flags.Var((*ageFlag)(&q.KeepWithin), "keep-within", "what is younger stays")
	flags.Var((*ageFlag)(&q.OlderThan), "older-than", "only what is older goes: 36h, 30d, 6mo")
	flags.BoolVar(&q.Untagged, "untagged", false, "what has no tag, and that nothing needs, may go")
	flags.BoolVar(&q.Orphans, "orphans", false, "signatures and the like of what is gone may go")
	flags.BoolVar(&q.Broken, "broken", false, "indexes whose images are gone may go")
	flags.BoolVar(&q.MeanAll, "i-mean-all", false, "agree to a pattern that matches every tag")
}

// ageFlag is an age as policies write it.
type ageFlag time.Duration

func (f *ageFlag) Set(s string) error {
	age, err := retain.ParseAge(s)
	*f = ageFlag(age)
	return err
}

func (f *ageFlag) Type() string { return "AGE" }
func (f *ageFlag) String() string {
	if *f == 0 {
		return ""
	}
	return retain.FormatAge(time.Duration(*f))
}

// railFlags stand above the rails of the policy where they are given.
type railFlags struct {
	maxDeletes, maxPercent, minRemaining int
	grace                                ageFlag
	hasGrace                             bool
}

// unset is a number that was not given; below zero is no limit.
const unset = -1 << 31

func newRailFlags() railFlags { return railFlags{unset, unset, unset, 0, false} }

func (r *railFlags) add(flags *pflag.FlagSet) {
	number := func(p *int, name, text string) {
		flags.Func(name, text, func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil || n < -1 {
				return errors.New("want a number, or -1 for no limit")
			}
			*p = n
			return nil
		})
	}
	number(&r.maxDeletes, "max-deletes", "refuse a plan that deletes more than `N` versions (default 200)")
	number(&r.maxPercent, "max-percent", "refuse a plan that deletes more than `N` % of a package (default 30)")
	number(&r.minRemaining, "min-remaining", "refuse a plan that leaves fewer than `N` images (default 1)")
	flags.Func("grace", "`AGE` below which what has no tag stays (default 2h)", func(s string) error {
		r.hasGrace = true
		return r.grace.Set(s)
	})
}

// over changes the rails of a policy.
func (r *railFlags) over(p *retain.Policy) {
	for _, rail := range []struct {
		given int
		at    *int
	}{{r.maxDeletes, &p.Rails.MaxDelete}, {r.maxPercent, &p.Rails.MaxDeletePercent}, {r.minRemaining, &p.Rails.MinRemaining}} {
		if rail.given != unset {
			*rail.at = rail.given
		}
	}
	if r.hasGrace {
		p.Rails.Grace = time.Duration(r.grace)
	}
}

func (r *railFlags) given() bool {
	return r.hasGrace || r.maxDeletes != unset || r.maxPercent != unset || r.minRemaining != unset
}

// check refuses flags that contradict each other before anything is asked of anybody.
func (f *pruneFlags) check(given []string) error {
	for _, pattern := range slices.Concat(f.quick.Tags, f.quick.Except, f.quick.Keep, given) {
		if strings.ContainsAny(pattern, `'"`) {
			return usage("%s has quotes in it, which no tag has: this shell does not take them off; use others, or none", pattern)
		}
	}
	rules := f.policy != "" || f.isQuick
	saves := f.savePlan != "" || f.saveSnapshot != ""
	anew := rules || f.rails.given() || len(f.inUse) > 0 || f.at != "" || saves || len(f.snapshot) > 0
	type clash struct {
		is   bool
		text string
	}
	for _, c := range []clash{
		{f.policy != "" && f.isQuick, "--policy and flags that make rules exclude each other: write them into the file"},
		{f.diff && len(given) != 2, "--diff compares two files: ghcr prune --diff OLD NEW"},
		{f.diff && (anew || f.plan != "" || len(f.resume) > 0 || f.apply || len(f.explain) > 0), "--diff compares files: leave out all that makes a plan, or carries one out"},
		{f.plan != "" && saves, "--plan makes nothing that could be saved"},
		{f.plan != "" && (len(given) > 0 || len(f.snapshot) > 0), "--plan says itself which packages it is for"},
		{f.plan != "" && anew, "--plan evaluates no policy: leave out the rules, limits and files"},
		{len(f.resume) > 0 && (anew || f.plan != "" || len(given) > 0 || len(f.explain) > 0), "--resume has the plan in its journal: leave out packages, rules, limits and files"},
		{len(f.resume) > 0 && f.journal != "", "--resume goes on with its own journal"},
		{len(f.snapshot) > 0 && len(given) > 0, "--snapshot says itself which package it is of"},
		{len(f.snapshot) > 0 && f.apply, "--snapshot is for looking ahead: plan anew on the package to apply it"},
		{len(f.snapshot) > 0 && f.saveSnapshot != "", "--snapshot and --save-snapshot exclude each other"},
		{f.at != "" && f.apply && !f.dryRun, "--at says what would be done at another time, and can't be applied now"},
		{len(f.explain) > 0 && f.apply, "--explain changes nothing: leave out --apply"},
		{f.confirm != "" && (f.plan == "" || !f.apply), "--confirm is for --plan FILE --apply: a plan that is made anew has another digest"},
		{f.archiveBlobs && f.archive == "", "--archive-blobs says what --archive copies"},
		{f.metrics != "" && (f.diff || f.lint || len(f.explain) > 0), "--metrics is for runs that plan or apply"},
		{f.markdown && f.ndjson, "--markdown and --ndjson exclude each other"},
		{f.lint && f.apply, "--policy-check changes nothing: leave out --apply"},
		{f.lint && f.policy == "", "--policy-check looks at a file: add --policy FILE"},
		{f.quick.MeanAll && !f.isQuick, "--i-mean-all agrees to flags; a policy says so itself: defaults: {allow_match_all: true}"},
		{min(f.budget.MaxDeletes, f.budget.MaxRequests, int(f.budget.MaxTime)) < 0, "a limit below zero"},
		{twice(f.resume), "--resume names a journal twice"},
		{twice(f.snapshot), "--snapshot names a file twice"},
	} {
		if c.is {
			return usage("%s", c.text)
		}
	}
	if f.plan != "" || f.diff || len(f.resume) > 0 {
		return nil
	}
	switch {
	case !rules && f.saveSnapshot == "":
		return usage("prune: nothing says what may go: give --policy FILE, or flags such as --tags, --keep-last, --older-than and --untagged (ghcr help policy)")
	case !rules && (f.apply || f.savePlan != "" || len(f.explain) > 0):
		return usage("prune: without rules there is no plan")
	}
	return nil
}

// twice tells whether a file is named more than once.
func twice(names []string) bool {
	seen := map[string]bool{}
	for _, name := range names {
		name = filepath.Clean(name)
		if seen[name] {
			return true
		}
		seen[name] = true
	}
	return false
}

// when reads a time: a date, RFC 3339, or an age from now.
func when(text string, now time.Time) (time.Time, error) {
	if age, ok := strings.CutPrefix(text, "+"); ok {
		d, err := retain.ParseAge(age)
		if err != nil {
			return now, usage("--at %s: %w", text, err)
		}
		return now.Add(d), nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return now, usage("--at %q: want a date such as 2027-01-01, a time of RFC 3339, or +AGE", text)
}
