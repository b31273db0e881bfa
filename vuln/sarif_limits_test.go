package vuln

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

// manyFindings is a report of n findings, the worst last, in an order of the caller's.
func manyFindings(t *testing.T, n, suppressed int, description func(int) string) *VulnerabilityReport {
	t.Helper()
	r := fullReport(t)
	r.Vulnerabilities, r.Suppressed = nil, nil
	for i := range n + suppressed {
		v := Vulnerability{
			ID: fmt.Sprintf("CVE-2026-%07d", i), Severity: SeverityLow, Description: description(i), Package: &Package{Name: "a", Version: "1"},
			Provenance: []Provenance{{Source: SourceAttestation, Link: LinkDigest}},
		}
		if i == n-1 {
			v.Severity = SeverityCritical
		}
		if i < n {
			r.Vulnerabilities = append(r.Vulnerabilities, v)
		} else {
			r.Suppressed = append(r.Suppressed, Suppressed{Vulnerability: v, By: SuppressedByIgnore})
		}
	}
	return r
}

// TestSARIFWithinGitHubsLimits: the worst are kept, what is left out is said, and what is
// read back is not complete.
func TestSARIFWithinGitHubsLimits(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 2))
	random := func(int) string { // which can't be compressed by much
		var raw []byte
		for range 500 {
			raw = binary.LittleEndian.AppendUint64(raw, noise.Uint64())
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	none := func(int) string { return "" }
	const results, size = 250, 100_000
	for name, c := range map[string]struct {
		r              *VulnerabilityReport
		left           LeftOut
		notAll, bySize bool
	}{
		"all fit":                {manyFindings(t, results-1, 1, none), LeftOut{}, false, false},
		"too many":               {manyFindings(t, results+2, 3, none), LeftOut{Findings: 2, Worst: SeverityLow, Suppressed: 3}, true, false},
		"too many do not count":  {manyFindings(t, results-1, 3, none), LeftOut{Suppressed: 2}, false, false},
		"too large a file":       {manyFindings(t, 60, 0, random), LeftOut{}, true, true},
		"one that is very large": {manyFindings(t, 1, 0, func(int) string { return strings.Repeat("x", 20<<20) }), LeftOut{}, false, false},
	} {
		var b bytes.Buffer
		left, err := writeSARIF(&b, c.r, "1.0.0", results, size)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.bySize {
			if left.Findings == 0 || left.Findings > 50 || left.Worst != SeverityLow {
				t.Errorf("%s: left out %+v", name, left)
			}
			c.left = left
		}
		if left != c.left || (left.String() == "") != (left == LeftOut{}) {
			t.Errorf("%s: left out %+v, want %+v: %s", name, left, c.left, left)
		}
		if packed, err := packedSize(b.Bytes()); err != nil || packed > size {
			t.Errorf("%s: %d bytes, %v", name, packed, err)
		}
		var file sarifLog
		if err := json.Unmarshal(b.Bytes(), &file); err != nil {
			t.Fatal(err)
		}
		run := file.Runs[0]
		total := len(c.r.Vulnerabilities) + len(c.r.Suppressed)
		if got := len(run.Results) + left.Findings + left.Suppressed; got != total || len(run.Results) > results || len(run.Tool.Driver.Rules) > results {
			t.Errorf("%s: %d results and what is left out are %d of %d", name, len(run.Results), got, total)
		}
		if run.Results[0].Level != "error" {
			t.Errorf("%s: the worst is not kept: %+v", name, run.Results[0])
		}
		for _, result := range run.Results {
			if len(result.Locations) > 1000 || len(run.Tool.Driver.Rules[result.RuleIndex].Properties.Tags) > 20 {
				t.Errorf("%s: too many places or tags: %+v", name, result)
			}
		}
		said := len(run.Invocations[0].Notifications) == 1 && run.Invocations[0].Notifications[0].Message.Text == left.String() && run.Properties.LeftOut != nil
		if said != (left != LeftOut{}) || *run.Invocations[0].Success == c.notAll {
			t.Errorf("%s: the file says %+v, %+v", name, run.Invocations[0], run.Properties)
		}
		doc, err := Parse(b.Bytes(), "")
		if err != nil || doc.Scans[0].Partial != c.notAll {
			t.Errorf("%s: read back, it is partial: %t, %v", name, err == nil && doc.Scans[0].Partial, err)
		}
	}
	r := manyFindings(t, 1, 0, none)
	for range 20 { // of 5000 bytes, twice in the file
		r.Vulnerabilities[0].FixedVersions = append(r.Vulnerabilities[0].FixedVersions, random(0))
	}
	if left, err := writeSARIF(io.Discard, r, "", results, size); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a finding over all limits: %+v, %v", left, err)
	}
	// With GitHub's own.
	left, err := WriteSARIF(io.Discard, manyFindings(t, MaxSARIFResults+1, 0, none), "")
	if err != nil || left != (LeftOut{Findings: 1, Worst: SeverityLow}) {
		t.Errorf("left out %+v, %v", left, err)
	}
}
