package ghcr_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// errTyped is an error that says what kind it is, whatever that is.
var errTyped = errors.New("a typed error")

// errTold is an error that says what happened.
var errTold = errors.New("an error")

// judge compares an outcome with the one that the catalogue demands.
func (s *sandbox) judge(err, want error) {
	s.t.Helper()
	if want == errTold && err != nil {
		return
	}
	var refusal *transport.Error
	if want == errTyped && (errors.As(err, &refusal) || errors.Is(err, oci.ErrNoRanges) || errors.Is(err, ghcr.ErrIntegrity)) {
		return
	}
	if !errors.Is(err, want) || want == nil && err != nil {
		s.t.Errorf("got %v, want %v", err, want)
	}
}

// pushes pushes an image. After an error the tag must not be there, and the next push
// must do.
func pushes(want error) func(*sandbox, func()) { return pushesTo("acme/app:v1", want) }

func pushesTo(end string, want error) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		img := bigImage()
		layout := s.layout(img)
		inject()
		_, err := s.copy(layout, end, transfer.Options{})
		s.judge(err, want)
		if want != nil {
			if s.server.Holds("acme/app", "v1", img) == nil {
				s.t.Error("the push failed, and the tag is there")
			}
			s.server.ClearFaults()
			s.mustCopy(layout, end, transfer.Options{})
		}
		s.holds("acme/app", "v1", img)
	}
}

// pushesInChunks is to a registry whose limit for chunks is not known before.
func pushesInChunks(s *sandbox, inject func()) {
	client, err := ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, ChunkSize: 5 << 20})
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = client
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(3, 11<<20))
	inject()
	s.mustCopy(s.layout(img), "mirror.example.com/acme/app:v1", transfer.Options{})
	s.holds("acme/app", "v1", img)
}

// pushesSmallChunks sends a layer in four.
func pushesSmallChunks(s *sandbox, inject func()) {
	client, err := ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, ChunkSize: blobSize / 3})
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = client
	pushes(nil)(s, inject)
}

// pulls pulls an image into a layout. Nothing gets a name that it does not deserve,
// and after an error the next pull into the same place must do.
func pulls(want error) func(*sandbox, func()) { return pullsFrom("acme/app:v1", want) }

func pullsFrom(end string, want error) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		img := bigImage()
		s.add("acme/app", "v1", img)
		inject()
		dir := s.t.TempDir()
		_, err := s.copy(end, "oci:"+dir, transfer.Options{})
		s.judge(err, want)
		onlyWholeBlobs(s.t, dir)
		s.server.ClearFaults()
		if want != nil {
			if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
				if data, _ := os.ReadFile(filepath.Join(dir, "index.json")); strings.Contains(string(data), "sha256:") {
					s.t.Errorf("the pull failed, and the layout lists %s", data)
				}
			}
			s.mustCopy(end, "oci:"+dir, transfer.Options{})
		}
		s.mustCopy("oci:"+dir, "acme/back:v1", transfer.Options{})
		s.holds("acme/back", "v1", img)
	}
}

// endlessTags are no list.
func endlessTags(s *sandbox, inject func()) {
	for i := range 5 {
		s.add("acme/app", fmt.Sprint("v", i), image(uint64(i), 1))
	}
	inject()
	repo, err := s.client.Repository(s.ref("acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = repo.TagNames(s.t.Context())
	s.judge(err, errTold)
}

// tagNames lists tags of an emulated package that has these.
func tagNames(want ...string) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		for i := range 5 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i), 1))
		}
		inject()
		repo, err := s.client.Repository(s.ref("acme/app"))
		if err != nil {
			s.t.Fatal(err)
		}
		names, err := repo.TagNames(s.t.Context())
		s.judge(err, nil)
		for _, tag := range want {
			if n := strings.Count(strings.Join(names, " ")+" ", tag+" "); n != 1 {
				s.t.Errorf("%s comes %d times in %v", tag, n, names)
			}
		}
	}
}

var fiveTags = []string{"v0", "v1", "v2", "v3", "v4"}

// inventories lists versions; the whole list or an error.
func inventories(want error) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		for i := range 5 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i), 1))
		}
		inject()
		inv, err := s.client.Inventory(s.t.Context(), s.ref("acme/app"))
		s.judge(err, want)
		if err == nil && len(inv.Tagged(func(tag string) bool { return slices.Contains(fiveTags, tag) })) != 5 {
			s.t.Errorf("%d versions", len(inv.Versions))
		}
	}
}

// readsAll pulls, lists tags and lists versions. Where it is not said that the body is
// whole, an error will do as well.
func readsAll(orError bool) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		pulls(nil)(s, inject)
		s.server.ClearFaults()
		inject()
		repo, err := s.client.Repository(s.ref("acme/app"))
		if err != nil {
			s.t.Fatal(err)
		}
		names, err := repo.TagNames(s.t.Context())
		if !(orError && err != nil) && (err != nil || !slices.Equal(names, []string{"v1"})) {
			s.t.Errorf("tags %v, %v", names, err)
		}
		inv, err := s.client.Inventory(s.t.Context(), s.ref("acme/app"))
		if !(orError && err != nil) && (err != nil || len(inv.Versions) != 1) {
			s.t.Errorf("versions: %v", err)
		}
		for _, route := range []string{ghcrtest.RouteSigned, ghcrtest.RouteTags, ghcrtest.RouteVersions} {
			if !slices.ContainsFunc(s.server.Faults(), func(r ghcrtest.FaultRecord) bool { return r.Fault.Route == route }) {
				s.t.Errorf("nothing happened to %s", route)
			}
		}
	}
}

// deletes deletes three of four images and tells what became of them. After an error
// the next run finishes.
func deletes(want error, outcomes ...ghcr.Outcome) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) {
		var doomed []string
		for i := range 3 {
			s.add("acme/app", fmt.Sprint("v", i), image(uint64(i), 1))
			doomed = append(doomed, fmt.Sprint("acme/app:v", i))
		}
		kept := image(9, 1)
		s.add("acme/app", "kept", kept)
		inject()
		result, err := s.delete(ghcr.DeleteOptions{}, doomed...)
		s.judge(err, want)
		var got []ghcr.Outcome
		for _, item := range result.Items {
			got = append(got, item.Outcome)
			if gone := s.server.Downloads("acme/app", item.Digest.String()) == 0 && s.resolves("acme/app", item.Digest.String()) == ""; gone != (item.Outcome == ghcr.Done) {
				s.t.Errorf("%s is said to be %s; it is gone: %t", item.Digest, item.Outcome, gone)
			}
		}
		if !slices.Equal(got, outcomes) {
			s.t.Errorf("outcomes %v, want %v", got, outcomes)
		}
		s.server.ClearFaults()
		if _, err := s.delete(ghcr.DeleteOptions{IgnoreMissing: true}, doomed...); err != nil {
			s.t.Errorf("the next run: %v", err)
		}
		s.holds("acme/app", "kept", kept)
		if n := len(s.inventory("acme/app").Versions); n != 1 {
			s.t.Errorf("%d versions are left", n)
		}
	}
}

// refersAnd pushes a referrer to a registry where somebody else's is listed already.
// It must be listed in the end, and found, and so must the other one unless it was
// taken out by others.
func refersAnd(other bool) func(*sandbox, func()) {
	return func(s *sandbox, inject func()) { refers(s, inject, other) }
}

func refers(s *sandbox, inject func(), both bool) {
	img := image(1, 1)
	s.add("acme/app", "v1", img)
	other := ghcrtest.Refer(img, "application/x.other", "o")
	s.add("acme/app", "v1", img)
	mine := ghcrtest.Refer(image(1, 1), "application/x.mine", "m")
	repo, err := s.client.Repository(s.ref("mirror.example.com/acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	for d, data := range mine.Blobs {
		open := func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		if _, err := repo.PutBlob(s.t.Context(), oci.Descriptor{Digest: d, Size: int64(len(data))}, nil, open); err != nil {
			s.t.Fatal(err)
		}
	}
	inject()
	if err := repo.PutManifest(s.t.Context(), mine.Digest().String(), mine.Manifest); err != nil {
		s.t.Fatal(err)
	}
	list, err := repo.Referrers(s.t.Context(), img.Digest())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, want := range []*ghcrtest.Image{other, mine} {
		if (want == mine || both) && !slices.ContainsFunc(list, func(d oci.Descriptor) bool { return d.Digest == want.Digest() }) {
			s.t.Errorf("%s is not listed", want.Digest())
		}
	}
	for _, r := range s.log() {
		if r.Role == ghcrtest.RoleWeb {
			s.t.Errorf("asked GitHub's web pages: %s", r.Path)
		}
	}
}

// tagMoves looks a tag up and then reads it: what it gets is whole, and of the digest
// that it has.
func tagMoves(s *sandbox, inject func()) {
	old := image(1, 1)
	s.add("acme/app", "v1", old)
	repo, err := s.client.Repository(s.ref("acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	inject()
	before, err := repo.Resolve(s.t.Context(), "v1")
	s.judge(err, nil)
	m, err := repo.Manifest(s.t.Context(), "v1")
	s.judge(err, nil)
	if before.Digest != old.Digest() || m.Digest() == old.Digest() || oci.Digest(digest.FromBytes(m.Bytes())) != m.Digest() {
		s.t.Errorf("looked up %s, read %s", before.Digest, m.Digest())
	}
	byDigest, err := repo.Manifest(s.t.Context(), before.Digest.String())
	s.judge(err, nil)
	if byDigest.Digest() != old.Digest() {
		s.t.Errorf("%s is %s", before.Digest, byDigest.Digest())
	}
}

// looksUpBlob asks whether a blob is there.
func looksUpBlob(s *sandbox, inject func()) {
	img := bigImage()
	s.add("acme/app", "v1", img)
	repo, err := s.client.Repository(s.ref("acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	inject()
	d, err := repo.ResolveBlob(s.t.Context(), img.Manifest.Layers[0].Digest)
	s.judge(err, nil)
	if d.Size != blobSize {
		s.t.Errorf("%d bytes", d.Size)
	}
	for _, r := range s.log() {
		if r.Role == ghcrtest.RoleCDN && r.Method == "HEAD" {
			s.t.Error("HEAD at the storage host")
		}
	}
}

// lateLists deletes what was pushed a moment ago, which lists do not show yet.
func lateLists(s *sandbox, inject func()) {
	s.add("acme/app", "v0", image(0, 1))
	inject()
	s.inventory("acme/app")
	s.mustCopy(s.layout(image(1, 1)), "acme/app:v1", transfer.Options{})
	if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil {
		s.t.Fatal(err)
	}
	if s.resolves("acme/app", "v1") != "" {
		s.t.Error("it is still there")
	}
}

// restores brings back what something refuses once.
func restores(s *sandbox, inject func()) {
	img := image(1, 1)
	s.add("acme/app", "v1", img)
	s.add("acme/app", "v2", image(2, 1))
	if _, err := s.delete(ghcr.DeleteOptions{}, "acme/app:v1"); err != nil {
		s.t.Fatal(err)
	}
	inject()
	opts := ghcr.RestoreOptions{Digests: []oci.Digest{img.Digest()}}
	_, err := s.restore(opts)
	s.judge(err, packages.NameTaken)
	s.server.ClearFaults()
	if _, err := s.restore(opts); err != nil {
		s.t.Errorf("again: %v", err)
	}
	s.holds("acme/app", "v1", img)
}

// retags moves a tag that somebody else moves at the same time.
func retags(s *sandbox, inject func()) {
	next := image(2, 1)
	s.add("acme/app", "prod", image(1, 1))
	s.add("acme/app", "v2", next)
	inject()
	result, err := s.client.Retag(s.t.Context(), s.ref("acme/app:v2"), "prod")
	s.judge(err, nil)
	if result.Digest != next.Digest() {
		s.t.Errorf("got %+v", result)
	}
	s.holds("acme/app", "prod", next)
}

// givesUp cancels a pull and a push while they wait.
func givesUp(s *sandbox, inject func()) {
	img := bigImage()
	s.add("acme/app", "v1", img)
	layout := s.layout(img)
	for _, way := range [][2]string{{"acme/app:v1", "oci:" + s.t.TempDir()}, {layout, "acme/new:v1"}} {
		s.server.ClearFaults()
		inject()
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		from, err := s.client.ParseEnd(way[0])
		if err != nil {
			s.t.Fatal(err)
		}
		to, err := s.client.ParseEnd(way[1])
		if err != nil {
			s.t.Fatal(err)
		}
		began := time.Now()
		_, err = s.client.Copy(ctx, from, to, transfer.Options{})
		s.judge(err, context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			s.t.Errorf("it took %s to give up", took)
		}
		s.server.ClearFaults()
		s.mustCopy(way[0], way[1], transfer.Options{})
	}
	s.holds("acme/new", "v1", img)
}

// manyTags lists more tags than a page holds.
func manyTags(s *sandbox, inject func()) {
	for i := range 1001 {
		s.add("acme/app", fmt.Sprint("v", i), ghcrtest.NewIndex())
	}
	inject()
	repo, err := s.client.Repository(s.ref("acme/app"))
	if err != nil {
		s.t.Fatal(err)
	}
	names, err := repo.TagNames(s.t.Context())
	s.judge(err, nil)
	if len(names) != 1001 {
		s.t.Errorf("%d tags", len(names))
	}
}
