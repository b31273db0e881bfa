package vuln

import (
	"cmp"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Package is the piece of software within the image that has the flaw.
type Package struct {
	PURL        string     `json:"purl,omitempty"`
	Name        string     `json:"name,omitempty"`
	Version     string     `json:"version,omitempty"`
	Type        string     `json:"type,omitempty"` // deb, apk, npm, golang, …: the type of a purl where there is one
	Path        string     `json:"path,omitempty"` // within the image
	Paths       []string   `json:"paths,omitempty"`
	LayerDigest oci.Digest `json:"layer_digest,omitempty"`
}

// newPackage fills in from a purl what the document leaves out, and leaves
// out a purl that is none.
func newPackage(p Package) *Package {
	if p.PURL != "" {
		u, err := packageurl.FromString(p.PURL)
		if err != nil {
			p.PURL = ""
		} else {
			p.Type = u.Type
			p.Name = cmp.Or(p.Name, purlName(u))
			p.Version = cmp.Or(p.Version, u.Version)
		}
	}
	if p.Name == "" && p.PURL == "" {
		return nil
	}
	return &p
}

// purlName is the name of a package as its own ecosystem writes it.
func purlName(u packageurl.PackageURL) string {
	switch {
	case u.Namespace == "", u.Type == packageurl.TypeDebian, u.Type == packageurl.TypeRPM, u.Type == "apk", u.Type == "alpm":
		return u.Name // the namespace is the distribution
	case u.Type == packageurl.TypeMaven:
		return u.Namespace + ":" + u.Name
	}
	return u.Namespace + "/" + u.Name
}

// key names the package for the purpose of joining findings: its purl without
// qualifiers, which tools add differently. Without a purl it is empty.
func (p *Package) key() string {
	if p == nil || p.PURL == "" {
		return ""
	}
	u, err := packageurl.FromString(p.PURL)
	if err != nil {
		return ""
	}
	// Trivy has the epoch of a version as a qualifier, Grype before it.
	if epoch := u.Qualifiers.Map()["epoch"]; epoch != "" && epoch != "0" && !strings.HasPrefix(u.Version, epoch+":") {
		u.Version = epoch + ":" + u.Version
	}
	u.Qualifiers, u.Subpath = nil, ""
	u.Version = cmp.Or(u.Version, p.Version)
	return u.ToString()
}

func (p *Package) purl() string {
	if p == nil {
		return ""
	}
	return p.PURL
}

// label is name and version, for a package without a purl the only identity.
func (p *Package) label() string {
	if p == nil {
		return ""
	}
	return strings.ToLower(p.Name) + "@" + p.Version
}

// distribution is the namespace of an operating system's package, such as debian.
func (p *Package) distribution() string {
	if p == nil || p.PURL == "" {
		return ""
	}
	u, err := packageurl.FromString(p.PURL)
	if err != nil {
		return ""
	}
	switch u.Type {
	case packageurl.TypeDebian, packageurl.TypeRPM, "apk", "alpm":
		return strings.ToLower(u.Namespace)
	}
	return ""
}

// addPath keeps each place the package is at.
func (p *Package) addPath(paths ...string) {
	for _, path := range paths {
		switch {
		case path == "" || path == p.Path:
		case p.Path == "":
			p.Path = path
		default:
			if len(p.Paths) == 0 {
				p.Paths = []string{p.Path}
			}
			p.Paths = addUnique(p.Paths, path)
		}
	}
}

// allPaths are the places the package is at.
func (p *Package) allPaths() []string {
	switch {
	case p == nil || p.Path == "":
		return nil
	case len(p.Paths) == 0:
		return []string{p.Path}
	}
	return p.Paths
}

// purlMatches tells whether a package is one that a rule or statement names: every
// part that the pattern has must be the same, and a part that it leaves out, be it
// version, qualifiers or subpath, may be anything. The digest of an image may stand
// in its purl with or without percent signs.
func purlMatches(pattern, purl string) bool {
	if pattern == "" || purl == "" {
		return false
	}
	want, err := packageurl.FromString(pattern)
	if err != nil {
		return false
	}
	have, err := packageurl.FromString(purl)
	if err != nil {
		return false
	}
	if want.Type != have.Type || want.Namespace != have.Namespace || want.Name != have.Name ||
		want.Version != "" && want.Version != have.Version ||
		want.Subpath != "" && want.Subpath != have.Subpath {
		return false
	}
	qualifiers := have.Qualifiers.Map()
	for key, value := range want.Qualifiers.Map() {
		if qualifiers[key] != value {
			return false
		}
	}
	return true
}

// maxList is how many references, aliases, places and the like of one thing are kept: a
// document with a million of them must not cost a million times as many comparisons.
const maxList = 256

func addUnique[T comparable](list []T, values ...T) []T {
	var zero T
	for _, v := range values {
		if len(list) >= maxList {
			break
		}
		if v != zero && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

func foldEqual(s string) func(string) bool {
	return func(other string) bool { return strings.EqualFold(s, other) }
}
