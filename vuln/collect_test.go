package vuln

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestOneSourceThatFailsCancelsNone(t *testing.T) {
	failures := map[SourceName]error{
		SourcePackagesAPI:       fmt.Errorf("GET …: %w", ErrVulnerabilityAPIUnavailable),
		SourceCodeScanning:      &SourceError{Status: StatusForbidden, Remedy: "give the token security_events: read", Err: errors.New("HTTP 403")},
		SourceGitHubAttestation: errors.New("connection reset"),
	}
	var sources []Source
	for _, name := range []SourceName{SourcePackagesAPI, SourceGitHubAttestation, SourceCodeScanning} {
		sources = append(sources, fixedSource{name, func(context.Context, Target) (*SourceReport, error) { return nil, failures[name] }})
	}
	sources = append(sources, reading(t, SourceAttestation, hexDigest("1"), "trivy.json"))
	r, err := Collect(t.Context(), sources, testTarget(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.Sources {
		got = append(got, fmt.Sprintf("%s %s %s", s.Name, s.Status, s.Remedy))
	}
	want := []string{
		"packages-api unavailable ", "github-attestation error ",
		"code-scanning forbidden give the token security_events: read", "attestation ok ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("sources %q\nwant %q", got, want)
	}
	// The attestations of GitHub may be a newer scan.
	if r.State != StatePartial || len(r.Vulnerabilities) != 4 {
		t.Errorf("%s with %d findings", r.State, len(r.Vulnerabilities))
	}
}

func TestWhatHarmsAReport(t *testing.T) {
	index := reading(t, SourceAttestation, hexDigest("1"), "trivy.json")
	failed := func(name SourceName, s Status) Source {
		return fixedSource{name, func(context.Context, Target) (*SourceReport, error) {
			return nil, &SourceError{Status: s, Err: errors.New("x")}
		}}
	}
	for name, c := range map[string]struct {
		sources []Source
		want    State
	}{
		"a scan by digest needs no code scanning":   {[]Source{index, failed(SourceCodeScanning, StatusForbidden)}, StateComplete},
		"nor the endpoint that is not there":        {[]Source{failed(SourcePackagesAPI, StatusUnavailable), index}, StateComplete},
		"GitHub's attestations may have another":    {[]Source{index, failed(SourceGitHubAttestation, StatusRateLimited)}, StatePartial},
		"where there are none on this host":         {[]Source{index, failed(SourceGitHubAttestation, StatusUnavailable)}, StateComplete},
		"a scan by name needs all sources":          {[]Source{codeScanning(t), failed(SourceDependabot, StatusFeatureDisabled)}, StatePartial},
		"a scan by name with all of them":           {[]Source{codeScanning(t), failed(SourceDependabot, StatusNotAsked)}, StateComplete},
		"nothing was scanned, whatever else failed": {[]Source{failed(SourceAttestation, StatusEmpty), failed(SourceCodeScanning, StatusEmpty)}, StateUnavailable},
	} {
		r, err := Collect(t.Context(), c.sources, testTarget(t), Options{Now: testNow})
		if err != nil {
			t.Fatal(err)
		}
		if r.State != c.want {
			t.Errorf("%s: %s, want %s", name, r.State, c.want)
		}
	}
}

func TestPlatformWithoutAScan(t *testing.T) {
	// It is attested of the index, and says itself which platform it looked at.
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "grype.json")}, twoPlatforms(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if r.State != StatePartial || !slices.Equal(r.Unscanned, []string{"linux/arm64"}) {
		t.Errorf("%s, unscanned %q", r.State, r.Unscanned)
	}
	if v := (Gate{FailOn: SeverityCritical, IgnoreUnfixed: true}).Check(r, testNow); v.Outcome != OutcomeFail {
		t.Errorf("a finding over the threshold in a partial report: %s", v.Outcome)
	}
}

// TestNoPlatformIsNamed: an image that does not say what it is for has no platform in its
// report, and is named by its digest where it is not scanned.
func TestNoPlatformIsNamed(t *testing.T) {
	target := testTarget(t)
	target.Platforms = []PlatformImage{{Digest: target.Digest}}
	if r := assemble(nil, target, Options{}); r.Platform != "" {
		t.Errorf("platform %q", r.Platform)
	}
	target = twoPlatforms(t)
	target.Platforms[1].Platform = oci.Platform{}
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("a"), "trivy.json")}, target, Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{arm64.Digest.String()}; !slices.Equal(r.Unscanned, want) {
		t.Errorf("not scanned are %q, want %q", r.Unscanned, want)
	}
}

func TestScanOfAnotherPlatform(t *testing.T) {
	target := testTarget(t)
	target.Parent, target.Digest = target.Digest, arm64.Digest
	target.Platforms, target.Others = []PlatformImage{arm64}, target.Platforms
	for _, file := range []string{"grype.json", "trivy.json", "cosign-vuln.dsse.json"} {
		r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), file)}, target, Options{Now: testNow})
		if err != nil {
			t.Fatal(err)
		}
		if r.Scanned() || len(r.Vulnerabilities) != 0 {
			t.Errorf("%s: a scan of amd64 is taken for one of arm64", file)
		}
	}
	// What does not say which platform is about all that the index lists.
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "vulns-0.2.bundle-0.2.json")}, target, Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete() || r.Platform != "linux/arm64" || len(r.Vulnerabilities) != 4 {
		t.Errorf("%s of %q with %d findings", r.State, r.Platform, len(r.Vulnerabilities))
	}
}

func TestWarningsOfDocumentsReachTheReport(t *testing.T) {
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "bad-other-target.json")}, testTarget(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Sources[0].Warnings; len(w) != 1 || !strings.Contains(w[0], "bad-other-target.json: ") || !strings.Contains(w[0], "the scanner looked at") {
		t.Errorf("warnings %q", w)
	}
}

func TestCompareRisk(t *testing.T) {
	list := []Vulnerability{
		{ID: "worst", Severity: SeverityCritical},
		{ID: "likely", Severity: SeverityMedium, EPSS: &EPSS{Score: 0.9}},
		{ID: "less likely", Severity: SeverityHigh, EPSS: &EPSS{Score: 0.1}},
		{ID: "exploited", Severity: SeverityLow, KEV: true},
	}
	slices.SortFunc(list, CompareRisk)
	if got := ids(list); list[0].ID != "exploited" || list[1].ID != "likely" || list[2].ID != "less likely" {
		t.Errorf("order %s", got)
	}
}

func TestSourcesAreAskedFourAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, peak atomic.Int32
		source := fixedSource{SourceVEX, func(context.Context, Target) (*SourceReport, error) {
			n := now.Add(1)
			for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return nil, nil
		}}
		r, err := Collect(t.Context(), slices.Repeat([]Source{source}, 10), testTarget(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if peak.Load() != DefaultConcurrency || len(r.Sources) != 10 || r.Sources[9].Duration != time.Second {
			t.Errorf("%d at once, %d sources", peak.Load(), len(r.Sources))
		}
	})
}

func TestContextEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		waits := fixedSource{SourceAttestation, func(ctx context.Context, _ Target) (*SourceReport, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		if _, err := Collect(ctx, slices.Repeat([]Source{waits}, 9), testTarget(t), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCollectNeedsADigest(t *testing.T) {
	target := testTarget(t)
	target.Digest = ""
	if _, err := Collect(t.Context(), nil, target, Options{}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestNewestScanOfATool(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	scan := func(tool string, link Link, day int, ids ...string) Scan {
		s := Scan{Source: SourceAttestation, Tool: tool, Link: link, Subject: hexDigest("1")}
		if day > 0 {
			s.ScannedAt = at(day)
		}
		for _, id := range ids {
			s.Findings = append(s.Findings, Vulnerability{ID: id, Package: &Package{Name: "p", Version: "1"}})
		}
		return s
	}
	for name, c := range map[string]struct {
		scans []Scan
		want  string
	}{
		"a newer one replaces":                       {[]Scan{scan("trivy", LinkDigest, 1, "CVE-2026-1"), scan("Trivy", LinkDigest, 2, "CVE-2026-2")}, "CVE-2026-2"},
		"other tools stay":                           {[]Scan{scan("trivy", LinkDigest, 1, "CVE-2026-1"), scan("grype", LinkDigest, 2, "CVE-2026-2")}, "CVE-2026-1 CVE-2026-2"},
		"a clean one without a signature hides none": {[]Scan{scan("trivy", LinkDigestSigned, 1, "CVE-2026-1"), scan("trivy", LinkDigest, 2)}, "CVE-2026-1"},
		"one without a time stays":                   {[]Scan{scan("trivy", LinkDigest, 0, "CVE-2026-1"), scan("trivy", LinkDigest, 2)}, "CVE-2026-1"},
	} {
		r := assemble([]SourceReport{{Name: SourceAttestation, Status: StatusOK, Scans: c.scans}}, testTarget(t), Options{})
		var ids []string
		for _, v := range r.Vulnerabilities {
			ids = append(ids, v.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	r := assemble([]SourceReport{{Name: SourceAttestation, Status: StatusOK, Scans: []Scan{
		scan("trivy", LinkDigest, 1, "CVE-2026-1"), scan("trivy", LinkDigest, 2),
	}}}, testTarget(t), Options{History: true})
	if len(r.Vulnerabilities) != 1 {
		t.Error("the history is lost")
	}
}

func TestScanByNameThatIsOlderThanTheImage(t *testing.T) {
	target := testTarget(t)
	target.Pushed = testNow
	r, err := Collect(t.Context(), []Source{codeScanning(t)}, target, Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if r.State != StatePartial || len(r.Warnings) != 1 {
		t.Errorf("%s, warnings %q", r.State, r.Warnings)
	}
}
