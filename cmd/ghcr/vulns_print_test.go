package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/vuln"
)

// TestWhatSARIFHasNoRoomForIsSaid on stderr, whatever else is printed.
func TestWhatSARIFHasNoRoomForIsSaid(t *testing.T) {
	r := &vuln.VulnerabilityReport{Ref: "ghcr.io/acme/app:v1", State: vuln.StateComplete, Counts: &vuln.Counts{}}
	for i := range vuln.MaxSARIFResults + 3 {
		r.Vulnerabilities = append(r.Vulnerabilities, vuln.Vulnerability{ID: fmt.Sprintf("CVE-2026-%d", i+1000), Severity: vuln.SeverityMedium})
	}
	var out, stderr bytes.Buffer
	a := &app{stderr: &stderr}
	err := a.formatReports(&out, "acme/app:v1", []*reported{{VulnerabilityReport: r}}, nil, true, vulnsPrint{format: "sarif"}, time.Now())
	if err != nil || !strings.Contains(stderr.String(), "left out are 3 findings of severity medium or less") {
		t.Errorf("%q, %v", stderr.String(), err)
	}
	stderr.Reset()
	r.Vulnerabilities = r.Vulnerabilities[:1]
	if err := a.formatReports(&out, "acme/app:v1", []*reported{{VulnerabilityReport: r}}, nil, true, vulnsPrint{format: "sarif"}, time.Now()); err != nil || stderr.Len() > 0 {
		t.Errorf("nothing is left out: %q, %v", stderr.String(), err)
	}
}
