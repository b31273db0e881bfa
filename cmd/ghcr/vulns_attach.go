package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

func (a *app) vulnsAttachCommand() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach REF REPORT",
		Short: "Attach a scanner's report to an image",
		Long: `Attach the report of a scan that somebody has made, so that ghcr vulns and others find it:
JSON of Trivy or Grype, SARIF, CycloneDX, or JSON of ghcr vulns. It scans nothing. REPORT is
a file, or - for stdin.

The report goes into a statement about the image, of cosign's type "vuln" with the report as
it is; --type vulns makes one of in-toto's, which has ids and severities only. A report that
names another image is refused. It is not signed: cosign attest --type vuln does that.`,
		Example: "  ghcr vulns attach acme/app:v1 trivy.json\n  ghcr vulns attach acme/app:v1 -p linux/arm64 --type vulns trivy.json",
		Args:    args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			raw, err := a.readFile(given[1], attest.MaxDocumentSize)
			if err != nil {
				return err
			}
			doc, err := vuln.Parse(raw, "")
			if err != nil {
				return usage("vulns attach %s: %w", given[1], err)
			}
			if len(doc.Scans) == 0 {
				return usage("vulns attach %s: it is no report of a scan but of the kind %s; ghcr attest attaches other documents", given[1], doc.Kind)
			}
			image, err := a.attested(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if image.end.Kind != ghcr.EndRegistry {
				return usage("vulns attach: %s is not in a registry", given[0])
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			ref := image.end.Ref
			ref.Reference.Digest = image.digest
			if f.platform != "" {
				if image, _, err = image.platform(cmd.Context(), f.platform); err != nil {
					return err
				}
			}
			if err := ofImage(cmd.Context(), image, doc.Scans); err != nil {
				return fmt.Errorf("vulns attach %s: %w", given[1], err)
			}
			report, err := client.Vulnerabilities(cmd.Context(), ref, ghcr.VulnOptions{
				Platform: f.platform, Sources: []vuln.SourceName{vuln.SourceFile}, Files: []vuln.Evidence{{ID: given[1], Content: raw}},
			})
			if err != nil {
				return err
			}
			if !report.Scanned() {
				return usage("vulns attach %s: it is no scan of %s", given[1], image)
			}
			predicate, kind, err := scanPredicate(f.typ, raw, doc.Scans[0], report)
			if errors.Is(err, vuln.ErrPartial) && f.platform == "" && len(report.Unscanned) > 1 {
				err = fmt.Errorf("%w; attach it to the image that it is of, with --platform", err)
			}
			if err != nil {
				return err
			}
			statement, err := statement(image, kind, predicate)
			if err != nil {
				return fmt.Errorf("vulns attach %s: %w", given[1], err)
			}
			fmt.Fprintf(a.stderr, "ghcr: %s: %s\n", given[1], printable(report.Headline(time.Now())))
			return a.attach(cmd.Context(), image, f, attest.Content{MediaType: inTotoType, Data: statement}, kind)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.typ, "type", "", "vuln, cosign's `TYPE`, or vulns, in-toto's (default vuln where that can hold the report)")
	flags.StringVarP(&f.platform, "platform", "p", "", "attach it to the image for this `OS/ARCH`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check it, and attach nothing")
	return cmd
}

// ofImage refuses scans that name digests of which none is the image's: an older image
// has the same name.
func ofImage(ctx context.Context, image attested, scans []vuln.Scan) error {
	m, err := image.src.Manifest(ctx, image.digest.String())
	if err != nil {
		return err
	}
	own := []oci.Digest{image.digest}
	images := []*oci.Manifest{m}
	for _, d := range m.Manifests {
		if _, attests := oci.AttestationOf(d); attests {
			continue
		}
		child, err := image.src.Manifest(ctx, d.Digest.String())
		if err != nil {
			return err
		}
		own, images = append(own, d.Digest), append(images, child)
	}
	for _, m := range images {
		if m.Config != nil {
			own = append(own, m.Config.Digest)
		}
	}
	for _, scan := range scans {
		if len(scan.Digests) > 0 && !slices.ContainsFunc(scan.Digests, func(d oci.Digest) bool { return slices.Contains(own, d) }) {
			return usage("it is a scan of another image, %s, and not of %s", scan.Digests[0], image)
		}
	}
	return nil
}

// scanPredicate says a scan in the form of cosign, with the report as it is, or of in-toto.
func scanPredicate(form string, raw []byte, scan vuln.Scan, report *vuln.VulnerabilityReport) (predicate json.RawMessage, kind string, err error) {
	native := slices.Contains([]string{"trivy", "grype"}, strings.ToLower(scan.Tool)) && attest.MediaTypeOf(raw) == ""
	if form == "" {
		form = map[bool]string{true: "vuln", false: "vulns"}[native]
	}
	switch {
	case form == "vulns":
		predicate, err = vuln.VulnsPredicate(report)
		return predicate, vuln.PredicateVulns, err
	case form != "vuln":
		return nil, "", usage("--type %q: want vuln or vulns", form)
	case !native:
		return nil, "", usage("--type vuln holds JSON of Trivy or Grype alone; use --type vulns")
	}
	type object map[string]any
	metadata := object{}
	if !scan.ScannedAt.IsZero() {
		metadata = object{"scanStartedOn": scan.ScannedAt.UTC(), "scanFinishedOn": scan.ScannedAt.UTC()}
	}
	uri := map[string]string{"trivy": "pkg:github/aquasecurity/trivy", "grype": "pkg:github/anchore/grype"}[strings.ToLower(scan.Tool)]
	if scan.ToolVersion != "" {
		uri += "@" + scan.ToolVersion
	}
	predicate, err = json.Marshal(object{
		"invocation": object{"uri": "", "event_id": "", "builder.id": ""},
		"scanner": object{
			"uri": uri, "version": scan.ToolVersion, "db": object{"uri": "", "version": scan.DBVersion}, "result": json.RawMessage(raw),
		},
		"metadata": metadata,
	})
	return predicate, vuln.PredicateCosignVuln, err
}
