package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// compared is what ghcr vulns diff prints.
type compared struct {
	Schema string     `json:"schema"`
	Before comparedOf `json:"before"`
	After  comparedOf `json:"after"`
	vuln.Difference
}

type comparedOf struct {
	Ref    string     `json:"ref"`
	Digest oci.Digest `json:"digest"`
	State  vuln.State `json:"state"`
}

func (a *app) vulnsDiffCommand() *cobra.Command {
	var f vulnsFlags
	var failOn string
	var failOnUnknown, allowUnrated bool
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Compare the vulnerabilities of two images",
		Long: `Compare what is known of the vulnerabilities of two images: what the second has added (+),
what it no longer has (-), and of what the severity is another (~). What the second lacks
without everything of it being known is not fixed but unsure (?).

--fail-on judges what was added, and what has become that severe: old findings do not fail it.`,
		Example: "  ghcr vulns diff acme/app:v1 acme/app:v1.2.3",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			opts, err := f.options(a)
			if err != nil {
				return err
			}
			if err := checkUnrated(allowUnrated, failOn, failOnUnknown); err != nil {
				return err
			}
			var level vuln.Severity
			if failOn != "" {
				if level, err = severity("fail-on", failOn); err != nil {
					return err
				}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var both [2]*vuln.VulnerabilityReport
			for i, s := range given {
				ref, err := a.image(cmd.Context(), s)
				if err != nil {
					return err
				}
				if ref.Reference.IsZero() {
					ref.Reference.Tag = ghcr.DefaultTag
				}
				if both[i], err = client.Vulnerabilities(cmd.Context(), ref, opts); err != nil {
					return err
				}
				if !both[i].Complete() || !a.flags.quiet {
					fmt.Fprintf(a.stderr, "ghcr: %s: %s\n", printable(both[i].Ref), printable(both[i].Headline(time.Now())))
				}
			}
			d := vuln.Compare(both[0], both[1])
			if err := a.printDifference(both, d); err != nil {
				return err
			}
			return judgeDifference(given, both, d, level, failOnUnknown, allowUnrated)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.platform, "platform", "p", "", "of the images for this `OS/ARCH` alone")
	flags.StringVar(&failOn, "fail-on", "", "exit code 8 if a finding of this `SEVERITY` or worse is new")
	flags.BoolVar(&allowUnrated, "allow-unrated", false, "let new findings pass that nobody has rated: without it, --fail-on does not know")
	flags.BoolVar(&failOnUnknown, "fail-on-unknown", false, "exit code 9 if not everything is known")
	f.add(flags)
	return cmd
}

func (a *app) printDifference(both [2]*vuln.VulnerabilityReport, d vuln.Difference) error {
	data := compared{Schema: schema, Difference: d}
	for i, side := range []*comparedOf{&data.Before, &data.After} {
		*side = comparedOf{both[i].Ref, both[i].Digest, both[i].State}
	}
	r := result{data: data, head: append([]string{""}, vuln.Columns...)}
	add := func(sign string, list []vuln.Vulnerability) {
		for i, row := range vuln.Rows(list) {
			r.ids = append(r.ids, list[i].ID)
			r.rows = append(r.rows, append([]string{sign}, row.Cells()...))
		}
	}
	add("+", d.Added)
	for _, c := range d.Changed {
		add("~", []vuln.Vulnerability{c.After})
		last := r.rows[len(r.rows)-1]
		last[len(last)-1] = strings.TrimPrefix(last[len(last)-1]+", was "+string(c.Before), ", ")
	}
	add("-", d.Fixed)
	add("?", d.Unsure)
	summary := fmt.Sprintf("%d added, %d fixed, %d changed, %d unchanged", len(d.Added), len(d.Fixed), len(d.Changed), len(d.Unchanged))
	if len(d.Unsure) > 0 {
		summary += fmt.Sprintf(", %d unsure", len(d.Unsure))
	}
	if !a.flags.quiet {
		fmt.Fprintf(a.stderr, "ghcr: %s\n", summary)
	}
	return a.print(r)
}

// judgeDifference fails what is new and at least as severe as a level; an empty one
// judges nothing.
func judgeDifference(given []string, both [2]*vuln.VulnerabilityReport, d vuln.Difference, level vuln.Severity, asked, allowUnrated bool) error {
	if level == "" && !asked {
		return nil
	}
	what := "vulns diff " + strings.Join(given, " ")
	var over []string
	for _, v := range d.Added {
		if level != "" && v.Severity.Compare(level) >= 0 {
			over = append(over, string(v.Severity)+" "+v.ID)
		}
	}
	for _, c := range d.Changed {
		if level != "" && c.After.Severity.Compare(level) >= 0 && c.Before.Compare(level) < 0 {
			over = append(over, string(c.After.Severity)+" "+c.After.ID)
		}
	}
	if len(over) > 0 {
		return fmt.Errorf("%s: new: %s: %w", what, few(over), errFindings)
	}
	doubts := d.Doubts
	if n := len(d.Added) - rated(d.Added); n > 0 && !allowUnrated {
		doubts = append(slices.Clone(doubts), fmt.Sprintf("%d new that nobody has rated", n))
	}
	forbidden := false
	for _, r := range both {
		for _, s := range r.Sources {
			forbidden = forbidden || s.Status == vuln.StatusForbidden
		}
	}
	return unknownError(what, doubts, forbidden, asked)
}

// rated is how many findings somebody has rated.
func rated(list []vuln.Vulnerability) int {
	n := 0
	for _, v := range list {
		if v.Severity != "" && v.Severity != vuln.SeverityUnknown {
			n++
		}
	}
	return n
}
