package vuln

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/llm-dev-ops/ghcr/oci"
)

// MaxDocuments is how many documents are read for one digest. Who needs more than
// that many attestations of one image has been flooded with them.
const MaxDocuments = 100

// ErrTooMany says that there are more documents than are read.
var ErrTooMany = errors.New("too many documents")

// Reader reads the documents that a source fetches, and keeps its report. Set the
// exported fields first; then call Read for each document and Report at the end. It is
// for one goroutine.
type Reader struct {
	Source SourceName
	Target Target
	// Verifier, if there is one, is asked about each document before it is read.
	Verifier Verifier
	// RequireSigned drops documents that no signature was verified for, and says
	// how many.
	RequireSigned bool

	report   SourceReport
	count    map[oci.Digest]int
	failed   []string
	unsigned int
}

// Read reads one document and keeps what it says about the target. A document that
// cannot be read, or is too large, is noted, and makes the source's status an
// error, since it may be a scan; one about another image is noted and passed over.
//
// Errors: the context's; [ErrTooMany], after which nothing more should be fetched for
// the same digest.
func (r *Reader) Read(ctx context.Context, e Evidence) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.count == nil {
		r.count = map[oci.Digest]int{}
	}
	if r.count[e.Subject]++; r.count[e.Subject] > MaxDocuments {
		err := fmt.Errorf("%w: more than %d for %s", ErrTooMany, MaxDocuments, e.Subject)
		if r.count[e.Subject] == MaxDocuments+1 {
			r.failed = append(r.failed, err.Error())
		}
		return err
	}
	note := EvidenceNote{ID: e.ID, Subject: e.Subject}
	defer func() { r.report.Evidence = append(r.report.Evidence, note) }()

	signer, content, err := r.verify(ctx, e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && r.RequireSigned {
		r.unsigned++
		note.Note = fmt.Sprintf("not used: no signature was verified: %v", err)
		return nil
	}
	doc, parseErr := Parse(content, e.MediaType)
	if parseErr != nil {
		note.Note = parseErr.Error()
		r.failed = append(r.failed, fmt.Sprintf("%s: %v", e.ID, parseErr))
		return nil
	}
	note.Kind, note.Predicate, note.VerifiedBy = doc.Kind, doc.Predicate, signer
	switch {
	case signer != nil:
		note.Signature = "verified"
	case doc.Signed && err != nil:
		note.Signature, note.Note = "not verified", err.Error()
	case doc.Signed:
		note.Signature = "not verified"
	default:
		note.Signature = "unsigned"
	}
	subject, ok := r.subject(doc, e)
	if !ok {
		note.Note = "not used: it is about another image"
		return nil
	}
	note.Subject = subject
	if subject != "" {
		note.Link = LinkDigest
		if signer != nil {
			note.Link = LinkDigestSigned
		}
	}
	r.keep(doc, e, note)
	return nil
}

// verify returns who signed and what they signed, or else all of the document.
func (r *Reader) verify(ctx context.Context, e Evidence) (*Signer, []byte, error) {
	if r.Verifier == nil {
		if r.RequireSigned {
			return nil, e.Content, errors.New("there is nothing to verify it with")
		}
		return nil, e.Content, nil
	}
	// A file was found at no image: what is signed must be about one of these.
	subjects := []oci.Digest{e.Subject}
	if e.Subject == "" {
		subjects = r.Target.Digests()
	}
	err := errors.New("the digest of the image is not known")
	for _, e.Subject = range subjects {
		signer, content, failed := r.Verifier.Verify(ctx, e)
		if failed == nil {
			return &signer, content, nil
		}
		err = failed
	}
	return nil, e.Content, err
}

// subject is the digest that the document is about. A statement names it itself, and
// what is attached without one is about what it is attached to.
func (r *Reader) subject(doc *Document, e Evidence) (oci.Digest, bool) {
	if len(doc.Subjects) == 0 && doc.Predicate == "" {
		return e.Subject, true
	}
	if e.Subject != "" && slices.Contains(doc.Subjects, e.Subject) {
		return e.Subject, true
	}
	return r.Target.image(doc.Subjects)
}

func (r *Reader) keep(doc *Document, e Evidence, note EvidenceNote) {
	for _, s := range doc.Scans {
		s.Source, s.Evidence, s.VerifiedBy = r.Source, e.ID, note.VerifiedBy
		s.Subject, s.Link = note.Subject, note.Link
		if s.Link != "" {
			s.Rule = "the document names the image's digest"
		}
		r.report.Scans = append(r.report.Scans, s)
	}
	if v := doc.VEX; v != nil {
		v.Document, v.Signed = e.ID, note.VerifiedBy != nil
		for i := range v.Statements {
			if s := &v.Statements[i]; len(s.Products) == 0 && note.Subject != "" {
				s.Products = []VEXProduct{{IDs: []string{note.Subject.String()}}}
			}
		}
		r.report.VEX = append(r.report.VEX, *v)
	}
	if s := doc.SBOM; s != nil {
		s.Evidence, s.Subject, s.Signed = e.ID, note.Subject, note.VerifiedBy != nil
		r.report.SBOMs = append(r.report.SBOMs, *s)
	}
	if b := doc.Build; b != nil {
		b.Evidence, b.Subject, b.VerifiedBy = e.ID, note.Subject, note.VerifiedBy
		r.report.Builds = append(r.report.Builds, *b)
	}
}

// Fail notes something that could not be fetched, such as one referrer of many. The
// source's status will be an error; what else it has is kept.
func (r *Reader) Fail(id string, err error) {
	r.report.Evidence = append(r.report.Evidence, EvidenceNote{ID: id, Note: err.Error()})
	r.failed = append(r.failed, fmt.Sprintf("%s: %v", id, err))
}

// Report is what was found. The caller may add to it, such as how many requests it
// took.
func (r *Reader) Report() *SourceReport {
	report := r.report
	report.Name = r.Source
	if r.unsigned > 0 {
		report.Warnings = append(report.Warnings, fmt.Sprintf("%d documents are not used, since no signature over them was verified", r.unsigned))
	}
	switch n := len(r.failed); {
	case n > 0:
		report.Status, report.Reason = StatusError, r.failed[0]
		if n > 1 {
			report.Reason = fmt.Sprintf("%s (and %d more)", r.failed[0], n-1)
		}
		report.Warnings = append(report.Warnings, r.failed...)
	case len(report.Scans)+len(report.VEX)+len(report.SBOMs)+len(report.Builds) > 0:
		report.Status = StatusOK
	default:
		report.Status = StatusEmpty
	}
	return &report
}
