package ghcr_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
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
		"github.com/opencontainers/go-digest",
		"github.com/opencontainers/image-spec/specs-go/v1",
	},
	"transport": {module + "/oci"},
	"registry": {
		module + "/oci", module + "/transport", module + "/internal/atomicfile",
		"github.com/opencontainers/go-digest",
	},
	"packages": {module + "/oci", module + "/transport", module + "/internal/atomicfile", "golang.org/x/sync/errgroup"},
	"transfer": {
		module + "/oci", module + "/internal/atomicfile", module + "/internal/filelock",
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
		module + "/transfer", module + "/transport", module + "/vuln", module + "/internal/atomicfile", module + "/internal/filelock",
		"golang.org/x/sync/errgroup",
		"oras.land/oras-go/v2/registry/remote/auth",
		"oras.land/oras-go/v2/registry/remote/credentials",
	},
	"cmd/ghcr":            {"..."},
	"bench":               {"..."},
	"internal/atomicfile": {},
	"internal/filelock":   {},
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

// An expression of a package's own costs each start of each program that imports it, if
// only to print a version: those of one package once took a sixth of a small command's time.
func TestNoExpressionIsCompiledAtStart(t *testing.T) {
	files := token.NewFileSet()
	for path, text := range sources(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.VAR {
				ast.Inspect(d, func(n ast.Node) bool {
					if call, ok := n.(*ast.CallExpr); ok {
						if f, ok := call.Fun.(*ast.FuncLit); ok { // called here and now
							ast.Inspect(f.Body, func(n ast.Node) bool { return !compiles(t, files, n) })
						}
					}
					_, later := n.(*ast.FuncLit)
					return !later && !compiles(t, files, n)
				})
			}
		}
	}
}

// compiles reports a call that compiles a regular expression.
func compiles(t *testing.T, files *token.FileSet, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	name, ok := call.Fun.(*ast.SelectorExpr)
	if ok && name.Sel.Name == "MustCompile" {
		t.Errorf("%s: an expression is compiled when the program starts; let sync.OnceValue do it when it is needed", files.Position(n.Pos()))
		return true
	}
	return false
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
