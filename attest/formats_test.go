package attest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/attest"
	"github.com/llm-dev-ops/ghcr/oci"
)

// TestTooManySubjects: a statement about everything is about nothing.
func TestTooManySubjects(t *testing.T) {
	img := image(1)
	about := slices.Repeat([]oci.Digest{img.Digest()}, attest.MaxSubjects+1)
	if _, err := attest.ParseStatement(statement(attest.PredicateSPDX, about...)); !errors.Is(err, attest.ErrLimit) {
		t.Errorf("got %v", err)
	}
	if _, err := attest.ParseStatement(statement(attest.PredicateSPDX, about[1:]...)); err != nil {
		t.Error(err)
	}
}

// TestParse: a document from a file, of which only the content says what it is.
func TestParse(t *testing.T) {
	img := image(1)
	good := statement(attest.PredicateSPDX, img.Digest())
	for name, c := range map[string]struct {
		data      []byte
		mediaType string
		layout    attest.Layout
		want      error // of verifying it
	}{
		"bundle":            {bundled(alice, "0.3", good).data, bundleTypes["0.3"], attest.LayoutBundle, nil},
		"old bundle":        {bundled(alice, "0.1", good).data, bundleTypes["0.1"], attest.LayoutBundle, nil},
		"envelope":          {att(alice, good).data, "application/vnd.dsse.envelope.v1+json", attest.LayoutDSSE, nil},
		"message signature": {messageBundle(alice, img, img.Manifest.Bytes()).data, bundleTypes["0.3"], attest.LayoutBundle, attest.ErrUnsupported},
		"statement":         {good, inToto, attest.LayoutInToto, attest.ErrNoSignature},
		"SPDX":              {[]byte(`{"spdxVersion":"SPDX-2.3"}`), "application/spdx+json", attest.LayoutDocument, attest.ErrNoSignature},
		"CycloneDX":         {[]byte(`{"bomFormat":"CycloneDX","version":1}`), "application/vnd.cyclonedx+json", attest.LayoutDocument, attest.ErrNoSignature},
		"OpenVEX":           {[]byte(`{"@context":"https://openvex.dev/ns/v0.2.0","version":1}`), "application/vnd.openvex+json", attest.LayoutDocument, attest.ErrNoSignature},
		"SARIF":             {[]byte(`{"version":"2.1.0","runs":[]}`), "application/sarif+json", attest.LayoutDocument, attest.ErrNoSignature},
		"JSON":              {[]byte(`{"@context":[1]}`), "", attest.LayoutDocument, attest.ErrNoSignature},
		"text":              {[]byte("text"), "", attest.LayoutDocument, attest.ErrNoSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if got := attest.MediaTypeOf(c.data); got != c.mediaType {
				t.Errorf("it is %q", got)
			}
			d, err := attest.Parse(t.Context(), nil, attest.Attachment{Subject: img.Digest(), Layer: oci.Descriptor{MediaType: "application/json"}}, c.data)
			if err != nil {
				t.Fatal(err)
			}
			if d.Attachment.Layout != c.layout || d.About() != nil {
				t.Errorf("got %s, %v", d.Attachment.Layout, d.About())
			}
			if _, err := alice.keys(t).Verify(t.Context(), d); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestStatementOfAnotherVersion is not read as one that is known, and a statement is
// not about what is no digest.
func TestStatementOfAnotherVersion(t *testing.T) {
	text := string(statement(attest.PredicateSPDX, image(1).Digest()))
	s, err := attest.ParseStatement([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if s.Is("") || s.Is("sha256:") {
		t.Error("it is about nothing")
	}
	for _, kind := range []string{"https://in-toto.io/Statement/v9", "https://in-toto.io/Statement/"} {
		if _, err := attest.ParseStatement([]byte(strings.Replace(text, s.Type, kind, 1))); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}
