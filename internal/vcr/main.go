//go:build linux

// Command vcr compares package cassette with go-vcr, the recorder that most Go tests
// use, on the same traffic, and prints a Markdown table:
//
//	go run . -out ../../docs/performance.md
//
// Each figure is that of a process of its own. It is a module of its own, so that
// go-vcr is not in the project's go.mod. Begin reading with [compare].
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

func main() {
	var err error
	if len(os.Args) > 1 && os.Args[1] == "child" {
		err = child(os.Args[2:])
	} else {
		err = run(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vcr:", err)
		os.Exit(1)
	}
}

// figures are what one process measured.
type figures struct {
	Open, Work, Save time.Duration
	Peak             int64  // resident memory in bytes
	Error            string // what went wrong, where something was to
}

func run(args []string) error {
	flags := flag.NewFlagSet("vcr", flag.ContinueOnError)
	out := flags.String("out", "", "`FILE` whose table is replaced")
	if err := flags.Parse(args); err != nil {
		return err
	}
	table, err := compare(full)
	if err != nil {
		return err
	}
	fmt.Print(table)
	if *out == "" {
		return nil
	}
	return writeInto(*out, table)
}

// scale is how much traffic there is.
type scale struct {
	large     int64 // bytes, of an answer and of a request
	few, many int   // small interactions
}

var full = scale{large: 64 << 20, few: 1000, many: 10_000}

// compare records and replays with each tool, and returns the table.
func compare(sc scale) (string, error) {
	dir, err := os.MkdirTemp("", "vcr-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: answers(sc.large)}
	go server.Serve(socket)
	defer server.Close()
	url := "http://" + socket.Addr().String()
	rows := map[string][]string{}
	var names []string
	add := func(name, value string) {
		if rows[name] == nil {
			names = append(names, name)
		}
		rows[name] = append(rows[name], value)
	}
	for _, tool := range tools {
		at := func(what string) string { return filepath.Join(dir, tool.name, what) }
		do := func(action, what, traffic string, n int64) (figures, error) {
			return inChild("child", tool.name, action, at(what), url, traffic, strconv.FormatInt(n, 10))
		}
		recorded, err := do("record", "large", "large", sc.large)
		if err != nil {
			return "", err
		}
		size, err := sizeOf(at("large"))
		if err != nil {
			return "", err
		}
		replayed, err := do("replay", "large", "large", sc.large)
		if err != nil {
			return "", err
		}
		add("peak memory while recording", mb(recorded.Peak))
		add("recording, until it is on disk", seconds(recorded.Open+recorded.Work+recorded.Save))
		add("of that, saving at the end", seconds(recorded.Save))
		add("size on disk", mb(size))
		add("opening it", seconds(replayed.Open))
		add("peak memory of a replay", mb(replayed.Peak))
		add("replay", seconds(replayed.Open+replayed.Work+replayed.Save))
		answer, err := blobPath(seedAnswer, sc.large)
		if err != nil {
			return "", err
		}
		if err := flipByte(at("large"), answer[strings.LastIndex(answer, ":")+1:]); err != nil {
			return "", err
		}
		damaged, err := do("damaged", "large", "large", sc.large)
		if err != nil {
			return "", err
		}
		add("one changed byte is found", map[bool]string{true: "yes", false: "**no**"}[damaged.Error != ""])
		for _, small := range []struct {
			traffic string
			n       int
		}{{"small", sc.few}, {"shuffled", sc.few}, {"some", sc.many}} {
			what := fmt.Sprint("small", small.n)
			if _, err := os.Stat(at(what)); err != nil {
				if _, err := do("record", what, "small", int64(small.n)); err != nil {
					return "", err
				}
			}
			f, err := do("replay", what, small.traffic, int64(small.n))
			if err != nil {
				return "", err
			}
			what, asked := "", small.n
			switch small.traffic {
			case "shuffled":
				what = " in another order"
			case "some":
				asked = min(some, small.n)
				what = fmt.Sprintf(", %d of them", asked) // all would take one of the tools minutes
			}
			add(fmt.Sprintf("replay of %d small interactions%s, each", small.n, what), (f.Work / time.Duration(asked)).Round(time.Microsecond/10).String())
		}
	}
	var w strings.Builder
	fmt.Fprintf(&w, "Measured on %s, %s, %d cores. A GET and a POST of %s each over loopback, and small GETs.\n\n|",
		time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), mb(sc.large))
	for _, tool := range tools {
		fmt.Fprintf(&w, " | %s", strings.Replace(tool.title, "VERSION", version(), 1))
	}
	w.WriteString(" |\n|---|" + strings.Repeat("---|", len(tools)) + "\n")
	for _, name := range names {
		fmt.Fprintf(&w, "| %s | %s |\n", name, strings.Join(rows[name], " | "))
	}
	return w.String(), nil
}

// inChild runs this program again and reads the figures that it prints.
func inChild(args ...string) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "VCR_CHILD=1")
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return f, json.Unmarshal(out, &f)
}

// version is that of go-vcr.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if strings.Contains(m.Path, "go-vcr") {
				return m.Version
			}
		}
	}
	return "of unknown version"
}

func mb(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

func seconds(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// The table in the document lies between these lines.
const (
	beginMark = "<!-- written by internal/vcr: begin -->"
	endMark   = "<!-- written by internal/vcr: end -->"
)

func writeInto(path, table string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n\n"+table+"\n"+endMark+after), 0o644)
}
