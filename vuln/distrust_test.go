package vuln

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
)

// scanned collects documents that are attached to the index, or to what a file names.
func scanned(t *testing.T, target Target, opts Options, documents ...[]byte) *VulnerabilityReport {
	t.Helper()
	return scannedAs(t, target, opts, nil, documents...)
}

func scannedAs(t *testing.T, target Target, opts Options, by Verifier, documents ...[]byte) *VulnerabilityReport {
	t.Helper()
	reader := Reader{Source: SourceAttestation, Target: target, Verifier: by}
	for i, text := range documents {
		if err := reader.Read(t.Context(), Evidence{ID: fmt.Sprint(i), Content: text, Subject: target.Digest}); err != nil {
			t.Fatal(err)
		}
	}
	opts.Now = testNow
	report := reader.Report()
	r, err := Collect(t.Context(), []Source{fixedSource{SourceAttestation, func(context.Context, Target) (*SourceReport, error) { return report, nil }}}, target, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trivyOf is a report of Trivy's, made some days ago, with what it says of the image.
func trivyOf(days int, image string, findings ...string) []byte {
	return fmt.Appendf(nil, `{"SchemaVersion":2,"ArtifactName":"app","CreatedAt":%q,"Metadata":{%s},"Results":[{"Target":"app","Class":"os-pkgs","Vulnerabilities":[%s]}]}`,
		testNow.AddDate(0, 0, -days).Format(time.RFC3339), image, strings.Join(findings, ","))
}

func trivyFinding(id, severity string) string {
	return fmt.Sprintf(`{"VulnerabilityID":%q,"PkgName":"a","InstalledVersion":"1","PkgIdentifier":{"PURL":"pkg:npm/a@1"},"Severity":%q}`, id, severity)
}

func imageID(d oci.Digest) string {
	return fmt.Sprintf(`"ImageID":%q,"RepoDigests":["ghcr.io/acme/app@%s"]`, d, hexDigest("1"))
}

// TestStalePlatform: a gate goes by the oldest of the newest scans of the platforms.
func TestStalePlatform(t *testing.T) {
	amd64Config, arm64Config := hexDigest("c"), hexDigest("d")
	target := twoPlatforms(t)
	both := scanned(t, target, Options{}, trivyOf(1, imageID(amd64Config)), trivyOf(40, imageID(arm64Config)), trivyOf(50, imageID(arm64Config)))
	one := scanned(t, target, Options{}, trivyOf(1, imageID(amd64Config)))
	timeless := scanned(t, target, Options{}, trivyOf(1, imageID(amd64Config)), bytes.Replace(trivyOf(0, imageID(arm64Config)), []byte("CreatedAt"), []byte("x"), 1))
	for name, c := range map[string]struct {
		r    *VulnerabilityReport
		max  int
		want Outcome
		says []string
	}{
		"one platform is stale":          {both, 7, OutcomeUnknown, []string{"the newest scan of linux/arm64 is 40d old, more than 7d"}},
		"both are stale":                 {both, 0, OutcomeUnknown, []string{"the newest scan of linux/amd64 is 24h old, more than 12h", "the newest scan of linux/arm64 is 40d old, more than 12h"}},
		"neither is":                     {both, 41, OutcomePass, nil},
		"one has no scan":                {one, 7, OutcomeUnknown, []string{"not everything could be read", "no scan of linux/arm64"}},
		"one does not say when it was":   {timeless, 7, OutcomeUnknown, []string{"the scan of linux/arm64 does not say when it was made"}},
		"one platform is all that there": {scanned(t, testTarget(t), Options{}, trivyOf(9, imageID(amd64Config))), 7, OutcomeUnknown, []string{"the newest scan is 9d old, more than 7d"}},
	} {
		age := time.Duration(c.max) * 24 * time.Hour
		if c.max == 0 {
			age = 12 * time.Hour
		}
		v := Gate{MaxAge: age}.Check(c.r, testNow)
		if v.Outcome != c.want || !slices.Equal(v.Reasons, c.says) {
			t.Errorf("%s: %s %q, want %s %q", name, v.Outcome, v.Reasons, c.want, c.says)
		}
	}
	if line := both.Headline(testNow); !strings.Contains(line, "scanned 24h ago, linux/arm64 40d ago") {
		t.Errorf("headline %q", line)
	}
	if oldest, ok := both.Oldest(); !ok || oldest.Platform != "linux/arm64" || oldest.Digest != arm64.Digest {
		t.Errorf("oldest %+v %t", oldest, ok)
	}
	// What is made of it is as old as the oldest of it.
	text, err := json.Marshal(both)
	if err != nil {
		t.Fatal(err)
	}
	var sarif, cyclone bytes.Buffer
	predicate, err := VulnsPredicate(both)
	if _, sarifErr := WriteSARIF(&sarif, both, ""); errors.Join(err, sarifErr, WriteCycloneDX(&cyclone, both, "", testNow)) != nil {
		t.Fatal(err, sarifErr)
	}
	for format, text := range map[string][]byte{"json": text, "sarif": sarif.Bytes(), "cyclonedx": cyclone.Bytes(), "vulns": predicate} {
		doc, err := Parse(text, "")
		if err != nil || len(doc.Scans) != 1 || !doc.Scans[0].ScannedAt.Equal(testNow.AddDate(0, 0, -40)) {
			t.Errorf("%s read back: %+v, %v", format, doc, err)
		}
	}
}

// TestScannerLooksAtOneImage: attested of an index, its report is of one platform.
func TestScannerLooksAtOneImage(t *testing.T) {
	index := fmt.Sprintf(`"RepoDigests":["ghcr.io/acme/app@%s"]`, hexDigest("1"))
	config := func(arch string) string {
		return index + `,"ImageConfig":{"architecture":"` + arch + `","os":"linux"}`
	}
	missing := twoPlatforms(t)
	missing.Platforms[0].Config = "" // as of a child that is not there
	for name, c := range map[string]struct {
		target    Target
		text      []byte
		state     State
		unscanned string
	}{
		"it does not say which":                 {twoPlatforms(t), trivyOf(1, index), StatePartial, "linux/amd64 linux/arm64"},
		"it says which by name":                 {twoPlatforms(t), trivyOf(1, config("arm64")), StatePartial, "linux/amd64"},
		"by a name that is not there":           {twoPlatforms(t), trivyOf(1, config("riscv64")), StatePartial, "linux/amd64 linux/arm64"},
		"by the configuration of a missing one": {missing, trivyOf(1, imageID(hexDigest("c"))), StatePartial, "linux/amd64 linux/arm64"},
		"there is only one":                     {testTarget(t), trivyOf(1, index), StateComplete, ""},
		"Grype": {twoPlatforms(t), []byte(`{"matches":[],"descriptor":{"name":"grype"},"source":{"target":{"repoDigests":["ghcr.io/acme/app@` + hexDigest("1").String() + `"],"architecture":"amd64","os":"linux"}}}`),
			StatePartial, "linux/arm64"},
		"whoever attests it says that it is of all": {twoPlatforms(t), wrap(t, hexDigest("1"), PredicateVulns, json.RawMessage(`{"scanner":{"uri":"x","result":[]},"metadata":{}}`)), StateComplete, ""},
	} {
		r := scanned(t, c.target, Options{}, c.text)
		if r.State != c.state || strings.Join(r.Unscanned, " ") != c.unscanned {
			t.Errorf("%s: %s, unscanned %q", name, r.State, r.Unscanned)
		}
	}
	other := onlyArm64(t)
	if r := scanned(t, other, Options{}, trivyOf(1, config("amd64"))); r.Scanned() {
		t.Errorf("a scan of amd64 is one of arm64: %s", r.State)
	}
}

func onlyArm64(t *testing.T) Target {
	one := twoPlatforms(t)
	one.Parent, one.Digest, one.Others, one.Platforms = one.Digest, arm64.Digest, one.Platforms[:1], one.Platforms[1:]
	return one
}

// TestScanFromTheFuture: it neither hides those that were made nor is it new for ever.
func TestScanFromTheFuture(t *testing.T) {
	real, future := trivyOf(3, "", trivyFinding("CVE-2026-1", "CRITICAL")), trivyOf(-400, "")
	r := scanned(t, testTarget(t), Options{}, real, future)
	if len(r.Vulnerabilities) != 1 || r.ScannedAt == nil || !r.ScannedAt.Before(testNow) {
		t.Errorf("%d findings, scanned at %v", len(r.Vulnerabilities), r.ScannedAt)
	}
	if w := r.Sources[0].Warnings; len(w) != 1 || !strings.Contains(w[0], "yet to come") {
		t.Errorf("warnings %q", w)
	}
	r = scanned(t, testTarget(t), Options{}, future)
	if v := (Gate{MaxAge: time.Hour}).Check(r, testNow); v.Outcome != OutcomeUnknown {
		t.Errorf("a scan from the future is new: %s", v.Outcome)
	}
}

// TestPartialScanReplacesNone: that a later one failed does not make what was found go away.
func TestPartialScanReplacesNone(t *testing.T) {
	later := bytes.Replace(trivyOf(1, ""), []byte("os-pkgs"), []byte("secret"), 1)
	r := scanned(t, testTarget(t), Options{}, trivyOf(3, "", trivyFinding("CVE-2026-1", "CRITICAL")), later)
	if v := (Gate{FailOn: SeverityHigh}).Check(r, testNow); v.Outcome != OutcomeFail || r.State != StatePartial {
		t.Errorf("%s of a report that is %s", v.Outcome, r.State)
	}
}

// TestNobodyHasRatedIt: a severity in a word or vector that nobody understands may be any.
func TestNobodyHasRatedIt(t *testing.T) {
	for _, word := range []string{"", "KRITISCH", "sev:1", "UNKNOWN", "Critical!"} {
		r := scanned(t, testTarget(t), Options{}, trivyOf(1, "", trivyFinding("CVE-2026-1", word)))
		if v := (Gate{FailOn: SeverityCritical}).Check(r, testNow); v.Outcome != OutcomeUnknown {
			t.Errorf("%q: %s", word, v.Outcome)
		}
		if v := (Gate{FailOn: SeverityCritical, AllowUnrated: true}).Check(r, testNow); v.Outcome != OutcomePass {
			t.Errorf("%q is allowed: %s", word, v.Outcome)
		}
	}
	for _, vector := range []string{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H", "CVSS:3.1/", "CVSS:9.9/AV:N", "AV:N/AC:L", "7,5"} {
		text := wrap(t, hexDigest("1"), PredicateVulns, json.RawMessage(`{"scanner":{"uri":"x","result":[{"id":"CVE-2026-1","severity":[{"method":"nvd","score":"`+vector+`"}]}]},"metadata":{}}`))
		if v := (Gate{FailOn: SeverityCritical}).Check(scanned(t, testTarget(t), Options{}, text), testNow); v.Outcome != OutcomeUnknown {
			t.Errorf("%q: %s", vector, v.Outcome)
		}
	}
}

// TestNobodySaysWhetherItIsExploited: Trivy does not, so that it says nothing is no "no".
func TestNobodySaysWhetherItIsExploited(t *testing.T) {
	grype := func(exploited string) []byte {
		return []byte(`{"matches":[{"vulnerability":{"id":"CVE-2026-1","severity":"High"` + exploited + `},"artifact":{"name":"a","version":"1","purl":"pkg:npm/a@1"}}],"descriptor":{"name":"grype","timestamp":"2026-11-20T00:00:00Z"}}`)
	}
	trivy := trivyOf(1, "", trivyFinding("CVE-2026-1", "HIGH"))
	for name, c := range map[string]struct {
		documents [][]byte
		want      Outcome
	}{
		"Trivy":                   {[][]byte{trivy}, OutcomeUnknown},
		"Trivy, of what has none": {[][]byte{trivyOf(1, "", trivyFinding("GHSA-2222-3333-4444", "HIGH"))}, OutcomePass},
		"Grype":                   {[][]byte{grype("")}, OutcomePass},
		"Grype, exploited":        {[][]byte{grype(`,"knownExploited":[{"cve":"CVE-2026-1"}]`)}, OutcomeFail},
		"both":                    {[][]byte{trivy, grype("")}, OutcomePass},
		"Trivy found nothing":     {[][]byte{trivyOf(1, "")}, OutcomePass},
	} {
		if v := (Gate{FailOnKEV: true}).Check(scanned(t, testTarget(t), Options{}, c.documents...), testNow); v.Outcome != c.want {
			t.Errorf("%s: %s %q, want %s", name, v.Outcome, v.Reasons, c.want)
		}
	}
}

// TestUnknownFixIsJudged: that a report does not speak of fixes is no reason to ignore what
// it has.
func TestUnknownFixIsJudged(t *testing.T) {
	for state, want := range map[FixState]Outcome{FixFixed: OutcomeFail, FixUnknown: OutcomeFail, "": OutcomeFail, FixNotFixed: OutcomePass, FixWontFix: OutcomePass} {
		r := &VulnerabilityReport{State: StateComplete, Counts: &Counts{}, Vulnerabilities: []Vulnerability{{ID: "CVE-2026-1", Severity: SeverityCritical, FixState: state}}}
		if v := (Gate{FailOn: SeverityHigh, IgnoreUnfixed: true}).Check(r, testNow); v.Outcome != want {
			t.Errorf("%q: %s, want %s", state, v.Outcome, want)
		}
	}
}

// TestBrokenScanAsCustomData: cosign's type for anything may hold a scan that was cut off.
func TestBrokenScanAsCustomData(t *testing.T) {
	report := string(trivyOf(1, "", trivyFinding("CVE-2026-1", "HIGH")))
	for name, c := range map[string]struct {
		data string
		want Status
	}{
		"cut off":            {report[:len(report)/2], StatusError},
		"of another version": {strings.Replace(report, `"SchemaVersion":2`, `"SchemaVersion":3`, 1), StatusError},
		"whole":              {report, StatusOK},
		"something else":     {`{"hello":"world"}`, StatusEmpty},
		"text":               {"it was tested", StatusEmpty},
	} {
		r := scanned(t, testTarget(t), Options{}, wrap(t, hexDigest("1"), predicateCosignCustom, map[string]any{"Data": c.data, "Timestamp": ""}), trivyOf(3, ""))
		if got := r.Sources[0].Status; c.want == StatusError && (got != c.want || r.Complete()) || c.want != StatusError && !r.Complete() {
			t.Errorf("%s: %s, and the report is %s", name, got, r.State)
		}
	}
}

// TestNoListIsNotAnEmptyList: what a server answers in its place does not say that there is
// nothing.
func TestNoListIsNotAnEmptyList(t *testing.T) {
	for _, text := range []string{`null`, `{}`, ``, `{"message":"x"}`, `[{"number":1}`} {
		_, alerts := ParseCodeScanningAlerts([]byte(text))
		_, analyses := ParseCodeScanningAnalyses([]byte(text))
		_, dependabot := ParseDependabotAlerts([]byte(text))
		_, advisories := ParseGitHubAdvisories([]byte(text))
		_, attestations := ParseAttestations([]byte(text))
		_, _, bulk := ParseBulkAttestations([]byte(text))
		for what, err := range map[string]error{"alerts": alerts, "analyses": analyses, "Dependabot": dependabot, "advisories": advisories, "attestations": attestations, "bulk": bulk} {
			if !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("%s of %q: %v", what, text, err)
			}
		}
	}
	for _, text := range []string{`{"attestations_subject_digests":null}`, `{"attestations_subject_digests":{},"page_info":{"has_next":true}}`} {
		if _, _, err := ParseBulkAttestations([]byte(text)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{`{"vulnerabilities":null,"scanned_at":"2026-11-20T00:00:00Z"}`, `{"scanned_at":"2026-11-20T00:00:00Z"}`, `{"state":"complete","scanned_at":"2026-11-20T00:00:00Z"}`} {
		if s, err := ParseReport([]byte(text)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
	if _, err := Parse([]byte(`{"matches":null,"descriptor":{"name":"grype"}}`), ""); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("Grype without a list: %v", err)
	}
}

// TestWhatWasAskedForMustAnswer: a database that packages were to be looked up in, or a file,
// is no code scanning, which only knows an image's name.
func TestWhatWasAskedForMustAnswer(t *testing.T) {
	for name, want := range map[SourceName]State{
		SourceOSV: StatePartial, SourceGHSA: StatePartial, SourceFile: StatePartial, SourcePackagesAPI: StatePartial, SourceCodeScanning: StateComplete, SourceDependabot: StateComplete,
	} {
		fails := fixedSource{name, func(context.Context, Target) (*SourceReport, error) { return nil, errors.New("HTTP 502") }}
		r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "trivy.json"), fails}, testTarget(t), Options{Now: testNow})
		if err != nil || r.State != want {
			t.Errorf("%s: %s, want %s; %v", name, r.State, want, err)
		}
	}
}

// TestScanByNameOfSomeTime: without knowing when the image was pushed, a scan by its name may be
// of the one before.
func TestScanByNameOfSomeTime(t *testing.T) {
	target := testTarget(t)
	for name, c := range map[string]struct {
		pushed time.Time
		want   State
	}{"before the scan": {target.Pushed, StateComplete}, "after it": {testNow, StatePartial}, "nobody knows when": {time.Time{}, StatePartial}} {
		target.Pushed = c.pushed
		r, err := Collect(t.Context(), []Source{codeScanning(t)}, target, Options{Now: testNow})
		if err != nil || r.State != c.want {
			t.Errorf("%s: %s, want %s; %v", name, r.State, c.want, err)
		}
	}
}

// TestPredicateOfAPartialReport: in-toto's form can't say that something is missing.
func TestPredicateOfAPartialReport(t *testing.T) {
	r := scanned(t, twoPlatforms(t), Options{}, trivyOf(1, imageID(hexDigest("c"))))
	if _, err := VulnsPredicate(r); !errors.Is(err, ErrPartial) || !strings.Contains(err.Error(), "no scan of linux/arm64") {
		t.Errorf("got %v", err)
	}
}

// TestScanOfAnotherImage: one that names the digest of another image is a hint, be it attested
// of this one, given as a file, or uploaded under its name. It is no scan of this one.
func TestScanOfAnotherImage(t *testing.T) {
	other := trivyOf(1, fmt.Sprintf(`"RepoDigests":["ghcr.io/acme/app@%s"]`, hexDigest("9")), trivyFinding("CVE-2026-1", "LOW"))
	target := testTarget(t)
	uploaded := Scan{Tool: "trivy", Category: "acme/app", Digests: []oci.Digest{hexDigest("9")}, ScannedAt: testNow, Findings: []Vulnerability{found("CVE-2026-1", "pkg:npm/a@1")}}
	for name, source := range map[string]Source{
		"attested": fixedSource{SourceAttestation, func(ctx context.Context, target Target) (*SourceReport, error) {
			return read(t, &Reader{}, at1("x", other)), nil
		}},
		"a file": fixedSource{SourceFile, func(ctx context.Context, target Target) (*SourceReport, error) {
			r := Reader{Source: SourceFile, Target: target}
			err := r.Read(ctx, Evidence{ID: "x", Content: other})
			return r.Report(), err
		}},
		"uploaded": fixedSource{SourceCodeScanning, func(context.Context, Target) (*SourceReport, error) {
			return &SourceReport{Scans: []Scan{uploaded}}, nil
		}},
	} {
		r, err := Collect(t.Context(), []Source{source}, target, Options{Now: testNow})
		if err != nil || r.Complete() || len(r.Vulnerabilities) != 1 || !slices.Equal(r.Unscanned, []string{"linux/amd64"}) {
			t.Errorf("%s: %s with %d findings, not scanned are %q; %v", name, r.State, len(r.Vulnerabilities), r.Unscanned, err)
		}
	}
	uploaded.Digests = nil
	source := fixedSource{SourceCodeScanning, func(context.Context, Target) (*SourceReport, error) {
		return &SourceReport{Scans: []Scan{uploaded}}, nil
	}}
	if r, err := Collect(t.Context(), []Source{source}, target, Options{Now: testNow}); err != nil || !r.Complete() {
		t.Errorf("one that names none: %s, %v", r.State, err)
	}
}
