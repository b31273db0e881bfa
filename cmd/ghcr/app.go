package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
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
		a.verifyCommand(), a.attestCommand(), a.sbomCommand(), a.vulnsCommand(),
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

// client makes the client that the flags ask for.
func (a *app) client(chunkSize ...int64) (*ghcr.Client, error) {
	if a.made != nil {
		return a.made, nil
	}
	opts, err := a.options()
	if err != nil {
		return nil, err
	}
	if len(chunkSize) > 0 {
		opts.ChunkSize = chunkSize[0]
	}
	client, err := ghcr.New(opts)
	a.made = client
	return client, err
}

// options are those that the flags ask for.
func (a *app) options() (ghcr.Options, error) {
	host := cmp.Or(a.flags.registry, a.getenv("GHCR_REGISTRY"))
	opts := ghcr.Options{
		Registry:  host,
		API:       cmp.Or(a.flags.api, a.getenv("GHCR_API_URL")),
		PlainHTTP: a.flags.plainHTTP,
		UserAgent: "ghcr/" + version(),
		CacheDir:  a.cacheDir(),
		Base:      a.network,
		MaxWait:   a.flags.maxWait,
		Observer:  waitTeller{a},
	}
	if err := a.openTape(); err != nil {
		return opts, err
	}
	if a.logins == nil {
		a.logins = &ghcr.Logins{Registry: host, Getenv: a.getenv}
	}
	if a.flags.debug {
		opts.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if a.flags.sim != "" && !a.replays() {
		if a.flags.plainHTTP || host != "" || opts.API != "" {
			return opts, usage("--sim excludes --registry, --api and --plain-http: the emulator is no host")
		}
		if err := a.simulate(&opts); err != nil {
			return opts, err
		}
	}
	if a.flags.plainHTTP && host != "" && !transport.IsLoopback(host) {
		return opts, usage("--plain-http with %s: only a loopback host may be spoken to without TLS; use https", host)
	}
	a.through(&opts)
	opts.Credentials = a.logins
	switch {
	case a.replays():
		opts.Credentials = standIn{a.tape.Cassette}
	case a.flags.sim == "":
		opts.Security = ghcr.SecurityLogin(a.getenv)
	}
	return opts, nil
}

// simulate puts the emulator in place of the network. No login of the machine is
// looked for: those of the emulator are beside its state.
func (a *app) simulate(opts *ghcr.Options) error {
	if a.sim == nil {
		server, err := ghcrtest.New(ghcrtest.Options{Dir: a.flags.sim, NoLog: true})
		if err != nil {
			return usage("--sim: %w", err)
		}
		a.sim = server
	}
	opts.Base = a.sim.Transport()
	opts.CacheDir = filepath.Join(a.flags.sim, "cache")
	a.logins = &ghcr.Logins{
		Getenv: func(name string) string {
			return map[string]string{"DOCKER_CONFIG": filepath.Join(a.flags.sim, "login")}[name]
		},
		Last: transport.Static(map[string]transport.Credential{
			oci.DefaultRegistry: {Username: "simulated", Password: transport.NewSecret(ghcrtest.Token), Source: "--sim"},
		}),
	}
	return nil
}

// waitTeller tells of waits for limits, so that nobody takes one for a hang.
type waitTeller struct{ *app }

// Exchange implements [transport.Observer].
func (t waitTeller) Exchange(e transport.Exchange) { t.count.add(e) }

// Wait implements [transport.WaitObserver].
func (t waitTeller) Wait(w transport.Wait) {
	if t.flags.quiet || t.flags.progress == "none" {
		return
	}
	until := "until others are done"
	if !w.Until.IsZero() {
		until = fmt.Sprintf("until %s, %s from now", w.Until.Local().Format(time.TimeOnly), time.Until(w.Until).Round(time.Second))
	}
	fmt.Fprintf(t.stderr, "ghcr: waiting for %s (%s) %s: %s\n", w.Host, w.Credential, until, w.Reason)
}

func (a *app) close() error {
	if a.sim == nil {
		return nil
	}
	return a.sim.Close()
}

// cacheDir is where is remembered what saves work; empty if there is no place for
// it.
func (a *app) cacheDir() string {
	if dir := a.getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "ghcr")
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "ghcr")
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "ghcr")
	}
	return ""
}

// checkHost refuses --plain-http for a host that is not this machine, whatever the
// host turns out to need.
func (a *app) checkHost(host string) error {
	if a.flags.plainHTTP && !transport.IsLoopback(host) && host != oci.DefaultRegistry {
		return usage("--plain-http with %s: only a loopback host may be spoken to without TLS; use https", host)
	}
	return nil
}

// repository reads a reference and returns its repository. A reference without tag
// and digest gets the default tag, unless the whole repository is meant.
func (a *app) repository(s string, whole bool) (*registry.Repository, oci.ImageRef, error) {
	client, err := a.client()
	if err != nil {
		return nil, oci.ImageRef{}, err
	}
	ref, err := client.ParseRef(s)
	if err != nil {
		return nil, ref, err
	}
	if err := a.checkHost(ref.Registry); err != nil {
		return nil, ref, err
	}
	a.noteFolding(s, ref)
	if ref.Reference.IsZero() && !whole {
		ref.Reference.Tag = ghcr.DefaultTag
	}
	repo, err := client.Repository(ref)
	return repo, ref, err
}

// noteFolding tells when upper case was changed.
func (a *app) noteFolding(s string, ref oci.ImageRef) {
	name, _, _ := strings.Cut(s, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	if name != strings.ToLower(name) && !strings.HasPrefix(s, "http") {
		fmt.Fprintf(a.stderr, "ghcr: note: names are lower case: %s\n", ref.Repository())
	}
}

// end reads one end of a copy.
func (a *app) end(s string, chunkSize int64) (ghcr.End, error) {
	client, err := a.client(chunkSize)
	if err != nil {
		return ghcr.End{}, err
	}
	e, err := client.ParseEnd(s)
	if err != nil {
		return e, err
	}
	if e.Kind == ghcr.EndRegistry {
		if err := a.checkHost(e.Ref.Registry); err != nil {
			return e, err
		}
		a.noteFolding(s, e.Ref)
	}
	return e, nil
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
