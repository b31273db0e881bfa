package security

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// newLoginLook is a look with a login, and one without for what is public.
func newLoginLook(t *testing.T, s server) *Look {
	t.Helper()
	var apis []*packages.Client
	var chain *transport.Client
	for _, token := range []string{"ghp_login", ""} {
		var err error
		login := transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
			return transport.Credential{Password: transport.NewSecret(token), Source: "the test"}, nil
		})
		options := transport.Options{Base: s}
		if token != "" {
			options.Credentials = login
		}
		if chain, err = transport.New(options); err != nil {
			t.Fatal(err)
		}
		api, err := packages.New(chain, packages.Options{})
		if err != nil {
			t.Fatal(err)
		}
		apis = append(apis, api)
	}
	client, err := New(Options{API: apis[0], Public: apis[1], Transport: chain})
	if err != nil {
		t.Fatal(err)
	}
	return client.Look()
}

func targetOf(n int) vuln.Target {
	t := vuln.Target{Digest: digestOf(0), Repository: "acme/app"}
	for k := range n - 1 {
		t.Platforms = append(t.Platforms, vuln.PlatformImage{Digest: digestOf(k + 1)})
	}
	return t
}

const acme = `{"login":"acme","id":1,"type":"Organization"}`

// TestNothingPublicIsNotNothing: what a login is refused and anybody sees nothing of may
// be private. One by one and in bulk.
func TestNothingPublicIsNotNothing(t *testing.T) {
	for _, digests := range []int{1, 5} {
		synctest.Test(t, func(t *testing.T) {
			look := newLoginLook(t, func(r *http.Request) (int, string) {
				switch {
				case strings.HasPrefix(r.URL.Path, "/users/"):
					return 200, acme
				case r.Header.Get("Authorization") != "":
					return 403, `{"message":"Resource not accessible by personal access token"}`
				}
				return 200, `{"attestations":[],"attestations_subject_digests":{},"page_info":{"has_next":false}}`
			})
			_, err := look.Attestations("acme", Verification{}).Fetch(t.Context(), targetOf(digests))
			if status, _ := vuln.StatusOf(err); status != vuln.StatusForbidden {
				t.Errorf("%d digests: %s, %v", digests, status, err)
			}
		})
	}
}

// TestBulkListThatIsNotThere: where attestations are known to exist, each digest is asked
// about, since 404 is the answer for one that has none.
func TestBulkListThatIsNotThere(t *testing.T) {
	for _, status := range []int{404, 422} {
		synctest.Test(t, func(t *testing.T) {
			look := newLook(t, func(r *http.Request) (int, string) {
				switch {
				case strings.HasPrefix(r.URL.Path, "/users/"):
					return 200, acme
				case r.Method == http.MethodPost:
					return status, `{"message":"no"}`
				case strings.HasSuffix(r.URL.Path, digestOf(2).String()):
					return 200, `{"attestations":[{"bundle":{"a":1},"repository_id":1}]}`
				}
				return 404, `{"message":"Not Found"}`
			})
			n := 0
			err := look.Documents(t.Context(), "acme", targetOf(4).Digests(), func(vuln.Evidence, error) error { n++; return nil })
			if err != nil || n != 1 {
				t.Errorf("%d documents, %v", n, err)
			}
		})
	}
}

// TestListsThatAreNotWhole: a list that leads in a circle, to nowhere or elsewhere, and
// an answer that is no list, do not say that there is nothing.
func TestListsThatAreNotWhole(t *testing.T) {
	for name, answers := range map[string][]string{
		"bulk in a circle":            {`{"attestations_subject_digests":{},"page_info":{"has_next":true,"next":"x"}}`},
		"bulk that leads nowhere":     {`{"attestations_subject_digests":{},"page_info":{"has_next":true}}`},
		"bulk without a list":         {`{}`},
		"a list that is none":         {"", `{"message":"welcome"}`},
		"a list that is null":         {"", `{"attestations":null}`},
		"a bulk list that went away":  {"301"},
		"a bulk list of other things": {`{"attestations_subject_digests":[1],"page_info":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				look := newLook(t, func(r *http.Request) (int, string) {
					switch {
					case strings.HasPrefix(r.URL.Path, "/users/"):
						return 200, acme
					case answers[0] == "301":
						return 301, `{"attestations_subject_digests":{},"page_info":{}}`
					}
					return 200, answers[len(answers)-1]
				})
				n := 5
				if len(answers) == 2 {
					n = 1
				}
				report, err := look.Attestations("acme", Verification{}).Fetch(t.Context(), targetOf(n))
				if status, _ := vuln.StatusOf(err); !status.Harms() {
					t.Errorf("%s, %+v", status, report)
				}
			})
		})
	}
}

// TestBulkListInParts: a digest that several maps of a page name has what is in all.
func TestBulkListInParts(t *testing.T) {
	one := `{"` + digestOf(1).String() + `":[{"bundle":{"a":1}}]}`
	found, _, err := vuln.ParseBulkAttestations([]byte(`{"attestations_subject_digests":[` + one + "," + one + `],"page_info":{}}`))
	if err != nil || len(found[digestOf(1)]) != 2 {
		t.Errorf("%v, %v", found, err)
	}
}

// linked answers with a page that follows.
type linked func(*http.Request) (status int, body, next string)

func (l linked) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body, next := l(r)
	header := http.Header{}
	if next != "" {
		header.Set("Link", "<"+next+`>; rel="next"`)
	}
	return &http.Response{StatusCode: status, Header: header, Request: r, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// TestAlertsInACircle: what was read of them is not all.
func TestAlertsInACircle(t *testing.T) {
	chain, err := transport.New(transport.Options{Base: linked(func(r *http.Request) (int, string, string) { return 200, "[]", r.URL.String() })})
	if err != nil {
		t.Fatal(err)
	}
	api, err := packages.New(chain, packages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Options{API: api, Transport: chain})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []vuln.Source{client.Look().Dependabot(), client.Look().CodeScanning()} {
		if _, err := source.Fetch(t.Context(), targetOf(1)); err == nil {
			t.Errorf("%s took it for whole", source.Name())
		}
	}
}

// analysis is one by Trivy of an image, on a branch that no alert is listed of.
func analysis(id int) string {
	return fmt.Sprintf(`{"id":%d,"ref":"refs/heads/release","category":"c%d","created_at":"2026-01-02T03:04:05Z","results_count":1,"tool":{"name":"Trivy"},"url":"https://api.github.com/a/%d"}`, id, id, id)
}

// TestAnalysisIsNotCleanForWantOfAlerts: alerts are those of the default branch. The
// results of an analysis of another are those of its SARIF, and where that can't be had
// they are not known.
func TestAnalysisIsNotCleanForWantOfAlerts(t *testing.T) {
	const rule = `"rules":[{"id":"CVE-2026-1001","properties":{"tags":["vulnerability"],"security-severity":"8.0"}}]`
	sarif := `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"Trivy",` + rule + `}},"results":[{"ruleId":"CVE-2026-1001","message":{"text":"Package: openssl"},"locations":[{"physicalLocation":{"artifactLocation":{"uri":"acme/app"}}}]}]}]}`
	for name, test := range map[string]struct {
		status   int
		sarif    string
		findings int
		partial  bool
		failed   bool
	}{
		"SARIF":          {200, sarif, 1, false, false},
		"none any more":  {404, `{"message":"Not Found"}`, 0, true, false},
		"refused":        {403, `{"message":"no"}`, 0, true, true},
		"something else": {200, `{"version":"2.1.0"`, 0, true, true},
		"an empty SARIF": {200, `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"Trivy"}},"results":[]}]}`, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				look := newLook(t, func(r *http.Request) (int, string) {
					switch {
					case strings.HasSuffix(r.URL.Path, "/analyses"):
						return 200, "[" + analysis(1) + "]"
					case strings.HasSuffix(r.URL.Path, "/alerts"):
						return 200, "[]"
					}
					return test.status, test.sarif
				})
				report, err := look.CodeScanning().Fetch(t.Context(), targetOf(1))
				if len(report.Scans) != 1 || len(report.Scans[0].Findings) != test.findings || report.Scans[0].Partial != test.partial || (err != nil) != test.failed {
					t.Errorf("%+v, %v", report, err)
				}
			})
		})
	}
}

// TestMoreAnalysesThanAreRead: which image the others are of is not known.
func TestMoreAnalysesThanAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := make([]string, maxSARIF+1)
		for i := range list {
			list[i] = analysis(i + 1)
		}
		look := newLook(t, func(r *http.Request) (int, string) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/analyses"):
				return 200, "[" + strings.Join(list, ",") + "]"
			case strings.HasSuffix(r.URL.Path, "/alerts"):
				return 200, "[]"
			}
			return 404, `{"message":"Not Found"}`
		})
		if _, err := look.CodeScanning().Fetch(t.Context(), targetOf(1)); err == nil {
			t.Error("it is no error")
		}
	})
}

// TestWhatIsNotTold: names of sources and of kinds that no database has stay here.
func TestWhatIsNotTold(t *testing.T) {
	var sbom vuln.SBOM
	for _, purl := range []string{
		"pkg:deb/debian/libx@1?distro=debian-12&upstream=acme-secret", "pkg:deb/debian/liby@1?distro=debian-12&upstream=hidden%401", "pkg:npm/lodash@1",
	} {
		sbom.Packages = append(sbom.Packages, vuln.Package{PURL: purl, Version: "1"})
	}
	list, notes := Disclosure{Except: []string{"hid*"}}.disclosed("acme", []vuln.SBOM{sbom})
	if len(list) != 1 || list[0].name != "lodash" || len(notes) != 1 {
		t.Errorf("%+v, %v", list, notes)
	}
	for _, purl := range []string{"pkg:generic/secret@1", "pkg:oci/secret@1", "pkg:docker/secret@1"} {
		u, err := packageurl.FromString(purl)
		if err != nil {
			t.Fatal(err)
		}
		if q, ok := queryOf(lookup{purl: u}); ok {
			t.Errorf("%s is asked about: %+v", purl, q)
		}
	}
}

// TestOSVInACircle: records may be missing.
func TestOSVInACircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		look := newLook(t, func(*http.Request) (int, string) { return 200, `{"results":[{"next_page_token":"x"}]}` })
		sboms := []vuln.SBOM{{Packages: []vuln.Package{{PURL: "pkg:npm/lodash@1", Version: "1"}}}}
		if _, err := look.OSV("acme", Disclosure{}).Enrich(t.Context(), targetOf(1), sboms); err == nil {
			t.Error("it took that for whole")
		}
	})
}

// TestRecordThatIsNotThere: OSV says that a package has a flaw, and then answers something
// else for it than its record. That is no package without flaws.
func TestRecordThatIsNotThere(t *testing.T) {
	const record = `{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"a"},"versions":["1.0.0"]}]}`
	sbom := vuln.SBOM{Subject: digestOf(0), Packages: []vuln.Package{{PURL: "pkg:npm/a@1.0.0", Name: "a", Version: "1.0.0", Type: "npm"}}}
	for answer, findings := range map[string]int{record: 1, `{}`: 0, `{"vulns":[]}`: 0, `[]`: 0, strings.Replace(record, "GHSA-1", "GHSA-2", 1): 0} {
		synctest.Test(t, func(t *testing.T) {
			look := newLoginLook(t, func(r *http.Request) (int, string) {
				if r.URL.Path == "/v1/querybatch" {
					return 200, `{"results":[{"vulns":[{"id":"GHSA-1","modified":"2026-01-01T00:00:00Z"}]}]}`
				}
				return 200, answer
			})
			report, err := look.OSV("acme", Disclosure{}).Enrich(t.Context(), vuln.Target{Digest: digestOf(0)}, []vuln.SBOM{sbom})
			if len(report.Scans) != 1 || len(report.Scans[0].Findings) != findings || (err == nil) != (findings == 1) {
				t.Errorf("%s: %+v, %v", answer, report.Scans, err)
			}
		})
	}
}

// TestHowDistributionsAreAskedAbout: by the source and its version, and those of RPM, whose
// source is the name of a file, by their own.
func TestHowDistributionsAreAskedAbout(t *testing.T) {
	for purl, want := range map[string]osvQuery{
		"pkg:deb/debian/gcc@4:12.2.0-3?distro=debian-12&upstream=gcc-defaults%401.203": {Package: osvPackage{Ecosystem: "Debian:12", Name: "gcc-defaults"}, Version: "1.203"},
		"pkg:deb/debian/zlib1g@1.2.13?distro=debian-12&upstream=zlib&epoch=1":          {Package: osvPackage{Ecosystem: "Debian:12", Name: "zlib"}, Version: "1:1.2.13"},
		"pkg:rpm/almalinux/openssl-libs@1.1.1k-6.el8_5?distro=almalinux-8.5&epoch=1&upstream=openssl-1.1.1k-6.el8_5.src.rpm": {
			Package: osvPackage{Ecosystem: "AlmaLinux:8", Name: "openssl-libs"}, Version: "1:1.1.1k-6.el8_5"},
	} {
		u, err := packageurl.FromString(purl)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := queryOf(lookup{purl: u}); !ok || got != want {
			t.Errorf("%s: %+v", purl, got)
		}
	}
}

func TestReasonsOfARefusal(t *testing.T) {
	for _, c := range []struct {
		source  vuln.SourceName
		status  int
		message string
		want    vuln.Status
	}{
		{vuln.SourceCodeScanning, 403, "Code Security must be enabled for this repository to use code scanning.", vuln.StatusFeatureDisabled},
		{vuln.SourceCodeScanning, 403, "Advanced Security must be enabled for this repository to use code scanning.", vuln.StatusFeatureDisabled},
		{vuln.SourceDependabot, 403, "Dependabot alerts are disabled for this repository.", vuln.StatusFeatureDisabled},
		{vuln.SourceCodeScanning, 403, "Resource not accessible by integration", vuln.StatusForbidden},
		{vuln.SourceCodeScanning, 403, "You have exceeded a secondary rate limit.", vuln.StatusRateLimited},
		{vuln.SourceOSV, 429, "", vuln.StatusRateLimited},
		{vuln.SourceCodeScanning, 404, "no analysis found", vuln.StatusEmpty},
		{vuln.SourceCodeScanning, 404, "Not Found", vuln.StatusForbidden},
		{vuln.SourceGitHubAttestation, 404, "Not Found", vuln.StatusEmpty},
		{vuln.SourceGitHubAttestation, 422, "", vuln.StatusEmpty},
		{vuln.SourceCodeScanning, 503, "", vuln.StatusError},
		{vuln.SourceDependabot, 422, "", vuln.StatusError},
	} {
		err := refused(c.source, "acme/app", &transport.Error{Status: c.status, Message: c.message})
		if got, _ := vuln.StatusOf(err); got != c.want {
			t.Errorf("%s, %d %q: %s, want %s", c.source, c.status, c.message, got, c.want)
		}
	}
}
