package vuln

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Associate says how a scan is about the image. It returns the scan with its link,
// in parts where its findings are tied by different links, and nothing if it is
// about something else.
//
// A scan whose link is known keeps it, unless the scanner itself says that it
// looked at another image. Where it says which platform it looked at, it is a scan of
// that one, even if it is attested of the index.
//
// For others the first rule that holds is recorded: it names the image's digest; it was
// made at the commit of the image and its category or path names the image; its
// category does; its path does; its repository is the one the image is linked to, on
// its default branch. A file that the caller gives is taken for a report of the image.
func Associate(t Target, scan Scan) []Scan {
	var parts []Scan
	for _, part := range associate(t, scan) {
		if t.narrow(&part) {
			parts = append(parts, part)
		}
	}
	return parts
}

// narrow ties a scan of one of several platforms, which does not say by a digest which, to
// the one that it names. It is false if that was not asked about.
func (t Target) narrow(s *Scan) bool {
	if !s.vague(t) || s.platform.OS == "" || s.platform.Architecture == "" {
		return true
	}
	named := func(list []PlatformImage) (found []PlatformImage) {
		for _, p := range list {
			if p.Platform.OS == s.platform.OS && p.Platform.Architecture == s.platform.Architecture &&
				(s.platform.Variant == "" || p.Platform.Variant == "" || p.Platform.Variant == s.platform.Variant) {
				found = append(found, p)
			}
		}
		return found
	}
	own, others := named(t.Platforms), named(t.Others)
	if len(own) == 1 && len(others) == 0 {
		s.Subject = own[0].Digest
	}
	return len(own) > 0 || len(others) == 0
}

func associate(t Target, scan Scan) []Scan {
	if scan.Link != "" {
		if scan.Link.byDigest() && len(scan.Digests) > 0 {
			if image, ok := t.image(scan.Digests); ok {
				scan.Subject = image
			} else if t.isOther(scan.Digests) {
				return nil
			} else {
				scan.Link, scan.elsewhere = LinkPath, true
				scan.Rule = fmt.Sprintf("%s is attested to be scanned, but the scanner looked at %s", scan.Subject, scan.Digests[0])
				scan.Warnings = append(slices.Clone(scan.Warnings), scan.Rule)
			}
		}
		return []Scan{scan}
	}
	if image, ok := t.image(scan.Digests); ok {
		scan.Link, scan.Rule, scan.Subject = LinkDigest, "the scan names the image's digest", image
		return []Scan{scan}
	}
	if t.isOther(scan.Digests) {
		return nil
	}
	scan.elsewhere = len(scan.Digests) > 0
	if scan.Source == SourceFile {
		scan.Link, scan.Rule, scan.Subject = LinkPath, "the caller says that the file is about the image", t.Digest
		if len(scan.Digests) > 0 {
			scan.Rule = fmt.Sprintf("the caller says that the file is about the image, but the scanner looked at %s", scan.Digests[0])
			scan.Warnings = append(slices.Clone(scan.Warnings), scan.Rule)
		}
		return []Scan{scan}
	}
	if len(scan.Digests) > 0 && scan.Commit == "" && scan.Category == "" && scan.Repository == "" {
		return nil // an image, and not this one
	}
	return associateByName(t, scan)
}

// isOther tells whether the digests name a platform that was not asked about.
func (t Target) isOther(digests []oci.Digest) bool {
	return slices.ContainsFunc(t.Others, func(p PlatformImage) bool { return p.in(digests) })
}

// associateByName applies the rules for scans that name no digest. Each finding has
// a path of its own, which may name the image.
func associateByName(t Target, scan Scan) []Scan {
	type tie struct {
		link Link
		rule string
	}
	if strings.HasPrefix(scan.Ref, "refs/pull/") && !slices.Contains(t.Commits, scan.Commit) {
		return nil // what a pull request would make of the image is not the image
	}
	commit := scan.Commit != "" && slices.Contains(t.Commits, scan.Commit)
	category := namesImage(scan.Category, t.Ref)
	repository := t.Repository != "" && strings.EqualFold(scan.Repository, t.Repository) && onDefaultBranch(scan.Ref, t.DefaultBranch)
	link := func(paths []string) tie {
		byPath := slices.ContainsFunc(paths, func(p string) bool { return pathOfImage(p, t.Ref) })
		switch {
		case commit && category:
			return tie{LinkCommit, "same commit, and the category names the image"}
		case commit && byPath:
			return tie{LinkCommit, "same commit, and the path names the image"}
		case category:
			return tie{LinkPath, "the category names the image"}
		case byPath:
			return tie{LinkPath, "the path names the image"}
		case repository:
			return tie{LinkRepository, "same repository"}
		}
		return tie{}
	}
	parts := map[tie]*Scan{}
	part := func(k tie) *Scan {
		if parts[k] == nil {
			p := scan
			p.Link, p.Rule, p.Findings, p.Suppressed = k.link, k.rule, nil, nil
			parts[k] = &p
		}
		return parts[k]
	}
	for _, v := range scan.Findings {
		if k := link(v.Package.allPaths()); k.link != "" {
			p := part(k)
			p.Findings = append(p.Findings, v)
		}
	}
	for _, s := range scan.Suppressed {
		if k := link(s.Vulnerability.Package.allPaths()); k.link != "" {
			p := part(k)
			p.Suppressed = append(p.Suppressed, s)
		}
	}
	if k := link(nil); len(parts) == 0 && k.link != "" {
		part(k) // a scan without findings is a scan
	}
	var list []Scan
	for _, p := range parts {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Scan) int { return b.Link.rank() - a.Link.rank() })
	return list
}

func onDefaultBranch(ref, branch string) bool {
	return ref == "" || branch == "" && strings.HasPrefix(ref, "refs/heads/") || ref == "refs/heads/"+branch
}

// namesImage tells whether a text has the image's name in it as a word, such as
// "scan/acme/app" or "image:app". "webapp" is not "app".
func namesImage(text string, ref oci.ImageRef) bool {
	return hasWord(text, ref.Name) || hasWord(text, path.Base(ref.Name))
}

func hasWord(text, word string) bool {
	text, word = strings.ToLower(text), strings.ToLower(word)
	if word == "" || word == "." {
		return false
	}
	part := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_' }
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(word)
		before, _ := utf8.DecodeLastRuneInString(text[:start])
		after, _ := utf8.DecodeRuneInString(text[end:])
		if (start == 0 || !part(before)) && (end == len(text) || !part(after)) {
			return true
		}
		from = start + 1
	}
}

// pathOfImage tells whether a path in a scan begins with the image's name, as Trivy
// writes "acme/app" and Grype "app/usr/lib/…".
func pathOfImage(p string, ref oci.ImageRef) bool {
	p = strings.ToLower(strings.TrimPrefix(p, "/"))
	for _, name := range []string{ref.Repository(), ref.Name, path.Base(ref.Name)} {
		if rest, ok := strings.CutPrefix(p, strings.ToLower(name)); ok && (rest == "" || strings.ContainsAny(rest[:1], "/:@")) {
			return true
		}
	}
	return false
}

// repositoryName reads "owner/name" out of the addresses that documents have for a
// repository at GitHub; other addresses stay as they are.
func repositoryName(address string) string {
	s := strings.TrimPrefix(address, "git+")
	s, _, _ = strings.Cut(s, "@")
	if rest, ok := strings.CutPrefix(address, "git@github.com:"); ok {
		s = "https://github.com/" + rest
	}
	for _, scheme := range []string{"https://", "http://", "git://", "ssh://"} {
		s = strings.TrimPrefix(s, scheme)
	}
	rest, ok := strings.CutPrefix(s, "github.com/")
	if !ok {
		return address
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	parts := strings.Split(strings.Trim(rest, "/"), "/")
	if len(parts) < 2 {
		return address
	}
	return parts[0] + "/" + strings.TrimSuffix(parts[1], ".git")
}
