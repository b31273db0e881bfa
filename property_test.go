package ghcr_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// world is a random repository: what a test put there, by its own account.
type world struct {
	*sandbox
	r       *rand.Rand
	images  []*ghcrtest.Image
	tags    map[string]*ghcrtest.Image
	n       uint64
	mu      sync.Mutex // held by who meddles while requests are answered side by side
	over    bool       // nobody meddles any more
	meddled bool       // somebody did between plan and deletion
}

const worldRepo = "acme/app"

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 0))
	q := ghcrtest.GHCR()
	q.RESTStaleness = []time.Duration{0, 2 * time.Second, 20 * time.Second}[r.IntN(3)]
	q.RESTSameTimestamp = r.IntN(2) == 0
	w := &world{sandbox: newSandbox(t, ghcrtest.Options{Quirks: &q}), r: r, tags: map[string]*ghcrtest.Image{}}
	for range 2 + r.IntN(4) {
		w.images = append(w.images, w.image())
	}
	for range r.IntN(4) {
		w.images = append(w.images, w.index())
	}
	for _, img := range w.images {
		switch r.IntN(5) {
		case 0:
			ghcrtest.Sign(img)
		case 1:
			ghcrtest.Sign(ghcrtest.Refer(img, "application/spdx+json", fmt.Sprint(r.Uint32())))
		}
	}
	for _, img := range w.images {
		for range r.IntN(3) {
			w.tag(fmt.Sprintf("t%d", len(w.tags)), img)
		}
		if r.IntN(8) == 0 {
			w.add(worldRepo, "", img)
		}
	}
	w.tag("stays", w.image())
	w.tag("v1", w.pick())
	if r.IntN(2) == 0 {
		time.Sleep(time.Minute) // lists have come to rest
	}
	return w
}

func (w *world) image() *ghcrtest.Image {
	w.n++
	return image(w.n, 1)
}

func (w *world) pick() *ghcrtest.Image { return w.images[w.r.IntN(len(w.images))] }

// index is one of what there is, nested or with attestations at times. At times it lies.
func (w *world) index() *ghcrtest.Image {
	var children []*ghcrtest.Image
	for range 1 + w.r.IntN(3) {
		child := w.pick()
		if !slices.Contains(children, child) {
			children = append(children, child)
		}
	}
	if w.r.IntN(4) == 0 {
		return ghcrtest.Attested(append(children, w.image())...)
	}
	if w.r.IntN(2) == 0 {
		children = append(children, w.image())
	}
	if w.r.IntN(6) == 0 {
		return lying(children...)
	}
	return ghcrtest.NewIndex(children...)
}

func (w *world) tag(name string, img *ghcrtest.Image) {
	w.tags[name] = img
	w.add(worldRepo, name, img)
}

// names returns all tags in order.
func (w *world) names() []string { return slices.Sorted(maps.Keys(w.tags)) }

// push is what clients do: a manifest alone if all that it lists is there, and else
// all of it.
func (w *world) push(name string, img *ghcrtest.Image) {
	w.tags[name] = img
	for _, child := range img.Children {
		if w.server.Holds(worldRepo, "", child) != nil {
			w.add(worldRepo, name, img)
			return
		}
	}
	w.add(worldRepo, name, ghcrtest.Raw(img.Manifest.MediaType, img.Manifest.Bytes()))
}

// meddle is what somebody else may do at any time: push an index of what there is,
// under a new tag or an old one, or move a tag.
func (w *world) meddle() {
	names := w.names()
	name := names[w.r.IntN(len(names))]
	switch w.r.IntN(4) {
	case 0:
		w.push(fmt.Sprintf("pushed%d", len(w.tags)), w.index())
	case 1:
		w.push(name, w.index())
	case 2:
		w.tag(name, w.image())
	default:
		w.tag(name, w.tags[names[w.r.IntN(len(names))]])
	}
}

// interleave has somebody meddle right before some request to come. It tells
// afterwards before which method that was: nobody can do anything about what comes
// right before a tag is written or a version deleted.
func (w *world) interleave() (method func() string) {
	w.server.Inject(ghcrtest.Fault{After: w.r.IntN(60), Do: func(*ghcrtest.Server) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.over {
			w.meddle()
		}
	}})
	return func() string {
		w.over = true
		for _, f := range w.server.Faults() {
			return f.Method
		}
		return ""
	}
}

// intact checks that all tags but some are as they should be, with all that belongs to
// their images.
func (w *world) intact(but ...string) {
	w.t.Helper()
	for _, name := range w.names() {
		if !slices.Contains(but, name) {
			w.holds(worldRepo, name, w.tags[name])
		}
	}
}

// tell prints what happened.
func (w *world) tell(start map[string]*ghcrtest.Image, refs []string, result *ghcr.Deletion, err error) {
	for _, name := range w.names() {
		now, was := w.tags[name].Digest(), oci.Digest("nothing")
		if start[name] != nil {
			was = start[name].Digest()
		}
		w.t.Logf("tag %s: %s, before %s; there %s", name, now, was, w.resolves(worldRepo, name))
	}
	for _, f := range w.server.Faults() {
		w.t.Logf("somebody meddled before request %d, %s %s", f.Request, f.Method, f.Path)
	}
	w.t.Logf("named %v: %v", refs, err)
	if result != nil {
		for _, item := range result.Items {
			w.t.Logf("%s %s %v %s: %v", item.Outcome, item.Digest, item.Tags, item.Role, item.Err)
		}
	}
	for _, r := range w.server.Requests() {
		if r.Method == "DELETE" {
			w.t.Logf("%s %s %d", r.Method, r.Path, r.Status)
		}
	}
}

// properties runs a test over many random repositories. Each is named by its seed.
func properties(t *testing.T, n int, test func(w *world)) {
	if testing.Short() {
		n /= 10
	}
	for seed := range uint64(n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(newWorld(t, seed)) })
		})
	}
}

// TestDeleteTouchesNothingElse: whatever the repository is like, however late its
// lists, and whatever somebody else does meanwhile, what was not named is whole
// afterwards; and undisturbed, what was named is gone with all that only it needed.
func TestDeleteTouchesNothingElse(t *testing.T) {
	properties(t, 300, func(w *world) {
		t := w.t
		before := w.inventory(worldRepo)
		var refs []string
		for _, name := range w.names() {
			if w.r.IntN(4) == 0 && name != "stays" {
				refs = append(refs, worldRepo+":"+name)
			}
		}
		if w.r.IntN(4) == 0 {
			refs = append(refs, worldRepo+"@"+w.pick().Digest().String())
		}
		if len(refs) == 0 {
			return
		}
		opts := ghcr.DeleteOptions{AllTags: w.r.IntN(2) == 0, Wait: time.Minute}
		meddled := func() string { return "" }
		if w.r.IntN(2) == 0 {
			meddled = w.interleave()
		}
		start := maps.Clone(w.tags)
		result, err := w.run(opts, refs)
		method := meddled()
		named := map[oci.Digest]bool{}
		var gone []string
		if result != nil {
			for _, item := range result.Items {
				if item.Outcome == ghcr.Done || item.Named {
					named[item.Digest] = item.Named
					gone = append(gone, item.Tags...)
				}
			}
		}
		for name, img := range w.tags {
			switch {
			case start[name] != img && named[img.Digest()] && method == "DELETE":
				gone = append(gone, name) // it came in the moment of the deletion
			case slices.Contains(gone, name) && !named[img.Digest()] && w.resolves(worldRepo, name) == "":
				t.Errorf("tag %s of %s, which was not named, is gone", name, img.Digest())
			}
		}
		gone = slices.DeleteFunc(gone, func(name string) bool { return w.resolves(worldRepo, name) != "" })
		w.intact(gone...)
		if t.Failed() {
			w.tell(start, refs, result, err)
		}
		if err != nil || method != "" || w.meddled {
			return
		}
		for _, item := range result.Items {
			if w.resolves(worldRepo, item.Digest.String()) != "" {
				t.Errorf("%s is said to be deleted", item.Digest)
			}
		}
		for _, ref := range refs {
			if d := w.ref(ref).Reference.String(); w.resolves(worldRepo, d) != "" {
				t.Errorf("%s is still there", d)
			}
		}
		time.Sleep(time.Minute)
		for _, v := range w.inventory(worldRepo).Versions {
			if old := before.Version(v.Digest()); v.Node.Reach != oci.Reached && old != nil && old.Node.Reach == oci.Reached {
				t.Errorf("%s, %s, is left behind", v.Digest(), v.Node.Role())
			}
		}
	})
}

// run deletes in one or in two steps, with some time between them.
func (w *world) run(opts ghcr.DeleteOptions, refs []string) (*ghcr.Deletion, error) {
	if w.r.IntN(2) == 0 {
		return w.delete(opts, refs...)
	}
	plan, err := w.client.PlanDelete(w.t.Context(), opts, w.refs(refs...)...)
	if err != nil {
		return nil, err
	}
	if w.r.IntN(3) == 0 {
		w.meddle()
		w.meddled = true
		time.Sleep(time.Duration(w.r.IntN(3)) * time.Second)
	}
	return plan.Apply(w.t.Context())
}

// TestUntagTouchesNothingElse: the tags that were named are off, and every image is
// there as it was, with every other tag, and nothing besides.
func TestUntagTouchesNothingElse(t *testing.T) {
	properties(t, 300, func(w *world) {
		t := w.t
		time.Sleep(time.Minute)
		versions := len(w.inventory(worldRepo).Versions)
		var refs []oci.ImageRef
		var taken []string
		for _, name := range w.names() {
			if w.r.IntN(3) == 0 && name != "stays" {
				taken = append(taken, name)
				refs = append(refs, w.ref(worldRepo+":"+name))
			}
		}
		if len(refs) == 0 {
			return
		}
		meddled := func() string { return "" }
		if w.r.IntN(2) == 0 {
			meddled = w.interleave()
		}
		start := maps.Clone(w.tags)
		result, err := w.client.Untag(t.Context(), ghcr.UntagOptions{}, refs...)
		method := meddled()
		if err != nil && method == "" {
			t.Fatal(err)
		}
		off := map[string]oci.Digest{} // the images that the tags were taken off
		if result != nil {
			for _, item := range result.Items {
				off[item.Tag] = item.Digest
			}
		}
		taken = slices.DeleteFunc(taken, func(name string) bool {
			// Moved meanwhile, it must be where it was moved to.
			return off[name] == "" || w.tags[name] != start[name] && w.tags[name].Digest() != off[name] && method != "PUT"
		})
		w.intact(taken...)
		for _, img := range start {
			w.holds(worldRepo, "", img)
		}
		if t.Failed() {
			w.tell(start, taken, nil, err)
			if result != nil {
				for _, item := range result.Items {
					t.Logf("%s %s %s: %v", item.Outcome, item.Tag, item.Digest, item.Err)
				}
			}
		}
		if method != "" {
			return
		}
		for _, name := range taken {
			if d := w.resolves(worldRepo, name); d != "" {
				t.Errorf("tag %s is still on %s", name, d)
			}
		}
		time.Sleep(time.Minute)
		if n := len(w.inventory(worldRepo).Versions); n != versions {
			t.Errorf("%d versions, and %d before", n, versions)
		}
	})
}
