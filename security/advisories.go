package security

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/vuln"
)

// Disclosure says which names of packages may be told to a database of advisories. The
// zero value tells none that belong to the image's owner.
type Disclosure struct {
	// Own tells also names that have the owner's in them, such as "@acme/web" and
	// "github.com/acme/lib", which may be private.
	Own bool
	// Except are patterns of names that are never told. A star is any text.
	Except []string
}

const (
	maxAffects       = 1000 // that GitHub takes in one question
	maxAffectsBytes  = 6000 // of an address that all servers between take
	maxAdvisoryPages = 20
	// maxPackages is how many packages of one image are looked up.
	maxPackages = 20000
)

// lookup is a package of an image, as databases are asked about it.
type lookup struct {
	vuln.Package
	purl packageurl.PackageURL
	name string // in its own ecosystem
}

// disclosed are the packages of SBOMs that may be asked about, each once, and what is
// to be said of the others.
func (d Disclosure) disclosed(owner string, sboms []vuln.SBOM) (list []lookup, notes []string) {
	var except []*regexp.Regexp
	for _, pattern := range d.Except {
		except = append(except, regexp.MustCompile("(?i)^"+strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")+"$"))
	}
	seen := map[string]bool{}
	var withheld, unknown, over int
	for _, sbom := range sboms {
		for _, p := range sbom.Packages {
			u, err := packageurl.FromString(p.PURL)
			if err != nil || p.Version == "" && u.Version == "" {
				unknown++
				continue
			}
			key := p.PURL + " " + p.Version
			if seen[key] {
				continue
			}
			seen[key] = true
			name := u.Name
			if u.Namespace != "" {
				name = u.Namespace + "/" + u.Name
			}
			source := sourceOf(u)
			private := slices.ContainsFunc(except, func(r *regexp.Regexp) bool {
				return r.MatchString(name) || r.MatchString(u.Name) || source != "" && r.MatchString(source)
			})
			switch {
			case private, !d.Own && belongsTo(owner, u):
				withheld++
			case len(list) == maxPackages:
				over++
			default:
				u.Version = cmp.Or(p.Version, u.Version)
				list = append(list, lookup{p, u, name})
			}
		}
	}
	if withheld > 0 {
		notes = append(notes, fmt.Sprintf("%d packages were not looked up, since their names are not to be told", withheld))
	}
	if unknown > 0 {
		notes = append(notes, fmt.Sprintf("%d packages were not looked up, since the SBOM does not say which package or version they are", unknown))
	}
	if over > 0 {
		notes = append(notes, fmt.Sprintf("%d packages were not looked up, since there are more than %d", over, maxPackages))
	}
	return list, notes
}

// belongsTo tells whether a package has an owner's name as a word of its own name, or of
// that of its source.
func belongsTo(owner string, u packageurl.PackageURL) bool {
	if owner == "" {
		return false
	}
	words := func(s string) string {
		return "-" + strings.Join(strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return strings.ContainsRune("/.@:_-~", r) }), "-") + "-"
	}
	return strings.Contains(words(u.Namespace)+words(u.Name)+words(sourceOf(u)), words(owner))
}

// ecosystems are GitHub's names of the types of purls.
var ecosystems = map[string]string{
	packageurl.TypeNPM: "npm", packageurl.TypePyPi: "pip", packageurl.TypeGolang: "go", packageurl.TypeGem: "rubygems",
	packageurl.TypeCargo: "rust", packageurl.TypeMaven: "maven", packageurl.TypeNuget: "nuget", packageurl.TypeComposer: "composer",
	packageurl.TypeHex: "erlang", packageurl.TypePub: "pub", packageurl.TypeSwift: "swift", packageurl.TypeGithub: "actions",
}

// GHSA looks the packages of SBOMs up in GitHub's advisories. The names of the packages
// are sent there. It has none for the packages of operating systems.
func (l *Look) GHSA(owner string, d Disclosure) vuln.Enricher { return ghsa{l, owner, d} }

type ghsa struct {
	look       *Look
	owner      string
	disclosure Disclosure
}

// Name implements [vuln.Enricher].
func (ghsa) Name() vuln.SourceName { return vuln.SourceGHSA }

// Enrich implements [vuln.Enricher].
func (s ghsa) Enrich(ctx context.Context, _ vuln.Target, sboms []vuln.SBOM) (*vuln.SourceReport, error) {
	f := &fetch{Look: s.look}
	list, notes := s.disclosure.disclosed(s.owner, sboms)
	told := map[string]bool{}
	affects := map[string][]string{} // by ecosystem
	foreign := 0
	for _, p := range list {
		ecosystem := ecosystems[p.purl.Type]
		if ecosystem == "" {
			foreign++
			continue
		}
		name := p.name
		if ecosystem == "maven" {
			name = strings.Replace(name, "/", ":", 1)
		}
		told[p.PURL] = true
		if a := name + "@" + p.purl.Version; !slices.Contains(affects[ecosystem], a) {
			affects[ecosystem] = append(affects[ecosystem], a)
		}
	}
	if foreign > 0 {
		notes = append(notes, fmt.Sprintf("%d packages are of ecosystems that GitHub has no advisories for", foreign))
	}
	found := map[string][]vuln.Advisory{} // by ecosystem
	var err error
	for ecosystem, names := range affects {
		if found[ecosystem], err = f.affecting(ctx, ecosystem, names); err != nil {
			break
		}
	}
	report := &vuln.SourceReport{Warnings: notes, Requests: int(f.requests.Load())}
	for _, sbom := range sboms {
		report.Scans = append(report.Scans, vuln.EnrichSBOM(s.Name(), sbom, func(p vuln.Package) []vuln.Advisory {
			if !told[p.PURL] {
				return nil
			}
			u, _ := packageurl.FromString(p.PURL)
			return found[ecosystems[u.Type]]
		}))
	}
	return report, refused(s.Name(), "looking up advisories", err)
}

// affecting reads the advisories for packages of one ecosystem, "name@version".
func (f *fetch) affecting(ctx context.Context, ecosystem string, names []string) ([]vuln.Advisory, error) {
	var list []vuln.Advisory
	slices.Sort(names) // the same question has the same address, by which answers are kept
	for _, chunk := range chunks(names) {
		query := url.Values{"ecosystem": {ecosystem}, "affects": {strings.Join(chunk, ",")}, "per_page": {"100"}}
		err := f.pages(ctx, "/advisories?"+query.Encode(), maxAdvisoryPages, func(page []byte) error {
			some, err := vuln.ParseGitHubAdvisories(page)
			list = append(list, some...)
			return err
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// chunks divides names so that each part fits into an address.
func chunks(names []string) [][]string {
	var list [][]string
	size := 0
	for _, name := range names {
		n := len(url.QueryEscape(name)) + len("%2C")
		if len(list) == 0 || size+n > maxAffectsBytes || len(list[len(list)-1]) == maxAffects {
			list, size = append(list, nil), 0
		}
		list[len(list)-1] = append(list[len(list)-1], name)
		size += n
	}
	return list
}
