package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  ghcr version",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return a.print(result{
				data: struct {
					Schema  string `json:"schema"`
					Version string `json:"version"`
				}{schema, version()},
				ids: []string{version()}, text: "ghcr " + version() + "\n",
			})
		},
	}
}

// helpCommand is cobra's own, but that it refuses topics that do not exist.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND | TOPIC]",
		Short:   "Explain a command or a topic",
		Example: "  ghcr help references",
		ValidArgsFunction: func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			about, rest, err := cmd.Root().Find(given)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range about.Commands() {
				names = append(names, sub.Name()+"\t"+sub.Short)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			about, rest, err := cmd.Root().Find(given)
			if err != nil {
				return noCommand(cmd.Root(), given)
			}
			if len(rest) > 0 {
				return noCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func completionCommand() *cobra.Command {
	write := map[string]func(*cobra.Command) error{
		"bash":       func(c *cobra.Command) error { return c.Root().GenBashCompletionV2(c.OutOrStdout(), true) },
		"zsh":        func(c *cobra.Command) error { return c.Root().GenZshCompletion(c.OutOrStdout()) },
		"fish":       func(c *cobra.Command) error { return c.Root().GenFishCompletion(c.OutOrStdout(), true) },
		"powershell": func(c *cobra.Command) error { return c.Root().GenPowerShellCompletionWithDesc(c.OutOrStdout()) },
	}
	shells := slices.Sorted(maps.Keys(write))
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print a script that completes commands, flags and tags",
		Long:      "Print a completion script for bash, fish, powershell or zsh.",
		Example:   "  source <(ghcr completion bash)",
		Args:      args(cobra.ExactArgs(1)),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, given []string) error {
			if write[given[0]] == nil {
				return usage("completion %q: want one of %s", given[0], strings.Join(shells, ", "))
			}
			return write[given[0]](cmd)
		},
	}
}

func sortedList(names []string) string {
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// helpTopics are pages of help that are no commands.
func helpTopics() []*cobra.Command {
	var list []*cobra.Command
	for _, t := range []struct{ name, short, text string }{
		{"environment", "What is read from the environment", `
GHCR_TOKEN, GH_TOKEN, GITHUB_TOKEN   token for GitHub's registry, the first that is set
GHCR_USERNAME, GITHUB_ACTOR          user name beside it; GHCR does not look at it
GHCR_REGISTRY                        default registry, as --registry
GHCR_API_URL                         REST API that goes with it, as --api
REGISTRY_AUTH_FILE                   login file, before all others
DOCKER_CONFIG                        directory of docker's config.json, in place of ~/.docker
XDG_RUNTIME_DIR, XDG_CONFIG_HOME     where containers/auth.json is looked for
XDG_CACHE_HOME                       where is kept what saves requests, and what it takes to restore
GHCR_SECURITY_TOKEN                  token for attestations, code scanning and Dependabot, if another
GHCR_TRUSTED_ROOT                    trusted roots for certificates, as --trusted-root
TUF_ROOT                             where cosign keeps its trusted root, in place of ~/.sigstore/root
GHCR_CASSETTE                        recording to make or replay, as --record and --replay
GHCR_CASSETTE_MODE                   record, replay, once (record what is not there yet; replay where
                                     CI is set), append, drift, passthrough or off
HTTPS_PROXY, NO_PROXY                proxies
SSL_CERT_FILE                        certificates to trust
NO_COLOR, CLICOLOR, CLICOLOR_FORCE   colour
BROWSER                              what visibility --open opens a page with
CI                                   no progress bars
GITHUB_ACTIONS                       errors are annotations too
GITHUB_STEP_SUMMARY, GITHUB_OUTPUT   where vulns writes a summary and outputs, in GitHub Actions`},
		{"exit-codes", "What the exit codes mean", `
0    done
1    failure; also a replay that is not as it was recorded
2    bad input: a malformed reference, an unknown flag, a broken layout or archive
3    some of several things were done
4    login or permission
5    not found, or not visible to this login
6    gave up waiting for a rate limit
7    content that does not match its digest; an image that is not signed as --verify, or
     ghcr verify, asks
8    check or doctor found something that is not as it should be; vulns found something
     over the threshold; a limit refused a plan of prune, or there is something to do and
     --exit-code asked; a policy's test failed; rm or untag would take away more than was
     named, or what is needed
9    vulns does not know everything, and --fail-on-unknown is set
130  interrupted
141  nobody reads the output any more, as with | head

vulns --fail-on never ends with 0 if not everything is known: with 9 if --fail-on-unknown
is set, else with 4 if a permission was missing, and with 1 if it was something else.

prune --apply: 0 if all was done, or was done before by somebody else; 3 if an action was
blocked by GitHub, changed since the plan, or failed; 1 if all failed; 3 at a limit of its
own (--budget-deletes, --budget-requests, --max-time); 4 and 6 if that ended it. 8 for a
plan that has expired, is not the one that was confirmed, or is refused by its limits; 7
for one that was altered; 2 for one of another package. The first ctrl-C ends waits
at once and waits for what was sent alone, the second ends the process; --resume goes on.

GHCR answers a pull of an image that does not exist with a refusal where nobody is
logged in: that is 4, not 5.`},
		{"formats", "How results are printed", `
On a terminal a table; in a pipe one line for each row, its fields separated by tabs,
with whole digests, bytes and RFC 3339 times, and no heading.

--json            the whole as JSON, of the schema ghcr/1 (docs/output.md)
--json=a,b        only these fields
--jq EXPRESSION   what a jq expression makes of the JSON; strings without quotes
--template TEXT   what a Go template makes of the JSON
-q, --quiet       ids only, one a line

Results are on stdout and all else on stderr.`},
		{"references", "How images and places are written", `
acme/app                          repository on the default registry, ghcr.io
acme/app:v1                       by tag
acme/app@sha256:<hex>             by digest
acme/app:v1@sha256:<hex>          the digest decides; as a target, it must match, and gets the tag
acme/app#123456                   by the number of its version, as ls --versions prints it
acme                              an owner, for ls, check and doctor
ghcr.io/acme/app:v1               with the host
localhost:5000/x/y:z              any registry
https://github.com/orgs/acme/packages/container/app   the page of a package

oci:DIR, oci:DIR:TAG              OCI image layout
docker-archive:FILE, tar:FILE     archive of docker save; :NAME:TAG chooses an image in it
-, docker-archive:-               the same on stdin or stdout

Upper case in names is folded to lower case. Without a tag the whole package is meant by
ls, check, size and visibility, and "latest" by what reads or writes one image. What takes
something away never makes up a tag.`},
		{"tokens", "Which tokens GHCR takes", `
A classic personal access token with read:packages to pull and list, write:packages to
push, and delete:packages besides to delete, untag and restore. ghcr auth login keeps
it, ghcr auth status shows which login counts, and ghcr doctor what it can do.
In GitHub Actions, GITHUB_TOKEN with "permissions: packages: write"; the package must
be linked to the repository, or list it under "Manage Actions access".
Fine-grained tokens and tokens of GitHub Apps are refused by GHCR for most packages.

Where a login is refused for a public image, it is pulled without one.`},
		{"signatures", "How signatures are verified", signaturesTopic},
		{"vulnerabilities", "Where findings come from, and what a report means", vulnerabilitiesTopic},
		{"quirks", "How GHCR differs from other registries", `
- a chunk of an upload is refused above 4 MiB
- an index is not found by clients that do not accept its type by name
- a refused token is answered with 403 and no challenge
- manifests and tags cannot be deleted through the registry; rm and untag go through
  the Packages API, which deletes versions by number, each with all its tags
- a missing permission looks like a missing package
- there is no referrers API: the tag sha256-<hex> stands in for it
- tags are listed in the order in which they were made
- rate limits stand in the text of an error
- an upload may be stored although its last request fails

docs/quirks.md has all of them, with sources, and the switches of the emulator.`},
	} {
		list = append(list, &cobra.Command{Use: t.name, Short: t.short, Long: strings.TrimSpace(t.text)})
	}
	return list
}
