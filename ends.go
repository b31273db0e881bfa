package ghcr

import (
	"context"
	"fmt"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// EndKind says what sort of place an [End] is.
type EndKind string

// The places that images are copied between.
const (
	EndRegistry EndKind = "registry"
	EndLayout   EndKind = "oci"
	EndArchive  EndKind = "docker-archive"
)

// End is one end of a copy. Make one with [Client.ParseEnd].
type End struct {
	Kind EndKind
	Ref  oci.ImageRef // of an image in a registry
	Path string       // of a layout's directory or an archive's file
	Tag  string       // tag, digest or name in a layout or archive; may be empty
}

// String returns the end as [Client.ParseEnd] reads it.
func (e End) String() string {
	if e.Kind == EndRegistry {
		return e.Ref.String()
	}
	s := string(e.Kind) + ":" + e.Path
	switch {
	case e.Tag == "":
		return s
	case strings.HasPrefix(e.Tag, "sha256:"):
		return s + "@" + e.Tag
	}
	return s + ":" + e.Tag
}

// DefaultTag is the tag of an image in a registry whose reference names none.
const DefaultTag = "latest"

// ParseEnd reads one end of a copy:
//
//	acme/app:v1  ghcr.io/acme/app@sha256:…  localhost:5000/x/y:z   a registry
//	oci:DIR  oci:DIR:TAG  oci:DIR@sha256:…                         an OCI image layout
//	docker-archive:FILE  docker-archive:FILE:NAME:TAG  tar:FILE    what docker save writes
//
// Errors: [ErrInvalid].
func (c *Client) ParseEnd(s string) (End, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	e := End{}
	switch scheme {
	case "oci":
		e.Kind = EndLayout
	case "docker-archive", "tar":
		e.Kind = EndArchive
	default:
		ref, err := c.ParseRef(s)
		if err != nil {
			return End{}, err
		}
		if ref.Reference.IsZero() {
			ref.Reference.Tag = DefaultTag
		}
		return End{Kind: EndRegistry, Ref: ref}, nil
	}
	e.Path, e.Tag = splitPath(rest, e.Kind)
	if e.Path == "" {
		return End{}, oci.Invalid("%q names no path: write %s:PATH", s, scheme)
	}
	if err := e.checkTag(); err != nil {
		return End{}, fmt.Errorf("%q: %w", s, err)
	}
	return e, nil
}

// splitPath takes the reference off the end of "PATH[:REF]" or "PATH[@DIGEST]".
// The drive of a Windows path is no path of its own.
func splitPath(s string, kind EndKind) (path, ref string) {
	if at := strings.LastIndex(s, "@sha256:"); at >= 0 {
		return s[:at], s[at+1:]
	}
	from := 0
	if len(s) > 2 && s[1] == ':' && (s[2] == '\\' || s[2] == '/') {
		from = 2
	}
	if slash := strings.LastIndexAny(s, `/\`); kind == EndLayout && slash > from {
		from = slash // a tag has no slash; a name in an archive may
	}
	if colon := strings.IndexByte(s[from:], ':'); colon >= 0 {
		return s[:from+colon], s[from+colon+1:]
	}
	return s, ""
}

func (e End) checkTag() error {
	switch {
	case e.Tag == "":
		return nil
	case strings.HasPrefix(e.Tag, "sha256:"):
		_, err := oci.ParseDigest(e.Tag)
		return err
	case e.Kind == EndArchive && strings.ContainsAny(e.Tag, ":/"):
		_, err := oci.ParseRefDefault(e.Tag, "docker.io")
		return err
	}
	return oci.CheckTag(e.Tag)
}

// Copy copies an image from one end to the other: a push, a pull or a copy. See
// [transfer.Copy] for what holds. Without a tag an image goes into a layout or
// archive under the tag that it had.
//
// A reference with tag and digest, as a source, is the digest; as a target, the
// image must have that digest and gets the tag.
//
// Errors: those of [transfer.Copy].
func (c *Client) Copy(ctx context.Context, src, dst End, opts transfer.Options) (result transfer.Result, err error) {
	source, srcRef, closeSource, err := c.source(src)
	if err != nil {
		return result, fmt.Errorf("copy %s: %w", src, err)
	}
	defer func() {
		if closeErr := closeSource(); err == nil {
			err = closeErr
		}
	}()
	if dst.Tag == "" && dst.Kind != EndRegistry {
		dst.Tag = src.name()
	}
	if dst.Kind == EndArchive && src.Kind == EndRegistry && dst.Tag != "" && dst.Tag == src.Ref.Reference.Tag {
		// docker load gives the image the name that it was pulled by, as docker save does.
		dst.Tag = src.Ref.With(oci.Reference{Tag: dst.Tag}).String()
	}
	target, dstRef, finish, err := c.target(dst, &opts)
	if err != nil {
		return result, fmt.Errorf("copy to %s: %w", dst, err)
	}
	if opts.Memory == nil {
		opts.Memory = c.memory
	}
	result, err = transfer.Copy(ctx, source, srcRef, target, dstRef, opts)
	if err == nil {
		err = finish(ctx, result.Descriptor.Digest)
	}
	if err != nil {
		return result, fmt.Errorf("copy %s to %s: %w", src, dst, err)
	}
	return result, nil
}

// name is the tag that the image is known by at this end.
func (e End) name() string {
	if e.Kind == EndRegistry {
		return e.Ref.Reference.Tag
	}
	if strings.ContainsAny(e.Tag, ":/") {
		return ""
	}
	return e.Tag
}

func (c *Client) source(e End) (source transfer.Source, ref string, closer func() error, err error) {
	closer = func() error { return nil }
	switch e.Kind {
	case EndLayout:
		layout, err := transfer.OpenLayout(e.Path)
		return layout, e.Tag, closer, err
	case EndArchive:
		archive, err := transfer.OpenArchive(e.Path)
		if err != nil {
			return nil, "", nil, err
		}
		return archive, e.Tag, archive.Close, nil
	}
	repo, err := c.Repository(e.Ref)
	return repo, e.Ref.Reference.String(), closer, err
}

// target opens the end to write to. finish completes it once all is there.
func (c *Client) target(e End, opts *transfer.Options) (target transfer.Target, ref string, finish func(context.Context, oci.Digest) error, err error) {
	finish = func(context.Context, oci.Digest) error { return nil }
	switch e.Kind {
	case EndLayout:
		layout, err := transfer.CreateLayout(e.Path)
		return layout, e.Tag, finish, err
	case EndArchive:
		name := e.Tag
		tag := ""
		if ref, err := oci.ParseRefDefault(name, "docker.io"); err == nil && strings.ContainsAny(name, ":/") {
			tag = ref.Reference.Tag
		} else {
			tag, name = name, ""
		}
		archive, err := transfer.CreateArchive(e.Path, name)
		if err != nil {
			return nil, "", nil, err
		}
		if !opts.DryRun {
			finish = archive.Commit
		}
		return archive, tag, finish, nil
	}
	repo, err := c.Repository(e.Ref)
	ref = e.Ref.Reference.String()
	if e.Ref.Reference.Tag != "" && e.Ref.Reference.Digest != "" {
		opts.Tags = append([]string{e.Ref.Reference.Tag}, opts.Tags...)
	}
	return repo, ref, finish, err
}
