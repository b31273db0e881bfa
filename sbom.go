package ghcr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// SBOMOptions say which SBOMs are wanted. The zero value is all that are about the image.
type SBOMOptions struct {
	// Platform is that of the image, "linux/arm64"; empty is all platforms, and those of
	// the index as a whole.
	Platform string
	// Format is the beginning of the format's name, in any case: "spdx", "cyclonedx",
	// "spdx-2.3". Empty is any.
	Format string
	// Repository adds the SBOM that GitHub makes of the dependency graph of the linked
	// repository, which is of source code and not of the image.
	Repository bool
	// Verification is what is done about signatures.
	Verification security.Verification
}

// SBOM is a list of the packages of an image, as it is kept.
type SBOM struct {
	vuln.SBOM
	// Source is where it was found; the dependency graph's has none.
	Source   vuln.SourceName
	Platform string // of the image that it is about; empty for an index or a repository
	// Repository is the one whose dependency graph it is, "owner/name"; empty for an SBOM of an
	// image.
	Repository string
	Signer     *vuln.Signer // nil if no signature over it was verified
	Content    []byte       // the document, without what it was attested in
}

// SBOMs are the SBOMs that were found. Without Complete there may be more, and Problems
// say why.
type SBOMs struct {
	List     []SBOM
	Problems []error
}

// Complete tells whether everything was read that may be an SBOM.
func (s *SBOMs) Complete() bool { return len(s.Problems) == 0 }

// SBOM returns the SBOMs of an image, from the registry and from GitHub's attestations
// API: those of the platform's own image before those of its index, signed ones that were
// verified before others, the newest first.
//
// Errors: [ErrNotFound] and the others of resolving the reference; [ErrInvalid] for a
// platform that is not there; the context's. What a source does not tell is among the
// problems.
func (c *Client) SBOM(ctx context.Context, ref oci.ImageRef, opts SBOMOptions) (*SBOMs, error) {
	sources := []vuln.SourceName{vuln.SourceAttestation, vuln.SourceGitHubAttestation}
	if opts.Repository {
		// The repository is the one whose alerts would be asked for.
		sources = append(sources, vuln.SourceDependabot)
	}
	e, err := c.examine(ctx, ref, VulnOptions{Platform: opts.Platform, Verification: opts.Verification, Sources: sources})
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", ref, err)
	}
	found := &SBOMs{}
	reader := &sbomReader{e: e, opts: opts, found: found}
	err = e.attached.documents(ctx, e.target, func(a attest.Attachment, doc *attest.Document, err error) error {
		if err != nil {
			found.Problems = append(found.Problems, fmt.Errorf("%s: %w", a.Layer.Digest, err))
			return nil
		}
		reader.read(ctx, vuln.SourceAttestation, vuln.Evidence{
			ID: string(a.Layer.Digest), MediaType: a.Layer.MediaType, Annotations: a.Annotations, Content: doc.Raw, Subject: a.Subject,
		})
		return nil
	})
	if err == nil && e.github != nil && c.isGHCR(ref.Registry) {
		owner, _ := ownerOf(ref)
		err = e.github.Documents(ctx, owner, e.target.Digests(), func(evidence vuln.Evidence, err error) error {
			if err != nil {
				found.Problems = append(found.Problems, fmt.Errorf("%s: %w", evidence.ID, err))
				return nil
			}
			reader.read(ctx, vuln.SourceGitHubAttestation, evidence)
			return nil
		})
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		found.Problems = append(found.Problems, err)
	}
	if opts.Repository {
		reader.fromRepository(ctx)
	}
	slices.SortStableFunc(found.List, func(a, b SBOM) int {
		return cmp.Or(reader.rank(a)-reader.rank(b), b.Created.Compare(a.Created))
	})
	return found, nil
}

// sbomReader keeps those documents that are wanted.
type sbomReader struct {
	e     *examination
	opts  SBOMOptions
	found *SBOMs
}

func (r *sbomReader) read(ctx context.Context, source vuln.SourceName, evidence vuln.Evidence) {
	reader := &vuln.Reader{Source: source, Target: r.e.target, Verifier: r.opts.Verification.Verifier, RequireSigned: r.opts.Verification.Required}
	reader.Read(ctx, evidence)
	report := reader.Report()
	if report.Status == vuln.StatusError {
		r.found.Problems = append(r.found.Problems, errors.New(report.Reason))
	}
	for _, sbom := range report.SBOMs {
		content, err := bare(ctx, evidence)
		if err != nil {
			r.found.Problems = append(r.found.Problems, fmt.Errorf("%s: %w", evidence.ID, err))
			continue
		}
		s := SBOM{SBOM: sbom, Source: source, Content: content}
		for _, note := range report.Evidence {
			s.Signer = note.VerifiedBy
		}
		for _, p := range r.e.target.Platforms {
			if p.Digest == sbom.Subject && p.Platform.OS != "" {
				s.Platform = oci.FormatPlatform(p.Platform)
			}
		}
		r.keep(s)
	}
}

func (r *sbomReader) keep(s SBOM) {
	if !strings.HasPrefix(strings.ToLower(s.Format), strings.ToLower(r.opts.Format)) {
		return
	}
	same := func(other SBOM) bool { return other.Subject == s.Subject && string(other.Content) == string(s.Content) }
	if i := slices.IndexFunc(r.found.List, same); i < 0 {
		r.found.List = append(r.found.List, s)
	} else if r.found.List[i].Signer == nil {
		r.found.List[i] = s // it is attested twice, as actions/attest does
	}
}

// fromRepository adds the SBOM of the dependency graph.
func (r *sbomReader) fromRepository(ctx context.Context) {
	repository := r.e.target.Repository
	if repository == "" || r.e.github == nil {
		r.found.Problems = append(r.found.Problems, cmp.Or(r.e.unlinked, errors.New("the image names no repository whose dependency graph could be read")))
		return
	}
	content, err := r.e.github.SBOM(ctx, repository)
	if err != nil {
		r.found.Problems = append(r.found.Problems, err)
		return
	}
	doc, err := vuln.Parse(content, "application/spdx+json")
	if err != nil || doc.SBOM == nil {
		r.found.Problems = append(r.found.Problems, fmt.Errorf("the dependency graph of %s is no SBOM: %w", repository, cmp.Or(err, oci.ErrInvalid)))
		return
	}
	r.keep(SBOM{SBOM: *doc.SBOM, Repository: repository, Content: content})
}

// rank puts first what is about the image that was asked for, and is signed.
func (r *sbomReader) rank(s SBOM) int {
	rank := 0
	switch {
	case s.Repository != "":
		rank += 8
	case s.Subject != r.e.target.Digest:
		rank += 4
	}
	if s.Signer == nil {
		rank += 2
	}
	return rank
}

// bare takes an SBOM out of the statement that it is attested in.
func bare(ctx context.Context, e vuln.Evidence) ([]byte, error) {
	doc, err := attest.Parse(ctx, nil, attest.Attachment{
		Subject: e.Subject, Layer: oci.Descriptor{MediaType: e.MediaType}, Annotations: e.Annotations,
	}, e.Content)
	if err != nil {
		return nil, err
	}
	if doc.Statement == nil {
		return doc.Payload, nil
	}
	// Older cosign wraps the document once more, at times as a string.
	var wrapped struct{ Data json.RawMessage }
	content := doc.Statement.Predicate
	if json.Unmarshal(content, &wrapped) == nil && len(wrapped.Data) > 0 {
		content = wrapped.Data
		var text string
		if json.Unmarshal(content, &text) == nil {
			content = []byte(text)
		}
	}
	return content, nil
}
