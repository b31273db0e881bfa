package ghcr

import (
	"context"
	"errors"
	"strings"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// look is one look at the security of one image or of many. What it has asked for
// once it does not ask for again.
type look struct {
	client *Client
	opts   VulnOptions
	github *security.Look // nil where no API is known
}

func (c *Client) newLook(opts VulnOptions) *look {
	l := &look{client: c, opts: opts}
	if c.security != nil {
		l.github = c.security.Look()
	}
	return l
}

// sources are those to be asked about a target, in order.
func (e *examination) sources(t vuln.Target) []vuln.Source {
	l := e.look
	onGitHub := l.github != nil && l.client.isGHCR(t.Ref.Registry)
	owner, name := ownerOf(t.Ref)
	var list []vuln.Source
	add := func(name vuln.SourceName, github bool, make func() vuln.Source) {
		switch {
		case !l.opts.asks(name):
			list = append(list, unasked{name, "it was left out"})
		case github && e.local:
			list = append(list, unasked{name, "the image is in no registry"})
		case github && !onGitHub:
			list = append(list, unasked{name, t.Ref.Registry + " is not GitHub's"})
		default:
			list = append(list, make())
		}
	}
	add(vuln.SourcePackagesAPI, true, func() vuln.Source { return &packagesSource{l.client, owner, name, e.turn} })
	add(vuln.SourceAttestation, false, func() vuln.Source { return &attachedDocuments{e.attached, l.opts.Verification} })
	add(vuln.SourceGitHubAttestation, true, func() vuln.Source { return l.github.Attestations(owner, l.opts.Verification) })
	add(vuln.SourceCodeScanning, true, func() vuln.Source { return e.linked(t, l.github.CodeScanning()) })
	add(vuln.SourceDependabot, true, func() vuln.Source { return e.linked(t, l.github.Dependabot()) })
	if len(l.opts.Files) > 0 {
		add(vuln.SourceFile, false, func() vuln.Source { return files{l.opts.Files, l.opts.Verification} })
	}
	return list
}

// linked is a source that is asked about the repository. Where it could not be found out
// which that is, the source is not passed over but failed.
func (e *examination) linked(t vuln.Target, source vuln.Source) vuln.Source {
	if t.Repository == "" && e.unlinked != nil {
		return failed{source.Name(), e.unlinked}
	}
	return source
}

// failed is a source that can't be asked.
type failed struct {
	name vuln.SourceName
	err  error
}

// Name implements [vuln.Source].
func (f failed) Name() vuln.SourceName { return f.name }

// Fetch implements [vuln.Source].
func (f failed) Fetch(context.Context, vuln.Target) (*vuln.SourceReport, error) {
	return nil, refusedByRegistry(f.err)
}

// refusedByRegistry gives a refusal of the registry, or of the Packages API, its status.
func refusedByRegistry(err error) error {
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, ErrUnauthorized):
		return &vuln.SourceError{Status: vuln.StatusForbidden, Remedy: "log in with a token that may pull the image", Err: err}
	case errors.Is(err, ErrRateLimited):
		return &vuln.SourceError{Status: vuln.StatusRateLimited, Remedy: "run it again later, or with a token of its own", Err: err}
	}
	return err
}

// enrichers are the databases that packages are looked up in.
func (l *look) enrichers(t vuln.Target) []vuln.Enricher {
	owner, _ := ownerOf(t.Ref)
	var list []vuln.Enricher
	for _, name := range l.opts.Enrich {
		switch {
		case l.github == nil || !l.opts.asks(name):
			list = append(list, unasked{name, "it was left out, or no API is known"})
		case name == vuln.SourceGHSA:
			list = append(list, l.github.GHSA(owner, l.opts.Disclosure))
		case name == vuln.SourceOSV:
			list = append(list, l.github.OSV(owner, l.opts.Disclosure))
		}
	}
	return list
}

// unasked is a source that is passed over, so that the report says so.
type unasked struct {
	name   vuln.SourceName
	reason string
}

// Name implements [vuln.Source] and [vuln.Enricher].
func (u unasked) Name() vuln.SourceName { return u.name }

// Fetch implements [vuln.Source].
func (u unasked) Fetch(context.Context, vuln.Target) (*vuln.SourceReport, error) {
	return nil, &vuln.SourceError{Status: vuln.StatusNotAsked, Err: errors.New(u.reason)}
}

// Enrich implements [vuln.Enricher].
func (u unasked) Enrich(ctx context.Context, target vuln.Target, _ []vuln.SBOM) (*vuln.SourceReport, error) {
	return u.Fetch(ctx, target)
}

// files is the source of documents that the caller has.
type files struct {
	list         []vuln.Evidence
	verification security.Verification
}

// Name implements [vuln.Source].
func (files) Name() vuln.SourceName { return vuln.SourceFile }

// Fetch implements [vuln.Source].
func (f files) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	r := &vuln.Reader{Source: vuln.SourceFile, Target: t, Verifier: f.verification.Verifier, RequireSigned: f.verification.Required}
	for _, e := range f.list {
		if err := r.Read(ctx, e); errors.Is(err, vuln.ErrTooMany) {
			break
		} else if err != nil {
			return r.Report(), err
		}
	}
	return r.Report(), nil
}

// ownerOf divides the name of a package.
func ownerOf(ref oci.ImageRef) (owner, name string) {
	owner, name, _ = strings.Cut(ref.Name, "/")
	return owner, name
}
