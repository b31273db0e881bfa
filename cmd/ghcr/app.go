package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// app is one run of the command: its streams, its flags, and the client that is
// made when a command first needs it.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	flags          flags

	network http.RoundTripper // nil is the real one

	made     *ghcr.Client
	logins   *ghcr.Logins
	sim      *ghcrtest.Server
	tape     *taping
	lent     bool // the cassette is another run's, which closes it
	emulated bool // what it speaks to is an emulator of its own
	ran      bool // the command itself was reached
	untaped  bool // no cassette of the environment, since it may be what is worked on
	count    requestCount
	tables   bool // print as on a terminal wherever stdout leads
	asks     bool // ask as on a terminal wherever stdin comes from
}

// flags are those that every command has.
type flags struct {
	sim       string
	record    string
	replay    string
	registry  string
	api       string
	plainHTTP bool
	debug     bool
	quiet     bool
	maxWait   time.Duration
	progress  string
	color     string
	json      jsonFlag
	jq        string
	template  string
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ghcr",
		Short: "Work with images on GitHub Container Registry",
		Long: `Push, pull, copy, tag, look at and delete images on GitHub Container Registry, and
on other OCI registries. With --sim DIR every command works on an emulated GHCR
whose state is kept in DIR: no account and no network.`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.ran = true
			a.untaped = cmd.HasParent() && cmd.Parent().Name() == "tape"
			return errors.Join(a.flags.check(), refuseEmpty(cmd), a.checkTape(cmd))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
		Args: noCommand,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	f := root.PersistentFlags()
	f.StringVar(&a.flags.sim, "sim", "", "work on an emulated GHCR whose state is kept in `DIR`")
	f.StringVar(&a.flags.record, "record", "", "record what is sent and answered, without secrets, in `DIR` (env GHCR_CASSETTE)")
	f.StringVar(&a.flags.replay, "replay", "", "answer from the recording in `DIR`, without network and login")
	f.StringVar(&a.flags.registry, "registry", "", "default registry `HOST`, taken to be a GHCR (env GHCR_REGISTRY)")
	f.StringVar(&a.flags.api, "api", "", "`URL` of the REST API that goes with the registry (env GHCR_API_URL)")
	f.BoolVar(&a.flags.plainHTTP, "plain-http", false, "speak HTTP to loopback hosts")
	f.BoolVar(&a.flags.debug, "debug", false, "print each request on stderr, without secrets")
	f.BoolVarP(&a.flags.quiet, "quiet", "q", false, "print ids only")
	f.DurationVar(&a.flags.maxWait, "max-wait", 0, "longest wait for a rate limit (default 5m)")
	f.StringVar(&a.flags.progress, "progress", "auto", "auto, bar, plain, none or json")
	f.StringVar(&a.flags.color, "color", "auto", "auto, always or never")
	f.Var(&a.flags.json, "json", "print JSON; --json=a,b prints these fields")
	f.Lookup("json").NoOptDefVal = allFields
	f.StringVar(&a.flags.jq, "jq", "", "print what this jq `EXPRESSION` makes of the JSON")
	f.StringVar(&a.flags.template, "template", "", "print what this Go `TEMPLATE` makes of the JSON")
	root.AddCommand(
		a.pushCommand(), a.pullCommand(), a.copyCommand(), a.tagCommand(), a.promoteCommand(),
		a.removeCommand(), a.untagCommand(), a.pruneCommand(), a.policyCommand(), a.restoreCommand(), a.visibilityCommand(),
		a.listCommand(), a.digestCommand(), a.showCommand(), a.treeCommand(), a.checkCommand(), a.sizeCommand(), a.catCommand(),
		a.manifestCommand(), a.blobCommand(), a.referrersCommand(),
		a.verifyCommand(), a.trustedRootCommand(), a.attestCommand(), a.sbomCommand(), a.vulnsCommand(),
		a.authCommand(), a.limitsCommand(), a.doctorCommand(), a.apiCommand(),
		a.serveCommand(), a.demoCommand(), a.tapeCommand(), a.versionCommand(), completionCommand(),
	)
	for _, topic := range helpTopics() {
		root.AddCommand(topic)
	}
	return root
}

// usage is an error in how the command was called: exit code 2.
func usage(format string, args ...any) error { return oci.Invalid(format, args...) }

// noCommand reports a command that does not exist, with those it may be meant for.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage("%s", text)
}

func flagError(cmd *cobra.Command, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		best, distance := "", 3
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if d := editDistance(name, f.Name); d < distance {
				best, distance = f.Name, d
			}
		})
		if best != "" {
			text += "; did you mean --" + best + "?"
		}
	}
	return usage("%s (see %s --help)", text, cmd.CommandPath())
}

// editDistance counts the letters to change, add or leave out.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal, row[j] = row[j], min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// args wraps cobra's checks of the number of arguments, whose errors are usage
// errors too.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usage("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// refuseEmpty refuses a command's flags that are given with nothing in them, as a script
// does whose variable is not set: without the filter, the key or the gate that was meant,
// the command would do more than it should, or judge less.
func refuseEmpty(cmd *cobra.Command) error {
	var errs []error
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed {
			return
		}
		empty := f.Value.Type() == "string" && f.Value.String() == ""
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values := list.GetSlice()
			empty = len(values) == 0 || slices.Contains(values, "")
		}
		if empty {
			errs = append(errs, usage("--%s is empty: leave it out, or give it a value", f.Name))
		}
	})
	return errors.Join(errs...)
}

func (f *flags) check() error {
	oneOf := func(name, value string, allowed ...string) error {
		for _, a := range allowed {
			if value == a {
				return nil
			}
		}
		return usage("--%s %q: want one of %s", name, value, strings.Join(allowed, ", "))
	}
	if f.jq != "" && f.template != "" {
		return usage("--jq and --template exclude each other")
	}
	if f.maxWait < 0 {
		return usage("--max-wait %s: must not be negative", f.maxWait)
	}
	return errors.Join(
		oneOf("progress", f.progress, "auto", "bar", "plain", "none", "json"),
		oneOf("color", f.color, "auto", "always", "never"),
	)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// completeTags offers the tags of the repository that is being typed.
func (a *app) completeTags(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	name, _, ok := strings.Cut(typed, ":")
	if !ok {
		return nil, cobra.ShellCompDirectiveNoSpace
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	// What is asked here is no part of what is to be recorded.
	a.flags.record, a.flags.replay, a.untaped = "", "", true
	repo, _, err := a.repository(name, true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	tags, err := repo.TagNames(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	for i, tag := range tags {
		tags[i] = name + ":" + tag
	}
	return tags, cobra.ShellCompDirectiveNoFileComp
}
