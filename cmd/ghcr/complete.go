package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// completion is what cobra asks for what may stand where somebody types.
type completion = func(cmd *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective)

// completeAt completes images at these positions, and files elsewhere.
func (a *app) completeAt(positions ...int) completion {
	return func(cmd *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
		if !slices.Contains(positions, len(given)) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return a.completeTags(cmd, given, typed)
	}
}

// completeTags offers the packages of the owner, or the tags of the package, that is being
// typed. It gives up after a second.
func (a *app) completeTags(cmd *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	name, tag, ok := strings.Cut(typed, ":")
	if !ok {
		return a.completePackages(cmd, given, typed)
	}
	ctx, cancel := a.briefly(cmd)
	defer cancel()
	repo, _, err := a.repository(name, true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	tags, err := repo.TagNames(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var found []string
	for _, t := range tags {
		// Those of signatures are many and hardly meant, as in ghcr ls.
		if _, _, digestTag := oci.ParseDigestTag(t); !digestTag || strings.HasPrefix(tag, "sha256-") {
			found = append(found, name+":"+t)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completePackages offers the packages of the owner that is being typed.
func (a *app) completePackages(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	owner, _, ok := strings.Cut(typed, "/")
	if !ok || owner == "" || strings.ContainsAny(owner, ".:") || owner == "localhost" {
		return nil, cobra.ShellCompDirectiveNoSpace
	}
	ctx, cancel := a.briefly(cmd)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	api, err := client.Packages()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, err := api.List(ctx, owner, packages.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = owner + "/" + p.Name
	}
	slices.Sort(names)
	return names, directive
}

// briefly is the time that somebody waits who has pressed a key. What is asked then is no
// part of what is to be recorded.
func (a *app) briefly(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	a.flags.record, a.flags.replay, a.untaped = "", "", true
	return context.WithTimeout(cmd.Context(), time.Second)
}

// choices completes a flag that takes one of a few words.
func choices(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}
