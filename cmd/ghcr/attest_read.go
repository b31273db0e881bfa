package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// attachedDocument is a line of ghcr attest list.
type attachedDocument struct {
	Subject       oci.Digest    `json:"subject"`
	Manifest      oci.Digest    `json:"manifest"`
	Document      oci.Digest    `json:"document"`
	PredicateType string        `json:"predicateType"`
	MediaType     string        `json:"mediaType"`
	Layout        attest.Layout `json:"layout"`
	Place         attest.Place  `json:"place"`
	Signed        bool          `json:"signed"` // there is a signature; whether it is good, ghcr verify tells
	Size          int64         `json:"size"`
	Created       *time.Time    `json:"created"`
	Problem       string        `json:"problem,omitempty"` // why it could not be read
}

func (a *app) attestListCommand() *cobra.Command {
	var platform string
	var children, nested bool
	cmd := &cobra.Command{
		Use:   "list REF | oci:DIR",
		Short: "List what is attached to an image",
		Long: `List signatures, SBOMs, provenance and reports that are attached to an image, in whatever
form: referrers, the tags of cosign 2, entries of the index as BuildKit writes them. Each is
opened, since what an index says of it may be wrong. "signed" says that there is a signature;
ghcr verify tells whether it is good.

What could not be read is told, and is exit code 1: the list may then lack something.`,
		Example: "  ghcr attest list acme/app:v1 --all-platforms",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			image, err := a.attested(cmd.Context(), given[0])
			opts := attest.ListOptions{Children: children, Nested: nested}
			if err == nil && platform != "" {
				image, opts.Index, err = image.platform(cmd.Context(), platform)
			}
			if err != nil {
				return err
			}
			docs, warnings, err := readAttached(cmd.Context(), image, opts)
			if err != nil {
				return err
			}
			list := []attachedDocument{}
			r := result{head: []string{"TYPE", "SIGNED", "LAYOUT", "PLACE", "SIZE", "DOCUMENT", "SUBJECT"}}
			for _, d := range docs {
				one := attachedDocument{
					d.Attachment.Subject, d.Attachment.Manifest.Digest, d.Attachment.Layer.Digest, d.PredicateType, d.Attachment.Layer.MediaType,
					d.Attachment.Layout, d.Attachment.Place, len(d.Signatures) > 0 || d.Attachment.Layout == attest.LayoutNotation, d.Attachment.Layer.Size, stated(d.Attachment.Created), "",
				}
				list = append(list, one)
				signed := map[bool]string{true: "signed", false: "unsigned"}[one.Signed]
				r.ids = append(r.ids, one.Document.String())
				cells := []string{typeName(one.PredicateType), signed, string(one.Layout), string(one.Place)}
				r.rows = append(r.rows, append(cells[:4:4], size(one.Size), shortDigest(one.Document), shortDigest(one.Subject)))
				r.plain = append(r.plain, append(cells[:4:4], fmt.Sprint(one.Size), one.Document.String(), one.Subject.String()))
			}
			r.data = list
			r.foot = fmt.Sprintf("%s attached to %s", plural(len(list), "document"), image)
			return errors.Join(a.print(r), unreadError(image, warnings))
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&platform, "platform", "p", "", "of the image for this `OS/ARCH`")
	flags.BoolVar(&children, "all-platforms", false, "also of the images that an index lists")
	flags.BoolVar(&nested, "nested", false, "also of what is attached, such as the signature of an SBOM")
	return cmd
}

// readAttached reads all that is attached to an image. What could not be read is in
// warnings.
func readAttached(ctx context.Context, image attested, opts attest.ListOptions) (docs []*attest.Document, warnings []error, err error) {
	listing, err := attest.List(ctx, image.src, image.digest, opts)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range listing.Warnings {
		warnings = append(warnings, w)
	}
	for d, err := range attest.Documents(ctx, image.src, listing.Attachments) {
		switch {
		case ctx.Err() != nil:
			return nil, nil, err
		case err != nil:
			warnings = append(warnings, err)
		default:
			docs = append(docs, d)
		}
	}
	return docs, warnings, nil
}

func unreadError(image attested, warnings []error) error {
	if len(warnings) == 0 {
		return nil
	}
	return fmt.Errorf("%s: not all that is attached could be read: %w", image, errors.Join(warnings...))
}

// getFlags choose a document.
type getFlags struct {
	trustFlags
	typ      string
	digest   string
	platform string
	output   string
	what     string
}

func (a *app) attestGetCommand() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get REF | oci:DIR",
		Short: "Print a document that is attached to an image",
		Long: `Print a document that is attached to an image: the one of --type, or the one with --digest,
which ghcr attest list shows. Where several are meant, none is printed. It is printed as it
is kept; --only statement or predicate takes it out of its envelope.

With --key, --identity or --repo only a document that they signed is printed.`,
		Example: "  ghcr attest get acme/app:v1 --type openvex --only predicate",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeTags,
		RunE: func(cmd *cobra.Command, given []string) error {
			d, err := a.getAttached(cmd.Context(), given[0], f)
			if err != nil {
				return err
			}
			raw := d.Raw
			switch f.what {
			case "document":
			case "statement", "predicate":
				if d.Statement == nil {
					return usage("attest get: %s is no statement: leave out --only", d.Attachment.Layer.Digest)
				}
				if raw = d.Payload; f.what == "predicate" {
					raw = d.Statement.Predicate
				}
			default:
				return usage("--only %q: want document, statement or predicate", f.what)
			}
			return a.writeDocument(f.output, raw)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.typ, "type", "", "the one of this predicate `TYPE`, or media type")
	flags.StringVar(&f.digest, "digest", "", "the one with this `DIGEST`")
	flags.StringVarP(&f.platform, "platform", "p", "", "of the image for this `OS/ARCH`")
	flags.StringVar(&f.what, "only", "document", "document, statement or predicate")
	flags.StringVarP(&f.output, "output", "o", "", "write it to this `FILE`")
	f.trustFlags.add(flags)
	return cmd
}

// getAttached reads the one document that the flags mean.
func (a *app) getAttached(ctx context.Context, s string, f getFlags) (*attest.Document, error) {
	want := ""
	if f.typ != "" {
		want = f.typ
		if !strings.Contains(f.typ, "/") || strings.Contains(f.typ, "://") {
			var err error
			if want, err = predicateType(f.typ, false); err != nil {
				return nil, err
			}
		}
	}
	by, err := f.verifiers(a)
	if err != nil {
		return nil, err
	}
	image, err := a.attested(ctx, s)
	var opts attest.ListOptions
	if err == nil && f.platform != "" {
		image, opts.Index, err = image.platform(ctx, f.platform)
	}
	if err != nil {
		return nil, err
	}
	docs, warnings, err := readAttached(ctx, image, opts)
	if err != nil {
		return nil, err
	}
	var found []*attest.Document
	var refused []error
	for _, d := range docs {
		if f.digest != "" && d.Attachment.Layer.Digest.String() != f.digest && d.Attachment.Manifest.Digest.String() != f.digest {
			continue
		}
		rest, ok := strings.CutPrefix(d.PredicateType, want)
		if want != "" && (!ok || rest != "" && rest[0] != '/') && d.Attachment.Layer.MediaType != want {
			continue
		}
		if err := signedByAny(ctx, d, by); err != nil {
			refused = append(refused, &attest.Warning{Digest: d.Attachment.Layer.Digest, Err: err})
			continue
		}
		found = append(found, d)
	}
	name := cmp.Or(f.typ, f.digest, "document")
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var digests []string
		for _, d := range found {
			digests = append(digests, "--digest "+d.Attachment.Layer.Digest.String()+" ("+printable(typeName(d.PredicateType))+")")
		}
		return nil, usage("%s has %d that may be meant: say which\n%s", image, len(found), strings.Join(digests, "\n"))
	case len(refused) > 0:
		return nil, &unsignedError{fmt.Errorf("%s: no %s that is signed by whom you name: %w", image, name, errors.Join(refused...))}
	case len(warnings) > 0:
		return nil, unreadError(image, warnings)
	}
	return nil, fmt.Errorf("%s has no %s attached: %w", image, name, oci.ErrNotFound)
}

// unsignedError says that a document is there and not signed as it should be.
type unsignedError struct{ error }

// Unwrap returns why.
func (e *unsignedError) Unwrap() error { return e.error }

// signedByAny is nil if one of them signed a document that is about its image; without
// any it only has to be about it.
func signedByAny(ctx context.Context, d *attest.Document, by []attest.Verifier) error {
	if len(by) == 0 {
		return d.About()
	}
	var errs []error
	for _, v := range by {
		_, err := v.Verify(ctx, d)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
