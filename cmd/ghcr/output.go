package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/itchyny/gojq"
	"golang.org/x/term"

	"github.com/llm-dev-ops/ghcr/oci"
)

// schema is the version of the JSON. Within it, fields are only added.
const schema = "ghcr/1"

// allFields is --json without a list.
const allFields = "*"

// jsonFlag is --json[=FIELDS].
type jsonFlag struct {
	set    bool
	fields []string
}

func (f *jsonFlag) Set(s string) error {
	f.set = true
	f.fields = nil
	if s != allFields {
		f.fields = strings.Split(s, ",")
	}
	return nil
}

func (f *jsonFlag) String() string { return strings.Join(f.fields, ",") }
func (f *jsonFlag) Type() string   { return "fields" }

// result is what a command found, in the forms in which it can be printed.
type result struct {
	data  any        // for JSON: a struct, or a slice of structs for a list
	ids   []string   // for --quiet
	head  []string   // of a table
	rows  [][]string // for a terminal
	plain [][]string // for a pipe: full digests and times; nil is rows
	text  string     // instead of a table
	foot  string     // below a table, on a terminal only
}

// print prints a result the way the flags ask for.
func (a *app) print(r result) error {
	switch {
	case a.flags.json.set || a.flags.jq != "" || a.flags.template != "":
		return a.printJSON(r.data)
	case a.flags.quiet:
		for _, id := range r.ids {
			fmt.Fprintln(a.stdout, printable(id))
		}
	case r.head == nil:
		fmt.Fprint(a.stdout, r.text)
	case a.tables || a.isTerminal(a.stdout):
		a.printTable(r)
	default:
		rows := r.plain
		if rows == nil {
			rows = r.rows
		}
		for _, row := range rows {
			fmt.Fprintln(a.stdout, strings.Join(printableCells(row), "\t"))
		}
	}
	return nil
}

func (a *app) printTable(r result) {
	if len(r.rows) > 0 || r.foot == "" {
		printColumns(a.stdout, append([][]string{r.head}, r.rows...))
	}
	if r.foot != "" {
		fmt.Fprintln(a.stdout, r.foot)
	}
}

// printColumns lines rows up. Nothing stands behind the last cell that says something, and
// so long a cell as it likes may be last.
func printColumns(out io.Writer, rows [][]string) {
	lines := make([][]string, len(rows))
	var widths []int
	for i, row := range rows {
		for len(row) > 0 && row[len(row)-1] == "" {
			row = row[:len(row)-1]
		}
		lines[i] = printableCells(row)
		for column := range max(len(row)-1, 0) {
			if column == len(widths) {
				widths = append(widths, 0)
			}
			widths[column] = max(widths[column], utf8.RuneCountInString(lines[i][column]))
		}
	}
	for _, cells := range lines {
		for column, cell := range cells {
			if column < len(cells)-1 {
				cell += strings.Repeat(" ", widths[column]-utf8.RuneCountInString(cell)+2)
			}
			fmt.Fprint(out, cell)
		}
		fmt.Fprintln(out)
	}
}

// printable is text of others as it may be printed. It stays on its line; what controls a
// terminal, or would look like something else, is escaped; and it is no command to GitHub
// Actions, which are lines that begin with "::", and "##[" anywhere.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	text := strings.ReplaceAll(b.String(), "##[", "# #[")
	if rest, ok := strings.CutPrefix(strings.TrimLeft(text, " "), "::"); ok {
		return ": :" + rest
	}
	return text
}

func printableCells(cells []string) []string {
	list := make([]string, len(cells))
	for i, c := range cells {
		list[i] = printable(c)
	}
	return list
}

// printJSON prints data, or the chosen fields of it, or what a filter makes of it.
func (a *app) printJSON(data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // sizes are larger than a float keeps apart
	if err := dec.Decode(&value); err != nil {
		return err
	}
	if value, err = chooseFields(value, a.flags.json.fields); err != nil {
		return err
	}
	switch {
	case a.flags.jq != "":
		return a.printJQ(value)
	case a.flags.template != "":
		t, err := template.New("template").Parse(a.flags.template)
		if err != nil {
			return usage("--template: %w", err)
		}
		if err := t.Execute(a.stdout, value); err != nil {
			return usage("--template: %w", err)
		}
		fmt.Fprintln(a.stdout)
		return nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	_, err = a.stdout.Write(loggedJSON(out.Bytes()))
	return err
}

// loggedJSON is the same JSON without what GitHub Actions takes for a command wherever it
// stands in a log.
func loggedJSON(raw []byte) []byte {
	return bytes.ReplaceAll(raw, []byte("##["), []byte(`#\u0023[`))
}

func (a *app) printJQ(value any) error {
	query, err := gojq.Parse(a.flags.jq)
	if err != nil {
		return usage("--jq: %w", err)
	}
	for results := query.Run(value); ; {
		v, ok := results.Next()
		if !ok {
			return nil
		}
		if err, ok := v.(error); ok {
			return usage("--jq: %w", err)
		}
		if s, ok := v.(string); ok {
			fmt.Fprintln(a.stdout, s) // without quotes, as scripts want it
			continue
		}
		out, err := gojq.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s\n", out)
	}
}

// chooseFields leaves only these fields of an object, or of each object of a list.
func chooseFields(value any, fields []string) (any, error) {
	if fields == nil {
		return value, nil
	}
	switch v := value.(type) {
	case []any:
		for i := range v {
			var err error
			if v[i], err = chooseFields(v[i], fields); err != nil {
				return nil, err
			}
		}
		return v, nil
	case map[string]any:
		chosen := map[string]any{}
		for _, f := range fields {
			field, ok := v[f]
			if !ok {
				var known []string
				for k := range v {
					known = append(known, k)
				}
				return nil, usage("--json: no field %q; there are %s", f, sortedList(known))
			}
			chosen[f] = field
		}
		return chosen, nil
	}
	return value, nil
}

// isTerminal tells whether a stream is a terminal.
func (a *app) isTerminal(w io.Writer) bool {
	f, ok := unwrapped(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bold sets text off on a terminal. Nothing is said by colour alone.
func (a *app) bold(s string) string {
	on := a.isTerminal(a.stdout) && a.getenv("NO_COLOR") == "" && a.getenv("CLICOLOR") != "0" && a.getenv("TERM") != "dumb"
	if a.flags.color == "always" || a.flags.color == "auto" && (on || a.getenv("CLICOLOR_FORCE") != "") {
		return "\x1b[1m" + s + "\x1b[0m"
	}
	return s
}

// shortDigest is enough of a digest for a person.
func shortDigest(d oci.Digest) string {
	hex := d.Encoded()
	return hex[:min(12, len(hex))]
}

// size prints bytes as people read them.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, prefix := float64(n)/unit, 0
	for f >= unit {
		f /= unit
		prefix++
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %cB", f, "kMGTPE"[prefix])
	}
	return fmt.Sprintf("%.0f %cB", f, "kMGTPE"[prefix])
}

// ago prints a time as its distance from now.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	for _, step := range []struct {
		name string
		unit time.Duration
	}{{"year", 365 * 24 * time.Hour}, {"month", 30 * 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / step.unit); n > 0 {
			return plural(n, step.name) + " ago"
		}
	}
	return "just now"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
