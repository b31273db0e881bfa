package ghcr

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// VulnOptions say which sources are asked about an image, and what is done with what they
// have. The zero value asks all that are told nothing but the image.
type VulnOptions struct {
	// Platform is the image to report of where the reference names an index, such as
	// "linux/arm64". Empty is all of them.
	Platform string
	// Sources are the only ones to be asked; nil is all. Those that are left out are in the
	// report as not asked. [vuln.SourceGHSA] and [vuln.SourceOSV] need Enrich as well.
	Sources []vuln.SourceName
	// Enrich are databases of advisories that the packages of an attested SBOM are looked up
	// in: [vuln.SourceGHSA], [vuln.SourceOSV]. The names of packages are told to
	// them, as far as Disclosure allows.
	Enrich     []vuln.SourceName
	Disclosure security.Disclosure
	// Repository is the repository of source code, "owner/name", whose alerts are read. Empty is
	// the one that the package is linked to, or else that the image or its provenance
	// names.
	Repository string
	// Verification is what is done about signatures. [VerifyWith] makes a verifier.
	Verification security.Verification
	// Files are documents of the caller's: scans, SBOMs, VEX.
	Files []vuln.Evidence
	// Report is what is done with what the sources have. Its Enrichers are asked besides
	// those of Enrich.
	Report vuln.Options
}

// check refuses what would be passed over in silence.
func (o VulnOptions) check() error {
	for _, name := range o.Sources {
		if !slices.Contains(vuln.SourceNames, name) {
			names := make([]string, len(vuln.SourceNames))
			for i, known := range vuln.SourceNames {
				names[i] = string(known)
			}
			return oci.Invalid("there is no source %q: they are %s", name, strings.Join(names, ", "))
		}
	}
	for _, name := range o.Enrich {
		if name != vuln.SourceGHSA && name != vuln.SourceOSV {
			return oci.Invalid("packages can't be looked up in %q: it is %s or %s", name, vuln.SourceGHSA, vuln.SourceOSV)
		}
	}
	return nil
}

func (o VulnOptions) asks(name vuln.SourceName) bool {
	return o.Sources == nil || slices.Contains(o.Sources, name)
}

// Vulnerabilities reports what is known of the vulnerabilities of an image: of all
// platforms of an index together, or of one. No scanner is run: what others attested
// and uploaded is read, and what became of each source is in the report. A source
// that fails is no error; a report without a scan is [vuln.StateUnavailable] and
// never clean.
//
// On a registry that is not GitHub's only what is attached in the registry is read.
//
// Errors: [ErrNotFound] and the others of resolving the reference; [ErrInvalid] for a
// platform that is not there, or options that mean nothing; the context's.
func (c *Client) Vulnerabilities(ctx context.Context, ref oci.ImageRef, opts VulnOptions) (*vuln.VulnerabilityReport, error) {
	e, err := c.examine(ctx, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("vulnerabilities of %s: %w", ref, err)
	}
	return e.report(ctx, e.target)
}

// ImageVulnerabilities is what is known of an image, together and by platform.
type ImageVulnerabilities struct {
	Merged *vuln.VulnerabilityReport
	// Platforms are the reports of the images of an index, in its order; of a single
	// image the same report as Merged.
	Platforms []*vuln.VulnerabilityReport
}

// PlatformVulnerabilities reports as [Client.Vulnerabilities] does, and of each platform
// of an index by itself as well, without asking anything twice.
//
// Errors: as for [Client.Vulnerabilities].
func (c *Client) PlatformVulnerabilities(ctx context.Context, ref oci.ImageRef, opts VulnOptions) (*ImageVulnerabilities, error) {
	e, err := c.examine(ctx, ref, opts)
	if err != nil {
		return nil, fmt.Errorf("vulnerabilities of %s: %w", ref, err)
	}
	return e.byPlatform(ctx)
}

// byPlatform reports of the target, and of each of its images by itself.
func (e *examination) byPlatform(ctx context.Context) (*ImageVulnerabilities, error) {
	merged, err := e.report(ctx, e.target)
	if err != nil {
		return nil, err
	}
	result := &ImageVulnerabilities{Merged: merged}
	if len(e.target.Platforms) == 1 && e.target.Platforms[0].Digest == e.target.Digest {
		result.Platforms = []*vuln.VulnerabilityReport{merged}
		return result, nil
	}
	for i := range e.target.Platforms {
		report, err := e.report(ctx, onePlatform(e.target, i))
		if err != nil {
			return nil, err
		}
		result.Platforms = append(result.Platforms, report)
	}
	return result, nil
}

// VersionVulnerabilities reports of one version of a package, by its number, as
// [Client.Vulnerabilities] does. Tag and digest of the reference are not looked at.
//
// Errors: [ErrUnsupported] for a registry that is not GitHub's, [*packages.Error] for a
// version that is not there; as for [Client.Vulnerabilities].
func (c *Client) VersionVulnerabilities(ctx context.Context, image oci.ImageRef, id int64, opts VulnOptions) (*vuln.VulnerabilityReport, error) {
	s, err := c.subject(image)
	if err != nil {
		return nil, err
	}
	if s.api == nil {
		return nil, s.noAPI("look up a version of")
	}
	version, err := s.api.Version(ctx, s.owner, s.name, id)
	if err != nil {
		return nil, err
	}
	return c.Vulnerabilities(ctx, s.image.With(oci.Reference{Digest: version.Digest()}), opts)
}

// examination is one look at one image.
type examination struct {
	*look
	target   vuln.Target
	attached *attached
	notes    []string // what is not known of the target
	local    bool     // the image is in no registry
	// unlinked is why it is not known which repository the image is of; nil where that
	// is known, or nothing names one.
	unlinked error
	turn     turn // at the packages source
}

func (c *Client) examine(ctx context.Context, ref oci.ImageRef, opts VulnOptions) (*examination, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	s, err := c.subject(ref)
	if err != nil {
		return nil, err
	}
	e := &examination{look: c.newLook(opts), attached: &attached{source: &keptSource{s}}}
	return e, e.aim(ctx, s, ref)
}

// report asks the sources about a target.
func (e *examination) report(ctx context.Context, t vuln.Target) (*vuln.VulnerabilityReport, error) {
	options := e.opts.Report
	options.Enrichers = append(slices.Clone(options.Enrichers), e.enrichers(t)...)
	report, err := vuln.Collect(ctx, e.sources(t), t, options)
	if err != nil {
		return nil, err
	}
	report.Warnings = append(report.Warnings, e.notes...)
	return report, nil
}

// VerifyWith makes a verifier of documents of those of signatures: any of these may
// vouch for a document.
func VerifyWith(by ...attest.Verifier) vuln.Verifier { return signedBy(by) }

type signedBy []attest.Verifier

// Verify implements [vuln.Verifier].
func (by signedBy) Verify(ctx context.Context, e vuln.Evidence) (vuln.Signer, []byte, error) {
	doc, err := attest.Parse(ctx, nil, attest.Attachment{
		Subject: e.Subject, Layer: oci.Descriptor{MediaType: e.MediaType}, Annotations: e.Annotations,
	}, e.Content)
	if err != nil {
		return vuln.Signer{}, nil, err
	}
	if len(doc.Signatures) == 0 {
		return vuln.Signer{}, nil, attest.ErrNoSignature
	}
	var failed error = attest.ErrUnverified
	for _, verifier := range by {
		signer, err := verifier.Verify(ctx, doc)
		if err == nil {
			return vuln.Signer{KeyID: signer.Key, Issuer: signer.Issuer, SAN: signer.Identity}, doc.Payload, nil
		}
		failed = err
	}
	return vuln.Signer{}, nil, failed
}
