package ghcr_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

func (s *sandbox) restore(opts ghcr.RestoreOptions) ([]ghcr.RestoreResult, error) {
	s.t.Helper()
	return s.client.Restore(s.t.Context(), s.ref("acme/app"), opts)
}

func (s *sandbox) undo(path string) *ghcr.Undo {
	s.t.Helper()
	u, err := ghcr.ReadUndo(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// TestRestoreByNumberOrDigest brings an index back with what it lists, whether its
// manifest is still kept or has to be read first.
func TestRestoreByNumberOrDigest(t *testing.T) {
	for _, cached := range []bool{true, false} {
		for _, byDigest := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				img := ghcrtest.NewIndex(image(1, 1), ghcrtest.NewIndex(image(2, 1)))
				s.add("acme/app", "v1", img)
				s.add("acme/app", "v2", image(3, 1))
				result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
				if err != nil {
					t.Fatal(err)
				}
				if !cached {
					s.client = s.newClient("")
				}
				opts := ghcr.RestoreOptions{Versions: []int64{result.Items[0].Version}}
				if byDigest {
					opts = ghcr.RestoreOptions{Digests: []oci.Digest{img.Digest()}}
				}
				if back, err := s.restore(opts); err != nil || len(back) != 4 || !slices.ContainsFunc(back, func(r ghcr.RestoreResult) bool { return slices.Equal(r.Tags, []string{"v1"}) }) {
					t.Errorf("restored %+v: %v", back, err)
				}
				s.holds("acme/app", "v1", img)
				if back, err := s.restore(opts); err != nil {
					t.Errorf("again: %+v: %v", back, err)
				}
			})
		}
	}
}

// TestRestoreOrder: what an index lists comes before it, and a signature after what it
// signs, so that there is never a broken index.
func TestRestoreOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		child := image(1, 1)
		index := ghcrtest.NewIndex(child)
		signature := ghcrtest.Sign(index)
		s.add("acme/app", "v1", index)
		s.add("acme/app", "v2", image(2, 1))
		result, err := s.delete(ghcr.DeleteOptions{Undo: t.TempDir() + "/undo"}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		back, err := s.restore(ghcr.RestoreOptions{Undo: s.undo(result.Undo)})
		if err != nil {
			t.Fatal(err)
		}
		var order []oci.Digest
		for _, r := range back {
			order = append(order, r.Digest)
		}
		if want := []oci.Digest{child.Digest(), index.Digest(), signature.Digest()}; !slices.Equal(order, want) {
			t.Errorf("came back in the order %v, want %v", order, want)
		}
	})
}

// TestRestoreLeavesMovedTags where they are, unless that is asked for.
func TestRestoreLeavesMovedTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		old, new := image(1, 1), image(2, 1)
		s.add("acme/app", "v1", old)
		s.add("acme/app", "latest", old)
		s.add("acme/app", "v2", new)
		result, err := s.delete(ghcr.DeleteOptions{AllTags: true, Undo: t.TempDir() + "/undo"}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		s.add("acme/app", "latest", new)
		u := s.undo(result.Undo)
		back, err := s.restore(ghcr.RestoreOptions{Undo: u})
		if err != nil || len(back) != 1 || !slices.Equal(back[0].Tags, []string{"v1"}) || !slices.Equal(back[0].Lost, []ghcr.Moved{{Tag: "latest", Digest: new.Digest()}}) {
			t.Errorf("%+v: %v", back, err)
		}
		s.holds("acme/app", "latest", new)
		if _, err := s.restore(ghcr.RestoreOptions{Undo: u, MoveTags: true}); err != nil {
			t.Error(err)
		}
		s.holds("acme/app", "latest", old)
		s.holds("acme/app", "v2", new)
	})
}

// TestRestoreTooLate, and what was never there.
func TestRestoreTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", image(2, 1))
		result, err := s.delete(ghcr.DeleteOptions{Undo: t.TempDir() + "/undo"}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		s.server.Advance(31 * 24 * time.Hour)
		for name, opts := range map[string]ghcr.RestoreOptions{
			"number": {Versions: []int64{result.Items[0].Version}},
			"digest": {Digests: []oci.Digest{img.Digest()}},
			"undo":   {Undo: s.undo(result.Undo)},
			"never":  {Versions: []int64{4711}},
		} {
			if _, err := s.restore(opts); !errors.Is(err, ghcr.ErrNotFound) {
				t.Errorf("%s: error %v", name, err)
			}
		}
		if _, err := s.restore(ghcr.RestoreOptions{}); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("nothing: error %v", err)
		}
		if _, err := s.client.Restore(t.Context(), s.ref("acme/other"), ghcr.RestoreOptions{Undo: s.undo(result.Undo)}); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("another repository: error %v", err)
		}
	})
}

// TestRestoreWhatWasPushedAgain: GitHub refuses, and the image is there.
func TestRestoreWhatWasPushedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 1)
		s.add("acme/app", "v1", img)
		s.add("acme/app", "v2", image(2, 1))
		result, err := s.delete(ghcr.DeleteOptions{Undo: t.TempDir() + "/undo"}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		s.add("acme/app", "again", img)
		if back, err := s.restore(ghcr.RestoreOptions{Undo: s.undo(result.Undo)}); err != nil {
			t.Errorf("%+v: %v", back, err)
		}
		s.holds("acme/app", "v1", img)
	})
}

// TestUndoComesFirst: without it nothing is deleted, and it is for its user alone.
func TestUndoComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 1))
		s.add("acme/app", "v2", image(2, 1))
		taken := filepath.Join(t.TempDir(), "undo")
		if err := os.WriteFile(taken, []byte("of another deletion"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{taken, filepath.Join(taken, "no", "directory")} {
			if _, err := s.delete(ghcr.DeleteOptions{Undo: path}, "acme/app:v1"); err == nil {
				t.Errorf("undo %s: deleted", path)
			}
			if _, err := s.client.Untag(t.Context(), ghcr.UntagOptions{Undo: path}, s.ref("acme/app:v1")); err == nil {
				t.Errorf("undo %s: untagged", path)
			}
		}
		s.holds("acme/app", "v1", image(1, 1))
		if w := s.writes(); len(w) != 0 {
			t.Errorf("sent %+v", w)
		}
		cache := t.TempDir()
		s.client = s.newClient(cache)
		old := filepath.Join(cache, "undo", "acme-app-20200101-000000-000000001.json")
		if err := errors.Join(os.MkdirAll(filepath.Dir(old), 0o700), os.WriteFile(old, nil, 0o600), os.Chtimes(old, time.Time{}, time.Now().Add(-40*24*time.Hour))); err != nil {
			t.Fatal(err)
		}
		result, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(result.Undo)
		if err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(result.Undo, cache) {
			t.Errorf("undo file %s: %v, %v", result.Undo, info, err)
		}
		if _, err := os.Stat(old); err == nil {
			t.Error("what can't be undone any more is still there")
		}
		data, err := os.ReadFile(result.Undo)
		if err != nil || strings.Contains(string(data), ghcrtest.Token) {
			t.Errorf("the undo file holds the token, %v", err)
		}
	})
}

func FuzzReadUndo(f *testing.F) {
	f.Add(`{"schema":"ghcr-undo/1","op":"delete","image":"ghcr.io/acme/app","items":[{"version":1,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","tags":["v1"]}]}`)
	f.Add(`{"schema":"ghcr-undo/2"}`)
	f.Add(`{"schema":"ghcr-undo/1","image":"ghcr.io/acme/app","items":[{"version":-1,"digest":"sha256:../../x","tags":["../"]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "undo")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := ghcr.ReadUndo(path)
		if err != nil {
			if !errors.Is(err, ghcr.ErrInvalid) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, item := range u.Items {
			if _, err := oci.ParseDigest(item.Digest.String()); err != nil || item.Version < 0 {
				t.Errorf("item %+v", item)
			}
			for _, tag := range item.Tags {
				if err := oci.CheckTag(tag); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// breakOff ends a context right before the n-th request from here. The server goes on
// with that request: off returns when it has come to an end.
func (s *sandbox) breakOff(n int) (ctx context.Context, off func() bool) {
	ctx, cancel := context.WithCancel(s.t.Context())
	s.server.Inject(ghcrtest.Fault{After: n, Do: func(*ghcrtest.Server) { cancel() }})
	return ctx, func() bool {
		defer cancel()
		synctest.Wait()
		return ctx.Err() != nil
	}
}

// TestDeletionBrokenOff at any request: what stays is whole, and the undo file brings
// back what is gone.
func TestDeletionBrokenOff(t *testing.T) {
	broken := 0
	for n := range 70 {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			shared := image(1, 1)
			doomed, kept := ghcrtest.NewIndex(shared, image(2, 1), ghcrtest.NewIndex(image(3, 1))), ghcrtest.NewIndex(shared)
			ghcrtest.Sign(doomed)
			s.add("acme/app", "v1", doomed)
			s.add("acme/app", "v2", kept)
			undo := t.TempDir() + "/undo"
			ctx, off := s.breakOff(n)
			_, err := s.client.Delete(ctx, ghcr.DeleteOptions{Undo: undo}, s.ref("acme/app:v1"))
			if off() {
				broken++
				if err == nil && len(s.inventory("acme/app").Versions) > 2 {
					t.Errorf("request %d: not all is gone, and no error", n)
				}
			}
			s.holds("acme/app", "v2", kept)
			if _, err := os.Stat(undo); err == nil {
				if back, err := s.restore(ghcr.RestoreOptions{Undo: s.undo(undo)}); err != nil {
					t.Errorf("request %d: %+v: %v", n, back, err)
				}
			}
			s.holds("acme/app", "v1", doomed)
		})
	}
	if broken < 30 {
		t.Errorf("only %d runs were broken off", broken)
	}
}

// TestUntagBrokenOff at any request: the next run ends it.
func TestUntagBrokenOff(t *testing.T) {
	for n := range 30 {
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, ghcrtest.Options{})
			img := image(1, 1)
			s.add("acme/app", "v1", img)
			s.add("acme/app", "v2", img)
			ctx, off := s.breakOff(n)
			s.client.Untag(ctx, ghcr.UntagOptions{}, s.ref("acme/app:v2"))
			off()
			s.holds("acme/app", "v1", img)
			if _, err := s.client.Untag(t.Context(), ghcr.UntagOptions{IgnoreMissing: true}, s.ref("acme/app:v2")); err != nil {
				t.Errorf("broken off at request %d, and run again: %v", n, err)
			}
			s.holds("acme/app", "v1", img)
			if d := s.resolves("acme/app", "v2"); d != "" {
				t.Errorf("request %d: v2 is on %s", n, d)
			}
			if versions := len(s.inventory("acme/app").Versions); versions != 1 {
				t.Errorf("request %d: %d versions are left", n, versions)
			}
		})
	}
}

// TestUntagWithAnyAnswer: whatever is answered to whichever request, the image and its
// other tags are as they were, and the tag is on the image, or off it, or the error
// says where it is.
func TestUntagWithAnyAnswer(t *testing.T) {
	for name, fault := range map[string]ghcrtest.Fault{
		"500": {Status: 500}, "404": {Status: 404}, "403": {Status: 403}, "HTML": {Status: 200, Body: "<html>"},
		"no answer": {Break: true}, "lost": {Served: true, Break: true}, "lost 502": {Served: true, Status: 502}, "short": {ResponseBytes: 10, Break: true},
	} {
		for n := range 20 {
			synctest.Test(t, func(t *testing.T) {
				s := newSandbox(t, ghcrtest.Options{})
				img := image(1, 1)
				s.add("acme/app", "v1", img)
				s.add("acme/app", "v2", img)
				fault.After = n
				s.server.Inject(fault)
				_, err := s.untag("acme/app:v2")
				if len(s.server.Faults()) == 0 && err != nil {
					t.Error(err)
				}
				s.holds("acme/app", "v1", img)
				s.holds("acme/app", "", img)
				switch d := s.resolves("acme/app", "v2"); {
				case d == "", d == img.Digest() && err != nil:
				case err == nil, !strings.Contains(err.Error(), d.String()):
					t.Errorf("%s at request %d: v2 is on %s: %v", name, n, d, err)
				}
			})
		}
	}
}

// TestRestoreRefusesAlteredUndoFile: a number that is of another digest is not restored
// by a file that names this one.
func TestRestoreRefusesAlteredUndoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		named, other := image(1, 1), image(2, 1)
		s.add("acme/app", "v1", named)
		s.add("acme/app", "v2", other)
		s.add("acme/app", "v3", image(3, 1))
		path := t.TempDir() + "/undo"
		if _, err := s.delete(ghcr.DeleteOptions{Undo: path}, "acme/app:v1", "acme/app:v2"); err != nil {
			t.Fatal(err)
		}
		undo := s.undo(path)
		for i, item := range undo.Items {
			if item.Digest == named.Digest() {
				undo.Items[i].Version = undo.Items[1-i].Version
				undo.Items = undo.Items[i : i+1]
				break
			}
		}
		if _, err := s.restore(ghcr.RestoreOptions{Undo: undo}); !errors.Is(err, ghcr.ErrInvalid) {
			t.Errorf("error %v", err)
		}
		if s.resolves("acme/app", other.Digest().String()) != "" {
			t.Error("what was not named is back")
		}
	})
}
