package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// vulnsFlags say what is asked, of whom, and what counts.
type vulnsFlags struct {
	platform      string
	sources       []string
	enrich        []string
	enrichOwn     bool
	enrichExcept  []string
	source        string
	reports       []string
	vex           []string
	vexSignedOnly bool
	ignore        []string
	ignoreUnfixed bool
	onlyFixed     bool
	history       bool
	requireSigned bool
	untagged      bool
	trustFlags
}

func (f *vulnsFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.sources, "sources", nil, "ask only these `SOURCES`: "+commas(vuln.SourceNames))
	flags.StringSliceVar(&f.enrich, "enrich", nil, "look packages of attested SBOMs up in `ghsa,osv`; their names leave this machine")
	flags.BoolVar(&f.enrichOwn, "enrich-own", false, "with --enrich, also names that have the owner's in them")
	flags.StringSliceVar(&f.enrichExcept, "enrich-except", nil, "with --enrich, never names like this `GLOB`")
	flags.StringVar(&f.source, "alerts-of", "", "repository `OWNER/NAME` whose alerts are read (default: the linked one)")
	flags.StringArrayVar(&f.reports, "report", nil, "also what is in this `FILE`: a report, SARIF or an SBOM; may be repeated")
	flags.StringArrayVar(&f.vex, "vex", nil, "also the statements in this `FILE` of OpenVEX or CycloneDX; may be repeated")
	flags.BoolVar(&f.vexSignedOnly, "vex-signed-only", false, "ignore statements that --key, --identity or --repo has not signed")
	flags.StringArrayVar(&f.ignore, "ignore-file", nil, "leave out what this `FILE` lists: own YAML, .trivyignore, osv-scanner.toml; may be repeated")
	flags.BoolVar(&f.ignoreUnfixed, "ignore-unfixed", false, "leave out findings for which it is known that there is no fix")
	flags.BoolVar(&f.onlyFixed, "only-fixed", false, "leave out all but findings with a fix")
	flags.BoolVar(&f.history, "history", false, "keep findings of scans that a newer one of the same tool replaces")
	flags.BoolVar(&f.requireSigned, "require-signed", false, "believe only attestations that --key, --identity or --repo signed")
	f.trustFlags.add(flags)
}

// commas writes names with commas between them.
func commas[S ~string](names []S) string {
	var list []string
	for _, n := range names {
		list = append(list, string(n))
	}
	return strings.Join(list, ", ")
}

// options reads the flags, and the files that they name.
func (f *vulnsFlags) options(a *app) (ghcr.VulnOptions, error) {
	opts := ghcr.VulnOptions{
		Platform: f.platform, Repository: f.source,
		Disclosure: security.Disclosure{Own: f.enrichOwn, Except: f.enrichExcept},
		Report:     vuln.Options{VEXSignedOnly: f.vexSignedOnly, IgnoreUnfixed: f.ignoreUnfixed, OnlyFixed: f.onlyFixed, History: f.history, Now: time.Now()},
	}
	for _, name := range f.sources {
		opts.Sources = append(opts.Sources, vuln.SourceName(name))
	}
	for _, name := range f.enrich {
		opts.Enrich = append(opts.Enrich, vuln.SourceName(name))
	}
	if len(f.enrich) == 0 && (f.enrichOwn || len(f.enrichExcept) > 0) {
		return opts, usage("--enrich-own and --enrich-except do nothing without --enrich")
	}
	if f.vexSignedOnly && len(f.vex) > 0 {
		return opts, usage("--vex-signed-only leaves out what --vex gives, since no signature comes with a file")
	}
	by, err := f.verifiers(a)
	if err != nil {
		return opts, err
	}
	if f.requireSigned && len(by) == 0 {
		return opts, usage("--require-signed: say whose signature counts, with --key, --identity or --repo")
	}
	if len(by) > 0 {
		opts.Verification = security.Verification{Verifier: ghcr.VerifyWith(by...), Required: f.requireSigned}
	}
	for _, name := range f.reports {
		raw, err := a.readFile(name, attest.MaxDocumentSize)
		if err != nil {
			return opts, err
		}
		if _, err := vuln.Parse(raw, ""); err != nil {
			return opts, usage("--report %s: %w", name, err)
		}
		opts.Files = append(opts.Files, vuln.Evidence{ID: name, Content: raw})
	}
	for _, name := range f.vex {
		statements, err := a.readVEX(name)
		if err != nil {
			return opts, err
		}
		opts.Report.VEX = append(opts.Report.VEX, statements)
	}
	for _, name := range f.ignore {
		raw, err := a.readFile(name, attest.MaxDocumentSize)
		if err != nil {
			return opts, err
		}
		rules, err := vuln.ParseIgnore(filepath.Base(name), raw)
		if err != nil {
			return opts, fmt.Errorf("--ignore-file %s: %w", name, err)
		}
		opts.Report.Ignore = append(opts.Report.Ignore, rules...)
	}
	return opts, nil
}

// sweep is options for all images of a package. What has no tag is left out unless it is
// asked for.
func (f *vulnsFlags) sweep(opts ghcr.VulnOptions) ghcr.SweepOptions {
	match := func(v *ghcr.Version) bool { return len(v.Tags) > 0 || f.untagged }
	return ghcr.SweepOptions{VulnOptions: opts, Match: match}
}

func (a *app) readVEX(name string) (vuln.VEX, error) {
	raw, err := a.readFile(name, attest.MaxDocumentSize)
	if err != nil {
		return vuln.VEX{}, err
	}
	doc, err := vuln.Parse(raw, "")
	if err != nil {
		return vuln.VEX{}, usage("--vex %s: %w", name, err)
	}
	if doc.VEX == nil {
		return vuln.VEX{}, usage("--vex %s: it is no VEX but of the kind %s", name, doc.Kind)
	}
	doc.VEX.Document = name
	return *doc.VEX, nil
}

func (a *app) vulnsCommand() *cobra.Command {
	var f vulnsFlags
	var g gateFlags
	var p vulnsPrint
	var as string
	cmd := &cobra.Command{
		Use:   "vulns REF | PKG | OWNER | oci:DIR",
		Short: "Report what is known of an image's vulnerabilities",
		Long: `Report what is known of the vulnerabilities of an image, of each image of a package, or of
all packages of an owner. GitHub does not scan images, and this scans none: it reads what
scanners attested of the image in the registry and at GitHub, uploaded to code scanning,
and what Dependabot says, and tells of each finding where it is from and how surely it is
about the image. ghcr help vulnerabilities explains sources and formats. Of an image in an OCI
layout what is attached to it there is read, and --report; --as is the name that it goes by.

What nobody has looked at is "not scanned", never clean: a report that is not complete says
what is missing. With --fail-on and its like the exit code is
  0  everything is known, and nothing is over the threshold
  8  there are findings over the threshold
  9  nothing is, but not everything is known, and --fail-on-unknown is set; else
  4  the same, for want of a permission
  1  the same, for another reason`,
		Example: "  ghcr vulns acme/app:v1\n  ghcr vulns acme/app:v1 --format json --sources attestation,github-attestation\n  ghcr vulns acme/app",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			opts, err := f.options(a)
			if err != nil {
				return err
			}
			gate, err := g.gate()
			if err != nil {
				return err
			}
			if err := p.check(a.flags); err != nil {
				return err
			}
			gate.IgnoreUnfixed = f.ignoreUnfixed
			p.gate = gate
			reports, failed, err := a.reports(cmd.Context(), given[0], as, f.sweep(opts), p.every)
			if err != nil {
				return err
			}
			return a.printReports(given[0], reports, failed, p)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.platform, "platform", "p", "", "of the image for this `OS/ARCH` alone")
	flags.StringVar(&as, "as", "", "of an image in a layout, the `REF` that it goes by: VEX and SARIF have it")
	flags.BoolVar(&p.every, "all-platforms", false, "a report of each image of an index by itself")
	f.add(flags)
	g.add(flags)
	p.add(flags)
	choices(cmd, "format", vulnsFormats...)
	flags.BoolVar(&f.untagged, "untagged", false, "of a package, also images that have no tag")
	cmd.AddCommand(a.vulnsDiffCommand(), a.vulnsWhereCommand(), a.vulnsAttachCommand())
	return cmd
}

// reported is the report of one image.
type reported struct {
	*vuln.VulnerabilityReport
	Package string
	Tags    []string
	verdict vuln.Verdict
}

var ownerName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`) })

// reports makes the reports that are asked for: one, unless a package or owner is named.
// What failed of several packages is beside the rest.
func (a *app) reports(ctx context.Context, what string, as string, opts ghcr.SweepOptions, every bool) (list []*reported, failed []error, err error) {
	client, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	if isLocal(what) {
		list, err := a.localReports(ctx, client, what, as, opts.VulnOptions, every)
		return list, nil, err
	}
	if as != "" {
		return nil, nil, usage("--as is for an image in a layout: %s has a name", what)
	}
	if !strings.Contains(what, "/") {
		if !ownerName().MatchString(what) {
			return nil, nil, usage("vulns: %q is neither OWNER/IMAGE nor the name of an owner", what)
		}
		if every {
			return nil, nil, usage("--all-platforms is for an image")
		}
		for p, err := range client.OwnerVulnerabilities(ctx, strings.ToLower(what), opts) {
			if err != nil {
				return list, failed, err
			}
			if p.Err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", p.Image.Repository(), p.Err))
			}
			for _, v := range p.Versions {
				list = append(list, reportedVersion(p.Image, v))
			}
		}
		return list, failed, nil
	}
	ref, err := a.image(ctx, what)
	switch {
	case err != nil:
		return nil, nil, err
	case !ref.Reference.IsZero() && every:
		all, err := client.PlatformVulnerabilities(ctx, ref, opts.VulnOptions)
		if err != nil {
			return nil, nil, err
		}
		return reportedPlatforms(ref, all), nil, nil
	case !ref.Reference.IsZero():
		r, err := client.Vulnerabilities(ctx, ref, opts.VulnOptions)
		if err != nil {
			return nil, nil, err
		}
		return []*reported{{VulnerabilityReport: r, Package: ref.Repository()}}, nil, nil
	case every:
		return nil, nil, usage("--all-platforms is for an image: add its tag or digest")
	}
	for v, err := range client.PackageVulnerabilities(ctx, ref, opts) {
		if err != nil {
			return nil, nil, err
		}
		list = append(list, reportedVersion(ref, v))
	}
	return list, nil, nil
}

// localReports reports of an image in a layout.
func (a *app) localReports(ctx context.Context, client *ghcr.Client, what, as string, opts ghcr.VulnOptions, every bool) ([]*reported, error) {
	if as == "" {
		return nil, usage("vulns: say by which name %s goes, with --as OWNER/IMAGE:TAG: statements and reports are about names", what)
	}
	ref, err := client.ParseRef(as)
	if err != nil {
		return nil, fmt.Errorf("--as: %w", err)
	}
	image, err := a.attested(ctx, what)
	if err != nil {
		return nil, err
	}
	ref.Reference.Digest = image.digest
	all, err := client.AttachedVulnerabilities(ctx, image.src, ref, opts)
	if err != nil {
		return nil, err
	}
	if every {
		return reportedPlatforms(ref, all), nil
	}
	return []*reported{{VulnerabilityReport: all.Merged, Package: ref.Repository()}}, nil
}

func reportedPlatforms(ref oci.ImageRef, all *ghcr.ImageVulnerabilities) (list []*reported) {
	for _, r := range all.Platforms {
		list = append(list, &reported{VulnerabilityReport: r, Package: ref.Repository(), Tags: []string{cmp.Or(ref.Reference.Tag, shortDigest(r.Digest))}})
	}
	return list
}

func reportedVersion(image oci.ImageRef, v ghcr.ScannedVersion) *reported {
	return &reported{VulnerabilityReport: v.Report, Package: image.Repository(), Tags: v.Version.Tags}
}

// single tells whether what was named is one image, so that its report is the result.
func single(what string) bool {
	return isLocal(what) || strings.Contains(what, "/") && strings.ContainsAny(what[strings.LastIndexByte(what, '/'):], ":@#")
}

var vulnSorts = map[string]func(a, b vuln.Vulnerability) int{
	"severity": nil, // as a report has it
	"risk":     vuln.CompareRisk,
	"id":       func(a, b vuln.Vulnerability) int { return cmp.Compare(a.ID, b.ID) },
	"package": func(a, b vuln.Vulnerability) int {
		name := func(v vuln.Vulnerability) string {
			if v.Package == nil {
				return ""
			}
			return v.Package.Name
		}
		return cmp.Or(cmp.Compare(name(a), name(b)), b.Severity.Compare(a.Severity), cmp.Compare(a.ID, b.ID))
	},
}

func sortNames() string { return strings.Join(slices.Sorted(maps.Keys(vulnSorts)), ", ") }
