package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// limitLeft is one limit of ghcr limits. What a server does not tell is null.
type limitLeft struct {
	Host       string     `json:"host"`
	Credential string     `json:"credential"`
	Resource   string     `json:"resource"`
	Limit      *int       `json:"limit"` // requests in an hour
	Used       *int       `json:"used"`
	Remaining  *int       `json:"remaining"`
	Reset      *time.Time `json:"reset"`
}

func (a *app) limitsCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show how much of GitHub's rate limits is left",
		Long: `Show how much is left of the limit that calls to the Packages API count on, for each
token in use, and when it begins anew. Asking counts on no limit. The registry has a
limit of its own, by minute, and tells of it only when it refuses. When a command has
to wait, it says on stderr for what and until when; --max-wait bounds that.`,
		Example: "  ghcr limits\n  ghcr limits --jq '.[0].remaining'",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, err := a.inspect(cmd.Context())
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			api, err := client.Packages()
			if err != nil {
				return err
			}
			list := []limitLeft{}
			var refused []error
			for _, t := range states {
				refused = append(refused, t.Refused)
				for _, l := range t.Limits {
					if l.Resource != "core" && !all {
						continue
					}
					list = append(list, limitLeft{api.Host(), t.Source, l.Resource, &l.Limit, &l.Used, &l.Remaining, stated(l.Reset)})
				}
				if len(t.Limits) == 0 && t.Refused == nil {
					list = append(list, limitLeft{Host: api.Host(), Credential: t.Source, Resource: "core"})
				}
			}
			list = append(list, limitLeft{Host: client.Registry(), Credential: states[0].Source, Resource: "registry"})
			return errors.Join(a.print(limitsResult(list)), errors.Join(refused...))
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "with the limits that packages do not count on")
	return cmd
}

func limitsResult(list []limitLeft) result {
	r := result{data: list, head: []string{"HOST", "TOKEN", "LIMIT ON", "LEFT", "OF", "ANEW"}}
	for _, l := range list {
		row := []string{l.Host, l.Credential, l.Resource}
		if l.Limit == nil {
			r.rows = append(r.rows, slices.Concat(row, []string{"not told", "-", "-"}))
			r.plain = append(r.plain, slices.Concat(row, []string{"", "", ""}))
			continue
		}
		r.ids = append(r.ids, fmt.Sprint(*l.Remaining))
		left, of := fmt.Sprint(*l.Remaining), fmt.Sprint(*l.Limit)
		r.rows = append(r.rows, slices.Concat(row, []string{left, of, "in " + time.Until(known(l.Reset)).Round(time.Second).String()}))
		r.plain = append(r.plain, slices.Concat(row, []string{left, of, known(l.Reset).UTC().Format(time.RFC3339)}))
	}
	return r
}
