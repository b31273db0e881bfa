package ghcr_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/vuln"
)

func (s *sandbox) sweep(text string, opts ghcr.SweepOptions) []ghcr.ScannedVersion {
	s.t.Helper()
	var list []ghcr.ScannedVersion
	for v, err := range s.client.PackageVulnerabilities(s.t.Context(), s.ref(text), opts) {
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// tally counts requests by route.
func (s *sandbox) tally() map[string]int {
	n := map[string]int{}
	for _, r := range s.log() {
		n[r.Route]++
	}
	return n
}

// TestSweepOfAThousand: GitHub is asked about a thousand images in one request, each
// document is fetched once, and a second sweep fetches what is new.
func TestSweepOfAThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		const n, attached, atGitHub = 1000, 20, 130
		add := func(k int) *ghcrtest.Image {
			i := ghcrtest.NewImage("linux/amd64", fmt.Appendf(nil, "layer %d", k))
			if k < attached {
				ghcrtest.CosignTag(i, ghcrtest.Envelope(trivyStatement(i, openssl)))
			}
			s.add("acme/app", fmt.Sprintf("v%d", k), i)
			if k >= n-atGitHub {
				s.attestAtGitHub("acme/app", ghcrtest.Bundle(trivyStatement(i)))
			}
			return i
		}
		for k := range n {
			add(k)
		}
		dir := t.TempDir()
		s.client = s.newClient(dir)
		count := func() (map[string]int, map[vuln.State]int) {
			s.server.ResetRequests()
			states := map[vuln.State]int{}
			for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
				states[v.Report.State]++
				if vulnerable := v.Report.State == vuln.StateComplete && len(v.Report.Vulnerabilities) > 0; vulnerable != v.Vulnerable() {
					t.Errorf("%v: %+v", v.Version.Tags, v.Report)
				}
			}
			return s.tally(), states
		}
		requests, states := count()
		if states[vuln.StateComplete] != attached+atGitHub || states[vuln.StateUnavailable] != n-attached-atGitHub {
			t.Errorf("%v", states)
		}
		// A page has a hundred attestations.
		if requests[ghcrtest.RouteAttestationsBulk] != 2 || requests[ghcrtest.RouteBundle] != atGitHub {
			t.Errorf("asked GitHub %d times and fetched %d bundles", requests[ghcrtest.RouteAttestationsBulk], requests[ghcrtest.RouteBundle])
		}
		if got := requests[ghcrtest.RouteBlob]; got != attached {
			t.Errorf("fetched %d blobs", got)
		}
		if requests[ghcrtest.RouteReferrers]+requests[ghcrtest.RouteAttestations] != 0 {
			t.Errorf("looked images up by themselves: %v", requests)
		}
		manifests := requests[ghcrtest.RouteManifest]
		if manifests != n+attached {
			t.Errorf("fetched %d manifests", manifests)
		}

		s.client = s.newClient(dir)
		again, states := count()
		if states[vuln.StateComplete] != attached+atGitHub {
			t.Errorf("%v", states)
		}
		for _, route := range []string{ghcrtest.RouteBundle, ghcrtest.RouteBlob, ghcrtest.RouteManifest} {
			if again[route] != 0 {
				t.Errorf("a second sweep asks for %s %d times", route, again[route])
			}
		}
		unchanged := 0
		for _, r := range s.log() {
			if r.Status == http.StatusNotModified {
				unchanged++
			}
		}
		total := len(s.log())
		if total > 30 || unchanged < n/100 {
			t.Errorf("a second sweep takes %d requests, %d of them unchanged: %v", total, unchanged, again)
		}

		add(n) // one that is new, attested at GitHub
		s.client = s.newClient(dir)
		if third, _ := count(); third[ghcrtest.RouteBundle] != 1 || third[ghcrtest.RouteManifest] != 1 || third[ghcrtest.RouteBlob] != 0 {
			t.Errorf("a third sweep: %v", third)
		}
	})
}

// TestWhichTagsCarryIt: an image that is not scanned may carry it, and one for which
// somebody says that it does not count is told apart.
func TestWhichTagsCarryIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		put := func(seed uint64, tag string, findings ...ghcrtest.Finding) *ghcrtest.Image {
			i := image(seed, 1)
			ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i, findings...)))
			s.add("acme/app", tag, i)
			return i
		}
		put(1, "bad", openssl, zlib)
		put(2, "good", zlib)
		index := ghcrtest.NewIndex(ghcrtest.BuildKit(func(i *ghcrtest.Image) [][]byte { return [][]byte{trivyStatement(i, openssl)} }, image(3, 1)))
		s.add("acme/app", "nested", index)
		s.add("acme/app", "unscanned", image(4, 1))
		ignored, err := vuln.ParseIgnore("ignore.yaml", []byte("- id: CVE-2026-1002\n  reason: not reachable\n"))
		if err != nil {
			t.Fatal(err)
		}
		opts := ghcr.SweepOptions{VulnOptions: ghcr.VulnOptions{Report: vuln.Options{Ignore: ignored}}}
		found, err := s.client.Carrying(t.Context(), s.ref("acme/app"), "CVE-2026-1001", opts)
		if err != nil {
			t.Fatal(err)
		}
		tags := func(list []ghcr.Carrier) []string {
			var all []string
			for _, c := range list {
				all = append(all, c.Tags...)
			}
			slices.Sort(all)
			return all
		}
		if got := tags(found.Found); !slices.Contains(got, "bad") || slices.Contains(got, "good") || slices.Contains(got, "unscanned") {
			t.Errorf("found %v", got)
		}
		unknown := []string{}
		for _, v := range found.Unknown {
			unknown = append(unknown, v.Version.Tags...)
		}
		if !slices.Contains(unknown, "unscanned") || slices.Contains(unknown, "good") {
			t.Errorf("unknown %v", unknown)
		}
		found, err = s.client.Carrying(t.Context(), s.ref("acme/app"), "CVE-2026-1002", opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := tags(found.Cleared); !slices.Equal(got, []string{"bad", "good"}) || len(found.Found) != 0 {
			t.Errorf("cleared %v, found %v", got, tags(found.Found))
		}
	})
}

// TestSweepOfAnOwner: the digests of several packages are one question.
func TestSweepOfAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		for k := range 5 {
			i := image(uint64(k+1), 1)
			s.add(fmt.Sprintf("acme/app%d", k), "v1", i)
			s.attestAtGitHub("acme/source", ghcrtest.Bundle(trivyStatement(i, openssl)))
		}
		s.server.ResetRequests()
		n := 0
		for p, err := range s.client.OwnerVulnerabilities(t.Context(), "acme", ghcr.SweepOptions{}) {
			if err != nil || p.Err != nil {
				t.Fatal(err, p.Err)
			}
			if len(p.Versions) != 1 || !p.Versions[0].Vulnerable() {
				t.Errorf("%s: %+v", p.Image.Repository(), p.Versions)
			}
			n++
		}
		if requests := s.tally(); n != 5 || requests[ghcrtest.RouteAttestationsBulk] != 1 {
			t.Errorf("%d packages, %v", n, requests)
		}
	})
}

// TestSweepWithUnreadableManifest: what could not be read may be a scan of any image.
func TestSweepWithUnreadableManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		i := image(1, 1)
		ghcrtest.CosignBundle(i, ghcrtest.Bundle(trivyStatement(i)))
		s.add("acme/app", "v1", i)
		broken := image(2, 1)
		s.add("acme/app", "broken", broken)
		s.client = s.clientVia(func(r *http.Request) (*http.Response, bool) {
			if r.URL.Path != "/v2/acme/app/manifests/"+broken.Digest().String() {
				return nil, false
			}
			return answered(r, 404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`), true
		}, ghcr.Options{})
		for _, v := range s.sweep("acme/app", ghcr.SweepOptions{}) {
			if v.Report.State == vuln.StateComplete {
				t.Errorf("%v is complete", v.Version.Tags)
			}
		}
	})
}
