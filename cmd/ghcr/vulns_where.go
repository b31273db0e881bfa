package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// carrying is a line of ghcr vulns where.
type carrying struct {
	State    carrierState         `json:"state"`
	Digest   oci.Digest           `json:"digest"`
	Version  int64                `json:"version"`
	Tags     []string             `json:"tags"`
	Findings []vuln.Vulnerability `json:"findings"`
	Cleared  []vuln.Suppressed    `json:"cleared"`
	Why      string               `json:"why,omitempty"` // it is not known
}

type carrierState string

const (
	carries        carrierState = "affected"
	carriesCleared carrierState = "cleared" // it has it, and it does not count
	carriesUnknown carrierState = "unknown"
)

func (a *app) vulnsWhereCommand() *cobra.Command {
	var f vulnsFlags
	var failOnUnknown bool
	cmd := &cobra.Command{
		Use:   "where ID PKG",
		Short: "Find the tags of a package that carry a vulnerability",
		Long: `Find the images of a package, and their tags, that carry a vulnerability, by any of its ids:
a CVE, GitHub's or another. Images of which not everything is known are listed as unknown,
since it may be in them, and those for which a statement or rule says that it does not
count as cleared.`,
		Example: "  ghcr vulns where CVE-2021-44228 acme/app",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			opts, err := f.options(a)
			if err != nil {
				return err
			}
			id := given[0]
			if strings.ContainsAny(id, "/:@") {
				return usage("vulns where: %q is no id; the package comes second", id)
			}
			_, ref, err := a.repository(given[1], true)
			if err != nil {
				return err
			}
			if !ref.Reference.IsZero() {
				return usage("vulns where looks at a whole package: leave out tag and digest, or use ghcr vulns")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			found, err := client.Carrying(cmd.Context(), ref, strings.ToUpper(id), f.sweep(opts))
			if err != nil {
				return err
			}
			if err := a.printCarriers(id, ref, found); err != nil {
				return err
			}
			var doubts []string
			if n := len(found.Unknown); n > 0 {
				doubts = append(doubts, fmt.Sprintf("of %s not everything is known", plural(n, "image")))
				fmt.Fprintf(a.stderr, "ghcr: %s: it may be in them; ghcr vulns tells why\n", doubts[0])
			}
			if !failOnUnknown {
				doubts = nil
			}
			return unknownError("vulns where "+id, doubts, false, true)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&failOnUnknown, "fail-on-unknown", false, "exit code 9 if there are images of which it is not known")
	flags.BoolVar(&f.untagged, "untagged", false, "also images that have no tag")
	f.add(flags)
	return cmd
}

func (a *app) printCarriers(id string, ref oci.ImageRef, found *ghcr.Carriers) error {
	list := []carrying{}
	add := func(state carrierState, c ghcr.Carrier) {
		list = append(list, carrying{
			State: state, Digest: c.Version.Digest(), Version: c.Version.ID, Tags: append([]string{}, c.Version.Tags...),
			Findings: append([]vuln.Vulnerability{}, c.Findings...), Cleared: append([]vuln.Suppressed{}, c.Cleared...),
		})
	}
	for _, c := range found.Found {
		add(carries, c)
	}
	for _, c := range found.Cleared {
		add(carriesCleared, c)
	}
	for _, v := range found.Unknown {
		add(carriesUnknown, ghcr.Carrier{ScannedVersion: v})
		list[len(list)-1].Why = whyUnknown(v.Report)
	}
	r := result{data: list, head: []string{"STATE", "TAGS", "DIGEST", "SEVERITY", "PACKAGE", "FIXED IN", "NOTES"}}
	for _, c := range list {
		severity, name, fixed, note := "", "", "", c.Why
		for _, row := range vuln.Rows(c.Findings[:min(1, len(c.Findings))]) {
			severity, name, fixed = string(row.Severity), strings.TrimSpace(row.Package+" "+row.Version), row.FixedIn
		}
		if n := len(c.Findings) - 1; n > 0 {
			note = fmt.Sprintf("and in %s", plural(n, "other package"))
		}
		for _, s := range c.Cleared[:min(1, len(c.Cleared))] {
			note = "by " + string(s.By) + ": " + s.Reason
		}
		r.ids = append(r.ids, c.Digest.String())
		r.rows = append(r.rows, []string{string(c.State), shortTags(c.Tags), shortDigest(c.Digest), severity, name, fixed, note})
		r.plain = append(r.plain, []string{string(c.State), strings.Join(c.Tags, " "), c.Digest.String(), severity, name, fixed, note})
	}
	r.foot = fmt.Sprintf("%s: %d affected, %d cleared, %d unknown of %s", id, len(found.Found), len(found.Cleared), len(found.Unknown), ref.Repository())
	return a.print(r)
}

// whyUnknown is why a report does not know everything.
func whyUnknown(r *vuln.VulnerabilityReport) string {
	return strings.Join(vuln.Gate{FailOnUnknown: true}.Check(&vuln.VulnerabilityReport{
		Sources: r.Sources, State: r.State, Unscanned: r.Unscanned, Counts: r.Counts,
	}, time.Now()).Reasons, "; ")
}
