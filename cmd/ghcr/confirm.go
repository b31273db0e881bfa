package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

// changeFlags are those of commands that take something away.
type changeFlags struct {
	yes           bool
	dryRun        bool
	ignoreMissing bool
	undo          string
}

func (f *changeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the plan, and change nothing")
	flags.BoolVar(&f.ignoreMissing, "ignore-missing", false, "take what does not exist for done")
	flags.StringVar(&f.undo, "undo", "", "new `FILE` for what it takes to restore (default: one in the cache)")
}

// plannedOutcome is what a dry run prints in place of an outcome.
const plannedOutcome = "planned"

// errDeclined is the answer no.
var errDeclined = errors.New("nothing was changed")

// interactive tells whether somebody is there to answer.
func (a *app) interactive() bool {
	return a.asks || terminal(a.stdin) != nil && a.isTerminal(a.stderr)
}

// confirm asks before something is taken away. Where nobody is there to answer, the
// flag must have been given.
func (a *app) confirm(f changeFlags, question string) error {
	return a.ask(f, question+" [y/N] ", func(answer string) bool {
		answer = strings.ToLower(answer)
		return answer == "y" || answer == "yes"
	})
}

// confirmName asks for a name to be typed: yes is typed too easily.
func (a *app) confirmName(f changeFlags, name string) error {
	return a.ask(f, fmt.Sprintf("type %s to delete it whole: ", name), func(answer string) bool { return answer == name })
}

func (a *app) ask(f changeFlags, question string, agrees func(answer string) bool) error {
	if f.yes {
		return nil
	}
	if !a.interactive() {
		return usage("there is nobody to ask: --yes does it, and --dry-run shows what it would be")
	}
	fmt.Fprint(a.stderr, question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr)
		return err
	}
	if err != nil || !agrees(strings.TrimSpace(answer)) {
		return errDeclined
	}
	return nil
}

// willAsk tells whether somebody is about to be asked.
func (a *app) willAsk(f changeFlags) bool { return !f.yes && !f.dryRun && a.interactive() }

// showPlan prints rows on stderr. Who is asked is shown what about, however quiet.
func (a *app) showPlan(f changeFlags, title string, rows [][]string) {
	if a.flags.quiet && !a.willAsk(f) {
		return
	}
	fmt.Fprintf(a.stderr, "ghcr: %s:\n", title)
	indented := make([][]string, len(rows))
	for i, row := range rows {
		indented[i] = append([]string{"  " + row[0]}, row[1:]...)
	}
	printColumns(a.stderr, indented)
}

// tellUndo says how to take a change back.
func (a *app) tellUndo(file string) {
	if file != "" && !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: to take it back: ghcr restore --from %s\n", shellWord(file))
	}
}

// shellWord is the name of a file as it can be typed in a command that is printed.
func shellWord(name string) string {
	strange := strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'`$&|;<>()*?[]{}!#^", r) || r == '\\' && runtime.GOOS != "windows"
	})
	switch {
	case !strange:
		return name
	case runtime.GOOS == "windows":
		return `"` + name + `"`
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// named reads what a command is to change: an image by tag or digest, or a version
// by its number, acme/app#123. No tag is made up. The number is 0 if there is none.
func (a *app) named(s string) (oci.ImageRef, int64, error) {
	name, number, numbered := strings.Cut(s, "#")
	_, ref, err := a.repository(name, true)
	if err != nil || !numbered {
		return ref, 0, err
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id <= 0 || !ref.Reference.IsZero() {
		return ref, 0, usage("%q: want OWNER/IMAGE#NUMBER, the number of a version as ghcr ls --versions prints it", s)
	}
	return ref, id, nil
}

// image is named, with the number of a version looked up.
func (a *app) image(ctx context.Context, s string) (oci.ImageRef, error) {
	ref, id, err := a.named(s)
	if err != nil || id == 0 {
		return ref, err
	}
	api, owner, name, err := a.packageOf(ref)
	if err != nil {
		return ref, err
	}
	v, err := api.Version(ctx, owner, name, id)
	return ref.With(oci.Reference{Digest: v.Digest()}), err
}

// packageOf returns the package that an image is in, and the API that has it.
func (a *app) packageOf(ref oci.ImageRef) (api *packages.Client, owner, name string, err error) {
	client, err := a.client()
	if err != nil {
		return nil, "", "", err
	}
	if ref.Registry != client.Registry() {
		return nil, "", "", fmt.Errorf("%s: only GitHub's registries have packages: %w", ref.Repository(), ghcr.ErrUnsupported)
	}
	owner, name, _ = strings.Cut(ref.Name, "/")
	api, err = client.Packages()
	return api, owner, name, err
}
