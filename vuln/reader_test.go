package vuln

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"

	"github.com/llm-dev-ops/ghcr/oci"
)

func read(t testing.TB, r *Reader, evidence ...Evidence) *SourceReport {
	t.Helper()
	r.Source, r.Target = SourceAttestation, testTarget(t)
	for _, e := range evidence {
		if err := r.Read(t.Context(), e); err != nil && !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
	}
	return r.Report()
}

func at1(id string, content []byte) Evidence {
	return Evidence{ID: id, Content: content, Subject: hexDigest("1")}
}

func TestWhatIsNotBelieved(t *testing.T) {
	for _, c := range []struct {
		file   string
		status Status
		note   string // part of the note of the document
		link   Link   // of its scan after association; empty if there is none
	}{
		{"bad-other-subject.json", StatusEmpty, "about another image", ""},
		{"bad-other-target.json", StatusOK, "", LinkPath},
		{"bad-unknown-scanner.json", StatusError, "no format that is understood", ""},
		{"bad-null-result.json", StatusError, "there is no result", ""},
		{"bad-truncated.json", StatusError, "no JSON", ""},
		{"bad-payload.dsse.json", StatusError, "not base64", ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			report := read(t, &Reader{}, at1(c.file, fixture(t, c.file)))
			if report.Status != c.status || !strings.Contains(report.Evidence[0].Note, c.note) {
				t.Errorf("status %s, note %q", report.Status, report.Evidence[0].Note)
			}
			if c.status == StatusError && !strings.Contains(report.Reason, c.file) {
				t.Errorf("the reason does not name the document: %s", report.Reason)
			}
			var link Link
			for _, s := range report.Scans {
				for _, part := range Associate(testTarget(t), s) {
					link = part.Link
				}
			}
			if link != c.link {
				t.Errorf("link %q, want %q", link, c.link)
			}
		})
	}
}

func TestUnreadableBesideGoodMakesItPartial(t *testing.T) {
	r, err := Collect(t.Context(), []Source{reading(t, SourceAttestation, hexDigest("1"), "bad-truncated.json", "trivy.json")}, testTarget(t), Options{Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	if r.State != StatePartial || len(r.Vulnerabilities) != 4 || r.Sources[0].Status != StatusError {
		t.Errorf("%s with %d findings, source %s", r.State, len(r.Vulnerabilities), r.Sources[0].Status)
	}
}

func TestLayersOfACosignTag(t *testing.T) {
	report := read(t, &Reader{},
		at1("sbom", wrap(t, hexDigest("1"), PredicateSPDX, json.RawMessage(fixture(t, "sbom.spdx.json")))),
		at1("vex", fixture(t, "openvex-attestation.json")),
		at1("broken", []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30="}`)))
	if len(report.SBOMs) != 1 || len(report.VEX) != 1 || report.Status != StatusError || !strings.HasPrefix(report.Reason, "broken: ") {
		t.Errorf("%d SBOMs, %d VEX, %s: %s", len(report.SBOMs), len(report.VEX), report.Status, report.Reason)
	}
	// What an attested statement of VEX leaves out is the subject.
	if p := report.VEX[0].Statements[0].Products; len(p) != 1 || p[0].IDs[0] != hexDigest("1").String() {
		t.Errorf("products %+v", p)
	}
}

func TestKindsOfDocuments(t *testing.T) {
	for file, want := range map[string]DocumentKind{
		"signature.bundle.json": KindSignature, "simple-signing.json": KindSignature,
		"actions-provenance-1.bundle.json": KindBuild, "buildx-provenance-0.2.json": KindBuild, "buildx-sbom.json": KindSBOM,
		"cosign-sbom-data.json": KindSBOM, "sbom.spdx": KindSBOM, "sbom.spdx.json": KindSBOM, "sbom.spdx3.json": KindSBOM, "sbom.syft.json": KindSBOM,
		"sbom.cdx.json": KindSBOM, "vdr.cdx.json": KindScan, "vex.cdx.json": KindVEX, "vex.cdx.xml": KindVEX,
		"openvex.json": KindVEX, "openvex-0.0.1.json": KindVEX, "openvex-attestation.json": KindVEX,
		"trivy.json": KindScan, "grype.json": KindScan, "trivy.sarif": KindScan, "grype.sarif": KindScan, "report.json": KindScan,
	} {
		doc, err := Parse(fixture(t, file), "")
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if doc.Kind != want {
			t.Errorf("%s is %s, want %s", file, doc.Kind, want)
		}
		if want == KindSBOM && (len(doc.SBOM.Packages) != 4 || doc.SBOM.Packages[3].Type != "golang" || doc.SBOM.Packages[0].Name != "libssl3") {
			t.Errorf("%s: packages %+v", file, doc.SBOM.Packages)
		}
		if want == KindSBOM && len(doc.Scans) > 0 {
			t.Errorf("%s: an SBOM is taken for a scan", file)
		}
		if want == KindBuild && (doc.Build.Commit != "deadbeef" || doc.Build.Repository != "acme/app-source") {
			t.Errorf("%s: built from %+v", file, doc.Build)
		}
	}
}

func TestUnknownPredicatesAreNoHarm(t *testing.T) {
	report := read(t, &Reader{}, at1("x", wrap(t, hexDigest("1"), "https://example.com/custom", map[string]any{"a": 1})),
		at1("y", wrap(t, hexDigest("1"), predicateCosignCustom, map[string]any{"Data": "hello", "Timestamp": ""})))
	if report.Status != StatusEmpty || report.Evidence[0].Kind != KindOther || report.Evidence[1].Kind != KindOther {
		t.Errorf("%s: %+v", report.Status, report.Evidence)
	}
}

func TestTooManyDocuments(t *testing.T) {
	var list []Evidence
	for i := range MaxDocuments + 1 {
		list = append(list, at1(fmt.Sprint(i), fixture(t, "signature.bundle.json")))
	}
	r := &Reader{}
	report := read(t, r, append(list, Evidence{ID: "of another digest", Content: fixture(t, "trivy.json"), Subject: hexDigest("a")})...)
	if report.Status != StatusError || !strings.Contains(report.Reason, "more than 100") || len(report.Scans) != 1 {
		t.Errorf("%s: %s; %d scans", report.Status, report.Reason, len(report.Scans))
	}
	if err := r.Read(t.Context(), list[0]); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	zeros := bytes.Repeat([]byte(" "), 1<<20)
	for range 21 {
		z.Write(zeros)
	}
	z.Close()
	subjects := make([]any, maxSubjects+1)
	for i := range subjects {
		subjects[i] = map[string]any{}
	}
	digests := map[string]string{}
	for i := range maxDigests + 1 {
		digests[fmt.Sprint(i)] = "00"
	}
	statement := func(m map[string]any) []byte {
		m["_type"], m["predicateType"] = "https://in-toto.io/Statement/v1", PredicateSLSA
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	framed := func() []byte {
		var b bytes.Buffer
		w := snappy.NewBufferedWriter(&b)
		for range 17 {
			w.Write(zeros)
		}
		w.Close()
		return b.Bytes()
	}()
	for name, content := range map[string][]byte{
		"a document of 21 MiB":          append([]byte("{"), bytes.Repeat([]byte(" "), MaxDocumentSize+1)...),
		"21 MiB in gzip":                zipped.Bytes(),
		"17 MiB in a snappy block":      snappy.Encode(nil, bytes.Repeat([]byte("{"), 17<<20)),
		"17 MiB in snappy frames":       framed,
		"a block that announces 17 MiB": {0x80, 0x80, 0x80, 0x09, 0},
		"1025 subjects":                 statement(map[string]any{"subject": subjects, "predicate": map[string]any{}}),
		"33 digests":                    statement(map[string]any{"subject": []any{map[string]any{"digest": digests}}, "predicate": map[string]any{}}),
		"a predicate of 17 MiB":         statement(map[string]any{"predicate": strings.Repeat("x", 17<<20)}),
	} {
		if _, err := Parse(content, ""); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if report := read(t, &Reader{}, at1(name, content)); report.Status != StatusError {
			t.Errorf("%s: the status is %s", name, report.Status)
		}
	}
}

func TestUnpack(t *testing.T) {
	text := fixture(t, "cosign-vuln.bundle-0.3.json")
	var frames, zipped bytes.Buffer
	w := snappy.NewBufferedWriter(&frames)
	w.Write(text)
	w.Close()
	z := gzip.NewWriter(&zipped)
	z.Write(text)
	z.Close()
	for name, content := range map[string][]byte{
		"plain": text, "block": snappy.Encode(nil, text), "frames": frames.Bytes(), "gzip": zipped.Bytes(),
	} {
		got, err := Unpack(content)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A header that announces what does not follow.
	lie := append([]byte{0xff, 0xff, 0xff, 0x03}, "x"...)
	if _, err := Unpack(lie); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a false length: %v", err)
	}
}

func TestWrapsEnd(t *testing.T) {
	text := fixture(t, "trivy.json")
	for range 10 {
		text = wrap(t, hexDigest("1"), predicateCosignCustom, map[string]any{"Data": base64.StdEncoding.EncodeToString(text)})
	}
	if doc, err := Parse(text, ""); !errors.Is(err, oci.ErrInvalid) { // it may be a scan
		t.Errorf("%v, %+v", err, doc)
	}
	deep := []byte(strings.Repeat(`{"sbom":`, 100000))
	if _, err := Parse(deep, ""); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("deep nesting: %v", err)
	}
}

// verifier believes the documents with these ids.
type verifier map[string]Signer

func (v verifier) Verify(_ context.Context, e Evidence) (Signer, []byte, error) {
	if s, ok := v[e.ID]; ok {
		return s, e.Content, nil
	}
	return Signer{}, nil, errors.New("no signature that this key made")
}

func TestVerified(t *testing.T) {
	keys := verifier{"good": {KeyID: "k1"}}
	good, bad := at1("good", fixture(t, "cosign-vuln.dsse.json")), at1("bad", fixture(t, "cosign-vuln.bundle-0.3.json"))

	report := read(t, &Reader{Verifier: keys}, good, bad)
	if got := report.Scans[0]; got.Link != LinkDigestSigned || got.VerifiedBy.KeyID != "k1" {
		t.Errorf("verified: %s by %v", got.Link, got.VerifiedBy)
	}
	if got := report.Scans[1]; got.Link != LinkDigest || got.VerifiedBy != nil || report.Evidence[1].Signature != "not verified" || report.Evidence[1].Note == "" {
		t.Errorf("not verified: %s, %+v", got.Link, report.Evidence[1])
	}
	report = read(t, &Reader{Verifier: keys, RequireSigned: true}, good, bad)
	if len(report.Scans) != 1 || len(report.Warnings) != 1 || !strings.HasPrefix(report.Warnings[0], "1 documents are not used") {
		t.Errorf("%d scans, warnings %q", len(report.Scans), report.Warnings)
	}
	report = read(t, &Reader{RequireSigned: true}, good)
	if len(report.Scans) != 0 {
		t.Error("without a verifier everything counts as signed")
	}
}

func TestReaderStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Reader{Target: testTarget(t)}
	if err := r.Read(ctx, at1("x", fixture(t, "trivy.json"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
