package ghcr_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// ordeal is what the client has to come through when a fault of the catalogue
// happens.
type ordeal struct {
	do     func(s *sandbox, inject func())
	quirks func(*ghcrtest.Quirks)
	least  time.Duration // virtual time that it takes
	within time.Duration // … at most; 0 is an hour
	most   int           // times that one thing is asked for; 0 is 6
}

// typed is an error that says what kind it is, whatever that is.
var typed = errors.New("a typed error")

// told is an error that says what happened.
var told = errors.New("an error")

// judge compares an outcome with the one that the catalogue demands.
func (s *sandbox) judge(err, want error) {
	s.t.Helper()
	if want == told && err != nil {
		return
	}
	var refusal *transport.Error
	if want == typed && (errors.As(err, &refusal) || errors.Is(err, oci.ErrNoRanges) || errors.Is(err, ghcr.ErrIntegrity)) {
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

// ordeals has what the client does for each entry of the catalogue.
var ordeals = map[string]ordeal{
	"F1a":              {do: pushes(nil)},
	"F1b":              {do: pushes(nil), least: 29 * time.Second},
	"F1b.date":         {do: pulls(nil), least: 24 * time.Second},
	"F2a":              {do: inventories(nil), least: time.Minute},
	"F2a.429":          {do: inventories(nil), least: time.Minute},
	"F2b":              {do: inventories(nil), least: time.Minute},
	"F2b.429":          {do: inventories(nil), least: time.Minute},
	"F2b.silent":       {do: inventories(nil), least: time.Minute},
	"F3a":              {do: pushes(nil)},
	"F3a.500":          {do: pulls(nil)},
	"F3a.502":          {do: inventories(nil)},
	"F3a.504":          {do: pulls(nil)},
	"F3a.forever":      {do: pushes(typed)},
	"F3b":              {do: pulls(nil)},
	"F3b.range":        {do: pulls(nil)},
	"F4a":              {do: pushes(nil), least: 11 * time.Second},
	"F4a.late":         {do: pushes(nil), least: 5 * time.Minute},
	"F4b":              {do: pushes(nil), least: 11 * time.Second},
	"F5":               {do: pushes(nil)},
	"F5.present":       {do: pushes(nil)},
	"F6a":              {do: pushesInChunks},
	"F6b":              {do: pushesSmallChunks},
	"F6b.order":        {do: pushesSmallChunks},
	"F6c":              {do: pushesSmallChunks},
	"F6c.commit":       {do: pushes(nil)},
	"F7":               {do: pushes(nil)},
	"F7.redirect":      {do: pushes(told)},
	"F7.reset":         {do: pushes(nil)},
	"F8a":              {do: readsAll(false)},
	"F8a.empty":        {do: readsAll(false)},
	"F8b":              {do: readsAll(false)},
	"F8b.last":         {do: readsAll(false)},
	"F8b.cut":          {do: readsAll(false)},
	"F8b.chunk":        {do: readsAll(false)},
	"F8c":              {do: readsAll(true)},
	"F9a":              {do: pulls(ghcr.ErrIntegrity)},
	"F9a.manifest":     {do: pulls(ghcr.ErrIntegrity)},
	"F9a.header":       {do: pulls(ghcr.ErrIntegrity)},
	"F9b":              {do: pulls(ghcr.ErrIntegrity)},
	"F9b.long":         {do: pulls(ghcr.ErrIntegrity)},
	"F9b.type":         {do: pulls(ghcr.ErrInvalid)},
	"F9c":              {do: tagMoves},
	"F10":              {do: pulls(nil), least: 30 * time.Second, within: 5 * time.Minute},
	"F10.slow":         {do: pulls(nil), least: blobSize / 500 * time.Second},
	"F10.stall":        {do: pulls(nil), least: time.Minute, within: 5 * time.Minute},
	"F10.header":       {do: pulls(nil), least: 30 * time.Second, within: 5 * time.Minute},
	"F11a":             {do: pulls(nil), quirks: noDirect},
	"F11a.once":        {do: pushes(nil), quirks: noDirect},
	"F11b":             {do: pushes(nil)},
	"F11b.forever":     {do: pushes(ghcr.ErrDenied)},
	"F11b.scope":       {do: pushes(nil), quirks: noDirect},
	"F11b.placeholder": {do: pushes(nil)},
	"F11c":             {do: pushes(nil), quirks: noDirect},
	"F11c.forever":     {do: pushes(typed), quirks: noDirect},
	"F12a":             {do: pulls(nil)},
	"F12b":             {do: looksUpBlob},
	"F12c":             {do: pulls(nil)},
	"F12d":             {do: pulls(nil)},
	"F12d.loop":        {do: pulls(told), most: 8},
	"F12d.http":        {do: pulls(told)},
	"F13":              {do: pulls(nil)},
	"F13.range":        {do: pulls(nil)},
	"F13.416":          {do: pulls(nil)},
	"F14":              {do: refersAnd(true)},
	"F14.redirect":     {do: refersAnd(true)},
	"F14.html":         {do: refersAnd(true)},
	"F14.limit":        {do: refersAnd(true)},
	"F15a":             {do: tagNames(fiveTags...)},
	"F15a.default":     {do: tagNames(fiveTags...)},
	"F15a.loop":        {do: tagNames("v0", "v1")},
	"F15a.api":         {do: inventories(nil)},
	"F15b":             {do: tagNames(fiveTags...)},
	"F15b.deleted":     {do: tagNames(fiveTags[:4]...)},
	"F15b.api":         {do: inventories(nil)},
	"F16a":             {do: lateLists, least: 15 * time.Second, most: 16},
	"F16a.masked":      {do: deletes(packages.NoPermission, ghcr.Failed, ghcr.Skipped, ghcr.Skipped)},
	"F16a.304":         {do: inventories(told)},
	"F16b":             {do: deletes(packages.LastTagged, ghcr.Blocked, ghcr.Done, ghcr.Done)},
	"F16b.downloads":   {do: deletes(packages.TooManyDownloads, ghcr.Blocked, ghcr.Done, ghcr.Done)},
	"F16b.conflict":    {do: restores},
	"F16c":             {do: deletes(nil, ghcr.Done, ghcr.Done, ghcr.Done)},
	"F16c.forever":     {do: deletes(typed, ghcr.Done, ghcr.Failed, ghcr.Failed), most: 7},
	"F17":              {do: retags},
	"F17.lost":         {do: refersAnd(false)},
	"F18.hold":         {do: givesUp},
	"F18.ahead":        {do: pulls(nil), quirks: noDirect},
	"F18.behind":       {do: pulls(nil), quirks: noDirect, within: time.Minute},
}

// TestFaultCatalogue injects each entry of the emulator's catalogue by its name and has
// the client come through it: the outcome is the one that is demanded, the fault did
// happen, and nothing was asked for more often than the policy has it. F18, the
// client's own disk, is in transfer's TestStageOnFullDisk and in TestCancelAtAnyPoint.
func TestFaultCatalogue(t *testing.T) {
	for _, e := range ghcrtest.Catalogue() {
		if len(e.Faults) == 0 {
			continue
		}
		o, ok := ordeals[e.ID]
		if !ok {
			t.Errorf("%s, %s: nobody goes through it", e.ID, e.Title)
			continue
		}
		t.Run(e.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				quirks := ghcrtest.GHCR()
				if o.quirks != nil {
					o.quirks(&quirks)
				}
				s := newSandbox(t, ghcrtest.Options{Quirks: &quirks})
				began := time.Now()
				o.do(s, func() { s.server.Inject(ghcrtest.NamedFault(e.ID)...) })
				if took := time.Since(began); took < o.least || took > cmp.Or(o.within, max(time.Hour, 2*o.least)) {
					t.Errorf("%s: took %s, want at least %s", e.Title, took, o.least)
				}
				if len(s.server.Faults()) == 0 {
					t.Errorf("%s: it did not happen", e.Title)
				}
				asked := map[string]int{}
				for _, r := range s.log() {
					thing := r.Method + " " + r.Path + " " + r.Query + " " + r.Range
					if asked[thing]++; asked[thing] == max(o.most, 6)+1 {
						t.Errorf("asked more than %d times: %s", max(o.most, 6), thing)
					}
				}
			})
		})
	}
}
