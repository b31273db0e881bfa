package vuln

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// parseCycloneDX reads a CycloneDX document, which may be three things at once: a list of
// packages, findings in them, and VEX. A vulnerability that says nothing of its analysis
// is a finding, and so is one in a component of the document whose analysis does not
// say that it does no harm. An empty list of vulnerabilities is no scan: Trivy writes
// one into plain SBOMs.
func parseCycloneDX(text []byte, xml bool) (*Document, error) {
	format := cdx.BOMFileFormatJSON
	if xml {
		format = cdx.BOMFileFormatXML
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), format).Decode(&bom); err != nil {
		return nil, oci.Invalid("CycloneDX: %w", err)
	}
	if !xml && bom.BOMFormat != "CycloneDX" || xml && !strings.HasPrefix(bom.XMLNS, "http://cyclonedx.org/schema/bom/") {
		return nil, oci.Invalid("the document is not CycloneDX")
	}
	c := cycloneReader{bom: &bom, components: map[string]*cdx.Component{}}
	return c.document(), nil
}

type cycloneReader struct {
	bom        *cdx.BOM
	components map[string]*cdx.Component // by bom-ref
	list       []*cdx.Component          // without the image itself
}

func (c *cycloneReader) document() *Document {
	sbom := SBOM{Format: "CycloneDX-" + c.bom.SpecVersion.String()}
	var tool, version string
	var digests []oci.Digest
	if m := c.bom.Metadata; m != nil {
		sbom.Created = parseTime(m.Timestamp)
		tool, version = cycloneTool(m.Tools)
		if m.Component != nil {
			c.index(m.Component, false)
			digests = cycloneDigests(m.Component)
		}
	}
	sbom.Tool = strings.TrimSpace(tool + " " + version)
	for i := range deref(c.bom.Components) {
		c.index(&(*c.bom.Components)[i], true)
	}
	for _, component := range c.list {
		sbom.add(*cyclonePackage(component))
	}
	vex := VEX{ID: c.bom.SerialNumber, Author: tool, Timestamp: sbom.Created}
	scan := Scan{Tool: strings.ToLower(tool), ToolVersion: version, ScannedAt: sbom.Created, Digests: digests}
	scan.single = scansImages(scan.Tool) && scan.Tool != "ghcr"
	for _, v := range deref(c.bom.Vulnerabilities) {
		status, isVEX := cycloneStatus(v.Analysis)
		if isVEX {
			vex.Statements = append(vex.Statements, c.statement(v, status))
		}
		for _, place := range c.places(v) {
			if !isVEX || place.known && !status.suppresses() {
				scan.Findings = append(scan.Findings, cycloneFinding(v, place.pkg))
			}
		}
	}
	c.bind(vex.Statements)
	doc := &Document{Kind: KindOther}
	if len(vex.Statements) > 0 {
		doc.Kind, doc.VEX = KindVEX, &vex
	}
	if len(sbom.Packages) > 0 || c.bom.Components != nil {
		doc.Kind, doc.SBOM = KindSBOM, &sbom
	}
	state := c.state()
	scan.Partial = state == StatePartial
	if len(scan.Findings) > 0 || state == StateComplete || state == StatePartial {
		doc.Kind, doc.Scans = KindScan, []Scan{scan}
	}
	return doc
}

// state is what a document of our own says of the report that it was made of. That a scan
// was read counts also without findings.
func (c *cycloneReader) state() State {
	if c.bom.Metadata == nil {
		return ""
	}
	for _, p := range deref(c.bom.Metadata.Properties) {
		if p.Name == propertyState {
			return State(p.Value)
		}
	}
	return ""
}

func deref[T any](list *[]T) []T {
	if list == nil {
		return nil
	}
	return *list
}

// index keeps a component and those within it. Nesting is as deep as the decoder allows.
func (c *cycloneReader) index(component *cdx.Component, listed bool) {
	if component.BOMRef != "" {
		c.components[component.BOMRef] = component
	}
	if listed && component.Type != cdx.ComponentTypeOS && component.Type != cdx.ComponentTypeContainer && component.Type != cdx.ComponentTypeFile {
		c.list = append(c.list, component)
	}
	for i := range deref(component.Components) {
		c.index(&(*component.Components)[i], true)
	}
}

func cyclonePackage(component *cdx.Component) *Package {
	name := component.Name
	if component.Group != "" && component.PackageURL == "" {
		name = component.Group + "/" + component.Name
	}
	if component.PackageURL != "" {
		name = "" // as the purl has it
	}
	p := Package{PURL: component.PackageURL, Name: name, Version: component.Version}
	source := map[string]string{} // as Trivy says it
	for _, property := range deref(component.Properties) {
		switch property.Name {
		case "aquasecurity:trivy:FilePath", "syft:location:0:path", propertyPath:
			p.addPath(property.Value)
		case "aquasecurity:trivy:LayerDigest", "syft:location:0:layerID", propertyLayer:
			p.LayerDigest = firstDigest(property.Value)
		default:
			if part, ok := strings.CutPrefix(property.Name, "aquasecurity:trivy:Src"); ok {
				source[part] = property.Value
			}
		}
	}
	if version := source["Version"]; version != "" {
		if source["Release"] != "" {
			version += "-" + source["Release"]
		}
		if epoch := source["Epoch"]; epoch != "" && epoch != "0" {
			version = epoch + ":" + version
		}
		p.builtFrom(source["Name"], version)
	}
	if known := newPackage(p); known != nil {
		return known
	}
	return &Package{Name: component.Name, Version: component.Version}
}

func cycloneTool(tools *cdx.ToolsChoice) (name, version string) {
	if tools == nil {
		return "", ""
	}
	for _, t := range deref(tools.Components) {
		return t.Name, t.Version
	}
	for _, t := range deref(tools.Tools) {
		return t.Name, t.Version
	}
	return "", ""
}

// cycloneDigests are those of the image that the document says it describes.
func cycloneDigests(component *cdx.Component) []oci.Digest {
	list := digestsIn([]string{component.Version})
	if _, version, ok := strings.Cut(component.PackageURL, "@"); ok {
		version, _, _ = strings.Cut(version, "?")
		if version, err := url.PathUnescape(version); err == nil {
			list = addUnique(list, firstDigest(version))
		}
	}
	for _, p := range deref(component.Properties) {
		switch p.Name {
		case "aquasecurity:trivy:RepoDigest", "aquasecurity:trivy:ImageID":
			list = addUnique(list, digestsIn([]string{p.Value})...)
		}
	}
	return list
}

// bind ties an analysis to the image that the document is of, where it names one: what is
// said of a package there is not said of the same package in another image.
func (c *cycloneReader) bind(statements []VEXStatement) {
	if c.bom.Metadata == nil || c.bom.Metadata.Component == nil {
		return
	}
	image := c.bom.Metadata.Component
	var names []string
	for _, d := range cycloneDigests(image) {
		names = append(names, d.String())
	}
	if u, err := packageurl.FromString(image.PackageURL); len(names) == 0 && err == nil && (u.Type == packageurl.TypeOCI || u.Type == packageurl.TypeDocker) {
		names = append(names, image.PackageURL)
	}
	if len(names) == 0 {
		return
	}
	for i := range statements {
		parts := VEXProduct{IDs: names}
		var products []VEXProduct
		for _, p := range statements[i].Products {
			for _, id := range p.IDs {
				if id == image.BOMRef || id == image.PackageURL {
					products = append(products, VEXProduct{IDs: names})
				} else {
					parts.Subcomponents = append(parts.Subcomponents, id)
				}
			}
		}
		if len(parts.Subcomponents) > 0 {
			products = append(products, parts)
		}
		statements[i].Products = products
	}
}

type cyclonePlace struct {
	pkg   *Package
	known bool // a component of this document
}

// places are the packages that a vulnerability says it affects. A reference may name a
// component of the document, one of another document by a BOM-Link, or be a purl.
func (c *cycloneReader) places(v cdx.Vulnerability) []cyclonePlace {
	var places []cyclonePlace
	for _, a := range deref(v.Affects) {
		if component := c.components[a.Ref]; component != nil {
			places = append(places, cyclonePlace{cyclonePackage(component), true})
			continue
		}
		if p := newPackage(Package{PURL: linkedRef(a.Ref)}); p != nil {
			for _, version := range deref(a.Range) {
				if p.Version == "" {
					p.Version = version.Version
				}
			}
			places = append(places, cyclonePlace{p, false})
			continue
		}
		places = append(places, cyclonePlace{nil, false})
	}
	if len(places) == 0 {
		places = []cyclonePlace{{}}
	}
	return places
}

// linkedRef is what a BOM-Link, urn:cdx:SERIAL/VERSION#REF, refers to.
func linkedRef(ref string) string {
	if strings.HasPrefix(ref, "urn:cdx:") {
		_, ref, _ = strings.Cut(ref, "#")
		if plain, err := url.PathUnescape(ref); err == nil && !strings.HasPrefix(ref, "pkg:") {
			ref = plain
		}
	}
	return ref
}

func cycloneFinding(c cdx.Vulnerability, p *Package) Vulnerability {
	v := Vulnerability{
		ID: c.ID, Description: c.Description, Package: p,
		Published: parseTime(c.Published), Modified: parseTime(c.Updated),
	}
	if c.Detail != "" && c.Description != "" {
		v.Summary, v.Description = c.Description, c.Detail
	}
	for _, r := range deref(c.References) {
		v.Aliases = addUnique(v.Aliases, r.ID)
	}
	for _, a := range deref(c.Advisories) {
		v.References = addUnique(v.References, a.URL)
	}
	for _, cwe := range deref(c.CWEs) {
		v.CWEs = addUnique(v.CWEs, fmt.Sprintf("CWE-%d", cwe))
	}
	for _, r := range deref(c.Ratings) {
		var source string
		if r.Source != nil {
			source = r.Source.Name
		} else if c.Source != nil {
			source = c.Source.Name
		}
		var score float64
		if r.Score != nil {
			score = *r.Score
		}
		word := string(r.Severity)
		if score > 0 || r.Vector != "" {
			word = "" // computed from it
		}
		v.rate(source, word, r.Vector, score)
		if word == "" && r.Severity != "" && len(v.Ratings) > 0 && v.Ratings[len(v.Ratings)-1].Severity == SeverityUnknown {
			v.rate(source, string(r.Severity), "", 0)
		}
	}
	for _, p := range deref(c.Properties) {
		switch p.Name {
		case propertyFixed:
			v.FixedVersions = addUnique(v.FixedVersions, p.Value)
		case propertyFixState:
			v.FixState = FixState(p.Value)
		case propertyKEV:
			v.KEV = p.Value == "true"
		}
	}
	if fixed, ok := strings.CutPrefix(c.Recommendation, "Upgrade "); ok && len(v.FixedVersions) == 0 {
		// Trivy: "Upgrade NAME to version 1.2.3, 1.3.0; Upgrade …"
		fixed, _, _ = strings.Cut(fixed, ";")
		if _, versions, ok := strings.Cut(fixed, " to version "); ok {
			v.FixedVersions = splitVersions(versions)
		}
	}
	settle(&v)
	return v
}

// cycloneStatus is the status of OpenVEX that an analysis means.
func cycloneStatus(a *cdx.VulnerabilityAnalysis) (VEXStatus, bool) {
	if a == nil {
		return "", false
	}
	switch a.State {
	case cdx.IASNotAffected, cdx.IASFalsePositive:
		return VEXNotAffected, true
	case cdx.IASExploitable:
		return VEXAffected, true
	case cdx.IASInTriage:
		return VEXUnderInvestigation, true
	case cdx.IASResolved, cdx.IASResolvedWithPedigree:
		return VEXFixed, true
	}
	return "", false
}

// versionsOf are the purls of the versions that an analysis is of. A range of them can't
// be compared with what is installed, so nothing is called by it. Where it is said which
// versions are not affected, it is resolved in these alone.
func versionsOf(ref string, versions *[]cdx.AffectedVersions, status VEXStatus) []string {
	u, err := packageurl.FromString(ref)
	if len(deref(versions)) == 0 || err != nil || u.Version != "" {
		return []string{ref}
	}
	clean := func(v cdx.AffectedVersions) bool { return v.Status == cdx.VulnerabilityStatusNotAffected }
	some := status == VEXFixed && slices.ContainsFunc(*versions, clean)
	var list []string
	for _, v := range *versions {
		if u.Version = v.Version; v.Version != "" && (!some || clean(v)) {
			list = addUnique(list, u.ToString())
		}
	}
	return list
}

var cycloneJustifications = map[cdx.ImpactAnalysisJustification]string{
	cdx.IAJCodeNotPresent:               "vulnerable_code_not_present",
	cdx.IAJCodeNotReachable:             "vulnerable_code_not_in_execute_path",
	cdx.IAJRequiresConfiguration:        "vulnerable_code_cannot_be_controlled_by_adversary",
	cdx.IAJRequiresDependency:           "vulnerable_code_cannot_be_controlled_by_adversary",
	cdx.IAJRequiresEnvironment:          "vulnerable_code_cannot_be_controlled_by_adversary",
	cdx.IAJProtectedByCompiler:          "inline_mitigations_already_exist",
	cdx.IAJProtectedAtRuntime:           "inline_mitigations_already_exist",
	cdx.IAJProtectedAtPerimeter:         "inline_mitigations_already_exist",
	cdx.IAJProtectedByMitigatingControl: "inline_mitigations_already_exist",
}

func (c *cycloneReader) statement(v cdx.Vulnerability, status VEXStatus) VEXStatement {
	s := VEXStatement{
		IDs: addUnique(nil, v.ID), Status: status, Text: v.Analysis.Detail,
		Justification: cycloneJustifications[v.Analysis.Justification],
		Timestamp:     parseTime(v.Analysis.LastUpdated),
	}
	if s.Timestamp.IsZero() {
		s.Timestamp = parseTime(v.Analysis.FirstIssued)
	}
	if v.Analysis.State == cdx.IASFalsePositive {
		s.Text = strings.TrimSpace("false positive. " + s.Text)
	}
	for _, r := range deref(v.References) {
		s.IDs = addUnique(s.IDs, r.ID)
	}
	for _, a := range deref(v.Affects) {
		ref := linkedRef(a.Ref)
		if component := c.components[a.Ref]; component != nil && component.PackageURL != "" {
			ref = component.PackageURL
		}
		s.Products = append(s.Products, VEXProduct{IDs: versionsOf(ref, a.Range, status)})
	}
	return s
}
