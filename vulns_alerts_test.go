package ghcr_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

func (s *sandbox) upload(repository, ref string, sarif []byte) {
	s.t.Helper()
	if err := s.server.UploadSARIF(ghcrtest.SARIFUpload{Repository: repository, Ref: ref, SARIF: sarif}); err != nil {
		s.t.Fatal(err)
	}
}

var scanningOnly = ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceCodeScanning}}

// TestCodeScanningIsTiedToTheImage: by the digest where the SARIF has it, else by name,
// else by the repository alone, which is no scan of the image.
func TestCodeScanningIsTiedToTheImage(t *testing.T) {
	other := image(7, 1)
	for name, test := range map[string]struct {
		sarif func(i *ghcrtest.Image) []byte
		link  vuln.Link
		state vuln.State
	}{
		"the digest in the SARIF":   {func(i *ghcrtest.Image) []byte { return ghcrtest.TrivySARIF("acme/app", i, openssl) }, vuln.LinkDigest, vuln.StateComplete},
		"another digest, this name": {func(*ghcrtest.Image) []byte { return ghcrtest.TrivySARIF("acme/app", other, openssl) }, vuln.LinkPath, vuln.StatePartial},
		"a path that names it":      {func(*ghcrtest.Image) []byte { return ghcrtest.GrypeSARIF("acme/app", openssl) }, vuln.LinkPath, vuln.StatePartial},
		"another image":             {func(*ghcrtest.Image) []byte { return ghcrtest.GrypeSARIF("acme/web", openssl) }, vuln.LinkRepository, vuln.StateUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				quirks.CodeScanningProperties = true
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
				s.repository(ghcrtest.Repository{Name: "acme/app"})
				i := image(1, 2)
				s.upload("acme/app", "", test.sarif(i))
				time.Sleep(time.Hour) // the image is newer than the scan
				s.add("acme/app", "v1", i)
				r := s.vulns("acme/app:v1", scanningOnly)
				if len(r.Vulnerabilities) != 1 || r.Vulnerabilities[0].Link() != test.link || r.State != test.state {
					t.Errorf("%s, %v, %+v, %+v", r.State, r.Warnings, r.Vulnerabilities, r.Sources)
				}
			})
		})
	}
}

// TestDismissedAlertsAreSuppressed: and a SARIF that is known is not read again.
func TestDismissedAlertsAreSuppressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		i := image(1, 2)
		s.add("acme/app", "v1", i)
		s.upload("acme/app", "", ghcrtest.TrivySARIF("acme/app", i, openssl, zlib))
		if err := s.server.DismissAlert("acme/app", 1, "won't fix", "not used"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r := s.vulns("acme/app:v1", scanningOnly)
			if len(r.Vulnerabilities) != 1 || len(r.Suppressed) != 1 || !strings.Contains(r.Suppressed[0].Reason, "won't fix: not used") {
				t.Errorf("%+v", r)
			}
		}
		if n := s.tally()[ghcrtest.RouteAnalysis]; n != 1 {
			t.Errorf("the SARIF was read %d times", n)
		}
	})
}

// TestCodeScanningRefusals: switched off, not allowed and nothing there are told apart,
// and the first two say what to do.
func TestCodeScanningRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		repository ghcrtest.Repository
		account    ghcrtest.Account
		quirks     func(*ghcrtest.Quirks)
		status     vuln.Status
		remedy     string
	}{
		"no analysis":         {repository: ghcrtest.Repository{Name: "acme/app"}, status: vuln.StatusEmpty},
		"switched off":        {repository: ghcrtest.Repository{Name: "acme/app", CodeScanning: "off"}, status: vuln.StatusFeatureDisabled, remedy: "switch code scanning on in the settings of acme/app"},
		"not allowed":         {repository: ghcrtest.Repository{Name: "acme/app"}, account: ghcrtest.Account{Scopes: []string{"read:packages"}}, status: vuln.StatusForbidden, remedy: "security_events"},
		"not allowed, masked": {repository: ghcrtest.Repository{Name: "acme/app"}, account: ghcrtest.Account{Scopes: []string{"read:packages"}}, quirks: func(q *ghcrtest.Quirks) { q.SecurityForbidden = 404 }, status: vuln.StatusForbidden, remedy: "GHCR_SECURITY_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				if test.quirks != nil {
					test.quirks(&quirks)
				}
				test.account.Login, test.account.Token = "owner", ghcrtest.Token
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks, Accounts: []ghcrtest.Account{test.account}})
				s.repository(test.repository)
				s.add("acme/app", "v1", image(1, 2))
				r := s.vulns("acme/app:v1", scanningOnly)
				from := source(t, r, vuln.SourceCodeScanning)
				if from.Status != test.status || !strings.Contains(from.Remedy, test.remedy) || r.State != vuln.StateUnavailable {
					t.Errorf("%+v", from)
				}
			})
		})
	}
}

// TestPublicDataBehindSingleSignOn: what an organization's single sign-on refuses a
// token is asked for once more without it.
func TestPublicDataBehindSingleSignOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/source"})
		i := image(1, 2)
		s.add("acme/app", "v1", i)
		s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(i, openssl)))
		refused := 0
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			if !strings.Contains(r.URL.Path, "/attestations/") || r.Header.Get("Authorization") == "" {
				return nil, false
			}
			refused++
			return answered(r, 403, `{"message":"Resource protected by organization SAML enforcement. You must grant your token access to this organization."}`), true
		}, ghcr.Options{})
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceGitHubAttestation}})
		if len(r.Vulnerabilities) != 1 || refused != 1 {
			t.Errorf("refused %d times: %+v", refused, r.Sources)
		}
	})
}

// TestBundlesInEveryForm: inline or at an address, as a block, in frames or plain; and a
// bundle that is not to be had makes the report partial.
func TestBundlesInEveryForm(t *testing.T) {
	for name, set := range map[string]func(*ghcrtest.Quirks){
		"snappy": func(*ghcrtest.Quirks) {},
		"framed": func(q *ghcrtest.Quirks) { q.AttestationBody = "framed" },
		"plain":  func(q *ghcrtest.Quirks) { q.AttestationBody = "plain" },
		"inline": func(q *ghcrtest.Quirks) { q.AttestationBundle = "inline" },
		"array":  func(q *ghcrtest.Quirks) { q.AttestationsBulkArray = true },
		"none":   func(q *ghcrtest.Quirks) { q.AttestationBundle = "none" },
		"absent": func(q *ghcrtest.Quirks) { q.AttestationsAPI = false },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				set(&quirks)
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
				a, b := image(1, 2), image(2, 2)
				s.add("acme/app", "v1", ghcrtest.NewIndex(a, b))
				s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(a, openssl)))
				s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(b, zlib)))
				r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceGitHubAttestation}})
				from := source(t, r, vuln.SourceGitHubAttestation)
				switch name {
				case "none":
					if from.Status != vuln.StatusError || r.State != vuln.StateUnavailable {
						t.Errorf("%+v", from)
					}
				case "absent":
					if from.Status != vuln.StatusEmpty || r.State != vuln.StateUnavailable {
						t.Errorf("%+v", from)
					}
				default:
					if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "CVE-2026-1002"}) {
						t.Errorf("%v, %+v", got, from)
					}
				}
			})
		})
	}
}

// TestOldAddressOfABundleIsAskedForAgain: it is good for minutes, and a sweep may take
// longer.
func TestOldAddressOfABundleIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 2)
		s.add("acme/app", "v1", i)
		s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(i, openssl)))
		first := true
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			if r.URL.Host == ghcrtest.CDNHost && first {
				first = false
				time.Sleep(24 * time.Hour)
			}
			return nil, false
		}, ghcr.Options{})
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceGitHubAttestation}})
		if len(r.Vulnerabilities) != 1 {
			t.Errorf("%+v", r.Sources)
		}
	})
}

// TestAnalysisOfSourceCodeIsNoScan: that CodeQL found nothing, in a category that happens
// to have the image's name, does not make the image scanned.
func TestAnalysisOfSourceCodeIsNoScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		s.add("acme/app", "v1", image(1, 2))
		s.upload("acme/app", "", []byte(`{"version":"2.1.0","$schema":"https://json.schemastore.org/sarif-2.1.0.json","runs":[{"tool":{"driver":{"name":"CodeQL","rules":[]}},
			"automationDetails":{"id":"app/"},"results":[]}]}`))
		if r := s.vulns("acme/app:v1", scanningOnly); r.State != vuln.StateUnavailable {
			t.Errorf("%s, %+v", r.State, r.Sources)
		}
	})
}

// TestLimitOfSecurityDataIsASourcesOwn: a limit that takes too long to wait for is the
// status of its source, says until when, and does not end the others.
func TestLimitOfSecurityDataIsASourcesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 2)
		ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
		s.add("acme/app", "v1", i)
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			if !strings.Contains(r.URL.Path, "/code-scanning/") {
				return nil, false
			}
			resp := answered(r, 403, `{"message":"You have exceeded a secondary rate limit."}`)
			resp.Header.Set("Retry-After", "3000")
			return resp, true
		}, ghcr.Options{})
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceAttestation, vuln.SourceCodeScanning}})
		from := source(t, r, vuln.SourceCodeScanning)
		if from.Status != vuln.StatusRateLimited || !strings.Contains(from.Remedy, "run it again after 2000-01-01T00:") {
			t.Errorf("%+v", from)
		}
		if len(r.Vulnerabilities) != 1 || r.State != vuln.StateComplete { // a scan names the digest
			t.Errorf("%s, %+v", r.State, r.Sources)
		}
	})
}

// TestVulnerabilitiesOnLoopback: an emulator on a socket has all of it at one address.
func TestVulnerabilitiesOnLoopback(t *testing.T) {
	server := ghcrtest.Start(t, ghcrtest.Options{})
	i := image(1, 2)
	sbom := ghcrtest.SPDX("acme/app", openssl)
	ghcrtest.CosignBundle(i, ghcrtest.Bundle(ghcrtest.Statement(attest.PredicateSPDX, json.RawMessage(sbom), i)))
	if err := server.Add("acme/app", "v1", i); err != nil {
		t.Fatal(err)
	}
	if err := server.AddAttestation("acme/app", ghcrtest.Bundle(trivyStatement(i, zlib))); err != nil {
		t.Fatal(err)
	}
	if err := server.AddAdvisory([]byte(opensslRecord)); err != nil {
		t.Fatal(err)
	}
	client, err := ghcr.New(ghcr.Options{Registry: server.Host(), PlainHTTP: true, Credentials: login})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := client.ParseRef("acme/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.Vulnerabilities(t.Context(), ref, ghcr.VulnOptions{Enrich: []vuln.SourceName{vuln.SourceOSV}})
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "CVE-2026-1002"}) {
		t.Errorf("%v, %+v", got, r.Sources)
	}
}

// TestSecurityLogin: the token for security data comes from the environment, and there may
// be none.
func TestSecurityLogin(t *testing.T) {
	if source := ghcr.SecurityLogin(func(string) string { return "" }); source != nil {
		t.Errorf("got %v", source)
	}
	source := ghcr.SecurityLogin(func(name string) string { return map[string]string{"GHCR_SECURITY_TOKEN": "a, b"}[name] })
	pool, ok := source.(transport.CredentialPool)
	if !ok {
		t.Fatalf("%T is no pool", source)
	}
	list, err := pool.Credentials(t.Context(), "api.github.com")
	if err != nil || len(list) != 2 || list[0].Password.Reveal() != "a" || list[0].Source != "GHCR_SECURITY_TOKEN" {
		t.Errorf("%v, %v", list, err)
	}
}

// TestRepositoryOfTheImage: it is the one the package is linked to, or else that the
// provenance names, if only one is named.
func TestRepositoryOfTheImage(t *testing.T) {
	provenance := func(i *ghcrtest.Image, repository string) []byte {
		return ghcrtest.Bundle(ghcrtest.Statement("https://slsa.dev/provenance/v1", json.RawMessage(`{"buildDefinition":{"resolvedDependencies":[
			{"uri":"git+https://github.com/`+repository+`@refs/heads/main","digest":{"gitCommit":"1111111111111111111111111111111111111111"}}]}}`), i))
	}
	for name, test := range map[string]struct {
		named []string
		asked string
	}{
		"one": {[]string{"acme/code"}, "/repos/acme/code/code-scanning/analyses"},
		"two": {[]string{"acme/code", "evil/code"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				i := image(1, 2)
				for _, repository := range test.named {
					ghcrtest.CosignBundle(i, provenance(i, repository))
				}
				s.add("acme/app", "v1", i)
				asked := ""
				s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
					if strings.HasSuffix(r.URL.Path, "/packages/container/app") {
						return answered(r, 200, `{"id":1,"name":"app","visibility":"public","version_count":2}`), true // not linked
					}
					if strings.HasSuffix(r.URL.Path, "/blobs/"+i.Manifest.Config.Digest.String()) {
						return answered(r, 404, `{}`), true // it has a label that names a repository
					}
					if strings.Contains(r.URL.Path, "/code-scanning/analyses") {
						asked = r.URL.Path
					}
					return nil, false
				}, ghcr.Options{})
				r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
				if asked != test.asked {
					t.Errorf("asked %q: %+v", asked, r.Sources)
				}
			})
		})
	}
}

const lodashAlert = `{"dependency":{"package":{"ecosystem":"npm","name":"lodash"},"manifest_path":"web/package-lock.json","scope":"runtime","relationship":"direct"},
	"security_advisory":{"ghsa_id":"GHSA-2222-3333-4444","cve_id":"CVE-2026-2002","severity":"high","summary":"injection"},
	"security_vulnerability":{"first_patched_version":{"identifier":"4.17.21"}},"state":%q}`

// TestDependabotIsAboutTheRepository: its alerts are listed apart, count as no scan, and
// those that were dismissed are suppressed.
func TestDependabotIsAboutTheRepository(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		s.add("acme/app", "v1", image(1, 2))
		for _, state := range []string{"open", "dismissed", "auto_dismissed", "fixed"} {
			if err := s.server.AddDependabotAlert("acme/app", fmt.Appendf(nil, lodashAlert, state)); err != nil {
				t.Fatal(err)
			}
		}
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceDependabot}})
		if r.State != vuln.StateUnavailable || r.Counts != nil || len(r.Image()) != 0 {
			t.Errorf("%+v", r)
		}
		found := r.Repository()
		if len(found) != 1 || found[0].FixedIn != "4.17.21" || found[0].Link() != vuln.LinkRepository || len(r.Suppressed) == 0 {
			t.Errorf("%+v, %d suppressed", found, len(r.Suppressed))
		}
	})
}

// TestDependabotSwitchedOff is not "nothing found".
func TestDependabotSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app", Dependabot: "off"})
		s.add("acme/app", "v1", image(1, 2))
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
		if from := source(t, r, vuln.SourceDependabot); from.Status != vuln.StatusFeatureDisabled || !strings.Contains(from.Remedy, "Dependabot") {
			t.Errorf("%+v", from)
		}
	})
}

// TestAlertsOfManyPages are all read, page by page.
func TestAlertsOfManyPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		i := image(1, 2)
		s.add("acme/app", "v1", i)
		var findings []ghcrtest.Finding
		for k := range 250 {
			f := openssl
			f.ID = fmt.Sprintf("CVE-2026-%d", 3000+k)
			findings = append(findings, f)
			if err := s.server.AddDependabotAlert("acme/app", []byte(strings.ReplaceAll(fmt.Sprintf(lodashAlert, "open"), "2002", fmt.Sprint(5000+k)))); err != nil {
				t.Fatal(err)
			}
		}
		s.upload("acme/app", "", ghcrtest.TrivySARIF("acme/app", i, findings...))
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
		if n := len(r.Image()); n != 250 {
			t.Errorf("%d findings about the image", n)
		}
		if from := source(t, r, vuln.SourceDependabot); from.Findings != 250 {
			t.Errorf("%d alerts of Dependabot", from.Findings)
		}
	})
}
