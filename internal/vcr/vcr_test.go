//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
)

// TestMain lets the program measure itself, as it does when it is installed.
func TestMain(m *testing.M) {
	if os.Getenv("VCR_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestCompare: the comparison runs, both tools replay what they recorded, and ours finds
// the changed byte. How the figures compare is for a quiet machine to say.
func TestCompare(t *testing.T) {
	table, err := compare(scale{large: 1 << 20, few: 20, many: 40})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); strings.Contains(line, "changed byte") && (len(cells) != 6 || strings.TrimSpace(cells[3]) != "yes" || strings.TrimSpace(cells[4]) != "yes") {
			t.Error(line)
		}
	}
	if n := strings.Count(table, "\n| "); n != 12 {
		t.Errorf("%d rows:\n%s", n, table)
	}
}

// TestWriteInto replaces the table and nothing else.
func TestWriteInto(t *testing.T) {
	path := t.TempDir() + "/doc.md"
	if err := os.WriteFile(path, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeInto(path, "| new |\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "before\n"+beginMark+"\n\n| new |\n\n"+endMark+"\nafter\n" {
		t.Errorf("%s", got)
	}
}
