package security

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llm-dev-ops/ghcr/vuln"
)

const (
	maxAlertPages    = 50  // of 100 alerts
	maxAnalysisPages = 5   // of 100 analyses, the newest first
	maxSARIF         = 100 // analyses whose SARIF is read
)

const sarifType = "application/sarif+json"

// scanning is what code scanning has of a repository.
type scanning struct{ scans []vuln.Scan }

// alerts are what Dependabot has of a repository.
type alerts struct {
	scan  vuln.Scan
	empty bool
}

// CodeScanning is the source of what scanners uploaded to code scanning of the linked
// repository: alerts, analyses, and of these the SARIF for the digest that the scanner
// looked at. Which of it is about the image is for [vuln.Associate] to say.
func (l *Look) CodeScanning() vuln.Source { return codeScanning{l} }

type codeScanning struct{ look *Look }

// Name implements [vuln.Source].
func (codeScanning) Name() vuln.SourceName { return vuln.SourceCodeScanning }

// Fetch implements [vuln.Source].
func (s codeScanning) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	if t.Repository == "" {
		return nil, errNoRepository
	}
	f := &fetch{Look: s.look}
	found, err := f.scanning.get(ctx, strings.ToLower(t.Repository), func() (scanning, error) { return f.codeScanning(ctx, t.Repository) })
	report := &vuln.SourceReport{Scans: slices.Clone(found.scans), Requests: int(f.requests.Load())}
	return report, refused(s.Name(), t.Repository, err)
}

// Scanned tells whether code scanning of a repository gave anything that may be about an
// image, so that it matters which commits an image is of.
func (l *Look) Scanned(ctx context.Context, repository string) bool {
	report, _ := l.CodeScanning().Fetch(ctx, vuln.Target{Repository: repository})
	return report != nil && len(report.Scans) > 0
}

var errNoRepository = &vuln.SourceError{
	Status: vuln.StatusNotAsked,
	Remedy: "link the package to its repository, or build the image with the label org.opencontainers.image.source",
	Err:    errors.New("the image names no repository"),
}

// codeScanning reads what there is of a repository.
func (f *fetch) codeScanning(ctx context.Context, repository string) (scanning, error) {
	at, err := repositoryPath(repository, "/code-scanning/")
	if err != nil {
		return scanning{}, err
	}
	var alerts []vuln.CodeScanningAlert
	var analyses []vuln.CodeScanningAnalysis
	var cut error // a list that was left before its end
	err = f.pages(ctx, at+"analyses?sort=created&direction=desc&per_page=100", maxAnalysisPages, func(page []byte) error {
		some, err := vuln.ParseCodeScanningAnalyses(page)
		analyses = append(analyses, some...)
		return err
	})
	switch {
	case isNone(vuln.SourceCodeScanning, err):
		return scanning{}, nil
	case err != nil && !errors.Is(err, errTooMany): // older analyses are replaced by newer ones
		return scanning{}, err
	}
	for _, state := range []string{"open", "dismissed"} {
		err = f.pages(ctx, at+"alerts?state="+state+"&per_page=100", maxAlertPages, func(page []byte) error {
			some, err := vuln.ParseCodeScanningAlerts(page)
			alerts = append(alerts, some...)
			return err
		})
		switch {
		case isNone(vuln.SourceCodeScanning, err):
		case errors.Is(err, errTooMany):
			cut = fmt.Errorf("%s alerts of %s: %w", state, repository, err)
		case err != nil:
			return scanning{}, err
		}
	}
	scans := vuln.CodeScanningScans(repository, analyses, alerts)
	err = f.identify(ctx, at, scans, analyses)
	return scanning{scans}, cmp.Or(cut, ctx.Err(), err)
}

// identify reads the SARIF of analyses for the digests that the scanner looked at,
// which alerts do not have, and for the results of those analyses that no alert is
// listed of, since alerts are those of the default branch and only name their newest
// place. Where there is none, the scan is tied to an image by what is left.
//
// Errors: of one that could not be read, which may be of any image.
func (f *fetch) identify(ctx context.Context, at string, scans []vuln.Scan, analyses []vuln.CodeScanningAnalysis) error {
	type pair struct {
		scan     *vuln.Scan
		analysis vuln.CodeScanningAnalysis
	}
	var wanted []pair
	for i := range scans {
		s := &scans[i]
		of := slices.IndexFunc(analyses, func(a vuln.CodeScanningAnalysis) bool { return a.URL != "" && a.URL == s.Evidence })
		if of >= 0 && !strings.HasPrefix(s.Ref, "refs/pull/") {
			wanted = append(wanted, pair{s, analyses[of]})
		}
	}
	slices.SortStableFunc(wanted, func(a, b pair) int { return b.scan.ScannedAt.Compare(a.scan.ScannedAt) })
	errs := make([]error, len(wanted))
	each(ctx, min(len(wanted), maxSARIF), func(i int) {
		p := wanted[i]
		runs, err := f.sarif(ctx, at+"analyses/"+strconv.FormatInt(p.analysis.ID, 10))
		if err != nil {
			p.scan.Warnings = append(p.scan.Warnings, fmt.Sprintf("the digest that it is of is not known: %v", err))
			if status := statusOf(err); status != http.StatusNotFound && status != http.StatusUnprocessableEntity {
				errs[i] = err
			}
		}
		listed := len(p.scan.Findings)+len(p.scan.Suppressed) > 0
		for _, run := range runs {
			p.scan.Digests = append(p.scan.Digests, run.Digests...)
			if !listed {
				p.scan.Findings = append(p.scan.Findings, run.Findings...)
				p.scan.Suppressed = append(p.scan.Suppressed, run.Suppressed...)
			}
		}
	})
	for _, p := range wanted {
		if p.analysis.Results > 0 && len(p.scan.Findings)+len(p.scan.Suppressed) == 0 {
			p.scan.Partial = true
			p.scan.Warnings = append(p.scan.Warnings, fmt.Sprintf("it has %d results, none of which could be read", p.analysis.Results))
		}
	}
	if len(wanted) > maxSARIF {
		return fmt.Errorf("%w: there are %d analyses whose SARIF says what they are of; the newest %d are read", errTooMany, len(wanted), maxSARIF)
	}
	return cmp.Or(errs...)
}

// sarif are the runs of an analysis, which never changes.
func (f *fetch) sarif(ctx context.Context, at string) ([]vuln.Scan, error) {
	key := "sarif " + f.client.opts.API.Host() + at
	text, kept := f.client.opts.Store.Get(key)
	if !kept {
		a, err := f.read(ctx, at, sarifType, false)
		if err != nil {
			return nil, err
		}
		text = a.body
	}
	doc, err := vuln.Parse(text, sarifType)
	if err != nil {
		return nil, err
	}
	if !kept {
		f.client.opts.Store.Put(key, text)
	}
	return doc.Scans, nil
}

// Dependabot is the source of Dependabot's alerts of the linked repository.
func (l *Look) Dependabot() vuln.Source { return dependabot{l} }

type dependabot struct{ look *Look }

// Name implements [vuln.Source].
func (dependabot) Name() vuln.SourceName { return vuln.SourceDependabot }

// Fetch implements [vuln.Source].
func (s dependabot) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	if t.Repository == "" {
		return nil, errNoRepository
	}
	f := &fetch{Look: s.look}
	found, err := f.dependabot.get(ctx, strings.ToLower(t.Repository), func() (alerts, error) { return f.dependabotAlerts(ctx, t.Repository) })
	report := &vuln.SourceReport{Requests: int(f.requests.Load())}
	if !found.empty {
		report.Scans = []vuln.Scan{found.scan}
	}
	return report, refused(s.Name(), t.Repository, err)
}

func (f *fetch) dependabotAlerts(ctx context.Context, repository string) (alerts, error) {
	at, err := repositoryPath(repository, "/dependabot/alerts?state=open,dismissed,auto_dismissed&per_page=100")
	if err != nil {
		return alerts{empty: true}, err
	}
	var list []vuln.DependabotAlert
	err = f.pages(ctx, at, maxAlertPages, func(page []byte) error {
		some, err := vuln.ParseDependabotAlerts(page)
		list = append(list, some...)
		return err
	})
	scan := vuln.DependabotScan(repository, list, time.Now())
	return alerts{scan, len(list) == 0}, err
}
