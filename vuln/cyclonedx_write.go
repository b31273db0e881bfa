package vuln

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Names of the properties of our CycloneDX documents, for what the format has no field for.
const (
	propertyState    = "ghcr:state"
	propertyPath     = "ghcr:path"
	propertyLayer    = "ghcr:layer"
	propertyFixed    = "ghcr:fixed-version"
	propertyFixState = "ghcr:fix-state"
	propertyKEV      = "ghcr:kev"
)

// WriteCycloneDX writes a report as CycloneDX 1.6 in JSON: findings, and what is said of
// those that are suppressed or triaged as their analysis. The property ghcr:state says
// how much an empty list means. [Parse] reads it back.
//
// Errors: those of w; [oci.ErrInvalid] for a report without a reference.
func WriteCycloneDX(w io.Writer, r *VulnerabilityReport, toolVersion string, now time.Time) error {
	ref, err := oci.ParseRef(r.Ref)
	if err != nil {
		return err
	}
	image := imagePURL(ref, r.Digest)
	bom := cdx.NewBOM()
	bom.SpecVersion, bom.JSONSchema = cdx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	at := "" // read back, it is when the scan was made
	if scanned := r.scanTime(); !scanned.IsZero() {
		at = scanned.Format(time.RFC3339)
	} else if !r.Scanned() {
		at = now.UTC().Format(time.RFC3339)
	}
	bom.Metadata = &cdx.Metadata{
		Timestamp:  at,
		Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "ghcr", Version: toolVersion}}},
		Component:  &cdx.Component{BOMRef: image, Type: cdx.ComponentTypeContainer, Name: ref.Repository(), Version: r.Digest.String(), PackageURL: image},
		Properties: &[]cdx.Property{{Name: propertyState, Value: string(r.State)}},
	}
	components := map[string]cdx.Component{}
	vulnerabilities := []cdx.Vulnerability{}
	refs := map[string]int{} // a finding may count, and be suppressed in one scan, too
	add := func(v Vulnerability, a *cdx.VulnerabilityAnalysis) {
		affected := image
		if v.Package != nil {
			component := cycloneComponent(v.Package)
			affected = component.BOMRef
			components[affected] = component
		}
		one := cycloneVulnerability(v, affected, a)
		if refs[one.BOMRef]++; refs[one.BOMRef] > 1 {
			one.BOMRef = fmt.Sprintf("%s-%d", one.BOMRef, refs[one.BOMRef])
		}
		vulnerabilities = append(vulnerabilities, one)
	}
	for _, v := range r.Image() {
		add(v, cycloneAnalysis(v.VEX))
	}
	for _, s := range r.Suppressed {
		if s.Vulnerability.Link() != LinkRepository {
			add(s.Vulnerability, suppressedAnalysis(s))
		}
	}
	list := []cdx.Component{}
	for _, c := range components {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom.Components, bom.Vulnerabilities = &list, &vulnerabilities
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

// imagePURL is the purl by which VEX names an image.
func imagePURL(ref oci.ImageRef, d oci.Digest) string {
	name := ref.Name[strings.LastIndexByte(ref.Name, '/')+1:]
	version := ""
	if d != "" {
		version = "@" + strings.Replace(d.String(), ":", "%3A", 1)
	}
	return "pkg:oci/" + name + version + "?repository_url=" + ref.Repository()
}

func cycloneComponent(p *Package) cdx.Component {
	c := cdx.Component{Type: cdx.ComponentTypeLibrary, Name: cmp.Or(p.Name, "unknown"), Version: p.Version, PackageURL: p.PURL}
	var properties []cdx.Property
	for _, place := range p.allPaths() {
		properties = append(properties, cdx.Property{Name: propertyPath, Value: place})
	}
	if p.LayerDigest != "" {
		properties = append(properties, cdx.Property{Name: propertyLayer, Value: p.LayerDigest.String()})
	}
	if len(properties) > 0 {
		c.Properties = &properties
	}
	hash := sha256.Sum256([]byte(strings.Join(append([]string{p.PURL, p.Name, p.Version}, p.allPaths()...), "\x00")))
	c.BOMRef = fmt.Sprintf("%s-%x", cmp.Or(p.PURL, p.Name), hash[:6])
	return c
}

func cycloneVulnerability(v Vulnerability, affected string, a *cdx.VulnerabilityAnalysis) cdx.Vulnerability {
	hash := sha256.Sum256([]byte(v.ID + "\x00" + affected))
	c := cdx.Vulnerability{
		BOMRef: fmt.Sprintf("%s-%x", v.ID, hash[:6]), ID: v.ID, Description: v.Summary, Detail: v.Description, Analysis: a,
		Affects: &[]cdx.Affects{{Ref: affected}},
	}
	ratings := []cdx.VulnerabilityRating{}
	for _, r := range v.Ratings {
		rating := cdx.VulnerabilityRating{Severity: cdx.Severity(r.Severity), Method: cdx.ScoringMethod(r.Method), Vector: r.Vector}
		if r.Source != "" {
			rating.Source = &cdx.Source{Name: r.Source}
		}
		if r.Score > 0 {
			rating.Score = new(r.Score)
		}
		ratings = append(ratings, rating)
	}
	if len(ratings) == 0 {
		ratings = append(ratings, cdx.VulnerabilityRating{Severity: cdx.Severity(v.Severity)})
	}
	c.Ratings = &ratings
	var cwes []int
	for _, cwe := range v.CWEs {
		if n, err := strconv.Atoi(strings.TrimPrefix(cwe, "CWE-")); err == nil && n > 0 {
			cwes = append(cwes, n)
		}
	}
	if len(cwes) > 0 {
		c.CWEs = &cwes
	}
	if list := addresses(v.References); len(list) > 0 {
		advisories := make([]cdx.Advisory, len(list))
		for i, address := range list {
			advisories[i].URL = address
		}
		c.Advisories = &advisories
	}
	if len(v.Aliases) > 0 {
		references := make([]cdx.VulnerabilityReference, len(v.Aliases))
		for i, alias := range v.Aliases {
			references[i] = cdx.VulnerabilityReference{ID: alias, Source: &cdx.Source{Name: strings.ToLower(strings.SplitN(alias, "-", 2)[0])}}
		}
		c.References = &references
	}
	if v.Package != nil && v.FixedIn != "" {
		c.Recommendation = fmt.Sprintf("Upgrade %s to version %s", v.Package.Name, strings.Join(v.FixedVersions, ", "))
	}
	properties := []cdx.Property{{Name: propertyFixState, Value: string(cmp.Or(v.FixState, FixUnknown))}}
	for _, fixed := range v.FixedVersions {
		properties = append(properties, cdx.Property{Name: propertyFixed, Value: fixed})
	}
	if v.KEV {
		properties = append(properties, cdx.Property{Name: propertyKEV, Value: "true"})
	}
	c.Properties = &properties
	if !v.Published.IsZero() {
		c.Published = v.Published.Format(time.RFC3339)
	}
	if !v.Modified.IsZero() {
		c.Updated = v.Modified.Format(time.RFC3339)
	}
	return c
}

// cycloneAnalysis is the analysis that a statement of OpenVEX means.
func cycloneAnalysis(s *VEXState) *cdx.VulnerabilityAnalysis {
	if s == nil {
		return nil
	}
	a := &cdx.VulnerabilityAnalysis{Detail: s.Statement}
	if !s.Timestamp.IsZero() {
		a.LastUpdated = s.Timestamp.Format(time.RFC3339)
	}
	switch s.Status {
	case VEXNotAffected:
		a.State = cdx.IASNotAffected
		switch s.Justification {
		case "component_not_present", "vulnerable_code_not_present":
			a.Justification = cdx.IAJCodeNotPresent
		case "vulnerable_code_not_in_execute_path":
			a.Justification = cdx.IAJCodeNotReachable
		case "vulnerable_code_cannot_be_controlled_by_adversary":
			a.Justification = cdx.IAJRequiresEnvironment
		case "inline_mitigations_already_exist":
			a.Justification = cdx.IAJProtectedByMitigatingControl
		}
	case VEXFixed:
		a.State = cdx.IASResolved
	case VEXAffected:
		a.State = cdx.IASExploitable
	case VEXUnderInvestigation:
		a.State = cdx.IASInTriage
	}
	return a
}

// suppressedAnalysis is what can be said of a finding that does not count. An ignore
// rule or a filter is no analysis of it: it stays in triage, with the reason.
func suppressedAnalysis(s Suppressed) *cdx.VulnerabilityAnalysis {
	if a := cycloneAnalysis(s.Vulnerability.VEX); a != nil {
		return a
	}
	detail := fmt.Sprintf("suppressed by %s: %s", s.By, s.Reason)
	if s.By == SuppressedByDismissal && strings.HasPrefix(s.Reason, "false positive") {
		return &cdx.VulnerabilityAnalysis{State: cdx.IASFalsePositive, Detail: detail}
	}
	return &cdx.VulnerabilityAnalysis{State: cdx.IASInTriage, Detail: detail}
}
