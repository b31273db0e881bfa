package ghcr_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/vuln"
)

// distance is how long each request is on its way, which is virtual time.
type distance struct {
	name string
	// of the nth request of its kind.
	of func(r *http.Request, n int) time.Duration
}

func apart(d time.Duration) distance {
	return distance{d.String(), func(*http.Request, int) time.Duration { return d }}
}

// varying is another distance for each request, up to a bound. What is sent at once is
// answered in another order with each seed.
func varying(most time.Duration, seed uint64) distance {
	return distance{fmt.Sprintf("up to %s, seed %d", most, seed), func(r *http.Request, n int) time.Duration {
		h := fnv.New64a()
		fmt.Fprint(h, r.Method, r.URL.Host, r.URL.Path, r.Header.Get("Range"), n)
		return time.Duration(rand.New(rand.NewPCG(seed, h.Sum64())).Int64N(int64(most)))
	}}
}

// farther is a network, or a cassette, at a distance.
type farther struct {
	http.RoundTripper
	distance
	mu   sync.Mutex
	seen map[string]int
}

func (f *farther) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	key := r.Method + r.URL.String()
	f.seen[key]++
	n := f.seen[key]
	f.mu.Unlock()
	time.Sleep(f.of(r, n))
	return f.RoundTripper.RoundTrip(r)
}

// TestEachOperationIsReplayed from a recording that was made near or far away, at any
// other distance: no request depends on how fast answers come, or in which order.
func TestEachOperationIsReplayed(t *testing.T) {
	for _, op := range slices.Concat(operations, replayed) {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			op.replay(t, cassette.Options{}, func(now, then outcome) bool {
				return now.err == nil && then.err == nil && now.value == then.value && maps.Equal(now.files, then.files)
			})
		})
	}
}

// TestEachFailureIsReplayed at any distance. How far the other things got that were done
// at once is chance, but not why all of it failed.
func TestEachFailureIsReplayed(t *testing.T) {
	for _, op := range failing {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			op.replay(t, cassette.Options{AllowUnused: true}, func(now, then outcome) bool {
				return slices.ContainsFunc(classes, func(class error) bool { return errors.Is(now.err, class) && errors.Is(then.err, class) })
			})
		})
	}
}

// replay records an operation at several distances, and replays each recording at several.
func (op operation) replay(t *testing.T, opts cassette.Options, same func(now, then outcome) bool) {
	near, far := apart(0), apart(40*time.Millisecond)
	recorded := []distance{near, far, varying(40*time.Millisecond, 1)}
	replayed := []distance{near, varying(40*time.Millisecond, 2), far, varying(9*time.Millisecond, 3)}
	if raced || testing.Short() {
		recorded, replayed = recorded[:2], replayed[:2]
	}
	for _, from := range recorded {
		dir := t.TempDir()
		opts.Mode = cassette.ModeRecord
		then := op.taped(t, dir, opts, from)
		for _, to := range replayed {
			t.Run(from.name+", replayed "+to.name, func(t *testing.T) {
				opts.Mode = cassette.ModeReplay
				if now := op.taped(t, dir, opts, to); !same(now, then) {
					t.Errorf("got %v, recorded %v", now, then)
				}
			})
		}
	}
}

// outcome is what an operation comes to.
type outcome struct {
	value string
	err   error
	files map[string]string
}

// taped does an operation by way of a cassette.
func (op operation) taped(t *testing.T, dir string, opts cassette.Options, at distance) (o outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, false)
		opts.Base = s.server.Transport()
		tape, err := cassette.Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		s.connectBy(op, &farther{RoundTripper: tape, distance: at, seen: map[string]int{}}, rand.NewChaCha8(tape.Seed()))
		value, err := op.do(s)
		synctest.Wait()
		o = outcome{fmt.Sprint(value), err, s.files()}
		if err := tape.Close(); err != nil {
			t.Errorf("%s: %v", opts.Mode, err)
		}
	})
	return o
}

// Content of these sizes is read in ranges where that pays, and asked about before it is
// sent.
var (
	large   = ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(21, 5<<20), ghcrtest.RandomLayer(22, 4<<20), ghcrtest.RandomLayer(23, 1000))
	partial = ghcrtest.NewIndex(image(31, 6), image(32, 6), image(33, 6)) // what it lists may be missing
)

func withLarge(s *scene) { s.add("acme/app", "v1", large) }

func disturbed(prep func(*scene), faults ...ghcrtest.Fault) func(*scene) {
	return func(s *scene) {
		prep(s)
		s.server.Inject(faults...)
	}
}

var refused = ghcrtest.Fault{Times: -1, Status: 403, Body: `{"errors":[{"code":"DENIED","message":"denied"}]}`}

func refusing(route string) ghcrtest.Fault {
	f := refused
	f.Route = route
	return f
}

// replayed are operations besides those of the sweep whose requests depend on more than
// what they are about: on sizes, on clocks, and on what goes wrong.
var replayed = []operation{
	{name: "pull what is large", prep: withLarge, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull what is large with a fetched token", quirks: noDirect, prep: withLarge, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull what is large and not elsewhere", quirks: spec, prep: withLarge, do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull what is cut off", prep: disturbed(withLarge, ghcrtest.Fault{Route: ghcrtest.RouteSigned, ResponseBytes: 1 << 20, Break: true, Times: 2}),
		do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull at a limit", prep: disturbed(withLarge, ghcrtest.Fault{Route: ghcrtest.RouteBlob, Status: 429, Body: limitBody, Times: 3}),
		do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "pull where the storage fails", prep: disturbed(withLarge, ghcrtest.Fault{Route: ghcrtest.RouteSigned, Status: 503, Times: 2}),
		do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "push what is large", prep: laid(large), do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push what is large and there", prep: func(s *scene) { laid(large)(s); withLarge(s) }, do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push what is large and there unseen", quirks: func(q *ghcrtest.Quirks) { q.MountSelf = false }, prep: func(s *scene) { laid(large)(s); withLarge(s) },
		do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "push what is cut off", prep: disturbed(laid(large), ghcrtest.Fault{Route: ghcrtest.RouteUploadCommit, RequestBytes: 1 << 20, Break: true}),
		do: copying("PATH", "acme/app:v1", transfer.Options{})},
	{name: "copy what is large", quirks: func(q *ghcrtest.Quirks) { q.MountSelf = false }, prep: withLarge,
		do: copying("acme/app:v1", "mirror.example.com/acme/mirror:v1", transfer.Options{})},

	{name: "delete where lists are late", quirks: func(q *ghcrtest.Quirks) { q.RESTStaleness = 10 * time.Second }, prep: withFamily, do: deleteV1("acme/app:v1", 6)},
	{name: "delete what is listed never", quirks: func(q *ghcrtest.Quirks) { q.RESTStaleness = time.Hour }, prep: func(s *scene) {
		withFamily(s)
		time.Sleep(2 * time.Hour)
		s.add("acme/app", "v3", small)
	}, do: deleteV1("acme/app:v1", 6)},
	{name: "untag where lists are late", quirks: func(q *ghcrtest.Quirks) { q.RESTStaleness = 10 * time.Second },
		prep: func(s *scene) { withTwo(s); s.add("acme/app", "old", small); time.Sleep(time.Minute) }, do: untagOld("acme/app:old")},
	{name: "vulnerabilities of images that share", aside: true, prep: withShared, do: func(s *scene) (any, error) {
		var list []*vuln.VulnerabilityReport
		for v, err := range s.client.PackageVulnerabilities(s.ctx, s.ref("acme/app"), ghcr.SweepOptions{VulnOptions: everySource}) {
			if err != nil {
				return nil, err
			}
			list = append(list, v.Report)
		}
		return known(list, nil)
	}},
	{name: "attach", prep: withSmall, do: inRepo(func(s *scene, repo *registry.Repository) (oci.Digest, error) {
		d, err := attest.Attach(s.ctx, repo, small.Digest(), "", []attest.Content{{MediaType: "application/spdx+json", Data: []byte("{}")}}, nil)
		return d.Digest, err
	})},
	{name: "prune", prep: withMany, do: pruneOld},
	{name: "prune for long", quirks: func(q *ghcrtest.Quirks) { q.RESTLimits = false }, prep: disturbed(withMany, ghcrtest.Fault{Role: ghcrtest.RoleAPI, Method: http.MethodDelete, Delay: 10 * time.Second, Times: -1}), do: pruneOld},
}

// failing are operations that do several things at once, of which one fails.
var failing = []operation{
	{name: "pull what is denied", prep: disturbed(withFamily, refusing(ghcrtest.RouteBlob)), do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "push what is denied", prep: disturbed(laid(family), refusing(ghcrtest.RouteUploadStart)), do: copying("PATH", "acme/app:v1", transfer.Options{Recursive: true})},
	{name: "pull what is incomplete", prep: disturbed(func(s *scene) { s.add("acme/app", "v1", partial) },
		ghcrtest.Fault{Route: ghcrtest.RouteManifest, Ref: partial.Children[1].Digest().String(), Status: 404, Times: -1}),
		do: copying("acme/app:v1", "oci:DIR/layout:v1", transfer.Options{})},
	{name: "inventory that is refused", prep: disturbed(func(s *scene) { s.add("acme/app", "v1", partial) },
		ghcrtest.Fault{Route: ghcrtest.RouteManifest, Ref: partial.Children[1].Digest().String(), Status: 403, Times: -1}), do: listInventory},
}

// withShared has several indexes of which each lists the same image, and something of that
// everywhere.
func withShared(s *scene) {
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(41, 5000))
	ghcrtest.CosignBundle(img, ghcrtest.Bundle(ghcrtest.Statement(attest.PredicateSPDX, json.RawMessage(ghcrtest.SPDX("acme/app", openssl, ghcrtest.Finding{Package: "lodash", Version: "4.17.20", PURL: "pkg:npm/lodash@4.17.20"})), img)))
	s.repository(ghcrtest.Repository{Name: "acme/app"})
	for i := range 4 {
		s.add("acme/app", fmt.Sprint("v", i), ghcrtest.NewIndex(img, ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(uint64(42+i), 1000))))
	}
	s.attestAtGitHub("acme/app", ghcrtest.Bundle(trivyStatement(img, zlib)))
	s.upload("acme/app", "", ghcrtest.TrivySARIF("acme/app", img, openssl))
	s.advise(lodashAdvisory, lodashRecord)
}

func withMany(s *scene) {
	for i := range 15 {
		s.add("acme/app", fmt.Sprint("old-", i), image(uint64(100+i), 1))
	}
	withTwo(s)
	time.Sleep(100 * 24 * time.Hour)
}

func pruneOld(s *scene) (any, error) {
	plan, _, err := s.client.PlanPrune(s.ctx, s.ref("acme/app"), s.policy(`rules: [{name: old, match: {tags: ["old-*"]}, delete: all}]`), ghcr.PruneOptions{})
	if err != nil {
		return nil, err
	}
	report, err := s.client.ApplyPrune(s.ctx, plan, ghcr.ApplyOptions{Journal: filepath.Join(s.t.TempDir(), "journal")})
	if err != nil {
		return nil, err
	}
	return report.Count(ghcr.Done), nil
}
