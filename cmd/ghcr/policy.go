package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/retain"
)

// policyText explains policies by one that has most of what there is; a test holds it.
const policyText = `Work with the policy files of ghcr prune: look for what is probably not meant, run the
tests that a policy brings along, or make one from the settings of another tool. A policy:

version: 1
packages: [acme/app, "acme/tools/*", "!acme/tools/old"]
defaults: {grace: 2h, max_delete: 200, max_delete_percent: 30, min_remaining: 3}
protect:
  tags: [latest, "re:v[0-9]+"]
  digests_from: ["deploy/**/*.yaml"]     # what these files name is in use
rules:
  - name: releases
    match: {semver: ">=0.0.0", prerelease: false}
    keep: {last: 2, per: minor, order: semver}
    delete: {older_than: 180d}
  - name: pull requests
    match: {regex: "pr-(?P<n>[0-9]+)"}
    delete: {when_not_in: open-prs.txt, key: n}
  - name: untagged
    match: {untagged: true}
    delete: {older_than: 7d}
tests:
  - name: a pull request goes when it is closed
    lists: {open-prs.txt: ["7"]}
    images:
      - {tags: [pr-7], age: 90d, want: keep}
      - {tags: [pr-8], age: 1d, want: delete}

What no rule is about stays. All keep rules and protect come first, over the whole package;
then the first rule that matches an image decides, of which all tags must match. What
stays keeps what it lists and what is about it. Signatures and parts are never counted.
Patterns: literal, * and ?, or re: and a regular expression, always for the whole tag.
Ages: 36h, 7d, 3w, 6mo, 1y. Files are relative to the policy. A plan that goes beyond the
defaults is refused. GitHub tells no numbers of downloads, so no rule can go by them.

docs/policy.md has all keys.`

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, test and convert policies of retention",
		Long:  policyText,
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.policyCheckCommand(), a.policyTestCommand(), a.policyConvertCommand(), a.policySchemaCommand())
	return cmd
}

func (a *app) policyCheckCommand() *cobra.Command {
	var snapshots []string
	var findings bool
	cmd := &cobra.Command{
		Use:   "check FILE [PKG...]",
		Short: "Look for mistakes in a policy, alone or beside a package's tags",
		Long: `Read a policy, with the files that it names, and say what is allowed and probably not
meant: rules that nothing reaches, that overlap, that can do nothing. With a package, or
a snapshot of one, also patterns that match none of its tags, or all. What is wrong ends
with exit code 2, with its line and column; a finding only does with --exit-code, with 8.`,
		Example: "  ghcr policy check policy.yaml\n  ghcr policy check policy.yaml acme/app",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.checkPolicy(cmd.Context(), given[0], given[1:], snapshots, findings)
		},
	}
	cmd.Flags().StringArrayVar(&snapshots, "snapshot", nil, "look at the tags of this saved `FILE`")
	cmd.Flags().BoolVar(&findings, "exit-code", false, "end with 8 if there is a finding")
	return cmd
}

// lintFinding is one line of ghcr policy check.
type lintFinding struct {
	Package string             `json:"package"` // by whose tags it shows; empty if it shows by the policy alone
	Code    retain.FindingCode `json:"code"`
	Rule    string             `json:"rule"` // empty if it is about the policy
	Text    string             `json:"text"`
}

func (a *app) checkPolicy(ctx context.Context, file string, pkgs, snapshots []string, asCode bool) error {
	policy, err := readPolicy(file)
	if err != nil {
		return err
	}
	facts, err := readFacts(policy, filepath.Dir(file), nil)
	if err != nil {
		return err
	}
	a.note(facts.notes)
	var invs []*retain.Inventory
	for _, name := range snapshots {
		inv, err := readSnapshot(name)
		if err != nil {
			return err
		}
		invs = append(invs, inv)
	}
	if len(pkgs) > 0 {
		refs, set, err := a.pruneTargets(ctx, pkgs, policy)
		if err == nil {
			err = set.failure()
		}
		if err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		for _, ref := range refs {
			inv, err := client.Snapshot(ctx, ref, ghcr.SnapshotOptions{})
			if err != nil {
				return steady(err)
			}
			invs = append(invs, inv)
		}
	}
	list := []lintFinding{}
	add := func(pkg string, inv *retain.Inventory) {
		for _, f := range retain.Lint(policy, inv) {
			if one := (lintFinding{pkg, f.Code, f.Rule, f.Text}); !slices.Contains(list, lintFinding{"", f.Code, f.Rule, f.Text}) {
				list = append(list, one)
			}
		}
	}
	add("", nil)
	for _, inv := range invs {
		add(inv.Owner+"/"+inv.Package, inv)
	}
	r := result{data: list, head: []string{"PACKAGE", "CODE", "RULE", "FOUND"}, foot: fmt.Sprintf("%s: %s, %s", file, plural(len(policy.Rules), "rule"), plural(len(list), "finding"))}
	for _, f := range list {
		r.ids = append(r.ids, string(f.Code))
		r.rows = append(r.rows, []string{f.Package, string(f.Code), printable(f.Rule), printable(f.Text)})
	}
	err = a.print(r)
	if asCode && len(list) > 0 {
		err = errors.Join(err, fmt.Errorf("policy check %s: %s: %w", file, plural(len(list), "finding"), errFindings))
	}
	return err
}

// policyTested is one line of ghcr policy test.
type policyTested struct {
	Test   string        `json:"test"`
	Tags   []string      `json:"tags"`
	Age    string        `json:"age"`
	Want   string        `json:"want"`
	Got    string        `json:"got"`
	Rule   string        `json:"rule"` // that decided; empty if none did
	Reason retain.Reason `json:"reason"`
	Passed bool          `json:"passed"`
}

func (a *app) policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "Run the tests that a policy brings along",
		Long: `Plan on the made-up packages under the key "tests" of a policy, and compare what becomes
of each image with what the test wants. A test that fails is exit code 8.`,
		Example: "  ghcr policy test policy.yaml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			policy, err := readPolicy(given[0])
			if err != nil {
				return err
			}
			if len(policy.Tests) == 0 {
				return usage("policy test %s: it has no tests; ghcr help policy shows how to write one", given[0])
			}
			results, err := retain.RunTests(policy, time.Now())
			if err != nil {
				return err
			}
			list := []policyTested{}
			failed := 0
			r := result{head: []string{"RESULT", "TEST", "IMAGE", "AGE", "WANT", "GOT", "WHY"}}
			for _, t := range results {
				word := "ok"
				if !t.Passed {
					word = "FAIL"
					failed++
				}
				want := t.Image.Want
				if t.Image.Rule != "" {
					want += " by rule " + t.Image.Rule
				}
				name := "untagged"
				if len(t.Image.Tags) > 0 {
					name = shownTags(t.Image.Tags)
				}
				why := string(t.Reason)
				if t.Rule != "" {
					why = "rule " + t.Rule + ", " + why
				}
				r.rows = append(r.rows, []string{word, printable(t.Test), name, retain.FormatAge(t.Image.Age), printable(want), t.Got, printable(why)})
				r.ids = append(r.ids, word)
				list = append(list, policyTested{t.Test, append([]string{}, t.Image.Tags...), retain.FormatAge(t.Image.Age), t.Image.Want, t.Got, t.Rule, t.Reason, t.Passed})
			}
			r.data = list
			r.foot = fmt.Sprintf("%d of %s as wanted", len(results)-failed, plural(len(results), "image"))
			err = a.print(r)
			if failed > 0 {
				err = errors.Join(err, fmt.Errorf("policy test %s: %s not as wanted: %w", given[0], plural(failed, "image"), errFindings))
			}
			return err
		},
	}
}

// sources are the tools whose settings can be converted, by the names that people use.
var sources = map[string]retain.Source{
	"dataaxiom": retain.FromCleanupAction, "snok": retain.FromRetentionPolicy, "gar": retain.FromArtifactRegistry,
	"ghcr-cleanup-action": retain.FromCleanupAction, "container-retention-policy": retain.FromRetentionPolicy,
	"delete-package-versions": retain.FromDeleteVersions, "ecr": retain.FromECR, "artifact-registry": retain.FromArtifactRegistry,
}

func (a *app) policyConvertCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "Make a policy from the settings of another tool",
		Long: `Print the policy that the settings of another tool mean: of dataaxiom/ghcr-cleanup-action
(--from dataaxiom), snok/container-retention-policy (snok) and
actions/delete-package-versions, as inputs of a step or as the whole workflow; and the
lifecycle policies of Amazon ECR (ecr) and Google Artifact Registry (gar). FILE may be
"-". Without --from it is found out. The policy deletes at most what the tool would;
comments in it say what is meant differently. Look at its plan before you apply it.`,
		Example: "  ghcr policy convert cleanup.yml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			source, known := sources[from]
			if from != "" && !known {
				return usage("--from %q: want dataaxiom, snok, delete-package-versions, ecr or gar", from)
			}
			var data []byte
			var err error
			if given[0] == "-" {
				data, err = io.ReadAll(io.LimitReader(a.stdin, maxPolicyFile+1))
			} else {
				data, err = readFile(given[0], maxPolicyFile)
			}
			if err != nil {
				return err
			}
			text, notes, err := retain.Convert(source, data)
			if err != nil {
				return err
			}
			for _, n := range notes {
				if n.Lost && !a.flags.quiet {
					fmt.Fprintf(a.stderr, "ghcr: note: not done: %s: %s\n", printable(n.Input), printable(strings.TrimSpace(n.Text)))
				}
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`TOOL`: dataaxiom, snok, delete-package-versions, ecr or gar")
	return cmd
}

func (a *app) policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of policies, for editors",
		Long:    "Print the JSON schema of policy files, by which editors complete and check them.",
		Example: "  ghcr policy schema",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(retain.Schema())
			return err
		},
	}
}
