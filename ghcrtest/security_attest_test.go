package ghcrtest_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

const provenanceType = "https://slsa.dev/provenance/v1"

// attest puts a bundle about an image into a repository's attestations.
func (w *wire) attest(repository, predicateType string, subjects ...*ghcrtest.Image) []byte {
	w.t.Helper()
	bundle := ghcrtest.Bundle(ghcrtest.Statement(predicateType, `{"made":"`+repository+`"}`, subjects...))
	if err := w.server.AddAttestation(repository, bundle); err != nil {
		w.t.Fatal(err)
	}
	return bundle
}

// repository sets up a repository of source code.
func (w *wire) repository(r ghcrtest.Repository) {
	w.t.Helper()
	if err := w.server.SetRepository(r); err != nil {
		w.t.Fatal(err)
	}
}

// post sends JSON to the API.
func (w *wire) post(token, path string, body any) answer {
	w.t.Helper()
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(raw)
	}
	return w.as(token).do("POST", "https://"+ghcrtest.APIHost+path, text)
}

type attestationEntry struct {
	Bundle       json.RawMessage
	BundleURL    string `json:"bundle_url"`
	RepositoryID int64  `json:"repository_id"`
	Initiator    string
}

// attestations lists those of a digest.
func (w *wire) attestations(path string) []attestationEntry {
	w.t.Helper()
	var page struct{ Attestations []attestationEntry }
	w.decode(w.api("ghp_owner", "GET", path), &page)
	return page.Attestations
}

// attestationOf is the path of the attestations of an image, as an owner has them.
func attestationOf(owner string, img *ghcrtest.Image) string {
	return "/orgs/" + owner + "/attestations/" + img.Digest().String()
}

// unsnap reads a snappy block that holds literals alone.
func unsnap(t *testing.T, block string) string {
	t.Helper()
	at, size, shift := 0, 0, 0
	for ; ; at++ {
		size |= int(block[at]&0x7f) << shift
		shift += 7
		if block[at] < 0x80 {
			break
		}
	}
	var out strings.Builder
	for at++; at < len(block); {
		n := int(block[at]) >> 2
		if block[at]&3 != 0 || n > 61 || n == 60 {
			t.Fatalf("no literal of the expected kind: %x", block[at])
		}
		at++
		if n == 61 {
			n = int(block[at]) | int(block[at+1])<<8
			at += 2
		}
		out.WriteString(block[at : at+n+1])
		at += n + 1
	}
	if out.Len() != size {
		t.Errorf("it announces %d bytes and has %d", size, out.Len())
	}
	return out.String()
}

var attestationQuirks = map[string]quirkTest{
	"SecurityForbidden": {
		set: func(q *ghcrtest.Quirks) { q.SecurityForbidden = 404 },
		ghcr: func(w *wire) {
			img := w.image()
			w.attest("acme/source", provenanceType, img)
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			bundle := map[string]any{"bundle": json.RawMessage(ghcrtest.Bundle(ghcrtest.Statement(provenanceType, `{}`, img)))}
			w.want(w.post("", "/repos/acme/source/attestations", bundle), 401, "Requires authentication")
			w.want(w.post("ghs_own", "/repos/acme/source/attestations", bundle), 403, "Resource not accessible by integration")
			w.want(w.post("ghp_stranger", "/repos/acme/source/attestations", bundle), 403, "You are not authorized")
			w.want(w.post("ghs_ci", "/repos/acme/source/attestations", bundle), 201, `{"id":`)
			w.want(w.post("github_pat_fine", "/repos/acme/source/attestations", bundle), 201)
		},
		other: func(w *wire) {
			w.repository(ghcrtest.Repository{Name: "acme/source"})
			w.want(w.post("ghs_own", "/repos/acme/source/attestations", `{}`), 404, "Not Found")
		},
	},
	"AttestationsAPI": {
		set: func(q *ghcrtest.Quirks) { q.AttestationsAPI = false },
		ghcr: func(w *wire) {
			img := w.image()
			w.attest("acme/source", provenanceType, img)
			if list := w.attestations(attestationOf("acme", img)); len(list) != 1 || list[0].Initiator != "github" {
				w.t.Errorf("got %+v", list)
			}
		},
		other: func(w *wire) {
			img := w.image()
			w.attest("acme/source", provenanceType, img)
			w.want(w.api("ghp_owner", "GET", attestationOf("acme", img)), 404, "Not Found")
			w.want(w.post("ghp_owner", "/orgs/acme/attestations/bulk-list", `{}`), 404)
			w.want(w.post("ghp_owner", "/repos/acme/source/attestations", `{}`), 404)
		},
	},
	"AttestationsMissing": {
		set:  func(q *ghcrtest.Quirks) { q.AttestationsMissing = 200 },
		ghcr: func(w *wire) { w.want(w.api("ghp_owner", "GET", attestationOf("acme", w.image())), 404, "Not Found") },
		other: func(w *wire) {
			w.want(w.api("ghp_owner", "GET", attestationOf("acme", w.image())), 200, `{"attestations":[]}`)
		},
	},
	"AttestationsBulkArray": {
		set:   func(q *ghcrtest.Quirks) { q.AttestationsBulkArray = true },
		ghcr:  func(w *wire) { w.bulk(`{"attestations_subject_digests":{"sha256:`) },
		other: func(w *wire) { w.bulk(`{"attestations_subject_digests":[{"sha256:`) },
	},
	"AttestationBundle": {
		set: func(q *ghcrtest.Quirks) { q.AttestationBundle = "inline" },
		ghcr: func(w *wire) {
			img := w.image()
			w.attest("acme/source", provenanceType, img)
			w.want(w.api("ghp_owner", "GET", attestationOf("acme", img)), 200, `"bundle":null`, `"bundle_url":"https://`+ghcrtest.CDNHost+`/`, `.json.sn?se=`)
			newer := w.api("ghp_owner", "GET", attestationOf("acme", img), "X-GitHub-Api-Version", "2026-03-10")
			if w.want(newer, 200, `"bundle_url":`); strings.Contains(newer.body, `"bundle":`) {
				w.t.Errorf("the newer version has it still: %s", newer.body)
			}
		},
		other: func(w *wire) {
			img := w.image()
			bundle := w.attest("acme/source", provenanceType, img)
			if list := w.attestations(attestationOf("acme", img)); string(list[0].Bundle) != string(bundle) || list[0].BundleURL != "" {
				w.t.Errorf("got %+v", list)
			}
		},
	},
	"AttestationBody": {
		set: func(q *ghcrtest.Quirks) { q.AttestationBody = "framed" },
		ghcr: func(w *wire) {
			img := w.image()
			want := ghcrtest.Bundle(ghcrtest.Oversized(ghcrtest.Statement(provenanceType, `{}`, img), 200_000))
			if err := w.server.AddAttestation("acme/source", want); err != nil {
				w.t.Fatal(err)
			}
			a := w.as("").do("GET", w.attestations(attestationOf("acme", img))[0].BundleURL, "")
			if w.want(a, 200); unsnap(w.t, a.body) != string(want) || a.header.Get("Content-Type") != "application/x-snappy" {
				w.t.Errorf("it is another bundle, or of the type %q", a.header.Get("Content-Type"))
			}
		},
		other: func(w *wire) {
			img := w.image()
			want := w.attest("acme/source", provenanceType, img)
			a := w.as("").do("GET", w.attestations(attestationOf("acme", img))[0].BundleURL, "")
			sum := crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli))
			sum = (sum>>15 | sum<<17) + 0xa282ead8
			size := len(want) + 4
			if !strings.HasPrefix(a.body, "\xff\x06\x00\x00sNaPpY\x01") {
				w.t.Fatalf("no frames: %q", a.body[:20])
			}
			head := []byte(a.body[10:18])
			if got := int(head[1]) | int(head[2])<<8 | int(head[3])<<16; got != size {
				w.t.Errorf("the frame is %d bytes, want %d", got, size)
			}
			if got := uint32(head[4]) | uint32(head[5])<<8 | uint32(head[6])<<16 | uint32(head[7])<<24; got != sum {
				w.t.Errorf("the sum is %x, want %x", got, sum)
			}
			if a.body[18:] != string(want) {
				w.t.Error("it is another bundle")
			}
		},
	},
}

// bulk asks for many digests at once, in pages.
func (w *wire) bulk(form string) {
	w.t.Helper()
	img, other := w.image(), ghcrtest.NewIndex()
	for range 3 {
		w.attest("acme/source", provenanceType, img)
	}
	body := map[string]any{"subject_digests": []oci.Digest{img.Digest(), other.Digest()}}
	a := w.post("ghp_owner", "/orgs/acme/attestations/bulk-list?per_page=2", body)
	w.want(a, 200, form, `"`+other.Digest().String()+`":null`, `"has_next":true,"has_previous":false`)
	var page struct {
		Info struct{ Next string } `json:"page_info"`
	}
	w.decode(a, &page)
	a = w.post("ghp_owner", "/orgs/acme/attestations/bulk-list?per_page=2&after="+page.Info.Next, body)
	w.want(a, 200, `"has_next":false,"has_previous":true`, `"bundle_url"`)
	if strings.Contains(a.body, other.Digest().String()) {
		w.t.Errorf("the second page: %s", a.body)
	}
	w.want(w.post("ghp_owner", "/orgs/acme/attestations/bulk-list", `{"subject_digests":[]}`), 422, "1 to 1024")
	w.want(w.post("ghp_owner", "/orgs/acme/attestations/bulk-list", `{"subject_digests":["sha256:1"]}`), 422, "Invalid digest")
	w.want(w.post("ghp_owner", "/orgs/acme/attestations/bulk-list", `{`), 400, "Problems parsing JSON")
}

// TestAttestationsAreRead: by owner and by repository, in pages, by predicate type.
func TestAttestationsAreRead(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		w.attest("acme/source", provenanceType, img)
		w.attest("acme/source", "https://spdx.dev/Document/v2.3", img)
		w.attest("acme/other", "https://example.com/x", img)
		w.attest("owner/source", provenanceType, img)
		path := attestationOf("acme", img)
		for query, want := range map[string]int{
			"": 3, "?predicate_type=provenance": 1, "?predicate_type=sbom": 1, "?predicate_type=https://example.com/x": 1, "?per_page=2": 2,
		} {
			if got := len(w.attestations(path + query)); got != want {
				t.Errorf("%q: %d, want %d", query, got, want)
			}
		}
		first := w.api("ghp_owner", "GET", path+"?per_page=2")
		w.linked(first, "next", "https://api.github.com/organizations/", "after=")
		var last struct{ Attestations []attestationEntry }
		second := w.as("ghp_owner").do("GET", link(first, "next"), "")
		w.decode(second, &last)
		if len(last.Attestations) != 1 || link(second, "next") != "" {
			t.Errorf("the last page: %s", second.body)
		}
		w.linked(second, "prev", "before=")
		if got := len(w.attestations("/repos/acme/source/attestations/" + img.Digest().String())); got != 2 {
			t.Errorf("%d of the repository", got)
		}
		if got := len(w.attestations("/users/owner/attestations/" + img.Digest().String())); got != 1 {
			t.Errorf("%d of the user", got)
		}
		w.want(w.api("ghp_owner", "GET", "/orgs/acme/attestations/repositories"), 200, `"name":"other"`, `"name":"source"`)
		w.want(w.api("ghp_owner", "GET", "/orgs/acme/attestations/sha256:12"), 422)
		w.want(w.api("ghp_owner", "GET", path+"?after=no"), 422, "Invalid cursor")
		w.want(w.api("ghp_owner", "GET", "/repos/acme/none/attestations/"+img.Digest().String()), 404)
	})
}

// TestBundleURL: the address is the permission, for a while, and takes no other.
func TestBundleURL(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img := w.image()
		w.attest("acme/source", provenanceType, img)
		address := w.attestations(attestationOf("acme", img))[0].BundleURL
		w.want(w.do("GET", address, ""), 400, "InvalidAuthenticationInfo")
		w.want(w.as("").do("GET", address, ""), 200)
		w.want(w.as("").do("GET", strings.Replace(address, "sig=", "sig=0", 1), ""), 403)
		log := w.server.Requests()
		if r := log[len(log)-1]; r.Route != ghcrtest.RouteBundle || r.Role != ghcrtest.RoleCDN || strings.Contains(r.Query, "sig=0") {
			t.Errorf("logged as %+v", r)
		}
		time.Sleep(5 * time.Minute)
		w.want(w.as("").do("GET", address, ""), 403, "Signature not valid in the specified time frame.")
	})
}

// TestAttestationsArePermitted: what may be read shows, and nothing else.
func TestAttestationsArePermitted(t *testing.T) {
	t.Parallel()
	withServer(t, ghcrtest.Options{
		Owners: []ghcrtest.Owner{{Login: "sso", Forbids: "unauthorized"}},
		Accounts: []ghcrtest.Account{
			{Login: "owner", Token: "ghp_owner"},
			{Login: "reader", Token: "github_pat_reader", Scopes: []string{"attestations:read"}},
			{Login: "metadata", Token: "github_pat_metadata", Scopes: []string{"metadata:read"}},
			{Login: "packages", Token: "ghp_packages", Scopes: []string{"read:packages"}},
		},
	}, func(w *wire) {
		img := ghcrtest.NewIndex()
		w.repository(ghcrtest.Repository{Name: "acme/hidden", Private: true})
		w.attest("acme/hidden", provenanceType, img)
		w.attest("acme/open", provenanceType, img)
		w.attest("sso/open", provenanceType, img)
		for token, want := range map[string]int{"ghp_owner": 2, "github_pat_reader": 2, "github_pat_metadata": 1, "ghp_packages": 1, "": 1} {
			var page struct{ Attestations []attestationEntry }
			w.decode(w.api(token, "GET", attestationOf("acme", img)), &page)
			if len(page.Attestations) != want {
				t.Errorf("%q sees %d, want %d", token, len(page.Attestations), want)
			}
		}
		hidden := "/repos/acme/hidden/attestations/" + img.Digest().String()
		w.want(w.api("", "GET", hidden), 404, "Not Found")
		w.want(w.api("github_pat_metadata", "GET", hidden), 403, "Resource not accessible by personal access token")
		// A token may do less than none.
		open := attestationOf("sso", img)
		w.want(w.api("ghp_owner", "GET", open), 403, "Resource protected by organization SAML enforcement.")
		w.want(w.api("", "GET", open), 200)
	})
}

// TestAttestationsAreDeleted: by digest, by id, and by a list of either.
func TestAttestationsAreDeleted(t *testing.T) {
	t.Parallel()
	withQuirks(t, nil, func(w *wire) {
		img, other := w.image(), ghcrtest.NewIndex()
		upload := func() (id int64) {
			a := w.post("ghp_owner", "/repos/acme/source/attestations", map[string]any{"bundle": json.RawMessage(ghcrtest.Bundle(ghcrtest.Statement(provenanceType, `{}`, img, other)))})
			w.want(a, 201)
			if _, err := fmt.Sscanf(a.body, `{"id":%d}`, &id); err != nil {
				t.Fatal(err)
			}
			return id
		}
		w.repository(ghcrtest.Repository{Name: "acme/source"})
		one, two := upload(), upload()
		w.want(w.api("ghp_stranger", "DELETE", fmt.Sprintf("/orgs/acme/attestations/%d", one)), 403)
		w.want(w.api("ghp_owner", "DELETE", fmt.Sprintf("/orgs/acme/attestations/%d", one)), 204)
		w.want(w.api("ghp_owner", "DELETE", fmt.Sprintf("/orgs/acme/attestations/%d", one)), 404)
		if list := w.attestations(attestationOf("acme", other)); len(list) != 1 {
			t.Errorf("%d are left", len(list))
		}
		w.want(w.post("ghp_owner", "/orgs/acme/attestations/delete-request", map[string]any{"attestation_ids": []int64{two}}), 200)
		upload()
		w.want(w.api("ghp_owner", "DELETE", "/orgs/acme/attestations/digest/"+img.Digest().String()), 200)
		upload()
		w.want(w.post("ghp_owner", "/orgs/acme/attestations/delete-request", map[string]any{"subject_digests": []oci.Digest{img.Digest()}}), 200)
		w.want(w.api("ghp_owner", "GET", attestationOf("acme", img)), 404)
		w.want(w.post("ghp_owner", "/orgs/acme/attestations/delete-request", `{}`), 422)
		w.want(w.post("ghp_owner", "/repos/acme/source/attestations", `{"bundle":{"mediaType":"text"}}`), 422, "Invalid bundle")
	})
}

// TestSecurityOutlivesTheProcess: rows are in the directory, and in snapshots.
func TestSecurityOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	img := ghcrtest.NewIndex()
	path := "https://" + ghcrtest.APIHost + attestationOf("acme", img)
	inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
		w.attest("acme/source", provenanceType, img)
		w.attest("acme/source", "https://example.com/x", img)
	})
	var was []byte
	inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
		w.want(w.as(ghcrtest.Token).do("GET", path+"?predicate_type=provenance", ""), 200, `"bundle_url"`)
		was = snapshotOf(t, w.server)
		if err := w.server.Reset(); err != nil {
			t.Fatal(err)
		}
		w.want(w.as(ghcrtest.Token).do("GET", path, ""), http.StatusNotFound)
		if err := w.server.Restore(strings.NewReader(string(was))); err != nil {
			t.Fatal(err)
		}
	})
	inDir(t, dir, ghcrtest.Options{}, func(w *wire) {
		if again := snapshotOf(t, w.server); string(again) != string(was) {
			t.Error("it is not the same any more")
		}
		w.want(w.as(ghcrtest.Token).do("GET", path, ""), 200, `"bundle_url"`)
	})
}
