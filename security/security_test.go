package security

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transport"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// server answers requests by the test.
type server func(*http.Request) (int, string)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := s(r)
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func newLook(t *testing.T, s server) *Look { return newLookAt(t, s, "") }

func newLookAt(t *testing.T, s server, base string) *Look {
	t.Helper()
	chain, err := transport.New(transport.Options{Base: s})
	if err != nil {
		t.Fatal(err)
	}
	api, err := packages.New(chain, packages.Options{BaseURL: base})
	if err != nil {
		t.Fatal(err)
	}
	client, err := New(Options{API: api, Transport: chain})
	if err != nil {
		t.Fatal(err)
	}
	return client.Look()
}

func digestOf(n int) oci.Digest { return oci.Digest(fmt.Sprintf("sha256:%064x", n)) }

// TestDigestsAreAskedAboutInBulk: 1024 at once, each once, and few of them one by one.
func TestDigestsAreAskedAboutInBulk(t *testing.T) {
	for _, test := range []struct{ digests, bulk, single int }{{1, 0, 1}, {2, 0, 2}, {3, 1, 0}, {1024, 1, 0}, {2500, 3, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			bulk, single := 0, 0
			look := newLook(t, func(r *http.Request) (int, string) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.URL.Path == "/users/acme":
					return 200, `{"login":"acme","id":1,"type":"Organization"}`
				case r.Method == http.MethodPost:
					bulk++
					return 200, `{"attestations_subject_digests":{},"page_info":{"has_next":false}}`
				}
				single++
				return 404, `{"message":"Not Found"}`
			})
			var digests []oci.Digest
			for n := range test.digests {
				digests = append(digests, digestOf(n))
			}
			for range 2 {
				if err := look.ListAttestations(t.Context(), "acme", append(digests, digests...)); err != nil {
					t.Fatal(err)
				}
			}
			if bulk != test.bulk || single != test.single {
				t.Errorf("%d digests: %d and %d requests", test.digests, bulk, single)
			}
		})
	}
}

// TestRefusalOfABulkListIsOfAllItsDigests: they are not then asked about one by one.
func TestRefusalOfABulkListIsOfAllItsDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		look := newLook(t, func(r *http.Request) (int, string) {
			if r.URL.Path == "/users/acme" {
				return 200, `{"login":"acme","id":1,"type":"User"}`
			}
			asked++
			return 403, `{"message":"Resource not accessible by integration"}`
		})
		digests := []oci.Digest{digestOf(1), digestOf(2), digestOf(3)}
		for range 2 {
			_, err := look.Attestations("acme", Verification{}).Fetch(t.Context(), vuln.Target{Digest: digests[0], Platforms: []vuln.PlatformImage{{Digest: digests[1]}, {Digest: digests[2]}}})
			if status, remedy := vuln.StatusOf(err); status != vuln.StatusForbidden || !strings.Contains(remedy, "attestations: read") {
				t.Errorf("%s, %q, %v", status, remedy, err)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestServerWithoutAttestations: on a server of one's own one question more tells that it
// has none, however many digests there are.
func TestServerWithoutAttestations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		look := newLookAt(t, func(r *http.Request) (int, string) {
			asked++
			if strings.HasSuffix(r.URL.Path, "/users/acme") {
				return 200, `{"login":"acme","id":1,"type":"User"}`
			}
			return 404, `{"message":"Not Found"}`
		}, "https://github.example/api/v3")
		var digests []oci.Digest
		for n := range 500 {
			digests = append(digests, digestOf(n))
		}
		if err := look.ListAttestations(t.Context(), "acme", digests); err != nil || asked != 3 {
			t.Errorf("%d requests, %v", asked, err)
		}
		_, err := look.Attestations("acme", Verification{}).Fetch(t.Context(), vuln.Target{Digest: digests[400]})
		if status, _ := vuln.StatusOf(err); status != vuln.StatusUnavailable {
			t.Errorf("%s, %v", status, err)
		}
	})
}

// TestRefusals: the status of each answer, by its words and place.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		source vuln.SourceName
		status int
		body   string
		want   vuln.Status
	}{
		{vuln.SourceCodeScanning, 403, "Code Security must be enabled for this repository to use code scanning.", vuln.StatusFeatureDisabled},
		{vuln.SourceCodeScanning, 403, "Advanced Security must be enabled for this repository to use code scanning.", vuln.StatusFeatureDisabled},
		{vuln.SourceCodeScanning, 403, "Resource not accessible by integration", vuln.StatusForbidden},
		{vuln.SourceCodeScanning, 404, "no analysis found", vuln.StatusEmpty},
		{vuln.SourceCodeScanning, 404, "Not Found", vuln.StatusForbidden},
		{vuln.SourceCodeScanning, 401, "Bad credentials", vuln.StatusForbidden},
		{vuln.SourceCodeScanning, 503, "Service unavailable", vuln.StatusError},
		{vuln.SourceDependabot, 403, "Dependabot alerts are disabled for this repository.", vuln.StatusFeatureDisabled},
		{vuln.SourceGitHubAttestation, 404, "Not Found", vuln.StatusEmpty},
		{vuln.SourceGitHubAttestation, 422, "Invalid", vuln.StatusEmpty},
		{vuln.SourceGHSA, 422, "Invalid", vuln.StatusError},
		{vuln.SourceOSV, 404, "Not Found", vuln.StatusError},
	} {
		err := refused(test.source, "acme/app", &transport.Error{Status: test.status, Message: test.body})
		if status, _ := vuln.StatusOf(err); status != test.want {
			t.Errorf("%s, %d %s: %s", test.source, test.status, test.body, status)
		}
	}
	if err := refused(vuln.SourceOSV, "", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestMemoAsksOnce: of many that want to know, one asks; what the end of a context cut
// off is asked for again by who still wants to know.
func TestMemoAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m memo[int]
		var mu sync.Mutex
		asked := 0
		ask := func() (int, error) {
			mu.Lock()
			asked++
			mu.Unlock()
			time.Sleep(time.Second)
			return 7, nil
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if n, err := m.get(t.Context(), "a", ask); n != 7 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
		wg.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		ending, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			m.get(ending, "b", func() (int, error) { <-ending.Done(); return 0, ending.Err() })
		})
		synctest.Wait()
		wg.Go(func() {
			if n, err := m.get(t.Context(), "b", ask); n != 7 || err != nil {
				t.Errorf("after the end of another's context: %d, %v", n, err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

// TestChunksFitIntoAnAddress: by count and by bytes.
func TestChunksFitIntoAnAddress(t *testing.T) {
	var short, long []string
	for n := range 2500 {
		short = append(short, "a")
		long = append(long, fmt.Sprintf("@scope/%0100d@1.0.0", n))
	}
	for name, names := range map[string][]string{"short": short, "long": long} {
		var joined []string
		for _, chunk := range chunks(names) {
			if len(chunk) > maxAffects || len(strings.Join(chunk, "%2C")) > maxAffectsBytes {
				t.Errorf("%s: a chunk of %d", name, len(chunk))
			}
			joined = append(joined, chunk...)
		}
		if !slices.Equal(joined, names) {
			t.Errorf("%s: %d names became %d", name, len(names), len(joined))
		}
	}
}

// TestHowOSVIsAsked: packages of distributions by release and source, others by purl
// without qualifiers.
func TestHowOSVIsAsked(t *testing.T) {
	for purl, want := range map[string]osvQuery{
		"pkg:npm/%40a/b@1.0.0?arch=amd64":                                          {Package: osvPackage{PURL: "pkg:npm/%40a/b@1.0.0"}},
		"pkg:deb/debian/libssl3@3.0.1?distro=debian-12.5&upstream=openssl%403.0.1": {Package: osvPackage{Ecosystem: "Debian:12", Name: "openssl"}, Version: "3.0.1"},
		"pkg:apk/alpine/musl@1.2?distro=3.19.1":                                    {Package: osvPackage{Ecosystem: "Alpine:v3.19", Name: "musl"}, Version: "1.2"},
		"pkg:deb/ubuntu/zlib1g@1?distro=ubuntu-22.04":                              {Package: osvPackage{Ecosystem: "Ubuntu:22.04:LTS", Name: "zlib1g"}, Version: "1"},
		"pkg:deb/ubuntu/zlib1g@1?distro=ubuntu-23.10":                              {Package: osvPackage{Ecosystem: "Ubuntu:23.10", Name: "zlib1g"}, Version: "1"},
		"pkg:deb/debian/x@1?distro=sid":                                            {},
		"pkg:rpm/fedora/x@1?distro=fedora-40":                                      {},
	} {
		u, err := packageurl.FromString(purl)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := queryOf(lookup{purl: u})
		if ok != (want != osvQuery{}) || ok && got != want {
			t.Errorf("%s: %+v, %v", purl, got, ok)
		}
	}
}

// TestWhoseNameItIs: names with the owner's in them are not told unless asked for.
func TestWhoseNameItIs(t *testing.T) {
	for purl, want := range map[string]bool{
		"pkg:npm/%40acme/web@1": true, "pkg:golang/github.com/acme/lib@1": true, "pkg:maven/com.acme/x@1": true, "pkg:pypi/acme-tools@1": true,
		"pkg:nuget/Acme.Billing@1": true, "pkg:gem/acme_core@1": true, "pkg:pypi/go-acme@1": true, "pkg:deb/debian/x@1?upstream=acme-x": true,
		"pkg:npm/acmeco@1": false,
		"pkg:npm/lodash@1": false, "pkg:golang/github.com/acmeco/lib@1": false,
	} {
		u, err := packageurl.FromString(purl)
		if err != nil {
			t.Fatal(err)
		}
		if got := belongsTo("Acme", u); got != want {
			t.Errorf("%s: %v", purl, got)
		}
	}
}

// TestRepositoriesThatAreNone are not asked about, whatever an image's label says.
func TestRepositoriesThatAreNone(t *testing.T) {
	for _, name := range []string{"", "acme", "acme/", "/app", "acme/../x", "acme/app/x", "acme/..", "../app", "acme/app?x"} {
		if _, err := repositoryPath(name); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// FuzzOSVEcosystem: whatever an SBOM says of its distribution.
func FuzzOSVEcosystem(f *testing.F) {
	f.Add("ubuntu", "ubuntu-22.04")
	f.Add("alpine", "3")
	f.Add("debian", ".")
	f.Add("ubuntu", ".04")
	f.Fuzz(func(t *testing.T, system, distro string) {
		if got := osvEcosystem(system, distro); strings.HasSuffix(got, ":") {
			t.Errorf("%q, %q: %q", system, distro, got)
		}
	})
}
