package security

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/vuln"
)

const (
	// bulkDigests is how many digests GitHub takes in one question.
	bulkDigests = 1024
	// fewDigests are asked about one by one: such answers are kept by ETag, and those of
	// the bulk list are not.
	fewDigests = 2
	// maxBulkPages bounds the pages of one question, each with 100 attestations.
	maxBulkPages = 200
)

// attestedDigests is what the API listed for each digest.
type attestedDigests struct {
	mu     sync.Mutex // held while it is asked
	gate   chan struct{}
	listed map[string]listed // by owner and digest
}

// listed is what the API lists for one digest, or why that is not known.
type listed struct {
	attestations []vuln.Attestation
	more         bool // there are more than are read
	err          error
}

// shown is what is known of a digest where the login was refused and everybody may see
// this: that nothing of it is public does not mean that there is nothing.
func (l listed) shown(refused error) listed {
	if len(l.attestations) == 0 {
		l.err = cmp.Or(l.err, refused)
	}
	return l
}

func (a *attestedDigests) key(owner string, d oci.Digest) string {
	return strings.ToLower(owner) + " " + d.String()
}

func (a *attestedDigests) get(owner string, d oci.Digest) (listed, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.listed[a.key(owner, d)]
	return l, ok
}

func (a *attestedDigests) put(owner string, d oci.Digest, l listed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listed == nil {
		a.listed = map[string]listed{}
	}
	a.listed[a.key(owner, d)] = l
}

// lock admits one question at a time, so that several images that share digests do not
// ask about these twice.
func (a *attestedDigests) lock(ctx context.Context) (unlock func(), err error) {
	a.mu.Lock()
	if a.gate == nil {
		a.gate = make(chan struct{}, 1)
	}
	gate := a.gate
	a.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ListAttestations asks which attestations GitHub has of an owner's digests, 1024 in
// one request, for the sources of [Look.Attestations] to use. What fails is an error of
// these sources, for the digests that it was about.
//
// Errors: the context's.
func (l *Look) ListAttestations(ctx context.Context, owner string, digests []oci.Digest) error {
	f := &fetch{Look: l}
	return f.list(ctx, owner, digests)
}

// list asks about digests that were not asked about yet.
func (f *fetch) list(ctx context.Context, owner string, digests []oci.Digest) error {
	unlock, err := f.attested.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var unknown []oci.Digest
	seen := map[oci.Digest]bool{}
	for _, d := range digests {
		if _, known := f.attested.get(owner, d); !known && !seen[d] {
			unknown = append(unknown, d)
		}
		seen[d] = true
	}
	if len(unknown) == 0 {
		return nil
	}
	at, err := f.ownerPath(ctx, owner)
	if err != nil {
		if ctx.Err() == nil {
			for _, d := range unknown {
				f.attested.put(owner, d, listed{err: err})
			}
		}
		return ctx.Err()
	}
	if len(unknown) <= fewDigests {
		return f.listEach(ctx, owner, at, unknown)
	}
	for chunk := range slices.Chunk(unknown, bulkDigests) {
		if err := f.bulkList(ctx, owner, at, chunk); err != nil {
			return err
		}
	}
	return nil
}

// ownerPath is where the attestations of an owner are.
func (f *fetch) ownerPath(ctx context.Context, login string) (string, error) {
	owner, err := f.owners.get(ctx, strings.ToLower(login), func() (packages.Owner, error) {
		f.requests.Add(1)
		return f.client.opts.API.Owner(ctx, login)
	})
	kind := "users"
	if owner.Kind == packages.Organization {
		kind = "orgs"
	}
	return "/" + kind + "/" + url.PathEscape(login) + "/attestations/", err
}

// listEach asks about each digest by itself.
func (f *fetch) listEach(ctx context.Context, owner, at string, digests []oci.Digest) error {
	each(ctx, len(digests), func(i int) {
		found := f.listOne(ctx, at, digests[i])
		if ctx.Err() == nil {
			f.attested.put(owner, digests[i], found)
		}
	})
	return ctx.Err()
}

func (f *fetch) listOne(ctx context.Context, at string, d oci.Digest) listed {
	var l listed
	a, err := f.read(ctx, at+d.String()+"?per_page=100", "", true)
	if err == nil && len(a.body) > 0 { // 204 is none
		l.attestations, err = vuln.ParseAttestations(a.body)
	}
	// So is 404, and 422.
	if l.more = a.next != ""; err != nil && !isNone(vuln.SourceGitHubAttestation, err) {
		l.err = err
	}
	return l.shown(a.refused)
}

// bulkList asks about up to 1024 digests at once.
func (f *fetch) bulkList(ctx context.Context, owner, at string, digests []oci.Digest) error {
	question, err := json.Marshal(map[string][]oci.Digest{"subject_digests": digests})
	if err != nil {
		return err
	}
	found := map[oci.Digest][]vuln.Attestation{}
	path := at + "bulk-list?per_page=100"
	next := ""
	var refused error
	for page := 0; ; page++ {
		if page == maxBulkPages {
			err = fmt.Errorf("%w: the attestations of %d digests go on after %d pages", errTooMany, len(digests), maxBulkPages)
			break
		}
		address := path
		if next != "" {
			address += "&after=" + url.QueryEscape(next)
		}
		var a answer
		if a, err = f.query(ctx, address, question); err != nil {
			break
		}
		refused = cmp.Or(refused, a.refused)
		var some map[oci.Digest][]vuln.Attestation
		before := next
		if some, next, err = vuln.ParseBulkAttestations(a.body); err != nil {
			break
		}
		for d, list := range some {
			if len(found[d]) <= vuln.MaxDocuments { // of a flood no more than shows that it is one
				found[d] = append(found[d], list...)
			}
		}
		if next == "" {
			break
		}
		if next == before {
			err = errCircle
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isNone(vuln.SourceGitHubAttestation, err):
		return f.withoutBulk(ctx, owner, at, digests, err)
	}
	for _, d := range digests {
		list := found[d]
		l := listed{attestations: list, err: err, more: len(list) > vuln.MaxDocuments}
		if l.more {
			l.attestations = list[:vuln.MaxDocuments]
		}
		f.attested.put(owner, d, l.shown(refused))
	}
	return nil
}

// withoutBulk asks one by one where there is no list in bulk. A server of one's own may
// have no attestations at all: where that answers 404 to both questions it is not asked
// about the others. At github.com, 404 is the answer for one digest.
func (f *fetch) withoutBulk(ctx context.Context, owner, at string, digests []oci.Digest, cause error) error {
	if statusOf(cause) == http.StatusNotFound && !strings.HasPrefix(f.client.opts.API.Host(), "api.") {
		_, err := f.read(ctx, at+digests[0].String()+"?per_page=100", "", true)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if statusOf(err) == http.StatusNotFound {
			none := &vuln.SourceError{Status: vuln.StatusUnavailable, Err: fmt.Errorf("%s has no attestations API: %w", f.client.opts.API.Host(), err)}
			for _, d := range digests {
				f.attested.put(owner, d, listed{err: none})
			}
			return nil
		}
	}
	return f.listEach(ctx, owner, at, digests)
}

// Verification says what a source does about signatures. The zero value takes
// everything as unverified.
type Verification struct {
	// Verifier, if there is one, is asked about each document.
	Verifier vuln.Verifier
	// Required drops documents that no signature was verified for.
	Required bool
}

// Attestations is the source of what GitHub's attestations API has of an image of this
// owner. Documents are read from where the API says that they are, without a
// credential (docs/quirks.md#attestation-bundle).
func (l *Look) Attestations(owner string, v Verification) vuln.Source {
	return attestations{look: l, owner: owner, verification: v}
}

type attestations struct {
	look         *Look
	owner        string
	verification Verification
}

// Name implements [vuln.Source].
func (attestations) Name() vuln.SourceName { return vuln.SourceGitHubAttestation }

// Fetch implements [vuln.Source].
func (a attestations) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	f := &fetch{Look: a.look}
	r := &vuln.Reader{Source: a.Name(), Target: t, Verifier: a.verification.Verifier, RequireSigned: a.verification.Required}
	err := f.documents(ctx, a.owner, t.Digests(), func(e vuln.Evidence, err error) error {
		if err != nil {
			r.Fail(e.ID, err)
			return nil
		}
		return r.Read(ctx, e)
	})
	report := r.Report()
	report.Requests = int(f.requests.Load())
	return report, refused(a.Name(), a.owner, err)
}

// Documents gives what the API has of each digest to use, those that can't be fetched
// with an error; the ID is where it is kept. The first error of use ends it.
//
// Errors: that of use; the context's; a [*vuln.SourceError] for a list that can't be
// had.
func (l *Look) Documents(ctx context.Context, owner string, digests []oci.Digest, use func(vuln.Evidence, error) error) error {
	return refused(vuln.SourceGitHubAttestation, owner, (&fetch{Look: l}).documents(ctx, owner, digests, use))
}

func (f *fetch) documents(ctx context.Context, owner string, digests []oci.Digest, use func(vuln.Evidence, error) error) error {
	if err := f.list(ctx, owner, digests); err != nil {
		return err
	}
	var failed error
	for _, d := range digests {
		l, _ := f.attested.get(owner, d)
		failed = cmp.Or(failed, l.err)
		if err := f.documentsOf(ctx, owner, d, l.attestations, use); err != nil {
			return err
		}
		if l.more {
			err := fmt.Errorf("%w: more than %d for %s", vuln.ErrTooMany, vuln.MaxDocuments, d)
			if err := use(vuln.Evidence{ID: d.String(), Subject: d}, err); err != nil && !errors.Is(err, vuln.ErrTooMany) {
				return err
			}
		}
	}
	return failed
}
