package vuln

import (
	"cmp"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// add keeps a package that has a name; the image itself is none.
func (s *SBOM) add(p Package) {
	if strings.HasPrefix(p.PURL, "pkg:oci/") || strings.HasPrefix(p.PURL, "pkg:docker/") {
		return
	}
	if known := newPackage(p); known != nil {
		s.Packages = append(s.Packages, *known)
	}
}

// builtFrom adds to the purl of a distribution's package what it is built from, where the
// document says so elsewhere: advisories go by that. Syft has it in the purl, Trivy beside
// it.
func (p *Package) builtFrom(source, version string) {
	u, err := packageurl.FromString(p.PURL)
	if err != nil || source == "" || u.Type != packageurl.TypeDebian && u.Type != "apk" || u.Qualifiers.Map()["upstream"] != "" {
		return
	}
	if version != "" && version != (Package{PURL: p.PURL, Version: cmp.Or(p.Version, u.Version)}).source() {
		source += "@" + version
	} else if source == u.Name {
		return
	}
	u.Qualifiers = append(u.Qualifiers, packageurl.Qualifier{Key: "upstream", Value: source})
	p.PURL = u.ToString()
}

// trivySource reads "built package from: openssl 3.0.11-1", as Trivy puts it into SPDX.
func trivySource(info string) (source, version string) {
	rest, ok := strings.CutPrefix(info, "built package from: ")
	if fields := strings.Fields(rest); ok && len(fields) == 2 {
		return fields[0], fields[1]
	}
	return "", ""
}

func sbomOf(s SBOM) *Document { return &Document{Kind: KindSBOM, SBOM: &s} }

// parseSPDX reads SPDX 2 in JSON: of all that it says only the packages and their purls.
func parseSPDX(text []byte) (*Document, error) {
	var file struct {
		Version      string `json:"spdxVersion"`
		CreationInfo struct {
			Created  string   `json:"created"`
			Creators []string `json:"creators"`
		} `json:"creationInfo"`
		Packages []struct {
			Name         string `json:"name"`
			Version      string `json:"versionInfo"`
			ExternalRefs []struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
			Purpose    string `json:"primaryPackagePurpose"`
			SourceInfo string `json:"sourceInfo"`
		} `json:"packages"`
	}
	if err := decode("SPDX", text, &file); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(file.Version, "SPDX-2.") {
		return nil, oci.Invalid("SPDX: version %q is not understood", file.Version)
	}
	s := SBOM{Format: file.Version, Created: parseTime(file.CreationInfo.Created)}
	for _, creator := range file.CreationInfo.Creators {
		if tool, ok := strings.CutPrefix(creator, "Tool: "); ok {
			fill(&s.Tool, tool)
		}
	}
	for _, p := range file.Packages {
		if p.Purpose == "CONTAINER" || p.Purpose == "OPERATING_SYSTEM" || p.Purpose == "OPERATING-SYSTEM" {
			continue
		}
		one := Package{Name: p.Name, Version: p.Version}
		for _, ref := range p.ExternalRefs {
			if ref.Type == "purl" {
				fill(&one.PURL, ref.Locator)
			}
		}
		one.builtFrom(trivySource(p.SourceInfo))
		s.add(one)
	}
	return sbomOf(s), nil
}

// parseSPDXText reads SPDX 2 as lines of tags and values.
func parseSPDXText(text string) (*Document, error) {
	if !strings.HasPrefix(text, "SPDXVersion:") {
		return nil, oci.Invalid("no format that is understood")
	}
	var s SBOM
	var p *Package
	flush := func() {
		if p != nil {
			s.add(*p)
		}
		p = nil
	}
	for line := range strings.Lines(text) {
		tag, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case tag == "SPDXVersion":
			s.Format = value
		case tag == "Created":
			s.Created = parseTime(value)
		case tag == "Creator" && strings.HasPrefix(value, "Tool: "):
			fill(&s.Tool, value[len("Tool: "):])
		case tag == "PackageName":
			flush()
			p = &Package{Name: value}
		case p == nil:
		case tag == "PackageVersion":
			p.Version = value
		case tag == "ExternalRef":
			if fields := strings.Fields(value); len(fields) == 3 && fields[1] == "purl" {
				fill(&p.PURL, fields[2])
			}
		}
	}
	flush()
	return sbomOf(s), nil
}

// parseSPDX3 reads the packages of the graph of an SPDX 3 document.
func parseSPDX3(text []byte) (*Document, error) {
	var file struct {
		Graph []struct {
			Type        string `json:"type"`
			Name        string `json:"name"`
			Version     string `json:"software_packageVersion"`
			PURL        string `json:"software_packageUrl"`
			Created     string `json:"created"`
			SpecVersion string `json:"specVersion"`
			External    []struct {
				Type       string `json:"externalIdentifierType"`
				Identifier string `json:"identifier"`
			} `json:"externalIdentifier"`
		} `json:"@graph"`
	}
	if err := decode("SPDX 3", text, &file); err != nil {
		return nil, err
	}
	s := SBOM{Format: "SPDX-3"}
	for _, e := range file.Graph {
		switch e.Type {
		case "CreationInfo":
			s.Created = parseTime(e.Created)
			if e.SpecVersion != "" {
				s.Format = "SPDX-" + e.SpecVersion
			}
		case "Tool":
			fill(&s.Tool, e.Name)
		case "software_Package":
			p := Package{Name: e.Name, Version: e.Version, PURL: e.PURL}
			for _, id := range e.External {
				if id.Type == "packageUrl" || id.Type == "purl" {
					fill(&p.PURL, id.Identifier)
				}
			}
			s.add(p)
		}
	}
	return sbomOf(s), nil
}

// parseSyft reads Syft's own format.
func parseSyft(text []byte) (*Document, error) {
	var file struct {
		Artifacts []struct {
			Name, Version, Type, PURL string
			Locations                 []struct{ Path, LayerID string }
		}
		Descriptor struct{ Name, Version string }
	}
	if err := decode("Syft SBOM", text, &file); err != nil {
		return nil, err
	}
	s := SBOM{Format: "syft", Tool: strings.TrimSpace(file.Descriptor.Name + " " + file.Descriptor.Version)}
	for _, a := range file.Artifacts {
		p := Package{Name: a.Name, Version: a.Version, Type: a.Type, PURL: a.PURL}
		for _, l := range a.Locations {
			p.addPath(l.Path)
		}
		if len(a.Locations) > 0 {
			p.LayerDigest = firstDigest(a.Locations[0].LayerID)
		}
		s.add(p)
	}
	return sbomOf(s), nil
}
