package ghcr_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// TestImageAloneAndInAnIndex: what an index lists beside an image is found in a sweep
// also where the image has a tag of its own, whichever of the two is looked at first.
func TestImageAloneAndInAnIndex(t *testing.T) {
	for _, order := range [][]string{{"alone", "index"}, {"index", "alone"}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			i := image(1, 1)
			for _, tag := range order {
				if tag == "alone" {
					s.add("acme/app", tag, i)
				} else {
					s.add("acme/app", tag, ghcrtest.BuildKit(func(i *ghcrtest.Image) [][]byte { return [][]byte{trivyStatement(i, openssl)} }, i))
				}
				time.Sleep(time.Hour)
			}
			found := map[string]int{}
			for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
				for _, tag := range v.Version.Tags {
					found[tag] = len(v.Report.Vulnerabilities)
				}
			}
			if found["index"] != 1 {
				t.Errorf("%v: found %v", order, found)
			}
		})
	}
}

// TestPresentEndpointStaysPresent: of several that wait for the first answer, one that
// has nothing to say does not hide the endpoint from the others for a day.
func TestPresentEndpointStaysPresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.VulnerabilityEndpoint = 200
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		for seed := range 4 {
			tag := string(rune('a' + seed))
			s.add("acme/app", tag, image(uint64(seed+1), 1))
			if tag == "a" || tag == "b" {
				if err := s.server.AddVulnerabilityReport("acme/app", tag, []byte(`{"scanned_at":"2026-01-02T03:04:05Z","vulnerabilities":[{"id":"CVE-2026-1001","severity":"High"}]}`)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
		}
		asked := 0
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			if !strings.HasSuffix(r.URL.Path, "/vulnerabilities") {
				return nil, false
			}
			if asked++; asked == 1 {
				time.Sleep(time.Minute) // the others are waiting by then
				return answered(r, 200, `{"scanned_at":"2026-01-02T03:04:05Z","vulnerabilities":[]}`), true
			}
			return nil, false
		}, ghcr.Options{})
		for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
			if status := source(t, v.Report, vuln.SourcePackagesAPI).Status; status == vuln.StatusUnavailable {
				t.Errorf("%v: %s", v.Version.Tags, status)
			}
		}
	})
}

// TestForbiddenEndpointIsOfOneLogin: that one may not ask says nothing to the next, which
// may have another login.
func TestForbiddenEndpointIsOfOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quirks := ghcrtest.GHCR()
		quirks.VulnerabilityEndpoint = 403
		s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
		s.add("acme/app", "v1", image(1, 1))
		dir := t.TempDir()
		for n := range 2 {
			s.client = s.newClient(dir)
			for range 2 {
				s.vulns("acme/app:v1", ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourcePackagesAPI}})
			}
			asked := 0
			for _, r := range s.log() {
				if strings.HasSuffix(r.Path, "/vulnerabilities") {
					asked++
				}
			}
			if asked != n+1 {
				t.Errorf("%d clients asked %d times", n+1, asked)
			}
		}
	})
}

// TestRepositoryThatIsNotKnown: where GitHub does not tell which repository the image is
// of, its alerts were not passed over but are not known.
func TestRepositoryThatIsNotKnown(t *testing.T) {
	for status, want := range map[int]vuln.Status{403: vuln.StatusForbidden, 500: vuln.StatusError} {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			i := image(1, 1)
			s.add("acme/app", "v1", i)
			s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
				if strings.HasSuffix(r.URL.Path, "/packages/container/app") {
					return answered(r, status, `{"message":"no"}`), true
				}
				if strings.HasSuffix(r.URL.Path, "/blobs/"+i.Manifest.Config.Digest.String()) {
					return answered(r, 404, `{}`), true // it has a label that names a repository
				}
				return nil, false
			}, ghcr.Options{})
			r := s.vulns("acme/app:v1", ghcr.VulnOptions{Files: []vuln.Evidence{{ID: "trivy.json", Content: ghcrtest.TrivyReport("acme/app", image(2, 1))}}})
			for _, name := range []vuln.SourceName{vuln.SourceCodeScanning, vuln.SourceDependabot} {
				if got := source(t, r, name); got.Status != want {
					t.Errorf("%d: %+v", status, got)
				}
			}
			if r.State != vuln.StatePartial {
				t.Errorf("%d: %s", status, r.State)
			}
			// The caller may say it.
			r = s.vulns("acme/app:v1", ghcr.VulnOptions{Repository: "acme/app"})
			if got := source(t, r, vuln.SourceDependabot); strings.Contains(got.Reason, "linked to") {
				t.Errorf("%d: %+v", status, got)
			}
		})
	}
}

// TestEarlierListsOfReferrersAreNoImages: the tag of such a list moves with each that is
// attached. An untagged index of images is one.
func TestEarlierListsOfReferrersAreNoImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 1)
		s.add("acme/app", "v1", i)
		for _, f := range []ghcrtest.Finding{openssl, zlib} {
			ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i, f)))
			s.add("acme/app", "v1", i)
		}
		untagged := ghcrtest.NewIndex(image(2, 1), image(3, 1))
		s.add("acme/app", "", untagged)
		inv, err := s.client.Inventory(t.Context(), s.ref("acme/app"))
		if err != nil {
			t.Fatal(err)
		}
		lists := 0
		for _, v := range inv.Versions {
			if m := v.Node.Manifest; m.IsIndex() && v.Digest() != untagged.Digest() {
				lists++
			}
		}
		if lists < 2 {
			t.Fatalf("there are %d lists of referrers", lists)
		}
		var swept []string
		for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
			swept = append(swept, v.Version.Digest().String())
		}
		want := []string{i.Digest().String(), untagged.Digest().String()}
		slices.Sort(swept)
		if slices.Sort(want); !slices.Equal(swept, want) {
			t.Errorf("swept %v, want %v", swept, want)
		}
	})
}

// TestSweepOfAnOwnerEnds: with the context, also when that ends between two packages.
func TestSweepOfAnOwnerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		var children []*ghcrtest.Image
		for k := range 1030 { // more digests than are asked about at once
			children = append(children, ghcrtest.NewImage("linux/amd64", fmt.Appendf(nil, "layer %d", k)))
		}
		for _, name := range []string{"acme/one", "acme/two"} {
			s.add(name, "v1", ghcrtest.NewIndex(children...))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		var last error
		for _, err := range s.client.OwnerVulnerabilities(ctx, "acme", ghcr.SweepOptions{VulnOptions: ghcr.VulnOptions{Sources: []vuln.SourceName{vuln.SourceAttestation}}}) {
			if last = err; err == nil {
				n++
				cancel()
			}
		}
		if n != 1 || !errors.Is(last, context.Canceled) {
			t.Errorf("%d packages, then %v", n, last)
		}
	})
}

// TestReportsShareAlerts: the images of a package have the alerts of one repository, of
// which several reports are made at once.
func TestReportsShareAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.repository(ghcrtest.Repository{Name: "acme/app"})
		s.upload("acme/app", "", ghcrtest.GrypeSARIF("acme/app", openssl, zlib))
		s.upload("acme/app", "", ghcrtest.TrivySARIF("acme/app", image(99, 1), openssl, zlib))
		for seed := range uint64(20) {
			i := image(seed+1, 1)
			ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
			s.add("acme/app", fmt.Sprintf("v%d", seed), i)
		}
		for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
			if got := ids(v.Report.Vulnerabilities); !slices.Equal(slices.Compact(got), []string{"CVE-2026-1001", "CVE-2026-1002"}) {
				t.Errorf("%v: %v", v.Version.Tags, got)
			}
		}
	})
}
