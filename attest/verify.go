package attest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// Verifier decides whether a document was signed by somebody who is trusted.
// Implementations are safe for concurrent use.
type Verifier interface {
	// Verify checks a signature of the document, and that the document is about the
	// manifest that it is attached to. It returns who signed.
	//
	// Errors: one of those of this package that say why a document did not count.
	Verify(ctx context.Context, d *Document) (*Signer, error)
}

// Signer is who signed a document, after the signature was verified.
type Signer struct {
	// Key is the SHA-256 of the public key in DER form, as "sha256:<hex>", if one was
	// given; empty for a certificate.
	Key string `json:"key,omitempty"`
	// Issuer and Identity are who vouched for the signer, and as whom: the OIDC
	// issuer's URL, and the subject alternative name of the certificate.
	Issuer   string `json:"issuer,omitempty"`
	Identity string `json:"identity,omitempty"`
	// Time is when the signature was made, as a log or a timestamp authority says. Zero
	// where nobody does.
	Time time.Time `json:"time,omitzero"`
	// What a certificate for a CI job says of the build.
	SourceRepository string `json:"sourceRepository,omitempty"` // URL
	SourceRef        string `json:"sourceRef,omitempty"`
	SourceDigest     string `json:"sourceDigest,omitempty"` // of the commit
	Builder          string `json:"builder,omitempty"`      // the workflow that signed, with its ref
	Runner           string `json:"runner,omitempty"`       // "github-hosted" or "self-hosted"
}

// String names the key, or the identity and who vouches for it.
func (s Signer) String() string {
	if s.Key != "" {
		return "key " + s.Key
	}
	return fmt.Sprintf("%s (by %s)", s.Identity, s.Issuer)
}

// Scope says which manifests a requirement is for.
type Scope string

// The scopes of a requirement.
const (
	// ScopeDigest, or empty, is the manifest that was asked for. What an index lists is
	// covered by a signature of the index, since its digest is made of theirs.
	ScopeDigest Scope = "digest"
	// ScopeImages is every image that an index lists, by itself, and not the index. Of an
	// image it is the image.
	ScopeImages Scope = "images"
	// ScopeAll is both.
	ScopeAll Scope = "all"
)

// Requirement is one thing that must be attached.
type Requirement struct {
	// PredicateType is what kind of statement; a type without its version stands for
	// all versions. Empty is [PredicateSignature], a signature of the image.
	PredicateType string
	// By are those whose word counts, any one of them.
	By []Verifier
	// Unsigned takes a document whoever signed it, or nobody. By must be empty then.
	Unsigned bool
	// Signers is how many different signers there must be; 0 is one.
	Signers int
	Scope   Scope
	// Check looks at a document whose signature holds, such as for the builder that a
	// provenance names; nil takes all. Its error says why the document does not count.
	// The signer is nil for an unsigned document.
	Check func(d *Document, s *Signer) error
}

// Policy is what must be attached to an image: each of its requirements.
type Policy struct {
	Require []Requirement
	// Index is as in [ListOptions].
	Index oci.Digest
	// Also are documents that were had from elsewhere, such as GitHub's attestations API,
	// where actions/attest keeps its bundles unless it is told to push them. They count
	// for the subject that their attachment names.
	Also []*Document
}

// check refuses what would pass everything, or nothing.
func (p Policy) check() error {
	if len(p.Require) == 0 {
		return oci.Invalid("policy: it requires nothing, so it would pass everything")
	}
	for _, r := range p.Require {
		name := r.predicateType()
		switch {
		case r.Unsigned && len(r.By) > 0:
			return oci.Invalid("policy: %s: it takes unsigned documents and names signers", name)
		case !r.Unsigned && len(r.By) == 0:
			return oci.Invalid("policy: %s: it does not say whose signature counts", name)
		case r.Unsigned && name == PredicateSignature:
			return oci.Invalid("policy: %s: a signature can't be unsigned", name)
		case r.Signers < 0 || r.Unsigned && r.Signers > 1:
			return oci.Invalid("policy: %s: %d signers can't be had", name, r.Signers)
		case !slices.Contains([]Scope{"", ScopeDigest, ScopeImages, ScopeAll}, r.Scope):
			return oci.Invalid("policy: %s: there is no scope %q", name, r.Scope)
		case slices.Contains(r.By, nil):
			return oci.Invalid("policy: %s: a verifier is nil", name)
		}
	}
	return nil
}

// version is how a predicate type ends, such as in "/v0.2.0" or "/1". Another path is
// another type.
var version = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/v?[0-9][0-9A-Za-z.-]*$`) })

func (r Requirement) predicateType() string { return cmp.Or(r.PredicateType, PredicateSignature) }

// takes tells whether a document of this predicate type may meet the requirement.
func (r Requirement) takes(predicateType string) bool {
	rest, ok := strings.CutPrefix(predicateType, r.predicateType())
	return ok && (rest == "" || version().MatchString(rest))
}

// over returns the images that must meet the requirement.
func (r Requirement) over(images []Image) []oci.Digest {
	var list []oci.Digest
	for n, i := range images {
		if n == 0 && (r.Scope != ScopeImages || !i.Index) || n > 0 && !i.Index && (r.Scope == ScopeImages || r.Scope == ScopeAll) {
			list = append(list, i.Digest)
		}
	}
	return list
}

// Check is the outcome for one document.
type Check struct {
	Attachment Attachment `json:"attachment"`
	// PredicateType is what the document says; what its annotations say if it could not
	// be read.
	PredicateType string `json:"predicateType,omitempty"`
	// Signers are who signed it, of those that the policy names.
	Signers []Signer `json:"signers,omitempty"`
	// Err is why there is no signer: [ErrNoSignature] for a document that is not signed,
	// or what is wrong with its signature.
	Err error `json:"-"`
}

// Result is the outcome for an image: every document, whether it counts or not.
type Result struct {
	Digest   oci.Digest `json:"digest"`
	Checks   []Check    `json:"checks"`
	Warnings []*Warning `json:"-"`
}

// PolicyError is what a policy asks for and was not found.
type PolicyError struct {
	Digest oci.Digest
	Unmet  []Unmet
}

// Unmet is a requirement that an image does not meet.
type Unmet struct {
	Requirement Requirement
	Subject     oci.Digest // the image
	// Err joins why each document that might have met it does not. It is [ErrNoSignature]
	// only if there is none, which is known for sure.
	Err error
}

// Error names each requirement that is not met, for which image, and why.
func (e *PolicyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not meet the policy", e.Digest)
	for _, u := range e.Unmet {
		fmt.Fprintf(&b, "; %s of %s: %s", u.Requirement.predicateType(), u.Subject, strings.ReplaceAll(u.Err.Error(), "\n", ", "))
	}
	return b.String()
}

// Unwrap returns the reasons.
func (e *PolicyError) Unwrap() []error {
	var list []error
	for _, u := range e.Unmet {
		list = append(list, u.Err)
	}
	return list
}

// Verify holds what is attached to a manifest to a policy. The result lists every
// document, with who signed it or why that is not known, also when there is an
// error.
//
// Errors: [*PolicyError], which is also each of the errors that kept a document
// from counting; [oci.ErrInvalid] for a policy that requires nothing; as for
// [List], without a result.
func Verify(ctx context.Context, src Source, d oci.Digest, p Policy) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	opts := ListOptions{Index: p.Index}
	for _, r := range p.Require {
		opts.Children = opts.Children || r.Scope == ScopeImages || r.Scope == ScopeAll
	}
	listing, err := List(ctx, src, d, opts)
	if err != nil {
		return nil, err
	}
	v := newVerification(p, listing)
	result := &Result{Digest: d, Warnings: listing.Warnings}
	next := 0
	for doc, err := range Documents(ctx, src, listing.Attachments) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verify %s: %w", d, err)
		}
		a := listing.Attachments[next]
		next++
		if err != nil {
			v.unread(a, err)
			result.Checks = append(result.Checks, Check{Attachment: a, PredicateType: a.PredicateType, Err: err})
			continue
		}
		result.Checks = append(result.Checks, v.document(ctx, doc))
	}
	for _, doc := range p.Also {
		result.Checks = append(result.Checks, v.document(ctx, doc))
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("verify %s: %w", d, context.Cause(ctx))
	}
	if unmet := v.unmet(); len(unmet) > 0 {
		return result, &PolicyError{Digest: d, Unmet: unmet}
	}
	return result, nil
}

// verification collects what is known about each requirement for each image.
type verification struct {
	demands   []*demand
	never     []Unmet    // what no document can meet
	verifiers []Verifier // of all requirements, so that each document's outcome is listed
	warnings  []*Warning
}

// demand is a requirement for one image.
type demand struct {
	Requirement
	subject oci.Digest
	from    int // where its verifiers begin among all
	met     int // documents that count, if they are unsigned
	signers map[string]bool
	why     []error // of documents that do not count
}

func newVerification(p Policy, listing *Listing) *verification {
	v := &verification{warnings: listing.Warnings}
	for _, r := range p.Require {
		over := r.over(listing.Images)
		if len(over) == 0 {
			// An index without images must not pass because there is nothing to ask.
			v.never = append(v.never, Unmet{r, listing.Images[0].Digest, oci.Invalid("it lists no image")})
		}
		for _, subject := range over {
			v.demands = append(v.demands, &demand{Requirement: r, subject: subject, from: len(v.verifiers), signers: map[string]bool{}})
		}
		v.verifiers = append(v.verifiers, r.By...)
	}
	return v
}

// unread notes that a document may be what a requirement asks for.
func (v *verification) unread(a Attachment, err error) {
	for _, m := range v.demands {
		if m.subject == a.Subject && (a.PredicateType == "" || m.takes(a.PredicateType)) {
			m.why = append(m.why, err)
		}
	}
}

// document verifies a document with all verifiers, and counts it where it meets a
// requirement.
func (v *verification) document(ctx context.Context, doc *Document) Check {
	check := Check{Attachment: doc.Attachment, PredicateType: doc.PredicateType}
	signers := make([]*Signer, len(v.verifiers))
	errs := make([]error, len(v.verifiers))
	for n, verifier := range v.verifiers {
		signers[n], errs[n] = verifier.Verify(ctx, doc)
		if errs[n] == nil && !slices.Contains(check.Signers, *signers[n]) {
			check.Signers = append(check.Signers, *signers[n])
		}
	}
	switch {
	case len(check.Signers) > 0:
	case len(doc.Signatures) == 0 && doc.Attachment.Layout != LayoutNotation:
		check.Err = ErrNoSignature
	case len(v.verifiers) == 0:
		check.Err = ErrUnverified
	default:
		check.Err = joined(errs)
	}
	for _, m := range v.demands {
		if m.subject == doc.Attachment.Subject && m.takes(doc.PredicateType) {
			m.count(doc, signers[m.from:m.from+len(m.By)], errs[m.from:m.from+len(m.By)])
		}
	}
	return check
}

func (m *demand) count(doc *Document, signers []*Signer, errs []error) {
	if m.Unsigned {
		err := doc.About()
		if err == nil && m.Check != nil {
			err = m.Check(doc, nil)
		}
		if err != nil {
			m.why = append(m.why, &Warning{doc.Attachment.Layer.Digest, err})
			return
		}
		m.met++
		return
	}
	for n, s := range signers {
		err := errs[n]
		if err == nil && m.Check != nil {
			err = m.Check(doc, s)
		}
		if err != nil {
			m.why = append(m.why, &Warning{doc.Attachment.Layer.Digest, err})
			continue
		}
		m.signers[cmp.Or(s.Key, s.Issuer+" "+s.Identity)] = true
	}
}

// unmet returns what is not met, and why.
func (v *verification) unmet() []Unmet {
	list := v.never
	for _, m := range v.demands {
		if m.met > 0 || len(m.signers) > 0 && len(m.signers) >= m.Signers {
			continue
		}
		why := m.why
		for _, w := range v.warnings {
			why = append(why, w)
		}
		if len(m.signers) > 0 {
			why = append(why, fmt.Errorf("%d of %d signers", len(m.signers), m.Signers))
		}
		// Where something is signed, that something else is not does not matter.
		signed := slices.DeleteFunc(slices.Clone(why), func(err error) bool { return errors.Is(err, ErrNoSignature) })
		if len(signed) > 0 {
			why = signed
		}
		if len(why) == 0 {
			why = []error{ErrNoSignature}
			if m.Unsigned {
				why = []error{fmt.Errorf("%w: there is no such document", oci.ErrNotFound)}
			}
		}
		list = append(list, Unmet{m.Requirement, m.subject, joined(why)})
	}
	return list
}

// joined joins errors, each text once.
func joined(errs []error) error {
	var list []error
	seen := map[string]bool{}
	for _, err := range errs {
		if err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			list = append(list, err)
		}
	}
	return errors.Join(list...)
}
