package ghcr_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// TestManifestsTravelByteForByte, whatever their white space and order.
func TestManifestsTravelByteForByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		odd := image(1, 2).WithBytes(func(raw []byte) []byte {
			return bytes.ReplaceAll(append([]byte("\n\t "), raw...), []byte(`,"`), []byte(" ,\r\n\""))
		})
		s.mustCopy(s.layout(odd), "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", odd)
		dir := t.TempDir()
		s.mustCopy("acme/app:v1", "docker-archive:"+dir+"/a.tar", transfer.Options{})
		s.mustCopy("docker-archive:"+dir+"/a.tar", "acme/archived:v1", transfer.Options{})
		s.holds("acme/archived", "v1", odd)
		s.mustCopy("acme/archived:v1", "mirror.example.com/x/y:v1", transfer.Options{})
		s.holds("x/y", "v1", odd)
	})
}

// TestCopyKinds: all that a registry may hold, through a layout and across
// registries.
func TestCopyKinds(t *testing.T) {
	nested := ghcrtest.NewIndex(ghcrtest.NewIndex(image(1, 1)), image(2, 1))
	for name, img := range map[string]*ghcrtest.Image{
		"image":           image(1, 2),
		"no layers":       image(1, 0),
		"same layer":      ghcrtest.NewImage("linux/amd64", []byte("same"), []byte("same")),
		"index":           ghcrtest.NewIndex(image(1, 2), image(2, 2)),
		"shared children": ghcrtest.NewIndex(image(1, 1), image(1, 1)),
		"nested":          nested,
		"empty index":     ghcrtest.NewIndex(),
		"Docker list":     ghcrtest.NewDockerList(image(1, 1)),
		"BuildKit":        ghcrtest.Attested(image(1, 1), image(2, 1)),
		"Docker":          ghcrtest.NewDockerList(ghcrtest.NewDockerImage("linux/amd64", ghcrtest.RandomLayer(1, 100))),
		"unknown type":    ghcrtest.Raw("application/vnd.example.thing", []byte("not even JSON")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
				s.holds("acme/app", "v1", img)
				dir := t.TempDir()
				s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
				s.mustCopy("oci:"+dir, "acme/back:v1", transfer.Options{})
				s.holds("acme/back", "v1", img)
				s.mustCopy("acme/app:v1", "acme/prod:v1", transfer.Options{})
				s.holds("acme/prod", "v1", img)
				s.mustCopy("acme/app:v1", "mirror.example.com/acme/mirror:v1", transfer.Options{})
				s.holds("acme/mirror", "v1", img)
			})
		})
	}
}

// TestRecursive brings referrers, referrers of referrers, and digest tags, with
// and without a referrers API at either end.
func TestRecursive(t *testing.T) {
	for _, mode := range []string{"404", "implemented"} {
		synctest.Test(t, func(t *testing.T) {
			q := ghcrtest.GHCR()
			q.Referrers = mode
			q.OmitOCISubject = mode != "implemented"
			s := newSandbox(t, ghcrtest.Options{Quirks: &q})
			child := image(1, 1)
			index := ghcrtest.NewIndex(child, image(2, 1))
			sbom := ghcrtest.Refer(index, "application/spdx+json", "{}")
			ghcrtest.Refer(sbom, "application/x.vouch", "v")
			ghcrtest.Refer(child, "application/x.child", "c")
			ghcrtest.Sign(index)
			if err := s.server.Add("acme/app", "v1", index); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, step := range [][2]string{{"acme/app:v1", "acme/prod:v1"}, {"acme/prod:v1", "oci:" + dir}, {"oci:" + dir + ":v1", "acme/back:v1"}} {
				result := s.mustCopy(step[0], step[1], transfer.Options{Recursive: true})
				if result.Referrers != 4 {
					t.Errorf("%s: %s to %s: %d referrers, want 4", mode, step[0], step[1], result.Referrers)
				}
			}
			ref, err := s.client.ParseRef("acme/back")
			if err != nil {
				t.Fatal(err)
			}
			repo, err := s.client.Repository(ref)
			if err != nil {
				t.Fatal(err)
			}
			for d, want := range map[oci.Digest]int{index.Digest(): 1, sbom.Digest(): 1, child.Digest(): 1} {
				if list, err := repo.Referrers(t.Context(), d); err != nil || len(list) != want {
					t.Errorf("%s: %s has referrers %v, %v", mode, d, list, err)
				}
			}
			if _, err := repo.Resolve(t.Context(), oci.DigestTag(index.Digest())+".sig"); err != nil {
				t.Errorf("%s: the signature: %v", mode, err)
			}
		})
	}
}

func TestPlatforms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		amd, arm := ghcrtest.NewImage("linux/amd64", []byte("a")), ghcrtest.NewImage("linux/arm64", []byte("b"))
		layout := s.layout(ghcrtest.Attested(amd, arm, ghcrtest.NewImage("linux/s390x", []byte("c"))))
		platforms := func(names ...string) transfer.Options {
			var opts transfer.Options
			for _, n := range names {
				p, err := oci.ParsePlatform(n)
				if err != nil {
					t.Fatal(err)
				}
				opts.Platforms = append(opts.Platforms, p)
			}
			return opts
		}
		s.mustCopy(layout, "acme/app:arm", platforms("linux/arm64"))
		s.holds("acme/app", "arm", arm)
		s.mustCopy(layout, "acme/app:two", platforms("linux/amd64", "linux/arm64/v8"))
		ref, _ := s.client.ParseRef("acme/app")
		repo, err := s.client.Repository(ref)
		if err != nil {
			t.Fatal(err)
		}
		m, err := repo.Manifest(t.Context(), "two")
		if err != nil || len(m.Manifests) != 4 {
			t.Errorf("got %v, %v, want two images and two attestations", m, err)
		}
		if _, err := s.copy(layout, "acme/app:none", platforms("windows/amd64")); !errors.Is(err, ghcr.ErrInvalid) || !strings.Contains(err.Error(), "linux/s390x") {
			t.Errorf("got %v, want an error that names the platforms", err)
		}
		if _, err := s.copy("acme/app:arm", "acme/app:x", platforms("linux/amd64")); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	})
}

// TestProgress: each blob ends with exactly one last event.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 5)
		var mu sync.Mutex
		last := map[oci.Digest][]transfer.EventKind{}
		opts := transfer.Options{Progress: func(e transfer.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch e.Kind {
			case transfer.EventDone, transfer.EventMounted, transfer.EventExisting, transfer.EventManifest:
				last[e.Descriptor.Digest] = append(last[e.Descriptor.Digest], e.Kind)
			}
		}}
		for _, step := range []struct {
			src, dst string
			want     transfer.EventKind
		}{
			{s.layout(img), "acme/app:v1", transfer.EventDone},
			{"acme/app:v1", "acme/prod:v1", transfer.EventMounted},
			{"acme/app:v1", "oci:" + t.TempDir(), transfer.EventDone},
		} {
			clear(last)
			s.mustCopy(step.src, step.dst, opts)
			if len(last) != 7 {
				t.Errorf("%s: %d things were told of, want 7", step.dst, len(last))
			}
			for d, kinds := range last {
				if d != img.Digest() && !slices.Equal(kinds, []transfer.EventKind{step.want}) {
					t.Errorf("%s: %s ended with %v, want %s", step.dst, d, kinds, step.want)
				}
			}
		}
	})
}

func TestNoClobberAndDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		old, next := image(1, 1), image(2, 1)
		s.mustCopy(s.layout(old), "acme/app:v1", transfer.Options{})
		if _, err := s.copy(s.layout(next), "acme/app:v1", transfer.Options{NoClobber: true}); !errors.Is(err, transfer.ErrTagExists) {
			t.Errorf("got %v, want ErrTagExists", err)
		}
		s.holds("acme/app", "v1", old)
		s.mustCopy(s.layout(old), "acme/app:v1", transfer.Options{NoClobber: true})
		s.server.ResetRequests()
		result := s.mustCopy(s.layout(next), "acme/app:v1", transfer.Options{DryRun: true})
		if result.Uploaded != 2 || s.requests() != 0 {
			t.Errorf("a dry run: %+v and %d requests", result, s.requests())
		}
		s.holds("acme/app", "v1", old)
	})
}

// TestTagAndDigestAsTarget: the image must have the digest, and gets the tag.
func TestTagAndDigestAsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.mustCopy(s.layout(img), "acme/app:v1@"+img.Digest().String(), transfer.Options{})
		s.holds("acme/app", "v1", img)
		_, err := s.copy(s.layout(image(2, 1)), "acme/app:v2@"+img.Digest().String(), transfer.Options{})
		if !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	})
}

// TestMemoryIsCorrected: what the memory says of a registry may be long gone. GHCR
// says so, and the push succeeds.
func TestMemoryIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := t.TempDir()
		s := newSandbox(t, ghcrtest.Options{})
		s.client = s.newClient(cache)
		img := ghcrtest.NewIndex(image(1, 3), image(2, 3))
		layout := s.layout(img)
		s.mustCopy(layout, "acme/app:v1", transfer.Options{})
		// The package was deleted; another process remembers it from the directory.
		s = newSandbox(t, ghcrtest.Options{})
		s.client = s.newClient(cache)
		s.mustCopy(layout, "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", img)
	})
}

// TestPushMendsABrokenIndex: a child was deleted as "untagged". A push of the same
// image puts it back.
func TestPushMendsABrokenIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := ghcrtest.GHCR()
		q.ManifestDelete = 202
		s := newSandbox(t, ghcrtest.Options{Quirks: &q})
		child := image(1, 2)
		img := ghcrtest.NewIndex(ghcrtest.NewIndex(child), image(2, 2))
		layout := s.layout(img)
		s.mustCopy(layout, "acme/app:v1", transfer.Options{})
		if result := s.mustCopy(layout, "acme/app:v1", transfer.Options{}); !result.Unchanged {
			t.Errorf("it is whole, and was pushed again: %+v", result)
		}
		ref, _ := s.client.ParseRef("acme/app")
		repo, err := s.client.Repository(ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.DeleteManifest(t.Context(), child.Digest().String()); err != nil {
			t.Fatal(err)
		}
		if result := s.mustCopy(layout, "acme/app:v1", transfer.Options{}); result.Unchanged {
			t.Error("the broken index passed for an unchanged one")
		}
		s.holds("acme/app", "v1", img)
	})
}

// TestMemoryOutlivesTheProcess: an unchanged push is one request in a later process
// too.
func TestMemoryOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := t.TempDir()
		s := newSandbox(t, ghcrtest.Options{})
		layout := s.layout(image(1, 4))
		s.client = s.newClient(cache)
		s.mustCopy(layout, "acme/app:v1", transfer.Options{})
		s.client = s.newClient(cache)
		s.server.ResetRequests()
		if result := s.mustCopy(layout, "acme/app:v1", transfer.Options{}); !result.Unchanged || s.requests() != 1 {
			t.Errorf("%+v after %d requests", result, s.requests())
		}
		// No credential is in the cache.
		err := filepath.WalkDir(cache, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte(ghcrtest.Token)) {
				t.Errorf("%s holds the token", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestPublicPullWithBadLogin: a login that has expired does not break the pull of a
// public image.
func TestPublicPullWithBadLogin(t *testing.T) {
	for _, direct := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			q := ghcrtest.GHCR()
			q.DirectBearer = direct
			s := newSandbox(t, ghcrtest.Options{Quirks: &q, Public: []string{"acme/app"}, Accounts: []ghcrtest.Account{{Login: "a", Token: "ghp_other"}}})
			if err := s.server.Add("acme/app", "v1", image(1, 1)); err != nil {
				t.Fatal(err)
			}
			s.mustCopy("acme/app:v1", "oci:"+t.TempDir(), transfer.Options{})
		})
	}
}

// TestParseEnd reads what the help of references shows.
func TestParseEnd(t *testing.T) {
	client, err := ghcr.New(ghcr.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := "sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"acme/app":                   "registry ghcr.io/acme/app:latest",
		"acme/app:v1":                "registry ghcr.io/acme/app:v1",
		"oci:dir":                    "oci dir ",
		"oci:dir:v1":                 "oci dir v1",
		"oci:/a/b:c/d":               "oci /a/b:c/d ",
		"oci:dir@" + d:               "oci dir " + d,
		`oci:C:\dir:v1`:              `oci C:\dir v1`,
		"docker-archive:f.tar":       "docker-archive f.tar ",
		"tar:f.tar:acme/app:v1":      "docker-archive f.tar acme/app:v1",
		"docker-archive:/x/f.tar:v1": "docker-archive /x/f.tar v1",
	} {
		e, err := client.ParseEnd(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		got := fmt.Sprintf("%s %s %s", e.Kind, e.Path, e.Tag)
		if e.Kind == ghcr.EndRegistry {
			got = fmt.Sprintf("%s %s", e.Kind, e.Ref)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"", "oci:", "oci:dir:-x", "docker-archive:", "oci:dir@sha256:1"} {
		if _, err := client.ParseEnd(in); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", in, err)
		}
	}
}
