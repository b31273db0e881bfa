package ghcr_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/llm-dev-ops/ghcr"

// allowedImports is the table of docs/design.md: what each package may import
// besides the standard library. A package that is not listed may not exist, so
// that a new one gets its line here and there.
var allowedImports = map[string][]string{
	"oci": {
		"github.com/distribution/reference",
		"github.com/opencontainers/go-digest",
		"github.com/opencontainers/image-spec/specs-go/v1",
	},
	"transport": {module + "/oci"},
	"registry": {
		module + "/oci", module + "/transport",
		"github.com/opencontainers/go-digest",
	},
	"packages": {module + "/oci", module + "/transport", "golang.org/x/sync/errgroup"},
	"transfer": {
		module + "/oci", module + "/internal/filelock",
		"github.com/klauspost/compress/...",
		"github.com/opencontainers/go-digest",
		"github.com/opencontainers/image-spec/specs-go/v1",
		"golang.org/x/sync/...",
	},
	// Formats and rules; whoever fetches is elsewhere.
	"vuln": {
		module + "/oci",
		"github.com/CycloneDX/cyclonedx-go",
		"github.com/klauspost/compress/snappy",
		"github.com/package-url/packageurl-go",
		"github.com/pandatix/go-cvss/...",
		"go.yaml.in/yaml/v3",
	},
	"security": {
		module + "/oci", module + "/packages", module + "/transport", module + "/vuln",
		"github.com/package-url/packageurl-go",
	},
	"retain": {module + "/oci", "github.com/Masterminds/semver/v3", "go.yaml.in/yaml/v3"},
	// Any program that speaks HTTP can put it below its client.
	"cassette": {module + "/oci", "github.com/opencontainers/go-digest"},
	// The emulator must not share the client's mistakes, so it shares no code with
	// it but the data types.
	"ghcrtest": {module + "/oci", "github.com/opencontainers/go-digest"},
	"attest":   {module + "/oci", "github.com/opencontainers/go-digest"},
	"attest/keyless": {
		module + "/attest", module + "/oci",
		"github.com/sigstore/sigstore-go/pkg/...", "github.com/theupdateframework/go-tuf/v2/metadata",
	},
	"": {
		module + "/attest", module + "/oci", module + "/packages", module + "/registry", module + "/retain", module + "/security",
		module + "/transfer", module + "/transport", module + "/vuln", module + "/internal/filelock",
		"golang.org/x/sync/errgroup",
		"oras.land/oras-go/v2/registry/remote/auth",
		"oras.land/oras-go/v2/registry/remote/credentials",
	},
	"cmd/ghcr":          {"..."},
	"bench":             {"..."},
	"internal/filelock": {},
	// The Sigstore of tests.
	"internal/sigstoretest": {"github.com/digitorus/timestamp"},
	// What .ci/memory measures with.
	"internal/peak": {module + "/oci", "github.com/opencontainers/go-digest"},
}

func TestImportsAreThoseOfTheDesign(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	std := standardLibrary(t)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Doc string
			Imports         []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, listed := allowedImports[name]
		if !listed {
			t.Errorf("package %s is not in the table of imports", p.ImportPath)
			continue
		}
		if p.Doc == "" {
			t.Errorf("package %s has no package comment", p.ImportPath)
		}
		for _, imported := range p.Imports {
			if !std[imported] && !slices.ContainsFunc(allowed, func(pattern string) bool { return matchImport(pattern, imported) }) {
				t.Errorf("%s imports %s, which docs/design.md does not allow", p.ImportPath, imported)
			}
		}
	}
}

func matchImport(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(path+"/", prefix)
	}
	return pattern == path
}

func standardLibrary(t *testing.T) map[string]bool {
	out, err := exec.Command("go", "list", "std").Output()
	if err != nil {
		t.Fatalf("go list std: %v", err)
	}
	std := map[string]bool{}
	for _, p := range strings.Fields(string(out)) {
		std[p] = true
	}
	return std
}
