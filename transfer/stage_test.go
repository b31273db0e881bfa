package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/llm-dev-ops/ghcr/ghcrtest"
	"github.com/llm-dev-ops/ghcr/oci"
	"github.com/llm-dev-ops/ghcr/transfer"
)

// describe returns a blob's descriptor, by sha256 or another algorithm.
func describe(data []byte, algorithm digest.Algorithm) oci.Descriptor {
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: algorithm.FromBytes(data), Size: int64(len(data))}
}

func newLayout(t testing.TB) (*transfer.Layout, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := transfer.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l, dir
}

func mustStage(t testing.TB, l transfer.Stager, d oci.Descriptor) *transfer.Stage {
	t.Helper()
	s, err := l.Stage(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		t.Fatal("the blob is there already")
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustWrite(t testing.TB, s *transfer.Stage, data []byte, spans ...transfer.Span) {
	t.Helper()
	for _, span := range spans {
		if n, err := s.WriteAt(data[span.Offset:span.Offset+span.Length], span.Offset); err != nil || n != int(span.Length) {
			t.Fatalf("write %v: %d, %v", span, n, err)
		}
	}
}

// files lists what lies in a layout's directory of blobs.
func files(t testing.TB, dir string, algorithm digest.Algorithm) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", algorithm.String()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantBlob(t testing.TB, dir string, d oci.Descriptor, data []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the blob under its name: %d bytes, %v; want %d", len(got), err, len(data))
	}
	if names := files(t, dir, d.Digest.Algorithm()); len(names) != 1 {
		t.Errorf("files left beside the blob: %v", names)
	}
}

func cut(size, step int64) []transfer.Span {
	var spans []transfer.Span
	for at := int64(0); at < size; at += step {
		spans = append(spans, transfer.Span{Offset: at, Length: min(step, size-at)})
	}
	return spans
}

func TestStageTakesPiecesInAnyOrder(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(1, 1<<20+17)
	size := int64(len(data))
	spans := cut(size, 70_000)
	reversed := slices.Clone(spans)
	slices.Reverse(reversed)
	var odd, even []transfer.Span
	for i, s := range spans {
		if i%2 == 0 {
			even = append(even, s)
		} else {
			odd = append(odd, s)
		}
	}
	cases := map[string][]transfer.Span{
		"at once":     {{Offset: 0, Length: size}},
		"in order":    spans,
		"backwards":   reversed,
		"interleaved": slices.Concat(odd, even),
		"twice":       slices.Concat(spans, spans),
		"overlapping": slices.Concat(cut(size, 90_000), reversed),
	}
	for name, order := range cases {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(name+" "+algorithm.String(), func(t *testing.T) {
				t.Parallel()
				l, dir := newLayout(t)
				d := describe(data, algorithm)
				s := mustStage(t, l, d)
				mustWrite(t, s, data, order...)
				if missing := s.Missing(); len(missing) > 0 {
					t.Errorf("missing after all was written: %v", missing)
				}
				if err := s.Commit(); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close after commit: %v", err)
				}
				wantBlob(t, dir, d, data)
				if again, err := l.Stage(t.Context(), d); again != nil || err != nil {
					t.Errorf("stage of a blob that is there: %v, %v", again, err)
				}
			})
		}
	}
}

func TestStageTakesPiecesAtOnce(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(2, 3<<20)
	l, dir := newLayout(t)
	d := describe(data, digest.SHA256)
	s := mustStage(t, l, d)
	var wg sync.WaitGroup
	for _, piece := range cut(d.Size, 1<<18) {
		wg.Go(func() {
			for _, span := range cut(piece.Length, 5000) {
				span.Offset += piece.Offset
				if _, err := s.WriteAt(data[span.Offset:span.Offset+span.Length], span.Offset); err != nil {
					t.Error(err)
				}
				s.Missing()
			}
		})
	}
	wg.Wait()
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, data)
}

func TestStageOfNothing(t *testing.T) {
	t.Parallel()
	l, dir := newLayout(t)
	d := describe(nil, digest.SHA256)
	s := mustStage(t, l, d)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, nil)
}

func TestStageGoesOn(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(3, 500_000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	s := mustStage(t, l, d)
	mustWrite(t, s, data, transfer.Span{Offset: 0, Length: 100_000}, transfer.Span{Offset: 300_000, Length: 50_000})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, dir, digest.SHA256) {
		if !strings.HasPrefix(name, ".") {
			t.Errorf("an unfinished blob has the name %s", name)
		}
	}
	// What an unfinished write leaves is no blob to those who read the layout.
	if err := l.CheckBlob(t.Context(), d); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("check of an unfinished blob: %v", err)
	}

	later, err := transfer.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	s = mustStage(t, later, d)
	want := []transfer.Span{{Offset: 100_000, Length: 200_000}, {Offset: 350_000, Length: 150_000}}
	if got := s.Missing(); !slices.Equal(got, want) {
		t.Fatalf("missing %v, want %v", got, want)
	}
	mustWrite(t, s, data, s.Missing()...)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, data)
}

func TestStageRefusesWrongBytes(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(4, 300_000)
	bad := slices.Clone(data)
	bad[200_000] ^= 1
	d := describe(data, digest.SHA256)
	for _, resumed := range []bool{false, true} {
		t.Run(fmt.Sprint("resumed ", resumed), func(t *testing.T) {
			t.Parallel()
			l, dir := newLayout(t)
			s := mustStage(t, l, d)
			if resumed {
				mustWrite(t, s, bad, transfer.Span{Offset: 100_000, Length: 200_000})
				s.Close()
				s = mustStage(t, l, d)
			}
			mustWrite(t, s, bad, s.Missing()...)
			err := s.Commit()
			var wrong *oci.IntegrityError
			if !errors.As(err, &wrong) || wrong.Want != d.Digest || wrong.Got != digest.FromBytes(bad) {
				t.Errorf("got %v, want an integrity error with both digests", err)
			}
			if mentions := err != nil && strings.Contains(err.Error(), "earlier run"); mentions != resumed {
				t.Errorf("what the error says of an earlier run: %v", err)
			}
			if left := files(t, dir, digest.SHA256); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			s = mustStage(t, l, d)
			mustWrite(t, s, data, s.Missing()...)
			if err := s.Commit(); err != nil {
				t.Errorf("second try: %v", err)
			}
			wantBlob(t, dir, d, data)
		})
	}
}

// What has been hashed is what is on the disk, whatever is written later.
func TestStageKeepsWhatItHashed(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(5, 200_000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	s := mustStage(t, l, d)
	mustWrite(t, s, data, transfer.Span{Offset: 0, Length: 150_000})
	mustWrite(t, s, make([]byte, len(data)), transfer.Span{Offset: 50_000, Length: 50_000})
	mustWrite(t, s, data, s.Missing()...)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, data)
}

func TestStageMisuse(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(6, 1000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	s := mustStage(t, l, d)
	for _, span := range []transfer.Span{{Offset: -1, Length: 10}, {Offset: 991, Length: 10}, {Offset: 1 << 62, Length: 10}} {
		if _, err := s.WriteAt(make([]byte, span.Length), span.Offset); err == nil {
			t.Errorf("write at %v succeeded", span)
		}
	}
	mustWrite(t, s, data, transfer.Span{Offset: 0, Length: 999})
	if err := s.Commit(); err == nil || !strings.Contains(err.Error(), "999 of 1000") {
		t.Errorf("commit with a gap: %v", err)
	}
	mustWrite(t, s, data, s.Missing()...)
	if err := s.Commit(); err != nil {
		t.Fatalf("commit after the gap was closed: %v", err)
	}
	if err := s.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second commit: %v", err)
	}
	wantBlob(t, dir, d, data)
	for _, d := range []oci.Descriptor{{Digest: "sha256:../../../etc/passwd"}, {Digest: "../x"}, {Digest: d.Digest, Size: -1}} {
		if _, err := l.Stage(t.Context(), d); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("stage of %v: %v", d, err)
		}
	}
}

func TestStageOnFullDisk(t *testing.T) {
	data := ghcrtest.RandomLayer(7, 400_000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	open := func(context.Context, int64) (io.ReadCloser, error) { return nil, errors.New("not to be asked") }
	t.Run("full", func(t *testing.T) {
		transfer.FillDisk(t, 150_000)
		_, err := l.PutBlob(t.Context(), d, nil, func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), nil
		})
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, oci.ErrInvalid) {
			t.Errorf("got %v, want ENOSPC", err)
		}
	})
	s := mustStage(t, l, d)
	if want := []transfer.Span{{Offset: 150_000, Length: 250_000}}; !slices.Equal(s.Missing(), want) {
		t.Errorf("missing %v, want %v", s.Missing(), want)
	}
	mustWrite(t, s, data, s.Missing()...)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, data)
	if stored, err := l.PutBlob(t.Context(), d, nil, open); stored != oci.StoredExisting || err != nil {
		t.Errorf("put of a blob that is there: %v, %v", stored, err)
	}
}

func TestStageIgnoresNotesThatCannotBe(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(8, 1000)
	d := describe(data, digest.SHA256)
	whole := []transfer.Span{{Offset: 0, Length: 1000}}
	for name, note := range map[string]string{
		"no JSON":          "{",
		"beyond the file":  `[{"offset":0,"length":501}]`,
		"backwards":        `[{"offset":100,"length":10},{"offset":0,"length":10}]`,
		"overlapping":      `[{"offset":0,"length":100},{"offset":50,"length":100}]`,
		"negative":         `[{"offset":-5,"length":10}]`,
		"negative length":  `[{"offset":5,"length":-1}]`,
		"wraps around":     `[{"offset":9223372036854775807,"length":9223372036854775807}]`,
		"null":             `null`,
		"another's layout": `{"offset":0}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, dir := newLayout(t)
			partial := filepath.Join(dir, "blobs", "sha256", "."+d.Digest.Encoded()+".partial")
			if err := errors.Join(os.WriteFile(partial, make([]byte, 500), 0o644), os.WriteFile(partial+".json", []byte(note), 0o644)); err != nil {
				t.Fatal(err)
			}
			s := mustStage(t, l, d)
			if !slices.Equal(s.Missing(), whole) {
				t.Errorf("missing %v, want all", s.Missing())
			}
			mustWrite(t, s, data, whole...)
			if err := s.Commit(); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, dir, d, data)
		})
	}
}

func TestStageIsForOneAtATime(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(9, 1000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	other, err := transfer.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		first := mustStage(t, l, d)
		ctx, cancel := context.WithCancel(t.Context())
		cancelled, waited := make(chan error, 1), make(chan *transfer.Stage, 1)
		go func() {
			_, err := other.Stage(ctx, d)
			cancelled <- err
		}()
		go func() {
			s, err := other.Stage(t.Context(), d)
			if err != nil {
				t.Error(err)
			}
			waited <- s
		}()
		synctest.Wait()
		cancel()
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while waiting: %v", err)
		}
		mustWrite(t, first, data, transfer.Span{Offset: 0, Length: 600})
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := <-waited
		if want := []transfer.Span{{Offset: 600, Length: 400}}; !slices.Equal(second.Missing(), want) {
			t.Errorf("the second goes on with %v, want %v", second.Missing(), want)
		}
		go func() {
			s, err := l.Stage(t.Context(), d)
			if err != nil {
				t.Error(err)
			}
			waited <- s
		}()
		synctest.Wait()
		mustWrite(t, second, data, second.Missing()...)
		if err := second.Commit(); err != nil {
			t.Fatal(err)
		}
		if s := <-waited; s != nil {
			t.Error("who waited for a blob that is now there got a stage")
		}
	})
	wantBlob(t, dir, d, data)
}

// TestStageNotesWhileItRuns: what a run that is killed has written so far is not
// lost.
func TestStageNotesWhileItRuns(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(13, 1000)
	d := describe(data, digest.SHA256)
	l, dir := newLayout(t)
	synctest.Test(t, func(t *testing.T) {
		s := mustStage(t, l, d)
		mustWrite(t, s, data, transfer.Span{Offset: 0, Length: 100})
		<-time.After(time.Minute)
		mustWrite(t, s, data, transfer.Span{Offset: 100, Length: 100})
	})
	// The files of the first run, without its end.
	other, copied := newLayout(t)
	if err := errors.Join(os.RemoveAll(copied), os.CopyFS(copied, os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	s := mustStage(t, other, d)
	if want := []transfer.Span{{Offset: 200, Length: 800}}; !slices.Equal(s.Missing(), want) {
		t.Errorf("missing %v, want %v", s.Missing(), want)
	}
}

// TestStageIsWrittenOnce: of many who put the same blob, one moves it.
func TestStageIsWrittenOnce(t *testing.T) {
	t.Parallel()
	data := ghcrtest.RandomLayer(14, 300_000)
	d := describe(data, digest.SHA256)
	_, dir := newLayout(t)
	var uploads atomic.Int32
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			l, err := transfer.OpenLayout(dir)
			if err != nil {
				t.Error(err)
				return
			}
			content := data
			if n%3 == 0 {
				content = make([]byte, len(data)) // some bring wrong bytes
			}
			stored, err := l.PutBlob(t.Context(), d, nil, openerOf(content))
			if stored == oci.StoredUpload {
				uploads.Add(1)
			}
			if err != nil && !(n%3 == 0 && errors.Is(err, oci.ErrIntegrity)) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := uploads.Load(); n != 1 {
		t.Errorf("moved %d times", n)
	}
	wantBlob(t, dir, d, data)
}

// TestStageAfterCrash: a process that is killed leaves no lock, and nothing that
// the next one would take for a blob.
func TestStageAfterCrash(t *testing.T) {
	data := ghcrtest.RandomLayer(10, 100_000)
	d := describe(data, digest.SHA256)
	if dir := os.Getenv("STAGE_TEST_CRASH"); dir != "" {
		l, err := transfer.OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, mustStage(t, l, d), data, transfer.Span{Offset: 0, Length: 50_000})
		fmt.Println("writing")
		io.Copy(io.Discard, os.Stdin) // until it is killed
		return
	}
	l, dir := newLayout(t)
	child := exec.Command(os.Args[0], "-test.run=^TestStageAfterCrash$")
	child.Env = append(os.Environ(), "STAGE_TEST_CRASH="+dir)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("writing"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := l.Stage(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another process writes: %v", err)
	}
	child.Process.Kill()
	child.Wait()
	s := mustStage(t, l, d)
	mustWrite(t, s, data, s.Missing()...)
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, dir, d, data)
}
