package vuln

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// merge joins what several documents say of the same flaw in the same package. It
// keeps all ratings, aliases and provenance. A finding that is suppressed in one
// scan and not in another stays.
func merge(scans []Scan) ([]Vulnerability, []Suppressed) {
	var list []Vulnerability
	var suppressed []Suppressed
	known := map[[7]string]int{} // what is suppressed for the same reason
	for i := range scans {
		s := &scans[i]
		from := s.provenance()
		for _, v := range s.Findings {
			v.Provenance = append(slices.Clone(v.Provenance), from)
			if s.Link == LinkDigestSigned {
				v.vouched = v.Ratings
			}
			list = append(list, v)
		}
		for _, x := range s.Suppressed {
			x.Vulnerability = x.Vulnerability.clone()
			x.Vulnerability.Provenance = append(slices.Clone(x.Vulnerability.Provenance), from)
			settle(&x.Vulnerability)
			p := x.Vulnerability.Package
			key := [7]string{string(x.By), x.Reason, x.Document, x.Author, x.Vulnerability.ID, p.key(), p.label()}
			if i, ok := known[key]; ok {
				absorb(&suppressed[i].Vulnerability, x.Vulnerability, true)
				settle(&suppressed[i].Vulnerability)
			} else {
				known[key] = len(suppressed)
				suppressed = append(suppressed, x)
			}
		}
	}
	return mergeFindings(list), suppressed
}

func (s *Scan) provenance() Provenance {
	return Provenance{
		Source: s.Source, Link: s.Link, Rule: s.Rule, Method: cmp.Or(s.Method, MethodScan),
		Tool: s.Tool, ToolVersion: s.ToolVersion, DBVersion: s.DBVersion, DBUpdated: s.DBUpdated,
		ScannedAt: s.ScannedAt, Evidence: s.Evidence, Subject: s.Subject, VerifiedBy: s.VerifiedBy,
	}
}

// mergeFindings groups findings by package and then by ids.
//
// An id of a vendor may stand for several flaws, as most advisories of
// distributions do. So two findings with different CVEs are never one, whatever
// other id they share, and a finding with several CVEs joins no two: it is added
// to each of them. A finding that does not say which package or version it is
// about is added to those that do.
func mergeFindings(list []Vulnerability) []Vulnerability {
	var exact, vague []Vulnerability
	packages := map[string]string{} // "name@version" to the one purl it stands for
	for _, v := range list {
		if key := v.Package.key(); key != "" && v.Package.Version != "" {
			if have, ok := packages[v.Package.label()]; ok && have != key {
				key = "" // two ecosystems have a package of that name and version
			}
			packages[v.Package.label()] = key
		}
	}
	groupKey := func(p *Package) string { return cmp.Or(p.key(), packages[p.label()], p.label()) }
	for _, v := range list {
		if v.Package == nil || v.Package.Version == "" || len(cves(v.IDs())) > 1 {
			vague = append(vague, v)
		} else {
			exact = append(exact, v)
		}
	}
	byPackage := map[string][]Vulnerability{}
	for _, v := range exact {
		byPackage[groupKey(v.Package)] = append(byPackage[groupKey(v.Package)], v)
	}
	var merged []Vulnerability
	for _, key := range slices.Sorted(maps.Keys(byPackage)) {
		merged = append(merged, mergeAliases(byPackage[key])...)
	}
	// What is vague is joined where it is the same, before it is added to the others.
	rest := map[string][]Vulnerability{}
	for _, v := range vague {
		key := cmp.Or(v.Package.key(), v.Package.label())
		rest[key] = append(rest[key], v)
	}
	index := indexIDs(merged, true)
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		for _, v := range mergeAliases(rest[key]) {
			found := false
			for i := range index.sharing(&v, true) {
				if v.Package.covers(merged[i].Package) {
					absorb(&merged[i], v, false)
					found = true
				}
			}
			if !found {
				merged = append(merged, v)
			}
		}
	}
	for i := range merged {
		settle(&merged[i])
	}
	return merged
}

// covers tells whether a package that is only vaguely known may be the other.
func (p *Package) covers(other *Package) bool {
	switch {
	case p == nil:
		return true
	case other == nil || p.Version != "" && p.Version != other.Version:
		return false
	case p.PURL != "" && other.PURL != "":
		u, err := packageurl.FromString(p.PURL)
		if err != nil {
			return false
		}
		u.Qualifiers, u.Subpath, u.Version = nil, "", ""
		return purlMatches(u.ToString(), other.PURL)
	}
	return strings.EqualFold(p.Name, other.Name)
}

// mergeAliases joins findings of one package that share an id. CVEs come first. An id
// joins nothing if what it would join has different CVEs: it stands for all of them, and
// what has only that id is joined with its like, and added to each. So the order of the list does not matter.
func mergeAliases(list []Vulnerability) []Vulnerability {
	parent := make([]int, len(list))
	known := make([][]string, len(list)) // CVEs of the group, at its root
	for i := range list {
		parent[i], known[i] = i, cves(list[i].IDs())
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	byID := map[string][]int{}
	for i := range list {
		for _, id := range list[i].IDs() {
			byID[strings.ToUpper(id)] = append(byID[strings.ToUpper(id)], i)
		}
	}
	ids := slices.SortedFunc(maps.Keys(byID), func(a, b string) int {
		return cmp.Or(cmp.Compare(idRank(a), idRank(b)), cmp.Compare(a, b))
	})
	for _, id := range ids {
		if id == "" {
			continue
		}
		var one []string
		several := false
		for _, i := range byID[id] {
			if have := known[root(i)]; len(have) > 0 {
				several = several || one != nil && !slices.Equal(one, have)
				one = have
			}
		}
		members := byID[id]
		if several {
			members, one = slices.DeleteFunc(slices.Clone(members), func(i int) bool { return len(known[root(i)]) > 0 }), nil
		}
		if len(members) == 0 {
			continue
		}
		first := root(members[0])
		known[first] = one
		for _, i := range members[1:] {
			if r := root(i); r != first {
				parent[r] = first
			}
		}
	}
	groups := map[int]*Vulnerability{}
	var order []int
	for i := range list {
		r := root(i)
		if groups[r] == nil {
			v := list[i].clone()
			groups[r] = &v
			order = append(order, r)
			continue
		}
		absorb(groups[r], list[i], true)
	}
	var merged, ambiguous []Vulnerability
	for _, r := range order {
		if len(known[r]) > 0 {
			merged = append(merged, *groups[r])
		} else {
			ambiguous = append(ambiguous, *groups[r])
		}
	}
	named := indexIDs(merged, false) // as they are now, so that one that is added does not bring in the next
	for _, v := range ambiguous {
		added := false
		for i := range named.sharing(&v, false) {
			absorb(&merged[i], v, true)
			added = true
		}
		if !added {
			merged = append(merged, v)
		}
	}
	return merged
}

// absorb adds to v what another finding of the same flaw knows. The aliases of one
// that stands for several flaws are not v's.
func absorb(v *Vulnerability, other Vulnerability, aliases bool) {
	if aliases || len(cves(other.IDs())) <= 1 {
		v.Aliases = addUnique(v.Aliases, other.IDs()...)
	}
	v.Summary = cmp.Or(v.Summary, other.Summary)
	v.Description = cmp.Or(v.Description, other.Description)
	v.References = addUnique(v.References, other.References...)
	v.FixedVersions = addUnique(v.FixedVersions, other.FixedVersions...)
	v.FixState, v.EPSS = joined(*v, other)
	v.Ratings = addUnique(v.Ratings, other.Ratings...)
	v.vouched = addUnique(v.vouched, other.vouched...)
	v.KEV = v.KEV || other.KEV
	v.CWEs = addUnique(v.CWEs, other.CWEs...)
	if v.Published.IsZero() {
		v.Published = other.Published
	}
	if other.Modified.After(v.Modified) {
		v.Modified = other.Modified
	}
	v.Provenance = addUnique(v.Provenance, other.Provenance...)
	if v.Package == nil {
		v.Package = other.Package
	} else if p := other.Package; p != nil {
		if v.Package.PURL == "" {
			v.Package.PURL, v.Package.Type = p.PURL, cmp.Or(p.Type, v.Package.Type)
		}
		v.Package.LayerDigest = cmp.Or(v.Package.LayerDigest, p.LayerDigest)
		v.Package.addPath(p.allPaths()...)
	}
}

// joined is what two documents say of the fix and of how likely the flaw is to be exploited:
// what says more, and the newest. Of what is signed, one that is not may say that it is
// worse or that there is a fix, and nothing else.
func joined(a, b Vulnerability) (FixState, *EPSS) {
	signedA, signedB := a.Link() == LinkDigestSigned, b.Link() == LinkDigestSigned
	if signedB && !signedA {
		a, b = b, a
	}
	fix, epss := betterFix(a.FixState, b.FixState), a.EPSS
	if signedA != signedB && b.FixState != FixFixed {
		fix = cmp.Or(a.FixState, FixUnknown)
	}
	switch {
	case a.EPSS == nil:
		epss = b.EPSS
	case b.EPSS == nil:
	case signedA != signedB && b.EPSS.Score > a.EPSS.Score, signedA == signedB && b.EPSS.Date > a.EPSS.Date:
		epss = b.EPSS
	}
	return fix, epss
}

func (v Vulnerability) clone() Vulnerability {
	v.References, v.Aliases = slices.Clone(v.References), slices.Clone(v.Aliases)
	v.FixedVersions, v.Ratings = slices.Clone(v.FixedVersions), slices.Clone(v.Ratings)
	v.CWEs, v.Provenance, v.vouched = slices.Clone(v.CWEs), slices.Clone(v.Provenance), slices.Clone(v.vouched)
	if v.Package != nil {
		p := *v.Package
		p.Paths = slices.Clone(p.Paths)
		v.Package = &p
	}
	return v
}

// settle decides what is shown of all that is known: id, severity, fix, and the order
// of provenance.
func settle(v *Vulnerability) {
	ids := addUnique(nil, v.IDs()...)
	slices.SortStableFunc(ids, func(a, b string) int {
		return cmp.Or(cmp.Compare(idRank(a), idRank(b)), cmp.Compare(a, b))
	})
	if len(ids) > 0 {
		own := v.ID
		v.ID = ids[0]
		if own != "" && (idRank(v.ID) > 1 || len(cves(ids)) > 1) {
			v.ID = own // neither CVE nor GHSA, or the name of several: what the source calls it
		}
		v.Aliases = slices.DeleteFunc(ids, func(id string) bool { return id == v.ID })
	}
	if len(v.Aliases) == 0 {
		v.Aliases = nil
	}
	v.FixState = cmp.Or(v.FixState, FixUnknown)
	if len(v.FixedVersions) > 0 {
		v.FixedIn = v.FixedVersions[0]
		v.FixState = FixFixed
	} else if v.FixedIn != "" {
		v.FixedVersions, v.FixState = []string{v.FixedIn}, FixFixed
	}
	if len(v.Ratings) > 0 {
		v.Severity = chooseRating(v.Ratings, v.Package)
		// What nobody signed may make it worse, and not better.
		if signed := chooseRating(v.vouched, v.Package); signed.Compare(v.Severity) > 0 {
			v.Severity = signed
		}
	}
	v.Severity = cmp.Or(v.Severity, SeverityUnknown)
	slices.SortStableFunc(v.Provenance, func(a, b Provenance) int {
		return cmp.Or(
			cmp.Compare(b.Link.rank(), a.Link.rank()),
			cmp.Compare(slices.Index(SourceNames, a.Source), slices.Index(SourceNames, b.Source)),
			b.ScannedAt.Compare(a.ScannedAt),
			cmp.Compare(a.Tool, b.Tool),
			cmp.Compare(a.Evidence, b.Evidence),
		)
	})
}

// betterFix is the one that says more, and of two that contradict each other the one
// with a fix: the fix is named beside it.
func betterFix(a, b FixState) FixState {
	for _, state := range []FixState{FixFixed, FixWontFix, FixNotFixed} {
		if a == state || b == state {
			return state
		}
	}
	return FixUnknown
}
