package attest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

func spdx(n int) []attest.Content {
	return []attest.Content{{MediaType: "application/spdx+json", Data: fmt.Appendf(nil, `{"spdxVersion":"SPDX-2.3","name":"%d"}`, n)}}
}

// TestAttach: what is attached is found and read, and attaching it again changes
// nothing.
func TestAttach(t *testing.T) {
	img := image(1)
	slsa := statement("https://slsa.dev/provenance/v1", img.Digest())
	bundle := bundled(alice, "0.3", slsa)
	message := messageBundle(alice, img, img.Manifest.Bytes())
	for name, c := range map[string]struct {
		contents []attest.Content
		notes    map[string]string // that the manifest gets
		layout   attest.Layout
	}{
		"document": {spdx(1), map[string]string{}, attest.LayoutDocument},
		"bundle": {[]attest.Content{{MediaType: bundle.mediaType, Data: bundle.data}},
			map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"}, attest.LayoutBundle},
		"message signature": {[]attest.Content{{MediaType: message.mediaType, Data: message.data}},
			map[string]string{"dev.sigstore.bundle.content": "message-signature"}, attest.LayoutBundle},
		"statement": {[]attest.Content{{MediaType: inToto, Data: slsa}}, map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}, attest.LayoutInToto},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", img)
				notes := map[string]string{"org.opencontainers.image.created": "2026-01-02T03:04:05Z"}
				d, err := attest.Attach(s.Context(), s.repo, img.Digest(), "", c.contents, notes)
				if err != nil {
					t.Fatal(err)
				}
				list := s.list(img, attest.ListOptions{})
				if len(list) != 1 || list[0].Manifest.Digest != d.Digest || list[0].Layout != c.layout || list[0].ArtifactType != c.contents[0].MediaType {
					t.Fatalf("got %+v", list)
				}
				if list[0].Created.IsZero() {
					t.Error("the annotations are gone")
				}
				maps.Copy(notes, c.notes)
				if !maps.Equal(list[0].Annotations, notes) {
					t.Errorf("got the annotations %v", list[0].Annotations)
				}
				if got := s.read(list[0]); string(got.Raw) != string(c.contents[0].Data) {
					t.Errorf("got %s", got.Raw)
				}
				delete(notes, "dev.sigstore.bundle.content")
				again, err := attest.Attach(s.Context(), s.client(), img.Digest(), "", c.contents, notes)
				if err != nil || again.Digest != d.Digest {
					t.Errorf("again: %s, %v", again.Digest, err)
				}
				if n := len(s.list(img, attest.ListOptions{})); n != 1 {
					t.Errorf("there are %d now", n)
				}
			})
		})
	}
}

// TestAttachKeepsOthersEntries: also those of which it understands nothing.
func TestAttachSeveralDocuments(t *testing.T) {
	img := image(1)
	run(t, func(s *sandbox) {
		s.add("v1", img)
		contents := append(spdx(1), attest.Content{MediaType: inToto, Data: statement(attest.PredicateVulns, img.Digest()), Annotations: map[string]string{"a": "b"}})
		if _, err := attest.Attach(s.Context(), s.repo, img.Digest(), "application/vnd.example.report", contents, nil); err != nil {
			t.Fatal(err)
		}
		list := s.list(img, attest.ListOptions{})
		if len(list) != 2 || list[0].PredicateType != attest.PredicateSPDX || list[1].PredicateType != attest.PredicateVulns || list[1].Annotations["a"] != "b" {
			t.Errorf("got %+v", list)
		}
	})
}

// TestAttachWithTheReferrersAPI: then there is no tag to keep, and nothing to wait for.
func TestAttachWithTheReferrersAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img := image(1)
		dir := t.TempDir()
		if err := img.WriteLayout(dir, "v1"); err != nil {
			t.Fatal(err)
		}
		layout, err := transfer.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := attest.Attach(t.Context(), layout, img.Digest(), "", spdx(1), nil); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) > 0 {
			t.Error("it waited for other writers of a tag that is not there")
		}
		l, err := attest.List(t.Context(), layout, img.Digest(), attest.ListOptions{})
		if err != nil || len(l.Attachments) != 1 {
			t.Errorf("got %+v, %v", l, err)
		}
	})
}

// TestAttachRefuses: what readers would refuse, before anything is sent.
func TestAttachRefuses(t *testing.T) {
	img, other := image(1), image(2)
	about := func(img *ghcrtest.Image) []byte {
		return bundled(alice, "0.3", statement(attest.PredicateSPDX, img.Digest())).data
	}
	bundleType := bundleTypes["0.3"]
	for name, c := range map[string]struct {
		contents []attest.Content
		want     error
	}{
		"nothing":            {nil, oci.ErrInvalid},
		"no media type":      {[]attest.Content{{Data: []byte("x")}}, oci.ErrInvalid},
		"too large":          {[]attest.Content{{MediaType: "text/plain", Data: make([]byte, attest.MaxDocumentSize+1)}}, attest.ErrLimit},
		"about another":      {[]attest.Content{{MediaType: bundleType, Data: about(other)}}, attest.ErrWrongSubject},
		"no bundle":          {[]attest.Content{{MediaType: bundleType, Data: []byte("{}")}}, attest.ErrMalformed},
		"no statement":       {[]attest.Content{{MediaType: inToto, Data: []byte("{}")}}, attest.ErrMalformed},
		"bundle and another": {append(spdx(1), attest.Content{MediaType: bundleType, Data: about(img)}), oci.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(s *sandbox) {
				s.add("v1", img)
				_, err := attest.Attach(s.Context(), s.repo, img.Digest(), "", c.contents, nil)
				if !errors.Is(err, c.want) || !errors.Is(err, oci.ErrInvalid) {
					t.Errorf("got %v", err)
				}
				for _, r := range s.server.Requests() {
					if r.Method != "GET" && r.Method != "HEAD" {
						t.Errorf("%s %s", r.Method, r.Path)
					}
				}
			})
		})
	}
	t.Run("to nothing", func(t *testing.T) {
		run(t, func(s *sandbox) {
			s.add("v1", img)
			if _, err := attest.Attach(s.Context(), s.repo, other.Digest(), "", spdx(1), nil); !errors.Is(err, oci.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// TestRacingWriters: clients that share nothing, as in several processes, attach to
// one image at once, where the list of referrers is a tag that each rewrites whole
// (docs/quirks.md#referrers). No entry is lost.
func TestRacingWriters(t *testing.T) {
	const writers, each = 6, 3
	img := image(1)
	theirs := refer(img, "application/vnd.example", layer{"application/vnd.example", []byte("theirs"), nil})
	run(t, func(s *sandbox) {
		s.add("v1", img)
		// The way is long, and of different lengths, so that writes cross.
		s.server.Inject(
			ghcrtest.Fault{Method: "PUT", Route: "manifest", Ref: oci.DigestTag(img.Digest()), Every: 2, Times: -1, Delay: 300 * time.Millisecond},
			ghcrtest.Fault{Method: "PUT", Route: "manifest", Ref: oci.DigestTag(img.Digest()), Times: -1, Delay: 90 * time.Millisecond},
		)
		var wg sync.WaitGroup
		var mu sync.Mutex
		attached := map[oci.Digest]bool{theirs.Digest(): true}
		for w := range writers {
			repo := s.client()
			wg.Go(func() {
				for n := range each {
					d, err := attest.Attach(s.Context(), repo, img.Digest(), "", spdx(w*100+n), nil)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					attached[d.Digest] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		listed := map[oci.Digest]bool{}
		for _, a := range s.list(img, attest.ListOptions{}) {
			listed[a.Manifest.Digest] = true
		}
		if !maps.Equal(listed, attached) || len(listed) != writers*each+1 {
			t.Errorf("%d of %d are listed", len(listed), len(attached))
		}
		if len(s.server.Faults()) == 0 {
			t.Error("nothing was delayed")
		}
	})
}

// TestLostEntryIsWrittenAgain: a writer that read the list before the entry was in it
// takes it away after it was seen there.
func TestLostEntryIsWrittenAgain(t *testing.T) {
	img := image(1)
	run(t, func(s *sandbox) {
		s.add("v1", img)
		other := carrier(img, "application/vnd.example", layer{"application/vnd.example", []byte("theirs"), nil})
		s.add("", other)
		stale := ghcrtest.NewIndex(other)
		go func() {
			time.Sleep(900 * time.Millisecond)
			s.server.Add(repoName, oci.DigestTag(img.Digest()), stale)
		}()
		d, err := attest.Attach(s.Context(), s.repo, img.Digest(), "", spdx(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		var digests []oci.Digest
		for _, a := range s.list(img, attest.ListOptions{}) {
			digests = append(digests, a.Manifest.Digest)
		}
		if len(digests) != 2 || !slices.Contains(digests, d.Digest) || !slices.Contains(digests, other.Digest()) {
			t.Errorf("got %v", digests)
		}
	})
}

// TestWritersThatNeverStop: then it is an error, that says what to do.
func TestWritersThatNeverStop(t *testing.T) {
	img := image(1)
	run(t, func(s *sandbox) {
		s.add("v1", img)
		empty := ghcrtest.NewIndex()
		tag := oci.DigestTag(img.Digest())
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					s.server.Add(repoName, tag, empty)
				}
			}
		}()
		_, err := attest.Attach(s.Context(), s.repo, img.Digest(), "", spdx(1), nil)
		close(stop)
		if err == nil {
			t.Error("the entry is gone, and it said that all is well")
		}
	})
}

// TestAttachIsDeterministic: the same documents make the same manifest.
func TestAttachIsDeterministic(t *testing.T) {
	img := image(1)
	var manifests []string
	for range 3 {
		run(t, func(s *sandbox) {
			s.add("v1", img)
			d, err := attest.Attach(s.Context(), s.repo, img.Digest(), "", spdx(1), map[string]string{"b": "1", "a": "2", "c": "3"})
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.repo.Manifest(s.Context(), d.Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			var v struct{ Config oci.Descriptor }
			if err := json.Unmarshal(m.Bytes(), &v); err != nil || v.Config.Digest != "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" {
				t.Errorf("got the config %s, %v", v.Config.Digest, err)
			}
			manifests = append(manifests, string(m.Bytes()))
		})
	}
	if manifests[0] != manifests[1] || manifests[1] != manifests[2] {
		t.Errorf("got %v", manifests)
	}
}
