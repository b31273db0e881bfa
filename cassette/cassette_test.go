package cassette_test

import (
	"context"
	"net/http"
	"os"
	"testing"
	"testing/synctest"

	ghcr "github.com/llm-dev-ops/ghcr"
	"github.com/llm-dev-ops/ghcr/cassette"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/transfer"
	"github.com/llm-dev-ops/ghcr/transport"
)

// login is the credential that may do everything on the emulator.
var login = transport.CredentialFunc(func(context.Context, string) (transport.Credential, error) {
	return transport.Credential{Username: "anybody", Password: transport.NewSecret(ghcrtest.Token), Source: "the test"}, nil
})

// emulator is a registry in the process, for as long as the test runs.
func emulator(t testing.TB, quirks *ghcrtest.Quirks) *ghcrtest.Server {
	t.Helper()
	server, err := ghcrtest.New(ghcrtest.Options{Quirks: quirks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// record runs do against base, and returns the cassette.
func record(t testing.TB, opts cassette.Options, base http.RoundTripper, do func(http.RoundTripper)) string {
	t.Helper()
	dir := t.TempDir()
	recordTo(t, dir, opts, base, do)
	return dir
}

func recordTo(t testing.TB, dir string, opts cassette.Options, base http.RoundTripper, do func(http.RoundTripper)) {
	t.Helper()
	opts.Mode, opts.Base, opts.Origin = cassette.ModeRecord, base, "emulator"
	c, err := cassette.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	do(c)
	if err := c.Close(); err != nil {
		t.Fatalf("seal the recording: %v", err)
	}
	if _, err := cassette.Verify(t.Context(), dir, cassette.Options{}); err != nil {
		t.Errorf("verify the recording: %v", err)
	}
}

// noNetwork is the network, switched off.
type noNetwork struct{ t testing.TB }

func (n noNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	n.t.Errorf("%s %s went to the network", req.Method, req.URL)
	return nil, os.ErrPermission
}

// replay runs do against the cassette, and holds it to that.
func replay(t testing.TB, opts cassette.Options, dir string, do func(http.RoundTripper)) {
	t.Helper()
	opts.Mode, opts.Base = cassette.ModeReplay, noNetwork{t}
	c, err := cassette.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	do(c)
	if err := c.Close(); err != nil {
		t.Errorf("after the replay: %v", err)
	}
}

// client is a GHCR client above a transport.
func client(t testing.TB, base http.RoundTripper) *ghcr.Client {
	t.Helper()
	c, err := ghcr.New(ghcr.Options{Base: base, Credentials: login})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plainClient speaks to loopback hosts without TLS or a login.
func plainClient(t testing.TB, base http.RoundTripper) *ghcr.Client {
	t.Helper()
	c, err := ghcr.New(ghcr.Options{Base: base, PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func copyImage(t testing.TB, base http.RoundTripper, src, dst string, opts transfer.Options) {
	t.Helper()
	c := client(t, base)
	from, err := c.ParseEnd(src)
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.ParseEnd(dst)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Copy(t.Context(), from, to, opts); err != nil {
		t.Fatalf("copy %s to %s: %v", src, dst, err)
	}
}

// layout writes an image to a directory and returns the end that names it.
func layout(t testing.TB, image *ghcrtest.Image) string {
	t.Helper()
	dir := t.TempDir()
	if err := image.WriteLayout(dir, "v1"); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir + ":v1"
}

func image(seed uint64, n int) *ghcrtest.Image {
	var layers [][]byte
	for i := range n {
		layers = append(layers, ghcrtest.RandomLayer(seed*1000+uint64(i), 4096+i))
	}
	return ghcrtest.NewImage("linux/amd64", layers...)
}

// TestPushAndPull: what went over the network is done again without one.
func TestPushAndPull(t *testing.T) {
	noDirect := ghcrtest.GHCR()
	noDirect.DirectBearer = false
	spec := ghcrtest.Spec()
	for _, test := range []struct {
		name   string
		quirks ghcrtest.Quirks
		layers int
	}{
		{"GHCR", ghcrtest.GHCR(), 3},
		// One blob: which of several meets the refusal that leads to a token is chance.
		{"tokens exchanged", noDirect, 0},
		{"plain registry", spec, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := emulator(t, &test.quirks)
				img := image(1, test.layers)
				src := layout(t, img)
				do := func(rt http.RoundTripper) {
					copyImage(t, rt, src, "acme/app:v1", transfer.Options{})
					copyImage(t, rt, "acme/app:v1", "oci:"+t.TempDir(), transfer.Options{})
				}
				dir := record(t, cassette.Options{}, server.Transport(), do)
				if err := server.Holds("acme/app", "v1", img); err != nil {
					t.Error(err)
				}
				replay(t, cassette.Options{}, dir, do)
			})
		})
	}
}

// TestCassetteIsAnArtifact: it travels as images do, and is the same cassette where
// it arrives.
func TestCassetteIsAnArtifact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := emulator(t, nil)
		dir := small(t)
		copyImage(t, server.Transport(), "oci:"+dir, "acme/tapes:pull", transfer.Options{})
		fetched := t.TempDir()
		copyImage(t, server.Transport(), "acme/tapes:pull", "oci:"+fetched, transfer.Options{})
		if _, err := cassette.Verify(t.Context(), fetched, cassette.Options{Pin: pinOf(t, dir)}); err != nil {
			t.Error(err)
		}
		replay(t, cassette.Options{Pin: pinOf(t, dir)}, fetched, func(rt http.RoundTripper) {
			ask(t, rt, "GET", host+"/v2/a/b/tags/list", "")
			url := host + "/v2/a/b/blobs/" + digestOf("0123456789")
			ask(t, rt, "GET", url, "", "Range", "bytes=0-5")
			ask(t, rt, "GET", url, "", "Range", "bytes=6-9")
			ask(t, rt, "HEAD", host+"/v2/a/b/manifests/v1", "")
		})
	})
}
