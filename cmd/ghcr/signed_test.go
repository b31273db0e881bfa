package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/internal/sigstoretest"
)

// public is a Sigstore that scripts trust, stranger one that they do not.
var public, stranger = sigstoretest.New("public"), sigstoretest.New("stranger")

// signatures are ways in which scripts can have an image signed.
var signatures = map[string]func(s *sigstoretest.Signing, statement []byte) *sigstoretest.Instance{
	"good": func(*sigstoretest.Signing, []byte) *sigstoretest.Instance { return public },
	"altered": func(s *sigstoretest.Signing, statement []byte) *sigstoretest.Instance {
		s.Altered = append([]byte(" "), statement...)
		return public
	},
	"expired": func(s *sigstoretest.Signing, _ []byte) *sigstoretest.Instance {
		s.Logged = s.At.Add(time.Hour)
		return public
	},
	"unlogged": func(s *sigstoretest.Signing, _ []byte) *sigstoretest.Instance {
		s.Logged = time.Time{}
		return public
	},
	"fork": func(s *sigstoretest.Signing, _ []byte) *sigstoretest.Instance {
		s.Subject, s.Repository = "https://github.com/mallory/app/.github/workflows/release.yml@refs/heads/main", "https://github.com/mallory/app"
		return public
	},
	"stranger": func(*sigstoretest.Signing, []byte) *sigstoretest.Instance { return stranger },
	"copied":   func(*sigstoretest.Signing, []byte) *sigstoretest.Instance { return public },
}

// makeSigned writes a layout with an image and its provenance, and beside it the
// trusted root, as DIR.roots, and an upload to GitHub, as DIR.bundle.
func makeSigned(ts *testscript.TestScript, _ bool, args []string) {
	change := signatures[args[1]]
	if change == nil {
		ts.Fatalf("want one of %v", slices.Sorted(maps.Keys(signatures)))
	}
	img := fixtures["image"]()
	about := img.Digest().Encoded()
	if args[1] == "copied" {
		about = fixtures["files"]().Digest().Encoded()
	}
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],`+
		`"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"x"}}}`, about)
	signing := sigstoretest.Good()
	by := change(&signing, statement)
	bundle, _ := by.Sign(sigstoretest.Bundle03, statement, signing)
	ghcrtest.Refer(img, sigstoretest.Bundle03.MediaType(), string(bundle))
	ts.Check(img.WriteLayout(ts.MkAbs(args[0]), "v1"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".roots"), public.TrustedRoot(true), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".bundle"), fmt.Appendf(nil, `{"bundle":%s}`, bundle), 0o644))
	ts.Setenv("DIGEST", img.Digest().String())
}

func copyCosign(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(cosignDir)))
}

// codeScanning switches code scanning on, and makes the repository.
func codeScanning(ts *testscript.TestScript, _ bool, args []string) {
	server, err := ghcrtest.New(ghcrtest.Options{Dir: ts.MkAbs(args[0]), NoLog: true})
	ts.Check(err)
	ts.Check(server.SetRepository(ghcrtest.Repository{Name: args[1], CodeScanning: "on", Dependabot: "on"}))
	ts.Check(server.Close())
}

// sarifUpload packs a file of SARIF as the upload action does.
func sarifUpload(ts *testscript.TestScript, _ bool, args []string) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(ts.ReadFile(args[0])))
	ts.Check(errors.Join(err, z.Close()))
	body, err := json.Marshal(map[string]any{
		"commit_sha": strings.Repeat("a", 40), "ref": "refs/heads/main", "sarif": packed.Bytes(),
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o644))
}

// cosignDir is testdata/cosign, wherever a test has gone to.
var cosignDir string
