package ghcr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llm-dev-ops/ghcr/internal/atomicfile"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// absence remembers for a day which hosts and owners the specification's endpoint for
// vulnerabilities is not there for (docs/quirks.md#vulnerability-endpoint), so that
// asking costs one request a day.
type absence struct {
	dir string // empty keeps it in memory only

	asking  chan struct{} // held while it is asked for
	mu      sync.Mutex
	until   map[string]time.Time
	present map[string]bool
}

const absentFor = 24 * time.Hour

func openAbsence(dir string) *absence {
	return &absence{dir: dir, asking: make(chan struct{}, 1), until: map[string]time.Time{}, present: map[string]bool{}}
}

// known tells whether it is known to be there, or not to be.
func (a *absence) known(key string) (absent, present bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.until[key]
	if !ok && a.dir != "" {
		if text, err := os.ReadFile(a.path(key)); err == nil {
			until, _ = time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
			a.until[key] = until
		}
	}
	// A file from the future is of a clock that was wrong.
	left := time.Until(until)
	return left > 0 && left <= absentFor, a.present[key]
}

// remember keeps what an answer said: for this client, or also for those that come after
// it and may have another login.
func (a *absence) remember(key string, absent, forOthers bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.present[key] = !absent; !absent {
		return
	}
	until := time.Now().Add(absentFor)
	a.until[key] = until
	if forOthers && a.dir != "" && os.MkdirAll(a.dir, 0o700) == nil {
		atomicfile.Write(a.path(key), []byte(until.UTC().Format(time.RFC3339)+"\n"), 0o600, false)
	}
}

func (a *absence) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(a.dir, hex.EncodeToString(sum[:16]))
}

// packagesSource asks the specification's endpoint.
type packagesSource struct {
	client      *Client
	owner, name string
	turn        turn
}

// turn is whose turn it is to find out whether the endpoint is there: of the reports of a
// sweep, which are made side by side, the first one's. If it were that of whichever comes
// first, the question would be about another version each time, and a recording of it
// could not be replayed. The zero value is for a report alone.
type turn struct {
	ahead <-chan struct{} // closed when the first one has asked; nil for that one
	asked func()          // called by the first one; nil for the others
}

// wait returns when the first one has asked.
func (t turn) wait(ctx context.Context) error {
	if t.ahead == nil {
		return nil
	}
	select {
	case <-t.ahead:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Name implements [vuln.Source].
func (*packagesSource) Name() vuln.SourceName { return vuln.SourcePackagesAPI }

// Fetch implements [vuln.Source].
func (s *packagesSource) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	key := s.client.packages.Host() + " " + strings.ToLower(s.owner)
	absence := s.client.absence
	if s.turn.asked != nil {
		defer s.turn.asked()
	}
	absent, present := absence.known(key)
	if !absent && !present {
		if err := s.turn.wait(ctx); err != nil {
			return nil, err
		}
		// Of many that want to know, one asks.
		select {
		case absence.asking <- struct{}{}:
			defer func() { <-absence.asking }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		absent, present = absence.known(key)
	}
	switch {
	case absent:
		return nil, vuln.ErrVulnerabilityAPIUnavailable
	case t.PackageVersionID == 0:
		return nil, &vuln.SourceError{Status: vuln.StatusNotAsked, Err: errors.New("the number of the version is not known")}
	}
	body, err := s.client.packages.Vulnerabilities(ctx, s.owner, s.name, int64(t.PackageVersionID))
	report := &vuln.SourceReport{Requests: 1}
	var e *transport.Error
	switch {
	case err == nil:
	case errors.Is(err, transport.ErrRateLimited):
		return report, &vuln.SourceError{Status: vuln.StatusRateLimited, Remedy: "run it again later", Err: err}
	case !errors.As(err, &e):
		return report, err
	case present && e.Status == http.StatusNotFound:
		return report, &vuln.SourceError{Status: vuln.StatusEmpty, Err: err} // it has nothing of this version
	case !present && slices.Contains([]int{http.StatusNotFound, http.StatusForbidden, http.StatusGone, http.StatusNotImplemented}, e.Status):
		absence.remember(key, true, e.Status != http.StatusForbidden) // which is to this login
		return report, fmt.Errorf("%w: %w", vuln.ErrVulnerabilityAPIUnavailable, err)
	default:
		return report, err
	}
	absence.remember(key, false, false)
	scan, err := vuln.ParseReport(body)
	if err != nil {
		return report, err
	}
	scan.Source, scan.Subject, scan.Link = vuln.SourcePackagesAPI, t.Digest, vuln.LinkDigest
	scan.Rule = "GitHub says it of the version that has the digest"
	scan.Evidence = fmt.Sprintf("version %d of %s/%s", t.PackageVersionID, s.owner, s.name)
	report.Scans = []vuln.Scan{*scan}
	return report, nil
}
