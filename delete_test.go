package ghcr_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
)

func (s *sandbox) add(repo, tag string, image *ghcrtest.Image) {
	s.t.Helper()
	if err := s.server.Add(repo, tag, image); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sandbox) ref(text string) oci.ImageRef {
	s.t.Helper()
	ref, err := s.client.ParseRef(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

func (s *sandbox) refs(texts ...string) []oci.ImageRef {
	var refs []oci.ImageRef
	for _, text := range texts {
		refs = append(refs, s.ref(text))
	}
	return refs
}

// versions returns the digests that the package has, as the registry's own rows say.
func (s *sandbox) inventory(repo string) *ghcr.Inventory {
	s.t.Helper()
	inv, err := s.client.Inventory(s.t.Context(), s.ref(repo))
	if err != nil {
		s.t.Fatal(err)
	}
	return inv
}

// resolves tells what a tag or digest of a repository names; empty for nothing.
func (s *sandbox) resolves(repo, ref string) oci.Digest {
	s.t.Helper()
	r, err := s.client.Repository(s.ref(repo))
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := r.Resolve(s.t.Context(), ref)
	if err != nil && !errors.Is(err, ghcr.ErrNotFound) {
		s.t.Fatal(err)
	}
	return d.Digest
}

func (s *sandbox) delete(opts ghcr.DeleteOptions, refs ...string) (*ghcr.Deletion, error) {
	s.t.Helper()
	return s.client.Delete(s.t.Context(), opts, s.refs(refs...)...)
}

// TestDeleteIndex takes along what only the index lists, and the signatures, and
// leaves what others need.
func TestDeleteIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		shared, own := image(1, 1), image(2, 1)
		doomed, kept := ghcrtest.NewIndex(shared, own), ghcrtest.NewIndex(shared, image(3, 1))
		ghcrtest.Sign(doomed)
		ghcrtest.Sign(own)
		ghcrtest.Refer(shared, "application/spdx+json", "{}")
		s.add("acme/app", "v1", doomed)
		s.add("acme/app", "v2", kept)
		result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Items) != 4 || result.Items[0].Digest != doomed.Digest() {
			t.Errorf("deleted %+v", result.Items)
		}
		for _, r := range result.Items {
			if r.Outcome != ghcr.Done || s.resolves("acme/app", r.Digest.String()) != "" {
				t.Errorf("%s: %s, %v", r.Digest, r.Outcome, r.Err)
			}
		}
		s.holds("acme/app", "v2", kept)
	})
}

// TestDeleteNamesSiblingTags: a version goes with all its tags, so they must be
// agreed to.
func TestDeleteNamesSiblingTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		for _, tag := range []string{"v1", "latest", "prod"} {
			s.add("acme/app", tag, img)
		}
		s.add("acme/app", "other", image(2, 1))
		_, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
		var tags *ghcr.TagsError
		if !errors.As(err, &tags) || !slices.Equal(tags.Tags, []string{"latest", "prod"}) {
			t.Fatalf("error %v", err)
		}
		s.holds("acme/app", "v1", img)
		if _, err := s.delete(ghcr.DeleteOptions{AllTags: true}, "acme/app:v1"); err != nil {
			t.Fatal(err)
		}
		if d := s.resolves("acme/app", "prod"); d != "" {
			t.Errorf("prod is still %s", d)
		}
	})
}

func TestUntag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		for _, tag := range []string{"v1", "latest", "prod"} {
			s.add("acme/app", tag, img)
		}
		before := len(s.inventory("acme/app").Versions)
		if _, err := s.client.Untag(t.Context(), ghcr.UntagOptions{}, s.refs("acme/app:prod", "acme/app:latest")...); err != nil {
			t.Fatal(err)
		}
		s.holds("acme/app", "v1", img)
		inv := s.inventory("acme/app")
		if v := inv.Version(img.Digest()); len(inv.Versions) != before || !slices.Equal(v.Tags, []string{"v1"}) {
			t.Errorf("%d versions, tags %v", len(inv.Versions), v.Tags)
		}
		_, err := s.client.Untag(t.Context(), ghcr.UntagOptions{}, s.ref("acme/app:v1"))
		if !errors.Is(err, packages.LastTagged) {
			t.Errorf("the last tag: %v", err)
		}
		s.holds("acme/app", "v1", img)
	})
}

// TestRestoreFromUndoFile: what was deleted is back as it was.
func TestRestoreFromUndoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := ghcrtest.Attested(image(1, 1), image(2, 1))
		ghcrtest.Sign(img)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", image(3, 1))
		undo := t.TempDir() + "/undo.json"
		result, err := s.delete(ghcr.DeleteOptions{Undo: undo}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		u, err := ghcr.ReadUndo(result.Undo)
		if err != nil {
			t.Fatal(err)
		}
		back, err := s.client.Restore(t.Context(), s.ref("acme/app"), ghcr.RestoreOptions{Undo: u})
		if err != nil || len(back) != len(result.Items) {
			t.Fatalf("restored %+v: %v", back, err)
		}
		s.holds("acme/app", "v1", img)
		if s.resolves("acme/app", strings.Replace(img.Digest().String(), ":", "-", 1)+".sig") == "" {
			t.Error("the signature is not back")
		}
	})
}

// unlistedIndex sets up a package in which v1 lists an index that the API does not
// list yet, which lists an image that it does.
func unlistedIndex(t *testing.T) (s *sandbox, inner, leaf *ghcrtest.Image) {
	q := ghcrtest.GHCR()
	q.RESTStaleness = 30 * time.Second
	s = newSandbox(t, ghcrtest.Options{Quirks: &q})
	add := func(tag string, img *ghcrtest.Image) {
		s.add("acme/app", tag, ghcrtest.Raw(img.Manifest.MediaType, img.Manifest.Bytes()))
	}
	leaf = image(1, 1)
	inner = ghcrtest.NewIndex(leaf)
	s.add("acme/app", "v2", image(2, 1))
	s.add("acme/app", "", leaf)
	add("v1", ghcrtest.NewIndex(inner))
	time.Sleep(time.Minute)
	add("", inner)
	return s, inner, leaf
}

// TestDeleteKeepsWhatAnUnlistedIndexNeeds: an index that the API does not list yet
// can't be deleted, so what it lists must stay too, though that has a number.
func TestDeleteKeepsWhatAnUnlistedIndexNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, inner, leaf := unlistedIndex(t)
		result, err := s.delete(ghcr.DeleteOptions{Wait: time.Nanosecond}, "acme/app:v1")
		if err != nil || len(result.Items) != 1 {
			t.Errorf("deleted %+v: %v", result, err)
		}
		if s.resolves("acme/app", leaf.Digest().String()) == "" {
			t.Error("the index that stays has lost what it lists")
		}
		time.Sleep(time.Minute)
		if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app@"+inner.Digest().String()); err != nil {
			t.Error(err)
		}
	})
}

// TestDeleteRefusesPartOfUnlistedIndex: what is below the tags is the registry's word.
func TestDeleteRefusesPartOfUnlistedIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, leaf := unlistedIndex(t)
		_, err := s.delete(ghcr.DeleteOptions{}, "acme/app@"+leaf.Digest().String())
		var needed *ghcr.NeededError
		if !errors.As(err, &needed) {
			t.Errorf("error %v", err)
		}
		if s.resolves("acme/app", leaf.Digest().String()) == "" {
			t.Error("part of v1 is gone")
		}
	})
}

// TestDeleteBrokenOffMendsAllTheSame: what an index has begun to need is restored,
// though the run was broken off meanwhile.
func TestDeleteBrokenOffMendsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		part := image(1, 1)
		s.add("acme/app", "v1", ghcrtest.NewIndex(part))
		s.add("acme/app", "v2", image(2, 1))
		needs := ghcrtest.NewIndex(part, image(3, 1))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		opts := ghcr.DeleteOptions{Undo: t.TempDir() + "/undo.json", Report: func(r ghcr.DeleteResult) {
			if r.Digest == part.Digest() && r.Outcome == ghcr.Done {
				s.add("acme/app", "v3", ghcrtest.Raw(needs.Manifest.MediaType, needs.Manifest.Bytes()))
				cancel()
			}
		}}
		_, err := s.client.Delete(ctx, opts, s.ref("acme/app:v1"))
		var changed *ghcr.ChangedError
		if !errors.As(err, &changed) || s.resolves("acme/app", part.Digest().String()) == "" {
			t.Errorf("part of v3 is gone: %v", err)
		}
	})
}
