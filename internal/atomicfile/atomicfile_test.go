package atomicfile

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, want := range []struct {
		text string
		mode os.FileMode
	}{{"a long text", 0o600}, {"short", 0o644}, {"", 0o600}} {
		if err := Write(path, []byte(want.text), want.mode, want.mode == 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want.text {
			t.Errorf("got %q, %v; want %q", got, err, want.text)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != want.mode {
			t.Errorf("it has the mode %v, %v; want %v", info.Mode(), err, want.mode)
		}
	}
	alone(t, filepath.Dir(path))
}

// TestWriteFails: what is in the way of the name stays, and nothing is left beside it.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "name")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("text"), 0o600, false); err == nil {
		t.Error("a directory was replaced")
	}
	alone(t, dir)
	if err := Write(filepath.Join(dir, "absent", "name"), nil, 0o600, false); !os.IsNotExist(err) {
		t.Errorf("got %v; want that the directory is not there", err)
	}
}

// alone checks that a directory holds one thing.
func alone(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}
