package cassette

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Content is a manifest or a blob that a registry had when the recording was made.
type Content struct {
	Host, Repository string
	Digest           oci.Digest
	Manifest         bool     // else it is a blob
	MediaType        string   // of a manifest
	Tags             []string // that named it last
	// Body is all of it, for [Cassette.OpenBody]; nil where the cassette does not have
	// that: it was sent, or only a part of it was read, or its digest alone is kept.
	Body *Body
}

// Contents returns what the cassette that is replayed knows of registries, by host,
// repository and digest.
func (c *Cassette) Contents() []Content {
	if c.play == nil {
		return nil
	}
	x := c.play.find()
	for tag, d := range x.tags {
		if content := x.found[place{tag.host, tag.repo, string(d)}]; content != nil {
			content.Tags = append(content.Tags, tag.name)
		}
	}
	var list []Content
	for _, content := range x.found {
		content.Body = x.bodies[content.Digest]
		slices.Sort(content.Tags)
		list = append(list, *content)
	}
	slices.SortFunc(list, func(a, b Content) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Repository, b.Repository), strings.Compare(string(a.Digest), string(b.Digest)))
	})
	return list
}

// place is a tag or a digest in a repository.
type place struct{ host, repo, name string }

// finding collects contents. Where a blob was read from tells nothing: a CDN's URLs
// have the digest alone.
type finding struct {
	p      *player
	found  map[place]*Content
	tags   map[place]oci.Digest
	bodies map[oci.Digest]*Body
}

func (p *player) find() *finding {
	x := &finding{p: p, found: map[place]*Content{}, tags: map[place]oci.Digest{}, bodies: map[oci.Digest]*Body{}}
	for _, i := range p.tape.entries {
		x.interaction(i)
	}
	return x
}

func (x *finding) interaction(i *Interaction) {
	u, err := url.Parse(i.Request.URL())
	if err != nil {
		return
	}
	r, a := routeOf(u), &i.Response
	ok := a.Status >= 200 && a.Status < 300
	named := oci.Digest(r.ref)
	if named.Validate() != nil {
		named = ""
	}
	switch r.name {
	case routeManifest:
		if ok {
			x.manifest(i, r, named)
		}
	case routeBlob:
		if named != "" && i.Request.Method != http.MethodDelete && a.Status < 400 && a.Status >= 200 {
			x.note(i.Request.Host, r.repo, named)
			x.answer(i, named)
		}
	case routeSigned:
		x.answer(i, named)
	case routeStart, routeUpload:
		sent := oci.Digest(u.Query().Get("digest"))
		if sent == "" {
			sent = oci.Digest(u.Query().Get("mount"))
		}
		if sent.Validate() == nil && a.Status == http.StatusCreated {
			x.note(i.Request.Host, r.repo, sent)
			if i.Request.Body.Digest == sent {
				x.body(sent, &i.Request.Body)
			}
		}
	}
}

func (x *finding) manifest(i *Interaction, r route, named oci.Digest) {
	d, body, header := oci.Digest(i.Response.Header.Get("Docker-Content-Digest")), &i.Response.Body, i.Response.Header
	switch i.Request.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		d, body, header = i.Request.Body.Digest, &i.Request.Body, i.Request.Header
	default:
		return
	}
	d = cmp.Or(named, d, body.Digest)
	if d.Validate() != nil {
		return
	}
	content := x.note(i.Request.Host, r.repo, d)
	content.Manifest = true
	if mediaType, _, _ := strings.Cut(header.Get("Content-Type"), ";"); mediaType != "" {
		content.MediaType = mediaType
	}
	if i.Request.Method != http.MethodHead {
		x.body(d, body)
	}
	if named == "" {
		x.tags[place{i.Request.Host, r.repo, r.ref}] = d
	}
}

func (x *finding) note(host, repo string, d oci.Digest) *Content {
	at := place{host, repo, string(d)}
	if x.found[at] == nil {
		x.found[at] = &Content{Host: host, Repository: repo, Digest: d}
	}
	return x.found[at]
}

// answer takes the body of an answer for a blob: all of it, or a part of a file that
// the cassette has.
func (x *finding) answer(i *Interaction, d oci.Digest) {
	b := &i.Response.Body
	switch {
	case i.Request.Method != http.MethodGet:
	case b.Mode == BodySlice && b.Of == d:
		x.body(d, &Body{Mode: BodyBlob, Digest: d, Size: x.p.tape.blobs[d]})
	case i.Response.Status == http.StatusOK:
		x.body(d, b)
	}
}

func (x *finding) body(d oci.Digest, b *Body) {
	kept := b.Mode != BodyEmpty && (b.Mode != BodyElided || x.p.elsewhere != nil)
	if kept && !b.Partial && !b.Redacted && x.bodies[d] == nil {
		x.bodies[d] = b
	}
}
