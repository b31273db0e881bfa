package ghcrtest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
)

func emulatorDoc(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/emulator.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// fenced returns the parts of a page in one language.
func fenced(doc, language string) (list []string) {
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		list = append(list, m[1])
	}
	return list
}

// TestEmulatorDocHasTheCatalogue, each fault as it is, and no other.
func TestEmulatorDocHasTheCatalogue(t *testing.T) {
	doc := emulatorDoc(t)
	rows := len(regexp.MustCompile(`(?m)^\| F\d`).FindAllString(doc, -1))
	for _, e := range ghcrtest.Catalogue() {
		evidence := strings.Join(e.Evidence, ", ")
		if evidence == "" {
			evidence = "–"
		}
		if row := "\n| " + e.ID + " | " + e.Title + " | " + e.Must + " | " + evidence + " |\n"; !strings.Contains(doc, row) {
			t.Errorf("docs/emulator.md lacks%s", row)
		}
		rows--
	}
	if rows != 0 {
		t.Errorf("docs/emulator.md has %d rows too many", rows)
	}
}

// TestEmulatorDocHasAllFields that a rule may have, and its rules are rules.
func TestEmulatorDocHasAllFields(t *testing.T) {
	doc := emulatorDoc(t)
	for _, rules := range fenced(doc, "json") {
		if _, err := ghcrtest.ParseFaults([]byte(rules)); err != nil {
			t.Errorf("%v in %s", err, rules)
		}
	}
	typ := reflect.TypeFor[ghcrtest.Fault]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if lower := strings.ToLower(name[:1]) + name[1:]; typ.Field(i).IsExported() && name != "Do" && !regexp.MustCompile("`(do|match)?\\.?"+lower+"`").MatchString(doc) {
			t.Errorf("docs/emulator.md does not say what %s is", lower)
		}
	}
}

// TestEmulatorDocCommands runs the commands that the page shows, with this in the
// place of curl.
func TestEmulatorDocCommands(t *testing.T) {
	o := newOperator(t)
	dir := t.TempDir()
	img := ghcrtest.NewImage("linux/amd64", ghcrtest.RandomLayer(1, 100))
	if err := os.WriteFile(filepath.Join(dir, "app.tar"), layoutTar(t, img, ""), 0o644); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, script := range fenced(emulatorDoc(t), "sh") {
		for line := range strings.Lines(script) {
			o.curl(dir, line)
			ran++
			switch {
			case strings.Contains(line, "seed"):
				if err := o.server.Holds("acme/app", "v1", img); err != nil {
					t.Error(err)
				}
			case strings.Contains(line, "F3a"):
				if got := o.get(v1Path); got != 503 {
					t.Errorf("got %d", got)
				}
			}
		}
	}
	if ran < 10 {
		t.Errorf("%d commands", ran)
	}
}

var shellWords = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

// curl does what the flags of curl say that the page uses.
func (o *operator) curl(dir, line string) {
	o.t.Helper()
	words := shellWords.FindAllString(line, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, `"'`)
	}
	flag := func(name string) string {
		if i := slices.Index(words, name); i >= 0 {
			return words[i+1]
		}
		return ""
	}
	body := []byte(flag("-d"))
	if file := flag("-T"); file != "" {
		var err error
		if body, err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			o.t.Fatal(err)
		}
	}
	_, path, ok := strings.Cut(words[len(words)-1], "http://127.0.0.1:5000/_sim/")
	if words[0] != "curl" || !ok {
		o.t.Fatalf("this is no command for the emulator: %s", line)
	}
	method := flag("-X")
	if method == "" {
		method = http.MethodGet
	}
	status, text := o.send(method, path, strings.TrimPrefix(flag("-H"), "Content-Type: "), body)
	if status != 200 {
		o.t.Fatalf("%s: %d %s", line, status, text)
	}
	if file := flag("-o"); file != "" {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
}
