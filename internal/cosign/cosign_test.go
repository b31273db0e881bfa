package cosign

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/registry"
	"github.com/llm-dev-ops/ghcr/transport"
)

// bench is an emulator on a loopback socket with an image for two platforms, a
// directory with a pair of keys, and a login for cosign.
type bench struct {
	*testing.T
	dir    string
	server *ghcrtest.Server
	host   string
	repo   *registry.Repository
	index  *ghcrtest.Image
	keys   *attest.Keys // of cosign.pub
}

const repoName = "acme/app"

func newBench(t *testing.T) *bench {
	t.Helper()
	server, err := ghcrtest.New(ghcrtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	l, err := server.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &bench{T: t, dir: t.TempDir(), server: server, host: l.Addr()}
	b.index = ghcrtest.NewIndex(
		ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 1000)),
		ghcrtest.NewImage("linux/arm64", ghcrtest.RandomLayer(2, 1000)))
	if err := server.Add(repoName, "v1", b.index); err != nil {
		t.Fatal(err)
	}
	client, err := transport.New(transport.Options{
		Credentials: transport.Static(map[string]transport.Credential{b.host: {Username: "u", Password: transport.NewSecret(ghcrtest.Token), Source: "test"}}),
		PlainHTTP:   true,
	})
	if err != nil {
		t.Fatal(err)
	}
	host, err := registry.New(client, b.host, registry.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if b.repo, err = host.Repository(repoName); err != nil {
		t.Fatal(err)
	}
	login := base64.StdEncoding.EncodeToString([]byte("u:" + ghcrtest.Token))
	b.write(".docker/config.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, b.host, login))
	b.run("cosign3", "generate-key-pair")
	if b.keys, err = attest.ParseKeys(b.read("cosign.pub")); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) write(name string, data []byte) {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) read(name string) []byte {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// try runs a program in the bench. It returns what it printed on stdout, and an error
// with what it printed on stderr.
func (b *bench) try(name string, args ...string) (string, error) {
	b.Helper()
	if _, err := exec.LookPath(name); err != nil {
		b.Fatalf("%s is not installed; .ci/run installs it: %v", name, err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "TMPDIR=" + b.dir, "COSIGN_PASSWORD=secret", "COSIGN_EXPERIMENTAL=1",
		// Nothing of Sigstore's is to be reached from here.
		"HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1",
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (b *bench) run(name string, args ...string) string {
	b.Helper()
	out, err := b.try(name, args...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// ref is how cosign names a manifest.
func (b *bench) ref(d oci.Digest) string { return b.host + "/" + repoName + "@" + d.String() }

// writing and reading are what keeps cosign from asking Sigstore's services.
var (
	writing = map[string][]string{
		"cosign2": {"--key", "cosign.key", "--tlog-upload=false", "--yes", "--allow-http-registry"},
		"cosign3": {"--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false", "--yes", "--allow-http-registry"},
	}
	reading = []string{"--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry"}
)

const (
	spdxDocument = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","packages":[]}`
	slsaV1       = "https://slsa.dev/provenance/v1"
)

func require(predicateType string, by attest.Verifier, scope attest.Scope) attest.Policy {
	return attest.Policy{Require: []attest.Requirement{{PredicateType: predicateType, By: []attest.Verifier{by}, Scope: scope}}}
}

// TestWrittenByCosign: each command of cosign that attaches something, in each way
// of keeping it, is found, read and verified, and not with another key.
func TestWrittenByCosign(t *testing.T) {
	for name, c := range map[string]struct {
		program, command string
		flags            []string
		layout           attest.Layout
		place            attest.Place
		predicateType    string
	}{
		"2 sign":            {"cosign2", "sign", nil, attest.LayoutSimpleSigning, attest.PlaceTag, attest.PredicateSignature},
		"2 sign, referrers": {"cosign2", "sign", []string{"--registry-referrers-mode=oci-1-1"}, attest.LayoutSimpleSigning, attest.PlaceReferrer, attest.PredicateSignature},
		"2 attest":          {"cosign2", "attest", []string{"--type=spdxjson", "--predicate=sbom.json"}, attest.LayoutDSSE, attest.PlaceTag, attest.PredicateSPDX},
		"2 attest, bundle": {"cosign2", "attest", []string{"--type=spdxjson", "--predicate=sbom.json", "--new-bundle-format"},
			attest.LayoutBundle, attest.PlaceReferrer, attest.PredicateSPDX},
		"3 sign":   {"cosign3", "sign", nil, attest.LayoutBundle, attest.PlaceReferrer, attest.PredicateSignature},
		"3 attest": {"cosign3", "attest", []string{"--type=slsaprovenance1", "--predicate=predicate.json"}, attest.LayoutBundle, attest.PlaceReferrer, slsaV1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.write("sbom.json", []byte(spdxDocument))
			b.write("predicate.json", []byte(`{"buildDefinition":{"buildType":"https://example.com"}}`))
			args := append([]string{c.command}, append(writing[c.program], c.flags...)...)
			b.run(c.program, append(args, b.ref(b.index.Digest()))...)

			l, err := attest.List(t.Context(), b.repo, b.index.Digest(), attest.ListOptions{})
			if err != nil || len(l.Warnings) > 0 || len(l.Attachments) != 1 {
				t.Fatalf("got %+v, %v", l, err)
			}
			a := l.Attachments[0]
			if a.Layout != c.layout || a.Place != c.place || !a.Signed {
				t.Errorf("got %+v", a)
			}
			if a.PredicateType != "" && a.PredicateType != c.predicateType {
				t.Errorf("the annotations say %s", a.PredicateType)
			}
			result, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), require(c.predicateType, b.keys, attest.ScopeDigest))
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Checks) != 1 || result.Checks[0].PredicateType != c.predicateType || len(result.Checks[0].Signers) != 1 {
				t.Errorf("got %+v", result.Checks)
			}

			b.run("cosign2", "generate-key-pair", "--output-key-prefix=other")
			other, err := attest.ParseKeys(b.read("other.pub"))
			if err != nil {
				t.Fatal(err)
			}
			want := attest.ErrBadSignature
			if c.layout == attest.LayoutBundle {
				want = attest.ErrWrongKey // a bundle names its key
			}
			if _, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), require(c.predicateType, other, attest.ScopeDigest)); !errors.Is(err, want) {
				t.Errorf("another key: got %v", err)
			}
			// What is attached to the index is not attached to a platform of it.
			if _, err := attest.Verify(t.Context(), b.repo, b.index.Children[0].Digest(), require(c.predicateType, b.keys, attest.ScopeDigest)); !errors.Is(err, attest.ErrNoSignature) {
				t.Errorf("a platform: got %v", err)
			}
		})
	}
}

// TestCosignAddsToATag: several documents under one tag of cosign 2, and what cosign 3
// adds beside them.
func TestCosignAddsToATag(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("sbom.json", []byte(spdxDocument))
	b.write("vex.json", []byte(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"x","timestamp":"2026-01-02T03:04:05Z","version":1,"statements":[]}`))
	ref := b.ref(b.index.Digest())
	for _, args := range [][]string{
		{"cosign2", "sign"}, {"cosign2", "sign", "-a", "second=yes"},
		{"cosign2", "attest", "--type=spdxjson", "--predicate=sbom.json"}, {"cosign2", "attest", "--type=openvex", "--predicate=vex.json"},
		{"cosign3", "sign"}, {"cosign3", "attest", "--type=spdxjson", "--predicate=sbom.json"},
	} {
		b.run(args[0], slices.Concat(args[1:], writing[args[0]], []string{ref})...)
	}
	b.run("cosign2", "attach", "sbom", "--sbom=sbom.json", "--type=spdx", "--input-format=json", "--allow-http-registry", ref)
	result, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), attest.Policy{Require: []attest.Requirement{
		{By: []attest.Verifier{b.keys}},
		{PredicateType: attest.PredicateSPDX, By: []attest.Verifier{b.keys}},
		{PredicateType: attest.PredicateOpenVEX, By: []attest.Verifier{b.keys}},
		{PredicateType: attest.PredicateSPDX, Unsigned: true},
	}})
	if err != nil {
		t.Error(err)
	}
	signed, unsigned := 0, 0
	for _, c := range result.Checks {
		switch {
		case len(c.Signers) == 1:
			signed++
		case errors.Is(c.Err, attest.ErrNoSignature) && c.Attachment.Layer.MediaType == "text/spdx+json":
			unsigned++
		default:
			t.Errorf("got %+v", c)
		}
	}
	if signed != 6 || unsigned != 1 || len(result.Warnings) > 0 {
		t.Errorf("got %d signed and %d unsigned, and %v", signed, unsigned, result.Warnings)
	}
}

// TestRecursiveSignature: cosign signs an index and each platform.
func TestRecursiveSignature(t *testing.T) {
	for _, program := range []string{"cosign2", "cosign3"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if _, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), require("", b.keys, attest.ScopeAll)); !errors.Is(err, attest.ErrNoSignature) {
				t.Errorf("before: got %v", err)
			}
			b.run(program, slices.Concat([]string{"sign", "--recursive"}, writing[program], []string{b.ref(b.index.Digest())})...)
			for _, scope := range []attest.Scope{attest.ScopeDigest, attest.ScopeImages, attest.ScopeAll} {
				if _, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), require("", b.keys, scope)); err != nil {
					t.Errorf("%s: %v", scope, err)
				}
			}
		})
	}
}

// TestReadByCosign: what we attach, cosign verifies, lists and downloads. cosign makes
// the bundle, for its key is encrypted in a form of its own.
func TestReadByCosign(t *testing.T) {
	b := newBench(t)
	b.write("predicate.json", []byte(`{"buildDefinition":{"buildType":"https://example.com"}}`))
	ref := b.ref(b.index.Digest())
	args := slices.Concat([]string{"attest", "--type=slsaprovenance1", "--predicate=predicate.json", "--no-upload", "--bundle=bundle.json"}, writing["cosign3"], []string{ref})
	b.run("cosign3", args...)
	bundle := b.read("bundle.json")
	l, err := attest.List(t.Context(), b.repo, b.index.Digest(), attest.ListOptions{})
	if err != nil || len(l.Attachments) != 0 {
		t.Fatalf("cosign attached it: %+v, %v", l, err)
	}
	attached, err := attest.Attach(t.Context(), b.repo, b.index.Digest(), "",
		[]attest.Content{{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Data: bundle}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sbom, err := attest.Attach(t.Context(), b.repo, b.index.Digest(), "", []attest.Content{{MediaType: "application/spdx+json", Data: []byte(spdxDocument)}}, nil)
	if err != nil {
		t.Fatal(err)
	}

	// cosign 2 wants a trusted root for a bundle, also where it needs nothing of it.
	b.write("root.json", []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	for program, flags := range map[string][]string{"cosign2": {"--new-bundle-format", "--trusted-root=root.json"}, "cosign3": nil} {
		verify := slices.Concat([]string{"verify-attestation", "--type=slsaprovenance1"}, reading, flags, []string{ref})
		var envelope struct{ Payload []byte }
		if err := json.Unmarshal([]byte(b.run(program, verify...)), &envelope); err != nil {
			t.Fatal(err)
		}
		if s, err := attest.ParseStatement(envelope.Payload); err != nil || s.PredicateType != slsaV1 || !s.Is(b.index.Digest()) {
			t.Errorf("%s read %s, %v", program, envelope.Payload, err)
		}
		verify[1] = "--type=vuln"
		if out, err := b.try(program, verify...); err == nil {
			t.Errorf("%s found what is not there: %s", program, out)
		}
	}
	if out := b.run("cosign3", "download", "attestation", "--allow-http-registry", ref); !sameJSON(out, bundle) {
		t.Errorf("downloaded %s", out)
	}
	tree := b.run("cosign3", "tree", "--allow-http-registry", ref)
	for _, want := range []string{attached.Digest.String(), slsaV1, sbom.Digest.String()} {
		if !strings.Contains(tree, want) {
			t.Errorf("the tree lacks %s:\n%s", want, tree)
		}
	}

	// And cosign keeps what we attached when it adds to the same list.
	b.run("cosign3", slices.Concat([]string{"sign"}, writing["cosign3"], []string{ref})...)
	if l, err = attest.List(t.Context(), b.repo, b.index.Digest(), attest.ListOptions{}); err != nil || len(l.Attachments) != 3 || len(l.Warnings) != 0 {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, err := attest.Verify(t.Context(), b.repo, b.index.Digest(), attest.Policy{Require: []attest.Requirement{
		{By: []attest.Verifier{b.keys}}, {PredicateType: attest.PredicateProvenance, By: []attest.Verifier{b.keys}}, {PredicateType: attest.PredicateSPDX, Unsigned: true},
	}}); err != nil {
		t.Error(err)
	}
}

func sameJSON(a string, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, []byte(a)) == nil && json.Compact(&y, b) == nil && strings.TrimSpace(x.String()) == strings.TrimSpace(y.String())
}
