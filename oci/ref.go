package oci

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
)

// DefaultRegistry is the host of references that name none.
const DefaultRegistry = "ghcr.io"

// ImageRef names an image, or with a zero Reference a whole repository.
type ImageRef struct {
	Registry  string // host, or host:port
	Name      string // "owner/image", with any number of further parts
	Reference Reference
}

// Reference is a tag, a digest, or both. With both the digest decides what is
// meant and the tag is the name it is known by. The zero value is neither.
type Reference struct {
	Tag    string
	Digest Digest
}

// IsZero tells whether neither tag nor digest is given.
func (r Reference) IsZero() bool { return r.Tag == "" && r.Digest == "" }

// String returns what a registry is asked for: the digest if there is one, else
// the tag.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Repository returns registry and name without tag or digest.
func (r ImageRef) Repository() string { return r.Registry + "/" + r.Name }

// Owner returns the first part of the name: on GHCR the user or organization.
func (r ImageRef) Owner() string {
	owner, _, _ := strings.Cut(r.Name, "/")
	return owner
}

// String returns the whole reference, such as "ghcr.io/acme/app:v1@sha256:…".
// [ParseRef] reads it back.
func (r ImageRef) String() string {
	s := r.Repository()
	if r.Reference.Tag != "" {
		s += ":" + r.Reference.Tag
	}
	if r.Reference.Digest != "" {
		s += "@" + r.Reference.Digest.String()
	}
	return s
}

// With returns the same repository with another reference.
func (r ImageRef) With(ref Reference) ImageRef {
	r.Reference = ref
	return r
}

// ParseRef reads a reference as people write it:
//
//	acme/app  acme/app:v1  acme/app@sha256:…  acme/app:v1@sha256:…
//	ghcr.io/acme/app:v1  localhost:5000/team/app/part:v1
//	https://github.com/orgs/acme/packages/container/app
//
// Without a host the image is on [DefaultRegistry]. Upper case in the name is
// folded to lower case, because GHCR's paths are lower case although GitHub's
// logins are not (docs/quirks.md#lowercase-only). Tags keep their case.
//
// Errors: [ErrInvalid].
func ParseRef(s string) (ImageRef, error) { return ParseRefDefault(s, DefaultRegistry) }

// ParseRefDefault is [ParseRef] with another default registry.
//
// Errors: [ErrInvalid], for a malformed registry too.
func ParseRefDefault(s, registry string) (ImageRef, error) {
	fail := func(format string, args ...any) (ImageRef, error) {
		return ImageRef{}, Invalid("reference %q: %s", s, fmt.Sprintf(format, args...))
	}
	if s == "" {
		return fail("empty; write OWNER/IMAGE[:TAG][@DIGEST]")
	}
	if at := strings.LastIndexByte(s, '@'); at >= 0 && strings.Contains(s[at:], "/") {
		// Not shown, since it may be a secret.
		return ImageRef{}, Invalid("a reference has no login in it: leave out what is before the @, and log in apart from it")
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && scheme != "https" && scheme != "http" {
		return fail("it is no URL; leave out %s://", scheme)
	}
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		name, err := packagePage(s)
		if err != nil {
			return fail("%v", err)
		}
		s = name
	}
	rest := s
	var ref ImageRef
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		d, err := ParseDigest(rest[at+1:])
		if err != nil {
			return fail("%v", err)
		}
		ref.Reference.Digest = d
		rest = rest[:at]
	}
	ref.Registry = registry
	if host, path, ok := strings.Cut(rest, "/"); ok && isHost(host) {
		ref.Registry, rest = strings.ToLower(host), path
	}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		tag := rest[colon+1:]
		if err := CheckTag(tag); err != nil {
			return fail("%v", err)
		}
		ref.Reference.Tag = tag
		rest = rest[:colon]
	}
	ref.Name = strings.ToLower(rest)
	if err := checkHost(ref.Registry); err != nil {
		return fail("%v", err)
	}
	if err := CheckName(ref.Name); err != nil {
		return fail("%v", err)
	}
	if ref.Registry == DefaultRegistry && !strings.Contains(ref.Name, "/") {
		return fail("an image on %s is OWNER/IMAGE; %q names only an owner", ref.Registry, ref.Name)
	}
	return ref, nil
}

// packagePage turns the address of a package's page on GitHub into OWNER/IMAGE.
var packagePagePath = pattern(`^/(?:orgs|users)/([^/]+)/packages/container/(?:package/)?([^/]+?)(?:/settings|/versions)?/?$`)
var repoPagePath = pattern(`^/([^/]+)/[^/]+/pkgs/container/([^/]+)/?$`)

func packagePage(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("not a URL: %v", err)
	}
	if u.Host != "github.com" {
		return "", fmt.Errorf("a URL is only read when it is a package's page on github.com; leave out %s://", u.Scheme)
	}
	m := packagePagePath().FindStringSubmatch(u.EscapedPath())
	if m == nil {
		m = repoPagePath().FindStringSubmatch(u.EscapedPath())
	}
	if m == nil {
		return "", fmt.Errorf("not a package's page; expected https://github.com/orgs/OWNER/packages/container/IMAGE")
	}
	name, err := url.PathUnescape(m[2])
	if err != nil {
		return "", err
	}
	return m[1] + "/" + name, nil
}

// pattern is a regular expression that is compiled when it is first needed: together
// they would take a tenth of the time in which a small command is done.
func pattern(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

// isHost tells a registry host from the first part of a name the way Docker does.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost"
}

// hostPattern is the grammar of hosts that every client shares: a name or an IPv6 address
// in brackets, and perhaps a port.
var hostPattern = pattern(`^(?:` + hostLabel + `(?:\.` + hostLabel + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$`)

const hostLabel = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`

func checkHost(host string) error {
	if !hostPattern().MatchString(host) {
		return fmt.Errorf("malformed registry host %q", host)
	}
	return nil
}

// 255 is the limit of the reference grammar for host and name together.
const maxNameLength = 255

var namePattern = pattern(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

// CheckName reports what is wrong with the name of a repository.
//
// Errors: [ErrInvalid].
func CheckName(name string) error {
	switch {
	case name == "":
		return Invalid("the name of the image is missing")
	case len(name) > maxNameLength:
		return Invalid("the name is %d characters long; %d is the limit", len(name), maxNameLength)
	case !namePattern().MatchString(name):
		return Invalid("malformed name %q: parts are a-z and 0-9, joined by single '.', '_', '__' or '-', and separated by '/'", name)
	}
	return nil
}

const maxTagLength = 128

// CheckTag reports what is wrong with a tag.
//
// Errors: [ErrInvalid].
func CheckTag(tag string) error {
	bad := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r))
	}
	if tag == "" || len(tag) > maxTagLength || tag[0] == '.' || tag[0] == '-' || strings.ContainsFunc(tag, bad) {
		return Invalid("malformed tag %q: up to 128 of A-Z a-z 0-9 '_' '.' '-', not beginning with '.' or '-'", tag)
	}
	return nil
}

// ParseDigest reads a digest of a known algorithm: sha256, sha384 or sha512.
//
// Errors: [ErrInvalid].
func ParseDigest(s string) (Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", Invalid("malformed digest %q: want sha256: and 64 hexadecimal digits", s)
	}
	return d, nil
}

// ParseReference reads a tag or a digest that stands alone.
//
// Errors: [ErrInvalid].
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Reference{Digest: d}, err
	}
	return Reference{Tag: s}, CheckTag(s)
}
