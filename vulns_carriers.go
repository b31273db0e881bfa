package ghcr

import (
	"context"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// Carriers are the images of a package that are known to have a vulnerability, and those
// of which it is not known.
type Carriers struct {
	Found []Carrier
	// Cleared are images for which a statement, a rule or a filter says that it does not
	// count.
	Cleared []Carrier
	// Unknown are images of which the reports are not complete and do not name it: it may
	// be in them.
	Unknown []ScannedVersion
}

// Carrier is an image that has a vulnerability.
type Carrier struct {
	ScannedVersion
	Tags     []string // that the image has
	Findings []vuln.Vulnerability
	Cleared  []vuln.Suppressed
}

// Carrying tells which images and tags of a package carry a vulnerability, by any of
// its ids: CVE, GHSA or another.
//
// Errors: as for [Client.PackageVulnerabilities]; [ErrInvalid] without an id.
func (c *Client) Carrying(ctx context.Context, image oci.ImageRef, id string, opts SweepOptions) (*Carriers, error) {
	if id == "" {
		return nil, oci.Invalid("which vulnerability? An id is needed, such as CVE-2021-44228")
	}
	result := &Carriers{}
	for v, err := range c.PackageVulnerabilities(ctx, image, opts) {
		if err != nil {
			return nil, err
		}
		carrier := Carrier{ScannedVersion: v, Tags: slices.Clone(v.Version.Tags)}
		for _, f := range v.Report.Image() {
			if f.Has(id) {
				carrier.Findings = append(carrier.Findings, f)
			}
		}
		for _, s := range v.Report.Suppressed {
			if s.Vulnerability.Has(id) {
				carrier.Cleared = append(carrier.Cleared, s)
			}
		}
		switch {
		case len(carrier.Findings) > 0:
			result.Found = append(result.Found, carrier)
		case !v.Report.Complete():
			result.Unknown = append(result.Unknown, v)
		case len(carrier.Cleared) > 0:
			result.Cleared = append(result.Cleared, carrier)
		}
	}
	return result, nil
}
