package vuln_test

import (
	"context"
	"fmt"
	"time"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// attached is a source that reads what it fetched from somewhere.
type attached struct{ documents []vuln.Evidence }

func (attached) Name() vuln.SourceName { return vuln.SourceAttestation }

func (a attached) Fetch(ctx context.Context, t vuln.Target) (*vuln.SourceReport, error) {
	r := vuln.Reader{Source: vuln.SourceAttestation, Target: t}
	for _, e := range a.documents {
		if err := r.Read(ctx, e); err != nil {
			return r.Report(), err
		}
	}
	return r.Report(), nil
}

func Example() {
	ref, _ := oci.ParseRef("ghcr.io/acme/app:v1")
	image := oci.Digest("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
	report := []byte(`{"SchemaVersion":2,"CreatedAt":"2026-11-20T10:00:00Z","ArtifactName":"app","Results":[{"Class":"lang-pkgs","Type":"npm",
		"Vulnerabilities":[{"VulnerabilityID":"CVE-2026-1","PkgName":"lodash","InstalledVersion":"4.17.20","FixedVersion":"4.17.21","Severity":"HIGH"}]}]}`)
	target := vuln.Target{Ref: ref, Digest: image}
	gate := vuln.Gate{FailOn: vuln.SeverityHigh}
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

	for _, source := range []attached{{}, {[]vuln.Evidence{{ID: "report.json", Content: report, Subject: image}}}} {
		r, err := vuln.Collect(context.Background(), []vuln.Source{source}, target, vuln.Options{Now: now})
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Headline(now))
		fmt.Println(gate.Check(r, now).Outcome)
	}
	// Output:
	// not scanned, as far as is known
	// unknown
	// 1 high (1 fixable); scanned 3d ago
	// fail
}
