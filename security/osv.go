package security

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// DefaultOSV is OSV's API.
const DefaultOSV = "https://api.osv.dev"

const (
	maxQueries    = 1000 // that OSV takes in one question
	maxOSVAnswer  = 32 << 20
	maxOSVRounds  = 20 // pages of one batch
	maxAdvisories = 5000
)

// OSV looks the packages of SBOMs up in OSV's database, also those of Debian, Ubuntu,
// Alpine and others, which go by the name of their source. The names of the packages are
// sent there, without a credential.
func (l *Look) OSV(owner string, d Disclosure) vuln.Enricher { return osv{l, owner, d} }

type osv struct {
	look       *Look
	owner      string
	disclosure Disclosure
}

// Name implements [vuln.Enricher].
func (osv) Name() vuln.SourceName { return vuln.SourceOSV }

// Enrich implements [vuln.Enricher].
func (s osv) Enrich(ctx context.Context, _ vuln.Target, sboms []vuln.SBOM) (*vuln.SourceReport, error) {
	f := &fetch{Look: s.look}
	list, notes := s.disclosure.disclosed(s.owner, sboms)
	queries := map[osvQuery][]string{} // the purls that each is about
	unasked := 0
	for _, p := range list {
		q, ok := queryOf(p)
		if !ok {
			unasked++
			continue
		}
		queries[q] = append(queries[q], p.PURL)
	}
	if unasked > 0 {
		notes = append(notes, fmt.Sprintf("%d packages are of distributions or releases that OSV is not asked about", unasked))
	}
	hits, err := f.osvHits(ctx, queries)
	records, recordsErr := f.osvRecords(ctx, hits)
	if err == nil {
		err = recordsErr
	}
	found := map[string][]vuln.Advisory{} // by purl
	for hit, purls := range hits {
		for _, purl := range purls {
			found[purl] = append(found[purl], records[hit]...)
		}
	}
	report := &vuln.SourceReport{Warnings: notes, Requests: int(f.requests.Load())}
	for _, sbom := range sboms {
		report.Scans = append(report.Scans, vuln.EnrichSBOM(s.Name(), sbom, func(p vuln.Package) []vuln.Advisory { return found[p.PURL] }))
	}
	return report, refused(s.Name(), "looking up packages", err)
}

// osvQuery asks which records there are of a package.
type osvQuery struct {
	Package osvPackage `json:"package"`
	Version string     `json:"version,omitempty"`
	Page    string     `json:"page_token,omitempty"`
}

type osvPackage struct {
	PURL      string `json:"purl,omitempty"`
	Ecosystem string `json:"ecosystem,omitempty"`
	Name      string `json:"name,omitempty"`
}

// queryOf is how OSV is asked about a package: by its purl without qualifiers, of which
// it ignores some and stumbles over others; or of a distribution by release and
// source.
func queryOf(p lookup) (osvQuery, bool) {
	u := p.purl
	switch u.Type {
	case packageurl.TypeDebian, packageurl.TypeRPM, "apk", "alpm":
		ecosystem := osvEcosystem(strings.ToLower(u.Namespace), u.Qualifiers.Map()["distro"])
		return osvQuery{Package: osvPackage{Ecosystem: ecosystem, Name: cmp.Or(sourceOf(u), u.Name)}, Version: sourceVersion(u)}, ecosystem != ""
	}
	if ecosystems[u.Type] == "" && !osvTypes[u.Type] {
		return osvQuery{}, false
	}
	u.Qualifiers, u.Subpath = nil, ""
	return osvQuery{Package: osvPackage{PURL: u.ToString()}}, true
}

// osvTypes are the types of purls that OSV has something of, besides those of GitHub's
// advisories. Others, such as generic and oci, would be told in vain.
var osvTypes = map[string]bool{
	packageurl.TypeCran: true, packageurl.TypeHackage: true, packageurl.TypeConan: true, packageurl.TypeBitnami: true, packageurl.TypeJulia: true,
}

// sourceOf is the source that a package of a distribution is built from, if it says so.
// Advisories about RPM go by the package's own name, and its source is the name of a file.
func sourceOf(u packageurl.PackageURL) string {
	if u.Type == packageurl.TypeRPM {
		return ""
	}
	source, _, _ := strings.Cut(u.Qualifiers.Map()["upstream"], "@")
	return source
}

// sourceVersion is the version of that source, which may differ from the package's own.
func sourceVersion(u packageurl.PackageURL) string {
	qualifiers := u.Qualifiers.Map()
	if _, version, ok := strings.Cut(qualifiers["upstream"], "@"); ok && version != "" {
		return version
	}
	if epoch := qualifiers["epoch"]; epoch != "" && !strings.HasPrefix(u.Version, epoch+":") {
		return epoch + ":" + u.Version
	}
	return u.Version
}

// osvEcosystem is OSV's name of a release of a distribution, or empty.
func osvEcosystem(system, distro string) string {
	release := distro
	if before, after, ok := strings.Cut(distro, "-"); ok && strings.EqualFold(before, system) {
		release = after
	}
	parts := strings.Split(release, ".")
	if slices.ContainsFunc(parts, func(part string) bool { return part == "" || strings.Trim(part, "0123456789") != "" }) {
		return ""
	}
	switch system {
	case "debian":
		return "Debian:" + parts[0]
	case "alpine":
		if len(parts) >= 2 {
			return "Alpine:v" + parts[0] + "." + parts[1]
		}
	case "ubuntu":
		if len(parts) >= 2 {
			name := "Ubuntu:" + parts[0] + "." + parts[1]
			if parts[1] == "04" && strings.ContainsAny(parts[0][len(parts[0])-1:], "02468") {
				name += ":LTS"
			}
			return name
		}
	case "almalinux":
		return "AlmaLinux:" + parts[0]
	}
	return ""
}

// osvHit is a record that a query found. Modified is part of it, since by it a record
// that is kept is known to be current.
type osvHit struct{ ID, Modified string }

// osvHits asks about packages, a thousand in one request, and returns the purls that
// each record is about.
func (f *fetch) osvHits(ctx context.Context, queries map[osvQuery][]string) (map[osvHit][]string, error) {
	hits := map[osvHit][]string{}
	var pending []osvQuery
	for q := range queries {
		pending = append(pending, q)
	}
	slices.SortFunc(pending, func(a, b osvQuery) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	for batch := range slices.Chunk(pending, maxQueries) {
		for round := 0; len(batch) > 0; round++ {
			if round == maxOSVRounds {
				return hits, fmt.Errorf("%w: what OSV has of these packages goes on after %d pages", errTooMany, maxOSVRounds)
			}
			results, err := f.osvBatch(ctx, batch)
			if err != nil {
				return hits, err
			}
			var more []osvQuery
			for i, r := range results {
				q := batch[i]
				if r.Next != "" {
					if r.Next == q.Page {
						return hits, errCircle
					}
					again := q
					again.Page = r.Next
					more = append(more, again)
				}
				q.Page = ""
				for _, v := range r.Vulns {
					hits[v] = append(hits[v], queries[q]...)
				}
			}
			batch = more
		}
	}
	return hits, nil
}

type osvResult struct {
	Vulns []osvHit `json:"vulns"`
	Next  string   `json:"next_page_token"`
}

func (f *fetch) osvBatch(ctx context.Context, batch []osvQuery) ([]osvResult, error) {
	question, err := json.Marshal(map[string][]osvQuery{"queries": batch})
	if err != nil {
		return nil, err
	}
	body, err := f.elsewhere(ctx, errand{
		op: "look up packages at", target: hostOf(f.client.opts.OSV), method: http.MethodPost, address: f.client.opts.OSV + "/v1/querybatch",
		question: question, limit: maxOSVAnswer, whole: isJSON,
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Results []osvResult `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Results) != len(batch) {
		return nil, fmt.Errorf("look up packages at %s: the answer does not fit the %d questions", hostOf(f.client.opts.OSV), len(batch))
	}
	return answer.Results, nil
}

// osvRecords reads the records that were found.
func (f *fetch) osvRecords(ctx context.Context, hits map[osvHit][]string) (map[osvHit][]vuln.Advisory, error) {
	var list []osvHit
	for hit := range hits {
		list = append(list, hit)
	}
	slices.SortFunc(list, func(a, b osvHit) int { return strings.Compare(a.ID, b.ID) })
	var cut error
	if len(list) > maxAdvisories {
		cut = fmt.Errorf("%w: OSV has %d records of these packages; %d are read", errTooMany, len(list), maxAdvisories)
		list = list[:maxAdvisories]
	}
	read := make([][]vuln.Advisory, len(list))
	errs := make([]error, len(list))
	each(ctx, len(list), func(i int) { read[i], errs[i] = f.osvRecord(ctx, list[i]) })
	records := map[osvHit][]vuln.Advisory{}
	for i, hit := range list {
		if errs[i] != nil && cut == nil {
			cut = errs[i]
		}
		records[hit] = read[i]
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return records, cut
}

func (f *fetch) osvRecord(ctx context.Context, hit osvHit) ([]vuln.Advisory, error) {
	key := strings.Join([]string{"osv", f.client.opts.OSV, hit.ID, hit.Modified}, " ")
	if kept, ok := f.client.opts.Store.Get(key); ok {
		return hit.advisories(kept)
	}
	text, err := f.advisories.get(ctx, key, func() ([]byte, error) {
		return f.elsewhere(ctx, errand{
			op: "get advisory", target: hit.ID, method: http.MethodGet, address: f.client.opts.OSV + "/v1/vulns/" + url.PathEscape(hit.ID),
			limit: maxOSVAnswer, whole: isJSON,
		})
	})
	if err != nil {
		return nil, err
	}
	list, err := hit.advisories(text)
	if err == nil && hit.Modified != "" {
		f.client.opts.Store.Put(key, text)
	}
	return list, err
}

// advisories reads the record. An answer without it would make the finding vanish.
func (h osvHit) advisories(text []byte) ([]vuln.Advisory, error) {
	list, err := vuln.ParseOSV(text)
	if err == nil && !slices.ContainsFunc(list, func(a vuln.Advisory) bool { return a.Vulnerability.ID == h.ID }) {
		return nil, oci.Invalid("OSV: the answer is not the record %s", h.ID)
	}
	return list, err
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return "OSV"
}
