package ghcr_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// sandbox is an emulator and a client of it, in the process.
type sandbox struct {
	t      *testing.T
	server *ghcrtest.Server
	client *ghcr.Client
}

// login is the credential that may do everything on the emulator, whatever its
// name.
var login = transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
	return transport.Credential{Username: "anybody", Password: transport.NewSecret(ghcrtest.Token), Source: "the test"}, nil
})

func newSandbox(t *testing.T, opts ghcrtest.Options) *sandbox {
	t.Helper()
	server, err := ghcrtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, server: server}
	s.client = s.newClient("")
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sandbox) newClient(cache string) *ghcr.Client {
	s.t.Helper()
	client, err := ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, CacheDir: cache})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

func (s *sandbox) copy(src, dst string, opts transfer.Options) (transfer.Result, error) {
	s.t.Helper()
	from, err := s.client.ParseEnd(src)
	if err != nil {
		s.t.Fatal(err)
	}
	to, err := s.client.ParseEnd(dst)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.client.Copy(s.t.Context(), from, to, opts)
}

func (s *sandbox) mustCopy(src, dst string, opts transfer.Options) transfer.Result {
	s.t.Helper()
	result, err := s.copy(src, dst, opts)
	if err != nil {
		s.t.Fatalf("copy %s %s: %v", src, dst, err)
	}
	return result
}

// layout writes an image as a layout and returns the end that names it.
func (s *sandbox) layout(image *ghcrtest.Image) string {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := image.WriteLayout(dir, "v1"); err != nil {
		s.t.Fatal(err)
	}
	return "oci:" + dir + ":v1"
}

func (s *sandbox) holds(repo, tag string, image *ghcrtest.Image) {
	s.t.Helper()
	if err := s.server.Holds(repo, tag, image); err != nil {
		s.t.Error(err)
	}
}

// image is an image of n layers of some kilobytes.
func image(seed uint64, n int) *ghcrtest.Image {
	var layers [][]byte
	for i := range n {
		layers = append(layers, ghcrtest.RandomLayer(seed*1000+uint64(i), 4096+i))
	}
	return ghcrtest.NewImage("linux/amd64", layers...)
}

// log is what the server was asked, once it is done answering.
func (s *sandbox) log() []ghcrtest.Request {
	synctest.Wait()
	return s.server.Requests()
}

func (s *sandbox) requests() int { return len(s.log()) }

func TestPushPullRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		img := image(1, 3)
		s.mustCopy(s.layout(img), "acme/app:v1", transfer.Options{})
		s.holds("acme/app", "v1", img)
		dir := t.TempDir()
		s.mustCopy("acme/app:v1", "oci:"+dir, transfer.Options{})
		s.mustCopy("oci:"+dir+":v1", "acme/other:v2", transfer.Options{})
		s.holds("acme/other", "v2", img)
	})
}

// waits collects what an observer is told of waits.
type waits struct{ told []transport.Wait }

func (*waits) Exchange(transport.Exchange) {}

func (w *waits) Wait(wait transport.Wait) { w.told = append(w.told, wait) }

// TestObserverIsToldOfWaits, through what the client itself observes.
func TestObserverIsToldOfWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, ghcrtest.Options{})
		s.add("acme/app", "v1", image(1, 1))
		s.server.Inject(ghcrtest.Fault{Role: ghcrtest.RoleAPI, Status: 429, Header: http.Header{"Retry-After": {"30"}}})
		seen := &waits{}
		client, err := ghcr.New(ghcr.Options{Base: s.server.Transport(), Credentials: login, Observer: seen})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Inventory(t.Context(), s.ref("acme/app")); err != nil {
			t.Fatal(err)
		}
		if len(seen.told) == 0 {
			t.Error("nobody was told of the wait")
		}
	})
}
