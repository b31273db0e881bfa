package ghcr_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/security"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

var (
	openssl = ghcrtest.Finding{
		ID: "CVE-2026-1001", Severity: "HIGH", Score: 8.1, Title: "a flaw in openssl",
		Package: "openssl", Version: "3.0.1", Fixed: "3.0.2",
	}
	zlib = ghcrtest.Finding{ID: "CVE-2026-1002", Severity: "LOW", Score: 2.1, Title: "a flaw in zlib", Package: "zlib", Version: "1.2"}
)

var scannedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// trivyStatement is a scan by Trivy as cosign attests it.
func trivyStatement(image *ghcrtest.Image, findings ...ghcrtest.Finding) []byte {
	report := ghcrtest.TrivyReport("acme/app", image, findings...)
	return ghcrtest.Statement(attest.PredicateCosignVuln, json.RawMessage(ghcrtest.CosignVuln("pkg:github/aquasecurity/trivy@0.60.0", report, scannedAt)), image)
}

func (s *sandbox) repository(r ghcrtest.Repository) {
	s.t.Helper()
	if err := s.server.SetRepository(r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sandbox) attestAtGitHub(repository string, bundle []byte) {
	s.t.Helper()
	if err := s.server.AddAttestation(repository, bundle); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sandbox) vulns(text string, opts ghcr.VulnOptions) *vuln.VulnerabilityReport {
	s.t.Helper()
	report, err := s.client.Vulnerabilities(s.t.Context(), s.ref(text), opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// statuses are what became of the sources.
func statuses(r *vuln.VulnerabilityReport) map[vuln.SourceName]vuln.Status {
	list := map[vuln.SourceName]vuln.Status{}
	for _, s := range r.Sources {
		list[s.Name] = s.Status
	}
	return list
}

func source(t *testing.T, r *vuln.VulnerabilityReport, name vuln.SourceName) vuln.SourceReport {
	t.Helper()
	for _, s := range r.Sources {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no source %s in %v", name, statuses(r))
	return vuln.SourceReport{}
}

func ids(list []vuln.Vulnerability) []string {
	var names []string
	for _, v := range list {
		names = append(names, v.ID)
	}
	slices.Sort(names)
	return names
}

// TestEveryLayoutOfAttestationsIsRead: wherever and in whatever form a scan is attached,
// the same findings come of it.
func TestEveryLayoutOfAttestationsIsRead(t *testing.T) {
	plain := func() *ghcrtest.Image { return image(1, 2) }
	for name, put := range map[string]func(s *sandbox) (sourceName vuln.SourceName){
		"cosign 3": func(s *sandbox) vuln.SourceName {
			i := plain()
			ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i, openssl)))
			s.add("acme/app", "v1", i)
			return vuln.SourceAttestation
		},
		"cosign 2": func(s *sandbox) vuln.SourceName {
			i := plain()
			ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
			s.add("acme/app", "v1", i)
			return vuln.SourceAttestation
		},
		"BuildKit": func(s *sandbox) vuln.SourceName {
			s.add("acme/app", "v1", ghcrtest.BuildKit(func(i *ghcrtest.Image) [][]byte { return [][]byte{trivyStatement(i, openssl)} }, plain()))
			return vuln.SourceAttestation
		},
		"BuildKit, as artifacts": func(s *sandbox) vuln.SourceName {
			s.add("acme/app", "v1", ghcrtest.BuildKitArtifact(func(i *ghcrtest.Image) [][]byte { return [][]byte{trivyStatement(i, openssl)} }, plain()))
			return vuln.SourceAttestation
		},
		"GitHub": func(s *sandbox) vuln.SourceName {
			i := plain()
			s.add("acme/app", "v1", i)
			s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(i, openssl)))
			return vuln.SourceGitHubAttestation
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				from := put(s)
				r := s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceAttestation, vuln.SourceGitHubAttestation}})
				if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001"}) || r.State != vuln.StateComplete {
					t.Fatalf("%v, %s, %+v, %v", got, r.State, r.Sources, r.Warnings)
				}
				p := r.Vulnerabilities[0].Provenance[0]
				if p.Source != from || p.Link != vuln.LinkDigest || p.Tool == "" {
					t.Errorf("provenance %+v", p)
				}
			})
		})
	}
}

// TestUnscannedImageIsNotClean: where there is nothing, the report says so, and which
// source is there at all.
func TestUnscannedImageIsNotClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 2))
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
		if r.State != vuln.StateUnavailable || r.Vulnerabilities != nil || r.Counts != nil {
			t.Errorf("%+v", r)
		}
		want := map[vuln.SourceName]vuln.Status{
			vuln.SourcePackagesAPI: vuln.StatusUnavailable, vuln.SourceAttestation: vuln.StatusEmpty, vuln.SourceGitHubAttestation: vuln.StatusEmpty,
			vuln.SourceCodeScanning: vuln.StatusEmpty, vuln.SourceDependabot: vuln.StatusEmpty,
		}
		if got := statuses(r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v", got)
		}
		if r.PackageVersionID == 0 {
			t.Error("the number of the version is not known")
		}
	})
}

// TestAbsentEndpointIsAskedOnceADay: also by the next process, if it has the same cache.
func TestAbsentEndpointIsAskedOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 2))
		s.add("acme/other", "v1", image(2, 2))
		dir := t.TempDir()
		asked := func() int {
			n := 0
			for _, r := range s.log() {
				if strings.HasSuffix(r.Path, "/vulnerabilities") {
					n++
				}
			}
			return n
		}
		only := ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourcePackagesAPI}}
		for range 2 {
			s.client = s.newClient(dir)
			for _, ref := range []string{"acme/app:v1", "acme/other:v1"} {
				if r := s.vulns(ref, only); source(t, r, vuln.SourcePackagesAPI).Status != vuln.StatusUnavailable {
					t.Errorf("%+v", r.Sources)
				}
			}
		}
		if n := asked(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(25 * time.Hour)
		if s.vulns("acme/app:v1", only); asked() != 2 {
			t.Errorf("asked %d times in all after a day", asked())
		}
	})
}

// TestPresentEndpointIsRead: the day GitHub has the specification's endpoint, it is the
// first source. What it has nothing of is not scanned, and the endpoint is still there.
func TestPresentEndpointIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.VulnerabilityEndpoint = 200
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		for seed, tag := range []string{"v1", "unscanned", "v2"} {
			s.add("acme/app", tag, image(uint64(seed+1), 2))
			if tag == "unscanned" {
				continue
			}
			if err := s.server.AddVulnerabilityReport("acme/app", tag, []byte(`{"scanned_at":"2026-01-02T03:04:05Z","vulnerabilities":[{"id":"CVE-2026-1001","severity":"High","summary":"s","description":"d","references":[]}]}`)); err != nil {
				t.Fatal(err)
			}
		}
		for _, tag := range []string{"v1", "unscanned", "v2"} {
			r := s.vulns("acme/app:"+tag, ghcr.VulnOptions{})
			if tag == "unscanned" {
				if from := source(t, r, vuln.SourcePackagesAPI); from.Status != vuln.StatusEmpty || r.State != vuln.StateUnavailable {
					t.Errorf("%s, %+v", r.State, from)
				}
				continue
			}
			if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001"}) || r.Vulnerabilities[0].Provenance[0].Source != vuln.SourcePackagesAPI {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestOneVersionByNumber: the report of a version is that of its digest.
func TestOneVersionByNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 2)
		ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
		s.add("acme/app", "v1", i)
		id := int64(s.vulns("acme/app:v1", ghcr.VulnOptions{}).PackageVersionID)
		r, err := s.client.VersionVulnerabilities(t.Context(), s.ref("acme/app"), id, ghcr.VulnOptions{})
		if err != nil || r.Digest != i.Digest() || len(r.Vulnerabilities) != 1 || int64(r.PackageVersionID) != id {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// clientVia is a client of the emulator some of whose requests are answered by the test,
// one at a time.
func (s *sandbox) clientVia(answer func(*http.Request) (*http.Response, bool), opts ghcr.Options) *ghcr.Client {
	s.t.Helper()
	base := s.server.Transport()
	if opts.Credentials == nil {
		opts.Credentials = login
	}
	turn := make(chan struct{}, 1) // not a mutex, for a test may sleep
	opts.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		turn <- struct{}{}
		resp, ok := answer(r)
		<-turn
		if ok {
			if r.Body != nil {
				r.Body.Close()
			}
			return resp, nil
		}
		return base.RoundTrip(r)
	})
	client, err := ghcr.New(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func answered(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// TestNoCredentialLeavesTheAPI: attestations are kept at addresses that are the
// permission; no token goes there, neither that for packages nor that for security
// data, and each of the two goes only where it is for.
func TestNoCredentialLeavesTheAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{Accounts: []ghcrtest.Account{{Login: "owner", Token: ghcrtest.Token}, {Login: "auditor", Token: "ghp_security"}}})
		i := image(1, 2)
		ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i, zlib)))
		s.add("acme/app", "v1", i)
		s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(i, openssl)))
		sent := map[string]map[string]bool{} // hosts and kinds of path, by token
		security := transport.CredentialFunc(func(_ context.Context, host string) (transport.Credential, error) {
			if host != ghcrtest.APIHost {
				t.Errorf("the login for security data is asked for %s", host)
			}
			return transport.Credential{Password: transport.NewSecret("ghp_security"), Source: "the test"}, nil
		})
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			if sent[token] == nil {
				sent[token] = map[string]bool{}
			}
			sent[token][r.URL.Host] = true
			if strings.Contains(r.URL.Path, "/attestations/") && r.URL.Host == ghcrtest.APIHost && token != "ghp_security" {
				t.Errorf("%s is asked with %q", r.URL.Path, token)
			}
			return nil, false
		}, ghcr.Options{Security: security})
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
		if got := ids(r.Vulnerabilities); !slices.Equal(got, []string{"CVE-2026-1001", "CVE-2026-1002"}) {
			t.Errorf("%v, %+v", got, r.Sources)
		}
		if hosts := sent["ghp_security"]; len(hosts) != 1 || !hosts[ghcrtest.APIHost] {
			t.Errorf("the token for security data went to %v", hosts)
		}
		if sent[ghcrtest.Token][ghcrtest.CDNHost] || !sent[""][ghcrtest.CDNHost] {
			t.Errorf("sent %v", sent)
		}
		for _, r := range s.log() {
			if r.Route == ghcrtest.RouteBundle && r.Credential != "none" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestEachPlatformHasItsReport: a scan is of the platform that it looked at; one that
// nobody scanned is not clean.
func TestEachPlatformHasItsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		amd, arm := image(1, 2), ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(9, 100))
		ghcrtest.CosignBundle(amd, ghcrtest.Bundle(trivyStatement(amd, openssl)))
		s.add("acme/app", "v1", ghcrtest.NewIndex(amd, arm))
		result, err := s.client.PlatformVulnerabilities(t.Context(), s.ref("acme/app:v1"), ghcr.VulnOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if m := result.Merged; m.State != vuln.StatePartial || !slices.Equal(m.Unscanned, []string{"linux/arm64"}) {
			t.Errorf("%s, %v", m.State, m.Unscanned)
		}
		if len(result.Platforms) != 2 || result.Platforms[0].State != vuln.StateComplete || result.Platforms[1].State != vuln.StateUnavailable {
			t.Fatalf("%+v", result.Platforms)
		}
		one := s.vulns("acme/app:v1", ghcr.VulnOptions{Platform: "linux/amd64"})
		if one.Digest != amd.Digest() || one.Platform != "linux/amd64" || len(one.Vulnerabilities) != 1 {
			t.Errorf("%+v", one)
		}
		if _, err := s.client.Vulnerabilities(t.Context(), s.ref("acme/app:v1"), ghcr.VulnOptions{Platform: "linux/s390x"}); err == nil {
			t.Error("a platform that is not there has a report")
		}
	})
}

// TestSignedByTheKey: with a key, a document that it signed is known to be, and with
// Required another does not count.
func TestSignedByTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 2)
		ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
		s.add("acme/app", "v1", i)
		keys, err := attest.ParseKeys(ghcrtest.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		r := s.vulns("acme/app:v1", ghcr.VulnOptions{Verification: security.Verification{Verifier: ghcr.VerifyWith(keys), Required: true}})
		if len(r.Vulnerabilities) != 1 || r.Vulnerabilities[0].Link() != vuln.LinkDigestSigned {
			t.Errorf("%+v", r)
		}
		r = s.vulns("acme/app:v1", ghcr.VulnOptions{Verification: security.Verification{Verifier: ghcr.VerifyWith(), Required: true}})
		if r.State != vuln.StateUnavailable || len(r.Vulnerabilities) != 0 {
			t.Errorf("unsigned: %+v", r)
		}
	})
}

// TestHostileAttachmentsArePartial: what can't be read may be a scan.
func TestHostileAttachmentsArePartial(t *testing.T) {
	for name, put := range map[string]func(i *ghcrtest.Image){
		"broken":    func(i *ghcrtest.Image) { ghcrtest.CosignTag(i, []byte(`{"payloadType":`)) },
		"oversized": func(i *ghcrtest.Image) { ghcrtest.CosignTag(i, ghcrtest.Oversized(trivyEnvelope(i), 21<<20)) },
		"too many": func(i *ghcrtest.Image) {
			var list [][]byte
			for range 101 {
				list = append(list, trivyEnvelope(i))
			}
			ghcrtest.CosignTag(i, list...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				i := image(1, 2)
				ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i, openssl)))
				put(i)
				s.add("acme/app", "v1", i)
				r := s.vulns("acme/app:v1", ghcr.VulnOptions{})
				if from := source(t, r, vuln.SourceAttestation); r.State != vuln.StatePartial || from.Status != vuln.StatusError || len(r.Vulnerabilities) != 1 {
					t.Errorf("%s, %d findings, %+v", r.State, len(r.Vulnerabilities), from)
				}
			})
		})
	}
}

func trivyEnvelope(i *ghcrtest.Image) []byte { return ghcrtest.Envelope(trivyStatement(i, openssl)) }
