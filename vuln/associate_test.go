package vuln

import (
	"testing"

	"github.com/llm-dev-ops/ghcr/oci"
)

func TestAssociation(t *testing.T) {
	finding := func(path string) []Vulnerability {
		return []Vulnerability{{ID: "CVE-2026-1", Package: &Package{Name: "p", Path: path}}}
	}
	for name, c := range map[string]struct {
		scan Scan
		want Link
	}{
		"1: names the digest":                 {Scan{Digests: []oci.Digest{hexDigest("1")}}, LinkDigest},
		"1: names a platform's configuration": {Scan{Digests: []oci.Digest{hexDigest("c")}}, LinkDigest},
		"1: names another":                    {Scan{Digests: []oci.Digest{hexDigest("e")}}, ""},
		"2: commit and category":              {Scan{Commit: "c0ffee", Category: "trivy/acme/app"}, LinkCommit},
		"2: commit and path":                  {Scan{Commit: "c0ffee", Findings: finding("acme/app")}, LinkCommit},
		"2: commit alone":                     {Scan{Commit: "c0ffee", Category: "scan"}, ""},
		"3: category":                         {Scan{Commit: "0ddba11", Category: ".github/workflows/scan.yml:app"}, LinkPath},
		"3: category of a longer name":        {Scan{Category: "webapp"}, ""},
		"3: category of a name with a dash":   {Scan{Category: "app-worker"}, ""},
		"4: path as Trivy writes it":          {Scan{Findings: finding("acme/app")}, LinkPath},
		"4: path as Grype writes it":          {Scan{Findings: finding("app/usr/lib/x.so")}, LinkPath},
		"4: path of a longer name":            {Scan{Findings: finding("application/main.go")}, ""},
		"5: repository":                       {Scan{Repository: "Acme/app-source", Ref: "refs/heads/main", Findings: finding("go.sum")}, LinkRepository},
		"5: another branch":                   {Scan{Repository: "acme/app-source", Ref: "refs/heads/dev", Findings: finding("go.sum")}, ""},
		"5: another repository":               {Scan{Repository: "acme/other", Findings: finding("go.sum")}, ""},
		"a pull request":                      {Scan{Category: "app", Ref: "refs/pull/7/merge"}, ""},
		"a file that names none":              {Scan{Source: SourceFile}, LinkPath},
		"a file that names another":           {Scan{Source: SourceFile, Digests: []oci.Digest{hexDigest("e")}}, LinkPath},
		"attested":                            {Scan{Link: LinkDigestSigned, Subject: hexDigest("1")}, LinkDigestSigned},
		"attested, of another image":          {Scan{Link: LinkDigestSigned, Subject: hexDigest("1"), Digests: []oci.Digest{hexDigest("e")}}, LinkPath},
	} {
		target := testTarget(t)
		target.Commits = []string{"c0ffee"}
		var got Link
		for _, part := range Associate(target, c.scan) {
			got = part.Link
			if part.Rule == "" && c.scan.Link == "" {
				t.Errorf("%s: no rule is recorded", name)
			}
		}
		if got != c.want {
			t.Errorf("%s: link %q, want %q", name, got, c.want)
		}
	}
}

func TestAssociationOfParts(t *testing.T) {
	target := testTarget(t)
	parts := Associate(target, Scan{Repository: "acme/app-source", Findings: []Vulnerability{
		{ID: "CVE-2026-1", Package: &Package{Name: "p", Path: "acme/app"}},
		{ID: "CVE-2026-2", Package: &Package{Name: "q", Path: "go.sum"}},
	}})
	if len(parts) != 2 || parts[0].Link != LinkPath || parts[0].Findings[0].ID != "CVE-2026-1" || parts[1].Link != LinkRepository || parts[1].Findings[0].ID != "CVE-2026-2" {
		t.Errorf("parts %+v", parts)
	}
}

func TestRepositoryOnlyIsNoScanAndNoGate(t *testing.T) {
	r, err := Collect(t.Context(), []Source{dependabot(t)}, testTarget(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Image()) != 0 || len(r.Repository()) != 1 || r.Scanned() {
		t.Errorf("%d of the image, %d of the repository, %s", len(r.Image()), len(r.Repository()), r.State)
	}
	if got := (Gate{FailOn: SeverityHigh}).Check(r, testNow).Outcome; got != OutcomeUnknown {
		t.Errorf("the gate says %s", got)
	}
	if got := (Gate{FailOn: SeverityHigh, IncludeRepository: true}).Check(r, testNow).Outcome; got != OutcomeFail {
		t.Errorf("with the repository the gate says %s", got)
	}
}

func TestRepositoryName(t *testing.T) {
	for in, want := range map[string]string{
		"https://github.com/acme/app":                     "acme/app",
		"git+https://github.com/acme/app@refs/heads/main": "acme/app",
		"https://github.com/acme/app.git#refs/heads/main": "acme/app",
		"git@github.com:acme/app.git":                     "acme/app",
		"https://gitlab.com/acme/app":                     "https://gitlab.com/acme/app",
		"https://github.com/acme":                         "https://github.com/acme",
		"https://github.com.evil.example/acme/app":        "https://github.com.evil.example/acme/app",
	} {
		if got := repositoryName(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
