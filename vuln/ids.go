package vuln

import (
	"iter"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// idRank is 0 for a CVE, 1 for GitHub's ids and 2 for others.
func idRank(id string) int {
	switch upper := strings.ToUpper(id); {
	case strings.HasPrefix(upper, "CVE-"):
		return 0
	case strings.HasPrefix(upper, "GHSA-"):
		return 1
	}
	return 2
}

func cves(ids []string) []string {
	var list []string
	for _, id := range ids {
		if idRank(id) == 0 {
			list = addUnique(list, strings.ToUpper(id))
		}
	}
	slices.Sort(list)
	return list
}

// idIndex finds findings by their ids in any case, and if it is made so by id and the name
// of the package.
type idIndex map[[2]string][]int

func indexIDs(list []Vulnerability, names bool) idIndex {
	index := idIndex{}
	for i := range list {
		keys := []string{""}
		if names {
			keys = append(keys, list[i].Package.names()...)
		}
		for _, id := range list[i].IDs() {
			for _, key := range keys {
				at := [2]string{strings.ToUpper(id), key}
				if have := index[at]; id != "" && (len(have) == 0 || have[len(have)-1] != i) {
					index[at] = append(have, i)
				}
			}
		}
	}
	return index
}

// sharing are the places of those that share an id with v, in order, and the name of the
// package if v has one and it is asked for.
func (x idIndex) sharing(v *Vulnerability, names bool) iter.Seq[int] {
	keys := []string{""}
	if named := v.Package.names(); names && len(named) > 0 {
		keys = named
	}
	var found []int
	for _, id := range v.IDs() {
		for _, key := range keys {
			found = append(found, x[[2]string{strings.ToUpper(id), key}]...)
		}
	}
	slices.Sort(found)
	return slices.Values(slices.Compact(found))
}

// names are those that the package goes by, of which ecosystems have more than one.
func (p *Package) names() []string {
	if p == nil {
		return nil
	}
	names := addUnique(nil, strings.ToLower(p.Name))
	if u, err := packageurl.FromString(p.PURL); err == nil {
		names = addUnique(names, strings.ToLower(purlName(u)))
	}
	return names
}
