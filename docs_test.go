package ghcr_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

// requirements are the ids of the specification, by how many each kind has.
var requirements = map[string]int{
	"G%d": 8, "NG%d": 5,
	"FR-IMG-%03d": 6, "FR-TAG-%03d": 6, "FR-MAN-%03d": 6, "FR-BLOB-%03d": 5, "FR-VER-%03d": 6, "FR-VULN-%03d": 4, "FR-VIS-%03d": 5, "FR-SIM-%03d": 3,
	"NFR-PERF-%03d": 4, "NFR-REL-%03d": 5, "NFR-RATE-%03d": 4, "NFR-SEC-%03d": 4,
	"TC-%03d": 5, "DC-%03d": 5,
}

// sources returns the Go files of the module, by their path.
func sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		data, err := os.ReadFile(path)
		files[filepath.ToSlash(path)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSpecRowsNameWhatExists(t *testing.T) {
	data, err := os.ReadFile("docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	files := sources(t)
	rows := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, "|")
		if len(cells) != 7 || strings.HasPrefix(line, "| id") || strings.HasPrefix(line, "|--") {
			continue
		}
		id := strings.TrimSpace(cells[1])
		rows[id] = true
		for _, name := range quoted(cells[2]) {
			if !declared(files, name) {
				t.Errorf("%s: there is no %s", id, name)
			}
		}
		for _, name := range quoted(cells[3]) {
			command := strings.TrimPrefix(name, "ghcr ")
			if !contains(files, "cmd/ghcr/", `Use:\s+"`+command+`\b`) {
				t.Errorf("%s: there is no command %s", id, name)
			}
		}
		for _, name := range quoted(cells[4]) {
			if !contains(files, "", `func `+name+`\(`) {
				t.Errorf("%s: there is no %s", id, name)
			}
		}
	}
	for format, n := range requirements {
		for i := range n {
			if id := fmt.Sprintf(format, i+1); !rows[id] {
				t.Errorf("%s has no row", id)
			}
		}
	}
}

var backticks = regexp.MustCompile("`([^`]+)`")

func quoted(cell string) []string {
	var names []string
	for _, m := range backticks.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}

// declared tells whether "package.Name" or "package.Type.Method" is declared.
func declared(files map[string]string, name string) bool {
	parts := strings.Split(name, ".")
	dir := parts[0] + "/"
	if parts[0] == "ghcr" {
		dir = ""
	}
	if len(parts) == 3 {
		return contains(files, dir, `func \(\w+ \*?`+parts[1]+`\) `+parts[2]+`\(`)
	}
	return contains(files, dir, `(?m)^(?:func|type|var|const|\t)\s*`+parts[1]+`\b`)
}

func contains(files map[string]string, prefix, pattern string) bool {
	re := regexp.MustCompile(pattern)
	for path, text := range files {
		if strings.HasPrefix(path, prefix) && re.MatchString(text) {
			return true
		}
	}
	return false
}

// TestRetentionTestsExist: each case of docs/retention.md names its tests, and those of a
// table the row too.
func TestRetentionTestsExist(t *testing.T) {
	data, err := os.ReadFile("docs/retention.md")
	if err != nil {
		t.Fatal(err)
	}
	files := sources(t)
	_, cases, found := strings.Cut(string(data), "\n## What went wrong elsewhere\n")
	if !found {
		t.Fatal("the cases are not there")
	}
	ids, names := map[string]bool{}, 0
	for line := range strings.Lines(cases) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		ids[strings.TrimSpace(cells[1])] = true
		for _, name := range quoted(cells[3]) {
			names++
			test, row, _ := strings.Cut(name, "/")
			if !contains(files, "", `func `+test+`\(t \*testing\.T\)`) || row != "" && !contains(files, "", `"`+regexp.QuoteMeta(row)+`"`) {
				t.Errorf("there is no %s", name)
			}
		}
	}
	if names < 60 {
		t.Errorf("only %d tests are named", names)
	}
	for i := range 24 {
		if id := fmt.Sprintf("A%d", i+1); !ids[id] {
			t.Errorf("%s has no row", id)
		}
	}
}

var quirkLink = regexp.MustCompile(`quirks\.md#([a-z0-9-]+)`)

func TestQuirksAreDocumented(t *testing.T) {
	data, err := os.ReadFile("docs/quirks.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	for path, text := range sources(t) {
		for _, m := range quirkLink.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(doc, "\n### "+m[1]+"\n") {
				t.Errorf("%s points to docs/quirks.md#%s, which is not there", path, m[1])
			}
		}
	}
	quirks := reflect.TypeFor[ghcrtest.Quirks]()
	for i := range quirks.NumField() {
		if name := quirks.Field(i).Name; !strings.Contains(doc, "Switch: `"+name+"`.") {
			t.Errorf("docs/quirks.md does not have the switch %s", name)
		}
	}
}

// TestExportedNamesAreDocumented: a name without a comment has no contract.
func TestExportedNamesAreDocumented(t *testing.T) {
	fset := token.NewFileSet()
	for path, text := range sources(t) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "cmd/") {
			continue
		}
		file, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					t.Errorf("%s has no comment", fset.Position(d.Pos()))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					name, doc := specName(spec)
					if name != nil && name.IsExported() && d.Doc == nil && doc == nil {
						t.Errorf("%s: %s has no comment", fset.Position(spec.Pos()), name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

func specName(spec ast.Spec) (*ast.Ident, *ast.CommentGroup) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		return s.Name, s.Doc
	case *ast.ValueSpec:
		if s.Doc != nil {
			return s.Names[0], s.Doc
		}
		return s.Names[0], s.Comment
	}
	return nil, nil
}

// TestReadmeIsShort: it is a way in, not a manual.
func TestReadmeIsShort(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "\n"); n >= 200 {
		t.Errorf("README.md has %d lines", n)
	}
}
