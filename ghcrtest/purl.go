package ghcrtest

import (
	"net/url"
	"strings"
)

// purl is a package URL, as far as databases go by it.
type purl struct {
	kind       string // "npm"
	path       string // namespace and name
	version    string
	qualifiers url.Values
}

func parsePURL(text string) (p purl, ok bool) {
	rest, ok := strings.CutPrefix(text, "pkg:")
	rest, _, _ = strings.Cut(rest, "#")
	rest, qualifiers, _ := strings.Cut(rest, "?")
	kind, path, found := strings.Cut(rest, "/")
	version := ""
	if i := strings.LastIndex(path, "@"); i > 0 {
		path, version = path[:i], path[i+1:]
	}
	path, pathErr := url.PathUnescape(path)
	version, versionErr := url.PathUnescape(version)
	values, queryErr := url.ParseQuery(qualifiers)
	return purl{kind, path, version, values}, ok && found && path != "" && pathErr == nil && versionErr == nil && queryErr == nil
}

// name is what the package is called where it comes from.
func (p purl) name() string {
	if p.kind == "maven" {
		return strings.Replace(p.path, "/", ":", 1)
	}
	return p.path
}
