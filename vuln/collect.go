package vuln

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// DefaultConcurrency is how many sources are asked at once.
const DefaultConcurrency = 4

// Options say what [Collect] does with what the sources found. The zero value keeps
// everything.
type Options struct {
	// Concurrency bounds the sources that are asked at once; 0 is [DefaultConcurrency].
	Concurrency int
	// Enrichers are asked after the sources, with the SBOMs that these found.
	Enrichers []Enricher
	// VEX are statements besides those that the sources found.
	VEX []VEX
	// VEXSignedOnly ignores statements without a verified signature.
	VEXSignedOnly bool
	// Ignore are rules of ignore files.
	Ignore []IgnoreRule
	// IgnoreUnfixed suppresses findings for which there is no fix, OnlyFixed also those
	// for which none is known.
	IgnoreUnfixed, OnlyFixed bool
	// History keeps the findings of scans that a newer one of the same tool replaces.
	History bool
	// Now is the time that rules end by; zero is the present.
	Now time.Time
}

// Collect asks all sources, a few at once, and makes one report. A source that fails
// ends up as its status; it neither cancels the others nor is an error. The context
// ends all.
//
// What follows is the same for any order in which the sources answer: join what
// says the same, apply VEX, then rules of ignore files, then filters by fix, then
// count.
//
// Errors: the context's; [oci.ErrInvalid] if the target has no digest.
func Collect(ctx context.Context, sources []Source, t Target, opts Options) (*VulnerabilityReport, error) {
	if t.Digest == "" {
		return nil, oci.Invalid("vulnerabilities of %s: its digest is not known", t.Ref)
	}
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	reports := ask(ctx, opts.Concurrency, len(sources), func(i int) (SourceName, func() (*SourceReport, error)) {
		return sources[i].Name(), func() (*SourceReport, error) { return sources[i].Fetch(ctx, t) }
	})
	var sboms []SBOM
	for i := range reports {
		sboms = append(sboms, reports[i].SBOMs...)
		for _, b := range reports[i].Builds {
			t.Commits = addUnique(t.Commits, b.Commit)
		}
	}
	reports = append(reports, ask(ctx, opts.Concurrency, len(opts.Enrichers), func(i int) (SourceName, func() (*SourceReport, error)) {
		e := opts.Enrichers[i]
		if len(sboms) == 0 {
			return e.Name(), func() (*SourceReport, error) {
				return nil, &SourceError{Status: StatusNotAsked, Err: errors.New("there is no SBOM to look up")}
			}
		}
		return e.Name(), func() (*SourceReport, error) { return e.Enrich(ctx, t, sboms) }
	})...)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("vulnerabilities of %s: %w", t.Ref, err)
	}
	return assemble(reports, t, opts), nil
}

// ask calls n functions, a few at once, and returns what became of each in order.
func ask(ctx context.Context, limit, n int, call func(int) (SourceName, func() (*SourceReport, error))) []SourceReport {
	if limit <= 0 {
		limit = DefaultConcurrency
	}
	reports := make([]SourceReport, n)
	gate := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			name, fetch := call(i)
			select {
			case gate <- struct{}{}:
				defer func() { <-gate }()
			case <-ctx.Done():
				reports[i] = SourceReport{Name: name, Status: StatusError, Reason: ctx.Err().Error()}
				return
			}
			started := time.Now()
			report, err := fetch()
			if report == nil {
				report = &SourceReport{}
			}
			reports[i] = *report
			finish(&reports[i], name, err)
			reports[i].Started, reports[i].Duration = started.UTC(), time.Since(started)
		})
	}
	wg.Wait()
	return reports
}

// finish gives a source's report the status of its error, which counts more than one
// that it has, unless that says more.
func finish(r *SourceReport, name SourceName, err error) {
	r.Name = name
	if err != nil {
		status, remedy := StatusOf(err)
		r.Status, r.Reason = status, err.Error()
		if remedy != "" {
			r.Remedy = remedy
		}
	}
	if r.Status == "" {
		r.Status = StatusEmpty
		if len(r.Scans)+len(r.VEX)+len(r.SBOMs)+len(r.Builds) > 0 {
			r.Status = StatusOK
		}
	}
	for i := range r.Scans {
		if r.Scans[i].Source == "" {
			r.Scans[i].Source = name
		}
	}
}

// maxWarnings is how many warnings of one document are kept.
const maxWarnings = 20

// warn takes over what is to be said of a document.
func (r *SourceReport) warn(s Scan) {
	for i, w := range s.Warnings {
		if i == maxWarnings {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s: %d more warnings", s.Evidence, len(s.Warnings)-i))
			break
		}
		r.Warnings = addUnique(r.Warnings, fmt.Sprintf("%s: %s", cmp.Or(s.Evidence, s.Tool), w))
	}
}

// platformName is empty for an image that does not say what it is for.
func platformName(p oci.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return ""
	}
	return oci.FormatPlatform(p)
}

// clocksDiffer is how far the clocks of two machines may be apart.
const clocksDiffer = 24 * time.Hour

// distrustFuture takes the time from a scan that says that it is yet to be made: by it, it
// would replace all others and never be too old.
func (s *Scan) distrustFuture(now time.Time) {
	if !now.IsZero() && s.ScannedAt.Sub(now) > clocksDiffer {
		s.Warnings = append(slices.Clone(s.Warnings), fmt.Sprintf("it says that it was made on %s, which is yet to come: its time does not count", s.ScannedAt.Format(time.DateOnly)))
		s.ScannedAt = time.Time{}
	}
}

// assemble is everything after the fetching, and does no I/O.
func assemble(reports []SourceReport, t Target, opts Options) *VulnerabilityReport {
	r := &VulnerabilityReport{
		PackageVersionID: t.PackageVersionID,
		Ref:              t.Ref.String(),
		Digest:           t.Digest,
		ParentDigest:     t.Parent,
	}
	if len(t.Platforms) == 1 && t.Platforms[0].Digest == t.Digest {
		r.Platform = platformName(t.Platforms[0].Platform)
	}
	var scans []Scan
	vex := slices.Clone(opts.VEX)
	for i := range vex {
		vex[i].given = true
	}
	for i := range reports {
		source := &reports[i]
		for _, scan := range source.Scans {
			for _, part := range Associate(t, scan) {
				part.distrustFuture(opts.Now)
				scans = append(scans, part)
				source.Findings += len(part.Findings)
				source.warn(part)
				if part.ScannedAt.After(source.ScannedAt) {
					source.ScannedAt = part.ScannedAt.UTC()
				}
			}
		}
		for _, v := range source.VEX {
			v.given = source.Name == SourceFile
			vex = append(vex, v)
		}
	}
	r.Sources = reports
	if !opts.History {
		scans = newest(scans)
	}
	r.setState(scans, t)
	r.Vulnerabilities, r.Suppressed = merge(scans)
	r.applyVEX(vex, t, opts)
	r.applyIgnore(opts.Ignore, opts.Now)
	r.applyFixFilter(opts)
	r.finish()
	return r
}
