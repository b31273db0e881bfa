package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/packages"
)

// visible is what ghcr visibility prints.
type visible struct {
	Schema     string              `json:"schema"`
	Package    string              `json:"package"`
	Visibility packages.Visibility `json:"visibility"`
	Anonymous  bool                `json:"anonymous"` // whether a pull without a login was possible just now
	Settings   string              `json:"settings"`
}

func (a *app) visibilityCommand() *cobra.Command {
	var set string
	var open bool
	cmd := &cobra.Command{
		Use:   "visibility PKG",
		Short: "Show who may see a package, by word and by trial",
		Long: `Show whether a package is public, private or internal, as its settings say, and whether
an image of it can be pulled without a login just now. GitHub has no call to change it:
--set tries, and says on which page it is done; --open opens that page.`,
		Example: "  ghcr visibility acme/app\n  ghcr visibility acme/app --jq .anonymous",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			_, ref, err := a.repository(given[0], true)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("set") {
				api, owner, name, err := a.packageOf(ref)
				if err != nil {
					return err
				}
				if err := api.SetVisibility(cmd.Context(), owner, name, packages.Visibility(set)); err != nil {
					return err
				}
			}
			v, err := client.Visibility(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if open {
				if err := a.openPage(v.Settings); err != nil {
					fmt.Fprintf(a.stderr, "ghcr: note: no browser could be opened: %v\n", err)
				}
			}
			outside := "no"
			if v.Anonymous {
				outside = "yes"
			}
			return a.print(result{
				data: visible{schema, ref.Repository(), v.Stated, v.Anonymous, v.Settings},
				ids:  []string{string(v.Stated)},
				head: []string{"PACKAGE", "VISIBILITY", "PULL WITHOUT LOGIN", "SETTINGS"},
				rows: [][]string{{ref.Repository(), string(v.Stated), outside, v.Settings}},
			})
		},
	}
	cmd.Flags().StringVar(&set, "set", "", "make it `public, private or internal`")
	choices(cmd, "set", "public", "private", "internal")
	cmd.Flags().BoolVar(&open, "open", false, "open the settings page in a browser")
	return cmd
}

// openPage opens a page in the browser that BROWSER names, or the system's.
func (a *app) openPage(page string) error {
	command := strings.Fields(a.getenv("BROWSER"))
	if len(command) == 0 {
		command = map[string][]string{
			"darwin": {"open"}, "windows": {"rundll32", "url.dll,FileProtocolHandler"},
		}[runtime.GOOS]
	}
	if len(command) == 0 {
		command = []string{"xdg-open"}
	}
	return exec.Command(command[0], append(command[1:], page)...).Run()
}
