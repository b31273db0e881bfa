package keyless_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/attest/keyless"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
	"github.com/llm-dev-ops/ghcr/oci"
)

const (
	workflow = sigstoretest.Workflow
	acme     = sigstoretest.Repository
	inToto   = "application/vnd.in-toto+json"
)

var (
	public  = sigstoretest.New("public.example")
	private = sigstoretest.New("private.example")
	epoch   = sigstoretest.Epoch
)

type object = map[string]any

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// subject is the manifest that everything here is attached to.
var subject = must(oci.ParseManifest(oci.MediaTypeOCIIndex, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)))

func statement(about oci.Digest) []byte {
	return must(json.Marshal(object{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "predicate": object{},
		"subject": []object{{"name": "app", "digest": object{about.Algorithm().String(): about.Encoded()}}},
	}))
}

// source is a source of one blob and the subject.
type source []byte

func (source) Manifest(context.Context, string) (*oci.Manifest, error) { return subject, nil }
func (source) Referrers(context.Context, oci.Digest) ([]oci.Descriptor, error) {
	return nil, nil
}
func (s source) Blob(context.Context, oci.Descriptor, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s)), nil
}

func document(t testing.TB, about oci.Digest, layout attest.Layout, data []byte, notes map[string]string) *attest.Document {
	t.Helper()
	d, err := attest.Read(t.Context(), source(data), attest.Attachment{
		Subject: about, Layout: layout, Annotations: notes, Layer: oci.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// content is what a signature of this form is of, about a digest: the subject's if it
// is empty.
func content(form sigstoretest.Form, about oci.Digest) []byte {
	switch {
	case form == sigstoretest.Message && about != "":
		return []byte("another manifest")
	case form == sigstoretest.Message:
		return subject.Bytes()
	}
	if about == "" {
		about = subject.Digest()
	}
	if form == sigstoretest.SigTag {
		return must(json.Marshal(object{"critical": object{
			"identity": object{"docker-reference": ""}, "image": object{"docker-manifest-digest": about}, "type": "cosign container image signature",
		}, "optional": nil}))
	}
	return statement(about)
}

// signing is how a document is signed, and of what.
type signing struct {
	sigstoretest.Signing
	about oci.Digest // not of the subject
	alter bool       // after it was signed
}

func good() signing { return signing{Signing: sigstoretest.Good()} }

// signed is a document in this form that is attached to the subject.
func signed(t testing.TB, by *sigstoretest.Instance, form sigstoretest.Form, s signing) *attest.Document {
	t.Helper()
	if s.alter {
		s.Altered = altered(form)
	}
	data, notes := by.Sign(form, content(form, s.about), s.Signing)
	layout := attest.LayoutBundle
	switch form {
	case sigstoretest.SigTag:
		layout = attest.LayoutSimpleSigning
	case sigstoretest.AttTag:
		layout = attest.LayoutDSSE
	}
	return document(t, subject.Digest(), layout, data, notes)
}

// altered is content that says something else.
func altered(form sigstoretest.Form) []byte {
	was := content(form, "")
	is := bytes.Replace(bytes.Replace(was, []byte(`"app"`), []byte(`"ape"`), 1), []byte(`"optional":null`), []byte(`"optional":{}`), 1)
	if bytes.Equal(was, is) {
		panic("nothing was altered")
	}
	return is
}

func roots(t testing.TB, lines ...[]byte) *keyless.Roots {
	t.Helper()
	r, err := keyless.ReadRoots(bytes.NewReader(bytes.Join(lines, []byte("\n"))))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verifier(t testing.TB, r *keyless.Roots, ids ...keyless.Identity) *keyless.Verifier {
	t.Helper()
	if len(ids) == 0 {
		ids = []keyless.Identity{{Issuer: keyless.GitHubActions, Subject: workflow}}
	}
	v, err := keyless.New(r, ids...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// kinds are the failures that are told apart.
var kinds = []error{
	attest.ErrNoSignature, attest.ErrBadSignature, attest.ErrWrongKey, attest.ErrWrongIdentity, attest.ErrWrongSubject, attest.ErrExpired,
	attest.ErrNoLogEntry, attest.ErrNoTimestamp, attest.ErrUntrusted, attest.ErrMalformed, attest.ErrUnsupported,
}

func check(t *testing.T, v *keyless.Verifier, d *attest.Document, want error) *attest.Signer {
	t.Helper()
	signer, err := v.Verify(t.Context(), d)
	if (signer == nil) != (err != nil) {
		t.Fatalf("got %v, %v", signer, err)
	}
	if want == nil {
		if err != nil {
			t.Errorf("got %v", err)
		}
		return signer
	}
	for _, kind := range kinds {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("got %v; is it %q: %t", err, kind, errors.Is(err, kind))
		}
	}
	return signer
}

// TestPublicInstance: an instance with logs, in every layout, and everything that may
// be wrong.
func TestPublicInstance(t *testing.T) {
	v := verifier(t, roots(t, public.TrustedRoot(true)))
	late := epoch.Add(time.Hour)
	stranger := sigstoretest.New("public.example") // the same names, other keys
	for _, form := range sigstoretest.Forms {
		for name, c := range map[string]struct {
			from   *sigstoretest.Instance
			change func(s *signing)
			want   error
		}{
			"good":                      {public, func(*signing) {}, nil},
			"with a timestamp as well":  {public, func(s *signing) { s.Stamped = epoch.Add(2 * time.Minute) }, nil},
			"logged after it expired":   {public, func(s *signing) { s.Logged = late }, attest.ErrExpired},
			"logged before it was made": {public, func(s *signing) { s.Logged = epoch.Add(-time.Hour) }, attest.ErrExpired},
			"stamped after it expired":  {public, func(s *signing) { s.Stamped = late }, attest.ErrExpired},
			"not logged":                {public, func(s *signing) { s.Logged = time.Time{} }, attest.ErrNoLogEntry},
			"not logged but stamped":    {public, func(s *signing) { s.Logged, s.Stamped = time.Time{}, epoch.Add(time.Minute) }, attest.ErrNoLogEntry},
			"in another log":            {public, func(s *signing) { s.Logs = stranger }, attest.ErrNoLogEntry},
			"certificate not logged":    {public, func(s *signing) { s.Unlogged = true }, attest.ErrUntrusted},
			"by another authority":      {private, func(s *signing) { s.Logs = public }, attest.ErrUntrusted},
			"by one of the same name":   {stranger, func(s *signing) { s.Logs = public }, attest.ErrUntrusted},
			"altered":                   {public, func(s *signing) { s.alter = true }, attest.ErrBadSignature},
			"by another key":            {public, func(s *signing) { s.Key = sigstoretest.NewKey() }, attest.ErrBadSignature},
			"about another image":       {public, func(s *signing) { s.about = digest.FromString("another") }, attest.ErrWrongSubject},
			"by another workflow":       {public, func(s *signing) { s.Subject += "-2" }, attest.ErrWrongIdentity},
			"by another issuer":         {public, func(s *signing) { s.Issuer = "https://accounts.example" }, attest.ErrWrongIdentity},
		} {
			s := good()
			c.change(&s)
			if form == sigstoretest.Message && s.alter {
				continue // the document has nothing of what is signed
			}
			t.Run(string(form)+"/"+name, func(t *testing.T) {
				want := c.want
				if form == sigstoretest.Message && s.about != "" {
					want = attest.ErrBadSignature // it signs other bytes
				}
				signer := check(t, v, signed(t, c.from, form, s), want)
				if want == nil && (signer == nil || signer.Identity != workflow || signer.Issuer != keyless.GitHubActions ||
					signer.SourceRepository != acme || !signer.Time.Equal(epoch.Add(time.Minute)) || signer.Key != "") {
					t.Errorf("got %+v", signer)
				}
			})
		}
	}
}

// TestInstanceWithoutLogs: as GitHub's for private repositories, where a timestamp
// authority tells the time.
func TestInstanceWithoutLogs(t *testing.T) {
	v := verifier(t, roots(t, private.TrustedRoot(false)))
	stranger := sigstoretest.New("private.example")
	for _, form := range sigstoretest.Forms {
		for name, c := range map[string]struct {
			change func(s *signing)
			want   error
		}{
			"good":                     {func(*signing) {}, nil},
			"no timestamp":             {func(s *signing) { s.Stamped = time.Time{} }, attest.ErrNoTimestamp},
			"by another authority":     {func(s *signing) { s.Stamper = stranger }, attest.ErrNoTimestamp},
			"stamped after it expired": {func(s *signing) { s.Stamped = epoch.Add(time.Hour) }, attest.ErrExpired},
			"by another workflow":      {func(s *signing) { s.Subject += "-2" }, attest.ErrWrongIdentity},
			"about another image":      {func(s *signing) { s.about = digest.FromString("another") }, attest.ErrWrongSubject},
		} {
			t.Run(string(form)+"/"+name, func(t *testing.T) {
				s := good()
				s.Logged, s.Stamped = time.Time{}, epoch.Add(time.Minute)
				s.Unlogged = true
				c.change(&s)
				want := c.want
				if form == sigstoretest.Message && s.about != "" {
					want = attest.ErrBadSignature
				}
				check(t, v, signed(t, private, form, s), want)
			})
		}
	}
}

// TestSeveralRoots: lines of a file, of which each is for its own certificates. What
// one asks for, another does not make up for.
func TestSeveralRoots(t *testing.T) {
	v := verifier(t, roots(t, public.TrustedRoot(true), private.TrustedRoot(false)))
	s := good()
	check(t, v, signed(t, public, sigstoretest.Bundle03, s), nil)
	s.Logged, s.Stamped = time.Time{}, epoch.Add(time.Minute)
	check(t, v, signed(t, private, sigstoretest.Bundle03, s), nil)
	check(t, v, signed(t, public, sigstoretest.Bundle03, s), attest.ErrNoLogEntry)
	check(t, v, signed(t, sigstoretest.New("nobody.example"), sigstoretest.Bundle03, s), attest.ErrUntrusted)
}

// TestIdentities: exact or by an expression, which must match the whole.
func TestIdentities(t *testing.T) {
	r := roots(t, public.TrustedRoot(true))
	d := signed(t, public, sigstoretest.Bundle03, good())
	for name, c := range map[string]struct {
		id keyless.Identity
		ok bool
	}{
		"exact":                      {keyless.Identity{Issuer: keyless.GitHubActions, Subject: workflow}, true},
		"expressions":                {keyless.Identity{IssuerRegexp: `https://token\.actions\..*`, SubjectRegexp: `https://github\.com/acme/.*`}, true},
		"a part of the subject":      {keyless.Identity{Issuer: keyless.GitHubActions, SubjectRegexp: `github\.com/acme/app`}, false},
		"a beginning":                {keyless.Identity{Issuer: keyless.GitHubActions, SubjectRegexp: `^https://github\.com/acme/`}, false},
		"alternatives are whole too": {keyless.Identity{Issuer: keyless.GitHubActions, SubjectRegexp: `https|x`}, false},
		"a part of the issuer":       {keyless.Identity{IssuerRegexp: `githubusercontent`, Subject: workflow}, false},
		"repository":                 {keyless.Identity{Issuer: keyless.GitHubActions, Subject: workflow, SourceRepository: acme}, true},
		"another repository":         {keyless.Identity{Issuer: keyless.GitHubActions, Subject: workflow, SourceRepository: acme + "2"}, false},
		"a runner it does not name":  {keyless.Identity{Issuer: keyless.GitHubActions, Subject: workflow, Runner: "github-hosted"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var want error
			if !c.ok {
				want = attest.ErrWrongIdentity
			}
			check(t, verifier(t, r, c.id), d, want)
			// One of several suffices.
			check(t, verifier(t, r, keyless.Identity{Issuer: "https://other.example", Subject: "x@example.com"}, c.id), d, want)
		})
	}
}

// TestIdentityIsMandatory: and whole.
func TestIdentityIsMandatory(t *testing.T) {
	r := roots(t, public.TrustedRoot(true))
	for name, ids := range map[string][]keyless.Identity{
		"none":           {},
		"empty":          {{}},
		"no issuer":      {{Subject: workflow}},
		"no subject":     {{Issuer: keyless.GitHubActions}},
		"subject twice":  {{Issuer: keyless.GitHubActions, Subject: workflow, SubjectRegexp: ".*"}},
		"bad expression": {{Issuer: keyless.GitHubActions, SubjectRegexp: "("}},
		"one of two":     {{Issuer: keyless.GitHubActions, Subject: workflow}, {Issuer: "x"}},
	} {
		if v, err := keyless.New(r, ids...); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, %v", name, v, err)
		}
	}
	if v, err := keyless.New(nil, keyless.Identity{Issuer: "a", Subject: "b"}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("no roots: got %v, %v", v, err)
	}
}

// TestReadRoots: what is no root, or one that can't vouch for a time.
func TestReadRoots(t *testing.T) {
	var whole object
	if err := json.Unmarshal(private.TrustedRoot(false), &whole); err != nil {
		t.Fatal(err)
	}
	without := func(key string) string {
		part := object{}
		for k, v := range whole {
			if k != key {
				part[k] = v
			}
		}
		return string(must(json.Marshal(part)))
	}
	for name, text := range map[string]string{
		"empty":        "",
		"rubbish":      "rubbish",
		"another JSON": `{"a":1}`,
		"no authority": without("certificateAuthorities"),
		"no time":      without("timestampAuthorities"),
		"half":         string(private.TrustedRoot(false)) + "\n{",
		"large":        strings.Repeat(" ", 9<<20),
	} {
		if r, err := keyless.ReadRoots(strings.NewReader(text)); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v, %v", name, r, err)
		}
	}
}

// TestWithoutCertificate: a signature by a key, and none at all.
func TestWithoutCertificate(t *testing.T) {
	v := verifier(t, roots(t, public.TrustedRoot(true)))
	payload := statement(subject.Digest())
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(payload), payload)
	envelope := object{"payloadType": inToto, "payload": payload, "signatures": []object{{"sig": sigstoretest.Sign(sigstoretest.NewKey(), pae)}}}
	check(t, v, document(t, subject.Digest(), attest.LayoutDSSE, must(json.Marshal(envelope)), nil), attest.ErrWrongKey)
	check(t, v, document(t, subject.Digest(), attest.LayoutInToto, payload, nil), attest.ErrNoSignature)
	envelope["signatures"] = []object{}
	check(t, v, document(t, subject.Digest(), attest.LayoutDSSE, must(json.Marshal(envelope)), nil), attest.ErrNoSignature)
}

// TestOfNoImage: where it is not known which image a document should be about, such as of a
// file, nothing is verified.
func TestOfNoImage(t *testing.T) {
	v := verifier(t, roots(t, public.TrustedRoot(true)))
	for _, about := range []oci.Digest{"", "sha256:", "x"} {
		for _, form := range sigstoretest.Forms {
			d := signed(t, public, form, good())
			d.Attachment.Subject = about
			check(t, v, d, attest.ErrWrongSubject)
		}
	}
}

// TestKeyOfACertificateIsNoKey: who trusts keys does not trust certificates.
func TestKeyOfACertificateIsNoKey(t *testing.T) {
	keys, err := attest.NewKeys(sigstoretest.NewKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range sigstoretest.Forms {
		if s, err := keys.Verify(t.Context(), signed(t, public, form, good())); s != nil || !errors.Is(err, attest.ErrWrongKey) {
			t.Errorf("%s: got %v, %v", form, s, err)
		}
	}
}

// TestRealBundle: one that the public instance vouched for, with its root of that
// time. Both come with sigstore-go.
func TestRealBundle(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/sigstore-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(strings.TrimSpace(string(out)), "pkg", "testing", "data")
	bundle, err := os.ReadFile(filepath.Join(data, "bundles", "sigstore.js@2.0.0-provenance.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(data, "trusted-roots", "public-good.json"))
	if err != nil {
		t.Fatal(err)
	}
	about := oci.Digest("sha512:46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c")
	release := keyless.Identity{Issuer: keyless.GitHubActions, SubjectRegexp: `https://github\.com/sigstore/sigstore-js/\.github/workflows/release\.yml@refs/heads/main`}
	v := verifier(t, roots(t, root, public.TrustedRoot(true)), release)
	signer := check(t, v, document(t, about, attest.LayoutBundle, bundle, nil), nil)
	if signer == nil || signer.SourceRepository != "https://github.com/sigstore/sigstore-js" || signer.Time.Year() != 2023 {
		t.Errorf("got %+v", signer)
	}
	check(t, v, document(t, subject.Digest(), attest.LayoutBundle, bundle, nil), attest.ErrWrongSubject)
	check(t, verifier(t, roots(t, root)), document(t, about, attest.LayoutBundle, bundle, nil), attest.ErrWrongIdentity)
	check(t, verifier(t, roots(t, public.TrustedRoot(true)), release), document(t, about, attest.LayoutBundle, bundle, nil), attest.ErrUntrusted)
}
