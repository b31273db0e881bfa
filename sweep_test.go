package ghcr_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/packages"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// scene is a sandbox in which one operation is done.
type scene struct {
	*sandbox
	ctx   context.Context
	opts  ghcrtest.Options
	dir   string // of what is pulled; empty for none
	cache string
	path  string // of a layout or an undo file
	id    int64  // of a version
	again bool   // the operation is done for the second time
}

// freshly sends each request over a connection of its own: net/http sends a GET again
// by itself when a connection that was used before breaks, and the fault would not
// reach our code.
type freshly struct{ http.RoundTripper }

func (f freshly) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Close = true
	return f.RoundTripper.RoundTrip(r)
}

// newScene prepares an operation. With kept, the server's state outlives it.
func newScene(t *testing.T, op operation, kept bool) *scene {
	t.Helper()
	quirks := ghcrtest.GHCR()
	if op.quirks != nil {
		op.quirks(&quirks)
	}
	s := &scene{opts: ghcrtest.Options{Quirks: &quirks}}
	if kept {
		s.opts.Dir = t.TempDir()
	}
	if op.cached {
		s.cache = t.TempDir()
	}
	s.sandbox = newSandbox(t, s.opts)
	s.connect(op)
	if op.prep != nil {
		op.prep(s)
	}
	s.connect(op)
	s.ctx = t.Context()
	s.log()
	s.server.ResetRequests()
	return s
}

// connect makes a client as a new process would.
func (s *scene) connect(op operation) { s.connectBy(op, freshly{s.server.Transport()}, nil) }

func (s *scene) connectBy(op operation, base http.RoundTripper, random io.Reader) {
	s.t.Helper()
	client, err := ghcr.New(ghcr.Options{Base: base, Random: random, Credentials: login, CacheDir: s.cache, ChunkSize: op.chunk})
	if err != nil {
		s.t.Fatal(err)
	}
	s.client = client
}

// reopen goes on with a server that has the same state and no faults.
func (s *scene) reopen(op operation) {
	if err := s.server.Close(); err != nil {
		s.t.Error(err)
	}
	s.sandbox = newSandbox(s.t, s.opts)
	s.connect(op)
}

// state is what a server holds: where tags point, and which versions there are.
type state struct {
	tags map[string]oci.Digest // by repository:tag
	live map[string]bool       // repository@digest
}

func (s *scene) state() state {
	s.t.Helper()
	now := state{map[string]oci.Digest{}, map[string]bool{}}
	client := s.newClient("")
	must := func(err error) {
		if err != nil {
			s.t.Fatalf("look at the server: %v", err)
		}
	}
	api, err := client.Packages()
	must(err)
	list, err := api.List(s.t.Context(), "acme", packages.ListOptions{})
	must(err)
	for _, p := range list {
		name := "acme/" + p.Name
		versions, err := api.AllVersions(s.t.Context(), "acme", p.Name, packages.Active)
		must(err)
		for _, v := range versions {
			now.live[name+"@"+v.Digest().String()] = true
		}
		repo, err := client.Repository(s.ref(name))
		must(err)
		tags, err := repo.TagNames(s.t.Context())
		must(err)
		for _, tag := range tags {
			d, err := repo.Resolve(s.t.Context(), tag)
			must(err)
			now.tags[name+":"+tag] = d.Digest
		}
	}
	return now
}

// stateAfter is state, and asks the server only if it was told to change something.
func (s *scene) stateAfter(u undisturbed, log []ghcrtest.Request) state {
	s.t.Helper()
	if writes(log) {
		return s.state()
	}
	return u.before
}

// files are those in the scene's directory, with what they hold.
func (s *scene) files() map[string]string {
	s.t.Helper()
	list := map[string]string{}
	if s.dir == "" {
		return list
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		list[strings.TrimPrefix(path, s.dir)] = fmt.Sprintf("%d bytes %x", len(data), sum[:4])
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// undisturbed is what an operation does and leaves when nothing goes wrong.
type undisturbed struct {
	log           []ghcrtest.Request
	value         string
	before, after state
	files         map[string]string
}

// writes tells whether the operation changes anything at the server.
func (u undisturbed) writes() bool { return writes(u.log) }

func writes(log []ghcrtest.Request) bool {
	return slices.ContainsFunc(log, func(r ghcrtest.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead })
}

func (op operation) undisturbed(t *testing.T) (u undisturbed) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, false)
		u.before = s.state()
		s.log()
		s.server.ResetRequests()
		value, err := op.do(s)
		if err != nil {
			t.Fatalf("undisturbed: %v", err)
		}
		u.value, u.log = fmt.Sprint(value), s.log()
		u.after, u.files = s.state(), s.files()
	})
	return u
}

// images are all that operations are about, by digest.
var images = sync.OnceValue(func() map[oci.Digest]*ghcrtest.Image {
	all := map[oci.Digest]*ghcrtest.Image{}
	var add func(list ...*ghcrtest.Image)
	add = func(list ...*ghcrtest.Image) {
		for _, img := range list {
			all[img.Digest()] = img
			add(img.Children...)
			add(img.Referrers...)
		}
	}
	add(small, other, family)
	return all
})

// whole checks that no tag points to what is not all there.
func (s *scene) whole(now state) {
	s.t.Helper()
	for name, d := range now.tags {
		repo, tag, _ := strings.Cut(name, ":")
		if img := images()[d]; img != nil {
			s.holds(repo, tag, img)
		}
	}
	if s.dir != "" {
		onlyWholeBlobs(s.t, filepath.Join(s.dir, "layout"))
		s.layoutWhole()
	}
}

// layoutWhole checks that what has a tag in the layout can be read.
func (s *scene) layoutWhole() {
	s.t.Helper()
	layout, err := transfer.OpenLayout(filepath.Join(s.dir, "layout"))
	if err != nil {
		return // there is none yet
	}
	tags, err := layout.TagNames(s.t.Context())
	if err != nil {
		s.t.Error(err)
	}
	for _, tag := range tags {
		if _, err := transfer.Copy(s.t.Context(), layout, tag, &discarding{}, "", transfer.Options{}); err != nil {
			s.t.Errorf("the layout's tag %s: %v", tag, err)
		}
	}
}

// discarding is a target that reads all that it is given.
type discarding struct{}

func (discarding) Resolve(context.Context, string) (oci.Descriptor, error) {
	return oci.Descriptor{}, oci.ErrNotFound
}

func (discarding) PutBlob(ctx context.Context, _ oci.Descriptor, _ []string, open oci.Opener) (oci.Stored, error) {
	body, err := open(ctx, 0)
	if err != nil {
		return "", err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return oci.StoredUpload, err
}

func (discarding) PutManifest(context.Context, string, *oci.Manifest) error { return nil }

// between checks a state that a failed operation left: nothing is gone that was not
// to go, nothing is there that was not to come, and each tag is where it was or where it
// was to be.
func (u undisturbed) between(t *testing.T, op operation, now state) {
	t.Helper()
	for v := range u.before.live {
		if u.after.live[v] && !now.live[v] {
			t.Errorf("%s is gone", v)
		}
	}
	for v := range now.live {
		if !u.before.live[v] && !u.after.live[v] && len(op.passes) == 0 {
			t.Errorf("%s has come", v)
		}
	}
	names := maps.Clone(u.before.tags)
	maps.Copy(names, u.after.tags)
	maps.Copy(names, now.tags)
	for name := range names {
		d := now.tags[name]
		_, tag, _ := strings.Cut(name, ":")
		if d != u.before.tags[name] && d != u.after.tags[name] && !slices.Contains(op.passes, tag) {
			t.Errorf("%s is on %q, was on %q and was to be on %q", name, d, u.before.tags[name], u.after.tags[name])
		}
	}
}

// classes are those of errors that a caller can tell apart.
var classes = []error{
	ghcr.ErrInvalid, ghcr.ErrNotFound, ghcr.ErrIntegrity, ghcr.ErrUnauthorized, ghcr.ErrDenied, ghcr.ErrRateLimited,
	ghcr.ErrUnsupported, ghcr.ErrConflict,
}

// classed tells whether an error is one that is documented, and says what was done to what.
func classed(err error) bool {
	var exchange *transport.Error
	known := errors.As(err, &exchange) || slices.ContainsFunc(classes, func(class error) bool { return errors.Is(err, class) })
	text := err.Error()
	return known && (strings.Contains(text, "acme") || strings.Contains(text, "ghcr.io") || strings.Contains(strings.ToLower(text), "github"))
}

// shot is one way to disturb one request.
type shot struct {
	name  string
	fault ghcrtest.Fault
	// harmless is what passes, and what a client can tell: the outcome must be as if it
	// had not happened. Of the others an error is as good.
	harmless bool
}

// shots are the ways in which a request can go wrong.
func shots(r ghcrtest.Request) []shot {
	list := []shot{
		{"503", ghcrtest.Fault{Status: 503, Body: egressBody}, true},
		{"429", ghcrtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"3"}}, Body: limitBody}, true},
		{"403", ghcrtest.Fault{Status: 403, Body: `{"errors":[{"code":"DENIED","message":"denied"}]}`}, false},
		{"broken before", ghcrtest.Fault{Break: true}, true},
		{"reset before", ghcrtest.Fault{Break: true, Reset: true}, true},
		{"answer lost", ghcrtest.Fault{Served: true, Break: true}, true},
		{"answer lost, 502", ghcrtest.Fault{Served: true, Status: 502}, true},
		{"stalls before", ghcrtest.Fault{Delay: time.Hour}, true},
	}
	if r.Role == ghcrtest.RoleRegistry {
		list = append(list, shot{"401", ghcrtest.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer realm="https://ghcr.io/token",service="ghcr.io"`}}, Body: "{}"}, false})
	}
	for _, at := range boundaries(r.Received) {
		if at > 0 {
			list = append(list, shot{fmt.Sprint("request cut at ", at), ghcrtest.Fault{RequestBytes: at, Reset: at%2 == 0}, true})
		}
	}
	if r.Method == http.MethodHead {
		return list
	}
	for _, at := range boundaries(r.Sent) {
		// The stall has a cut before the first byte come after the header.
		list = append(list, shot{fmt.Sprint("answer cut at ", at), ghcrtest.Fault{ResponseBytes: at, Break: true, Reset: at%2 == 0, Stall: 1}, true})
		list = append(list, shot{fmt.Sprint("answer ends at ", at), ghcrtest.Fault{ResponseBytes: at, Short: true}, false})
		if at == r.Sent/2 {
			list = append(list, shot{fmt.Sprint("answer stalls at ", at), ghcrtest.Fault{ResponseBytes: at, Stall: time.Hour}, true})
		}
		// Only what has a digest can be told from what was changed on the way.
		if r.Route == ghcrtest.RouteManifest || r.Route == ghcrtest.RouteSigned || r.Route == ghcrtest.RouteBlob {
			list = append(list, shot{fmt.Sprint("answer wrong at ", at), ghcrtest.Fault{ResponseBytes: at, Corrupt: true}, false})
		}
	}
	return list
}

// boundaries are the first two bytes of so many, one in the middle and the last.
func boundaries(n int64) []int64 {
	if n == 0 {
		return nil
	}
	list := []int64{0, min(1, n-1), n / 2, n - 1}
	slices.Sort(list)
	return slices.Compact(list)
}

// aim has a fault happen to requests like one, from that which has so many before it.
func aim(f ghcrtest.Fault, r ghcrtest.Request, after int) ghcrtest.Fault {
	f.Role, f.Route, f.Method, f.Repo, f.After = r.Role, r.Route, r.Method, r.Repo, after
	if !strings.HasPrefix(r.Route, "upload-") {
		f.Ref = r.Ref // that of an upload is another in each run
	}
	return f
}

// like tells requests that faults cannot tell apart.
func like(r ghcrtest.Request) ghcrtest.Fault { return aim(ghcrtest.Fault{}, r, 0) }

// identity is a request as attempts are counted.
func identity(r ghcrtest.Request) string {
	switch {
	case strings.HasPrefix(r.Route, "upload-"):
		return r.Method + " " + r.Route + " " + r.Repo
	case r.Role == ghcrtest.RoleCDN:
		return r.Method + " " + r.Path
	case r.Role == ghcrtest.RoleToken:
		return r.Method + " token" // more of them where the waits outlive a token
	}
	return r.Method + " " + r.Path + "?" + r.Query
}

// attempts counts requests. Of those that go out at once before there is a token, chance
// has it how many are told that one is needed, and these are no attempts.
func attempts(log []ghcrtest.Request) map[string]int {
	n := map[string]int{}
	for _, r := range log {
		if r.Status != http.StatusUnauthorized && r.Status != http.StatusForbidden {
			n[identity(r)]++
		}
	}
	return n
}

// sweep counts what was done, over all operations.
type sweep struct {
	mu         sync.Mutex
	operations int
	asked      map[string]bool // routes
	done       int
	missed     []string // in which the fault had no request to happen to
}

// sampled leaves out most of what there is to try where that takes too long. What is
// tried is spread over all requests and ways.
func sampled(n int) bool {
	switch {
	case testing.Short():
		return n%23 == 0
	case raced:
		return n%7 == 0
	}
	return true
}

// TestSweep disturbs each request of each operation in each way. The outcome is as if
// nothing had happened, or an error that tells what did; nothing is there by half, nothing is
// gone that was not to go; and doing it again ends it.
func TestSweep(t *testing.T) {
	w := &sweep{asked: map[string]bool{}}
	temporary := t.TempDir()
	before := os.Getenv("TMPDIR")
	os.Setenv("TMPDIR", temporary) // not with t.Setenv, since the operations run side by side
	defer os.Setenv("TMPDIR", before)
	t.Run("operations", func(t *testing.T) {
		for _, op := range operations {
			t.Run(op.name, func(t *testing.T) {
				t.Parallel()
				w.run(t, op)
			})
		}
	})
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	t.Logf("%d ways to fail, of which %d did not come to pass", w.done, len(w.missed))
	if w.operations < len(operations) {
		return // only some were asked for
	}
	if len(w.missed) > w.done/50 {
		t.Errorf("too many faults did not happen: %q", w.missed)
	}
	for _, route := range routes(t) {
		if !w.asked[route] && neverAsked[route] == "" {
			t.Errorf("no operation asks for %q", route)
		}
		if w.asked[route] && neverAsked[route] != "" {
			t.Errorf("%q is asked for", route)
		}
	}
}

// neverAsked are the routes that no operation asks for, and why.
var neverAsked = map[string]string{
	ghcrtest.RouteCatalog: "GHCR has none that is of use: the Packages API lists",
	ghcrtest.RouteUnknown: "is what no route is",
	ghcrtest.RoutePing:    "the first request says how to log in",

	// What a client of GHCR does not do: write what GitHub knows of security, and ask for
	// one thing of what it lists.
	ghcrtest.RouteAttestationsSources: "what is asked about is a digest",
	ghcrtest.RouteAttestationUpload:   "GitHub's action does that",
	ghcrtest.RouteAttestationDelete:   "attestations go with nothing",
	ghcrtest.RouteCodeAlert:           "the list has it",
	ghcrtest.RouteCodeInstances:       "the most recent one counts",
	ghcrtest.RouteSARIFUpload:         "GitHub's action does that",
	ghcrtest.RouteSARIFStatus:         "nothing is uploaded",
	ghcrtest.RouteDependabotAlert:     "the list has it",
	ghcrtest.RouteDependencySnapshot:  "what builds an image does that",
	ghcrtest.RouteAdvisory:            "the list has it",
	ghcrtest.RouteOSVQuery:            "the batch asks more at once",
}

// routes reads the emulator's routes from its source, so that a new one is not
// forgotten here.
func routes(t *testing.T) (list []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "ghcrtest/routes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Route") {
			route, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, route)
		}
		return true
	})
	return list
}

func (w *sweep) run(t *testing.T, op operation) {
	u := op.undisturbed(t)
	w.note(u.log)
	w.mu.Lock()
	w.operations++
	w.mu.Unlock()
	seen := map[string]int{}
	n := 0
	for i, r := range u.log {
		key := fmt.Sprint(like(r))
		after := seen[key]
		seen[key]++
		name := fmt.Sprintf("%s %s %d", r.Method, r.Route, i)
		for _, sh := range shots(r) {
			if n++; sampled(n) {
				t.Run(name+" "+sh.name, func(t *testing.T) { w.once(t, op, u, sh, aim(sh.fault, r, after)) })
			}
		}
		if n++; sampled(n) {
			t.Run(name+" cancelled", func(t *testing.T) { w.cancelled(t, op, u, i) })
		}
		for _, sh := range forEver(r, after) {
			if n++; sampled(n) {
				fault := aim(sh.fault, r, after)
				fault.Times = -1
				t.Run(name+" for ever "+sh.name, func(t *testing.T) { w.forEver(t, op, u, fault) })
			}
		}
	}
}

// note keeps which routes were asked for.
func (w *sweep) note(log []ghcrtest.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range log {
		w.asked[r.Route] = true
	}
}

// forEver are the ways in which a request goes wrong and does not come right again.
func forEver(r ghcrtest.Request, after int) (list []shot) {
	for _, sh := range shots(r) {
		at := sh.fault.ResponseBytes + sh.fault.RequestBytes
		switch {
		case sh.name == "503", sh.name == "answer lost" && r.Method != http.MethodGet && r.Method != http.MethodHead:
		case after > 0 || sh.name == "403" || sh.name == "401" || strings.HasPrefix(sh.name, "reset"):
			continue
		case at > 1 && at < r.Sent-1 && r.Status < 300:
		case at > 0 || sh.fault.Short || sh.fault.Corrupt || sh.fault.Stall > 0:
			continue
		}
		list = append(list, sh)
	}
	return list
}

// once disturbs an operation once.
func (w *sweep) once(t *testing.T, op operation, u undisturbed, sh shot, fault ghcrtest.Fault) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, false)
		before := len(s.server.Faults())
		s.server.Inject(fault)
		value, err := op.do(s)
		log := s.log()
		if !w.happened(s, before) {
			return
		}
		w.note(log)
		w.attempts(t, op, u, log, func(n int) int { return n + 3 })
		now := s.stateAfter(u, log)
		s.whole(now)
		if err != nil {
			if sh.harmless && !(op.open && sh.fault.Stall > 0) {
				t.Errorf("did not survive it: %v", err)
			}
			w.failed(s, op, u, err, now)
			return
		}
		w.succeeded(s, u, now)
		if got := fmt.Sprint(value); got != u.value && !(op.open && (sh.fault.Corrupt || sh.fault.Short)) {
			t.Errorf("got %.300s, undisturbed %.300s", got, u.value)
		}
	})
}

// forEver has requests fail until the client gives up.
func (w *sweep) forEver(t *testing.T, op operation, u undisturbed, fault ghcrtest.Fault) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, u.writes())
		before := len(s.server.Faults())
		s.server.Inject(fault)
		value, err := op.do(s)
		log := s.log()
		if !w.happened(s, before) {
			return
		}
		w.attempts(t, op, u, log, func(n int) int {
			if op.aside {
				n *= 2
			}
			return most(fault) * n
		})
		if !u.writes() {
			if err != nil && !classed(err) {
				t.Errorf("an error of no class, or about nothing: %v", err)
			}
			if got := fmt.Sprint(value); err == nil && got != u.value && !(op.open && (fault.Corrupt || fault.Short)) {
				t.Errorf("got %.300s, undisturbed %.300s", got, u.value)
			}
			s.whole(u.before)
			return
		}
		s.reopen(op)
		now := s.stateAfter(u, log)
		s.whole(now)
		if err != nil {
			w.failed(s, op, u, err, now)
			return
		}
		w.succeeded(s, u, now)
		if got := fmt.Sprint(value); got != u.value && !(op.open && (fault.Corrupt || fault.Short)) {
			t.Errorf("got %.300s, undisturbed %.300s", got, u.value)
		}
	})
}

// cancelled has the caller give up while a request is on its way.
func (w *sweep) cancelled(t *testing.T, op operation, u undisturbed, k int) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, op, false)
		before := len(s.server.Faults())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.ctx = ctx
		s.server.Inject(ghcrtest.Fault{After: k, Do: func(*ghcrtest.Server) { cancel() }, Delay: time.Minute})
		_, err := op.do(s)
		log := s.log()
		if !w.happened(s, before) {
			return
		}
		s.ctx = t.Context()
		now := s.stateAfter(u, log)
		s.whole(now)
		switch {
		case err == nil:
			w.succeeded(s, u, now)
		case !errors.Is(err, context.Canceled):
			t.Errorf("got %v, want context.Canceled", err)
		default:
			u.between(t, op, now)
			w.redo(s, op, u)
		}
	})
}

// most is how often a request is sent at most that always fails: four times; an answer
// of the registry's that breaks off five times, since there some of it may have come; and
// what is turned away for a time as often as the waits, which grow, are allowed.
func most(f ghcrtest.Fault) int {
	switch {
	case f.Status == http.StatusTooManyRequests:
		return 10
	case f.ResponseBytes > 0:
		return 5
	}
	return 4
}

// happened tells whether the fault did. If not, there is nothing to look at.
func (w *sweep) happened(s *scene, before int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done++
	if len(s.server.Faults()) == before {
		w.missed = append(w.missed, s.t.Name())
		return false
	}
	return true
}

// attempts checks how often each request was sent. What is sent only after a fault is
// once for each upload, or as often as an operation looks at what it did.
func (w *sweep) attempts(t *testing.T, op operation, u undisturbed, log []ghcrtest.Request, limit func(n int) int) {
	t.Helper()
	usual := attempts(u.log)
	uploads := 0
	for _, r := range u.log {
		if r.Route == ghcrtest.RouteUploadStart {
			uploads++
		}
	}
	for request, n := range attempts(log) {
		if most := limit(max(usual[request], uploads, 1)) + op.looks; n > most {
			t.Errorf("%s: %d times, undisturbed %d, and no more than %d", request, n, usual[request], most)
		}
	}
}

func (w *sweep) succeeded(s *scene, u undisturbed, now state) {
	s.t.Helper()
	if !reflect.DeepEqual(now, u.after) {
		s.t.Errorf("the server holds %v, undisturbed %v", now, u.after)
	}
	if files := s.files(); !maps.Equal(files, u.files) {
		s.t.Errorf("there are files %v, undisturbed %v", files, u.files)
	}
}

// failed looks at what a failed operation left, and does it again.
func (w *sweep) failed(s *scene, op operation, u undisturbed, err error, now state) {
	s.t.Helper()
	if !classed(err) {
		s.t.Errorf("an error of no class, or about nothing: %v", err)
	}
	u.between(s.t, op, now)
	w.redo(s, op, u)
}

// redo ends what was broken off, or takes it back.
func (w *sweep) redo(s *scene, op operation, u undisturbed) {
	s.t.Helper()
	if op.undo != nil {
		if err := op.undo(s); err != nil {
			s.t.Errorf("undo: %v", err)
		}
		if now := s.state(); !reflect.DeepEqual(now, u.before) {
			s.t.Errorf("undone, the server holds %v, before %v", now, u.before)
		}
		return
	}
	s.again = true
	s.log()
	s.server.ResetRequests()
	if _, err := op.do(s); err != nil && !errors.Is(err, ghcr.ErrNotFound) {
		s.t.Errorf("again: %v", err)
		return
	}
	now := s.state()
	s.whole(now)
	// What was put in between and could not be cleared away was told of.
	maps.DeleteFunc(now.live, func(v string, _ bool) bool {
		return len(op.passes) > 0 && !u.before.live[v] && !u.after.live[v]
	})
	w.succeeded(s, u, now)
}
