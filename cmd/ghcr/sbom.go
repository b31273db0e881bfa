package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// listedSBOM is an SBOM in what ghcr sbom prints.
type listedSBOM struct {
	Schema     string          `json:"schema"`
	Ref        string          `json:"ref"`
	Format     string          `json:"format"`
	Tool       string          `json:"tool"`
	Created    *time.Time      `json:"created"`
	Source     vuln.SourceName `json:"source"`
	Document   string          `json:"document"` // its digest or address
	Subject    oci.Digest      `json:"subject"`
	Platform   string          `json:"platform"`
	Repository string          `json:"repository"` // whose dependency graph it is
	Signer     *vuln.Signer    `json:"signer"`
	Packages   []vuln.Package  `json:"packages"`
}

func (a *app) sbomCommand() *cobra.Command {
	var opts ghcr.SBOMOptions
	var trust trustFlags
	var required, list bool
	var output string
	cmd := &cobra.Command{
		Use:   "sbom REF",
		Short: "Print the packages of an image, or its SBOM",
		Long: `Print the packages of an image as the SBOM says that is attached to it or that GitHub keeps
an attestation of: one of that very image before one of its index, one with a verified
signature before others, then the newest. With --format the document is printed as it is.

An SBOM may be wrong: anybody who can push can attach one. --key, --identity and --repo tell
who signed it, and --require-signed takes no other.`,
		Example: "  ghcr sbom acme/app:v1\n  ghcr sbom acme/app:v1 --format spdx -o sbom.spdx.json",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			by, err := trust.verifiers(a)
			if err != nil {
				return err
			}
			if required && len(by) == 0 {
				return usage("--require-signed: say whose signature counts, with --key, --identity or --repo")
			}
			if len(by) > 0 {
				opts.Verification = security.Verification{Verifier: ghcr.VerifyWith(by...), Required: required}
			}
			if f := strings.ToLower(opts.Format); f != "" && !strings.HasPrefix(f, "spdx") && !strings.HasPrefix(f, "cyclonedx") && f != "syft" {
				return usage("--format %q: want spdx, cyclonedx or syft, or one of their versions such as spdx-2.3", opts.Format)
			}
			ref, err := a.image(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if ref.Reference.IsZero() {
				ref.Reference.Tag = ghcr.DefaultTag
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			found, err := client.SBOM(cmd.Context(), ref, opts)
			if err != nil {
				return err
			}
			incomplete := errors.Join(found.Problems...)
			if len(found.List) == 0 && incomplete != nil {
				return fmt.Errorf("%s: no SBOM was found, and not everything could be read: %w", ref, incomplete)
			}
			if len(found.List) == 0 {
				return fmt.Errorf("%s: nobody has attached an SBOM: %w", ref, oci.ErrNotFound)
			}
			if incomplete != nil {
				fmt.Fprintf(a.stderr, "ghcr: note: not everything could be read: %s\n", oneLine(incomplete))
			}
			switch {
			case list:
				return a.printSBOMs(ref, found.List)
			case opts.Format != "" || output != "":
				return a.writeDocument(output, found.List[0].Content)
			}
			return a.printPackages(ref, found.List)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Format, "format", "", "print the document in this `FORMAT`: spdx, cyclonedx or syft")
	flags.StringVarP(&opts.Platform, "platform", "p", "", "of the image for this `OS/ARCH`")
	flags.BoolVar(&opts.Repository, "repository", false, "also the one that GitHub makes of the linked repository, which is of its source code")
	flags.BoolVar(&list, "list", false, "list the SBOMs that there are")
	flags.BoolVar(&required, "require-signed", false, "take only what --key, --identity or --repo signed")
	flags.StringVarP(&output, "output", "o", "", "write the document to this `FILE`")
	trust.add(flags)
	return cmd
}

func describeSBOM(ref oci.ImageRef, s ghcr.SBOM) listedSBOM {
	return listedSBOM{
		schema, ref.String(), s.Format, s.Tool, stated(s.Created), s.Source, s.Evidence, s.Subject, s.Platform, s.Repository, s.Signer,
		append([]vuln.Package{}, s.Packages...),
	}
}

func (a *app) printSBOMs(ref oci.ImageRef, found []ghcr.SBOM) error {
	list := []listedSBOM{}
	r := result{head: []string{"FORMAT", "OF", "PACKAGES", "TOOL", "CREATED", "SIGNED BY", "SOURCE"}}
	for _, s := range found {
		one := describeSBOM(ref, s)
		list = append(list, one)
		signer, created, createdAt := "-", "-", ""
		if s.Signer != nil {
			signer = s.Signer.String()
		}
		if one.Created != nil {
			created, createdAt = ago(*one.Created, time.Now()), one.Created.UTC().Format(time.RFC3339)
		}
		of := cmp.Or(s.Repository, s.Platform, "the index")
		r.ids = append(r.ids, s.Evidence)
		cells := []string{s.Format, of, fmt.Sprint(len(s.Packages)), s.Tool}
		source := cmp.Or(string(s.Source), "dependency graph")
		r.rows = append(r.rows, slices.Concat(cells, []string{created, signer, source}))
		r.plain = append(r.plain, slices.Concat(cells, []string{createdAt, strings.TrimPrefix(signer, "-"), source}))
	}
	r.data = list
	r.foot = fmt.Sprintf("%s of %s", plural(len(list), "SBOM"), ref)
	return a.print(r)
}

// printPackages prints the packages of the first SBOM.
func (a *app) printPackages(ref oci.ImageRef, found []ghcr.SBOM) error {
	s := found[0]
	packages := slices.SortedStableFunc(slices.Values(s.Packages), func(a, b vuln.Package) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	s.Packages = packages
	r := result{data: describeSBOM(ref, s), head: []string{"TYPE", "NAME", "VERSION", "PURL"}, rows: [][]string{}}
	for _, p := range packages {
		r.ids = append(r.ids, cmp.Or(p.PURL, p.Name))
		r.rows = append(r.rows, []string{p.Type, p.Name, p.Version, p.PURL})
	}
	of := cmp.Or(s.Repository, s.Platform, "the index")
	r.foot = fmt.Sprintf("%s of %s (%s)", plural(len(packages), "package"), ref, of)
	if !a.flags.quiet {
		signed := "not verified"
		if s.Signer != nil {
			signed = "signed by " + s.Signer.String()
		}
		text := fmt.Sprintf("%s of %s by %s, %s", s.Format, of, cmp.Or(s.Tool, "an unknown tool"), signed)
		if n := len(found) - 1; n > 0 {
			text += fmt.Sprintf("; %d more with --list", n)
		}
		fmt.Fprintf(a.stderr, "ghcr: %s\n", printable(text))
	}
	return a.print(r)
}
