package retain

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Uses is what a file says of images in use.
type Uses struct {
	Digests []oci.Digest // sorted, each once; of whatever image, for a digest has only one meaning
	Tags    []string     // of the package, sorted, each once
	// Unresolved are references to the package whose tag is only known when the file is
	// used, such as "ghcr.io/acme/app:${TAG}". Nothing protects what they mean.
	Unresolved []string
}

// maxUseSize is the limit of files that are searched for images in use.
const maxUseSize = 16 << 20

const digestForm = `(?i)sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})`

var (
	digestText  = expression(digestForm)
	digestStart = expression(`^` + digestForm)
)

// tagKey is a key whose value is the tag of an image that is named nearby, as in the
// values of a Helm chart, a kustomization, or a file of variables.
var tagKey = expression(`(?i)tag["']?\s*[:=]\s*["']?([a-z0-9_][a-z0-9_.-]{0,127})`)

// nearby is how many lines a name and its tag may be apart.
const nearby = 10

// window is how far around a name its reference can reach: no host and no tag is longer.
const window = 300

// InUse searches the text of a file for what it uses of the package REGISTRY/OWNER/PACKAGE:
// manifests of Kubernetes, charts, kustomizations, compose files, Dockerfiles, workflows, or
// plain lists. It knows none of these formats and goes by names, so it takes rather too
// much for used than too little: each digest, each tag behind the package's name, and each
// tag that a key such as newTag has near to a mention of the name. A mention without a tag
// uses "latest".
//
// Errors: [oci.ErrInvalid] for a file over 16 MiB, or one that is not UTF-8, in which
// nothing would be found.
func InUse(data []byte, registry, owner, pkg string) (Uses, error) {
	switch {
	case len(data) > maxUseSize:
		return Uses{}, oci.Invalid("%d bytes are too many to search for images in use; %d is the limit", len(data), maxUseSize)
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return Uses{}, oci.Invalid("not UTF-8, so images in use would not be found in it; write it anew as UTF-8")
	}
	s := search{text: string(data), registry: strings.ToLower(registry)}
	s.found.Digests = digestsIn(s.text)
	s.mentions(lower(owner + "/" + pkg))
	s.tagsNearby()
	slices.Sort(s.found.Digests)
	slices.Sort(s.found.Tags)
	slices.Sort(s.found.Unresolved)
	s.found.Digests = slices.Compact(s.found.Digests)
	s.found.Tags = slices.Compact(s.found.Tags)
	s.found.Unresolved = slices.Compact(s.found.Unresolved)
	return s.found, nil
}

// digestsIn finds all that looks like a digest, in whatever text.
func digestsIn(text string) (list []oci.Digest) {
	for _, m := range digestText().FindAllString(text, -1) {
		if d, err := oci.ParseDigest(strings.ToLower(m)); err == nil {
			list = append(list, d)
		}
	}
	return list
}

type search struct {
	text     string
	registry string
	bare     []int // where the package is named without tag or digest
	found    Uses
}

// lower folds ASCII alone, which keeps all bytes in their places.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.'
}

// mentions finds the package by its name.
func (s *search) mentions(name string) {
	text := lower(s.text)
	for at := 0; ; {
		i := strings.Index(text[at:], name)
		if i < 0 {
			return
		}
		start, end := at+i, at+i+len(name)
		at = start + 1
		if start > 0 && isNameByte(text[start-1]) {
			continue // the end of another owner's name
		}
		host, below := s.before(text, start)
		s.behind(end, host != "" && (host != s.registry || below))
	}
}

// before returns the host that the name has, and whether there is anything between.
func (s *search) before(text string, start int) (host string, below bool) {
	begin := start
	for begin > 0 && start-begin < window && (isNameByte(text[begin-1]) || text[begin-1] == '/' || text[begin-1] == ':') {
		begin--
	}
	prefix := text[begin:start]
	if i := strings.LastIndex(prefix, "//"); i >= 0 { // docker://, oci://
		prefix = prefix[i+2:]
	}
	host, rest, _ := strings.Cut(strings.TrimSuffix(prefix, "/"), "/")
	return host, rest != ""
}

// behind reads what follows the name. Elsewhere says that it is on another host, where
// it may be a mirror's, and a name without a tag mere chance.
func (s *search) behind(end int, elsewhere bool) {
	rest := s.text[end:]
	if rest == "" {
		s.mention(end, elsewhere)
		return
	}
	switch c := rest[0]; {
	case c == '.' && (len(rest) == 1 || !isNameByte(rest[1])): // the end of a sentence
		s.mention(end, elsewhere)
	case isNameByte(c) || c == '/': // another package's name
	case c == ':':
		s.tag(end, rest[1:], elsewhere)
	case c == '@' && startsWithDigest(rest[1:min(len(rest), window)]): // found before
	default:
		s.mention(end, elsewhere)
	}
}

func startsWithDigest(s string) bool { return digestStart().MatchString(s) }

func (s *search) mention(end int, elsewhere bool) {
	if !elsewhere {
		s.bare = append(s.bare, end)
		s.found.Tags = append(s.found.Tags, "latest")
	}
}

// tag reads a tag behind a colon.
func (s *search) tag(end int, rest string, elsewhere bool) {
	n := 0
	for n < len(rest) && n < 128 && isNameByte(rest[n]) {
		n++
	}
	tag := rest[:n]
	if n < len(rest) && strings.IndexByte("$%{<", rest[n]) >= 0 {
		start, stop := max(0, end-window), end+min(len(rest)+1, window)
		start += strings.LastIndexAny(s.text[start:end], " \t\n\"'=") + 1
		if i := strings.IndexAny(s.text[end:stop], " \t\n\"'"); i >= 0 {
			stop = end + i
		}
		s.found.Unresolved = append(s.found.Unresolved, strings.ToValidUTF8(s.text[start:stop], ""))
		s.fallback(s.text[end:stop])
		s.bare = append(s.bare, end)
		return
	}
	if oci.CheckTag(tag) != nil {
		s.mention(end, elsewhere)
		return
	}
	s.found.Tags = append(s.found.Tags, tag)
	// A sentence may end behind it.
	if short := strings.TrimRight(tag, "."); short != tag {
		s.found.Tags = append(s.found.Tags, short)
	}
}

var shellDefault = expression(`:?-([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})\}`)

// fallback reads what a variable is where it is not set: ${TAG:-v1}.
func (s *search) fallback(text string) {
	for _, m := range shellDefault().FindAllStringSubmatch(text, -1) {
		s.found.Tags = append(s.found.Tags, m[1])
	}
}

// tagsNearby adds the tags that keys have near to a name without one.
func (s *search) tagsNearby() {
	if len(s.bare) == 0 {
		return
	}
	line, last := 0, 0
	lineOf := func(at int) int { // in rising order
		line += strings.Count(s.text[last:at], "\n")
		last = at
		return line
	}
	var mentions []int
	for _, at := range s.bare {
		mentions = append(mentions, lineOf(at))
	}
	line, last = 0, 0
	for _, m := range tagKey().FindAllStringSubmatchIndex(s.text, -1) {
		at := lineOf(m[2])
		i, _ := slices.BinarySearch(mentions, at-nearby)
		if i < len(mentions) && mentions[i] <= at+nearby {
			s.found.Tags = append(s.found.Tags, s.text[m[2]:m[3]])
		}
	}
}
